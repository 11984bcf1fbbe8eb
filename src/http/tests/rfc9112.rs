//! The server-side MUSTs of RFC 9112, each with its test or the reason it has none here, and a battery of heads that
//! try to be read two ways. Every case runs whole, cut at every place, and byte by byte.
//!
//! | id | where |
//! |---|---|
//! | 2.2a, 2.2c, 2.2e | tests below |
//! | 2.2b | `response`: `rfc9112_2_2_b_…` |
//! | 2.2d | the writer has no way to put whitespace there; `response`: `an_answer_has_date_length_and_body` |
//! | 3a, 3.2a, 3.2.2a, 3.2.2b | tests below |
//! | 4a | `response`: `rfc9112_4_a_…` |
//! | 5.1a, 5.2b | tests below |
//! | 5.2a | a field value with a line end spoils the answer: `response`: `rfc9112_2_2_b_…` |
//! | 6.1a | below, and `body`: `rfc9112_6_1_a_…` |
//! | 6.1b, 6.1d, 6.1e, 6.1g, 6.2a | cannot apply: no answer carries Transfer-Encoding, each has its length |
//! | 6.1c | cannot apply: binds whoever sends a request |
//! | 6.1f | cannot apply: CONNECT is never answered with 2xx |
//! | 6.1h, 6.1i | tests below: both are refused, and every refusal closes |
//! | 6.3a, 6.3b, 6.3c | tests below |
//! | 6.3d | `body`: `rfc9112_6_3_d_…`; closing is the shard's |
//! | 7.1a, 7.1b, 7.1.1a | `body`: tests of these names |
//! | 7.1.2a, 7.1.2b | cannot apply: trailers are dropped; `body`: `rfc9112_7_1_2_a_b_…` |
//! | 9.3a | cannot apply: we persist; a closing answer says so: `response`: `rfc9112_9_6_c_…` |
//! | 9.3b | the shard's: it reads the body or closes; `Body` says where the body ends |
//! | 9.3.2a | the order is the shard's; `response`: `rfc9112_9_3_2_a_…` shows the means |
//! | 9.6a, 9.6b | below for what the head says; closing and reading no further are the shard's |
//! | 9.6c, 9.6d | `response`: `rfc9112_9_6_c_…`; closing and reading no further are the shard's |

use crate::http::field::Field;
use crate::http::head::{Framing, Head, HeadError, Method, Version, parse};
use crate::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, REQUEST_LINE_BYTES_MAX};

/// All that a head says, without its borrow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Said {
    method: Method,
    path: String,
    query: Option<String>,
    is_https: Option<bool>,
    version: Version,
    framing: Framing,
    keep_alive: bool,
    expect_continue: bool,
    bytes: usize,
    host: Option<Vec<u8>>,
    cookies: Vec<Vec<u8>>,
}

impl Said {
    fn of(head: &Head<'_>) -> Said {
        Said {
            method: head.method,
            path: head.path.to_string(),
            query: head.query.map(str::to_string),
            is_https: head.is_https,
            version: head.version,
            framing: head.framing,
            keep_alive: head.keep_alive,
            expect_continue: head.expect_continue,
            bytes: head.bytes,
            host: head.get(Field::Host).map(<[u8]>::to_vec),
            cookies: head.all(Field::Cookie).map(<[u8]>::to_vec).collect(),
        }
    }
}

pub(super) type Outcome = Result<Option<Said>, HeadError>;

/// The outcome when the input arrives in the pieces that `ends` end.
fn feed(input: &[u8], ends: impl Iterator<Item = usize>) -> Outcome {
    for end in ends.chain([input.len()]) {
        match parse(&input[..end]) {
            Ok(None) => {}
            decided => return decided.map(|head| head.map(|head| Said::of(&head))),
        }
    }
    Ok(None)
}

/// The one outcome of every way of splitting. Byte by byte, each prefix is decided as soon as it is when read alone.
pub(super) fn outcome(input: impl AsRef<[u8]>) -> Outcome {
    let input = input.as_ref();
    let shown = String::from_utf8_lossy(input);
    let whole = feed(input, std::iter::empty());
    let stride = 1 + input.len() / 2_000;
    for cut in (0..input.len()).step_by(stride) {
        assert_eq!(feed(input, std::iter::once(cut)), whole, "cut at {cut} of {shown:?}");
    }
    for end in 0..=input.len() {
        let resumed = parse(&input[..end]).map(|head| head.map(|head| Said::of(&head)));
        assert_eq!(resumed, feed(&input[..end], std::iter::empty()), "the first {end} of {shown:?}");
        if resumed != Ok(None) {
            assert_eq!(resumed, whole, "byte by byte {shown:?}");
            return whole;
        }
    }
    assert_eq!(whole, Ok(None), "byte by byte {shown:?}");
    whole
}

fn accepted(input: impl AsRef<[u8]>) -> Said {
    let input = input.as_ref();
    match outcome(input) {
        Ok(Some(said)) => said,
        other => panic!("{other:?} for {:?}", String::from_utf8_lossy(input)),
    }
}

fn refused(input: impl AsRef<[u8]>) -> HeadError {
    let input = input.as_ref();
    match outcome(input) {
        Err(error) => error,
        other => panic!("{other:?} for {:?}", String::from_utf8_lossy(input)),
    }
}

/// A GET over HTTP/1.1 with these field lines after Host.
fn with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A GET of `target` over HTTP/1.1.
fn to(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn a_plain_request_says_what_it_says() {
    let text = "POST /person/app/refreshQRCode?qr=none?&x HTTP/1.1\r\nHost: a.example:8080\r\ncookie: \t oc=1 \t\r\n\
                X-Other: y\r\nCookie:b=2\r\nContent-Length: 12\r\nEXPECT: 100-Continue\r\n\r\n";
    let said = accepted(format!("{text}body and more"));
    let expected = Said {
        method: Method::Post,
        path: "/person/app/refreshQRCode".to_string(),
        query: Some("qr=none?&x".to_string()),
        is_https: None,
        version: Version::HTTP_11,
        framing: Framing::Length(12),
        keep_alive: true,
        expect_continue: true,
        bytes: text.len(),
        host: Some(b"a.example:8080".to_vec()),
        cookies: vec![b"oc=1".to_vec(), b"b=2".to_vec()],
    };
    assert_eq!(said, expected);
}

#[test]
fn methods_are_case_sensitive_tokens() {
    for (name, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("PATCH", Method::Patch),
        ("TRACE", Method::Trace),
        ("get", Method::Other),
        ("GETT", Method::Other),
        ("!#$%&'*+-.^_`|~09aZ", Method::Other),
    ] {
        assert_eq!(accepted(format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n")).method, method);
    }
    for name in ["", "G(T", "GE\0T", "GE\tT", "G\u{e9}T", " GET", "\tGET", "\"GET\"", "GET\r"] {
        assert_eq!(refused(format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n")), HeadError::Method, "{name:?}");
    }
}

#[test]
fn request_lines_have_single_spaces_and_an_exact_version() {
    for (line, error) in [
        ("GET", HeadError::Method),
        ("GET ", HeadError::Target),
        ("GET /", HeadError::Target),
        ("GET / ", HeadError::Version),
        ("GET  / HTTP/1.1", HeadError::Target),
        ("GET /  HTTP/1.1", HeadError::Version),
        ("GET\t/ HTTP/1.1", HeadError::Method),
        ("GET /\tHTTP/1.1", HeadError::Target),
        ("GET / HTTP/1.1 ", HeadError::Version),
        ("GET / HTTP/1.1\t", HeadError::Version),
        ("GET / HTTP/1.1 x", HeadError::Version),
        ("GET / x HTTP/1.1", HeadError::Version),
        ("GET /a b HTTP/1.1", HeadError::Version),
        ("GET / http/1.1", HeadError::Version),
        ("GET / Http/1.1", HeadError::Version),
        ("GET / HTTP/1", HeadError::Version),
        ("GET / HTTP/1.", HeadError::Version),
        ("GET / HTTP/.1", HeadError::Version),
        ("GET / HTTP/1.11", HeadError::Version),
        ("GET / HTTP/11.1", HeadError::Version),
        ("GET / HTTP/1,1", HeadError::Version),
        ("GET / HTTP 1.1", HeadError::Version),
        ("GET / HTTPS/1.1", HeadError::Version),
        ("GET / HTTP/-1.1", HeadError::Version),
        ("GET / HTTP/1.\u{661}", HeadError::Version),
        ("GET / HTTP/0.9", HeadError::VersionUnsupported),
        ("GET / HTTP/2.0", HeadError::VersionUnsupported),
        ("GET / HTTP/9.9", HeadError::VersionUnsupported),
        ("PRI * HTTP/2.0", HeadError::VersionUnsupported),
        ("GET / HTTP/1.1\r", HeadError::LineEnd),
        ("\r\nGET", HeadError::Method),
        ("\r\n\r\nGET / HTTP/1.1", HeadError::Method),
    ] {
        assert_eq!(refused(format!("{line}\r\nHost: a\r\n\r\n")), error, "{line:?}");
    }
    assert_eq!(HeadError::VersionUnsupported.told().0, 505);
    for (line, version) in [
        ("GET / HTTP/1.0", Version::HTTP_10),
        ("GET / HTTP/1.1", Version::HTTP_11),
        ("GET / HTTP/1.2", Version::HTTP_11),
        ("GET / HTTP/1.9", Version::HTTP_11),
    ] {
        assert_eq!(accepted(format!("{line}\r\nHost: a\r\n\r\n")).version, version, "{line:?}");
    }
}

#[test]
fn rfc9112_2_2_one_empty_line_before_the_request_is_ignored() {
    let request = with("");
    assert_eq!(accepted(format!("\r\n{request}")).bytes, request.len() + 2);
    for (start, error) in [
        ("\r\n\r\n", HeadError::Method),
        ("\n", HeadError::LineEnd),
        ("\r\r\n", HeadError::LineEnd),
        ("\r\n\n", HeadError::LineEnd),
        (" \r\n", HeadError::Method),
    ] {
        assert_eq!(refused(format!("{start}{request}")), error, "{start:?}");
    }
}

#[test]
fn rfc9112_2_2_a_octets_are_not_decoded_before_they_are_framed() {
    // 0x0D0A and 0x0A hidden in what other encodings make of them end nothing, and invalid UTF-8 is field text.
    let said = accepted(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: \xc4\x8a\xe5\x98\x8a\xff\xfe\x80\r\n\r\n");
    assert_eq!(said.cookies, [b"\xc4\x8a\xe5\x98\x8a\xff\xfe\x80"]);
    assert_eq!(refused(b"GET /\xc4\x8a HTTP/1.1\r\nHost: a\r\n\r\n"), HeadError::Target);
    assert_eq!(refused(b"GET / HTTP/1.1\r\nHost\xc4\x8d: a\r\n\r\n"), HeadError::FieldName);
}

#[test]
fn rfc9112_2_2_c_bare_cr_is_refused_everywhere() {
    let request = with("Cookie: oc=1\r\nX-A: b\r\n");
    for at in 1..request.len() {
        let mut bytes = request.clone().into_bytes();
        bytes.insert(at, b'\r');
        assert_eq!(refused(&bytes).told().0, 400, "at {at}");
    }
    assert_eq!(refused(with("X: a\rb\r\n")), HeadError::LineEnd);
    assert_eq!(refused(with("X: a\r\r\n")), HeadError::LineEnd);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\n\rX"), HeadError::LineEnd);
}

#[test]
fn bare_lf_is_refused_everywhere() {
    let request = with("Cookie: oc=1\r\nX-A: b\r\n");
    for at in 0..=request.len() - 2 {
        let mut bytes = request.clone().into_bytes();
        bytes.insert(at, b'\n');
        let is_inside_line_end = at > 0 && bytes[at - 1] == b'\r';
        assert_eq!(refused(&bytes).told().0, 400, "at {at}");
        if !is_inside_line_end {
            assert_eq!(refused(&bytes), HeadError::LineEnd, "at {at}");
        }
    }
    assert_eq!(refused(request.replace("\r\n", "\n")), HeadError::LineEnd);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\n\n"), HeadError::LineEnd);
    assert_eq!(refused("GET /\n"), HeadError::LineEnd);
}

#[test]
fn rfc9112_2_2_e_whitespace_before_the_first_field_is_refused() {
    for space in [" ", "\t", " \t"] {
        let text = format!("GET / HTTP/1.1\r\n{space}X: y\r\nHost: a\r\n\r\n");
        assert_eq!(refused(text), HeadError::LeadingWhitespace);
        assert_eq!(refused(format!("GET / HTTP/1.1\r\n{space}\r\nHost: a\r\n\r\n")), HeadError::LeadingWhitespace);
    }
}

#[test]
fn rfc9112_3_a_a_request_line_too_long_is_414() {
    let line = |bytes: usize| format!("GET /{} HTTP/1.1\r\n", "a".repeat(bytes - "GET / HTTP/1.1\r\n".len()));
    assert_eq!(accepted(line(REQUEST_LINE_BYTES_MAX) + "Host: a\r\n\r\n").path.len(), REQUEST_LINE_BYTES_MAX - 15);
    let spaced = format!("\r\n{}Host: a\r\n\r\n", line(REQUEST_LINE_BYTES_MAX));
    assert_eq!(accepted(spaced).path.len(), REQUEST_LINE_BYTES_MAX - 15);
    for long in [line(REQUEST_LINE_BYTES_MAX + 1), line(20_000), "M".repeat(REQUEST_LINE_BYTES_MAX)] {
        assert_eq!(refused(&long), HeadError::RequestLineTooLong);
    }
    assert_eq!(HeadError::RequestLineTooLong.told().0, 414);
    assert_eq!(outcome(&line(REQUEST_LINE_BYTES_MAX + 1)[..REQUEST_LINE_BYTES_MAX - 1]), Ok(None));
    assert_eq!(refused(&line(20_000)[..REQUEST_LINE_BYTES_MAX]), HeadError::RequestLineTooLong, "not only at its end");
}

#[test]
fn heads_beyond_their_limits_are_431_as_soon_as_known() {
    let filler = |bytes: usize| format!("X: {}\r\n", "y".repeat(bytes - 5));
    let rest = HEAD_BYTES_MAX - with("").len();
    assert_eq!(accepted(with(&filler(rest))).bytes, HEAD_BYTES_MAX);
    assert_eq!(refused(with(&filler(rest + 1))), HeadError::HeadTooLong);
    assert_eq!(refused(&with(&filler(20_000))[..HEAD_BYTES_MAX]), HeadError::HeadTooLong);
    assert_eq!(outcome(&with(&filler(20_000))[..HEAD_BYTES_MAX - 1]), Ok(None));
    assert_eq!(refused(with(&"N".repeat(20_000))), HeadError::HeadTooLong);

    assert_eq!(accepted(with(&"X: y\r\n".repeat(HEAD_FIELDS_MAX - 1))).path, "/");
    assert_eq!(refused(with(&"X: y\r\n".repeat(HEAD_FIELDS_MAX))), HeadError::TooManyFields);
    let (long, many) = (HeadError::HeadTooLong.told().0, HeadError::TooManyFields.told().0);
    assert_eq!((long, many), (431, 431));
}

#[test]
fn rfc9112_3_2_a_host_is_there_once_and_valid() {
    assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), HeadError::Host);
    assert_eq!(refused("GET / HTTP/1.2\r\nX: y\r\n\r\n"), HeadError::Host);
    assert_eq!(accepted("GET / HTTP/1.0\r\n\r\n").host, None);
    assert_eq!(refused(with("Host: a\r\n")), HeadError::Host);
    assert_eq!(refused(with("hOST: b\r\n")), HeadError::Host);
    assert_eq!(refused("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), HeadError::Host);
    for host in
        ["", " ", "a b", "a,b c", "a/b", "u@a", "a:b", "a:99999", ":80", "[::1", "http://a", "a?", "a#", "\u{e9}"]
    {
        for version in ["1.1", "1.0"] {
            assert_eq!(refused(format!("GET / HTTP/{version}\r\nHost: {host}\r\n\r\n")), HeadError::Host, "{host:?}");
        }
    }
    for host in ["a", "a.example", "a:80", "a:", "127.0.0.1", "[::1]:8080"] {
        let said = accepted(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(said.host.as_deref(), Some(host.as_bytes()));
    }
}

#[test]
fn rfc9112_3_2_1_origin_form_has_only_what_a_uri_has() {
    for (target, path, query) in [
        ("/", "/", None),
        ("/a/b", "/a/b", None),
        ("//a", "//a", None),
        ("/?", "/", Some("")),
        ("/a?b?c/", "/a", Some("b?c/")),
        ("/%41%e4?%7F", "/%41%e4", Some("%7F")),
        ("/-._~!$&'()*+,;=:@", "/-._~!$&'()*+,;=:@", None),
        ("/http://b/", "/http://b/", None),
    ] {
        let said = accepted(to(target));
        assert_eq!((said.path.as_str(), said.query.as_deref(), said.is_https), (path, query, None), "{target}");
    }
    for target in [
        "/a#b", "/#", "/a\u{7f}", "/\0", "/\u{1}", "/é", "/a\"b", "/<", "/>", "/\\", "/^", "/`", "/{", "/|", "/}",
        "/[", "/?]", "/%", "/%4", "/%zz", "/%4g", "/?%", "a", "?a", "a/b", "a:80", "..", "@", "%2f",
    ] {
        assert_eq!(refused(to(target)), HeadError::Target, "{target:?}");
    }
    assert_eq!(refused("GET /%z"), HeadError::Target, "at the byte that proves it");
    assert_eq!(outcome("GET /%4"), Ok(None));
}

#[test]
fn rfc9112_3_2_2_b_absolute_form_is_accepted() {
    for (target, path, query, is_https) in [
        ("http://b", "/", None, false),
        ("http://b/", "/", None, false),
        ("HTTPS://b/c?d", "/c", Some("d"), true),
        ("http://b?d", "/", Some("d"), false),
        ("http://b:80/c://d", "/c://d", None, false),
        ("http://[::1]:80/c", "/c", None, false),
    ] {
        let said = accepted(to(target));
        assert_eq!((said.path.as_str(), said.query.as_deref()), (path, query), "{target}");
        assert_eq!(said.is_https, Some(is_https));
    }
    for target in [
        "http://",
        "http:///a",
        "http://u@b/",
        "http://u:p@b/",
        "http:/b",
        "http:b",
        "ftp://b/",
        "://b",
        "http://b:x/",
        "http://b[/",
        "http://b/[",
        "http://b/?[",
        "http://[::1/",
        "http://?a",
        "http://b#",
        "*http://b/",
        "https//b",
    ] {
        assert_eq!(refused(to(target)), HeadError::Target, "{target:?}");
    }
}

#[test]
fn rfc9112_3_2_2_a_the_host_of_an_absolute_target_replaces_host() {
    for host in ["a", "", "b:80"] {
        let said = accepted(format!("GET http://b:80/ HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(said.host.as_deref(), Some(b"b:80".as_slice()));
    }
    assert_eq!(accepted("GET http://b/ HTTP/1.0\r\n\r\n").host.as_deref(), Some(b"b".as_slice()));
    assert_eq!(refused("GET http://b/ HTTP/1.1\r\n\r\n"), HeadError::Host, "one without Host is refused all the same");
    assert_eq!(refused("GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n"), HeadError::Host);
}

#[test]
fn rfc9112_3_2_3_and_4_authority_and_asterisk_forms_have_their_methods() {
    let line = |line: &str| format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(accepted(line("OPTIONS *")).path, "*");
    assert_eq!(accepted(line("OPTIONS http://b")).path, "*");
    assert_eq!(accepted(line("OPTIONS http://b/")).path, "/");
    assert_eq!(accepted(line("OPTIONS /a")).path, "/a");
    let connect = accepted(line("CONNECT b:443"));
    assert_eq!((connect.method, connect.path.as_str()), (Method::Connect, ""));
    assert_eq!(connect.host.as_deref(), Some(b"b:443".as_slice()));
    for bad in [
        "GET *",
        "POST *",
        "OPTIONS **",
        "OPTIONS *?a",
        "OPTIONS */",
        "CONNECT /",
        "CONNECT b",
        "CONNECT b:",
        "CONNECT *",
        "CONNECT http://b:80",
        "CONNECT :80",
        "CONNECT b:80/",
        "CONNECT u@b:80",
        "GET b:443",
        "CONNECT [::1]",
    ] {
        assert_eq!(refused(line(bad)), HeadError::Target, "{bad}");
    }
}

#[test]
fn rfc9112_5_1_a_a_name_is_a_token_right_before_its_colon() {
    for line in [
        "X : y",
        "X\t: y",
        "X y: z",
        "X",
        ": y",
        "X\0: y",
        "X\u{7f}: y",
        "X(: y",
        "X\u{e9}: y",
        "\"X\": y",
        "X;: y",
        "[X]: y",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "Host : a",
        "{}: a",
        "X=y",
    ] {
        assert_eq!(refused(with(&format!("{line}\r\n"))), HeadError::FieldName, "{line:?}");
    }
    accepted(with("!#$%&'*+-.^_`|~09aZ: y\r\n"));
}

#[test]
fn rfc9112_5_2_b_folded_lines_are_refused() {
    for fields in
        ["X: a\r\n b\r\n", "X: a\r\n\tb\r\n", "X:\r\n b\r\n", "X: a\r\n \r\n", "Transfer-Encoding:\r\n chunked\r\n"]
    {
        assert_eq!(refused(with(fields)), HeadError::LeadingWhitespace, "{fields:?}");
    }
}

#[test]
fn field_values_hold_no_controls() {
    for byte in 0..=255_u8 {
        let mut bytes = with("").into_bytes();
        let at = bytes.len() - 2;
        bytes.splice(at..at, [b"Cookie: before".as_slice(), &[byte], b"after\r\n"].concat());
        let result = outcome(&bytes);
        match byte {
            b'\r' | b'\n' => assert_eq!(result, Err(HeadError::LineEnd)),
            b'\t' | 0x20..=0x7e | 0x80..=0xff => assert!(matches!(result, Ok(Some(_))), "byte {byte}"),
            _ => assert_eq!(result, Err(HeadError::FieldValue), "byte {byte}"),
        }
    }
}

#[test]
fn singletons_come_once_and_lists_as_often_as_they_like() {
    for name in ["Authorization", "Content-Type", "Origin", "Range", "If-Range", "Sec-Fetch-Site"] {
        assert_eq!(refused(with(&format!("{name}: a\r\n{name}: a\r\n"))), HeadError::RepeatedField, "{name}");
    }
    let text =
        with("Accept-Encoding: br\r\nX: y\r\naccept-encoding:\r\nACCEPT-ENCODING: gzip \r\nAccept-Language: en\r\n");
    let head = parse(text.as_bytes()).unwrap().unwrap();
    let all = |field| head.all(field).map(|value| str::from_utf8(value).unwrap()).collect::<Vec<_>>();
    assert_eq!(all(Field::AcceptEncoding), ["br", "", "gzip"]);
    assert_eq!(all(Field::AcceptLanguage), ["en"]);
    assert_eq!(all(Field::Cookie), [""; 0]);
    assert_eq!(head.get(Field::AcceptEncoding), Some(b"br".as_slice()));
    assert!(!format!("{head:?}").contains("gzip"), "values stay out of what is logged");
}

#[test]
fn rfc9112_6_1_a_chunked_is_understood() {
    for value in ["chunked", "Chunked", "CHUNKED", " \tchunked\t ", "chunked "] {
        assert_eq!(accepted(with(&format!("Transfer-Encoding:{value}\r\n"))).framing, Framing::Chunked, "{value:?}");
    }
    assert_eq!(accepted(with("")).framing, Framing::None);
    assert_eq!(accepted("POST / HTTP/1.1\r\nHost: a\r\n\r\n").framing, Framing::None);
}

#[test]
fn rfc9112_6_1_h_length_and_encoding_together_are_refused() {
    for (first, second) in
        [("Content-Length: 5", "Transfer-Encoding: chunked"), ("Content-Length: 0", "transfer-encoding: x")]
    {
        assert_eq!(refused(with(&format!("{first}\r\n{second}\r\n"))), HeadError::LengthAndEncoding);
        assert_eq!(refused(with(&format!("{second}\r\nX: y\r\n{first}\r\n"))), HeadError::LengthAndEncoding);
    }
}

#[test]
fn rfc9112_6_1_i_encoding_in_http_1_0_is_refused() {
    let text = "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(text), HeadError::TransferEncodingVersion);
}

#[test]
fn rfc9112_6_3_a_encodings_that_do_not_end_in_one_chunked_are_refused() {
    for value in [
        "",
        ",",
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "identity",
        "gzip",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,chunked",
        "chunked,",
        ",chunked",
        "chunked,,",
        "chunked;q=1",
        "chunked; a=b",
        "\"chunked\"",
        "'chunked'",
        "chunked chunked",
        "chunk",
        "chunked\u{a0}",
        "x y, chunked, chunked",
        "(chunked)",
        "chunked;",
        "=chunked",
    ] {
        let error = refused(with(&format!("Transfer-Encoding: {value}\r\n")));
        assert_eq!(error, HeadError::TransferEncoding, "{value:?}");
    }
    for value in ["gzip, chunked", "identity, chunked", "gzip;level=9, chunked", "xchunked,chunked"] {
        let error = refused(with(&format!("Transfer-Encoding: {value}\r\n")));
        assert_eq!((error, error.told().0), (HeadError::TransferCodingUnsupported, 501), "{value:?}");
    }
    for (first, second, error) in [
        ("chunked", "chunked", HeadError::TransferEncoding),
        ("chunked", "identity", HeadError::TransferEncoding),
        ("chunked", "x", HeadError::TransferEncoding),
        ("chunked", "", HeadError::TransferEncoding),
        ("", "chunked", HeadError::TransferEncoding),
        ("gzip", "chunked", HeadError::TransferCodingUnsupported),
    ] {
        let text = with(&format!("Transfer-Encoding: {first}\r\nX: y\r\ntransfer-encoding: {second}\r\n"));
        assert_eq!(refused(text), error, "{first:?} {second:?}");
    }
}

#[test]
fn rfc9112_6_3_b_c_a_content_length_that_is_not_one_number_is_refused() {
    for value in [
        "",
        "+5",
        "-5",
        "5 5",
        "0x5",
        "5,5",
        "5, 5",
        "5,6",
        "5;",
        "5.0",
        "5e0",
        "1_0",
        "\"5\"",
        "five",
        "18446744073709551616",
        "99999999999999999999999999",
        "5\u{a0}",
        "\u{665}",
        "5\t5",
        ",5",
        "5,",
        "0 0",
        "--5",
        "5 \t x",
        "NaN",
        "0b1",
        "5L",
    ] {
        assert_eq!(refused(with(&format!("Content-Length: {value}\r\n"))), HeadError::ContentLength, "{value:?}");
    }
    for (first, second) in [("5", "5"), ("5", "6"), ("0", "5"), ("5", "")] {
        let text = with(&format!("Content-Length: {first}\r\ncontent-length: {second}\r\n"));
        assert_eq!(refused(text), HeadError::ContentLength);
    }
    for (value, length) in [("0", 0), ("5", 5), ("\t 5 ", 5), ("005", 5), ("18446744073709551615", u64::MAX)] {
        assert_eq!(accepted(with(&format!("Content-Length:{value}\r\n"))).framing, Framing::Length(length));
    }
    for near in ["Content-Lengt", "Content_Length", "Content-Lengthx", "X-Content-Length"] {
        assert_eq!(accepted(with(&format!("{near}: 5\r\n"))).framing, Framing::None, "{near} frames nothing");
    }
}

#[test]
fn encodings_hidden_by_characters_are_refused() {
    for lines in [
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: \0chunked",
        "Transfer-Encoding:\u{c}chunked",
        "Transfer-Encoding: chunked\u{7f}",
        "Transfer-Encoding\0: chunked",
        "Transfer-Encoding\r: chunked",
        "Transfer-Encoding\r\n: chunked",
        "Transfer-Encoding\n: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        " Transfer-Encoding: chunked",
        "Transfer Encoding: chunked",
        "Content-Length\0: 5",
        "Content-Length: 5\n",
        "X: y\n\nGET /b HTTP/1.1",
        "\u{feff}Content-Length: 5",
    ] {
        assert_eq!(refused(with(&format!("{lines}\r\n"))).told().0, 400, "{lines:?}");
    }
}

#[test]
fn rfc9112_9_6_a_connection_options_decide_what_persists() {
    for (version, fields, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: te,,\tclose ,\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection: upgrade\r\nUpgrade: h2c\r\n", true),
        ("1.1", "Connection:\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: close, keep-alive\r\n", false),
        ("1.0", "Keep-Alive: 5\r\n", false),
    ] {
        let said = accepted(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(said.keep_alive, expected, "{version} {fields:?}");
    }
}

#[test]
fn rfc9110_10_1_1_only_100_continue_can_be_expected() {
    for (version, fields, expected) in [
        ("1.1", "Content-Length: 5\r\n", Ok(false)),
        ("1.1", "Content-Length: 5\r\nExpect: 100-continue\r\n", Ok(true)),
        ("1.1", "Transfer-Encoding: chunked\r\nExpect: 100-CONTINUE\r\n", Ok(true)),
        ("1.1", "Content-Length: 0\r\nExpect: 100-continue\r\n", Ok(false)),
        ("1.1", "Expect: 100-continue\r\n", Ok(false)),
        ("1.0", "Content-Length: 5\r\nExpect: 100-continue\r\n", Ok(false)),
        ("1.1", "Expect: 200-ok\r\n", Err(HeadError::Expectation)),
        ("1.1", "Expect: 100-continue, x\r\n", Err(HeadError::Expectation)),
        ("1.1", "Expect: 100-continue\r\nExpect: x\r\n", Err(HeadError::Expectation)),
        ("1.1", "Expect: 100-continue;a=b\r\n", Err(HeadError::Expectation)),
    ] {
        let result = outcome(format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(result.map(|said| said.unwrap().expect_continue), expected, "{version} {fields:?}");
    }
    assert_eq!(HeadError::Expectation.told().0, 417);
}
