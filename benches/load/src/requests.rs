//! The requests: one template, with the session of the next resident put in where there are sessions, and a body where
//! one was asked for.
//!
//! Residents are walked in order, so that whoever starts each run where the last one ended asks for nobody twice until
//! all have had their turn.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::options::Options;

/// Characters of a session; with its line end, the distance between two of them in the file.
const SESSION_BYTES: usize = 48;
const LINE_BYTES: usize = SESSION_BYTES + 1;
/// Lines read at a time.
const BLOCK_LINES: u64 = 4_096;

/// Where sessions come from.
struct Sessions {
    file: File,
    in_file: u64,
    /// First line of the range, and its length.
    first: u64,
    lines: u64,
    next: u64,
    block: Vec<u8>,
    block_first: u64,
    /// All lines are held at once.
    all: bool,
}

/// What a POST carries.
enum Body {
    None,
    Same(Vec<u8>),
    /// So many lines of `POST /scan/records`.
    Scans {
        lines: u32,
        next: u128,
        at_ms: u128,
    },
}

/// Writes one request after another.
pub struct Requests {
    before: Vec<u8>,
    after: Vec<u8>,
    sessions: Option<Sessions>,
    body: Body,
}

impl Requests {
    /// Reads what is needed before the first request is due.
    pub fn open(options: &Options) -> io::Result<Requests> {
        let body = Body::open(options)?;
        let method = if matches!(body, Body::None) { "GET" } else { "POST" };
        let mut head = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n", options.path, options.host);
        if let Some(bytes) = body.bytes() {
            head.push_str(&format!("Content-Length: {bytes}\r\n"));
        }
        for field in &options.fields {
            head.push_str(field);
            head.push_str("\r\n");
        }
        if options.new_connections {
            head.push_str("Connection: close\r\n");
        }
        let Some(path) = &options.sessions else {
            head.push_str("\r\n");
            return Ok(Requests { before: head.into_bytes(), after: Vec::new(), sessions: None, body });
        };
        let file = File::open(path)?;
        let in_file = file.metadata()?.len() / LINE_BYTES as u64;
        let first = options.from % in_file.max(1);
        let lines = options.residents.min(in_file);
        if lines == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{}: no sessions", path.display())));
        }
        head.push_str("Authorization: Bearer ");
        // A range that reaches beyond the end goes on at the start.
        let sessions = Sessions {
            file,
            in_file,
            first,
            lines,
            next: 0,
            block: Vec::new(),
            block_first: in_file,
            all: options.returning || options.crowd,
        };
        Ok(Requests { before: head.into_bytes(), after: b"\r\n\r\n".to_vec(), sessions: Some(sessions), body })
    }

    /// How many residents there are to choose from.
    pub fn residents(&self) -> u64 {
        self.sessions.as_ref().map_or(1, |sessions| sessions.lines)
    }

    /// Appends the next request, or that of one resident, and says whose it was.
    pub fn write_next(&mut self, resident: Option<u64>, bytes: &mut Vec<u8>) -> io::Result<u64> {
        bytes.extend_from_slice(&self.before);
        let mut line = 0;
        if let Some(sessions) = &mut self.sessions {
            line = resident.unwrap_or_else(|| sessions.next());
            sessions.write(line, bytes)?;
        }
        bytes.extend_from_slice(&self.after);
        self.body.write_next(bytes);
        Ok(line)
    }
}

/// Writes a request for a page, as a browser that comes for the first time.
pub fn write_page(path: &str, host: &str, bytes: &mut Vec<u8>) {
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip, deflate, br\r\n\r\n");
    bytes.extend_from_slice(text.as_bytes());
}

/// The steps of an opening.
pub const STEPS: usize = 3;

/// Writes one step of an opening: the page, a session for the demo's resident `number`, and with that a refresh.
pub fn write_step(step: usize, host: &str, number: u64, session: &[u8], bytes: &mut Vec<u8>) {
    let of_session = format!("{{\"demo_resident\":{}}}", number + 1);
    let length = of_session.len();
    let (session, end) = (String::from_utf8_lossy(session), "\r\n\r\n");
    let text = match step {
        0 => return write_page("/", host, bytes),
        1 => format!(
            "POST /person/app/session HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}{end}{of_session}"
        ),
        _ => format!("GET /person/app/refreshQRCode HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {session}{end}"),
    };
    bytes.extend_from_slice(text.as_bytes());
}

impl Body {
    fn open(options: &Options) -> io::Result<Body> {
        if let Some(path) = &options.post {
            return Ok(Body::Same(std::fs::read(path)?));
        }
        // The time sets the scans of two runs apart, and the numbers those of one.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        let scans = Body::Scans { lines: options.scans, next: now.as_nanos() << 48, at_ms: now.as_millis() };
        Ok(if options.scans > 0 { scans } else { Body::None })
    }

    /// Of each request; all are of one length.
    fn bytes(&self) -> Option<usize> {
        match self {
            Body::None => None,
            Body::Same(bytes) => Some(bytes.len()),
            Body::Scans { lines, next, at_ms } => Some(*lines as usize * scan_line(*next, *at_ms).len()),
        }
    }

    fn write_next(&mut self, bytes: &mut Vec<u8>) {
        match self {
            Body::None => {}
            Body::Same(same) => bytes.extend_from_slice(same),
            Body::Scans { lines, next, at_ms } => {
                for _ in 0..*lines {
                    bytes.extend_from_slice(scan_line(*next, *at_ms).as_bytes());
                    *next += 1;
                }
            }
        }
    }
}

/// A line of `POST /scan/records`, with a place as long as most.
fn scan_line(id: u128, at_ms: u128) -> String {
    format!(
        "{{\"id\":\"{id:032x}\",\"at\":{at_ms},\"place\":\"East Gate 07\",\"cti\":\"{id:032x}\",\
         \"result\":\"valid\"}}\n"
    )
}

impl Sessions {
    fn next(&mut self) -> u64 {
        let line = (self.first + self.next) % self.in_file;
        self.next = (self.next + 1) % self.lines;
        line
    }

    fn write(&mut self, line: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        let held = (self.block.len() / LINE_BYTES) as u64;
        if !(self.block_first..self.block_first + held).contains(&line) {
            // Whoever comes back comes in no order: then the whole file is held.
            let lines = if self.all { self.in_file } else { BLOCK_LINES };
            let first = if self.all { 0 } else { line };
            self.block.resize(lines as usize * LINE_BYTES, 0);
            let read = self.file.read_at(&mut self.block, first * LINE_BYTES as u64)?;
            self.block.truncate(read / LINE_BYTES * LINE_BYTES);
            self.block_first = first;
        }
        let start = (line - self.block_first) as usize * LINE_BYTES;
        let session = self.block.get(start..start + SESSION_BYTES).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.extend_from_slice(session);
        Ok(())
    }
}
