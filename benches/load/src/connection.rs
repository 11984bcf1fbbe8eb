//! One connection: at most one request on it at a time, and just enough HTTP/1.1 to find the end of its answer.

use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use crate::stream::{Dial, Stream};

/// What came of letting a connection go on.
pub enum Event {
    /// It waits for the network.
    Pending,
    /// The whole answer is there.
    Answered {
        /// Its status.
        status: u16,
        /// Head and body.
        bytes: usize,
        /// Lines of the body that say `"result":"done"`.
        done: usize,
        /// When its request was due.
        due: Instant,
    },
    /// The request has failed and the connection is closed.
    Failed(Failure),
    /// The server closed it between two requests.
    Ended,
}

/// Why a request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// No connection, or it broke.
    Broken,
    /// The server closed it before the answer was whole.
    Closed,
    /// The answer has no length, or is not HTTP.
    Malformed,
    /// No answer in time.
    Timeout,
}

impl Failure {
    /// Their names in the report, in order.
    pub const NAMES: [&str; 4] = ["broken", "closed", "malformed", "timeout"];
}

/// One connection, open or not.
pub struct Connection {
    dial: Dial,
    stream: Option<Stream>,
    request: Vec<u8>,
    written: usize,
    /// The answer so far, of a long one the start.
    answer: Vec<u8>,
    /// Bytes of it that were read and are not kept.
    dropped: usize,
    /// What its head says, once that is whole.
    head: Option<Head>,
    /// When the request in progress was due.
    due: Option<Instant>,
    /// When the last one was all sent.
    sent: Option<Instant>,
}

/// What is kept of an answer whose length is known: thousands of pages may be on their way at once.
const KEPT_BYTES: usize = 65_536;

/// What the head of an answer says.
struct Head {
    status: u16,
    /// Head and body; `None` if the body comes in chunks.
    bytes: Option<usize>,
    closes: bool,
}

impl Head {
    /// Whether `answer` and what was dropped of it have all of the body. Of chunks only the last is looked for: no line
    /// of ours holds its bytes.
    fn is_whole(&self, answer: &[u8], dropped: usize) -> bool {
        self.bytes.map_or_else(|| answer.ends_with(b"\r\n0\r\n\r\n"), |bytes| dropped + answer.len() >= bytes)
    }
}

fn occurrences(text: &[u8], wanted: &[u8]) -> usize {
    text.windows(wanted.len()).filter(|part| *part == wanted).count()
}

impl Connection {
    /// A connection to be opened with its first request.
    pub fn new(dial: Dial) -> Connection {
        let (request, answer) = (Vec::new(), Vec::new());
        Connection { dial, stream: None, request, written: 0, answer, dropped: 0, head: None, due: None, sent: None }
    }

    /// Begins a request; `advance` carries it on.
    pub fn start(
        &mut self,
        registry: &Registry,
        token: Token,
        due: Instant,
        write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.stream.is_none() {
            self.stream = Some(Stream::connect(&self.dial, registry, token)?);
        }
        self.request.clear();
        write(&mut self.request)?;
        self.written = 0;
        self.answer.clear();
        (self.dropped, self.head) = (0, None);
        (self.due, self.sent) = (Some(due), None);
        Ok(())
    }

    /// Goes on as far as the network allows.
    pub fn advance(&mut self) -> Event {
        match self.exchange() {
            Ok(event) => event,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                Event::Pending
            }
            Err(_) => self.fail(Failure::Broken),
        }
    }

    fn exchange(&mut self) -> io::Result<Event> {
        let Some(stream) = &mut self.stream else { return Ok(Event::Pending) };
        while self.due.is_some() && self.written < self.request.len() {
            self.written += stream.write(&self.request[self.written..])?;
            if self.written == self.request.len() {
                self.sent = Some(Instant::now());
            }
        }
        let mut buffer = [0; 16_384];
        loop {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Ok(self.fail(Failure::Closed));
            }
            let Some(due) = self.due else { return Ok(self.fail(Failure::Malformed)) };
            self.answer.extend_from_slice(&buffer[..length]);
            if self.head.is_none() {
                match head(&self.answer) {
                    Ok(head) => self.head = head,
                    Err(()) => return Ok(self.fail(Failure::Malformed)),
                }
            }
            let Some(head) = &self.head else { continue };
            if !head.is_whole(&self.answer, self.dropped) {
                if head.bytes.is_some() && self.answer.len() > KEPT_BYTES {
                    self.dropped += self.answer.len() - KEPT_BYTES;
                    self.answer.truncate(KEPT_BYTES);
                }
                continue;
            }
            let (status, closes, bytes) = (head.status, head.closes, self.dropped + self.answer.len());
            self.due = None;
            if closes {
                self.close();
            }
            let done = occurrences(&self.answer, b"\"result\":\"done\"");
            return Ok(Event::Answered { status, bytes, done, due });
        }
    }

    fn fail(&mut self, failure: Failure) -> Event {
        let was_busy = self.due.is_some();
        self.close();
        if was_busy { Event::Failed(failure) } else { Event::Ended }
    }

    /// When the last request was all sent, as far as it was.
    pub fn sent(&self) -> Option<Instant> {
        self.sent
    }

    /// When the last answer says to come back, in Unix seconds.
    pub fn refresh_at(&self) -> Option<u64> {
        let name = b"\"refresh_at\":";
        let at = self.answer.windows(name.len()).position(|bytes| bytes == name)? + name.len();
        let digits = self.answer[at..].iter().take_while(|byte| byte.is_ascii_digit());
        Some(digits.fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
    }

    /// The session in the last answer.
    pub fn session(&self) -> Option<Vec<u8>> {
        let name = b"\"session\":\"";
        let at = self.answer.windows(name.len()).position(|bytes| bytes == name)? + name.len();
        self.answer[at..].split(|byte| *byte == b'"').next().map(<[u8]>::to_vec)
    }

    /// Closes the socket and forgets the request.
    pub fn close(&mut self) {
        self.stream = None;
        self.due = None;
    }

    /// Whether the socket is open, as far as is known.
    pub fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether an answer has been awaited for longer than `limit`.
    pub fn has_waited(&self, now: Instant, limit: Duration) -> bool {
        self.due.is_some_and(|due| now.saturating_duration_since(due) > limit)
    }
}

/// Reads the head at the start of an answer; `None` while it is not whole.
fn head(answer: &[u8]) -> Result<Option<Head>, ()> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if answer.len() > 16_384 { Err(()) } else { Ok(None) };
    };
    let text = std::str::from_utf8(&answer[..end]).map_err(|_| ())?;
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status: u16 = status_line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(())?;
    let (mut length, mut closes, mut chunked) = (None, false, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.trim().eq_ignore_ascii_case("close");
        }
    }
    let length = match length {
        _ if matches!(status, 204 | 304) => Some(0),
        None if chunked => None,
        length => Some(length.ok_or(())?),
    };
    Ok(Some(Head { status, bytes: length.map(|length| end + 4 + length), closes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_its_head_says() {
        let answer = b"HTTP/1.1 200 OK\r\nDate: x\r\ncontent-length: 5\r\nConnection: close\r\n\r\nhello";
        for length in 0..answer.len() - 9 {
            assert!(matches!(head(&answer[..length]), Ok(None)));
        }
        let found = head(answer).unwrap().unwrap();
        assert_eq!((found.status, found.bytes, found.closes), (200, Some(answer.len()), true));
    }

    #[test]
    fn an_answer_in_chunks_ends_with_the_last_one() {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab\n\r\n0\r\n\r\n";
        let found = head(answer).unwrap().unwrap();
        assert!(found.is_whole(answer, 0) && !found.is_whole(&answer[..answer.len() - 1], 0));
    }

    #[test]
    fn an_answer_without_a_length_is_malformed() {
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(head(b"nonsense\r\n\r\n").is_err());
        assert_eq!(head(b"HTTP/1.1 304 Not Modified\r\n\r\n").unwrap().unwrap().bytes, Some(29));
    }
}
