//! The answer, written once into a fixed buffer: status line, fields, and a body if it is small.
//!
//! Owns the shape of what we send: `Date` on every answer, `Connection` where the client needs it, a length on every
//! body. Never allocates after it is made, never folds a line, and never sends part of what does not fit, or would
//! break a line: that spoils the buffer, and [`ResponseBuffer::bytes`] then refuses to give anything out.

use ::http::StatusCode;

use super::date::DATE_BYTES;
use super::grammar::{is_token, text_end};
use super::head::{Head, Method, Version};
use crate::limits::SEND_SLOT_BYTES;

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

/// What an answer must respect, whatever it says.
#[derive(Clone, Copy, Default, Debug)]
pub struct ReplyTarget {
    /// The connection ends with this answer.
    pub closes: bool,
    /// A client of HTTP/1.0, who must be told that the connection stays, and who knows no chunks (RFC 9112 §6.1 (6.1g)).
    pub http10: bool,
    /// The request was HEAD: the length is that of the body, the body is not sent.
    pub head_only: bool,
    /// The number of the allowed origin whose page asks (Fetch, "CORS protocol").
    pub origin: Option<u16>,
}

impl ReplyTarget {
    /// For a request that could not be read further than this. To HEAD nothing but a head is said (RFC 9110 §9.3.2).
    pub fn unreadable(request: &[u8]) -> ReplyTarget {
        // Behind the one empty line that may be there: wherever the bytes are cut, what is refused before this is none.
        let head_only = request.strip_prefix(b"\r\n").unwrap_or(request).starts_with(b"HEAD ");
        ReplyTarget { closes: true, head_only, ..ReplyTarget::default() }
    }

    /// For this request, where `closing` is the server's own wish.
    pub fn new(head: &Head<'_>, closing: bool, origin: Option<u16>) -> ReplyTarget {
        let http10 = head.version == Version::HTTP_10;
        ReplyTarget { closes: closing || !head.keep_alive, http10, head_only: head.method == Method::Head, origin }
    }
}

impl ResponseBuffer {
    /// An empty buffer of another size than that of a slot, for [`fill`](Self::fill).
    pub fn with_bytes(bytes: usize) -> ResponseBuffer {
        ResponseBuffer { bytes: vec![0; bytes].into_boxed_slice(), length: 0, status: 0, spoiled: false }
    }

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

    /// The answers written so far; `None`, whole answers before it included, if anything did not fit or was refused.
    pub fn bytes(&self) -> Option<&[u8]> {
        (!self.spoiled).then(|| &self.bytes[..self.length])
    }

    /// Starts an answer: status line, `Date`, and `Connection` where needed.
    pub fn start(&mut self, status: u16, date: &[u8; DATE_BYTES], target: ReplyTarget) {
        self.status = status;
        // The version is the highest we conform to, whatever the request's (RFC 9110 §2.5).
        if status == 200 {
            self.push(b"HTTP/1.1 200 OK\r\n");
        } else {
            self.push(b"HTTP/1.1 ");
            self.number(status.into());
            // The space stands even without a phrase (RFC 9112 §4 (4a)), and none on the next line (§2.2 (2.2d)).
            self.push(b" ");
            self.push(reason_phrase(status).as_bytes());
            self.push(b"\r\n");
        }
        self.push(b"Date: ");
        self.push(date);
        self.push(match (target.closes, target.http10) {
            // RFC 9112 §9.6 (9.6c): whoever sends this closes after the answer.
            (true, _) => b"\r\nConnection: close\r\n".as_slice(),
            (false, true) => b"\r\nConnection: keep-alive\r\n",
            (false, false) => b"\r\n",
        });
    }

    /// Adds a field. The name must be a token and the value field text (RFC 9112 §2.2 (2.2b), §5.2 (5.2a): no bare CR, and
    /// no line end that would split the answer), else the buffer is spoiled.
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

    /// Ends the head with `Content-Length` and adds the body, in its pieces, or for HEAD leaves it out.
    pub fn body(&mut self, target: ReplyTarget, body: &[impl AsRef<[u8]>]) {
        self.content_length(body.iter().map(|piece| piece.as_ref().len() as u64).sum());
        self.end_head();
        if !target.head_only {
            body.iter().for_each(|piece| self.push(piece.as_ref()));
        }
    }

    /// Adds a chunk (RFC 9112 §7.1); one without data ends the body.
    pub fn chunk(&mut self, data: &[u8]) {
        self.push(format!("{:x}\r\n", data.len()).as_bytes());
        self.push(data);
        self.push(b"\r\n");
    }

    /// Adds a number in decimal digits.
    pub fn number(&mut self, value: u64) {
        self.push(itoa::Buffer::new().format(value).as_bytes());
    }

    /// Lets `write` put up to `bytes` behind the others and say how many it has put there, or that it failed. The buffer
    /// grows for it: these are not an answer of ours, but sealed bytes, whose length is bounded where they are made.
    pub fn fill(&mut self, bytes: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        if self.room_bytes() < bytes {
            let mut grown = std::mem::take(&mut self.bytes).into_vec();
            grown.resize(self.length + bytes, 0);
            self.bytes = grown.into_boxed_slice();
        }
        let written = write(&mut self.bytes[self.length..]);
        self.length += written.unwrap_or(0);
        written.is_some()
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

/// An empty buffer of [`SEND_SLOT_BYTES`].
impl Default for ResponseBuffer {
    fn default() -> ResponseBuffer {
        ResponseBuffer::with_bytes(SEND_SLOT_BYTES)
    }
}

/// The reason phrase of a status, which is also the title of its problem.
pub fn reason_phrase(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::date::imf_fixdate;
    use crate::http::head::parse;
    use crate::http::negotiate::query_parameter;

    const STAYS: ReplyTarget = ReplyTarget { closes: false, http10: false, head_only: false, origin: None };

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
        for status in [
            200, 204, 206, 304, 308, 400, 401, 403, 404, 405, 408, 409, 413, 414, 415, 416, 417, 421, 429, 431, 500,
            501, 503, 505,
        ] {
            let mut buffer = ResponseBuffer::default();
            buffer.start(status, &imf_fixdate(0), STAYS);
            let line = str::from_utf8(buffer.bytes().unwrap()).unwrap().split_inclusive("\r\n").next().unwrap();
            assert_eq!(line, format!("HTTP/1.1 {status} {}\r\n", reason_phrase(status)));
            assert!(reason_phrase(status).len() > 1, "{line:?}");
        }
    }

    #[test]
    fn an_answer_has_date_length_and_body() {
        let date = imf_fixdate(784_111_777);
        let mut buffer = ResponseBuffer::default();
        buffer.start(200, &date, STAYS);
        buffer.field("Content-Type", b"text/plain");
        buffer.body(STAYS, &["hel", "lo"]);
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
            let head = parse(request.as_bytes()).unwrap().unwrap();
            let target = ReplyTarget::new(&head, closing, None);
            let mut buffer = ResponseBuffer::default();
            buffer.start(404, &date, target);
            buffer.body(target, &[""]);
            let (_, fields, _) = read(buffer.bytes().unwrap());
            assert_eq!(value(&fields, "Connection"), expected, "{request:?}");
        }
    }

    #[test]
    fn head_has_the_length_of_the_body_and_not_the_body() {
        let date = imf_fixdate(0);
        for length in [0, 1, 9, 10, 999, 1_000, 3_000] {
            for head_only in [false, true] {
                let target = ReplyTarget { head_only, ..STAYS };
                let mut buffer = ResponseBuffer::default();
                buffer.start(200, &date, target);
                buffer.body(target, &[vec![b'x'; length]]);
                let (_, fields, body) = read(buffer.bytes().unwrap());
                assert_eq!(value(&fields, "Content-Length"), Some(length.to_string().as_str()));
                assert_eq!(body.len(), if head_only { 0 } else { length });
            }
        }
    }

    #[test]
    fn no_length_goes_with_204() {
        let date = imf_fixdate(0);
        let mut buffer = ResponseBuffer::default();
        buffer.start(204, &date, STAYS);
        buffer.body(STAYS, &[""]);
        let (status, fields, body) = read(buffer.bytes().unwrap());
        assert_eq!((status, value(&fields, "Content-Length"), body.len()), (204, None, 0));
        buffer.clear();
        buffer.start(304, &date, STAYS);
        buffer.field("ETag", b"\"a\"");
        buffer.end_head();
        assert!(buffer.bytes().unwrap().ends_with(b"ETag: \"a\"\r\n\r\n"));
    }

    #[test]
    fn rfc9112_2_2_b_a_line_end_in_a_field_spoils_the_answer() {
        let date = imf_fixdate(0);
        for (name, bad) in
            [("X", "a\rb"), ("X", "a\nb"), ("X", "a\r\nb"), ("X", "\0"), ("X y", "a"), ("", "a"), ("X:", "")]
        {
            let mut buffer = ResponseBuffer::default();
            buffer.start(200, &date, STAYS);
            buffer.field(name, bad.as_bytes());
            buffer.body(STAYS, &[""]);
            assert_eq!(buffer.bytes(), None, "{name:?}: {bad:?}");
        }
    }

    #[test]
    fn an_answer_that_does_not_fit_is_never_sent_in_part() {
        let date = imf_fixdate(0);
        let mut buffer = ResponseBuffer::default();
        buffer.push(&[b'x'; SEND_SLOT_BYTES]);
        assert_eq!((buffer.bytes().map(<[u8]>::len), buffer.room_bytes()), (Some(SEND_SLOT_BYTES), 0));
        buffer.push(b"");
        assert!(buffer.bytes().is_some());
        buffer.start(500, &date, STAYS);
        assert_eq!(buffer.bytes(), None);
        buffer.clear();
        assert!(buffer.is_empty());
        assert_eq!(buffer.bytes(), Some(&[][..]));
    }

    #[test]
    fn rfc9112_9_3_2_a_answers_stand_in_the_order_of_their_requests() {
        let date = imf_fixdate(0);
        let requests = b"GET /?n=1 HTTP/1.1\r\nHost: a\r\n\r\nGET /?n=2 HTTP/1.1\r\nHost: a\r\n\r\n";
        let (mut rest, mut buffer) = (&requests[..], ResponseBuffer::default());
        while !rest.is_empty() {
            let head = parse(rest).unwrap().unwrap();
            let target = ReplyTarget::new(&head, false, None);
            buffer.start(200, &date, target);
            buffer.body(target, &[query_parameter(head.query, "n").unwrap()]);
            rest = &rest[head.bytes..];
        }
        let (_, _, rest) = read(buffer.bytes().unwrap());
        assert_eq!(rest[0], b'1');
        assert_eq!(read(&rest[1..]).2, b"2");
    }
}
