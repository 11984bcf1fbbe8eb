//! The delay governor: sheds while work waits too long, by class and then by a hash of who asks.
//!
//! What is controlled is the age of work when its turn comes, as in CoDel (Nichols and Jacobson, 2012): a queue that
//! comes and goes is good, one that stands is not. While the age is below the target all are served; above it, those
//! whose priority lies below a level are refused. The level is set from the priorities that came in the last interval
//! (DAGOR, Zhou et al., 2018), so that it finds its place in a few intervals however the load is made up. Since nobody
//! is refused while the queue is short, a level that is too high costs no goodput.
//!
//! Refusing has a bound of its own: a connection that was refused is read again only when its turn among the refused
//! has come. New ones wait in a short queue of the kernel's, which turns away what it has no room for at no cost of ours.

use strum::EnumCount;

use super::Class;
use crate::limits::{
    CALM_INTERVALS, CROWDED_BACKLOG_MAX, CROWDED_BACKLOG_MIN, DELAY_INTERVAL_MS, DELAY_TARGET_MS, PAUSE_US_MAX,
    SERVED_A_REFUSAL,
};
use crate::words::Now;

/// Parts of a class that are shed one after the other.
const PARTS: usize = 64;
/// A queue stands while no more than one in so many is young: not every driver takes the oldest first, as CoDel assumes.
const YOUNG_SHARE: i32 = 10;
const PRIORITIES: usize = Class::COUNT * PARTS;

/// One shard's.
#[derive(Default)]
pub struct Delay {
    /// Priorities below are shed while work waits.
    level: usize,
    /// The age of the last work that was looked at, in milliseconds; and of this interval's, if any, how many were old, less
    /// the share of them that each young one stands for.
    age_ms: u64,
    balance: Option<i32>,
    /// How many of each priority came in this interval, since work waits; in rows short enough to have a default.
    came: [[u32; PARTS / 2]; 2 * Class::COUNT],
    served: u64,
    ends_ms: u64,
    /// When the connection refused next is read again, monotonic microseconds; and how long after it the one behind it.
    next_us: u64,
    step_us: u64,
    /// Connections that wait to be accepted, and for how many intervals to come those count as too many.
    queued: u32,
    crowded: u32,
    /// How many may wait to be accepted while they are too many.
    pub(super) queue_max: u32,
}

impl Delay {
    /// Whether work waits, or has just waited.
    pub fn is_active(&self) -> bool {
        self.level > 0 || self.age_ms >= DELAY_TARGET_MS || self.is_crowded()
    }

    /// Whether new connections come faster than they are served.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded > 0
    }

    pub(super) fn handle_queue(&mut self, connections: u32) {
        self.queued = self.queued.max(connections);
    }

    /// Whether some of this class are shed.
    pub(super) fn sheds(&self, class: Class) -> bool {
        self.level > class as usize * PARTS
    }

    pub(super) fn sample(&mut self, age_ms: u64) {
        self.age_ms = age_ms;
        *self.balance.get_or_insert(0) += if age_ms < DELAY_TARGET_MS { 1 - YOUNG_SHARE } else { 1 };
    }

    /// Whether work of this class is served now, where `hash` is of who asks. Asked only while it is active.
    pub(super) fn admits(&mut self, class: Class, hash: u64) -> bool {
        // Below PARTS, so it fits.
        let priority = class as usize * PARTS + (hash % PARTS as u64) as usize;
        self.came.as_flattened_mut()[priority] += 1;
        let admits = priority >= self.level || self.age_ms < DELAY_TARGET_MS;
        self.served += u64::from(admits);
        admits
    }

    /// When the connection of a request that is refused is read again, in monotonic microseconds.
    pub fn pause_us(&mut self, now: Now) -> u64 {
        self.next_us = (self.next_us.max(now.mono_us) + self.step_us).min(now.mono_us + PAUSE_US_MAX);
        self.next_us
    }

    /// Ends an interval when it is over, and says so.
    pub(super) fn handle_turn(&mut self, now: Now) -> bool {
        if now.mono_ms() < self.ends_ms {
            return false;
        }
        let interval_us = (now.mono_ms() - self.ends_ms).min(DELAY_INTERVAL_MS) * 1_000 + DELAY_INTERVAL_MS * 1_000;
        let is_idle = self.balance.is_none();
        let waits = self.balance.is_some_and(|balance| balance >= 0);
        let is_full = self.is_crowded() && std::mem::take(&mut self.queued) >= self.queue_max;
        self.crowded = if waits || is_full { CALM_INTERVALS } else { self.crowded.saturating_sub(1) };
        let above: u64 = self.came.as_flattened()[self.level..].iter().map(|count| u64::from(*count)).sum();
        self.level = match self.level {
            _ if waits => self.level_of(above - above / 10).max(self.level + 1).min(PRIORITIES),
            level if level > 0 && !is_idle => self.level_of(above + above / 10).min(level - 1),
            _ => 0,
        };
        if !waits {
            self.age_ms = 0;
        }
        self.queue_max = (self.served as u32 / 5).clamp(CROWDED_BACKLOG_MIN, CROWDED_BACKLOG_MAX);
        self.step_us = interval_us * SERVED_A_REFUSAL / self.served.max(1);
        (self.came, self.served, self.balance) = Default::default();
        self.ends_ms = now.mono_ms() + DELAY_INTERVAL_MS;
        true
    }

    /// The lowest level above which no more than `wanted` came.
    fn level_of(&self, wanted: u64) -> usize {
        let mut above = 0;
        let fits = |count: &&u32| {
            above += u64::from(**count);
            above <= wanted
        };
        PRIORITIES - self.came.as_flattened().iter().rev().take_while(fits).count()
    }
}

#[cfg(test)]
mod tests;
