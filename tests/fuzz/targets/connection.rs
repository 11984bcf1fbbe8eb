//! A connection of a shard, under the simulator: any bytes, however they are cut, come to rest as whole answers, at most
//! one for each request, and the same ones for every way of cutting.

use std::sync::{Arc, LazyLock};

use onecode::http::proxy;
use onecode::service::Settings;
use serde_json::Value;

use super::head::with_known_version;
use super::{random_of, shown};
use crate::support::Answer;
use crate::support::simulated::{Simulated, settings};
use crate::support::take_answer;

/// Made once, since they hold keys and tables.
static SETTINGS: LazyLock<Arc<Settings>> = LazyLock::new(|| settings(None));
static BALANCED: LazyLock<Arc<Settings>> = LazyLock::new(|| {
    let mut settings = Arc::into_inner(settings(None)).expect("nobody else has them");
    settings.trusted_proxies = vec!["127.0.0.1/32".parse().expect("a network")];
    settings.proxy_protocol = true;
    Arc::new(settings)
});
/// Pieces that the input itself cuts.
const PIECES_MAX: usize = 15;
/// After so long every deadline of a connection has passed.
const END_MS: u64 = 120_000;

/// Where an input goes: to one of the listeners, or to the public one by way of a balancer.
#[derive(Clone, Copy, PartialEq)]
enum To {
    Public,
    Balanced,
    Admin,
}

/// Brings the input as it is cut and cut otherwise, which must come to the same.
pub fn run(data: &[u8]) {
    let Some((to, cuts, bytes)) = conversation(data) else { return };
    let expected = requests(to, bytes);
    let mut one = answers(bytes, &cuts, to, 0, &expected);
    let mut random = random_of(data);
    let mut others: Vec<usize> = (0..random.usize(..=PIECES_MAX)).map(|_| random.usize(..=bytes.len())).collect();
    others.sort_unstable();
    let mut other = answers(bytes, &others, to, random.u64(..), &expected);
    assert_eq!(one.len(), other.len(), "cut at {cuts:?} and {others:?}: {}", shown(bytes));
    // Where a body of lines breaks off, what has been answered by then depends on when it came: as a whole, if nothing.
    if [&one, &other].iter().any(|answers| answers.last().is_some_and(|last| last.broke_off)) {
        one.pop();
        other.pop();
    }
    assert_eq!(one, other, "cut at {cuts:?} and {others:?}: {}", shown(bytes));
}

/// What an input stands for. Its first byte says which listener and how many pieces, so many bytes how long each is, and
/// the rest is sent.
fn conversation(data: &[u8]) -> Option<(To, Vec<usize>, &[u8])> {
    let (&first, rest) = data.split_first()?;
    let (lengths, bytes) = rest.split_at(usize::from(first & 0xf).min(PIECES_MAX).min(rest.len()));
    let mut cuts = Vec::new();
    for length in lengths {
        let at = cuts.last().copied().unwrap_or(0) + usize::from(*length);
        cuts.push(at.min(bytes.len()));
    }
    let to = match first & 0xc0 {
        0 => To::Public,
        0x40 => To::Balanced,
        _ => To::Admin,
    };
    Some((to, cuts, bytes))
}

/// The statuses of all answers.
#[allow(dead_code, reason = "only the tests ask")]
pub fn statuses(data: &[u8]) -> Vec<u16> {
    let Some((to, cuts, bytes)) = conversation(data) else { return Vec::new() };
    answers(bytes, &cuts, to, 0, &requests(to, bytes)).iter().map(|answer| answer.status).collect()
}

/// Brings the bytes in these pieces, which the simulator may cut further, and takes what is answered.
fn answers(bytes: &[u8], cuts: &[usize], to: To, seed: u64, requests: &[Request]) -> Vec<Compared> {
    let settings = if to == To::Balanced { &BALANCED } else { &SETTINGS };
    let process = Simulated::with(seed, Arc::clone(settings), 1, 256);
    let shard = if to == To::Admin { process.admin } else { 0 };
    let mut sim = process.sim.borrow_mut();
    let client = sim.connect(shard).expect("there is room");
    let mut at = 0;
    for &cut in cuts.iter().chain([&bytes.len()]) {
        sim.send(client, &bytes[at..cut]);
        sim.settle();
        at = cut;
    }
    sim.end(client);
    sim.settle();
    let mut received = sim.take_received(client);
    if !sim.is_closed(client) {
        sim.advance(END_MS);
        assert!(sim.is_closed(client), "still open after its end: {}", shown(bytes));
        received.extend(sim.take_received(client));
    }
    // Lines whose request broke off end with the reason and without the last chunk, so that nobody takes them for all.
    let is_cut = received.ends_with(b"}\n\r\n");
    if is_cut {
        received.extend(b"0\r\n\r\n");
    }
    let mut answers = Vec::new();
    while !received.is_empty() {
        let request = requests.get(answers.len()).copied().unwrap_or_default();
        let answer = take_whole(&mut received, request);
        if answer.status >= 200 {
            let broke_off =
                received.is_empty() && (is_cut || (request.is_http10 && answer.field("Content-Length").is_none()));
            answers.push(Compared::new(&answer, broke_off));
        }
    }
    assert!(answers.len() <= requests.len(), "{answers:?} to {} requests: {}", requests.len(), shown(bytes));
    answers
}

/// The next answer, which must be whole for `httparse` too.
fn take_whole(received: &mut Vec<u8>, request: Request) -> Answer {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(received);
    let Ok(httparse::Status::Complete(length)) = parsed else { panic!("{parsed:?}: {}", shown(received)) };
    let status = response.code;
    let whole = shown(received);
    let has_length = response.headers.iter().any(|line| ["Content-Length", "Transfer-Encoding"].contains(&line.name));
    if request.is_http10 && !has_length && status.is_some_and(|status| status == 200) {
        // RFC 9112 section 6.3: lines for whom no chunks may be sent end with the connection.
        let head = String::from_utf8(received.drain(..length).collect()).expect("a head is ASCII");
        return Answer { status: 200, head, body: std::mem::take(received) };
    }
    let answer = take_answer(received, request.is_head).unwrap_or_else(|| panic!("cut short: {whole}"));
    assert_eq!((Some(answer.status), answer.head.len()), (status, length), "{whole}");
    answer
}

/// What must be the same for every way of cutting: not the time, and not what is random.
#[derive(PartialEq, Debug)]
struct Compared {
    status: u16,
    fields: String,
    body: String,
    /// It is of lines, and its request did not come to its end.
    broke_off: bool,
}

impl Compared {
    fn new(answer: &Answer, broke_off: bool) -> Compared {
        let is_same = |line: &&str| !line.starts_with("Date: ") && !line.starts_with("Retry-After: ");
        let mut lines: Vec<&str> = answer.head.lines().filter(is_same).collect();
        let mut body = shown(&answer.body);
        if let Ok(Value::Object(mut members)) = serde_json::from_slice(&answer.body)
            && members.remove("id").is_some()
        {
            body = Value::Object(members).to_string();
            lines.retain(|line| !line.starts_with("Content-Length: "));
        }
        Compared { status: answer.status, fields: lines.join("\n"), body, broke_off }
    }
}

/// What the oracle knows of a request.
#[derive(Clone, Copy, Default)]
struct Request {
    is_head: bool,
    is_http10: bool,
}

/// The requests that these bytes can be at most, read with `httparse` and the narrowest of framings. What cannot be read
/// any further counts as one, since it is answered with a refusal.
fn requests(to: To, bytes: &[u8]) -> Vec<Request> {
    let mut found = Vec::new();
    let mut rest = match proxy::parse(bytes) {
        _ if to != To::Balanced => bytes,
        Ok(Some((length, _))) => &bytes[length..],
        _ => return found,
    };
    while !rest.is_empty() {
        let known = with_known_version(rest);
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(&known);
        // Of one that is refused the method is known as soon as it is there.
        let is_head = rest.strip_prefix(b"\r\n").unwrap_or(rest).starts_with(b"HEAD ");
        let is_http10 = request.version == Some(0);
        found.push(Request { is_head, is_http10 });
        let Ok(httparse::Status::Complete(length)) = parsed else { break };
        let values = |name: &str| -> Vec<&[u8]> {
            let lines = request.headers.iter().filter(|line| line.name.eq_ignore_ascii_case(name));
            lines.map(|line| line.value).collect()
        };
        rest = &rest[length..];
        let body = match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
            ([], []) => Some(0),
            ([length], []) => str::from_utf8(length).ok().and_then(|digits| digits.parse().ok()),
            ([], [_]) => chunked_bytes(rest),
            _ => None,
        };
        let Some(next) = body.and_then(|body: usize| rest.get(body..)) else { break };
        rest = next;
    }
    found
}

/// How many bytes a whole chunked body takes; what stands in extensions and trailers is passed over.
fn chunked_bytes(bytes: &[u8]) -> Option<usize> {
    let line = |at: usize| bytes.get(at..)?.windows(2).position(|two| two == b"\r\n").map(|end| &bytes[at..at + end]);
    let mut at = 0;
    loop {
        let size = line(at)?;
        at += size.len() + 2;
        let digits = size.split(|byte| !byte.is_ascii_hexdigit()).next()?;
        let chunk = usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        if chunk == 0 {
            break;
        }
        at = at.checked_add(chunk)?.checked_add(2)?;
    }
    loop {
        let trailer = line(at)?;
        at += trailer.len() + 2;
        if trailer.is_empty() {
            return Some(at);
        }
    }
}
