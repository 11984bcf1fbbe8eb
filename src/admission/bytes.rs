//! The bytes governor: what all shards together may send, as one virtual clock (the generic cell rate algorithm, ITU-T
//! I.371). Each sent byte moves the clock on by the time that it takes at the budget's rate; who finds it ahead of the
//! real one waits. Shards settle what they have sent every few milliseconds, with one atomic operation, so that none
//! has a fixed share and an idle one keeps nothing back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits::{EGRESS_BURST_US, EGRESS_DEBT_US_MAX, SEGMENT_BYTES, SEGMENT_HEADER_BYTES};
use crate::words::Now;

/// What the node may send.
pub struct Egress {
    /// Bytes a second; 0: there is no bound.
    pub bytes_per_s: u64,
    /// Up to when, in nanoseconds of the monotonic clock, what was sent has taken the budget.
    spent_until_ns: AtomicU64,
}

impl Egress {
    /// A budget in bits a second; none: no bound.
    pub fn new(bits_per_s: Option<u64>) -> Egress {
        Egress { bytes_per_s: bits_per_s.map_or(0, |bits| (bits / 8).max(1)), spent_until_ns: AtomicU64::new(0) }
    }

    fn duration_ns(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(1_000_000_000) / self.bytes_per_s
    }

    /// Nanoseconds by which what was sent is ahead of the budget.
    fn ahead_ns(&self, now: Now) -> u64 {
        self.spent_until_ns.load(Relaxed).saturating_sub(now.mono_us * 1_000)
    }

    fn take(&self, now: Now, bytes: u64) {
        let least_ns = (now.mono_us * 1_000).saturating_sub(EGRESS_BURST_US * 1_000);
        let (own_ns, now_ns) = (self.duration_ns(bytes), now.mono_us * 1_000);
        // Many small sends owe no more than the bound; what one long file takes is owed as a whole.
        let most_ns = now_ns + own_ns.max(EGRESS_DEBT_US_MAX * 1_000);
        let next = |until_ns: u64| Some((until_ns.max(least_ns) + own_ns).min(most_ns.max(until_ns)));
        let _ = self.spent_until_ns.fetch_update(Relaxed, Relaxed, next);
    }
}

/// One shard's account with it.
pub struct Account {
    egress: Arc<Egress>,
    /// Somebody bounds what may be sent.
    pub is_bounded: bool,
    /// Sent, and not settled.
    owed_bytes: u64,
    /// From so many on it is settled.
    settle_bytes: u64,
    /// The last page that asked found no room.
    pub(super) is_short: bool,
}

impl Account {
    pub(super) fn new(egress: &Arc<Egress>, shards: usize) -> Account {
        // What all shards together have not settled is a millisecond's worth at most.
        let settle_bytes = egress.bytes_per_s / 1_000 / shards.max(1) as u64;
        let is_bounded = egress.bytes_per_s > 0;
        Account { egress: egress.clone(), is_bounded, owed_bytes: 0, settle_bytes, is_short: false }
    }

    /// So many bytes go out, of whatever class: they are counted, and may be owed.
    pub fn spend(&mut self, now: Now, bytes: usize) {
        if !self.is_bounded {
            return;
        }
        let bytes = bytes as u64;
        self.owed_bytes += bytes + bytes.div_ceil(SEGMENT_BYTES) * SEGMENT_HEADER_BYTES;
        if self.owed_bytes >= self.settle_bytes {
            self.settle(now);
        }
    }

    fn settle(&mut self, now: Now) {
        self.egress.take(now, std::mem::take(&mut self.owed_bytes));
    }

    /// Whether a page may be sent now.
    pub fn has_room(&mut self, now: Now) -> bool {
        if self.is_bounded {
            self.settle(now);
            self.is_short = self.egress.ahead_ns(now) > 0;
        }
        !self.is_short
    }

    /// Whether what may not be refused alone takes more than the budget.
    pub(super) fn is_overdrawn(&self, now: Now) -> bool {
        self.is_bounded && self.egress.ahead_ns(now) > EGRESS_DEBT_US_MAX * 1_000 / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { unix_ms: 0, mono_us: ms * 1_000 }
    }

    #[test]
    fn a_long_file_is_owed_as_a_whole_and_small_sends_neither_add_to_it_nor_forgive_it() {
        // A megabyte a second: ten megabytes take ten.
        let egress = Arc::new(Egress::new(Some(8_000_000)));
        let mut account = Account::new(&egress, 1);
        assert!(account.has_room(at(1_000)));
        account.spend(at(1_000), 10_000_000);
        for ms in 1_001..10_000 {
            account.spend(at(ms), 2_000);
            assert!(!account.has_room(at(ms)), "{ms}");
        }
    }

    #[test]
    fn what_refreshes_owe_has_a_bound() {
        let egress = Arc::new(Egress::new(Some(8_000_000)));
        let mut account = Account::new(&egress, 1);
        // Ten times the budget for a minute.
        (1..60_000).for_each(|ms| account.spend(at(ms), 10_000));
        assert!(account.is_overdrawn(at(60_000)));
        assert!(!account.has_room(at(60_900)) && account.has_room(at(61_100)));
    }
}
