//! The table of residents: one flat array of 64-byte [cells] that every thread reads without a lock.
//!
//! A cell is one cache line and is found by the high bits of the resident number, then by probing the cells after it
//! (numbers are keyed hashes, so nobody can choose them to collide). The home of a number grows with the number:
//! rows sorted by number fill the table from front to back, and a walk gives them back sorted without a sort. So that
//! no probe goes around, there are cells behind the last home.
//!
//! Each resident has one owner, the only thread that writes that record; different owners may write at the same time.
//! What is known of a resident is the newest statement about them, in whatever order statements come. So one who was
//! removed keeps the cell, and in it when that was said, lest an older statement bring them back; a purge forgets that.
//!
//! **Capacity** is counted in cells, which are never given back while the process runs. A write is acknowledged long
//! after it was accepted, so its place is [reserved](Table::reserve) when it is asked for, and used when it is applied:
//! a full table refuses the question and never an accepted write.

use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::utils::CachePadded;
use thiserror::Error;

use crate::limits::{PURGE_CELLS_MAX, REGISTRY_WARNING_PERCENT};
use crate::sys::cells::{self, Cell, Cells, DATA_WORDS, EMPTY};
use crate::sys::prefetch::prefetch;
use crate::words::{Ended, Fatal, ResidentNumber, Status};

/// What is known about one resident, or said of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "where the name says it")]
pub struct Record {
    pub resident: ResidentNumber,
    /// Tells two ID numbers with one resident number apart, see [`HashKey::number`](super::id_number::HashKey::number).
    pub check: u64,
    /// When this was said, Unix milliseconds: of two statements the newer stands.
    pub version: u64,
    pub status: Status,
    /// They are not in the registry any more.
    pub removed: bool,
    /// Not a person: counted apart, signed by the test key, never exported unless asked for.
    pub test: bool,
    /// Every session carries this number; raising it ends them all.
    pub session: u32,
    /// GB/T 2260 area, 6 digits; 0 when not known.
    pub region: u32,
}

/// A place for one resident in the table, from [`Table::reserve`]. It is used by [`Table::apply`] or given back by
/// [`Table::release`]; one that is dropped is lost until the next start.
#[must_use = "a place that is neither used nor given back is lost until the next start"]
#[derive(PartialEq, Eq, Debug)]
pub struct Place(bool);

/// The table is full: it was made for as many residents as it now holds.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
#[error("the registry is full: it was started for {capacity} residents")]
pub struct Full {
    /// Residents it holds.
    pub capacity: usize,
}

/// The residents. Its capacity is fixed when it is made.
#[derive(Debug)]
pub struct Table {
    /// Invariant: the last cell is the home of number 0 alone, which elsewhere marks an empty cell.
    cells: Cells,
    /// How many of them, from the first, are homes of the other numbers.
    homes: usize,
    /// Residents for whom there is room.
    pub capacity: usize,
    /// Apart from what every read reads.
    counts: CachePadded<Counts>,
}

#[derive(Default, Debug)]
struct Counts {
    /// Cells claimed and places reserved; never above the capacity, so a probe always meets an empty cell.
    used: AtomicUsize,
    present: AtomicUsize,
    /// Those of `present` that are marked as test.
    test: AtomicUsize,
}

#[allow(missing_docs, reason = "where the name says it")]
impl Table {
    /// A table for `capacity` residents, in 8/7 as many cells: at most 87.5 % of them are ever used, where a resident
    /// is found in 4.5 cells on average (Knuth, volume 3, section 6.4, linear probing), mostly of one or two fetches.
    /// Errors: the system has no memory for it.
    pub fn new(capacity: usize) -> Result<Table, Ended> {
        let no_memory = format_args!("the system has no memory for a registry of {capacity} residents");
        // In an address space there are fewer cells than this.
        let homes = capacity.div_ceil(7).saturating_mul(8).saturating_add(1);
        let cells = Cells::new(homes.saturating_add(capacity.min(BEHIND_CELLS_MAX) + 1));
        let cells = cells.map_err(Fatal::System.at(no_memory))?;
        Ok(Table { cells, homes, capacity, counts: CachePadded::default() })
    }

    pub fn residents(&self) -> usize {
        self.counts.present.load(Ordering::Relaxed)
    }

    pub fn test_len(&self) -> usize {
        self.counts.test.load(Ordering::Relaxed)
    }

    /// How much of the capacity is taken: by residents, by those removed, and by places reserved.
    pub fn used(&self) -> usize {
        self.counts.used.load(Ordering::Relaxed)
    }

    /// Whether so much of the capacity is taken that the operator should provide for more.
    pub fn is_nearly_full(&self) -> bool {
        self.used() as u128 * 100 >= self.capacity as u128 * u128::from(REGISTRY_WARNING_PERCENT)
    }

    /// Bytes of memory that the records lie in, and how many of those are in huge pages now.
    pub fn bytes(&self) -> (usize, usize) {
        self.cells.bytes()
    }

    /// Touches the memory of part `part` of `parts`, so that no write ever waits for it; quick where loading did.
    pub fn touch(&self, part: usize, parts: usize) {
        // At one resident in five cells a page of 64 is left untouched once in a million.
        if self.used() < self.slots() / 5 {
            self.cells.touch(part, parts);
        }
    }

    /// The record of a resident as some write left it, from any thread. A write is seen by every read that begins
    /// after it has returned and after the two threads have met (a queue, a join).
    pub fn read(&self, resident: ResidentNumber) -> Option<Record> {
        unpack(resident, self.find(resident)?.read()).filter(|held| !held.removed)
    }

    /// Has the place of this resident fetched from memory, for a [`read`](Self::read) that will follow.
    pub fn prefetch(&self, resident: ResidentNumber) {
        prefetch(&self.cells[self.home(resident.0)]);
    }

    /// What is kept of a resident who was removed: when that was said, and the session number.
    pub fn removed(&self, resident: ResidentNumber) -> Option<Record> {
        unpack(resident, self.find(resident)?.read()).filter(|held| held.removed)
    }

    /// Sees to it that a statement about this resident can be applied at any time; a new one may not fit. Owner only.
    pub fn reserve(&self, resident: ResidentNumber) -> Result<Place, Full> {
        if self.find(resident).is_some() {
            return Ok(Place(false));
        }
        if self.counts.used.fetch_add(1, Ordering::Relaxed) >= self.capacity {
            self.counts.used.fetch_sub(1, Ordering::Relaxed);
            return Err(Full { capacity: self.capacity });
        }
        Ok(Place(true))
    }

    /// Gives back a place that is not needed: the write was not taken after all.
    pub fn release(&self, place: Place) {
        self.counts.used.fetch_sub(usize::from(place.0), Ordering::Relaxed);
    }

    /// Applies a statement in the place that was reserved for it, and says whether it stands: one that is no newer than
    /// what is held changes nothing. What is held of sessions stays, and the region where the statement has 0. Owner only.
    /// Panics when the place is another resident's.
    pub fn apply(&self, said: &Record, place: Place) -> bool {
        let cell = self.claim_in(said.resident, place);
        let held = cell.read();
        let before = unpack(said.resident, held);
        if before.is_some_and(|before| before.version >= said.version) {
            return false;
        }
        let (session, known) = before.map_or((0, 0), |before| (before.session, before.region));
        let region = if said.region > 0 { said.region } else { known };
        self.put(cell, held, pack(&Record { session, region, ..*said }));
        true
    }

    /// Writes a whole record, new or not, whatever is held. Owner only. Errors: [`Full`] when a new resident does not
    /// fit; nothing was changed. Panics when two threads are caught writing one record: the contract above is broken.
    pub fn write(&self, record: &Record) -> Result<(), Full> {
        let cell = self.claim_in(record.resident, self.reserve(record.resident)?);
        self.put(cell, cell.read(), pack(record));
        Ok(())
    }

    /// Ends all sessions of a resident below the number `least`, and says whether that changed anything. Owner only.
    pub fn end_sessions(&self, resident: ResidentNumber, least: u32) -> bool {
        let Some(cell) = self.find(resident) else { return false };
        let held = cell.read();
        let record = unpack(resident, held).filter(|record| record.session < least);
        record.inspect(|record| self.put(cell, held, pack(&Record { session: least, ..*record }))).is_some()
    }

    /// Forgets the residents of one owner of `owners` that are marked as test, removed ones too, in the cells from
    /// `from` on. Returns how many were held, and from where to go on: a whole table takes longer than requests should
    /// wait. What was accepted after the purge is to be applied after the last part. Owner only; from 0 first.
    pub fn purge_test(&self, owner: u64, owners: u64, from: usize) -> (usize, Option<usize>) {
        let to = (from + PURGE_CELLS_MAX).min(self.cells.len());
        let mut purged = 0;
        for cell in &self.cells[from.min(to)..to] {
            if cell.number() % owners.max(1) == owner {
                let held = cell.read();
                if held[MARKS] & TEST != 0 {
                    purged += usize::from(held[MARKS] & PRESENT != 0);
                    self.put(cell, held, [0; DATA_WORDS]);
                }
            }
        }
        (purged, (to < self.cells.len()).then_some(to))
    }

    /// All that is kept, residents removed included, in the order of the numbers. Those added during the walk may be
    /// left out; each row is whole, and as it was when the walk passed it: no older than the walk's beginning.
    pub fn rows(&self) -> Rows<'_> {
        let slots = self.cells[..self.slots()].iter();
        Rows { slots, run: row(EMPTY, self.zero()).into_iter().collect(), last: None }
    }

    /// Takes in rows of different residents, of which none is in the table yet; several threads may do so at once.
    pub(super) fn fill(&self, rows: impl Iterator<Item = Row>) {
        let (mut used, mut present, mut test) = (0, 0, 0);
        for [number, data @ ..] in rows {
            used += 1;
            present += usize::from(data[MARKS] & PRESENT != 0);
            test += usize::from(data[MARKS] & (PRESENT | TEST) == PRESENT | TEST);
            self.claim(ResidentNumber(number)).write(data);
        }
        // Once for all of them: threads that count each row wait for each other.
        let before = self.counts.used.fetch_add(used, Ordering::Relaxed);
        assert!(before + used <= self.capacity, "the table was made for this many rows");
        self.counts.present.fetch_add(present, Ordering::Relaxed);
        self.counts.test.fetch_add(test, Ordering::Relaxed);
    }

    /// Cells without the one of number 0.
    fn slots(&self) -> usize {
        self.cells.len() - 1
    }

    fn zero(&self) -> &Cell {
        &self.cells[self.slots()]
    }

    /// The slot a number would have in an empty table: its fraction of 2^64 of the homes.
    fn home(&self, number: u64) -> usize {
        ((u128::from(number) * self.homes as u128) >> 64) as usize
    }

    /// The slots from a number's home on.
    fn probe(&self, number: u64) -> impl Iterator<Item = &Cell> {
        self.cells[self.home(number)..self.slots()].iter()
    }

    fn find(&self, resident: ResidentNumber) -> Option<&Cell> {
        if resident.0 == EMPTY {
            return Some(self.zero()).filter(|cell| cell.read() != [0; DATA_WORDS]);
        }
        cells::find(self.probe(resident.0), resident.0)
    }

    /// The cell of a resident who has none yet and whose place is counted.
    fn claim(&self, resident: ResidentNumber) -> &Cell {
        if resident.0 == EMPTY {
            return self.zero();
        }
        cells::claim(self.probe(resident.0), resident.0).expect("fewer cells are used than there are, so one is empty")
    }

    fn claim_in(&self, resident: ResidentNumber, place: Place) -> &Cell {
        if let Some(cell) = self.find(resident) {
            // Of two places that were reserved for one new resident, the second is not needed.
            self.release(place);
            return cell;
        }
        assert!(place.0, "the place was reserved for another resident");
        self.claim(resident)
    }

    fn put(&self, cell: &Cell, held: [u64; DATA_WORDS], new: [u64; DATA_WORDS]) {
        cell.write(new);
        for (count, marks) in [(&self.counts.present, PRESENT), (&self.counts.test, PRESENT | TEST)] {
            match (held[MARKS] & marks == marks, new[MARKS] & marks == marks) {
                (false, true) => _ = count.fetch_add(1, Ordering::Relaxed),
                (true, false) => _ = count.fetch_sub(1, Ordering::Relaxed),
                _ => {}
            }
        }
    }
}

/// The walk of [`Table::rows`]. A number lies in the run of used cells with its home, and homes grow with numbers:
/// so all numbers of one run come before those of the next, and only a run, a few cells long, is ever sorted.
#[derive(Debug)]
pub struct Rows<'a> {
    slots: std::slice::Iter<'a, Cell>,
    /// The run being given out, its smallest number last.
    run: Vec<Row>,
    /// Where others insert during the walk, a run may grow behind its back; what then comes too late is left out. Who
    /// was there before the walk never is: a cell that the walk found empty lies between the homes of any two runs.
    last: Option<u64>,
}

impl Iterator for Rows<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        loop {
            while let Some(row) = self.run.pop() {
                if self.last.is_none_or(|last| last < row[0]) {
                    self.last = Some(row[0]);
                    return Some(row);
                }
            }
            let first = self.slots.find(|cell| cell.number() != EMPTY)?;
            let run = iter::once(first).chain(self.slots.by_ref().take_while(|cell| cell.number() != EMPTY));
            self.run.extend(run.filter_map(|cell| row(cell.number(), cell)));
            self.run.sort_unstable_by_key(|row| std::cmp::Reverse(row[0]));
        }
    }
}

/// A resident number and the words of its record: in the table and as a row of the snapshot.
pub type Row = [u64; 1 + DATA_WORDS];

/// Whether a row is one that the table gives out: it says something of somebody.
pub(super) fn is_row(row: &Row) -> bool {
    row[1 + MARKS] & (PRESENT | REMOVED) != 0
}

fn row(number: u64, cell: &Cell) -> Option<Row> {
    let [check, version, marks, session_and_region] = cell.read();
    Some([number, check, version, marks, session_and_region]).filter(is_row)
}

/// The words of a record beside its number.
fn pack(record: &Record) -> [u64; DATA_WORDS] {
    let flags = if record.removed { REMOVED } else { PRESENT } | if record.test { TEST } else { 0 };
    let session_and_region = u64::from(record.session) << 32 | u64::from(record.region);
    [record.check, record.version, flags | u64::from(record.status as u8), session_and_region]
}

/// The record that words mean; in a cell not yet written, or purged, there is none.
fn unpack(resident: ResidentNumber, words: [u64; DATA_WORDS]) -> Option<Record> {
    let [check, version, marks, session_and_region] = words;
    let (session, region) = ((session_and_region >> 32) as u32, session_and_region as u32);
    let (status, removed, test) = (Status::from_claim(marks & STATUS), marks & REMOVED != 0, marks & TEST != 0);
    let known = marks & (PRESENT | REMOVED) != 0;
    known.then_some(Record { resident, check, version, status, removed, test, session, region })
}

/// Cells behind the last home, or as many as residents where that is less. How many a full table fills is the length of
/// a queue whose server works 87.5 % of the time (M/D/1): more than L with a chance of exp(-0.26 L), here 10^-116.
const BEHIND_CELLS_MAX: usize = 1_024;

/// Which word of data has the marks; the others are check, version, and session and region.
const MARKS: usize = 2;
/// Marks: the status in the low byte, then flags.
const STATUS: u64 = 0xff;
const PRESENT: u64 = 1 << 8;
const TEST: u64 = 1 << 9;
/// Was in the registry and is not any more; the version says since when.
const REMOVED: u64 = 1 << 10;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicBool;

    impl Table {
        /// All records in the order of their numbers.
        pub fn sorted(&self) -> impl Iterator<Item = Record> {
            let known = self.rows().filter_map(|[number, data @ ..]| unpack(ResidentNumber(number), data));
            known.filter(|record| !record.removed)
        }
    }

    /// Ends all sessions of somebody up to that of the record, as signing out does.
    pub fn raise_session(table: &Table, resident: ResidentNumber) -> Option<u32> {
        let least = table.read(resident)?.session.saturating_add(1);
        table.end_sessions(resident, least);
        Some(least)
    }

    fn record(number: u64, version: u64) -> Record {
        let mixed = number ^ version.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Record {
            resident: ResidentNumber(number),
            check: mixed,
            version,
            status: Status::from_claim(mixed % 4),
            removed: false,
            test: mixed & 16 != 0,
            session: (mixed >> 32) as u32,
            region: (mixed & 0xf_ffff) as u32,
        }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let table = Table::new(10).unwrap();
        for number in [0, 1, 5, u64::MAX, u64::MAX - 1, u64::MAX / 2] {
            assert_eq!(table.read(ResidentNumber(number)), None);
            assert_eq!(raise_session(&table, ResidentNumber(number)), None);
            table.write(&record(number, 1)).unwrap();
            table.write(&record(number, 2)).unwrap();
            assert_eq!(table.read(ResidentNumber(number)), Some(record(number, 2)));
        }
        assert_eq!(table.residents(), 6);
    }

    #[test]
    fn it_behaves_as_a_map_and_walks_in_order_at_any_load_and_clustering() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..300 {
            let capacity = 1 + random.usize(..200);
            let table = Table::new(capacity).unwrap();
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
            assert_eq!(table.residents(), map.len());
            assert!(table.sorted().eq(map.values().copied()), "round {round}");
            assert!(map.iter().all(|(number, record)| table.read(ResidentNumber(*number)) == Some(*record)));
        }
    }

    #[test]
    fn a_full_table_refuses_new_residents_and_takes_updates() {
        let table = Table::new(2).unwrap();
        table.write(&record(1, 1)).unwrap();
        table.write(&record(2, 1)).unwrap();
        assert_eq!(table.write(&record(3, 1)), Err(Full { capacity: 2 }));
        assert_eq!(table.write(&record(0, 1)), Err(Full { capacity: 2 }));
        table.write(&record(2, 9)).unwrap();
        assert_eq!((table.residents(), table.read(ResidentNumber(2)).unwrap().version), (2, 9));
        assert_eq!(Table::new(0).unwrap().write(&record(1, 1)), Err(Full { capacity: 0 }));
    }

    pub fn status(number: u64, version: u64, status: Status) -> Record {
        let resident = ResidentNumber(number);
        Record { resident, check: 5, version, status, removed: false, test: false, session: 0, region: 0 }
    }

    pub fn removal(number: u64, version: u64) -> Record {
        Record { removed: true, ..status(number, version, Status::Unknown) }
    }

    /// Reserves and applies at once.
    pub fn say(table: &Table, statement: Record) -> bool {
        table.apply(&statement, table.reserve(statement.resident).unwrap())
    }

    /// The whole purge, owner by owner.
    fn purge(table: &Table, owners: u64) -> usize {
        let mut purged = 0;
        for owner in 0..owners {
            let mut from = Some(0);
            while let Some(cell) = from {
                let (count, next) = table.purge_test(owner, owners, cell);
                (purged, from) = (purged + count, next);
            }
        }
        purged
    }

    #[test]
    fn the_newest_statement_stands_in_any_order() {
        let statements = [
            status(7, 1, Status::Green),
            removal(7, 2),
            status(7, 3, Status::Red),
            removal(7, 4),
            status(7, 5, Status::Yellow),
        ];
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..500 {
            let table = Table::new(1).unwrap();
            let mut said = statements.repeat(2);
            random.shuffle(&mut said);
            said.truncate(1 + random.usize(..said.len()));
            let newest = said.iter().max_by_key(|said| said.version).unwrap();
            let mut stood = 0;
            for statement in &said {
                let newer = statement.version > stood;
                assert_eq!(say(&table, *statement), newer, "round {round}");
                stood = stood.max(statement.version);
            }
            let (held, removed) = (table.read(newest.resident), table.removed(newest.resident));
            if newest.removed {
                assert_eq!(removed.map(|removed| removed.version), Some(stood));
            } else {
                assert_eq!(held.map(|held| (held.version, held.status)), Some((stood, newest.status)));
            }
            assert_ne!(held.is_some(), removed.is_some());
            assert_eq!((table.residents(), table.used()), (usize::from(held.is_some()), 1));
        }
    }

    #[test]
    fn sessions_that_were_ended_stay_so_through_removal_and_return() {
        let table = Table::new(3).unwrap();
        assert!(!table.end_sessions(ResidentNumber(7), 9), "nobody's");
        assert!(say(&table, Record { region: 610_100, ..status(7, 1, Status::Green) }));
        assert!(table.end_sessions(ResidentNumber(7), 5));
        assert!(!table.end_sessions(ResidentNumber(7), 5) && !table.end_sessions(ResidentNumber(7), 4));
        assert!(say(&table, removal(7, 2)));
        assert!(table.end_sessions(ResidentNumber(7), 6));
        assert_eq!((table.read(ResidentNumber(7)), raise_session(&table, ResidentNumber(7))), (None, None));
        assert!(say(&table, status(7, 3, Status::Red)));
        let held = table.read(ResidentNumber(7)).unwrap();
        assert_eq!((held.session, held.region, held.version), (6, 610_100, 3));
    }

    #[test]
    fn a_place_is_reserved_used_and_given_back() {
        let table = Table::new(2).unwrap();
        let (first, second) = (table.reserve(ResidentNumber(1)).unwrap(), table.reserve(ResidentNumber(2)).unwrap());
        assert_eq!((table.residents(), table.used()), (0, 2));
        assert_eq!(table.reserve(ResidentNumber(3)), Err(Full { capacity: 2 }));
        table.release(second);
        // Asked for twice before the first is applied: the second place is given back.
        let again = table.reserve(ResidentNumber(1)).unwrap();
        assert_eq!(table.reserve(ResidentNumber(3)), Err(Full { capacity: 2 }));
        assert!(table.apply(&status(1, 1, Status::Green), first) && table.apply(&status(1, 2, Status::Red), again));
        assert_eq!((table.residents(), table.used()), (1, 1));
        assert!(say(&table, removal(1, 3)) && say(&table, status(3, 1, Status::Green)));
        assert_eq!((table.residents(), table.used()), (1, 2), "who was removed keeps the place");
        assert!(say(&table, status(1, 4, Status::Green)), "and returns to it in a full table");
        assert_eq!(table.sorted().map(|record| record.resident.0).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn the_warning_comes_at_nine_tenths() {
        for (capacity, used, warned) in
            [(100, 89, false), (100, 90, true), (10, 8, false), (10, 9, true), (1, 0, false)]
        {
            let table = Table::new(capacity).unwrap();
            (1..=used).for_each(|number| table.write(&record(number, 1)).unwrap());
            assert_eq!(table.is_nearly_full(), warned, "{used} of {capacity}");
        }
        assert!(Table::new(0).unwrap().is_nearly_full());
    }

    #[test]
    fn the_purge_forgets_what_is_marked_as_test_and_nothing_else() {
        let residents = PURGE_CELLS_MAX as u64 * 2;
        for owners in [1, 3] {
            let table = Table::new(residents as usize + 1).unwrap();
            let spread = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for number in 0..residents {
                let test = number % 4 == 0;
                let one = Record { test, ..status(spread(number), 10, Status::Green) };
                assert!(say(&table, one));
                if number % 8 == 0 {
                    assert!(say(&table, Record { test, ..removal(spread(number), 11) }));
                }
            }
            let (all, tests) = (residents as usize / 8 * 7, residents as usize / 8);
            assert_eq!((table.residents(), table.test_len()), (all, tests));
            assert_eq!(purge(&table, owners), tests);
            assert_eq!((table.residents(), table.test_len()), (all - tests, 0));
            assert!(table.sorted().all(|record| !record.test) && table.sorted().count() == all - tests);
            assert_eq!(table.rows().count(), all - tests, "removed ones are forgotten, too");
            assert_eq!(purge(&table, owners), 0);
            // What was forgotten may be said again, by an older statement, too, and in the same place.
            let used = table.used();
            assert!(say(&table, status(spread(4), 1, Status::Red)));
            assert_eq!((table.used(), table.residents()), (used, all - tests + 1));
        }
    }

    #[test]
    fn raising_a_session_changes_nothing_else() {
        let table = Table::new(1).unwrap();
        let before = Record { session: u32::MAX - 1, ..record(9, 9) };
        table.write(&before).unwrap();
        assert_eq!(raise_session(&table, before.resident), Some(u32::MAX));
        assert_eq!(table.read(before.resident), Some(Record { session: u32::MAX, ..before }));
        assert_eq!((table.residents(), table.used()), (1, 1));
        assert_eq!(raise_session(&table, before.resident), Some(u32::MAX));
    }

    #[test]
    fn no_reader_ever_sees_half_a_write_or_an_older_one_than_before() {
        const WRITERS: u64 = 3;
        const ROUNDS: u64 = 60_000;
        // Neighbours in one run of cells, so that owners race for them.
        let table = Table::new(60).unwrap();
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
        assert_eq!((table.residents(), table.sorted().count()), (60, 60));
    }
}
