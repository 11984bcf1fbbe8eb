//! The seeds of the corpora: for each target the shapes of the RFCs and of our own formats, small and right or wrong in
//! one thing, from which the fuzzer goes on. They are made of fixed keys, so every machine makes the same.

use onecode::code::claims::{CodeBuffer, CodeRequest, DEFAULT_ISSUER, Issuer};
use onecode::http::head::parse;
use onecode::http::proxy::SIGNATURE;
use onecode::registry::demo;
use onecode::service::device::Kind;
use onecode::service::session::Session;
use onecode::words::{ResidentNumber, Status};
use serde_json::json;

use crate::support::simulated::{START, Simulated};
use crate::support::{Host, REFRESH, SESSION, bearer, get, post};
use crate::targets::session::{BETWEEN, ID_NUMBER, assertion, token};
use crate::targets::verify::{IAT, KIDS, head as cbor, signed};
use crate::targets::{connection, session, verify};

const GOOD: Session =
    Session { resident: ResidentNumber(0x0123_4567_89ab_cdef), number: 7, expires_unix_s: 1_800_000_900 };
const ED: &[u8] = b"{\"alg\":\"EdDSA\",\"kid\":\"ed\"}";
const EC: &[u8] = b"{\"alg\":\"ES256\",\"typ\":\"JWT\"}";

type Seeds = Vec<(String, Vec<u8>)>;

/// The seeds of a target by name.
pub fn of(target: &str) -> Seeds {
    match target {
        "head" => heads(),
        "connection" => connections(),
        "proxy" => named(proxies()),
        "session" => sessions(),
        "verify" => codes(),
        "recovery" => journals(),
        other => panic!("no seeds for {other}"),
    }
}

/// Headers of the PROXY protocol: each command and family, with and without extensions, cut short, and of others.
fn proxies() -> Vec<Vec<u8>> {
    let header = |kind: [u8; 2], rest: &[u8]| {
        let length = u16::try_from(rest.len()).expect("a short header").to_be_bytes();
        [&SIGNATURE[..], &kind, &length, rest].concat()
    };
    let four = [192, 0, 2, 7, 127, 0, 0, 1, 0x30, 0x39, 0x1f, 0x90];
    vec![
        header([0x21, 0x11], &four),
        header([0x21, 0x21], &[7; 36]),
        header([0x21, 0x11], &[&four[..], b"\x03\x00\x04abcd"].concat()),
        header([0x20, 0x00], &[]),
        header([0x21, 0x00], b"x"),
        header([0x21, 0x31], &[0; 216]),
        header([0x21, 0x11], &four[..11]),
        header([0x11, 0x11], &four),
        [header([0x21, 0x11], &four), get(REFRESH, "").into_bytes()].concat(),
        SIGNATURE[..7].to_vec(),
        b"PROXY TCP4 192.0.2.7 127.0.0.1 12345 8080\r\n".to_vec(),
        get("/", "").into_bytes(),
    ]
}

/// Names each by its place.
fn named(seeds: impl IntoIterator<Item = Vec<u8>>) -> Seeds {
    seeds.into_iter().enumerate().map(|(at, data)| (format!("seed-{at:02}"), data)).collect()
}

/// One behind the other.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// RFC 9112: the four forms of a target, framings, versions, line ends, and what must be refused.
fn heads() -> Seeds {
    const LINES: [&str; 24] = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET /a?b=%41&c HTTP/1.1\r\nHost: a.example:8080\r\n\r\nGET",
        "POST /person/app/refreshQRCode?qr=none HTTP/1.1\r\nHost: a\r\nCookie: oc=1\r\nCookie: b=2\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET http://a.example/b?c HTTP/1.1\r\nHost: other\r\nConnection: close, x\r\n\r\n",
        "OPTIONS https://[::1]:8443 HTTP/1.1\r\nHost:\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD / HTTP/1.3\r\nHost: a\r\nRange: bytes=0-\r\nIf-Range: \"x\"\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
        "GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "x!y / HTTP/1.1\r\nHost: a\r\nX-Long: \u{e9}\t\"quoted\"  \r\nAccept-Encoding: br;q=0.5, gzip\r\nAccept-Encoding:\r\n\r\n",
        "PUT / HTTP/1.1\r\nhOST: a\r\norigin: b\r\nSec-Fetch-Site: same-origin\r\nX-Forwarded-For: c\r\nX-Forwarded-Proto: https\r\n\r\n",
    ];
    let many = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(count)).into_bytes();
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(2_030)).into_bytes();
    named(LINES.map(|line| line.as_bytes().to_vec()).into_iter().chain([many(63), many(64), long]))
}

/// Whole conversations on both listeners, cut and uncut.
fn connections() -> Seeds {
    let process = Simulated::new(0);
    let with_lines = |path: &str, fields: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let id = |n| String::from_utf8(demo::id_number(n).as_bytes().to_vec()).expect("digits");
    let version = START.unix_ms;
    let status = |n| json!({"id_number": id(n), "status": "red", "version": version, "reason": "r"}).to_string();
    let (ndjson, json) = ("Content-Type: application/x-ndjson\r\n", "Content-Type: application/json\r\n");
    let session = process.session(1);
    let scanner = bearer(&process.device(Kind::Scanner));
    let refresh = get(REFRESH, &bearer(&session));
    let chunked = |path: &str, chunks: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{ndjson}Transfer-Encoding: chunked\r\n\r\n{chunks}")
    };
    let chunk = |text: &str| format!("{:x};a=\"b\"\r\n{text}\r\n", text.len());
    let scan = json!({"id": "00112233445566778899aabbccddeeff", "at": version, "place": "gate",
        "cti": "00112233445566778899aabbccddeeff", "result": "valid"});
    let balanced = [
        [proxies().remove(0), refresh.clone().into_bytes()].concat(),
        [proxies().remove(3), b"HEAD /healthz HTTP/1.1\r\nHost: a\r\nB : c\r\n\r\n".to_vec()].concat(),
        refresh.clone().into_bytes(),
    ];
    let public = [
        refresh.clone(),
        refresh.repeat(3),
        get(&format!("{REFRESH}?qr=none"), &format!("Cookie: oc={session}\r\n")),
        get(&format!("{REFRESH}?format=svg"), &bearer(&session)),
        post(SESSION, "{\"demo_resident\":5}") + &get("/healthz", ""),
        post(SESSION, "{\"assertion\":\"a.b.c\"}"),
        format!("DELETE {SESSION} HTTP/1.1\r\nHost: a\r\n{}\r\n{refresh}", bearer(&session)),
        format!("HEAD /readyz HTTP/1.1\r\nHost: a\r\n\r\n{}", get("/.well-known/jwks.json", "")),
        format!("POST {SESSION} HTTP/1.1\r\nHost: a\r\n{json}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!(
            "POST {SESSION} HTTP/1.1\r\nHost: a\r\n{json}Transfer-Encoding: chunked\r\n\r\n{}0\r\nA: b\r\n\r\n{refresh}",
            chunk("{\"demo_resident\":6}")
        ),
        format!("POST {SESSION} HTTP/1.1\r\nHost: a\r\n{json}Transfer-Encoding: chunked\r\n\r\nx\r\n"),
        with_lines(
            "/scan/verify",
            &format!("{json}{scanner}"),
            &json!({"code": code(Status::Green), "place": "gate"}).to_string(),
        ),
        with_lines("/scan/records", &format!("{ndjson}{scanner}"), &format!("{scan}\n{scan}\nx\n")),
        format!(
            "OPTIONS {REFRESH} HTTP/1.1\r\nHost: a\r\nOrigin: https://b\r\nAccess-Control-Request-Method: GET\r\n\r\n"
        ),
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n".to_owned(),
        get("/nowhere", "Connection: close\r\n") + &refresh,
    ];
    let admin = [
        with_lines("/admin/residents", ndjson, &format!("{}\n{}\nx\n", status(1), status(900))),
        chunked("/admin/residents", &format!("{}{}0\r\n\r\n", chunk(&status(2)), chunk("\n{\"resident\":\"0\"}\n")))
            + &get("/healthz", ""),
        chunked("/admin/residents", &chunk(&status(3))),
        with_lines("/admin/residents/lookup", json, &json!({"id_number": id(1)}).to_string())
            + &get("/admin/audit?limit=5", ""),
        "DELETE /admin/test-data HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned() + &get("/readyz?verbose", ""),
        get("/metrics", "") + &get("/status.json", "Sec-Fetch-Site: cross-site\r\n"),
    ];
    let cut = |to: u8| {
        move |(at, bytes): (usize, &[u8])| {
            let pieces = at as u8 % 4;
            joined(&[&[to + pieces], &[7, 60, 90][..usize::from(pieces)], bytes])
        }
    };
    let public = public.iter().map(|text| text.as_bytes()).enumerate().map(cut(0));
    let admin = admin.iter().map(|text| text.as_bytes()).enumerate().map(cut(0x80));
    named(public.chain(admin).chain(balanced.iter().map(Vec::as_slice).enumerate().map(cut(0x40))))
}

fn claims(changes: &str) -> String {
    let (iat, exp) = (session::NOW.unix_s(), session::NOW.unix_s() + 60);
    format!(
        "{{\"iss\":\"https://id.city.example\",\"aud\":[\"onecode\"],\"iat\":{iat},\"exp\":{exp},\"id_number\":\"{ID_NUMBER}\"{changes}}}"
    )
}

/// Tokens and assertions: good ones, and each wrong in one thing.
fn sessions() -> Seeds {
    let (good, ed, ec) = (GOOD, ED, EC);
    let ended = Session { expires_unix_s: 1_700_000_000, ..good };
    let mut other_epoch = token(&good);
    other_epoch[3] = b'B';
    let said = |mode: u8, header: &[u8], claims: &str, flips: &[u8]| {
        joined(&[&[mode], header, &[BETWEEN], claims.as_bytes(), &[BETWEEN], flips])
    };
    let mut seeds = vec![
        joined(&[&[0], &token(&good)]),
        joined(&[&[0], &token(&ended)]),
        joined(&[&[0], &other_epoch]),
        joined(&[&[0], &token(&good), b"="]),
        joined(&[&[1], &[1; 16]]),
        joined(&[&[1], &[1; 16], &[9, 1, 47, 2]]),
        joined(&[&[2], assertion(ed, claims("").as_bytes(), false).as_bytes()]),
        joined(&[&[2], assertion(b"{\"alg\":\"none\"}", claims("").as_bytes(), false).as_bytes()]),
        joined(&[&[2], b"a.b.c"]),
        said(3, ed, &claims(""), &[]),
        said(3, ed, &claims(""), &[60, 0, 1]),
        said(7, ec, &claims(""), &[]),
        said(7, ec, &claims(",\"nbf\":1800000000.5,\"jti\":\"1\""), &[200, 1, 4]),
        said(3, ec, &claims(""), &[]),
        said(3, b"{\"alg\":\"EdDSA\",\"crit\":[\"b64\"],\"b64\":false}", &claims(""), &[]),
    ];
    for changes in [",\"aud\":\"onecode\"", ",\"x\":{\"exp\":1e400}", ",\"nbf\":1e10", ",\"x\":[[[[]]]]"] {
        seeds.push(said(3, ed, &claims(changes), &[]));
    }
    let wrong = [
        ("60", "9e999"),
        ("1800000000", "-1"),
        (ID_NUMBER, ""),
        ("[\"onecode\"]", "\"onecode\""),
        ("id.city", "id.town"),
    ];
    seeds.extend(wrong.map(|(from, to)| said(3, ed, &claims("").replace(from, to), &[])));
    named(seeds)
}

/// A code of the simulator's own keys.
fn code(status: Status) -> String {
    let keyring = onecode::code::keyring::Keyring::generate(START.unix_s(), |bytes| {
        bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8);
    });
    let mut code = CodeBuffer::default();
    let iat = u32::try_from(START.unix_s()).expect("before 2106");
    let exp = iat + 120;
    let request = CodeRequest { resident: ResidentNumber(9), version: 3, status, iat, exp, test: false };
    let issuer = Issuer::new(&keyring, DEFAULT_ISSUER).expect("an issuer");
    issuer.write(&request, &issuer.sign(&request), &mut code);
    code.as_str().to_owned()
}

/// Codes: texts, bytes, and headers with payloads that are then signed.
fn codes() -> Seeds {
    let header = |kid: &[u8]| joined(&[&[0xa2, 0x01, 0x27, 0x04, 0x48], kid]);
    let iss = joined(&[&[0x01, 0x69], DEFAULT_ISSUER.as_bytes()]);
    let number = |key: u8, value: u64| joined(&[&[key], &cbor(0, value)]);
    let (exp, iat) = (number(4, IAT + 120), number(6, IAT));
    let cti = joined(&[&[0x07, 0x50], &[5; 16]]);
    let status = [0x3a, 0x00, 0x01, 0x00, 0x00, 0x01];
    let map = |pairs: &[&[u8]]| joined(&[&[0xa0 + pairs.len() as u8], &pairs.concat()]);
    let good = map(&[&iss, &exp, &iat, &cti, &status]);
    let said = |header: &[u8], payload: &[u8]| joined(&[&[2, header.len() as u8], header, payload]);
    let first = header(KIDS[0]);
    let nested: Vec<u8> = [&[0x18, 0x64][..], &[0x81; 6], &[0xf6]].concat();
    let payloads = [
        good.clone(),
        map(&[&iss, &number(4, IAT - 500), &iat, &cti, &status]),
        map(&[&iss, &exp, &number(6, IAT + 1_000), &cti, &status]),
        map(&[&iss, &exp, &number(5, IAT + 50), &iat, &cti, &status]),
        map(&[&iss, &number(4, u64::MAX), &number(6, 0), &cti, &status]),
        map(&[&iss, &exp, &iat, &cti, &nested, &status]),
        map(&[&iss, &exp, &exp, &iat, &cti, &status]),
        map(&[&iss, &iat, &exp, &cti, &status]),
        map(&[&iss, &exp, &iat, &cti]),
        map(&[&iss, &joined(&[&[4, 0x1b], &(IAT + 120).to_be_bytes()]), &iat, &cti, &status]),
        map(&[&iss, &exp, &iat, &cti, &[0x3a, 0x00, 0x01, 0x00, 0x00, 0xa1, 0x61, 0x78, 0x80]]),
    ];
    let mut seeds: Vec<Vec<u8>> = payloads.iter().map(|payload| said(&first, payload)).collect();
    seeds.push(said(&header(KIDS[1]), &good));
    seeds.push(said(&header(b"nobody!!"), &good));
    seeds.push(said(&joined(&[&[0xa3, 0x01, 0x27, 0x02, 0x81, 0x01, 0x04, 0x48], KIDS[0]]), &good));
    seeds.push(said(&joined(&[&[0xa2, 0x01, 0x32, 0x04, 0x48], KIDS[0]]), &good));
    seeds.push(joined(&[&[0], &signed(&first, &good)]));
    seeds.push(joined(&[&[0], &signed(&first, &good), b" "]));
    seeds.push(joined(&[&[0], code(Status::Red).as_bytes()]));
    seeds.push(joined(&[&[0], b"OC1:GGW"]));
    seeds.push(joined(&[
        &[1],
        &[0xd2, 0x84, 0x4d],
        &first,
        &[0xa0, 0x58],
        &[good.len() as u8],
        &good,
        &[0x58, 0x40],
        &[1; 64],
    ]));
    named(seeds)
}

/// Journals: shapes, each kind of damage, forged words, and bytes of no journal.
fn journals() -> Seeds {
    let shapes =
        [[0, 0, 0], [0, 2, 0x15], [0, 6, 0xff], [0, 14, 0x2e], [0, 0x26, 0x05], [0, 0x4a, 0x05], [0, 0x6e, 0xff]];
    let mut seeds: Vec<Vec<u8>> = shapes.map(|shape: [u8; 3]| shape.to_vec()).to_vec();
    for kind in 0..8 {
        seeds.push(vec![0, 6, 0x15, kind, 2, 40, 16]);
        seeds.push(vec![0, 2, 0x15, 0x20 | kind, 1, 200, 17, 8 | kind, 0, 0, 16]);
    }
    let most = [0xff; 8];
    for kind in [0_u8, 3, 8, 16, 20, 24, 28, 1, 5, 9, 2, 6] {
        seeds.push(joined(&[&[1, 6, 0x15, kind, 9], &most]));
    }
    seeds.push(joined(&[&[2, 0, 0], b"onecodej\x01\0\0\0"]));
    let words = [5_u64, 1, 0, 0, 0, 4_096].map(u64::to_le_bytes).concat();
    seeds.push(joined(&[&[2, 2, 0], b"onecodej\x01\0\0\0\0\0\0\0", &words]));
    seeds.push(joined(&[&[2, 1, 0], &[0xa5; 600], &[0xff], &[0; 40], &[1]]));
    named(seeds)
}

/// What the oracles must have seen of the seeds.
pub fn assert_reached() {
    let accepted = heads().iter().filter(|(_, data)| matches!(parse(data), Ok(Some(_)))).count();
    assert!(accepted >= 12, "{accepted} heads are accepted");
    let mut statuses: Vec<u16> = connections().iter().flat_map(|(_, data)| connection::statuses(data)).collect();
    let done = statuses.iter().filter(|status| **status == 200).count();
    statuses.sort_unstable();
    statuses.dedup();
    assert!(done >= 15 && statuses.len() >= 6, "{done} answers of 200, and in all {statuses:?}");
    let good = joined(&[&[0], &token(&GOOD)]);
    assert!(sessions().iter().any(|(_, data)| *data == good) && session::check(&good[1..], 0) == Ok(GOOD));
    for (header, by_ec) in [(ED, false), (EC, true)] {
        let found = session::verify(&assertion(header, claims("").as_bytes(), by_ec));
        assert!(found.is_ok(), "{found:?}");
    }
    let texts = codes().into_iter().filter_map(|(_, data)| verify::text(&data));
    let accepted = texts.filter(|text| verify::is_accepted(text)).count();
    assert!(accepted >= 8, "{accepted} codes are accepted");
}
