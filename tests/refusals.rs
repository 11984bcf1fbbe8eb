//! What the commands refuse, and that they refuse it before anything is made, by name, and without waiting for ever.

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::process::{Server, Under, onecode, run, run_badly, run_well};
use support::{Client, Host, REFRESH, SESSION, Socket, bearer, get, post};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn pipe(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        run_well(Command::new("mkfifo").arg(&path));
        path
    }
}

/// Must end with this status and one line that has all of these.
fn refused(command: &mut Command, status: i32, says: &[&str]) -> String {
    let (found, text) = run_badly(command);
    assert_eq!(found, status, "{command:?}: {text}");
    assert!(says.iter().all(|says| text.contains(says)), "{command:?}: {text}");
    text
}

fn serve(data: &Path) -> Command {
    let mut command = onecode();
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"]).arg(data);
    command
}

#[test]
fn no_command_makes_keys_beside_a_registry_that_needs_the_lost_ones() {
    let folder = Folder::new();
    let data = folder.path("data");
    let residents = folder.with("r.csv", "id_number,status,updated_at\n11010519491231002X,green,1700000000001\n");
    run_well(onecode().arg("import").arg("--data").arg(&data).arg(&residents));
    let (phrase, export) = (folder.with("phrase", "a sentence kept in the safe\n"), folder.path("export"));
    let keys = |words: &[&str], data: &Path| {
        let mut command = onecode();
        command.arg("keys").args(words).arg("--passphrase-file").arg(&phrase).arg("--data").arg(data);
        command
    };
    run_well(keys(&["export"], &data).arg("--out").arg(&export));
    fs::remove_dir_all(data.join("keys")).unwrap();
    for words in [
        &["keys", "generate"][..],
        &["keys", "rotate"],
        &["keys", "rotate", "session"],
        &["keys", "list"],
        &["keys", "revoke", "AAAAAAAAAAA"],
        &["keys", "export"],
        &["verify", "OC1:X"],
        &["import", residents.to_str().unwrap()],
        &["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    ] {
        let keyring = data.join("keys/keyring.json");
        let text = refused(
            onecode().args(words).arg("--data").arg(&data),
            78,
            &["restore the keys", "hash key", keyring.to_str().unwrap()],
        );
        assert!(!text.contains("generate"), "{text}");
        assert!(!data.join("keys").exists(), "{words:?}");
    }
    let (other, others) = (folder.path("other"), folder.path("others"));
    run_well(onecode().args(["keys", "generate", "--data"]).arg(&other));
    run_well(keys(&["export"], &other).arg("--out").arg(&others));
    refused(keys(&["import"], &data).arg(&others), 78, &["made with hash key", "restore the keys"]);
    assert!(!data.join("keys").exists());
    run_well(keys(&["import"], &data).arg(&export));
    run_well(onecode().arg("import").arg("--data").arg(&data).arg(&residents));
}

#[test]
fn a_running_server_goes_on_with_its_keys_when_they_are_lost() {
    let server = Server::demo();
    let keys = server.data().join("keys");
    let session = server.session(1);
    let published = || server.client().ask(get("/.well-known/jwks.json", "")).text().to_owned();
    let stays = |says: &str| {
        let before = server.stderr().len();
        server.reload("keys and sign-in stay as they were");
        let said = server.stderr()[before..].to_owned();
        assert!(said.contains(says) && !said.contains("generate"), "{said}");
        assert_eq!(server.client().ask(get(REFRESH, &bearer(&session))).status, 200);
    };
    let first = published();
    fs::rename(&keys, server.data().join("away")).unwrap();
    stays("restore the keys");
    assert!(!keys.exists());
    run_well(onecode().args(["keys", "generate", "--keys-dir"]).arg(&keys).arg("--data").arg(keys.join("../none")));
    stays("another hash key than the registry's");
    fs::remove_file(keys.join("keyring.json")).unwrap();
    run_well(Command::new("mkfifo").arg(keys.join("keyring.json")));
    stays("not a regular file");
    fs::remove_dir_all(&keys).unwrap();
    fs::rename(server.data().join("away"), &keys).unwrap();
    server.reload("keys and sign-in read again");
    assert_eq!(published(), first);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_page_that_cannot_be_served_is_named_before_anything_is_made() {
    let folder = Folder::new();
    let data = folder.path("data");
    let refuse = |says: &[&str]| {
        let text = refused(serve(&data).env("ONECODE_ASSETS_DIR", folder.path("pages")), 78, says);
        assert!(!text.contains("driver") && text.len() < 300 && text.lines().count() == 1, "{text}");
        refused(onecode().arg("check-config").env("ONECODE_ASSETS_DIR", folder.path("pages")), 78, says);
        assert!(!data.exists());
    };
    refuse(&["ONECODE_ASSETS_DIR: assets.dir: ", "pages", "No such file"]);
    folder.with("pages/a.html", "x");
    let pipe = folder.pipe("pages/b.html");
    refuse(&["b.html", "not a regular file"]);
    fs::remove_file(&pipe).unwrap();
    for (to, says) in [(".", "an ancestor"), ("..", "an ancestor"), ("loop", "loop")] {
        symlink(to, folder.path("pages/loop")).unwrap();
        refuse(&["pages/loop", says]);
        fs::remove_file(folder.path("pages/loop")).unwrap();
    }
    fs::File::create(&pipe).unwrap().set_len(1 << 34).unwrap();
    refuse(&["b.html", "larger than 16777216 bytes"]);
    fs::remove_file(&pipe).unwrap();
    folder.with("pages/scan/index.html", "x");
    folder.with("pages/person.html", "x");
    folder.with("other/c.html", "y");
    symlink("../other", folder.path("pages/other")).unwrap();
    run_well(onecode().arg("check-config").env("ONECODE_ASSETS_DIR", folder.path("pages")));
}

#[test]
fn what_is_no_file_is_named_and_a_jwks_before_anything_is_made() {
    let folder = Folder::new();
    let data = folder.path("data");
    let config = |jwks: &Path| {
        folder.with("c.toml", format!("[auth]\njwks_file = {jwks:?}\nissuer = \"i\"\naudience = \"a\"\n"))
    };
    // A registry that is none is found only behind the lock, and does not hold up the start either.
    let other = folder.path("other");
    fs::create_dir(&other).unwrap();
    folder.pipe("other/registry.snapshot");
    for words in [&["serve"][..], &["keys", "generate"]] {
        refused(onecode().args(words).arg("--data").arg(&other), 74, &["registry.snapshot", "not a regular file"]);
    }
    for jwks in [folder.path("none.json"), folder.pipe("pipe.json"), folder.with("empty.json", "{\"keys\":[]}")] {
        let says = ["c.toml:2: auth.jwks_file: ", jwks.to_str().unwrap()];
        refused(serve(&data).arg("--config").arg(config(&jwks)), 78, &says);
        refused(onecode().arg("check-config").arg("--config").arg(config(&jwks)), 78, &says);
        assert!(!data.exists());
    }
}

#[test]
fn check_config_shows_every_default_and_refuses_what_serve_would() {
    let text = run_well(onecode().arg("check-config"));
    assert!(text.contains("auth.id_claim = \"id_number\"  # default\n"), "{text}");
    refused(onecode().arg("check-config").env("ONECODE_RUNTIME_CPUS", "1023"), 78, &["runtime.cpus", "1023"]);
}

#[test]
fn a_configuration_that_is_not_there_is_78_everywhere_and_help_says_so() {
    let data = Folder::new();
    for words in [&["serve"][..], &["check-config"], &["import", "x.csv"], &["keys", "list"], &["verify", "x"]] {
        let mut command = onecode();
        command.args(words).args(["--config", "/nowhere.toml"]).env("ONECODE_DATA", data.path("d"));
        refused(&mut command, 78, &["/nowhere.toml: cannot be read"]);
        if !matches!(words[0], "keys" | "check-config") {
            let help = run_well(onecode().args([words[0], "--help"]));
            let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(help.contains("cannot be read"), "{help}");
        }
    }
    let help = run_well(onecode().arg("--help"));
    assert!(help.contains("78  bad configuration") && help.contains("a configuration,\n"), "{help}");
}

#[test]
fn wrong_usage_is_2() {
    assert_eq!(run(&mut onecode()).status.code(), Some(2));
    assert!(run_well(onecode().arg("--version")).starts_with("onecode "));
    refused(onecode().args(["serve", "--nothing"]), 2, &["--nothing", "Usage"]);
}

/// `serve --demo` under these limits on open files, `SOFT:HARD` as prlimit(1) has them.
fn serve_with_open_files(limits: &str, data: &Path, shards: &str) -> Command {
    let served = serve(data);
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={limits}")).arg(served.get_program()).args(served.get_args());
    command.args(["--demo", "--residents", "200", "--shards", shards]);
    command
}

/// A connection that asks, though it may have been closed at once; from many addresses, since one may have half of all.
fn connect(server: &Server, number: usize, request: &[u8]) -> TcpStream {
    let from = u8::try_from(number % 9).unwrap();
    let Socket(mut stream) = Socket::connect_from([127, 0, 0, 2 + from], server.public);
    let _ = stream.write_all(request);
    stream
}

#[test]
fn connections_beyond_the_open_files_are_refused_and_the_admin_listener_is_heard() {
    for under in Under::ALL.into_iter().filter(|under| under.is_here()) {
        let outer = tempfile::tempdir().unwrap();
        let data = outer.path().join("data");
        let mut command = serve_with_open_files("200:600", &data, "2");
        under.apply(&mut command);
        let server = Server::start(command, &data, Some(outer));
        let said = server.stderr();
        let (_, allowed) = said.split_once("the limit of 600 (RLIMIT_NOFILE) allows ").expect("it is said");
        let allowed: f64 = allowed.split_once(" connections").unwrap().0.parse().unwrap();
        assert!((400.0..500.0).contains(&allowed), "{said}");
        let request = server.refresh(1);
        let streams: Vec<TcpStream> = (0..900).map(|number| connect(&server, number, &request)).collect();
        support::wait_until("both shards are full", || {
            let open = |shard| server.metric(&format!("onecode_connections_open{{shard=\"{shard}\"}}"));
            open(0) + open(1) == allowed
        });
        assert!(server.metric("onecode_connections_refused_total") > 0.0);
        drop(streams);
        support::wait_until("there is room again", || server.metric("onecode_connections_open{shard=\"0\"}") == 0.0);
        assert_eq!(Client::to(server.public).ask(&request).status, 200);
        assert_eq!(server.stop().0, Some(0));
    }
}

#[test]
fn an_accept_that_finds_no_descriptor_is_counted_and_tried_again() {
    for under in Under::ALL.into_iter().filter(|under| under.is_here()) {
        let outer = tempfile::tempdir().unwrap();
        let data = outer.path().join("data");
        let mut command = serve_with_open_files("200:200", &data, "1");
        under.apply(&mut command);
        let server = Server::start(command, &data, Some(outer));
        let request = server.refresh(1);
        // Once it answers, the shard has all that it opens for itself.
        assert_eq!(server.client().ask(&request).status, 200);
        let open = || server.metric("onecode_connections_open{shard=\"0\"}");
        support::wait_until("the connection is closed", || open() == 0.0);
        let refused = || server.metric("onecode_connections_refused_total");
        if under == Under::Uring {
            // An accept keeps the limit of the time when it was armed, and this one stays armed. So it is given more
            // connections in one go than there are descriptors: each is accepted in the end, and those that find no
            // place are refused once; what is counted beyond them are accepts that failed.
            server.signal("STOP");
            let streams: Vec<TcpStream> = (0..400).map(|number| connect(&server, number, &request)).collect();
            server.signal("CONT");
            support::wait_until("failed accepts are counted", || open() + refused() > streams.len() as f64);
            drop(streams);
        } else {
            let limit = |soft: &str| run_well(Command::new("prlimit").args(["--pid", &server.pid().to_string(), soft]));
            let mut admin = Client::to(server.admin);
            let ask = get("/metrics", "").replace("Host: test", "Host: localhost");
            assert!(admin.ask(&ask).text().contains("\nonecode_connections_refused_total 0\n"));
            limit("--nofile=3:");
            let mut clients = [server.client(), server.client()];
            clients.iter_mut().for_each(|client| client.send(&request));
            let began = std::time::Instant::now();
            while admin.ask(&ask).text().contains("\nonecode_connections_refused_total 0\n") {
                assert!(began.elapsed().as_secs() < 10, "{under:?}: nothing is counted");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            limit("--nofile=200:");
            clients.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200, "{under:?}"));
        }
        support::wait_until("it goes on", || open() == 0.0);
        assert_eq!(server.client().ask(&request).status, 200);
    }
}

#[test]
fn too_few_open_files_for_any_connection_are_named_before_anything_is_made() {
    let folder = Folder::new();
    let data = folder.path("data");
    refused(&mut serve_with_open_files("100:100", &data, "2"), 71, &["limit of 100 (RLIMIT_NOFILE)", "2 shards need"]);
    assert!(!data.exists());
}

#[test]
fn trust_that_has_no_end_is_refused() {
    let mut verify = onecode();
    refused(verify.args(["verify", "--trust", "/dev/zero", "x"]), 74, &["/dev/zero", "larger than"]);
}

#[test]
fn of_two_cookies_the_one_that_is_a_session_counts() {
    let server = Server::demo();
    let session = server.session(1);
    let ask = |cookies: &str| {
        let answer = server.client().ask(get(REFRESH, &format!("Cookie: {cookies}\r\n")));
        (answer.status != 200).then(|| answer.problem())
    };
    for cookies in ["oc=xx; oc=GOOD", "oc=GOOD; oc=xx", "__Host-oc=GOOD; oc=xx", "oc=xx; __Host-oc=GOOD"] {
        assert_eq!(ask(&cookies.replace("GOOD", &session)), None, "{cookies}");
    }
    for cookies in ["oc=xx; oc=yy; oc=GOOD", "__Host-oc=xx; oc=GOOD", "oc=xx; oc=yy"] {
        assert_eq!(ask(&cookies.replace("GOOD", &session)).as_deref(), Some("session-invalid"), "{cookies}");
    }
    let sign_out = get(SESSION, &format!("Cookie: oc=xx; oc={session}\r\n")).replace("GET", "DELETE");
    assert_eq!(server.client().ask(&sign_out).status, 204);
}

#[test]
fn a_page_of_another_host_of_the_site_changes_nothing() {
    let server = Server::demo();
    let sibling = format!("Cookie: oc={}\r\nSec-Fetch-Site: same-site\r\n", server.session(1));
    let sign_out = get(SESSION, &sibling).replace("GET", "DELETE");
    assert_eq!(server.client().ask(&sign_out).problem(), "session-missing");
    let sign_in = post(SESSION, r#"{"demo_resident":1}"#).replacen("\r\n", "\r\nSec-Fetch-Site: same-site\r\n", 1);
    assert_eq!(server.client().ask(&sign_in).problem(), "origin-refused");
    assert_eq!(server.client().ask(get(REFRESH, &sibling)).status, 200);
}
