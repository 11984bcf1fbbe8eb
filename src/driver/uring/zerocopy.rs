//! Large pages sent without a copy, unless the kernel copies all the same (`io_uring_prep_send_zc_fixed(3)`).
//!
//! The pages lie in one arena that is never written nor freed, so the notification that the kernel has let go of a
//! page frees nothing, and a connection may end before it. All that it is read for is whether the kernel had to copy:
//! then its bookkeeping is worse than our copy, and the shard sends as before from there on.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};

use io_uring::{Submitter, opcode, squeue, types};
use socket2::{SockAddr, SockRef};

/// Registered pages.
pub(super) struct ZeroCopy {
    arena: &'static [u8],
    threshold_bytes: usize,
}

/// `IORING_SEND_ZC_REPORT_USAGE` and `IORING_NOTIF_USAGE_ZC_COPIED` of `linux/io_uring.h`.
const REPORT_USAGE: u16 = 1 << 3;
pub(super) const COPIED: u32 = 1 << 31;

impl ZeroCopy {
    /// Registers the pages with the ring. `None`: the kernel refuses, mostly for `RLIMIT_MEMLOCK`, and they are copied.
    pub(super) fn register(
        submitter: &Submitter<'_>,
        arena: &'static [u8],
        threshold_bytes: usize,
    ) -> Option<ZeroCopy> {
        if arena.len() < threshold_bytes {
            return None;
        }
        let region = libc::iovec { iov_base: arena.as_ptr().cast_mut().cast(), iov_len: arena.len() };
        // SAFETY: the region is mapped and stays so until the process ends; the kernel only reads from it.
        let registered = unsafe { submitter.register_buffers(&[region]) };
        registered.is_ok().then_some(ZeroCopy { arena, threshold_bytes })
    }

    /// Whether a body of this length and place is sent so.
    pub(super) fn takes(&self, body: &[u8]) -> bool {
        let (arena, body_range) = (self.arena.as_ptr_range(), body.as_ptr_range());
        body.len() >= self.threshold_bytes && arena.start <= body_range.start && body_range.end <= arena.end
    }

    /// The send of a body, or what is left of it.
    pub(super) fn entry(descriptor: RawFd, body: &[u8]) -> squeue::Entry {
        // A page is at most 16 MiB.
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let send = opcode::SendZc::new(types::Fd(descriptor), body.as_ptr(), length).buf_index(Some(0));
        send.zc_flags(REPORT_USAGE).flags(libc::MSG_WAITALL).build()
    }
}

/// Says, once in the life of a shard, that it sends as before from here on. A log that nobody reads ends nothing.
pub(super) fn tell_end() {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a shard");
    let _ = writeln!(io::stderr(), "onecode: {name}: the kernel copies all the same: no more zero-copy sends");
}

/// Whether the other end is on this host, where the kernel always copies.
pub(super) fn is_local(descriptor: RawFd) -> bool {
    // SAFETY: the connection's descriptor, open as long as its place is taken.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let socket = SockRef::from(&descriptor);
    let ip = |address: io::Result<SockAddr>| address.ok().and_then(|a| a.as_socket()).map(|a: SocketAddr| a.ip());
    let (ours, theirs) = (ip(socket.local_addr()), ip(socket.peer_addr()));
    ours == theirs || theirs.is_none_or(|ip| ip.to_canonical().is_loopback())
}
