//! The file `registry.snapshot`: the registry as a whole, read once at start and replaced as a whole.
//!
//! ```text
//! header     4 KiB, little-endian: 0 magic "onecode\0" · 8 version u32 · 12 header bytes u32 · 16 hash key id [8] ·
//!            24 rows u64 · 32 segments u64 · 40 rows in a full segment u64 · 48 made at, Unix ms u64 · zeros ·
//!            4092 CRC32C of all before it
//! segments   each an rkyv archive of Vec<[u64; 5]>, then the CRC32C (u32) of each 1 MiB block of that archive
//! ```
//!
//! A row is a resident number and the words of its record as the table holds them; rows are sorted by number over the
//! whole file, so that they fill the table from front to back. Rows are plain words and not a derived type because
//! every bit pattern of one is valid: what a checksum lets through cannot be half a record. Each byte of the file is
//! under a checksum (that of a block by being compared), so a flipped bit is found, and its block named.
//!
//! It is refused by name when it is of another version, made with another hash key, short, or damaged. Nothing of a
//! refused file is served.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rkyv::rancor;
use rkyv::util::AlignedVec;

use super::data_folder::replace_with;
use super::table::{DATA_WORDS, Record, Table, pack, unpack};
use crate::limits::{SNAPSHOT_BLOCK_BYTES, SNAPSHOT_SEGMENT_ROWS_MAX};
use crate::words::ResidentNumber;

/// The version of the format that this program writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// An opened snapshot: its header is checked, its rows are not yet read.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    file: File,
    rows: u64,
    segment_rows: u64,
    created_unix_ms: u64,
}

impl Snapshot {
    /// Opens a snapshot made with the hash key of this id.
    ///
    /// # Errors
    /// The file cannot be read, is no snapshot, is damaged in its header, short, or of another version or key.
    pub fn open(path: &Path, key_id: [u8; 8]) -> Result<Snapshot, SnapshotError> {
        let io_error = |source| SnapshotError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io_error)?;
        let found_bytes = file.metadata().map_err(io_error)?.len();
        let mut header = [0; HEADER_BYTES];
        let read = (&file).take(HEADER_BYTES as u64).read(&mut header).map_err(io_error)?;
        if read < 12 || header[..8] != *MAGIC {
            return Err(SnapshotError::NotASnapshot { path: path.to_owned() });
        }
        let version = u32_at(&header, 8);
        if version != VERSION {
            return Err(SnapshotError::Version { path: path.to_owned(), found: version });
        }
        if read < HEADER_BYTES {
            let expected_bytes = HEADER_BYTES as u64;
            return Err(SnapshotError::Length { path: path.to_owned(), expected_bytes, found_bytes });
        }
        let (rows, segment_rows) = (u64_at(&header, 24), u64_at(&header, 40));
        let damaged = u32_at(&header, HEADER_BYTES - 4) != crc32c::crc32c(&header[..HEADER_BYTES - 4])
            || !(1..=SNAPSHOT_SEGMENT_ROWS_MAX).contains(&segment_rows)
            || u64_at(&header, 32) != rows.div_ceil(segment_rows);
        // The number of rows bounds what is allocated for them; the length of the file vouches for it.
        let Some(expected_bytes) = (!damaged).then(|| file_bytes(rows, segment_rows)).flatten() else {
            return Err(SnapshotError::Header { path: path.to_owned() });
        };
        let id_found: [u8; 8] = u64_at(&header, 16).to_le_bytes();
        if id_found != key_id {
            return Err(SnapshotError::HashKey { path: path.to_owned(), needed: id_found, given: key_id });
        }
        if expected_bytes != found_bytes {
            return Err(SnapshotError::Length { path: path.to_owned(), expected_bytes, found_bytes });
        }
        let created_unix_ms = u64_at(&header, 48);
        Ok(Snapshot { path: path.to_owned(), file, rows, segment_rows, created_unix_ms })
    }

    /// Residents in it.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// When it was made, Unix milliseconds.
    pub fn created_unix_ms(&self) -> u64 {
        self.created_unix_ms
    }

    /// Reads and checks every row into a new table for `capacity` residents, or for all rows if there are more.
    ///
    /// # Errors
    /// The file cannot be read, or a block of it is damaged: nothing of it is then to be used.
    pub fn load(self, capacity: usize) -> Result<Table, SnapshotError> {
        let table = Table::with_capacity(capacity.max(usize::try_from(self.rows).unwrap_or(usize::MAX)));
        let (mut offset, mut left, mut last) = (HEADER_BYTES as u64, self.rows, None);
        let mut block = 0;
        let mut archive = AlignedVec::<16>::new();
        while left > 0 {
            let rows = left.min(self.segment_rows);
            let segment = Segment { offset, rows, block };
            self.read_segment(&segment, &mut archive)?;
            let damaged = || SnapshotError::Rows { path: self.path.clone(), offset, bytes: archive.len() as u64 };
            let found = rkyv::access::<rkyv::Archived<Vec<Row>>, rancor::Error>(&archive).map_err(|_| damaged())?;
            if found.len() as u64 != rows {
                return Err(damaged());
            }
            for row in found.iter() {
                let [resident, words @ ..] = row.map(|word| word.to_native());
                let record = unpack(ResidentNumber(resident), words).ok_or_else(damaged)?;
                if last.is_some_and(|last| last >= resident) {
                    return Err(damaged());
                }
                last = Some(resident);
                table.write(&record).expect("the table was made for this many rows, and they are all different");
            }
            left -= rows;
            offset += segment_bytes(rows);
            block += blocks(archive_bytes(rows));
        }
        Ok(table)
    }

    /// Reads the archive of a segment, block by block, and compares the checksum of each.
    fn read_segment(&self, segment: &Segment, archive: &mut AlignedVec<16>) -> Result<(), SnapshotError> {
        let io_error = |source: io::Error| SnapshotError::Io { path: self.path.clone(), source };
        let bytes = archive_bytes(segment.rows);
        let mut checksums = vec![0; to_usize(blocks(bytes)) * 4];
        self.file.read_exact_at(&mut checksums, segment.offset + bytes).map_err(io_error)?;
        archive.clear();
        archive.resize(to_usize(bytes), 0);
        let mut offset = segment.offset;
        for (index, (block, checksum)) in archive.chunks_mut(SNAPSHOT_BLOCK_BYTES).zip(checksums.chunks(4)).enumerate()
        {
            self.file.read_exact_at(block, offset).map_err(io_error)?;
            if crc32c::crc32c(block) != u32_at(checksum, 0) {
                let block = segment.block + index as u64;
                return Err(SnapshotError::Block { path: self.path.clone(), block, offset });
            }
            offset += block.len() as u64;
        }
        Ok(())
    }
}

/// Replaces the snapshot at `path` by these records, which come in the order of their numbers, and returns how many
/// there were. The old file stands until the new one is whole and on disk.
///
/// # Errors
/// What the system said, a full disk above all; the old file then stands.
///
/// # Panics
/// When the records are not in order.
pub fn store(
    path: &Path,
    key_id: [u8; 8],
    created_unix_ms: u64,
    records: impl Iterator<Item = Record>,
) -> Result<u64, SnapshotError> {
    let mut rows = 0;
    let written = replace_with(path, 0o600, |file| {
        rows = write_segments(file, records)?;
        file.write_all_at(&header(key_id, created_unix_ms, rows), 0)
    });
    written.map_err(|source| SnapshotError::Store { path: path.to_owned(), source })?;
    Ok(rows)
}

/// Writes all segments behind the place of the header, which is written last because it counts them.
fn write_segments(file: &mut File, records: impl Iterator<Item = Record>) -> io::Result<u64> {
    let mut records = records.map(|record| {
        let [check, version, marks, session_and_region] = pack(&record);
        [record.resident.0, check, version, marks, session_and_region]
    });
    let mut segment: Vec<Row> = Vec::new();
    let (mut rows, mut last) = (0, None);
    file.write_all(&[0; HEADER_BYTES])?;
    loop {
        segment.clear();
        segment.extend(records.by_ref().take(to_usize(SNAPSHOT_SEGMENT_ROWS_MAX)));
        if segment.is_empty() {
            return Ok(rows);
        }
        assert!(segment.is_sorted_by(|a, b| a[0] < b[0]) && last < Some(segment[0][0]), "rows in order");
        last = segment.last().map(|row| row[0]);
        rows += segment.len() as u64;
        let archive = rkyv::to_bytes::<rancor::Error>(&segment).map_err(io::Error::other)?;
        assert_eq!(archive.len() as u64, archive_bytes(segment.len() as u64), "the length that a reader expects");
        let checksums: Vec<u8> =
            archive.chunks(SNAPSHOT_BLOCK_BYTES).flat_map(|block| crc32c::crc32c(block).to_le_bytes()).collect();
        file.write_all(&archive)?;
        file.write_all(&checksums)?;
    }
}

fn header(key_id: [u8; 8], created_unix_ms: u64, rows: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&4_096u32.to_le_bytes());
    header[16..24].copy_from_slice(&key_id);
    let words = [rows, rows.div_ceil(SNAPSHOT_SEGMENT_ROWS_MAX), SNAPSHOT_SEGMENT_ROWS_MAX, created_unix_ms];
    for (place, word) in header[24..56].chunks_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    header[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Where a segment lies, how many rows it has, and the number of its first block in the file.
struct Segment {
    offset: u64,
    rows: u64,
    block: u64,
}

/// Rows and, at the end, the root of the archive: a relative pointer and a length, 4 bytes each.
const fn archive_bytes(rows: u64) -> u64 {
    rows * size_of::<Row>() as u64 + size_of::<rkyv::Archived<Vec<Row>>>() as u64
}

const fn blocks(archive_bytes: u64) -> u64 {
    archive_bytes.div_ceil(SNAPSHOT_BLOCK_BYTES as u64)
}

const fn segment_bytes(rows: u64) -> u64 {
    archive_bytes(rows) + 4 * blocks(archive_bytes(rows))
}

/// The length of a whole file; `None` beyond 2^64.
fn file_bytes(rows: u64, segment_rows: u64) -> Option<u64> {
    let (full, rest) = (rows / segment_rows, rows % segment_rows);
    let last = if rest > 0 { segment_bytes(rest) } else { 0 };
    full.checked_mul(segment_bytes(segment_rows))?.checked_add(last)?.checked_add(HEADER_BYTES as u64)
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("4 bytes were taken"))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("8 bytes were taken"))
}

/// For sizes within a segment, which [`SNAPSHOT_SEGMENT_ROWS_MAX`] keeps below 2^30.
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a segment is far below 2^32 bytes")
}

/// A row: the resident number and the words of the record.
type Row = [u64; 1 + DATA_WORDS];

const MAGIC: &[u8; 8] = b"onecode\0";
const HEADER_BYTES: usize = 4_096;
const _: () = assert!(archive_bytes(SNAPSHOT_SEGMENT_ROWS_MAX) <= 1 << 30);

/// Why a snapshot cannot be used or stored. Each message names the file.
#[derive(Debug)]
pub enum SnapshotError {
    /// It cannot be read.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not begin as a snapshot does.
    NotASnapshot {
        /// The file.
        path: PathBuf,
    },
    /// It is of a version that this program does not read.
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Its residents were numbered with another hash key.
    HashKey {
        /// The file.
        path: PathBuf,
        /// The id of the key it was made with.
        needed: [u8; 8],
        /// The id of the key that is there.
        given: [u8; 8],
    },
    /// Its header is damaged.
    Header {
        /// The file.
        path: PathBuf,
    },
    /// It is shorter, or longer, than its header says.
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes it should have, or at least.
        expected_bytes: u64,
        /// Bytes it has.
        found_bytes: u64,
    },
    /// A block differs from its checksum.
    Block {
        /// The file.
        path: PathBuf,
        /// Its number in the file, from 0.
        block: u64,
        /// Where it begins in the file.
        offset: u64,
    },
    /// A segment has good checksums, but its rows are not those of a registry: it was written wrongly.
    Rows {
        /// The file.
        path: PathBuf,
        /// Where the segment begins in the file.
        offset: u64,
        /// Bytes of its archive.
        bytes: u64,
    },
    /// It cannot be stored; the file that was there stands.
    Store {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (SnapshotError::Io { path, .. }
        | SnapshotError::NotASnapshot { path }
        | SnapshotError::Version { path, .. }
        | SnapshotError::HashKey { path, .. }
        | SnapshotError::Header { path }
        | SnapshotError::Length { path, .. }
        | SnapshotError::Block { path, .. }
        | SnapshotError::Rows { path, .. }
        | SnapshotError::Store { path, .. }) = self;
        write!(f, "{}: ", path.display())?;
        match self {
            SnapshotError::Io { source, .. } => write!(f, "cannot be read: {source}"),
            SnapshotError::NotASnapshot { .. } => f.write_str("not a registry snapshot"),
            SnapshotError::Version { found, .. } => {
                write!(f, "snapshot version {found}; this program reads version {VERSION}: use the one that wrote it")
            }
            SnapshotError::HashKey { needed, given, .. } => write!(
                f,
                "made with hash key {:016x}, but the key here is {:016x}: restore the keys that belong to this data",
                u64::from_be_bytes(*needed),
                u64::from_be_bytes(*given)
            ),
            SnapshotError::Header { .. } => {
                f.write_str("the header (offset 0, 4096 bytes) is damaged: restore a backup")
            }
            SnapshotError::Length { expected_bytes, found_bytes, .. } => {
                write!(f, "{found_bytes} bytes long, expected {expected_bytes}: it was cut or grew; restore a backup")
            }
            SnapshotError::Block { block, offset, .. } => {
                write!(f, "block {block} at offset {offset} is damaged: restore a backup")
            }
            SnapshotError::Rows { offset, bytes, .. } => {
                write!(f, "the {bytes} bytes at offset {offset} are not rows of a registry: restore a backup")
            }
            SnapshotError::Store { source, .. } => write!(f, "cannot be replaced, the old one stands: {source}"),
        }
    }
}

impl std::error::Error for SnapshotError {}

#[cfg(test)]
mod tests {
    use super::super::demo;
    use super::super::id_number::HashKey;
    use super::*;
    use std::fs;

    const KEY_ID: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn table(rows: u32) -> Table {
        let table = Table::with_capacity(rows as usize);
        demo::records(rows, &HashKey::new([3; 32]), 7).for_each(|record| table.write(&record).unwrap());
        table
    }

    fn stored(rows: u32) -> (tempfile::TempDir, PathBuf, Table) {
        let folder = tempfile::tempdir().unwrap();
        let (path, table) = (folder.path().join("registry.snapshot"), table(rows));
        assert_eq!(store(&path, KEY_ID, 99, table.sorted()).unwrap(), u64::from(rows));
        (folder, path, table)
    }

    fn load(path: &Path) -> Result<Table, SnapshotError> {
        Snapshot::open(path, KEY_ID)?.load(0)
    }

    #[test]
    fn what_was_stored_is_loaded() {
        // None, one, and more than one segment.
        for rows in [0, 1, u32::try_from(SNAPSHOT_SEGMENT_ROWS_MAX).unwrap() + 1] {
            let (_folder, path, table) = stored(rows);
            let snapshot = Snapshot::open(&path, KEY_ID).unwrap();
            assert_eq!((snapshot.rows(), snapshot.created_unix_ms()), (u64::from(rows), 99));
            let loaded = snapshot.load(10).unwrap();
            assert_eq!(loaded.capacity(), (rows as usize).max(10));
            assert!(loaded.sorted().eq(table.sorted()));
        }
    }

    #[test]
    fn another_version_and_another_key_are_refused_by_name() {
        let (_folder, path, _) = stored(5);
        let error = Snapshot::open(&path, [0xab; 8]).unwrap_err().to_string();
        assert!(error.contains("0102030405060708") && error.contains("abababababababab"), "{error}");
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] = 2;
        fs::write(&path, &bytes).unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("snapshot version 2") && error.contains("registry.snapshot"), "{error}");
        fs::write(&path, "id_number,status").unwrap();
        assert!(matches!(load(&path).unwrap_err(), SnapshotError::NotASnapshot { .. }));
    }

    #[test]
    fn any_other_length_is_refused() {
        let (_folder, path, _) = stored(200);
        let bytes = fs::read(&path).unwrap();
        for length in [0, 11, 12, 4_095, 4_096, 4_100, bytes.len() - 1] {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(load(&path).is_err(), "{length}");
        }
        fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
        assert!(matches!(load(&path).unwrap_err(), SnapshotError::Length { .. }));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (_folder, path, _) = stored(20);
        let bytes = fs::read(&path).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // The header is zeros for the most part: a few of those stand for all.
            if !(64 * 8..4_000 * 8).contains(&bit) {
                fs::write(&path, &flipped).unwrap();
                assert!(load(&path).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn the_damaged_block_is_named() {
        let (_folder, path, _) = stored(u32::try_from(SNAPSHOT_SEGMENT_ROWS_MAX).unwrap() + 30_000);
        let mut bytes = fs::read(&path).unwrap();
        let second_segment = HEADER_BYTES as u64 + segment_bytes(SNAPSHOT_SEGMENT_ROWS_MAX);
        let offset = second_segment + SNAPSHOT_BLOCK_BYTES as u64;
        bytes[usize::try_from(offset).unwrap() + 77] ^= 4;
        fs::write(&path, &bytes).unwrap();
        match load(&path).unwrap_err() {
            SnapshotError::Block { block, offset: found, .. } => {
                assert_eq!((block, found), (blocks(archive_bytes(SNAPSHOT_SEGMENT_ROWS_MAX)) + 1, offset));
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn rows_out_of_order_are_refused_though_their_checksums_are_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.snapshot");
        let row: Row = [5, 0, 0, 1 << 8, 0];
        let archive = rkyv::to_bytes::<rancor::Error>(&vec![row, row]).unwrap();
        let checksum = crc32c::crc32c(&archive).to_le_bytes();
        fs::write(&path, [&header(KEY_ID, 0, 2)[..], &archive, &checksum].concat()).unwrap();
        assert!(matches!(load(&path).unwrap_err(), SnapshotError::Rows { .. }));
    }
}
