//! What is damaged, gone, full or hanging is told by name, and everything else goes on. Over the real process and a real
//! file system.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use onecode::registry::demo;
use serde_json::{Value, json};
use support::mount::Disk;
use support::process::{Server, onecode, run, run_badly, run_well};
use support::{Answer, Client, Host, wait_until};

const SEGMENT: &str = "0000000000000001.log";

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

fn command(data: &Path, words: &[&str]) -> Command {
    let mut command = onecode();
    command.args(words).arg("--data").arg(data);
    command
}

fn serve(data: &Path) -> Command {
    let mut serve = command(data, &["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    serve.args(["--demo", "--residents", "200", "--shards", "2"]);
    serve
}

fn start(data: &Path) -> Server {
    Server::over(data, |command| _ = command.args(["--demo", "--residents", "200", "--shards", "2"]))
}

fn ask(server: &Server, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let client = if path.starts_with("/scan") { server.client() } else { Client::to(server.admin) };
    let (mut client, length) = (client, body.len());
    client.ask(format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    ))
}

fn write_statuses(server: &Server, count: u32) -> Vec<String> {
    let line = |n| {
        let id = String::from_utf8(demo::id_number(1_000 + n).as_bytes().to_vec()).unwrap();
        format!("{}\n", json!({"id_number": id, "status": "red", "version": now_ms()}))
    };
    let answer = ask(server, "POST", "/admin/residents", "", &(0..count).map(line).collect::<String>());
    assert_eq!(answer.status, 200, "{answer:?}");
    let result = |line: &str| serde_json::from_str::<Value>(line).unwrap()["result"].as_str().unwrap().to_owned();
    answer.text().lines().map(result).collect()
}

fn purge(server: &Server) -> Answer {
    ask(server, "DELETE", "/admin/test-data", "", "")
}

/// A stopped data folder with records in two segments, of which the first one is folded.
fn folder_with_records(outer: &Path) -> PathBuf {
    let data = outer.join("data");
    let server = start(&data);
    assert_eq!(write_statuses(&server, 300).len(), 300);
    assert_eq!(server.stop().0, Some(0));
    let server = start(&data);
    wait_until("a fold", || server.metric("onecode_journal_folds_total") >= 1.0);
    write_statuses(&server, 3);
    assert_eq!(server.stop().0, Some(0));
    data
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "log"));
    names.sort();
    names
}

/// Must end with this status and say this.
fn refused(command: &mut Command, status: i32, says: &str) {
    let (found, said) = run_badly(command);
    assert!(found == status && said.contains(says), "{command:?}: {found} {said}");
}

#[test]
fn damage_in_what_is_folded_stops_nothing_and_a_removal_goes_round_it() {
    let outer = tempfile::tempdir().unwrap();
    let data = folder_with_records(outer.path());
    let path = data.join("journal").join(SEGMENT);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4_096 + 40] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let damage = format!("{SEGMENT} is damaged at offset 4096, record 1");
    let server = start(&data);
    assert_eq!(server.ask_admin("/readyz").status, 200);
    let folds = server.metric("onecode_journal_folds_total");
    assert_eq!(purge(&server).status, 200);
    wait_until("the fold", || server.metric("onecode_journal_folds_total") > folds);
    wait_until("it is told", || server.stderr().contains(&damage));
    assert_eq!(fs::read(&path).unwrap()[..8_192], bytes[..8_192], "it stays as it is");
    write_statuses(&server, 2);
    assert_eq!(server.stop().0, Some(0));
    // Who looks is told of all that can be read, and of the damage.
    let inspected = run(&mut command(&data, &["journal", "inspect", "--json"]));
    assert_eq!(inspected.status.code(), Some(1));
    assert!(String::from_utf8(inspected.stderr).unwrap().contains(&damage));
    let lines: Vec<Value> = inspected.stdout.split(|byte| *byte == b'\n').flat_map(serde_json::from_slice).collect();
    let records = |line: &Value| line["records"].as_u64().unwrap();
    assert!(lines.len() >= 3 && records(&lines[0]) == 0 && records(&lines[1]) >= 3, "{lines:?}");
    let verified = run(&mut command(&data, &["journal", "verify"]));
    let said = String::from_utf8(verified.stdout).unwrap();
    assert!(verified.status.code() == Some(1) && said.starts_with("damaged: ") && said.contains(&damage), "{said}");
    let exported = run(&mut command(&data, &["journal", "export", "statuses", "--json"]));
    let (told, said) = (String::from_utf8(exported.stdout).unwrap(), String::from_utf8(exported.stderr).unwrap());
    assert!(exported.status.code() == Some(1) && said.contains(&damage) && told.lines().count() == 5, "{said}{told}");
}

/// A stopped data folder with four segments, of which the last one is not folded; and what is in the others.
fn folder_of_four(outer: &Path, start: impl Fn(&Path) -> Server) -> (PathBuf, Vec<String>) {
    let data = outer.join("data");
    for round in 0..4 {
        let server = start(&data);
        if round > 0 {
            wait_until("a fold", || server.metric("onecode_journal_folds_total") >= 1.0);
        }
        assert_eq!(write_statuses(&server, 20).len(), 20);
        assert_eq!(server.stop().0, Some(0));
    }
    let names = segments(&data).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    (data, names)
}

/// What ways there are for a segment to be unreadable, and what is then said.
fn spoil(path: &Path, way: usize) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut bytes = fs::read(path).unwrap();
    match way {
        0 => bytes[4_096 + 40] ^= 1,
        1 => bytes[100] ^= 1,
        _ => fs::remove_file(path).unwrap(),
    }
    match way {
        0 => fs::write(path, bytes).map(|()| format!("{name} is damaged at offset 4096, record ")),
        1 => fs::write(path, bytes).map(|()| format!("{name} is damaged at offset 0: its header's checksum is wrong")),
        2 => Ok(format!("records from {} on are missing before ", u64::from_str_radix(&name[..16], 16).unwrap())),
        _ => {
            assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
            Ok(format!("{name}: is not a regular file"))
        }
    }
    .unwrap()
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let output = run(command);
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_backup_is_made_beside_a_folded_segment_that_cannot_be_read_and_says_so() {
    let outer = tempfile::tempdir().unwrap();
    let (data, names) = folder_of_four(outer.path(), start);
    assert_eq!(names.len(), 4);
    let path = |name: &str| outer.path().join(name);
    let state = |text: &str| text.lines().find(|line| line.starts_with("state ")).unwrap().to_owned();
    let whole = state(&run_well(command(&data, &["backup"]).arg(path("whole"))));
    let segment = data.join("journal").join(&names[1]);
    fs::copy(&segment, path("aside")).unwrap();
    for way in 0..4 {
        let damage = spoil(&segment, way);
        // What cannot be opened is told, and is then missing.
        let missing =
            format!("records from {} on are missing before ", u64::from_str_radix(&names[1][..16], 16).unwrap());
        let named = if way == 3 { &missing } else { &damage };
        let (backup, restored) = (path(&format!("backup-{way}")), path(&format!("restored-{way}")));
        for made in [command(&data, &["backup"]).arg(&backup), command(&restored, &["restore"]).arg(&backup)] {
            let (status, told, said) = output(made);
            let said = said.lines().filter(|line| line.contains("the journal is not whole")).collect::<Vec<_>>();
            assert!(status == Some(1) && said.len() == 1 && said[0].contains(named), "{way}: {status:?} {said:?}");
            assert_eq!(state(&told), whole, "the state is all there");
        }
        let manifest: Value = serde_json::from_slice(&fs::read(backup.join("manifest.json")).unwrap()).unwrap();
        assert!(manifest["left_out"].as_array().unwrap().len() == 1, "{}", manifest["left_out"]);
        // All of the others is there, and can be asked.
        let (status, told, said) = output(&mut command(&restored, &["journal", "export", "statuses", "--json"]));
        assert!(status == Some(1) && said.contains(named), "{said}");
        assert_eq!(told.lines().count(), 60, "{way}: {said}");
        let keys = Command::new("cp").arg("-r").arg(data.join("keys")).arg(&restored).status().unwrap();
        assert!(keys.success());
        assert_eq!(Server::over(&restored, |command| _ = command.args(["--shards", "2"])).stop().0, Some(0));
        let _ = fs::remove_file(&segment);
        fs::copy(path("aside"), &segment).unwrap();
    }
    run_well(command(&data, &["backup"]).arg(path("again")));
    // What is not folded must be whole.
    let damage = spoil(&data.join("journal").join(&names[3]), 0);
    refused(command(&data, &["backup"]).arg(path("none")), 78, &damage);
    assert!(!path("none").exists(), "nothing is left of it");
}

#[test]
fn behind_a_damaged_header_and_before_it_all_is_read_and_it_is_named_once() {
    let outer = tempfile::tempdir().unwrap();
    let (data, names) = folder_of_four(outer.path(), start);
    let segment = data.join("journal").join(&names[1]);
    fs::copy(&segment, outer.path().join("aside")).unwrap();
    for way in [0, 1, 3] {
        let damage = spoil(&segment, way);
        let (status, told, said) = output(&mut command(&data, &["journal", "inspect", "--json"]));
        assert!(status == Some(1) && said.matches(&damage).count() == 1 && said.lines().count() == 1, "{said}");
        let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let statuses: Vec<u64> = lines.iter().map(|line| line["kinds"]["status"].as_u64().unwrap_or(0)).collect();
        assert_eq!(statuses[..4], [20, 0, 20, 20]);
        let (_, told, _) = output(&mut command(&data, &["journal", "inspect"]));
        assert!(told.lines().nth(1).unwrap().contains("no record"), "{told}");
        let (status, told, _) = output(&mut command(&data, &["journal", "verify"]));
        assert!(status == Some(1) && told.matches(&names[1]).count() == 1, "{told}");
        let (status, told, said) = output(&mut command(&data, &["journal", "export", "statuses", "--json"]));
        assert!(status == Some(1) && said.matches(&damage).count() == 1 && told.lines().count() == 60, "{said}");
        let server = start(&data);
        let folds = server.metric("onecode_journal_folds_total");
        assert_eq!(purge(&server).status, 200);
        wait_until("the fold", || server.metric("onecode_journal_folds_total") > folds);
        wait_until("it is told", || server.stderr().contains(&damage));
        assert_eq!(server.stop().0, Some(0));
        let _ = fs::remove_file(&segment);
        fs::copy(outer.path().join("aside"), &segment).unwrap();
    }
}

/// Says of a segment that it was made so many days ago.
fn make_older(path: &Path, days: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[48..56].copy_from_slice(&(now_ms() - days * 86_400_000).to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[..4_092]);
    bytes[4_092..4_096].copy_from_slice(&checksum.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_start_deletes_what_is_folded_and_old_and_so_mends_a_full_disk() {
    let outer = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(outer.path(), 384) else { return };
    let over = |data: &Path, days: &str| {
        Server::over(data, |command| _ = command.args(["--shards", "2"]).env("ONECODE_JOURNAL_SCAN_DAYS", days))
    };
    let (data, names) = folder_of_four(&disk.mount, |data| over(data, "14"));
    let path = |index: usize| data.join("journal").join(&names[index]);
    let start = |days: &str| over(&data, days);
    let server = start("14");
    wait_until("a fold", || server.metric("onecode_journal_folds_total") >= 1.0);
    assert_eq!(server.stop().0, Some(0));
    make_older(&path(1), 30);
    make_older(&path(2), 10);
    // Behind its end it may be of any length.
    let mut oldest = fs::File::options().append(true).open(path(0)).unwrap();
    std::io::Write::write_all(&mut oldest, &vec![1; 150 << 20]).unwrap();
    drop(oldest);
    disk.fill();
    // There is nothing new to fold.
    let server = start("14");
    assert!(server.stderr().contains("1 segment deleted, folded and old"), "{}", server.stderr());
    assert!(!path(0).exists() && path(1).exists());
    assert_eq!(write_statuses(&server, 3), ["done"; 3]);
    wait_until("the next segment", || server.metric("onecode_journal_disk_bytes") >= f64::from(32 << 20));
    assert_eq!(server.stop().0, Some(0));
    let server = start("5");
    assert!(server.stderr().contains("1 segment deleted, folded and old"), "{}", server.stderr());
    assert!(!path(1).exists() && path(2).exists());
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_file_with_the_last_name_that_a_segment_can_have_ends_the_reading() {
    let outer = tempfile::tempdir().unwrap();
    let data = folder_with_records(outer.path());
    let file = data.join("journal/ffffffffffffffff.log");
    fs::write(&file, "x").unwrap();
    for words in [&["journal", "verify"][..], &["journal", "inspect"], &["journal", "export"]] {
        let (status, told, said) = output(&mut command(&data, words));
        assert_eq!(status, Some(1), "{words:?}: {told}{said}");
        let all = told + &said;
        assert_eq!(all.matches("ffffffffffffffff.log is not a segment").count(), 1, "{words:?}: {all}");
        assert_eq!(all.matches("damaged at").count(), 0, "{words:?}: {all}");
    }
    fs::remove_file(&file).unwrap();
    run_well(&mut command(&data, &["journal", "verify"]));
}

#[test]
fn the_audit_can_be_read_after_any_number_of_starts() {
    let outer = tempfile::tempdir().unwrap();
    let (data, _) = folder_of_four(outer.path(), start);
    let told = run_well(&mut command(&data, &["journal", "export", "audit", "--json"]));
    let calls: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = |call: &Value| call["at"].as_str().unwrap().to_owned();
    assert!(calls.len() >= 4 && calls.iter().all(|call| call["author"] == "local"), "{told}");
    assert!(calls.iter().all(|call| !call["action"].as_str().unwrap().is_empty() && call["detail"].is_string()));
    let csv = run_well(&mut command(&data, &["journal", "export", "audit"]));
    assert_eq!(csv.lines().next(), Some(r#""at","author","action","detail""#));
    assert!(csv.lines().skip(1).all(|line| line.starts_with('"') && line.ends_with('"')), "{csv}");
    let later = run_well(command(&data, &["journal", "export", "audit", "--json"]).args(["--from", &at(&calls[1])]));
    assert!(later.lines().count() >= 3, "{later}");
    for words in [["--place", "door"], ["--resident", "000000000000000a"]] {
        let told = run_well(command(&data, &["journal", "export", "audit", "--json"]).args(words));
        assert_eq!(told, "", "calls have neither");
    }
}

#[test]
fn a_removal_finds_the_damage_that_nobody_has_looked_for_yet() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let server = start(&data);
    write_statuses(&server, 300);
    let path = data.join("journal").join(SEGMENT);
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 64], 4_096 + 40).unwrap();
    assert_eq!(purge(&server).status, 200);
    let damage = format!("{SEGMENT} is damaged at offset 4096");
    wait_until("it is told", || server.stderr().contains(&damage));
    assert_eq!(write_statuses(&server, 1), ["done"]);
}

#[test]
fn a_journal_without_its_snapshot_is_refused_by_whoever_loads_it() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let server = Server::over(&data, |command| _ = command.args(["--shards", "2"]));
    let snapshot = data.join("registry.snapshot");
    assert!(snapshot.exists(), "a new folder has one before it has a journal");
    write_statuses(&server, 3);
    assert_eq!(server.stop().0, Some(0));
    fs::rename(&snapshot, outer.path().join("snapshot")).unwrap();
    let csv = outer.path().join("residents.csv");
    fs::write(&csv, "id_number,status,updated_at\n").unwrap();
    let backup = outer.path().join("backup");
    for (words, more) in [
        (&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"][..], None),
        (&["import"], Some(&csv)),
        (&["backup"], Some(&backup)),
    ] {
        refused(command(&data, words).args(more), 78, "registry.snapshot is missing");
        assert!(!snapshot.exists(), "{words:?} makes no other one");
    }
    // What names the newest segment says as much where the segments are gone, too.
    fs::rename(data.join("journal"), outer.path().join("journal")).unwrap();
    refused(&mut command(&data, &["serve", "--admin", "127.0.0.1:0"]), 78, "registry.snapshot is missing");
    fs::rename(outer.path().join("journal"), data.join("journal")).unwrap();
    fs::rename(outer.path().join("snapshot"), &snapshot).unwrap();
    let server = Server::over(&data, |command| _ = command.args(["--shards", "2"]));
    assert!(server.stderr().contains("3 residents"), "{}", server.stderr());
}

#[test]
fn a_journal_that_lacks_its_newest_segment_or_all_is_refused_by_name() {
    let outer = tempfile::tempdir().unwrap();
    let data = folder_with_records(outer.path());
    let (aside, newest) = (outer.path().join("aside"), segments(&data).pop().unwrap());
    let name = newest.file_name().unwrap().to_str().unwrap().to_owned();
    for gone in [&newest, &data.join("journal")] {
        fs::rename(gone, &aside).unwrap();
        let (status, said) = run_badly(&mut serve(&data));
        assert!(status == 78 && said.contains(&name), "{status}: {said}");
        let missing = format!("{name}: No such file");
        refused(&mut command(&data, &["journal", "export"]), 1, &missing);
        refused(command(&data, &["backup"]).arg(outer.path().join("backup")), 78, &missing);
        let verified = run(&mut command(&data, &["journal", "verify"]));
        let said = String::from_utf8(verified.stdout).unwrap();
        assert!(verified.status.code() == Some(1) && said.contains(&missing), "{said}");
        fs::rename(&aside, gone).unwrap();
    }
    // Of a folder whose journal is gone with what names its newest segment, the snapshot knows.
    let head = data.join("journal.head");
    let whole = fs::read_to_string(&head).unwrap();
    assert!(whole.starts_with(&name), "{whole}");
    fs::rename(data.join("journal"), &aside).unwrap();
    fs::remove_file(&head).unwrap();
    refused(&mut serve(&data), 78, "no segment is left, and records up to 30");
    fs::rename(&aside, data.join("journal")).unwrap();
    for damaged in ["", "x", &whole.replacen('0', "1", 1), &whole[1..]] {
        fs::write(&head, damaged).unwrap();
        refused(&mut serve(&data), 78, "journal.head is damaged: remove it if no segment is missing");
    }
    fs::remove_file(&head).unwrap();
    let server = start(&data);
    wait_until("the head is noted again", || head.exists());
    assert_eq!(server.stop().0, Some(0));
    // A restored folder has one, too; and a backup stays what it is.
    let (backup, restored) = (outer.path().join("b"), outer.path().join("restored"));
    run_well(command(&data, &["backup"]).arg(&backup));
    run_well(command(&restored, &["restore"]).arg(&backup));
    fs::remove_file(segments(&restored).pop().unwrap()).unwrap();
    refused(&mut command(&restored, &["journal", "export"]), 1, ".log: No such file");
}

/// A code of one of the demo's residents, as a door asks about it.
fn verify(server: &Server) -> (Answer, Duration) {
    let code = server.client().ask(server.refresh(1)).json()["code"].as_str().unwrap().to_owned();
    let began = Instant::now();
    let body = json!({"code": code, "place": "door"}).to_string();
    let answer = ask(server, "POST", "/scan/verify", &scanner(server), &body);
    assert_eq!((answer.status, answer.json()["result"].as_str()), (200, Some("valid")), "{answer:?}");
    (answer, began.elapsed())
}

fn scanner(server: &Server) -> String {
    let token = fs::read_to_string(server.data().join("scanner-token.txt")).unwrap();
    format!("Authorization: Bearer {}\r\n", token.trim())
}

#[test]
fn scans_leave_of_the_journals_disk_what_operators_need() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let server = Server::over(&data, |command| {
        command.args(["--demo", "--residents", "200", "--shards", "2"]);
        command.env("ONECODE_JOURNAL_DISK_BYTES_MAX", "536870912");
    });
    wait_until("the next segment", || server.metric("onecode_journal_disk_bytes") >= f64::from(32 << 20));
    // What the scans of a busy day would take.
    fs::File::create(data.join("journal/filler")).unwrap().set_len(400 << 20).unwrap();
    wait_until("scans to be refused", || server.metric("onecode_journal_full_for_scans") == 1.0);
    assert_eq!(server.metric("onecode_journal_full"), 0.0);
    let scan = json!({"id": format!("{:032x}", 1), "at": now_ms(), "place": "door", "cti": format!("{:032x}", 7), "result": "valid"});
    let answer = ask(&server, "POST", "/scan/records", &scanner(&server), &scan.to_string());
    assert_eq!((answer.status, answer.problem().as_str()), (503, "journal-full"));
    let retry_after: u32 = answer.field("Retry-After").unwrap().parse().unwrap();
    assert!((60..=120).contains(&retry_after), "it lasts: {retry_after}");
    assert_eq!(verify(&server).0.json()["recorded"], false);
    let ready = server.ask_admin("/readyz?verbose");
    assert!(ready.status == 200 && ready.text().contains("journal: nearly full: scans are refused"), "{ready:?}");
    assert_eq!(write_statuses(&server, 3), ["done"; 3]);
    let id = String::from_utf8(demo::id_number(1_000).as_bytes().to_vec()).unwrap();
    let found = ask(&server, "POST", "/admin/residents/lookup", "", &json!({"id_number": id}).to_string());
    assert_eq!(found.json()["status"], "red");
    assert_eq!(purge(&server).status, 200);
}

/// A disk on which every write hangs, until this is dropped.
struct Frozen<'a>(&'a Disk);

impl<'a> Frozen<'a> {
    fn freeze(disk: &'a Disk) -> Frozen<'a> {
        assert!(Command::new("fsfreeze").arg("-f").arg(&disk.mount).status().unwrap().success());
        Frozen(disk)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0.mount).status();
    }
}

#[test]
fn a_disk_that_hangs_delays_one_verdict_and_neither_readers_nor_the_end() {
    let outer = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(outer.path(), 256) else { return };
    let mut server = start(&disk.mount.join("data"));
    wait_until("the next segment", || server.metric("onecode_journal_disk_bytes") >= f64::from(32 << 20));
    // Both shards have their answer from the disk, which then hangs.
    for _ in 0..10 {
        assert_eq!(verify(&server).0.json()["recorded"], true);
    }
    let frozen = Frozen::freeze(&disk);
    let waited: Vec<_> = (0..30).map(|_| verify(&server)).collect();
    assert!(waited.iter().all(|(answer, _)| answer.json()["recorded"] == false));
    let slow = waited.iter().filter(|(_, took)| *took > Duration::from_millis(500)).count();
    assert!(slow <= 2, "one a shard has to find out: {waited:?}");
    assert!(server.metric("onecode_journal_waiting_seconds") >= 1.0);
    assert_eq!(server.client().ask(server.refresh(2)).status, 200);
    server.signal("TERM");
    let began = Instant::now();
    wait_until("it says what it waits for", || server.stderr().contains("the journal's disk does not answer"));
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    // The kernel lets nobody go who waits for such a disk.
    drop(frozen);
    assert_eq!(server.wait_end(10_000), Some(74));
    drop(server);
    assert!(run_well(&mut command(&disk.mount.join("data"), &["journal", "verify"])).contains(" records, "));
}

#[test]
fn an_export_tells_no_status_that_was_no_news() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let server = start(&data);
    let id = String::from_utf8(demo::id_number(1_000).as_bytes().to_vec()).unwrap();
    let (base, mut lines) = (now_ms() - 10_000, String::new());
    for (more, status) in [(5, "red"), (5, "green"), (3, "yellow"), (6, "green")] {
        lines += &format!("{}\n", json!({"id_number": id, "status": status, "version": base + more}));
    }
    let answer = ask(&server, "POST", "/admin/residents", "", &lines);
    let words: Vec<_> = answer.text().lines().map(|line| line.contains("\"done\"")).collect();
    assert_eq!(words, [true, false, false, true], "{answer:?}");
    let export = |words: &[&str]| run_well(command(&data, &["journal", "export", "statuses"]).args(words));
    let told: Vec<Value> = export(&["--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = told.iter().map(|line| (line["version"].as_u64().unwrap() - base, &line["status"])).collect();
    assert_eq!(told, [(5, &json!("red")), (6, &json!("green"))]);
    assert_eq!(export(&[]).lines().count(), 3, "with its header");
}
