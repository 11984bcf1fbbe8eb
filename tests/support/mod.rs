//! What the tests of the running server share: the real binary as a child, a strict small HTTP/1.1 client, and the
//! simulator in the same dress, so that one case runs over all of them.
//!
//! The client knows nothing of the product's own HTTP code. It refuses an answer that another client might read
//! differently: without a length, with two of them, or with bytes behind the last one expected.

#![allow(dead_code, reason = "each test file takes the part it needs")]

pub mod disk;
pub mod identity;
pub mod lines;
pub mod mount;
pub mod process;
pub mod secured;
pub mod sim;
pub mod simulated;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take here; the machine may be busy with other tests.
pub const PATIENCE_MS: u64 = 20_000;
/// The path that everything is about.
pub const REFRESH: &str = "/person/app/refreshQRCode";
/// Signing in and out.
pub const SESSION: &str = "/person/app/session";

/// One side of a connection to a server, real or simulated.
pub trait Line {
    /// Sends all of it.
    fn send(&mut self, bytes: &[u8]);
    /// Sends no more.
    fn finish_sending(&mut self);
    /// What came within the time: `None` is nothing, an empty vector the end.
    fn receive(&mut self, within_ms: u64) -> Option<Vec<u8>>;
}

/// What a case of the suite runs against.
pub trait Host {
    /// A new connection to the public listener.
    fn connect(&self) -> Box<dyn Line + '_>;
    /// A session of demo resident `number`, from 1.
    fn session(&self, number: u32) -> String;
    /// The clock that its deadlines run by, in milliseconds.
    fn elapsed_ms(&self) -> u64;
    /// Whether that clock stands still while nobody looks, so that nothing is ever late.
    fn is_exact(&self) -> bool {
        false
    }

    /// A client over a new connection.
    fn client(&self) -> Client<'_> {
        Client { line: self.connect(), received: Vec::new(), ended: false }
    }

    /// A whole request for a code of demo resident `number`.
    fn refresh(&self, number: u32) -> Vec<u8> {
        let session = self.session(number);
        format!("GET {REFRESH} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {session}\r\n\r\n").into_bytes()
    }
}

/// A real connection.
pub struct Socket(pub TcpStream);

impl Socket {
    pub fn connect(address: SocketAddr) -> Socket {
        Socket::connect_from([127, 0, 0, 1], address)
    }

    /// From one of this host's addresses.
    pub fn connect_from(from: [u8; 4], address: SocketAddr) -> Socket {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(PATIENCE_MS))).unwrap();
        Socket(stream)
    }

    /// Closes with a reset instead of an end (`SO_LINGER` of 0, socket(7)).
    pub fn reset(self) {
        socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl Line for Socket {
    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn finish_sending(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    fn receive(&mut self, within_ms: u64) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        self.0.set_read_timeout(Some(Duration::from_millis(within_ms.max(1)))).unwrap();
        // A read with a timeout is not restarted after a stop of the process (signal(7)).
        let result = loop {
            match self.0.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match result {
            Ok(length) => {
                buffer.truncate(length);
                Some(buffer)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("the connection failed: {error}"),
        }
    }
}

/// One answer as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Status line and fields, with the empty line.
    pub head: String,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.head, String::from_utf8_lossy(&self.body))
    }
}

impl Answer {
    /// A field's value; two fields of one name are a mistake of ours everywhere.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().skip(1).filter_map(|line| {
            let (field, value) = line.split_once(':')?;
            // RFC 9110 §5.5: white space around a value is no part of it.
            field.eq_ignore_ascii_case(name).then(|| value.trim_matches([' ', '\t']))
        });
        let value = values.next();
        assert!(values.next().is_none(), "{name} twice in {}", self.head);
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// The last word of a problem's type; the answer must be a problem as RFC 9457 has it.
    pub fn problem(&self) -> String {
        assert_eq!(self.field("Content-Type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        let kind = problem["type"].as_str().unwrap();
        kind.strip_prefix("urn:onecode:problem:").unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }

    pub fn closes(&self) -> bool {
        self.field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// All but the `Date`, which is the time of the answer and no part of what is said.
    pub fn without_date(&self) -> (String, Vec<u8>) {
        let lines = self.head.lines().filter(|line| !line.starts_with("Date: "));
        (lines.collect::<Vec<_>>().join("\n"), self.body.clone())
    }
}

/// A client that reads answers off a line.
pub struct Client<'h> {
    line: Box<dyn Line + 'h>,
    received: Vec<u8>,
    ended: bool,
}

impl Client<'_> {
    /// Over a connection to `address`.
    pub fn to(address: SocketAddr) -> Client<'static> {
        Client { line: Box::new(Socket::connect(address)), received: Vec::new(), ended: false }
    }

    /// Over an open line.
    pub fn over(line: Box<dyn Line>) -> Client<'static> {
        Client { line, received: Vec::new(), ended: false }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.line.send(bytes.as_ref());
    }

    pub fn finish_sending(&mut self) {
        self.line.finish_sending();
    }

    /// The next answer, to a request that was no HEAD.
    pub fn answer(&mut self) -> Answer {
        self.read_answer(false)
    }

    /// The next answer, to a HEAD: its length is announced and its body does not come.
    pub fn answer_to_head(&mut self) -> Answer {
        self.read_answer(true)
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request);
        self.answer()
    }

    /// Whether nothing more comes within the time, the connection staying open.
    pub fn is_silent(&mut self, for_ms: u64) -> bool {
        !self.fill(for_ms)
    }

    /// The connection must end now, by an orderly end and with nothing before it.
    pub fn assert_ended(&mut self, within_ms: u64) {
        while !self.ended {
            assert!(self.fill(within_ms), "the connection is still open after {within_ms} ms");
            assert!(self.received.is_empty(), "unasked for: {}", String::from_utf8_lossy(&self.received));
        }
    }

    /// All that comes before the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        while !self.ended {
            assert!(self.fill(PATIENCE_MS), "the connection is still open");
        }
        std::mem::take(&mut self.received)
    }

    fn fill(&mut self, within_ms: u64) -> bool {
        match self.line.receive(within_ms) {
            Some(bytes) => {
                self.ended |= bytes.is_empty();
                self.received.extend_from_slice(&bytes);
                true
            }
            None => false,
        }
    }

    fn read_answer(&mut self, to_head: bool) -> Answer {
        loop {
            if let Some(answer) = take_answer(&mut self.received, to_head) {
                return answer;
            }
            let so_far = String::from_utf8_lossy(&self.received).into_owned();
            assert!(!self.ended, "the connection ended within an answer: {so_far:?}");
            assert!(self.fill(PATIENCE_MS), "no whole answer in {PATIENCE_MS} ms: {so_far:?}");
        }
    }
}

/// Takes one whole answer off the front of what was received.
pub fn take_answer(received: &mut Vec<u8>, to_head: bool) -> Option<Answer> {
    let head_end = received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&received[..head_end]).expect("a head is ASCII").to_owned();
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    let status: u16 = status.unwrap_or_else(|| panic!("no status line: {head:?}"));
    let mut answer = Answer { status, head, body: Vec::new() };
    let length: Option<usize> = answer.field("Content-Length").map(|length| length.parse().unwrap());
    let chunked = answer.field("Transfer-Encoding").is_some_and(|coding| coding == "chunked");
    let bodiless = status < 200 || status == 204 || status == 304;
    // RFC 9110 §8.6: a 1xx or 204 has no Content-Length; everything else of ours has one, or is a stream of lines.
    assert_eq!(length.is_some() || chunked, !bodiless, "{}", answer.head);
    if chunked {
        assert!(length.is_none() && !to_head, "{}", answer.head);
        let (body, bytes) = take_chunks(&received[head_end..])?;
        answer.body = body;
        received.drain(..head_end + bytes);
        return Some(answer);
    }
    assert!(answer.field("Transfer-Encoding").is_none(), "{}", answer.head);
    let body_bytes = if to_head || bodiless { 0 } else { length.unwrap_or(0) };
    if received.len() < head_end + body_bytes {
        return None;
    }
    answer.body = received[head_end..head_end + body_bytes].to_vec();
    received.drain(..head_end + body_bytes);
    Some(answer)
}

/// The data of a whole chunked body and how many bytes it took; our chunks have neither extensions nor trailers.
pub fn take_chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (whole, mut data) = (bytes.len(), Vec::new());
    loop {
        let line_end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line_end]).unwrap(), 16).unwrap();
        let chunk = bytes.get(line_end + 2..line_end + 2 + size + 2)?;
        assert!(chunk.ends_with(b"\r\n"));
        data.extend_from_slice(&chunk[..size]);
        bytes = &bytes[line_end + 2 + size + 2..];
        if size == 0 {
            return Some((data, whole - bytes.len()));
        }
    }
}

/// A request for `path` with further fields, each with its line end.
pub fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
}

/// A POST of JSON.
pub fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// `Authorization` with its line end.
pub fn bearer(session: &str) -> String {
    format!("Authorization: Bearer {session}\r\n")
}

/// The seconds since 1970.
pub fn unix_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Waits until it is true; the one way to wait for another process.
pub fn wait_until(what: &str, is_true: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < Duration::from_millis(PATIENCE_MS), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tests that wait for real deadlines of many seconds are left out of the inner loop by `ONECODE_TEST_QUICK`.
pub fn is_quick() -> bool {
    std::env::var_os("ONECODE_TEST_QUICK").is_some()
}
