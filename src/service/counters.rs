//! What one shard counts. One writer, so an increment is a relaxed load and a relaxed store; any thread reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use strum::{EnumCount, IntoStaticStr, VariantArray};

use super::Route;
use crate::admission::Refuser;

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
#[allow(missing_docs, reason = "where the name says it")]
pub enum EndReason {
    /// The peer closed, or asked for it, or the connection had had its share of requests or time.
    Closed,
    Idle,
    /// A head, a body or a reader.
    Slow,
    Large,
    /// What it sent was not HTTP as we read it.
    Malformed,
    /// Nobody waited for what it asked any more.
    Overdue,
    /// All connections that there may be, or that its address may have, were taken.
    Refused,
    /// A header of the PROXY protocol was malformed, or came from a stranger.
    Proxy,
    /// The network failed it.
    Failed,
    /// What it sent was no TLS handshake that we take.
    Handshake,
}

/// Makes of each line, `NAME "HELP";`, a counter of a shard and its metric.
macro_rules! counts {
    ($($name:ident $help:literal;)*) => {
        /// All counts of one shard. Shards keep theirs apart by padding.
        #[derive(Default)]
        pub struct Counters {
            /// Answers, by route and by the hundreds of the status.
            pub answers: [[Counter; RESULTS.len()]; Route::COUNT],
            /// Connections that have ended, by reason.
            pub ended: [Counter; EndReason::COUNT],
            /// Requests refused or dropped under load, by who did it.
            pub shed: [Counter; Refuser::COUNT],
            /// Connections open now.
            pub open: Counter,
            /// Since when the oldest record waits to be on disk, monotonic milliseconds; 0: none does.
            pub journal_waits_since_ms: Counter,
            $(#[doc = $help] pub $name: Counter,)*
        }

        /// What is one number each: name without `onecode_` and `_total`, help, which.
        pub const COUNTS: &[(&str, &str, fn(&Counters) -> &Counter)] =
            &[$((stringify!($name), $help, |all| &all.$name)),*];
    };
}

counts! {
    signatures "Codes signed.";
    ahead_signatures "Of the signatures, those made before they were asked for.";
    ahead_hits "Refreshes that found their signature made.";
    payload_hits "Refreshes answered from this window's payload.";
    sampled_waits "Receives of which it was asked how long they had waited for the shard.";
    sampled_wait_ms "Milliseconds that these had waited, to within a tick of the kernel's.";
    received_bytes "Bytes received.";
    sent_bytes "Bytes handed to the kernel for sending.";
    ring_overflows "Completions that found the ring's queue full; stays 0.";
    zerocopy_sends "Pages sent without a copy.";
    zerocopy_copies "Of these, copied by the kernel all the same.";
    connections_accepted "Connections accepted.";
    connections_refused "Connections closed at once for want of a place or descriptor.";
    tls_full_handshakes "TLS connections with a whole handshake.";
    tls_resumed_handshakes "TLS connections that came back with a ticket.";
    journal_appended "Records handed to the journal.";
    journal_acknowledged "Records answered, being on disk.";
    journal_refused "Records not taken, the lane full or the journal failed.";
    statuses_ignored "Statements about residents, no news.";
    scans_unrecorded "Verdicts without their record on disk.";
}

impl Counters {
    /// Counts one answer.
    pub fn count_answer(&self, route: Route, status: u16) {
        let result = usize::from(status / 100).saturating_sub(2).min(RESULTS.len() - 1);
        self.answers[route as usize][result].add(1);
    }
}
