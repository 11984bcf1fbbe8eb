//! The default driver: our own loop over one io_uring ring a shard.
//!
//! Accepts are multishot, receives pick their buffer from a ring of the kernel's choosing and are parsed where they
//! lie, one send is in flight a connection, and all that a batch of completions leads to is submitted with the next
//! wait, in one system call. `DEFER_TASKRUN` lets completions run only there, which is half of what makes a ring worth
//! its while on this path (`io_uring_setup(2)`).
//!
//! The first receive of a connection is one-shot: after `TCP_DEFER_ACCEPT` its bytes are already there, and a
//! connection of one request then closes with nothing armed. From the second request on it is multishot.

mod buffers;
mod socket;
mod zerocopy;

use std::io::{self, Read as _};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue, types};
use thunderdome::Arena;

use super::in_flight::{InFlight, Pieces};
use super::{Seat, now, shutdown};
use crate::limits::{BACKLOG, SHARD_CONNECTIONS_MAX};
use crate::shard::{ConnectionId, NOBODY, Next, Shard};
use crate::words::Now;
use buffers::{BufferRing, GROUP, Lent};
use socket::{Operation, Receiving, Socket, user_data};
use zerocopy::ZeroCopy;

/// No larger than one batch is ever: what does not fit is submitted early.
const SUBMISSIONS: u32 = 1_024;
/// For a flood: two completions for each connection of a full accept burst.
const COMPLETIONS: u32 = 16_384;
/// From so many completions in one wait on, the next one waits for half as many, and no longer than this.
const BATCH_MIN: usize = 4;
const BATCH_MAX: usize = 32;
const BATCH_WAIT_US: u32 = 30;
/// In a rush a wait brings thousands, longer work than anybody waits: a turn takes so many, and new ones stay outside.
const TURN_COMPLETIONS: usize = 2 * BATCH_MAX;
/// While connections are open the shard is told the time this often.
const TICK_MS: u64 = 100;

/// Builds a ring on this thread, with what this kernel has.
fn build() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_clamp().setup_cqsize(COMPLETIONS);
    match builder.clone().setup_no_sqarray().build(SUBMISSIONS) {
        // Linux 6.6 and later have NO_SQARRAY; nothing depends on it.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder.build(SUBMISSIONS),
        built => built,
    }
}

/// Whether all that the driver needs can be had here: Linux 6.1, and io_uring allowed.
pub(super) fn probe() -> Result<(), String> {
    let explain = |error: io::Error| super::explain("DEFER_TASKRUN or another flag of 6.1", &error);
    let ring = build().map_err(explain)?;
    let submitter = ring.submitter();
    let _buffers = BufferRing::register(&submitter).map_err(explain)?;
    submitter.unregister_buf_ring(GROUP).map_err(explain)
}

pub(super) fn run(seat: Seat) -> io::Result<()> {
    let mut ring = build()?;
    let batches = ring.params().is_feature_min_timeout();
    let (mut submitter, submissions, completions) = ring.split();
    // Saves taking a reference to the ring's file with each enter; older kernels do without.
    let _ = submitter.register_ring_fd();
    let buffers = BufferRing::register(&submitter)?;
    let zerocopy = ZeroCopy::register(&submitter, seat.pages, seat.zerocopy_threshold_bytes);
    let shard = (seat.shard)(now());
    let mut worker = Worker {
        submitter,
        submissions,
        completions,
        buffers,
        zerocopy,
        shard,
        sockets: Arena::with_capacity(SHARD_CONNECTIONS_MAX),
        pieces: Vec::new(),
        starved: Vec::with_capacity(COMPLETIONS as usize),
        listener: &seat.listener,
        accepting: false,
        backlog: BACKLOG,
        bell: &seat.pull,
        open: true,
        batch: 0,
        batches,
    };
    let served = worker.serve(&seat.bells);
    if !worker.sockets.is_empty() {
        // The time to drain is over and operations are still in flight: their memory stays until the process ends, now.
        std::mem::forget(worker);
    }
    served
}

struct Worker<'r> {
    submitter: Submitter<'r>,
    submissions: SubmissionQueue<'r>,
    completions: CompletionQueue<'r>,
    buffers: BufferRing,
    zerocopy: Option<ZeroCopy>,
    shard: Shard,
    /// Each at the place of the shard's connection.
    sockets: Arena<Socket>,
    /// Spare ones, so that sending a page allocates nothing.
    #[allow(clippy::vec_box, reason = "the kernel reads them where they lie while the vector moves")]
    pieces: Vec<Box<Pieces>>,
    /// Wanted to receive when no buffer was free.
    starved: Vec<ConnectionId>,
    listener: &'r TcpListener,
    accepting: bool,
    /// How many connections may wait to be accepted.
    backlog: u32,
    bell: &'r UnixStream,
    /// New connections are wanted.
    open: bool,
    /// Completions of the last wait.
    batch: usize,
    /// The kernel can wait for several (Linux 6.12).
    batches: bool,
}

impl Worker<'_> {
    fn serve(&mut self, bells: &[super::Bell]) -> io::Result<()> {
        self.accept();
        self.hear();
        let mut now = now();
        let mut next_tick_ms = now.mono_ms();
        loop {
            // An accept that failed is armed again by the tick, be there connections or not.
            let idle = self.accepting && self.backlog == BACKLOG && self.shard.is_timeless();
            let wait = (!idle).then(|| Duration::from_millis(next_tick_ms.saturating_sub(now.mono_ms())));
            // A long batch says that the shard is busy.
            while self.batch < BATCH_MIN && now.mono_ms() < next_tick_ms && self.shard.service.has_work_ahead(now) {
                self.submit_and_look()?;
                if !self.completions.is_empty() {
                    break;
                }
                now = super::now();
                self.shard.service.work_ahead(now);
            }
            if self.completions.is_empty() {
                self.submit_and_wait(wait)?;
            } else if self.batch == TURN_COMPLETIONS {
                self.submissions.sync();
                self.submitted(self.submitter.submit())?;
            }
            now = super::now();
            self.batch = 0;
            while self.batch < TURN_COMPLETIONS
                && let Some(completion) = self.completions.next()
            {
                self.handle(now, &completion);
                self.batch += 1;
            }
            if now.mono_ms() >= next_tick_ms {
                next_tick_ms = now.mono_ms() + TICK_MS;
                self.shard.service.parts.counters.ring_overflows.set(u64::from(self.completions.overflow()));
                self.shard.handle_time(now);
                if self.open && !self.accepting {
                    self.accept();
                }
            }
            self.receive_starved();
            self.shard.handle_turn(now);
            if let Some(turn_ms) = self.shard.turn_ms() {
                next_tick_ms = next_tick_ms.min(now.mono_ms() + turn_ms);
            }
            if self.open {
                super::hold_back(self.listener, &mut self.shard, &mut self.backlog);
            }
            while let Some(id) = self.shard.poll_woken() {
                self.drive(now, id);
            }
            while let Some(other) = self.shard.poll_bell() {
                bells[other].ring();
            }
            self.buffers.publish();
            if self.shard.is_draining() {
                if self.shard.is_closed(now) {
                    self.stop_accepting(now);
                }
                // One that is accepted while that is cancelled is still ours.
                let is_accepting = self.accepting && self.shard.handed_on;
                if self.shard.is_drained(now, is_accepting) {
                    return Ok(());
                }
                // Draining ends by the clock, with connections or without.
                next_tick_ms = next_tick_ms.min(now.mono_ms() + TICK_MS);
            }
        }
    }

    /// Takes what has completed by now, and waits for nothing.
    fn submit_and_look(&mut self) -> io::Result<()> {
        /// `IORING_ENTER_GETEVENTS` of io_uring_enter(2): with `DEFER_TASKRUN` completions are only made in a call.
        const GET_EVENTS: u32 = 1;
        self.submissions.sync();
        let count = self.submissions.len() as u32;
        // SAFETY: no argument is passed.
        let result = unsafe { self.submitter.enter::<libc::sigset_t>(count, 0, GET_EVENTS, None) };
        self.submitted(result)
    }

    fn submit_and_wait(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.submissions.sync();
        let result = match wait {
            Some(wait) => {
                let time = types::Timespec::from(wait);
                let arguments = types::SubmitArgs::new().timespec(&time);
                // Under load a few microseconds bring several completions a system call; alone, none is waited for.
                if self.batches && self.batch >= BATCH_MIN {
                    let want = (self.batch / 2).min(BATCH_MAX);
                    self.submitter.submit_with_args(want, &arguments.min_wait_usec(BATCH_WAIT_US))
                } else {
                    self.submitter.submit_with_args(1, &arguments)
                }
            }
            None => self.submitter.submit_and_wait(1),
        };
        self.submitted(result)
    }

    fn submitted(&mut self, result: io::Result<usize>) -> io::Result<()> {
        // The time is over, a signal came, or completions must be taken first: all of them lead on.
        if let Err(error) = result
            && !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN))
        {
            return Err(error);
        }
        self.submissions.sync();
        self.completions.sync();
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: what each operation points to stays until its completion: buffers of the buffer ring and outputs
            // in `InFlight` are kept by `self`, which `run` forgets rather than drops while any is in flight.
            if unsafe { self.submissions.push(entry) }.is_ok() {
                return;
            }
            self.submissions.sync();
            // A failure leaves the queue full, and the next try tells; there is no other way out of a full queue.
            let _ = self.submitter.submit();
            self.submissions.sync();
        }
    }

    fn handle(&mut self, now: Now, completion: &cqueue::Entry) {
        match socket::operation(completion.user_data()) {
            Some(Operation::Accept) => self.accepted(now, completion),
            Some(Operation::Bell) => {
                // The pipe is emptied before the queue is looked at: a ring that comes between is heard again.
                while matches!(self.bell.read(&mut [0; 64]), Ok(1..)) {}
                self.shard.handle_messages(now);
                self.hear();
            }
            Some(Operation::Receive) => self.received(now, completion),
            Some(Operation::Send) if cqueue::notif(completion.flags()) => self.notified(completion),
            Some(Operation::Send) => self.sent(now, completion),
            Some(Operation::Cancel | Operation::Close) | None => {}
        }
    }

    fn accept(&mut self) {
        let entry = opcode::AcceptMulti::new(types::Fd(self.listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        self.push(&entry.user_data(user_data(Operation::Accept, NOBODY)));
        self.accepting = true;
    }

    fn accepted(&mut self, now: Now, completion: &cqueue::Entry) {
        // Without F_MORE the accept is over. The next tick arms it again, so that want of descriptors does not spin.
        self.accepting &= cqueue::more(completion.flags());
        if completion.result() >= 0 {
            self.open_socket(now, completion.result());
            if !self.accepting && self.open {
                self.accept();
            }
        } else if !self.open {
            // A connection wakes one accept, and nobody else if that was then cancelled.
            self.accept_waiting(now);
        } else if super::is_want(-completion.result()) {
            self.shard.service.parts.counters.connections_refused.add(1);
        }
    }

    fn open_socket(&mut self, now: Now, descriptor: RawFd) {
        // SAFETY: the descriptor was just accepted and is nobody else's.
        let accepted = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let Some(id) = self.shard.handle_accept(now, super::peer(&accepted)) else { return };
        self.sockets.insert_at(id, Socket { descriptor: accepted.into_raw_fd(), turn: true, ..Socket::default() });
        self.drive(now, id);
    }

    /// Takes the connections that the kernel has completed already, so that closing the listener resets none of them;
    /// where another process has it, they are that one's.
    fn stop_accepting(&mut self, now: Now) {
        if !self.open {
            return;
        }
        self.open = false;
        if self.shard.handed_on {
            let cancel = opcode::AsyncCancel::new(user_data(Operation::Accept, NOBODY)).build();
            return self.push(&cancel.user_data(user_data(Operation::Cancel, NOBODY)));
        }
        self.accept_waiting(now);
        shutdown(self.listener.as_raw_fd(), libc::SHUT_RDWR);
    }

    fn accept_waiting(&mut self, now: Now) {
        while let Ok((stream, _)) = self.listener.accept() {
            self.open_socket(now, stream.into_raw_fd());
        }
    }

    fn hear(&mut self) {
        let entry = opcode::PollAdd::new(types::Fd(self.bell.as_raw_fd()), libc::POLLIN as u32).build();
        self.push(&entry.user_data(user_data(Operation::Bell, NOBODY)));
    }

    /// The connection that a completion is about, unless that is over.
    fn socket(&mut self, completion: &cqueue::Entry) -> Option<(ConnectionId, &mut Socket)> {
        let found = self.sockets.get_by_slot_mut(socket::place(completion.user_data()));
        found.filter(|(id, _)| socket::is_of(completion.user_data(), *id))
    }

    fn receive(&mut self, id: ConnectionId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        let descriptor = types::Fd(socket.descriptor);
        let entry = if socket.lasting && !socket.demoted {
            socket.receiving = Receiving::Multi;
            opcode::RecvMulti::new(descriptor, GROUP).build()
        } else {
            socket.receiving = Receiving::Once;
            let receive = opcode::Recv::new(descriptor, std::ptr::null_mut(), 0).buf_group(GROUP).build();
            receive.flags(squeue::Flags::BUFFER_SELECT)
        };
        self.push(&entry.user_data(user_data(Operation::Receive, id)));
    }

    fn received(&mut self, now: Now, completion: &cqueue::Entry) {
        let length = usize::try_from(completion.result()).unwrap_or(0);
        // A buffer that was picked is ours to give back whatever becomes of the connection.
        let lent = cqueue::buffer_select(completion.flags()).map(|id| Lent::of(id, length));
        let more = cqueue::more(completion.flags());
        let Some((id, socket)) = self.socket(completion) else {
            return lent.into_iter().for_each(|lent| self.buffers.give_back(lent));
        };
        if !more {
            socket.receiving = Receiving::Nothing;
            socket.cancelling = false;
        }
        let (ending, descriptor) = (socket.ending.is_some(), socket.descriptor);
        if let Some(lent) = lent {
            if length > 0 && !ending {
                if self.shard.service.parts.admission.wants_age(now)
                    && let Some(age) = super::age(descriptor)
                {
                    self.shard.handle_age(now, id, age);
                }
                self.shard.handle_received(now, id, self.buffers.bytes(&lent));
                self.keep_turn(id);
            }
            self.buffers.give_back(lent);
        }
        if ending {
            return self.finish(id);
        }
        match completion.result() {
            1.. => self.drive(now, id),
            0 => {
                self.shard.handle_end(now, id);
                self.drive(now, id);
            }
            error if matches!(-error, libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN) => {
                self.starved.push(id);
            }
            _ => self.end(id, true),
        }
    }

    /// A connection that sends while it should wait for its answer loses the receive that stays armed: what it may
    /// then have in our memory is bounded by one buffer.
    fn keep_turn(&mut self, id: ConnectionId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.lasting = true;
        if !socket.turn && socket.receiving == Receiving::Multi && !socket.cancelling {
            socket.demoted = true;
            self.cancel_receive(id);
        }
    }

    fn cancel_receive(&mut self, id: ConnectionId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.cancelling = true;
        let entry = opcode::AsyncCancel::new(user_data(Operation::Receive, id)).build();
        self.push(&entry.user_data(user_data(Operation::Cancel, id)));
    }

    /// Arms what could not be armed for want of buffers; this batch has given some back.
    fn receive_starved(&mut self) {
        if self.starved.is_empty() {
            return;
        }
        self.buffers.publish();
        let now = now();
        // Driving one never starves another: what finds no buffer says so with the next batch.
        while let Some(id) = self.starved.pop() {
            self.drive(now, id);
        }
    }

    fn send(&mut self, id: ConnectionId, sending: InFlight) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        let sending = socket.sending.insert(sending);
        let descriptor = types::Fd(socket.descriptor);
        let uncopied = self.zerocopy.as_ref().is_some_and(|zerocopy| zerocopy.takes(&sending.output.body))
            && !*socket.local.get_or_insert_with(|| zerocopy::is_local(descriptor.0));
        let head = sending.head();
        // MSG_WAITALL lets the kernel finish a short send by itself.
        let entry = if uncopied && head.is_empty() {
            self.shard.service.parts.counters.zerocopy_sends.add(1);
            ZeroCopy::entry(descriptor.0, sending.body())
        } else if uncopied || sending.output.body.is_empty() {
            let more = if uncopied { libc::MSG_MORE } else { 0 };
            // A slot is 4 KiB, so its length fits.
            opcode::Send::new(descriptor, head.as_ptr(), head.len() as u32).flags(libc::MSG_WAITALL | more).build()
        } else {
            opcode::SendMsg::new(descriptor, sending.message(&mut self.pieces)).flags(libc::MSG_WAITALL as u32).build()
        };
        self.push(&entry.user_data(user_data(Operation::Send, id)));
    }

    /// The kernel has let go of a page.
    fn notified(&mut self, notification: &cqueue::Entry) {
        if notification.result().cast_unsigned() & zerocopy::COPIED != 0 {
            self.shard.service.parts.counters.zerocopy_copies.add(1);
            if self.zerocopy.take().is_some() {
                zerocopy::tell_end();
            }
        }
    }

    fn sent(&mut self, now: Now, completion: &cqueue::Entry) {
        let Some((id, socket)) = self.socket(completion) else { return };
        let Some(mut sending) = socket.sending.take() else { return };
        let length = usize::try_from(completion.result()).unwrap_or(0);
        let whole = sending.advance(length);
        let ending = socket.ending.is_some();
        if length > 0 && !whole && !ending {
            return self.send(id, sending);
        }
        if !whole || ending {
            socket.unsent = Some(sending.output);
            self.pieces.extend(sending.pieces);
            return self.end(id, true);
        }
        self.pieces.extend(sending.pieces);
        self.shard.handle_sent(now, id, sending.output);
        self.drive(now, id);
    }

    /// Does what the shard wants next for a connection.
    fn drive(&mut self, now: Now, id: ConnectionId) {
        loop {
            let Some(socket) = self.sockets.get_mut(id) else { return };
            if socket.ending.is_some() {
                return;
            }
            let (descriptor, receiving) = (socket.descriptor, socket.receiving);
            let next = self.shard.poll(now, id);
            socket.turn = matches!(next, Next::Receive | Next::ReceiveOrWake);
            match next {
                Next::Receive | Next::ReceiveOrWake if receiving == Receiving::Nothing => return self.receive(id),
                Next::Receive | Next::ReceiveOrWake | Next::Wait => return,
                Next::Send(output) => return self.send(id, InFlight::new(output)),
                Next::ShutdownWrite => shutdown(descriptor, libc::SHUT_WR),
                Next::Close => return self.end(id, false),
            }
        }
    }

    /// Ends a connection: what is in flight is made to return, and when all has, the socket closes.
    fn end(&mut self, id: ConnectionId, failed: bool) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.ending.get_or_insert(failed);
        self.finish(id);
    }

    fn finish(&mut self, id: ConnectionId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if socket.sending.is_some() {
            return shutdown(socket.descriptor, libc::SHUT_RDWR);
        }
        if socket.receiving != Receiving::Nothing {
            if !socket.cancelling {
                self.cancel_receive(id);
            }
            return;
        }
        let Some(socket) = self.sockets.remove(id) else { return };
        let close = opcode::Close::new(types::Fd(socket.descriptor)).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(&close.user_data(user_data(Operation::Close, id)));
        self.shard.handle_closed(id, socket.ending == Some(true), socket.unsent);
    }
}
