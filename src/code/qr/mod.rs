//! The QR symbol of a code: version 8, level M, one mask, in alphanumeric mode.
//!
//! It owns the choice of version and mask, the data of a symbol ([`Symbol`]), its picture ([`Painter`], [`Matrix`]) and
//! the forms for print. A painted matrix is 301 bytes, row by row, and the very one that the `qrcode` crate draws, but
//! no Reed-Solomon division, no placing and no scoring of masks runs for it: see `tables`.
//!
//! Version 8 is fixed: the shortest issuer name makes 192 characters, and version 7 holds 178 (ISO/IEC 18004 table 7).

mod print;
mod symbol;
mod tables;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qrcode::canvas::MaskPattern;

pub use self::print::{png, svg};
pub use self::symbol::{SYMBOL_CHARS_MAX, Symbol};
use self::tables::{BLOCK_COUNT, BLOCKS, CORRECTION_BYTES, DATA_BYTES, TABLES, Tables};
use crate::sys::simd::{Level, PICKED_BYTES};

/// Modules on a side.
pub const SIZE: usize = 49;
/// Bytes of a matrix: its modules as bits, without padding between rows.
pub const MATRIX_BYTES: usize = (SIZE * SIZE).div_ceil(8);
/// Characters of a matrix in Base64, with padding.
pub const MATRIX_CHARS: usize = MATRIX_BYTES.div_ceil(3) * 4;

/// One mask for all codes, so that nothing is scored per code and a code has one picture. Of 2,000 codes, each under a
/// key of its own, the scoring of ISO/IEC 18004 §7.8.3 preferred this one for 558, more than any other (the next 502).
/// Readers agree: of 300 codes damaged in 29 ways, `tests/interop/readability.py` read 6,201 of 8,700 pictures under
/// this mask and 6,147 under the one that the scoring chose for each code.
const MASK: MaskPattern = MaskPattern::LargeCheckerboard;

/// The modules of one symbol: row by row, the first module in the most significant bit, 1 for dark.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Matrix {
    /// Invariant: what is no module is 0.
    bits: [u8; PICKED_BYTES],
}

impl Matrix {
    /// A matrix without a symbol.
    pub const fn blank() -> Matrix {
        Matrix { bits: [0; PICKED_BYTES] }
    }

    /// The modules; the last seven bits are none, and 0.
    pub fn bits(&self) -> &[u8; MATRIX_BYTES] {
        self.bits.first_chunk().expect("the vectors' width is not less")
    }

    /// Whether the module in column `x` of row `y` is dark; both from 0 to 48, light outside.
    pub fn is_dark(&self, x: usize, y: usize) -> bool {
        let index = y * SIZE + x;
        x < SIZE && y < SIZE && self.bits[index / 8] & (0x80 >> (index % 8)) != 0
    }

    /// Writes [`Matrix::bits`] in Base64 (RFC 4648 §4).
    pub fn base64(&self, out: &mut [u8; MATRIX_CHARS]) {
        STANDARD.encode_slice(self.bits(), out).expect("the buffer has the length of the encoding");
    }
}

/// Paints symbols.
#[derive(Clone)]
pub struct Painter {
    tables: &'static Tables,
    level: Level,
}

impl Painter {
    /// A painter that uses the instructions of `level`, for tests and benchmarks.
    pub fn at(level: Level) -> Painter {
        Painter { tables: &TABLES, level }
    }

    /// Paints `symbol` into `out`.
    pub fn paint(&self, symbol: &Symbol, out: &mut Matrix) {
        let mut codewords = [0; 256];
        codewords[..DATA_BYTES].copy_from_slice(symbol.data());
        let mut at = DATA_BYTES;
        for block in 0..BLOCK_COUNT {
            let (begin, end) = (symbol.first.max(BLOCKS[block]), symbol.last.min(BLOCKS[block + 1]));
            let mut correction = symbol.constant[block];
            if begin < end {
                let rows = &self.tables.block_rows(block)[begin - BLOCKS[block]..];
                self.level.xor_rows(rows, &symbol.data()[begin..end], &mut correction);
            }
            codewords[at..at + correction.len()].copy_from_slice(&correction);
            at += CORRECTION_BYTES;
        }
        self.level.pick(&self.tables.pick, &codewords, &mut out.bits);
    }

    /// Folds into `symbol`, begun, the correction of all that symbols of `chars` characters from it have in common.
    pub(super) fn settle(&self, symbol: &mut Symbol, chars: usize) {
        let common = symbol.common(chars);
        (symbol.first, symbol.last) = (common.first, common.last);
        for (block, constant) in symbol.constant.iter_mut().enumerate() {
            let data = &common.data()[BLOCKS[block]..BLOCKS[block + 1]];
            self.level.xor_rows(self.tables.block_rows(block), data, constant);
        }
    }
}

/// Makes the tables, once in a process, and chooses this machine's best instructions.
impl Default for Painter {
    fn default() -> Painter {
        Painter::at(Level::best())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::tables::{LEVEL, VERSION};
    use super::*;
    use crate::code::claims::tests::{issued_by_every_length, some_code};
    use proptest::prelude::*;
    use qrcode::Color;
    use qrcode::bits::Bits;
    use qrcode::canvas::Canvas;
    use qrcode::ec::construct_codewords;

    /// The whole symbol of a text; `None` where a character is outside the alphanumeric set.
    pub(in crate::code) fn symbol_of(text: &[u8]) -> Option<Symbol> {
        let mut symbol = Symbol::begin(text.len());
        symbol.push_text(text)?;
        symbol.close();
        Some(symbol)
    }

    /// What the crate draws, step by step.
    fn drawn(text: &[u8]) -> Vec<Color> {
        let mut bits = Bits::new(VERSION);
        bits.push_alphanumeric_data(text).unwrap();
        bits.push_terminator(LEVEL).unwrap();
        let (data, correction) = construct_codewords(&bits.into_bytes(), VERSION, LEVEL).unwrap();
        let mut canvas = Canvas::new(VERSION, LEVEL);
        canvas.draw_all_functional_patterns();
        canvas.draw_data(&data, &correction);
        canvas.apply_mask(MASK);
        canvas.into_colors()
    }

    fn assert_is_drawn(symbol: &Symbol, text: &[u8]) {
        let colors = drawn(text);
        assert_eq!(colors.len(), SIZE * SIZE);
        for level in Level::all() {
            let mut matrix = Matrix::blank();
            Painter::at(level).paint(symbol, &mut matrix);
            let dark = |index: usize| matrix.is_dark(index % SIZE, index / SIZE);
            let same = (0..SIZE * SIZE).all(|index| dark(index) == (colors[index] == Color::Dark));
            assert!(same, "{} at {level:?}", String::from_utf8_lossy(text));
            assert_eq!(matrix.bits[MATRIX_BYTES - 1] & 0x7f, 0);
            assert_eq!(matrix.bits[MATRIX_BYTES..], [0; 3]);
        }
    }

    #[test]
    fn the_first_row_begins_with_a_finder() {
        let mut matrix = Matrix::blank();
        Painter::default().paint(&some_code(1).symbol, &mut matrix);
        let finder: Vec<_> = (0..8).map(|x| matrix.is_dark(x, 0)).collect();
        assert_eq!(finder, [true, true, true, true, true, true, true, false]);
        assert!(!matrix.is_dark(SIZE, 0) && !matrix.is_dark(0, SIZE));
    }

    #[test]
    fn a_code_of_every_issuer_has_the_matrix_of_the_crate() {
        for resident in 0..3 {
            for code in issued_by_every_length(resident) {
                assert_is_drawn(&code.symbol, code.as_bytes());
                assert_is_drawn(&symbol_of(code.as_bytes()).unwrap(), code.as_bytes());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_has_the_matrix_of_the_crate(text in "[0-9A-Z $%*+./:-]{0,221}") {
            assert_is_drawn(&symbol_of(text.as_bytes()).unwrap(), text.as_bytes());
        }

        #[test]
        fn what_is_folded_changes_nothing(text in "[0-9A-Z $%*+./:-]{0,221}", folded in 0_usize..=110) {
            let head = (2 * folded).min(text.len() & !1);
            let mut symbol = Symbol::begin(text.len());
            symbol.push_text(&text.as_bytes()[..head]).unwrap();
            Painter::default().settle(&mut symbol, text.len());
            symbol.push_text(&text.as_bytes()[head..]).unwrap();
            symbol.close();
            assert_is_drawn(&symbol, text.as_bytes());
        }
    }

    #[test]
    fn only_what_the_symbol_holds_is_taken() {
        assert_is_drawn(&symbol_of(&[b'A'; SYMBOL_CHARS_MAX]).unwrap(), &[b'A'; SYMBOL_CHARS_MAX]);
        for text in [&b"OC1:abc"[..], "OC1:\u{e9}".as_bytes()] {
            assert!(symbol_of(text).is_none());
        }
    }

    #[test]
    fn the_tables_stay_within_a_first_level_cache_or_so() {
        assert!(size_of::<Tables>() <= 48 * 1_024, "{}", size_of::<Tables>());
    }
}
