//! How an answer is written: status line and fields into the send slot, a small body behind, a large one beside them.

use std::sync::Arc;

use bytes::Bytes;

use super::asset_pack::Encoded;
use super::problem::Problem;
use super::{Asker, Outcome};
use crate::http::date::DATE_BYTES;
use crate::http::response::{ReplyTarget, ResponseBuffer, reason_phrase};
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

/// Writes one answer.
pub struct Reply<'a> {
    /// When what it answers came.
    pub(super) now: Now,
    pub(super) asker: Asker,
    pub(super) date: [u8; DATE_BYTES],
    pub(super) target: ReplyTarget,
    /// The allowed origin whose page asks, which may read the answer (Fetch, "CORS protocol").
    pub(super) origin: Option<Arc<str>>,
    /// What was answered; 0 so far.
    pub(super) status: u16,
    pub(super) output: &'a mut Output,
}

/// Fields of an answer: name and value.
pub type Fields<'a> = &'a [(&'a str, &'a str)];

impl Reply<'_> {
    /// An answer whose body, if any, is copied into the send slot.
    pub fn inline(&mut self, status: u16, fields: Fields<'_>, body: &[u8]) {
        let target = self.target;
        let out = self.start(status, fields);
        match status {
            // RFC 9110 §15.4.5: a 304 ends with its head, and would have to give the length of the 200.
            304 => out.end_head(),
            _ => out.body(target, &[body]),
        }
    }

    /// The one answer of the hot path: `head` is its fields with their line ends, its body is in two pieces.
    pub fn prepared(&mut self, head: &[u8], body: [&[u8]; 2]) {
        let target = self.target;
        let out = self.start(200, &[]);
        out.push(head);
        out.body(target, &body);
    }

    /// An answer whose body is sent from where it lies.
    pub fn shared(&mut self, status: u16, fields: Fields<'_>, body: Bytes) {
        self.start(status, fields);
        self.finish(body);
    }

    /// A document that no cache may keep.
    pub(super) fn document(&mut self, content_type: &str, document: impl Into<Bytes>) -> Outcome {
        self.shared(200, &[("Content-Type", content_type), ("Cache-Control", "no-store")], document.into());
        Outcome::Answered
    }

    /// A small one in JSON.
    pub(super) fn json(&mut self, document: &str) -> Outcome {
        let fields = [("Content-Type", "application/json"), ("Cache-Control", "no-store")];
        self.inline(200, &fields, document.as_bytes());
        Outcome::Answered
    }

    fn finish(&mut self, body: Bytes) {
        self.output.head.content_length(body.len() as u64);
        self.output.head.end_head();
        if !self.target.head_only {
            self.output.body = body;
        }
    }

    /// An answer of which all but the status line, the date, `fields` and the connection's fate lies ready: `rest` is its
    /// other fields, up to `head_bytes`, and its body.
    pub fn borrowed(&mut self, status: u16, fields: Fields<'_>, rest: impl Into<Bytes>, head_bytes: usize) {
        let rest = rest.into();
        self.start(status, fields);
        self.output.body = if self.target.head_only { rest.slice(..head_bytes.min(rest.len())) } else { rest };
    }

    /// A file that is as it was (RFC 9110 §15.4.5).
    pub fn unchanged(&mut self, fields: Fields<'_>, page: &Encoded) {
        let out = self.start(304, fields);
        out.push(&page.whole[..page.ends[0]]);
        out.end_head();
    }

    /// A part of a file (RFC 9110 §15.3.7), from its first byte to its last.
    pub fn part(&mut self, page: &Encoded, first: u64, last: u64) {
        let (body_at, length) = (page.ends[2], page.body().len());
        let out = self.start(206, &[]);
        out.push(&page.whole[..page.ends[1]]);
        out.field("Content-Range", format!("bytes {first}-{last}/{length}").as_bytes());
        // Within the body, which is in memory.
        self.finish(page.whole.slice(body_at + first as usize..=body_at + last as usize));
    }

    /// A refusal (RFC 9457). `members` are further members, as JSON without a leading comma.
    pub fn problem(&mut self, problem: Problem, retry_after_s: Option<u32>, fields: Fields<'_>, members: &str) {
        let (Problem { status, word, detail, .. }, target) = (problem, self.target);
        let out = self.start(status, &[("Content-Type", "application/problem+json"), ("Cache-Control", "no-store")]);
        if let Some(seconds) = retry_after_s {
            out.field("Retry-After", itoa::Buffer::new().format(seconds).as_bytes());
        }
        fields.iter().for_each(|(name, value)| out.field(name, value.as_bytes()));
        let (mut digits, comma) = (itoa::Buffer::new(), if members.is_empty() { "" } else { "," });
        let (title, status) = (reason_phrase(status), digits.format(status));
        let start = [r#"{"type":"urn:onecode:problem:"#, word, r#"","title":""#, title, r#"","status":"#, status];
        // Our own words, in which JSON escapes nothing.
        let end = [r#","detail":""#, detail, "\"", comma, members, "}"];
        out.body(target, [start, end].as_flattened());
    }

    /// Begins an answer of lines (NDJSON) of unknown length: a 200 in chunks (RFC 9112 §6.1 (6.1b, 6.1d, 6.1e), §6.2 (6.2a)).
    pub(super) fn open_lines(&mut self) {
        self.start(200, &[("Content-Type", "application/x-ndjson"), ("Cache-Control", "no-store")]);
        if !self.target.http10 {
            self.output.head.field("Transfer-Encoding", b"chunked");
        }
        self.output.head.end_head();
    }

    #[inline(always)]
    fn start(&mut self, status: u16, fields: Fields<'_>) -> &mut ResponseBuffer {
        self.status = status;
        let head = &mut self.output.head;
        head.start(status, &self.date, self.target);
        if let Some(origin) = &self.origin {
            head.field("Access-Control-Allow-Origin", origin.as_bytes());
            // A page takes the server's time from `Date`.
            head.push(b"Access-Control-Expose-Headers: Date, Retry-After\r\nVary: Origin\r\n");
        }
        for (name, value) in fields {
            head.field(name, value.as_bytes());
        }
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::date::imf_fixdate;
    use crate::service::problem::ALL;

    #[test]
    fn every_problem_is_json_with_its_type() {
        for problem in ALL {
            let mut output = Output::new(ResponseBuffer::default());
            let (now, target) = (Now { unix_ms: 0, mono_us: 0 }, ReplyTarget::unreadable(b""));
            let mut reply = Reply {
                now,
                asker: Asker { shard: 0, connection: super::super::NOBODY },
                status: 0,
                date: imf_fixdate(0),
                origin: None,
                target,
                output: &mut output,
            };
            reply.problem(*problem, Some(7), &[("Allow", "GET, HEAD")], "\"limit\":4096");
            let text = str::from_utf8(output.head.bytes().unwrap()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {} ", problem.status)), "{head}");
            for field in [
                "Content-Type: application/problem+json",
                "Retry-After: 7",
                "Allow: GET, HEAD",
                "Connection: close",
                &format!("Content-Length: {}", body.len()),
            ] {
                assert!(head.lines().any(|line| line == field), "{field} in {head}");
            }
            let json: serde_json::Value = serde_json::from_str(body).unwrap();
            let expected = serde_json::json!({
                "type": format!("urn:onecode:problem:{}", problem.word),
                "title": reason_phrase(problem.status),
                "status": problem.status,
                "detail": problem.detail,
                "limit": 4_096,
            });
            assert_eq!(json, expected);
        }
    }
}
