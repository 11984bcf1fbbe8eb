//! The cells that shards share, each with a sequence lock: a cache line for a resident's record, two for a signature.
//!
//! A cell has one writer at a time and any number of readers, who never wait for another cell's writer, and for its
//! own only the few stores of one write. All words are atomics, so a torn read is a value that is thrown away and never
//! undefined behaviour; the orderings are those of Boehm, "Can Seqlocks Get Along With Programming Language Memory
//! Models?" (MSPC 2012), section 4. A number stays in its cell for good, which makes probing without a lock safe.
//!
//! The code is written over [`Word`], so that the tests run it, and no copy of it, under `loom`, which tries every
//! interleaving and every stale value that the memory model allows.

use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::arena::{Array, Pages};

/// Words of a resident's cell that its writer may set.
pub const DATA_WORDS: usize = 4;

/// The number of a cell that nobody has claimed.
pub const EMPTY: u64 = 0;

/// An atomic word and its fence: the machine's, or those of a model of it.
#[allow(missing_docs, reason = "as those of AtomicU64")]
pub trait Word {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    /// Puts `new` in the place of `old`, with acquire where it did; says whether it did.
    fn replace(&self, old: u64, new: u64) -> bool;
    fn fence(order: Ordering) {
        fence(order);
    }
    /// A moment for the one who writes.
    fn pause() {
        std::hint::spin_loop();
    }
}

impl Word for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    fn replace(&self, old: u64, new: u64) -> bool {
        self.compare_exchange(old, new, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

/// One record in one cache line. Invariant: the number is written once, the data only between two steps of the
/// sequence, which is odd while it is written.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Cell<W = AtomicU64, const WORDS: usize = DATA_WORDS> {
    number: W,
    sequence: W,
    data: [W; WORDS],
}

const _: () = assert!(size_of::<Cell>() == 64 && align_of::<Cell>() == 64);

impl<W: Word, const WORDS: usize> Cell<W, WORDS> {
    /// Whose it is; [`EMPTY`] while it is nobody's.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Makes an empty cell this number's. Of several that try at once, one is told that it has it.
    pub fn claim(&self, number: u64) -> bool {
        self.number() == EMPTY && self.number.replace(EMPTY, number)
    }

    /// The data as one write left it, zeros before the first. What a write left is seen by every read that begins after
    /// the write has returned and after the two threads have met (a queue, a join).
    pub fn read(&self) -> [u64; WORDS] {
        loop {
            if let Some(data) = self.try_read() {
                return data;
            }
            W::pause();
        }
    }

    /// As [`read`](Self::read); `None` where a write was in progress.
    pub fn try_read(&self) -> Option<[u64; WORDS]> {
        let before = self.sequence.load(Ordering::Acquire);
        let data = std::array::from_fn(|i| self.data[i].load(Ordering::Relaxed));
        // Orders the loads above before the load below: Boehm 2012, figure 6.
        W::fence(Ordering::Acquire);
        (before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before).then_some(data)
    }

    /// Writes the data as a whole. Panics when two threads are caught writing one cell.
    pub fn write(&self, data: [u64; WORDS]) {
        assert!(self.try_write(data), "two threads write one record");
    }

    /// Writes the data as a whole, unless another thread is writing this cell; says whether it did.
    pub fn try_write(&self, data: [u64; WORDS]) -> bool {
        let sequence = self.sequence.load(Ordering::Relaxed);
        if !sequence.is_multiple_of(2) || !self.sequence.replace(sequence, sequence.wrapping_add(1)) {
            return false;
        }
        // Orders the odd sequence before the words; the release store below orders the words before the even one.
        W::fence(Ordering::Release);
        for (word, value) in self.data.iter().zip(data) {
            word.store(value, Ordering::Relaxed);
        }
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
        true
    }
}

/// The cell of a number among those that its probe meets in order; `None` where the probe meets an empty one first.
pub fn find<'a, W: Word + 'a>(probe: impl Iterator<Item = &'a Cell<W>>, number: u64) -> Option<&'a Cell<W>> {
    for cell in probe {
        match cell.number() {
            EMPTY => return None,
            found if found == number => return Some(cell),
            _ => {}
        }
    }
    None
}

/// A cell for a number that has none yet. Of threads that claim one at once, for different numbers, others go on.
pub fn claim<'a, W: Word + 'a>(mut probe: impl Iterator<Item = &'a Cell<W>>, number: u64) -> Option<&'a Cell<W>> {
    probe.find(|cell| cell.claim(number))
}

/// A fixed number of empty cells in huge pages where the kernel grants them.
pub type Cells<const WORDS: usize = DATA_WORDS> = Array<Cell<AtomicU64, WORDS>>;

impl<const WORDS: usize> Cells<WORDS> {
    const CELL_BYTES: usize = size_of::<Cell<AtomicU64, WORDS>>();

    /// So many cells, if the system has memory for them, not yet touched: the kernel hands it out as it is written.
    pub fn new(count: usize) -> io::Result<Cells<WORDS>> {
        let bytes = count.checked_mul(Self::CELL_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        // The pages are aligned to one, and zeroed, which is a value of every word.
        Ok(Array { pages: Pages::zeroed(bytes)?, count, values: PhantomData })
    }

    /// Touches the memory of part `part` of `parts`, so that no later write waits for it.
    pub fn touch(&self, part: usize, parts: usize) {
        let of_part = self.len().div_ceil(parts.max(1)).max(1);
        for cell in self.chunks(of_part).nth(part).unwrap_or_default().iter().step_by(4_096 / Self::CELL_BYTES) {
            // Changes nothing, whoever may be claiming the cell.
            cell.number.fetch_or(0, Ordering::Relaxed);
        }
    }

    /// Bytes of memory that they lie in, and how many of those are in huge pages now.
    pub fn bytes(&self) -> (usize, usize) {
        (self.len() * Self::CELL_BYTES, self.pages.huge_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU64 as Modelled;
    use loom::thread;
    use std::fmt::Debug;

    impl<W: Default, const WORDS: usize> Default for Cell<W, WORDS> {
        fn default() -> Cell<W, WORDS> {
            Cell { number: W::default(), sequence: W::default(), data: std::array::from_fn(|_| W::default()) }
        }
    }

    impl Word for Modelled {
        fn load(&self, order: Ordering) -> u64 {
            self.load(order)
        }

        fn store(&self, value: u64, order: Ordering) {
            self.store(value, order);
        }

        fn replace(&self, old: u64, new: u64) -> bool {
            self.compare_exchange(old, new, Ordering::Acquire, Ordering::Relaxed).is_ok()
        }

        fn fence(order: Ordering) {
            loom::sync::atomic::fence(order);
        }

        fn pause() {
            thread::yield_now();
        }
    }

    /// A word of a machine without some of the order that the cell asks for: the model must find what then goes wrong.
    #[derive(Default, Debug)]
    struct Weak<const RELEASE: bool, const ACQUIRE: bool>(Modelled);

    impl<const RELEASE: bool, const ACQUIRE: bool> Word for Weak<RELEASE, ACQUIRE> {
        fn load(&self, order: Ordering) -> u64 {
            self.0.load(order)
        }

        fn store(&self, value: u64, order: Ordering) {
            self.0.store(value, order);
        }

        fn replace(&self, old: u64, new: u64) -> bool {
            // Two steps where there must be one.
            let is_old = self.0.load(Ordering::Relaxed) == old;
            if is_old {
                self.0.store(new, Ordering::Relaxed);
            }
            is_old
        }

        fn fence(order: Ordering) {
            let kept = match order {
                Ordering::Release => RELEASE,
                _ => ACQUIRE,
            };
            if kept {
                loom::sync::atomic::fence(order);
            }
        }

        fn pause() {
            thread::yield_now();
        }
    }

    /// Tries all executions, or those in which threads are interrupted so many times at most.
    fn in_every_execution(interruptions: Option<usize>, run: impl Fn() + Send + Sync + 'static) {
        let tried = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = tried.clone();
        let mut model = loom::model::Builder::new();
        model.preemption_bound = interruptions;
        model.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            run();
        });
        let tried = tried.load(Ordering::Relaxed);
        println!("{tried} executions");
        assert!(tried > 100, "the model hardly tried");
    }

    /// All executions of one write beside one read: what is read is one of the two wholes.
    fn one_writes_and_one_reads<W: Word + Default + Debug + Send + Sync + 'static>() {
        in_every_execution(None, || {
            let cell = Arc::new(Cell::<W>::default());
            let writer = cell.clone();
            let writer = thread::spawn(move || writer.write([1; DATA_WORDS]));
            let seen = cell.read();
            assert!(seen == [0; DATA_WORDS] || seen == [1; DATA_WORDS], "torn: {seen:?}");
            writer.join().unwrap();
            assert_eq!(cell.read(), [1; DATA_WORDS], "a write that has returned is seen");
        });
    }

    #[test]
    fn a_reader_sees_a_whole_write_or_none_in_every_execution() {
        one_writes_and_one_reads::<Modelled>();
    }

    /// Executions of two who write one cell beside one who reads it: one of them may be turned away, and nothing is torn.
    fn two_write<W: Word + Default + Debug + Send + Sync + 'static>() {
        in_every_execution(Some(2), || {
            let cell = Arc::new(Cell::<W, 2>::default());
            let (first, second) = (cell.clone(), cell.clone());
            let first = thread::spawn(move || first.try_write([1; 2]));
            let second = thread::spawn(move || second.try_write([2; 2]));
            assert!(cell.try_read().is_none_or(|seen| seen[0] == seen[1]), "torn");
            let written = [first.join().unwrap(), second.join().unwrap()];
            let seen = cell.read();
            assert!(seen[0] == seen[1] && written.contains(&true) && seen[0] != 0, "torn: {seen:?}");
        });
    }

    #[test]
    fn two_writers_never_mix_in_any_execution() {
        two_write::<Modelled>();
    }

    #[test]
    #[should_panic(expected = "torn")]
    fn with_a_lock_in_two_steps_the_model_finds_two_writers() {
        two_write::<Weak<true, true>>();
    }

    #[test]
    #[should_panic(expected = "torn")]
    fn without_the_readers_fence_the_model_finds_a_torn_read() {
        one_writes_and_one_reads::<Weak<true, false>>();
    }

    #[test]
    #[should_panic(expected = "torn")]
    fn without_the_writers_fence_the_model_finds_a_torn_read() {
        one_writes_and_one_reads::<Weak<false, true>>();
    }

    #[test]
    fn a_reader_never_goes_back_in_any_execution() {
        // Two reads beside a write have too many executions for all of them.
        in_every_execution(Some(2), || {
            let cell = Arc::new(Cell::<Modelled>::default());
            let writer = cell.clone();
            let writer = thread::spawn(move || writer.write([1; DATA_WORDS]));
            let (first, second) = (cell.read(), cell.read());
            assert!(first <= second && [first, second].iter().all(|read| read.iter().all(|word| *word == read[0])));
            writer.join().unwrap();
        });
    }

    /// Executions of two owners who add two residents with one home, beside one who looks for one of them.
    fn two_owners_claim<W: Word + Default + Debug + Send + Sync + 'static>() {
        in_every_execution(Some(2), || {
            let cells: Arc<[Cell<W>; 3]> = Arc::new(std::array::from_fn(|_| Cell::default()));
            let add = |cells: &[Cell<W>; 3], number| {
                claim(cells.iter(), number).expect("there is room").write([number; DATA_WORDS]);
            };
            let (owners, readers) = (cells.clone(), cells.clone());
            let owner = thread::spawn(move || add(&owners, 7));
            let reader = thread::spawn(move || find(readers.iter(), 7).map(Cell::read));
            add(&cells, 8);
            let seen = reader.join().unwrap();
            assert!(matches!(seen, None | Some([0, 0, 0, 0] | [7, 7, 7, 7])), "another's record");
            owner.join().unwrap();
            for number in [7, 8] {
                assert_eq!(find(cells.iter(), number).map(Cell::read), Some([number; DATA_WORDS]), "lost");
            }
        });
    }

    #[test]
    fn two_owners_never_get_one_cell_in_any_execution() {
        two_owners_claim::<Modelled>();
    }

    #[test]
    #[should_panic]
    fn with_a_claim_in_two_steps_the_model_finds_a_lost_record() {
        two_owners_claim::<Weak<true, true>>();
    }

    #[test]
    fn memory_that_the_system_does_not_have_is_an_error() {
        for count in [usize::MAX, usize::MAX / 64, (1 << 46) / 64] {
            assert_eq!(
                Cells::<DATA_WORDS>::new(count).unwrap_err().kind(),
                io::ErrorKind::OutOfMemory,
                "{count} cells"
            );
        }
    }

    #[test]
    fn touching_changes_nothing_and_takes_any_part() {
        for count in [0, 1, 63, 64, 65, 100_000] {
            let cells = Cells::<DATA_WORDS>::new(count).unwrap();
            assert_eq!(cells.len(), count);
            cells.iter().for_each(|cell| cell.write([3; DATA_WORDS]));
            (0..4).for_each(|part| cells.touch(part, 3));
            assert!(cells.iter().all(|cell| cell.read() == [3; DATA_WORDS] && cell.number() == EMPTY));
            assert!(cells.bytes().1 <= cells.bytes().0);
        }
    }
}
