//! This window's payloads of one shard, in fixed memory: two places for a resident, told by the number, so that a lookup
//! is one cache line of tags, and three residents on two places cost each other signatures and nothing else.
//! With one place each, 1.5 % of the refreshes of a thousand who reload are signed again; with two one in ten thousand.

use crate::code::payload::PAYLOAD_BYTES_MAX;
use crate::sys::arena::Array;
use crate::sys::prefetch::prefetch;
use crate::words::ResidentNumber;

/// What a payload is a function of. The key, the issuer and the lifetimes are named by the generation of the settings.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Key {
    pub resident: ResidentNumber,
    pub version: u64,
    /// In which window, by its start.
    pub window: u32,
    /// Under which settings, and what is said: after a removal of test data a version may come again with another status.
    pub said: u32,
}

/// What lies in one place, and where its matrix begins. Zero: nothing was ever put there.
#[derive(Clone, Copy, Default)]
struct Tag {
    key: Key,
    head: u16,
}

/// Two places, and which of them gives way when both are of this window.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Set {
    tags: [Tag; 2],
    next: u8,
}

/// One payload, on cache lines of its own.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Body([u8; PAYLOAD_BYTES_MAX]);

pub struct PayloadCache {
    sets: Array<Set>,
    bodies: Array<Body>,
}

impl PayloadCache {
    /// An empty cache of so many places, at least two. All its memory is there before the first resident comes: touched
    /// by the first refreshes, it cost those of one second in every hundred 5 ms and more.
    pub fn new(places: usize) -> PayloadCache {
        let sets = (places / 2).max(1).next_power_of_two();
        PayloadCache {
            sets: Array::filled(sets, Set::default()),
            bodies: Array::filled(2 * sets, Body([0; PAYLOAD_BYTES_MAX])),
        }
    }

    /// Has what a refresh of this resident will read fetched from memory: the tags, and the likelier payload of two.
    pub fn prefetch(&self, resident: ResidentNumber) {
        let set = self.set_of(resident);
        prefetch(&self.sets[set]);
        prefetch(&self.bodies[2 * set]);
    }

    fn set_of(&self, resident: ResidentNumber) -> usize {
        // The number is a keyed hash, so its low bits are as good as any.
        resident.0 as usize & (self.sets.len() - 1)
    }

    /// Where this key's payload lies, if it is there.
    pub fn find(&self, key: &Key) -> Option<usize> {
        let set = self.set_of(key.resident);
        let way = self.sets[set].tags.iter().position(|tag| tag.key == *key && tag.head != 0)?;
        Some(2 * set + way)
    }

    /// Has `make` write this key's payload, which is not there, and says where it lies then.
    pub fn put(&mut self, key: Key, make: impl FnOnce(&mut [u8; PAYLOAD_BYTES_MAX]) -> u16) -> usize {
        let place = self.set_of(key.resident);
        let set = &mut self.sets[place];
        // What is of another window is of no more use to anybody.
        let past = set.tags.iter().position(|tag| tag.key.window != key.window);
        let way = past.unwrap_or(usize::from(set.next & 1));
        set.next = set.next.wrapping_add(1);
        set.tags[way] = Tag { key, head: make(&mut self.bodies[2 * place + way].0) };
        2 * place + way
    }

    /// The payload that lies there, and where its matrix begins.
    pub fn get(&self, place: usize) -> (&[u8; PAYLOAD_BYTES_MAX], u16) {
        (&self.bodies[place].0, self.sets[place / 2].tags[place % 2].head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(resident: u64, window: u32) -> Key {
        Key { resident: ResidentNumber(resident), version: 1, window, said: 1 }
    }

    /// Puts the resident's low byte as the payload, and says whether it was there.
    fn get(cache: &mut PayloadCache, key: Key) -> bool {
        let mark = key.resident.0.to_be_bytes()[0];
        let found = cache.find(&key);
        let place = found.unwrap_or_else(|| {
            cache.put(key, |body| {
                body[0] = mark;
                1
            })
        });
        let (body, head) = cache.get(place);
        assert_eq!((body[0], head), (mark, 1), "each gets its own");
        found.is_some()
    }

    #[test]
    fn two_residents_of_one_place_both_stay_and_a_third_takes_the_older_place() {
        let mut cache = PayloadCache::new(16);
        let residents = [1_u64 << 56, 2 << 56, 3 << 56];
        assert!(!get(&mut cache, key(residents[0], 1)) && !get(&mut cache, key(residents[1], 1)));
        assert!(get(&mut cache, key(residents[0], 1)) && get(&mut cache, key(residents[1], 1)));
        assert!(!get(&mut cache, key(residents[2], 1)));
        assert!(get(&mut cache, key(residents[2], 1)));
    }

    #[test]
    fn what_a_payload_depends_on_makes_another_payload() {
        let mut cache = PayloadCache::new(16);
        let first = key(7, 1);
        assert!(!get(&mut cache, first));
        for other in [key(7, 2), Key { version: 2, ..first }, Key { said: 2, ..first }] {
            assert!(!get(&mut cache, other));
        }
    }

    #[test]
    fn a_past_window_gives_way_first() {
        let mut cache = PayloadCache::new(16);
        let (old, new) = (1_u64 << 56, 2 << 56);
        get(&mut cache, key(old, 1));
        get(&mut cache, key(new, 2));
        get(&mut cache, key(3 << 56, 2));
        assert!(get(&mut cache, key(new, 2)));
    }
}
