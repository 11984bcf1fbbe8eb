//! What connections may have, and whose they are: shares of addresses, balancers that are trusted, pages of other origins.

mod support;

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use support::process::Server;
use support::simulated::Simulated;
use support::{Client, Host, REFRESH, SESSION, Socket, bearer, get, post, wait_until};

/// A header of the PROXY protocol, version 2, for a client over IPv4.
fn header(client: [u8; 4]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &client[..], &[127, 0, 0, 1, 0x30, 0x39, 0x1f, 0x90]].concat()
}

fn demo(settings: &[(&str, &str)]) -> Server {
    Server::demo_with(|command| {
        command.envs(settings.iter().map(|(key, value)| (format!("ONECODE_{key}"), value)));
    })
}

const BALANCED: [(&str, &str); 2] = [("LISTEN_TRUSTED_PROXIES", "127.0.0.2"), ("LISTEN_PROXY_PROTOCOL", "v2")];

fn client_from(from: [u8; 4], server: &Server) -> Client<'static> {
    Client::over(Box::new(Socket::connect_from(from, server.public)))
}

fn ended(server: &Server, reason: &str) -> f64 {
    server.metric(&format!("onecode_connections_ended_total{{reason=\"{reason}\"}}"))
}

#[test]
fn no_address_has_more_than_half_and_all_there_is_has_an_end() {
    let outer = tempfile::tempdir().unwrap();
    let mut command = Command::new("prlimit");
    let data = outer.path().join("data");
    command.args(["--nofile=420:420", env!("CARGO_BIN_EXE_onecode"), "serve", "--listen", "127.0.0.1:0"]);
    command.args(["--admin", "127.0.0.1:0", "--demo", "--residents", "10", "--shards", "1", "--data"]).arg(&data);
    let server = Server::start(command, &data, Some(outer));
    let healthy = get("/healthz", "");
    // They are accepted with their first bytes.
    let open = |from: [u8; 4]| {
        let mut client = client_from(from, &server);
        let answer = client.ask(&healthy);
        (client, answer)
    };
    let (mut held, mut refused) = (Vec::new(), None);
    while refused.is_none() {
        let (client, answer) = open([127, 0, 0, 2]);
        assert!(held.len() < 420);
        match answer.status {
            200 => held.push(client),
            _ => refused = Some((client, answer)),
        }
    }
    let (mut client, answer) = refused.unwrap();
    assert_eq!((answer.status, answer.problem().as_str()), (503, "address-connections-full"));
    assert!(answer.field("Retry-After").is_some() && answer.closes());
    client.assert_ended(2_000);
    let half = held.len();
    while let (client, 200) = Some(open([127, 0, 0, 3])).map(|(client, answer)| (client, answer.status)).unwrap() {
        held.push(client);
        assert!(held.len() < 420);
    }
    assert!((2 * half..=2 * half + 1).contains(&held.len()), "the other half is another's: {half} {}", held.len());
    // Of an odd number of places one is left.
    let (_odd, mut answer) = open([127, 0, 0, 4]);
    if answer.status == 200 {
        answer = open([127, 0, 0, 5]).1;
    }
    assert_eq!((answer.status, answer.problem().as_str()), (503, "connections-full"));
    assert_eq!(server.ask_admin("/healthz").status, 200);
    wait_until("the refused are counted", || ended(&server, "refused") >= 2.0);
    held.drain(..half);
    wait_until("closed connections are given back", || open([127, 0, 0, 2]).1.status == 200);
}

#[test]
fn a_trusted_balancer_says_whose_a_connection_is_and_nobody_else_does() {
    let server = demo(&BALANCED);
    let healthy = get("/healthz", "");
    // Whole, and byte by byte; then TLS or HTTP begins.
    let mut client = client_from([127, 0, 0, 2], &server);
    client.send([header([192, 0, 2, 7]), healthy.clone().into_bytes()].concat());
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.ask(&healthy).status, 200);
    let mut client = client_from([127, 0, 0, 2], &server);
    for byte in header([192, 0, 2, 7]) {
        client.send([byte]);
    }
    assert_eq!(client.ask(&healthy).status, 200);
    // Its own checks.
    let mut client = client_from([127, 0, 0, 2], &server);
    client.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    assert_eq!(client.ask(&healthy).status, 200);
    // What is no header ends without a word, and one from who is not trusted is no HTTP.
    let before = ended(&server, "proxy");
    let mut client = client_from([127, 0, 0, 2], &server);
    client.send(&healthy);
    client.assert_ended(2_000);
    let mut client = client_from([127, 0, 0, 3], &server);
    client.send([header([192, 0, 2, 7]), healthy.clone().into_bytes()].concat());
    assert_eq!(client.answer().status, 400);
    client.assert_ended(2_000);
    drop(client);
    wait_until("both are counted", || ended(&server, "proxy") == before + 2.0);
    // Nor is it where it comes in pieces, wherever it is cut.
    for cut in [1, 2, 5, 9, 12, 20] {
        let before = ended(&server, "proxy");
        let mut client = client_from([127, 0, 0, 3], &server);
        let header = header([192, 0, 2, 7]);
        client.send(&header[..cut]);
        // Else the kernel puts the pieces together, and may refuse the second one.
        std::thread::sleep(Duration::from_millis(50));
        client.send(&header[cut..]);
        assert_eq!(client.answer().status, 400, "{cut}");
        drop(client);
        wait_until("it is counted", || ended(&server, "proxy") == before + 1.0);
    }
    // Two empty lines are what they were.
    let before = ended(&server, "malformed");
    let mut client = client_from([127, 0, 0, 3], &server);
    client.send("\r\n\r\n");
    client.send(&healthy);
    assert_eq!(client.answer().status, 400);
    wait_until("it is counted", || ended(&server, "malformed") == before + 1.0);
    // Who comes directly is served as ever.
    assert_eq!(client_from([127, 0, 0, 3], &server).ask(&healthy).status, 200);
    // A header that does not come whole has the time of a head.
    let mut client = client_from([127, 0, 0, 2], &server);
    client.send(&header([192, 0, 2, 7])[..20]);
    client.assert_ended(7_000);
}

#[test]
fn a_balancer_may_hold_all_connections_but_none_of_its_clients_more_than_half() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let mut command = Command::new("prlimit");
    command.args(["--nofile=420:420", env!("CARGO_BIN_EXE_onecode"), "serve", "--listen", "127.0.0.1:0"]);
    command.args(["--admin", "127.0.0.1:0", "--demo", "--residents", "10", "--shards", "1", "--data"]).arg(&data);
    command.envs(BALANCED.map(|(key, value)| (format!("ONECODE_{key}"), value)));
    let server = Server::start(command, &data, Some(outer));
    let open = |client_address: [u8; 4]| {
        let mut client = client_from([127, 0, 0, 2], &server);
        client.send([header(client_address), get("/healthz", "").into_bytes()].concat());
        let answer = client.answer();
        (client, answer)
    };
    let mut held = Vec::new();
    let problem = loop {
        assert!(held.len() < 420);
        match open([192, 0, 2, 7]) {
            (client, answer) if answer.status == 200 => held.push(client),
            (_, answer) => break answer.problem(),
        }
    };
    assert_eq!(problem, "address-connections-full");
    assert_eq!(open([192, 0, 2, 8]).1.status, 200, "others come by the same balancer");
}

#[test]
fn the_scheme_that_a_balancer_forwards_is_believed_of_a_trusted_one_only() {
    let server = demo(&[("LISTEN_TRUSTED_PROXIES", "127.0.0.2, 10.0.0.0/8")]);
    let sign_in = post(SESSION, r#"{"demo_resident":1}"#).replacen("\r\n", "\r\nX-Forwarded-Proto: https\r\n", 1);
    let cookie = |from| client_from(from, &server).ask(&sign_in).field("Set-Cookie").unwrap().to_owned();
    let (trusted, stranger) = (cookie([127, 0, 0, 2]), cookie([127, 0, 0, 3]));
    assert!(trusted.starts_with("__Host-oc=") && trusted.ends_with("; Secure"), "{trusted}");
    assert!(stranger.starts_with("oc=") && !stranger.contains("Secure"), "{stranger}");
    let absolute = |fields: &str| format!("GET https://test/healthz HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
    let status = |from, fields: &str| client_from(from, &server).ask(absolute(fields)).status;
    assert_eq!(status([127, 0, 0, 2], "X-Forwarded-Proto: https\r\n"), 200);
    assert_eq!(status([127, 0, 0, 3], "X-Forwarded-Proto: https\r\n"), 421);
    assert_eq!(status([127, 0, 0, 2], "X-Forwarded-Proto: http\r\n"), 421);
    // What stands before the balancer's own word, its client has sent.
    for (client, balancer, expected) in [("https", "http", 421), ("http", "https", 200)] {
        let lines = format!("X-Forwarded-Proto: {client}\r\nX-Forwarded-Proto: {balancer}\r\n");
        assert_eq!(status([127, 0, 0, 2], &lines), expected);
        assert_eq!(status([127, 0, 0, 2], &format!("X-Forwarded-Proto: {client}, {balancer}\r\n")), expected);
    }
}

#[test]
fn who_takes_nothing_of_his_answers_is_ended_with_all_that_waits_for_him() {
    let server = demo(&[]);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&server.public.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let mut sent = 0;
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    while sent < 20_000 && stream.write_all(get("/.well-known/jwks.json", "").as_bytes()).is_ok() {
        sent += 1;
    }
    let of = |shard| server.metric(&format!("onecode_connections_open{{shard=\"{shard}\"}}"));
    let (start, open) = (Instant::now(), || of(0) + of(1));
    assert!(open() >= 1.0);
    wait_until("it is ended", || open() == 0.0);
    assert!(start.elapsed() < Duration::from_secs(14), "{:?}", start.elapsed());
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let ended = std::io::copy(&mut stream, &mut std::io::sink());
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "nothing of it is left in the kernel");
}

#[test]
fn pages_of_allowed_origins_call_by_authorization_only() {
    let server = demo(&[("HTTP_ALLOWED_ORIGINS", "https://app.example,https://other.example:8443")]);
    let mut client = server.client();
    let page = "Origin: https://app.example\r\nSec-Fetch-Site: cross-site\r\n";
    let preflight = |path: &str, page: &str| {
        format!("OPTIONS {path} HTTP/1.1\r\nHost: h\r\n{page}Access-Control-Request-Method: POST\r\n\r\n")
    };
    for path in [SESSION, REFRESH, "/scan/verify", "/scan/records"] {
        let answer = client.ask(preflight(path, page));
        assert_eq!((answer.status, answer.field("Access-Control-Allow-Origin")), (204, Some("https://app.example")));
        assert!(answer.field("Access-Control-Allow-Methods").unwrap().contains("POST"), "{path}");
        assert_eq!(answer.field("Access-Control-Allow-Headers"), Some("Authorization, Content-Type"));
        assert_eq!((answer.field("Vary"), answer.field("Access-Control-Allow-Credentials")), (Some("Origin"), None));
    }
    // The key set is for everybody's pages, which may ask whether it has changed.
    for origin in [page, "Origin: https://anybody.example\r\n"] {
        let answer = client.ask(preflight("/.well-known/jwks.json", origin));
        assert_eq!((answer.status, answer.field("Access-Control-Allow-Origin")), (204, Some("*")));
        assert_eq!(answer.field("Access-Control-Allow-Headers"), Some("If-None-Match"));
        let answer = client.ask(get("/.well-known/jwks.json", origin));
        assert_eq!(answer.field("Access-Control-Expose-Headers"), Some("ETag"));
    }
    let sign_in = post(SESSION, r#"{"demo_resident":1}"#);
    let answer = client.ask(sign_in.replacen("\r\n", &format!("\r\n{page}"), 1));
    assert_eq!((answer.status, answer.field("Set-Cookie")), (200, None));
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("https://app.example"));
    let session = answer.json()["session"].as_str().unwrap().to_owned();
    let answer = client.ask(get(REFRESH, &format!("{page}{}", bearer(&session))));
    assert_eq!((answer.status, answer.field("Access-Control-Allow-Origin")), (200, Some("https://app.example")));
    assert_eq!(answer.field("Access-Control-Expose-Headers"), Some("Date, Retry-After"));
    // Its cookie counts for nothing, and it can read that it does not.
    let answer = client.ask(get(REFRESH, &format!("{page}Cookie: oc={session}\r\n")));
    assert_eq!((answer.status, answer.problem().as_str()), (401, "session-missing"));
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("https://app.example"));
    // A refusal of a body, too.
    let large = format!("POST {SESSION} HTTP/1.1\r\nHost: h\r\n{page}Content-Length: 9000\r\n\r\n");
    let answer = server.client().ask(large);
    assert_eq!((answer.status, answer.field("Access-Control-Allow-Origin")), (413, Some("https://app.example")));
    // Nobody else, and nothing else.
    for stranger in ["https://app.example.evil", "http://app.example", "https://APP.example", "null"] {
        let page = format!("Origin: {stranger}\r\nSec-Fetch-Site: cross-site\r\n");
        assert_eq!(client.ask(preflight(REFRESH, &page)).field("Access-Control-Allow-Origin"), None, "{stranger}");
        let answer = client.ask(sign_in.replacen("\r\n", &format!("\r\n{page}"), 1));
        assert_eq!((answer.status, answer.problem().as_str()), (403, "origin-refused"), "{stranger}");
    }
    assert_eq!(client.ask(get("/healthz", page)).field("Access-Control-Allow-Origin"), None);
    // The key set is everybody's.
    let answer = client.ask(get("/.well-known/jwks.json", page));
    assert_eq!((answer.status, answer.field("Access-Control-Allow-Origin")), (200, Some("*")));
    let etag = answer.field("ETag").unwrap().to_owned();
    let answer = client.ask(get("/.well-known/jwks.json", &format!("{page}If-None-Match: {etag}\r\n")));
    assert_eq!((answer.status, answer.field("Access-Control-Allow-Origin")), (304, Some("*")));
}

#[test]
fn every_limit_has_its_status_and_is_counted() {
    let server = demo(&[]);
    let long = "x".repeat(9_000);
    let cases = [
        (format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", &long[..2_100]), 414, "large"),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nA: {long}\r\n\r\n"), 431, "large"),
        (get("/", &"A: b\r\n".repeat(64)), 431, "large"),
        (post(SESSION, &json!({ "assertion": long }).to_string()), 413, "large"),
        ("GET / HTTP/1.1\r\n".to_owned(), 408, "slow"),
        ("POST /scan/verify HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{".to_owned(), 408, "slow"),
        ("GET / HTTP/1.1\r\nHost : h\r\n\r\n".to_owned(), 400, "malformed"),
    ];
    for (request, status, reason) in cases {
        let before = ended(&server, reason);
        let mut client = server.client();
        client.send(&request);
        let answer = client.answer();
        assert_eq!((answer.status, answer.closes()), (status, true), "{request:.60}");
        client.assert_ended(2_000);
        drop(client);
        wait_until("it is counted", || ended(&server, reason) == before + 1.0);
    }
}

/// RFC 9112 §2.2: what an old client adds to a request's body is no beginning of the next one.
#[test]
fn an_empty_line_after_an_answer_leaves_a_connection_idle() {
    let process = Simulated::new(8);
    let mut sim = process.sim.borrow_mut();
    let (request, line) = (get("/healthz", ""), b"\r\n");
    let [kept, split, slow, left, new] = [0; 5].map(|_| sim.connect(0).expect("there is room"));
    for client in [kept, split, slow, left] {
        sim.send(client, request.as_bytes());
        sim.settle();
        assert!(sim.take_received(client).starts_with(b"HTTP/1.1 200 "));
    }
    for client in [kept, slow, left, new] {
        sim.send(client, line);
    }
    for byte in line {
        sim.send(split, &[*byte]);
        sim.settle();
        sim.advance(10);
    }
    sim.advance(5_100);
    assert!(sim.take_received(new).starts_with(b"HTTP/1.1 408 "), "where there was no answer it is a head's beginning");
    for client in [kept, split] {
        sim.send(client, request.as_bytes());
        sim.settle();
        assert!(sim.take_received(client).starts_with(b"HTTP/1.1 200 "));
    }
    // The next head has its own time, and an idle connection its own.
    sim.send(slow, b"G");
    sim.settle();
    sim.advance(4_900);
    assert!(sim.take_received(slow).is_empty());
    sim.advance(200);
    assert!(sim.take_received(slow).starts_with(b"HTTP/1.1 408 "));
    sim.advance(5_000);
    assert!(sim.take_received(left).is_empty() && sim.is_closed(left));
}

/// Thousands of deadlines at once are looked at turn by turn, and all of them in their time.
#[test]
fn a_crowd_that_stalls_together_is_told_so_together() {
    let process = Simulated::new(7);
    let mut sim = process.sim.borrow_mut();
    let clients: Vec<_> = (0..1_000).map(|_| sim.connect(0).expect("there is room")).collect();
    for client in &clients {
        sim.send(*client, b"G");
    }
    sim.settle();
    sim.advance(4_900);
    assert!(clients.iter().all(|client| sim.take_received(*client).is_empty()));
    sim.advance(300);
    for client in &clients {
        assert!(sim.take_received(*client).starts_with(b"HTTP/1.1 408 "));
    }
}

#[test]
fn the_configuration_is_read_again_on_sighup_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("onecode.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("");
    let server = Server::over(&folder.path().join("data"), |command| {
        command.arg("--config").arg(&file);
    });
    let is_allowed = || {
        let answer = Client::to(server.public).ask(get(REFRESH, "Origin: https://app.example\r\n"));
        answer.field("Access-Control-Allow-Origin").is_some()
    };
    assert!(!is_allowed());
    write("http.allowed_origins = [\"https://app.example\"]\nhttp.nothing = 1\n");
    server.reload("configuration, certificates, keys and sign-in stay as they were");
    assert!(!is_allowed() && server.stderr().contains("onecode.toml:2: unknown key http.nothing"));
    write("http.allowed_origins = [\"https://app.example\"]\nissuer = \"CN-1\"\n");
    server.reload("configuration, certificates, keys and sign-in read again");
    wait_until("pages of the origin may call", is_allowed);
    wait_until("what waits is named", || server.stderr().contains("this changes with a restart: issuer\n"));
}
