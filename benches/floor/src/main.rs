//! The floor: the same ring as `src/driver/uring`, with the same flags, and nothing above it. It parses nothing, knows
//! no request from another, and answers whatever arrives with the constant bytes of a file.
//!
//! What it costs per request is what the kernel's TCP and the ring cost; no server on this host can cost less with the
//! same bytes. It takes one receive for one request, which holds for load generators on loopback that do not pipeline,
//! and it is never to be used for anything else.

mod buffers;
mod options;

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue, types};

use buffers::{BufferRing, GROUP};
use options::Options;

// The same sizes as the driver's.
const SUBMISSIONS: u32 = 1_024;
const COMPLETIONS: u32 = 16_384;
const BACKLOG_CONNECTIONS: libc::c_int = 65_535;

const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const CLOSE: u64 = 4;

fn main() -> io::Result<()> {
    let options = Options::from_arguments().unwrap_or_else(|reason| {
        eprintln!("floor: {reason}");
        std::process::exit(2);
    });
    let answer = std::fs::read(&options.answer)?;
    if let Some(cpu) = options.cpu {
        pin(cpu)?;
    }
    let listener = listen(options.port)?;
    let mut ring = build()?;
    let (mut submitter, submissions, completions) = ring.split();
    let _ = submitter.register_ring_fd();
    let buffers = BufferRing::register(&submitter)?;
    let mut floor = Floor { submitter, submissions, completions, buffers, answer, closing: options.closing };
    println!("floor: listening on 127.0.0.1:{}", listener.local_addr()?.port());
    floor.serve(listener.as_raw_fd())
}

fn build() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_clamp().setup_cqsize(COMPLETIONS);
    match builder.clone().setup_no_sqarray().build(SUBMISSIONS) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder.build(SUBMISSIONS),
        built => built,
    }
}

struct Floor<'r> {
    submitter: Submitter<'r>,
    submissions: SubmissionQueue<'r>,
    completions: CompletionQueue<'r>,
    buffers: BufferRing,
    answer: Vec<u8>,
    /// Each connection is closed after its first answer.
    closing: bool,
}

impl Floor<'_> {
    fn serve(&mut self, listener: RawFd) -> io::Result<()> {
        self.accept(listener);
        loop {
            self.submissions.sync();
            match self.submitter.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {}
                Err(error) => return Err(error),
            }
            self.submissions.sync();
            self.completions.sync();
            while let Some(completion) = self.completions.next() {
                self.handle(listener, &completion);
            }
            self.buffers.publish();
        }
    }

    fn handle(&mut self, listener: RawFd, completion: &cqueue::Entry) {
        let (operation, descriptor) = (completion.user_data() >> 32, completion.user_data() as RawFd);
        match operation {
            ACCEPT => {
                if completion.result() >= 0 {
                    self.receive_once(completion.result());
                }
                if !cqueue::more(completion.flags()) {
                    self.accept(listener);
                }
            }
            RECEIVE => self.received(descriptor, completion),
            SEND if completion.result() <= 0 => shutdown(descriptor),
            SEND if self.closing => self.close(descriptor),
            _ => {}
        }
    }

    fn received(&mut self, descriptor: RawFd, completion: &cqueue::Entry) {
        let armed = cqueue::more(completion.flags());
        if let Some(id) = cqueue::buffer_select(completion.flags()) {
            self.buffers.give_back(id);
        }
        if completion.result() > 0 {
            self.send(descriptor);
            if !armed && !self.closing {
                self.receive(descriptor);
            }
        } else if completion.result() == -libc::ENOBUFS {
            self.buffers.publish();
            self.receive(descriptor);
        } else if !armed {
            self.close(descriptor);
        }
    }

    fn accept(&mut self, listener: RawFd) {
        self.push(opcode::AcceptMulti::new(types::Fd(listener)).flags(libc::SOCK_CLOEXEC).build(), ACCEPT, listener);
    }

    /// As in the driver, the first receive of a connection is one-shot.
    fn receive_once(&mut self, descriptor: RawFd) {
        let entry = opcode::Recv::new(types::Fd(descriptor), std::ptr::null_mut(), 0).buf_group(GROUP).build();
        self.push(entry.flags(squeue::Flags::BUFFER_SELECT), RECEIVE, descriptor);
    }

    fn receive(&mut self, descriptor: RawFd) {
        self.push(opcode::RecvMulti::new(types::Fd(descriptor), GROUP).build(), RECEIVE, descriptor);
    }

    fn send(&mut self, descriptor: RawFd) {
        let length = u32::try_from(self.answer.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(types::Fd(descriptor), self.answer.as_ptr(), length).flags(libc::MSG_WAITALL);
        self.push(entry.build(), SEND, descriptor);
    }

    fn close(&mut self, descriptor: RawFd) {
        let entry = opcode::Close::new(types::Fd(descriptor)).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry, CLOSE, descriptor);
    }

    fn push(&mut self, entry: squeue::Entry, operation: u64, descriptor: RawFd) {
        let entry = entry.user_data(operation << 32 | u64::from(descriptor.cast_unsigned()));
        loop {
            // SAFETY: the only memory operations point to is the answer and the buffer ring, which both live in `self`
            // until the process ends: `serve` returns only with an error that ends it.
            if unsafe { self.submissions.push(&entry) }.is_ok() {
                return;
            }
            self.submissions.sync();
            let _ = self.submitter.submit();
            self.submissions.sync();
        }
    }
}

/// A listener with the driver's options: `TCP_NODELAY` and `TCP_DEFER_ACCEPT`, both inherited.
fn listen(port: u16) -> io::Result<TcpListener> {
    // SAFETY: takes no pointers.
    let descriptor = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let listener = unsafe { TcpListener::from_raw_fd(descriptor) };
    set(&listener, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    set(&listener, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    set(&listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT)?;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: libc::INADDR_LOOPBACK.to_be() },
        sin_zero: [0; 8],
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is a sockaddr_in of the length we say, and outlives the call.
    let bound = unsafe { libc::bind(descriptor, (&raw const address).cast(), length) };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes no pointers.
    let listening = unsafe { libc::listen(descriptor, BACKLOG_CONNECTIONS) };
    if listening < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(listener)
}

/// Sets an option to 1.
fn set(listener: &TcpListener, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let one: libc::c_int = 1;
    let length = size_of_val(&one) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the value is one int that outlives the call.
    let result = unsafe { libc::setsockopt(listener.as_raw_fd(), level, option, (&raw const one).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the receive that is still armed return, which then closes.
fn shutdown(descriptor: RawFd) {
    // SAFETY: takes no pointers; the descriptor is open until its receive has returned.
    let _ = unsafe { libc::shutdown(descriptor, libc::SHUT_RDWR) };
}

fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: CPU_SET writes within the set, or nothing for a number beyond it.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is ours and as large as we say.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
