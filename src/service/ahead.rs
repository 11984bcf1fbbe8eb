//! Signatures made before they are asked for: of the residents who were told to come back in this second or the next, by
//! the shard that told them, while it has nothing else to do.
//!
//! They come back over another connection, most likely to another shard, so what was made lies where every shard finds
//! it. Of a payload only the signature takes time; the rest is drawn when it is asked for. A signature is a pure function
//! of its key: nothing depends on whether it is found.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use super::cache::Key;
use crate::limits::AHEAD_S;
use crate::sys::cells::Cells;
use crate::sys::ed25519::SIGNATURE_BYTES;
use crate::words::ResidentNumber;

const KEY_WORDS: usize = 3;
const WORDS: usize = KEY_WORDS + SIGNATURE_BYTES / 8;

/// What all shards have made ahead.
pub struct Ahead(Cells<WORDS>);

impl Ahead {
    /// Room for so many signatures, each 128 bytes; 0 to make none. Errors: the system has no memory for them.
    pub fn new(signatures: usize) -> io::Result<Ahead> {
        Cells::new(signatures).map(Ahead)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The signature of this key's code, if it was made and no other has taken its place.
    pub(super) fn find(&self, key: &Key) -> Option<[u8; SIGNATURE_BYTES]> {
        let words = self.0.get(self.place(key)?)?.try_read()?;
        let (found, signature) = words.split_first_chunk()?;
        if *found == key_words(key) { bytemuck::cast_slice(signature).try_into().ok() } else { None }
    }

    /// Puts a signature where [`find`](Self::find) looks for it, unless another shard is writing there just now.
    pub(super) fn put(&self, key: &Key, signature: &[u8; SIGNATURE_BYTES]) {
        let Some(cell) = self.place(key).and_then(|place| self.0.get(place)) else { return };
        let mut words = [0; WORDS];
        words[..KEY_WORDS].copy_from_slice(&key_words(key));
        bytemuck::cast_slice_mut(&mut words[KEY_WORDS..]).copy_from_slice(signature);
        cell.try_write(words);
    }

    /// The number is a keyed hash, so any part of it is as good as another.
    fn place(&self, key: &Key) -> Option<usize> {
        (key.resident.0 as usize).checked_rem(self.0.len())
    }
}

/// A window's start is never 0, so an empty cell is nobody's.
fn key_words(key: &Key) -> [u64; KEY_WORDS] {
    [key.resident.0, key.version, u64::from(key.window) << 32 | u64::from(key.said)]
}

/// Of those who did not come, so many are forgotten at a time: thousands may share a second.
const PASSED_MAX: usize = 16;

/// Whom a shard expects, the next one first.
pub(super) struct Expected {
    /// By the second, since 1970.
    residents: BinaryHeap<Reverse<(u32, u64)>>,
    room: usize,
}

impl Expected {
    pub(super) fn new(room: usize) -> Expected {
        Expected { residents: BinaryHeap::with_capacity(room), room }
    }

    /// Expects a resident at a second; who finds no room is signed for when they come.
    pub(super) fn add(&mut self, now_unix_s: u64, resident: ResidentNumber, second: u32) {
        self.pass(now_unix_s);
        if self.residents.len() < self.room {
            self.residents.push(Reverse((second, resident.0)));
        }
    }

    /// Whether a resident is to come within [`AHEAD_S`], or some are yet to be forgotten.
    pub(super) fn is_due(&mut self, now_unix_s: u64) -> bool {
        self.pass(now_unix_s);
        self.second().is_some_and(|second| second <= now_unix_s + AHEAD_S)
    }

    /// The next such resident, and when they are to come.
    pub(super) fn next(&mut self, now_unix_s: u64) -> Option<(ResidentNumber, u64)> {
        let is_to_come = self.is_due(now_unix_s) && self.second() >= Some(now_unix_s);
        let Reverse((second, resident)) = if is_to_come { self.residents.pop()? } else { return None };
        Some((ResidentNumber(resident), second.into()))
    }

    /// Who was to come before now has come, or has not.
    fn pass(&mut self, now_unix_s: u64) {
        for _ in 0..PASSED_MAX {
            if self.second().is_none_or(|second| second >= now_unix_s) {
                return;
            }
            self.residents.pop();
        }
    }

    fn second(&self) -> Option<u64> {
        self.residents.peek().map(|Reverse((second, _))| u64::from(*second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { resident: ResidentNumber(0xfeed_0003), version: 7, window: 1_800_000_000, said: 1 };

    #[test]
    fn a_signature_is_found_by_its_whole_key_alone() {
        let ahead = Ahead::new(16).unwrap();
        let signature = std::array::from_fn(|at| at as u8);
        assert_eq!(ahead.find(&KEY), None);
        ahead.put(&KEY, &signature);
        assert_eq!(ahead.find(&KEY), Some(signature));
        let resident = ResidentNumber(KEY.resident.0 + 16);
        for other in
            [Key { resident, ..KEY }, Key { version: 8, ..KEY }, Key { window: 1, ..KEY }, Key { said: 2, ..KEY }]
        {
            assert_eq!(ahead.find(&other), None, "{other:?}");
        }
        ahead.put(&Key { resident, ..KEY }, &[9; SIGNATURE_BYTES]);
        assert_eq!(ahead.find(&KEY), None, "another has taken its place");
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let ahead = Ahead::new(0).unwrap();
        ahead.put(&KEY, &[1; SIGNATURE_BYTES]);
        assert_eq!(ahead.find(&KEY), None);
        let mut expected = Expected::new(0);
        expected.add(1_800_000_000, KEY.resident, 1_800_000_000);
        assert_eq!(expected.next(1_800_000_000), None);
    }

    #[test]
    fn residents_are_expected_in_their_second_and_the_one_before_it() {
        let now = 1_800_000_000_u64;
        let mut expected = Expected::new(3);
        assert_eq!(expected.next(now), None);
        for (resident, second) in [(1, now + 5), (2, now + 600), (3, now + 5), (4, now + 5)] {
            expected.add(now, ResidentNumber(resident), second as u32);
        }
        assert_eq!(expected.next(now + 5 - AHEAD_S - 1), None);
        assert_eq!(expected.next(now + 5 - AHEAD_S), Some((ResidentNumber(1), now + 5)));
        assert_eq!(expected.next(now + 5), Some((ResidentNumber(3), now + 5)));
        assert_eq!(expected.next(now + 5), None, "there was no room for the fourth");
        // Both places are free again, and a resident whose second has passed is not signed for.
        for resident in [5, 6, 7] {
            expected.add(now + 5, ResidentNumber(resident), (now + 7) as u32);
        }
        assert_eq!(expected.next(now + 8), None);
        assert_eq!(expected.next(now + 600), Some((ResidentNumber(2), now + 600)));
        for resident in [8, 9, 10] {
            expected.add(now + 600, ResidentNumber(resident), (now + 601) as u32);
        }
        assert_eq!(std::iter::from_fn(|| expected.next(now + 601)).count(), 3);
    }

    #[test]
    fn a_long_pause_or_a_clock_set_back_loses_nobody_for_good() {
        let now = 1_800_000_000_u64;
        let mut expected = Expected::new(2);
        expected.add(now, ResidentNumber(1), (now + 1) as u32);
        assert_eq!(expected.next(now + 100_000), None);
        expected.add(now + 99_990, ResidentNumber(2), (now + 100_001) as u32);
        expected.add(now, ResidentNumber(3), (now + 100_001) as u32);
        assert_eq!(expected.next(now), None);
        assert_eq!(std::iter::from_fn(|| expected.next(now + 100_001)).count(), 2);
    }
}
