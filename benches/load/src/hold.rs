//! `--hold`: opens all connections, has one request answered on each, says so on stderr, and keeps them open until
//! stdin ends or the duration is over. What an idle keep-alive connection costs the server is read from outside
//! meanwhile.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::connection::{Connection, Event};
use crate::options::Options;
use crate::report::Report;
use crate::requests::Requests;

/// Opened at a time, so that no backlog overflows.
const BATCH: usize = 64;

/// Runs to the end.
pub fn run(options: &Options) -> io::Result<Report> {
    let (started, mut report) = (Instant::now(), Report::new());
    let mut requests = Requests::open(options)?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(BATCH);
    let mut connections: Vec<Connection> =
        (0..options.connections).map(|number| Connection::new(options.dial.of(number))).collect();
    for first in (0..connections.len()).step_by(BATCH) {
        let last = (first + BATCH).min(connections.len());
        for (index, connection) in connections.iter_mut().enumerate().take(last).skip(first) {
            connection.start(poll.registry(), Token(index), Instant::now(), |bytes| {
                requests.write_next(None, bytes).map(drop)
            })?;
            report.planned += 1;
        }
        let mut open = last - first;
        while open > 0 {
            poll.poll(&mut events, Some(Duration::from_millis(10)))?;
            for event in &events {
                match connections[event.token().0].advance() {
                    Event::Pending | Event::Ended => continue,
                    Event::Answered { status, bytes, done, due } => {
                        report.answered(status, bytes, done, due.elapsed(), false);
                    }
                    Event::Failed(failure) => report.failures[failure as usize] += 1,
                }
                open -= 1;
            }
            if started.elapsed() > options.duration {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "not all connections had their answer in time"));
            }
        }
    }
    eprintln!("load: {} connections held", connections.len());
    wait_for_end_of_input(options.duration);
    // Whoever was closed meanwhile has an end to read.
    for connection in &mut connections {
        let _ = connection.advance();
    }
    report.held = connections.iter().filter(|connection| connection.is_open()).count() as u64;
    report.elapsed = started.elapsed();
    Ok(report)
}

fn wait_for_end_of_input(at_most: Duration) {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = sender.send(());
    });
    let _ = receiver.recv_timeout(at_most);
}
