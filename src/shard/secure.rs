//! TLS around a connection: what comes is opened before [`Connection`] reads it, and what that answers is sealed on its
//! way out. All else, limits and timers included, stays with the connection.
//!
//! A handshake has the time of a head, counted from its first byte, and so has a record that does not come whole. What
//! is sent is sealed in pieces, so that a client that does not read holds one piece. Before the last byte of ours the
//! client is told that it is the last (close_notify), so that nobody can cut an answer short unseen.

use std::mem;
use std::sync::Arc;

use super::connection::{Buffers, Connection, Context, Next, send_deadline_ms};
use crate::http::proxy;
use crate::http::tls::{HandshakeKind, Server, Session};
use crate::limits::TLS_RECORD_BYTES_MAX;
use crate::service::Output;
use crate::service::counters::EndReason;
use crate::words::Now;

pub(super) struct Secure {
    server: Arc<Server>,
    /// From the first byte on, so that who sends nothing costs nothing.
    session: Option<Box<Session>>,
    /// Sealed, and not on its way yet.
    wire: Option<Output>,
    /// What is left to do when all is sent.
    last: Option<Next>,
    client: Option<Arc<str>>,
}

impl Secure {
    pub(super) fn new(server: Arc<Server>) -> Box<Secure> {
        Box::new(Secure { server, session: None, wire: None, last: None, client: None })
    }

    /// Opens what came; whether it was the client's last, or an error that ends the connection.
    fn open(&mut self, context: &mut Context<'_>, bytes: &[u8], plain: &mut Vec<u8>) -> Result<bool, EndReason> {
        let session = self.session.get_or_insert_with(|| Box::new(self.server.open(context.now)));
        if session.pending.capacity() == 0 {
            session.pending = context.buffers.tail();
        }
        let wire = self.wire.get_or_insert_with(|| context.buffers.wire());
        let was_handshaking = session.established.is_none();
        let received = session.receive(bytes, plain, &mut wire.head);
        if session.pending.is_empty() {
            context.buffers.give_tail(mem::take(&mut session.pending));
        }
        if wire.is_empty()
            && let Some(wire) = self.wire.take()
        {
            context.buffers.give_slot(wire);
        }
        let reason = if was_handshaking { EndReason::Handshake } else { EndReason::Malformed };
        let has_ended = received.map_err(|_| reason)?;
        if was_handshaking && let Some(kind) = session.established {
            self.client = session.client_name();
            let counters = &context.service.parts.counters;
            match kind {
                HandshakeKind::Resumed => counters.tls_resumed_handshakes.add(1),
                _ => counters.tls_full_handshakes.add(1),
            }
        }
        Ok(has_ended)
    }

    /// Seals what is to be sent, up to a record's worth, and says what the driver is to do. Nothing is in flight.
    fn next(&mut self, connection: &mut Connection, now: Now, buffers: &mut Buffers) -> Next {
        let mut next = if self.last.is_some() { Next::Wait } else { connection.poll(now) };
        if let Next::Send(mut output) = next {
            let body_bytes = TLS_RECORD_BYTES_MAX - output.head.len();
            connection.rest = buffers.split(&mut output, body_bytes);
            let wire = self.wire.get_or_insert_with(|| buffers.wire());
            let parts: [&[u8]; 2] = [output.head.bytes().unwrap_or_default(), &output.body];
            let is_sealed = self
                .session
                .as_mut()
                .is_some_and(|session| parts.iter().all(|part| part.is_empty() || session.seal(part, &mut wire.head)));
            buffers.give_slot(output);
            next = if is_sealed { Next::Wait } else { return Next::Close };
        } else if matches!(next, Next::ShutdownWrite | Next::Close) {
            if let Some(session) = &mut self.session {
                session.seal(b"", &mut self.wire.get_or_insert_with(|| buffers.wire()).head);
            }
            self.last = Some(mem::replace(&mut next, Next::Wait));
        }
        match self.wire.take() {
            Some(wire) if !wire.is_empty() => {
                connection.sending = Some(send_deadline_ms(now, wire.bytes()));
                Next::Send(wire)
            }
            empty => {
                empty.into_iter().for_each(|wire| buffers.give_slot(wire));
                self.last.take().unwrap_or(next)
            }
        }
    }
}

impl Connection {
    /// [`handle_received`](Self::handle_received), of what the network brought.
    pub(super) fn handle_wire(&mut self, context: &mut Context<'_>, bytes: &[u8]) {
        if self.awaits_proxy {
            return self.handle_proxy(context, bytes);
        }
        let Some(mut secure) = self.secure.take_if(|_| self.linger.is_none()) else {
            return self.handle_received(context, bytes);
        };
        if self.peer_done {
            // RFC 8446 §6.1: what comes behind a close_notify is nothing.
            self.secure = Some(secure);
            return;
        }
        let mut plain = mem::take(&mut context.buffers.plain);
        let opened = secure.open(context, bytes, &mut plain);
        self.secure = Some(secure);
        match opened {
            Ok(ended) => {
                context.service.set_client(self.client(), self.address, self.is_proxied);
                if !plain.is_empty() {
                    self.handle_received(context, &plain);
                }
                if ended {
                    self.handle_end(context);
                }
                self.time_records(context.now);
            }
            Err(_) if proxy::is_begun(bytes) => self.end(context.now, EndReason::Proxy, true),
            Err(reason) => self.end(context.now, reason, true),
        }
        plain.clear();
        context.buffers.plain = plain;
    }

    /// [`poll`](Self::poll), for the driver.
    pub(super) fn poll_wire(&mut self, now: Now, buffers: &mut Buffers) -> Next {
        let Some(mut secure) = self.secure.take() else { return self.poll(now) };
        let next = match self.sending {
            Some(_) if self.aborted => Next::Close,
            Some(_) => Next::Wait,
            None => secure.next(self, now, buffers),
        };
        self.secure = Some(secure);
        next
    }

    /// Whether what the network brings is HTTP as it is.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.secure.is_none() && !self.awaits_proxy
    }

    /// Whether it speaks TLS and its handshake is not done.
    pub(super) fn is_handshaking(&self) -> bool {
        let secure = self.secure.as_ref();
        secure.is_some_and(|secure| secure.session.as_ref().is_none_or(|session| session.established.is_none()))
    }

    /// Bytes of a record that is not whole, which count as come.
    pub(super) fn pending_bytes(&self) -> u64 {
        let session = self.secure.as_ref().and_then(|secure| secure.session.as_ref());
        session.map_or(0, |session| session.pending.len() as u64)
    }

    /// The name in the client's certificate.
    pub(super) fn client(&self) -> Option<&Arc<str>> {
        self.secure.as_ref()?.client.as_ref()
    }

    /// A handshake, and a record in whose place a head could be, has the time of one.
    fn time_records(&mut self, now: Now) {
        if !self.is_handshaking() && self.pending_bytes() == 0 {
            if self.input.is_empty() {
                self.head_started_ms = None;
            }
        } else if self.arriving.is_none() && self.streaming.is_none() && self.ending.is_none() {
            self.head_started_ms.get_or_insert(now.mono_ms());
        }
    }
}
