//! A journal for simulated processes: slow by its seed, failing when told to, and keeping what a disk would have kept.

use std::sync::Arc;

use onecode::journal::Lane;
use onecode::words::Now;

use super::sim;

/// The journal of a simulated process: what it takes it syncs some time later, unless it fails.
pub struct Disk {
    lanes: Vec<Arc<Lane>>,
    /// By lane, what has been taken, all of it, and how many of those are synced.
    taken: Vec<Vec<Box<[u8]>>>,
    synced: Vec<usize>,
    /// In monotonic microseconds; while a sync is under way.
    sync_at_us: Option<u64>,
    /// What is synced, in the order in which it was: the number of the lane, and the record.
    pub log: Vec<(usize, Box<[u8]>)>,
    /// A sync takes up to so long.
    pub sync_ms_max: u64,
    /// It fails when it is to sync more records than this in all.
    pub fails_after: usize,
    /// It says that records are durable when they are only taken: what a test of the promises must notice.
    pub lies: bool,
}

impl Disk {
    /// A journal that serves these lanes, one a shard, at once and for ever.
    pub fn new(lanes: Vec<Arc<Lane>>) -> Disk {
        let (taken, synced) = (lanes.iter().map(|_| Vec::new()).collect(), vec![0; lanes.len()]);
        let (sync_at_us, log, sync_ms_max, fails_after, lies) = (None, Vec::new(), 0, usize::MAX, false);
        Disk { lanes, taken, synced, sync_at_us, log, sync_ms_max, fails_after, lies }
    }
}

impl sim::Disk for Disk {
    fn is_ready(&self, now: Now) -> bool {
        match self.sync_at_us {
            Some(at_us) => now.mono_us >= at_us,
            None => self.lanes.iter().any(|lane| !lane.queue.is_empty()),
        }
    }

    /// Ends the sync that is due, or takes what there is and begins one.
    fn step(&mut self, now: Now, random: &mut fastrand::Rng) -> bool {
        if self.sync_at_us.take().is_none() {
            for (lane, taken) in self.lanes.iter().zip(&mut self.taken) {
                taken.extend(std::iter::from_fn(|| lane.queue.pop()));
                if self.lies {
                    lane.durable.store(taken.len() as u64);
                }
            }
            self.sync_at_us = Some(now.mono_us + random.u64(0..=self.sync_ms_max * 1_000));
            return self.lies;
        }
        if self.log.len() >= self.fails_after {
            self.lanes.iter().for_each(|lane| lane.failed.store(true));
            // What comes later is taken and never synced.
            self.sync_at_us = Some(u64::MAX);
            return true;
        }
        for (number, taken) in self.taken.iter().enumerate() {
            self.log.extend(taken[self.synced[number]..].iter().map(|record| (number, record.clone())));
            self.synced[number] = taken.len();
            self.lanes[number].durable.store(taken.len() as u64);
        }
        true
    }
}
