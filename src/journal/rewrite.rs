//! What the fold changes in a journal in use: segments are written anew without test data, and old ones deleted.
//!
//! A crash anywhere leaves each segment as it was or as it becomes, and of those to be deleted the newer ones.

use std::fs;
use std::io::{self, Write as _};

use super::record::Record;
use super::recover::{Folder, RecoverError, Source, read_header, recover_one, segment_path};
use super::segment::{Batch, HEADER_BYTES, Header, Stored};
use crate::sys::regular_file;

/// The segments of a journal in use. Whatever is changed is on disk before the call returns.
pub trait Segments: Source {
    fn replace(&mut self, name: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a segment to so many bytes, where it is longer.
    fn cut(&mut self, name: u64, bytes: u64) -> io::Result<()>;

    /// Deletes segments, in this order.
    fn delete(&mut self, names: &[u64]) -> io::Result<()>;
}

impl Segments for Folder {
    fn replace(&mut self, name: u64, bytes: &[u8]) -> io::Result<()> {
        regular_file::replace(&segment_path(&self.0, name), 0o600, |file| file.write_all(bytes))
    }

    fn cut(&mut self, name: u64, bytes: u64) -> io::Result<()> {
        let file = fs::File::options().write(true).open(segment_path(&self.0, name))?;
        if file.metadata()?.len() > bytes { file.set_len(bytes).and_then(|()| file.sync_all()) } else { Ok(()) }
    }

    fn delete(&mut self, names: &[u64]) -> io::Result<()> {
        let Some(last) = names.last() else { return Ok(()) };
        names.iter().try_for_each(|name| fs::remove_file(segment_path(&self.0, *name)))?;
        regular_file::sync_folder_of(&segment_path(&self.0, *last))
    }
}

/// Writes anew, without them, all segments before `sealed` with test records from before the last removal of test data
/// that is in those segments. Returns what is damaged: such a segment stays as it is.
/// Errors: a segment cannot be written; those before it are done, and the others as they were.
pub fn forget_test_data(segments: &mut dyn Segments, sealed: u64) -> io::Result<Vec<(u64, RecoverError)>> {
    let names = segments.list()?;
    let (mut purge, mut holding, mut damaged) = (None, Vec::new(), Vec::new());
    for &[name, next] in names.array_windows().take_while(|[_, next]| *next <= sealed) {
        let mut first_test = None;
        let read = recover_one(segments, name, next, |entry| {
            if matches!(entry.record, Record::PurgeTest { .. }) {
                purge = Some(entry.stored.sequence);
            } else if entry.record.is_test() {
                first_test.get_or_insert(entry.stored.sequence);
            }
        });
        let mut header = |name| read_header(segments, name);
        match read.and_then(|()| Ok((header(name)?, header(next)?))) {
            Ok((header, follows)) => holding.push((header, follows, first_test)),
            Err(error) => damaged.push((name, error)),
        }
    }
    // One that cannot be read is in what is damaged, so all before that is older.
    let Some(purge) = purge.or(damaged.first().map(|(name, _)| *name)) else { return Ok(damaged) };
    for (header, follows, first_test) in holding {
        if let (None, Some((_, end))) = (header.dense, follows.previous.filter(|(id, _)| *id == header.id)) {
            // Behind its end it may still have what was written again into the next one.
            segments.cut(header.first, end)?;
        }
        if first_test.is_some_and(|sequence| sequence < purge) {
            let (mut dense, mut last) = (Dense::new(header), header.dense.map_or(0, |(last, _)| last));
            let read = recover_one(segments, header.first, follows.first, |entry| {
                last = last.max(entry.stored.sequence);
                if !(entry.record.is_test() && entry.stored.sequence < purge) {
                    dense.push(&entry.stored);
                }
            });
            match read {
                Ok(()) => segments.replace(header.first, &dense.finish(last))?,
                Err(error) => damaged.push((header.first, error)),
            }
        }
    }
    Ok(damaged)
}

/// Deletes segments of which all records are folded and older than `until_unix_ms`, oldest first; says how many.
/// Errors: what the system said; newer ones are then still there.
pub fn delete_old(segments: &mut dyn Segments, folded_to: u64, until_unix_ms: u64) -> io::Result<usize> {
    let (names, mut old) = (segments.list()?, 0);
    for (index, name) in names.iter().enumerate().skip(1) {
        // What is in the next one was accepted after that was made; one that does not say when is as old as the next.
        match read_header(segments, *name) {
            Ok(next) if next.first > folded_to + 1 || next.created_unix_ms > until_unix_ms => break,
            Ok(_) => old = index,
            Err(_) => {}
        }
    }
    segments.delete(&names[..old])?;
    Ok(old)
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
