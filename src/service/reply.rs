//! How an answer is written: status line and fields into the send slot, a small body behind them, a large one beside
//! them.

use bytes::Bytes;

use super::Asker;
use super::problem::Problem;
use crate::http::date::DATE_BYTES;
use crate::http::head::{Head, Method, Version};
use crate::http::response::{self, Answer, Persistence, ResponseBuffer};
use crate::words::Now;

/// What goes out in one send: heads with small bodies behind them, and at most one large body, borrowed or shared.
/// It belongs to the driver while the send is in flight and then comes back to the shard.
pub struct Output {
    /// Heads and small bodies, gathered.
    pub head: ResponseBuffer,
    /// Sent behind `head`; empty for most answers.
    pub body: Bytes,
}

impl Output {
    /// An empty output over a send slot.
    pub fn new(head: ResponseBuffer) -> Output {
        Output { head, body: Bytes::new() }
    }

    /// Whether nothing is to be sent.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.body.is_empty()
    }

    /// All bytes, head and body.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// What an answer must respect, whatever it says.
#[derive(Clone, Copy)]
pub struct ReplyTarget {
    persistence: Persistence,
    head_only: bool,
    http10: bool,
}

impl ReplyTarget {
    /// For a request that could not be read further than this. To HEAD nothing but a head is said (RFC 9110 §9.3.2).
    pub fn unreadable(request: &[u8]) -> ReplyTarget {
        ReplyTarget {
            persistence: Persistence::Closes,
            head_only: request.trim_ascii_start().starts_with(b"HEAD "),
            http10: false,
        }
    }

    /// For this request, where `closing` is the server's own wish.
    pub fn new(head: &Head<'_>, closing: bool) -> ReplyTarget {
        let http10 = head.version == Version::Http10;
        ReplyTarget { persistence: Persistence::of(head, closing), head_only: head.method == Method::Head, http10 }
    }

    /// For this request, whose answer has no length when it begins: one to HTTP/1.0 ends with its connection.
    pub fn streaming(head: &Head<'_>, closing: bool) -> ReplyTarget {
        ReplyTarget::new(head, closing || head.version == Version::Http10)
    }

    /// Whether the connection ends with this answer.
    pub fn closes(self) -> bool {
        self.persistence == Persistence::Closes
    }
}

/// Writes one answer.
pub struct Reply<'a> {
    /// When what it answers came.
    pub(super) now: Now,
    /// Who waits for it.
    pub(super) asker: Asker,
    pub(super) date: [u8; DATE_BYTES],
    pub(super) target: ReplyTarget,
    pub(super) output: &'a mut Output,
}

/// Fields of an answer: name and value.
pub type Fields<'a> = &'a [(&'a str, &'a str)];

impl Reply<'_> {
    /// An answer whose body, if any, is copied into the send slot.
    pub fn inline(&mut self, status: u16, fields: Fields<'_>, body: &[u8]) {
        let (answer, output) = self.start(status, fields);
        match status {
            // RFC 9110 §15.4.5: a 304 ends with its head, and would have to give the length of the 200.
            304 => output.head.end_head(),
            _ => output.head.body(&answer, body),
        }
    }

    /// The one answer of the hot path: `head` is its fields with their line ends, its body is in two pieces.
    pub fn prepared(&mut self, head: &[u8], body: [&[u8]; 2]) {
        let (answer, Output { head: out, .. }) = self.parts();
        out.start(200, &answer);
        out.push(head);
        out.content_length((body[0].len() + body[1].len()) as u64);
        out.end_head();
        if !answer.head_only {
            out.push(body[0]);
            out.push(body[1]);
        }
    }

    /// An answer whose body is sent from where it lies.
    pub fn shared(&mut self, status: u16, fields: Fields<'_>, body: Bytes) {
        self.start(status, fields);
        self.finish(body);
    }

    fn finish(&mut self, body: Bytes) {
        self.output.head.content_length(body.len() as u64);
        self.output.head.end_head();
        if !self.target.head_only {
            self.output.body = body;
        }
    }

    /// An answer of which all but the status line, the date and the connection's fate lies ready: `rest` is its other
    /// fields, up to `head_bytes`, and its body.
    pub fn borrowed(&mut self, status: u16, rest: impl Into<Bytes>, head_bytes: usize) {
        let (rest, (answer, output)) = (rest.into(), self.start(status, &[]));
        output.body = if answer.head_only { rest.slice(..head_bytes.min(rest.len())) } else { rest };
    }

    /// A part of a file (RFC 9110 §15.3.7): the range is its first byte, its last, and the length of the whole.
    pub fn part(&mut self, fields: &[u8], range: (u64, u64, u64), part: &'static [u8]) {
        let (_, output) = self.start(206, &[]);
        output.head.push(fields);
        output.head.field("Content-Range", format!("bytes {}-{}/{}", range.0, range.1, range.2).as_bytes());
        self.finish(Bytes::from_static(part));
    }

    /// A refusal (RFC 9457). `members` are further members, as JSON without a leading comma.
    pub fn problem(&mut self, problem: Problem, retry_after_s: Option<u32>, fields: Fields<'_>, members: &str) {
        let Problem { status, word, detail, .. } = problem;
        let (answer, output) = self.parts();
        output.head.problem(&answer, &response::Problem { status, word, detail, members, retry_after_s, fields });
    }

    /// Begins an answer of lines (NDJSON), whose length nobody knows yet.
    pub(super) fn open_lines(&mut self) {
        self.start(200, &[("Content-Type", "application/x-ndjson"), ("Cache-Control", "no-store")]);
        if self.is_chunked() {
            self.output.head.field("Transfer-Encoding", b"chunked");
        }
        self.output.head.end_head();
    }

    /// The connection ends with this answer, whatever the client wants.
    pub(super) fn close(&mut self) {
        self.target.persistence = Persistence::Closes;
    }

    /// Whether such an answer is framed in chunks (RFC 9112 §6.1: not for HTTP/1.0).
    pub(super) fn is_chunked(&self) -> bool {
        !self.target.http10
    }

    /// Where it goes on.
    pub(super) fn buffer(&mut self) -> &mut ResponseBuffer {
        &mut self.output.head
    }

    fn start(&mut self, status: u16, fields: Fields<'_>) -> (Answer<'_>, &mut Output) {
        let (answer, output) = self.parts();
        output.head.start(status, &answer);
        for (name, value) in fields {
            output.head.field(name, value.as_bytes());
        }
        (answer, output)
    }

    fn parts(&mut self) -> (Answer<'_>, &mut Output) {
        let Reply { date, target, output, .. } = self;
        (Answer { date, persistence: target.persistence, head_only: target.head_only }, output)
    }
}
