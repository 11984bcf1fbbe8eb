//! The journal's thread: the log's state machine over real files, on glommio or buffered.

mod buffered;
mod glommio;

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::log::{Counters, Log, Parts, Target};
use super::port::{Doorbell, Lane};
use super::recover::{End, segment_path, write_head};
use crate::limits::JOURNAL_SEGMENT_BYTES;
use crate::sys::regular_file;

/// The name of the thread on which glommio is tried: a panic there means that it cannot run, and ends nothing.
pub const PROBE_THREAD: &str = "journal-probe";

/// The next segment before it has its name.
const SPARE_FILE: &str = "next";

/// Which writer runs, and why not the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Writer {
    /// glommio: direct I/O.
    Glommio,
    /// Buffered writes, and why.
    Buffered(String),
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Writer::Glommio => f.write_str("glommio (direct I/O)"),
            Writer::Buffered(why) => write!(f, "buffered (not glommio: {why})"),
        }
    }
}

impl Writer {
    /// What can run in this folder. Tries it out, before anything else is in the folder's spare file.
    pub fn choose(folder: &Path, cpu: Option<usize>) -> Writer {
        let owned = folder.to_owned();
        let probe = thread::Builder::new().name(PROBE_THREAD.to_owned()).spawn(move || glommio::probe(&owned, cpu));
        match probe.map(JoinHandle::join) {
            Ok(Ok(Ok(()))) => Writer::Glommio,
            Ok(Ok(Err(error))) | Err(error) => Writer::Buffered(error.to_string()),
            Ok(Err(_)) => Writer::Buffered("it panicked when it was tried".to_owned()),
        }
    }
}

/// The journal's thread, from outside.
pub struct Handle {
    /// What wakes the thread, for whoever appends.
    pub doorbell: Arc<Doorbell>,
    /// What it counts.
    pub counters: Arc<Counters>,
    thread: JoinHandle<()>,
}

/// Makes the journal's folder if it is missing (mode 0700).
///
/// # Errors
/// What the system said.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    regular_file::sync_folder_of(folder)
}

/// Starts the journal's thread. It goes on where `recover` has found the `end`, and rings by
/// `ring` the bell of the shard whose lane has changed. Of `cpu` only glommio knows; the buffered writer sleeps in the
/// kernel.
///
/// A disk that refuses from the start is not an error here: the lanes are then told as after any failed write.
///
/// # Errors
/// The system gives no thread, or no randomness.
pub fn start(
    folder: &Path,
    writer: &Writer,
    cpu: Option<usize>,
    lanes: Vec<Arc<Lane>>,
    ring: Box<dyn Fn(usize) + Send>,
    end: End,
) -> io::Result<Handle> {
    let (doorbell, counters) = (Arc::new(Doorbell::default()), Arc::new(Counters::default()));
    let seed = getrandom::u64().map_err(io::Error::other)?;
    let parts = Parts {
        lanes,
        ring,
        counters: counters.clone(),
        end,
        random: fastrand::Rng::with_seed(seed),
        segment_bytes: JOURNAL_SEGMENT_BYTES,
    };
    let own = Thread {
        folder: folder.to_owned(),
        cpu,
        log: Log::new(parts),
        doorbell: doorbell.clone(),
        counters: counters.clone(),
    };
    let writer = writer.clone();
    let thread = thread::Builder::new().name("journal".to_owned()).spawn(move || match writer {
        // It has just been tried; that it cannot run now is a fatal surprise, and a panic ends the process.
        Writer::Glommio => glommio::run(own).expect("glommio runs as it did when it was tried"),
        Writer::Buffered(_) => buffered::run(own),
    })?;
    Ok(Handle { doorbell, counters, thread })
}

impl Handle {
    /// Writes and syncs what lies in the lanes, and ends the thread. To be called when nobody appends any more. `false`:
    /// the disk has not let it come to its end by `deadline`, and it may never.
    pub fn stop(self, deadline: Instant) -> bool {
        self.counters.stopping.store(true, Ordering::Release);
        self.doorbell.ring();
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        self.thread.is_finished()
    }
}

/// The files of a journal, as one thread writes them.
struct Files<F> {
    folder: PathBuf,
    current: Option<F>,
    spare: Option<F>,
}

impl<F> Files<F> {
    fn of(folder: &Path) -> Files<F> {
        Files { folder: folder.to_owned(), current: None, spare: None }
    }

    fn file(&self, target: Target) -> io::Result<&F> {
        let file = if target == Target::Current { &self.current } else { &self.spare };
        file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// What the thread itself has.
struct Thread {
    folder: PathBuf,
    cpu: Option<usize>,
    log: Log,
    doorbell: Arc<Doorbell>,
    counters: Arc<Counters>,
}

impl Thread {
    /// See `Step::Wait`.
    fn wait(&self, ms: Option<u64>) {
        self.doorbell.wait(ms.map_or(Duration::MAX, Duration::from_millis), || self.log.is_idle());
    }

    /// Tells the log how a step went, and the operator that it was the last.
    fn done(&mut self, outcome: io::Result<usize>) {
        let reason = outcome.as_ref().err().map(ToString::to_string);
        let had_failed = self.counters.failed.load(Ordering::Relaxed);
        self.log.done(outcome);
        let Some(reason) = reason else { return };
        if self.counters.failed.load(Ordering::Relaxed) && !had_failed {
            eprintln!("onecode: the journal has failed, nothing is accepted until a restart: {reason}");
        } else if self.counters.spare_refused.load(Ordering::Relaxed) {
            eprintln!("onecode: the journal's next segment cannot be prepared yet: {reason}");
        }
    }
}

fn spare_path(folder: &Path) -> PathBuf {
    folder.join(SPARE_FILE)
}

fn remove_spare(folder: &Path) -> io::Result<()> {
    regular_file::remove(&spare_path(folder))
}

/// See `Step::Adopt`.
fn adopt(folder: &Path, name: u64, trim: Option<(u64, u64)>) -> io::Result<()> {
    fs::rename(spare_path(folder), segment_path(folder, name))?;
    File::open(folder)?.sync_all()?;
    write_head(folder, name)?;
    if let Some((name, bytes)) = trim {
        // Only gives space back; the next segment says where this one ends.
        let _ = OpenOptions::new().write(true).open(segment_path(folder, name)).and_then(|file| file.set_len(bytes));
    }
    Ok(())
}
