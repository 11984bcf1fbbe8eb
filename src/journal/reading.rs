//! A journal as others read it, while its process may be writing, folding and trimming it.
//!
//! Each batch is begun only when the one before it is on disk. So the newest segment is read from its back to its
//! front, a block at a time: before anything that is seen there, all is whole. Whatever else changes meanwhile changes
//! which files there are, or their lengths; where a reading fails and they have changed, it is done again.
//!
//! So every record that was acknowledged before the reading began is read; of later ones perhaps some, in order.

use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use super::recover::{End, Entry, Folder, RecoverError, Source, read_header, recover, segment_path};
use super::segment::{HEADER_BYTES, Header, HeaderError};
use crate::limits::{JOURNAL_BLOCK_BYTES, JOURNAL_READINGS_MAX};
use crate::sys::regular_file;

/// A journal's folder in use, and its newest segment.
struct Live(Folder, u64);

impl Source for Live {
    fn head(&mut self) -> io::Result<Option<u64>> {
        self.0.head()
    }

    fn list(&mut self) -> io::Result<Vec<u64>> {
        self.0.list().inspect(|names| self.1 = names.last().copied().unwrap_or(0))
    }

    fn read(&mut self, name: u64, bytes: u64, into: &mut Vec<u8>) -> io::Result<()> {
        self.0.read(name, bytes, into)?;
        if name == self.1 && into.len() > HEADER_BYTES {
            // Once more, and now from the page cache, into which a reading backwards would come one block at a time.
            let file = regular_file::open(&segment_path(&self.0.0, name))?;
            for (index, block) in into.chunks_mut(JOURNAL_BLOCK_BYTES).enumerate().rev() {
                file.read_exact_at(block, (index * JOURNAL_BLOCK_BYTES) as u64)?;
            }
        }
        Ok(())
    }
}

/// The segments of a folder, oldest first; none where there is no folder.
pub fn names(folder: &Path) -> io::Result<Vec<u64>> {
    Folder(folder.to_owned()).list()
}

/// What tells one state of the folder from another: names, files and lengths.
fn state(folder: &Path) -> Vec<(u64, Option<(u64, u64)>)> {
    let file = |name| segment_path(folder, name).metadata().ok().map(|file| (file.ino(), file.len()));
    names(folder).unwrap_or_default().into_iter().map(|name| (name, file(name))).collect()
}

/// [`recover`] of a journal that nobody writes to, or of none, where there is no folder yet.
pub fn read_still(folder: &Path, after: u64, each: impl FnMut(&Entry<'_>)) -> Result<End, RecoverError> {
    recover(&mut Folder(folder.to_owned()), Some(after), each)
}

/// [`recover`] of a journal that may be in use. No record is handed over twice.
pub fn read(folder: &Path, after: Option<u64>, mut each: impl FnMut(&Entry<'_>)) -> Result<End, RecoverError> {
    let mut last = after;
    for reading in 1.. {
        let before = state(folder);
        let oldest = before.first().map_or(0, |(name, _)| *name);
        // What the fold has deleted since the last attempt is not waited for.
        let from = if reading > 1 { last.filter(|last| oldest <= last + 1) } else { last };
        let mut source = Live(Folder(folder.to_owned()), 0);
        let end = recover(&mut source, from, |entry| {
            if last.is_none_or(|last| last < entry.stored.sequence) {
                last = Some(entry.stored.sequence);
                each(entry);
            }
        });
        if end.is_ok() || reading == JOURNAL_READINGS_MAX || state(folder) == before {
            return end;
        }
    }
    unreachable!("the last reading returns")
}

/// [`read`] of all that is left of a journal: behind what is damaged it goes on with the next segment. Returns where the
/// journal ends, if its last segment can be read, and what is damaged.
/// Errors: the journal is newer than this program, or the folder cannot be read.
pub fn read_on(
    folder: &Path,
    mut each: impl FnMut(&Entry<'_>),
) -> Result<(Option<End>, Vec<RecoverError>), RecoverError> {
    let (mut after, mut damaged) = (None, Vec::new());
    loop {
        let error = match read(folder, after, &mut each) {
            Ok(end) => return Ok((Some(end), damaged)),
            Err(error) => error,
        };
        let from = match error {
            RecoverError::Gap { segment, .. } => Some(segment),
            RecoverError::Damaged { segment, .. }
            | RecoverError::Read { segment, .. }
            | RecoverError::Header { segment, error: HeaderError::NotASegment | HeaderError::Damaged } => {
                segment.checked_add(1)
            }
            _ => return Err(error),
        };
        damaged.push(error);
        let next = names(folder)?.into_iter().find(|name| from.is_some_and(|from| *name >= from));
        let Some(next) = next else { return Ok((None, damaged)) };
        after = Some(next.saturating_sub(1));
    }
}

pub fn header(folder: &Path, name: u64) -> Result<Header, RecoverError> {
    read_header(&mut Folder(folder.to_owned()), name)
}
