//! The promises of the registry in a process that serves: what it takes at start, that it warns before it is full, and
//! that after the start no request touches a disk.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::mount::Disk;
use support::process::{Server, onecode, run_badly};
use support::{Host, REFRESH, bearer, get, wait_until};

/// A demo that is told its capacity.
fn demo(data: &Path, residents: u32, capacity: &str) -> Command {
    let mut command = onecode();
    command.args(["serve", "--demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--residents"]);
    command.arg(residents.to_string()).arg("--data").arg(data).env("ONECODE_REGISTRY_CAPACITY", capacity);
    command
}

#[test]
fn a_capacity_below_the_residents_is_refused_by_name() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let refused = |capacity: &str| run_badly(&mut demo(&data, 300, capacity));
    let (status, line) = refused("299");
    assert_eq!(status, 78);
    assert!(line.contains("registry.capacity: 299 is less than the 300 residents of"), "{line}");
    drop(Server::over(&data, |command| {
        command.args(["--demo", "--residents", "300"]).env("ONECODE_REGISTRY_CAPACITY", "300");
    }));
    let (status, line) = refused("299");
    assert!(status == 78 && line.contains("300 residents of") && line.contains("registry.snapshot"), "{line}");
    assert_eq!(refused("2000000001").0, 78);
}

#[test]
fn a_registry_larger_than_memory_is_a_line_and_not_an_abort() {
    let outer = tempfile::tempdir().unwrap();
    // 146 GB: more than the kernel promises to a machine of less, unless it was told to promise anything.
    let memory_kib = fs::read_to_string("/proc/meminfo").unwrap().split_ascii_whitespace().nth(1).unwrap().parse();
    let promises_all = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap().trim() == "1";
    if promises_all || memory_kib.is_ok_and(|kib: u64| kib > 140_000_000) {
        return eprintln!("LEFT OUT: this machine has, or promises, memory for two billion residents");
    }
    let (status, line) = run_badly(&mut demo(&outer.path().join("data"), 10, "2000000000"));
    assert_eq!(status, 71, "{line}");
    assert!(line.contains("no memory for a registry of 2000000000 residents"), "{line}");
}

#[test]
fn a_registry_that_is_nearly_full_says_so_once() {
    let outer = tempfile::tempdir().unwrap();
    for (capacity, warned) in [("222", true), ("223", false)] {
        let data = outer.path().join(capacity);
        let server = Server::over(&data, |command| {
            command.args(["--demo", "--residents", "200"]).env("ONECODE_REGISTRY_CAPACITY", capacity);
        });
        let warnings = || server.stderr().matches("the registry is over 90 % full, 200 of 222").count();
        if warned {
            wait_until("the warning", || warnings() == 1);
        }
        assert!(server.stderr().contains(&format!("registry: 200 residents, room for {capacity}; ")));
        assert_eq!(server.metric("onecode_residents_used"), 200.0);
        assert_eq!(server.metric("onecode_residents_test"), 200.0);
        assert_eq!(server.metric("onecode_residents_max").to_string(), capacity);
        std::thread::sleep(std::time::Duration::from_millis(1_200));
        assert_eq!(warnings(), usize::from(warned));
    }
}

/// Bytes that a process has had read from any disk (proc(5), `/proc/pid/io`).
fn read_bytes(server: &Server) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", server.pid())).unwrap();
    text.lines().find_map(|line| line.strip_prefix("read_bytes: ")).unwrap().parse().unwrap()
}

#[test]
fn after_the_start_no_request_touches_a_disk() {
    const RESIDENTS: u32 = 50_000;
    let outer = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(outer.path(), 256) else { return };
    let data = disk.mount.join("data");
    let start = || {
        Server::over(&data, |command| {
            command.args(["--demo", "--residents", &RESIDENTS.to_string(), "--shards", "2"]);
        })
    };
    // The second start reads what the first has stored.
    drop(start());
    let server = start();
    let sessions: Vec<String> =
        fs::read_to_string(data.join("sessions.txt")).unwrap().lines().map(str::to_owned).collect();
    let mut client = server.client();
    let mut refresh = |session: &str| client.ask(get(REFRESH, &bearer(session)));
    assert_eq!(refresh(&sessions[0]).status, 200);
    disk.take_away(&data.join("registry.snapshot"));
    let before = read_bytes(&server);
    for session in sessions.iter().step_by(50) {
        assert_eq!(refresh(session).status, 200);
    }
    assert_eq!(read_bytes(&server), before, "a refresh has read from a disk");
    assert_eq!(server.client().ask(get("/", "")).status, 200);
    assert_eq!(server.client().ask(get("/healthz", "")).status, 200);
}
