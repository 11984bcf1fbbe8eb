//! One connection: the requests framed out of its bytes, the answers gathered for it, and the time it still has.
//!
//! Requests are framed in the driver's own buffer, in place. Only the tail of a request that came in pieces is copied,
//! into a buffer that the connection has for as long as there is a tail, so that an idle connection owns none. Answers
//! to pipelined requests are gathered into one send slot, in order, and one send is in flight at a time.

use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;

use super::crowd::Crowd;
use super::holds::Holds;
use super::secure::Secure;
use crate::http::body::{Body, BodyError};
use crate::http::head::{self, Framing, Head, Version};
use crate::http::proxy;
use crate::http::response::{CONTINUE, ResponseBuffer};
use crate::limits::{
    BODY_LEAST_BYTES_PER_S, BODY_MS_MAX, CONNECTION_AGE_MS_MAX, CONNECTION_REQUESTS_MAX, EGRESS_PIECE_BYTES,
    HEAD_BYTES_MAX, HEAD_MS_MAX, INLINE_ANSWER_BYTES_MAX, LINGER_BYTES_MAX, LINGER_MS_MAX, RECEIVE_BYTES_MAX,
    SEND_LEAST_BYTES_PER_S, SEND_SLOT_BYTES, SEND_STALL_MS_MAX, STREAM_INPUT_BYTES_MAX, TLS_WIRE_BYTES,
    UNSENT_BYTES_MAX,
};
use crate::service::counters::EndReason;
use crate::service::problem::{self, Problem};
use crate::service::{
    Answer, Ask, Asker, Begin, Outcome, Output, Pending, Reply, ReplyTarget, Role, Service, Stream, Written,
};
use crate::words::Now;

/// What the driver is to do next for a connection.
pub enum Next {
    /// Receive, and hand in what came.
    Receive,
    /// Receive, but ask again when the shard names the connection: it may have something to send meanwhile.
    ReceiveOrWake,
    /// Send all of this, then hand it back.
    Send(Output),
    /// Nothing; the shard will name the connection when there is something.
    Wait,
    /// Say that no more will be sent (`shutdown(2)`, `SHUT_WR`), then ask again.
    ShutdownWrite,
    /// Close the socket and give the place back.
    Close,
}

/// A request whose body is still arriving, head and all, since the driver's buffer is only lent.
pub(super) struct Arriving {
    head: Vec<u8>,
    body: Body,
    bytes: Vec<u8>,
    bytes_max: u64,
    started_ms: u64,
}

/// What an idle connection costs here; the driver has as much again at most, and the kernel far more.
const _: () = assert!(size_of::<Connection>() <= 384);

/// Buffers of each kind that a shard starts with, and of those for sealed bytes that it keeps.
const READY: usize = 64;
/// A tail: the longest head that is not whole, and what comes next.
const TAIL_BYTES: usize = HEAD_BYTES_MAX + RECEIVE_BYTES_MAX;

/// Buffers that go round: send slots, and tails of split requests.
pub(super) struct Buffers {
    slots: Vec<ResponseBuffer>,
    tails: Vec<Vec<u8>>,
    /// For sealed bytes on their way out.
    wires: Vec<ResponseBuffer>,
    /// What sealed bytes held.
    pub(super) plain: Vec<u8>,
}

impl Buffers {
    /// Enough of both that an ordinary load finds them made; a heavier one makes what it needs once, and keeps it.
    pub(super) fn new() -> Buffers {
        let slots = (0..READY).map(|_| ResponseBuffer::default()).collect();
        let tails = (0..READY).map(|_| Vec::with_capacity(TAIL_BYTES)).collect();
        Buffers { slots, tails, wires: Vec::new(), plain: Vec::new() }
    }

    pub(super) fn slot(&mut self) -> Output {
        Output::new(self.slots.pop().unwrap_or_default())
    }

    pub(super) fn wire(&mut self) -> Output {
        Output::new(self.wires.pop().unwrap_or_else(|| ResponseBuffer::with_bytes(TLS_WIRE_BYTES)))
    }

    /// Takes back an output of either kind.
    pub(super) fn give_slot(&mut self, mut output: Output) {
        output.head.clear();
        if output.head.room_bytes() == SEND_SLOT_BYTES {
            self.slots.push(output.head);
        } else if self.wires.len() < READY {
            self.wires.push(output.head);
        }
    }

    /// Takes what is behind so many bytes of the body off an output, to be sent next.
    pub(super) fn split(&mut self, output: &mut Output, bytes: usize) -> Option<Box<Output>> {
        let is_long = output.body.len() > bytes;
        is_long.then(|| Box::new(Output { body: output.body.split_off(bytes), ..self.slot() }))
    }

    pub(super) fn tail(&mut self) -> Vec<u8> {
        self.tails.pop().unwrap_or_default()
    }

    /// Those that a stream has made large are let go.
    pub(super) fn give_tail(&mut self, mut tail: Vec<u8>) {
        if (1..=2 * TAIL_BYTES).contains(&tail.capacity()) {
            tail.clear();
            self.tails.push(tail);
        }
    }
}

/// What a connection works with while it handles an event.
pub(super) struct Context<'a> {
    pub now: Now,
    pub asker: Asker,
    pub service: &'a mut Service,
    pub buffers: &'a mut Buffers,
    /// What is asked of owners, once the event is handled.
    pub asks: &'a mut VecDeque<Ask>,
    /// Connections with more lines than the shard takes in this turn, and what it still takes, in bytes.
    pub sliced: &'a mut VecDeque<super::ConnectionId>,
    pub slice_bytes: &'a mut usize,
    pub crowd: &'a mut Crowd,
    pub holds: &'a mut Holds,
    pub draining: bool,
}

#[derive(Default)]
pub(super) struct Connection {
    pub(super) opened_ms: u64,
    requests: u32,
    /// TLS, where the listener speaks it.
    pub(super) secure: Option<Box<Secure>>,
    /// What it counts for in the crowd.
    pub(super) address: Option<IpAddr>,
    /// It is a trusted balancer's.
    pub(super) is_proxied: bool,
    /// A header of the PROXY protocol must come first.
    pub(super) awaits_proxy: bool,
    /// It is one too many: why it is refused.
    pub(super) refused: Option<Problem>,
    /// Bytes of requests not yet handled, when the driver's buffer could not hold on to them.
    pub(super) input: Vec<u8>,
    pub(super) head_started_ms: Option<u64>,
    pub(super) arriving: Option<Box<Arriving>>,
    /// A request that is read and answered line by line.
    pub(super) streaming: Option<Box<Stream>>,
    /// What waits to be sent; not what is being sent.
    pub(super) output: Option<Output>,
    pub(super) sending: Option<u64>,
    /// A request that waits for another shard.
    waiting: Option<Waiting>,
    /// No further request is read; close once all is sent.
    pub(super) ending: Option<EndReason>,
    /// Bytes of ours might still be on their way to a peer that is still sending: close only once it stopped.
    pub(super) linger: Option<Linger>,
    /// The driver is to ask for it, and has not yet.
    pub(super) is_woken: bool,
    /// There is more of a stream in `input` than this turn takes: the shard comes back for it.
    pub(super) is_sliced: bool,
    /// It is not read for now; and since when what came meanwhile, or the request that was told to, waits.
    pub(super) is_held: bool,
    pub(super) held_since_ms: Option<u64>,
    /// Since when it is read, in monotonic milliseconds; 0 for a new one, which may have waited to be accepted.
    pub(super) reading_since_ms: Option<u64>,
    /// What counts as sent already, so that those who ask next find less room.
    pub(super) prepaid_bytes: usize,
    /// What comes behind that which is being sent, or was: a long body goes out in pieces where there is a budget, or TLS.
    pub(super) rest: Option<Box<Output>>,
    /// The peer said that it sends no more.
    pub(super) peer_done: bool,
    pub(super) aborted: bool,
}

struct Waiting {
    pending: Pending,
    target: ReplyTarget,
    deadline_ms: u64,
}

#[derive(Default)]
pub(super) struct Linger {
    shut: bool,
    deadline_ms: u64,
    bytes: usize,
}

impl Connection {
    pub(super) fn new(now: Now) -> Connection {
        Connection { opened_ms: now.mono_ms(), reading_since_ms: Some(0), ..Connection::default() }
    }

    /// Takes what was received. What a request needs that is not whole yet is kept.
    pub(super) fn handle_received(&mut self, context: &mut Context<'_>, bytes: &[u8]) {
        if let Some(linger) = &mut self.linger {
            linger.bytes += bytes.len();
            self.aborted |= linger.bytes > LINGER_BYTES_MAX;
            return;
        }
        if self.is_held {
            self.held_since_ms.get_or_insert(context.now.mono_ms());
        }
        if self.input.is_empty() {
            let consumed = self.consume(context, bytes);
            if consumed < bytes.len() && self.ending.is_none() {
                self.input = context.buffers.tail();
                self.input.extend_from_slice(&bytes[consumed..]);
            }
            return;
        }
        self.input.extend_from_slice(bytes);
        self.go_on_reading(context);
    }

    /// Goes on with what was kept, unless the shard will.
    fn go_on_reading(&mut self, context: &mut Context<'_>) {
        if !self.is_sliced {
            self.consume_input(context);
        }
    }

    pub(super) fn consume_input(&mut self, context: &mut Context<'_>) {
        self.is_sliced = false;
        if self.input.is_empty() {
            return;
        }
        let mut input = mem::take(&mut self.input);
        let consumed = self.consume(context, &input);
        if consumed == input.len() || self.ending.is_some() {
            context.buffers.give_tail(input);
        } else {
            input.drain(..consumed);
            self.input = input;
        }
        self.end_lines(context);
    }

    /// Handles every whole request in `data` for which there is room, and says how many bytes they took.
    fn consume(&mut self, context: &mut Context<'_>, data: &[u8]) -> usize {
        let mut at = 0;
        while at < data.len() && !self.is_sliced && self.takes_input() {
            let taken = match (self.streaming.is_some(), self.arriving.take()) {
                (true, _) => self.consume_lines(context, &data[at..]),
                (false, Some(arriving)) => self.consume_body(context, arriving, &data[at..]),
                (false, None) => self.consume_head(context, &data[at..]),
            };
            at += taken;
            if taken == 0 {
                break;
            }
        }
        if at < data.len() && self.ending.is_some() {
            self.start_linger(context.now);
        }
        at
    }

    fn consume_head(&mut self, context: &mut Context<'_>, data: &[u8]) -> usize {
        let head = match head::parse(data) {
            Ok(Some(head)) => head,
            Ok(None) => {
                let since_ms = self.head_started_ms.unwrap_or(context.now.mono_ms());
                // RFC 9112 §2.2: an empty line after an answer is no beginning of a head.
                self.head_started_ms = (self.requests == 0 || data != b"\r\n").then_some(since_ms);
                return 0;
            }
            Err(error) => {
                let problem = Problem::unreadable(error.told());
                // What a balancer would say; this is a stranger.
                let end = if proxy::is_begun(data) { EndReason::Proxy } else { problem.end };
                self.refuse(context, Problem { end, ..problem }, ReplyTarget::unreadable(data));
                return data.len();
            }
        };
        self.head_started_ms = None;
        if let Some(problem) = self.refused {
            let target = context.service.target(&head, true);
            self.refuse(context, problem, target);
            return data.len();
        }
        if let Some(taken) = self.put_off(context, &head, data) {
            return taken;
        }
        self.requests = self.requests.saturating_add(1);
        let length = match head.framing {
            Framing::None | Framing::Length(0) => {
                self.serve(context, &head, b"");
                return head.bytes;
            }
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        let limit = match self.begin(context, &head) {
            Begin::Body { bytes_max } => bytes_max,
            Begin::Stream(stream) => {
                if head.expect_continue && data.len() == head.bytes {
                    self.slot(context.buffers).head.push(CONTINUE);
                }
                self.begin_lines(context, &head, stream);
                return head.bytes;
            }
            // RFC 9112 §9.3 (9.3b): answered without its body having been read, so the connection ends.
            Begin::Answered => return data.len(),
        };
        if length.is_some_and(|length| length > limit as u64) {
            let target = context.service.target(&head, true);
            self.refuse(context, Problem::unreadable(BodyError::TooLarge.told()), target);
            return data.len();
        }
        let rest = &data[head.bytes..];
        if let Some(body) = length.and_then(|length| rest.get(..length as usize)) {
            self.serve(context, &head, body);
            return head.bytes + body.len();
        }
        if head.expect_continue && rest.is_empty() {
            self.slot(context.buffers).head.push(CONTINUE);
        }
        self.arriving = Some(Box::new(Arriving {
            head: data[..head.bytes].to_vec(),
            body: Body::new(head.framing),
            bytes: Vec::new(),
            bytes_max: limit as u64,
            started_ms: context.now.mono_ms(),
        }));
        head.bytes
    }

    fn consume_body(&mut self, context: &mut Context<'_>, mut arriving: Box<Arriving>, data: &[u8]) -> usize {
        match arriving.body.decode(data, &mut arriving.bytes, arriving.bytes_max) {
            Ok(consumed) if arriving.body.is_done() => {
                let Ok(Some(head)) = head::parse(&arriving.head) else {
                    unreachable!("a head that was parsed once parses again")
                };
                self.serve(context, &head, &arriving.bytes);
                consumed
            }
            Ok(consumed) => {
                self.arriving = Some(arriving);
                consumed
            }
            Err(error) => {
                self.refuse(context, Problem::unreadable(error.told()), ReplyTarget::unreadable(&arriving.head));
                data.len()
            }
        }
    }

    fn begin_lines(&mut self, context: &mut Context<'_>, head: &Head<'_>, stream: Box<Stream>) {
        // The answer has no length when it begins: one to HTTP/1.0 ends with its connection.
        let target = context.service.target(head, self.is_spent(context) || head.version == Version::HTTP_10);
        self.streaming.insert(stream).target = target;
    }

    /// Takes more of the body; the lines that are whole now are on their way to their owners.
    /// No more than a slice at a turn, so that refreshes need not wait behind batches.
    fn consume_lines(&mut self, context: &mut Context<'_>, data: &[u8]) -> usize {
        let Some(stream) = &mut self.streaming else { return 0 };
        let slice = &data[..data.len().min(*context.slice_bytes)];
        let consumed = context.service.read_lines(context.now, context.asker, stream, slice, context.asks);
        *context.slice_bytes -= consumed;
        self.is_sliced = consumed < data.len() && stream.takes_input();
        if self.is_sliced {
            context.sliced.push_back(context.asker.connection);
        }
        self.write_lines(context);
        consumed
    }

    /// Writes what answers are there, unless a send is in flight or a slice is to come: the end of either asks again.
    fn write_lines(&mut self, context: &mut Context<'_>) {
        if self.is_sliced || self.sending.is_some() || self.ending.is_some() {
            return;
        }
        let Some(stream) = &mut self.streaming else { return };
        let target = stream.target;
        let output = self.output.get_or_insert_with(|| context.buffers.slot());
        let mut reply = context.service.reply(context.now, context.asker, target, output);
        let reason = match context.service.write_lines(stream, &mut reply) {
            Written::Open => return,
            Written::Whole => target.closes.then_some(EndReason::Closed),
            Written::Failed(reason) => Some(reason),
        };
        self.streaming = None;
        if let Some(reason) = reason {
            self.end(context.now, reason, true);
        }
    }

    /// Whether bytes that have arrived may be looked at now.
    fn takes_input(&self) -> bool {
        match &self.streaming {
            Some(stream) => self.ending.is_none() && stream.takes_input(),
            None => self.takes_requests(),
        }
    }

    /// Whether another request may be handled now: there is room for its answer, nothing before it is unanswered (RFC 9112
    /// §9.3.2 (9.3.2a)), and none before it was the last (§9.6 (9.6b, 9.6d)).
    fn takes_requests(&self) -> bool {
        let room = self
            .output
            .as_ref()
            .is_none_or(|output| output.body.is_empty() && output.head.room_bytes() >= INLINE_ANSWER_BYTES_MAX);
        room && self.sending.is_none() && self.waiting.is_none() && self.ending.is_none() && !self.is_held
    }

    /// Bytes that wait to be sent, of a long body those of its first piece.
    #[inline]
    pub(super) fn ready_bytes(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output.head.len() + output.body.len().min(EGRESS_PIECE_BYTES))
    }

    /// Whether a part of an answer was sent, and the next one is to be.
    #[inline]
    pub(super) fn has_rest(&self) -> bool {
        self.sending.is_none() && self.rest.is_some()
    }

    pub(super) fn slot(&mut self, buffers: &mut Buffers) -> &mut Output {
        self.output.get_or_insert_with(|| buffers.slot())
    }

    pub(super) fn reply(&mut self, context: &mut Context<'_>, target: ReplyTarget) -> Reply<'_> {
        context.service.reply(context.now, context.asker, target, self.slot(context.buffers))
    }

    /// Whether the answer to this request is to be the connection's last.
    pub(super) fn is_spent(&self, context: &Context<'_>) -> bool {
        context.draining
            || context.service.parts.role == Role::Redirect
            || self.requests >= CONNECTION_REQUESTS_MAX
            || context.now.mono_ms().saturating_sub(self.opened_ms) >= CONNECTION_AGE_MS_MAX
    }

    fn begin(&mut self, context: &mut Context<'_>, head: &Head<'_>) -> Begin {
        let target = context.service.target(head, true);
        let mut reply = self.reply(context, target);
        let begin = context.service.begin(head, &mut reply);
        if matches!(begin, Begin::Answered) {
            self.end(context.now, EndReason::Closed, true);
        }
        begin
    }

    #[inline(always)]
    fn serve(&mut self, context: &mut Context<'_>, head: &Head<'_>, body: &[u8]) {
        let target = context.service.target(head, self.is_spent(context));
        let mut reply = self.reply(context, target);
        let outcome = context.service.handle(head, body, &mut reply);
        // A client that did not ask for the end may have sent more already.
        self.go_on(context, outcome, target, head.keep_alive);
    }

    fn go_on(&mut self, context: &mut Context<'_>, outcome: Outcome, target: ReplyTarget, linger: bool) {
        let pending = match outcome {
            Outcome::Answered => {
                if target.closes {
                    self.end(context.now, EndReason::Closed, linger);
                }
                return;
            }
            Outcome::Ask(ask, pending) => {
                context.asks.push_back(ask);
                pending
            }
            Outcome::Wait(pending) => pending,
        };
        let deadline_ms = context.now.mono_ms() + pending.wait_ms_max;
        self.waiting = Some(Waiting { pending, target, deadline_ms });
    }

    /// Whether a request of it waits for another shard or for the journal.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some() || self.streaming.is_some()
    }

    /// Whether it has something new to do although nothing happened on its socket.
    pub(super) fn is_to_be_woken(&self) -> bool {
        let silent =
            self.streaming.is_some() && self.ending.is_none() && self.output.as_ref().is_none_or(Output::is_empty);
        self.sending.is_none() && !silent
    }

    /// The answer that a waiting request needed; then what came behind that request.
    pub(super) fn handle_answer(&mut self, context: &mut Context<'_>, answer: Answer) {
        if let Some(stream) = &mut self.streaming {
            stream.take(context.now, answer);
            self.write_lines(context);
        } else if let Some(Waiting { pending, target, .. }) = self.waiting.take() {
            let mut reply = self.reply(context, target);
            let outcome = context.service.resume(pending, answer, &mut reply);
            self.go_on(context, outcome, target, true);
        }
        self.go_on_reading(context);
    }

    fn refuse(&mut self, context: &mut Context<'_>, problem: Problem, target: ReplyTarget) {
        let mut reply = self.reply(context, target);
        context.service.refuse(problem, &mut reply);
        self.end(context.now, problem.end, true);
    }

    pub(super) fn end(&mut self, now: Now, reason: EndReason, linger: bool) {
        self.ending.get_or_insert(reason);
        self.head_started_ms = None;
        if linger {
            self.start_linger(now);
        }
    }

    /// Nothing more is sent.
    pub(super) fn end_at_once(&mut self, now: Now, reason: EndReason) {
        self.end(now, reason, false);
        self.aborted = true;
    }

    /// More may be on its way to us, and closing on it would make the kernel reset what is on its way to the peer.
    fn start_linger(&mut self, now: Now) {
        if !self.peer_done && self.linger.is_none() {
            self.linger = Some(Linger { deadline_ms: now.mono_ms() + LINGER_MS_MAX, ..Linger::default() });
        }
    }

    pub(super) fn handle_end(&mut self, context: &mut Context<'_>) {
        self.peer_done = true;
        self.end_lines(context);
    }

    pub(super) fn receives_lines(&self) -> bool {
        self.takes_input() && self.input.len() < STREAM_INPUT_BYTES_MAX && !self.peer_done
    }

    /// A stream whose rest will not come has failed (RFC 9112 §6.3 (6.3d)); any other body that is not whole is forgotten.
    fn end_lines(&mut self, context: &mut Context<'_>) {
        if let Some(stream) = &mut self.streaming
            && self.peer_done
            && self.input.is_empty()
        {
            stream.fail(problem::BODY_TRUNCATED);
            self.write_lines(context);
        }
    }

    pub(super) fn handle_sent(&mut self, context: &mut Context<'_>, output: Output) {
        self.sending = None;
        context.buffers.give_slot(output);
        if let Some(linger) = &mut self.linger {
            linger.deadline_ms = context.now.mono_ms() + LINGER_MS_MAX;
        }
        if let Some(stream) = &mut self.streaming {
            // No driver need have received meanwhile.
            stream.excuse(context.now);
            self.write_lines(context);
        }
        self.go_on_reading(context);
    }

    #[inline(always)]
    pub(super) fn poll(&mut self, now: Now) -> Next {
        if self.aborted {
            return Next::Close;
        }
        if self.sending.is_some() {
            return Next::Wait;
        }
        if let Some(output) = self.rest.take().map(|rest| *rest).or_else(|| self.output.take()) {
            // An answer that does not fit its slot is an error of ours, and none of it is sent.
            if output.head.bytes().is_none() {
                self.output = Some(output);
                return Next::Close;
            }
            let bytes = output.bytes();
            if bytes > 0 {
                self.sending = Some(send_deadline_ms(now, bytes));
                return Next::Send(output);
            }
            self.output = Some(output);
        }
        if self.waiting.is_some() || (self.is_held && !self.peer_done && self.ending.is_none()) {
            return Next::Wait;
        }
        if self.streaming.is_some() && self.ending.is_none() {
            return if self.receives_lines() { Next::ReceiveOrWake } else { Next::Wait };
        }
        if self.ending.is_none() {
            return if self.peer_done { Next::Close } else { Next::Receive };
        }
        match &mut self.linger {
            Some(linger) if !linger.shut => {
                linger.shut = true;
                Next::ShutdownWrite
            }
            Some(_) if !self.peer_done => Next::Receive,
            _ => Next::Close,
        }
    }

    /// When, in monotonic milliseconds, [`handle_deadline`](Self::handle_deadline) is due.
    pub(super) fn deadline_ms(&self, idle_until_ms: u64) -> u64 {
        let body_ms = |arriving: &Arriving| {
            BODY_MS_MAX + (arriving.bytes.len() as u64 + self.pending_bytes()) * 1_000 / BODY_LEAST_BYTES_PER_S
        };
        let handshake =
            self.head_started_ms.filter(|_| self.is_handshaking()).map(|started_ms| started_ms + HEAD_MS_MAX);
        handshake
            .or(self.sending)
            .or_else(|| self.waiting.as_ref().map(|waiting| waiting.deadline_ms))
            .or_else(|| self.linger.as_ref().map(|linger| linger.deadline_ms))
            .or_else(|| {
                self.streaming
                    .as_ref()
                    .map(|stream| stream.deadline_ms() + self.pending_bytes() * 1_000 / BODY_LEAST_BYTES_PER_S)
            })
            .or_else(|| self.arriving.as_ref().map(|arriving| arriving.started_ms + body_ms(arriving)))
            .or_else(|| self.head_started_ms.map(|started_ms| started_ms + HEAD_MS_MAX))
            .unwrap_or(idle_until_ms)
    }

    /// The deadline has passed: a slow sender, and who waits for another shard, is told so; everything else ends.
    pub(super) fn handle_deadline(&mut self, context: &mut Context<'_>) {
        if self.sending.is_none()
            && let Some(Waiting { pending, .. }) = self.waiting.take()
        {
            // The connection ends with this: the other shard's answer may still come, and is none to a later request.
            let mut reply = self.reply(context, ReplyTarget::unreadable(b""));
            context.service.resume(pending, Answer::Refused(problem::BUSY), &mut reply);
            self.end(context.now, EndReason::Closed, true);
            return;
        }
        if let Some(stream) = &mut self.streaming
            && self.sending.is_none()
            && self.linger.is_none()
        {
            stream.handle_deadline(context.now);
            return self.write_lines(context);
        }
        // Who is still shaking hands, or a balancer, could not read a refusal.
        if self.sending.is_none() && self.linger.is_none() && !self.is_handshaking() && !self.awaits_proxy {
            if let Some(arriving) = self.arriving.take() {
                return self.refuse(context, problem::BODY_TIMED_OUT, ReplyTarget::unreadable(&arriving.head));
            }
            if self.head_started_ms.is_some() {
                let input = mem::take(&mut self.input);
                self.refuse(context, problem::HEAD_TIMED_OUT, ReplyTarget::unreadable(&input));
                return context.buffers.give_tail(input);
            }
        }
        let slow = self.sending.is_some() || self.head_started_ms.is_some();
        let reason = if slow { EndReason::Slow } else { EndReason::Idle };
        self.ending.get_or_insert(reason);
        self.aborted = true;
    }

    /// Gives back what it borrowed and says why it ended.
    pub(super) fn retire(self, buffers: &mut Buffers) -> EndReason {
        buffers.give_tail(self.input);
        for output in self.rest.map(|rest| *rest).into_iter().chain(self.output) {
            buffers.give_slot(output);
        }
        self.ending.unwrap_or(EndReason::Closed)
    }
}

/// When a send of so many bytes must be done, behind those that the kernel holds, in monotonic milliseconds. Who takes
/// nothing meanwhile is ended by the kernel before.
pub(super) fn send_deadline_ms(now: Now, bytes: usize) -> u64 {
    now.mono_ms() + SEND_STALL_MS_MAX + (u64::from(UNSENT_BYTES_MAX) + bytes as u64) * 1_000 / SEND_LEAST_BYTES_PER_S
}
