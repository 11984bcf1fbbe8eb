//! The answer, written once into a fixed buffer: status line, fields, and a body if it is small.
//!
//! Owns the shape of what we send: `Date` on every answer, `Connection` where the client needs it, a length on every
//! body, problems as RFC 9457 has them. Never allocates after it is made, never folds a line, and never
//! sends part of what does not fit, or would break a line: that spoils the buffer, and [`ResponseBuffer::bytes`] then
//! refuses to give anything out. Several answers may stand one after the other.
//!
//! One kind of answer has no length yet: that to a stream of lines. It is chunked, or ends with its connection where
//! the client speaks HTTP/1.0 (RFC 9112 §6.1: no Transfer-Encoding to those); the caller says which.

use super::date::DATE_BYTES;
use super::grammar::{is_token, text_end};
use super::head::{Head, Version};
use crate::limits::SEND_SLOT_BYTES;
use std::io::{self, Write};
use thiserror::Error;

/// What tells a waiting client to send its body (RFC 9110 §15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A send slot: a fixed number of bytes that answers are written into and that is lent to the driver while in flight.
#[derive(Clone, Debug)]
pub struct ResponseBuffer {
    bytes: Box<[u8]>,
    length: usize,
    status: u16,
    spoiled: bool,
}

/// The answers in a [`ResponseBuffer`] did not fit, or one had a field that no field may be: an error of ours.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
#[error("answer refused: it does not fit into its send slot, or a field value has a control character")]
pub struct Spoiled;

/// What an answer says about the connection after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Persistence {
    /// It stays, as HTTP/1.1 has it: nothing is said.
    Stays,
    /// It stays, and a client of HTTP/1.0 must be told.
    StaysHttp10,
    /// It closes after this answer.
    Closes,
}

impl Persistence {
    /// For the answer to `head`, where `closing` is the server's own wish.
    pub fn of(head: &Head<'_>, closing: bool) -> Persistence {
        match head.version {
            _ if closing || !head.keep_alive => Persistence::Closes,
            Version::Http11 => Persistence::Stays,
            Version::Http10 => Persistence::StaysHttp10,
        }
    }
}

/// What every answer to one request has in common.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The value of `Date`.
    pub date: &'a [u8; DATE_BYTES],
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// Whether the request was HEAD: the length is that of the body, the body is not sent.
    pub head_only: bool,
}

/// A problem (RFC 9457), which is what every error is answered with.
#[derive(Clone, Copy, Default, Debug)]
pub struct Problem<'a> {
    /// The status, whose reason phrase is the title.
    pub status: u16,
    /// The stable word: the type is `urn:onecode:problem:<word>`.
    pub word: &'a str,
    /// What happened and what to do, for a human. Left out when empty. Never a secret.
    pub detail: &'a str,
    /// Further members as JSON, already escaped, without a leading comma: `"limit":4096`. Left out when empty.
    pub members: &'a str,
    /// Seconds until a retry makes sense; for 429 and 503.
    pub retry_after_s: Option<u32>,
    /// Further fields, such as `Allow`.
    pub fields: &'a [(&'a str, &'a str)],
}

/// Three hexadecimal digits are enough for a chunk that stands in one slot, and four decimal ones for a body.
const _: () = assert!(SEND_SLOT_BYTES <= 0x1000);

impl ResponseBuffer {
    /// Empties the buffer.
    pub fn clear(&mut self) {
        self.length = 0;
        self.spoiled = false;
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.length == 0 && !self.spoiled
    }

    /// How many bytes still fit.
    pub fn room_bytes(&self) -> usize {
        self.bytes.len() - self.length
    }

    /// How many bytes have been written.
    pub fn len(&self) -> usize {
        self.length
    }

    /// The answers written so far.
    ///
    /// # Errors
    /// If anything written did not fit or was refused; whole answers before it are not given out either.
    pub fn bytes(&self) -> Result<&[u8], Spoiled> {
        if self.spoiled { Err(Spoiled) } else { Ok(&self.bytes[..self.length]) }
    }

    /// Starts an answer: status line, `Date`, and `Connection` where needed. A status without a line of its own is
    /// answered as 500.
    pub fn start(&mut self, status: u16, answer: &Answer<'_>) {
        let (status, line) = status_line(status);
        self.status = status;
        self.push(line.as_bytes());
        self.push(b"Date: ");
        self.push(answer.date);
        self.push(match answer.persistence {
            Persistence::Stays => b"\r\n".as_slice(),
            Persistence::StaysHttp10 => b"\r\nConnection: keep-alive\r\n",
            // RFC 9112 §9.6 (9.6c): whoever sends this closes after the answer.
            Persistence::Closes => b"\r\nConnection: close\r\n",
        });
    }

    /// Adds a field. The name must be a token and the value field text (RFC 9112 §2.2 (2.2b): no bare CR, and no line
    /// end that would split the answer), else the buffer is spoiled.
    pub fn field(&mut self, name: &str, value: &[u8]) {
        if name.is_empty() || !name.bytes().all(is_token) || text_end(value, 0) != value.len() {
            self.spoiled = true;
            return;
        }
        self.push(name.as_bytes());
        self.push(b": ");
        self.push(value);
        self.push(b"\r\n");
    }

    /// Adds `Content-Length`, which a 1xx and a 204 never carry (RFC 9110 §8.6).
    pub fn content_length(&mut self, bytes: u64) {
        if self.status >= 200 && self.status != 204 {
            self.push(b"Content-Length: ");
            self.number(bytes);
            self.push(b"\r\n");
        }
    }

    /// Ends the head: the empty line (RFC 9112 §2.1). What is pushed after it is the body.
    pub fn end_head(&mut self) {
        self.push(b"\r\n");
    }

    /// Ends the head with `Content-Length` and adds the body, or for HEAD leaves it out.
    pub fn body(&mut self, answer: &Answer<'_>, body: &[u8]) {
        self.content_length(body.len() as u64);
        self.end_head();
        if !answer.head_only {
            self.push(body);
        }
    }

    /// Ends the head with a `Content-Length` that [`ResponseBuffer::close_body`] fills in, so that a body can be
    /// written in place; returns where that starts. Until it is filled the place holds spaces, which a field value may start with.
    pub fn open_body(&mut self) -> usize {
        self.push(b"Content-Length:     \r\n\r\n");
        self.length
    }

    /// Ends the body begun by `open_body`: its length goes to its place, and for HEAD the body is dropped.
    pub fn close_body(&mut self, answer: &Answer<'_>, body_at: usize) {
        if self.spoiled {
            return;
        }
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(self.length - body_at).as_bytes();
        let place_end = body_at - b"\r\n\r\n".len();
        self.bytes[place_end - digits.len()..place_end].copy_from_slice(digits);
        if answer.head_only {
            self.length = body_at;
        }
    }

    /// Writes a whole problem.
    pub fn problem(&mut self, answer: &Answer<'_>, problem: &Problem<'_>) {
        self.start(problem.status, answer);
        self.push(b"Content-Type: application/problem+json\r\nCache-Control: no-store\r\n");
        if let Some(seconds) = problem.retry_after_s {
            self.field("Retry-After", itoa::Buffer::new().format(seconds).as_bytes());
        }
        for (name, value) in problem.fields {
            self.field(name, value.as_bytes());
        }
        let open = self.open_body();
        let (word, title, status) = (problem.word, reason_phrase(self.status), self.status);
        // Writing cannot fail: what does not fit spoils the buffer.
        let _ = write!(self, r#"{{"type":"urn:onecode:problem:{word}","title":"{title}","status":{status}"#);
        if !problem.detail.is_empty() {
            self.push(b",\"detail\":");
            let _ = serde_json::to_writer(&mut *self, problem.detail);
        }
        if !problem.members.is_empty() {
            self.push(b",");
            self.push(problem.members.as_bytes());
        }
        self.push(b"}");
        self.close_body(answer, open);
    }

    /// Begins a chunk (RFC 9112 §7.1), for [`ResponseBuffer::close_chunk`] to fill in its size; returns where its data is.
    pub fn open_chunk(&mut self) -> usize {
        self.push(b"000\r\n");
        self.length
    }

    /// Ends the chunk; one without data, which would end the body, is taken back.
    pub fn close_chunk(&mut self, data_at: usize) {
        let size_at = data_at - b"000\r\n".len();
        if self.spoiled || self.length <= data_at {
            self.length = size_at;
            return;
        }
        let size = self.length - data_at;
        for (place, digit) in self.bytes[size_at..].iter_mut().zip([size >> 8, size >> 4, size]) {
            *place = b"0123456789abcdef"[digit & 15];
        }
        self.push(b"\r\n");
    }

    /// Ends a chunked body.
    pub fn last_chunk(&mut self) {
        self.push(b"0\r\n\r\n");
    }

    /// Adds a number in decimal digits.
    pub fn number(&mut self, value: u64) {
        self.push(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Adds bytes as they are. What does not fit is left out whole and spoils the buffer.
    pub fn push(&mut self, bytes: &[u8]) {
        match self.bytes.get_mut(self.length..).and_then(|room| room.get_mut(..bytes.len())) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.spoiled = true,
        }
    }
}

impl Write for ResponseBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An empty buffer of [`SEND_SLOT_BYTES`].
impl Default for ResponseBuffer {
    fn default() -> ResponseBuffer {
        ResponseBuffer { bytes: vec![0; SEND_SLOT_BYTES].into_boxed_slice(), length: 0, status: 0, spoiled: false }
    }
}

/// The reason phrase of a status, which is also the title of its problem.
fn reason_phrase(status: u16) -> &'static str {
    status_line(status).1.get("HTTP/1.1 200 ".len()..).unwrap_or_default().trim_end()
}

/// The status line, with the space after the code that RFC 9112 §4 (4a) wants even without a phrase. The version is
/// the highest we conform to, whatever the request's (RFC 9110 §2.5).
const fn status_line(status: u16) -> (u16, &'static str) {
    let line = match status {
        200 => "HTTP/1.1 200 OK\r\n",
        204 => "HTTP/1.1 204 No Content\r\n",
        206 => "HTTP/1.1 206 Partial Content\r\n",
        304 => "HTTP/1.1 304 Not Modified\r\n",
        308 => "HTTP/1.1 308 Permanent Redirect\r\n",
        400 => "HTTP/1.1 400 Bad Request\r\n",
        401 => "HTTP/1.1 401 Unauthorized\r\n",
        403 => "HTTP/1.1 403 Forbidden\r\n",
        404 => "HTTP/1.1 404 Not Found\r\n",
        405 => "HTTP/1.1 405 Method Not Allowed\r\n",
        408 => "HTTP/1.1 408 Request Timeout\r\n",
        409 => "HTTP/1.1 409 Conflict\r\n",
        411 => "HTTP/1.1 411 Length Required\r\n",
        413 => "HTTP/1.1 413 Content Too Large\r\n",
        414 => "HTTP/1.1 414 URI Too Long\r\n",
        415 => "HTTP/1.1 415 Unsupported Media Type\r\n",
        416 => "HTTP/1.1 416 Range Not Satisfiable\r\n",
        417 => "HTTP/1.1 417 Expectation Failed\r\n",
        421 => "HTTP/1.1 421 Misdirected Request\r\n",
        422 => "HTTP/1.1 422 Unprocessable Content\r\n",
        429 => "HTTP/1.1 429 Too Many Requests\r\n",
        431 => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
        501 => "HTTP/1.1 501 Not Implemented\r\n",
        503 => "HTTP/1.1 503 Service Unavailable\r\n",
        505 => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
        _ => return (500, "HTTP/1.1 500 Internal Server Error\r\n"),
    };
    (status, line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::date::imf_fixdate;
    use crate::http::head::{Scan, parse};
    use crate::http::negotiate::query_parameter;

    const STATUSES: [u16; 26] = [
        200, 204, 206, 304, 308, 400, 401, 403, 404, 405, 408, 409, 411, 413, 414, 415, 416, 417, 421, 422, 429, 431,
        500, 501, 503, 505,
    ];

    fn answer(date: &[u8; DATE_BYTES]) -> Answer<'_> {
        Answer { date, persistence: Persistence::Stays, head_only: false }
    }

    /// Status, fields and body as an independent parser reads them.
    fn read(bytes: &[u8]) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(length) = response.parse(bytes).unwrap() else { panic!("not complete") };
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let fields = response.headers.iter().map(|field| (field.name.to_string(), text(field.value))).collect();
        (response.code.unwrap(), fields, bytes[length..].to_vec())
    }

    fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
        fields.iter().find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1.as_str())
    }

    #[test]
    fn rfc9112_4_a_every_status_has_a_line_and_a_space_after_its_code() {
        for status in STATUSES {
            let (same, line) = status_line(status);
            assert_eq!(same, status);
            assert!(line.starts_with(&format!("HTTP/1.1 {status} ")) && line.ends_with("\r\n"), "{line:?}");
        }
        assert_eq!(status_line(299).0, 500, "an unknown status is an error of ours");
    }

    #[test]
    fn an_answer_has_date_length_and_body() {
        let date = imf_fixdate(784_111_777);
        let mut buffer = ResponseBuffer::default();
        buffer.start(200, &answer(&date));
        buffer.field("Content-Type", b"text/plain");
        buffer.body(&answer(&date), b"hello");
        let expected = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n\
                        Content-Length: 5\r\n\r\nhello";
        assert_eq!(str::from_utf8(buffer.bytes().unwrap()).unwrap(), expected);
    }

    #[test]
    fn rfc9112_9_6_c_the_connection_field_says_what_the_connection_does() {
        let date = imf_fixdate(0);
        for (request, closing, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false, None),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, Some("close")),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false, Some("close")),
            ("GET / HTTP/1.0\r\n\r\n", false, Some("close")),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false, Some("keep-alive")),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true, Some("close")),
        ] {
            let head = parse(request.as_bytes(), &mut Scan::default()).unwrap().unwrap();
            let answer = Answer { persistence: Persistence::of(&head, closing), ..answer(&date) };
            let mut buffer = ResponseBuffer::default();
            buffer.start(404, &answer);
            buffer.body(&answer, b"");
            let (_, fields, _) = read(buffer.bytes().unwrap());
            assert_eq!(value(&fields, "Connection"), expected, "{request:?}");
        }
    }

    #[test]
    fn bodies_written_in_place_get_their_length_and_head_drops_them() {
        let date = imf_fixdate(0);
        for length in [0, 1, 9, 10, 999, 1_000, 3_000] {
            for head_only in [false, true] {
                let answer = Answer { head_only, ..answer(&date) };
                let mut buffer = ResponseBuffer::default();
                buffer.start(200, &answer);
                let open = buffer.open_body();
                buffer.push(&vec![b'x'; length]);
                buffer.close_body(&answer, open);
                let (_, fields, body) = read(buffer.bytes().unwrap());
                assert_eq!(value(&fields, "Content-Length").map(str::trim), Some(length.to_string().as_str()));
                assert_eq!(body.len(), if head_only { 0 } else { length });
            }
        }
    }

    #[test]
    fn no_length_goes_with_204() {
        let date = imf_fixdate(0);
        let mut buffer = ResponseBuffer::default();
        buffer.start(204, &answer(&date));
        buffer.body(&answer(&date), b"");
        let (status, fields, body) = read(buffer.bytes().unwrap());
        assert_eq!((status, value(&fields, "Content-Length"), body.len()), (204, None, 0));
        buffer.clear();
        buffer.start(304, &answer(&date));
        buffer.field("ETag", b"\"a\"");
        buffer.end_head();
        assert!(buffer.bytes().unwrap().ends_with(b"ETag: \"a\"\r\n\r\n"));
    }

    #[test]
    fn every_problem_is_json_with_its_type() {
        let date = imf_fixdate(0);
        for status in STATUSES {
            if status < 400 {
                continue;
            }
            let detail = "quote \" back \\ line \n bell \u{7} é 绿 \u{7f}";
            let problem = Problem {
                detail,
                members: "\"limit\":4096",
                retry_after_s: Some(7),
                fields: &[("Allow", "GET, HEAD")],
                status,
                word: "a-word",
            };
            let mut buffer = ResponseBuffer::default();
            buffer.problem(&Answer { persistence: Persistence::Closes, ..answer(&date) }, &problem);
            let (code, fields, body) = read(buffer.bytes().unwrap());
            assert_eq!(code, status);
            assert_eq!(value(&fields, "Content-Type"), Some("application/problem+json"));
            assert_eq!(value(&fields, "Retry-After"), Some("7"));
            assert_eq!(value(&fields, "Allow"), Some("GET, HEAD"));
            assert_eq!(value(&fields, "Connection"), Some("close"));
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(json["type"], "urn:onecode:problem:a-word");
            assert_eq!(json["title"], reason_phrase(status));
            assert_eq!(json["status"], status);
            assert_eq!(json["detail"], detail);
            assert_eq!(json["limit"], 4_096);
        }
    }

    #[test]
    fn rfc9112_2_2_b_a_line_end_in_a_field_spoils_the_answer() {
        let date = imf_fixdate(0);
        for (name, bad) in
            [("X", "a\rb"), ("X", "a\nb"), ("X", "a\r\nb"), ("X", "\0"), ("X y", "a"), ("", "a"), ("X:", "")]
        {
            let mut buffer = ResponseBuffer::default();
            buffer.start(200, &answer(&date));
            buffer.field(name, bad.as_bytes());
            buffer.body(&answer(&date), b"");
            assert_eq!(buffer.bytes(), Err(Spoiled), "{name:?}: {bad:?}");
        }
    }

    #[test]
    fn an_answer_that_does_not_fit_is_never_sent_in_part() {
        let date = imf_fixdate(0);
        let mut buffer = ResponseBuffer::default();
        buffer.push(&[b'x'; SEND_SLOT_BYTES]);
        assert_eq!((buffer.bytes().map(<[u8]>::len), buffer.room_bytes()), (Ok(SEND_SLOT_BYTES), 0));
        buffer.push(b"");
        assert!(buffer.bytes().is_ok());
        buffer.problem(&answer(&date), &Problem { status: 500, word: "internal", ..Problem::default() });
        assert_eq!(buffer.bytes(), Err(Spoiled));
        buffer.clear();
        assert!(buffer.is_empty());
        assert_eq!(buffer.bytes(), Ok(&[][..]));
    }

    #[test]
    fn rfc9112_9_3_2_a_answers_stand_in_the_order_of_their_requests() {
        let date = imf_fixdate(0);
        let requests = b"GET /?n=1 HTTP/1.1\r\nHost: a\r\n\r\nGET /?n=2 HTTP/1.1\r\nHost: a\r\n\r\n";
        let (mut rest, mut buffer) = (&requests[..], ResponseBuffer::default());
        while !rest.is_empty() {
            let head = parse(rest, &mut Scan::default()).unwrap().unwrap();
            let answer = Answer { persistence: Persistence::of(&head, false), ..answer(&date) };
            buffer.start(200, &answer);
            buffer.body(&answer, query_parameter(head.query, "n").unwrap().as_bytes());
            rest = &rest[head.bytes..];
        }
        let (_, _, rest) = read(buffer.bytes().unwrap());
        assert_eq!(rest[0], b'1');
        assert_eq!(read(&rest[1..]).2, b"2");
    }
}
