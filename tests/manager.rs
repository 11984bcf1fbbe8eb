//! What a service manager hears (sd_notify(3)): that the server serves, reads its configuration again, is another process
//! now, and lives, which it says only while every shard answers.

mod support;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, Uid};
use support::process::{Server, Under};
use support::{Host, unix_s};

const ALIVE: &str = "WATCHDOG=1";

/// Stands in for systemd.
struct Manager {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Manager { folder, socket }
    }

    fn manage(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
    }

    /// The lines of the next message, if one comes by then.
    fn hear(&self, within: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut buffer = [0; 1_024];
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                Some(std::str::from_utf8(&buffer[..length]).unwrap().trim_end().lines().map(str::to_owned).collect())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next message that does not say that the server lives.
    fn hear_other(&self) -> Vec<String> {
        loop {
            let lines = self.hear(Duration::from_secs(20)).expect("something is said");
            if lines != [ALIVE] {
                return lines;
            }
        }
    }

    /// Whether anything is said of a life within 3 s, beside what has been said already.
    fn is_fed(&self) -> bool {
        while self.hear(Duration::from_millis(1)).is_some() {}
        // What was asked before may still be answered.
        thread::sleep(Duration::from_millis(1_500));
        while self.hear(Duration::from_millis(1)).is_some() {}
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            if self.hear(Duration::from_millis(500)).is_some_and(|lines| lines == [ALIVE]) {
                return true;
            }
        }
        false
    }
}

fn thread_named(pid: u32, name: &str) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
    let named = |task: &Path| fs::read_to_string(task.join("comm")).unwrap().trim_end() == name;
    let task = tasks.into_iter().find(|task| named(task)).unwrap();
    Pid::from_raw(task.file_name().unwrap().to_str().unwrap().parse().unwrap())
}

#[test]
fn systemd_hears_when_it_serves_reads_again_and_lives() {
    let manager = Manager::new();
    let server = Server::demo_with(|command| manager.manage(command));
    assert_eq!(manager.hear_other(), ["READY=1"]);
    assert!(manager.is_fed());
    server.reload("read again");
    let reloading = manager.hear_other();
    assert_eq!(reloading[0], "RELOADING=1");
    let since_us: u64 = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
    assert!(since_us > 0 && reloading.len() == 2);
    assert_eq!(manager.hear_other(), ["READY=1"]);
    fs::remove_dir_all(server.data().join("keys")).unwrap();
    server.reload("stay as they were");
    assert_eq!([&manager.hear_other()[0], &manager.hear_other()[0]], ["RELOADING=1", "READY=1"]);
    assert_eq!(server.stop().0, Some(0));
}

/// Each shard in turn is held by the kernel, as one that is caught in a loop or waits for a disk would be.
#[test]
fn the_watchdog_is_not_fed_while_one_shard_stands() {
    if !Uid::effective().is_root() {
        eprintln!("left out: only root can stop one thread of a process that hides its memory");
        return;
    }
    thread::scope(|scope| {
        for under in Under::ALL.into_iter().filter(|under| under.is_here()) {
            scope.spawn(move || stop_one_and_another(under));
        }
    });
}

fn stop_one_and_another(under: Under) {
    let manager = Manager::new();
    let server = Server::demo_with(|command| {
        under.apply(command);
        manager.manage(command);
    });
    for name in ["shard-1", "admin"] {
        let shard = thread_named(server.pid(), name);
        assert!(manager.is_fed());
        ptrace::seize(shard, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(shard).unwrap();
        waitpid(shard, Some(WaitPidFlag::__WALL)).unwrap();
        assert!(!manager.is_fed(), "{name}");
        if name != "admin" {
            let heard_s = server.metric("onecode_shards_heard_seconds") as u64;
            assert!((unix_s() - 30..unix_s() - 2).contains(&heard_s), "{heard_s} at {}", unix_s());
        }
        ptrace::detach(shard, None).unwrap();
        assert!(manager.is_fed());
        let heard_s = server.metric("onecode_shards_heard_seconds") as u64;
        assert!(unix_s() - heard_s <= 3, "{heard_s} at {}", unix_s());
    }
    assert_eq!(server.client().ask(server.refresh(1)).status, 200);
}

#[test]
fn a_shard_that_stands_ends_the_process_rather_than_leave_it_half_alive() {
    if !Uid::effective().is_root() {
        eprintln!("left out: only root can stop one thread of a process that hides its memory");
        return;
    }
    let mut server = Server::demo();
    let shard = thread_named(server.pid(), "shard-1");
    ptrace::seize(shard, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(shard).unwrap();
    waitpid(shard, Some(WaitPidFlag::__WALL)).unwrap();
    // Whom it answers to cannot hear of its end before that of its thread is heard.
    waitpid(shard, Some(WaitPidFlag::__WALL)).unwrap();
    assert_eq!(server.wait_end(5_000), Some(70));
    assert!(server.stderr().contains("a shard stands still"));
}

/// Before the former one ends, or systemd would end the service with it.
#[test]
fn a_process_that_takes_over_is_the_main_one() {
    let manager = Manager::new();
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let start = |arguments: &[&str]| {
        Server::over(&data, |command| {
            // Whose memory is not counted: everyone may run two.
            Under::MonoioEpoll.apply(command);
            manager.manage(command);
            command.args(["--shards", "2"]).args(arguments);
        })
    };
    let mut old = start(&[]);
    assert_eq!(manager.hear_other(), ["READY=1"]);
    let new = start(&["--takeover"]);
    assert_eq!(old.wait_end(15_000), Some(0));
    assert_eq!(manager.hear_other(), ["READY=1".to_owned(), format!("MAINPID={}", new.pid())]);
    assert!(manager.is_fed());
    assert_eq!(new.stop().0, Some(0));
}
