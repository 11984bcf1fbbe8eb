//! Who is served when not all can be: rate limits, the governors *bytes* and *delay*, and before them the brown-out.
//!
//! Each shard has an [`Admission`]; what the node decides as one lies in [`Shared`], without a lock. Time and the age of
//! work come in, a [`Verdict`] comes out. What refusing looks like is `service`'s, when to read on is `shard`'s.

#![forbid(unsafe_code)]

mod brownout;
mod bytes;
mod delay;
pub mod rate;

use std::sync::Arc;

use strum::{EnumCount, IntoStaticStr, VariantArray};

use crate::limits::{BACKLOG, DELAY_TARGET_MS, HELD_MS_MAX, HELLO_DEADLINE_PARTS, HELLO_QUEUE_MS};
use crate::words::{Now, mix};
use brownout::Brownout;
use bytes::{Account, Egress};
pub use delay::Delay;
use rate::Rates;

/// What may be asked, the first to be shed first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, EnumCount)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Class {
    Beacon,
    /// Pages, bundles and other files.
    Page,
    Session,
    Refresh,
    Verdict,
    Health,
}

/// Who refused, as metrics name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Refuser {
    Bytes,
    Delay,
    /// Dropped without an answer: nobody waits for it any more.
    Deadline,
    SessionRate,
    DeviceRate,
    AddressRate,
}

/// What becomes of a request; one on hold is kept unread until the shard asks again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Verdict {
    Serve,
    Hold,
    Refuse(Refuser),
}

/// How old work is, as the kernel tells (tcp(7), `TCP_INFO`).
#[derive(Clone, Copy, Debug)]
pub struct Age {
    /// Milliseconds since its last bytes came, to within a tick of the kernel's.
    pub ms: u64,
    /// Nobody is there any more to be answered.
    pub is_gone: bool,
}

/// What all shards of the node decide together.
pub struct Shared {
    /// What may be sent.
    pub egress: Arc<Egress>,
    /// How much longer windows are than they were set.
    pub brownout: Brownout,
    /// Of the hash by which some come first.
    key: u64,
}

impl Shared {
    /// With so many bits a second to send; none: no bound. `key` is secret and random.
    pub fn new(egress_bits_per_s: Option<u64>, key: u64) -> Shared {
        Shared { egress: Arc::new(Egress::new(egress_bits_per_s)), brownout: Brownout::default(), key }
    }
}

/// One shard's part.
#[allow(missing_docs, reason = "where the name says it")]
pub struct Admission {
    pub shared: Arc<Shared>,
    pub account: Account,
    /// Whether and whom it sheds for want of time.
    pub delay: Delay,
    /// Requests of one session, one device, one address.
    pub rates: Rates,
    deadline_ms: u64,
    sampled_ms: u64,
    /// The first and the last hello that came late, of those between which there was no long time.
    hellos_late_ms: (u64, u64),
}

impl Admission {
    /// The part of one of `shards`; work older than `deadline_ms` milliseconds is dropped.
    pub fn new(shared: Arc<Shared>, shards: usize, deadline_ms: u64, rates: Rates) -> Admission {
        let account = Account::new(&shared.egress, shards);
        let (delay, sampled_ms, hellos_late_ms) = Default::default();
        Admission { shared, account, delay, rates, deadline_ms, sampled_ms, hellos_late_ms }
    }

    /// Whether all that comes is served.
    pub fn is_open(&self) -> bool {
        !self.account.is_bounded && !self.delay.is_active()
    }

    /// Whether a governor refuses, or has just refused.
    pub fn is_active(&self) -> bool {
        self.delay.is_active() || self.account.is_short
    }

    /// Whether the age of what was just received is wanted: of a sample, and under load of everything.
    pub fn wants_age(&mut self, now: Now) -> bool {
        self.delay.is_active() || std::mem::replace(&mut self.sampled_ms, now.mono_ms()) != now.mono_ms()
    }

    /// That age, of a TLS hello or of a request. `false`: it comes too late, or nobody waits for it; drop it.
    pub fn handle_age(&mut self, now: Now, age: Age, is_hello: bool) -> bool {
        self.delay.sample(age.ms);
        // Who has closed only its own side may still read: it counts as gone while a queue stands, and it has waited.
        let is_gone = age.is_gone && age.ms >= DELAY_TARGET_MS && self.delay.is_crowded();
        let is_late = is_hello && age.ms >= self.deadline_ms / HELLO_DEADLINE_PARTS;
        !(is_gone || (is_late && self.is_hello_queue(now)) || (self.delay.is_active() && age.ms >= self.deadline_ms))
    }

    /// Whether hellos come late for so long, now once more, that it is a queue and no stall of the machine.
    fn is_hello_queue(&mut self, now: Now) -> bool {
        let (first_ms, last_ms) = &mut self.hellos_late_ms;
        if now.mono_ms() > *last_ms + HELLO_QUEUE_MS {
            *first_ms = now.mono_ms();
        }
        *last_ms = now.mono_ms();
        *last_ms >= *first_ms + HELLO_QUEUE_MS
    }

    /// Whether what waited unread since then still has someone who waits for it.
    pub fn is_in_time(&self, now: Now, since_ms: u64) -> bool {
        now.mono_ms().saturating_sub(since_ms) < self.deadline_ms
    }

    /// What becomes of a request of this class that `who` makes, and that was first told to wait at `held_since_ms`.
    pub fn judge(&mut self, now: Now, class: Class, who: impl FnOnce() -> u64, held_since_ms: Option<u64>) -> Verdict {
        // Another part of the city comes first with each hour, and nobody knows which.
        if self.delay.is_active()
            && !self.delay.admits(class, mix(who() ^ mix(self.shared.key.wrapping_add(now.unix_s() / 3_600))))
        {
            return Verdict::Refuse(Refuser::Delay);
        }
        if class > Class::Page || self.account.has_room(now) {
            return Verdict::Serve;
        }
        let held_ms = held_since_ms.map_or(0, |since_ms| now.mono_ms().saturating_sub(since_ms));
        if held_ms < HELD_MS_MAX { Verdict::Hold } else { Verdict::Refuse(Refuser::Bytes) }
    }

    /// How many connections may wait to be accepted, where so many do.
    pub fn backlog(&mut self, queued: u32) -> u32 {
        self.delay.handle_queue(queued);
        if self.delay.is_crowded() { self.delay.queue_max } else { BACKLOG }
    }

    /// A turn of the shard, where a window at a level is so many seconds long.
    #[inline]
    pub fn handle_turn(&mut self, now: Now, window_s: impl Fn(u32) -> u32) {
        if self.delay.handle_turn(now) {
            let waits = self.delay.sheds(Class::Refresh) || self.delay.is_crowded();
            let pressed = waits || self.account.is_overdrawn(now);
            self.shared.brownout.steer(now, pressed, window_s);
            if self.account.is_short {
                self.account.has_room(now);
            }
        }
    }
}

impl Default for Admission {
    /// One that refuses nobody for want of room or of right.
    fn default() -> Admission {
        Admission::new(Arc::new(Shared::new(None, 0)), 1, u64::MAX, Rates::new(0, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_of_newcomers_that_stands_asks_for_longer_windows_though_none_is_refused() {
        let mut admission = Admission::default();
        for ms in (0..8_000).step_by(10) {
            let now = Now { unix_ms: 1_800_000_000_000 + ms, mono_us: (1_000_000 + ms) * 1_000 };
            // Work is old for a moment; then the kernel's queue alone is full.
            let age_ms = if ms < 300 { 2 * DELAY_TARGET_MS } else { 0 };
            assert!(admission.handle_age(now, Age { ms: age_ms, is_gone: false }, false));
            admission.backlog(BACKLOG);
            admission.handle_turn(now, |_| 1);
        }
        assert!(!admission.delay.sheds(Class::Refresh));
        assert!(admission.shared.brownout.level(u64::MAX) > 0);
    }
}
