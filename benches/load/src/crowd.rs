//! `--crowd`: people instead of requests. Each comes once, over a new connection, has the page (`--page`) and a code
//! (`--url`), and goes. Who has no code within their patience begins anew at once, who is refused after a moment, each a
//! few times, then they give up: so a slow server gets more work, as a real one does.
//!
//! They come by a plan of so many a second (`--plan`), at times that are random and the same in every run, whatever
//! became of those before, and their time runs from then until they have the code, through all that they try. Or, to find a maximum
//! (`--closed`), as many at once as there are connections, the next when one is done. They are drawn at random, or come one after
//! the other (`--in-order`), so that nobody comes twice; and they may keep their connection for a while (`--stay`), as a browser does.
//!
//! One thread, one epoll loop, no more connections than asked for: who finds none waits here, and both time and patience
//! run. The report is one JSON object with a line for every second: of those who were done in it, and, by `arrived_…`, of
//! those who came in it, since who came in a rush is the rush's however late they are done.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use crate::connection::{Connection, Event};
use crate::options::Options;
use crate::requests::{Requests, write_page};

/// Longer times are counted as this, ten minutes, in microseconds.
const TIME_US_MAX: u64 = 600_000_000;
/// How many try in vain before others who come are let on: a bound on one turn of the loop.
const TURN_PEOPLE_MAX: usize = 256;
/// Below this the loop asks again at once instead of sleeping: epoll counts in milliseconds.
const SLEEP_LEAST: Duration = Duration::from_millis(2);

/// How many come a second, over time: straight lines between these points of seconds and rates.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan(Vec<(f64, f64)>);

impl Plan {
    /// Reads `S:RATE,S:RATE,...`; the first is at 0, at most a day, and times only rise.
    pub fn parse(text: &str) -> Option<Plan> {
        let point = |text: &str| {
            let (at, rate) = text.split_once(':')?;
            let (at, rate) = (at.parse::<f64>().ok()?, rate.parse::<f64>().ok()?);
            ((0.0..=86_400.0).contains(&at) && (0.1..=1e6).contains(&rate)).then_some((at, rate))
        };
        let points = text.split(',').map(point).collect::<Option<Vec<_>>>()?;
        let rises = points.windows(2).all(|two| two[0].0 < two[1].0);
        (points.len() >= 2 && points[0].0 == 0.0 && rises).then_some(Plan(points))
    }

    /// How many come a second at that time.
    fn rate(&self, at: f64) -> f64 {
        let next = self.0.partition_point(|point| point.0 <= at).clamp(1, self.0.len() - 1);
        let ((from, low), (to, high)) = (self.0[next - 1], self.0[next]);
        low + (high - low) * ((at - from) / (to - from)).clamp(0.0, 1.0)
    }

    /// When the last one comes, in seconds.
    fn end(&self) -> f64 {
        self.0[self.0.len() - 1].0
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014), from one seed: every run has the same people at the same times.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0, at most 1.
    fn fraction(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

/// Someone who wants a code.
#[derive(Clone, Copy)]
struct Person {
    /// When they came.
    due: Instant,
    resident: u64,
    /// How often they began anew.
    reloads: u32,
    /// They have had the page, and their browser may keep it.
    has_page: bool,
}

/// A connection and who is on it.
struct Line {
    connection: Connection,
    person: Option<Person>,
    /// Tells one try on this connection from the next.
    tries: u64,
    on_page: bool,
}

/// What happened in one second.
#[derive(Default)]
struct Second {
    arrived: u64,
    served: u64,
    gave_up: u64,
    reloads: u64,
    refused: u64,
    broken: u64,
    bytes: u64,
    /// Connections in use, and people who have none, at its end.
    open: usize,
    waiting: usize,
    /// Of those served or giving up in it.
    p50_us: u64,
    p99_us: u64,
    /// Of the second that this thread had nothing to do, and how late it noticed an arrival.
    idle_us: u64,
    late_us: u64,
    /// Of those who came in this second, who were served in the end; and the time of each, served or not.
    served_of_arrived: u64,
    arrived_us: Vec<u32>,
    /// Of those served in it, whose answer was out past the deadline.
    overdue: u64,
}

impl Second {
    /// The time of those who came in it that so many in a hundred do not exceed; they are in order.
    fn arrived_part_us(&self, percent: usize) -> u32 {
        let rank = (self.arrived_us.len() * percent).div_ceil(100);
        self.arrived_us.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }
}

/// A crowd on its way.
struct Crowd<'a> {
    options: &'a Options,
    poll: Poll,
    lines: Vec<Line>,
    idle: Vec<usize>,
    /// People who have no connection, since when.
    waiting: VecDeque<(Instant, Person)>,
    /// People who were refused, until when they wait.
    pausing: VecDeque<(Instant, Person)>,
    /// When the patience with each try ends.
    patience: VecDeque<(Instant, usize, u64)>,
    /// People who have their code and keep their connection, until when.
    staying: VecDeque<(Instant, usize)>,
    requests: Requests,
    residents: u64,
    /// Whose turn it is where they come in order.
    next_resident: u64,
    chance: Chance,
    /// When the last poll ended, and for how long nobody had looked at its events.
    polled: Instant,
    unseen: Duration,
    started: Instant,
    seconds: Vec<Second>,
    /// Of the second in progress, of all, and of those served.
    times: Histogram<u64>,
    all_times: Histogram<u64>,
    served_times: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    /// Of each that is done, if that is wanted: when they came, for how long in microseconds, tries, 1 if they were served.
    visits: String,
}

/// Runs to the end and reports.
pub fn run(options: &Options) -> io::Result<String> {
    let started_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let mut crowd = Crowd::new(options)?;
    crowd.run()?;
    if let Some(path) = &options.visits {
        std::fs::write(path, format!("came_us,took_us,tries,served\n{}", crowd.visits))?;
    }
    Ok(crowd.json(started_unix.as_secs_f64()))
}

impl<'a> Crowd<'a> {
    fn new(options: &'a Options) -> io::Result<Crowd<'a>> {
        let requests = Requests::open(options)?;
        let residents = requests.residents();
        let line = |number| Line {
            connection: Connection::new(options.dial.of(number)),
            person: None,
            tries: 0,
            on_page: false,
        };
        let times = Histogram::new_with_bounds(1, TIME_US_MAX, 3).expect("the bounds are in order");
        Ok(Crowd {
            options,
            poll: Poll::new()?,
            lines: (0..options.connections).map(line).collect(),
            idle: (0..options.connections).rev().collect(),
            waiting: VecDeque::new(),
            pausing: VecDeque::new(),
            patience: VecDeque::new(),
            staying: VecDeque::new(),
            requests,
            residents,
            next_resident: 0,
            chance: Chance(1),
            polled: Instant::now(),
            unseen: Duration::ZERO,
            started: Instant::now(),
            seconds: vec![Second::default()],
            all_times: times.clone(),
            served_times: times.clone(),
            times,
            statuses: BTreeMap::new(),
            visits: String::new(),
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        self.started = Instant::now();
        let plan = self.options.plan.as_ref();
        let end_s = plan.map_or(self.options.duration.as_secs_f64(), Plan::end);
        // By then whoever came last is served or has given up.
        let patience_s = self.options.patience.as_secs_f64() + self.options.pause.as_secs_f64();
        let latest_s =
            end_s + 1.0 + if plan.is_some() { patience_s * f64::from(self.options.reloads + 1) } else { 0.0 };
        let (mut next_s, mut idle) = (0.0, Duration::ZERO);
        loop {
            let now = Instant::now();
            let now_s = (now - self.started).as_secs_f64();
            self.turn_second(now);
            self.second().idle_us += std::mem::take(&mut idle).as_micros() as u64;
            let mut turn = 0;
            if let Some(plan) = plan {
                while next_s <= now_s && next_s < end_s && turn < TURN_PEOPLE_MAX {
                    self.arrive(next_s, now);
                    next_s -= self.chance.fraction().ln() / plan.rate(next_s);
                    turn += 1;
                }
            } else if now_s < end_s {
                for _ in 0..self.idle.len().saturating_sub(self.waiting.len()) {
                    self.arrive(now_s, now);
                }
            }
            self.lose_patience(now);
            self.dispatch()?;
            let all_gone = self.waiting.is_empty() && self.pausing.is_empty() && self.idle.len() == self.lines.len();
            let over = if plan.is_some() { next_s >= end_s && all_gone || now_s >= latest_s } else { now_s >= end_s };
            if over {
                break;
            }
            let ahead = if plan.is_some() && next_s < end_s { (next_s - now_s).max(0.0) } else { 0.01 };
            let ahead = Duration::from_secs_f64(ahead.min(0.01));
            let sleep = if ahead >= SLEEP_LEAST { ahead - Duration::from_millis(1) } else { Duration::ZERO };
            let before = Instant::now();
            let looked_away = before - self.polled;
            self.poll.poll(&mut events, Some(sleep))?;
            (self.polled, self.unseen) = (Instant::now(), looked_away);
            // A turn in which nothing happens is one of waiting, as is sleep.
            if events.is_empty() && turn == 0 {
                idle = now.elapsed();
            } else if !sleep.is_zero() {
                idle = before.elapsed();
            }
            for event in &events {
                self.advance(event.token().0);
            }
        }
        self.close_second();
        Ok(())
    }

    /// The second in progress.
    fn second(&mut self) -> &mut Second {
        self.seconds.last_mut().expect("the first is there from the start")
    }

    /// Begins the next second when its time has come.
    fn turn_second(&mut self, now: Instant) {
        while (now - self.started).as_secs() >= self.seconds.len() as u64 {
            self.close_second();
            self.seconds.push(Second::default());
        }
    }

    fn close_second(&mut self) {
        let (open, waiting) = (self.lines.len() - self.idle.len(), self.waiting.len() + self.pausing.len());
        let (p50_us, p99_us) = (self.times.value_at_quantile(0.5), self.times.value_at_quantile(0.99));
        let second = self.second();
        (second.open, second.waiting, second.p50_us, second.p99_us) = (open, waiting, p50_us, p99_us);
        self.times.reset();
    }

    /// Someone comes.
    fn arrive(&mut self, due_s: f64, now: Instant) {
        let due = self.started + Duration::from_secs_f64(due_s);
        let resident = if self.options.in_order { self.next_resident } else { self.chance.next() } % self.residents;
        self.next_resident += 1;
        self.waiting.push_back((now, Person { due, resident, reloads: 0, has_page: false }));
        // Who is noticed late counts where they belong.
        self.seconds[due_s as usize].arrived += 1;
        let late_us = now.saturating_duration_since(due).as_micros() as u64;
        let second = self.second();
        second.late_us = second.late_us.max(late_us);
    }

    /// Whoever has waited long enough, for an answer or a connection, begins anew.
    fn lose_patience(&mut self, now: Instant) {
        while let Some((until, index, tries)) = self.patience.front().copied()
            && until <= now
        {
            self.patience.pop_front();
            let line = &mut self.lines[index];
            if line.tries == tries
                && let Some(person) = line.person.take()
            {
                line.connection.close();
                self.idle.push(index);
                self.again(person, now);
            }
        }
        while let Some((since, person)) = self.waiting.front().copied()
            && since + self.options.patience <= now
        {
            self.waiting.pop_front();
            self.again(person, now);
        }
        while let Some((until, person)) = self.pausing.front().copied()
            && until <= now
        {
            self.pausing.pop_front();
            self.waiting.push_back((now, person));
        }
        while let Some((until, index)) = self.staying.front().copied()
            && until <= now
        {
            self.staying.pop_front();
            self.lines[index].connection.close();
            self.idle.push(index);
        }
    }

    /// They reload, or give up.
    fn again(&mut self, person: Person, now: Instant) {
        if let Some(person) = self.reloads(person) {
            self.waiting.push_back((now, person));
        }
    }

    /// They try once more, or give up.
    fn reloads(&mut self, mut person: Person) -> Option<Person> {
        if person.reloads >= self.options.reloads {
            self.second().gave_up += 1;
            self.record(person, false);
            return None;
        }
        person.reloads += 1;
        self.second().reloads += 1;
        Some(person)
    }

    /// They were refused, or their connection broke: they see an error, and reload after a moment.
    fn refused(&mut self, person: Person) {
        if let Some(person) = self.reloads(person) {
            self.pausing.push_back((Instant::now() + self.options.pause, person));
        }
    }

    fn record(&mut self, person: Person, served: bool) {
        let (came, time_us) = (person.due - self.started, person.due.elapsed().as_micros() as u64);
        self.times.saturating_record(time_us);
        self.all_times.saturating_record(time_us);
        let second = &mut self.seconds[came.as_secs() as usize];
        second.served_of_arrived += u64::from(served);
        second.arrived_us.push(time_us.try_into().unwrap_or(u32::MAX));
        if self.options.visits.is_some() {
            let tries = person.reloads + 1;
            let _ = writeln!(self.visits, "{},{time_us},{tries},{}", came.as_micros(), u8::from(served));
        }
    }

    /// Gives connections to those who wait.
    fn dispatch(&mut self) -> io::Result<()> {
        while !self.idle.is_empty() {
            let Some((since, person)) = self.waiting.pop_front() else { break };
            let Some(index) = self.idle.pop() else { break };
            let line = &mut self.lines[index];
            line.person = Some(person);
            line.tries += 1;
            self.patience.push_back((since + self.options.patience, index, line.tries));
            line.on_page = self.options.page.is_some() && !(person.has_page && self.options.page_cached);
            self.ask(index)?;
        }
        Ok(())
    }

    /// Sends the request that is next on a connection, and lets it go on.
    fn ask(&mut self, index: usize) -> io::Result<()> {
        let (options, requests) = (self.options, &mut self.requests);
        let line = &mut self.lines[index];
        let Some(person) = line.person else { return Ok(()) };
        let page = options.page.as_deref().filter(|_| line.on_page);
        let write = |bytes: &mut Vec<u8>| match page {
            Some(path) => {
                write_page(path, &options.host, bytes);
                Ok(())
            }
            None => requests.write_next(Some(person.resident), bytes).map(drop),
        };
        match line.connection.start(self.poll.registry(), Token(index), person.due, write) {
            Ok(()) => self.advance(index),
            // The sessions end early.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(error),
            // No address or descriptor is left for another connection.
            Err(_) => self.leave(index, false),
        }
        Ok(())
    }

    /// Lets one connection go on as far as it can.
    fn advance(&mut self, index: usize) {
        match self.lines[index].connection.advance() {
            Event::Pending | Event::Ended => {}
            Event::Answered { status, bytes, .. } => {
                *self.statuses.entry(status).or_default() += 1;
                self.second().bytes += bytes as u64;
                let line = &mut self.lines[index];
                if status == 200 && line.on_page {
                    line.on_page = false;
                    if let Some(person) = &mut line.person {
                        person.has_page = true;
                    }
                    if self.ask(index).is_err() {
                        self.leave(index, false);
                    }
                    return;
                }
                if status != 200 {
                    self.second().refused += 1;
                }
                self.leave(index, status == 200);
            }
            Event::Failed(_) => {
                self.second().broken += 1;
                self.leave(index, false);
            }
        }
    }

    /// Whether the last answer was out past the deadline after its request was, however late it was noticed here.
    fn is_overdue(&self, index: usize) -> bool {
        let late = self.unseen + self.polled.elapsed();
        let sent = self.lines[index].connection.sent();
        sent.is_some_and(|sent| sent.elapsed().saturating_sub(late) > self.options.deadline)
    }

    /// Someone is done with their connection.
    fn leave(&mut self, index: usize, served: bool) {
        let is_overdue = served && self.is_overdue(index);
        let line = &mut self.lines[index];
        let Some(person) = line.person.take() else { return };
        if served && !self.options.stay.is_zero() {
            self.staying.push_back((Instant::now() + self.options.stay, index));
        } else {
            line.connection.close();
            self.idle.push(index);
        }
        if !served {
            return self.refused(person);
        }
        self.served_times.saturating_record(person.due.elapsed().as_micros() as u64);
        self.second().overdue += u64::from(is_overdue);
        self.second().served += 1;
        self.record(person, true);
    }

    /// One JSON object, numbers with their unit in the name.
    fn json(&mut self, started_unix_s: f64) -> String {
        self.seconds.iter_mut().for_each(|second| second.arrived_us.sort_unstable());
        let sum = |of: fn(&Second) -> u64| self.seconds.iter().map(of).sum::<u64>();
        let mut text = format!("{{\"started_unix_s\": {started_unix_s:.3}, \"connections\": {}, ", self.lines.len());
        let statuses: Vec<_> = self.statuses.iter().map(|(status, count)| format!("\"{status}\": {count}")).collect();
        let _ = write!(
            text,
            "\"arrived\": {}, \"served\": {}, \"gave_up\": {}, \"reloads\": {}, \"refused\": {}, \"broken\": {}, \
             \"overdue\": {}, \"statuses\": {{{}}}, \"latency_us\": {{\"p50\": {}, \"p99\": {}, \"max\": {}}}, \
             \"served_latency_us\": {{\"p50\": {}, \"p99\": {}, \"max\": {}}}, \"seconds\": [",
            sum(|second| second.arrived),
            sum(|second| second.served),
            sum(|second| second.gave_up),
            sum(|second| second.reloads),
            sum(|second| second.refused),
            sum(|second| second.broken),
            sum(|second| second.overdue),
            statuses.join(", "),
            self.all_times.value_at_quantile(0.5),
            self.all_times.value_at_quantile(0.99),
            self.all_times.max(),
            self.served_times.value_at_quantile(0.5),
            self.served_times.value_at_quantile(0.99),
            self.served_times.max(),
        );
        for (number, second) in self.seconds.iter().enumerate() {
            let _ = write!(
                text,
                "{}{{\"arrived\": {}, \"served\": {}, \"served_of_arrived\": {}, \"gave_up\": {}, \"reloads\": {}, \
                 \"refused\": {}, \"broken\": {}, \"bytes\": {}, \"open\": {}, \"waiting\": {}, \"p50_us\": {}, \
                 \"p99_us\": {}, \"arrived_p50_us\": {}, \"arrived_p99_us\": {}, \"idle_us\": {}, \"late_us\": {}, \
                 \"overdue\": {}}}",
                if number > 0 { ", " } else { "" },
                second.arrived,
                second.served,
                second.served_of_arrived,
                second.gave_up,
                second.reloads,
                second.refused,
                second.broken,
                second.bytes,
                second.open,
                second.waiting,
                second.p50_us,
                second.p99_us,
                second.arrived_part_us(50),
                second.arrived_part_us(99),
                second.idle_us,
                second.late_us,
                second.overdue,
            );
        }
        text + "]}"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_straight_lines_between_its_points() {
        let plan = Plan::parse("0:100,10:100,20:1000,21:100").unwrap();
        assert_eq!([0.0, 10.0, 15.0, 20.0, 99.0].map(|at| plan.rate(at)), [100.0, 100.0, 550.0, 1000.0, 100.0]);
        assert_eq!(plan.end(), 21.0);
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused() {
        for wrong in [
            "",
            "0:5",
            "1:5,2:5",
            "0:5,0:6",
            "0:5,3:6,2:7",
            "0:0,1:5",
            "0:5,1:x",
            "0:5;1:5",
            "0:5,99999:5",
            "0:nan,1:5",
        ] {
            assert_eq!(Plan::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn everyone_who_comes_is_served_or_gives_up() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Every second one is refused.
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4_096]);
                let status = if number % 2 == 0 { "200 OK" } else { "503 Service Unavailable" };
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        let line = format!("--crowd --url http://{address}/ --plan 0:50,1:50 --reloads 1 --pause 0.05 --patience 2");
        let options = Options::from_arguments(line.split(' ').map(str::to_owned)).unwrap();
        let mut crowd = Crowd::new(&options).unwrap();
        crowd.run().unwrap();
        let sum = |of: fn(&Second) -> u64| crowd.seconds.iter().map(of).sum::<u64>();
        let (arrived, served, gave_up) = (sum(|one| one.arrived), sum(|one| one.served), sum(|one| one.gave_up));
        assert!((20..100).contains(&arrived) && served > gave_up && gave_up > 0, "{arrived} {served} {gave_up}");
        assert_eq!(arrived, served + gave_up);
        assert_eq!(sum(|one| one.served_of_arrived), served);
        assert_eq!(sum(|one| one.refused), sum(|one| one.reloads) + gave_up);
    }
}
