//! The command line.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::crowd::Plan;
use crate::hostile::{Kind, PIPELINED};
use crate::stream::{Dial, Wishes};

/// Printed when the command line is wrong.
const USAGE: &str = "usage: load --url http[s]://HOST:PORT/PATH --rate N --duration S [--requests N] [--warm-up S] \
                     [--connections N] [--new-connections] [--sessions FILE [--from N] [--residents N] \
                     [--returning]] [--field 'Name: value']... [--post FILE | --scans N] \
                     [--opening] [--in-turn] [--first-rate N] [--coarse] [--hold] [--trust FILE.pem [--resume] [--post-quantum]] \
                     [--sources ADDRESS/COUNT] \
                     | load --crowd --url URL {--plan S:RATE,S:RATE,... | --closed --duration S} [--page PATH \
                     [--page-cached]] [--patience S] [--reloads N] [--pause S] [--stay S] [--in-order] [--deadline S] \
                     [--visits FILE] and as above \
                     | load --hostile {heads|bodies|readers [--pipelined N]|silent|garbage|half|cut|junk|begun} --url URL \
                     --duration S and as above";

/// What was asked for.
pub struct Options {
    /// The first address of the URL's host.
    pub address: SocketAddr,
    /// How it is connected to.
    pub dial: Dial,
    /// For the `Host` field.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Requests a second.
    pub rate: f64,
    /// No request is due after this.
    pub duration: Duration,
    /// Nor after so many.
    pub requests: u64,
    /// Answers to requests due before this are not in the histogram.
    pub warm_up: Duration,
    /// Connections at most.
    pub connections: usize,
    /// A new connection for each request, closed after its answer.
    pub new_connections: bool,
    /// The demo's `sessions.txt`.
    pub sessions: Option<PathBuf>,
    /// The line to begin with, from 0.
    pub from: u64,
    /// How many lines to walk before beginning again.
    pub residents: u64,
    /// Each resident comes back when the answer says so, until the end.
    pub returning: bool,
    /// Further fields of each request.
    pub fields: Vec<String>,
    /// A file with the body of each request, which is then a POST.
    pub post: Option<PathBuf>,
    /// Scans that each request brings, which is then a POST of so many lines, each with an `id` of its own.
    pub scans: u32,
    /// Each request is an opening: page, session and refresh of the next demo resident, over one new connection.
    pub opening: bool,
    /// Connections take turns: else the one that was used last is used next.
    pub in_turn: bool,
    /// The first request of each connection comes at this rate, and is no part of the duration.
    pub first_rate: Option<f64>,
    /// Sleep to the millisecond between requests, to leave the CPU to another generator whose latencies count.
    pub coarse: bool,
    /// Hold the connections open instead of asking at a rate.
    pub hold: bool,
    /// People instead of requests, each with a connection of their own.
    pub crowd: bool,
    /// Connections that mean harm instead of requests.
    pub hostile: Option<Kind>,
    /// Requests that one of them sends at once if it reads slowly.
    pub pipelined: usize,
    /// When how many of them come; without it as many as there are connections, all the time.
    pub plan: Option<Plan>,
    /// The page that each has first.
    pub page: Option<String>,
    /// Who has it once does not fetch it again.
    pub page_cached: bool,
    /// How long they wait for their code before they begin anew.
    pub patience: Duration,
    /// How often they do.
    pub reloads: u32,
    /// How long they look at a refusal before they do.
    pub pause: Duration,
    /// How long they keep their connection once they have their code.
    pub stay: Duration,
    /// They are the residents in the order of the file.
    pub in_order: bool,
    /// Answers that are out longer than this after their request are counted.
    pub deadline: Duration,
    /// Where a line for each of them goes.
    pub visits: Option<PathBuf>,
}

impl Options {
    /// Reads the command line; the error says what is wrong with it.
    pub fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options::usual();
        let (mut closed, mut sources) = (false, None);
        let (mut trust, mut wishes) = (None::<PathBuf>, Wishes::default());
        let mut url = String::new();
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} wants a value\n{USAGE}"));
            match name.as_str() {
                "--url" => url = value()?,
                "--trust" => trust = Some(value()?.into()),
                "--resume" => wishes.resume = true,
                "--post-quantum" => wishes.post_quantum = true,
                "--rate" => options.rate = number(&name, &value()?)?,
                "--duration" => options.duration = seconds(&name, &value()?)?,
                "--requests" => options.requests = number(&name, &value()?)?,
                "--warm-up" => options.warm_up = seconds(&name, &value()?)?,
                "--connections" => options.connections = number(&name, &value()?)?,
                "--new-connections" => options.new_connections = true,
                "--sessions" => options.sessions = Some(value()?.into()),
                "--from" => options.from = number(&name, &value()?)?,
                "--residents" => options.residents = number(&name, &value()?)?,
                "--returning" => options.returning = true,
                "--field" => options.fields.push(value()?),
                "--post" => options.post = Some(value()?.into()),
                "--scans" => options.scans = number(&name, &value()?)?,
                "--opening" => options.opening = true,
                "--in-turn" => options.in_turn = true,
                "--first-rate" => options.first_rate = Some(number(&name, &value()?)?),
                "--coarse" => options.coarse = true,
                "--hold" => options.hold = true,
                "--crowd" => options.crowd = true,
                "--closed" => closed = true,
                "--hostile" => options.hostile = Some(number(&name, &value()?).map_err(|_| USAGE.to_owned())?),
                "--pipelined" => options.pipelined = number(&name, &value()?)?,
                "--plan" => {
                    let text = value()?;
                    let plan = Plan::parse(&text);
                    options.plan =
                        Some(plan.ok_or(format!("--plan {text}: S:RATE,S:RATE,... from 0 on, at most a day"))?);
                }
                "--page" => options.page = Some(value()?),
                "--page-cached" => options.page_cached = true,
                "--patience" => options.patience = seconds(&name, &value()?)?,
                "--reloads" => options.reloads = number(&name, &value()?)?,
                "--pause" => options.pause = seconds(&name, &value()?)?,
                "--stay" => options.stay = seconds(&name, &value()?)?,
                "--in-order" => options.in_order = true,
                "--deadline" => options.deadline = seconds(&name, &value()?)?,
                "--visits" => options.visits = Some(value()?.into()),
                "--sources" => sources = Some(range(&name, &value()?)?),
                _ => return Err(format!("no option {name}\n{USAGE}")),
            }
        }
        options.set_url(&url)?;
        let name = options.host.rsplit_once(':').map_or(&*options.host, |(name, _)| name);
        options.dial = match (url.starts_with("https://"), trust) {
            (true, Some(trust)) => Dial::tls(options.address, name, &trust, wishes)?,
            (false, None) => Dial::plain(options.address),
            _ => return Err(format!("--trust belongs to https://, and https:// wants it\n{USAGE}")),
        };
        if let Some((first, count)) = sources {
            options.dial = options.dial.with_sources(first, count);
        }
        if options.crowd && closed == options.plan.is_some() {
            return Err(format!("--crowd wants --plan or --closed\n{USAGE}"));
        }
        options.check()
    }

    /// When a request is due, in seconds; those numbered by the plan.
    pub fn due_s(&self, number: u64) -> f64 {
        let first = self.first_rate.map_or(0, |_| number.min(self.connections as u64));
        self.first_s(first) + (number - first) as f64 / self.rate
    }

    /// How long so many first requests take, in seconds, where they have a rate of their own.
    pub fn first_s(&self, count: u64) -> f64 {
        self.first_rate.map_or(0.0, |rate| count as f64 / rate)
    }

    /// What holds unless the command line says otherwise.
    fn usual() -> Options {
        Options {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            dial: Dial::plain(SocketAddr::from(([127, 0, 0, 1], 0))),
            host: String::new(),
            path: String::new(),
            rate: 0.0,
            duration: Duration::ZERO,
            requests: u64::MAX,
            warm_up: Duration::ZERO,
            connections: 64,
            new_connections: false,
            sessions: None,
            from: 0,
            residents: u64::MAX,
            returning: false,
            fields: Vec::new(),
            post: None,
            scans: 0,
            opening: false,
            in_turn: false,
            first_rate: None,
            coarse: false,
            hold: false,
            crowd: false,
            hostile: None,
            pipelined: PIPELINED,
            plan: None,
            page: None,
            page_cached: false,
            patience: Duration::from_secs(3),
            reloads: 3,
            pause: Duration::from_secs(1),
            stay: Duration::ZERO,
            in_order: false,
            deadline: Duration::from_secs(1),
            visits: None,
        }
    }

    fn check(self) -> Result<Options, String> {
        if self.crowd && self.duration.is_zero() && self.plan.is_none() {
            return Err(format!("--closed wants --duration\n{USAGE}"));
        }
        if !self.crowd && (self.plan.is_some() || self.page.is_some()) {
            return Err("--plan and --page belong to --crowd".to_owned());
        }
        if self.crowd && (self.opening || self.hold || self.returning || self.patience.is_zero()) {
            return Err("--crowd: not with --opening, --hold or --returning, nor without patience".to_owned());
        }
        if self.hostile.is_some() && self.rate == 0.0 {
            // Those that are held come at a rate of their own, unless told otherwise.
            return if self.path.is_empty() || self.duration.is_zero() { Err(USAGE.to_owned()) } else { Ok(self) };
        }
        if self.crowd {
            return if self.path.is_empty() || self.connections == 0 { Err(USAGE.to_owned()) } else { Ok(self) };
        }
        let rate_is_fine = self.hold || (self.rate >= 0.1 && self.rate <= 1e7);
        if self.path.is_empty() || !rate_is_fine || self.duration.is_zero() || self.connections == 0 {
            return Err(format!("--url, --rate and --duration are needed, each above 0\n{USAGE}"));
        }
        if self.first_rate.is_some_and(|rate| !(self.in_turn && (0.1..=1e7).contains(&rate))) {
            return Err("--first-rate is above 0, and belongs to --in-turn".to_owned());
        }
        if self.post.is_some() && self.scans > 0 {
            return Err("--post and --scans are two bodies".to_owned());
        }
        if self.opening && (self.sessions.is_some() || self.post.is_some() || self.scans > 0) {
            return Err("--opening makes its own sessions and bodies".to_owned());
        }
        if self.warm_up >= self.duration {
            return Err("--warm-up must end before --duration".to_owned());
        }
        Ok(self)
    }

    fn set_url(&mut self, url: &str) -> Result<(), String> {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let rest = rest.ok_or(format!("--url {url}: http:// or https://\n{USAGE}"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let with_port = if host.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:{}", if url.starts_with("https") { 443 } else { 80 })
        };
        let mut addresses = with_port.to_socket_addrs().map_err(|error| format!("--url {url}: {error}"))?;
        self.address = addresses.next().ok_or(format!("--url {url}: no such host"))?;
        self.host = host.to_owned();
        self.path = format!("/{path}");
        Ok(())
    }
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} {text}: not a number in range"))
}

fn seconds(name: &str, text: &str) -> Result<Duration, String> {
    let seconds: f64 = number(name, text)?;
    // A day bounds what a mistyped number can do.
    if (0.0..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("{name} {text}: from 0 to 86400 seconds"))
    }
}

/// An IPv4 address and how many from it on.
fn range(name: &str, text: &str) -> Result<(Ipv4Addr, u32), String> {
    let parsed = text.split_once('/').and_then(|(first, count)| Some((first.parse().ok()?, count.parse().ok()?)));
    parsed
        .filter(|(_, count)| (1..=65_536).contains(count))
        .ok_or(format!("{name} {text}: an IPv4 address, / and a count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        Options::from_arguments(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_crowd_comes_by_a_plan_or_all_the_time() {
        let url = "--crowd --url http://127.0.0.1:1/x";
        assert!(read(&format!("{url} --plan 0:5,9:50 --page / --sources 10.78.0.0/4096")).is_ok());
        assert!(read(&format!("{url} --closed --duration 5")).is_ok());
        for wrong in [
            "",
            "--closed",
            "--closed --plan 0:5,9:50",
            "--plan 5",
            "--plan 0:5,9:50 --hold",
            "--plan 0:5,9:50 --opening",
            "--plan 0:5,9:50 --patience 0",
            "--plan 0:5,9:50 --connections 0",
            "--plan 0:5,9:50 --sources 10.78.0.0",
            "--plan 0:5,9:50 --sources 10.78.0.0/0",
            "--plan 0:5,9:50 --sources ::1/5",
        ] {
            assert!(read(&format!("{url} {wrong}")).is_err(), "{wrong}");
        }
        assert!(read("--url http://127.0.0.1:1/x --rate 5 --duration 5 --page /").is_err());
    }

    #[test]
    fn a_rate_of_first_requests_is_for_connections_that_take_turns() {
        let usual = "--url http://127.0.0.1:1/x --rate 10 --duration 1 --connections 4";
        let options = read(&format!("{usual} --in-turn --first-rate 2")).unwrap();
        assert_eq!([0, 3, 4, 5, 14].map(|number| options.due_s(number)), [0.0, 1.5, 2.0, 2.1, 3.0]);
        assert_eq!(read(usual).unwrap().due_s(5), 0.5);
        for wrong in ["--first-rate 2", "--in-turn --first-rate 0", "--in-turn --first-rate x"] {
            assert!(read(&format!("{usual} {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_means_harm_is_one_of_those_that_are_known() {
        let url = "--url http://127.0.0.1:1/x";
        assert!(read(&format!("{url} --hostile heads --duration 5")).is_ok());
        for wrong in ["--hostile heads", "--hostile nobody --duration 5", "--hostile --duration 5"] {
            assert!(read(&format!("{url} {wrong}")).is_err(), "{wrong}");
        }
    }
}
