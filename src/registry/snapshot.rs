//! The file `registry.snapshot`: the registry as a whole, read once at start and replaced as a whole.
//!
//! ```text
//! header     4 KiB, little-endian: 0 magic "onecode\0" · 8 version u32 · 12 header bytes u32 · 16 hash key id [8] ·
//!            24 rows u64 · 32 segments u64 · 40 rows in a full segment u64 · 48 made at, Unix ms u64 ·
//!            56 folded to u64 · zeros · 4092 CRC32C of all before it
//! segments   each an rkyv archive of Vec<[u64; 5]>, then the CRC32C (u32) of each 1 MiB block of that archive
//! ```
//!
//! A row is a resident number and the words of its record as the table holds them; rows are sorted by number over the
//! whole file, so that they fill the table from front to back, several segments at once. Rows are plain words and not a
//! derived type because every bit pattern of one is valid: what a checksum lets through cannot be half a record. Each
//! byte of the file is under a checksum (that of a block by being compared), so a flipped bit is found, and its block
//! named. Residents who were removed are rows too, since an older statement must not bring them back.
//!
//! **Folded to** is a sequence of the journal: all its records up to that one are in the rows, and some later ones may
//! be, since the table is written while it changes. Applying a record to what it has already changed changes nothing,
//! so the records after it are applied on top, all of them.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::{Buf as _, BufMut as _};
use rkyv::rancor;
use rkyv::util::AlignedVec;

use super::table::{Row, Table, is_row};
use crate::limits::{SNAPSHOT_BLOCK_BYTES, SNAPSHOT_SEGMENT_ROWS_MAX, SNAPSHOT_WRITE_BYTES_MAX};
use crate::sys::regular_file;
use crate::words::{Ended, Fatal};

/// The version of the format that this program writes, and the only one it reads.
pub const VERSION: u32 = 2;

/// What a snapshot says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// The id of the hash key that its residents are numbered with.
    pub key_id: [u8; 8],
    /// When it was made, Unix milliseconds.
    pub created_unix_ms: u64,
    /// The last record of the journal that is known to be in it; 0 for none.
    pub folded_to: u64,
}

/// An opened snapshot: its header is checked, its rows are not yet read.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    file: File,
    /// Rows in it: its residents, and those removed.
    pub rows: u64,
    segment_rows: u64,
    /// What it says of itself.
    pub meta: Meta,
}

impl Snapshot {
    /// Fails where the file cannot be read, is no snapshot, is damaged in its header, short, or of another version.
    pub fn open(path: &Path) -> Result<Snapshot, Ended> {
        let check = |holds: bool, wrong: &dyn Display| Fatal::Configuration.unless(holds, path.display(), wrong);
        // Replacing it would leave what it leads to as it was, or hide that it leads nowhere.
        let link = "is a symbolic link, which an import would replace: name its folder with --data";
        check(!path.is_symlink(), &link)?;
        let mut header = [0; HEADER_BYTES];
        let opened = regular_file::open(path).and_then(|file| {
            let read = (&file).take(HEADER_BYTES as u64).read(&mut header)?;
            Ok((file.metadata()?.len(), file, read))
        });
        let (found_bytes, file, read) =
            opened.map_err(Fatal::File.at(format_args!("{}: cannot be read", path.display())))?;
        check(read >= 12 && header[..8] == *MAGIC, &"not a registry snapshot")?;
        let version = (&header[8..]).get_u32_le();
        let other = format_args!("snapshot version {version}; this program reads version {VERSION}");
        check(version == VERSION, &format_args!("{other}: use the one that wrote it"))?;
        let mut words = &header[24..];
        let [rows, segments, segment_rows, created_unix_ms, folded_to] = std::array::from_fn(|_| words.get_u64_le());
        let damaged = (&header[HEADER_BYTES - 4..]).get_u32_le() != crc32c::crc32c(&header[..HEADER_BYTES - 4])
            || !(1..=SNAPSHOT_SEGMENT_ROWS_MAX).contains(&segment_rows)
            || segments != rows.div_ceil(segment_rows);
        // The number of rows bounds what is allocated for them; the length of the file vouches for it.
        let expected_bytes = (!damaged).then(|| file_bytes(rows, segment_rows)).flatten();
        let wrong = format_args!("the header (offset 0, {HEADER_BYTES} bytes) is damaged: restore a backup");
        check(expected_bytes.is_some(), &wrong)?;
        let expected_bytes = expected_bytes.unwrap_or(0);
        let wrong =
            format_args!("{found_bytes} bytes long, expected {expected_bytes}: it was cut or grew; restore a backup");
        check(expected_bytes == found_bytes, &wrong)?;
        let meta = Meta { key_id: std::array::from_fn(|at| header[16 + at]), created_unix_ms, folded_to };
        Ok(Snapshot { path: path.to_owned(), file, rows, segment_rows, meta })
    }

    /// Refuses a snapshot made with another hash key than that of the id `given`, and names both.
    pub fn made_with(self, given: [u8; 8]) -> Result<Snapshot, Ended> {
        let [needed, given] = [self.meta.key_id, given].map(u64::from_be_bytes);
        let other = format_args!("made with hash key {needed:016x}, but the key here is {given:016x}");
        let wrong = format_args!("{other}: restore the keys that belong to this data");
        Fatal::Configuration.unless(needed == given, self.path.display(), wrong).map(|()| self)
    }

    /// Reads and checks every row into a new table for `capacity` residents, or for all rows if there are more.
    /// `everywhere` runs what it is given, on as many threads as it likes; each holds one segment in memory.
    /// Errors: the file cannot be read or is damaged, or there is no memory for the table.
    pub fn load(&self, capacity: usize, everywhere: impl FnOnce(&(dyn Fn() + Sync))) -> Result<Table, Ended> {
        let capacity = capacity.max(usize::try_from(self.rows).unwrap_or(usize::MAX));
        let table = Table::new(capacity)?;
        let segments = self.rows.div_ceil(self.segment_rows);
        // The next segment that nobody has taken; and of those that were loaded the index, first number and last.
        let (next, loaded) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        everywhere(&|| {
            let mut archive = AlignedVec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= segments {
                    return;
                }
                let spans = self.load_segment(index, &mut archive, &table);
                if spans.is_err() {
                    next.store(segments, Ordering::Relaxed);
                }
                let spans = spans.map(|(first, last)| (index, first, last));
                loaded.lock().unwrap_or_else(PoisonError::into_inner).push(spans);
            }
        });
        let loaded = loaded.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut spans = loaded.into_iter().collect::<Result<Vec<_>, _>>()?;
        spans.sort_unstable();
        let wrong = spans.windows(2).find(|pair| pair[0].2 >= pair[1].1).map(|pair| pair[1].0);
        wrong.map_or(Ok(table), |index| Err(self.damaged(index)))
    }

    /// Where a segment begins, and how many bytes its archive has.
    fn segment(&self, index: u64) -> (u64, u64) {
        let rows = self.segment_rows.min(self.rows - index * self.segment_rows);
        (HEADER_BYTES as u64 + index * segment_bytes(self.segment_rows), archive_bytes(rows))
    }

    /// Reads a segment into `archive`, block by block, and compares the checksum of each. Fills its rows into the table,
    /// and returns its first and last number.
    fn load_segment(&self, index: u64, archive: &mut AlignedVec<16>, table: &Table) -> Result<(u64, u64), Ended> {
        let unread = Fatal::File.at(format!("{}: cannot be read", self.path.display()));
        let (mut offset, bytes) = self.segment(index);
        let mut checksums = vec![0; blocks(bytes) as usize * 4];
        self.file.read_exact_at(&mut checksums, offset + bytes).map_err(&unread)?;
        archive.clear();
        archive.resize(bytes as usize, 0);
        for (block, checksum) in archive.chunks_mut(SNAPSHOT_BLOCK_BYTES).zip(checksums.chunks(4)) {
            self.file.read_exact_at(block, offset).map_err(&unread)?;
            if crc32c::crc32c(block) != (&checksum[..]).get_u32_le() {
                return Err(self.refused(format!("the block at offset {offset} is damaged: restore a backup")));
            }
            offset += block.len() as u64;
        }
        let damaged = || self.damaged(index);
        let rows = rkyv::access::<rkyv::Archived<Vec<Row>>, rancor::Error>(archive).map_err(|_| damaged())?;
        let row = |row: &rkyv::Archived<Row>| row.map(|word| word.to_native());
        let in_order = rows.is_sorted_by(|a, b| a[0].to_native() < b[0].to_native());
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Err(damaged()) };
        if archive_bytes(rows.len() as u64) != bytes || !in_order || !rows.iter().all(|archived| is_row(&row(archived)))
        {
            return Err(damaged());
        }
        table.fill(rows.iter().map(row));
        Ok((first[0].to_native(), last[0].to_native()))
    }

    fn refused(&self, reason: String) -> Ended {
        (Fatal::Configuration, format!("{}: {reason}", self.path.display()))
    }

    /// A segment has good checksums, but was written wrongly.
    fn damaged(&self, index: u64) -> Ended {
        let (offset, bytes) = self.segment(index);
        self.refused(format!("the {bytes} bytes at offset {offset} are not rows of a registry: restore a backup"))
    }
}

/// Replaces the snapshot at `path`, once the new one is whole and on disk, by what `table` holds: so many rows.
///
/// The table may be written meanwhile: everything that was applied before the call is in the file, and each row is
/// whole. Memory is bounded by two segments, and so is what is not yet on disk. `pause` is told after each segment how
/// many bytes that was: it may wait there, so that others get at the disk, or end it by an error.
/// Errors: what the system said, a full disk above all, or `pause`; the old file then stands.
pub fn store(
    path: &Path,
    meta: &Meta,
    table: &Table,
    pause: &mut dyn FnMut(u64) -> io::Result<()>,
) -> Result<u64, Ended> {
    let written = regular_file::replace(path, 0o600, |file| {
        let rows = write_segments(file, table, pause)?;
        file.write_all_at(&header(meta, rows), 0).map(|()| rows)
    });
    written.map_err(Fatal::Folder.at(format_args!("{}: cannot be replaced, the old one stands", path.display())))
}

/// Writes all segments behind the place of the header, which is written last because it counts them.
fn write_segments(file: &mut File, table: &Table, pause: &mut dyn FnMut(u64) -> io::Result<()>) -> io::Result<u64> {
    let mut all = table.rows();
    let mut segment: Vec<Row> = Vec::new();
    let mut archive = AlignedVec::<16>::new();
    let mut rows = 0;
    file.write_all(&[0; HEADER_BYTES])?;
    loop {
        segment.clear();
        segment.extend(all.by_ref().take(SNAPSHOT_SEGMENT_ROWS_MAX as usize));
        if segment.is_empty() {
            return Ok(rows);
        }
        rows += segment.len() as u64;
        archive.clear();
        archive = rkyv::api::high::to_bytes_in::<_, rancor::Error>(&segment, archive).map_err(io::Error::other)?;
        assert_eq!(archive.len() as u64, archive_bytes(segment.len() as u64), "the length that a reader expects");
        let checksums: Vec<u8> =
            archive.chunks(SNAPSHOT_BLOCK_BYTES).flat_map(|block| crc32c::crc32c(block).to_le_bytes()).collect();
        // A system call need not give way before it ends, whoever else wants its CPU.
        for piece in archive.chunks(SNAPSHOT_WRITE_BYTES_MAX).chain([&checksums[..]]) {
            file.write_all(piece)?;
        }
        file.sync_data()?;
        pause((archive.len() + checksums.len()) as u64)?;
    }
}

fn header(meta: &Meta, rows: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let mut fields = &mut header[..];
    fields.put_slice(MAGIC);
    fields.put_u32_le(VERSION);
    fields.put_u32_le(HEADER_BYTES as u32);
    fields.put_slice(&meta.key_id);
    let segments = rows.div_ceil(SNAPSHOT_SEGMENT_ROWS_MAX);
    let words = [rows, segments, SNAPSHOT_SEGMENT_ROWS_MAX, meta.created_unix_ms, meta.folded_to];
    words.into_iter().for_each(|word| fields.put_u64_le(word));
    let checksum = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    (&mut header[HEADER_BYTES - 4..]).put_u32_le(checksum);
    header
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

const MAGIC: &[u8; 8] = b"onecode\0";
const HEADER_BYTES: usize = 4_096;
const _: () = assert!(archive_bytes(SNAPSHOT_SEGMENT_ROWS_MAX) <= 1 << 30);

#[cfg(test)]
mod tests {
    use super::super::demo;
    use super::super::id_number::HashKey;
    use super::super::table::Record;
    use super::super::table::tests::{removal, say, status};
    use super::*;
    use crate::words::{ResidentNumber, Status};
    use std::fs;

    const KEY_ID: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
    const META: Meta = Meta { key_id: KEY_ID, created_unix_ms: 99, folded_to: 1 << 40 };

    fn table(rows: u32) -> Table {
        let table = Table::new(rows as usize).unwrap();
        demo::records(rows, &HashKey::new([3; 32]), 7).for_each(|record| table.write(&record).unwrap());
        table
    }

    fn stored(rows: u32) -> (tempfile::TempDir, PathBuf, Table) {
        let folder = tempfile::tempdir().unwrap();
        let (path, table) = (folder.path().join("registry.snapshot"), table(rows));
        assert_eq!(store(&path, &META, &table, &mut |_| Ok(())).unwrap(), u64::from(rows));
        (folder, path, table)
    }

    fn load_into(snapshot: &Snapshot, capacity: usize) -> Result<Table, Ended> {
        snapshot.load(capacity, |work| work())
    }

    fn load(path: &Path) -> Result<Table, Ended> {
        load_into(&Snapshot::open(path)?.made_with(KEY_ID)?, 0)
    }

    /// Loading must be refused for this reason.
    fn refused(path: &Path, says: &str) {
        let said = load(path).unwrap_err().1;
        assert!(said.contains(says) && said.contains("registry.snapshot: "), "{said}");
    }

    #[test]
    fn what_was_stored_is_loaded() {
        // None, one, and more than one segment.
        for rows in [0, 1, u32::try_from(SNAPSHOT_SEGMENT_ROWS_MAX).unwrap() + 1] {
            let (_folder, path, table) = stored(rows);
            let snapshot = Snapshot::open(&path).unwrap();
            assert_eq!((snapshot.rows, snapshot.meta), (u64::from(rows), META));
            let loaded = load_into(&snapshot, 10).unwrap();
            assert_eq!(loaded.capacity, (rows as usize).max(10));
            assert!(loaded.sorted().eq(table.sorted()));
        }
    }

    #[test]
    fn several_threads_load_what_one_does_and_find_the_damage_that_one_does() {
        let rows = 3 * u32::try_from(SNAPSHOT_SEGMENT_ROWS_MAX).unwrap() + 7;
        let (_folder, path, table) = stored(rows);
        let load_by_three = || {
            let three = |work: &(dyn Fn() + Sync)| {
                std::thread::scope(|scope| [(); 3].iter().for_each(|()| _ = scope.spawn(work)))
            };
            Snapshot::open(&path)?.load(0, three)
        };
        let loaded = load_by_three().unwrap();
        assert_eq!(
            (loaded.residents(), loaded.used(), loaded.test_len()),
            (rows as usize, rows as usize, rows as usize)
        );
        assert!(loaded.rows().eq(table.rows()));
        let mut bytes = fs::read(&path).unwrap();
        let offset = bytes.len() - 100;
        bytes[offset] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(load_by_three().unwrap_err().1.contains(" is damaged: restore a backup"));
    }

    #[test]
    fn segments_out_of_order_are_refused_though_each_is_good() {
        let (_folder, path, _) = stored(2 * u32::try_from(SNAPSHOT_SEGMENT_ROWS_MAX).unwrap());
        let mut bytes = fs::read(&path).unwrap();
        let (first, second) = bytes[HEADER_BYTES..].split_at_mut(segment_bytes(SNAPSHOT_SEGMENT_ROWS_MAX) as usize);
        first.swap_with_slice(second);
        fs::write(&path, &bytes).unwrap();
        refused(&path, "are not rows of a registry");
    }

    #[test]
    fn who_was_removed_is_stored_and_what_was_purged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (path, table) = (folder.path().join("registry.snapshot"), Table::new(9).unwrap());
        for (number, test) in [(0, false), (1, false), (2, true), (3, true)] {
            assert!(say(&table, Record { test, ..status(number, 5, Status::Green) }));
        }
        assert!(say(&table, removal(1, 6)) && say(&table, Record { test: true, ..removal(3, 6) }));
        assert_eq!(table.purge_test(0, 1, 0), (1, None));
        assert_eq!(store(&path, &META, &table, &mut |_| Ok(())).unwrap(), 2);
        let loaded = load(&path).unwrap();
        assert!(loaded.rows().eq(table.rows()));
        assert_eq!((loaded.residents(), loaded.used()), (1, 2));
        assert_eq!(loaded.removed(ResidentNumber(1)).map(|removed| removed.version), Some(6));
    }

    #[test]
    fn a_snapshot_of_a_table_that_changes_has_all_from_before_and_replay_gives_the_rest() {
        const RESIDENTS: u64 = 3_000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.snapshot");
        let spread = |number: u64| ResidentNumber(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // The journal: versions grow with the sequence but for some that come late; residents come, change and go.
        let log: Vec<Record> = (1..=60_000_u64)
            .map(|sequence| {
                let (number, late) = (sequence * sequence % RESIDENTS, if sequence % 5 == 0 { 900 } else { 0 });
                let said = status(spread(number).0, 1_000 + sequence - late, Status::Red);
                Record { check: number, removed: sequence % 7 == 0, ..said }
            })
            .collect();
        let apply = |table: &Table, statement: &Record| say(table, *statement);
        let (live, expected) = (Table::new(RESIDENTS as usize).unwrap(), Table::new(RESIDENTS as usize).unwrap());
        log.iter().for_each(|statement| _ = apply(&expected, statement));
        let (folded, later) = log.split_at(20_000);
        folded.iter().for_each(|statement| _ = apply(&live, statement));
        let before: Vec<Row> = live.rows().collect();
        let meta = Meta { folded_to: folded.len() as u64, ..META };
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| later.iter().for_each(|statement| _ = apply(&live, statement)));
            while !writer.is_finished() {
                store(&path, &meta, &live, &mut |_| Ok(())).unwrap();
                let loaded = load_into(&Snapshot::open(&path).unwrap(), RESIDENTS as usize).unwrap();
                let version = |table: &Table, resident| {
                    table.read(resident).or_else(|| table.removed(resident)).map(|record| record.version)
                };
                for [number, _, held, ..] in &before {
                    assert!(version(&loaded, ResidentNumber(*number)) >= Some(*held), "older than what was folded");
                }
                let from = usize::try_from(Snapshot::open(&path).unwrap().meta.folded_to).unwrap();
                log[from..].iter().for_each(|statement| _ = apply(&loaded, statement));
                assert!(loaded.rows().eq(expected.rows()));
            }
        });
        assert!(live.rows().eq(expected.rows()));
    }

    #[test]
    fn one_who_pauses_is_told_of_all_bytes_and_may_end_it() {
        let (_folder, path, table) = stored(u32::try_from(SNAPSHOT_SEGMENT_ROWS_MAX).unwrap() + 1);
        let old = fs::read(&path).unwrap();
        let (mut told, mut calls) = (HEADER_BYTES as u64, 0);
        let mut pause = |bytes| {
            (told, calls) = (told + bytes, calls + 1);
            Ok(())
        };
        store(&path, &META, &table, &mut pause).unwrap();
        assert_eq!((told, calls), (fs::metadata(&path).unwrap().len(), 2));
        let ended = store(&path, &META, &table, &mut |_| Err(io::ErrorKind::Interrupted.into())).unwrap_err();
        assert!(ended.0 == Fatal::Folder && ended.1.contains("the old one stands"), "{ended:?}");
        assert!(fs::read(&path).unwrap() == old, "the old file stands");
    }

    #[test]
    fn another_version_and_another_key_are_refused_by_name() {
        let (_folder, path, _) = stored(5);
        let error = Snapshot::open(&path).unwrap().made_with([0xab; 8]).unwrap_err().1;
        assert!(error.contains("0102030405060708") && error.contains("abababababababab"), "{error}");
        let mut bytes = fs::read(&path).unwrap();
        for version in [1, 3] {
            bytes[8] = version;
            fs::write(&path, &bytes).unwrap();
            refused(&path, &format!("snapshot version {version}"));
        }
        fs::write(&path, "id_number,status").unwrap();
        refused(&path, "not a registry snapshot");
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
        refused(&path, "it was cut or grew");
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
        refused(&path, &format!("the block at offset {offset} is damaged"));
    }

    #[test]
    fn rows_out_of_order_are_refused_though_their_checksums_are_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.snapshot");
        let row: Row = [5, 0, 0, 1 << 8, 0];
        let archive = rkyv::to_bytes::<rancor::Error>(&vec![row, row]).unwrap();
        let checksum = crc32c::crc32c(&archive).to_le_bytes();
        fs::write(&path, [&header(&META, 2)[..], &archive, &checksum].concat()).unwrap();
        refused(&path, "are not rows of a registry");
    }
}
