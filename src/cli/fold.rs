//! The journal of a process that serves: its thread, and the fold, which writes it into a new snapshot meanwhile.
//!
//! A fold: what is on disk is applied by all shards ([`Folder::settled`]); the table is written as a snapshot that has
//! at least that; it replaces the old one; segments of which all is folded, and old enough, are deleted, oldest first.
//! After a removal of test data it first ends the current segment, then writes every segment that holds such data anew
//! without it. A crash anywhere leaves the old snapshot or the new one, and each segment as it was or as it becomes;
//! what is folded twice changes nothing, and a removal is not folded before its segments are written. A segment that
//! cannot be read stays as it is until it is old.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::state::{self, Replayed};
use super::{Ended, Fatal};
use crate::config::Config;
use crate::driver::Bell;
use crate::journal::{Handle, Lane, Shut, Writer, recover, rewrite, writer};
use crate::limits::{
    JOURNAL_FOLD_PERCENT, JOURNAL_FOLD_S_MAX, JOURNAL_FOLD_WAIT_MS_MAX, JOURNAL_LEAP_MS_MAX, JOURNAL_RESERVE_PERCENT,
    JOURNAL_SEGMENT_BYTES, JOURNAL_UNFOLDED_BYTES_MAX, REGISTRY_WARNING_PERCENT,
};
use crate::observe::Folding;
use crate::registry::{Meta, SNAPSHOT_FILE, Table, snapshot};
use crate::sys::{background, regular_file};

/// How often is looked whether a fold is due.
const LOOK: Duration = Duration::from_millis(500);

/// The journal's thread and the fold's.
pub(super) struct Durable {
    pub(super) handle: Handle,
    folder: JoinHandle<()>,
    /// What the folds tell.
    pub(super) folding: Arc<Folding>,
    /// Keeps them from folding.
    pub(super) pause: Arc<Pause>,
}

/// Keeps a process from folding while another one loads what it would replace and delete.
#[derive(Default)]
pub(super) struct Pause {
    wanted: AtomicBool,
    stopping: AtomicBool,
    /// Held by whoever folds.
    folding: Mutex<()>,
}

impl Pause {
    /// Gives up a fold that is under way, and begins none until `with` is done.
    pub(super) fn during<T>(&self, with: impl FnOnce() -> T) -> T {
        self.wanted.store(true, Relaxed);
        let folding = self.folding.lock();
        let done = with();
        self.wanted.store(false, Relaxed);
        drop(folding);
        done
    }
}

struct Folder {
    config: Config,
    journal: PathBuf,
    table: Arc<Table>,
    lanes: Vec<Arc<Lane>>,
    writer: Thread,
    folding: Arc<Folding>,
    pause: Arc<Pause>,
    key_id: [u8; 8],
    scan_ms: u64,
    /// Written by this process when the last fold began, and when that was.
    bytes_before: u64,
    last: Instant,
    /// There is something of an earlier process to fold.
    owes: bool,
    /// Removals of test data that the segments have followed; `None`: one of an earlier process they may not have.
    purges: Option<u64>,
    retention: Retention,
    /// It is said that the registry is nearly full.
    warned: bool,
}

/// The time by which scans are deleted: one that was believed, and when. A clock that has leapt ahead since is believed
/// after a day or two of it, so that no mistake deletes at once. The snapshot keeps it, over any number of starts.
struct Retention {
    unix_ms: u64,
    at: Instant,
}

impl Retention {
    fn now_ms(&mut self, clock_ms: u64, at: Instant) -> u64 {
        let passed_ms = at.duration_since(self.at).as_millis() as u64;
        let steady_ms = self.unix_ms + passed_ms;
        // Twice, since folds of a day are a day apart.
        if clock_ms > steady_ms + JOURNAL_LEAP_MS_MAX && passed_ms < 2 * JOURNAL_LEAP_MS_MAX {
            let days = (clock_ms - steady_ms) / 86_400_000;
            eprintln!("onecode: warning: the clock has leapt {days} days ahead: it deletes no scans for a day or two");
            return steady_ms;
        }
        *self = Retention { unix_ms: clock_ms, at };
        clock_ms
    }
}

impl Durable {
    /// Starts both threads where the journal ended. The lanes are those of all shards, the admin's last. Returns the
    /// bells of all shards, and behind them the journal's.
    pub(super) fn start(
        config: &Config,
        (table, key_id): (Arc<Table>, [u8; 8]),
        (replayed, writer): (Replayed, Option<Writer>),
        lanes: Vec<Arc<Lane>>,
        shards: Vec<Bell>,
    ) -> Result<(Durable, Arc<[Bell]>), Ended> {
        let journal = state::journal_folder(&config.data);
        let cpu = config.journal_cpu.map(usize::from);
        writer::make_folder(&journal).map_err(Fatal::Folder.at(journal.display()))?;
        let mut retention = Retention { unix_ms: replayed.folded_unix_ms, at: Instant::now() };
        let scan_ms = u64::from(config.journal_scan_days) * 86_400_000;
        // Before the journal begins a segment, which on a full disk it could not; and where nothing is to be folded.
        let until_unix_ms = retention.now_ms(super::now().unix_ms, Instant::now()).saturating_sub(scan_ms);
        delete_old(&journal, replayed.folded_to, until_unix_ms);
        let writer = writer.unwrap_or_else(|| Writer::choose(&journal, cpu));
        let on = cpu.map_or_else(String::new, |cpu| format!(", on CPU {cpu}"));
        eprintln!("onecode: journal: {writer}{on}");
        let rung = shards.clone();
        let ring = Box::new(move |lane: usize| rung[lane].ring());
        let (owes, purges) = (replayed.records > 0, (!replayed.purged).then_some(0));
        let handle = crate::journal::start(&journal, &writer, cpu, lanes.clone(), ring, replayed.end)
            .map_err(Fatal::System.ended())?;
        let pause = Arc::<Pause>::default();
        let folding = Arc::new(Folding { journal: handle.counters.clone(), ..Folding::default() });
        folding.snapshot_unix_ms.store(replayed.folded_unix_ms);
        let folder = Folder {
            config: config.clone(),
            journal,
            table,
            lanes,
            writer: handle.thread(),
            folding: folding.clone(),
            pause: pause.clone(),
            key_id,
            scan_ms,
            bytes_before: 0,
            last: Instant::now(),
            owes,
            purges,
            retention,
            warned: false,
        };
        let thread = thread::Builder::new().name("fold".to_owned()).spawn(move || folder.run());
        let folder = thread.map_err(Fatal::System.ended())?;
        let bells = shards.into_iter().chain([Bell::from(handle.thread())]).collect();
        Ok((Durable { handle, folder, folding, pause }, bells))
    }

    /// Ends both threads, when no shard writes any more; a fold under way is given up, which harms nothing.
    /// Errors: the disk does not answer: the process then ends without it, as soon as the kernel lets go of the thread.
    pub(super) fn stop(self, deadline: Instant) -> Result<(), Ended> {
        self.pause.stopping.store(true, Relaxed);
        self.folder.thread().unpark();
        let ended = self.handle.stop(deadline);
        while !self.folder.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        let wrong = "ending without it, and waiting for the kernel to let go of the write; all that was acknowledged is on \
                     the disk";
        Fatal::File.unless(ended, "the journal's disk does not answer", wrong)
    }
}

impl Folder {
    fn run(mut self) {
        background::give_way();
        while !self.pause.stopping.load(Relaxed) {
            let pause = self.pause.clone();
            match pause.folding.try_lock() {
                Ok(_) => self.look(),
                Err(_) => self.set_shut(),
            }
            thread::park_timeout(LOOK);
        }
    }

    fn is_to_give_up(&self) -> bool {
        self.pause.stopping.load(Relaxed) || self.pause.wanted.load(Relaxed)
    }

    fn scan_bytes_max(&self) -> u64 {
        self.config.journal_disk_bytes_max / 100 * (100 - JOURNAL_RESERVE_PERCENT)
    }

    fn look(&mut self) {
        if !self.warned && self.table.is_nearly_full() {
            self.warned = true;
            eprintln!(
                "onecode: warning: the registry is over {REGISTRY_WARNING_PERCENT} % full, {} of {}: raise \
                 registry.capacity and start again; when it is full, new residents are refused",
                self.table.used(),
                self.table.capacity
            );
        }
        let disk_bytes = disk_bytes(&self.journal);
        self.folding.disk_bytes.store(disk_bytes);
        let written = self.folding.journal.bytes.load();
        let unfolded = written - self.bytes_before;
        // Two segments' worth since the last fold, else one that frees nothing would follow the other.
        let pressed = disk_bytes + 16 * JOURNAL_SEGMENT_BYTES as u64 > self.scan_bytes_max()
            && unfolded >= 2 * JOURNAL_SEGMENT_BYTES as u64;
        let old = self.last.elapsed().as_secs() >= JOURNAL_FOLD_S_MAX;
        let purge = self.purges.is_none_or(|followed| self.purges_asked() > followed);
        if self.owes || purge || pressed || old || unfolded >= JOURNAL_UNFOLDED_BYTES_MAX {
            (self.bytes_before, self.last) = (written, Instant::now());
            match self.fold() {
                Ok(()) => self.owes = false,
                Err(_) if self.is_to_give_up() => self.owes = true,
                Err(error) => {
                    self.folding.failures.fetch_add(1);
                    eprintln!("onecode: warning: the journal could not be folded, all of it stays: {error}");
                    // What it owes is tried again, not at once.
                    thread::park_timeout(Duration::from_millis(JOURNAL_FOLD_WAIT_MS_MAX));
                }
            }
        }
        self.set_shut();
    }

    /// Refuses writes while the disk that the journal may have is taken, a segment to come included; scans earlier.
    fn set_shut(&self) {
        let bytes = disk_bytes(&self.journal) + JOURNAL_SEGMENT_BYTES as u64;
        let shut = match bytes {
            _ if bytes > self.config.journal_disk_bytes_max => Shut::ToAll,
            _ if bytes > self.scan_bytes_max() => Shut::ToScans,
            _ => Shut::Open,
        };
        self.lanes.iter().for_each(|lane| lane.shut.store(shut));
        let what = match shut {
            now if now == self.folding.shut.swap(now) => return,
            Shut::ToAll => "is reached: writes are refused until there is space",
            Shut::ToScans => "is reached but for what is kept for others: scans are refused until there is space",
            Shut::Open => return eprintln!("onecode: the journal has space again"),
        };
        eprintln!("onecode: warning: journal.disk_bytes_max, {} bytes, {what}", self.config.journal_disk_bytes_max);
    }

    fn purges_asked(&self) -> u64 {
        self.lanes.last().map_or(0, |admin| admin.purges.load())
    }

    fn fold(&mut self) -> Result<(), String> {
        let began = Instant::now();
        // In this order: the segments of every removal that is in what is folded are written before it. One that comes
        // meanwhile is beyond what is folded, so a start finds it, and the next fold follows it.
        let (folded_to, followed) = self.settled()?;
        if self.purges.is_none_or(|before| followed > before) {
            self.forget_test_data()?;
        }
        let created_unix_ms = self.retention.now_ms(super::now().unix_ms, Instant::now());
        let meta = Meta { key_id: self.key_id, created_unix_ms, folded_to };
        let (mut working, mut looked) = (Instant::now(), Instant::now());
        let mut pause = |_: u64| {
            if looked.elapsed() >= LOOK {
                self.set_shut();
                looked = Instant::now();
            }
            let worked = working.elapsed();
            thread::park_timeout(worked * (100 - JOURNAL_FOLD_PERCENT) / JOURNAL_FOLD_PERCENT);
            working = Instant::now();
            if self.is_to_give_up() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
        };
        let stored = snapshot::store(&self.config.data.join(SNAPSHOT_FILE), &meta, &self.table, &mut pause);
        let rows = stored.map_err(|(_, reason)| reason)?;
        self.purges = Some(followed);
        self.folding.folded_to.store(folded_to);
        self.folding.snapshot_unix_ms.store(created_unix_ms);
        self.folding.folds.fetch_add(1);
        let ms = began.elapsed().as_millis();
        eprintln!("onecode: journal: folded up to record {folded_to}, {rows} rows in {ms} ms");
        delete_old(&self.journal, folded_to, created_unix_ms.saturating_sub(self.scan_ms));
        Ok(())
    }

    /// A record up to which all is applied, removals of test data on all shards included; and how many of those.
    fn settled(&self) -> Result<(u64, u64), String> {
        // What earlier processes wrote is on disk for certain once the first segment of this one is.
        self.wait("the journal to begin", || self.folding.journal.sealed_to.load() > 0)?;
        // In this order: the lanes count what it counts, and an admin's removal is asked for once it is applied.
        let durable_to = self.folding.journal.durable_to.load();
        let durable: Vec<u64> = self.lanes.iter().map(|lane| lane.durable.load()).collect();
        self.wait("the shards to apply what is on disk", || {
            self.lanes.iter().zip(&durable).all(|(lane, durable)| lane.applied.load() >= *durable)
        })?;
        let Some((_, owners)) = self.lanes.split_last() else { return Ok((durable_to, 0)) };
        let purges = self.purges_asked();
        self.wait("test data to be removed", || owners.iter().all(|owner| owner.purges.load() >= purges))?;
        Ok((durable_to, purges))
    }

    fn wait(&self, what: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
        let began = Instant::now();
        while !is_so() {
            if self.is_to_give_up() || began.elapsed().as_millis() >= u128::from(JOURNAL_FOLD_WAIT_MS_MAX) {
                return Err(format!("waited in vain for {what}"));
            }
            thread::park_timeout(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Writes anew, without them, all segments with test records from before the last removal of test data.
    fn forget_test_data(&self) -> Result<(), String> {
        let durable_to = self.folding.journal.durable_to.load();
        self.folding.journal.sealing.store(true);
        self.writer.unpark();
        let sealed = || self.folding.journal.sealed_to.load();
        self.wait("the journal's segment to be ended", || sealed() > durable_to)?;
        let (mut segments, journal) = (recover::Folder(self.journal.clone()), self.journal.display());
        let damaged = rewrite::forget_test_data(&mut segments, sealed());
        for (_, error) in damaged.map_err(|error| format!("{journal}: {error}"))? {
            eprintln!("onecode: warning: {journal}: {error}; all else goes on");
        }
        Ok(())
    }
}

/// Deletes the segments that are folded and older than `until_unix_ms`.
fn delete_old(journal: &Path, folded_to: u64, until_unix_ms: u64) {
    // The snapshot that has it in it must be in place after a loss of power, too.
    let deleted = regular_file::sync_folder_of(journal)
        .and_then(|()| rewrite::delete_old(&mut recover::Folder(journal.to_owned()), folded_to, until_unix_ms));
    match deleted {
        Ok(0) => {}
        Ok(deleted) => {
            eprintln!("onecode: journal: {} deleted, folded and old", super::counted(deleted as u64, "segment"))
        }
        Err(error) => eprintln!("onecode: warning: {}: old segments stay: {error}", journal.display()),
    }
}

/// The lengths of all files of the journal: segments, those to come and those being written anew.
fn disk_bytes(journal: &Path) -> u64 {
    let files = fs::read_dir(journal).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_leaps_ahead_is_believed_after_a_day_of_it() {
        const DAY_MS: u64 = 86_400_000;
        let (zero, start_ms) = (Instant::now(), 1_000 * DAY_MS);
        let after = |ms: u64| zero + Duration::from_millis(ms);
        let mut retention = Retention { unix_ms: start_ms, at: zero };
        assert_eq!(
            retention.now_ms(start_ms + DAY_MS, after(5)),
            start_ms + DAY_MS,
            "a night without power is no leap"
        );
        let start_ms = start_ms + DAY_MS;
        let wrong_ms = start_ms + 30 * DAY_MS;
        for passed_ms in [10, 1_000, DAY_MS / 2, DAY_MS, 2 * DAY_MS - 10] {
            let now_ms = retention.now_ms(wrong_ms + passed_ms, after(5 + passed_ms));
            assert_eq!(now_ms, start_ms + passed_ms, "it goes on as time does");
        }
        // Set right in time, it is what it says again.
        let mut right = Retention { ..retention };
        assert_eq!(right.now_ms(start_ms + DAY_MS + 7, after(DAY_MS + 12)), start_ms + DAY_MS + 7);
        let now_ms = retention.now_ms(wrong_ms + 2 * DAY_MS, after(5 + 2 * DAY_MS));
        assert_eq!(now_ms, wrong_ms + 2 * DAY_MS, "two days of it are no mistake");
        // And back, which deletes nothing.
        assert_eq!(retention.now_ms(start_ms, after(2 * DAY_MS + 20)), start_ms);
    }
}
