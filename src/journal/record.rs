//! What a record says, and its bytes.
//!
//! A record is a kind byte, then its fields in the order of `kinds!`, integers little-endian and without gaps, flags in
//! one byte, a text as its length in one byte and its UTF-8. There is one encoding of each record: whatever else is found
//! is refused, so what a checksum lets through is a record of ours or an error with a name.
//!
//! Kinds 6 (sampling), 7 (keys) and 8 (devices) are kept for records to come; 0 is a segment's mark and no record.

use strum::IntoStaticStr;
use thiserror::Error;

use crate::limits::{JOURNAL_RECORD_BYTES_MAX, JOURNAL_TEXT_BYTES_MAX};
use crate::words::{ResidentNumber, Status};

/// One accepted write. Times are Unix milliseconds; texts are UTF-8, at most 255 bytes; `author` is the caller's name;
/// what is marked as `test` is about no person.
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
#[allow(missing_docs, reason = "the other names say it")]
pub enum Record<'a> {
    /// A statement about a resident. Whether it stands is decided where it is applied: the newest version does.
    Status {
        resident: ResidentNumber,
        check: u64,
        version: u64,
        status: Status,
        /// The resident is taken out of the registry; `status` says nothing.
        remove: bool,
        test: bool,
        /// GB/T 2260 area; 0 leaves it as it is.
        region: u32,
        at_ms: u64,
        author: &'a str,
        reason: &'a str,
    },
    /// All sessions of a resident below this number are ended.
    Sessions {
        resident: ResidentNumber,
        /// The least session number that is still good.
        session: u32,
        test: bool,
    },
    Scan {
        /// Made by the scanner (or by the server for a scan checked online); the same scan comes with the same id.
        id: [u8; 16],
        at_ms: u64,
        received_ms: u64,
        cti: [u8; 16],
        /// What was decided, as the wire names it.
        result: &'a str,
        place: &'a str,
        /// The device whose token brought it.
        device: &'a str,
        test: bool,
    },
    Audit {
        at_ms: u64,
        author: &'a str,
        action: &'a str,
        /// About what; never an ID number, a session or a token.
        detail: &'a str,
    },
    /// Everything marked as test that was written before this is to be forgotten.
    #[strum(serialize = "purge")]
    PurgeTest { at_ms: u64, author: &'a str },
}

/// Why bytes are no record of this program.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    #[error("a record of kind {0}, which this program does not know: the journal is newer than it")]
    Kind(u8),
    #[error("a record of kind {0} that is not as this program writes it")]
    Malformed(u8),
    #[error("a record without a kind")]
    Empty,
}

/// Makes of each line, `KIND NAME (FLAGS) FIELDS;`, how such a record is written and read: in this order.
macro_rules! kinds {
    ($($kind:literal $name:ident ($($flag:ident)*) $($field:ident)*;)*) => {
        impl<'a> Record<'a> {
            /// Its kind and payload, `JOURNAL_RECORD_BYTES_MAX` bytes at most. Of a longer text the first 255 bytes are kept.
            pub fn encode(&self) -> Box<[u8]> {
                let mut out = Vec::with_capacity(160);
                match *self {
                    $(Record::$name { $($flag,)* $($field),* } => {
                        out.push($kind);
                        <[bool; _]>::put([$($flag),*], &mut out);
                        $($field.put(&mut out);)*
                    })*
                }
                debug_assert!(out.len() <= JOURNAL_RECORD_BYTES_MAX);
                out.into_boxed_slice()
            }

            /// The record of these bytes, all of them, as [`encode`](Self::encode) makes them.
            /// Errors: they are no record, or one of a kind to come.
            pub fn decode(bytes: &'a [u8]) -> Result<Record<'a>, DecodeError> {
                let (&kind, mut payload) = bytes.split_first().ok_or(DecodeError::Empty)?;
                let from = &mut payload;
                let record = match kind {
                    $($kind => (|| {
                        let [$($flag),*]: [bool; _] = Field::take(from)?;
                        $(let $field = Field::take(from)?;)*
                        Some(Record::$name { $($flag,)* $($field),* })
                    })(),)*
                    _ => return Err(DecodeError::Kind(kind)),
                };
                record.filter(|_| payload.is_empty()).ok_or(DecodeError::Malformed(kind))
            }
        }
    };
}

kinds! {
    1 Status (test remove) status resident check version region at_ms author reason;
    2 Sessions (test) resident session;
    3 Scan (test) id at_ms received_ms cti result place device;
    4 Audit () at_ms author action detail;
    5 PurgeTest () at_ms author;
}

impl Record<'_> {
    /// Whether it speaks of test data only.
    pub fn is_test(&self) -> bool {
        match *self {
            Record::Status { test, .. } | Record::Sessions { test, .. } | Record::Scan { test, .. } => test,
            Record::Audit { .. } | Record::PurgeTest { .. } => false,
        }
    }
}

/// What a record is put together from.
trait Field<'a>: Sized {
    fn put(self, out: &mut Vec<u8>);

    /// Takes it from the front of what is left of a payload, if it is there.
    fn take(from: &mut &'a [u8]) -> Option<Self>;
}

/// Fields that are bytes in another form: how they become those, and of which they are made.
macro_rules! fields {
    ($($field:ty, $to:expr, $of:expr;)*) => { $(
        impl Field<'_> for $field {
            fn put(self, out: &mut Vec<u8>) {
                out.extend($to(self));
            }

            fn take(from: &mut &[u8]) -> Option<$field> {
                let (bytes, rest) = from.split_first_chunk()?;
                *from = rest;
                $of(*bytes)
            }
        }
    )* };
}

fields! {
    [u8; 16], |bytes| bytes, Some;
    u32, u32::to_le_bytes, |bytes| Some(u32::from_le_bytes(bytes));
    u64, u64::to_le_bytes, |bytes| Some(u64::from_le_bytes(bytes));
    ResidentNumber, |own: ResidentNumber| own.0.to_le_bytes(), |bytes| Some(ResidentNumber(u64::from_le_bytes(bytes)));
    Status, |own| [own as u8], |[status]: [u8; 1]| Status::from_repr(status);
}

/// Flags from the lowest bit on; no byte where a kind has none.
impl<const N: usize> Field<'_> for [bool; N] {
    fn put(self, out: &mut Vec<u8>) {
        out.extend(self.iter().rev().copied().map(u8::from).reduce(|flags, flag| flags << 1 | flag));
    }

    fn take(from: &mut &[u8]) -> Option<[bool; N]> {
        let flags = if N == 0 { 0 } else { *from.split_off_first()? };
        (flags >> N == 0).then(|| std::array::from_fn(|bit| flags >> bit & 1 == 1))
    }
}

impl<'a> Field<'a> for &'a str {
    fn put(self, out: &mut Vec<u8>) {
        let text = &self[..self.floor_char_boundary(JOURNAL_TEXT_BYTES_MAX)];
        out.push(text.len() as u8);
        out.extend(text.as_bytes());
    }

    fn take(from: &mut &'a [u8]) -> Option<&'a str> {
        let length = *from.split_off_first()?;
        std::str::from_utf8(from.split_off(..usize::from(length))?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one_of_each<'a>(text: &'a str, word: u64, test: bool) -> [Record<'a>; 5] {
        let bytes: [u8; 16] = std::array::from_fn(|at| word.rotate_left(at as u32) as u8);
        let resident = ResidentNumber(word);
        [
            Record::Status {
                resident,
                check: !word,
                version: word / 3,
                status: Status::from_claim(word % 4),
                remove: word.is_multiple_of(2),
                test,
                region: word as u32,
                at_ms: word / 7,
                author: text,
                reason: "",
            },
            Record::Sessions { resident, session: word as u32, test },
            Record::Scan {
                id: bytes,
                at_ms: word,
                received_ms: word / 5,
                cti: bytes,
                result: "valid",
                place: text,
                device: text,
                test,
            },
            Record::Audit { at_ms: word, author: text, action: "", detail: text },
            Record::PurgeTest { at_ms: word, author: text },
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in "\\PC{0,60}", word: u64, test: bool) {
            for record in one_of_each(&text, word, test) {
                let bytes = record.encode();
                prop_assert!(bytes.len() <= JOURNAL_RECORD_BYTES_MAX);
                prop_assert_eq!(Record::decode(&bytes), Ok(record));
                prop_assert_eq!(record.is_test(), test && bytes[0] <= 3);
            }
        }

        #[test]
        fn each_pattern_is_one_record_or_refused(kind in 0u8..9, tail in prop::collection::vec(any::<u8>(), 0..120)) {
            let bytes: Vec<u8> = std::iter::once(kind).chain(tail).collect();
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(&*record.encode(), &*bytes);
            }
        }

        #[test]
        fn each_flipped_bit_is_another_record_or_refused(word: u64, bit: usize) {
            for record in one_of_each("Xi'an 西安", word, false) {
                let mut bytes = record.encode();
                let bit = bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                if let Ok(found) = Record::decode(&bytes) {
                    prop_assert_ne!(found, record);
                    prop_assert_eq!(found.encode(), bytes);
                }
            }
        }
    }

    #[test]
    fn a_cut_or_lengthened_record_is_refused() {
        for record in one_of_each("door 7", 12_345, true) {
            let bytes = record.encode();
            for length in 1..bytes.len() {
                assert_eq!(
                    Record::decode(&bytes[..length]),
                    Err(DecodeError::Malformed(bytes[0])),
                    "{record:?} {length}"
                );
            }
            let longer = [&*bytes, &[0]].concat();
            assert_eq!(Record::decode(&longer), Err(DecodeError::Malformed(bytes[0])));
        }
        assert_eq!(Record::decode(&[]), Err(DecodeError::Empty));
    }

    #[test]
    fn kinds_to_come_are_named() {
        for kind in [0, 6, 7, 8, 255] {
            let error = Record::decode(&[kind, 1, 2]).unwrap_err();
            assert_eq!(error, DecodeError::Kind(kind));
            assert!(error.to_string().contains("newer"), "{error}");
        }
    }

    #[test]
    fn fields_out_of_range_are_refused() {
        let bytes = one_of_each("a", 8, false)[0].encode();
        for (at, value) in [(1, 4), (2, 4), (40, 0xff)] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            assert_eq!(Record::decode(&bytes), Err(DecodeError::Malformed(1)), "byte {at}");
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let long = "安".repeat(100);
        let bytes = Record::PurgeTest { at_ms: 1, author: &long }.encode();
        assert_eq!(Record::decode(&bytes), Ok(Record::PurgeTest { at_ms: 1, author: &"安".repeat(85) }));
        let longest = "x".repeat(300);
        for record in one_of_each(&longest, 3, true) {
            assert!(record.encode().len() <= JOURNAL_RECORD_BYTES_MAX);
        }
    }
}
