//! The fields this server reads, and how a name on the wire becomes one of them.
//!
//! Owns the closed list of known fields and which of them may be repeated. A field that is not here is checked for
//! its grammar by the head parser and then forgotten: nobody can act on it by accident.

/// A field the server reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is the field of that name; NAMES has the spelling")]
pub enum Field {
    Host,
    Cookie,
    Authorization,
    Connection,
    ContentLength,
    TransferEncoding,
    ContentType,
    Expect,
    AcceptEncoding,
    AcceptLanguage,
    IfNoneMatch,
    Range,
    IfRange,
    Origin,
    SecFetchSite,
    AccessControlRequestMethod,
    AccessControlRequestHeaders,
    XForwardedFor,
    XForwardedProto,
}

/// How many fields are known.
pub(super) const COUNT: usize = NAMES.len();

/// Every known field with its name in lower case, in the order of the enum.
const NAMES: [(Field, &str); 19] = [
    (Field::Host, "host"),
    (Field::Cookie, "cookie"),
    (Field::Authorization, "authorization"),
    (Field::Connection, "connection"),
    (Field::ContentLength, "content-length"),
    (Field::TransferEncoding, "transfer-encoding"),
    (Field::ContentType, "content-type"),
    (Field::Expect, "expect"),
    (Field::AcceptEncoding, "accept-encoding"),
    (Field::AcceptLanguage, "accept-language"),
    (Field::IfNoneMatch, "if-none-match"),
    (Field::Range, "range"),
    (Field::IfRange, "if-range"),
    (Field::Origin, "origin"),
    (Field::SecFetchSite, "sec-fetch-site"),
    (Field::AccessControlRequestMethod, "access-control-request-method"),
    (Field::AccessControlRequestHeaders, "access-control-request-headers"),
    (Field::XForwardedFor, "x-forwarded-for"),
    (Field::XForwardedProto, "x-forwarded-proto"),
];

impl Field {
    /// The field of a name in any case (RFC 9110 §5.1), if it is a known one. `name` is a token. The length leaves at
    /// most three candidates, each compared at its fixed length, so an unknown name costs next to nothing.
    pub(super) fn of(name: &[u8]) -> Option<Field> {
        match name.len() {
            4 => if_is(name, b"host", Field::Host),
            5 => if_is(name, b"range", Field::Range),
            6 => if_is(name, b"cookie", Field::Cookie)
                .or_else(|| if_is(name, b"origin", Field::Origin))
                .or_else(|| if_is(name, b"expect", Field::Expect)),
            8 => if_is(name, b"if-range", Field::IfRange),
            10 => if_is(name, b"connection", Field::Connection),
            12 => if_is(name, b"content-type", Field::ContentType),
            13 => if_is(name, b"authorization", Field::Authorization)
                .or_else(|| if_is(name, b"if-none-match", Field::IfNoneMatch)),
            14 => if_is(name, b"content-length", Field::ContentLength)
                .or_else(|| if_is(name, b"sec-fetch-site", Field::SecFetchSite)),
            15 => if_is(name, b"accept-encoding", Field::AcceptEncoding)
                .or_else(|| if_is(name, b"accept-language", Field::AcceptLanguage))
                .or_else(|| if_is(name, b"x-forwarded-for", Field::XForwardedFor)),
            17 => if_is(name, b"transfer-encoding", Field::TransferEncoding)
                .or_else(|| if_is(name, b"x-forwarded-proto", Field::XForwardedProto)),
            29 => if_is(name, b"access-control-request-method", Field::AccessControlRequestMethod),
            30 => if_is(name, b"access-control-request-headers", Field::AccessControlRequestHeaders),
            _ => None,
        }
    }

    /// The name in lower case.
    pub const fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// Whether several lines of this field mean one list (RFC 9110 §5.3). Cookie is none by grammar, but several
    /// lines of it are to be read as one (RFC 9113 §8.2.3, for what a gateway from HTTP/2 may pass on).
    pub const fn is_list(self) -> bool {
        !matches!(
            self,
            Field::Host
                | Field::Authorization
                | Field::ContentLength
                | Field::ContentType
                | Field::Range
                | Field::IfRange
                | Field::Origin
                | Field::SecFetchSite
                | Field::AccessControlRequestMethod
        )
    }
}

/// `field` if `name` is `lower` in any case. Setting bit 5 makes lower case of letters and keeps `-`, and no other token
/// octet becomes one of those by it. Compared in words, of which the last overlaps the one before.
#[inline(always)]
fn if_is<const LENGTH: usize>(name: &[u8], lower: &[u8; LENGTH], field: Field) -> Option<Field> {
    let name: &[u8; LENGTH] = name.try_into().ok()?;
    let (mut at, mut differs) = (0, 0);
    while at < LENGTH {
        differs |= if LENGTH < 8 {
            u64::from((u32::from_le_bytes(word(name, at)) | 0x2020_2020) ^ u32::from_le_bytes(word(lower, at)))
        } else {
            (u64::from_le_bytes(word(name, at)) | 0x2020_2020_2020_2020) ^ u64::from_le_bytes(word(lower, at))
        };
        at += if LENGTH < 8 { 4 } else { 8 };
    }
    (differs == 0).then_some(field)
}

/// The word at `at`, or the last one.
#[inline(always)]
fn word<const WIDTH: usize, const LENGTH: usize>(bytes: &[u8; LENGTH], at: usize) -> [u8; WIDTH] {
    let from = at.min(LENGTH - WIDTH);
    std::array::from_fn(|place| bytes[from + place])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for (index, (field, name)) in NAMES.into_iter().enumerate() {
            assert_eq!(field as usize, index, "{name} stands in the order of the enum");
            assert_eq!(Field::of(name.as_bytes()), Some(field), "{name}");
            assert_eq!(Field::of(name.to_ascii_uppercase().as_bytes()), Some(field), "{name}");
            assert_eq!(Field::of(name.replace('-', "_").as_bytes()).is_some(), !name.contains('-'), "{name}");
        }
        for stranger in 0..=255_u8 {
            let is_same = stranger.eq_ignore_ascii_case(&b'k');
            assert_eq!(Field::of(&[b'c', b'o', b'o', stranger, b'i', b'e']).is_some(), is_same, "{stranger}");
        }
        for stranger in ["", "hos", "hosts", "cooki\u{65}s", "content-lengt\x00", "x-forwarded-fof"] {
            assert_eq!(Field::of(stranger.as_bytes()), None, "{stranger}");
        }
    }
}
