//! Asks for memory before it is needed, so that the work until then hides the way to it.

const LINE_BYTES: usize = 64;

/// Has the CPU fetch all of `place`, line by line. It changes nothing but the time a later read takes.
#[inline]
pub fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = std::ptr::from_ref(place).cast::<i8>().wrapping_add(offset);
        // SAFETY: a prefetch reads nothing that the program could see and does not fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
