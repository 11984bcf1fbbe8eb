//! A connection of a shard, under the simulator: any bytes, however they are cut, come to rest as whole answers, at most
//! one for each request, and the same ones for every way of cutting.

use std::sync::{Arc, LazyLock};

use onecode::service::Settings;
use serde_json::Value;

use super::head::with_known_version;
use super::{random_of, shown};
use crate::support::Answer;
use crate::support::simulated::{Simulated, settings};
use crate::support::take_answer;

/// Made once, since they hold keys and tables.
static SETTINGS: LazyLock<Arc<Settings>> = LazyLock::new(|| settings(None));
/// Pieces that the input itself cuts.
const PIECES_MAX: usize = 15;
/// After so long every deadline of a connection has passed.
const END_MS: u64 = 120_000;

/// Brings the input as it is cut and cut otherwise, which must come to the same.
pub fn run(data: &[u8]) {
    let Some((is_admin, cuts, bytes)) = conversation(data) else { return };
    let expected = requests(bytes);
    let one = answers(bytes, &cuts, is_admin, 0, &expected);
    let mut random = random_of(data);
    let mut others: Vec<usize> = (0..random.usize(..=PIECES_MAX)).map(|_| random.usize(..=bytes.len())).collect();
    others.sort_unstable();
    let other = answers(bytes, &others, is_admin, random.u64(..), &expected);
    assert_eq!(one, other, "cut at {cuts:?} and {others:?}: {}", shown(bytes));
}

/// What an input stands for. Its first byte says which listener and how many pieces, so many bytes how long each is, and
/// the rest is sent.
fn conversation(data: &[u8]) -> Option<(bool, Vec<usize>, &[u8])> {
    let (&first, rest) = data.split_first()?;
    let (lengths, bytes) = rest.split_at(usize::from(first & 0xf).min(PIECES_MAX).min(rest.len()));
    let mut cuts = Vec::new();
    for length in lengths {
        let at = cuts.last().copied().unwrap_or(0) + usize::from(*length);
        cuts.push(at.min(bytes.len()));
    }
    Some((first & 0x80 != 0, cuts, bytes))
}

/// The statuses of all answers.
#[allow(dead_code, reason = "only the tests ask")]
pub fn statuses(data: &[u8]) -> Vec<u16> {
    let Some((is_admin, cuts, bytes)) = conversation(data) else { return Vec::new() };
    answers(bytes, &cuts, is_admin, 0, &requests(bytes)).iter().map(|answer| answer.0).collect()
}

/// Brings the bytes in these pieces, which the simulator may cut further, and takes what is answered.
fn answers(bytes: &[u8], cuts: &[usize], is_admin: bool, seed: u64, requests: &[bool]) -> Vec<(u16, String, Vec<u8>)> {
    let process = Simulated::with(seed, SETTINGS.clone(), 1, 256);
    let shard = if is_admin { process.admin } else { 0 };
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
    let mut answers = Vec::new();
    while !received.is_empty() {
        let is_to_head = requests.get(answers.len()).copied().unwrap_or(false);
        let answer = take_whole(&mut received, is_to_head);
        if answer.status >= 200 {
            answers.push(compared(answer));
        }
    }
    assert!(answers.len() <= requests.len(), "{answers:?} to {} requests: {}", requests.len(), shown(bytes));
    answers
}

/// The next answer, which must be whole for `httparse` too.
fn take_whole(received: &mut Vec<u8>, is_to_head: bool) -> Answer {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(received);
    let Ok(httparse::Status::Complete(length)) = parsed else { panic!("{parsed:?}: {}", shown(received)) };
    let status = response.code;
    // A refused HEAD is answered with the reason, since nobody then knows that it was one.
    let has_no_body = received.len() == length || received[length..].starts_with(b"HTTP/1.1 ");
    let whole = shown(received);
    let answer = take_answer(received, is_to_head && has_no_body).unwrap_or_else(|| panic!("cut short: {whole}"));
    assert_eq!((Some(answer.status), answer.head.len()), (status, length), "{whole}");
    answer
}

/// What must be the same for every way of cutting: not the time, and not what is random.
fn compared(answer: Answer) -> (u16, String, Vec<u8>) {
    let is_same = |line: &&str| !line.starts_with("Date: ") && !line.starts_with("Retry-After: ");
    let mut lines: Vec<&str> = answer.head.lines().filter(is_same).collect();
    let mut body = answer.body.clone();
    if let Ok(Value::Object(mut members)) = serde_json::from_slice(&answer.body)
        && members.remove("id").is_some()
    {
        body = Value::Object(members).to_string().into_bytes();
        lines.retain(|line| !line.starts_with("Content-Length: "));
    }
    (answer.status, lines.join("\n"), body)
}

/// The requests that these bytes can be at most, read with `httparse` and the narrowest of framings, and whether each
/// is a HEAD. What cannot be read any further counts as one, since it is answered with a refusal.
fn requests(bytes: &[u8]) -> Vec<bool> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while !rest.is_empty() {
        let known = with_known_version(rest);
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(&known);
        found.push(request.method == Some("HEAD"));
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
