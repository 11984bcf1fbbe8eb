//! Rate limits, in fixed memory however many ask: a table of sets of four cells, each the theoretical arrival time of
//! one caller (the generic cell rate algorithm, ITU-T I.371). A caller that is not in its set takes the cell that lies
//! furthest back, so that a million who ask once never push out the one who asks all the time.
//!
//! Each shard counts for itself: who spreads over several connections has the limit on each shard that serves them.

use crate::limits::{ADDRESS_REQUESTS_PER_MINUTE, RATE_SETS};
use crate::words::{Now, mix};

/// Whose requests are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Caller {
    Session(u64),
    Device(u64),
    Address(u64),
}

#[derive(Clone, Copy, Default)]
struct Cell {
    tag: u64,
    /// When, in monotonic microseconds, all that it was granted will have been used up at the limit's rate.
    until_us: u64,
}

/// The limits and what has been used of them.
pub struct Rates {
    session_per_minute: u32,
    device_per_minute: u32,
    sets: Vec<[Cell; 4]>,
    /// Whole seconds after which the last request that was one too many would have been allowed.
    pub wait_s: u32,
}

impl Rates {
    /// Requests a minute of each session and of each device; 0: no bound.
    pub fn new(session_per_minute: u32, device_per_minute: u32) -> Rates {
        Rates { session_per_minute, device_per_minute, sets: vec![Default::default(); RATE_SETS], wait_s: 0 }
    }

    /// Whether a request is not one too many; where it `counts`, it then uses up a part of what is allowed.
    pub fn allows(&mut self, now: Now, caller: Caller, counts: bool) -> bool {
        const MINUTE_US: u64 = 60_000_000;
        let (kind, who, per_minute) = match caller {
            Caller::Session(who) => (0, who, self.session_per_minute),
            Caller::Device(who) => (1, who, self.device_per_minute),
            Caller::Address(who) => (2, who, ADDRESS_REQUESTS_PER_MINUTE),
        };
        if per_minute == 0 || self.sets.is_empty() {
            return true;
        }
        let tag = mix(who ^ mix(kind));
        // The low bits choose the set; the rest tells those in it apart.
        let length = self.sets.len() as u64;
        let set = &mut self.sets[(tag % length) as usize];
        let known = set.iter().position(|cell| cell.tag == tag);
        let oldest = || (0..set.len()).min_by_key(|at| set[*at].until_us).unwrap_or(0);
        let at = known.unwrap_or_else(oldest);
        let used_us = if known.is_some() { set[at].until_us.saturating_sub(now.mono_us) } else { 0 };
        let until_us = used_us + MINUTE_US / u64::from(per_minute);
        if until_us > MINUTE_US {
            self.wait_s = (until_us - MINUTE_US).div_ceil(1_000_000) as u32;
            return false;
        }
        if counts {
            set[at] = Cell { tag, until_us: now.mono_us + until_us };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { unix_ms: 0, mono_us: ms * 1_000 }
    }

    #[test]
    fn a_limit_is_met_within_a_minute_and_earned_again_with_time() {
        let mut rates = Rates::new(6, 0);
        let mut allows = |ms, who| rates.allows(at(ms), Caller::Session(who), true);
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(|ms| allows(ms, 7)), [true, true, true, true, true, true, false]);
        assert!(allows(7, 8), "another has a limit of its own");
        assert!(!allows(9_000, 7));
        assert_eq!([10_100, 10_200].map(|ms| allows(ms, 7)), [true, false], "one each ten seconds");
        assert!((0..1_000).all(|_| rates.allows(at(0), Caller::Device(1), true)), "0 is no limit");
        assert_eq!(rates.wait_s, 10, "just served, and one each ten seconds");
        assert!(!rates.allows(at(15_300), Caller::Session(7), true));
        assert_eq!(rates.wait_s, 5);
        assert!((0..9).all(|_| rates.allows(at(20_300), Caller::Session(7), false)), "to ask is free");
        assert!(rates.allows(at(20_300), Caller::Session(7), true));
        assert!(!rates.allows(at(20_300), Caller::Session(7), false));
    }

    #[test]
    fn a_million_addresses_hide_nobody_and_take_no_more_memory() {
        let mut rates = Rates::new(60, 60);
        let mut refused = 0;
        let loud = Caller::Session(1);
        for address in 0..1_000_000_u64 {
            assert!(rates.allows(at(address / 1_000), Caller::Address(address), true));
            if address % 1_000 == 0 {
                refused += u64::from(!rates.allows(at(address / 1_000), loud, true));
            }
        }
        // A thousand times in a second, where 60 a minute are allowed.
        assert!((930..=940).contains(&refused), "{refused}");
        assert_eq!(rates.sets.len(), RATE_SETS);
    }
}
