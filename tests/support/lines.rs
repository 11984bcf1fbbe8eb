//! What the tests of writes share: lines, what is told of them, and what lies on the simulated disk.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use onecode::journal::Record;
use onecode::registry::demo;
use onecode::service::Settings;
use onecode::words::ResidentNumber;
use serde_json::{Value, json};

use super::simulated::{START, Simulated, settings};
use super::{Answer, Host};

pub const RESIDENTS_PATH: &str = "/admin/residents";
pub const NDJSON: &str = "Content-Type: application/x-ndjson\r\n";

pub static SETTINGS: LazyLock<Arc<Settings>> = LazyLock::new(|| settings(None));

pub fn process(seed: u64) -> Simulated {
    Simulated::with(seed, SETTINGS.clone(), 2, 4_096)
}

/// Runs a case for each seed, or for those that the environment names.
pub fn for_seeds(seeds: u64, case: impl Fn(u64) + Sync) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let wanted = match number("ONECODE_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ONECODE_TEST_SEEDS").unwrap_or(seeds),
    };
    let next = AtomicU64::new(wanted.start);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= wanted.end {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(seed))) {
                eprintln!("seed {seed} failed: ONECODE_TEST_SEED={seed} runs it alone");
                next.store(wanted.end, Ordering::Relaxed);
                resume_unwind(panic);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
}

pub fn id_number(n: u32) -> String {
    String::from_utf8(demo::id_number(n).as_bytes().to_vec()).unwrap()
}

pub fn number(n: u32) -> ResidentNumber {
    SETTINGS.hash_key.number(&demo::id_number(n)).0
}

pub fn hex(n: u32) -> String {
    format!("{:016x}", number(n).0)
}

/// A request with a body of a given length.
pub fn lines(path: &str, fields: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

pub fn status_line(n: u32, status: &str, version: u64) -> String {
    format!("{}\n", json!({"id_number": id_number(n), "status": status, "version": version}))
}

/// The results of an answer's lines, in order; the numbers of the lines must be in order, too.
pub fn results(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.field("Content-Type"), Some("application/x-ndjson"));
    told(answer.text())
}

pub fn told(text: &str) -> Vec<String> {
    let mut before = 0;
    let result = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let number = line["line"].as_u64().unwrap();
        assert!(number > before, "{text}");
        before = number;
        match line["type"].as_str() {
            Some(kind) => kind.strip_prefix("urn:onecode:problem:").unwrap().to_owned(),
            None => line["result"].as_str().unwrap().to_owned(),
        }
    };
    text.lines().map(result).collect()
}

pub fn ask_lines(process: &Simulated, body: &str) -> Vec<String> {
    results(&process.client_of(process.admin).ask(lines(RESIDENTS_PATH, NDJSON, body)))
}

pub fn version(more: u64) -> u64 {
    START.unix_ms + more
}

/// What a refresh says of a resident on a shard.
pub fn shown(process: &Simulated, shard: usize, n: u32) -> Option<String> {
    let answer = process.client_of(shard).ask(process.refresh(n));
    (answer.status == 200).then(|| answer.json()["status"].as_str().unwrap().to_owned())
}

pub fn records<T>(process: &Simulated, wanted: impl Fn(&Record<'_>) -> Option<T>) -> Vec<T> {
    let sim = process.sim.borrow();
    sim.disk.log.iter().filter_map(|(_, bytes)| wanted(&Record::decode(bytes).unwrap())).collect()
}
