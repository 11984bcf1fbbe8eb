//! The ring of receive buffers, of the driver's size; what is in them is never looked at.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The one group of buffers.
pub const GROUP: u16 = 0;
const BUFFERS: u16 = 1_024;
const BUFFER_BYTES: usize = 2_048;
const ENTRIES_BYTES: usize = BUFFERS as usize * size_of::<BufRingEntry>();
const MAPPING_BYTES: usize = ENTRIES_BYTES + BUFFERS as usize * BUFFER_BYTES;

/// The mapping, registered with the ring; it stays until the process ends.
pub struct BufferRing {
    mapping: *mut u8,
    tail: u16,
}

impl BufferRing {
    /// Maps the memory and registers it.
    pub fn register(submitter: &Submitter<'_>) -> io::Result<BufferRing> {
        // SAFETY: a new anonymous mapping of a fixed length; no address is asked for, so nothing is replaced.
        let mapping = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MAPPING_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mut ring = BufferRing { mapping: mapping.cast(), tail: 0 };
        (0..BUFFERS).for_each(|id| ring.give_back(id));
        ring.publish();
        // SAFETY: the entries are page-aligned, BUFFERS of them, and never unmapped.
        unsafe { submitter.register_buf_ring_with_flags(mapping as u64, BUFFERS, GROUP, 0)? };
        Ok(ring)
    }

    /// Gives a buffer back to the kernel, with the next `publish`.
    pub fn give_back(&mut self, id: u16) {
        let id = id % BUFFERS;
        let place = usize::from(self.tail % BUFFERS);
        // SAFETY: `id` is below BUFFERS, so the buffer lies within the mapping.
        let address = unsafe { self.mapping.add(ENTRIES_BYTES + usize::from(id) * BUFFER_BYTES) } as u64;
        // SAFETY: `place` is below BUFFERS, so the entry lies within the mapping, which is aligned to a page.
        let entry = unsafe { self.mapping.cast::<BufRingEntry>().add(place) };
        // SAFETY: the kernel reads entries only before its copy of the tail, and this one is not.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was given back.
    pub fn publish(&self) {
        // SAFETY: the first entry lies at the start of the mapping, and its tail field within it.
        let tail = unsafe { BufRingEntry::tail(self.mapping.cast()) };
        // SAFETY: the tail is aligned, mapped, written only here and read by the kernel.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }.store(self.tail, Ordering::Release);
    }
}
