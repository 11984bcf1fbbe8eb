//! What the process may do once it serves: nothing that its ports and files do not need. Only root can try it.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User};
use support::process::{Server, onecode, run_badly, serve};
use support::{Client, Host, get};

/// The least of all users, who is on every system.
const USER: &str = "nobody";

/// `None`, and a word on stderr, for who cannot become another.
fn nobody() -> Option<User> {
    let is_root = Uid::effective().is_root();
    if !is_root {
        eprintln!("left out: only root can become another user");
    }
    is_root.then(|| User::from_name(USER).unwrap().unwrap())
}

/// One line of `/proc/PID/status`, without its name.
fn status(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
    line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ")
}

fn command(data: &Path, user: &str, listen: &str) -> Command {
    let mut command = serve(data, listen);
    command.args(["--demo", "--residents", "10", "--shards", "1"]).env("ONECODE_USER", user);
    command
}

#[test]
fn root_binds_and_then_is_nobody_without_a_capability() {
    let Some(nobody) = nobody() else { return };
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    chown(outer.path(), Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
    // A port that only root may bind, of an address that no other test uses.
    let server = Server::start(command(&data, USER, "127.0.9.9:443"), &data, Some(outer));
    assert_eq!(server.public, SocketAddr::from(([127, 0, 9, 9], 443)));
    let (uid, gid) = (nobody.uid.to_string(), nobody.gid.to_string());
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let tasks: Vec<u32> = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    assert!(tasks.len() > 2);
    for task in tasks {
        assert_eq!(status(task, "Uid"), [&*uid; 4].join(" "));
        assert_eq!(status(task, "Gid"), [&*gid; 4].join(" "));
        assert!(status(task, "Groups").split(' ').all(|group| group == gid || group.is_empty()));
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&status(task, set), 16), Ok(0), "{set}");
        }
        assert_eq!(status(task, "NoNewPrivs"), "1");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    // Not even its own user reads its memory.
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(format!("/proc/{}/mem", server.pid())).unwrap().uid(), 0);
    assert_eq!(fs::metadata(&data).unwrap().uid(), nobody.uid.as_raw());
    let request = server.refresh(1);
    assert_eq!(Client::to(server.public).ask(request).status, 200);
    assert_eq!(Client::to(server.public).ask(get("/healthz", "")).status, 200);
    server.reload("read again");
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn who_cannot_be_become_is_named_and_nothing_is_made() {
    let Some(nobody) = nobody() else { return };
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    for (user, reason) in [("nobody-of-this-name", "there is no such user"), ("root", "is root")] {
        let (exit, line) = run_badly(&mut command(&data, user, "127.0.0.1:0"));
        assert!(exit == 78 && line.contains(&format!("ONECODE_USER: user: {user}: {reason}")), "{exit} {line}");
        let (exit, line) = run_badly(onecode().arg("check-config").env("ONECODE_USER", user));
        assert!(exit == 78 && line.contains(reason), "{exit} {line}");
    }
    let mut other = Command::new("setpriv");
    let ids = [format!("--reuid={}", nobody.uid), format!("--regid={}", nobody.gid)];
    other.args(ids).arg("--clear-groups").arg(onecode().get_program());
    other.args(["serve", "--demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"]).arg(&data);
    let (exit, line) = run_badly(other.env("ONECODE_USER", "daemon"));
    assert!(exit == 78 && line.contains("only root can become another user"), "{exit} {line}");
    // What that user cannot read is found before anything is made.
    let tokens = outer.path().join("tokens.toml");
    fs::write(&tokens, format!("[[token]]\nname = \"ops\"\nscopes = [\"read\"]\nsha256 = \"{}\"\n", "a".repeat(64)))
        .unwrap();
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
    let mut blind = command(&data, USER, "127.0.0.1:0");
    let (exit, line) = run_badly(blind.env("ONECODE_ADMIN_TOKENS_FILE", &tokens));
    assert!(exit == 78 && line.contains("tokens.toml") && line.contains("ermission denied"), "{exit} {line}");
    let mut check = onecode();
    let (exit, line) =
        run_badly(check.arg("check-config").env("ONECODE_USER", USER).env("ONECODE_ADMIN_TOKENS_FILE", &tokens));
    assert!(exit == 78 && line.contains("tokens.toml") && line.contains("ermission denied"), "{exit} {line}");
    assert!(!data.exists());
}
