//! The writer as a state machine: what to do with the disk next, and what follows from how that went.
//!
//! It takes records from the lanes in turns, puts a batch together, has it written, has it synced after the whole of
//! it is reported written, and only then says so to the lanes. Between batches it prepares the next segment. It does
//! one thing at a time and touches no file: a writer, or the simulated disk of the tests, calls [`Log::next`], does
//! that, and calls [`Log::done`] with the outcome.
//!
//! The first write or sync of a batch that fails, or a batch for which no segment can be had, ends it: nothing is
//! written, synced or acknowledged after that. A next segment that cannot be prepared ahead of its time is removed and
//! tried once more when it is needed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::port::Lane;
use super::recover::{End, Previous};
use super::segment::{Batch, HEADER_BYTES, Header, block_up};
use crate::limits::{
    JOURNAL_BATCH_BYTES_MAX, JOURNAL_BLOCK_BYTES, JOURNAL_MARK_MS, JOURNAL_TURN_RECORDS, JOURNAL_ZEROS_BYTES,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The segment that is written to.
    Current,
    /// The next one, under its spare name.
    Spare,
}

/// What to do next.
#[derive(PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// Make the spare file, empty; remove one that is there.
    Create,
    /// Write to a file; the outcome is how many bytes, which may be fewer. Offset and length are whole blocks.
    Write { target: Target, offset: u64, bytes: &'a [u8] },
    /// Have all of a file's bytes on disk (fdatasync(2)). Never asked again after a failure.
    Sync { target: Target },
    /// Give the spare file the name of a segment and sync the folder, then note durably that it is the newest one; it is
    /// the current file from then on. Only then, and without harm if that fails, cut the file `trim` to a length.
    Adopt {
        name: u64,
        /// A segment that has ended, and its length.
        trim: Option<(u64, u64)>,
    },
    /// Remove the spare file. A failure harms nothing.
    Remove,
    /// Nothing to do until the bell rings, or so many milliseconds have passed; `None`: until it rings.
    Wait(Option<u64>),
    /// Nothing to do any more.
    End,
}

/// What the journal's thread counts, and what others ask of it.
#[derive(Default, Debug)]
pub struct Counters {
    /// Records acknowledged.
    pub records: AtomicU64,
    /// Batches of records synced.
    pub batches: AtomicU64,
    /// Bytes written to segments, padding included and zeros not.
    pub bytes: AtomicU64,
    /// Syncs asked of the disk, those of segments to come included.
    pub syncs: AtomicU64,
    /// Microseconds that all syncs took.
    pub sync_us: AtomicU64,
    /// The longest of them.
    pub sync_us_max: AtomicU64,
    /// Segments begun.
    pub segments: AtomicU64,
    /// The sequence that the current segment began with: all records before it lie in segments that stay as they are.
    pub sealed_to: AtomicU64,
    /// The sequence of the last record that was acknowledged.
    pub durable_to: AtomicU64,
    /// The next segment could not be prepared, most likely because the disk is full; it is tried again when needed.
    pub spare_refused: AtomicBool,
    /// A write or a sync has failed: nothing is acknowledged any more.
    pub failed: AtomicBool,
    /// Ask: write what is in the lanes, mark it, end.
    pub stopping: AtomicBool,
    /// Ask: go on in a new segment, so that the current one stays as it is; cleared when that is done.
    pub sealing: AtomicBool,
}

impl Counters {
    /// A sync has taken so long.
    pub fn synced(&self, us: u64) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_us.fetch_add(us, Ordering::Relaxed);
        self.sync_us_max.fetch_max(us, Ordering::Relaxed);
    }
}

/// What a log is made of.
pub struct Parts {
    /// By shard.
    pub lanes: Vec<Arc<Lane>>,
    /// Rings the bell of a lane's shard.
    pub ring: Box<dyn Fn(usize) + Send>,
    pub counters: Arc<Counters>,
    pub end: End,
    /// For the ids of segments; seeded from the system's randomness.
    pub random: fastrand::Rng,
    /// `JOURNAL_SEGMENT_BYTES`; less in tests.
    pub segment_bytes: usize,
}

/// The segment that is written to.
struct Current {
    name: u64,
    id: u64,
    offset: usize,
}

/// How far the next segment is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spare {
    Missing,
    Zeroed(usize),
    Ready,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Choosing,
    Creating,
    /// So many bytes are.
    Zeroing(usize),
    SyncingSpare,
    /// The header and, at start, the batch behind it; so much is written.
    Heading(usize),
    SyncingHead,
    Adopting,
    Writing(usize),
    Syncing,
    Removing,
    Waiting,
    Ended,
}

/// The writer's state.
pub struct Log {
    parts: Parts,
    doing: Doing,
    current: Option<Current>,
    spare: Spare,
    /// The next segment's header, then what it begins with.
    head: Vec<u8>,
    head_id: u64,
    batch: Batch,
    /// Records of each lane in the batch, and on disk.
    taken: Vec<u64>,
    durable: Vec<u64>,
    turn: usize,
    next: u64,
    /// Records have been written since the last mark.
    unmarked: bool,
    /// A step for the next segment is due before the next batch.
    owes_spare: bool,
    waited: bool,
}

static ZEROS: [u8; JOURNAL_ZEROS_BYTES] = [0; JOURNAL_ZEROS_BYTES];

impl Log {
    /// A log that goes on where the journal ended. It begins a segment of its own before anything else.
    pub fn new(parts: Parts) -> Log {
        let lanes = parts.lanes.len();
        Log {
            doing: Doing::Choosing,
            current: None,
            spare: Spare::Missing,
            head: Vec::new(),
            head_id: 0,
            batch: Batch::new(),
            taken: vec![0; lanes],
            durable: vec![0; lanes],
            turn: 0,
            next: parts.end.next,
            unmarked: false,
            owes_spare: false,
            waited: false,
            parts,
        }
    }

    /// Whether a wait would be for nothing: records lie in the lanes, or something is asked.
    pub fn is_idle(&self) -> bool {
        let Counters { stopping, sealing, .. } = &*self.parts.counters;
        let asked = stopping.load(Ordering::Relaxed) || (sealing.load(Ordering::Relaxed) && self.current_has_records());
        !asked && self.parts.lanes.iter().all(|lane| lane.depth() == 0)
    }

    /// What to do next. `unix_ms` is only noted in a new segment's header.
    pub fn next(&mut self, unix_ms: u64) -> Step<'_> {
        if self.doing == Doing::Choosing {
            self.doing = self.choose(unix_ms);
        }
        let current = self.current.as_ref().map_or(0, |current| current.offset);
        match self.doing {
            Doing::Creating => Step::Create,
            Doing::Zeroing(from) => {
                let bytes = &ZEROS[..JOURNAL_ZEROS_BYTES.min(self.parts.segment_bytes - from)];
                Step::Write { target: Target::Spare, offset: from as u64, bytes }
            }
            Doing::SyncingSpare | Doing::SyncingHead => Step::Sync { target: Target::Spare },
            Doing::Heading(from) => {
                Step::Write { target: Target::Spare, offset: from as u64, bytes: &self.head[from..] }
            }
            Doing::Adopting => {
                let trim = self.parts.end.previous.and_then(|previous| Some((previous.trim?, previous.end)));
                Step::Adopt { name: self.head_name(), trim }
            }
            Doing::Writing(from) => Step::Write {
                target: Target::Current,
                offset: (current + from) as u64,
                bytes: &self.batch.close()[from..],
            },
            Doing::Syncing => Step::Sync { target: Target::Current },
            Doing::Removing => Step::Remove,
            Doing::Waiting => Step::Wait(self.unmarked.then_some(JOURNAL_MARK_MS)),
            Doing::Choosing | Doing::Ended => Step::End,
        }
    }

    /// How the last step went: for a write how many bytes, else any number.
    pub fn done(&mut self, outcome: io::Result<usize>) {
        let (from, length) = match self.doing {
            Doing::Zeroing(from) => (from, self.parts.segment_bytes),
            Doing::Heading(from) => (from, self.head.len()),
            Doing::Writing(from) => (from, self.batch.close().len()),
            _ => (0, 0),
        };
        let Some(done) = outcome.ok().and_then(|written| progress(from, written, length)) else {
            return self.failed();
        };
        self.doing = match self.doing {
            Doing::Creating | Doing::Zeroing(_) => {
                self.spare = Spare::Zeroed(done);
                Doing::Choosing
            }
            Doing::SyncingSpare => {
                self.spare = Spare::Ready;
                self.parts.counters.spare_refused.store(false, Ordering::Relaxed);
                Doing::Choosing
            }
            Doing::Heading(_) if done < length => Doing::Heading(done),
            Doing::Heading(_) => Doing::SyncingHead,
            Doing::SyncingHead => Doing::Adopting,
            Doing::Adopting => self.adopted(),
            Doing::Writing(_) if done < length => Doing::Writing(done),
            Doing::Writing(_) => Doing::Syncing,
            Doing::Syncing => self.synced(),
            Doing::Waiting => {
                self.waited = true;
                Doing::Choosing
            }
            Doing::Removing => Doing::Choosing,
            Doing::Choosing | Doing::Ended => self.doing,
        };
    }

    fn choose(&mut self, unix_ms: u64) -> Doing {
        let stopping = self.parts.counters.stopping.load(Ordering::Acquire);
        let waited = std::mem::take(&mut self.waited);
        if stopping && self.current.is_none() && self.parts.lanes.iter().all(|lane| lane.depth() == 0) {
            return Doing::Ended;
        }
        let sealing = self.parts.counters.sealing.load(Ordering::Acquire) && self.current_has_records();
        if sealing || !self.has_room() {
            return self.spare_step().unwrap_or_else(|| self.begin_head(unix_ms));
        }
        self.parts.counters.sealing.store(false, Ordering::Release);
        let refused = self.parts.counters.spare_refused.load(Ordering::Relaxed);
        if std::mem::take(&mut self.owes_spare)
            && !refused
            && let Some(step) = self.spare_step()
        {
            return step;
        }
        self.gather();
        if self.batch.records() > 0 {
            self.owes_spare = true;
            return Doing::Writing(0);
        }
        // Nothing has come for a while, or ever will.
        if self.unmarked && (stopping || waited) {
            let id = self.current.as_ref().map_or(0, |current| current.id);
            self.batch.mark(id, self.next - 1);
            return Doing::Writing(0);
        }
        if stopping {
            return Doing::Ended;
        }
        if !refused && let Some(step) = self.spare_step() {
            return step;
        }
        Doing::Waiting
    }

    /// What the next segment wants next; `None`: it is ready.
    fn spare_step(&self) -> Option<Doing> {
        match self.spare {
            Spare::Missing => Some(Doing::Creating),
            Spare::Zeroed(bytes) if bytes < self.parts.segment_bytes => Some(Doing::Zeroing(bytes)),
            Spare::Zeroed(_) => Some(Doing::SyncingSpare),
            Spare::Ready => None,
        }
    }

    /// Puts together what the next segment begins with.
    fn begin_head(&mut self, unix_ms: u64) -> Doing {
        if let Some(Current { name, id, offset }) = self.current {
            self.parts.end.previous = Some(Previous { trim: Some(name), id, end: offset as u64 });
        }
        self.head_id = self.parts.random.u64(1..);
        let header = Header {
            id: self.head_id,
            first: self.head_name(),
            previous: self.parts.end.previous.map(|previous| (previous.id, previous.end)),
            created_unix_ms: unix_ms,
            bytes: self.parts.segment_bytes as u64,
            dense: None,
        };
        self.head.clear();
        self.head.extend(header.encode());
        self.batch.clear();
        for (sequence, (origin, record)) in (self.head_name()..).zip(&self.parts.end.tail) {
            self.batch.push(self.head_id, sequence, *origin, record);
        }
        self.head.extend(self.batch.close());
        self.batch.clear();
        Doing::Heading(0)
    }

    /// The sequence that the next segment begins with.
    fn head_name(&self) -> u64 {
        self.next - self.parts.end.tail.len() as u64
    }

    fn adopted(&mut self) -> Doing {
        let name = self.head_name();
        self.current = Some(Current { name, id: self.head_id, offset: self.head.len() });
        self.unmarked |= !self.parts.end.tail.is_empty();
        self.parts.end.tail.clear();
        self.spare = Spare::Missing;
        let counters = &self.parts.counters;
        counters.sealing.store(false, Ordering::Release);
        counters.sealed_to.store(name, Ordering::Release);
        counters.durable_to.store(self.next - 1, Ordering::Release);
        counters.segments.fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(self.head.len() as u64, Ordering::Relaxed);
        Doing::Choosing
    }

    /// Takes from the lanes in turns, until they are empty or the batch is full.
    fn gather(&mut self) {
        let id = self.current.as_ref().map_or(0, |current| current.id);
        self.batch.clear();
        let bytes_max = self.room();
        let lanes = self.parts.lanes.len();
        let mut empty = 0;
        while empty < lanes {
            let lane = self.turn % lanes;
            self.turn = (lane + 1) % lanes;
            let before = self.batch.records();
            for _ in 0..JOURNAL_TURN_RECORDS {
                if !self.batch.has_room(bytes_max) {
                    return;
                }
                let Some(record) = self.parts.lanes[lane].take() else { break };
                self.batch.push(id, self.next, lane as u16, &record);
                self.taken[lane] += 1;
                self.next += 1;
            }
            empty = if self.batch.records() == before { empty + 1 } else { 0 };
        }
    }

    /// A batch, or a mark, is on disk.
    fn synced(&mut self) -> Doing {
        let counters = &self.parts.counters;
        let (bytes, records) = (self.batch.close().len(), self.batch.records());
        counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.unmarked = records > 0;
        if let Some(current) = &mut self.current {
            current.offset += bytes;
        }
        if records > 0 {
            counters.batches.fetch_add(1, Ordering::Relaxed);
            counters.records.fetch_add(records, Ordering::Relaxed);
            for (lane, (taken, durable)) in self.taken.iter_mut().zip(&mut self.durable).enumerate() {
                if *taken > 0 {
                    *durable += std::mem::take(taken);
                    self.parts.lanes[lane].set_durable(*durable);
                    (self.parts.ring)(lane);
                }
            }
            // After the lanes: who reads it finds in them all that it counts.
            counters.durable_to.store(self.next - 1, Ordering::Release);
        }
        Doing::Choosing
    }

    fn failed(&mut self) {
        let for_spare = matches!(self.doing, Doing::Creating | Doing::Zeroing(_) | Doing::SyncingSpare);
        if self.doing == Doing::Removing {
            self.doing = Doing::Choosing;
        } else if for_spare && self.has_room() {
            // There is room yet. Whatever was taken of a full disk is given back.
            self.parts.counters.spare_refused.store(true, Ordering::Relaxed);
            self.parts.counters.sealing.store(false, Ordering::Release);
            self.spare = Spare::Missing;
            self.doing = Doing::Removing;
        } else if self.doing != Doing::Waiting {
            self.doing = Doing::Ended;
            self.parts.counters.failed.store(true, Ordering::Release);
            for (index, lane) in self.parts.lanes.iter().enumerate() {
                lane.set_failed();
                (self.parts.ring)(index);
            }
        }
    }

    /// Bytes left in the current segment.
    fn room(&self) -> usize {
        self.current.as_ref().map_or(0, |current| self.parts.segment_bytes - current.offset)
    }

    /// Whether the current segment takes one more batch.
    fn has_room(&self) -> bool {
        self.room() >= JOURNAL_BATCH_BYTES_MAX.min(self.parts.segment_bytes / 2)
    }

    fn current_has_records(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.name < self.next)
    }
}

/// Where to go on after a write of `length` bytes in all, of which those from `from` on were asked for and `written`
/// reported: at a boundary, as direct I/O wants it. `None`: it does not get on.
fn progress(from: usize, written: usize, length: usize) -> Option<usize> {
    let reached = from + written;
    if reached >= length {
        return Some(length);
    }
    // The rest of a block is written again with the block, which holds nothing that was acknowledged.
    (written > 0).then_some(reached / JOURNAL_BLOCK_BYTES * JOURNAL_BLOCK_BYTES)
}

const _: () = assert!(HEADER_BYTES == block_up(HEADER_BYTES));
