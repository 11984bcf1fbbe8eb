//! Reads a journal: every record after a sequence, in order, and where the writer goes on.
//!
//! Nothing is repaired in place. What an unfinished last append has left is passed over, and the segment that the
//! writer then begins says so in its header (see [`segment`](super::segment)). The last batch, unless a mark follows
//! it, is written again into that segment: it may lie in the page cache only, since the process before this one may
//! have ended between its write and its sync, or with a sync that failed.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::record::{DecodeError, Record};
use super::segment::{Broken, HEADER_BYTES, Header, HeaderError, Reader, Stored, is_zero};
use crate::sys::regular_file;

pub trait Source {
    /// The newest segment that was ever in use, where that is noted; asked before the list.
    fn head(&mut self) -> io::Result<Option<u64>>;

    /// The names of all segments, oldest first; none where there is no folder.
    fn list(&mut self) -> io::Result<Vec<u64>>;

    /// Reads the first `bytes` of a segment, or all of it where it is shorter, into `into`.
    fn read(&mut self, name: u64, bytes: u64, into: &mut Vec<u8>) -> io::Result<()>;
}

/// The journal's folder. Files of other names than a segment's are passed over.
pub struct Folder(pub PathBuf);

impl Source for Folder {
    fn head(&mut self) -> io::Result<Option<u64>> {
        let mut text = String::new();
        match regular_file::open(&head_path(&self.0)).and_then(|file| file.take(100).read_to_string(&mut text)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let name = text.get(..20).and_then(parse_name).filter(|name| text == head_line(*name));
        name.map(Some).ok_or_else(|| io::Error::other("journal.head is damaged: remove it if no segment is missing"))
    }

    fn list(&mut self) -> io::Result<Vec<u64>> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            entries => entries?,
        };
        for entry in entries {
            names.extend(entry?.file_name().to_str().and_then(parse_name));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read(&mut self, name: u64, bytes: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let file = regular_file::open(&segment_path(&self.0, name))?;
        into.clear();
        // At once: what grows is copied, and writes may wait for this.
        into.reserve(file.metadata()?.len().min(bytes) as usize);
        file.take(bytes).read_to_end(into).map(drop)
    }
}

/// Names the newest segment in use. It lies beside the journal's folder, and so tells when that is gone.
pub const HEAD_FILE: &str = "journal.head";

pub fn head_path(folder: &Path) -> PathBuf {
    folder.with_file_name(HEAD_FILE)
}

/// Notes that a segment, which is on disk under its name, is used from now on.
pub fn write_head(folder: &Path, name: u64) -> io::Result<()> {
    regular_file::replace(&head_path(folder), 0o600, |file| file.write_all(head_line(name).as_bytes()))
}

/// What stands in it: a file's name, and its CRC32C.
fn head_line(name: u64) -> String {
    let name = file_name(name);
    format!("{name} {:08x}\n", crc32c::crc32c(name.as_bytes()))
}

pub fn segment_path(folder: &Path, name: u64) -> PathBuf {
    folder.join(file_name(name))
}

fn file_name(name: u64) -> String {
    format!("{name:016x}.log")
}

fn parse_name(name: &str) -> Option<u64> {
    let hex = name.strip_suffix(".log").filter(|hex| hex.len() == 16)?;
    u64::from_str_radix(hex, 16).ok().filter(|found| file_name(*found) == name)
}

/// A record that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    pub segment: u64,
    pub stored: Stored<'a>,
    pub record: Record<'a>,
}

/// Where a journal ends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct End {
    /// The sequence of the next new record.
    pub next: u64,
    /// The segment that the next one follows. `None`: there is none, or nothing stays in the only one.
    pub previous: Option<Previous>,
    /// What the next segment begins with, origin and record each; the last of them has sequence `next - 1`.
    pub tail: Vec<(u16, Box<[u8]>)>,
    /// What an unfinished last append has left.
    pub torn: Option<Torn>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Previous {
    /// Its name; `None` where the new segment takes the place of the one after it.
    pub trim: Option<u64>,
    pub id: u64,
    pub end: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Torn {
    pub segment: u64,
    /// Where what cannot be read begins.
    pub offset: usize,
    /// The sequence of the first record that is not there.
    pub sequence: u64,
}

/// Why a journal is refused. Nothing of it is then to be served.
#[derive(Error, Debug)]
pub enum RecoverError {
    #[error("the journal cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the journal cannot be read: {}: {error}", file_name(*segment))]
    Read { segment: u64, error: io::Error },
    #[error("{} {error}", file_name(*segment))]
    Header { segment: u64, error: HeaderError },
    /// A segment is damaged where it must be whole; `sequence` is the first record that is lost.
    #[error("{} is damaged at {broken}", file_name(*segment))]
    Damaged { segment: u64, broken: Broken },
    #[error("records from {sequence} on are missing before {}", file_name(*segment))]
    Gap { segment: u64, sequence: u64 },
    #[error("{}, offset {offset}, record {sequence}: {error}", file_name(*segment))]
    Record { segment: u64, offset: usize, sequence: u64, error: DecodeError },
}

/// Reads all records after sequence `after` and hands them to `each`, in order. `None`: from the oldest that is left.
/// Errors: the journal cannot be read, is damaged, or newer than this program; `each` has then had what comes before.
pub fn recover(
    source: &mut dyn Source,
    after: Option<u64>,
    mut each: impl FnMut(&Entry<'_>),
) -> Result<End, RecoverError> {
    let head = source.head()?;
    let mut names = source.list()?;
    // That one must be there: a list that lacks it is read as if it did not, and so refused by its name.
    names.extend(head);
    names.sort_unstable();
    names.dedup();
    if let Some(after) = after.filter(|after| *after > 0 && names.is_empty()) {
        return Err(io::Error::other(format!("no segment is left, and records up to {after} were in them")).into());
    }
    let oldest = names.first().copied().unwrap_or(1);
    let after = after.unwrap_or(oldest.saturating_sub(1));
    let mut end = End { next: after + 1, ..End::default() };
    if oldest > end.next {
        return Err(RecoverError::Gap { segment: oldest, sequence: end.next });
    }
    // The last one that begins no later than the first record that is wanted.
    let needed = names.partition_point(|name| *name <= end.next).saturating_sub(1);
    let mut bytes = Vec::new();
    let mut before: Option<Header> = None;
    for (index, &name) in names.iter().enumerate().skip(needed) {
        let header = read_header(source, name)?;
        let follows = before.is_none_or(|before| header.previous.is_some_and(|(id, _)| id == before.id));
        if !follows || (before.is_some() && header.first != end.next) {
            return Err(RecoverError::Gap { segment: name, sequence: end.next });
        }
        end = read_segment(source, header, names.get(index + 1).copied(), after, &mut bytes, &mut each)?;
        before = Some(header);
    }
    if !names.is_empty() && end.next <= after {
        // What was folded has been acknowledged, so it was in here.
        return Err(RecoverError::Gap { segment: names[names.len() - 1], sequence: end.next });
    }
    Ok(end)
}

/// Reads one segment, whatever there is before it, that `successor` follows.
pub fn recover_one(
    source: &mut dyn Source,
    name: u64,
    successor: u64,
    mut each: impl FnMut(&Entry<'_>),
) -> Result<(), RecoverError> {
    let header = read_header(source, name)?;
    read_segment(source, header, Some(successor), 0, &mut Vec::new(), &mut each).map(drop)
}

fn read_segment(
    source: &mut dyn Source,
    header: Header,
    successor: Option<u64>,
    after: u64,
    bytes: &mut Vec<u8>,
    each: &mut impl FnMut(&Entry<'_>),
) -> Result<End, RecoverError> {
    let (segment, id) = (header.first, header.id);
    let follows = successor.map(|next| (next, read_header(source, next)));
    source.read(segment, header.bytes, bytes).map_err(|error| RecoverError::Read { segment, error })?;
    let damaged = |broken| RecoverError::Damaged { segment, broken };
    // A segment that was rewritten says where it ends, and with which sequence; of any other the next one says it.
    let (last, known) = match (header.dense, &follows) {
        (Some((last, end)), _) => (Some(last), Some(end)),
        (None, Some((_, Ok(Header { previous: Some((before, end)), .. })))) if *before == id => (None, Some(*end)),
        _ => (None, None),
    };
    let known = known.map(|end| usize::try_from(end).unwrap_or(usize::MAX));
    let is_newest = known.is_none() && follows.is_none();
    if is_newest && (bytes.len() as u64) < header.bytes.max(HEADER_BYTES as u64) {
        let what = "the file is shorter than it was made";
        return Err(damaged(Broken { offset: bytes.len(), sequence: segment, what }));
    }
    let reader = Reader { bytes, header };
    let (mut at, mut next, mut records) = (HEADER_BYTES, segment, Vec::new());
    // Up to `kept` all is known to be on disk; the tail comes after it. A mark itself may lie in the page cache only.
    let (mut kept, mut tail, mut torn, mut wrong) = (HEADER_BYTES, Vec::new(), None, None);
    while wrong.is_none() && known.map_or_else(|| !is_zero(bytes.get(at..).unwrap_or_default()), |end| at < end) {
        // This batch was begun, so the ones before it were synced.
        kept = at;
        let expected = next;
        match reader.batch(at, next, &mut records) {
            Ok(end) => at = end,
            Err(broken) => wrong = Some(broken),
        }
        next = records.last().map_or(next, |record| record.sequence + 1);
        if is_newest {
            tail = records.iter().map(|record| (record.origin, record.bytes.into())).collect();
        }
        hand_over(segment, after, &mut records, each)?;
        if let Some(broken) = wrong.filter(|_| is_newest) {
            if let Some(what) = reader.judge(kept, expected, broken) {
                return Err(damaged(Broken { what, ..broken }));
            }
            torn = Some(Torn { segment, offset: broken.offset, sequence: broken.sequence });
        }
    }
    let previous = match (known, follows) {
        (Some(end), _) => {
            let elsewhere = at != end || end > bytes.len() || last.is_some_and(|last| next > last + 1);
            let what = "it does not end where it should";
            let ends_elsewhere = elsewhere.then_some(Broken { offset: at, sequence: next, what });
            if let Some(broken) = wrong.or(ends_elsewhere) {
                return Err(damaged(broken));
            }
            Some(Previous { trim: None, id, end: end as u64 })
        }
        (None, Some((successor, Ok(_)))) => return Err(RecoverError::Gap { segment: successor, sequence: next }),
        // All that is not in the next one is here, or nothing more ever was; else this one is damaged, too.
        (None, Some((successor, Err(error)))) => {
            return Err(wrong.filter(|_| next < successor).map_or(error, damaged));
        }
        (None, None) if kept > HEADER_BYTES => Some(Previous { trim: Some(segment), id, end: kept as u64 }),
        // Where nothing stays in this segment, the next one has its name and takes its place.
        (None, None) => header.previous.map(|(id, end)| Previous { trim: None, id, end }),
    };
    Ok(End { next: last.map_or(next, |last| last + 1), previous, tail, torn })
}

fn hand_over(
    segment: u64,
    after: u64,
    records: &mut Vec<Stored<'_>>,
    each: &mut impl FnMut(&Entry<'_>),
) -> Result<(), RecoverError> {
    for stored in records.drain(..) {
        let (offset, sequence) = (stored.offset, stored.sequence);
        let unknown = |error| RecoverError::Record { segment, offset, sequence, error };
        let record = Record::decode(stored.bytes).map_err(unknown)?;
        if sequence > after {
            each(&Entry { segment, stored, record });
        }
    }
    Ok(())
}

pub fn read_header(source: &mut dyn Source, segment: u64) -> Result<Header, RecoverError> {
    let mut bytes = Vec::new();
    source.read(segment, HEADER_BYTES as u64, &mut bytes).map_err(|error| RecoverError::Read { segment, error })?;
    match Header::parse(&bytes) {
        Ok(header) if header.first == segment => Ok(header),
        other => Err(RecoverError::Header { segment, error: other.err().unwrap_or(HeaderError::NotASegment) }),
    }
}
