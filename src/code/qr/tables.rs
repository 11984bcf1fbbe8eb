//! The tables from which symbols are painted, made at start from the `qrcode` crate.
//!
//! With version, level and mask fixed, each module is an affine function over GF(2) of the data bits: a constant XOR
//! the bits on which it depends. A data bit shows in one module of its own and in about half of the modules of its
//! block's correction words. So the masks need not be as wide as the symbol: [`Tables::rows`] has the correction words
//! of each value of each data nibble, and [`Tables::pick`] says which bit of which word every module shows. The masks of
//! whole symbols would take 1.5 MiB, which a loaded server never has in its caches; these are 45 KB.
//!
//! All is asked of the crate by painting bits with it, so nothing here repeats ISO/IEC 18004 but the layout of blocks.

use std::sync::LazyLock;

use qrcode::canvas::Canvas;
use qrcode::ec::{construct_codewords, create_error_correction_code};
use qrcode::{Color, EcLevel, Version};

use super::{MASK, MATRIX_BYTES, SIZE};
use crate::sys::simd::{ByteRows, PICKED_BYTES, Pick, Row};

pub(super) const VERSION: Version = Version::Normal(8);
pub(super) const LEVEL: EcLevel = EcLevel::M;
/// Data codewords, ISO/IEC 18004 table 7.
pub(super) const DATA_BYTES: usize = 154;
/// Where each block of data begins, and the end: table 9 has two blocks of 38 bytes, then two of 39.
pub(super) const BLOCKS: [usize; BLOCK_COUNT + 1] = [0, 38, 76, 115, DATA_BYTES];
pub(super) const BLOCK_COUNT: usize = 4;
/// Data codewords of the longest block.
const BLOCK_BYTES_MAX: usize = 39;
/// Correction codewords of each block, table 9.
pub(super) const CORRECTION_BYTES: usize = 22;
/// All codewords: data as written, then the correction of each block.
const CODEWORD_BYTES: usize = DATA_BYTES + BLOCK_COUNT * CORRECTION_BYTES;

// A row is written whole behind the one before it, into the 256 bytes from which bits are picked.
const _: () = assert!(CODEWORD_BYTES - CORRECTION_BYTES + size_of::<Row>() <= 256);
const _: () = assert!(MATRIX_BYTES <= PICKED_BYTES);

pub(super) struct Tables {
    /// For each byte of the longest block. A shorter block begins with the second: zeros in front change nothing.
    rows: [ByteRows; BLOCK_BYTES_MAX],
    /// From codewords to modules.
    pub(super) pick: Pick,
}

impl Tables {
    pub(super) fn block_rows(&self, block: usize) -> &[ByteRows] {
        &self.rows[BLOCK_BYTES_MAX - (BLOCKS[block + 1] - BLOCKS[block])..]
    }
}

/// One set for the process: they depend on version, level and mask, and on no key.
pub(super) static TABLES: LazyLock<Box<Tables>> =
    LazyLock::new(|| Box::new(Tables { rows: correction_rows(), pick: module_plan() }));

fn correction_rows() -> [ByteRows; BLOCK_BYTES_MAX] {
    let mut rows = [[[0; 32]; 32]; BLOCK_BYTES_MAX];
    for (place, rows) in rows.iter_mut().enumerate() {
        for (row, correction) in rows.iter_mut().enumerate() {
            let nibble = u8::try_from(row % 16).expect("a nibble");
            let mut block = [0; BLOCK_BYTES_MAX];
            block[place] = if row < 16 { nibble << 4 } else { nibble };
            correction[..CORRECTION_BYTES].copy_from_slice(&create_error_correction_code(&block, CORRECTION_BYTES));
        }
    }
    rows
}

/// Finds the codeword bit of each module by painting every bit's number, one binary digit a symbol.
fn module_plan() -> Pick {
    let blank = modules(&[0; CODEWORD_BYTES]);
    let full = modules(&[0xff; CODEWORD_BYTES]);
    let mut from = [0_u16; SIZE * SIZE];
    for digit in 0..11 {
        let byte = |byte: usize| (0..8).fold(0, |bits, bit| bits << 1 | u8::from((byte * 8 + bit) >> digit & 1 == 1));
        let painted = modules(&std::array::from_fn(byte));
        for (from, (painted, blank)) in from.iter_mut().zip(painted.iter().zip(&blank)) {
            *from |= u16::from(painted != blank) << digit;
        }
    }
    let mut ground = [0; PICKED_BYTES];
    for (index, color) in blank.iter().enumerate() {
        ground[index / 8] |= u8::from(*color == Color::Dark) << (7 - index % 8);
    }
    let mut plan = Pick::new(ground);
    for (index, from) in from.into_iter().enumerate() {
        if blank[index] != full[index] {
            plan.follow(index, from);
        }
    }
    plan
}

/// The modules of a symbol with these codewords, right or wrong.
fn modules(codewords: &[u8; CODEWORD_BYTES]) -> Vec<Color> {
    let (data, correction) = codewords.split_at(DATA_BYTES);
    let (data, _) = construct_codewords(data, VERSION, LEVEL).expect("a symbol of this version has this level");
    // ISO/IEC 18004 §7.6: the first of every block, then the second of every block.
    let interleaved = |place: usize| correction[place % BLOCK_COUNT * CORRECTION_BYTES + place / BLOCK_COUNT];
    let correction: Vec<_> = (0..correction.len()).map(interleaved).collect();
    let mut canvas = Canvas::new(VERSION, LEVEL);
    canvas.draw_all_functional_patterns();
    canvas.draw_data(&data, &correction);
    canvas.apply_mask(MASK);
    canvas.into_colors()
}
