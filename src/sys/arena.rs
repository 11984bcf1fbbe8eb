//! One read-only piece of memory for everything that is sent as it is, in huge pages where the kernel grants them: the
//! pages then cost one or two entries of the TLB, and an address in them stays good for the life of the process.

use std::io;
use std::slice;

const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Copies `pieces` one behind the other, each aligned to a cache line, into memory that is never freed nor written
/// again, and says where each of them lies.
///
/// # Errors
/// When the system has no memory.
pub fn keep(pieces: &[Vec<u8>]) -> io::Result<Vec<&'static [u8]>> {
    let aligned = |length: usize| length.next_multiple_of(64);
    let total: usize = pieces.iter().map(|piece| aligned(piece.len())).sum();
    let bytes = total.max(1).next_multiple_of(HUGE_PAGE_BYTES) + HUGE_PAGE_BYTES;
    // SAFETY: a new anonymous mapping; no address is asked for, so nothing is replaced.
    let mapping = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if mapping == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let skip = mapping.align_offset(HUGE_PAGE_BYTES).min(HUGE_PAGE_BYTES);
    // SAFETY: the mapping is one huge page longer than what is used, and `skip` at most that.
    let start = unsafe { mapping.cast::<u8>().add(skip) };
    // Advice: refused where huge pages are off, and nothing depends on it.
    // SAFETY: start and length lie within the mapping.
    let _ = unsafe { libc::madvise(start.cast(), bytes - HUGE_PAGE_BYTES, libc::MADV_HUGEPAGE) };
    // SAFETY: the mapping is zeroed, ours alone, at least this long from `start`, and never unmapped.
    let mut rest: &'static mut [u8] = unsafe { slice::from_raw_parts_mut(start, bytes - HUGE_PAGE_BYTES) };
    let mut kept = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let (place, after) = rest.split_at_mut(aligned(piece.len()));
        place[..piece.len()].copy_from_slice(piece);
        let place: &'static [u8] = place;
        kept.push(&place[..piece.len()]);
        rest = after;
    }
    // Nothing writes here any more; the kernel holds us to it.
    // SAFETY: the range is ours, and no mutable reference into it is left.
    let _ = unsafe { libc::mprotect(start.cast(), bytes - HUGE_PAGE_BYTES, libc::PROT_READ) };
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_kept_as_they_were_each_on_a_line_of_its_own() {
        let pieces = [b"one".to_vec(), Vec::new(), vec![7; 3 << 20], b"last".to_vec()];
        let kept = keep(&pieces).unwrap();
        for (piece, kept) in pieces.iter().zip(kept) {
            assert_eq!(piece, kept);
            assert!(kept.is_empty() || kept.as_ptr().addr().is_multiple_of(64));
        }
    }

    #[test]
    fn nothing_to_keep_is_no_error() {
        assert!(keep(&[]).unwrap().is_empty());
    }
}
