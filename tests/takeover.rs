//! One process takes over from another, over the real binary: nobody who asks meanwhile is refused or cut off, nothing
//! that was acknowledged is lost, and whatever fails on the way leaves one server or none, and never half of one.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};
use onecode::limits::BACKLOG;
use onecode::registry::demo;
use rustix::net::sockopt::{socket_acceptconn, socket_domain};
use rustix::net::{AddressFamily, listen};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use rustls::HandshakeKind;
use rustls::version::TLS13;
use serde_json::{Value, json};
use support::identity::{AUDIENCE, ISSUER, PROVIDER, sign_in_body};
use support::process::{Server, Under, run_badly, serve};
use support::secured::{self, Authority, SecuredLine};
use support::{Client, Host, REFRESH, SESSION, Socket, bearer, get, post, take_answer, unix_s, wait_until};

fn id_number(n: u32) -> String {
    String::from_utf8(demo::id_number(n).as_bytes().to_vec()).unwrap()
}

/// A data folder below this one, with the residents and the sessions of a demo; of a certain user, where that is named.
fn make(outer: &Path, user: Option<&str>) -> PathBuf {
    let data = outer.join("data");
    let demo = Server::over(&data, |command| {
        command.args(["--demo", "--residents", "200", "--shards", "1"]);
        command.envs(user.map(|user| ("ONECODE_USER", user)));
    });
    assert_eq!(demo.stop().0, Some(0));
    fs::remove_file(data.join("demo")).unwrap();
    data
}

/// Two shards over such a folder, with changes to the command.
fn start(data: &Path, change: impl FnOnce(&mut Command)) -> Server {
    Server::over(data, |command| {
        command.args(["--shards", "2"]);
        change(command);
    })
}

/// The next process: on the same addresses, whichever they are.
fn take_over(data: &Path, change: impl FnOnce(&mut Command)) -> Server {
    start(data, |command| {
        command.arg("--takeover");
        change(command);
    })
}

fn socket(data: &Path) -> PathBuf {
    data.join("takeover/socket")
}

fn status_request(n: u32, status: &str, version: u64) -> String {
    let line = json!({"id_number": id_number(n), "status": status, "version": version}).to_string();
    post("/admin/residents", &line).replace("Host: test", "Host: localhost").replace("/json", "/x-ndjson")
}

/// What became of the one line, or of the request.
fn write(admin: SocketAddr, n: u32, status: &str, version: u64) -> String {
    let answer = Client::to(admin).ask(status_request(n, status, version));
    if answer.status != 200 {
        return answer.problem();
    }
    serde_json::from_slice::<Value>(&answer.body).unwrap()["result"].as_str().unwrap().to_owned()
}

fn version(more: u64) -> u64 {
    // The demo says something of everyone when it is made.
    (unix_s() + 10) * 1_000 + more
}

fn shown(server: &Server, n: u32) -> String {
    let answer = Client::to(server.public).ask(get(REFRESH, &bearer(&server.session(n))));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["status"].as_str().unwrap().to_owned()
}

/// One whole answer over a new connection, or why there is none.
fn ask(address: SocketAddr, request: &str) -> Result<u16, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).map_err(|error| format!("write: {error}"))?;
    whole_answer(&mut stream, &mut Vec::new()).map(|(status, _)| status)
}

/// The status of the next answer, and whether it ends the connection.
fn whole_answer(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<(u16, bool), String> {
    loop {
        if received.windows(4).any(|four| four == b"\r\n\r\n")
            && let Some(answer) = take_answer(received, false)
        {
            return Ok((answer.status, answer.closes()));
        }
        let mut buffer = [0; 16_384];
        match stream.read(&mut buffer) {
            Ok(0) => return Err(format!("cut off: {:?}", String::from_utf8_lossy(received))),
            Ok(length) => received.extend_from_slice(&buffer[..length]),
            Err(error) => return Err(format!("read: {error}")),
        }
    }
}

/// Asks until told to stop, by a connection a request or by one as long as the server keeps it.
fn ask_until(address: SocketAddr, request: String, keeps: bool, stop: Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let (mut answered, mut kept, mut received) = (0, None, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            if keeps {
                let stream = kept.get_or_insert_with(|| TcpStream::connect(address).unwrap());
                stream.write_all(request.as_bytes()).unwrap();
                let (status, closes) = whole_answer(stream, &mut received).unwrap();
                assert_eq!(status, 200);
                if closes {
                    kept = None;
                }
            } else {
                assert_eq!(ask(address, &request), Ok(200));
                // Each leaves a port behind that is not free at once.
                thread::sleep(Duration::from_millis(1));
            }
            answered += 1;
        }
        answered
    })
}

/// Writes until told to stop; returns the versions that were acknowledged, and the longest time without one.
fn write_until(admin: SocketAddr, n: u32, stop: Arc<AtomicBool>) -> thread::JoinHandle<(u64, Duration)> {
    thread::spawn(move || {
        let (mut last, mut longest, mut since) = (0, Duration::ZERO, Instant::now());
        for next in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let version = version(next);
            thread::sleep(Duration::from_millis(2));
            match write(admin, n, "red", version).as_str() {
                "done" => {
                    longest = longest.max(since.elapsed());
                    (last, since) = (version, Instant::now());
                }
                refused => assert!(["queue-full", "retry", "journal-late"].contains(&refused), "{refused}"),
            }
        }
        (last, longest)
    })
}

#[test]
fn nobody_is_refused_or_cut_off_while_one_process_takes_over_from_another() {
    for under in Under::ALL.into_iter().filter(|under| under.is_here()) {
        let outer = tempfile::tempdir().unwrap();
        let data = make(outer.path(), None);
        let mut server = start(&data, |command| under.apply(command));
        let (public, admin, session) = (server.public, server.admin, server.session(7));
        assert_eq!(write(admin, 3, "yellow", version(0)), "done");
        let stop = Arc::new(AtomicBool::new(false));
        let request = get(REFRESH, &bearer(&session));
        let askers: Vec<_> = (0..8).map(|n| ask_until(public, request.clone(), n % 2 == 0, stop.clone())).collect();
        let writers: Vec<_> = (0..2).map(|n| write_until(admin, 10 + n, stop.clone())).collect();
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(200));
            let next = take_over(&data, |command| under.apply(command));
            assert_eq!((next.public, next.admin), (public, admin));
            assert_eq!(server.wait_end(15_000), Some(0), "{}", server.stderr());
            server = next;
        }
        thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
        let answered: Vec<u64> = askers.into_iter().map(|asker| asker.join().unwrap()).collect();
        assert!(answered.iter().all(|answered| *answered > 10), "{answered:?}");
        for (n, writer) in (10..).zip(writers) {
            let (last, longest) = writer.join().unwrap();
            eprintln!("{}: the longest pause of writes: {} ms", under.name(), longest.as_millis());
            assert!(last > 0 && longest < Duration::from_secs(5));
            assert_eq!(write(admin, n, "green", last), "ignored", "it is there");
            assert_eq!(shown(&server, n), "red");
        }
        assert_eq!((shown(&server, 3), write(admin, 3, "red", version(9_000))), ("yellow".into(), "done".into()));
        assert_eq!(ask(public, &request), Ok(200), "a session from before all of them");
        assert_eq!(server.stop().0, Some(0));
        // And all of it is in the folder, too.
        let again = start(&data, |command| under.apply(command));
        assert_eq!((shown(&again, 3), shown(&again, 10)), ("red".into(), "red".into()));
    }
}

#[test]
fn what_cannot_go_on_is_refused_by_name_and_the_server_serves_on() {
    let outer = tempfile::tempdir().unwrap();
    let data = make(outer.path(), None);
    let (exit, line) = run_badly(serve(&data, "127.0.0.1:0").args(["--takeover", "--shards", "2"]));
    assert!(exit == 78 && line.contains("no server to take over from"), "{exit} {line}");
    let server = start(&data, |_| {});
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data.join("takeover")), mode(&socket(&data))), (0o700, 0o600));
    for (listen, shards, says) in [
        ("127.0.0.1:0", "3", "runtime.shards: it has 2, not 3".to_owned()),
        ("127.0.0.2:0", "2", format!("it has [{}, {}], not [127.0.0.2:0, ", server.public, server.admin)),
    ] {
        let (exit, line) = run_badly(serve(&data, listen).args(["--takeover", "--shards", shards]));
        assert!(exit == 78 && line.contains(&says), "{exit} {line}");
    }
    // Nor does one without --takeover come in between.
    let mut second = serve(&data, "127.0.0.1:0");
    second.args(["--shards", "2"]);
    let (exit, line) = run_badly(&mut second);
    assert!(exit == 75 && line.contains(&format!("process {}", server.pid())), "{exit} {line}");
    // One that is killed while it loads.
    let mut line = String::new();
    let loading = UnixStream::connect(socket(&data)).unwrap();
    BufReader::new(&loading).read_line(&mut line).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["shards"], 2);
    drop(loading);
    // While one takes over another one is told so, and does not wait.
    let taking = fs::File::open(data.join("takeover")).unwrap();
    taking.lock().unwrap();
    let (exit, line) = run_badly(serve(&data, "127.0.0.1:0").args(["--takeover", "--shards", "2"]));
    assert!(exit == 75 && line.contains("another process takes over already"), "{exit} {line}");
    drop(taking);
    wait_until("it is given up", || server.stderr().matches("given up, serving on").count() >= 3);
    assert_eq!((write(server.admin, 5, "red", version(0)), shown(&server, 5)), ("done".into(), "red".into()));
    let next = take_over(&data, |_| {});
    let (exit, line) = run_badly(&mut second);
    assert!(exit == 75 && line.contains(&format!("process {}", next.pid())), "{exit} {line}");
    assert_eq!(shown(&next, 5), "red");
}

/// The listening sockets of a process, as if they were ours (pidfd_getfd(2)).
fn listeners(pid: u32) -> Vec<OwnedFd> {
    let process = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let process = pidfd_open(process, PidfdFlags::empty()).unwrap();
    let own = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let number = |entry: fs::DirEntry| entry.file_name().to_str().unwrap().parse().unwrap();
    let numbers = own.map(|entry| number(entry.unwrap()));
    let taken = numbers.filter_map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok());
    taken
        .filter(|taken| socket_acceptconn(taken) == Ok(true) && socket_domain(taken) == Ok(AddressFamily::INET))
        .collect()
}

/// How many connections may wait at each listener of a process (ss(8)).
fn queues_max(pid: u32) -> Vec<u32> {
    let told = Command::new("ss").args(["-ltnpH4"]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let own = told.lines().filter(|line| line.contains(&format!("pid={pid},")));
    own.map(|line| line.split_whitespace().nth(2).unwrap().parse().unwrap()).collect()
}

#[test]
fn what_a_crowd_made_of_the_listeners_is_not_left_to_the_next_process() {
    if !Uid::effective().is_root() {
        eprintln!("left out: only root can see the listeners of a process that hides its memory");
        return;
    }
    for under in Under::ALL.into_iter().filter(|under| under.is_here()) {
        let outer = tempfile::tempdir().unwrap();
        let data = make(outer.path(), None);
        let mut server = start(&data, |command| under.apply(command));
        let held = listeners(server.pid());
        held.iter().for_each(|listener| listen(listener, 16).unwrap());
        let queues = queues_max(server.pid());
        assert!(queues.len() == 3 && queues.iter().all(|max| *max == 16), "{queues:?}");
        let next = take_over(&data, |command| under.apply(command));
        wait_until("as many may wait as ever", || queues_max(next.pid()).iter().all(|max| *max >= BACKLOG.min(128)));
        assert_eq!(server.wait_end(15_000), Some(0));
        assert_eq!(ask(next.public, &get("/healthz", "")), Ok(200));
    }
}

#[test]
fn a_process_that_ends_after_the_hand_over_leaves_no_half_of_a_server() {
    let outer = tempfile::tempdir().unwrap();
    let data = make(outer.path(), None);
    let mut server = start(&data, |_| {});
    assert_eq!(write(server.admin, 5, "red", version(0)), "done");
    let mut successor = UnixStream::connect(socket(&data)).unwrap();
    BufReader::new(&successor).read_line(&mut String::new()).unwrap();
    successor.write_all(b"T").unwrap();
    // The first descriptor is under way: the journal has ended. Until the other one is gone, reading goes on.
    successor.read_exact(&mut [0]).unwrap();
    assert_eq!(
        (write(server.admin, 5, "green", version(5_000)), shown(&server, 5)),
        ("queue-full".into(), "red".into())
    );
    drop(successor);
    assert_eq!(server.wait_end(15_000), Some(71));
    assert!(server.stderr().contains("for a process that does not serve: ending"), "{}", server.stderr());
    let again = start(&data, |_| {});
    assert_eq!((shown(&again, 5), write(again.admin, 5, "green", version(6_000))), ("red".into(), "done".into()));
}

#[test]
fn a_signal_ends_the_old_process_as_ever_while_another_one_loads() {
    let outer = tempfile::tempdir().unwrap();
    let data = make(outer.path(), None);
    let server = start(&data, |_| {});
    let mut loading = UnixStream::connect(socket(&data)).unwrap();
    BufReader::new(&loading).read_line(&mut String::new()).unwrap();
    assert_eq!(server.stop().0, Some(0));
    assert_eq!(loading.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_process_of_another_user_is_told_nothing() {
    if !Uid::effective().is_root() {
        eprintln!("left out: only root can become another user");
        return;
    }
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let outer = tempfile::tempdir().unwrap();
    chown(outer.path(), Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
    let data = make(outer.path(), Some("nobody"));
    // Without io_uring, whose memory is counted by user and may be limited here.
    let with = |command: &mut Command| {
        Under::MonoioEpoll.apply(command);
        command.env("ONECODE_USER", "nobody");
    };
    let server = start(&data, with);
    // Root may open the socket, which is not enough.
    let mut stream = UnixStream::connect(socket(&data)).unwrap();
    assert_eq!(stream.read(&mut [0; 100]).unwrap(), 0);
    let refused = format!("process {} is of another user (0)", std::process::id());
    wait_until("it is refused by name", || server.stderr().contains(&refused));
    let mut command = serve(&data, "127.0.0.1:0");
    let (exit, line) = run_badly(command.args(["--shards", "2", "--takeover"]));
    assert!(exit == 78 && line.contains("of another user"), "{exit} {line}");
    // The limit of the user who can be told beforehand to be too low.
    let mut limited = Command::new("prlimit");
    limited.arg("--memlock=65536:65536").arg(serve(&data, "127.0.0.1:0").get_program());
    limited.args(["serve", "--takeover", "--shards", "2", "--data"]).arg(&data).env("ONECODE_USER", "nobody");
    let (exit, line) = run_badly(&mut limited);
    assert!(exit == 78 && line.contains("RLIMIT_MEMLOCK"), "{exit} {line}");
    let before = shown(&server, 1);
    assert_eq!(shown(&take_over(&data, with), 1), before);
}

#[test]
fn a_ticket_from_before_opens_after() {
    let outer = tempfile::tempdir().unwrap();
    let (data, authority) = (make(outer.path(), None), Authority::new("the authority"));
    let (chain, key) = authority.sign("own", false, |_| {}).write(outer.path(), "own");
    let config = outer.path().join("onecode.toml");
    fs::write(&config, format!("tls.certificates = [{chain:?}]\ntls.keys = [{key:?}]\n")).unwrap();
    let with = |command: &mut Command| _ = command.arg("--config").arg(&config);
    let client = Arc::new(secured::client(&authority.pem, &[&TLS13], None));
    let kind = |server: &Server| {
        let line = SecuredLine::over(Box::new(Socket::connect(server.public)), &client);
        let kind = line.connection.handshake_kind();
        assert_eq!(Client::over(Box::new(line)).ask(get("/healthz", "")).status, 200);
        kind
    };
    let server = start(&data, with);
    assert_eq!([kind(&server), kind(&server)], [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
    // Nobody speaks in the clear where TLS was spoken.
    let (exit, line) = run_badly(serve(&data, "127.0.0.1:0").args(["--takeover", "--shards", "2"]));
    assert!(exit == 78 && line.contains("TLS begins and ends with a restart"), "{exit} {line}");
    let next = take_over(&data, with);
    assert_eq!(kind(&next), Some(HandshakeKind::Resumed));
    // After a restart without one nothing opens it.
    drop((server, next));
    assert_eq!(kind(&start(&data, with)), Some(HandshakeKind::Full));
}

#[test]
fn assertions_from_before_count_once_after() {
    let outer = tempfile::tempdir().unwrap();
    let data = make(outer.path(), None);
    fs::write(outer.path().join("jwks.json"), PROVIDER.jwks()).unwrap();
    let (config, jwks) = (outer.path().join("onecode.toml"), outer.path().join("jwks.json"));
    fs::write(&config, format!("[auth]\njwks_file = {jwks:?}\nissuer = {ISSUER:?}\naudience = {AUDIENCE:?}\n"))
        .unwrap();
    let with = |command: &mut Command| _ = command.arg("--config").arg(&config);
    let mut server = start(&data, with);
    let now_s = unix_s();
    wait_until("the second of the start is over", || unix_s() > now_s);
    let assertions: Vec<String> =
        (1..=20).map(|n| PROVIDER.assertion(&id_number(n), unix_s(), &format!("jti-{n}"))).collect();
    let sign_in = |server: &Server, assertion: &str| {
        let answer = Client::to(server.public).ask(post(SESSION, &sign_in_body(assertion)));
        if answer.status == 200 { "signed in".to_owned() } else { answer.problem() }
    };
    let (used, unused) = assertions.split_at(10);
    used.iter().for_each(|assertion| assert_eq!(sign_in(&server, assertion), "signed in"));
    let mut next = take_over(&data, with);
    // Until then it takes connections, too, and signs nobody in any more.
    assert_eq!(server.wait_end(15_000), Some(0));
    let now_s = unix_s();
    wait_until("the new process is older than the assertions", || unix_s() > now_s);
    used.iter().for_each(|assertion| assert_eq!(sign_in(&next, assertion), "assertion-replayed"));
    unused.iter().for_each(|assertion| assert_eq!(sign_in(&next, assertion), "signed in"));
    let last = take_over(&data, with);
    assert_eq!(next.wait_end(15_000), Some(0));
    assertions.iter().for_each(|assertion| assert_eq!(sign_in(&last, assertion), "assertion-replayed"));
}
