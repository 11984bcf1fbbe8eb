//! What was acknowledged is there again, whatever happens to the process and its disk; what was to go is gone; and a
//! backup brings it all back. Over the real process and a real file system.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use onecode::limits::JOURNAL_SEGMENT_BYTES;
use onecode::registry::demo;
use serde_json::{Value, json};
use support::mount::Disk;
use support::process::{Server, onecode, run, run_badly, run_well};
use support::{Client, Host, wait_until};

fn id_number(n: u32) -> String {
    String::from_utf8(demo::id_number(n).as_bytes().to_vec()).unwrap()
}

fn start(data: &Path) -> Server {
    Server::over(data, |command| _ = command.args(["--demo", "--residents", "200", "--shards", "2"]))
}

fn command(data: &Path, words: &[&str]) -> Command {
    let mut command = onecode();
    command.args(words).arg("--data").arg(data);
    command
}

fn post(path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// The numbers of the lines that an answer, whole or cut off, says are done.
fn done(answer: &str) -> Vec<usize> {
    let lines = answer.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["result"] == "done").map(|line| line["line"].as_u64().unwrap() as usize).collect()
}

/// Sends a request and reads until its answer is whole, or the server is gone.
fn ask_until_it_breaks(address: SocketAddr, request: &str) -> String {
    let mut received = Vec::new();
    let Ok(mut stream) = TcpStream::connect(address) else { return String::new() };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    if stream.write_all(request.as_bytes()).is_ok() {
        let mut buffer = [0; 65_536];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            received.extend_from_slice(&buffer[..length]);
            if received.ends_with(b"\r\n0\r\n\r\n") {
                break;
            }
        }
    }
    String::from_utf8(received).unwrap()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

/// What writers have sent, and what they were told is safe.
#[derive(Default)]
struct Ledger {
    /// Versions of statuses, each of them once.
    statuses: BTreeSet<u64>,
    /// Ids of scans.
    scans: BTreeSet<u64>,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A status of one of 300 people who are no test data, with a version of its own and a reason that says it again.
fn status_line(base: u64) -> (u64, String) {
    let version = base + NEXT.fetch_add(1, Ordering::Relaxed);
    let (id, status) = (id_number(1_000 + (version % 300) as u32), ["green", "yellow", "red"][(version % 3) as usize]);
    let line = json!({"id_number": id, "status": status, "version": version, "reason": format!("v{version}")});
    (version, format!("{line}\n"))
}

fn scan_line() -> (u64, String) {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let line = json!({"id": format!("{id:032x}"), "at": now_ms(), "place": format!("door {id}"), "cti": format!("{:032x}", u128::from(id) << 64 | 7), "result": "valid"});
    (id, format!("{line}\n"))
}

/// Writes batches of statuses and of scans until told to stop or the server is gone.
fn write_until(server: &Server, base: u64, stop: &Arc<AtomicBool>, pause: Duration) -> [thread::JoinHandle<Ledger>; 2] {
    let (admin, public) = (server.admin, server.public);
    let token = fs::read_to_string(server.data().join("scanner-token.txt")).unwrap();
    let fields = format!("Authorization: Bearer {}\r\n", token.trim());
    let (stop_statuses, stop_scans) = (stop.clone(), stop.clone());
    let statuses = move || {
        let mut ledger = Ledger::default();
        while !stop_statuses.load(Ordering::Relaxed) {
            let lines: Vec<_> = (0..100).map(|_| status_line(base)).collect();
            let body: String = lines.iter().map(|(_, line)| line.as_str()).collect();
            let answer = ask_until_it_breaks(admin, &post("/admin/residents", "", &body));
            ledger.statuses.extend(done(&answer).into_iter().map(|line| lines[line - 1].0));
            thread::sleep(pause);
        }
        ledger
    };
    let scans = move || {
        let mut ledger = Ledger::default();
        while !stop_scans.load(Ordering::Relaxed) {
            let lines: Vec<_> = (0..50).map(|_| scan_line()).collect();
            let body: String = lines.iter().map(|(_, line)| line.as_str()).collect();
            let answer = ask_until_it_breaks(public, &post("/scan/records", &fields, &body));
            ledger.scans.extend(done(&answer).into_iter().map(|line| lines[line - 1].0));
            thread::sleep(pause);
        }
        ledger
    };
    [thread::spawn(statuses), thread::spawn(scans)]
}

impl Ledger {
    fn add(&mut self, writers: [thread::JoinHandle<Ledger>; 2]) {
        for writer in writers {
            let mut more = writer.join().unwrap();
            self.statuses.append(&mut more.statuses);
            self.scans.append(&mut more.scans);
        }
    }

    /// All of it is in the journal of a data folder, and each record there is as it was sent.
    fn assert_in(&self, data: &Path) {
        let lines = |what: &str| -> Vec<Value> {
            let text = run_well(&mut command(data, &["journal", "export", what, "--json"]));
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let mut versions = BTreeSet::new();
        for line in lines("statuses") {
            let version = line["version"].as_u64().unwrap();
            assert_eq!(line["reason"], format!("v{version}"));
            assert_eq!(line["status"], ["green", "yellow", "red"][(version % 3) as usize]);
            versions.insert(version);
        }
        let lost: Vec<_> = self.statuses.difference(&versions).collect();
        assert!(lost.is_empty(), "{} acknowledged statuses lost, such as {:?}", lost.len(), lost[0]);
        let mut ids = BTreeSet::new();
        for line in lines("scans") {
            let id = u64::from_str_radix(&line["id"].as_str().unwrap()[16..], 16).unwrap();
            assert_eq!(line["place"], format!("door {id}"));
            assert!(ids.insert(id), "a scan is told once");
        }
        let lost: Vec<_> = self.scans.difference(&ids).collect();
        assert!(lost.is_empty(), "{} acknowledged scans lost, such as {:?}", lost.len(), lost[0]);
    }

    /// The newest of what was acknowledged of each resident stands, or something newer that was on its way.
    fn assert_applied(&self, server: &Server) {
        let mut client = Client::to(server.admin);
        for (n, version) in newest(&self.statuses) {
            let body = json!({"id_number": id_number(n)}).to_string();
            let request = post("/admin/residents/lookup", "", &body).replace("x-ndjson", "json");
            let found = client.ask(request);
            assert_eq!(found.status, 200, "{found:?}");
            let standing = found.json()["version"].as_u64().unwrap();
            assert!(standing >= version, "resident {n}: {standing} stands, {version} was acknowledged");
            assert_eq!(found.json()["status"], ["green", "yellow", "red"][(standing % 3) as usize]);
        }
    }
}

fn newest(versions: &BTreeSet<u64>) -> std::collections::BTreeMap<u32, u64> {
    versions.iter().map(|version| (1_000 + (version % 300) as u32, *version)).collect()
}

fn facts(output: &str) -> Value {
    serde_json::from_str(output.trim()).unwrap_or_else(|error| panic!("{error}: {output}"))
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_half_there_after_kill_9() {
    let rounds: u32 = std::env::var("ONECODE_TEST_KILLS").map_or(20, |rounds| rounds.parse().unwrap());
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let (base, mut ledger, mut random) = (now_ms() - 10_000_000, Ledger::default(), fastrand::Rng::with_seed(7));
    for round in 0..rounds {
        let server = start(&data);
        ledger.assert_applied(&server);
        let stop = Arc::new(AtomicBool::new(false));
        let writers = write_until(&server, base, &stop, Duration::ZERO);
        thread::sleep(Duration::from_millis(random.u64(20..400)));
        server.signal("KILL");
        stop.store(true, Ordering::Relaxed);
        let before = ledger.statuses.len() + ledger.scans.len();
        ledger.add(writers);
        drop(server);
        ledger.assert_in(&data);
        let now = ledger.statuses.len() + ledger.scans.len();
        println!("round {round}: {} acknowledged, {now} in all", now - before);
    }
    assert!(ledger.statuses.len() > 1_000 && ledger.scans.len() > 500, "the load was real");
    assert!(run_well(&mut command(&data, &["journal", "verify"])).starts_with(|c: char| c.is_lowercase()));
}

/// The files below a folder that contain these bytes.
fn holding(folder: &Path, needle: &[u8], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holding(&path, needle, found);
        } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|part| part == needle)) {
            found.push(path);
        }
    }
}

fn traces(data: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    holding(data, needle, &mut found);
    // The demo's own list of sessions is for load scripts, and no state of the server.
    found.retain(|path| !path.ends_with("sessions.txt"));
    found
}

#[test]
fn a_removal_of_test_data_leaves_no_trace_of_it_on_disk_and_takes_nothing_else() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let server = start(&data);
    let version = now_ms();
    let status = |n: u32, test: bool, reason: &str| {
        let line =
            json!({"id_number": id_number(n), "status": "red", "version": version, "test": test, "reason": reason});
        let answer = Client::to(server.admin).ask(post("/admin/residents", "", &format!("{line}\n")));
        assert_eq!(answer.json()["result"], "done", "{answer:?}");
    };
    status(7_001, true, "a reason for a test");
    status(7_002, false, "a reason for a person");
    let code = server.client().ask(server.refresh(1)).json()["code"].as_str().unwrap().to_owned();
    let token = fs::read_to_string(data.join("scanner-token.txt")).unwrap();
    let body = json!({"code": code, "place": "the test's own door"}).to_string();
    let fields = format!("Authorization: Bearer {}\r\n", token.trim());
    let scan = server.client().ask(post("/scan/verify", &fields, &body).replace("x-ndjson", "json"));
    assert_eq!((scan.json()["recorded"].clone(), scan.json()["env"].clone()), (true.into(), "test".into()));

    let export = run_well(&mut command(&data, &["journal", "export", "statuses", "--test", "--json"]));
    let resident = |reason: &str| {
        let line = export.lines().find(|line| line.contains(reason)).unwrap();
        u64::from_str_radix(facts(line)["resident"].as_str().unwrap(), 16).unwrap().to_le_bytes()
    };
    let (test, person) = (resident("a reason for a test"), resident("a reason for a person"));
    assert!(!run_well(&mut command(&data, &["journal", "export", "scans"])).contains("test's own door"));
    assert!(run_well(&mut command(&data, &["journal", "export", "scans", "--test"])).contains("test's own door"));
    for needle in [&test[..], b"the test's own door", b"a reason for a test", &person, b"a reason for a person"] {
        assert!(!traces(&data, needle).is_empty(), "{needle:?} is there before");
    }
    let answer = Client::to(server.admin)
        .ask("DELETE /admin/test-data HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n");
    assert_eq!(answer.json()["residents"], 201, "{answer:?}");
    wait_until("the fold", || server.metric("onecode_journal_folds_total") >= 1.0);
    for needle in [&test[..], b"the test's own door", b"a reason for a test"] {
        assert_eq!(traces(&data, needle), Vec::<PathBuf>::new(), "{needle:?}");
    }
    for needle in [&person[..], b"a reason for a person"] {
        assert!(!traces(&data, needle).is_empty(), "{needle:?} stays");
    }
    assert_eq!(server.stop().0, Some(0));
    assert!(run_well(&mut command(&data, &["journal", "verify"])).starts_with("clean: "));
    assert!(!run_well(&mut command(&data, &["journal", "export", "scans", "--test"])).contains("door"));
    // What was purged does not come back, and what was not is there.
    let server = start(&data);
    let lookup = |n: u32| {
        let body = json!({"id_number": id_number(n)}).to_string();
        Client::to(server.admin).ask(post("/admin/residents/lookup", "", &body).replace("x-ndjson", "json")).status
    };
    assert_eq!((lookup(7_001), lookup(1), lookup(7_002)), (404, 404, 200));
}

/// A stopped data folder with some records, and the path of its first segment.
fn folder_with_records(outer: &Path) -> (PathBuf, PathBuf) {
    let data = outer.join("data");
    let server = start(&data);
    let body: String = (0..300).map(|_| status_line(now_ms() - 10_000_000).1).collect();
    assert_eq!(done(&ask_until_it_breaks(server.admin, &post("/admin/residents", "", &body))).len(), 300);
    assert_eq!(server.stop().0, Some(0));
    let segment = data.join("journal/0000000000000001.log");
    (data, segment)
}

#[test]
fn a_damaged_or_newer_journal_is_refused_by_name_and_a_torn_tail_is_not() {
    let outer = tempfile::tempdir().unwrap();
    let (data, segment) = folder_with_records(outer.path());
    let whole = fs::read(&segment).unwrap();
    let serve = |data: &Path| {
        let mut serve = command(data, &["serve", "--demo", "--residents", "200"]);
        run_badly(serve.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]))
    };
    let mut damaged = whole.clone();
    damaged[4_096 + 40] ^= 1;
    fs::write(&segment, &damaged).unwrap();
    let (status, said) = serve(&data);
    assert_eq!(status, 78, "{said}");
    for part in ["0000000000000001.log", "offset 4096", "record 1"] {
        assert!(said.contains(part), "{said}");
    }
    let output = run(&mut command(&data, &["journal", "verify", "--json"]));
    let told = facts(&String::from_utf8(output.stdout).unwrap());
    assert_eq!((output.status.code(), told["result"].as_str()), (Some(1), Some("damaged")));
    assert!(told["damage"].as_str().unwrap().contains("offset 4096"), "{told}");
    assert_eq!(run_badly(&mut command(&data, &["journal", "inspect"])).0, 1);

    let mut newer = whole.clone();
    newer[8] = 2;
    let checksum = crc32c::crc32c(&newer[..4_092]);
    newer[4_092..4_096].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&segment, &newer).unwrap();
    for (status, said) in [serve(&data), run_badly(&mut command(&data, &["journal", "verify"]))] {
        assert_eq!(status, 78, "{said}");
        assert!(said.contains("0000000000000001.log") && said.contains("version 2"), "{said}");
    }

    // The first half of a batch behind the last one, as an unfinished append leaves it.
    let mut torn = whole.clone();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let half = whole[4_096..4_096 + 100].to_vec();
    torn[end..end + 20].copy_from_slice(&half[..20]);
    fs::write(&segment, &torn).unwrap();
    let said = run_well(&mut command(&data, &["journal", "verify"]));
    assert!(said.starts_with("torn: 3") && said.contains("unfinished last append"), "{said}");
    fs::write(&segment, &whole).unwrap();
    let pipe = data.join("journal/00000000ffffffff.log");
    run_well(Command::new("mkfifo").arg(&pipe));
    let (_, said) = serve(&data);
    let verified = run(&mut command(&data, &["journal", "verify"]));
    for said in [said, String::from_utf8(verified.stdout).unwrap()] {
        assert!(said.contains("00000000ffffffff.log: is not a regular file"), "{said}");
    }
    assert_eq!(verified.status.code(), Some(1));
    fs::remove_file(&pipe).unwrap();
    let inspected = run_well(&mut command(&data, &["journal", "inspect", "--json"]));
    let first = facts(inspected.lines().next().unwrap());
    assert_eq!((&first["segment"], &first["kinds"]["status"]), (&json!("0000000000000001.log"), &json!(300)));
}

#[test]
fn a_damaged_segment_that_is_not_folded_yet_is_no_backup() {
    let outer = tempfile::tempdir().unwrap();
    let (data, segment) = folder_with_records(outer.path());
    let mut bytes = fs::read(&segment).unwrap();
    bytes[4_096 + 40] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let backup = outer.path().join("backup");
    refused(command(&data, &["backup"]).arg(&backup), 78, "0000000000000001.log is damaged at offset 4096, record 1");
    assert!(!backup.exists(), "nothing is left of it");
}

#[test]
fn what_a_command_cannot_take_is_named() {
    let outer = tempfile::tempdir().unwrap();
    let (data, _) = folder_with_records(outer.path());
    let path = |name: &str| outer.path().join(name);
    let missing = path("missing");
    for words in [&["journal", "verify"][..], &["journal", "inspect"], &["journal", "export"], &["backup", "x"]] {
        let (status, said) = run_badly(&mut command(&missing, words));
        assert!(status == 74 && said.contains("no such data folder"), "{words:?}: {said}");
    }
    assert!(!missing.exists(), "a mistyped name makes no folder");
    for words in [
        &["journal", "export", "--resident", "12"][..],
        &["journal", "export", "--resident", "+00000000000000a"],
        &["journal", "export", "--from", "yesterday"],
        &["journal", "export", "doors"],
        &["restore"],
    ] {
        assert_eq!(run_badly(&mut command(&data, words)).0, 2, "{words:?}");
    }
}

#[test]
fn a_backup_taken_while_writes_and_folds_run_brings_back_all_that_was_acknowledged() {
    let outer = tempfile::tempdir().unwrap();
    let path = |name: &str| outer.path().join(name);
    let data = path("data");
    let server = start(&data);
    let base = now_ms() - 10_000_000;
    let mut before = Ledger::default();
    // What is acknowledged here was so before the first backup begins.
    let stop = Arc::new(AtomicBool::new(false));
    // A backup gives way to the server, and must come to its end beside it: 20,000 lines a second, not all there can be.
    let pause = Duration::from_millis(5);
    let early = write_until(&server, base, &stop, pause);
    thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    before.add(early);
    let stop = Arc::new(AtomicBool::new(false));
    let writers = write_until(&server, base, &stop, pause);
    // Each removal of test data asks for a fold, which rewrites segments.
    let (folding, admin) = (stop.clone(), server.admin);
    let folds = thread::spawn(move || {
        let purge = "DELETE /admin/test-data HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n";
        while !folding.load(Ordering::Relaxed) {
            ask_until_it_breaks(admin, purge);
            thread::sleep(Duration::from_millis(100));
        }
    });
    wait_until("a fold", || server.metric("onecode_journal_folds_total") >= 1.0);
    let mut last = Value::Null;
    for number in 0..3 {
        let (dir, restored) = (path(&format!("backup-{number}")), path(&format!("restored-{number}")));
        last = facts(&run_well(command(&data, &["backup", "--json"]).arg(&dir)));
        let facts = facts(&run_well(command(&restored, &["restore", "--json"]).arg(&dir)));
        assert_eq!((&facts["state_sha256"], &facts["residents"]), (&last["state_sha256"], &last["residents"]));
        assert!(facts["ms"].as_u64().is_some() && !facts["signing_keys"].as_array().unwrap().is_empty(), "{facts}");
        assert!(!restored.join("keys").exists() && !dir.join("keys").exists(), "keys are in no backup");
        before.assert_in(&restored);
    }
    stop.store(true, Ordering::Relaxed);
    folds.join().unwrap();
    before.add(writers);
    assert_eq!(server.stop().0, Some(0));

    // Of a folder at rest: the same state, with the keys put back, and it can be served and written to.
    let (dir, again) = (path("last"), path("again"));
    let backup = facts(&run_well(command(&data, &["backup", "--json"]).arg(&dir)));
    assert!(backup["last_record"].as_u64() > last["last_record"].as_u64());
    let restored = facts(&run_well(command(&again, &["restore", "--json"]).arg(&dir)));
    for fact in ["state_sha256", "residents", "last_record", "hash_key_id"] {
        assert_eq!(restored[fact], backup[fact], "{fact}");
    }
    fs::write(path("sentence"), "a sentence kept in the safe\n").unwrap();
    let keys = |data: &Path, words: &[&str]| {
        let mut keys = command(data, &["keys"]);
        run_well(keys.args(words).arg(path("sealed")).arg("--passphrase-file").arg(path("sentence")));
    };
    keys(&data, &["export", "--out"]);
    keys(&again, &["import"]);
    let server = Server::over(&again, |command| _ = command.args(["--shards", "2"]));
    before.assert_applied(&server);
    let line = status_line(base + 5_000_000).1;
    assert_eq!(Client::to(server.admin).ask(post("/admin/residents", "", &line)).json()["result"], "done");
    assert_eq!(server.stop().0, Some(0));
    before.assert_in(&again);
}

/// Must end with this status and say this.
fn refused(command: &mut Command, status: i32, says: &str) {
    let (found, said) = run_badly(command);
    assert!(found == status && said.contains(says), "{command:?}: {found} {said}");
}

#[test]
fn what_is_no_backup_or_a_damaged_one_is_refused_and_leaves_nothing() {
    let outer = tempfile::tempdir().unwrap();
    let (data, _) = folder_with_records(outer.path());
    let path = |name: &str| outer.path().join(name);
    let (backup, new) = (path("backup"), path("new"));
    run_well(command(&data, &["backup"]).arg(&backup));
    let refuse = |status: i32, says: &str| {
        refused(command(&new, &["restore"]).arg(&backup), status, says);
        let left = fs::read_dir(&new).map_or(0, |files| files.count());
        let lock = usize::from(new.join("lock").exists());
        assert_eq!(left, lock, "{says}: nothing is left of it");
    };
    refused(command(&new, &["restore"]).arg(&data), 78, "no manifest");
    let file = backup.join("manifest.json");
    let manifest = fs::read_to_string(&file).unwrap();
    let snapshot_row = &manifest[manifest.find("    {").unwrap()..manifest.find("},").unwrap() + 2];
    let length = manifest.split_once("\"bytes\": ").unwrap().1.split_once(',').unwrap().0;
    for (from, to, says) in [
        ("onecode backup", "a backup", "not the manifest"),
        ("\"version\": 1", "\"version\": 2", "version 2"),
        ("\"residents\": ", "\"residents\": -", "invalid value"),
        ("registry.snapshot", "../../registry.snapshot", "no file of a backup"),
        ("registry.snapshot", "/registry.snapshot", "no file of a backup"),
        ("journal/0000000000000001.log", "journal/1.log", "no file of a backup"),
        (&format!("\"bytes\": {length}"), "\"bytes\": 1", "registry.snapshot is not what the manifest says"),
        ("\"state_sha256\": \"", "\"state_sha256\": \"0", "its state is not what the manifest says"),
        ("\"residents\": ", "\"residents\": 9", "its state is not what the manifest says"),
        ("\"last_record\": ", "\"last_record\": 9", "its state is not what the manifest says"),
        ("\"hash_key_id\": \"", "\"hash_key_id\": \"g", "hash_key_id of the manifest"),
        (snapshot_row, "", "hash key"),
        ("{\n", "", "not the manifest"),
    ] {
        assert!(manifest.contains(from), "{from}");
        fs::write(&file, manifest.replacen(from, to, 1)).unwrap();
        let says = if from == snapshot_row { "registry.snapshot is missing" } else { says };
        refuse(78, says);
    }
    fs::write(&file, &manifest).unwrap();
    // Files that are not those of the manifest, or none at all.
    let (segment, snapshot) = (backup.join("journal/0000000000000001.log"), backup.join("registry.snapshot"));
    for file in [&segment, &snapshot] {
        let (name, whole) = (file.file_name().unwrap().to_str().unwrap(), fs::read(file).unwrap());
        let mut flipped = whole.clone();
        flipped[5_000] ^= 4;
        for damaged in [&flipped[..], &whole[..whole.len() - 1], &[]] {
            fs::write(file, damaged).unwrap();
            refuse(78, "the backup is damaged");
        }
        fs::remove_file(file).unwrap();
        refuse(78, name);
        std::os::unix::fs::symlink("nowhere", file).unwrap();
        refuse(78, name);
        fs::remove_file(file).unwrap();
        run_well(Command::new("mkfifo").arg(file));
        refuse(78, "not a regular file");
        fs::remove_file(file).unwrap();
        fs::write(file, whole).unwrap();
    }
    // Keys of another server are there already.
    run_well(command(&path("none"), &["keys", "generate"]).arg("--keys-dir").arg(path("other")));
    let mut with_others = command(&new, &["restore"]);
    refused(with_others.arg(&backup).arg("--keys-dir").arg(path("other")), 78, "needs hash key");
    run_well(command(&new, &["restore"]).arg(&backup).arg("--keys-dir").arg(data.join("keys")));
}

#[test]
fn a_backup_and_a_restore_go_only_where_nothing_is_and_a_restore_that_was_cut_off_is_not_served() {
    let outer = tempfile::tempdir().unwrap();
    let (data, _) = folder_with_records(outer.path());
    let path = |name: &str| outer.path().join(name);
    let backup = path("backup");
    run_well(command(&data, &["backup"]).arg(&backup));
    let manifest = fs::read(backup.join("manifest.json")).unwrap();
    let back_up = |into: &Path, says: &str| refused(command(&data, &["backup"]).arg(into), 73, says);
    back_up(&backup, "must be empty");
    back_up(&data, "must be empty");
    fs::write(path("file"), "").unwrap();
    back_up(&path("file"), "file");
    assert!(fs::read(backup.join("manifest.json")).unwrap() == manifest);

    let restore = |into: &Path| {
        let mut restore = command(into, &["restore"]);
        restore.arg(&backup);
        restore
    };
    refused(&mut restore(&data), 73, "must be empty");
    let occupied = path("occupied");
    fs::create_dir(&occupied).unwrap();
    std::os::unix::fs::symlink("/nowhere", occupied.join("journal")).unwrap();
    refused(&mut restore(&occupied), 73, "must be empty");
    let server = start(&data);
    refused(&mut restore(&data), 75, "onecode serve");
    assert_eq!(server.stop().0, Some(0));

    // One that was cut off half way: no command takes what is there for the state.
    let cut = path("cut");
    run_well(&mut restore(&cut));
    let snapshot = cut.join("registry.snapshot");
    let half = fs::read(&snapshot).unwrap().split_off(4_000);
    for (left, says) in [(Some(half), "not a registry snapshot"), (None, "registry.snapshot is missing")] {
        fs::remove_file(&snapshot).unwrap();
        left.iter().for_each(|left| fs::write(&snapshot, left).unwrap());
        for words in [
            &["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"][..],
            &["import", "/dev/null"],
            &["backup", outer.path().join("of-half").to_str().unwrap()],
        ] {
            refused(&mut command(&cut, words), 78, says);
        }
        refused(&mut restore(&cut), 73, "must be empty");
    }
    assert!(!path("of-half").exists());
}

#[test]
fn a_backup_or_restore_onto_a_full_disk_is_refused_and_can_be_done_again() {
    let outer = tempfile::tempdir().unwrap();
    let (data, _) = folder_with_records(outer.path());
    let Some(disk) = Disk::mount(outer.path(), 8) else { return };
    let path = |name: &str| disk.mount.join(name);
    fs::create_dir(path("b")).unwrap();
    fs::create_dir(path("r")).unwrap();
    let filler = disk.fill();
    let file = fs::File::options().write(true).open(&filler).unwrap();
    file.set_len(file.metadata().unwrap().len() - 24 * 1_024).and_then(|()| file.sync_all()).unwrap();
    drop(file);
    refused(command(&data, &["backup"]).arg(path("b")), 74, "No space left");
    assert!(!path("b").exists(), "what was begun is removed");
    let backup = outer.path().join("backup");
    run_well(command(&data, &["backup"]).arg(&backup));
    refused(command(&path("r"), &["restore"]).arg(&backup), 74, "No space left");
    fs::remove_file(&filler).unwrap();
    run_well(command(&data, &["backup"]).arg(path("b")));
    run_well(command(&path("r"), &["restore"]).arg(&backup));
}

#[test]
fn an_import_between_two_runs_keeps_what_the_journal_has() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let server = Server::over(&data, |command| _ = command.args(["--shards", "2"]));
    let (base, mut ledger) = (now_ms() - 10_000_000, Ledger::default());
    let lines: Vec<_> = (0..500).map(|_| status_line(base)).collect();
    let body: String = lines.iter().map(|(_, line)| line.as_str()).collect();
    let answer = ask_until_it_breaks(server.admin, &post("/admin/residents", "", &body));
    ledger.statuses.extend(done(&answer).into_iter().map(|line| lines[line - 1].0));
    assert_eq!(ledger.statuses.len(), 500);
    server.signal("KILL");
    drop(server);
    let file = outer.path().join("residents.csv");
    let row = |n: u32| format!("{},green,{}\n", id_number(n), base - 1);
    fs::write(&file, format!("id_number,status,updated_at\n{}{}", row(1_000), row(5_000))).unwrap();
    let told = facts(&run_well(command(&data, &["import", "--json"]).arg(&file)));
    assert_eq!(
        (told["older"].as_u64(), told["inserted"].as_u64(), told["residents"].as_u64()),
        (Some(1), Some(1), Some(301))
    );
    let server = Server::over(&data, |command| _ = command.args(["--shards", "2"]));
    ledger.assert_applied(&server);
    assert!(!server.stderr().contains("applied"), "all was in the snapshot: {}", server.stderr());
    ledger.assert_in(&data);
}

#[test]
fn on_a_full_disk_the_acknowledged_survives_the_rest_is_refused_and_reads_go_on() {
    let outer = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(outer.path(), 192) else { return };
    let data = disk.mount.join("data");
    let server = start(&data);
    wait_until("the next segment", || {
        server.metric("onecode_journal_disk_bytes") >= (2 * JOURNAL_SEGMENT_BYTES) as f64
    });
    let filler = disk.fill();
    let (base, mut ledger, began) = (now_ms() - 10_000_000, Ledger::default(), Instant::now());
    let reason = "r".repeat(200);
    // Two segments have room; then none can be had any more.
    while server.metric("onecode_journal_failed") == 0.0 {
        assert!(began.elapsed() < Duration::from_secs(300), "the disk does not become full");
        let lines: Vec<_> = (0..1_000)
            .map(|_| status_line(base))
            .map(|(version, line)| (version, line.replace("\"v1", &format!("\"{reason}v1"))))
            .collect();
        let body: String = lines.iter().map(|(_, line)| line.as_str()).collect();
        let answer = ask_until_it_breaks(server.admin, &post("/admin/residents", "Connection: close\r\n", &body));
        ledger.statuses.extend(done(&answer).into_iter().map(|line| lines[line - 1].0));
    }
    let refused = Client::to(server.admin).ask(post("/admin/residents", "", &status_line(base).1));
    assert_eq!((refused.status, refused.problem().as_str()), (503, "journal-failed"));
    let ready = server.ask_admin("/readyz");
    assert_eq!((ready.status, ready.problem().as_str()), (503, "journal-failed"));
    assert_eq!(server.client().ask(server.refresh(1)).status, 200, "reads go on");
    let (_, said) = server.stop();
    assert!(said.contains("the journal has failed"), "{said}");
    fs::remove_file(filler).unwrap();
    let export = run_well(&mut command(&data, &["journal", "export", "statuses", "--json"]));
    let found: BTreeSet<u64> = export.lines().map(|line| facts(line)["version"].as_u64().unwrap()).collect();
    assert!(
        ledger.statuses.is_subset(&found) && ledger.statuses.len() > JOURNAL_SEGMENT_BYTES / 640,
        "{}",
        ledger.statuses.len()
    );
}

#[test]
fn beyond_its_share_of_the_disk_the_journal_refuses_writes_by_a_type_of_their_own() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let server = Server::over(&data, |command| {
        command.args(["--demo", "--residents", "200", "--shards", "2"]);
        command.env("ONECODE_JOURNAL_DISK_BYTES_MAX", "536870912");
    });
    // Something else in the folder takes of its share, too.
    let filler = data.join("journal/filler");
    fs::File::create(&filler).unwrap().set_len(500 << 20).unwrap();
    wait_until("writes to be refused", || server.metric("onecode_journal_full") == 1.0);
    let line = status_line(now_ms() - 10_000_000).1;
    let refused = Client::to(server.admin).ask(post("/admin/residents", "", &line));
    assert_eq!((refused.status, refused.problem().as_str()), (503, "journal-full"));
    assert!(refused.field("Retry-After").is_some());
    assert_eq!(server.client().ask(server.refresh(1)).status, 200);
    fs::remove_file(&filler).unwrap();
    wait_until("writes to be taken again", || server.metric("onecode_journal_full") == 0.0);
    assert_eq!(Client::to(server.admin).ask(post("/admin/residents", "", &line)).json()["result"], "done");
}
