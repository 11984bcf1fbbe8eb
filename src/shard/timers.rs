//! Deadlines of one shard's connections: one for each, in a flat array that is looked through once a tick. To set, to
//! move or to clear one is a store; to look through 65,536 takes some 30 µs.

/// How late a deadline may fire.
pub const TICK_MS: u64 = 100;
/// Later than any clock.
pub const NEVER: u64 = u64::MAX;

/// The deadlines. Indices are the places of connections.
pub struct Deadlines {
    /// In monotonic milliseconds.
    deadlines_ms: Vec<u64>,
    /// The tick that is looked at, and how many were looked at in it.
    tick: u64,
    looked_at: usize,
}

impl Deadlines {
    /// None, with room for so many connections.
    pub fn new(now_ms: u64, capacity: usize) -> Deadlines {
        Deadlines { deadlines_ms: Vec::with_capacity(capacity), tick: now_ms / TICK_MS, looked_at: 0 }
    }

    /// Sets or moves the deadline of `index`, in monotonic milliseconds; [`NEVER`]: it has none.
    pub fn set(&mut self, index: u32, deadline_ms: u64) {
        if self.deadlines_ms.len() <= index as usize {
            self.deadlines_ms.resize(index as usize + 1, NEVER);
        }
        self.deadlines_ms[index as usize] = deadline_ms;
    }

    /// Takes the next index whose deadline has passed at `now_ms`; its deadline is forgotten. `None`: no more for now.
    pub fn expire(&mut self, now_ms: u64) -> Option<u32> {
        loop {
            let rest = &mut self.deadlines_ms[self.looked_at..];
            if let Some(at) = rest.iter().position(|deadline_ms| *deadline_ms < now_ms) {
                rest[at] = NEVER;
                self.looked_at += at + 1;
                return u32::try_from(self.looked_at - 1).ok();
            }
            self.looked_at = self.deadlines_ms.len();
            if now_ms / TICK_MS <= self.tick {
                return None;
            }
            (self.tick, self.looked_at) = (now_ms / TICK_MS, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired_at(deadlines: &mut Deadlines, now_ms: u64) -> Vec<u32> {
        std::iter::from_fn(|| deadlines.expire(now_ms)).collect()
    }

    #[test]
    fn a_deadline_fires_never_early_and_at_most_a_tick_late() {
        for deadline in [0, 1, 99, 100, 101, 5_000, 25_599, 25_600, 60_000, 600_000] {
            let mut deadlines = Deadlines::new(0, 64);
            deadlines.set(3, deadline);
            let mut fired = None;
            for now in (0..700_000).step_by(10) {
                if deadlines.expire(now).is_some() {
                    fired = Some(now);
                    break;
                }
            }
            let fired = fired.unwrap();
            assert!(fired > deadline && fired <= deadline + TICK_MS, "{deadline} fired at {fired}");
            assert_eq!(deadlines.expire(u64::MAX), None);
        }
    }

    #[test]
    fn a_moved_deadline_counts_from_where_it_was_moved_to() {
        let mut deadlines = Deadlines::new(0, 64);
        deadlines.set(0, 1_000);
        deadlines.set(1, 1_000);
        deadlines.set(0, 9_000);
        assert_eq!(expired_at(&mut deadlines, 2_000), [1]);
        deadlines.set(0, 3_000);
        assert_eq!(expired_at(&mut deadlines, 3_100), [0]);
        deadlines.set(0, 4_000);
        deadlines.set(0, NEVER);
        deadlines.set(0, NEVER);
        assert_eq!(expired_at(&mut deadlines, 50_000), [0_u32; 0]);
    }

    #[test]
    fn random_deadlines_fire_in_their_time() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut timers = Deadlines::new(0, 64);
        let mut deadlines = vec![None; 64];
        for now in (0..200_000_u64).step_by(37) {
            for _ in 0..4 {
                let index = random.usize(0..deadlines.len());
                let deadline = random.bool().then(|| now + random.u64(0..40_000));
                deadlines[index] = deadline;
                let index = u32::try_from(index).unwrap();
                match deadline {
                    Some(at) => timers.set(index, at),
                    None => timers.set(index, NEVER),
                }
            }
            for index in expired_at(&mut timers, now) {
                let deadline = deadlines[index as usize].take().unwrap();
                assert!(deadline < now && now <= deadline + TICK_MS + 37, "{deadline} at {now}");
            }
            assert!(deadlines.iter().flatten().all(|deadline| *deadline + TICK_MS >= now));
        }
    }
}
