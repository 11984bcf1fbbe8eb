//! The writer on glommio: direct I/O on a ring of its own.
//!
//! One executor, made at start and kept, with one task that does one thing at a time. While that task has nothing to
//! write, its whole thread parks (see [`Doorbell`](crate::journal::Doorbell)): there is nothing else in its rings.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Instant;

use glommio::io::{DmaFile, OpenOptions as DmaOptions};
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};

use super::buffered::unix_ms;
use super::{Files, Thread, adopt, remove_spare, spare_path};
use crate::journal::log::{Counters, Step, Target};
use crate::limits::JOURNAL_BLOCK_BYTES;

/// Locked memory for the buffers of small writes; larger ones come from the heap. Under the usual limit of 8 MiB.
const IO_MEMORY_BYTES: usize = 1 << 20;
/// Entries of each of glommio's three rings: one operation is in flight.
const RING_ENTRIES: usize = 32;

/// An executor on this thread.
///
/// # Errors
/// No ring may be made here, or the CPU is not ours.
///
/// # Panics
/// glommio may, on a system that it does not expect.
fn executor(cpu: Option<usize>) -> io::Result<LocalExecutor> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let builder = LocalExecutorBuilder::new(placement).io_memory(IO_MEMORY_BYTES).ring_depth(RING_ENTRIES);
    builder.make().map_err(plain)
}

/// The system's own error, without glommio's words.
fn plain(error: GlommioError<()>) -> io::Error {
    let text = error.to_string();
    match io::Error::from(error) {
        error if error.raw_os_error().is_some() => error,
        error => io::Error::new(error.kind(), text),
    }
}

impl Files<DmaFile> {
    async fn act(&mut self, step: &Step<'_>, counters: &Counters) -> io::Result<usize> {
        match *step {
            Step::Create => {
                close(self.spare.take()).await;
                remove_spare(&self.folder)?;
                self.spare = Some(create(&spare_path(&self.folder)).await?);
            }
            Step::Write { target, offset, bytes } => {
                let file = self.file(target)?;
                let mut buffer = file.alloc_dma_buffer(bytes.len());
                buffer.as_bytes_mut().copy_from_slice(bytes);
                return file.write_at(buffer, offset).await.map_err(plain);
            }
            Step::Sync { target } => {
                let began = Instant::now();
                self.file(target)?.fdatasync().await.map_err(plain)?;
                counters.synced(began.elapsed().as_micros() as u64);
            }
            Step::Adopt { name, trim } => {
                adopt(&self.folder, name, trim)?;
                close(std::mem::replace(&mut self.current, self.spare.take())).await;
            }
            Step::Remove => {
                close(self.spare.take()).await;
                remove_spare(&self.folder)?;
            }
            Step::Wait(_) | Step::End => {}
        }
        Ok(0)
    }
}

async fn create(path: &Path) -> io::Result<DmaFile> {
    let mut options = DmaOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let file = options.dma_open(path).await.map_err(plain)?;
    if file.alignment() > JOURNAL_BLOCK_BYTES as u64 {
        close(Some(file)).await;
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the device has blocks of more than 4 KiB"));
    }
    Ok(file)
}

/// All that was to be on disk has been synced: how closing goes says nothing of it.
async fn close(file: Option<DmaFile>) {
    if let Some(file) = file {
        let _ = file.close().await;
    }
}

/// Runs until the journal is to end, or has failed.
///
/// # Errors
/// The executor cannot be made.
pub(super) fn run(mut thread: Thread) -> io::Result<()> {
    executor(thread.cpu)?.run(async move {
        let mut files = Files::of(&thread.folder);
        loop {
            let outcome = match thread.log.next(unix_ms()) {
                Step::End => {
                    close(files.current.take()).await;
                    close(files.spare.take()).await;
                    return Ok(());
                }
                Step::Wait(ms) => {
                    thread.wait(ms);
                    Ok(0)
                }
                step => files.act(&step, &thread.counters).await,
            };
            thread.done(outcome);
        }
    })
}

/// Does once, in this folder, what the writer does: a ring, direct I/O, a sync.
///
/// # Errors
/// Why the writer cannot run here.
///
/// # Panics
/// glommio may, on a system that it does not expect.
pub(super) fn probe(folder: &Path, cpu: Option<usize>) -> io::Result<()> {
    remove_spare(folder)?;
    let path = spare_path(folder);
    // glommio does without direct I/O on tmpfs, and says nothing.
    let direct = OpenOptions::new().write(true).create(true).truncate(false).custom_flags(libc::O_DIRECT).open(&path);
    direct.map_err(|error| io::Error::new(error.kind(), format!("no direct I/O: {error}")))?;
    let result = executor(cpu)?.run(async {
        let mut files = Files::of(folder);
        let counters = Counters::default();
        files.act(&Step::Create, &counters).await?;
        let bytes = &[0; JOURNAL_BLOCK_BYTES];
        let written = files.act(&Step::Write { target: Target::Spare, offset: 0, bytes }, &counters).await?;
        if written != bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        files.act(&Step::Sync { target: Target::Spare }, &counters).await?;
        files.act(&Step::Remove, &counters).await.map(drop)
    });
    let _ = remove_spare(folder);
    result
}
