//! The portable driver, on monoio: io_uring where the host allows it, else epoll.
//!
//! One task a connection, one for the listener, one for the bell, and the thread's own future for the clock. What the
//! crate's issues teach is kept to (see `accept` and `Desk::kick`): no operation is ever raced against another and
//! dropped. To end a read or a write early its socket is shut down, which lets the operation return by itself.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{self, IpAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use monoio::buf::{IoBuf, IoVecBuf};
use monoio::io::{AsyncReadRent, AsyncWriteRent, CancelableAsyncReadRent, Canceller};
use monoio::net::{TcpListener, TcpStream, UnixStream};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use thunderdome::Arena;

use super::in_flight::InFlight;
use super::{Seat, explain, now, shutdown};
use crate::limits::{BACKLOG, RECEIVE_BYTES_MAX};
use crate::shard::{ConnectionId, Next, Output, Shard};

/// How often the shard is told the time.
const TICK: Duration = Duration::from_millis(100);
/// After an accept failed for want of descriptors or memory, so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The set-up flags without which monoio's ring costs nearly twice the CPU (both are in Linux 6.0 and later).
fn ring() -> io_uring_monoio::Builder {
    let mut builder = io_uring_monoio::IoUring::builder();
    builder.setup_single_issuer().setup_coop_taskrun();
    builder
}

/// Whether io_uring with those flags can be had here; monoio's own detection does not try them.
pub(super) fn probe() -> Result<(), String> {
    if std::env::var_os("MONOIO_FORCE_LEGACY_DRIVER").is_some() {
        return Err("MONOIO_FORCE_LEGACY_DRIVER is set".to_owned());
    }
    ring().build(8).map(drop).map_err(|error| explain("SINGLE_ISSUER or COOP_TASKRUN", &error))
}

pub(super) fn run_uring(seat: Seat) -> io::Result<()> {
    let builder = RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring());
    builder.enable_timer().build()?.block_on(run(seat))
}

pub(super) fn run_epoll(seat: Seat) -> io::Result<()> {
    RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?.block_on(run(seat))
}

/// One shard and what its tasks share.
struct Worker {
    shard: RefCell<Shard>,
    desks: RefCell<Arena<Rc<Desk>>>,
    seat_bells: std::sync::Arc<[super::Bell]>,
    receive_buffers: RefCell<Vec<Box<[u8]>>>,
    /// The listener once more, for what waits there already.
    listening: net::TcpListener,
    /// Of all accepts, while they go on.
    canceller: RefCell<Option<Canceller>>,
    accepting: Cell<bool>,
}

/// Where one connection's task can be reached.
#[derive(Default)]
struct Desk {
    descriptor: RawFd,
    /// Which direction of the socket to shut down to end what is in flight, if it ends by that.
    ends_by: Cell<Option<libc::c_int>>,
    kicked: Cell<bool>,
    /// Of a read that may be cancelled.
    canceller: RefCell<Option<Canceller>>,
    waker: RefCell<Option<Waker>>,
}

async fn run(seat: Seat) -> io::Result<()> {
    let worker = Rc::new(Worker {
        shard: RefCell::new((seat.shard)(now())),
        desks: RefCell::new(Arena::new()),
        seat_bells: seat.bells,
        receive_buffers: RefCell::new(Vec::new()),
        listening: seat.listener.try_clone()?,
        canceller: RefCell::new(Some(Canceller::new())),
        accepting: Cell::new(true),
    });
    let (mut backlog, mut open) = (BACKLOG, true);
    let listener = TcpListener::from_std(seat.listener)?;
    let accepting = monoio::spawn(accept(worker.clone(), listener));
    let hearing = monoio::spawn(hear(worker.clone(), UnixStream::from_std(seat.pull)?));
    loop {
        let turn_ms = worker.shard.borrow_mut().turn_ms();
        monoio::time::sleep(turn_ms.map_or(TICK, Duration::from_millis)).await;
        let now = now();
        worker.shard.borrow_mut().handle_time(now);
        worker.shard.borrow_mut().handle_turn(now);
        if open {
            super::hold_back(&worker.listening, &mut worker.shard.borrow_mut(), &mut backlog);
        }
        worker.after_event();
        if open && worker.shard.borrow().is_closed(now) {
            open = false;
            stop_accepting(&worker);
            // The connections just taken are the shard's with the next turn of their tasks.
            continue;
        }
        if worker.shard.borrow().is_drained(now, worker.accepting.get()) {
            break;
        }
    }
    // Held until here: monoio's join handles are not safe to drop while their task runs.
    drop((accepting, hearing));
    Ok(())
}

async fn accept(worker: Rc<Worker>, listener: TcpListener) {
    // Never raced against anything: a dropped accept leaks the descriptor it was about to give (monoio issue 318). One
    // that is cancelled returns by itself, perhaps with a connection.
    let Some(cancel) = worker.canceller.borrow().as_ref().map(Canceller::handle) else { return };
    loop {
        match listener.cancelable_accept(cancel.clone()).await {
            Ok((stream, peer)) => drop(monoio::spawn(attend(worker.clone(), stream, peer.ip()))),
            Err(_) if worker.shard.borrow().is_closed(now()) => {
                // A connection wakes one accept, and nobody else if that was then cancelled.
                accept_waiting(&worker);
                return worker.accepting.set(false);
            }
            Err(error) => {
                if error.raw_os_error().is_some_and(super::is_want) {
                    worker.shard.borrow().service.parts.counters.connections_refused.add(1);
                }
                monoio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes the connections that the kernel has completed, lest closing reset them; where another process has it, they are its.
fn stop_accepting(worker: &Rc<Worker>) {
    if worker.shard.borrow().handed_on {
        return drop(worker.canceller.take().map(Canceller::cancel));
    }
    accept_waiting(worker);
    shutdown(worker.listening.as_raw_fd(), libc::SHUT_RDWR);
}

fn accept_waiting(worker: &Rc<Worker>) {
    while let Ok((stream, peer)) = worker.listening.accept() {
        if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            drop(monoio::spawn(attend(worker.clone(), stream, peer.ip())));
        }
    }
}

/// Waits for the bell, then lets the shard read its mail.
async fn hear(worker: Rc<Worker>, mut pull: UnixStream) {
    let mut rings = vec![0; 64];
    loop {
        let (result, buffer) = pull.read(rings).await;
        rings = buffer;
        if !matches!(result, Ok(1..)) {
            return;
        }
        worker.shard.borrow_mut().handle_messages(now());
        worker.after_event();
    }
}

/// One connection, from its accept to its close.
async fn attend(worker: Rc<Worker>, mut stream: TcpStream, peer: IpAddr) {
    let Some(id) = worker.shard.borrow_mut().handle_accept(now(), peer) else { return };
    let desk = Rc::new(Desk { descriptor: stream.as_raw_fd(), ..Desk::default() });
    worker.desks.borrow_mut().insert_at(id, desk.clone());
    let (mut failed, mut unsent) = (false, None);
    while !failed {
        let next = worker.shard.borrow_mut().poll(now(), id);
        match next {
            Next::Receive => failed = !receive(&worker, &desk, &mut stream, id, false).await,
            Next::ReceiveOrWake => failed = !receive(&worker, &desk, &mut stream, id, true).await,
            Next::Send(output) => {
                desk.ends_by.set(Some(libc::SHUT_RDWR));
                let (result, output) = send(&mut stream, output).await;
                desk.ends_by.set(None);
                if result.is_ok() {
                    worker.shard.borrow_mut().handle_sent(now(), id, output);
                    worker.after_event();
                } else {
                    failed = true;
                    unsent = Some(output);
                }
            }
            Next::Wait => desk.woken().await,
            Next::ShutdownWrite => shutdown(desk.descriptor, libc::SHUT_WR),
            Next::Close => break,
        }
    }
    worker.desks.borrow_mut().remove(id);
    worker.shard.borrow_mut().handle_closed(id, failed, unsent);
}

/// Receives once; `false`: it has failed. A read that is to be woken can be cancelled, and returns, perhaps with bytes.
async fn receive(worker: &Worker, desk: &Desk, stream: &mut TcpStream, id: ConnectionId, cancellable: bool) -> bool {
    let buffer = worker.receive_buffers.borrow_mut().pop();
    let buffer = buffer.unwrap_or_else(|| vec![0; RECEIVE_BYTES_MAX].into_boxed_slice());
    let (result, buffer) = if cancellable {
        let handle = desk.canceller.borrow_mut().insert(Canceller::new()).handle();
        stream.cancelable_read(buffer, handle).await
    } else {
        desk.ends_by.set(Some(libc::SHUT_RD));
        stream.read(buffer).await
    };
    desk.ends_by.set(None);
    desk.canceller.borrow_mut().take();
    let now = now();
    let kicked = desk.kicked.take();
    let mut healthy = true;
    match result {
        // The end that our own kick made is not the peer's.
        Ok(0) if kicked && !cancellable => {}
        Err(error) if kicked && cancellable && error.raw_os_error() == Some(libc::ECANCELED) => {}
        Ok(0) => worker.shard.borrow_mut().handle_end(now, id),
        Ok(length) => {
            let mut shard = worker.shard.borrow_mut();
            if shard.service.parts.admission.wants_age(now)
                && let Some(age) = super::age(desk.descriptor)
            {
                shard.handle_age(now, id, age);
            }
            shard.handle_received(now, id, &buffer[..length]);
        }
        Err(_) => healthy = false,
    }
    worker.receive_buffers.borrow_mut().push(buffer);
    worker.after_event();
    healthy
}

impl Worker {
    /// Rings and wakes whom the last event has left to be rung and woken.
    fn after_event(&self) {
        let mut shard = self.shard.borrow_mut();
        while let Some(other) = shard.poll_bell() {
            self.seat_bells[other].ring();
        }
        while let Some(id) = shard.poll_woken() {
            if let Some(desk) = self.desks.borrow().get(id) {
                desk.kick();
            }
        }
    }
}

impl Desk {
    /// Makes the connection's task ask its shard again. A read or a write in flight is never dropped: a read that the
    /// shard may want back is cancelled, any other's socket is shut down in the direction that ends it, which the shard
    /// only asks for when the connection ends anyway.
    fn kick(&self) {
        self.kicked.set(true);
        // Once is enough, until the read has returned.
        drop(self.canceller.borrow_mut().take().map(Canceller::cancel));
        if let Some(direction) = self.ends_by.get() {
            shutdown(self.descriptor, direction);
        }
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    /// Ends when the desk was kicked.
    async fn woken(&self) {
        poll_fn(|context| {
            if self.kicked.take() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Sends all of an output and gives it back.
async fn send(stream: &mut TcpStream, output: Output) -> (io::Result<()>, Output) {
    let mut sending = InFlight::new(output);
    loop {
        let (result, back) = if sending.output.body.is_empty() {
            stream.write(sending).await
        } else {
            sending.message(&mut Vec::new());
            stream.writev(sending).await
        };
        sending = back;
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), sending.output),
            Ok(length) if sending.advance(length) => return (Ok(()), sending.output),
            Ok(_) => {}
            Err(error) => return (Err(error), sending.output),
        }
    }
}

// SAFETY: the slot is a heap allocation that moves with neither `InFlight` nor `Output`, it is not written while we are
// borrowed by the runtime, and the bytes from `sent` to its end are initialised.
unsafe impl IoBuf for InFlight {
    fn read_ptr(&self) -> *const u8 {
        self.head().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.head().len()
    }
}

// SAFETY: the two entries are boxed, so their address stays; they point into the slot and into the body, heap or static
// memory that `self` keeps alive and nobody writes.
unsafe impl IoVecBuf for InFlight {
    fn read_iovec_ptr(&self) -> *const libc::iovec {
        self.pieces.as_ref().map_or(std::ptr::null(), |both| both.pieces.as_ptr())
    }

    fn read_iovec_len(&self) -> usize {
        self.pieces.as_ref().map_or(0, |both| both.pieces.len())
    }
}
