//! A process with a journal on the simulated disk, and the checker of what a later one finds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::disk::Disk;
use crate::journal::log::{Counters, Log, Parts, Step, Target};
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

pub struct Machine {
    pub disk: Disk,
    pub log: Log,
    pub counters: Arc<Counters>,
    pub history: History,
    pub random: fastrand::Rng,
    pub broken: Broken,
    /// The fault to come, by the number of the call.
    pub fault: Option<(u64, Fault)>,
    pub calls: u64,
    ports: Vec<Port>,
    clock: u64,
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
        let (log, clock) = (Log::new(parts), 1_000_000);
        Machine { disk, log, counters, history, random, broken: Broken::Nothing, fault: None, calls: 0, ports, clock }
    }

    /// An empty disk.
    pub fn fresh(seed: u64) -> Machine {
        Machine::new(Disk::default(), End { next: 1, ..End::default() }, History::default(), seed)
    }

    /// Appends one record to a lane, unless it is refused.
    pub fn append(&mut self, lane: usize) {
        let number = self.history.appended[lane];
        let text = "x".repeat(number as usize * 37 % 255);
        if self.ports[lane].append(&record(lane, number, &text)).is_ok() {
            self.history.appended[lane] += 1;
        }
    }

    /// Does one step of the log; `boundary` is called after each change of the disk. `false`: there is nothing to do.
    pub fn step(&mut self, boundary: &mut dyn FnMut(&Disk, &History)) -> bool {
        let step = self.log.next(self.clock);
        let step = match step {
            Step::Wait(_) => {
                self.log.done(Ok(0));
                return false;
            }
            Step::End => return false,
            step => step,
        };
        self.calls += 1;
        let fault = self.fault.filter(|(at, _)| *at == self.calls).map(|(_, fault)| fault);
        let outcome = act(&mut self.disk, step, self.broken, fault, &mut self.random, &mut |disk| {
            boundary(disk, &self.history);
        });
        if fault == Some(Fault::Delay) {
            self.clock = 5;
            (0..500).for_each(|number| self.append(number % LANES));
        }
        self.log.done(outcome);
        self.hear();
        boundary(&self.disk, &self.history);
        true
    }

    /// What the shards learn from their lanes.
    fn hear(&mut self) {
        for (lane, port) in self.ports.iter().enumerate() {
            if port.durable() > 0 {
                self.history.acknowledged[lane] = self.history.base[lane] + port.durable();
            }
        }
    }

    pub fn has_failed(&self) -> bool {
        self.counters.failed.load(Ordering::Relaxed)
    }

    /// Runs until nothing is left to do.
    pub fn finish(&mut self, boundary: &mut dyn FnMut(&Disk, &History)) {
        self.counters.stopping.store(true, Ordering::Relaxed);
        while self.step(boundary) {}
    }
}

/// Does one step on the disk, as a writer would.
fn act(
    disk: &mut Disk,
    step: Step<'_>,
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
            disk.write(target == Target::Spare, offset, &bytes[..short]);
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
            disk.rename(name);
            between(disk);
            if outcome.is_ok() {
                if broken != Broken::ForgetsFolderSync {
                    disk.sync_folder();
                }
                between(disk);
                if let Some((name, bytes)) = trim {
                    disk.trim(name, bytes as usize);
                }
            }
        }
        Step::Wait(_) | Step::End => unreachable!("seen by the caller"),
    }
    outcome
}

fn record(lane: usize, number: u64, text: &str) -> Record<'_> {
    if number.is_multiple_of(3) {
        Record::Sessions { resident: ResidentNumber(number), session: lane as u32, test: false }
    } else {
        Record::Audit { at_ms: number, author: "", action: "", detail: text }
    }
}

/// What a recovery has brought back.
pub struct Found {
    pub end: End,
    pub counts: [u64; LANES],
}

/// Recovers a disk and holds what comes out against what was promised: every acknowledged record, once, in its lane's
/// order, nothing that was never appended, no hole in the sequence. `folded`: what of it a snapshot holds already.
pub fn check(disk: &mut Disk, history: &History, folded: &Folded) -> Result<Found, String> {
    let mut counts = folded.counts;
    let mut next = folded.to + 1;
    let mut wrong = None;
    let end = recover(disk, Some(folded.to), |entry| {
        let lane = usize::from(entry.stored.origin);
        let text = "x".repeat(counts[lane] as usize * 37 % 255);
        if entry.stored.sequence != next || entry.record != record(lane, counts[lane], &text) {
            wrong.get_or_insert(format!("record {} is {:?}, lane {lane} at {}", next, entry, counts[lane]));
        }
        next += 1;
        counts[lane] += 1;
    });
    let end = end.map_err(|error: RecoverError| format!("refused: {error}"))?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    if end.next != next {
        return Err(format!("{} records were read, the end is said to be {}", next - 1, end.next));
    }
    let promised = history.acknowledged.iter().zip(&history.appended);
    for (lane, (there, (acknowledged, appended))) in counts.iter().zip(promised).enumerate() {
        if there < acknowledged || there > appended {
            return Err(format!("lane {lane}: {there} there, {acknowledged} acknowledged, {appended} appended"));
        }
    }
    Ok(Found { end, counts })
}

/// What a snapshot holds.
#[derive(Clone, Default)]
pub struct Folded {
    pub to: u64,
    pub counts: [u64; LANES],
}
