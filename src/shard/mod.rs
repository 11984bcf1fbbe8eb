//! One pinned thread's share of the server, as a state machine: its connections, their deadlines, its mailbox, and the
//! end of it all.
//!
//! A driver owns a [`Shard`] and calls it from one thread. It never waits, reads no clock and touches no socket:
//!
//! - `handle_*` take what happened: a connection, bytes, an end, a finished send, time that passed, messages.
//! - [`poll`](Shard::poll) says what to do next for one connection; call it after each event of that connection.
//! - [`poll_woken`](Shard::poll_woken) names connections that changed without an event of their own; call `poll` for
//!   each of them after every `handle_time` and `handle_messages`.
//! - [`poll_bell`](Shard::poll_bell) names other shards to wake, because something lies in their queue.
//! - [`sleep_ms`](Shard::sleep_ms) says how long the driver may sleep.

#![forbid(unsafe_code)]

mod connection;
pub mod mailbox;
mod slab;
mod timers;

pub use connection::{EndReason, Next};
pub use slab::ConnectionId;

use connection::{Buffers, Connection, Context};
use mailbox::{Mailbox, Message};
use slab::Slab;
use timers::{TICK_MS, Wheel};

use crate::limits::{DRAIN_IDLE_MS_MAX, DRAIN_MS_MAX, IDLE_MS_MAX, SHARD_CONNECTIONS_MAX};
pub use crate::service::Output;
use crate::service::{Answer, Ask, Service};
use crate::words::Now;

/// The state machine of one shard.
pub struct Shard {
    service: Service,
    connections: Slab<Connection>,
    buffers: Buffers,
    timers: Wheel,
    mailbox: Mailbox,
    woken: Vec<ConnectionId>,
    /// When the process ends whatever is in flight, in monotonic milliseconds.
    drain_deadline_ms: Option<u64>,
}

impl Shard {
    /// A shard without connections.
    pub fn new(service: Service, mailbox: Mailbox, now: Now) -> Shard {
        Shard {
            service,
            connections: Slab::new(SHARD_CONNECTIONS_MAX),
            buffers: Buffers::new(),
            timers: Wheel::new(now.mono_ms(), SHARD_CONNECTIONS_MAX),
            mailbox,
            woken: Vec::new(),
            drain_deadline_ms: None,
        }
    }

    /// A connection was accepted. `None`: all places are taken, close it.
    pub fn handle_accept(&mut self, now: Now) -> Option<ConnectionId> {
        let Some(id) = self.connections.insert(Connection::new(now)) else {
            self.service.counters().refused.add(1);
            return None;
        };
        self.service.counters().accepted.add(1);
        self.service.counters().open.set(self.connections.len() as u64);
        self.rearm(now, id);
        Some(id)
    }

    /// Bytes were received. They are only lent: what is needed later is copied.
    pub fn handle_received(&mut self, now: Now, id: ConnectionId, bytes: &[u8]) {
        self.service.counters().received_bytes.add(bytes.len() as u64);
        let ask = self.with(now, id, |connection, context| connection.handle_received(context, bytes)).flatten();
        self.settle(now, id, ask);
    }

    /// The peer sends no more: a receive returned zero bytes.
    pub fn handle_end(&mut self, now: Now, id: ConnectionId) {
        self.with(now, id, |connection, _| connection.handle_end());
        self.rearm(now, id);
    }

    /// A send has ended, all of it.
    pub fn handle_sent(&mut self, now: Now, id: ConnectionId, output: Output) {
        self.service.counters().sent_bytes.add(output.bytes() as u64);
        let ask = self.with(now, id, |connection, context| connection.handle_sent(context, output)).flatten();
        self.settle(now, id, ask);
    }

    /// The socket is closed, by us or by a failure; the place is given back. `output` is a send that did not end.
    pub fn handle_closed(&mut self, id: ConnectionId, failed: bool, output: Option<Output>) {
        if let Some(output) = output {
            self.buffers.give_slot(output);
        }
        let Some(connection) = self.connections.remove(id) else { return };
        self.timers.clear(id.index);
        let reason = connection.retire(&mut self.buffers);
        let reason = if failed && reason == EndReason::Closed { EndReason::Failed } else { reason };
        self.service.counters().ended[reason as usize].add(1);
        self.service.counters().open.set(self.connections.len() as u64);
    }

    /// What to do next for a connection; [`Next::Close`] for one that is not there any more.
    pub fn poll(&mut self, now: Now, id: ConnectionId) -> Next {
        let Some(connection) = self.connections.get_mut(id) else { return Next::Close };
        let next = connection.poll(now);
        if !matches!(next, Next::Receive) {
            self.rearm(now, id);
        }
        next
    }

    /// The next connection that [`poll`](Self::poll) must be called for although nothing happened on its socket.
    pub fn poll_woken(&mut self) -> Option<ConnectionId> {
        self.woken.pop()
    }

    /// The next shard whose driver must be woken.
    pub fn poll_bell(&mut self) -> Option<usize> {
        self.mailbox.poll_bell()
    }

    /// Time has passed: deadlines are met.
    pub fn handle_time(&mut self, now: Now) {
        while let Some(index) = self.timers.expire(now.mono_ms()) {
            let Some(id) = self.connections.id_at(index as usize) else { continue };
            self.with(now, id, |connection, context| connection.handle_deadline(context));
            self.woken.push(id);
        }
    }

    /// Takes what other shards, or the signals' thread, have sent.
    pub fn handle_messages(&mut self, now: Now) {
        while let Some(message) = self.mailbox.receive() {
            match message {
                Message::Ask { from, connection, ask } => {
                    let answer = self.service.answer(now, ask);
                    // The asker's queue holds one message a waiting connection at most; should it be full all the
                    // same, that connection's client is answered by its own deadline.
                    let _ = self.mailbox.send(from, Message::Answer { connection, answer });
                }
                Message::Answer { connection, answer } => self.handle_answer(now, connection, answer),
                Message::Settings(settings) => self.service.set(settings),
                Message::Drain => self.drain(now),
            }
        }
    }

    fn handle_answer(&mut self, now: Now, id: ConnectionId, answer: Answer) {
        // Gone, or answered by its own deadline.
        if !self.connections.get_mut(id).is_some_and(|connection| connection.is_waiting()) {
            return;
        }
        let ask = self.with(now, id, |connection, context| {
            connection.handle_answer(context, answer);
            connection.consume_input(context)
        });
        self.settle(now, id, ask.flatten());
        // An earlier answer may still be on its way; its end asks for this one. To be woken then would cut it off.
        if self.connections.get_mut(id).is_some_and(|connection| !connection.is_sending()) {
            self.woken.push(id);
        }
    }

    /// No new connections from here on; each one is closed as soon as it has its answer.
    fn drain(&mut self, now: Now) {
        self.drain_deadline_ms.get_or_insert(now.mono_ms() + DRAIN_MS_MAX);
        self.service.set_draining();
        for index in 0..self.connections.index_end() {
            if let Some(id) = self.connections.id_at(index) {
                self.rearm(now, id);
            }
        }
    }

    /// Whether the driver is to stop accepting.
    pub fn is_draining(&self) -> bool {
        self.drain_deadline_ms.is_some()
    }

    /// Whether the driver may end: all is answered and closed on every shard, since any of them may need this one, or
    /// has had its time. To be asked at every tick, once no more connections are accepted.
    pub fn is_drained(&self, now: Now) -> bool {
        let Some(deadline_ms) = self.drain_deadline_ms else { return false };
        self.mailbox.all_done(self.connections.is_empty()) || now.mono_ms() >= deadline_ms
    }

    /// Whether the driver need not come back before something happens.
    pub fn is_timeless(&self) -> bool {
        !self.timers.is_armed() && !self.is_draining()
    }

    /// How long the driver may sleep; `None`: until something happens.
    pub fn sleep_ms(&self, now: Now) -> Option<u64> {
        let sleep_ms = self.timers.sleep_ms(now.mono_ms());
        // Other shards tell nobody when they are done.
        if self.is_draining() { Some(sleep_ms.unwrap_or(TICK_MS).min(TICK_MS)) } else { sleep_ms }
    }

    fn with<R>(
        &mut self,
        now: Now,
        id: ConnectionId,
        act: impl FnOnce(&mut Connection, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let connection = self.connections.get_mut(id)?;
        let draining = self.drain_deadline_ms.is_some();
        let mut context = Context { now, service: &mut self.service, buffers: &mut self.buffers, draining };
        Some(act(connection, &mut context))
    }

    /// Carries out what a request asked of the shard that owns its resident, and sets the deadline anew.
    fn settle(&mut self, now: Now, id: ConnectionId, mut ask: Option<Ask>) {
        while let Some(asked) = ask.take() {
            let owner = self.service.owner(&asked);
            let answer = if owner == self.mailbox.own() {
                self.service.answer(now, asked)
            } else {
                let message = Message::Ask { from: self.mailbox.own(), connection: id, ask: asked };
                match self.mailbox.send(owner, message) {
                    Ok(()) => break,
                    Err(_) => Answer::Busy,
                }
            };
            ask = self
                .with(now, id, |connection, context| {
                    connection.handle_answer(context, answer);
                    connection.consume_input(context)
                })
                .flatten();
        }
        self.rearm(now, id);
    }

    fn rearm(&mut self, now: Now, id: ConnectionId) {
        let idle_ms_max = if self.is_draining() { DRAIN_IDLE_MS_MAX } else { IDLE_MS_MAX };
        let Some(connection) = self.connections.get_mut(id) else { return };
        self.timers.set(id.index, connection.deadline_ms(now, idle_ms_max));
    }
}
