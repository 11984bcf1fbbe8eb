//! What moves bytes for the shards: it accepts, receives, sends, closes and waits, and decides nothing about a request.
//!
//! One driver runs in a process. Each shard has a pinned thread, a listener of its own on the shared address
//! (`SO_REUSEPORT`) and a bell that other threads ring when something lies in its queue. All `unsafe` of the network is
//! in this folder.

mod bell;
mod clock;
mod listen;
mod monoio;
pub mod sim;
mod uring;

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

pub use bell::{Bell, BellPull, bell};
pub use clock::Clock;
pub use listen::{BindError, bind};

use crate::shard::Shard;
use crate::shard::mailbox::{Inbox, Message};

/// Which driver the operator asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// The fastest that this host allows.
    Auto,
    /// Our own loop over io_uring, or nothing.
    Uring,
    /// monoio: on io_uring where the host allows it, else on epoll.
    Monoio,
}

/// What runs, and why not something else: the one line of the log that makes a measurement evidence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    kind: Kind,
    why: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Uring,
    MonoioUring,
    MonoioEpoll,
}

impl Taken {
    /// The driver's name, for the log and the metrics.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Uring => "uring",
            Kind::MonoioUring => "monoio-io_uring",
            Kind::MonoioEpoll => "monoio-epoll",
        }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.why)
    }
}

/// Probes the host and settles which driver runs.
///
/// # Errors
/// When a driver was asked for by name and cannot run here, with the reason.
pub fn choose(choice: Choice) -> Result<Taken, String> {
    let uring = match choice {
        Choice::Auto | Choice::Uring => uring::probe(),
        Choice::Monoio => Err("runtime.driver says monoio".to_owned()),
    };
    let refused = match uring {
        Ok(()) => return Ok(Taken { kind: Kind::Uring, why: "DEFER_TASKRUN and a buffer ring in force".to_owned() }),
        Err(reason) if choice == Choice::Uring => return Err(reason),
        Err(reason) => reason,
    };
    let (kind, why) = match monoio::probe() {
        Ok(()) => (Kind::MonoioUring, format!("SINGLE_ISSUER and COOP_TASKRUN in force; not uring: {refused}")),
        Err(reason) => (Kind::MonoioEpoll, format!("not io_uring: {reason}; not uring: {refused}")),
    };
    Ok(Taken { kind, why })
}

/// Everything one shard's thread needs.
pub struct Seat {
    /// Makes the shard, on its own thread.
    pub shard: Box<dyn FnOnce(crate::words::Now) -> Shard + Send>,
    /// Its listener.
    pub listener: TcpListener,
    /// What others ring.
    pub pull: BellPull,
    /// The bells of all shards, by number.
    pub bells: Arc<[Bell]>,
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
///
/// # Errors
/// When the thread cannot be pinned, or the runtime not be built.
pub fn run(taken: &Taken, seat: Seat) -> io::Result<()> {
    if let Some(cpu) = seat.cpu {
        pin(cpu).map_err(|error| io::Error::other(format!("cannot stay on CPU {cpu}: {error}")))?;
    }
    match taken.kind {
        Kind::Uring => uring::run(seat),
        Kind::MonoioUring => monoio::run_uring(seat),
        Kind::MonoioEpoll => monoio::run_epoll(seat),
    }
}

/// Keeps this thread on one CPU (sched_setaffinity(2)).
fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: CPU_SET writes within the set, or nothing for a number beyond it.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is ours and as large as we say.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The CPUs that this process may run on, in order (sched_getaffinity(2)).
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours and as large as we say.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return Vec::new();
    }
    // SAFETY: CPU_ISSET reads within the set for every number below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}
