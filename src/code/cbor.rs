//! Reads deterministic CBOR (RFC 8949 §4.2.1), and nothing else: definite lengths, shortest heads, map keys in bytewise
//! order and so never twice, bounded depth.
//!
//! Each value has exactly one encoding here, so that a code of ours cannot be rewritten without being refused. It
//! borrows, allocates nothing, and its work is bounded by the length of the input: every item consumes at least one
//! byte. Floating-point numbers are refused because nothing of ours has one. Called by `verify`.

use thiserror::Error;

/// How deep items may nest: a code needs 2, and the bound keeps recursion off a stranger's stack.
const DEPTH_MAX: u8 = 8;

const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
/// Its argument is how many items follow.
pub(super) const ARRAY: u8 = 4;
/// Its argument is how many pairs follow, to be read by [`Decoder::key`] and a reader for each value.
pub(super) const MAP: u8 = 5;
/// Its argument is the tag number; the tagged item follows.
pub(super) const TAG: u8 = 6;
const SIMPLE: u8 = 7;

/// A place in a byte string from which items are read in order.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    /// How deep items may still nest.
    depth: u8,
}

impl<'a> Decoder<'a> {
    /// A decoder at the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { rest: bytes, depth: DEPTH_MAX }
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// Another kind of item, or a malformed one; so for every reader below.
    pub fn uint(&mut self) -> Result<u64, CborError> {
        self.argument(UINT)
    }

    /// An integer of either sign that fits `i64`.
    pub fn int(&mut self) -> Result<i64, CborError> {
        let (major, argument) = self.head()?;
        let value = i64::try_from(argument).map_err(|_| CborError::Range)?;
        match major {
            UINT => Ok(value),
            NEGATIVE => Ok(-1 - value),
            _ => Err(CborError::Kind),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        let length = self.argument(BYTES)?;
        self.take(length)
    }

    /// A text string.
    pub fn text(&mut self) -> Result<&'a str, CborError> {
        let length = self.argument(TEXT)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| CborError::Text)
    }

    /// A map key, as its encoded bytes. `previous` holds the key before it in the same map, and is empty at first.
    ///
    /// # Errors
    /// A key that does not follow `previous` in bytewise order: out of order, or there twice.
    pub fn key(&mut self, previous: &mut &'a [u8]) -> Result<&'a [u8], CborError> {
        let before = self.rest;
        self.skip()?;
        let key = &before[..before.len() - self.rest.len()];
        if key <= *previous {
            return Err(CborError::KeyOrder);
        }
        *previous = key;
        Ok(key)
    }

    /// Passes over one item of any kind, checking it as strictly as if it were wanted.
    pub fn skip(&mut self) -> Result<(), CborError> {
        self.depth = self.depth.checked_sub(1).ok_or(CborError::Depth)?;
        let start = self.rest;
        let (major, argument) = self.head()?;
        match major {
            UINT | NEGATIVE => {}
            BYTES => drop(self.take(argument)?),
            TEXT => {
                self.rest = start;
                self.text()?;
            }
            ARRAY => {
                for _ in 0..argument {
                    self.skip()?;
                }
            }
            MAP => {
                let mut previous: &[u8] = &[];
                for _ in 0..argument {
                    self.key(&mut previous)?;
                    self.skip()?;
                }
            }
            TAG => self.skip()?,
            // RFC 8949 §3.3: 20 false, 21 true, 22 null; a head of more than one byte here is a float or unassigned.
            _ if (20..=22).contains(&argument) && start.len() - self.rest.len() == 1 => {}
            _ => return Err(CborError::Kind),
        }
        self.depth += 1;
        Ok(())
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<(), CborError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CborError::Trailing) }
    }

    /// The argument of an item of this major type.
    pub(super) fn argument(&mut self, wanted: u8) -> Result<u64, CborError> {
        match self.head()? {
            (major, argument) if major == wanted => Ok(argument),
            _ => Err(CborError::Kind),
        }
    }

    /// Major type and argument, which must be in its shortest form.
    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let (&first, rest) = self.rest.split_first().ok_or(CborError::Short)?;
        self.rest = rest;
        let (major, information) = (first >> 5, first & 0x1f);
        // The least value that needs each width; a smaller one has a shorter form (RFC 8949 §4.2.1).
        let (width, least) = match information {
            0..=23 => return Ok((major, u64::from(information))),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err(CborError::Head),
        };
        let argument = self.take(width)?.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        if argument < least && major != SIMPLE {
            return Err(CborError::NotShortest);
        }
        Ok((major, argument))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], CborError> {
        let length = usize::try_from(length).map_err(|_| CborError::Short)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CborError::Short)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Why bytes are not the deterministic CBOR that was expected.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CborError {
    #[error("the input ends inside an item")]
    Short,
    /// Or of a kind we never use.
    #[error("an item of another kind than expected")]
    Kind,
    #[error("an indefinite length or a reserved head")]
    Head,
    #[error("a number that has a shorter form")]
    NotShortest,
    /// Of `i64`.
    #[error("an integer out of range")]
    Range,
    #[error("a text that is not UTF-8")]
    Text,
    #[error("a map key out of order or there twice")]
    KeyOrder,
    #[error("items nested too deep")]
    Depth,
    #[error("bytes after the last item")]
    Trailing,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn skipped(bytes: &[u8]) -> Result<(), CborError> {
        let mut decoder = Decoder::new(bytes);
        decoder.skip().and_then(|()| decoder.end())
    }

    #[test]
    fn one_encoding_a_value_and_no_other() {
        let table: [(&[u8], Result<(), CborError>); 21] = [
            (&[0x00], Ok(())),
            (&[0x18, 0x18], Ok(())),
            (&[0x18, 0x17], Err(CborError::NotShortest)),
            (&[0x19, 0x00, 0xff], Err(CborError::NotShortest)),
            (&[0x1a, 0, 0, 0xff, 0xff], Err(CborError::NotShortest)),
            (&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], Err(CborError::NotShortest)),
            (&[0x58, 0x01, 0x00], Err(CborError::NotShortest)),
            (&[0x5f, 0x41, 0x00, 0xff], Err(CborError::Head)),
            (&[0xbf, 0xff], Err(CborError::Head)),
            (&[0x1c], Err(CborError::Head)),
            (&[0xf4], Ok(())),
            (&[0xf8, 0x14], Err(CborError::Kind)),
            (&[0xf9, 0x00, 0x00], Err(CborError::Kind)),
            (&[0xa2, 0x01, 0x00, 0x20, 0x00], Ok(())),
            (&[0xa2, 0x20, 0x00, 0x01, 0x00], Err(CborError::KeyOrder)),
            (&[0xa2, 0x01, 0x00, 0x01, 0x00], Err(CborError::KeyOrder)),
            (&[0x61, 0xff], Err(CborError::Text)),
            (&[0x42, 0x00], Err(CborError::Short)),
            (&[0x00, 0x00], Err(CborError::Trailing)),
            (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Err(CborError::Short)),
            (&[], Err(CborError::Short)),
        ];
        for (bytes, expected) in table {
            assert_eq!(skipped(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert_eq!(skipped(&[0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x00]), Ok(()));
        assert_eq!(skipped(&[0x81; 4096]), Err(CborError::Depth));
        assert_eq!(skipped(&[0xc1; 4096]), Err(CborError::Depth));
    }

    #[test]
    fn integers_reach_both_ends_of_their_range() {
        assert_eq!(Decoder::new(&[0x3a, 0, 1, 0, 0]).int(), Ok(-65_537));
        assert_eq!(Decoder::new(&[0x3b, 0x7f, 255, 255, 255, 255, 255, 255, 255]).int(), Ok(i64::MIN));
        assert_eq!(Decoder::new(&[0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0]).int(), Err(CborError::Range));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = skipped(&bytes);
        }
    }
}
