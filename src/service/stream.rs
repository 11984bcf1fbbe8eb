//! A body of lines (NDJSON) of any length, answered a line at a time, in order, while it still arrives.
//!
//! A [`Stream`] is what one connection keeps of such a request: the line that has not ended, and what is known of the
//! lines that are not answered yet. Both are bounded: the connection reads no further while
//! [`Stream::takes_input`] says no. The status of the answer waits for the first line's result, so that a request of
//! which nothing could be taken is refused as a whole, and one of a single line has its 200 after its sync.

use std::collections::VecDeque;
use std::sync::Arc;

use super::counters::EndReason;
use super::problem::{self, Problem};
use super::reply::Reply;
use super::scan::ScanLine;
use super::writes::{Asker, LineResult, StatusWrite, Statuses};
use super::{Answer, Ask, Route, Service, owner_of};
use crate::http::response::ResponseBuffer;
use crate::limits::{STREAM_LINE_BYTES_MAX, STREAM_LINES_MAX};
use crate::words::Now;

/// No answer to a line is longer: a number, a result, the longest type.
const LINE_ANSWER_BYTES_MAX: usize = 160;
/// What a chunk and the end of the body need besides the lines.
const CHUNK_BYTES: usize = b"000\r\n\r\n0\r\n\r\n".len();

/// How the audit calls a stream of statements.
pub(super) const RESIDENTS: &str = "POST /admin/residents";

/// What the lines are.
#[derive(Clone)]
pub(super) enum Kind {
    /// Statements about residents, by this caller.
    Residents { author: Arc<str> },
    /// Scans that this device made.
    Scans { device: Arc<str> },
}

/// The state of one such request.
pub struct Stream {
    pub(super) kind: Kind,
    /// What has arrived of the line that has not ended, behind whole lines that are yet to be looked at.
    pub input: Vec<u8>,
    /// The line is too long: it is passed over up to its end.
    skipping: bool,
    /// Lines seen.
    lines: u64,
    /// The line whose result stands first in `results`; 0 is what precedes the lines.
    first: u64,
    results: VecDeque<Option<LineResult>>,
    /// Lines that were answered `done`.
    done: u64,
    /// How many of `results` are not known.
    unknown: usize,
    /// The head is written.
    opened: bool,
    /// The whole body has arrived.
    whole: bool,
    /// Nothing more is read, and why.
    failed: Option<Problem>,
}

/// How far an answer is.
pub enum Written {
    /// More is to come, or must wait for room.
    Open,
    /// All of it is written, and the connection goes on.
    Whole,
    /// It ended with this; the connection ends too.
    Failed(EndReason),
}

impl Stream {
    /// `awaited`: something must be durable before any line is answered.
    pub(super) fn new(kind: Kind, awaited: bool) -> Stream {
        let results = if awaited { VecDeque::from([None]) } else { VecDeque::new() };
        let first = u64::from(!awaited);
        let unknown = results.len();
        let (input, skipping, lines, opened, whole) = (Vec::new(), false, 0, false, false);
        let (done, failed) = (0, None);
        Stream { kind, input, skipping, lines, first, results, done, unknown, opened, whole, failed }
    }

    /// Whether more of the body may be read now.
    pub fn takes_input(&self) -> bool {
        !self.whole && self.failed.is_none() && self.results.len() < STREAM_LINES_MAX
    }

    /// Whether a line waits for its result.
    pub fn is_waiting(&self) -> bool {
        self.unknown > 0
    }

    /// Nothing more is read: what was taken is still answered, then the answer ends with this.
    pub fn fail(&mut self, problem: Problem) {
        if !self.whole {
            self.failed.get_or_insert(problem);
        }
    }

    /// Results that have not come in time are given up: nobody knows of those lines, and to send them again is harmless.
    pub fn give_up(&mut self, problem: &'static Problem) {
        if self.first == 0 && self.results.front() == Some(&None) {
            return self.refuse(*problem);
        }
        for result in self.results.iter_mut().filter(|result| result.is_none()) {
            *result = Some(LineResult::Error(problem));
        }
        self.failed.get_or_insert(*problem);
        self.unknown = 0;
    }

    /// Takes an answer for some of its lines, or for what precedes them.
    pub fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Lines(lines) => lines.into_iter().for_each(|(line, result)| self.set(line, result)),
            Answer::Done => self.set(0, LineResult::Silent),
            other => self.refuse(other.problem()),
        }
    }

    /// What precedes the lines has failed: nothing is told of any of them.
    fn refuse(&mut self, problem: Problem) {
        self.failed = Some(problem);
        self.results.clear();
        self.unknown = 0;
    }

    fn set(&mut self, line: u64, result: LineResult) {
        let place = line.checked_sub(self.first).and_then(|at| self.results.get_mut(usize::try_from(at).ok()?));
        if let Some(place @ None) = place {
            *place = Some(result);
            self.unknown -= 1;
        }
    }

    /// Counts another line, whose result is or is not known, and gives its number.
    fn add(&mut self, result: Option<LineResult>) -> u64 {
        self.lines += 1;
        self.unknown += usize::from(result.is_none());
        self.results.push_back(result);
        self.lines
    }

    pub(super) fn route(&self) -> Route {
        match self.kind {
            Kind::Residents { .. } => Route::Residents,
            Kind::Scans { .. } => Route::ScanRecords,
        }
    }

    /// Why the request can be refused as a whole: nothing of it was taken, and its first line could not be.
    fn refusal(&self) -> Option<Problem> {
        let first = self.results.iter().flatten().find(|result| **result != LineResult::Silent)?.unavailable()?;
        let is_untaken = |result: LineResult| result == LineResult::Silent || result.unavailable().is_some();
        self.results.iter().all(|result| result.is_some_and(is_untaken)).then_some(first)
    }
}

/// What the lines of one piece of a body come to.
#[derive(Default)]
struct Batch {
    writes: Vec<(u64, StatusWrite)>,
    scans: Vec<(u64, ScanLine)>,
}

impl Batch {
    /// One ask for each owner of the residents in it.
    fn statuses(self, author: &Arc<str>, shards: usize, asks: &mut VecDeque<Ask>) {
        let mut owners = vec![Vec::new(); shards];
        for (line, write) in self.writes {
            owners[owner_of(write.resident, shards)].push((line, write));
        }
        for (owner, lines) in owners.into_iter().enumerate().filter(|(_, lines)| !lines.is_empty()) {
            asks.push_back(Ask::Statuses(Box::new(Statuses { owner, author: author.clone(), lines })));
        }
    }
}

/// `{"line":7,"result":"done"}`, and nothing for a line that was empty.
fn write_line(out: &mut ResponseBuffer, line: u64, result: LineResult) {
    match result {
        LineResult::Silent => {}
        LineResult::Error(problem) => write_words(out, line, [ERROR, problem.word]),
        LineResult::Done => write_words(out, line, ["done", ""]),
        LineResult::Ignored => write_words(out, line, ["ignored", ""]),
        LineResult::Retry => write_words(out, line, ["retry", ""]),
    }
}

/// Before a problem's word.
const ERROR: &str = r#"error","type":"urn:onecode:problem:"#;

fn write_words(out: &mut ResponseBuffer, line: u64, words: [&str; 2]) {
    out.push(b"{\"line\":");
    out.number(line);
    for part in [",\"result\":\"", words[0], words[1], "\"}\n"] {
        out.push(part.as_bytes());
    }
}

impl Service {
    /// Looks at the lines that have arrived whole in `stream.input`; `whole` says that the body ends with them. What
    /// they need of other shards is added to `asks`.
    pub fn read_lines(&mut self, now: Now, asker: Asker, stream: &mut Stream, whole: bool, asks: &mut VecDeque<Ask>) {
        let input = std::mem::take(&mut stream.input);
        let kind = stream.kind.clone();
        let mut batch = Batch::default();
        let mut rest = &input[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if std::mem::take(&mut stream.skipping) {
                continue;
            }
            self.read_line(now, stream, &kind, line, &mut batch);
        }
        // A body that is whole ends its last line, whether or not that has a line end.
        let ends = whole || rest.len() > STREAM_LINE_BYTES_MAX;
        if ends && !rest.is_empty() && !stream.skipping {
            stream.skipping = !whole;
            self.read_line(now, stream, &kind, rest, &mut batch);
        }
        if ends || stream.skipping {
            rest = &[];
        }
        stream.whole |= whole;
        match &kind {
            Kind::Residents { author } => batch.statuses(author, self.parts.shards, asks),
            Kind::Scans { device } => {
                let received_ms = now.unix_ms;
                let records: Vec<_> =
                    batch.scans.iter().map(|(line, scan)| (*line, scan.record(received_ms, device))).collect();
                for (line, result) in self.write_scans(now, asker, &records) {
                    stream.set(line, result);
                }
            }
        }
        let read = input.len() - rest.len();
        stream.input = input;
        stream.input.drain(..read);
    }

    fn read_line(&mut self, now: Now, stream: &mut Stream, kind: &Kind, line: &[u8], batch: &mut Batch) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > STREAM_LINE_BYTES_MAX {
            stream.add(Some(LineResult::Error(&problem::LINE_TOO_LONG)));
            return;
        }
        if line.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            stream.add(Some(LineResult::Silent));
            return;
        }
        let read = match kind {
            Kind::Residents { .. } => {
                self.read_status(now, line).map(|write| batch.writes.push((stream.lines + 1, write)))
            }
            Kind::Scans { .. } => self.read_scan(now, line).map(|scan| batch.scans.push((stream.lines + 1, scan))),
        };
        stream.add(read.err().map(LineResult::Error));
    }

    /// Writes what can be told now, as far as there is room.
    pub fn write_lines(&mut self, stream: &mut Stream, reply: &mut Reply<'_>) -> Written {
        let over = stream.whole || stream.failed.is_some();
        if !stream.opened {
            if let Some(problem) = stream.refusal() {
                // What is behind the lines read so far is not looked at any more.
                reply.target.closes = true;
                self.refuse_route(stream.route(), problem, reply);
                return Written::Failed(EndReason::Closed);
            }
            while stream.results.front() == Some(&Some(LineResult::Silent)) {
                stream.results.pop_front();
                stream.first += 1;
            }
            match (stream.results.front(), stream.failed) {
                (Some(None), _) => return Written::Open,
                (None, Some(problem)) => {
                    reply.target.closes = true;
                    self.refuse_route(stream.route(), problem, reply);
                    return Written::Failed(problem.end);
                }
                (None, None) if !over => return Written::Open,
                _ => {}
            }
            self.count(stream.route(), 200);
            reply.open_lines();
            stream.opened = true;
        }
        let (chunked, now, asker) = (!reply.target.http10, reply.now, reply.asker);
        let out = reply.buffer();
        let open = chunked.then(|| out.open_chunk());
        let has_room = |out: &ResponseBuffer| out.room_bytes() >= LINE_ANSWER_BYTES_MAX + CHUNK_BYTES;
        while has_room(out)
            && let Some(Some(result)) = stream.results.front().copied()
        {
            write_line(out, stream.first, result);
            stream.done += u64::from(result == LineResult::Done);
            stream.results.pop_front();
            stream.first += 1;
        }
        let ended = over && stream.results.is_empty() && has_room(out);
        if ended && let Some(problem) = &stream.failed {
            write_words(out, stream.first, [ERROR, problem.word]);
        }
        if let Some(open) = open {
            out.close_chunk(open);
        }
        if ended && let Kind::Residents { author } = &stream.kind {
            self.note(now, asker, author, RESIDENTS, &format!("{} of {} lines done", stream.done, stream.lines));
        }
        match (ended, stream.failed) {
            (false, _) => Written::Open,
            // Without its last chunk the answer shows that it was cut short (RFC 9112 §8).
            (true, Some(problem)) => Written::Failed(problem.end),
            (true, None) => {
                if chunked {
                    out.last_chunk();
                }
                Written::Whole
            }
        }
    }
}
