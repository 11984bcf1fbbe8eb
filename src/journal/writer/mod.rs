//! The journal's thread: the log over real files, on glommio or buffered.

mod glommio;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use strum::Display;

use super::log::{Counters, Files, Log, Parts, Target};
use super::port::{Doorbell, Lane};
use super::recover::{End, segment_path, write_head};
use crate::limits::JOURNAL_SEGMENT_BYTES;
use crate::sys::regular_file;

/// The name of the thread on which glommio is tried: a panic there means that it cannot run, and ends nothing.
pub const PROBE_THREAD: &str = "journal-probe";

/// The next segment before it has its name.
const SPARE_FILE: &str = "next";

/// Which writer runs, and why not the other.
#[derive(Clone, PartialEq, Eq, Debug, Display)]
pub enum Writer {
    /// glommio: direct I/O.
    #[strum(to_string = "glommio (direct I/O)")]
    Glommio,
    /// Buffered writes, and why.
    #[strum(to_string = "buffered (not glommio: {0})")]
    Buffered(String),
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
    let (log, folder, bell, counts) = (Log::new(parts), folder.to_owned(), doorbell.clone(), counters.clone());
    let is_buffered = matches!(writer, Writer::Buffered(_));
    let thread = thread::Builder::new().name("journal".to_owned()).spawn(move || {
        if is_buffered {
            let mut disk = Disk::<fs::File>::new(&folder, &bell, &counts);
            // Nothing of it waits but in the kernel.
            let Poll::Ready(()) = pin!(log.run(&mut disk)).poll(&mut Context::from_waker(Waker::noop())) else {
                unreachable!("a buffered file is always ready")
            };
        } else {
            // It has just been tried; that it cannot run now is a fatal surprise, and a panic ends the process.
            glommio::run(log, Disk::new(&folder, &bell, &counts), cpu)
                .expect("glommio runs as it did when it was tried");
        }
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

/// A file of the journal, as one of the writers writes it.
trait File: Sized {
    /// Whether a write goes to the page cache: all of a new segment would else go to the disk with the sync of some
    /// batch, which then waits.
    const IS_BUFFERED: bool;

    async fn create(path: &Path) -> io::Result<Self>;
    async fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<usize>;
    async fn sync(&self) -> io::Result<()>;
    /// All that was to be on disk has been synced: how closing goes says nothing of it.
    async fn close(self);
}

/// The buffered writer's: `pwrite` into the page cache and `fdatasync`, where glommio cannot run.
impl File for fs::File {
    const IS_BUFFERED: bool = true;

    async fn create(path: &Path) -> io::Result<fs::File> {
        fs::File::options().write(true).create_new(true).mode(0o600).open(path)
    }

    async fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<usize> {
        self.write_at(bytes, offset as u64)
    }

    async fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    async fn close(self) {}
}

/// The files of a journal, and what wakes their thread.
struct Disk<F> {
    folder: PathBuf,
    doorbell: Arc<Doorbell>,
    counters: Arc<Counters>,
    current: Option<F>,
    spare: Option<F>,
}

impl<F: File> Disk<F> {
    fn new(folder: &Path, doorbell: &Arc<Doorbell>, counters: &Arc<Counters>) -> Disk<F> {
        let (doorbell, counters) = (doorbell.clone(), counters.clone());
        Disk { folder: folder.to_owned(), doorbell, counters, current: None, spare: None }
    }

    fn file(&self, target: Target) -> io::Result<&F> {
        let file = if target == Target::Current { &self.current } else { &self.spare };
        file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    async fn close(&mut self) {
        for file in [self.current.take(), self.spare.take()].into_iter().flatten() {
            file.close().await;
        }
    }
}

impl<F: File> Files for Disk<F> {
    async fn create(&mut self) -> io::Result<()> {
        self.remove().await;
        self.spare = Some(F::create(&spare_path(&self.folder)).await?);
        Ok(())
    }

    async fn write(&mut self, target: Target, offset: usize, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file(target)?.write(offset, bytes).await?;
        if F::IS_BUFFERED && target == Target::Spare {
            self.sync(target).await?;
        }
        Ok(written)
    }

    async fn sync(&mut self, target: Target) -> io::Result<()> {
        let began = Instant::now();
        let result = self.file(target)?.sync().await;
        self.counters.synced(began.elapsed().as_micros() as u64);
        result
    }

    async fn adopt(&mut self, name: u64, trim: Option<(u64, u64)>) -> io::Result<()> {
        fs::rename(spare_path(&self.folder), segment_path(&self.folder, name))?;
        fs::File::open(&self.folder)?.sync_all()?;
        write_head(&self.folder, name)?;
        if let Some((name, bytes)) = trim {
            // Only gives space back; the next segment says where this one ends.
            let ended = fs::File::options().write(true).open(segment_path(&self.folder, name));
            let _ = ended.and_then(|file| file.set_len(bytes));
        }
        if let Some(ended) = std::mem::replace(&mut self.current, self.spare.take()) {
            ended.close().await;
        }
        Ok(())
    }

    async fn remove(&mut self) {
        if let Some(spare) = self.spare.take() {
            spare.close().await;
        }
        // Where it stays, no other can be made.
        let _ = regular_file::remove(&spare_path(&self.folder));
    }

    async fn wait(&mut self, ms: Option<u64>, log: &Log) {
        self.doorbell.wait(ms.map_or(Duration::MAX, Duration::from_millis), || log.is_idle());
    }

    fn unix_ms(&self) -> u64 {
        // 0 for a clock before 1970.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

fn spare_path(folder: &Path) -> PathBuf {
    folder.join(SPARE_FILE)
}
