//! Short versions of what `scripts/bench/overload.py` measures: they show that it holds, not how well. The rush comes to a
//! simulated shard before a queue like the kernel's, so that nobody's CPUs are in the figure; the rest to the real process.

mod support;

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::thread::scope;

use onecode::limits::BACKLOG;
use support::process::Server;
use support::simulated::{Simulated, settings};
use support::{Client, Host, REFRESH, bearer, get};

const RESIDENTS: u32 = 20_000;

fn demo(settings: &[(&str, &str)]) -> Server {
    Server::demo_of(RESIDENTS, |command| {
        command.envs(settings.iter().map(|(key, value)| (format!("ONECODE_{key}"), value)));
    })
}

/// The requests of so many residents from one on, each for their code.
fn refreshes(server: &Server, from: u32, count: u32) -> Vec<String> {
    let sessions = std::fs::read_to_string(server.data().join("sessions.txt")).unwrap();
    let lines = sessions.lines().skip(from as usize).take(count as usize);
    lines.map(|session| get(REFRESH, &bearer(session))).collect()
}

/// A shard that serves so many a millisecond, and the kernel's queue of connections before it.
struct Node {
    process: Simulated,
    requests: Vec<String>,
    /// When they came, the first first.
    queue: VecDeque<u64>,
    backlog: u32,
    now_ms: u64,
}

/// Served a millisecond, whatever becomes of them.
const TURNS_A_MS: u64 = 2;
/// Connections that wait at most, whatever the shard asks for (`net.core.somaxconn`).
const QUEUE: u32 = 512;
const PATIENCE_MS: u64 = 1_000;

impl Node {
    fn new() -> Node {
        let process = Simulated::with(7, settings(None), 1, 4_096);
        let requests = (1..=64).map(|one| get(REFRESH, &bearer(&process.session(one)))).collect();
        Node { process, requests, queue: VecDeque::new(), backlog: BACKLOG, now_ms: 0 }
    }

    /// A second in which so many come each millisecond: how long those waited who were served in time, by when they were.
    fn second(&mut self, comes_a_ms: u64) -> Vec<u64> {
        let mut waited = Vec::new();
        for _ in 0..1_000 {
            self.now_ms += 1;
            for _ in 0..comes_a_ms {
                // Others are turned away by the kernel.
                if self.queue.len() < self.backlog.min(QUEUE) as usize {
                    self.queue.push_back(self.now_ms);
                }
            }
            for _ in 0..TURNS_A_MS.min(self.queue.len() as u64) {
                let age_ms = self.now_ms - self.queue.pop_front().unwrap();
                if self.ask(age_ms) && age_ms < PATIENCE_MS {
                    waited.push(age_ms);
                }
            }
            let mut sim = self.process.sim.borrow_mut();
            sim.advance(1);
            // As a driver does.
            if self.backlog != BACKLOG || sim.shard(0).turn_ms().is_some() {
                self.backlog = sim.shard(0).service.parts.admission.backlog(self.queue.len() as u32);
            }
        }
        waited
    }

    /// Whether someone who has waited for so long is served.
    fn ask(&mut self, age_ms: u64) -> bool {
        let mut sim = self.process.sim.borrow_mut();
        sim.age_ms = age_ms;
        let client = sim.connect(0).expect("there is room");
        sim.send(client, self.requests[self.now_ms as usize % 64].as_bytes());
        sim.settle();
        let answer = sim.take_received(client);
        sim.end(client);
        sim.settle();
        answer.starts_with(b"HTTP/1.1 200 ")
    }
}

#[test]
fn goodput_stands_at_ten_times_what_is_served_and_the_rush_is_soon_forgotten() {
    let mut node = Node::new();
    let capacity = (TURNS_A_MS * 1_000) as usize;
    assert_eq!(node.second(TURNS_A_MS).len(), capacity, "what comes is served");
    for second in 0..5 {
        let waited = node.second(10 * TURNS_A_MS);
        assert!(waited.len() * 10 >= capacity * 9, "{} of {capacity} in second {second}", waited.len());
    }
    let after: Vec<Vec<u64>> = (0..5).map(|_| node.second(TURNS_A_MS / 2)).collect();
    let calm = after.iter().position(|waited| waited.len() >= capacity / 2 && waited.iter().all(|ms| *ms < 5));
    assert!(calm.is_some_and(|second| second < 5), "{after:?}");
    assert!(after[4].len() == capacity / 2 && after[4].iter().all(|ms| *ms == 0));
}

#[test]
fn residents_behind_one_address_are_served_beside_those_who_mean_harm_there() {
    let server = demo(&[]);
    let garbage: Vec<u8> = (0..200_u8).map(|byte| byte.wrapping_mul(37) | 1).collect();
    let words: [&[u8]; 3] = [b"", b"GET / HTTP/1.1\r\nHost: te", &garbage];
    let harm: Vec<TcpStream> = (0..600)
        .map(|number| {
            let mut stream = TcpStream::connect(server.public).unwrap();
            stream.write_all(words[number % words.len()]).unwrap();
            stream
        })
        .collect();
    let answers: Vec<_> = refreshes(&server, 0, 500)
        .iter()
        .map(|request| {
            let mut client = Client::to(server.public);
            let status = client.ask(request).status;
            // They stay as long as a browser's connection does.
            (client, status)
        })
        .collect();
    assert!(answers.iter().all(|(_, status)| *status == 200));
    drop(harm);
}

#[test]
fn one_resident_who_reloads_without_end_costs_a_signature_a_window_on_each_shard() {
    let server = demo(&[("CODE_SIGNED_AHEAD", "0"), ("CODE_WINDOW_S", "300"), ("CODE_LIFE_S", "600")]);
    let storm = &refreshes(&server, 77, 1)[0];
    let others = refreshes(&server, 100, 100);
    let signed = || server.metric("onecode_signatures_total");
    let (before, window) = (signed(), support::unix_s() / 300);
    scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::to(server.public);
                (0..500).for_each(|_| assert_eq!(client.ask(storm).status, 200));
            });
        }
        let mut client = Client::to(server.public);
        others.iter().for_each(|request| assert_eq!(client.ask(request).status, 200));
    });
    let (windows, shards) = ((support::unix_s() / 300 - window + 1) as f64, 2.0);
    let of_storm = signed() - before - others.len() as f64;
    assert!((1.0..=windows * shards).contains(&of_storm), "{of_storm} signatures in {windows} windows");
}
