//! A body of lines (NDJSON) of any length, answered a line at a time, in order, while it still arrives.
//!
//! A [`Stream`] is what one connection keeps of such a request: the line that has not ended, and what is known of the
//! lines that are not answered yet. Both are bounded: nothing is read while [`Stream::takes_input`] says no, and who
//! never reads is closed by the limit of a send. The status waits for the first line's result, so that a request
//! of which nothing could be taken is refused as a whole, and one of a single line has its 200 after its sync.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;

use super::counters::EndReason;
use super::problem::{self, Problem};
use super::reply::Reply;
use super::writes::{Asker, LineResult, StatusWrite, Statuses, Then};
use super::{Answer, Ask, Route, Service, owner_of};
use crate::http::body::Body;
use crate::http::head::Framing;
use crate::http::response::ReplyTarget;
use crate::limits::{ANSWER_MS_MAX, BODY_LEAST_BYTES_PER_S, BODY_MS_MAX, STREAM_LINE_BYTES_MAX, STREAM_LINES_MAX};
use crate::words::Now;

/// No answer to a line is longer: a number, a result, the longest type.
const LINE_ANSWER_BYTES_MAX: usize = 160;
/// What a chunk and the end of the body need besides the lines.
const CHUNK_BYTES: usize = b"000\r\n\r\n0\r\n\r\n".len();

/// How the audit calls a stream of statements.
pub(super) const RESIDENTS: &str = "POST /admin/residents";

/// The state of one such request.
pub struct Stream {
    /// What its lines are: statements about residents, or scans.
    route: Route,
    /// The caller who makes the statements, or the device that made the scans.
    author: Arc<str>,
    /// How it is answered.
    pub target: ReplyTarget,
    body: Body,
    /// What has arrived of the line that has not ended, behind whole lines that are yet to be looked at.
    input: Vec<u8>,
    /// The line is too long: it is passed over up to its end.
    skipping: bool,
    /// The line whose result stands first in `results`; 0 is what precedes the lines.
    first: u64,
    results: VecDeque<Option<LineResult>>,
    /// The head is written.
    opened: bool,
    /// Nothing more is read, and why.
    failed: Option<Problem>,
    /// More of the body must have come by then: what it may stall, and what its bytes have earned, up to as much again.
    body_deadline_ms: u64,
    /// Another line must be answered by then.
    answer_deadline_ms: u64,
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
    /// Of statements the call itself must be durable before any line is answered.
    pub(super) fn new(route: Route, author: Arc<str>, framing: Framing, reply: &Reply<'_>) -> Stream {
        Stream {
            route,
            author,
            target: reply.target,
            body: Body::new(framing),
            input: Vec::new(),
            skipping: false,
            first: 0,
            results: VecDeque::from([(route != Route::Residents).then_some(LineResult::Silent)]),
            opened: false,
            failed: None,
            body_deadline_ms: reply.now.mono_ms() + BODY_MS_MAX,
            answer_deadline_ms: reply.now.mono_ms() + ANSWER_MS_MAX,
        }
    }

    /// Whether more of the body may be read now.
    pub fn takes_input(&self) -> bool {
        !self.body.is_done() && self.failed.is_none() && self.results.len() < STREAM_LINES_MAX
    }

    fn is_waiting(&self) -> bool {
        self.results.iter().any(Option::is_none)
    }

    /// When, in monotonic milliseconds, the client or the journal is too late.
    pub fn deadline_ms(&self) -> u64 {
        let answer = self.is_waiting().then_some(self.answer_deadline_ms);
        let body = self.takes_input().then_some(self.body_deadline_ms);
        // One of them is due, or all is written and on its way.
        answer.into_iter().chain(body).min().unwrap_or(self.answer_deadline_ms)
    }

    /// The client has stalled, or the journal is late.
    pub fn handle_deadline(&mut self, now: Now) {
        if self.is_waiting() && now.mono_ms() >= self.answer_deadline_ms {
            self.give_up(&problem::JOURNAL_LATE);
        } else {
            self.fail(problem::BODY_TIMED_OUT);
        }
    }

    /// It was us who did not read.
    pub fn excuse(&mut self, now: Now) {
        self.body_deadline_ms = now.mono_ms() + BODY_MS_MAX;
    }

    /// Nothing more is read: what was taken is still answered, then the answer ends with this.
    pub fn fail(&mut self, problem: Problem) {
        if !self.body.is_done() {
            self.failed.get_or_insert(problem);
        }
    }

    /// Results that have not come in time are given up: nobody knows of those lines, and to send them again is harmless.
    fn give_up(&mut self, problem: &'static Problem) {
        if self.first == 0 && self.results.front() == Some(&None) {
            return self.refuse(*problem);
        }
        for result in self.results.iter_mut().filter(|result| result.is_none()) {
            *result = Some(LineResult::Error(problem));
        }
        self.failed.get_or_insert(*problem);
    }

    /// Takes an answer for some of its lines, or for what precedes them.
    pub fn take(&mut self, now: Now, answer: Answer) {
        if !self.takes_input() {
            self.excuse(now);
        }
        self.answer_deadline_ms = now.mono_ms() + ANSWER_MS_MAX;
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
    }

    fn set(&mut self, line: u64, result: LineResult) {
        let place = line.checked_sub(self.first).and_then(|at| self.results.get_mut(usize::try_from(at).ok()?));
        if let Some(place @ None) = place {
            *place = Some(result);
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
    /// Statements, by the owner of their residents.
    statuses: BTreeMap<usize, Vec<(u64, StatusWrite)>>,
    /// Scans that were appended, and the ticket of the last one.
    scans: Vec<(u64, LineResult)>,
    ticket: u64,
}

/// `{"line":7,"result":"done"}`, and nothing for a line that was empty.
fn write_line(told: &mut String, line: u64, result: LineResult) {
    let words = match result {
        LineResult::Silent => return,
        LineResult::Error(&problem::BUSY) => ["retry", ""],
        LineResult::Error(problem) => [ERROR, problem.word],
        LineResult::Done => ["done", ""],
        LineResult::Ignored => ["ignored", ""],
    };
    write_words(told, line, words);
}

/// Before a problem's word.
const ERROR: &str = r#"error","type":"urn:onecode:problem:"#;

fn write_words(told: &mut String, line: u64, [result, word]: [&str; 2]) {
    *told += &format!("{{\"line\":{line},\"result\":\"{result}{word}\"}}\n");
}

impl Service {
    /// Takes more of the body, and looks at the lines that have arrived whole. What they need of other shards is added to
    /// `asks`. Says how many bytes it took.
    pub fn read_lines(
        &mut self,
        now: Now,
        asker: Asker,
        stream: &mut Stream,
        data: &[u8],
        asks: &mut VecDeque<Ask>,
    ) -> usize {
        let taken = match stream.body.decode(data, &mut stream.input, u64::MAX) {
            Ok(taken) => taken,
            Err(error) => {
                stream.fail(Problem::unreadable(error.told()));
                return data.len();
            }
        };
        let earned_ms = taken as u64 * 1_000 / BODY_LEAST_BYTES_PER_S;
        stream.body_deadline_ms = (stream.body_deadline_ms + earned_ms).min(now.mono_ms() + BODY_MS_MAX);
        if !stream.is_waiting() {
            stream.answer_deadline_ms = now.mono_ms() + ANSWER_MS_MAX;
        }
        let input = mem::take(&mut stream.input);
        let (mut batch, mut read) = (Batch::default(), 0);
        for line in input.split_inclusive(|byte| *byte == b'\n') {
            // A body that is whole ends its last line, whether or not that has a line end.
            let ends = stream.body.is_done() || line.ends_with(b"\n");
            if !ends && !stream.skipping && line.len() <= STREAM_LINE_BYTES_MAX {
                break;
            }
            if !mem::replace(&mut stream.skipping, !ends) {
                let result = self.read_line(now, stream, line, &mut batch).err();
                stream.results.push_back(result);
            }
            read += line.len();
        }
        for (owner, lines) in batch.statuses {
            asks.push_back(Ask::Statuses(Box::new(Statuses { owner, author: stream.author.clone(), lines })));
        }
        if !batch.scans.is_empty() {
            self.wait(now, batch.ticket, asker, Then::Lines(batch.scans));
        }
        stream.input = input;
        stream.input.drain(..read);
        taken
    }

    /// Takes a line into the batch, unless its result is known at once.
    fn read_line(&mut self, now: Now, stream: &Stream, line: &[u8], batch: &mut Batch) -> Result<(), LineResult> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > STREAM_LINE_BYTES_MAX {
            return Err(LineResult::Error(&problem::LINE_TOO_LONG));
        }
        if line.trim_ascii().is_empty() {
            return Err(LineResult::Silent);
        }
        let number = stream.first + stream.results.len() as u64;
        if stream.route == Route::ScanRecords {
            batch.ticket = self.take_scan(now, line, &stream.author)?;
            batch.scans.push((number, LineResult::Done));
        } else {
            let write = self.read_status(now, line)?;
            let owner = owner_of(write.resident, self.parts.shards);
            batch.statuses.entry(owner).or_default().push((number, write));
        }
        Ok(())
    }

    /// Writes what can be told now, as far as there is room.
    pub fn write_lines(&mut self, stream: &mut Stream, reply: &mut Reply<'_>) -> Written {
        let over = stream.body.is_done() || stream.failed.is_some();
        if !stream.opened {
            while stream.results.front() == Some(&Some(LineResult::Silent)) {
                stream.results.pop_front();
                stream.first += 1;
            }
            let is_empty = stream.results.is_empty();
            if let Some(problem) = stream.refusal().or(stream.failed.filter(|_| is_empty)) {
                // What is behind the lines read so far is not looked at any more.
                reply.target.closes = true;
                self.conclude(stream.route, Err(problem), reply);
                return Written::Failed(problem.end);
            }
            if stream.results.front() == Some(&None) || (is_empty && !over) {
                return Written::Open;
            }
            reply.open_lines();
            self.parts.counters.count_answer(stream.route, reply.status);
            stream.opened = true;
        }
        let chunked = !reply.target.http10;
        let out = &mut reply.output.head;
        let (mut told, room) = (String::new(), out.room_bytes());
        let has_room = |told: &str| room >= told.len() + LINE_ANSWER_BYTES_MAX + CHUNK_BYTES;
        while has_room(&told)
            && let Some(Some(result)) = stream.results.front().copied()
        {
            write_line(&mut told, stream.first, result);
            stream.results.pop_front();
            stream.first += 1;
        }
        let ended = over && stream.results.is_empty() && has_room(&told);
        if ended && let Some(problem) = &stream.failed {
            write_words(&mut told, stream.first, [ERROR, problem.word]);
        }
        if chunked && !told.is_empty() {
            out.chunk(told.as_bytes());
        } else {
            out.push(told.as_bytes());
        }
        match (ended, stream.failed) {
            (false, _) => Written::Open,
            // Without its last chunk the answer shows that it was cut short (RFC 9112 §8).
            (true, Some(problem)) => Written::Failed(problem.end),
            (true, None) => {
                if chunked {
                    out.chunk(b"");
                }
                Written::Whole
            }
        }
    }
}
