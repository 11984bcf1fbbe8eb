//! Memory that lives as long as the process, or nearly: in huge pages where the kernel grants them, which then cost a few
//! entries of the TLB instead of one for every 4 KiB, and are filled in fewer faults.

use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::slice;

use memmap2::{Advice, MmapOptions, MmapRaw};
use procfs::process::Process;

const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A zeroed mapping of our own.
#[derive(Debug)]
pub struct Pages {
    mapping: MmapRaw,
    /// Where they begin in the mapping.
    skip: usize,
    bytes: usize,
}

impl Pages {
    /// At least `bytes` of zeroed memory, from 2 MiB on aligned to that: out of the huge pages that the operator has set
    /// aside (`vm.nr_hugepages`) if they suffice, else with the advice to use them. It is not touched yet.
    /// Errors when the system has no memory for it.
    pub fn zeroed(bytes: usize) -> io::Result<Pages> {
        if bytes < HUGE_PAGE_BYTES {
            return Ok(Pages { mapping: MmapOptions::new().len(bytes.max(1)).map_anon()?.into(), skip: 0, bytes });
        }
        let huge_bytes = bytes.checked_next_multiple_of(HUGE_PAGE_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        if let Ok(mapping) = MmapOptions::new().len(huge_bytes).huge(None).map_anon() {
            return Ok(Pages { mapping: mapping.into(), skip: 0, bytes });
        }
        let mapped_bytes = huge_bytes.checked_add(HUGE_PAGE_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = MmapOptions::new().len(mapped_bytes).map_anon()?;
        let skip = mapping.as_ptr().align_offset(HUGE_PAGE_BYTES).min(HUGE_PAGE_BYTES);
        // Refused where huge pages are off, and nothing depends on it.
        let _ = mapping.advise_range(Advice::HugePage, skip, huge_bytes);
        Ok(Pages { mapping: mapping.into(), skip, bytes })
    }

    /// Where it begins.
    pub fn start(&self) -> *mut u8 {
        self.mapping.as_mut_ptr().wrapping_add(self.skip)
    }

    /// How many of its bytes are in huge pages by now (proc(5), `/proc/pid/smaps`); 0 where that cannot be read.
    pub fn huge_bytes(&self) -> usize {
        let maps = Process::myself().and_then(|process| process.smaps());
        let (start, end) = (self.start().addr() as u64, (self.start().addr() + self.bytes) as u64);
        let ours = maps.iter().flatten().filter(|map| map.address.0 < end && start < map.address.1);
        let huge = ours.flat_map(|map| ["AnonHugePages", "Private_Hugetlb"].map(|name| map.extension.map.get(name)));
        // The kernel shows neighbouring mappings as one.
        (huge.flatten().sum::<u64>() as usize).min(self.bytes)
    }
}

/// An array in [`Pages`].
#[derive(Debug)]
pub struct Array<T> {
    /// Invariant: `count` values of `T` lie here.
    pub(super) pages: Pages,
    pub(super) count: usize,
    pub(super) values: PhantomData<T>,
}

impl<T: Copy> Array<T> {
    /// So many times `value`, there from the start: no first touch is left to whoever uses it.
    /// Panics when the system has no memory for it.
    pub fn filled(count: usize, value: T) -> Array<T> {
        const { assert!(align_of::<T>() <= 4_096) }
        let bytes = size_of::<T>().checked_mul(count).expect("an array fits into the address space");
        let pages = Pages::zeroed(bytes).expect("the system has memory for the payloads of a shard");
        for index in 0..count {
            // SAFETY: within the pages, which are aligned to a page of memory at least.
            let place = unsafe { pages.start().cast::<T>().add(index) };
            // SAFETY: the place is ours, and nothing is there to be dropped.
            unsafe { place.write(value) };
        }
        Array { pages, count, values: PhantomData }
    }
}

impl<T> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the invariant, and the borrow of `self` lasts as long as the slice.
        unsafe { slice::from_raw_parts(self.pages.start().cast(), self.count) }
    }
}

impl<T> DerefMut for Array<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: the invariant, and `self` is borrowed alone for as long as the slice lives.
        unsafe { slice::from_raw_parts_mut(self.pages.start().cast(), self.count) }
    }
}

/// Copies `pieces` one behind the other, each aligned to a cache line, into memory that is never freed nor written
/// again, and says where each of them lies, and what memory that is in all: for everything that is sent as it is.
/// Errors when the system has no memory.
pub fn keep(pieces: &[impl AsRef<[u8]>]) -> io::Result<(Vec<&'static [u8]>, &'static [u8])> {
    let aligned = |length: usize| length.next_multiple_of(64);
    let total: usize = pieces.iter().map(|piece| aligned(piece.as_ref().len())).sum();
    let bytes = total.max(1).next_multiple_of(HUGE_PAGE_BYTES);
    let pages = ManuallyDrop::new(Pages::zeroed(bytes)?);
    // It stays writable: a ring registers no pages that it could not write (`io_uring_register_buffers(2)`).
    // SAFETY: the memory is zeroed, ours alone, this long, and never unmapped.
    let all: &'static mut [u8] = unsafe { slice::from_raw_parts_mut(pages.start(), bytes) };
    let (mut at, mut places) = (0, Vec::with_capacity(pieces.len()));
    for piece in pieces.iter().map(AsRef::as_ref) {
        all[at..at + piece.len()].copy_from_slice(piece);
        places.push(at..at + piece.len());
        at += aligned(piece.len());
    }
    let all: &'static [u8] = &all[..total];
    Ok((places.into_iter().map(|place| &all[place]).collect(), all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_kept_as_they_were_each_on_a_line_of_its_own() {
        let pieces = [b"one".to_vec(), Vec::new(), vec![7; 3 << 20], b"last".to_vec()];
        let (kept, all) = keep(&pieces).unwrap();
        for (piece, kept) in pieces.iter().zip(kept) {
            assert!(kept.is_empty() || all.as_ptr_range().contains(&kept.as_ptr()));
            assert_eq!(piece, kept);
            assert!(kept.is_empty() || kept.as_ptr().addr().is_multiple_of(64));
        }
    }

    #[test]
    fn an_array_is_filled_and_aligned_and_can_be_written() {
        let mut array = Array::filled(100_000, 7_u64);
        assert_eq!(array.iter().sum::<u64>(), 700_000);
        array[99_999] = 1;
        assert_eq!((array[99_999], array.len()), (1, 100_000));
        assert!(Array::filled(0, 1_u8).is_empty());
    }

    #[test]
    fn nothing_to_keep_is_no_error() {
        let (kept, all) = keep(&[""; 0]).unwrap();
        assert!(kept.is_empty() && all.is_empty());
    }

    #[test]
    fn pages_are_aligned_zeroed_and_given_back() {
        for bytes in [0, 1, 4_096, HUGE_PAGE_BYTES, HUGE_PAGE_BYTES + 1, 5 * HUGE_PAGE_BYTES - 1] {
            let pages = Pages::zeroed(bytes).unwrap();
            let alignment = if bytes < HUGE_PAGE_BYTES { 4_096 } else { HUGE_PAGE_BYTES };
            assert!(pages.start().addr().is_multiple_of(alignment));
            // SAFETY: as long as was asked for, and nobody else has it.
            let memory = unsafe { slice::from_raw_parts_mut(pages.start(), bytes) };
            assert!(memory.iter().all(|byte| *byte == 0));
            memory.fill(1);
            assert!(pages.huge_bytes() <= bytes);
        }
    }
}
