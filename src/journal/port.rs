//! A shard's way into the journal: a bounded queue in, a count of durable records back.
//!
//! One lane belongs to one shard and to the journal's thread. What a shard appends becomes durable in the order in
//! which it appended it, so a count is all that has to come back: the shard keeps what it will do then in a queue of
//! its own. Neither side waits for the other; the journal's thread parks while it has nothing to do.

use std::sync::Arc;

use crossbeam::atomic::AtomicCell;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use super::record::Record;
use crate::limits::JOURNAL_LANE_RECORDS_MAX;

/// What a shard and the journal's thread share.
pub struct Lane {
    /// Records to write, as [`Record::encode`] made them.
    pub queue: ArrayQueue<Box<[u8]>>,
    /// So many records of this lane, from its first on, are on disk. Set by the journal's thread, which then rings.
    pub durable: CachePadded<AtomicCell<u64>>,
    /// Nothing more will become durable; set and rung likewise. What `durable` says after this stays so.
    pub failed: AtomicCell<bool>,
    /// What is refused for want of space.
    pub shut: AtomicCell<Shut>,
    /// The records up to this ticket are applied: a snapshot that is begun now has them.
    pub applied: CachePadded<AtomicCell<u64>>,
    /// How many removals of test data its shard has asked all owners for (the admin's), or has done (an owner).
    pub purges: AtomicCell<u64>,
}

/// What the journal takes, by the space that it has left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Default, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Shut {
    #[default]
    Open,
    /// No scan: what is left is kept for other records.
    ToScans,
    ToAll,
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

#[allow(missing_docs, reason = "the name says it")]
impl Lane {
    pub fn new() -> Arc<Lane> {
        Lane::of(JOURNAL_LANE_RECORDS_MAX)
    }

    pub(super) fn of(records: usize) -> Arc<Lane> {
        Arc::new(Lane {
            queue: ArrayQueue::new(records),
            durable: CachePadded::default(),
            failed: AtomicCell::default(),
            shut: AtomicCell::default(),
            applied: CachePadded::default(),
            purges: AtomicCell::default(),
        })
    }
}

/// A shard's end of its lane.
#[allow(missing_docs, reason = "the name says it")]
pub struct Port {
    pub lane: Arc<Lane>,
    appended: u64,
    rung: bool,
    /// Nothing is taken any more, as if the lane were full: another process is about to take the journal up.
    pub closed: bool,
}

#[allow(missing_docs, reason = "where the name says it")]
impl Port {
    pub fn new(lane: Arc<Lane>) -> Port {
        Port { lane, appended: 0, rung: false, closed: false }
    }

    /// Hands a record to the journal. Returns its ticket: it is on disk once [`Lane::durable`] has reached it.
    pub fn append(&mut self, record: &Record<'_>) -> Result<u64, Refused> {
        let least = if matches!(record, Record::Scan { .. }) { Shut::ToScans } else { Shut::ToAll };
        match self.lane.shut.load() {
            _ if self.lane.failed.load() => return Err(Refused::Failed),
            _ if self.closed => return Err(Refused::Full),
            shut if shut >= least => return Err(Refused::Space),
            _ => self.lane.queue.push(record.encode()).map_err(|_| Refused::Full)?,
        }
        self.appended += 1;
        self.rung = true;
        Ok(self.appended)
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
        assert_eq!(lane.queue.len(), JOURNAL_LANE_RECORDS_MAX);
        assert!(port.poll_bell() && !port.poll_bell());
        lane.queue.pop().unwrap();
        assert_eq!(port.append(&record()), Ok(JOURNAL_LANE_RECORDS_MAX as u64 + 1));
        lane.durable.store(1);
        lane.failed.store(true);
        assert_eq!((port.append(&record()), port.lane.durable.load()), (Err(Refused::Failed), 1));
    }

    #[test]
    fn a_closed_port_refuses_as_if_its_lane_were_full() {
        let lane = Lane::new();
        let mut port = Port::new(lane.clone());
        port.closed = true;
        assert_eq!((port.append(&record()), lane.queue.len()), (Err(Refused::Full), 0));
    }
}
