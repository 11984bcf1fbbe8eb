//! The request head: the same result for every split, and what is accepted `httparse` accepts with the same meaning.

use onecode::http::field::Field;
use onecode::http::head::{Framing, Head, HeadError, Method, Version, parse};
use onecode::limits::HEAD_FIELDS_MAX;

use super::{random_of, shown};

/// The fields that the server reads. Written down once more: the library's own table is what is tested.
const FIELDS: [(Field, &str); 17] = [
    (Field::Host, "host"),
    (Field::Range, "range"),
    (Field::Cookie, "cookie"),
    (Field::Origin, "origin"),
    (Field::Expect, "expect"),
    (Field::IfRange, "if-range"),
    (Field::Connection, "connection"),
    (Field::ContentType, "content-type"),
    (Field::Authorization, "authorization"),
    (Field::IfNoneMatch, "if-none-match"),
    (Field::ContentLength, "content-length"),
    (Field::SecFetchSite, "sec-fetch-site"),
    (Field::AcceptEncoding, "accept-encoding"),
    (Field::AcceptLanguage, "accept-language"),
    (Field::XForwardedFor, "x-forwarded-for"),
    (Field::TransferEncoding, "transfer-encoding"),
    (Field::XForwardedProto, "x-forwarded-proto"),
];
const METHODS: [(Method, &str); 9] = [
    (Method::Get, "GET"),
    (Method::Head, "HEAD"),
    (Method::Post, "POST"),
    (Method::Put, "PUT"),
    (Method::Delete, "DELETE"),
    (Method::Options, "OPTIONS"),
    (Method::Patch, "PATCH"),
    (Method::Trace, "TRACE"),
    (Method::Connect, "CONNECT"),
];
/// Splits of one input by derived points.
const CUTS_MAX: usize = 64;
/// Up to so many bytes an input is also brought one byte at a time.
const SINGLE_BYTES_MAX: usize = 512;

/// Parses `data` whole and split, and holds what is accepted against `httparse`.
pub fn run(data: &[u8]) {
    let whole = parse(data);
    let outcome = told(&whole);
    let mut random = random_of(data);
    let mut cuts: Vec<usize> = (0..random.usize(1..=CUTS_MAX)).map(|_| random.usize(0..=data.len())).collect();
    cuts.sort_unstable();
    cuts.push(data.len());
    assert_eq!(told(&parse_in_pieces(data, cuts)), outcome, "split: {}", shown(data));
    if data.len() <= SINGLE_BYTES_MAX {
        assert_eq!(told(&parse_in_pieces(data, 0..=data.len())), outcome, "byte by byte: {}", shown(data));
    }
    if let Ok(Some(head)) = whole {
        assert_oracle_agrees(data, &head);
    }
}

type Parsed<'b> = Result<Option<Head<'b>>, HeadError>;

/// What comes of the bytes up to each of these ends in turn.
fn parse_in_pieces(data: &[u8], ends: impl IntoIterator<Item = usize>) -> Parsed<'_> {
    for end in ends {
        match parse(&data[..end]) {
            Ok(None) => {}
            decided => return decided,
        }
    }
    Ok(None)
}

/// All that a head says, as text.
fn told(parsed: &Parsed<'_>) -> String {
    match parsed {
        Ok(Some(head)) => {
            let Head { method, path, query, is_https, version, framing, keep_alive, expect_continue, bytes, .. } = head;
            let fields = FIELDS.map(|(field, _)| head.all(field).map(shown).collect::<Vec<_>>());
            format!(
                "{method:?} {path:?} {query:?} {is_https:?} {version:?} {framing:?} {keep_alive} {expect_continue} {bytes} {fields:?}"
            )
        }
        Ok(None) => "unfinished".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

fn assert_oracle_agrees(data: &[u8], head: &Head<'_>) {
    let bytes = with_known_version(&data[..head.bytes]);
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let length = request.parse(&bytes).unwrap_or_else(|error| panic!("{error}: {}", shown(data)));
    assert_eq!(length, httparse::Status::Complete(head.bytes), "{}", shown(data));
    let version = if head.version == Version::HTTP_11 { 1 } else { 0 };
    assert_eq!(request.version, Some(version), "{}", shown(data));
    let method = METHODS.iter().find(|(_, name)| request.method == Some(name)).map_or(Method::Other, |found| found.0);
    assert_eq!(head.method, method, "{}", shown(data));
    let lines: Vec<(&str, &[u8])> = request.headers.iter().map(|line| (line.name, line.value.trim_ascii())).collect();
    let values = |name: &str| -> Vec<&[u8]> {
        lines.iter().filter(|line| line.0.eq_ignore_ascii_case(name)).map(|line| line.1).collect()
    };
    let host = assert_target_agrees(head, request.path.expect("a whole request has a target"));
    for (field, name) in FIELDS {
        let expected = if field == Field::Host { host.map_or(values(name), |host| vec![host]) } else { values(name) };
        assert_eq!(head.get(field), expected.first().copied(), "{name}: {}", shown(data));
        assert_eq!(head.all(field).collect::<Vec<_>>(), expected, "{name}: {}", shown(data));
    }
    assert_eq!(head.framing, framing(&values("content-length"), &values("transfer-encoding")), "{}", shown(data));
    let options = values("connection").join(&b',').to_ascii_lowercase();
    let says = |wanted: &[u8]| options.split(|byte| *byte == b',').any(|option| option.trim_ascii() == wanted);
    let lives = !says(b"close") && (version == 1 || says(b"keep-alive"));
    assert_eq!(head.keep_alive, lives, "{}", shown(data));
}

/// Holds the target against its text, and returns the host that it names itself.
fn assert_target_agrees<'t>(head: &Head<'_>, target: &'t str) -> Option<&'t [u8]> {
    if head.method == Method::Connect {
        assert_eq!((head.path, head.query, head.is_https), ("", None, None), "{target}");
        return Some(target.as_bytes());
    }
    let (before_query, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    assert_eq!(head.query, query, "{target}");
    if target.starts_with('/') || target == "*" {
        assert_eq!((head.path, head.is_https), (before_query, None), "{target}");
        return None;
    }
    let (scheme, rest) = before_query.split_once("://").unwrap_or_else(|| panic!("accepted {target}"));
    assert!(
        scheme.eq_ignore_ascii_case(if head.is_https.expect("it is absolute") { "https" } else { "http" }),
        "{target}"
    );
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_root = path.is_empty() && (head.path == "/" || (head.path == "*" && head.method == Method::Options));
    assert!(is_root || head.path == path, "{target}");
    Some(host.as_bytes())
}

/// The framing that these lines mean, read on the narrowest of terms: all else must have been refused.
fn framing(lengths: &[&[u8]], codings: &[&[u8]]) -> Framing {
    match (lengths, codings) {
        ([], []) => Framing::None,
        ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            Framing::Length(str::from_utf8(length).expect("digits").parse().expect("a length within 64 bits"))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        other => panic!("accepted {other:?}"),
    }
}

/// With a later minor version of HTTP/1 in the request line as 1.1, which is how RFC 9110 section 2.5 has it answered;
/// `httparse` knows none.
pub fn with_known_version(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
    let end = bytes[start..].windows(2).position(|two| two == b"\r\n").map_or(bytes.len(), |length| start + length);
    if let [.., b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'2'..=b'9'] = &mut bytes[start..end] {
        *minor = b'1';
    }
    bytes
}
