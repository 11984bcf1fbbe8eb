//! An output on its way to a client, as the system calls of both drivers take it.

use crate::service::Output;

/// An output that the kernel reads from. It is owned here, and so is what points into it.
pub(super) struct InFlight {
    pub(super) output: Output,
    pub(super) sent: usize,
    /// For an output with a body; goes back to the driver's spare ones afterwards.
    pub(super) pieces: Option<Box<Pieces>>,
}

/// Head and body of an output, as `sendmsg(2)` takes them; boxed, because the kernel reads it where it lies.
pub(super) struct Pieces {
    header: libc::msghdr,
    pub(super) pieces: [libc::iovec; 2],
}

impl Default for Pieces {
    fn default() -> Pieces {
        // SAFETY: a msghdr is integers and pointers, for all of which zero is a value.
        let header = unsafe { std::mem::zeroed::<libc::msghdr>() };
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Pieces { header, pieces: [nothing; 2] }
    }
}

impl InFlight {
    pub(super) fn new(output: Output) -> InFlight {
        InFlight { output, sent: 0, pieces: None }
    }

    /// What is left of the head; all that is sent where there is no body.
    pub(super) fn head(&self) -> &[u8] {
        self.output.head.bytes().unwrap_or_default().get(self.sent..).unwrap_or_default()
    }

    /// What is left of the body.
    pub(super) fn body(&self) -> &[u8] {
        &self.output.body[self.sent.saturating_sub(self.output.head.len())..]
    }

    /// Head and body in one message, through one of the driver's spare pieces.
    #[allow(clippy::vec_box, reason = "the kernel reads them where they lie while the vector moves")]
    pub(super) fn message(&mut self, spare: &mut Vec<Box<Pieces>>) -> *const libc::msghdr {
        let piece = |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let both = [piece(self.head()), piece(self.body())];
        let pieces = self.pieces.get_or_insert_with(|| spare.pop().unwrap_or_default());
        pieces.pieces = both;
        pieces.header.msg_iov = pieces.pieces.as_mut_ptr();
        pieces.header.msg_iovlen = pieces.pieces.len();
        &raw const pieces.header
    }

    /// Counts what was sent; `true` when that was all.
    pub(super) fn advance(&mut self, length: usize) -> bool {
        self.sent += length;
        self.sent >= self.output.bytes()
    }
}
