//! What one shard counts. One writer, so an increment is a relaxed load and a relaxed store; any thread reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use strum::{EnumCount, IntoStaticStr, VariantArray};

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

/// Why a connection ended, as the metrics count and name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum EndReason {
    /// The peer closed, or asked for it, or the connection had had its share of requests or time.
    Closed,
    /// Nothing came within the idle limit.
    Idle,
    /// A head, a body or a reader was too slow.
    Slow,
    /// A head or a body was larger than it may be.
    Large,
    /// What it sent was not HTTP as we read it.
    Malformed,
    /// All connections that there may be, or that its address may have, were taken.
    Refused,
    /// A header of the PROXY protocol was malformed, or came from a stranger.
    Proxy,
    /// The network failed it.
    Failed,
    /// What it sent was no TLS handshake that we take.
    Handshake,
}

/// All counts of one shard. Shards keep theirs apart by padding.
#[derive(Default)]
#[allow(missing_docs, reason = "the help in `observe` says it")]
pub struct Counters {
    /// Answers, by route and by the hundreds of the status.
    pub answers: [[Counter; RESULTS.len()]; Route::COUNT],
    pub signatures: Counter,
    pub payload_hits: Counter,
    /// Of the signatures, those that nobody waited for.
    pub ahead_signatures: Counter,
    pub ahead_hits: Counter,
    pub received_bytes: Counter,
    pub sent_bytes: Counter,
    /// Completions that found the ring's queue full; 0 unless the ring is too small.
    pub ring_overflows: Counter,
    pub zerocopy_sends: Counter,
    /// Of these, pages that the kernel copied all the same; the first one of a shard is its last.
    pub zerocopy_copies: Counter,
    pub accepted: Counter,
    /// Connections refused because all places were taken, and accepts that failed for want of descriptors or memory.
    pub refused: Counter,
    pub open: Counter,
    pub tls_full: Counter,
    pub tls_resumed: Counter,
    pub journal_appended: Counter,
    /// Records that were on disk when they were answered.
    pub journal_acknowledged: Counter,
    pub journal_refused: Counter,
    /// Since when the oldest record waits to be on disk, monotonic milliseconds of this shard; 0: none does.
    pub journal_waits_since_ms: Counter,
    pub statuses_ignored: Counter,
    /// Verdicts that went out before, or without, their record.
    pub scans_unrecorded: Counter,
    pub ended: [Counter; EndReason::COUNT],
}

impl Counters {
    /// Counts one answer.
    pub fn count_answer(&self, route: Route, status: u16) {
        let result = usize::from(status / 100).saturating_sub(2).min(RESULTS.len() - 1);
        self.answers[route as usize][result].add(1);
    }
}
