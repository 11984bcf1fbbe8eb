//! Signatures made before they are asked for: of the residents who were told to come back in this second or the next, by
//! the shard that told them, while it has nothing else to do.
//!
//! They come back over another connection, most likely to another shard, so what was made lies where every shard finds
//! it. Of a payload only the signature takes time; the rest is drawn when it is asked for. A signature is a pure function
//! of its key: nothing depends on whether it is found.

use std::io;

use super::cache::Key;
use crate::limits::{AHEAD_S, CODE_LIFE_S_MAX};
use crate::sys::cells::Cells;
use crate::sys::ed25519::SIGNATURE_BYTES;
use crate::words::ResidentNumber;

const KEY_WORDS: usize = 3;
const WORDS: usize = KEY_WORDS + SIGNATURE_BYTES / 8;

/// What all shards have made ahead.
pub struct Ahead(Cells<WORDS>);

impl Ahead {
    /// Room for so many signatures, each 128 bytes; 0 to make none.
    ///
    /// # Errors
    /// The system has no memory for them.
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

/// More than anybody is told to wait: two windows, each half of a life at most.
const SECONDS: u64 = CODE_LIFE_S_MAX as u64 + 1;
const NOBODY: u32 = u32::MAX;

/// Whom a shard expects, by the second.
pub(super) struct Expected {
    /// The first resident of each second, modulo [`SECONDS`].
    heads: Vec<u32>,
    /// Residents, each with the next one of the same second; the free places hang together in the same way.
    links: Vec<(ResidentNumber, u32)>,
    free: u32,
    /// The second whose residents are next.
    second: u64,
}

impl Expected {
    pub(super) fn new(residents: usize) -> Expected {
        let residents = u32::try_from(residents).expect("its limit is far lower");
        let links = (1..=residents).map(|next| (ResidentNumber(0), if next == residents { NOBODY } else { next }));
        let free = if residents == 0 { NOBODY } else { 0 };
        Expected { heads: vec![NOBODY; SECONDS as usize], links: links.collect(), free, second: 0 }
    }

    /// Expects a resident at a second within [`SECONDS`]; who finds no room is signed for when they come.
    pub(super) fn add(&mut self, now_unix_s: u64, resident: ResidentNumber, second: u32) {
        self.pass(now_unix_s);
        let Some(link) = self.links.get_mut(self.free as usize) else { return };
        let head = &mut self.heads[(u64::from(second) % SECONDS) as usize];
        let place = std::mem::replace(&mut self.free, link.1);
        *link = (resident, std::mem::replace(head, place));
        self.second = self.second.min(u64::from(second));
    }

    /// Whether a resident is to come within [`AHEAD_S`].
    pub(super) fn is_due(&mut self, now_unix_s: u64) -> bool {
        self.pass(now_unix_s);
        while self.second <= now_unix_s + AHEAD_S {
            if self.heads[(self.second % SECONDS) as usize] != NOBODY {
                return true;
            }
            self.second += 1;
        }
        false
    }

    /// Who was to come before now has come, or has not.
    fn pass(&mut self, now_unix_s: u64) {
        for second in self.second.max(now_unix_s.saturating_sub(SECONDS - 1))..now_unix_s {
            while self.pop(second).is_some() {}
        }
        self.second = self.second.max(now_unix_s);
    }

    /// The next such resident, and when they are to come.
    pub(super) fn next(&mut self, now_unix_s: u64) -> Option<(ResidentNumber, u64)> {
        if self.is_due(now_unix_s) { self.pop(self.second).map(|resident| (resident, self.second)) } else { None }
    }

    fn pop(&mut self, second: u64) -> Option<ResidentNumber> {
        let head = &mut self.heads[(second % SECONDS) as usize];
        let place = *head;
        let link = self.links.get_mut(place as usize)?;
        *head = std::mem::replace(&mut link.1, self.free);
        self.free = place;
        Some(link.0)
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
        assert_eq!(expected.next(now + 5 - AHEAD_S), Some((ResidentNumber(3), now + 5)));
        assert_eq!(expected.next(now + 5), Some((ResidentNumber(1), now + 5)));
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
