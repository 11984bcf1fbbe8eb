//! What a service reads out of a valid head: cookies, the bearer token, query parameters, `If-None-Match`, one range.
//!
//! Never allocates and never decodes: a value that is not written in its plain form is another value, which its reader
//! does not know. What is malformed counts as absent, because each of these asks for something that may be declined.

use super::field::Field;
use super::grammar::{SP, members, position_of};
use super::head::{Head, Method};

/// The host that a request is for, without its port and the brackets of an IP literal; empty where none is named.
pub fn host<'b>(head: &Head<'b>) -> &'b str {
    let authority = str::from_utf8(head.get(Field::Host).unwrap_or_default()).unwrap_or_default();
    let literal = authority.strip_prefix('[').and_then(|literal| literal.split_once(']'));
    literal.or_else(|| authority.split_once(':')).map_or(authority, |(host, _)| host)
}

/// The value of the cookie `name` at `place` among those of that name, from 0, over all Cookie lines in order, as it
/// was sent: quotes are part of it. Names match exactly, case included. A browser sends one for each path and domain it
/// was set for, and servers should not rely on their order (RFC 6265 §4.2.2).
pub fn cookie<'b>(head: &Head<'b>, name: &str, place: usize) -> Option<&'b [u8]> {
    let mut before = place;
    head.all(Field::Cookie).find_map(|mut line| {
        loop {
            let end = position_of(line, b';');
            let value = line[..end].trim_ascii().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            match value {
                Some(_) if before == 0 => return value,
                Some(_) => before -= 1,
                None => {}
            }
            line = line.get(end + 1..)?;
        }
    })
}

/// The token of `Authorization: Bearer …` (RFC 6750 §2.1, with the scheme in any case by RFC 9110 §11.1); `None` for
/// another scheme. Whether it is a token is for its owner to say, whose grammar is narrower than `b64token`.
pub fn bearer<'b>(head: &Head<'b>) -> Option<&'b [u8]> {
    let (scheme, rest) = head.get(Field::Authorization)?.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer") || rest.first() != Some(&SP) {
        return None;
    }
    Some(rest.trim_ascii()).filter(|token| !token.is_empty())
}

/// The value of the first query parameter `name`, undecoded; `""` when it has none. Our names and values are plain
/// words, so one that is percent-encoded is unknown to whoever compares it.
pub fn query_parameter<'b>(query: Option<&'b str>, name: &str) -> Option<&'b str> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

/// Whether `If-None-Match` names `etag`, by weak comparison: then a GET or HEAD gets 304 (RFC 9110 §8.8.3.2, §13.1.2).
/// `etag` is a strong tag without a comma, as the answer carries it, quotes included.
pub fn is_none_match(head: &Head<'_>, etag: &str) -> bool {
    let mut tags = head.all(Field::IfNoneMatch).flat_map(members);
    tags.any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

/// What part of a representation is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteRange {
    /// All of it: 200.
    Whole,
    /// From `first` to `last`, both included and inside the representation: 206.
    #[allow(missing_docs, reason = "the line above says it")]
    Part { first: u64, last: u64 },
    /// Nothing that exists: 416 with `Content-Range: bytes */length`.
    Unsatisfiable,
}

/// The one range of bytes a GET asks for, of a representation of `length` bytes with the strong tag `etag`. `Range` is
/// ignored for other methods (RFC 9110 §14.2), when `If-Range` does not hold (§13.1.5: by strong comparison; we send no
/// dates, so a date never holds), when it is malformed, and when it asks for several ranges, which none need serve.
pub fn byte_range(head: &Head<'_>, length: u64, etag: &str) -> ByteRange {
    if head.method != Method::Get {
        return ByteRange::Whole;
    }
    match head.get(Field::IfRange) {
        Some(tag) if tag != etag.as_bytes() => ByteRange::Whole,
        _ => head.get(Field::Range).and_then(|range| one_range(range, length)).unwrap_or(ByteRange::Whole),
    }
}

fn one_range(range: &[u8], length: u64) -> Option<ByteRange> {
    let (unit, set) = str::from_utf8(range).ok()?.split_once('=')?;
    let (first, last) = set.trim_ascii().split_once('-').filter(|_| unit.eq_ignore_ascii_case("bytes"))?;
    let position = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        // One beyond 64 bits is as good as the largest.
        is_number.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = match (first, last) {
        ("", suffix) => (length.saturating_sub(position(suffix)?), u64::MAX),
        (first, "") => (position(first)?, u64::MAX),
        (first, last) => (position(first)?, position(last)?),
    };
    match first {
        _ if first > last => None,
        _ if first < length => Some(ByteRange::Part { first, last: last.min(length - 1) }),
        _ => Some(ByteRange::Unsatisfiable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::parse;

    fn with_head<T>(fields: &str, read: impl FnOnce(&Head<'_>) -> T) -> T {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        read(&parse(text.as_bytes()).unwrap().unwrap())
    }

    #[test]
    fn cookies_match_by_exact_name_in_their_order() {
        for (fields, expected) in [
            ("", &[][..]),
            ("Cookie: oc=1\r\n", &["1"]),
            ("cookie: a=b; oc=1; oc=2\r\n", &["1", "2"]),
            ("Cookie: a=b\r\nX: y\r\nCookie: c=d;oc=3\r\n", &["3"]),
            ("Cookie: oc=1;c=d\r\nX: y\r\nCookie: oc=2\r\n", &["1", "2"]),
            ("Cookie: xoc=1; ocx=2; OC=3; oc\r\n", &[]),
            ("Cookie: __Host-oc=1\r\n", &[]),
            ("Cookie: oc=\"q\"; x\r\n", &["\"q\""]),
            ("Cookie: oc=a=b==\r\n", &["a=b=="]),
            ("Cookie: oc=; oc=1\r\n", &["", "1"]),
            ("Cookie: ;;;\toc=1 ;\r\n", &["1"]),
        ] {
            let expected: Vec<&[u8]> = expected.iter().map(|value| value.as_bytes()).collect();
            with_head(fields, |head| {
                let found: Vec<&[u8]> = (0..).map_while(|place| cookie(head, "oc", place)).collect();
                assert_eq!(found, expected, "{fields:?}");
            });
        }
    }

    #[test]
    fn bearer_takes_what_follows_its_scheme() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bEARER   a-._~+/Z9==", Some("a-._~+/Z9==")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearer a=b", Some("a=b")),
            ("Bearer\ta", None),
            ("Bearerabc", None),
            ("Basic abc", None),
            ("Béarer a", None),
        ] {
            let fields = format!("Authorization: {value}\r\n");
            with_head(&fields, |head| assert_eq!(bearer(head), expected.map(str::as_bytes), "{value:?}"));
        }
        with_head("", |head| assert_eq!(bearer(head), None));
    }

    #[test]
    fn query_parameters_are_compared_undecoded() {
        for (query, expected) in [
            (None, None),
            (Some(""), None),
            (Some("qr=none"), Some("none")),
            (Some("a=b&qr=none&qr=x"), Some("none")),
            (Some("qr"), Some("")),
            (Some("qr=a=b"), Some("a=b")),
            (Some("%71r=none"), None),
            (Some("qr=n%6fne"), Some("n%6fne")),
            (Some("xqr=1&qrx=2"), None),
        ] {
            assert_eq!(query_parameter(query, "qr"), expected, "{query:?}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly_over_the_whole_list() {
        for (fields, expected) in [
            ("", false),
            ("If-None-Match: \"a\"\r\n", true),
            ("If-None-Match: W/\"a\"\r\n", true),
            ("If-None-Match: *\r\n", true),
            ("If-None-Match: \"b\", W/\"c\",, \"a\"\r\n", true),
            ("If-None-Match: \"b\"\r\nIf-None-Match: \"a\"\r\n", true),
            ("If-None-Match: \"b, a\"\r\n", false),
            ("If-None-Match: \"x,\", \"a\"\r\n", true),
            ("If-None-Match: a\r\n", false),
            ("If-None-Match: \"A\"\r\n", false),
            ("If-None-Match: \"a\r\n", false),
            ("If-None-Match: \"b\" \"a\"\r\n", false),
            ("If-None-Match: w/\"a\"\r\n", false),
        ] {
            with_head(fields, |head| assert_eq!(is_none_match(head, "\"a\""), expected, "{fields:?}"));
        }
    }

    #[test]
    fn one_byte_range_is_served_and_others_are_ignored() {
        let part = |first, last| ByteRange::Part { first, last };
        for (value, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("Bytes=2-5", part(2, 5)),
            ("bytes=2-", part(2, 9)),
            ("bytes=2-99999999999999999999999", part(2, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-30", part(0, 9)),
            ("bytes=9-9", part(9, 9)),
            ("bytes=10-", ByteRange::Unsatisfiable),
            ("bytes=99999999999999999999999-", ByteRange::Unsatisfiable),
            ("bytes=-0", ByteRange::Unsatisfiable),
            ("bytes=5-2", ByteRange::Whole),
            ("bytes=0-1,3-4", ByteRange::Whole),
            ("bytes=-", ByteRange::Whole),
            ("bytes=a-b", ByteRange::Whole),
            ("bytes=+1-2", ByteRange::Whole),
            ("lines=0-1", ByteRange::Whole),
            ("bytes", ByteRange::Whole),
        ] {
            let range = format!("Range: {value}\r\n");
            with_head(&range, |head| assert_eq!(byte_range(head, 10, "\"a\""), expected, "{value}"));
            with_head(&format!("{range}If-Range: \"a\"\r\n"), |head| {
                assert_eq!(byte_range(head, 10, "\"a\""), expected, "{value}");
            });
            for condition in ["\"b\"", "W/\"a\"", "Sun, 06 Nov 1994 08:49:37 GMT"] {
                let fields = format!("{range}If-Range: {condition}\r\n");
                with_head(&fields, |head| assert_eq!(byte_range(head, 10, "\"a\""), ByteRange::Whole, "{fields}"));
            }
        }
        with_head("Range: bytes=-1\r\n", |head| assert_eq!(byte_range(head, 0, "\"a\""), ByteRange::Unsatisfiable));
        with_head("Range: bytes=0-\r\n", |head| assert_eq!(byte_range(head, 0, "\"a\""), ByteRange::Unsatisfiable));
    }
}
