//! The one load generator. It is open loop: request N is due at start + N / rate, whatever became of the ones before,
//! and its latency counts from then, so that a server that stalls is charged for everyone who would have come
//! meanwhile (coordinated omission is what wrk's maximum is for).
//!
//! One thread, one epoll loop, no more connections than asked for. A request that is due when all connections are busy
//! waits here, and its time runs. It ends by itself: after the duration or the count, plus a bounded wait for answers
//! that are still out. The report is one JSON object on stdout.

mod connection;
mod crowd;
mod hold;
mod hostile;
mod options;
mod report;
mod requests;
mod stream;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll, Token};

use connection::{Connection, Event, Failure};
use options::Options;
use report::Report;
use requests::Requests;

/// Below this the loop asks again at once instead of sleeping: epoll counts in milliseconds, and rates do not.
const SLEEP_LEAST: Duration = Duration::from_millis(2);
/// How long answers are awaited after the last request.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
/// An answer that takes longer counts as none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let options = match Options::from_arguments(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(reason) => {
            eprintln!("load: {reason}");
            return ExitCode::from(2);
        }
    };
    // What is no measurement of requests has a report of its own.
    let other = match options.hostile {
        Some(kind) => Some(hostile::run(&options, kind)),
        None => options.crowd.then(|| crowd::run(&options)),
    };
    match other {
        Some(Ok(report)) => {
            println!("{report}");
            return ExitCode::SUCCESS;
        }
        Some(Err(error)) => {
            eprintln!("load: {}: {error}", options.address);
            return ExitCode::from(1);
        }
        None => {}
    }
    let ran = if options.hold { hold::run(&options) } else { Load::new(&options).and_then(Load::run) };
    match ran {
        Ok(report) => {
            println!("{}", report.json(&options));
            if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            eprintln!("load: {}: {error}", options.address);
            ExitCode::from(1)
        }
    }
}

/// One run at a rate.
struct Load<'a> {
    options: &'a Options,
    poll: Poll,
    connections: Vec<Connection>,
    /// Connections without a request, the one that has been so for the longest first.
    idle: VecDeque<usize>,
    /// When the requests were due that wait for a connection, and whose they are where that is settled.
    waiting: VecDeque<(Instant, Option<u64>)>,
    /// Residents who will come back, by when.
    returning: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Whose request is on each connection, and how many steps of an opening it has behind it.
    residents: Vec<u64>,
    steps: Vec<usize>,
    opened: u64,
    requests: Requests,
    report: Report,
    started: Instant,
}

impl<'a> Load<'a> {
    fn new(options: &'a Options) -> io::Result<Load<'a>> {
        let requests = Requests::open(options)?;
        let poll = Poll::new()?;
        let dial = |number| if options.dial.has_sources() { options.dial.of(number) } else { options.dial.clone() };
        let connections = (0..options.connections).map(|number| Connection::new(dial(number))).collect();
        let idle = (0..options.connections).rev().collect();
        let (waiting, returning, report) = (VecDeque::new(), BinaryHeap::new(), Report::new());
        let (residents, steps) = (vec![0; options.connections], vec![0; options.connections]);
        let (opened, started) = (0, Instant::now());
        #[rustfmt::skip]
        let load = Load {
            options, poll, connections, idle, waiting, returning, residents, steps, opened, requests, report, started,
        };
        Ok(load)
    }

    fn run(mut self) -> io::Result<Report> {
        let mut events = Events::with_capacity(1_024);
        self.started = Instant::now();
        let (mut planned, mut now) = (0_u64, self.started);
        let mut swept = now;
        loop {
            // Requests that are due. The plan is fixed beforehand; being late here counts as latency.
            let mut next = self.due(planned);
            while next <= now && planned < self.options.requests && !self.is_over(planned, next) {
                self.waiting.push_back((next, None));
                planned += 1;
                next = self.due(planned);
            }
            while let Some(Reverse((due, resident))) = self.returning.peek().copied()
                && due <= now
            {
                self.returning.pop();
                if due - self.started < self.options.duration {
                    self.waiting.push_back((due, Some(resident)));
                    self.report.planned += 1;
                }
            }
            self.dispatch()?;
            let over = self.is_over(planned, next);
            // Those who return are due until the end, long after the last one who came by the plan.
            let last = if self.options.returning { self.started + self.options.duration } else { next };
            if over && (self.all_answered() || now > last + LAST_ANSWERS) {
                break;
            }
            let ahead = if over { Duration::from_millis(20) } else { next.saturating_duration_since(now) };
            let sleep = match ahead {
                ahead if self.options.coarse => ahead,
                ahead if ahead >= SLEEP_LEAST => ahead - Duration::from_millis(1),
                _ => Duration::ZERO,
            };
            self.poll.poll(&mut events, Some(sleep.min(Duration::from_millis(100))))?;
            for event in &events {
                self.advance(event.token().0);
            }
            now = Instant::now();
            if now - swept > Duration::from_millis(100) {
                swept = now;
                self.sweep(now);
            }
        }
        self.report.planned += planned;
        self.report.elapsed = now - self.started;
        Ok(self.report)
    }

    fn due(&self, number: u64) -> Instant {
        self.started + Duration::from_secs_f64(self.options.due_s(number))
    }

    fn is_over(&self, planned: u64, next: Instant) -> bool {
        let all_came = planned >= self.options.requests && !self.options.returning;
        let first = Duration::from_secs_f64(self.options.first_s(self.options.connections as u64));
        all_came || next.max(Instant::now()) - self.started >= first + self.options.duration
    }

    fn all_answered(&self) -> bool {
        self.waiting.is_empty() && self.idle.len() == self.connections.len()
    }

    /// Gives waiting requests to idle connections.
    fn dispatch(&mut self) -> io::Result<()> {
        while !self.idle.is_empty() {
            let Some((due, resident)) = self.waiting.pop_front() else { break };
            let next = if self.options.in_turn { self.idle.pop_front() } else { self.idle.pop_back() };
            let Some(index) = next else { break };
            let requests = &mut self.requests;
            let (whose, opened) = (&mut self.residents[index], &mut self.opened);
            let (opening, host, residents) = (self.options.opening, &*self.options.host, self.options.residents);
            let write = |bytes: &mut Vec<u8>| {
                if opening {
                    *whose = *opened % residents;
                    *opened += 1;
                    requests::write_step(0, host, *whose, b"", bytes);
                    return Ok(());
                }
                requests.write_next(resident, bytes).map(|written| *whose = written)
            };
            self.steps[index] = 0;
            match self.connections[index].start(self.poll.registry(), Token(index), due, write) {
                Ok(()) => self.advance(index),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(error),
                // No address or descriptor is left for another connection.
                Err(_) => {
                    self.report.failures[Failure::Broken as usize] += 1;
                    self.idle.push_back(index);
                }
            }
        }
        Ok(())
    }

    /// Lets one connection go on as far as it can.
    fn advance(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let event = connection.advance();
        match event {
            Event::Pending => return,
            Event::Answered { status: 200, due, .. }
                if self.options.opening && self.steps[index] + 1 < requests::STEPS =>
            {
                self.steps[index] += 1;
                let (step, whose, host) = (self.steps[index], self.residents[index], &*self.options.host);
                let session = connection.session().unwrap_or_default();
                let write = |bytes: &mut Vec<u8>| {
                    requests::write_step(step, host, whose, &session, bytes);
                    Ok(())
                };
                match connection.start(self.poll.registry(), Token(index), due, write) {
                    Ok(()) => return self.advance(index),
                    Err(_) => self.report.failures[Failure::Broken as usize] += 1,
                }
            }
            Event::Answered { status, bytes, done, due } => {
                let warm = due - self.started < self.options.warm_up;
                self.report.answered(status, bytes, done, due.elapsed(), warm);
                if self.options.returning
                    && let Some(at_s) = connection.refresh_at()
                {
                    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
                    // A page comes back within a second of its time, by a jitter of its own.
                    let jitter =
                        (self.residents[index].wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24);
                    let after = Duration::from_secs_f64((at_s as f64 + jitter - now_s).max(0.0));
                    self.returning.push(Reverse((Instant::now() + after, self.residents[index])));
                }
            }
            Event::Failed(failure) => self.report.failures[failure as usize] += 1,
            // The server closed an idle connection, which it may; the next request opens another.
            Event::Ended => return,
        }
        if self.options.new_connections || self.options.opening {
            connection.close();
        }
        self.idle.push_back(index);
    }

    /// Gives up on answers that take too long.
    fn sweep(&mut self, now: Instant) {
        for (index, connection) in self.connections.iter_mut().enumerate() {
            if connection.has_waited(now, ANSWER_TIMEOUT) {
                connection.close();
                self.report.failures[Failure::Timeout as usize] += 1;
                self.idle.push_back(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Tells the first to come back in four seconds, and takes more than one to answer then.
    fn serve(listener: &TcpListener) -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        for late in [Duration::ZERO, Duration::from_millis(1_200)] {
            assert!(stream.read(&mut [0; 4_096])? > 0);
            thread::sleep(late);
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let body = format!("{{\"refresh_at\":{}}}", now_s + 4);
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        }
        Ok(())
    }

    #[test]
    fn the_last_answers_to_those_who_return_are_awaited() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = thread::spawn(move || serve(&listener));
        let sessions = std::env::temp_dir().join(format!("load-sessions-{}", std::process::id()));
        std::fs::write(&sessions, "A".repeat(48) + "\n").unwrap();
        let line = ["--url", &url, "--rate", "10", "--requests", "1", "--duration", "4.1", "--returning", "--sessions"];
        let arguments = line.iter().map(|word| (*word).to_owned()).chain([sessions.display().to_string()]);
        let options = Options::from_arguments(arguments).unwrap();
        let report = Load::new(&options).and_then(Load::run).unwrap();
        std::fs::remove_file(&sessions).unwrap();
        server.join().unwrap().unwrap();
        assert_eq!((report.planned, report.failed()), (2, 0));
    }
}
