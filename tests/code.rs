//! A code from keyring to verdict through the public interface, and the files that a stranger's libraries are given.
//!
//! The second test leaves a code in all its forms in cargo's temporary folder; `tests/interop/check.py --files` reads
//! them there with libraries that share nothing with ours.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use onecode::code::claims::{CodeBuffer, CodeRequest, DEFAULT_ISSUER, Issuer};
use onecode::code::keyring::Keyring;
use onecode::code::payload::{self, PAYLOAD_BYTES_MAX};
use onecode::code::qr::{self, Matrix, Painter, Symbol};
use onecode::code::trust::Trust;
use onecode::code::verify::{LEEWAY_S, Outcome, verify};
use onecode::code::window::{Times, Window};
use onecode::words::{ResidentNumber, Status};
use serde_json::Value;

const RESIDENT: ResidentNumber = ResidentNumber(0xfeed_0000_0000_0001);

fn os_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap();
}

fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// The whole symbol of a text.
fn symbol_of(text: &[u8]) -> Symbol {
    let mut symbol = Symbol::begin(text.len());
    symbol.push_text(text).expect("alphanumeric");
    symbol.close();
    symbol
}

fn request(Times { iat, exp, .. }: Times, test: bool) -> CodeRequest {
    CodeRequest { resident: RESIDENT, version: 1, status: Status::Yellow, iat, exp, test }
}

fn issued(issuer: &Issuer, times: Times, test: bool) -> String {
    let mut code = CodeBuffer::default();
    let request = request(times, test);
    issuer.write(&request, &issuer.sign(&request), &mut code);
    code.as_str().to_owned()
}

#[test]
fn two_nodes_with_one_keyring_make_one_code_and_a_scanner_accepts_it() {
    let now = now_unix_s();
    let folder = tempfile::tempdir().unwrap();
    let node = |now| Keyring::open_or_create(&folder.path().join("keys"), now, os_random).unwrap();
    let (one, other) = (node(now), node(now + 1));
    let times = Window::new(45, 120).unwrap().times(RESIDENT, now);
    let code = issued(&Issuer::new(&one, DEFAULT_ISSUER).unwrap(), times, false);
    assert_eq!(code, issued(&Issuer::new(&other, DEFAULT_ISSUER).unwrap(), times, false));

    let trust = Trust::from_jwks(one.jwks_json(DEFAULT_ISSUER).as_bytes()).unwrap();
    let verdict = verify(&trust, code.as_bytes(), now, LEEWAY_S);
    assert_eq!(verdict.outcome, Outcome::Valid);
    let opened = Issuer::new(&other, DEFAULT_ISSUER).unwrap().open_cti(&verdict.claims.unwrap().cti);
    assert_eq!((opened.resident, opened.iat, opened.version_low), (RESIDENT, times.iat, 1));
}

#[test]
fn a_code_in_all_its_forms_for_a_strangers_libraries() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
    fs::create_dir_all(&folder).unwrap();
    let now = u32::try_from(now_unix_s()).unwrap();
    let keyring = Keyring::generate(now.into(), os_random);
    let issuer = Issuer::new(&keyring, DEFAULT_ISSUER).unwrap();
    for (name, test) in [("prod", false), ("test", true)] {
        // Long enough for the reader to be started by hand.
        let times = Times { iat: now, exp: now + 3_600, refresh_at: now + 45 };
        let code = issued(&issuer, times, test);
        let mut matrix = Matrix::blank();
        Painter::default().paint(&symbol_of(code.as_bytes()), &mut matrix);
        let mut body = [0; PAYLOAD_BYTES_MAX];
        let head = payload::write(&code, &request(times, test), times.refresh_at, &matrix, &mut body);
        let files: [(&str, Vec<u8>); 5] = [
            ("json", payload::parts(&body, head, false).concat()),
            ("none.json", payload::parts(&body, head, true).concat()),
            ("txt", code.into_bytes()),
            ("png", qr::png(&matrix)),
            ("svg", qr::svg(&matrix)),
        ];
        for (form, content) in files {
            fs::write(folder.join(format!("{name}.{form}")), content).unwrap();
        }
    }
    fs::write(folder.join("jwks.json"), keyring.jwks_json(DEFAULT_ISSUER)).unwrap();
}

/// The pages go by the same table.
#[test]
fn each_case_of_the_shared_table_has_its_result() {
    let table: Value = serde_json::from_str(include_str!("codes/cases.json")).expect("tests/codes/make.py wrote it");
    let trust = Trust::from_jwks(table["trust"].to_string().as_bytes()).unwrap();
    let cases = table["cases"].as_array().unwrap();
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let verdict = verify(&trust, text.as_bytes(), table["at"].as_u64().unwrap(), LEEWAY_S);
        let status = verdict.claims.map_or(Value::Null, |claims| claims.status.word().into());
        assert_eq!((verdict.outcome.word(), &status), (case["result"].as_str().unwrap(), &case["status"]), "{case}");
    }
    println!("{} cases run", cases.len());
    assert!(cases.len() > 75, "{}", cases.len());
}

/// For tests/interop/readability.py: does our one mask read as well as the best one of each code?
#[test]
fn codes_under_our_mask_and_under_the_best_one_for_a_reader() {
    const KEYS: u64 = 30;
    const CODES_PER_KEY: u64 = 10;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
    fs::create_dir_all(&folder).unwrap();
    let now = u32::try_from(now_unix_s()).unwrap();
    let mut lines = String::new();
    let mut ours_is_best = 0;
    for key in 0..KEYS {
        let keyring = Keyring::generate(now.into(), os_random);
        let issuer = Issuer::new(&keyring, DEFAULT_ISSUER).unwrap();
        for resident in 0..CODES_PER_KEY {
            let mut code = CodeBuffer::default();
            let resident = ResidentNumber(key << 32 | resident);
            let (iat, exp) = (now, now + 120);
            let request = CodeRequest { resident, version: 1, status: Status::Green, iat, exp, test: false };
            issuer.write(&request, &issuer.sign(&request), &mut code);
            let mut matrix = Matrix::blank();
            Painter::default().paint(&code.symbol, &mut matrix);
            let best = under_the_best_mask(code.as_bytes());
            ours_is_best += usize::from(best[..] == matrix.bits()[..]);
            let (ours, best) = (STANDARD.encode(matrix.bits()), STANDARD.encode(best));
            writeln!(lines, r#"{{"code":"{}","ours":"{ours}","best":"{best}"}}"#, code.as_str()).unwrap();
        }
    }
    // The best mask is one of eight, and ours is one that is the best more often than most.
    assert!(ours_is_best >= usize::try_from(KEYS * CODES_PER_KEY).unwrap() / 8, "{ours_is_best}");
    fs::write(folder.join("masks.ndjson"), lines).unwrap();
}

/// The symbol as the crate draws it when it may choose the mask.
fn under_the_best_mask(text: &[u8]) -> Vec<u8> {
    let version = qrcode::Version::Normal(8);
    let mut bits = qrcode::bits::Bits::new(version);
    bits.push_alphanumeric_data(text).unwrap();
    bits.push_terminator(qrcode::EcLevel::M).unwrap();
    let colors = qrcode::QrCode::with_bits(bits, qrcode::EcLevel::M).unwrap().into_colors();
    let byte = |modules: &[qrcode::Color]| {
        modules.iter().enumerate().map(|(place, color)| color.select(0x80 >> place, 0)).sum::<u8>()
    };
    colors.chunks(8).map(byte).collect()
}
