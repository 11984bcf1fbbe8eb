//! The writer on glommio: direct I/O on a ring of its own.
//!
//! One executor, made at start and kept, with one task that does one thing at a time. While that task has nothing to
//! write, its whole thread parks: there is nothing else in its rings.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use glommio::io::{DmaFile, OpenOptions};
use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};

use super::{Disk, File, PROBE_FILE};
use crate::journal::log::{Files as _, Log, Target};
use crate::limits::JOURNAL_BLOCK_BYTES;
use crate::sys::regular_file;

/// Locked memory for the buffers of small writes; larger ones come from the heap. Under the usual limit of 8 MiB.
const IO_MEMORY_BYTES: usize = 1 << 20;
/// Entries of each of glommio's three rings: one operation is in flight.
const RING_ENTRIES: usize = 32;

/// An executor on this thread: an error where no ring or CPU is to be had. On a system that it does not expect it panics.
fn executor(cpu: Option<usize>) -> io::Result<LocalExecutor> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let builder = LocalExecutorBuilder::new(placement).io_memory(IO_MEMORY_BYTES).ring_depth(RING_ENTRIES);
    builder.make().map_err(plain)
}

fn plain(error: GlommioError<()>) -> io::Error {
    io::Error::other(error.to_string())
}

impl File for DmaFile {
    const IS_BUFFERED: bool = false;

    async fn create(path: &Path) -> io::Result<DmaFile> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.dma_open(path).await.map_err(plain)?;
        if file.alignment() > JOURNAL_BLOCK_BYTES as u64 {
            File::close(file).await;
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the device has blocks of more than 4 KiB"));
        }
        Ok(file)
    }

    async fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = self.alloc_dma_buffer(bytes.len());
        buffer.as_bytes_mut().copy_from_slice(bytes);
        self.write_at(buffer, offset as u64).await.map_err(plain)
    }

    async fn sync(&self) -> io::Result<()> {
        self.fdatasync().await.map_err(plain)
    }

    async fn close(self) {
        let _ = self.close().await;
    }
}

/// Runs until the journal is to end, or has failed.
pub(super) fn run(log: Log, mut disk: Disk<DmaFile>, cpu: Option<usize>) -> io::Result<()> {
    executor(cpu)?.run(async move {
        log.run(&mut disk).await;
        disk.close().await;
    });
    Ok(())
}

/// Does once, in this folder, what the writer does: a ring, direct I/O, a sync. Fails, or panics, where it cannot run.
pub(super) fn probe(folder: &Path, cpu: Option<usize>) -> io::Result<()> {
    let path = folder.join(PROBE_FILE);
    // glommio does without direct I/O on tmpfs, and says nothing.
    let direct = fs::File::options().write(true).create(true).truncate(false).custom_flags(libc::O_DIRECT).open(&path);
    direct.map_err(|error| io::Error::new(error.kind(), format!("no direct I/O: {error}")))?;
    let result = executor(cpu)?.run(async {
        let mut disk = Disk::<DmaFile>::new(folder, PROBE_FILE, &Arc::default());
        disk.create().await?;
        let written = disk.write(Target::Spare, 0, &[0; JOURNAL_BLOCK_BYTES]).await?;
        if written != JOURNAL_BLOCK_BYTES {
            return Err(io::ErrorKind::WriteZero.into());
        }
        disk.sync(Target::Spare).await?;
        disk.close().await;
        Ok(())
    });
    let _ = regular_file::remove(&path);
    result
}
