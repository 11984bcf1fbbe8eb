//! The assertions that were used, so that each signs in once.
//!
//! Each shard holds one. It keeps hashes, never an assertion, and is lost with the process if no other takes it over:
//! that is why an assertion from before the start is refused.

use std::collections::HashSet;

use super::problem::{ASSERTION_REPLAYED, ASSERTIONS_FULL, Problem};

/// Those that have not expired, in memory of a fixed size: new ones go into `current`; once all of `previous` have
/// expired, it is emptied and the two change places. As no assertion lives longer than 360 s, each generation holds the
/// arrivals of 360 s at most, and each entry is dropped within 720 s, at one claim's share of emptying a table.
pub struct UsedAssertions {
    current: Generation,
    previous: Generation,
    room: usize,
}

impl UsedAssertions {
    /// Room for so many in each generation.
    pub fn with_room(room: usize) -> UsedAssertions {
        let generation = || Generation { seen: HashSet::with_capacity(room), last_expires_unix_s: 0 };
        UsedAssertions { current: generation(), previous: generation(), room }
    }

    /// All of it, for the next process: of each generation when its last one expires, and what is in it.
    pub fn into_generations(self) -> [(u64, Vec<[u8; 16]>); 2] {
        [self.current, self.previous].map(|one| (one.last_expires_unix_s, one.seen.into_iter().collect()))
    }

    /// What another process with as much room remembered.
    pub fn from_generations(room: usize, generations: [(u64, Vec<[u8; 16]>); 2]) -> UsedAssertions {
        let mut used = UsedAssertions::with_room(room);
        for (one, (last_expires_unix_s, seen)) in [&mut used.current, &mut used.previous].into_iter().zip(generations) {
            one.last_expires_unix_s = last_expires_unix_s;
            one.seen.extend(seen.into_iter().take(room));
        }
        used
    }

    /// Claims the assertion `once`, which was found good until `expires_unix_s`; from then on it is known.
    /// Errors: it was claimed before, or there is no room to remember it, so it cannot count now.
    pub fn claim(&mut self, once: [u8; 16], expires_unix_s: u64, now_unix_s: u64) -> Result<(), Problem> {
        if self.current.seen.contains(&once) || self.previous.seen.contains(&once) {
            return Err(ASSERTION_REPLAYED);
        }
        if now_unix_s >= self.previous.last_expires_unix_s {
            self.previous.seen.clear();
            self.previous.last_expires_unix_s = 0;
            std::mem::swap(&mut self.current, &mut self.previous);
        }
        if self.current.seen.len() >= self.room {
            return Err(ASSERTIONS_FULL);
        }
        self.current.seen.insert(once);
        self.current.last_expires_unix_s = self.current.last_expires_unix_s.max(expires_unix_s);
        Ok(())
    }
}

struct Generation {
    seen: HashSet<[u8; 16]>,
    last_expires_unix_s: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(i: u64) -> [u8; 16] {
        let mut once = [0; 16];
        once[..8].copy_from_slice(&i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        once
    }

    #[test]
    fn an_assertion_counts_once_while_it_lives() {
        let mut used = UsedAssertions::with_room(1_000);
        for second in 0..2_000_u64 {
            assert_eq!(used.claim(once(second), second + 300, second), Ok(()));
            for back in 0..300.min(second + 1) {
                assert_eq!(used.claim(once(second - back), second - back + 300, second), Err(ASSERTION_REPLAYED));
            }
        }
    }

    #[test]
    fn what_was_used_is_known_to_the_next_process() {
        let mut used = UsedAssertions::with_room(100);
        assert_eq!([1, 2, 3].map(|i| used.claim(once(i), 100 + 100 * i, 150 * (i - 1))), [Ok(()); 3]);
        let mut next = UsedAssertions::from_generations(100, used.into_generations());
        assert_eq!([2, 3].map(|i| next.claim(once(i), 500, 301)), [Err(ASSERTION_REPLAYED); 2]);
        assert_eq!(next.claim(once(4), 500, 301), Ok(()));
        assert_eq!(next.claim(once(3), 500, 399), Err(ASSERTION_REPLAYED), "until it has expired");
    }

    #[test]
    fn memory_is_fixed_and_full_is_said() {
        let mut used = UsedAssertions::with_room(100);
        let capacity = used.current.seen.capacity();
        let claims: Vec<Result<(), Problem>> = (0..300).map(|i| used.claim(once(i), 400, 100)).collect();
        // The second claim finds nothing in the generation before and moves the first there; then one takes them all.
        assert_eq!(claims.iter().filter(|claim| **claim == Ok(())).count(), 101);
        assert_eq!(claims.last(), Some(&Err(ASSERTIONS_FULL)));
        assert_eq!(used.claim(once(0), 400, 100), Err(ASSERTION_REPLAYED));
        assert_eq!(used.claim(once(1_000), 800, 400), Ok(()));
        assert_eq!(used.claim(once(1_001), 800, 400), Ok(()));
        assert_eq!(used.current.seen.capacity().max(used.previous.seen.capacity()), capacity);
    }
}
