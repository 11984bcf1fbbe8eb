//! Recovery of the journal from a disk that lies: it never panics, hands over only what was written, as it was written
//! and in order, and an error names a segment.

use std::collections::BTreeMap;
use std::io;

use onecode::words::{ResidentNumber, Status};

use super::random_of;
use crate::journal::record::Record;
use crate::journal::recover::{End, RecoverError, Source, recover};
use crate::journal::segment::{Batch, HEADER_BYTES, Header};

const BLOCK: usize = HEADER_BYTES;
const SECTOR: usize = 512;
/// So many changes are made of one input.
const CHANGES_MAX: usize = 8;
/// CRC32C finds every three flipped bits in what it covers here.
const FLIPS_MAX: usize = 3;

/// Damages a good journal as a disk does, changes one and makes its checksums good again, or reads the input itself.
pub fn run(data: &[u8]) {
    let Some((&[mode, shape, sizes], rest)) = data.split_first_chunk::<3>() else { return };
    let mut journal = Journal::new(shape, sizes);
    let after = match shape >> 5 & 3 {
        0 => None,
        1 => Some(0),
        2 => Some(1),
        _ => journal.written.keys().next_back().map(|last| last / 2),
    };
    match mode % 3 {
        0 => damaged(&mut journal, after, rest),
        1 => {
            journal.forge(rest);
            read_any(&mut journal.disk, after);
        }
        _ => {
            let parts: Vec<&[u8]> = rest.splitn(1 + usize::from(shape & 1), |byte| *byte == 0xff).collect();
            read_any(&mut raw(&parts, shape & 2 != 0), after);
        }
    }
}

/// Segments in memory.
#[derive(Clone, Default)]
struct Disk {
    head: Option<u64>,
    segments: BTreeMap<u64, Vec<u8>>,
}

impl Source for Disk {
    fn head(&mut self) -> io::Result<Option<u64>> {
        Ok(self.head)
    }

    fn list(&mut self) -> io::Result<Vec<u64>> {
        Ok(self.segments.keys().copied().collect())
    }

    fn read(&mut self, name: u64, bytes: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let segment = self.segments.get(&name).ok_or(io::ErrorKind::NotFound)?;
        into.clear();
        into.extend(segment.iter().take(usize::try_from(bytes).unwrap_or(usize::MAX)));
        Ok(())
    }
}

/// A record as it was written: its segment, its origin and its bytes.
type Written = (u64, u16, Box<[u8]>);

/// A good journal, and what is in it by sequence.
#[derive(Default)]
struct Journal {
    disk: Disk,
    written: BTreeMap<u64, Written>,
    /// Where each record lies: segment, offset, and the bytes of its payload.
    places: Vec<(u64, usize, usize)>,
}

impl Journal {
    /// One to three segments of one to three batches of up to ten records.
    fn new(shape: u8, sizes: u8) -> Journal {
        let (segments, batches) = (1 + u64::from(shape & 3) % 3, 1 + u64::from(sizes) % 3);
        let (is_marked, has_dense) = (shape & 4 != 0, shape & 8 != 0);
        let records = 1 + u64::from(sizes >> 2 & 3) * 3;
        let (mut journal, mut sequence, mut previous) = (Journal::default(), 1, None);
        for index in 0..segments {
            let (name, is_last) = (sequence, index + 1 == segments);
            let (id, is_dense) = (0x0123_4567_89ab_cd00 + index, has_dense && index == 0 && !is_last);
            let mut body = Vec::new();
            for _ in 0..batches {
                let mut batch = Batch::new();
                let mut at = HEADER_BYTES + body.len();
                for _ in 0..records {
                    // What a fold has left out of a dense segment.
                    if !is_dense || sequence % 3 != 0 {
                        let bytes = record(sequence, sizes >> 4);
                        let origin = (sequence % 4) as u16;
                        batch.push(id, sequence, origin, &bytes);
                        // The kind, a record's first byte, is the last one of the 32 before the payload.
                        journal.places.push((name, at, bytes.len() - 1));
                        at += 31 + bytes.len();
                        journal.written.insert(sequence, (name, origin, bytes));
                    }
                    sequence += 1;
                }
                body.extend(batch.close());
            }
            if is_last && is_marked {
                let mut mark = Batch::new();
                mark.mark(id, sequence - 1);
                body.extend(mark.close());
            }
            let end = (HEADER_BYTES + body.len()) as u64;
            body.resize(body.len() + if is_last { 3 * BLOCK } else { 0 }, 0);
            let bytes = (HEADER_BYTES + body.len()) as u64;
            let dense = is_dense.then_some((sequence - 1, end));
            let header = Header { id, first: name, previous, created_unix_ms: 1_800_000_000_000, bytes, dense };
            journal.disk.segments.insert(name, [&header.encode()[..], &body].concat());
            previous = Some((id, end));
            journal.disk.head = Some(name);
        }
        journal
    }

    /// Changes words of headers, of records and of names, and makes all checksums good again: what a program of
    /// another mind could have written.
    fn forge(&mut self, changes: &[u8]) {
        let places = self.places.clone();
        for change in changes.as_chunks::<10>().0.iter().take(CHANGES_MAX) {
            let value: [u8; 8] = change[2..].try_into().expect("8 bytes");
            let (name, offset, payload) = places[usize::from(change[1]) % places.len()];
            let Some(segment) = self.disk.segments.get_mut(&name) else { continue };
            let at = match change[0] % 4 {
                0 => 8 + usize::from(change[0] >> 2) % 9 * 8,
                1 => offset + 8 + usize::from(change[0] >> 2) % 3 * 8,
                2 => offset + 24 + usize::from(change[0] >> 2) % (payload + 1),
                _ => {
                    segment[24..32].copy_from_slice(&value);
                    let moved = self.disk.segments.remove(&name).expect("it is there");
                    self.disk.segments.insert(u64::from_le_bytes(value), moved);
                    self.disk.head = Some(u64::from_le_bytes(value));
                    continue;
                }
            };
            if let Some(place) = segment.get_mut(at..at + 8) {
                place.copy_from_slice(&value);
            }
        }
        for (name, offset, _) in places {
            let Some(segment) = self.disk.segments.get_mut(&name) else { continue };
            seal_record(&mut segment[offset..]);
        }
        self.disk.segments.values_mut().for_each(|segment| seal_header(segment));
    }
}

/// A record for this place in the order of all.
fn record(sequence: u64, length: u8) -> Box<[u8]> {
    let text = "西安 door ".repeat(usize::from(length));
    let (resident, at_ms) = (ResidentNumber(sequence << 40 | 7), 1_800_000_000_000 + sequence);
    let record = match sequence % 3 {
        0 => Record::Sessions { resident, session: 3, test: false },
        1 => Record::Audit { at_ms, author: "desk", action: "POST /admin/residents", detail: &text },
        _ => Record::Status {
            resident,
            check: !sequence,
            version: at_ms,
            status: Status::Yellow,
            remove: false,
            test: true,
            region: 610_100,
            at_ms,
            author: "desk",
            reason: &text,
        },
    };
    record.encode()
}

/// Makes the checksums of the record at the front good.
fn seal_record(record: &mut [u8]) {
    let end = 32 + usize::from(u16::from_le_bytes([record[24], record[25]]));
    if let Some(payload) = record.get(32..end) {
        let checksum = crc32c::crc32c(payload);
        record[4..8].copy_from_slice(&checksum.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&record[4..32]);
    record[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// Makes the checksum of a segment's header good.
fn seal_header(segment: &mut [u8]) {
    if segment.len() >= HEADER_BYTES {
        let checksum = crc32c::crc32c(&segment[..HEADER_BYTES - 4]);
        segment[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// The input as segments: with its own header, whose checksum is made good, or behind a good one.
fn raw(parts: &[&[u8]], has_header: bool) -> Disk {
    let mut disk = Disk::default();
    for (index, part) in parts.iter().enumerate() {
        let name = 1 + index as u64;
        let mut bytes = part.to_vec();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        if has_header {
            bytes.resize(bytes.len().max(BLOCK), 0);
            seal_header(&mut bytes);
        } else {
            let length = (HEADER_BYTES + bytes.len()) as u64;
            let previous = (index > 0).then_some((index as u64, (2 * BLOCK) as u64));
            let header = Header { id: name, first: name, previous, created_unix_ms: 0, bytes: length, dense: None };
            bytes.splice(..0, header.encode());
        }
        disk.segments.insert(name, bytes);
        disk.head = Some(name);
    }
    disk
}

/// What is read: all that is handed over, and how it ends.
struct Found {
    records: Vec<(u64, Written)>,
    end: Result<End, RecoverError>,
}

/// Reads a journal twice; what holds of any journal is asserted here.
fn read_any(disk: &mut Disk, after: Option<u64>) -> Found {
    let mut read = || {
        let mut records = Vec::new();
        let end = recover(disk, after, |entry| {
            assert_eq!(*entry.record.encode(), *entry.stored.bytes, "a record in another spelling");
            let written = (entry.segment, entry.stored.origin, Box::from(entry.stored.bytes));
            records.push((entry.stored.sequence, written));
        });
        Found { records, end }
    };
    let (found, again) = (read(), read());
    assert_eq!(found.records, again.records);
    assert_eq!(format!("{:?}", found.end), format!("{:?}", again.end));
    assert!(found.records.is_sorted_by(|one, other| one.0 < other.0), "out of order");
    if let Err(error) = &found.end {
        let said = error.to_string();
        let mut names = disk.segments.keys().chain(&disk.head);
        assert!(names.any(|name| said.contains(&format!("{name:016x}.log"))), "names no segment: {said}");
    }
    found
}

/// Damages a good journal and holds what is read against what was written.
fn damaged(journal: &mut Journal, after: Option<u64>, changes: &[u8]) {
    let changes = &changes.as_chunks::<4>().0[..changes.len() / 4];
    let mut flips = 0;
    for change in changes.iter().take(CHANGES_MAX) {
        flips += usize::from(change[0] & 7 == 0);
        if flips <= FLIPS_MAX || change[0] & 7 != 0 {
            damage(&mut journal.disk, change);
        }
    }
    let found = read_any(&mut journal.disk, after);
    let oldest = journal.disk.segments.keys().next().copied().unwrap_or(0);
    let wanted = |sequence: u64| sequence >= oldest && after.is_none_or(|after| sequence > after);
    for (sequence, written) in &found.records {
        assert_eq!(journal.written.get(sequence), Some(written), "record {sequence} was not written so");
        assert!(wanted(*sequence), "record {sequence} was not asked for");
    }
    let Ok(end) = found.end else {
        assert!(!changes.is_empty(), "a good journal is refused");
        return;
    };
    for (sequence, (origin, bytes)) in (end.next - end.tail.len() as u64..).zip(&end.tail) {
        let written = journal.written.get(&sequence).map(|(_, origin, bytes)| (origin, bytes));
        assert_eq!(written, Some((origin, bytes)), "record {sequence} would be written again, and another one");
    }
    // Only of the last segment may something be missing; and one flipped bit harms nothing or is found.
    let newest = journal.disk.segments.keys().next_back().copied().unwrap_or(0);
    let is_one_flip = changes.len() <= 1 && flips == changes.len();
    let must_be_there = journal.written.iter().filter(|(_, written)| is_one_flip || written.0 < newest);
    let mut found = found.records.iter().map(|(sequence, _)| sequence);
    for (sequence, _) in must_be_there.filter(|(sequence, _)| wanted(**sequence)) {
        assert_eq!(found.next(), Some(sequence), "it was written and is not told as missing");
    }
}

/// One thing that disks do.
fn damage(disk: &mut Disk, change: &[u8; 4]) {
    let [kind, segment, low, high] = *change;
    let names: Vec<u64> = disk.segments.keys().copied().collect();
    let Some(&name) = names.get(usize::from(segment) % names.len().max(1)) else { return };
    let mut random = random_of(change);
    let other = names[random.usize(..names.len())];
    let source = disk.segments[&other].clone();
    let bytes = disk.segments.get_mut(&name).expect("it was listed");
    if bytes.is_empty() {
        return;
    }
    let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len();
    let sector = at / SECTOR * SECTOR;
    let sector = sector..bytes.len().min(sector + SECTOR);
    match kind & 7 {
        0 => bytes[at] ^= 1 << (kind >> 5),
        1 => bytes[sector].fill(0),
        2 => random.fill(&mut bytes[sector]),
        3 => bytes.truncate(at),
        // A write that went to another place.
        4 => {
            let unit = if kind & 8 == 0 { SECTOR } else { BLOCK };
            let from = random.usize(..=source.len() / unit) * unit;
            let copied: Vec<u8> = source.iter().skip(from).take(unit).copied().collect();
            let to = at / unit * unit;
            let length = copied.len().min(bytes.len() - to);
            bytes[to..to + length].copy_from_slice(&copied[..length]);
        }
        5 => drop(disk.segments.remove(&name)),
        6 => {
            let swapped = std::mem::replace(bytes, source);
            disk.segments.insert(other, swapped);
        }
        _ => {
            let from = bytes.len();
            bytes.resize(from + SECTOR, 0);
            random.fill(&mut bytes[from..]);
        }
    }
}
