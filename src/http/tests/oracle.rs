//! `httparse` as the oracle of the head parser: what we accept, it accepts with the same meaning; and requests made and
//! damaged at random, which must have one outcome for every way of splitting them.

use super::rfc9112::outcome;
use crate::http::field::Field;
use crate::http::head::{Framing, Method, Version, parse};
use crate::limits::HEAD_FIELDS_MAX;
use proptest::prelude::*;

/// What we accept, `httparse` accepts with the same method, target, version, fields and length. It is more lenient, so
/// the other direction does not hold; it knows no minor version above 1.
fn assert_agrees(input: &[u8]) -> bool {
    let Ok(Some(head)) = parse(input) else { return false };
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let shown = String::from_utf8_lossy(input);
    let length = match request.parse(input) {
        Err(httparse::Error::Version) => return false,
        other => other.unwrap_or_else(|error| panic!("{error} for {shown:?}")),
    };
    assert_eq!(length, httparse::Status::Complete(head.bytes), "{shown:?}");
    let version = if head.version == Version::HTTP_11 { 1 } else { 0 };
    assert_eq!(request.version, Some(version), "{shown:?}");
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
    let method = request.method.unwrap();
    let is_same = format!("{:?}", head.method).to_ascii_uppercase() == method;
    assert!(if known.contains(&method) { is_same } else { head.method == Method::Other }, "{shown:?}");
    let target = request.path.unwrap();
    if target.starts_with('/') {
        assert_eq!(
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query))),
            (head.path, head.query)
        );
        assert_eq!(head.is_https, None);
    } else {
        assert!(target == "*" || head.is_https.is_some() || head.method == Method::Connect, "{shown:?}");
    }
    let values = |name: &str| -> Vec<&[u8]> {
        let lines = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        lines.map(|field| field.value.trim_ascii()).collect()
    };
    for field in
        [Field::Cookie, Field::AcceptEncoding, Field::TransferEncoding, Field::ContentLength, Field::Connection]
    {
        assert_eq!(head.all(field).collect::<Vec<_>>(), values(field.name()), "{shown:?}");
    }
    let expected = match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
        ([], []) => Framing::None,
        ([length], []) => Framing::Length(str::from_utf8(length).unwrap().parse().unwrap()),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        other => panic!("accepted {other:?} in {shown:?}"),
    };
    assert_eq!(head.framing, expected, "{shown:?}");
    true
}

const METHODS: [&str; 5] = ["GET", "POST", "OPTIONS", "CONNECT", "x-y"];
const TARGETS: [&str; 7] = ["/", "/a?b=%41", "*", "http://b/c", "https://[::1]?d", "b:443", "//x?y?z"];
const LINES: [&str; 12] = [
    "Cookie: a=b; c=d",
    "cookie:e",
    "Accept-Encoding: gzip, br \t",
    "Content-Length: 12",
    "Transfer-Encoding: chunked",
    "Connection: close",
    "Connection: keep-alive",
    "Expect: 100-continue",
    "X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\u{e9}",
    "Authorization: Bearer abc",
    "E:",
    "User-Agent: (a; b) \"c\"",
];
const PIECES: [&str; 26] = [
    "GET",
    "OPTIONS",
    " ",
    "  ",
    "/",
    "*",
    "?",
    "%41",
    "%",
    "[",
    "#",
    "http://",
    "HTTP/1.1",
    "HTTP/1.0",
    "\r\n",
    "\r\n\r\n",
    "\r",
    "\n",
    "\t",
    "\0",
    ":",
    "Host: a",
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    ",",
    "\u{7f}",
];

fn request() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::collection::vec(prop::sample::select(&LINES[..]), 0..6);
    let version = prop::sample::select(&["1.1", "1.1", "1.0", "1.3"][..]);
    (prop::sample::select(&METHODS[..]), prop::sample::select(&TARGETS[..]), version, lines).prop_map(
        |(method, target, version, lines)| {
            let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            format!("{method} {target} HTTP/{version}\r\nHost: a\r\n{lines}\r\nrest").into_bytes()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_accepted_the_oracle_accepts_alike(input in request()) {
        assert_agrees(&input);
    }

    #[test]
    fn what_is_accepted_after_damage_the_oracle_accepts_alike(
        mut input in request(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&PIECES[..]), 0..3_usize), 1..3),
    ) {
        for (index, piece, removed) in edits {
            let at = index.index(input.len());
            input.splice(at..(at + removed).min(input.len()), piece.bytes());
        }
        assert_agrees(&input);
    }

    #[test]
    fn any_bytes_are_accepted_alike_or_refused(input in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_agrees(&input);
    }
}

proptest! {
    #[test]
    fn damaged_requests_have_one_outcome_for_every_split(
        mut input in request(), index in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let at = index.index(input.len());
        input[at] = byte;
        let _ = outcome(&input);
    }

    #[test]
    fn pieces_have_one_outcome_for_every_split(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..16)) {
        let _ = outcome(pieces.concat());
    }
}
