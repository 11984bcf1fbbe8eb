//! Deadlines of one shard's connections: a hashed timer wheel (Varghese and Lauck, 1987) with lists threaded through
//! two flat arrays, so that setting, moving and clearing a deadline are a few stores and never allocate.
//!
//! A deadline is late by at most one tick. One that is put off stays where it is linked and is looked at again from
//! there, so that the deadline of a busy connection, which moves with each request, is a store; so does one beyond the
//! wheel's span, from the last bucket it can reach.

/// How late a deadline may fire.
pub const TICK_MS: u64 = 100;
/// A power of two; the span is 25.6 s, beyond nearly every limit, so that re-parking stays rare.
const BUCKETS: usize = 256;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    deadline_ms: u64,
    /// At which it is looked at; never after the deadline's own.
    tick: u64,
    next: u32,
    previous: u32,
}

const UNLINKED: Link = Link { deadline_ms: 0, tick: u64::MAX, next: NONE, previous: NONE };

/// The wheel. Indices are those of the connection slab.
pub struct Wheel {
    heads: [u32; BUCKETS],
    links: Vec<Link>,
    /// The next tick to be looked at.
    tick: u64,
    armed: usize,
}

impl Wheel {
    /// An empty wheel for so many connections that starts at `now_ms` of the monotonic clock.
    pub fn new(now_ms: u64, capacity: usize) -> Wheel {
        Wheel { heads: [NONE; BUCKETS], links: Vec::with_capacity(capacity), tick: now_ms / TICK_MS, armed: 0 }
    }

    /// Sets or moves the deadline of `index`, in monotonic milliseconds.
    pub fn set(&mut self, index: u32, deadline_ms: u64) {
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, UNLINKED);
        }
        // The tick after the one the deadline is in: never early, at most one tick late.
        let due = (deadline_ms / TICK_MS + 1).max(self.tick);
        // One less than the span, so that what `expire` puts off never lands in the bucket it was taken from.
        let tick = due.min(self.tick + BUCKETS as u64 - 2);
        let link = &mut self.links[index as usize];
        if link.tick <= tick {
            link.deadline_ms = deadline_ms;
            return;
        }
        self.clear(index);
        let head = std::mem::replace(&mut self.heads[bucket(tick)], index);
        self.links[index as usize] = Link { deadline_ms, tick, next: head, previous: NONE };
        if head != NONE {
            self.links[head as usize].previous = index;
        }
        self.armed += 1;
    }

    /// Forgets the deadline of `index`, if it has one.
    pub fn clear(&mut self, index: u32) {
        let Some(&link) = self.links.get(index as usize) else { return };
        if link.tick == UNLINKED.tick {
            return;
        }
        match link.previous {
            NONE => self.heads[bucket(link.tick)] = link.next,
            previous => self.links[previous as usize].next = link.next,
        }
        if link.next != NONE {
            self.links[link.next as usize].previous = link.previous;
        }
        self.links[index as usize].tick = UNLINKED.tick;
        self.armed -= 1;
    }

    /// Takes the next index whose deadline has passed at `now_ms`; its deadline is forgotten. `None`: no more for now.
    pub fn expire(&mut self, now_ms: u64) -> Option<u32> {
        while self.tick * TICK_MS <= now_ms {
            // Deadlines that were moved within their bucket, or parked, are put where they now belong; each is looked
            // at once a tick at the most, because it leaves the bucket.
            while let Some(index) = Some(self.heads[bucket(self.tick)]).filter(|index| *index != NONE) {
                let deadline_ms = self.links[index as usize].deadline_ms;
                self.clear(index);
                if deadline_ms < self.tick * TICK_MS {
                    return Some(index);
                }
                self.tick += 1;
                self.set(index, deadline_ms);
                self.tick -= 1;
            }
            self.tick += 1;
        }
        None
    }

    pub fn is_armed(&self) -> bool {
        self.armed > 0
    }

    /// How long, in milliseconds, a driver may sleep at `now_ms` before it must call again; `None` with no deadline set.
    pub fn sleep_ms(&self, now_ms: u64) -> Option<u64> {
        if self.armed == 0 {
            return None;
        }
        let next =
            (self.tick..self.tick + BUCKETS as u64).find(|tick| self.heads[bucket(*tick)] != NONE).unwrap_or(self.tick);
        Some((next * TICK_MS).saturating_sub(now_ms))
    }
}

fn bucket(tick: u64) -> usize {
    // Below the number of buckets.
    (tick % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired_at(wheel: &mut Wheel, now_ms: u64) -> Vec<u32> {
        std::iter::from_fn(|| wheel.expire(now_ms)).collect()
    }

    #[test]
    fn a_deadline_fires_never_early_and_at_most_a_tick_late() {
        for deadline in [0, 1, 99, 100, 101, 5_000, 25_599, 25_600, 60_000, 600_000] {
            let mut wheel = Wheel::new(0, 64);
            wheel.set(3, deadline);
            let mut fired = None;
            for now in (0..700_000).step_by(10) {
                if wheel.expire(now).is_some() {
                    fired = Some(now);
                    break;
                }
            }
            let fired = fired.unwrap();
            assert!(fired > deadline && fired <= deadline + TICK_MS, "{deadline} fired at {fired}");
            assert_eq!(wheel.sleep_ms(fired), None);
        }
    }

    #[test]
    fn a_moved_deadline_counts_from_where_it_was_moved_to() {
        let mut wheel = Wheel::new(0, 64);
        wheel.set(0, 1_000);
        wheel.set(1, 1_000);
        wheel.set(0, 9_000);
        assert_eq!(expired_at(&mut wheel, 2_000), [1]);
        wheel.set(0, 3_000);
        assert_eq!(expired_at(&mut wheel, 3_100), [0]);
        wheel.set(0, 4_000);
        wheel.clear(0);
        wheel.clear(0);
        assert_eq!(expired_at(&mut wheel, 50_000), [0_u32; 0]);
    }

    #[test]
    fn random_deadlines_fire_in_their_time() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut wheel = Wheel::new(0, 64);
        let mut deadlines = vec![None; 64];
        for now in (0..200_000_u64).step_by(37) {
            for _ in 0..4 {
                let index = random.usize(0..deadlines.len());
                let deadline = random.bool().then(|| now + random.u64(0..40_000));
                deadlines[index] = deadline;
                let index = u32::try_from(index).unwrap();
                match deadline {
                    Some(at) => wheel.set(index, at),
                    None => wheel.clear(index),
                }
            }
            for index in expired_at(&mut wheel, now) {
                let deadline = deadlines[index as usize].take().unwrap();
                assert!(deadline < now && now <= deadline + TICK_MS + 37, "{deadline} at {now}");
            }
            assert!(deadlines.iter().flatten().all(|deadline| *deadline + TICK_MS >= now));
            if let Some(soonest) = deadlines.iter().flatten().min() {
                // It may wake for one that was put off, never too late for one that was not.
                let sleep_ms = wheel.sleep_ms(now).unwrap();
                assert!(now + sleep_ms <= soonest + TICK_MS, "would sleep past {soonest}");
            }
        }
    }
}
