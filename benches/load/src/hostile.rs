//! `--hostile KIND`: connections that mean harm, for an honest client beside them to be measured.
//!
//! `heads`, `bodies` and `readers` are opened all at once and held: the first two send one byte a second, the last asks for
//! more than the kernel's buffers take and reads 64 bytes a second. The others come at a rate (`--rate`): `begun` sends half a
//! head, and nothing more. The rest do to a TLS listener: `silent` nothing; `garbage` no TLS; `half` the first half of a hello; `cut` a good hello, for which the server makes
//! its keys and its signature, and away; `junk` the same, then a record that nobody can open. All hellos are one, made
//! once: an attacker does not work where their victim does.
//!
//! Told is how many came, what became of them, and when the server closed those that were held.

use std::io::{self, Read, Write};
use std::str::FromStr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll, Token};
use socket2::SockRef;

use crate::options::Options;
use crate::stream::connect_plain;

/// Held connections are opened so fast, unless told otherwise: no backlog overflows.
const OPENED_PER_S: f64 = 2_500.0;
/// Each held connection has its turn once a second, in so many groups: what others on this CPU feel is short.
const TURNS_A_SECOND: usize = 1_000;
/// What a slow reader reads a second.
const READ_BYTES: usize = 64;
/// Requests of a slow reader, unless told otherwise: half a megabyte of answers.
pub const PIPELINED: usize = 600;
/// Those who flood a listener wait no longer than this for it to close.
const FLOOD_PATIENCE: Duration = Duration::from_secs(10);
/// A record of application data that no key opens.
const JUNK: [u8; 69] = {
    let mut record = [0x5a; 69];
    (record[0], record[1], record[2], record[3], record[4]) = (23, 3, 3, 0, 64);
    record
};

/// How harm is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Heads,
    Bodies,
    Readers,
    Silent,
    Garbage,
    Half,
    Cut,
    Junk,
    Begun,
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Kind, ()> {
        use Kind::{Begun, Bodies, Cut, Garbage, Half, Heads, Junk, Readers, Silent};
        let names = ["heads", "bodies", "readers", "silent", "garbage", "half", "cut", "junk", "begun"];
        let kinds = [Heads, Bodies, Readers, Silent, Garbage, Half, Cut, Junk, Begun];
        names.iter().position(|name| *name == text).map(|index| kinds[index]).ok_or(())
    }
}

impl Kind {
    fn is_held(self) -> bool {
        matches!(self, Kind::Heads | Kind::Bodies | Kind::Readers)
    }
}

/// One connection that means harm.
struct Held {
    stream: TcpStream,
    began: Instant,
    /// What is to be sent, and how much of it was.
    sent: usize,
    answered: bool,
    /// `junk` was sent after the hello.
    was_rude: bool,
}

/// What became of all of them.
#[derive(Default)]
struct Told {
    begun: u64,
    /// No connection could be opened.
    failed: u64,
    answered: u64,
    /// Closed by the server, and after how long.
    closed_s: Vec<f64>,
    /// Left by themselves, as they meant to.
    left: u64,
    statuses: std::collections::BTreeMap<String, u64>,
}

/// Runs to the end and reports.
pub fn run(options: &Options, kind: Kind) -> io::Result<String> {
    let started = Instant::now();
    let mut hostile = Hostile {
        kind,
        options,
        poll: Poll::new()?,
        slots: Vec::new(),
        free: (0..options.connections).rev().collect(),
        words: words(options, kind)?,
        told: Told::default(),
    };
    hostile.slots.resize_with(options.connections, || None);
    hostile.run(started)?;
    Ok(hostile.json(started.elapsed()))
}

/// What each of them sends from its start, or one byte after the other.
fn words(options: &Options, kind: Kind) -> io::Result<Vec<u8>> {
    let host = &options.host;
    Ok(match kind {
        Kind::Heads => format!("GET / HTTP/1.1\r\nHost: {host}\r\nA: {}", "a".repeat(600)).into_bytes(),
        Kind::Bodies => format!(
            "POST /person/app/session HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3000\r\n\r\n{}",
            "{".repeat(600)
        )
        .into_bytes(),
        Kind::Readers => {
            let mut one = Vec::new();
            crate::requests::Requests::open(options)?.write_next(None, &mut one)?;
            one.repeat(options.pipelined)
        }
        Kind::Silent => Vec::new(),
        Kind::Begun => format!("GET / HTTP/1.1\r\nHost: {host}\r\nA").into_bytes(),
        Kind::Garbage => (0..200_u8).map(|byte| byte.wrapping_mul(37) | 1).collect(),
        Kind::Half | Kind::Cut | Kind::Junk => {
            let hello = options.dial.hello()?;
            let length = if kind == Kind::Half { hello.len() / 2 } else { hello.len() };
            hello[..length].to_vec()
        }
    })
}

struct Hostile<'a> {
    kind: Kind,
    options: &'a Options,
    poll: Poll,
    slots: Vec<Option<Held>>,
    free: Vec<usize>,
    words: Vec<u8>,
    told: Told,
}

impl Hostile<'_> {
    fn run(&mut self, started: Instant) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        let (mut turns, held) = (0, self.kind.is_held());
        let rate = if self.options.rate == 0.0 { OPENED_PER_S } else { self.options.rate };
        let most = if held { self.options.connections as u64 } else { u64::MAX };
        loop {
            let elapsed = started.elapsed();
            let all_closed = self.free.len() == self.slots.len();
            if elapsed >= self.options.duration || held && self.told.begun + self.told.failed >= most && all_closed {
                return Ok(());
            }
            let due = ((elapsed.as_secs_f64() * rate) as u64).min(most);
            while self.told.begun + self.told.failed < due {
                let Some(index) = self.free.pop() else { break };
                self.begin(index);
            }
            let turn = (elapsed.as_secs_f64() * TURNS_A_SECOND as f64) as usize;
            while turns < turn {
                turns += 1;
                for index in (turns % TURNS_A_SECOND..self.slots.len()).step_by(TURNS_A_SECOND) {
                    self.turn(index);
                }
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(1)))?;
            for event in &events {
                let gone = event.is_error() || event.is_read_closed() && self.kind == Kind::Readers;
                self.advance(event.token().0, gone);
            }
        }
    }

    fn begin(&mut self, index: usize) {
        let dial = self.options.dial.of(index);
        match connect_plain(&dial, self.poll.registry(), Token(index), self.kind == Kind::Readers) {
            Ok(stream) => {
                self.told.begun += 1;
                self.slots[index] =
                    Some(Held { stream, began: Instant::now(), sent: 0, answered: false, was_rude: false });
            }
            Err(_) => {
                self.told.failed += 1;
                self.free.push(index);
            }
        }
    }

    /// Once a second.
    fn turn(&mut self, index: usize) {
        let Some(held) = &mut self.slots[index] else { return };
        match self.kind {
            // The head of a body is sent at once, by `advance`.
            Kind::Heads | Kind::Bodies if held.sent > 0 && held.sent < self.words.len() => {
                held.sent += held.stream.write(&self.words[held.sent..=held.sent]).unwrap_or(0);
            }
            Kind::Readers => {
                let ended = matches!(held.stream.read(&mut [0; READ_BYTES]), Ok(0));
                if ended || held.stream.take_error().is_ok_and(|error| error.is_some()) {
                    self.end(index, true);
                }
            }
            _ if !self.kind.is_held() && held.began.elapsed() > FLOOD_PATIENCE => self.end(index, false),
            _ => {}
        }
    }

    /// The network has news of a connection.
    fn advance(&mut self, index: usize, gone: bool) {
        let Some(held) = &mut self.slots[index] else { return };
        if gone {
            return self.end(index, true);
        }
        let at_once = match self.kind {
            Kind::Heads => 1,
            Kind::Bodies => self.words.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |end| end + 5),
            _ => self.words.len(),
        };
        while held.sent < at_once {
            match held.stream.write(&self.words[held.sent..at_once]) {
                Ok(sent) => held.sent += sent,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => break,
                Err(_) => return self.end(index, true),
            }
        }
        match self.kind {
            Kind::Readers => return,
            // Away, once all is sent: these wait for nothing.
            Kind::Half if held.sent == at_once => return self.end(index, false),
            _ => {}
        }
        let mut buffer = [0; 4_096];
        loop {
            match held.stream.read(&mut buffer) {
                Ok(0) => return self.end(index, true),
                Ok(length) => {
                    if !held.answered {
                        held.answered = true;
                        self.told.answered += 1;
                        let first = String::from_utf8_lossy(&buffer[..length.min(12)]);
                        let status = first.strip_prefix("HTTP/1.1 ").unwrap_or("other");
                        *self.told.statuses.entry(status.to_owned()).or_default() += 1;
                    }
                    match self.kind {
                        Kind::Cut => return self.end(index, false),
                        Kind::Junk if !held.was_rude => {
                            held.was_rude = true;
                            if held.stream.write(&JUNK).is_err() {
                                return self.end(index, true);
                            }
                        }
                        _ => {}
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => return,
                Err(_) => return self.end(index, true),
            }
        }
    }

    fn end(&mut self, index: usize, by_server: bool) {
        let Some(held) = self.slots[index].take() else { return };
        if by_server {
            self.told.closed_s.push(held.began.elapsed().as_secs_f64());
        } else {
            self.told.left += 1;
            // They go without a farewell, which keeps their ports free for the next.
            let _ = SockRef::from(&held.stream).set_linger(Some(Duration::ZERO));
        }
        self.free.push(index);
    }

    /// One JSON object.
    fn json(&mut self, elapsed: Duration) -> String {
        self.told.closed_s.sort_by(f64::total_cmp);
        let told = &self.told;
        let at = |share: f64| match told.closed_s.len() {
            0 => "null".to_owned(),
            count => format!("{:.2}", told.closed_s[((count - 1) as f64 * share) as usize]),
        };
        let statuses: Vec<_> = told.statuses.iter().map(|(status, count)| format!("\"{status}\": {count}")).collect();
        format!(
            "{{\"begun\": {}, \"failed\": {}, \"answered\": {}, \"closed\": {}, \"left\": {}, \"open\": {}, \
             \"elapsed_s\": {:.2}, \"per_s\": {:.1}, \"answers\": {{{}}}, \"closed_s\": {{\"first\": {}, \"median\": {}, \
             \"p99\": {}, \"last\": {}}}}}",
            told.begun,
            told.failed,
            told.answered,
            told.closed_s.len(),
            told.left,
            self.slots.iter().flatten().count(),
            elapsed.as_secs_f64(),
            told.begun as f64 / elapsed.as_secs_f64(),
            statuses.join(", "),
            at(0.0),
            at(0.5),
            at(0.99),
            at(1.0),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_head_is_seen_to_be_closed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1]);
                let _ = stream.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n");
                // What is read before the end does not reset the answer.
                let _ = stream.shutdown(std::net::Shutdown::Write);
                while stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {}
            }
        });
        let line = format!("--hostile heads --url http://{address}/ --connections 2 --duration 5");
        let options = Options::from_arguments(line.split(' ').map(str::to_owned)).unwrap();
        let told = run(&options, Kind::Heads).unwrap();
        assert!(
            told.contains("\"begun\": 2") && told.contains("\"closed\": 2") && told.contains("\"408\": 2"),
            "{told}"
        );
    }

    #[test]
    fn a_kind_has_its_name() {
        assert_eq!(("readers".parse(), "nobody".parse::<Kind>()), (Ok(Kind::Readers), Err(())));
    }
}
