//! What the fold changes in a journal's folder while its process writes: segments are written anew without test data,
//! and old ones deleted.
//!
//! A crash anywhere leaves each segment as it was or as it becomes, and of those to be deleted the newer ones.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::reading;
use super::record::Record;
use super::recover::{Entry, segment_path};
use super::segment::{Batch, HEADER_BYTES, Header, Stored};
use crate::sys::regular_file;

/// The segments of a journal in use. Whatever is changed is on disk before the call returns.
pub trait Segments {
    /// The names of all, oldest first.
    fn names(&self) -> io::Result<Vec<u64>>;

    /// What one says of itself.
    fn header(&self, name: u64) -> io::Result<Header>;

    /// Hands over every record that was acknowledged before the call, in order.
    fn read(&self, each: &mut dyn FnMut(&Entry<'_>)) -> io::Result<()>;

    /// Replaces a segment as a whole.
    fn replace(&self, name: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a segment to so many bytes, where it is longer.
    fn cut(&self, name: u64, bytes: u64) -> io::Result<()>;

    /// Deletes segments, in this order.
    fn delete(&self, names: &[u64]) -> io::Result<()>;
}

/// The journal's folder.
pub struct Folder<'a>(pub &'a Path);

impl Segments for Folder<'_> {
    fn names(&self) -> io::Result<Vec<u64>> {
        reading::names(self.0)
    }

    fn header(&self, name: u64) -> io::Result<Header> {
        reading::header(self.0, name).map_err(io::Error::other)
    }

    fn read(&self, each: &mut dyn FnMut(&Entry<'_>)) -> io::Result<()> {
        reading::read(self.0, None, each).map(drop).map_err(io::Error::other)
    }

    fn replace(&self, name: u64, bytes: &[u8]) -> io::Result<()> {
        regular_file::replace(&segment_path(self.0, name), 0o600, |file| file.write_all(bytes))
    }

    fn cut(&self, name: u64, bytes: u64) -> io::Result<()> {
        let file = fs::File::options().write(true).open(segment_path(self.0, name))?;
        if file.metadata()?.len() > bytes { file.set_len(bytes).and_then(|()| file.sync_all()) } else { Ok(()) }
    }

    fn delete(&self, names: &[u64]) -> io::Result<()> {
        let Some(last) = names.last() else { return Ok(()) };
        names.iter().try_for_each(|name| fs::remove_file(segment_path(self.0, *name)))?;
        regular_file::sync_folder_of(&segment_path(self.0, *last))
    }
}

/// Writes anew, without them, all segments before `sealed` with test records from before the last removal of test data
/// that is in those segments.
///
/// # Errors
/// A segment cannot be read or written; those before it are done, and the others as they were.
pub fn forget_test_data(segments: &dyn Segments, sealed: u64) -> io::Result<()> {
    let (purge, holding) = test_data(segments, sealed)?;
    let Some(purge) = purge else { return Ok(()) };
    // Behind its end a segment may still have what was written again into the next one.
    for pair in segments.names()?.windows(2).take_while(|pair| pair[1] <= sealed) {
        let (header, next) = (segments.header(pair[0])?, segments.header(pair[1])?);
        if let (None, Some((_, end))) = (header.dense, next.previous.filter(|(id, _)| *id == header.id)) {
            segments.cut(pair[0], end)?;
        }
    }
    let mut rewriting: Option<(u64, Dense, u64)> = None;
    let mut done = Ok(());
    let finish = |rewritten: Option<(u64, Dense, u64)>| {
        rewritten.map_or(Ok(()), |(name, dense, last)| segments.replace(name, &dense.finish(last)))
    };
    segments.read(&mut |entry| {
        if done.is_ok() && rewriting.as_ref().is_some_and(|(name, ..)| *name != entry.segment) {
            done = finish(rewriting.take());
        }
        if done.is_err() || !holding.contains(&entry.segment) {
            return;
        }
        if rewriting.is_none() {
            match segments.header(entry.segment) {
                Ok(header) => rewriting = Some((entry.segment, Dense::new(header), 0)),
                Err(error) => return done = Err(error),
            }
        }
        if let Some((_, dense, last)) = &mut rewriting {
            *last = entry.stored.sequence;
            if !(entry.record.is_test() && entry.stored.sequence < purge) {
                dense.push(&entry.stored);
            }
        }
    })?;
    done.and_then(|()| finish(rewriting))
}

/// The last removal of test data in segments before `sealed`, and which of them hold test records of before it.
fn test_data(segments: &dyn Segments, sealed: u64) -> io::Result<(Option<u64>, Vec<u64>)> {
    let (mut purge, mut marked, mut holding) = (None, Vec::<u64>::new(), Vec::new());
    segments.read(&mut |entry| {
        if entry.segment >= sealed {
            return;
        }
        if matches!(entry.record, Record::PurgeTest { .. }) {
            purge = Some(entry.stored.sequence);
            holding.append(&mut marked);
        }
        if entry.record.is_test() && marked.last() != Some(&entry.segment) && holding.last() != Some(&entry.segment) {
            marked.push(entry.segment);
        }
    })?;
    // One that was marked again behind the removal, in the segment of the removal itself, is listed already.
    Ok((purge, holding))
}

/// Deletes segments of which all records are folded and older than `until_unix_ms`, oldest first; says how many.
///
/// # Errors
/// What the system said; newer ones are then still there.
pub fn delete_old(segments: &dyn Segments, folded_to: u64, until_unix_ms: u64) -> io::Result<usize> {
    let mut old = Vec::new();
    for pair in segments.names()?.windows(2) {
        // What comes in the next one was accepted after that one was made.
        let next = segments.header(pair[1])?;
        if next.first > folded_to + 1 || next.created_unix_ms > until_unix_ms {
            break;
        }
        old.push(pair[0]);
    }
    segments.delete(&old)?;
    Ok(old.len())
}

/// A segment that is written anew with some of its records.
pub struct Dense {
    header: Header,
    bytes: Vec<u8>,
    batch: Batch,
}

impl Dense {
    /// One in the place of the segment with this header, without any record.
    pub fn new(header: Header) -> Dense {
        Dense { header, bytes: vec![0; HEADER_BYTES], batch: Batch::new() }
    }

    /// Adds a record; their sequences must rise.
    pub fn push(&mut self, stored: &Stored<'_>) {
        if !self.batch.has_room(usize::MAX) {
            self.bytes.extend(self.batch.close());
            self.batch.clear();
        }
        self.batch.push(self.header.id, stored.sequence, stored.origin, stored.bytes);
    }

    /// Its bytes. They say themselves where it ends, and that it does so with sequence `last`.
    pub fn finish(mut self, last: u64) -> Vec<u8> {
        self.bytes.extend(self.batch.close());
        let end = self.bytes.len() as u64;
        let header = Header { bytes: end, dense: Some((last, end)), ..self.header };
        self.bytes[..HEADER_BYTES].copy_from_slice(&header.encode());
        self.bytes
    }
}
