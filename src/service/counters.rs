//! What one shard counts. One writer, so an increment is a relaxed load and a relaxed store; any thread reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Route;

/// A count with one writer.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`; only ever called from the shard that owns the counter.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// The count as it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Sets a count that goes both ways; only from the owning shard.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}

/// The results that answers are counted by: the hundreds of the status.
pub const RESULTS: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Reasons why connections end, in the order of `shard::EndReason`.
pub const END_REASONS: [&str; 5] = ["closed", "idle", "slow", "malformed", "failed"];

/// All counts of one shard. Shards keep theirs apart by padding.
#[derive(Default)]
pub struct Counters {
    /// Answers, by route and by the hundreds of the status.
    pub answers: [[Counter; RESULTS.len()]; Route::COUNT],
    /// Signatures made.
    pub signatures: Counter,
    /// Refreshes answered from this window's payload.
    pub payload_hits: Counter,
    /// Bytes received.
    pub received_bytes: Counter,
    /// Bytes handed to the kernel for sending.
    pub sent_bytes: Counter,
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections refused because all places were taken.
    pub refused: Counter,
    /// Connections open now.
    pub open: Counter,
    /// Connections ended, by reason.
    pub ended: [Counter; END_REASONS.len()],
}

impl Counters {
    /// Counts one answer.
    pub fn count_answer(&self, route: Route, status: u16) {
        let result = usize::from(status / 100).saturating_sub(2).min(RESULTS.len() - 1);
        self.answers[route as usize][result].add(1);
    }
}
