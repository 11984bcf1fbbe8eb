//! The real process behind TLS, to rustls's client and, where they are installed, to OpenSSL's and curl.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rcgen::CertificateParams;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use support::process::{Server, onecode, run_badly, run_well, serve};
use support::secured::{self, Authority, Pair, Secured, SecuredLine};
use support::{Client, Host, Line, Socket, get, post};

/// Certificates in a folder, and a configuration that names them.
struct Site {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Site {
    fn new() -> Site {
        let site = Site { folder: tempfile::tempdir().unwrap(), authority: Authority::new("the authority") };
        site.authority.sign("rsa", true, |_| {}).write(site.folder.path(), "rsa");
        site.authority.sign("ecdsa", false, |_| {}).write(site.folder.path(), "ecdsa");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// A configuration with both certificates and these keys besides.
    fn config(&self, more: &str) -> PathBuf {
        let files =
            |end: &str| format!("[{:?}, {:?}]", self.path(&format!("rsa.{end}")), self.path(&format!("ecdsa.{end}")));
        let text = format!("tls.certificates = {}\ntls.keys = {}\n{more}", files("pem"), files("key"));
        self.put("onecode.toml", &text)
    }

    fn start(&self, more: &str) -> Server {
        let config = self.config(more);
        Server::demo_with(|command| _ = command.arg("--config").arg(config))
    }

    fn client(&self, own: Option<&Pair>) -> Arc<ClientConfig> {
        Arc::new(secured::client(&self.authority.pem, &[&TLS13, &TLS12], own))
    }
}

fn connect(server: &Server, config: &Arc<ClientConfig>) -> SecuredLine<'static> {
    SecuredLine::over(Box::new(Socket::connect(server.public)), config)
}

fn client_over(line: SecuredLine<'static>) -> Client<'static> {
    Client::over(Box::new(line))
}

fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("left out: {program} is not installed");
    }
    found
}

/// What `openssl s_client` prints over one request, and whether it ended well.
fn openssl(server: &Server, site: &Site, arguments: &[&str]) -> String {
    let authority = site.put("authority.pem", &site.authority.pem);
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &server.public.to_string(), "-servername", "localhost", "-ign_eof"]);
    command.args(["-verify_return_error", "-CAfile"]).arg(authority).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have been refused already.
    let _ =
        child.stdin.take().unwrap().write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn openssl_gets_both_versions_and_both_kinds_of_key() {
    if !is_installed("openssl") {
        return;
    }
    let site = Site::new();
    let server = site.start("");
    for (arguments, says) in [
        (&["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"][..], "Peer signature type: RSA-PSS"),
        (&["-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256"], "Peer signature type: ECDSA"),
        (&["-tls1_3"], "Peer signature type: ECDSA"),
        (&["-tls1_3", "-groups", "X25519"], "Server Temp Key: X25519"),
        (&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "Cipher is ECDHE-RSA-AES128-GCM-SHA256"),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"),
        (&["-alpn", "h2,http/1.1"], "ALPN protocol: http/1.1"),
    ] {
        let text = openssl(&server, &site, arguments);
        assert!(
            text.contains(says) && text.contains("HTTP/1.1 200 OK") && text.contains("\nok\n"),
            "{arguments:?}: {text}"
        );
    }
    for (arguments, says) in [
        (&["-alpn", "h2"][..], "no application protocol"),
        (&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], "handshake failure"),
        (&["-tls1_2", "-cipher", "AES128-SHA"], "handshake failure"),
    ] {
        let text = openssl(&server, &site, arguments);
        assert!(text.contains(says) && !text.contains("HTTP/1.1"), "{arguments:?}: {text}");
    }
}

#[test]
fn the_demo_makes_its_own_certificate_and_says_how_to_trust_it() {
    let outer = tempfile::tempdir().unwrap();
    let start = || {
        Server::over(&outer.path().join("data"), |command| {
            command.args(["--demo", "--residents", "200", "--tls"]);
        })
    };
    let server = start();
    let pem = server.data().join("tls.pem");
    let said = server.stdout();
    assert!(said.contains(&format!("curl --cacert {}", pem.display())), "{said}");
    assert!(said.contains("page      https://127.0.0.1:") && said.contains("admin     http://127.0.0.1:"), "{said}");
    assert_eq!(fs::metadata(server.data().join("tls-key.pem")).unwrap().permissions().mode() & 0o777, 0o600);
    let config = Arc::new(secured::client(&fs::read_to_string(&pem).unwrap(), &[&TLS13], None));
    let host = Secured { host: &server, config };
    // Under TLS the cookie is one that no plain answer can set.
    let answer = host.client().ask(post("/person/app/session", r#"{"demo_resident":7}"#));
    let cookie = answer.field("Set-Cookie").unwrap();
    assert!(cookie.starts_with("__Host-oc=") && cookie.contains("; Secure"), "{cookie}");
    assert_eq!(host.client().ask(host.refresh(7)).status, 200);
    if is_installed("curl") {
        let line = said.lines().find(|line| line.contains("curl --cacert")).unwrap();
        let code = run_well(Command::new("sh").args(["-c", &format!("{} --silent --fail", line.trim())]));
        assert!(code.contains("\"code\""), "{code}");
    }
    // The next start over the same folder keeps it: who trusts it need not again.
    let before = fs::read(&pem).unwrap();
    assert_eq!(server.stop().0, Some(0));
    let again = start();
    assert_eq!(fs::read(again.data().join("tls.pem")).unwrap(), before);
}

#[test]
fn the_demo_on_all_addresses_has_a_certificate_for_that_towards_the_world() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let mut command = serve(&data, "0.0.0.0:0");
    command.args(["--demo", "--residents", "10", "--shards", "1", "--tls"]);
    let server = Server::start(command, &data, Some(outer));
    let pem = fs::read_to_string(server.data().join("tls.pem")).unwrap();
    let config = Arc::new(secured::client(&pem, &[&TLS13], None));
    // The address towards the world is in it as well; nothing is sent for that.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let world = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).map(|address| address.ip());
    for address in [Ok(IpAddr::from([127, 0, 0, 1])), world].into_iter().flatten() {
        let line = Box::new(Socket::connect((address, server.public.port()).into()));
        let mut client = client_over(SecuredLine::to(line, address.to_string().leak(), &config));
        assert_eq!(client.ask(get("/healthz", "")).status, 200, "{address}");
    }
}

#[test]
fn clients_come_back_with_their_ticket_to_any_shard() {
    let site = Site::new();
    let server = site.start("");
    for version in [&TLS13, &TLS12] {
        let config = Arc::new(secured::client(&site.authority.pem, &[version], None));
        let resumed = server.metric("onecode_tls_resumed_handshakes_total");
        let mut lines = Vec::new();
        for turn in 0..24 {
            let line = connect(&server, &config);
            let kind = line.connection.handshake_kind();
            assert_eq!(kind == Some(HandshakeKind::Resumed), turn > 0, "turn {turn}: {kind:?}");
            let mut client = client_over(line);
            assert_eq!(client.ask(get("/healthz", "")).status, 200);
            lines.push(client);
        }
        assert_eq!(server.metric("onecode_tls_resumed_handshakes_total") - resumed, 23.0);
        for shard in 0..2 {
            let open = server.metric(&format!("onecode_connections_open{{shard=\"{shard}\"}}"));
            assert!(open > 0.0, "of 24 connections none is on shard {shard}");
        }
    }
}

#[test]
fn sighup_takes_other_certificates_and_drops_nobody() {
    let site = Site::new();
    let server = site.start("");
    let old = site.client(None);
    let ends = server.metric("onecode_tls_certificate_expires_seconds");
    let other = Authority::new("another authority");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut client, mut asked) = (client_over(connect(&server, &old)), 0);
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(client.ask(server.refresh(asked % 200 + 1)).status, 200);
                        // Below the requests that one connection may have.
                        std::thread::sleep(Duration::from_millis(1));
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        let end =
            time::OffsetDateTime::from_unix_timestamp(i64::try_from(support::unix_s()).unwrap() + 864_000).unwrap();
        for (name, rsa) in [("rsa", true), ("ecdsa", false)] {
            other.sign(name, rsa, |params| params.not_after = end).write(site.folder.path(), name);
        }
        server.reload("certificates, keys and sign-in read again");
        // What is wrong changes nothing.
        fs::rename(site.path("ecdsa.key"), site.path("kept")).unwrap();
        server.reload("certificates, keys and sign-in stay as they were");
        fs::copy(site.path("rsa.key"), site.path("ecdsa.key")).unwrap();
        server.reload("certificates, keys and sign-in stay as they were");
        stop.store(true, Ordering::Relaxed);
        for load in loads {
            assert!(load.join().unwrap() > 10);
        }
    });
    let said = server.stderr();
    assert!(
        said.contains("ecdsa.key: cannot be read") && said.contains("ecdsa.key: is not the key of this certificate"),
        "{said}"
    );
    let new = Arc::new(secured::client(&other.pem, &[&TLS13], None));
    assert_eq!(client_over(connect(&server, &new)).ask(get("/healthz", "")).status, 200);
    let stranger = Arc::new(secured::client(&site.authority.pem, &[&TLS13], None));
    assert!(SecuredLine::attempt(Box::new(Socket::connect(server.public)), &stranger).is_err());
    assert!(said.contains("warning: a certificate of tls.certificates ends in "), "{said}");
    assert_eq!(server.metric("onecode_reloads_refused_total"), 2.0);
    let soon = server.metric("onecode_tls_certificate_expires_seconds");
    assert!(soon < ends && (soon - support::unix_s() as f64) < 864_001.0, "{soon}");
}

#[test]
fn no_sighup_makes_a_plain_listener_of_a_secured_one() {
    let (site, outer) = (Site::new(), tempfile::tempdir().unwrap());
    let config = site.config("");
    let server = Server::over(&outer.path().join("data"), |command| _ = command.arg("--config").arg(config));
    site.put("onecode.toml", "");
    server.reload("stay as they were: tls.certificates, admin.tls: TLS begins and ends with a restart");
    assert_eq!(client_over(connect(&server, &site.client(None))).ask(get("/healthz", "")).status, 200);
}

#[test]
fn a_stall_of_the_machine_ends_no_handshake() {
    let server = Server::demo_with(|command| _ = command.arg("--tls").env("ONECODE_ADMISSION_DEADLINE_MS", "2000"));
    let client = secured::client(&fs::read_to_string(server.data().join("tls.pem")).unwrap(), &[&TLS13], None);
    let client = Arc::new(client);
    let over = || client_over(SecuredLine::over(Box::new(Socket::connect(server.public)), &client));
    for _ in 0..3 {
        // A quarter of the deadline, at which hellos end where a queue stands.
        server.signal("STOP");
        std::thread::scope(|scope| {
            let stalled: Vec<_> = (0..8).map(|_| scope.spawn(|| over().ask(get("/healthz", "")).status)).collect();
            std::thread::sleep(Duration::from_millis(700));
            server.signal("CONT");
            assert!(stalled.into_iter().all(|status| status.join().unwrap() == 200));
        });
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(server.metric("onecode_shed_total{by=\"deadline\"}"), 0.0);
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of_at_start() {
    let site = Site::new();
    let end =
        time::OffsetDateTime::from_unix_timestamp(i64::try_from(support::unix_s()).unwrap() + 5 * 86_400 + 60).unwrap();
    site.authority.sign("rsa", true, |params| params.not_after = end).write(site.folder.path(), "rsa");
    let server = site.start("");
    support::wait_until("the warning", || {
        server.stderr().contains("warning: a certificate of tls.certificates ends in 5 days")
    });
}

#[test]
fn what_is_no_handshake_gets_an_alert_and_is_counted() {
    let site = Site::new();
    let server = site.start("");
    let ended = || server.metric("onecode_connections_ended_total{reason=\"handshake\"}");
    for (count, bytes) in [(1.0, get("/", "").into_bytes()), (2.0, vec![0x80; 2_000]), (3.0, b"SSH-2.0-x\r\n".to_vec())]
    {
        let mut stream = TcpStream::connect(server.public).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.len() == 7 && answer.starts_with(&[21, 3]) && answer[5] == 2, "a fatal alert: {answer:?}");
        drop(stream);
        support::wait_until("it is counted", || ended() == count);
    }
    // One that trusts nobody of ours is refused by itself.
    let config = Arc::new(secured::client(&Authority::new("x").pem, &[&TLS13], None));
    let mut attempt = SecuredLine::unfinished(Box::new(Socket::connect(server.public)), &config);
    assert!(attempt.go_on().is_err());
    drop(attempt);
    assert_eq!(client_over(connect(&server, &site.client(None))).ask(get("/healthz", "")).status, 200);
}

#[test]
fn half_a_handshake_ends_at_the_limit_of_a_head() {
    let site = Site::new();
    let server = site.start("");
    let config = site.client(None);
    let hello = secured::hello(&config);
    let started = Instant::now();
    let half = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(server.public).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    let mut silent = [half(&hello[..1]), half(&hello[..100]), half(&hello)];
    let mut slow = half(&hello[..50]);
    let mut ended_ms = None;
    for byte in &hello[50..90] {
        std::thread::sleep(Duration::from_millis(200));
        // Progress puts nothing back.
        if slow.write_all(&[*byte]).is_err() {
            ended_ms = Some(started.elapsed().as_millis());
            break;
        }
    }
    assert!((4_900..7_500).contains(&ended_ms.expect("it was closed")), "{ended_ms:?}");
    for stream in &mut silent {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    assert!(server.metric("onecode_connections_ended_total{reason=\"slow\"}") >= 4.0);
    assert_eq!(client_over(connect(&server, &config)).ask(get("/healthz", "")).status, 200);
}

#[test]
fn a_record_that_does_not_come_whole_is_a_slow_head() {
    let site = Site::new();
    let server = site.start("");
    let mut line = connect(&server, &site.client(None));
    let started = Instant::now();
    line.send_part(get("/healthz", "").as_bytes(), 10);
    let answer = client_over(line).answer();
    assert_eq!((answer.status, answer.problem().as_str()), (408, "request-timeout"));
    assert!((4_900..7_500).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

#[test]
fn a_scanner_is_named_by_its_certificate() {
    let site = Site::new();
    let doors = Authority::new("the doors");
    let authorities = site.put("doors.pem", &doors.pem);
    let server = site.start(&format!("tls.client_ca_file = {authorities:?}\n"));
    let door = doors.sign("door-7", false, |_| {});
    let body = r#"{"code":"nothing","place":"north gate"}"#;
    let verify = |config: &Arc<ClientConfig>| client_over(connect(&server, config)).ask(post("/scan/verify", body));
    let config = site.client(Some(&door));
    let answer = verify(&config);
    assert_eq!((answer.status, &answer.json()["recorded"]), (200, &serde_json::json!(true)), "{answer:?}");
    let answer = verify(&config);
    assert_eq!(answer.status, 200, "and so when it comes back with a ticket: {answer:?}");
    assert!(server.metric("onecode_tls_resumed_handshakes_total") >= 1.0);
    let answer = verify(&site.client(None));
    assert_eq!((answer.status, answer.problem().as_str()), (401, "token-missing"));
    for refused in
        [Authority::new("others").sign("door-7", false, |_| {}), site.authority.sign("door-7", false, |_| {})]
    {
        let config = Arc::new(secured::client(&site.authority.pem, &[&TLS12], Some(&refused)));
        assert!(SecuredLine::attempt(Box::new(Socket::connect(server.public)), &config).is_err());
    }
    let export = run_well(onecode().args(["journal", "export", "--data"]).arg(server.data()));
    assert_eq!(export.matches("cert:door-7").count(), 2, "{export}");
}

#[test]
fn the_admin_listener_asks_for_a_certificate_where_it_is_told_to() {
    let site = Site::new();
    let operators = Authority::new("the operators");
    let authorities = site.put("operators.pem", &operators.pem);
    let more = format!("admin.tls = \"on\"\nadmin.client_ca_file = {authorities:?}\n");
    let config = site.config(&more);
    let outer = tempfile::tempdir().unwrap();
    let server = Server::over(&outer.path().join("data"), |command| {
        command.args(["--demo", "--residents", "200", "--shards", "2", "--config"]).arg(config);
    });
    let ask = |config: &Arc<ClientConfig>| -> Result<u16, rustls::Error> {
        let mut line = SecuredLine::unfinished(Box::new(Socket::connect(server.admin)), config);
        line.go_on()?;
        line.send(get("/metrics", "").replace("Host: test", "Host: localhost").as_bytes());
        // In TLS 1.3 the client hears of it after its own last message.
        line.try_receive()?;
        Ok(client_over(line).answer().status)
    };
    for version in [&TLS13, &TLS12] {
        let own = operators.sign("operator", false, |_| {});
        assert_eq!(ask(&Arc::new(secured::client(&site.authority.pem, &[version], Some(&own)))), Ok(200));
        let bare = Arc::new(secured::client(&site.authority.pem, &[version], None));
        assert!(ask(&bare).is_err());
        // A ticket of the public listener is no way around it.
        assert_eq!(client_over(connect(&server, &bare)).ask(get("/healthz", "")).status, 200);
        assert!(ask(&bare).is_err());
        let other = site.authority.sign("operator", false, |_| {});
        assert!(ask(&Arc::new(secured::client(&site.authority.pem, &[version], Some(&other)))).is_err());
    }
    // Where there are no tokens, a certificate says who it was.
    let own = operators.sign("operator", false, |_| {});
    let config = Arc::new(secured::client(&site.authority.pem, &[&TLS13], Some(&own)));
    let mut client = client_over(SecuredLine::over(Box::new(Socket::connect(server.admin)), &config));
    let lookup = post("/admin/residents/lookup", "{\"id_number\":\"11010119900307803X\"}");
    client.ask(lookup.replace("Host: test", "Host: localhost"));
    let audit = client.ask(get("/admin/audit", "").replace("Host: test", "Host: localhost"));
    assert!(String::from_utf8_lossy(&audit.body).contains("\"author\":\"cert:operator\""), "{audit:?}");
}

#[test]
fn the_plain_listener_leads_to_tls_and_nowhere_else() {
    let site = Site::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = site.start(&format!("listen.redirect_address = \"{free}\"\ntls.redirect_port = 443\n"));
    let ask = |request: &str| {
        let mut client = Client::to(free);
        let answer = client.ask(request);
        client.assert_ended(5_000);
        assert!(answer.closes());
        answer
    };
    for (target, host, location) in [
        ("/", "localhost", "https://localhost/"),
        ("/a/b?c=d&e", "LocalHost:80", "https://LocalHost/a/b?c=d&e"),
        ("/x", "127.0.0.1:8080", "https://127.0.0.1/x"),
        ("http://localhost/y", "evil.example", "https://localhost/y"),
    ] {
        let answer = ask(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!((answer.status, answer.field("Location")), (308, Some(location)));
        assert!(answer.field("Strict-Transport-Security").is_none(), "not over a plain connection");
    }
    let sent = ask("POST /person/app/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n");
    assert_eq!((sent.status, sent.field("Location")), (308, Some("https://localhost/person/app/session")));
    for host in ["evil.example", "localhost.evil.example", "127.0.0.2", "[::1]:80", "localhost@evil.example"] {
        let answer = Client::to(free).ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert!(matches!(answer.status, 400 | 421) && answer.field("Location").is_none(), "{host}: {answer:?}");
    }
    assert_eq!(ask("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 404);
    assert_eq!(Client::to(free).ask("nonsense\r\n\r\n").status, 400);
    // Pages over TLS tell a browser to stay there.
    let config = site.client(None);
    let page = client_over(connect(&server, &config)).ask(get("/", "").replace("Host: test", "Host: localhost"));
    assert_eq!((page.status, page.field("Strict-Transport-Security")), (200, Some("max-age=15552000")));
    let answer = client_over(connect(&server, &config)).ask(server.refresh(1));
    assert!(answer.status == 200 && answer.field("Strict-Transport-Security").is_none());
    // An absolute target must name the scheme of its connection (RFC 9110 §7.4).
    let asked = |scheme: &str| {
        let request = format!("GET {scheme}://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client_over(connect(&server, &config)).ask(request).status
    };
    assert_eq!((asked("https"), asked("http")), (200, 421));
    let (status, said) = server.stop();
    assert_eq!(status, Some(0), "{said}");
}

#[test]
fn what_cannot_serve_is_named_before_anything_is_made() {
    let site = Site::new();
    let data = site.path("data");
    let refuse = |more: &str, says: &[&str]| {
        let config = site.config(more);
        for command in [&["check-config"][..], &["serve", "--demo", "--data", data.to_str().unwrap()]] {
            let (status, line) = run_badly(onecode().args(command).arg("--config").arg(&config));
            assert!(status == 78 && says.iter().all(|says| line.contains(says)), "{command:?}: {status}: {line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
        assert!(!data.exists());
    };
    let ecdsa = || site.authority.sign("ecdsa", false, |_| {});
    let write = |pair: &Pair| drop(pair.write(site.folder.path(), "ecdsa"));
    let now = i64::try_from(support::unix_s()).unwrap();
    let ended = time::OffsetDateTime::from_unix_timestamp(now - 60).unwrap();
    write(&site.authority.sign("ecdsa", false, |params| params.not_after = ended));
    refuse("", &["onecode.toml:1: tls.certificates: ", "ecdsa.pem: expired on "]);
    write(&Pair { chain: ecdsa().chain, ..ecdsa() });
    refuse("", &["onecode.toml:2: tls.keys: ", "ecdsa.key: is not the key of this certificate"]);
    let encrypted = Command::new("openssl")
        .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes-256-cbc", "-pass", "pass:x"])
        .output();
    if let Ok(key) = encrypted {
        write(&Pair { key: String::from_utf8(key.stdout).unwrap(), ..ecdsa() });
        refuse("", &["tls.keys: ", "ecdsa.key: the key is encrypted"]);
    }
    write(&Pair { chain: "nonsense".to_owned(), ..ecdsa() });
    refuse("", &["tls.certificates: ", "ecdsa.pem: holds no certificate"]);
    write(&ecdsa());
    fs::set_permissions(site.path("ecdsa.key"), fs::Permissions::from_mode(0o644)).unwrap();
    refuse("", &["tls.keys: ", "ecdsa.key: everyone on this host may read the private key"]);
    fs::remove_file(site.path("ecdsa.key")).unwrap();
    refuse("", &["tls.keys: ", "ecdsa.key: cannot be read"]);
    run_well(Command::new("mkfifo").arg(site.path("ecdsa.key")));
    refuse("", &["tls.keys: ", "ecdsa.key: cannot be read: is not a regular file"]);
    fs::remove_file(site.path("ecdsa.key")).unwrap();
    write(&ecdsa());
    let nonsense = site.put("nonsense.pem", "nonsense");
    refuse(
        &format!("tls.client_ca_file = {nonsense:?}\n"),
        &["tls.client_ca_file: ", "nonsense.pem: holds no certificate"],
    );
    refuse(
        &format!("admin.client_ca_file = {nonsense:?}\n"),
        &["onecode.toml:3: admin.client_ca_file", "admin.tls is off"],
    );
    refuse("admin.tls = \"yes\"\n", &["admin.tls: \"yes\" is not one of off, on"]);
    let ended = Authority::with("ended", |params| params.not_after = ended);
    let ended = site.put("ended.pem", &(site.authority.pem.clone() + &ended.pem));
    refuse(&format!("tls.client_ca_file = {ended:?}\n"), &["tls.client_ca_file: ", "ended.pem: expired on "]);
    for key in ["listen.address", "admin.address"] {
        let same = format!("{key} = \"127.0.7.7:8743\"\nlisten.redirect_address = \"127.0.7.7:8743\"\n");
        refuse(&same, &["onecode.toml:4: listen.redirect_address: is that of another listener"]);
    }
    // Keys that rustls takes no more.
    let short = ["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=short", "-days", "2", "-keyout"];
    if is_installed("openssl") {
        let mut make = Command::new("openssl");
        run_well(make.args(short).arg(site.path("ecdsa.key")).arg("-out").arg(site.path("ecdsa.pem")));
        refuse("", &["tls.keys: ", "ecdsa.key: not a key that can be used, as is RSA from 2048 bits on"]);
        write(&ecdsa());
    }
    refuse_alone(&site);
    run_well(onecode().args(["check-config", "--config"]).arg(site.config("")));
    together(&site);
}

/// Of two certificates of one kind each client gets the one for the host that it names.
#[test]
fn two_names_may_have_two_certificates() {
    let site = Site::new();
    let of_b = |params: &mut CertificateParams| {
        params.subject_alt_names = CertificateParams::new(["b.example".to_owned()]).unwrap().subject_alt_names;
    };
    site.authority.sign("b.example", false, of_b).write(site.folder.path(), "rsa");
    let server = site.start("");
    let config = site.client(None);
    for name in ["localhost", "b.example"] {
        let line = Box::new(Socket::connect(server.public));
        let mut client = client_over(SecuredLine::to(line, name, &config));
        assert_eq!(client.ask(get("/healthz", "")).status, 200, "{name}");
    }
}

/// A cookie that a plain connection could have planted is nobody's session here.
#[test]
fn the_plain_cookie_counts_for_nothing_over_tls() {
    let site = Site::new();
    let server = site.start("");
    let config = site.client(None);
    let session = server.session(1);
    let ask = |name: &str| {
        let request = get(support::REFRESH, &format!("Cookie: {name}={session}\r\n"));
        client_over(connect(&server, &config)).ask(request).status
    };
    assert_eq!((ask("__Host-oc"), ask("oc")), (200, 401));
}

/// Keys of a file that go with others.
fn refuse_alone(site: &Site) {
    let alone = site.put("alone.toml", "[tls]\nredirect_port = 443\n");
    let (status, line) = run_badly(onecode().args(["check-config", "--config"]).arg(alone));
    assert!(status == 78 && line.contains("alone.toml:2: tls.redirect_port: is set, but tls.certificates"), "{line}");
    let fewer = site.put("fewer.toml", &format!("tls.certificates = [{:?}]\ntls.keys = []\n", site.path("rsa.pem")));
    let (status, line) = run_badly(onecode().args(["check-config", "--config"]).arg(fewer));
    assert!(status == 78 && line.contains("rsa.pem: holds no private key"), "{line}");
}

/// Chain and key in one file.
fn together(site: &Site) {
    let pair = site.authority.sign("one", false, |_| {});
    let path = site.put("one.pem", &(pair.key + &pair.chain));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let config = site.put("one.toml", &format!("tls.certificates = [{path:?}]\n"));
    let printed = run_well(onecode().args(["check-config", "--config"]).arg(&config));
    assert!(printed.contains(&format!("tls.certificates = [{:?}]  # ", Path::new(&path))), "{printed}");
}
