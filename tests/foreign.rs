//! Codes that were not made here, which `tests/code.rs` holds against the shared table, altered in every way, and, where
//! the variable `VECTORS_DIR` names a folder of published vectors, those of the EU Digital COVID Certificate.

use std::path::Path;
use std::{env, fs};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use onecode::code::trust::{Trust, TrustedKey};
use onecode::code::verify::{LEEWAY_S, Outcome, verify};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;

/// Published cases that are left out, each with the reason: none needs it.
const LEFT_OUT: [(&str, &str); 0] = [];

fn cases() -> Value {
    serde_json::from_str(include_str!("codes/cases.json")).expect("tests/codes/make.py wrote it")
}

#[test]
fn a_foreign_code_cut_or_altered_anywhere_is_never_valid() {
    let table = cases();
    let trust = Trust::from_jwks(table["trust"].to_string().as_bytes()).unwrap();
    let at = table["at"].as_u64().unwrap();
    for name in ["ES256", "PS256", "maps of no length"] {
        let case = table["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
        let text = case["text"].as_str().unwrap().as_bytes();
        for end in 0..text.len() {
            assert_eq!(verify(&trust, &text[..end], at, LEEWAY_S).outcome, Outcome::Malformed);
        }
        for index in 0..text.len() {
            for other in [b'0', b'A', b' ', b':', b'\n', 0xff] {
                let mut altered = text.to_vec();
                altered[index] = other;
                let verdict = verify(&trust, &altered, at, LEEWAY_S);
                assert_eq!(verdict.outcome == Outcome::Valid, altered == text, "{name} {index} {other}");
            }
        }
    }
}

#[test]
fn a_list_with_foreign_keys_that_is_not_whole_is_refused_by_its_member() {
    let table = cases();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut trust = table["trust"].clone();
        change(&mut trust);
        Trust::from_jwks(trust.to_string().as_bytes()).unwrap_err()
    };
    let not_usable = |index: usize, alg| format!("key {index}: it is not a usable public key for {alg}");
    assert_eq!(refused(&|trust| trust["keys"][1]["x"] = "A".repeat(43).into()), not_usable(1, "Es256"));
    assert_eq!(refused(&|trust| trust["keys"][4]["n"] = "AQAB".into()), not_usable(4, "Ps256"));
    assert_eq!(refused(&|trust| trust["keys"][4]["n"] = "%".into()), "key 4: its `n` is missing, or not base64url");
    assert!(refused(&|trust| trust["keys"][1]["y"] = "AQAB".into()).starts_with("key 1: "));
    assert!(refused(&|trust| trust["dcc"][0]["kind"] = "poem".into()).starts_with("its table `dcc`: "));
    assert!(refused(&|trust| trust["dcc"][0]["colour"] = "green".into()).contains("colour"));
}

/// Each vector that is not left out; what was run is counted on standard output.
#[test]
fn published_certificates_have_the_results_that_they_say() {
    let Some(folder) = env::var_os("VECTORS_DIR").map(|folder| Path::new(&folder).join("dcc")) else {
        return println!("VECTORS_DIR names no folder of published vectors: none was run");
    };
    let (mut run, mut left_out) = (0, 0);
    for entry in walkdir::WalkDir::new(&folder).sort_by_file_name() {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(&folder).unwrap().to_str().unwrap();
        if !name.ends_with(".json") {
            continue;
        }
        if let Some((_, reason)) = LEFT_OUT.iter().find(|(out, _)| *out == name) {
            println!("left out: {name}: {reason}");
            left_out += 1;
            continue;
        }
        let case: Value = serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap();
        check_published(name, &case);
        run += 1;
    }
    println!("published certificates: {run} run, {left_out} left out");
    assert!(run > 100, "{run}");
}

fn check_published(name: &str, case: &Value) {
    let (context, expected) = (&case["TESTCTX"], &case["EXPECTEDRESULTS"]);
    let clock = context["VALIDATIONCLOCK"].as_str().unwrap();
    let at = [clock.to_owned(), format!("{clock}Z")]
        .iter()
        .find_map(|text| OffsetDateTime::parse(text, &Iso8601::PARSING).ok());
    let at = u64::try_from(at.unwrap_or_else(|| panic!("{name}: {clock}")).unix_timestamp()).unwrap();
    let certificate = STANDARD.decode(context["CERTIFICATE"].as_str().unwrap()).unwrap();
    let signer = Some(TrustedKey::of_certificate(&certificate).unwrap());
    let mut trust = Trust::default();
    trust.signer = signer;
    let verdict = verify(&trust, case["PREFIX"].as_str().unwrap().as_bytes(), at, LEEWAY_S);
    assert_ne!(verdict.outcome, Outcome::Malformed, "{name}");
    if let Some(good) = expected["EXPECTEDVERIFY"].as_bool() {
        assert_eq!(verdict.claims.is_some(), good, "{name}: {verdict:?}");
    }
    if let (Some(in_time), Some(_)) = (expected["EXPECTEDEXPIRATIONCHECK"].as_bool(), &verdict.claims) {
        assert_eq!(verdict.outcome == Outcome::Valid, in_time, "{name}: {verdict:?}");
    }
}
