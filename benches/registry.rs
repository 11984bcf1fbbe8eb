//! The registry at its sizes: how long a lookup takes and how many instructions it is, and folders to start from.
//!
//! `registry --lookups N` fills a table of N residents as a start does, and times lookups; with `--once` it makes a fixed
//! number of them in a function of its own, for callgrind. `registry --make DIR --residents N` makes a data folder with
//! N residents and its keys, and prints sessions of some of them. scripts/bench/registry.py runs both.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use onecode::code::keyring::Keyring;
use onecode::registry::data_folder::{DataFolder, SNAPSHOT_FILE};
use onecode::registry::demo;
use onecode::registry::id_number::HashKey;
use onecode::registry::snapshot::{self, Meta};
use onecode::registry::table::{Record, Table};
use onecode::service::session::{self, Session, SessionKey};
use onecode::words::{ResidentNumber, Status};

/// Under callgrind: enough that the chance lengths of probes even out.
const LOOKUPS_COUNTED: u64 = 200_000;
const LOOKUPS_TIMED: u64 = 2_000_000;
const SESSIONS: u32 = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let value = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    let number = |name: &str| value(name).and_then(|text| text.parse::<u32>().ok());
    if let (Some(folder), Some(residents)) = (value("--make"), number("--residents")) {
        make(&PathBuf::from(folder), residents);
    } else if let Some(residents) = number("--lookups") {
        lookups(residents.into(), arguments.iter().any(|argument| argument == "--once"));
    } else {
        println!("registry --lookups N [--once] | --make DIR --residents N");
    }
}

/// Resident number `n` of these tables: hashes in effect (splitmix64), in no order.
fn number(n: u64) -> ResidentNumber {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ResidentNumber(z ^ (z >> 31))
}

fn lookups(residents: u64, once: bool) {
    let table = Table::new(usize::try_from(residents + residents / 4).expect("64 bits")).unwrap();
    for n in 1..=residents {
        let (resident, version) = (number(n), 1_780_000_000_000);
        let (status, test, session, region) = (Status::Green, false, 0, demo::REGION);
        table
            .write(&Record { resident, check: n, version, status, removed: false, test, session, region })
            .expect("there is room");
    }
    if once {
        part_lookup(&table, residents, LOOKUPS_COUNTED);
        return println!("{{\"lookups\": {LOOKUPS_COUNTED}}}");
    }
    let mut batches: Vec<f64> = (0..7)
        .map(|_| {
            let start = Instant::now();
            part_lookup(&table, residents, LOOKUPS_TIMED);
            start.elapsed().as_secs_f64() * 1e9 / LOOKUPS_TIMED as f64
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    let (bytes, huge_bytes) = table.bytes();
    println!(
        "{{\"residents\": {residents}, \"lookup_ns\": {:.1}, \"table_bytes\": {bytes}, \"huge_bytes\": {huge_bytes}}}",
        batches[batches.len() / 2]
    );
}

/// Lookups of residents all over the table, each of whom is known only after the one before was read: nothing overlaps.
#[inline(never)]
fn part_lookup(table: &Table, residents: u64, lookups: u64) {
    let mut n = 0_u64;
    for _ in 0..lookups {
        let record = table.read(number(n % residents + 1)).expect("everybody is in");
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(record.check | 1);
        n ^= n >> 32;
    }
    black_box(n);
}

fn make(folder: &Path, residents: u32) {
    let now_unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let folder = DataFolder::open(folder, std::process::id(), "bench registry").expect("the folder can be made");
    let keyring = Keyring::open_or_create(&folder.path.join("keys"), now_unix_ms / 1_000, |bytes| {
        getrandom::fill(bytes).expect("the system gives random bytes");
    });
    let keyring = keyring.expect("keys can be made");
    let key = HashKey::new(*keyring.hash_key.expose());
    let table = Table::new(residents as usize).unwrap();
    for record in demo::records(residents, &key, now_unix_ms) {
        // Two of so many may share a number; the later one is left out, as import does.
        if table.read(record.resident).is_none() {
            table.write(&Record { test: false, ..record }).expect("there is room");
        }
    }
    let meta = Meta { key_id: key.id(), created_unix_ms: now_unix_ms, folded_to: 0 };
    snapshot::store(&folder.path.join(SNAPSHOT_FILE), &meta, &table, &mut |_| Ok(()))
        .expect("the snapshot can be written");
    let session_key = keyring.session_key();
    let session_key = SessionKey::new(session_key.epoch, *session_key.key.expose()).expect("the epoch is in range");
    let expires_unix_s = u32::try_from(now_unix_ms / 1_000 + 86_400).expect("before 2106");
    for n in (1..=residents).step_by((residents / SESSIONS).max(1) as usize) {
        let (resident, _) = key.number(&demo::id_number(n));
        let minted = session::mint(&session_key, &Session { resident, number: 0, expires_unix_s });
        println!("{minted}");
    }
}
