//! The writer: what is done with the disk, in which order, and what follows from how that went.
//!
//! It puts records from the lanes, in turns, into a batch, has it written, syncs when the whole of it is reported
//! written, and only then says so to the lanes. Between batches it prepares the next segment. It touches no file.
//!
//! The first write or sync of a batch that fails, or a batch for which no segment can be had, ends it: nothing is
//! written, synced or acknowledged after that. A next segment that cannot be prepared is tried again when it is needed.

use std::io;
use std::sync::Arc;

use crossbeam::atomic::AtomicCell;

use super::port::Lane;
use super::recover::{End, Previous};
use super::segment::{Batch, Header};
use crate::limits::{
    JOURNAL_BATCH_BYTES_MAX, JOURNAL_BLOCK_BYTES, JOURNAL_MARK_MS, JOURNAL_TURN_RECORDS, JOURNAL_ZEROS_BYTES,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    Current,
    /// The next one, under its spare name.
    Spare,
}

/// The files that a log writes.
pub trait Files {
    /// Makes the spare file, empty; removes one that is there.
    async fn create(&mut self) -> io::Result<()>;

    /// Writes to a file and says how many bytes, which may be fewer. Offset and length are whole blocks.
    async fn write(&mut self, target: Target, offset: usize, bytes: &[u8]) -> io::Result<usize>;

    /// Has all of a file's bytes on disk (fdatasync(2)). Never asked again after a failure.
    async fn sync(&mut self, target: Target) -> io::Result<()>;

    /// Names the spare file as a segment, syncs the folder, and notes durably that it is the newest: the current file
    /// from then on. Only then, and without harm if that fails, cuts one that has ended: name and length in `trim`.
    async fn adopt(&mut self, name: u64, trim: Option<(u64, u64)>) -> io::Result<()>;

    /// Removes the spare file. A failure harms nothing.
    async fn remove(&mut self);

    /// Waits until the log [is not idle](Log::is_idle), or so many milliseconds have passed; says whether they have.
    async fn wait(&mut self, ms: Option<u64>, log: &Log) -> bool;

    /// Milliseconds since 1970. Only noted in a new segment's header.
    fn unix_ms(&self) -> u64;
}

/// What the journal's thread counts, and what others ask of it.
#[derive(Default, Debug)]
#[allow(missing_docs, reason = "where the name says it")]
pub struct Counters {
    pub records: AtomicCell<u64>,
    pub batches: AtomicCell<u64>,
    /// Bytes written to segments, padding included and zeros not.
    pub bytes: AtomicCell<u64>,
    /// Syncs asked of the disk, those of segments to come included.
    pub syncs: AtomicCell<u64>,
    pub sync_us: AtomicCell<u64>,
    pub sync_us_max: AtomicCell<u64>,
    pub segments: AtomicCell<u64>,
    /// The sequence that the current segment began with: all records before it lie in segments that stay as they are.
    pub sealed_to: AtomicCell<u64>,
    /// The sequence of the last record that was acknowledged.
    pub durable_to: AtomicCell<u64>,
    /// The next segment could not be prepared, most likely because the disk is full; it is tried again when needed.
    pub spare_refused: AtomicCell<bool>,
    /// A write or a sync has failed: nothing is acknowledged any more.
    pub failed: AtomicCell<bool>,
    /// Ask: write what is in the lanes, mark it, end.
    pub stopping: AtomicCell<bool>,
    /// Ask: go on in a new segment, so that the current one stays as it is; cleared when that is done.
    pub sealing: AtomicCell<bool>,
}

pub struct Parts {
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

struct Current {
    name: u64,
    id: u64,
    offset: usize,
}

enum Spare {
    Missing,
    Zeroed(usize),
    Ready,
}

pub struct Log {
    parts: Parts,
    current: Option<Current>,
    spare: Spare,
    batch: Batch,
    /// Records of each lane in the batch, and on disk.
    taken: Vec<u64>,
    durable: Vec<u64>,
    turn: usize,
    next: u64,
    /// Records have been written since the last mark.
    unmarked: bool,
}

static ZEROS: [u8; JOURNAL_ZEROS_BYTES] = [0; JOURNAL_ZEROS_BYTES];

impl Log {
    /// A log that goes on where the journal ended. It begins a segment of its own before anything else.
    pub fn new(parts: Parts) -> Log {
        let (lanes, next) = (parts.lanes.len(), parts.end.next);
        let (taken, durable) = (vec![0; lanes], vec![0; lanes]);
        let (current, spare, batch) = (None, Spare::Missing, Batch::new());
        Log { parts, current, spare, batch, taken, durable, turn: 0, next, unmarked: false }
    }

    /// Whether a wait would be for nothing: records lie in the lanes, or something is asked.
    pub fn is_idle(&self) -> bool {
        let asked = self.parts.counters.stopping.load() || self.is_to_seal();
        !asked && self.lanes_are_empty()
    }

    /// Runs until the journal is to end, or has failed.
    pub async fn run(mut self, files: &mut impl Files) {
        let Err(error) = self.work(files).await else { return };
        eprintln!("onecode: the journal has failed, nothing is accepted until a restart: {error}");
        self.parts.counters.failed.store(true);
        for (index, lane) in self.parts.lanes.iter().enumerate() {
            lane.failed.store(true);
            (self.parts.ring)(index);
        }
    }

    async fn work(&mut self, files: &mut impl Files) -> io::Result<()> {
        let counters = self.parts.counters.clone();
        // A step for the next segment is due before the next batch; nothing has come for a while.
        let (mut owes_spare, mut has_waited) = (false, false);
        loop {
            let (owed, waited) = (std::mem::take(&mut owes_spare), std::mem::take(&mut has_waited));
            let stopping = counters.stopping.load();
            if stopping && self.current.is_none() && self.lanes_are_empty() {
                return Ok(());
            }
            if self.is_to_seal() || !self.has_room() {
                if !self.prepare(files).await? {
                    self.begin_segment(files).await?;
                }
                continue;
            }
            counters.sealing.store(false);
            let refused = counters.spare_refused.load();
            if owed && !refused && self.prepare(files).await? {
                continue;
            }
            self.gather();
            if self.batch.records > 0 {
                self.commit(files).await?;
                owes_spare = true;
            } else if self.unmarked && (stopping || waited) {
                let id = self.current.as_ref().map_or(0, |current| current.id);
                self.batch.mark(id, self.next - 1);
                self.commit(files).await?;
            } else if stopping {
                return Ok(());
            } else if refused || !self.prepare(files).await? {
                has_waited = files.wait(self.unmarked.then_some(JOURNAL_MARK_MS), self).await;
            }
        }
    }

    /// Does the next step for the next segment; `false`: it is ready.
    async fn prepare(&mut self, files: &mut impl Files) -> io::Result<bool> {
        let bytes = self.parts.segment_bytes;
        let done = match self.spare {
            Spare::Ready => return Ok(false),
            Spare::Missing => files.create().await.map(|()| Spare::Zeroed(0)),
            Spare::Zeroed(from) if from < bytes => {
                let zeros = &ZEROS[..JOURNAL_ZEROS_BYTES.min(bytes - from)];
                let written = files.write(Target::Spare, from, zeros).await;
                written.and_then(|written| progress(from, written, bytes)).map(Spare::Zeroed)
            }
            Spare::Zeroed(_) => files.sync(Target::Spare).await.map(|()| Spare::Ready),
        };
        let counters = &self.parts.counters;
        match done {
            Err(error) if self.has_room() => {
                // There is room yet. Whatever was taken of a full disk is given back.
                eprintln!("onecode: the journal's next segment cannot be prepared yet: {error}");
                counters.spare_refused.store(true);
                counters.sealing.store(false);
                self.spare = Spare::Missing;
                files.remove().await;
            }
            done => self.spare = done?,
        }
        if matches!(self.spare, Spare::Ready) {
            counters.spare_refused.store(false);
        }
        Ok(true)
    }

    async fn begin_segment(&mut self, files: &mut impl Files) -> io::Result<()> {
        let (id, name) = (self.parts.random.u64(1..), self.next - self.parts.end.tail.len() as u64);
        let end = &mut self.parts.end;
        if let Some(Current { name, id, offset }) = self.current {
            end.previous = Some(Previous { trim: Some(name), id, end: offset as u64 });
        }
        let header = Header {
            id,
            first: name,
            previous: end.previous.map(|previous| (previous.id, previous.end)),
            created_unix_ms: files.unix_ms(),
            bytes: self.parts.segment_bytes as u64,
            dense: None,
        };
        self.batch.clear();
        for (sequence, (origin, record)) in (name..).zip(&end.tail) {
            self.batch.push(id, sequence, *origin, record);
        }
        let head = [&header.encode(), self.batch.close()].concat();
        self.batch.clear();
        write_all(files, Target::Spare, 0, &head).await?;
        files.sync(Target::Spare).await?;
        files.adopt(name, end.previous.and_then(|previous| Some((previous.trim?, previous.end)))).await?;
        self.current = Some(Current { name, id, offset: head.len() });
        self.unmarked |= !end.tail.is_empty();
        end.tail.clear();
        self.spare = Spare::Missing;
        let counters = &self.parts.counters;
        counters.sealing.store(false);
        counters.sealed_to.store(name);
        counters.durable_to.store(self.next - 1);
        counters.segments.fetch_add(1);
        counters.bytes.fetch_add(head.len() as u64);
        Ok(())
    }

    /// Takes from the lanes in turns, until they are empty or the batch is full.
    fn gather(&mut self) {
        let id = self.current.as_ref().map_or(0, |current| current.id);
        self.batch.clear();
        let lanes = self.parts.lanes.len();
        let mut empty = 0;
        while empty < lanes {
            let lane = self.turn % lanes;
            self.turn = (lane + 1) % lanes;
            let before = self.batch.records;
            for _ in 0..JOURNAL_TURN_RECORDS {
                if !self.batch.has_room(self.room()) {
                    return;
                }
                let Some(record) = self.parts.lanes[lane].queue.pop() else { break };
                self.batch.push(id, self.next, lane as u16, &record);
                self.taken[lane] += 1;
                self.next += 1;
            }
            empty = if self.batch.records == before { empty + 1 } else { 0 };
        }
    }

    /// Has the batch, or a mark, on disk, and says so.
    async fn commit(&mut self, files: &mut impl Files) -> io::Result<()> {
        let (counters, records) = (&self.parts.counters, self.batch.records);
        let bytes = self.batch.close();
        if let Some(current) = &mut self.current {
            write_all(files, Target::Current, current.offset, bytes).await?;
            files.sync(Target::Current).await?;
            current.offset += bytes.len();
        }
        counters.bytes.fetch_add(bytes.len() as u64);
        self.unmarked = records > 0;
        if records > 0 {
            counters.batches.fetch_add(1);
            counters.records.fetch_add(records);
            for (lane, (taken, durable)) in self.taken.iter_mut().zip(&mut self.durable).enumerate() {
                if *taken > 0 {
                    *durable += std::mem::take(taken);
                    self.parts.lanes[lane].durable.store(*durable);
                    (self.parts.ring)(lane);
                }
            }
            // After the lanes: who reads it finds in them all that it counts.
            counters.durable_to.store(self.next - 1);
        }
        Ok(())
    }

    fn room(&self) -> usize {
        self.current.as_ref().map_or(0, |current| self.parts.segment_bytes - current.offset)
    }

    fn has_room(&self) -> bool {
        self.room() >= JOURNAL_BATCH_BYTES_MAX.min(self.parts.segment_bytes / 2)
    }

    /// Whether the current segment is to stay as it is, and has something that could.
    fn is_to_seal(&self) -> bool {
        let has_records = self.current.as_ref().is_some_and(|current| current.name < self.next);
        has_records && self.parts.counters.sealing.load()
    }

    fn lanes_are_empty(&self) -> bool {
        self.parts.lanes.iter().all(|lane| lane.queue.is_empty())
    }
}

async fn write_all(files: &mut impl Files, target: Target, offset: usize, bytes: &[u8]) -> io::Result<()> {
    let mut from = 0;
    while from < bytes.len() {
        let written = files.write(target, offset + from, &bytes[from..]).await?;
        from = progress(from, written, bytes.len())?;
    }
    Ok(())
}

/// Where to go on after a write of `length` bytes in all, of which those from `from` on were asked for and `written`
/// reported: at a boundary, as direct I/O wants it.
fn progress(from: usize, written: usize, length: usize) -> io::Result<usize> {
    let reached = from + written;
    if reached >= length {
        return Ok(length);
    }
    // The rest of a block is written again with the block, which holds nothing that was acknowledged.
    if written > 0 { Ok(reached - reached % JOURNAL_BLOCK_BYTES) } else { Err(io::ErrorKind::WriteZero.into()) }
}
