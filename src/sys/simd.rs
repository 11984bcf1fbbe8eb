//! The vector kernels: XOR of table rows, and bits picked by a plan; AVX-512, AVX2 and portable.
//!
//! Outward everything is safe. A [`Level`] can only be had for instructions that this CPU has, so whoever holds one may
//! call every kernel with it. All levels give the same bytes, and a test runs each level that the machine has.

/// Bits that a [`Pick`] gives, in bytes.
pub const PICKED_BYTES: usize = 304;
const SLOTS: usize = PICKED_BYTES * 8;

/// One row of a XOR table.
pub type Row = [u8; 32];

/// The rows of one byte of input: 16 for its high nibble, then 16 for its low one.
pub type ByteRows = [Row; 32];

/// Which instructions the kernels use.
#[derive(Clone, Copy, PartialEq, Eq, derive_more::Debug)]
#[debug("{_0:?}")]
pub struct Level(Kind);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "none of them can be had"))]
enum Kind {
    Portable,
    Avx2,
    Avx512,
}

/// Which bit of 256 bytes each bit of the output is.
#[derive(Clone)]
#[repr(align(64))]
pub struct Pick {
    /// The byte that a slot looks at. Slot `8 n + k` is bit `k` of byte `n`, counted from the least significant.
    index: [u8; SLOTS],
    /// The bit of that byte; 0 where the output does not depend on the input.
    select: [u8; SLOTS],
    /// What the output is XORed with.
    ground: [u8; PICKED_BYTES],
}

impl Pick {
    /// A plan that gives `ground` whatever the input.
    pub const fn new(ground: [u8; PICKED_BYTES]) -> Pick {
        Pick { index: [0; SLOTS], select: [0; SLOTS], ground }
    }

    /// Lets bit `to` of the output follow bit `from` of the input, both counted from the most significant of byte 0.
    /// Panics when `to` lies outside the output.
    pub fn follow(&mut self, to: usize, from: u16) {
        let slot = to ^ 7;
        let [index, bit] = (from << 5).to_be_bytes();
        self.index[slot] = index;
        self.select[slot] = 0x80 >> (bit >> 5);
    }
}

impl Level {
    /// The best one of this machine.
    pub fn best() -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = is_x86_feature_detected!("avx2");
            // 512-bit vectors without VBMI cannot pick single bytes, so such a CPU is better off with AVX2.
            if has_avx2 && is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("avx512bw") {
                return Level(Kind::Avx512);
            }
            if has_avx2 {
                return Level(Kind::Avx2);
            }
        }
        Level(Kind::Portable)
    }

    /// Every one of this machine, the best first.
    pub fn all() -> Vec<Level> {
        let kinds = [Kind::Avx512, Kind::Avx2, Kind::Portable].into_iter();
        kinds.filter(|kind| *kind <= Level::best().0).map(Level).collect()
    }

    /// XORs into `sum` the two rows that each of `bytes` chooses, from `rows` of the same length.
    pub fn xor_rows(self, rows: &[ByteRows], bytes: &[u8], sum: &mut Row) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: both kinds are only made where AVX2 was detected.
            Kind::Avx2 | Kind::Avx512 => unsafe { x86::xor_rows(rows, bytes, sum) },
            _ => xor_rows(rows, bytes, sum),
        }
    }

    /// Picks the bits of `plan` out of `source`.
    pub fn pick(self, plan: &Pick, source: &[u8; 256], out: &mut [u8; PICKED_BYTES]) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this kind is only made where AVX2 was detected.
            Kind::Avx2 => unsafe { x86::pick_avx2(plan, source, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this kind is only made where these three were detected.
            Kind::Avx512 => unsafe { x86::pick_avx512(plan, source, out) },
            _ => pick(plan, source, out),
        }
    }
}

#[inline(always)]
fn xor_rows(rows: &[ByteRows], bytes: &[u8], sum: &mut Row) {
    let mut total = *sum;
    for (rows, byte) in rows.iter().zip(bytes) {
        let (high, low) = (&rows[usize::from(byte >> 4)], &rows[16 + usize::from(byte & 15)]);
        for place in 0..total.len() {
            total[place] ^= high[place] ^ low[place];
        }
    }
    *sum = total;
}

fn pick(plan: &Pick, source: &[u8; 256], out: &mut [u8; PICKED_BYTES]) {
    let slots = plan.index.chunks_exact(8).zip(plan.select.chunks_exact(8));
    for ((out, ground), (index, select)) in out.iter_mut().zip(&plan.ground).zip(slots) {
        let mut byte = 0;
        for place in 0..8 {
            byte |= u8::from(source[usize::from(index[place])] & select[place] != 0) << place;
        }
        *out = byte ^ ground;
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use bytemuck::cast;

    use super::{ByteRows, PICKED_BYTES, Pick, Row, SLOTS};

    #[target_feature(enable = "avx2")]
    pub(super) fn xor_rows(rows: &[ByteRows], bytes: &[u8], sum: &mut Row) {
        super::xor_rows(rows, bytes, sum);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn pick_avx2(plan: &Pick, source: &[u8; 256], out: &mut [u8; PICKED_BYTES]) {
        // AVX2 cannot pick bytes out of 256, so they are brought together one by one; their bits are tested 32 at once.
        let mut gathered = [0; SLOTS];
        for (byte, index) in gathered.iter_mut().zip(&plan.index) {
            *byte = source[usize::from(*index)];
        }
        let words = out.as_chunks_mut::<4>().0.iter_mut().zip(plan.ground.as_chunks::<4>().0);
        let slots = gathered.as_chunks::<32>().0.iter().zip(plan.select.as_chunks::<32>().0);
        for ((out, ground), (bytes, select)) in words.zip(slots) {
            let unset = _mm256_cmpeq_epi8(_mm256_and_si256(cast(*bytes), cast(*select)), _mm256_setzero_si256());
            let set = !_mm256_movemask_epi8(unset);
            *out = (set ^ i32::from_le_bytes(*ground)).to_le_bytes();
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn pick_avx512(plan: &Pick, source: &[u8; 256], out: &mut [u8; PICKED_BYTES]) {
        let quarters = source.as_chunks::<64>().0;
        let [a, b, c, d] = [0, 1, 2, 3].map(|quarter| cast(quarters[quarter]));
        let words = out.as_chunks_mut::<8>().0.iter_mut().zip(plan.ground.as_chunks::<8>().0);
        let slots = plan.index.as_chunks::<64>().0.iter().zip(plan.select.as_chunks::<64>().0);
        for ((out, ground), (index, select)) in words.zip(slots) {
            let index = cast(*index);
            // The low seven bits of an index choose within 128 bytes, its top bit between the halves.
            let low = _mm512_permutex2var_epi8(a, index, b);
            let high = _mm512_permutex2var_epi8(c, index, d);
            let bytes = _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high);
            let set = _mm512_test_epi8_mask(bytes, cast(*select));
            *out = (set ^ u64::from_le_bytes(*ground)).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random_bytes<const N: usize>(random: &mut fastrand::Rng) -> [u8; N] {
        std::array::from_fn(|_| random.u8(..))
    }

    #[test]
    fn every_level_gives_what_the_definition_says() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..50 {
            let (source, ground) = (random_bytes::<256>(&mut random), random_bytes(&mut random));
            let mut plan = Pick::new(ground);
            let mut expected = ground;
            for to in 0..SLOTS {
                if random.bool() {
                    let from = random.u16(..2_048);
                    plan.follow(to, from);
                    let bit = source[usize::from(from / 8)] >> (7 - from % 8) & 1;
                    expected[to / 8] ^= bit << (7 - to % 8);
                }
            }
            let rows: Vec<ByteRows> = (0..9).map(|_| std::array::from_fn(|_| random_bytes(&mut random))).collect();
            let mut expected_sum = random_bytes::<32>(&mut random);
            let first_sum = expected_sum;
            for (rows, byte) in rows.iter().zip(&source) {
                for place in 0..32 {
                    expected_sum[place] ^=
                        rows[usize::from(byte / 16)][place] ^ rows[usize::from(byte % 16) + 16][place];
                }
            }
            for level in Level::all() {
                let (mut out, mut sum) = ([0; PICKED_BYTES], first_sum);
                level.pick(&plan, &source, &mut out);
                assert_eq!(out, expected, "{level:?}");
                level.xor_rows(&rows, &source, &mut sum);
                assert_eq!(sum, expected_sum, "{level:?}");
            }
        }
    }
}
