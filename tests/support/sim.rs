//! The simulator: the shards of a process under virtual time and a seeded network, in one thread.
//!
//! It does what a driver does and chooses, by its seed, what a network chooses: in which order things happen, into how
//! many pieces bytes fall, how long a send takes. The same seed gives the same run. It keeps to
//! the contract that the real drivers have with the shard.

use std::collections::VecDeque;

use onecode::shard::{Age, ConnectionId, Next, Shard};
use onecode::words::Now;

/// A client's end of a simulated connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client(usize);

struct Pipe {
    shard: usize,
    id: ConnectionId,
    to_server: VecDeque<u8>,
    client_done: bool,
    end_told: bool,
    to_client: Vec<u8>,
    next: Next,
    /// The server said that it sends no more.
    server_done: bool,
}

/// The journal of a simulated process, for the lanes of its shards.
pub trait Disk {
    /// Whether it has something to do now.
    fn is_ready(&self, now: Now) -> bool;
    /// Does it, and says whether the shards must be rung.
    fn step(&mut self, now: Now, random: &mut fastrand::Rng) -> bool;
}

/// A simulated process.
pub struct Sim<D> {
    /// Its journal.
    pub disk: D,
    /// How old what comes in is, in milliseconds.
    pub age_ms: u64,
    now: Now,
    random: fastrand::Rng,
    shards: Vec<Shard>,
    rung: Vec<bool>,
    pipes: Vec<Pipe>,
}

/// The bytes of one delivery; above the receive buffers of the real drivers, so that splits fall on either side.
const PIECE_BYTES_MAX: usize = 4_096;

impl<D: Disk> Sim<D> {
    /// A process of these shards and this journal at `start`, with a network that follows `seed`.
    pub fn new(seed: u64, start: Now, shards: Vec<Shard>, disk: D) -> Sim<D> {
        let rung = vec![false; shards.len()];
        Sim { disk, age_ms: 0, now: start, random: fastrand::Rng::with_seed(seed), shards, rung, pipes: Vec::new() }
    }

    /// The virtual time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Connects to one shard. `None`: it refused.
    pub fn connect(&mut self, shard: usize) -> Option<Client> {
        let id = self.shards[shard].handle_accept(self.now, std::net::Ipv4Addr::LOCALHOST.into())?;
        self.pipes.push(Pipe {
            shard,
            id,
            to_server: VecDeque::new(),
            client_done: false,
            end_told: false,
            to_client: Vec::new(),
            next: Next::Receive,
            server_done: false,
        });
        let client = Client(self.pipes.len() - 1);
        self.poll(client.0);
        Some(client)
    }

    /// Puts bytes on the way to the server.
    pub fn send(&mut self, client: Client, bytes: &[u8]) {
        self.pipes[client.0].to_server.extend(bytes);
    }

    /// The client sends no more.
    pub fn end(&mut self, client: Client) {
        self.pipes[client.0].client_done = true;
    }

    /// Takes what the client has received.
    pub fn take_received(&mut self, client: Client) -> Vec<u8> {
        std::mem::take(&mut self.pipes[client.0].to_client)
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self, client: Client) -> bool {
        matches!(self.pipes[client.0].next, Next::Close)
    }

    /// Whether the server said that it sends no more.
    pub fn is_server_done(&self, client: Client) -> bool {
        self.pipes[client.0].server_done || self.is_closed(client)
    }

    /// Tells a shard that something lies in its queue.
    pub fn ring(&mut self, shard: usize) {
        self.rung[shard] = true;
    }

    /// One shard, for what a test wants to look at.
    pub fn shard(&mut self, shard: usize) -> &mut Shard {
        &mut self.shards[shard]
    }

    /// Lets everything happen that can, in an order of the seed's choosing, without time passing.
    ///
    /// # Panics
    /// When it does not come to rest: the shards keep each other busy for nothing.
    pub fn settle(&mut self) {
        for _ in 0..1_000_000 {
            let ready: Vec<Event> = self.ready();
            let Some(event) = ready.get(self.random.usize(0..ready.len().max(1))) else { return };
            match *event {
                Event::Bell(shard) => {
                    self.rung[shard] = false;
                    self.shards[shard].handle_messages(self.now);
                    self.after_event(shard);
                }
                Event::Disk => {
                    if self.disk.step(self.now, &mut self.random) {
                        self.rung.fill(true);
                    }
                }
                Event::Receive(pipe) => self.receive(pipe),
                Event::Sent(pipe) => self.sent(pipe),
            }
        }
        panic!("the simulation does not come to rest");
    }

    /// Lets time pass, in small steps, with all that happens meanwhile.
    pub fn advance(&mut self, time_ms: u64) {
        let end_us = self.now.mono_us + time_ms * 1_000;
        self.settle();
        while self.now.mono_us < end_us {
            let step_us = self.random.u64(1_000..=100_000).min(end_us - self.now.mono_us);
            let unix_us = self.now.unix_ms * 1_000 + self.now.mono_us % 1_000 + step_us;
            self.now = Now { unix_ms: unix_us / 1_000, mono_us: self.now.mono_us + step_us };
            for shard in 0..self.shards.len() {
                self.shards[shard].handle_time(self.now);
                self.shards[shard].handle_turn(self.now);
                self.after_event(shard);
                while self.random.bool() && self.shards[shard].service.has_work_ahead(self.now) {
                    self.shards[shard].service.work_ahead(self.now);
                }
            }
            self.settle();
        }
    }

    fn ready(&self) -> Vec<Event> {
        let bells = self.rung.iter().enumerate().filter(|(_, rung)| **rung).map(|(shard, _)| Event::Bell(shard));
        let pipes = self.pipes.iter().enumerate().filter_map(|(index, pipe)| match pipe.next {
            Next::Receive | Next::ReceiveOrWake
                if !pipe.to_server.is_empty() || (pipe.client_done && !pipe.end_told) =>
            {
                Some(Event::Receive(index))
            }
            Next::Send(_) => Some(Event::Sent(index)),
            _ => None,
        });
        let disk = self.disk.is_ready(self.now).then_some(Event::Disk);
        bells.chain(pipes).chain(disk).collect()
    }

    fn receive(&mut self, index: usize) {
        let pipe = &mut self.pipes[index];
        let shard = &mut self.shards[pipe.shard];
        if pipe.to_server.is_empty() {
            pipe.end_told = true;
            shard.handle_end(self.now, pipe.id);
        } else {
            let length = self.random.usize(1..=pipe.to_server.len().min(PIECE_BYTES_MAX));
            let piece: Vec<u8> = pipe.to_server.drain(..length).collect();
            if shard.service.parts.admission.wants_age(self.now) {
                shard.handle_age(self.now, pipe.id, Age { ms: self.age_ms, is_gone: false });
            }
            shard.handle_received(self.now, pipe.id, &piece);
        }
        let shard = pipe.shard;
        self.poll(index);
        self.after_event(shard);
    }

    fn sent(&mut self, index: usize) {
        let pipe = &mut self.pipes[index];
        let Next::Send(output) = std::mem::replace(&mut pipe.next, Next::Wait) else { return };
        pipe.to_client.extend_from_slice(output.head.bytes().unwrap_or_default());
        pipe.to_client.extend_from_slice(&output.body);
        let shard = pipe.shard;
        self.shards[shard].handle_sent(self.now, pipe.id, output);
        self.poll(index);
        self.after_event(shard);
    }

    fn poll(&mut self, index: usize) {
        loop {
            let pipe = &mut self.pipes[index];
            let shard = &mut self.shards[pipe.shard];
            pipe.next = shard.poll(self.now, pipe.id);
            match pipe.next {
                Next::ShutdownWrite => pipe.server_done = true,
                Next::Close => return shard.handle_closed(pipe.id, false, None),
                _ => return,
            }
        }
    }

    fn after_event(&mut self, shard: usize) {
        while let Some(other) = self.shards[shard].poll_bell() {
            // The journal, behind the last shard, looks at its lanes by itself.
            if let Some(rung) = self.rung.get_mut(other) {
                *rung = true;
            }
        }
        while let Some(id) = self.shards[shard].poll_woken() {
            let woken = |pipe: &Pipe| pipe.shard == shard && pipe.id == id;
            let Some(index) = self.pipes.iter().position(woken) else { continue };
            match std::mem::replace(&mut self.pipes[index].next, Next::Close) {
                Next::Close => {}
                // A send in flight ends where the shard gave up on it.
                Next::Send(output) => self.shards[shard].handle_closed(id, false, Some(output)),
                _ => self.poll(index),
            }
        }
    }
}

enum Event {
    Bell(usize),
    Disk,
    Receive(usize),
    Sent(usize),
}
