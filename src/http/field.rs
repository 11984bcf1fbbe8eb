//! The fields this server reads, and how a name on the wire becomes one of them.
//!
//! Owns the closed list of known fields and which of them may be repeated. A field that is not here is checked for
//! its grammar by the head parser and then forgotten: nobody can act on it by accident.

use strum::EnumCount;

/// Makes [`Field`] and [`Field::of`] of the fields, each at the length of its name. The length leaves at most three
/// candidates, each compared at its fixed length, so an unknown name costs next to nothing.
macro_rules! fields {
    ($($length:literal: $($field:ident $lower:literal),+;)*) => {
        /// A field the server reads.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, EnumCount)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "each is the field of that name")]
        pub enum Field { $($($field,)+)* }

        /// Every known field with its name in lower case, in the order of the enum.
        #[cfg(test)]
        const NAMES: [(Field, &str); Field::COUNT] = [$($((Field::$field, $lower),)+)*];

        impl Field {
            /// The field of a name in any case (RFC 9110 §5.1), if it is a known one. `name` is a token.
            pub(super) fn of(name: &[u8]) -> Option<Field> {
                match name.len() {
                    $($length => None$(.or_else(|| if_is::<$length>(name, $lower, Field::$field)))+,)*
                    _ => None,
                }
            }
        }
    };
}

fields! {
    4: Host "host";
    5: Range "range";
    6: Cookie "cookie", Origin "origin", Expect "expect";
    8: IfRange "if-range";
    10: Connection "connection";
    12: ContentType "content-type";
    13: Authorization "authorization", IfNoneMatch "if-none-match";
    14: ContentLength "content-length", SecFetchSite "sec-fetch-site";
    15: AcceptEncoding "accept-encoding", AcceptLanguage "accept-language", XForwardedFor "x-forwarded-for";
    17: TransferEncoding "transfer-encoding", XForwardedProto "x-forwarded-proto";
}

impl Field {
    /// The name in lower case.
    #[cfg(test)]
    pub const fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// Whether several lines of this field mean one list (RFC 9110 §5.3). Cookie is none by grammar, but several
    /// lines of it are to be read as one (RFC 9113 §8.2.3, for what a gateway from HTTP/2 may pass on).
    pub const fn is_list(self) -> bool {
        use Field::{Authorization, ContentLength, ContentType, Host, IfRange, Origin, Range, SecFetchSite};
        !matches!(self, Host | Authorization | ContentLength | ContentType | Range | IfRange | Origin | SecFetchSite)
    }
}

/// `field` if `name` is `lower` in any case. Setting bit 5 makes lower case of letters and keeps `-`, and no other token
/// octet becomes one of those by it. Compared in words, of which the last overlaps the one before.
#[inline(always)]
fn if_is<const LENGTH: usize>(name: &[u8], lower: &str, field: Field) -> Option<Field> {
    let (name, lower): (&[u8; LENGTH], &[u8; LENGTH]) = (name.try_into().ok()?, lower.as_bytes().try_into().ok()?);
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
