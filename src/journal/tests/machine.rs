//! A process with a journal on the simulated disk, and the checker of what a later one finds.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::disk::{Disk, HEAD, SNAPSHOT};
use crate::journal::log::{Counters, Files, Log, Parts, Target};
use crate::journal::recover::recover;
use crate::journal::{End, Lane, Port, Record, RecoverError};
use crate::words::ResidentNumber;

pub const LANES: usize = 3;
/// Small, so that a short workload fills several.
pub const SEGMENT_BYTES: usize = 64 << 10;

/// What is wrong with a writer on purpose: the checker must find each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    Nothing,
    /// A sync of a batch returns before it is one.
    AcknowledgesBeforeSync,
    /// What was written of a batch is taken for all of it.
    TakesShortForWhole,
    /// A segment has its name before its header is on disk.
    AdoptsUnsynced,
    /// The new name is not on disk before the segment is used.
    ForgetsFolderSync,
    /// A file takes another one's place before it is on disk.
    ReplacesUnsynced,
    /// Segments are deleted before the snapshot that has their records is on disk.
    DeletesBeforeSnapshot,
    /// A removal of test data is folded that the segments have not followed.
    FoldsUnfollowedRemoval,
    /// A segment is noted as in use before its name is on disk.
    NotesBeforeAdoption,
    /// The note of it takes the old one's place before it is on disk.
    NotesUnsynced,
}

/// What the disk does at one of its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    Eio,
    Enospc,
    Short,
    /// Much happens meanwhile: records arrive, and the clock goes back.
    Delay,
}

/// Everything appended to a lane, in order, and how much of it was acknowledged.
#[derive(Clone, Default)]
pub struct History {
    pub appended: [u64; LANES],
    pub acknowledged: [u64; LANES],
    /// The lanes of a process that has ended began where the one before ended.
    pub base: [u64; LANES],
}

/// What the log asks of its files, one thing at a time.
enum Step {
    Create,
    Write { target: Target, offset: usize, bytes: Vec<u8> },
    Sync { target: Target },
    Adopt { name: u64, trim: Option<(u64, u64)> },
    Remove,
    Wait,
}

/// Where the log and the machine meet: what is asked and not yet done, and how it went.
#[derive(Default)]
struct Seam {
    asked: Option<Step>,
    outcome: Option<io::Result<usize>>,
    clock: u64,
}

impl Seam {
    async fn ask(seam: &RefCell<Seam>, step: Step) -> io::Result<usize> {
        seam.borrow_mut().asked = Some(step);
        poll_fn(|_| seam.borrow_mut().outcome.take().map_or(Poll::Pending, Poll::Ready)).await
    }
}

impl Files for Rc<RefCell<Seam>> {
    async fn create(&mut self) -> io::Result<()> {
        Seam::ask(self, Step::Create).await.map(drop)
    }

    async fn write(&mut self, target: Target, offset: usize, bytes: &[u8]) -> io::Result<usize> {
        Seam::ask(self, Step::Write { target, offset, bytes: bytes.to_vec() }).await
    }

    async fn sync(&mut self, target: Target) -> io::Result<()> {
        Seam::ask(self, Step::Sync { target }).await.map(drop)
    }

    async fn adopt(&mut self, name: u64, trim: Option<(u64, u64)>) -> io::Result<()> {
        Seam::ask(self, Step::Adopt { name, trim }).await.map(drop)
    }

    async fn remove(&mut self) {
        let _ = Seam::ask(self, Step::Remove).await;
    }

    async fn wait(&mut self, _: Option<u64>, log: &Log) -> bool {
        log.is_idle() && Seam::ask(self, Step::Wait).await.is_ok()
    }

    fn unix_ms(&self) -> u64 {
        self.borrow().clock
    }
}

pub struct Machine {
    pub disk: Disk,
    /// `None`: it has ended.
    log: Option<Pin<Box<dyn Future<Output = ()>>>>,
    seam: Rc<RefCell<Seam>>,
    /// Something has come since the log has looked, or it has been said that it waits: its next wait is over.
    rung: bool,
    pub counters: Arc<Counters>,
    pub history: History,
    pub random: fastrand::Rng,
    pub broken: Broken,
    /// The fault to come, by the number of the call.
    pub fault: Option<(u64, Fault)>,
    pub calls: u64,
    /// What folds have done: snapshots written, segments rewritten, segments deleted.
    pub folds: [u64; 3],
    ports: Vec<Port>,
}

impl Machine {
    /// A process that goes on with this disk, after it has recovered it.
    pub fn new(disk: Disk, end: End, history: History, seed: u64) -> Machine {
        let lanes: Vec<Arc<Lane>> = (0..LANES).map(|_| Lane::of(256)).collect();
        let counters = Arc::<Counters>::default();
        let parts = Parts {
            lanes: lanes.clone(),
            ring: Box::new(|_| {}),
            counters: counters.clone(),
            end,
            random: fastrand::Rng::with_seed(seed),
            segment_bytes: SEGMENT_BYTES,
        };
        let ports = lanes.into_iter().map(Port::new).collect();
        let random = fastrand::Rng::with_seed(seed ^ 1);
        let seam = Rc::new(RefCell::new(Seam { clock: 1_000_000, ..Seam::default() }));
        let (log, mut files) = (Log::new(parts), seam.clone());
        let log: Option<Pin<Box<dyn Future<Output = ()>>>> = Some(Box::pin(async move { log.run(&mut files).await }));
        let (rung, calls, broken, fault, folds) = (false, 0, Broken::Nothing, None, [0; 3]);
        Machine { disk, log, seam, rung, counters, history, random, broken, fault, calls, folds, ports }
    }

    /// An empty disk.
    pub fn fresh(seed: u64) -> Machine {
        Machine::new(Disk::default(), End { next: 1, ..End::default() }, History::default(), seed)
    }

    /// Appends one record to a lane, unless it is refused.
    pub fn append(&mut self, lane: usize) {
        let number = self.history.appended[lane];
        self.rung = true;
        if self.ports[lane].append(&record(lane, number, &text(number))).is_ok() {
            self.history.appended[lane] += 1;
        }
    }

    /// Does one step of the log; `boundary` is called after each change of the disk. `false`: there is nothing to do.
    pub fn step(&mut self, boundary: &mut dyn FnMut(&Disk, &History)) -> bool {
        if self.calls == 0 {
            self.go_on();
        }
        if self.rung && self.seam.borrow_mut().asked.take_if(|step| matches!(step, Step::Wait)).is_some() {
            self.seam.borrow_mut().outcome = Some(Ok(0));
            self.go_on();
        }
        let asked = self.seam.borrow_mut().asked.take();
        let step = match asked {
            Some(Step::Wait) => {
                self.seam.borrow_mut().asked = Some(Step::Wait);
                self.rung = true;
                return false;
            }
            None => return false,
            Some(step) => step,
        };
        self.calls += 1;
        let fault = self.fault.filter(|(at, _)| *at == self.calls).map(|(_, fault)| fault);
        let outcome = act(&mut self.disk, step, self.broken, fault, &mut self.random, &mut |disk| {
            boundary(disk, &self.history);
        });
        if fault == Some(Fault::Delay) {
            self.seam.borrow_mut().clock = 5;
            (0..500).for_each(|number| self.append(number % LANES));
        }
        self.seam.borrow_mut().outcome = Some(outcome);
        self.go_on();
        self.hear();
        boundary(&self.disk, &self.history);
        true
    }

    /// Lets the log go on to what it asks next.
    fn go_on(&mut self) {
        self.rung = false;
        let Some(log) = &mut self.log else { return };
        if log.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            self.log = None;
        }
    }

    /// What the shards learn from their lanes.
    fn hear(&mut self) {
        for (lane, port) in self.ports.iter().enumerate() {
            if port.lane.durable.load() > 0 {
                self.history.acknowledged[lane] = self.history.base[lane] + port.lane.durable.load();
            }
        }
    }

    pub fn has_failed(&self) -> bool {
        self.counters.failed.load()
    }

    /// Runs until nothing is left to do.
    pub fn finish(&mut self, boundary: &mut dyn FnMut(&Disk, &History)) {
        self.counters.stopping.store(true);
        self.rung = true;
        while self.step(boundary) {}
    }
}

/// Does one step on the disk, as a writer would.
fn act(
    disk: &mut Disk,
    step: Step,
    broken: Broken,
    fault: Option<Fault>,
    random: &mut fastrand::Rng,
    between: &mut dyn FnMut(&Disk),
) -> io::Result<usize> {
    let outcome = match fault {
        Some(Fault::Eio) => Err(io::Error::from_raw_os_error(5)),
        Some(Fault::Enospc) => Err(io::Error::from_raw_os_error(28)),
        _ => Ok(0),
    };
    match step {
        Step::Create => disk.create(),
        Step::Remove => disk.remove(),
        Step::Write { target, offset, bytes } => {
            let short = match fault {
                Some(Fault::Delay) | None => bytes.len(),
                Some(_) => random.usize(1..bytes.len() / 512) * 512,
            };
            disk.write(target == Target::Spare, offset as u64, &bytes[..short]);
            return outcome.map(|_| if broken == Broken::TakesShortForWhole { bytes.len() } else { short });
        }
        Step::Sync { target } => {
            let spare = target == Target::Spare;
            let skipped = match broken {
                Broken::AcknowledgesBeforeSync => !spare,
                Broken::AdoptsUnsynced => spare,
                _ => false,
            };
            match &outcome {
                Err(_) => disk.fail_sync(spare, random),
                Ok(_) if !skipped => disk.sync(spare),
                Ok(_) => {}
            }
        }
        Step::Adopt { name, trim } => {
            if broken == Broken::NotesBeforeAdoption {
                note_head(disk, name, broken, between);
            }
            disk.rename(name);
            between(disk);
            if outcome.is_ok() {
                if broken != Broken::ForgetsFolderSync {
                    disk.sync_folder();
                }
                between(disk);
                note_head(disk, name, broken, between);
                if let Some((name, bytes)) = trim {
                    disk.trim(name, bytes as usize);
                }
            }
        }
        Step::Wait => unreachable!("seen by the caller"),
    }
    outcome
}

/// Replaces the file that names the newest segment in use.
fn note_head(disk: &mut Disk, name: u64, broken: Broken, between: &mut dyn FnMut(&Disk)) {
    disk.create_aside(HEAD);
    disk.write_aside(HEAD, &name.to_le_bytes());
    between(disk);
    if broken != Broken::NotesUnsynced {
        disk.sync_aside(HEAD);
    }
    disk.replace(HEAD);
    between(disk);
    disk.sync_folder_of(HEAD);
    between(disk);
}

/// What the lane's record of that number says; each is another. Some are about test data, and some remove all such.
fn record(lane: usize, number: u64, text: &str) -> Record<'_> {
    if number % REMOVAL_EVERY == REMOVAL_EVERY - 1 {
        Record::PurgeTest { at_ms: number, author: text }
    } else if number.is_multiple_of(3) {
        Record::Sessions { resident: ResidentNumber(number), session: lane as u32, test: number.is_multiple_of(2) }
    } else {
        Record::Audit { at_ms: number, author: "", action: "", detail: text }
    }
}

const REMOVAL_EVERY: u64 = 64;

fn text(number: u64) -> String {
    "x".repeat(number as usize * 37 % 255)
}

/// How many of a lane's first records are removals of test data.
pub fn removals(records: u64) -> u64 {
    records / REMOVAL_EVERY
}

/// What a recovery has brought back.
pub struct Found {
    pub end: End,
    pub counts: [u64; LANES],
}

/// Recovers a disk and holds what comes out against what was promised: every acknowledged record, once, in its lane's
/// order, nothing that was never appended, no hole in the sequence but test records from before their removal.
/// `folded`: what of it a snapshot holds already.
pub fn check(disk: &mut Disk, history: &History, folded: &Folded) -> Result<Found, String> {
    let mut counts = folded.counts;
    let mut next = folded.to + 1;
    // Records that are not there, the last of them, and how many of those are known to be test records.
    let (mut missing, mut last_missing, mut removed, mut last_removal) = (0, 0, 0, 0);
    let mut wrong = None;
    let end = recover(disk, Some(folded.to), |entry| {
        let (lane, sequence) = (usize::from(entry.stored.origin), entry.stored.sequence);
        if sequence > next {
            (missing, last_missing) = (missing + sequence - next, sequence - 1);
        }
        let is = |number: u64| entry.record == record(lane, number, &text(number));
        while removed < missing && !is(counts[lane]) && record(lane, counts[lane], "").is_test() {
            (counts[lane], removed) = (counts[lane] + 1, removed + 1);
        }
        if sequence < next || !is(counts[lane]) {
            wrong.get_or_insert(format!("record {next} is {entry:?}, lane {lane} at {}", counts[lane]));
        }
        if matches!(entry.record, Record::PurgeTest { .. }) {
            last_removal = sequence;
        }
        next = sequence + 1;
        counts[lane] += 1;
    });
    let end = end.map_err(|error: RecoverError| format!("refused: {error}"))?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    if end.next < next {
        return Err(format!("{} records were read, the end is said to be {}", next - 1, end.next));
    }
    if end.next > next {
        (missing, last_missing) = (missing + end.next - next, end.next - 1);
    }
    for (lane, count) in counts.iter_mut().enumerate() {
        // Those behind the last one of the lane that is there.
        while removed < missing && *count < history.acknowledged[lane] && record(lane, *count, "").is_test() {
            (*count, removed) = (*count + 1, removed + 1);
        }
    }
    if removed != missing || last_missing > last_removal {
        return Err(format!("{missing} records up to {last_missing} are missing, {removed} of them were removed"));
    }
    let promised = history.acknowledged.iter().zip(&history.appended);
    for (lane, (there, (acknowledged, appended))) in counts.iter().zip(promised).enumerate() {
        if there < acknowledged || there > appended {
            return Err(format!("lane {lane}: {there} there, {acknowledged} acknowledged, {appended} appended"));
        }
    }
    Ok(Found { end, counts })
}

/// No test record from before a removal that is folded is left: no later process would look for it.
pub fn check_removed(disk: &mut Disk, folded: &Folded) -> Result<(), String> {
    let (mut removal, mut tests) = (0, Vec::new());
    let read = recover(disk, None, |entry| {
        if matches!(entry.record, Record::PurgeTest { .. }) && entry.stored.sequence <= folded.to {
            removal = entry.stored.sequence;
        }
        if entry.record.is_test() {
            tests.push(entry.stored.sequence);
        }
    });
    read.map_err(|error| format!("refused: {error}"))?;
    let left: Vec<_> = tests.into_iter().filter(|sequence| *sequence < removal).collect();
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("removal {removal} is folded, and test records {left:?} are left"))
    }
}

/// What a snapshot holds.
#[derive(Clone, Default, Debug)]
pub struct Folded {
    pub to: u64,
    pub counts: [u64; LANES],
}

impl Folded {
    pub fn bytes(&self) -> Vec<u8> {
        [self.to].iter().chain(&self.counts).flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The snapshot of a disk; nothing is folded where there is none yet.
    pub fn of(disk: &Disk) -> Result<Folded, String> {
        let bytes = disk.seen(SNAPSHOT);
        if bytes.is_empty() && !disk.has(SNAPSHOT) {
            return Ok(Folded::default());
        }
        let (words, rest) = bytes.as_chunks::<8>();
        match (words, rest) {
            ([to, counts @ ..], []) if counts.len() == LANES && *words != [[0; 8]; LANES + 1] => Ok(Folded {
                to: u64::from_le_bytes(*to),
                counts: std::array::from_fn(|lane| u64::from_le_bytes(counts[lane])),
            }),
            _ => Err(format!("a half snapshot has the name of a whole one: {bytes:?}")),
        }
    }
}
