//! The data codewords of a symbol, as they are written: alphanumeric mode, ISO/IEC 18004 §7.4.4.
//!
//! The values of Base45 are those of this mode, so a code's bytes go straight into both its text and its symbol. What
//! all codes of a key begin and end with is written once: a copy of such a beginning goes on where it stopped, and the
//! correction words of what never changes are folded into one constant. Written by `claims`, read by the painter.

use super::tables::{BLOCK_COUNT, DATA_BYTES};
use crate::code::base45::{self, ALPHABET};
use crate::sys::simd::Row;

/// What a symbol of version 8 at level M holds.
pub const SYMBOL_CHARS_MAX: usize = 221;

/// Eight more bytes, since every write is that wide.
type Data = [u8; DATA_BYTES + 8];

/// A symbol's data.
#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    data: Data,
    end: End,
    /// The bytes that the constants below do not account for: `first..last`.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Correction words of the bytes that are accounted for.
    pub(super) constant: [Row; BLOCK_COUNT],
}

/// Where writing goes on.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Whole bytes written.
    bytes: usize,
    /// Bits of the next one, 0 to 7.
    bits: u32,
    /// What was written last: at least those bits, at its low end.
    recent: u64,
}

impl End {
    /// Appends the low `bits` bits of `value`: at most 56, and no more set.
    #[inline(always)]
    fn push(&mut self, data: &mut Data, value: u64, bits: u32) {
        self.recent = self.recent << bits | value;
        self.bits += bits;
        data[self.bytes..self.bytes + 8].copy_from_slice(&(self.recent << (64 - self.bits)).to_be_bytes());
        self.bytes += self.bits as usize / 8;
        self.bits %= 8;
    }
}

impl Symbol {
    /// A symbol with nothing in it.
    pub const fn blank() -> Symbol {
        Symbol {
            data: [0; DATA_BYTES + 8],
            end: End { bytes: 0, bits: 0, recent: 0 },
            first: 0,
            last: DATA_BYTES,
            constant: [[0; 32]; BLOCK_COUNT],
        }
    }

    /// A symbol that will hold `chars` characters, at most [`SYMBOL_CHARS_MAX`].
    pub fn begin(chars: usize) -> Symbol {
        let mut symbol = Symbol::blank();
        // The mode, and the length in nine bits (tables 2 and 3).
        symbol.end.push(&mut symbol.data, 0b0010 << 9 | chars as u64, 13);
        symbol
    }

    /// Appends characters; an odd number of them only at the end of the symbol. `None` where one is not of the
    /// alphanumeric set. Panics when the symbol is full.
    pub fn push_text(&mut self, text: &[u8]) -> Option<()> {
        let value = |character: u8| base45::value(character).map(u64::from);
        let (pairs, rest) = text.as_chunks::<2>();
        for [first, second] in pairs {
            self.end.push(&mut self.data, 45 * value(*first)? + value(*second)?, 11);
        }
        for last in rest {
            self.end.push(&mut self.data, value(*last)?, 6);
        }
        Some(())
    }

    /// Appends `bytes` in Base45, writes the same characters at the start of `text` and returns how many they are.
    /// An even number of characters must stand before them.
    /// Panics when `text` is shorter than [`base45::encoded_len`] or the symbol full; callers' lengths are constants.
    pub fn push_base45(&mut self, bytes: &[u8], text: &mut [u8]) -> usize {
        let length = base45::encoded_len(bytes.len());
        let (sixes, tail) = text[..length].as_chunks_mut::<6>();
        let (quads, rest) = bytes.as_chunks::<4>();
        let mut end = self.end;
        for ([a, b, c, d], six) in quads.iter().zip(sixes) {
            let [v0, v1, v2] = base45::values([*a, *b]);
            let [v3, v4, v5] = base45::values([*c, *d]);
            *six = [v0, v1, v2, v3, v4, v5].map(|value| ALPHABET[value as usize]);
            let pairs = [45 * v0 + v1, 45 * v2 + v3, 45 * v4 + v5].map(u64::from);
            end.push(&mut self.data, pairs[0] << 22 | pairs[1] << 11 | pairs[2], 33);
        }
        self.end = end;
        base45::encode(rest, tail);
        self.push_text(tail).expect("Base45 is alphanumeric");
        length
    }

    /// Ends the data as §7.4.9 and §7.4.10 say: a terminator, zeros to a whole byte, and the two pad bytes in turn.
    pub fn close(&mut self) {
        // Behind the last write there are zeros.
        let used = (self.end.bytes * 8 + self.end.bits as usize + 4).div_ceil(8).min(DATA_BYTES);
        for (place, byte) in self.data[used..DATA_BYTES].iter_mut().enumerate() {
            *byte = if place % 2 == 0 { 0xec } else { 0x11 };
        }
    }

    /// What all symbols of `chars` characters that go on from here have in common; the rest of their data as zeros.
    pub(super) fn common(&self, chars: usize) -> Symbol {
        let mut common = *self;
        let bits = 13 + chars * 11 / 2 + chars % 2;
        (common.first, common.last) = (self.end.bytes, bits.div_ceil(8));
        (common.end.bytes, common.end.bits) = (bits / 8, (bits % 8) as u32);
        common.data[common.first..].fill(0);
        common.close();
        common
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.data[..DATA_BYTES]
    }
}
