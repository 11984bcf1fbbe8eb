//! The journal's thread: the log over real files, on glommio or buffered.

mod glommio;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use strum::Display;

use super::log::{Counters, Files, Log, Parts, Target};
use super::port::Lane;
use super::recover::{End, segment_path, write_head};
use crate::limits::JOURNAL_SEGMENT_BYTES;
use crate::sys::regular_file;

/// The name of the thread on which glommio is tried: a panic there means that it cannot run, and ends nothing.
pub const PROBE_THREAD: &str = "journal-probe";

/// The next segment before it has its name.
const SPARE_FILE: &str = "next";
/// What glommio is tried on; not the other, which may be that of a process that writes.
const PROBE_FILE: &str = "probe";

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
    /// What can run in this folder, be there one that writes. Tries it out.
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
    /// What it counts.
    pub counters: Arc<Counters>,
    thread: JoinHandle<()>,
}

/// Makes the journal's folder if it is missing (mode 0700).
pub fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    regular_file::sync_folder_of(folder)
}

/// Starts the journal's thread, which goes on at `end` and rings by `ring` the bell of a shard whose lane has changed.
/// Of `cpu` only glommio knows. A disk that refuses from the start is told to the lanes, as any failed write.
pub fn start(
    folder: &Path,
    writer: &Writer,
    cpu: Option<usize>,
    lanes: Vec<Arc<Lane>>,
    ring: Box<dyn Fn(usize) + Send>,
    end: End,
) -> io::Result<Handle> {
    let counters = Arc::new(Counters::default());
    let parts = Parts {
        lanes,
        ring,
        counters: counters.clone(),
        end,
        random: fastrand::Rng::with_seed(getrandom::u64().map_err(io::Error::other)?),
        segment_bytes: JOURNAL_SEGMENT_BYTES,
    };
    let (log, folder, counts) = (Log::new(parts), folder.to_owned(), counters.clone());
    let is_buffered = matches!(writer, Writer::Buffered(_));
    let thread = thread::Builder::new().name("journal".to_owned()).spawn(move || {
        if is_buffered {
            done(log.run(&mut Disk::<fs::File>::new(&folder, SPARE_FILE, &counts)));
        } else {
            // It has just been tried; that it cannot run now is a fatal surprise, and a panic ends the process.
            glommio::run(log, Disk::new(&folder, SPARE_FILE, &counts), cpu)
                .expect("glommio runs as it did when it was tried");
        }
    })?;
    Ok(Handle { counters, thread })
}

impl Handle {
    /// The thread, to be unparked by whoever appends or asks something of it: no system call while it is awake.
    pub fn thread(&self) -> Thread {
        self.thread.thread().clone()
    }

    /// Writes and syncs what lies in the lanes, and ends the thread. To be called when nobody appends any more. `false`:
    /// the disk has not let it come to its end by `deadline`, and it may never.
    pub fn stop(&self, deadline: Instant) -> bool {
        self.counters.stopping.store(true);
        self.thread.thread().unpark();
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        self.thread.is_finished()
    }
}

/// A file of the journal, as one of the writers writes it.
trait File: Sized {
    /// Whether a write goes to the page cache: a whole new segment would else go to disk with the sync of some batch.
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

/// What comes of a future over buffered files, which waits nowhere but in the kernel.
fn done<T>(future: impl Future<Output = T>) -> T {
    let Poll::Ready(value) = pin!(future).poll(&mut Context::from_waker(Waker::noop())) else {
        unreachable!("a buffered file is always ready")
    };
    value
}

struct Disk<F> {
    folder: PathBuf,
    spare_path: PathBuf,
    counters: Arc<Counters>,
    current: Option<F>,
    spare: Option<F>,
}

impl<F: File> Disk<F> {
    fn new(folder: &Path, spare: &str, counters: &Arc<Counters>) -> Disk<F> {
        let (spare_path, counters) = (folder.join(spare), counters.clone());
        Disk { folder: folder.to_owned(), spare_path, counters, current: None, spare: None }
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
        self.spare = Some(F::create(&self.spare_path).await?);
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
        let (counters, us) = (&self.counters, began.elapsed().as_micros() as u64);
        counters.syncs.fetch_add(1);
        counters.sync_us.fetch_add(us);
        counters.sync_us_max.fetch_max(us);
        result
    }

    async fn adopt(&mut self, name: u64, trim: Option<(u64, u64)>) -> io::Result<()> {
        fs::rename(&self.spare_path, segment_path(&self.folder, name))?;
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
        let _ = regular_file::remove(&self.spare_path);
    }

    async fn wait(&mut self, ms: Option<u64>, log: &Log) -> bool {
        // Both writers park (futex(2)): while there is nothing to write, nothing is in flight either.
        let (wait, began) = (ms.map_or(Duration::MAX, Duration::from_millis), Instant::now());
        while log.is_idle() {
            let Some(left) = wait.checked_sub(began.elapsed()) else { return true };
            thread::park_timeout(left);
        }
        false
    }

    fn unix_ms(&self) -> u64 {
        // 0 for a clock before 1970.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Port, Record, Refused};

    #[test]
    fn no_ring_is_lost() {
        let (folder, lane) = (tempfile::tempdir().unwrap(), Lane::new());
        let log = Log::new(Parts {
            lanes: vec![lane.clone()],
            ring: Box::new(|_| {}),
            counters: Arc::default(),
            end: End::default(),
            random: fastrand::Rng::with_seed(1),
            segment_bytes: JOURNAL_SEGMENT_BYTES,
        });
        let mut disk = Disk::<fs::File>::new(folder.path(), SPARE_FILE, &Arc::default());
        let (mut port, waiter) = (Port::new(lane.clone()), thread::current());
        let ringer = thread::spawn(move || {
            for _ in 0..20_000 {
                while port.append(&Record::PurgeTest { at_ms: 1, author: "a" }) == Err(Refused::Full) {
                    thread::yield_now();
                }
                waiter.unpark();
            }
        });
        let mut taken = 0;
        while taken < 20_000 {
            // Were a ring lost with a record in the lane, this would be the end of it.
            assert!(!done(disk.wait(Some(600_000), &log)));
            while lane.queue.pop().is_some() {
                taken += 1;
            }
        }
        ringer.join().unwrap();
        assert!(done(disk.wait(Some(1), &log)), "and a wait for nothing ends");
    }
}
