//! What moves bytes for the shards: it accepts, receives, sends, closes and waits, and decides nothing about a request.
//!
//! One driver runs in a process. Each shard has a pinned thread, a listener of its own on the shared address
//! (`SO_REUSEPORT`) and a bell that other threads ring when something lies in its queue.

mod bell;
mod clock;
mod in_flight;
mod listen;
mod monoio;
mod uring;

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

pub use bell::{Bell, bell};
pub use clock::now;
pub use listen::bind;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use socket2::SockRef;

use crate::limits::BACKLOG;
use crate::shard::mailbox::{Inbox, Message};
use crate::shard::{Age, Shard};

/// What runs, and why not something else: the one line of the log that makes a measurement evidence.
#[derive(Clone, Debug, derive_more::Display)]
#[display("{name} ({why})")]
pub struct Taken {
    /// For the log and the metrics.
    pub name: &'static str,
    run: fn(Seat) -> io::Result<()>,
    why: String,
}

/// Probes the host and settles which driver runs: `uring` or `monoio` as asked for, and of `auto` the faster that can.
/// Errors when a driver was asked for by name and cannot run here, with the reason.
pub fn choose(wanted: &str) -> Result<Taken, String> {
    let uring = if wanted == "monoio" { Err("runtime.driver says monoio".to_owned()) } else { uring::probe() };
    let refused = match uring {
        Ok(()) => {
            let why = "DEFER_TASKRUN and a buffer ring in force".to_owned();
            return Ok(Taken { name: "uring", run: uring::run, why });
        }
        Err(reason) if wanted == "uring" => return Err(reason),
        Err(reason) => reason,
    };
    let (name, run, why): (_, fn(Seat) -> _, _) = match monoio::probe() {
        Ok(()) => ("monoio-io_uring", monoio::run_uring, "SINGLE_ISSUER and COOP_TASKRUN in force".to_owned()),
        Err(reason) => ("monoio-epoll", monoio::run_epoll, format!("not io_uring: {reason}")),
    };
    Ok(Taken { name, run, why: format!("{why}; not uring: {refused}") })
}

/// Why a ring with these flags cannot be had here.
fn explain(flags: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EINVAL) => format!("this kernel lacks {flags}"),
        Some(libc::EPERM | libc::ENOSYS) => "io_uring is forbidden here (kernel.io_uring_disabled, seccomp)".to_owned(),
        _ => error.to_string(),
    }
}

/// Everything one shard's thread needs.
pub struct Seat {
    /// Makes the shard, on its own thread.
    pub shard: Box<dyn FnOnce(crate::words::Now) -> Shard + Send>,
    /// Accepts for this shard alone; does not block.
    pub listener: TcpListener,
    /// What others ring.
    pub pull: UnixStream,
    /// The bells of all shards, by number, and behind them the journal's.
    pub bells: Arc<[Bell]>,
    /// Where all pages lie.
    pub pages: &'static [u8],
    /// From which length on a page is sent without a copy, where the driver can.
    pub zerocopy_threshold_bytes: usize,
    /// The CPU to stay on; `None`: wherever the kernel puts it.
    pub cpu: Option<usize>,
}

/// Puts a message into a shard's queue and rings its bell; `false` when the queue is full.
pub fn tell(inbox: &Inbox, bell: &Bell, message: Message) -> bool {
    let told = inbox.push(message).is_ok();
    bell.ring();
    told
}

/// Runs one seat on this thread until its shard is drained.
/// Errors when the thread cannot be pinned, or the runtime not be built.
pub fn run(taken: &Taken, seat: Seat) -> io::Result<()> {
    if let Some(cpu) = seat.cpu {
        pin(cpu).map_err(|error| io::Error::other(format!("cannot stay on CPU {cpu}: {error}")))?;
    }
    // A process that was taken over from may have made the queue short.
    SockRef::from(&seat.listener).listen(BACKLOG as i32)?;
    (taken.run)(seat)
}

/// Whether an accept failed for want of descriptors or memory (accept(2)): the connection waits for the next try.
fn is_want(error: i32) -> bool {
    matches!(error, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
}

/// Who is at the other end (getpeername(2)); of one that is gone already, nobody.
fn peer(socket: &impl AsFd) -> IpAddr {
    let address = SockRef::from(socket).peer_addr().ok().and_then(|address| address.as_socket());
    address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip())
}

/// How old what lies in a socket is, and whether its peer is still there (tcp(7), `TCP_INFO`).
fn age(descriptor: RawFd) -> Option<Age> {
    let info = tcp_info(descriptor)?;
    // 1 is TCP_ESTABLISHED: whoever has closed, or was reset, reads no answer.
    Some(Age { ms: u64::from(info.tcpi_last_data_recv), is_gone: info.tcpi_state != 1 })
}

/// While a shard is active, makes the queue of its listener as long as it says (listen(2) may be called again); a
/// listener that is handed on is left to who has it now.
fn hold_back(listener: &TcpListener, shard: &mut Shard, backlog: &mut u32) {
    if shard.handed_on || (*backlog == BACKLOG && shard.turn_ms().is_none()) {
        return;
    }
    // Of a listener this is the length of its queue.
    let queued = tcp_info(listener.as_raw_fd()).map_or(0, |info| info.tcpi_unacked);
    let wanted = shard.service.parts.admission.backlog(queued);
    if std::mem::replace(backlog, wanted) != wanted {
        let _ = SockRef::from(listener).listen(wanted as i32);
    }
}

fn tcp_info(descriptor: RawFd) -> Option<libc::tcp_info> {
    // SAFETY: all integers, of which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the value and its length are as long as the call, which writes no more than the length says.
    let told = unsafe {
        libc::getsockopt(descriptor, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length)
    };
    (told == 0).then_some(info)
}

fn shutdown(descriptor: RawFd, how: libc::c_int) {
    // SAFETY: takes no pointers, and the caller keeps the descriptor open. A socket that the peer has reset already
    // answers ENOTCONN, which changes nothing for us.
    let _ = unsafe { libc::shutdown(descriptor, how) };
}

/// Keeps this thread on one CPU (sched_setaffinity(2)).
fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    if cpu < CpuSet::MAX_CPU {
        set.set(cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// The CPUs that this process may run on, in order (sched_getaffinity(2)).
pub fn allowed_cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}
