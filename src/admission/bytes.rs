//! The bytes governor: what all shards together may send, as one virtual clock (the generic cell rate algorithm, ITU-T
//! I.371). Each sent byte moves the clock on by the time that it takes at the budget's rate; who finds it ahead of the
//! real one waits. Shards settle what they have sent every few milliseconds, with one atomic operation, so that none
//! has a fixed share and an idle one keeps nothing back.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits::{EGRESS_BURST_US, EGRESS_DEBT_US_MAX, SEGMENT_BYTES, SEGMENT_HEADER_BYTES};
use crate::words::Now;

/// What the node may send.
pub struct Egress {
    /// Bytes a second; 0: there is no bound.
    bytes_per_s: u64,
    /// Up to when, in nanoseconds of the monotonic clock, what was sent has taken the budget.
    spent_until_ns: AtomicU64,
}

impl Egress {
    /// A budget in bits a second; none: no bound.
    pub fn new(bits_per_s: Option<u64>) -> Egress {
        Egress { bytes_per_s: bits_per_s.map_or(0, |bits| (bits / 8).max(1)), spent_until_ns: AtomicU64::new(0) }
    }

    /// Bytes a second; 0: there is no bound.
    pub fn bytes_per_s(&self) -> u64 {
        self.bytes_per_s
    }

    fn duration_ns(&self, bytes: u64) -> u64 {
        // Settled every few milliseconds: far below 2^64 / 10^9 bytes at a time.
        bytes.saturating_mul(1_000_000_000) / self.bytes_per_s
    }

    /// Nanoseconds by which what was sent is ahead of the budget.
    fn ahead_ns(&self, now: Now) -> u64 {
        self.spent_until_ns.load(Relaxed).saturating_sub(now.mono_us * 1_000)
    }

    fn take(&self, now: Now, bytes: u64) {
        let least_ns = (now.mono_us * 1_000).saturating_sub(EGRESS_BURST_US * 1_000);
        let most_ns = (now.mono_us + EGRESS_DEBT_US_MAX) * 1_000;
        let next = |until_ns: u64| Some((until_ns.max(least_ns) + self.duration_ns(bytes)).min(most_ns));
        // Never refused: the closure always gives a value.
        let _ = self.spent_until_ns.fetch_update(Relaxed, Relaxed, next);
    }
}

/// One shard's account with it.
pub(super) struct Account {
    /// Sent, and not settled.
    owed_bytes: u64,
    /// From so many on it is settled.
    settle_bytes: u64,
    /// The last page that asked found no room.
    pub(super) is_short: bool,
}

impl Account {
    pub(super) fn new(egress: &Egress, shards: usize) -> Account {
        // What all shards together have not settled is a millisecond's worth at most.
        Account { owed_bytes: 0, settle_bytes: egress.bytes_per_s / 1_000 / shards.max(1) as u64, is_short: false }
    }

    pub(super) fn spend(&mut self, egress: &Egress, now: Now, bytes: usize) {
        if egress.bytes_per_s == 0 {
            return;
        }
        let bytes = bytes as u64;
        self.owed_bytes += bytes + bytes.div_ceil(SEGMENT_BYTES) * SEGMENT_HEADER_BYTES;
        if self.owed_bytes >= self.settle_bytes {
            self.settle(egress, now);
        }
    }

    fn settle(&mut self, egress: &Egress, now: Now) {
        egress.take(now, std::mem::take(&mut self.owed_bytes));
    }

    /// Whether a page may be sent now.
    pub(super) fn has_room(&mut self, egress: &Egress, now: Now) -> bool {
        if egress.bytes_per_s == 0 {
            return true;
        }
        self.settle(egress, now);
        self.is_short = egress.ahead_ns(now) > 0;
        !self.is_short
    }

    /// Whether what may not be refused alone takes more than the budget.
    pub(super) fn is_overdrawn(&self, egress: &Egress, now: Now) -> bool {
        egress.bytes_per_s > 0 && egress.ahead_ns(now) > EGRESS_DEBT_US_MAX * 1_000 / 2
    }
}
