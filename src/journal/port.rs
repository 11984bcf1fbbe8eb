//! A shard's way into the journal: a bounded queue in, a count of durable records back.
//!
//! One lane belongs to one shard and to the journal's thread. What a shard appends becomes durable in the order in
//! which it appended it, so a count is all that has to come back: the shard keeps what it will do then in a queue of
//! its own. Neither side waits for the other; the journal's thread parks while it has nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use super::record::Record;
use crate::limits::JOURNAL_LANE_RECORDS_MAX;

/// What a shard and the journal's thread share.
pub struct Lane {
    queue: ArrayQueue<Box<[u8]>>,
    durable: CachePadded<AtomicU64>,
    failed: AtomicBool,
    shut: AtomicBool,
    shut_to_scans: AtomicBool,
    applied: CachePadded<AtomicU64>,
    purges: AtomicU64,
}

/// Why a record was not taken: nothing of it will be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The lane is full: come back shortly.
    Full,
    /// A write or a sync has failed. Nothing is taken until the process starts again.
    Failed,
    /// The journal may not take more of the disk.
    Space,
}

#[allow(missing_docs, reason = "where the name says it")]
impl Lane {
    pub fn new() -> Arc<Lane> {
        Lane::of(JOURNAL_LANE_RECORDS_MAX)
    }

    pub(super) fn of(records: usize) -> Arc<Lane> {
        Arc::new(Lane {
            queue: ArrayQueue::new(records),
            durable: CachePadded::default(),
            failed: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            shut_to_scans: AtomicBool::new(false),
            applied: CachePadded::default(),
            purges: AtomicU64::new(0),
        })
    }

    /// The next record to write, as [`Record::encode`] made it. For the journal's thread.
    pub fn take(&self) -> Option<Box<[u8]>> {
        self.queue.pop()
    }

    pub fn depth(&self) -> usize {
        self.queue.len()
    }

    /// So many records of this lane, from its first on, are on disk. For the journal's thread, which then rings.
    pub fn set_durable(&self, records: u64) {
        self.durable.store(records, Ordering::Release);
    }

    /// Nothing more will become durable. For the journal's thread, which then rings the shard's bell.
    pub fn set_failed(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Whether new records are refused, for want of space: scans, and all of them.
    pub fn set_shut(&self, scans: bool, all: bool) {
        self.shut_to_scans.store(scans, Ordering::Relaxed);
        self.shut.store(all, Ordering::Relaxed);
    }

    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// How many removals of test data its shard has asked all owners for (the admin's), or has done (an owner).
    pub fn purges(&self) -> u64 {
        self.purges.load(Ordering::Acquire)
    }
}

/// A shard's end of its lane.
pub struct Port {
    /// It tells what is durable.
    pub lane: Arc<Lane>,
    appended: u64,
    rung: bool,
    closed: bool,
}

#[allow(missing_docs, reason = "where the name says it")]
impl Port {
    pub fn new(lane: Arc<Lane>) -> Port {
        Port { lane, appended: 0, rung: false, closed: false }
    }

    /// Hands a record to the journal. Returns its ticket: it is on disk once [`durable`](Lane::durable) has reached it.
    pub fn append(&mut self, record: &Record<'_>) -> Result<u64, Refused> {
        if self.is_failed() {
            return Err(Refused::Failed);
        }
        let (scans, all) = self.is_shut();
        if self.closed {
            return Err(Refused::Full);
        }
        if all || (scans && matches!(record, Record::Scan { .. })) {
            return Err(Refused::Space);
        }
        self.lane.queue.push(record.encode()).map_err(|_| Refused::Full)?;
        self.appended += 1;
        self.rung = true;
        Ok(self.appended)
    }

    /// Takes nothing from here on, as if the lane were full: another process is about to take the journal up.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// The records up to this ticket are applied: a snapshot that is begun now has them.
    pub fn set_applied(&self, ticket: u64) {
        self.lane.applied.store(ticket, Ordering::Release);
    }

    pub fn set_purges(&self, purges: u64) {
        self.lane.purges.store(purges, Ordering::Release);
    }

    /// Whether the journal has stopped for good; what [`durable`](Lane::durable) says after this stays so.
    pub fn is_failed(&self) -> bool {
        self.lane.failed.load(Ordering::Acquire)
    }

    /// Whether no scan is taken, as what is left is kept for other records, and whether nothing is, for want of space.
    pub fn is_shut(&self) -> (bool, bool) {
        (self.lane.shut_to_scans.load(Ordering::Relaxed), self.lane.shut.load(Ordering::Relaxed))
    }

    /// Whether the journal's thread must be woken: something was appended since this was last asked.
    pub fn poll_bell(&mut self) -> bool {
        std::mem::take(&mut self.rung)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record<'static> {
        Record::PurgeTest { at_ms: 1, author: "a" }
    }

    #[test]
    fn a_full_lane_and_a_failed_journal_refuse() {
        let lane = Lane::new();
        let mut port = Port::new(lane.clone());
        for ticket in 1..=JOURNAL_LANE_RECORDS_MAX as u64 {
            assert_eq!(port.append(&record()), Ok(ticket));
        }
        assert_eq!(port.append(&record()), Err(Refused::Full));
        assert_eq!(lane.depth(), JOURNAL_LANE_RECORDS_MAX);
        assert!(port.poll_bell() && !port.poll_bell());
        lane.take().unwrap();
        assert_eq!(port.append(&record()), Ok(JOURNAL_LANE_RECORDS_MAX as u64 + 1));
        lane.set_durable(1);
        lane.set_failed();
        assert_eq!((port.append(&record()), port.lane.durable()), (Err(Refused::Failed), 1));
    }

    #[test]
    fn a_closed_port_refuses_as_if_its_lane_were_full() {
        let lane = Lane::new();
        let mut port = Port::new(lane.clone());
        port.close();
        assert_eq!((port.append(&record()), lane.depth()), (Err(Refused::Full), 0));
    }
}
