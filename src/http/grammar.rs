//! The octet classes of HTTP and the scans over them: token, field text, request-target, host.
//!
//! Owns which byte may stand where (RFC 9110 §5.5 and §5.6, RFC 3986) and how to walk past a run of such bytes
//! quickly in safe Rust. Never decides what a message means.
//!
//! RFC 9112 §2.2 (2.2a): everything here works on octets; nothing is decoded as Unicode before it is framed.

use std::net::Ipv6Addr;

use wide::u8x16;

pub(super) const CR: u8 = b'\r';
pub(super) const LF: u8 = b'\n';
pub(super) const SP: u8 = b' ';
pub(super) const HTAB: u8 = b'\t';

/// `tchar`, RFC 9110 §5.6.2.
static TOKEN: [bool; 256] = class(b"!#$%&'*+-.^_`|~");
/// Octets of a request-target that need no second look: `unreserved`, `sub-delims`, `:`, `@` and `/` of RFC 3986.
/// `?`, `%` and brackets mean something and stop the scan; `#` starts a fragment, which no request-target has.
static TARGET: [bool; 256] = class(b"-._~!$&'()*+,;=:@/");
/// `reg-name` of RFC 3986 without its percent triplets.
static REG_NAME: [bool; 256] = class(b"-._~!$&'()*+,;=");

/// Letters, digits and `also`.
const fn class(also: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < also.len() {
        table[also[index] as usize] = true;
        index += 1;
    }
    table
}

pub(super) fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// Where the run of token octets that starts at `at` ends; the end of `bytes` if nothing stops it.
#[inline(always)]
pub(super) fn token_end(bytes: &[u8], at: usize) -> usize {
    run_end(bytes, at, |octets| alphanumeric(octets) | within(octets, b'-', b'-'), is_token)
}

/// Where the run of plain request-target octets that starts at `at` ends.
pub(super) fn target_end(bytes: &[u8], at: usize) -> usize {
    let usual = |octets| within(octets | u8x16::splat(0x20), b'a', b'z') | within(octets, b'-', b';');
    run_end(bytes, at, usual, |byte| TARGET[usize::from(byte)])
}

/// Where the run of field text that starts at `at` ends: VCHAR, obs-text, SP and HTAB (RFC 9110 §5.5).
#[inline(always)]
pub(super) fn text_end(bytes: &[u8], at: usize) -> usize {
    run_end(bytes, at, |octets| within(octets, 0x20, 0x7e) | within(octets, 0x80, 0xff), is_text)
}

/// Where the first `stop`, neither 0 nor 255, is; the end of `bytes` if there is none.
pub(super) fn position_of(bytes: &[u8], stop: u8) -> usize {
    let before = |octets| within(octets, 0, stop - 1) | within(octets, stop + 1, 0xff);
    run_end(bytes, 0, before, |byte| byte != stop)
}

#[inline(always)]
fn alphanumeric(octets: u8x16) -> u8x16 {
    within(octets | u8x16::splat(0x20), b'a', b'z') | within(octets, b'0', b'9')
}

/// All bits of each octet that lies between two, both included, and none of the others.
#[inline(always)]
fn within(octets: u8x16, first: u8, last: u8) -> u8x16 {
    let above = octets - u8x16::splat(first);
    above.min(u8x16::splat(last - first)).simd_eq(above)
}

/// Where the run of `is_member` octets that starts at `at` ends, sixteen octets a step: `usual` finds members, all but
/// few rare ones. Where it finds none, `is_member` decides; of fewer than sixteen in all, it decides each.
#[inline(always)]
fn run_end(bytes: &[u8], mut at: usize, usual: impl Fn(u8x16) -> u8x16, is_member: impl Fn(u8) -> bool) -> usize {
    loop {
        while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
            let stops = !usual(u8x16::new(*chunk)).to_bitmask() & 0xffff;
            if stops != 0 {
                at += stops.trailing_zeros() as usize;
                break;
            }
            at += 16;
        }
        match bytes.get(at) {
            Some(&byte) if is_member(byte) => at += 1,
            _ => return at,
        }
    }
}

pub(super) fn is_text(byte: u8) -> bool {
    ((byte >= 0x20) & (byte != 0x7f)) | (byte == HTAB)
}

/// The members of a comma-separated list without empty ones, which a recipient ignores (RFC 9110 §5.6.1.2).
/// For lists of tokens only: a comma inside a quoted string would split.
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// A decimal number of digits only; `None` when empty, signed, spaced or beyond 64 bits.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

/// Whether `text` is `uri-host [ ":" port ]` with a host that is not empty (RFC 9110 §7.2, and §4.2.1: an empty
/// host in an http URI is invalid). User information is refused with everything else that is not a host
/// (RFC 9110 §4.2.4), and so is a port beyond 65535.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let (valid, rest) = match text {
        [b'[', inside @ ..] => {
            let Some(close) = inside.iter().position(|&byte| byte == b']') else { return false };
            let literal = str::from_utf8(&inside[..close]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
            (literal.is_some(), &inside[close + 1..])
        }
        _ => {
            let end = position_of(text, b':');
            (end > 0 && is_reg_name(&text[..end]), &text[end..])
        }
    };
    valid
        && match rest {
            [] | [b':'] => true,
            [b':', port @ ..] => decimal(port).is_some_and(|port| port <= u64::from(u16::MAX)),
            _ => false,
        }
}

fn is_reg_name(mut name: &[u8]) -> bool {
    loop {
        let usual = |octets| alphanumeric(octets) | within(octets, b'-', b'.');
        let plain = run_end(name, 0, usual, |byte| REG_NAME[usize::from(byte)]);
        match &name[plain..] {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => name = rest,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_octet_is_found_by_itself_and_in_its_place() {
        for octet in 0..=255_u8 {
            for (first, last) in [(0, 0), (0, 0x1f), (b'a', b'z'), (0x7f, 0x7f), (0x80, 0xff), (0, 0xff)] {
                for place in 0..16 {
                    let mut bytes = [if first == 0 { 0xff } else { 0 }; 16];
                    bytes[place] = octet;
                    let found = within(u8x16::new(bytes), first, last);
                    let rest = if last == 0xff && first == 0 { 0xffff ^ 1 << place } else { 0 };
                    let bit = u32::from((first..=last).contains(&octet)) << place;
                    assert_eq!(found.to_bitmask(), bit | rest, "{octet} in {first}..={last} at {place}");
                    assert_eq!((found | u8x16::splat(0x80)).to_bitmask(), 0xffff);
                }
            }
        }
    }

    #[test]
    fn runs_stop_exactly_at_what_is_not_their_own_at_every_offset() {
        type Run = (fn(&[u8], usize) -> usize, fn(u8) -> bool);
        let runs: [Run; 4] = [
            (token_end, |byte| TOKEN[usize::from(byte)]),
            (target_end, |byte| TARGET[usize::from(byte)]),
            (text_end, |byte| byte == HTAB || (byte >= 0x20 && byte != 0x7f)),
            (|bytes, _| position_of(bytes, b';'), |byte| byte != b';'),
        ];
        for (end_of, is_member) in runs {
            for length in 0..36 {
                for (byte, at) in (0..=255_u8).flat_map(|byte| (0..length).map(move |at| (byte, at))) {
                    for others in [b'a', b'+'] {
                        let mut bytes = vec![others; length];
                        bytes[at] = byte;
                        let expected = if is_member(byte) { length } else { at };
                        assert_eq!(end_of(&bytes, 0), expected, "byte {byte} at {at} of {length}");
                    }
                }
            }
        }
        assert_eq!(text_end(b"\t\t\t\t\t\t\t\t\t\t\r", 1), 10);
        assert_eq!(text_end(b"abc", 3), 3);
        assert_eq!(text_end(b"abc", 9), 9);
    }

    #[test]
    fn tokens_are_the_tchars_of_rfc_9110() {
        for byte in 0..=255_u8 {
            let separator = b"\"(),/:;<=>?@[\\]{} ".contains(&byte);
            assert_eq!(is_token(byte), byte.is_ascii_graphic() && !separator, "byte {byte}");
        }
    }

    #[test]
    fn authorities_are_hosts_with_an_optional_port() {
        for good in ["a", "a.b-c.example", "a:80", "a:", "127.0.0.1:8080", "[::1]", "[::1]:443", "a%2Db", "a_b"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a:b", "a:-1", "a:65536", "a:80:80", "u@a", "a/b", "a b", "[::1", "[::1]x", "[v1.x]", "[]",
            "a%2", "a%zz", "a?b", "a#b", "a\\b", "é", "::1",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn decimals_are_digits_only_and_never_overflow() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"007"), Some(7));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "18446744073709551616", "+5", "-5", "5 5", "0x5", "5,5", "５"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
    }
}
