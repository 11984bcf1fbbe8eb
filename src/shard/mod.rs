//! One pinned thread's share of the server, as a state machine: its connections, their deadlines, its mailbox, its end.
//!
//! A driver owns a [`Shard`] and calls it from one thread. It never waits, reads no clock and touches no socket:
//! `handle_*` take what happened, [`poll`](Shard::poll) says what to do next for a connection, to be asked after each
//! event of that connection, and the other `poll_*` after every `handle_time` and `handle_messages`.

#![forbid(unsafe_code)]

mod connection;
mod crowd;
mod holds;
pub mod mailbox;
mod secure;
mod timers;

use std::collections::VecDeque;
use std::net::IpAddr;

pub use crate::admission::Age;
pub use crate::service::{ConnectionId, NOBODY};
pub use connection::Next;

use connection::{Buffers, Connection, Context};
use crowd::Crowd;
use holds::Holds;
use mailbox::{Mailbox, Message};
use secure::Secure;
use thunderdome::Arena;
use timers::{Deadlines, NEVER};

use crate::limits::{
    DEADLINES_A_TURN, DRAIN_IDLE_MS_MAX, DRAIN_MS_MAX, EGRESS_PIECE_BYTES, IDLE_MS_MAX, REFUSED_CONNECTIONS_MAX,
    STREAM_SLICE_BYTES, STREAM_SLICES_A_RING,
};
pub use crate::service::Output;
use crate::service::counters::EndReason;
use crate::service::{Answer, Ask, Asker, Due, Role, Service, problem};
use crate::words::Now;

/// The state machine of one shard.
pub struct Shard {
    /// Its endpoints. A driver counts there what only it knows, and asks of the admission what is no connection's.
    pub service: Service,
    connections: Arena<Connection>,
    /// Beyond which connections are refused.
    connections_max: usize,
    crowd: Crowd,
    holds: Holds,
    buffers: Buffers,
    timers: Deadlines,
    /// More deadlines have passed than were looked at.
    is_late: bool,
    mailbox: Mailbox,
    woken: Vec<ConnectionId>,
    /// What the request at hand asks of owners.
    asks: VecDeque<Ask>,
    /// Who has sent more lines than this turn takes, in the order of their turns; and what it still takes.
    sliced: VecDeque<ConnectionId>,
    slice_bytes: usize,
    /// Turns in a row that left some of it.
    slices: usize,
    /// What another shard's queue had no room for; at most one for each ask that this shard has taken.
    unsent: VecDeque<(usize, Message)>,
    /// When the process ends whatever is in flight, in monotonic milliseconds.
    drain_deadline_ms: Option<u64>,
    /// Another process has the listener, or is about to: it is not to be shut down.
    pub handed_on: bool,
}

impl Shard {
    /// A shard without connections that takes so many of them at once.
    pub fn new(service: Service, mailbox: Mailbox, connections_max: usize, now: Now) -> Shard {
        let is_public = service.parts.role != Role::Admin;
        Shard {
            service,
            connections: Arena::with_capacity(connections_max + REFUSED_CONNECTIONS_MAX),
            connections_max,
            crowd: Crowd::new(if is_public { connections_max / 2 } else { connections_max }),
            holds: Holds::default(),
            buffers: Buffers::new(),
            timers: Deadlines::new(now.mono_ms(), connections_max + REFUSED_CONNECTIONS_MAX),
            is_late: false,
            mailbox,
            woken: Vec::new(),
            asks: VecDeque::new(),
            sliced: VecDeque::new(),
            slice_bytes: STREAM_SLICE_BYTES,
            slices: 0,
            unsent: VecDeque::new(),
            drain_deadline_ms: None,
            handed_on: false,
        }
    }

    /// A connection from `peer` was accepted. `None`: all places are taken, close it.
    pub fn handle_accept(&mut self, now: Now, peer: IpAddr) -> Option<ConnectionId> {
        let is_full = self.connections.len() - self.crowd.refused >= self.connections_max;
        let (mut connection, crowd) = (Connection::new(now), &mut self.crowd);
        connection.secure = self.service.tls().cloned().map(Secure::new);
        connection.is_proxied = self.service.trusts_proxy(peer);
        connection.awaits_proxy = connection.is_proxied && self.service.parts.settings.proxy_protocol;
        if !((connection.is_proxied || connection.enter(crowd, peer))
            && (!is_full || connection.is_one_too_many(crowd, problem::CONNECTIONS_FULL)))
        {
            connection.leave(crowd);
            self.service.parts.counters.connections_refused.add(1);
            return None;
        }
        let id = self.connections.insert(connection);
        self.service.parts.counters.connections_accepted.add(1);
        self.service.parts.counters.open.set(self.connections.len() as u64);
        Some(id)
    }

    /// How old what the driver has just received is, where the admission wants to know that: told before it is handed in.
    /// What came while the connection was not read, since it did not read itself, has not waited for us.
    pub fn handle_age(&mut self, now: Now, id: ConnectionId, age: Age) {
        let Some(connection) = self.connections.get(id) else { return };
        let reading_since_ms = connection.reading_since_ms;
        let waited_ms = reading_since_ms.map_or(0, |since_ms| now.mono_ms().saturating_sub(since_ms));
        let is_hello = connection.secure.is_some() && reading_since_ms == Some(0);
        let age = Age { ms: age.ms.min(waited_ms), ..age };
        self.service.parts.counters.sampled_waits.add(1);
        self.service.parts.counters.sampled_wait_ms.add(age.ms);
        if !self.service.parts.admission.handle_age(now, age, is_hello) {
            self.with(now, id, |connection, context| connection.drop_overdue(context));
        }
    }

    /// Bytes were received. They are only lent: what is needed later is copied.
    pub fn handle_received(&mut self, now: Now, id: ConnectionId, bytes: &[u8]) {
        self.service.parts.counters.received_bytes.add(bytes.len() as u64);
        self.with(now, id, |connection, context| {
            if connection.is_plain() {
                connection.handle_received(context, bytes);
            } else {
                connection.handle_wire(context, bytes);
            }
        });
        self.settle(now, id);
    }

    /// The peer sends no more: a receive returned zero bytes.
    pub fn handle_end(&mut self, now: Now, id: ConnectionId) {
        self.with(now, id, |connection, context| connection.handle_end(context));
        self.settle(now, id);
    }

    /// A send has ended, all of it.
    pub fn handle_sent(&mut self, now: Now, id: ConnectionId, output: Output) {
        self.service.parts.counters.sent_bytes.add(output.bytes() as u64);
        self.with(now, id, |connection, context| connection.handle_sent(context, output));
        self.settle(now, id);
    }

    /// The socket is closed, by us or by a failure; the place is given back. `output` is a send that did not end.
    pub fn handle_closed(&mut self, id: ConnectionId, failed: bool, output: Option<Output>) {
        if let Some(output) = output {
            self.buffers.give_slot(output);
        }
        let Some(connection) = self.connections.remove(id) else { return };
        connection.leave(&mut self.crowd);
        self.timers.set(id.slot(), NEVER);
        let reason = connection.retire(&mut self.buffers);
        let reason = if failed && reason == EndReason::Closed { EndReason::Failed } else { reason };
        self.service.parts.counters.ended[reason as usize].add(1);
        self.service.parts.counters.open.set(self.connections.len() as u64);
    }

    /// What to do next for a connection; [`Next::Close`] for one that is not there any more.
    pub fn poll(&mut self, now: Now, id: ConnectionId) -> Next {
        let Some(connection) = self.connections.get_mut(id) else { return Next::Close };
        let admission = &mut self.service.parts.admission;
        let is_bounded = admission.account.is_bounded;
        if is_bounded && connection.has_rest() && !connection.aborted && !admission.account.has_room(now) {
            if !std::mem::replace(&mut connection.is_held, true) {
                self.holds.parked.push_back((now.mono_ms(), id));
            }
            self.rearm(now, id);
            return Next::Wait;
        }
        // What goes out plainly is moved no more often than it must be.
        let mut next =
            if connection.is_plain() { connection.poll(now) } else { connection.poll_wire(now, &mut self.buffers) };
        if is_bounded && let Next::Send(output) = &mut next {
            connection.rest = self.buffers.split(output, EGRESS_PIECE_BYTES).or(connection.rest.take());
            let paid_bytes = connection.prepaid_bytes.min(output.bytes());
            connection.prepaid_bytes -= paid_bytes;
            admission.account.spend(now, output.bytes() - paid_bytes);
        }
        let is_reading = matches!(next, Next::Receive | Next::ReceiveOrWake);
        connection.reading_since_ms = is_reading.then(|| connection.reading_since_ms.unwrap_or(now.mono_ms()));
        self.rearm(now, id);
        next
    }

    /// The next connection that [`poll`](Self::poll) must be called for although nothing happened on its socket.
    pub fn poll_woken(&mut self) -> Option<ConnectionId> {
        let id = self.woken.pop()?;
        if let Some(connection) = self.connections.get_mut(id) {
            connection.is_woken = false;
        }
        Some(id)
    }

    /// The next shard whose driver must be woken; the number behind the last shard's is the journal's.
    pub fn poll_bell(&mut self) -> Option<usize> {
        let journal = self.mailbox.inboxes.len();
        // One sync for a batch rather than one for each slice of it.
        let rings = self.sliced.is_empty() || self.slices % STREAM_SLICES_A_RING == STREAM_SLICES_A_RING - 1;
        self.mailbox.poll_bell().or_else(|| (rings && self.service.poll_journal_bell()).then_some(journal))
    }

    /// Time has passed: deadlines are met.
    pub fn handle_time(&mut self, now: Now) {
        self.expire(now);
        self.send_unsent();
    }

    /// Some of the deadlines that have passed: thousands may at once, and requests need not wait behind all refusals.
    fn expire(&mut self, now: Now) {
        for _ in 0..DEADLINES_A_TURN {
            let Some(index) = self.timers.expire(now.mono_ms()) else { return };
            let Some(id) = self.connections.contains_slot(index) else { continue };
            self.with(now, id, |connection, context| connection.handle_deadline(context));
            self.wake(id);
        }
        self.is_late = true;
        self.mailbox.ring_own();
    }

    /// Takes what other shards, or the signals' thread, have sent, and what the journal has done.
    pub fn handle_messages(&mut self, now: Now) {
        self.send_unsent();
        while let Some(message) = self.mailbox.inboxes[self.mailbox.own].pop() {
            match message {
                Message::Ask { asker, ask } => {
                    if let Some(answer) = self.service.answer(now, asker, ask) {
                        self.reply(now, asker, answer);
                    }
                }
                Message::Answer { connection, answer } => self.handle_answer(now, connection, answer),
                Message::Settings(settings) => self.service.parts.settings = settings,
                Message::Alive(_) => {}
                Message::Drain => self.drain(now),
                Message::LetGo(told) => {
                    self.handed_on = true;
                    // Nobody hears it where the process is ending.
                    let _ = told.send((self.mailbox.own, self.service.let_go()));
                }
            }
        }
        while let Some((asker, due)) = self.service.poll_durable() {
            match due {
                Due::Answer(answer) => self.reply(now, asker, answer),
                Due::Ask(ask) => self.ask_owners(asker, &ask),
            }
        }
        if let Some((asker, answer)) = self.service.poll_purged(self.mailbox.own) {
            self.reply(now, asker, answer);
        }
        self.read_on(now);
        if std::mem::take(&mut self.is_late) {
            self.expire(now);
        }
        if self.service.is_purging() {
            self.mailbox.ring_own();
        }
    }

    /// Begins a turn for those who send lines: the first in the row come first.
    fn read_on(&mut self, now: Now) {
        self.slice_bytes = STREAM_SLICE_BYTES;
        while self.slice_bytes > 0
            && let Some(id) = self.sliced.pop_front()
        {
            let received = self.connections.get_mut(id).is_some_and(|connection| connection.receives_lines());
            self.with(now, id, Connection::consume_input);
            self.settle(now, id);
            self.rearm(now, id);
            let is_changed = |connection: &mut Connection| {
                connection.is_to_be_woken()
                    || (connection.sending.is_none() && connection.receives_lines() && !received)
            };
            if self.connections.get_mut(id).is_some_and(is_changed) {
                self.wake(id);
            }
        }
        self.slices = if self.sliced.is_empty() { 0 } else { self.slices + 1 };
    }

    fn reply(&mut self, now: Now, asker: Asker, answer: Answer) {
        if asker.shard == self.mailbox.own {
            self.handle_answer(now, asker.connection, answer);
        } else {
            self.send(asker.shard, Message::Answer { connection: asker.connection, answer });
        }
    }

    /// Sends what must not be lost; behind what waits already, so that nothing overtakes.
    fn send(&mut self, to: usize, message: Message) {
        self.unsent.push_back((to, message));
        self.send_unsent();
    }

    fn send_unsent(&mut self) {
        while let Some((to, message)) = self.unsent.pop_front() {
            if let Err(message) = self.mailbox.send(to, message) {
                self.unsent.push_front((to, message));
                return;
            }
        }
    }

    fn handle_answer(&mut self, now: Now, id: ConnectionId, answer: Answer) {
        // Gone, or answered by its own deadline.
        if !self.connections.get_mut(id).is_some_and(|connection| connection.is_waiting()) {
            return;
        }
        self.with(now, id, |connection, context| connection.handle_answer(context, answer));
        self.settle(now, id);
        self.rearm(now, id);
        // An earlier answer may still be on its way; its end asks for this one. To be woken then would cut it off.
        if self.connections.get_mut(id).is_some_and(|connection| connection.is_to_be_woken()) {
            self.wake(id);
        }
    }

    /// Names a connection to its driver, once however much happened: by the second time it may be sending.
    fn wake(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !std::mem::replace(&mut connection.is_woken, true) {
            self.woken.push(id);
        }
    }

    /// Each connection is closed as soon as it has its answer; new ones, see [`is_closed`](Self::is_closed).
    fn drain(&mut self, now: Now) {
        self.drain_deadline_ms.get_or_insert(now.mono_ms() + DRAIN_MS_MAX);
        self.service.draining = true;
        let all: Vec<_> = self.connections.iter().map(|(id, _)| id).collect();
        all.into_iter().for_each(|id| self.rearm(now, id));
    }

    /// Whether the process is ending.
    pub fn is_draining(&self) -> bool {
        self.drain_deadline_ms.is_some()
    }

    /// Whether the driver is to stop accepting. The admin listener goes on, while the others end, to say why.
    pub fn is_closed(&self, now: Now) -> bool {
        let Some(deadline_ms) = self.drain_deadline_ms else { return false };
        let is_last = self.service.parts.role == Role::Admin && !self.handed_on;
        !is_last || self.mailbox.others_done() || now.mono_ms() >= deadline_ms
    }

    /// Whether the driver may end: all is answered and closed on every shard, since any of them may need this one, or
    /// has had its time. To be asked at every tick; `is_accepting` while one more connection may come.
    pub fn is_drained(&self, now: Now, is_accepting: bool) -> bool {
        let Some(deadline_ms) = self.drain_deadline_ms else { return false };
        let is_done = !is_accepting && self.is_closed(now) && self.connections.is_empty();
        self.mailbox.all_done(is_done) || now.mono_ms() >= deadline_ms
    }

    /// Whether the driver need not come back before something happens.
    pub fn is_timeless(&mut self) -> bool {
        // Other shards tell nobody when they are done, and a brown-out ends by itself.
        self.connections.is_empty()
            && !self.is_draining()
            && self.service.parts.admission.shared.brownout.level(u64::MAX) == 0
    }

    fn with(&mut self, now: Now, id: ConnectionId, act: impl FnOnce(&mut Connection, &mut Context<'_>)) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let draining = self.drain_deadline_ms.is_some();
        let asker = Asker { shard: self.mailbox.own, connection: id };
        let (service, buffers, asks) = (&mut self.service, &mut self.buffers, &mut self.asks);
        service.set_client(connection.client(), connection.address, connection.is_proxied);
        let (sliced, slice_bytes) = (&mut self.sliced, &mut self.slice_bytes);
        let (crowd, holds) = (&mut self.crowd, &mut self.holds);
        let ready_bytes = connection.ready_bytes();
        act(
            connection,
            &mut Context { now, asker, service, buffers, asks, sliced, slice_bytes, crowd, holds, draining },
        );
        if self.service.parts.admission.account.is_bounded {
            let prepaid_bytes = connection.ready_bytes().saturating_sub(ready_bytes);
            connection.prepaid_bytes += prepaid_bytes;
            self.service.parts.admission.account.spend(now, prepaid_bytes);
        }
        if self.slice_bytes == 0 {
            self.mailbox.ring_own();
        }
    }

    /// Carries out what a request asked of the shards that own its residents.
    fn settle(&mut self, now: Now, id: ConnectionId) {
        let asker = Asker { shard: self.mailbox.own, connection: id };
        while let Some(ask) = self.asks.pop_front() {
            let Some(owner) = self.service.owner(&ask) else {
                self.ask_owners(asker, &ask);
                continue;
            };
            if let Some(answer) = self.ask(now, owner, asker, ask) {
                self.with(now, id, |connection, context| connection.handle_answer(context, answer));
            }
        }
    }

    /// Asks one owner, which may be this shard. `Some`: the answer is there already.
    fn ask(&mut self, now: Now, owner: usize, asker: Asker, ask: Ask) -> Option<Answer> {
        if owner == self.mailbox.own {
            return self.service.answer(now, asker, ask);
        }
        match self.mailbox.send(owner, Message::Ask { asker, ask }) {
            Err(Message::Ask { ask, .. }) => Some(ask.refused()),
            _ => None,
        }
    }

    /// Asks every owner. The asker is on the admin shard, which is none.
    fn ask_owners(&mut self, asker: Asker, ask: &Ask) {
        for owner in 0..self.service.parts.shards {
            self.send(owner, Message::Ask { asker, ask: ask.clone() });
        }
    }

    /// Sets the deadline anew: after each event that no [`poll`](Self::poll) need follow, and with each of those.
    fn rearm(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let idle_until_ms = if self.drain_deadline_ms.is_some() {
            now.mono_ms() + DRAIN_IDLE_MS_MAX
        } else {
            connection.reading_since_ms.unwrap_or(now.mono_ms()).max(connection.opened_ms) + IDLE_MS_MAX
        };
        self.timers.set(id.slot(), connection.deadline_ms(idle_until_ms));
    }
}
