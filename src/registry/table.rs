//! The table of residents: one flat array of 64-byte cells that every thread reads without a lock.
//!
//! A cell is one cache line and is found by the high bits of the resident number, then by probing the cells after it
//! (numbers are keyed hashes, so nobody can choose them to collide). The home of a number grows with the number:
//! rows sorted by number fill the table from front to back, and a walk gives them back sorted without a sort.
//!
//! Each resident has one owner, the only thread that writes that record; different owners may write at the same time.
//! A reader never waits for another cell's writer, and for its own only the few stores of one write: every cell has a
//! sequence lock. All words are atomics, so a torn read is a value that is thrown away and never undefined behaviour;
//! the orderings are those of Boehm, "Can Seqlocks Get Along With Programming Language Memory Models?" (MSPC 2012),
//! section 4. Nothing is ever taken out, a number stays in its cell for good; that is what makes probing safe.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use crate::words::{ResidentNumber, Status};

/// What is known about one resident.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// Who.
    pub resident: ResidentNumber,
    /// Tells two ID numbers with one resident number apart, see [`HashKey::number`](super::id_number::HashKey::number).
    pub check: u64,
    /// When this was said, Unix milliseconds: of two statements the newer stands.
    pub version: u64,
    /// What their code says.
    pub status: Status,
    /// Not a person: counted apart, signed by the test key, never exported unless asked for.
    pub test: bool,
    /// Every session carries this number; raising it ends them all.
    pub session: u32,
    /// GB/T 2260 area, 6 digits; 0 when not known.
    pub region: u32,
}

/// The table is full: it was made for as many residents as it now holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    /// Residents it holds.
    pub capacity: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the registry is full: it was started for {} residents", self.capacity)
    }
}

impl std::error::Error for Full {}

/// The residents. Its capacity is fixed, and all its memory touched, when it is made.
pub struct Table {
    /// Invariant: the last cell is the home of number 0 alone, which elsewhere marks an empty cell.
    cells: Box<[Cell]>,
    /// Cells claimed; never above `capacity`, so a probe always ends at an empty cell.
    used: AtomicUsize,
    capacity: usize,
}

impl Table {
    /// A table for `capacity` residents, in 8/7 as many cells: at most 87.5 % of them are ever used, where a resident
    /// is found in 4.5 cells on average (Knuth, volume 3, section 6.4, linear probing), mostly of one or two fetches.
    pub fn with_capacity(capacity: usize) -> Table {
        let slots = capacity.div_ceil(7) * 8 + 1;
        let mut cells = Vec::with_capacity(slots + 1);
        cells.resize_with(slots + 1, Cell::default);
        Table { cells: cells.into_boxed_slice(), used: AtomicUsize::new(0), capacity }
    }

    /// Residents that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Residents held.
    pub fn len(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether nobody is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record of a resident as some write left it, from any thread. A write is seen by every read that begins
    /// after it has returned and after the two threads have met (a queue, a join).
    pub fn read(&self, resident: ResidentNumber) -> Option<Record> {
        self.find(resident)?.read(resident)
    }

    /// Writes a whole record, new or not. Only the resident's owner may call this for a resident.
    ///
    /// # Errors
    /// [`Full`] when a new resident does not fit; nothing was changed.
    ///
    /// # Panics
    /// When two threads are caught writing one record: the contract above is broken.
    pub fn write(&self, record: &Record) -> Result<(), Full> {
        match self.find(record.resident) {
            Some(cell) => cell.write(record),
            None => self.claim(record.resident)?.write(record),
        }
        Ok(())
    }

    /// Ends all sessions of a resident up to the number `up_to` and those of the record, and returns the new session
    /// number; `None` for an unknown resident. Owner only.
    pub fn raise_session(&self, resident: ResidentNumber, up_to: u32) -> Option<u32> {
        let cell = self.find(resident)?;
        let mut record = cell.read(resident)?;
        // After 4 billion sign-outs nobody could sign out any more, which is later than any resident lives.
        record.session = record.session.max(up_to).saturating_add(1);
        cell.write(&record);
        Some(record.session)
    }

    /// All records in the order of their numbers. Residents added during the walk may be left out; each record is
    /// whole, and as it was when the walk passed it.
    pub fn sorted(&self) -> Sorted<'_> {
        let mut sorted = Sorted { table: self, slot: 0, run: Vec::new(), wrapped: Vec::new(), last: None };
        // A probe that ran over the end left records with high numbers at the front; they belong to the last run.
        for slot in 0..self.slots() {
            let number = self.cells[slot].number();
            if number == EMPTY {
                break;
            }
            if self.home(number) > slot {
                sorted.wrapped.extend(self.cells[slot].read(ResidentNumber(number)));
            }
        }
        sorted.run.extend(self.zero().read(ResidentNumber(EMPTY)));
        sorted
    }

    /// Cells without the one of number 0.
    fn slots(&self) -> usize {
        self.cells.len() - 1
    }

    fn zero(&self) -> &Cell {
        &self.cells[self.slots()]
    }

    /// The slot a number would have in an empty table: its fraction of 2^64 of the slots.
    fn home(&self, number: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "the high half of a product with slots is below slots")]
        let home = ((u128::from(number) * self.slots() as u128) >> 64) as usize;
        home
    }

    /// The slots from a number's home on, around the end, each once.
    fn probe(&self, number: u64) -> impl Iterator<Item = &Cell> {
        let home = self.home(number);
        let (before, after) = self.cells[..self.slots()].split_at(home);
        after.iter().chain(before)
    }

    fn find(&self, resident: ResidentNumber) -> Option<&Cell> {
        if resident.0 == EMPTY {
            return Some(self.zero()).filter(|cell| cell.read(resident).is_some());
        }
        for cell in self.probe(resident.0) {
            match cell.number() {
                EMPTY => return None,
                number if number == resident.0 => return Some(cell),
                _ => {}
            }
        }
        None
    }

    /// The cell of a resident who has none yet. Several owners may claim neighbouring cells at once: a cell belongs to
    /// the one whose exchange of its empty mark succeeded, the others go on to the next.
    fn claim(&self, resident: ResidentNumber) -> Result<&Cell, Full> {
        if self.used.fetch_add(1, Ordering::Relaxed) >= self.capacity {
            self.used.fetch_sub(1, Ordering::Relaxed);
            return Err(Full { capacity: self.capacity });
        }
        if resident.0 == EMPTY {
            return Ok(self.zero());
        }
        let free = self.probe(resident.0).find(|cell| {
            let number = &cell.0[NUMBER];
            number.load(Ordering::Relaxed) == EMPTY
                && number.compare_exchange(EMPTY, resident.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        });
        Ok(free.expect("fewer cells are claimed than there are slots, so one is empty"))
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} of {} residents)", self.len(), self.capacity)
    }
}

/// The walk of [`Table::sorted`].
///
/// A number lies in the run of used cells that holds its home, and homes grow with numbers: so all numbers of one run
/// come before all numbers of the next, and only a run, a few cells long, is ever sorted.
#[derive(Debug)]
pub struct Sorted<'a> {
    table: &'a Table,
    slot: usize,
    /// The run being given out, its smallest number last.
    run: Vec<Record>,
    wrapped: Vec<Record>,
    /// Where others insert during the walk, a run may grow behind its back; what then comes too late is left out.
    last: Option<ResidentNumber>,
}

impl Iterator for Sorted<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            while let Some(record) = self.run.pop() {
                if self.last.is_none_or(|last| last < record.resident) {
                    self.last = Some(record.resident);
                    return Some(record);
                }
            }
            if self.slot == self.table.slots() {
                return None;
            }
            self.fill_run();
            self.run.sort_unstable_by_key(|record| std::cmp::Reverse(record.resident));
        }
    }
}

impl Sorted<'_> {
    /// Takes the next run of used cells; the last one with the records that were carried around the end.
    fn fill_run(&mut self) {
        while self.slot < self.table.slots() {
            let cell = &self.table.cells[self.slot];
            let number = cell.number();
            if number == EMPTY && !self.run.is_empty() {
                return;
            }
            if number != EMPTY && self.table.home(number) <= self.slot {
                self.run.extend(cell.read(ResidentNumber(number)));
            }
            self.slot += 1;
        }
        self.run.append(&mut self.wrapped);
    }
}

/// One record in one cache line. Invariant: the number is written once, the other words only between two steps of
/// the sequence, which is odd while they are written.
#[derive(Default)]
#[repr(align(64))]
struct Cell([AtomicU64; 8]);

impl Cell {
    fn number(&self) -> u64 {
        self.0[NUMBER].load(Ordering::Relaxed)
    }

    fn read(&self, resident: ResidentNumber) -> Option<Record> {
        let words = loop {
            let before = self.0[SEQUENCE].load(Ordering::Acquire);
            let words: [u64; DATA_WORDS] = std::array::from_fn(|i| self.0[DATA + i].load(Ordering::Relaxed));
            // Orders the loads above before the load below: Boehm 2012, figure 6.
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.0[SEQUENCE].load(Ordering::Relaxed) == before {
                break words;
            }
            std::hint::spin_loop();
        };
        unpack(resident, words)
    }

    fn write(&self, record: &Record) {
        let sequence = self.0[SEQUENCE].load(Ordering::Relaxed);
        assert!(sequence.is_multiple_of(2), "two threads write one record");
        self.0[SEQUENCE].store(sequence.wrapping_add(1), Ordering::Relaxed);
        // Orders the odd sequence before the words; the release store below orders the words before the even one.
        fence(Ordering::Release);
        for (word, value) in self.0[DATA..].iter().zip(pack(record)) {
            word.store(value, Ordering::Relaxed);
        }
        self.0[SEQUENCE].store(sequence.wrapping_add(2), Ordering::Release);
    }
}

/// The words of a record beside its number: in a cell, and as a row of the snapshot.
pub(super) fn pack(record: &Record) -> [u64; DATA_WORDS] {
    let flags = PRESENT | if record.test { TEST } else { 0 };
    let marks = flags | u64::from(record.status as u8);
    let session_and_region = u64::from(record.session) << 32 | u64::from(record.region);
    [record.check, record.version, marks, session_and_region]
}

/// The record that words mean; `None` in a cell that was claimed and not yet written, or whose record was removed.
pub(super) fn unpack(resident: ResidentNumber, words: [u64; DATA_WORDS]) -> Option<Record> {
    let [check, version, marks, session_and_region] = words;
    #[expect(clippy::cast_possible_truncation, reason = "two halves of one word")]
    let (session, region) = ((session_and_region >> 32) as u32, session_and_region as u32);
    let (status, test) = (Status::from_claim(marks & STATUS), marks & TEST != 0);
    (marks & PRESENT != 0).then_some(Record { resident, check, version, status, test, session, region })
}

/// The words of a cell: its number, its sequence, its data. Two are spare.
const NUMBER: usize = 0;
const SEQUENCE: usize = 1;
const DATA: usize = 2;
/// Words of data: check, version, marks, session and region.
pub(super) const DATA_WORDS: usize = 4;

/// The number of a cell that nobody has claimed.
const EMPTY: u64 = 0;

/// Marks: the status in the low byte, then flags.
const STATUS: u64 = 0xff;
const PRESENT: u64 = 1 << 8;
const TEST: u64 = 1 << 9;

const _: () = assert!(size_of::<Cell>() == 64 && align_of::<Cell>() == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicBool;

    fn record(number: u64, version: u64) -> Record {
        let mixed = number ^ version.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Record {
            resident: ResidentNumber(number),
            check: mixed,
            version,
            status: Status::from_claim(mixed % 4),
            test: mixed & 16 != 0,
            session: (mixed >> 32) as u32,
            region: (mixed & 0xf_ffff) as u32,
        }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let table = Table::with_capacity(10);
        for number in [0, 1, 5, u64::MAX, u64::MAX - 1, u64::MAX / 2] {
            assert_eq!(table.read(ResidentNumber(number)), None);
            assert_eq!(table.raise_session(ResidentNumber(number), 0), None);
            table.write(&record(number, 1)).unwrap();
            table.write(&record(number, 2)).unwrap();
            assert_eq!(table.read(ResidentNumber(number)), Some(record(number, 2)));
        }
        assert_eq!(table.len(), 6);
    }

    #[test]
    fn it_behaves_as_a_map_and_walks_in_order_at_any_load_and_clustering() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..300 {
            let capacity = 1 + random.usize(..200);
            let table = Table::with_capacity(capacity);
            let mut map = BTreeMap::new();
            for version in 0..(capacity as u64 * 2) {
                // Some rounds crowd the end of the table, so that probes run over it.
                let number = if round % 3 == 0 { u64::MAX - random.u64(..300) } else { random.u64(..) << (round % 8) };
                let new = record(number, version);
                match table.write(&new) {
                    Ok(()) => drop(map.insert(number, new)),
                    Err(full) => {
                        assert_eq!((full.capacity, map.len()), (capacity, capacity));
                        assert!(!map.contains_key(&number), "a resident who is in always fits");
                    }
                }
            }
            assert_eq!(table.len(), map.len());
            assert!(table.sorted().eq(map.values().copied()), "round {round}");
            assert!(map.iter().all(|(number, record)| table.read(ResidentNumber(*number)) == Some(*record)));
        }
    }

    #[test]
    fn a_full_table_refuses_new_residents_and_takes_updates() {
        let table = Table::with_capacity(2);
        table.write(&record(1, 1)).unwrap();
        table.write(&record(2, 1)).unwrap();
        assert_eq!(table.write(&record(3, 1)), Err(Full { capacity: 2 }));
        assert_eq!(table.write(&record(0, 1)), Err(Full { capacity: 2 }));
        table.write(&record(2, 9)).unwrap();
        assert_eq!((table.len(), table.read(ResidentNumber(2)).unwrap().version), (2, 9));
        assert_eq!(Table::with_capacity(0).write(&record(1, 1)), Err(Full { capacity: 0 }));
    }

    #[test]
    fn raising_a_session_changes_nothing_else() {
        let table = Table::with_capacity(1);
        let before = Record { session: u32::MAX - 1, ..record(9, 9) };
        table.write(&before).unwrap();
        assert_eq!(table.raise_session(before.resident, 0), Some(u32::MAX));
        assert_eq!(table.read(before.resident), Some(Record { session: u32::MAX, ..before }));
        assert_eq!(table.raise_session(before.resident, 0), Some(u32::MAX));
    }

    #[test]
    fn no_reader_ever_sees_half_a_write_or_an_older_one_than_before() {
        const WRITERS: u64 = 3;
        const ROUNDS: u64 = 60_000;
        // Neighbours in one run of cells, so that owners race for them.
        let table = Table::with_capacity(60);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let (mut seen, mut reads) = ([0; 61], 0u64);
                        while !stop.load(Ordering::Relaxed) {
                            for (number, seen) in (0..).zip(&mut seen) {
                                if let Some(found) = table.read(ResidentNumber(number)) {
                                    assert_eq!(found, record(number, found.version), "torn");
                                    assert!(found.version >= *seen, "went back");
                                    *seen = found.version;
                                    reads += 1;
                                }
                            }
                        }
                        reads
                    })
                })
                .collect();
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let table = &table;
                    scope.spawn(move || {
                        for version in 1..=ROUNDS {
                            let number = version % 20 * WRITERS + writer;
                            table.write(&record(number, version)).unwrap();
                        }
                    })
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            stop.store(true, Ordering::Relaxed);
            assert!(readers.into_iter().map(|reader| reader.join().unwrap()).all(|reads| reads > 0));
        });
        assert_eq!((table.len(), table.sorted().count()), (60, 60));
    }
}
