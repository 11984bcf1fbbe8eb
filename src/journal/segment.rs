//! A segment: the file format of the journal.
//!
//! ```text
//! header   4 KiB, little-endian: 0 magic "onecodej" · 8 version u32 · 12 flags u32 (1 dense) · 16 id u64 ·
//!          24 first sequence u64 · 32 previous segment's id u64 (0: none) · 40 its end u64 · 48 made at, Unix ms u64 ·
//!          56 length of the file u64 · 64 last sequence u64 · 72 end u64 (both of a dense segment, else 0) · zeros ·
//!          4092 CRC32C of all before it (magic, version and this stay where they are in later versions)
//! batches  each from a 4 KiB boundary on: records without gaps, then 0xa5 to the next boundary
//! record   0 CRC32C of 4..32 · 4 CRC32C of the payload · 8 sequence u64 · 16 segment's id u64 ·
//!          24 bytes of payload u16 · 26 origin u16 · 28 zero u16 · 30 flags (1 first, 2 last of its batch) · 31 kind ·
//!          32 payload
//! the rest zeros
//! ```
//!
//! A batch is one write and one sync; the next one is not begun before that sync has succeeded. No block is ever
//! written twice, so nothing that happens to a later write can harm a record that was acknowledged. A record of kind 0
//! is a *mark*: a batch of its own, with the sequence of the last record before it. It says that all before it is on
//! disk, as any later batch does, and is written when the journal has nothing else to do.
//!
//! **Where a segment ends** is said by its successor's header, which is on disk before the successor has its name. So
//! an older segment has one known end: any damage before it is damage. A segment that the fold has rewritten (*dense*)
//! says its end itself, and its sequences may have gaps.
//!
//! **A torn tail or damage?** Only the last batch of the last segment can be unfinished. [`Reader::judge`] holds what is
//! wrong there against what an unfinished write can leave: any mixture of its new bytes and zeros or rubbish, but in
//! this batch alone. It is damage where
//! - a record's header is whole, and says that it belongs elsewhere; or
//! - anything of a later batch is there, or anything at all beyond the longest batch: that batch had been synced; or
//! - one flipped bit explains all that is wrong with the batch. CRC32C tells every such flip, and padding that is not
//!   zero keeps a torn sector from looking like one.
//!
//! A sector that is all zero is none with a flipped bit, but one that was never written: no record has so many zeros.
//!
//! What stays open: two bits and more of the very last batch that changed *after* it was acknowledged, before a mark
//! or another batch followed, look like a tear and are cut. And a tear that has taken one single bit of the whole batch
//! is refused as damage: the bytes are those of a flipped bit.

use bytes::{Buf as _, BufMut as _};
use thiserror::Error;

use crate::limits::{JOURNAL_BATCH_BYTES_MAX, JOURNAL_BLOCK_BYTES, JOURNAL_RECORD_BYTES_MAX};

/// The version of the format that this program writes, and the only one it reads.
pub const VERSION: u32 = 1;
pub const HEADER_BYTES: usize = JOURNAL_BLOCK_BYTES;

const MAGIC: &[u8; 8] = b"onecodej";
const DENSE: u32 = 1;
const RECORD_HEADER_BYTES: usize = 32;
/// Where a record's flags and its kind are; the kind stands right before the payload, so the two are one slice.
const FLAGS_AT: usize = 30;
const KIND_AT: usize = 31;
const FIRST: u8 = 1;
const LAST: u8 = 2;
const MARK: u8 = 0;
const PADDING: u8 = 0xa5;
/// What a disk writes whole or not at all, if it keeps to the rules.
const SECTOR_BYTES: usize = 512;

// A header whose checksum is right and that should not be there: no write of ours leaves that, finished or not.
const ELSEWHERE: &str = "it belongs to another place";
const OTHER_SEQUENCE: &str = "its sequence is another";

const _: () =
    assert!(JOURNAL_RECORD_BYTES_MAX <= u16::MAX as usize && JOURNAL_BATCH_BYTES_MAX >= 2 * JOURNAL_BLOCK_BYTES);

/// What a segment says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Random, so that no other segment's bytes are taken for this one's; not 0.
    pub id: u64,
    /// The sequence of its first record, and its name.
    pub first: u64,
    /// The id of the segment before it, and where that one ends.
    pub previous: Option<(u64, u64)>,
    /// When it was made. Told to operators only; nothing is ordered by it.
    pub created_unix_ms: u64,
    /// The file's length while it is the last segment.
    pub bytes: u64,
    /// Rewritten without gaps: its last sequence, and where it ends.
    pub dense: Option<(u64, u64)>,
}

/// Why a header is refused.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    #[error("is not a segment of a journal")]
    NotASegment,
    #[error("is of version {0}, which this program does not know")]
    Version(u32),
    /// Or it is short.
    #[error("is damaged at offset 0: its header's checksum is wrong")]
    Damaged,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut block = [0; HEADER_BYTES];
        let mut fields = &mut block[..];
        fields.put_slice(MAGIC);
        fields.put_u32_le(VERSION);
        fields.put_u32_le(u32::from(self.dense.is_some()) * DENSE);
        let (previous, previous_end) = self.previous.unwrap_or_default();
        let (last, end) = self.dense.unwrap_or_default();
        let words = [self.id, self.first, previous, previous_end, self.created_unix_ms, self.bytes, last, end];
        words.into_iter().for_each(|word| fields.put_u64_le(word));
        let checksum = crc32c::crc32c(&block[..HEADER_BYTES - 4]);
        (&mut block[HEADER_BYTES - 4..]).put_u32_le(checksum);
        block
    }

    /// The header at the front of these bytes.
    pub fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        if bytes.get(..8) != Some(MAGIC) {
            return Err(HeaderError::NotASegment);
        }
        let block = bytes.get(..HEADER_BYTES).ok_or(HeaderError::Damaged)?;
        let mut fields = &block[8..];
        // In all versions: a flipped bit in the version is no later one.
        if (&block[HEADER_BYTES - 4..]).get_u32_le() != crc32c::crc32c(&block[..HEADER_BYTES - 4]) {
            return Err(HeaderError::Damaged);
        }
        let (version, flags) = (fields.get_u32_le(), fields.get_u32_le());
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let [id, first, previous, previous_end, created_unix_ms, bytes, last, end] =
            std::array::from_fn(|_| fields.get_u64_le());
        // The numbers behind them must be numbers, too.
        if flags & !DENSE != 0 || first.max(last) == u64::MAX {
            return Err(HeaderError::Damaged);
        }
        let previous = (previous != 0).then_some((previous, previous_end));
        let dense = (flags & DENSE != 0).then_some((last, end));
        Ok(Header { id, first, previous, created_unix_ms, bytes, dense })
    }
}

/// A batch that is being put together.
pub struct Batch {
    bytes: Vec<u8>,
    last_at: usize,
    pub records: u64,
}

impl Batch {
    /// An empty one; its memory is taken once.
    pub fn new() -> Batch {
        Batch { bytes: Vec::with_capacity(JOURNAL_BATCH_BYTES_MAX), last_at: 0, records: 0 }
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
    }

    /// Whether one more record of any length fits where so many bytes are left.
    pub fn has_room(&self, bytes: usize) -> bool {
        let longest = RECORD_HEADER_BYTES + JOURNAL_RECORD_BYTES_MAX;
        self.bytes.len() + longest <= bytes.min(JOURNAL_BATCH_BYTES_MAX)
    }

    /// Adds a record, kind and payload, for which there is [room](Self::has_room).
    /// Panics when the record is empty or longer than `JOURNAL_RECORD_BYTES_MAX`: [`Record::encode`] makes none such.
    ///
    /// [`Record::encode`]: super::Record::encode
    pub fn push(&mut self, segment: u64, sequence: u64, origin: u16, record: &[u8]) {
        assert!((1..=JOURNAL_RECORD_BYTES_MAX).contains(&record.len()), "a record of ours");
        let payload = &record[1..];
        let mut header = [0; RECORD_HEADER_BYTES];
        let mut fields = &mut header[4..];
        fields.put_u32_le(crc32c::crc32c(payload));
        fields.put_u64_le(sequence);
        fields.put_u64_le(segment);
        fields.put_u16_le(payload.len() as u16);
        fields.put_u16_le(origin);
        header[FLAGS_AT] = if self.bytes.is_empty() { FIRST } else { 0 };
        header[KIND_AT] = record[0];
        seal(&mut header);
        self.last_at = self.bytes.len();
        self.records += 1;
        self.bytes.extend(header);
        self.bytes.extend(payload);
    }

    /// Makes it a mark: all up to `sequence` is on disk.
    pub fn mark(&mut self, segment: u64, sequence: u64) {
        self.clear();
        self.push(segment, sequence, 0, &[MARK]);
        self.records = 0;
    }

    /// Ends it: the bytes to write, whole blocks; none if there is nothing in it.
    pub fn close(&mut self) -> &[u8] {
        if !self.bytes.is_empty() && self.bytes[self.last_at + FLAGS_AT] & LAST == 0 {
            let header = &mut self.bytes[self.last_at..self.last_at + RECORD_HEADER_BYTES];
            header[FLAGS_AT] |= LAST;
            seal(header);
            self.bytes.resize(block_up(self.bytes.len()), PADDING);
        }
        &self.bytes
    }
}

/// A record as it lies in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored<'a> {
    pub offset: usize,
    /// Its place in the order of all records.
    pub sequence: u64,
    /// The lane it came through. Told only; nothing depends on it.
    pub origin: u16,
    /// Kind and payload.
    pub bytes: &'a [u8],
}

/// The first record of a batch that is not as it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("offset {offset}, record {sequence}: {what}")]
pub struct Broken {
    /// Where it begins, or should.
    pub offset: usize,
    /// What its sequence should be.
    pub sequence: u64,
    pub what: &'static str,
}

/// Reads segments with this header.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The file from its beginning; what is missing at its end counts as zeros.
    pub bytes: &'a [u8],
    pub header: Header,
}

impl<'a> Reader<'a> {
    /// Reads the batch at `start`, whose first record has sequence `next` (or a later one, in a dense segment). What is
    /// whole goes into `records`, even of a broken one. Returns where the next batch begins, or the first wrong record.
    pub fn batch(&self, start: usize, next: u64, records: &mut Vec<Stored<'a>>) -> Result<usize, Broken> {
        let (mut at, mut next) = (start, next);
        loop {
            let broken = |what| Broken { offset: at, sequence: next, what };
            let stored = self.record(at, at == start, next).map_err(broken)?;
            let (is_mark, is_last) = (stored.bytes[0] == MARK, self.bytes[at + FLAGS_AT] & LAST != 0);
            at += KIND_AT + stored.bytes.len();
            if !is_mark {
                next = stored.sequence + 1;
                records.push(stored);
            }
            if is_mark || is_last {
                return Ok(block_up(at));
            }
        }
    }

    /// The record, or the mark, that is to be at `at`, the first of its batch or not; else what is wrong with it.
    fn record(&self, at: usize, is_first: bool, next: u64) -> Result<Stored<'a>, &'static str> {
        let head = self.bytes.get(at..at + RECORD_HEADER_BYTES).ok_or("it is cut off")?;
        if crc32c::crc32c(&head[4..]) != (&head[..]).get_u32_le() {
            return Err("its header's checksum is wrong");
        }
        if (&head[16..]).get_u64_le() != self.header.id || (head[FLAGS_AT] & FIRST != 0) != is_first {
            return Err(ELSEWHERE);
        }
        let sequence = (&head[8..]).get_u64_le();
        let expected = if head[KIND_AT] == MARK { next.wrapping_sub(1) } else { next };
        let is_later = self.header.dense.is_some() && sequence > expected;
        if sequence == u64::MAX || (sequence != expected && !is_later) {
            return Err(OTHER_SEQUENCE);
        }
        let end = at + RECORD_HEADER_BYTES + usize::from((&head[24..]).get_u16_le());
        let payload = self.bytes.get(at + RECORD_HEADER_BYTES..end).ok_or("it is cut off")?;
        if crc32c::crc32c(payload) != (&head[4..]).get_u32_le() {
            return Err("its checksum is wrong");
        }
        let origin = (&head[26..]).get_u16_le();
        Ok(Stored { offset: at, sequence, origin, bytes: &self.bytes[at + KIND_AT..end] })
    }

    /// Whether `broken`, found in the last batch of the last segment, is damage (and why) or what an unfinished write
    /// of that batch, which begins at `start` with sequence `next`, can leave.
    pub fn judge(&self, start: usize, next: u64, broken: Broken) -> Option<&'static str> {
        let rest = &self.bytes[self.bytes.len().min(start)..];
        if !is_zero(rest.get(JOURNAL_BATCH_BYTES_MAX..).unwrap_or_default()) {
            return Some("records follow it");
        }
        let mut blocks = rest.chunks(JOURNAL_BLOCK_BYTES).skip(1);
        if blocks.any(|block| self.begins_later_batch(block, broken.sequence)) {
            return Some("a later batch follows it");
        }
        if [ELSEWHERE, OTHER_SEQUENCE].contains(&broken.what) {
            return Some(broken.what);
        }
        let mut batch = rest[..rest.len().min(JOURNAL_BATCH_BYTES_MAX)].to_vec();
        self.is_one_bit_off(&mut batch, start, next, broken).then_some("one bit of it has flipped")
    }

    fn begins_later_batch(&self, block: &[u8], sequence: u64) -> bool {
        block.len() >= RECORD_HEADER_BYTES
            && block[FLAGS_AT] & FIRST != 0
            && crc32c::crc32c(&block[4..RECORD_HEADER_BYTES]) == (&block[..]).get_u32_le()
            && (&block[16..]).get_u64_le() == self.header.id
            && (&block[8..]).get_u64_le().saturating_add(1) >= sequence
    }

    /// Whether one flipped bit, in the record that is broken, keeps these bytes from beginning with a whole batch.
    fn is_one_bit_off(&self, batch: &mut [u8], start: usize, next: u64, broken: Broken) -> bool {
        let at = broken.offset - start;
        let end = batch.len().min(at + RECORD_HEADER_BYTES + JOURNAL_RECORD_BYTES_MAX);
        (at * 8..end * 8).any(|bit| {
            let (byte, mask) = (bit / 8, 1 << (bit % 8));
            let sector = (start + byte) / SECTOR_BYTES * SECTOR_BYTES;
            if is_zero(&self.bytes[sector..self.bytes.len().min(sector + SECTOR_BYTES)]) {
                return false;
            }
            batch[byte] ^= mask;
            let reader = Reader { bytes: batch, ..*self };
            let found = reader.record(at, at == 0, broken.sequence).is_ok() && reader.is_whole_batch(next);
            batch[byte] ^= mask;
            found
        })
    }

    /// Whether a batch is here at the front, up to its padding.
    fn is_whole_batch(&self, next: u64) -> bool {
        let mut records = Vec::new();
        let Ok(end) = self.batch(0, next, &mut records) else { return false };
        let used = records.last().map_or(RECORD_HEADER_BYTES, |last| last.offset + KIND_AT + last.bytes.len());
        self.bytes.get(used..end).is_some_and(|padding| padding.iter().all(|byte| *byte == PADDING))
    }
}

/// Whether nothing was ever written there.
pub fn is_zero(bytes: &[u8]) -> bool {
    // By words that the compiler can look at many at a time.
    let (words, rest) = bytes.as_chunks::<64>();
    words.iter().all(|word| *word == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}

pub const fn block_up(bytes: usize) -> usize {
    bytes.next_multiple_of(JOURNAL_BLOCK_BYTES)
}

fn seal(header: &mut [u8]) {
    let checksum = crc32c::crc32c(&header[4..]);
    (&mut header[..4]).put_u32_le(checksum);
}
