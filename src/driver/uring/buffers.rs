//! The ring of receive buffers that the kernel picks from (`io_uring_register_buf_ring(3)`).
//!
//! One mapping holds the entries and, behind them, the buffers. A buffer is the kernel's until a completion
//! names it, then ours until [`BufferRing::give_back`]: who holds a [`Lent`] may read it, and alone can give it back.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::limits::RECEIVE_BYTES_MAX;
use crate::sys::arena::Pages;

/// The one group of buffers of a ring.
pub(super) const GROUP: u16 = 0;
/// A power of two, as the kernel wants it; 2 MiB of buffers, so that one huge page can hold them. A batch of
/// completions is smaller, and whoever finds none waits for the next batch.
const BUFFERS: u16 = 1_024;
const ENTRIES_BYTES: usize = BUFFERS as usize * size_of::<BufRingEntry>();
const PAGES_BYTES: usize = ENTRIES_BYTES + BUFFERS as usize * RECEIVE_BYTES_MAX;

/// The memory, registered with one ring.
pub(super) struct BufferRing {
    pages: Pages,
    /// The next entry to fill; counts beyond the ring's size, as the kernel's own tail does.
    tail: u16,
}

/// A buffer that a completion has handed to us, and how much of it was filled.
pub(super) struct Lent {
    id: u16,
    length: usize,
}

impl Lent {
    /// What a completion says it has received.
    pub(super) fn of(id: u16, length: usize) -> Lent {
        Lent { id: id % BUFFERS, length: length.min(RECEIVE_BYTES_MAX) }
    }
}

impl BufferRing {
    /// Maps and registers the memory. It may go once no operation is left that could fill a buffer: see `run`.
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<BufferRing> {
        let pages = Pages::zeroed(PAGES_BYTES)?;
        // So that no receive waits for its memory.
        // SAFETY: the pages are this long, and nobody else has them yet.
        unsafe { pages.start().write_bytes(0, PAGES_BYTES) };
        let mut ring = BufferRing { pages, tail: 0 };
        for id in 0..BUFFERS {
            ring.put(id);
        }
        ring.publish();
        // SAFETY: BUFFERS entries, page-aligned, zero but for what `put` wrote, and mapped until the ring is gone.
        unsafe { submitter.register_buf_ring_with_flags(ring.pages.start() as u64, BUFFERS, GROUP, 0)? };
        Ok(ring)
    }

    /// What a lent buffer was filled with.
    pub(super) fn bytes(&self, lent: &Lent) -> &[u8] {
        // SAFETY: `id` is below BUFFERS and `length` at most a buffer, so this lies within the mapping.
        let start = unsafe { self.buffer(lent.id) };
        // SAFETY: the completion that made `lent` says the kernel filled these bytes, and it does not touch the buffer
        // again before `give_back` puts it into the ring, for which `lent` is moved.
        unsafe { std::slice::from_raw_parts(start, lent.length) }
    }

    /// Gives a buffer back to the kernel, with the next [`publish`](Self::publish).
    pub(super) fn give_back(&mut self, lent: Lent) {
        self.put(lent.id);
    }

    /// Shows the kernel what was given back.
    pub(super) fn publish(&self) {
        // SAFETY: the first entry lies at the start of the mapping, and its tail field within it.
        let tail = unsafe { BufRingEntry::tail(self.pages.start().cast()) };
        // SAFETY: aligned, mapped as long as `self`, written only here; the kernel expects a store with release ordering.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }.store(self.tail, Ordering::Release);
    }

    fn put(&mut self, id: u16) {
        let place = usize::from(self.tail % BUFFERS);
        // SAFETY: `id` is below BUFFERS.
        let address = unsafe { self.buffer(id) } as u64;
        // SAFETY: `place` is below BUFFERS, so the entry lies within the mapping, which is aligned to a page.
        let entry = unsafe { self.pages.start().cast::<BufRingEntry>().add(place) };
        // SAFETY: the kernel reads entries only before its copy of the tail, and this one is not: at most BUFFERS ids
        // exist, and each is in the ring or lent.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(RECEIVE_BYTES_MAX as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Where a buffer starts.
    ///
    /// # Safety
    /// `id` must be below [`BUFFERS`].
    unsafe fn buffer(&self, id: u16) -> *const u8 {
        // SAFETY: within the mapping for every id that the caller may give.
        unsafe { self.pages.start().add(ENTRIES_BYTES + usize::from(id) * RECEIVE_BYTES_MAX) }
    }
}
