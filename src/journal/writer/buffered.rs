//! The buffered writer: `pwrite` into the page cache and `fdatasync`, where glommio cannot run.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{Files, Thread, adopt, remove_spare, spare_path};
use crate::journal::log::{Counters, Step, Target};

impl Files<File> {
    fn act(&mut self, step: &Step<'_>, counters: &Counters) -> io::Result<usize> {
        match *step {
            Step::Create => {
                remove_spare(&self.folder)?;
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(0o600);
                self.spare = Some(options.open(spare_path(&self.folder))?);
            }
            Step::Write { target, offset, bytes } => {
                let file = self.file(target)?;
                let written = file.write_at(bytes, offset)?;
                if target == Target::Spare {
                    // Else all of a new segment would go to the disk with the sync of some batch, which then waits.
                    sync(file, counters)?;
                }
                return Ok(written);
            }
            Step::Sync { target } => sync(self.file(target)?, counters)?,
            Step::Adopt { name, trim } => {
                adopt(&self.folder, name, trim)?;
                self.current = self.spare.take();
            }
            Step::Remove => {
                self.spare = None;
                remove_spare(&self.folder)?;
            }
            Step::Wait(_) | Step::End => {}
        }
        Ok(0)
    }
}

fn sync(file: &File, counters: &Counters) -> io::Result<()> {
    let began = Instant::now();
    let result = file.sync_data();
    counters.synced(began.elapsed().as_micros() as u64);
    result
}

/// Runs until the journal is to end, or has failed.
pub(super) fn run(mut thread: Thread) {
    let mut files = Files::of(&thread.folder);
    loop {
        let outcome = match thread.log.next(unix_ms()) {
            Step::End => return,
            Step::Wait(ms) => {
                thread.wait(ms);
                Ok(0)
            }
            step => files.act(&step, &thread.counters),
        };
        thread.done(outcome);
    }
}

/// Milliseconds since 1970; 0 for a clock before that. Only told, see [`Log::next`](crate::journal::log::Log::next).
pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
