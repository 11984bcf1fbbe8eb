//! One suite over four drivers: uring, monoio on io_uring, monoio on epoll, and the simulator where virtual sockets can
//! tell anything. Whatever moves the bytes, a client sees the same server.
//!
//! Each case starts a process of its own, so that counters and connections are the case's alone. A driver that the host
//! does not have is left out with its reason.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::ops::Range;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use support::process::{Server, Under};
use support::secured::{self, Secured, SecuredLine};
use support::simulated::{Simulated, settings_with_tls};
use support::{Answer, Client, Host, Line, REFRESH, SESSION, Socket, bearer, get, post};

/// The cases below, once for each driver that can run them.
macro_rules! suite {
    (everywhere: $($case:ident),+; sockets: $($socket_case:ident),+ $(;)?) => {
        mod uring {
            $(#[test] fn $case() { super::under(super::Under::Uring, |server| super::$case(server)); })+
            $(#[test] fn $socket_case() { super::under(super::Under::Uring, |server| super::$socket_case(server)); })+
        }
        mod monoio_uring {
            $(#[test] fn $case() { super::under(super::Under::MonoioUring, |server| super::$case(server)); })+
            $(#[test] fn $socket_case() { super::under(super::Under::MonoioUring, |server| super::$socket_case(server)); })+
        }
        mod monoio_epoll {
            $(#[test] fn $case() { super::under(super::Under::MonoioEpoll, |server| super::$case(server)); })+
            $(#[test] fn $socket_case() { super::under(super::Under::MonoioEpoll, |server| super::$socket_case(server)); })+
        }
        mod tls {
            $(#[test] fn $case() {
                for driver in super::Under::ALL { super::under_tls(driver, |host| super::$case(host)); }
            })+
        }
        mod tls_sim {
            $(#[test] fn $case() { super::under_tls_sim(|host| super::$case(host)); })+
            #[test] fn slow_requests_and_idle_connections_end_in_their_time() {
                for case in super::SLOW_CASES { super::under_tls_sim(|host| case(host)); }
            }
            #[test] fn records_without_a_request_keep_no_connection() { super::records_keep_no_connection(); }
        }
        mod sim {
            $(#[test] fn $case() { super::$case(&super::Simulated::new(1)); })+
            #[test] fn slow_requests_and_idle_connections_end_in_their_time() {
                for case in super::SLOW_CASES { case(&super::Simulated::new(1)); }
            }
        }
    };
}

suite! {
    everywhere:
        a_connection_is_kept_for_many_requests,
        pipelined_requests_are_answered_in_order_as_if_asked_one_by_one,
        a_request_may_come_byte_by_byte,
        head_is_get_without_the_body,
        other_methods_get_405_and_options_tells_which_there_are,
        unknown_paths_get_404_and_the_connection_lives,
        what_is_too_large_is_refused_by_name,
        chunked_bodies_are_read_however_they_are_cut,
        expect_100_continue_is_answered_before_the_body,
        a_client_that_has_finished_sending_is_still_answered,
        the_connection_closes_when_either_side_says_so,
        what_is_not_http_gets_400_and_the_end;
    sockets:
        the_driver_that_was_asked_for_runs,
        lines_are_answered_while_they_still_come,
        a_slow_reader_gets_every_byte,
        a_refusal_is_not_eaten_by_a_reset,
        two_thousand_connections_at_once_are_all_served,
        connections_that_vanish_leave_nothing_behind,
        under_load_every_session_gets_its_own_code,
        sigterm_answers_what_is_in_flight_and_ends_with_0,
        a_second_process_on_the_port_is_told_who_holds_it,
        sighup_keeps_connections;
}

fn under(driver: Under, case: impl FnOnce(&mut Server)) {
    if let Some(mut server) = Server::under(driver) {
        case(&mut server);
    }
}

/// The same with TLS in between, which changes nothing but who can read it.
fn under_tls(driver: Under, case: impl FnOnce(&dyn Host)) {
    if driver.is_here() {
        let server = Server::demo_with(|command| driver.apply(command.arg("--tls")));
        let pem = std::fs::read_to_string(server.data().join("tls.pem")).unwrap();
        let config = Arc::new(secured::client(&pem, &[&TLS13, &TLS12], None));
        case(&Secured { host: &server, config });
    }
}

fn under_tls_sim(case: impl Fn(&dyn Host)) {
    for version in [&TLS13, &TLS12] {
        let (settings, pem) = settings_with_tls();
        let config = Arc::new(secured::client(&pem, &[version], None));
        case(&Secured { host: &Simulated::with(1, settings, 2, 4_096), config });
    }
}

/// Within one window a resident's answers are the same bytes; should the next one begin meanwhile, once more.
fn within_a_window<T>(act: impl Fn() -> T) -> T {
    loop {
        let window = support::unix_s() / 45;
        let result = act();
        if support::unix_s() / 45 == window {
            return result;
        }
    }
}

fn a_connection_is_kept_for_many_requests(host: &dyn Host) {
    let request = host.refresh(1);
    let mut client = host.client();
    for _ in 0..100 {
        let answer = client.ask(&request);
        assert_eq!((answer.status, answer.closes()), (200, false));
        assert!(answer.json()["code"].as_str().unwrap().starts_with("OC1:"));
    }
}

fn pipelined_requests_are_answered_in_order_as_if_asked_one_by_one(host: &dyn Host) {
    let kinds = |at: u32| match at % 8 {
        6 => get("/nothing/here", "").into_bytes(),
        7 => get("/.well-known/jwks.json", "").into_bytes(),
        5 => post(SESSION, "{}").into_bytes(),
        resident => host.refresh(resident + 1),
    };
    let requests: Vec<Vec<u8>> = (0..64).map(kinds).collect();
    let (one_by_one, pipelined) = within_a_window(|| {
        let mut client = host.client();
        let one_by_one: Vec<Answer> = requests.iter().map(|request| client.ask(request)).collect();
        let mut client = host.client();
        client.send(requests.concat());
        let pipelined: Vec<Answer> = requests.iter().map(|_| client.answer()).collect();
        assert!(client.is_silent(20), "more answers than requests");
        (one_by_one, pipelined)
    });
    for (one, other) in one_by_one.iter().zip(&pipelined) {
        assert_eq!(one.without_date(), other.without_date());
    }
    let codes: std::collections::BTreeSet<_> =
        pipelined.iter().filter(|answer| answer.status == 200).map(|answer| &answer.body).collect();
    assert_eq!(codes.len(), 6, "five residents and the key set");
}

fn a_request_may_come_byte_by_byte(host: &dyn Host) {
    let mut client = host.client();
    for request in [host.refresh(2), post(SESSION, r#"{"demo_resident":2}"#).into_bytes(), get("/", "").into_bytes()] {
        for byte in request {
            client.send([byte]);
        }
        assert_eq!(client.answer().status, 200);
    }
    assert!(client.is_silent(20));
}

fn head_is_get_without_the_body(host: &dyn Host) {
    let authorization = bearer(&host.session(3));
    let mut client = host.client();
    for (path, fields) in [(REFRESH, &*authorization), ("/", ""), ("/.well-known/jwks.json", ""), ("/nothing", "")] {
        let (got, headed) = within_a_window(|| {
            let mut client = host.client();
            let got = client.ask(get(path, fields));
            client.send(get(path, fields).replace("GET", "HEAD"));
            (got, client.answer_to_head())
        });
        assert_eq!(headed.without_date().0, got.without_date().0, "{path}");
        assert!(headed.body.is_empty() && !got.body.is_empty());
        client.send(get(path, fields).replace("GET", "HEAD") + &get("/healthz", ""));
        client.answer_to_head();
        assert_eq!(client.answer().text(), "ok\n", "the next answer starts where the head of this one ends");
    }
    // RFC 9110 §9.3.2, also where the request is refused before it is a request.
    for (fields, status) in [("Expect: x", 417), ("Content-Length: x", 400), ("Transfer-Encoding: gzip, chunked", 501)]
    {
        let mut client = host.client();
        client.send(get("/", &format!("{fields}\r\n")).replace("GET", "HEAD"));
        let headed = client.answer_to_head();
        assert_eq!(headed.status, status, "{fields}");
        assert!(headed.closes(), "{fields}");
        client.finish_sending();
        client.assert_ended(5_000);
    }
}

fn other_methods_get_405_and_options_tells_which_there_are(host: &dyn Host) {
    let allowed = [
        (REFRESH, "GET, HEAD, POST, OPTIONS"),
        (SESSION, "POST, DELETE, OPTIONS"),
        ("/.well-known/jwks.json", "GET, HEAD, OPTIONS"),
        ("/", "GET, HEAD, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ];
    let mut client = host.client();
    for (path, allow) in allowed {
        let answer = client.ask(get(path, "").replace("GET", "PUT"));
        assert_eq!((answer.status, answer.problem().as_str()), (405, "method-not-allowed"));
        assert_eq!(answer.field("Allow"), Some(allow));
        let answer = client.ask(get(path, "").replace("GET", "OPTIONS"));
        assert_eq!((answer.status, answer.field("Allow")), (204, Some(allow)), "{path}");
    }
    let answer = client.ask(get("*", "").replace("GET", "OPTIONS"));
    assert_eq!(answer.status, 204, "OPTIONS * asks about the server");
}

fn unknown_paths_get_404_and_the_connection_lives(host: &dyn Host) {
    let mut client = host.client();
    for path in ["/person/app", "/person/app/refreshQRCode/", "/metrics", "/status.json", "/..", "/assets/none"] {
        let answer = client.ask(get(path, ""));
        assert_eq!(
            (answer.status, answer.problem().as_str(), answer.closes()),
            (404, "unknown-route", false),
            "{path}"
        );
    }
}

fn what_is_too_large_is_refused_by_name(host: &dyn Host) {
    let wide = format!("X-Wide: {}\r\n", "w".repeat(8_192));
    let many: String = (0..65).map(|at| format!("X-{at}: v\r\n")).collect();
    let long_path = format!("/{}", "p".repeat(2_048));
    let body = format!("{{\"demo_resident\":{}1}}", " ".repeat(4_096));
    let chunked = format!(
        "POST {SESSION} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for (request, status) in [
        (get("/", &wide), 431),
        (get("/", &many), 431),
        (get(&long_path, ""), 414),
        (post(SESSION, &body), 413),
        (chunked, 413),
    ] {
        let mut client = host.client();
        let answer = client.ask(&request);
        assert_eq!((answer.status, answer.closes()), (status, true), "{answer:?}");
        answer.problem();
        client.finish_sending();
        client.assert_ended(2_000);
    }
    // The largest that is taken, so that the limit is where it is said to be.
    let padding = 4_096 - r#"{"demo_resident":1}"#.len();
    let body = format!("{{\"demo_resident\":{}1}}", " ".repeat(padding));
    assert_eq!(host.client().ask(post(SESSION, &body)).status, 200);
}

fn chunked_bodies_are_read_however_they_are_cut(host: &dyn Host) {
    let body = r#"{"demo_resident":4}"#;
    let head = format!("POST {SESSION} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for size in [1, 2, 7, body.len()] {
        let mut request = head.clone();
        for chunk in body.as_bytes().chunks(size) {
            request += &format!("{:X};why=not\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap());
        }
        request += "0\r\nX-Trailer: ignored\r\n\r\n";
        for split in [1, head.len(), head.len() + 1, head.len() + 3, request.len() - 1] {
            let mut client = host.client();
            client.send(&request[..split]);
            assert!(client.is_silent(2));
            client.send(&request[split..]);
            let answer = client.answer();
            assert_eq!(answer.status, 200, "chunks of {size}, cut at {split}: {answer:?}");
            let session = bearer(answer.json()["session"].as_str().unwrap());
            let answer = client.ask(get(REFRESH, &session));
            assert_eq!(answer.status, 200, "the trailer ends where the next request begins");
        }
    }
}

fn expect_100_continue_is_answered_before_the_body(host: &dyn Host) {
    let body = r#"{"demo_resident":5}"#;
    let head = |path: &str, expect: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: test\r\nExpect: {expect}\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut client = host.client();
    for _ in 0..3 {
        client.send(head(SESSION, "100-continue"));
        let interim = client.answer();
        assert_eq!(interim.head, "HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.ask(body).status, 200);
        // RFC 9110 §10.1.1: who has the body already may leave the interim answer out.
        assert_eq!(client.ask(head(SESSION, "100-continue") + body).status, 200);
    }
    assert_eq!(host.client().ask(head("/nothing", "100-continue")).status, 404, "refused without asking for the body");
    assert_eq!(host.client().ask(head(SESSION, "200-ok")).status, 417);
}

fn a_client_that_has_finished_sending_is_still_answered(host: &dyn Host) {
    let mut client = host.client();
    client.send([host.refresh(6), host.refresh(7), post(SESSION, r#"{"demo_resident":6}"#).into_bytes()].concat());
    client.finish_sending();
    for _ in 0..3 {
        assert_eq!(client.answer().status, 200);
    }
    client.assert_ended(2_000);
}

fn the_connection_closes_when_either_side_says_so(host: &dyn Host) {
    let refresh = String::from_utf8(host.refresh(1)).unwrap();
    let closing = refresh.replace("Host: test", "Host: test\r\nConnection: close");
    let old = refresh.replace("HTTP/1.1", "HTTP/1.0");
    for request in [&closing, &old] {
        let mut client = host.client();
        // What comes behind the last request is not looked at.
        let answer = client.ask(format!("{request}{refresh}"));
        assert_eq!((answer.status, answer.closes()), (200, true), "{answer:?}");
        client.assert_ended(2_000);
    }
    let mut client = host.client();
    let kept = old.replace("Host: test", "Connection: keep-alive");
    for _ in 0..2 {
        let answer = client.ask(&kept);
        assert_eq!((answer.status, answer.field("Connection")), (200, Some("keep-alive")), "{answer:?}");
    }
}

fn what_is_not_http_gets_400_and_the_end(host: &dyn Host) {
    let smuggled = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let twice = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd";
    for request in [
        "GET / HTTP/1.1\nHost: test\n\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : test\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
        smuggled,
        twice,
    ] {
        let mut client = host.client();
        let answer = client.ask(request);
        assert_eq!((answer.status, answer.closes()), (400, true), "{request:?}: {answer:?}");
        answer.problem();
        client.finish_sending();
        client.assert_ended(2_000);
    }
}

/// What takes as long as the limit that it is about. All of them run at once under the real drivers.
const SLOW_CASES: [fn(&dyn Host); 4] = [
    a_slow_head_gets_408_after_5_s,
    a_slow_body_gets_408_after_5_s,
    an_idle_connection_ends_after_15_s,
    a_deadline_counts_from_the_first_byte_of_its_own_request,
];

#[test]
fn slow_requests_and_idle_connections_end_in_their_time() {
    if support::is_quick() {
        eprintln!("left out: it takes 17 s");
        return;
    }
    let servers: Vec<Server> = Under::ALL.into_iter().filter_map(Server::under).collect();
    std::thread::scope(|scope| {
        for server in &servers {
            for case in SLOW_CASES {
                scope.spawn(move || case(server));
            }
        }
    });
}

/// The simulator's clock is exact: it is held to the limit. A busy machine may let everybody stand still for seconds, and
/// there only the order of magnitude is shown.
fn assert_within(host: &dyn Host, what: &str, elapsed_ms: u64, range: Range<u64>) {
    let late_ms = if host.is_exact() { 0 } else { 3_000 };
    let is_within = (range.start..range.end + late_ms).contains(&elapsed_ms);
    assert!(is_within, "{what} after {elapsed_ms} ms, not within {range:?} and {late_ms} ms more");
}

/// Sends a byte each 400 ms until an answer comes, and says when that was.
fn drip(host: &dyn Host, client: &mut Client<'_>, mut bytes: impl Iterator<Item = u8>) -> u64 {
    let start_ms = host.elapsed_ms();
    loop {
        client.send([bytes.next().expect("the server waits for all of it")]);
        if !client.is_silent(400) {
            return host.elapsed_ms() - start_ms;
        }
    }
}

fn a_slow_head_gets_408_after_5_s(host: &dyn Host) {
    let mut client = host.client();
    let request = get("/", &format!("X-Slow: {}\r\n", "s".repeat(100)));
    let elapsed_ms = drip(host, &mut client, request.bytes());
    assert_within(host, "408", elapsed_ms, 4_900..6_000);
    let answer = client.answer();
    assert_eq!((answer.status, answer.problem().as_str(), answer.closes()), (408, "request-timeout", true));
    client.finish_sending();
    client.assert_ended(2_000);
}

fn a_slow_body_gets_408_after_5_s(host: &dyn Host) {
    let mut client = host.client();
    client.send(post(SESSION, &" ".repeat(1_000)).trim_end());
    client.send("\r\n\r\n");
    let elapsed_ms = drip(host, &mut client, std::iter::repeat(b' '));
    assert_within(host, "408", elapsed_ms, 4_900..6_500);
    assert_eq!(client.answer().status, 408);
}

fn an_idle_connection_ends_after_15_s(host: &dyn Host) {
    let mut client = host.client();
    client.ask(get("/healthz", ""));
    assert!(client.is_silent(7_000));
    client.ask(get("/healthz", ""));
    let start_ms = host.elapsed_ms();
    client.assert_ended(17_000);
    assert_within(host, "the end", host.elapsed_ms() - start_ms, 14_900..16_000);
}

fn records_keep_no_connection() {
    let (settings, pem) = settings_with_tls();
    let host = Simulated::with(1, settings, 2, 4_096);
    let mut line = SecuredLine::over(host.connect(), &Arc::new(secured::client(&pem, &[&TLS13], None)));
    let start_ms = host.elapsed_ms();
    while !line.is_over(2_000) {
        assert!(host.elapsed_ms() - start_ms < 16_000);
        line.renew_keys();
    }
    assert!(host.elapsed_ms() - start_ms > 14_000);
}

fn a_deadline_counts_from_the_first_byte_of_its_own_request(host: &dyn Host) {
    let mut client = host.client();
    let request = get("/healthz", "");
    let (first, rest) = request.split_at(20);
    for _ in 0..3 {
        client.send(first);
        assert!(client.is_silent(2_500));
        client.send(rest);
        assert_eq!(client.answer().status, 200);
    }
}

fn the_driver_that_was_asked_for_runs(server: &mut Server) {
    let driver = server.ask_admin("/status.json").json()["driver"].as_str().unwrap().to_owned();
    let said = server.stderr();
    assert!(said.lines().any(|line| line.starts_with(&format!("onecode: driver {driver} ("))), "{said}");
    let build = format!("onecode_build_info{{version=\"{}\",driver=\"{driver}\"}}", env!("CARGO_PKG_VERSION"));
    assert!(server.metric(&build) == 1.0);
    assert!(Under::ALL.iter().any(|under| under.name() == driver));
}

fn a_slow_reader_gets_every_byte(server: &mut Server) {
    const REQUESTS: usize = 3_000;
    let expected = server.client().ask(get("/.well-known/jwks.json", ""));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&server.public.into()).unwrap();
    let stream = TcpStream::from(socket);
    let mut writer = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        writer.write_all(get("/.well-known/jwks.json", "").repeat(REQUESTS).as_bytes()).unwrap();
    });
    let mut line = Socket(stream);
    let mut received = Vec::new();
    let mut answers = 0;
    let start = Instant::now();
    while answers < REQUESTS {
        if start.elapsed() < Duration::from_millis(300) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let bytes = line.receive(support::PATIENCE_MS).expect("the server goes on sending");
        assert!(!bytes.is_empty(), "ended after {answers} answers");
        received.extend(bytes);
        while let Some(answer) = support::take_answer(&mut received, false) {
            assert_eq!(answer.without_date(), expected.without_date());
            answers += 1;
        }
    }
    writing.join().unwrap();
    assert!(received.is_empty());
}

fn a_refusal_is_not_eaten_by_a_reset(server: &mut Server) {
    // All of it is sent before anything is read: without a lingering close the kernel would answer it with a reset.
    let mut client = server.client();
    client.send(post(SESSION, &"x".repeat(200_000)));
    std::thread::sleep(Duration::from_millis(50));
    let answer = client.answer();
    assert_eq!((answer.status, answer.closes()), (413, true));
    client.assert_ended(2_000);
    // A refused route says so at once, in the midst of the body.
    let mut client = server.client();
    let request = post("/nothing", &"x".repeat(100_000));
    client.send(&request[..50_000]);
    assert_eq!(client.answer().status, 404);
    client.send(&request[50_000..]);
    client.assert_ended(2_000);
}

fn two_thousand_connections_at_once_are_all_served(server: &mut Server) {
    const CONNECTIONS: u32 = 2_000;
    let mut clients: Vec<(u32, Client<'static>)> =
        (0..CONNECTIONS).map(|at| (at % 200 + 1, Client::to(server.public))).collect();
    let sessions: Vec<Vec<u8>> = (1..=200).map(|number| server.refresh(number)).collect();
    for _ in 0..2 {
        for (number, client) in &mut clients {
            client.send(&sessions[*number as usize - 1]);
        }
        for (_, client) in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
    }
    assert!(open_connections(server) >= f64::from(CONNECTIONS));
    drop(clients);
    support::wait_until("all connections are closed", || open_connections(server) == 0.0);
    assert!(server.metric("onecode_connections_refused_total") == 0.0);
}

fn open_connections(server: &Server) -> f64 {
    (0..2).map(|shard| server.metric(&format!("onecode_connections_open{{shard=\"{shard}\"}}"))).sum()
}

fn connections_that_vanish_leave_nothing_behind(server: &mut Server) {
    let request = server.refresh(1);
    let many = request.repeat(200);
    let half_body = post(SESSION, &" ".repeat(3_000));
    for round in 0..120 {
        let mut socket = Socket::connect(server.public);
        match round % 6 {
            0 => socket.send(&request[..round]),
            1 => socket.send(&half_body.as_bytes()[..half_body.len() - 1_000]),
            // Answers are on their way, and none is ever read.
            2 | 3 => socket.send(&many),
            4 => {
                socket.send(&many);
                socket.receive(support::PATIENCE_MS);
            }
            _ => {
                socket.send(&post(SESSION, &"x".repeat(100_000)).as_bytes()[..20_000]);
                socket.receive(support::PATIENCE_MS);
            }
        }
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        socket.reset();
    }
    support::wait_until("their places are free", || open_connections(server) == 0.0);
    let mut clients: Vec<Client<'_>> = (0..50).map(|_| server.client()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(&request).status, 200);
    }
    let before = server.metric("process_cpu_seconds_total");
    std::thread::sleep(Duration::from_millis(500));
    let spent = server.metric("process_cpu_seconds_total") - before;
    assert!(spent < 0.25, "{spent} s of CPU in half a second with nothing to do");
}

fn under_load_every_session_gets_its_own_code(server: &mut Server) {
    const THREADS: u32 = 8;
    const CONNECTIONS: u32 = 8;
    let residents: Vec<u32> = (1..=THREADS * CONNECTIONS).collect();
    let ask = |number: &u32| server.client().ask(server.refresh(*number)).body;
    let before: Vec<Vec<u8>> = residents.iter().map(ask).collect();
    let requests: Vec<Vec<u8>> = residents.iter().map(|number| server.refresh(*number)).collect();
    let seed = 7;
    let shared = &*server;
    let answers: Vec<Vec<Vec<u8>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = requests
            .chunks(CONNECTIONS as usize)
            .enumerate()
            .map(|(thread, requests)| scope.spawn(move || load(shared, requests, seed + thread as u64)))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    // A window may have ended meanwhile: then the later ones are as they are now.
    let after: Vec<Vec<u8>> = residents.iter().map(ask).collect();
    for (at, answers) in answers.iter().enumerate() {
        assert!(answers.len() > 20);
        let own = |body: &Vec<u8>| *body == before[at] || *body == after[at];
        assert!(answers.iter().all(own), "resident {} was given something else", at + 1);
    }
    let all: std::collections::BTreeSet<_> = before.iter().collect();
    assert_eq!(all.len(), residents.len(), "no two residents have one code");
}

/// For each request a connection; on all of them bursts of random depth, cut at random places. Returns the bodies.
fn load(server: &Server, requests: &[Vec<u8>], seed: u64) -> Vec<Vec<Vec<u8>>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut clients: Vec<Client<'_>> = requests.iter().map(|_| server.client()).collect();
    let mut bodies = vec![Vec::new(); requests.len()];
    for _ in 0..12 {
        let depths: Vec<usize> = requests.iter().map(|_| random.usize(1..=16)).collect();
        let mut left: Vec<Vec<u8>> =
            requests.iter().zip(&depths).map(|(request, depth)| request.repeat(*depth)).collect();
        while left.iter().any(|bytes| !bytes.is_empty()) {
            for (client, bytes) in clients.iter_mut().zip(&mut left) {
                let length = random.usize(0..=bytes.len().min(3_000));
                if length > 0 {
                    client.send(bytes.drain(..length).collect::<Vec<u8>>());
                }
            }
        }
        for ((client, depth), bodies) in clients.iter_mut().zip(depths).zip(&mut bodies) {
            for _ in 0..depth {
                let answer = client.answer();
                assert_eq!(answer.status, 200, "seed {seed}: {answer:?}");
                bodies.push(answer.body);
            }
        }
    }
    bodies
}

fn sigterm_answers_what_is_in_flight_and_ends_with_0(server: &mut Server) {
    let request = server.refresh(1);
    let mut idle: Vec<Client<'static>> = (0..20).map(|_| Client::to(server.public)).collect();
    for client in &mut idle {
        assert_eq!(client.ask(&request).status, 200);
    }
    let sign_in = post(SESSION, r#"{"demo_resident":1}"#).into_bytes();
    let mut begun: Vec<(Client<'static>, &[u8])> = Vec::new();
    for (request, cut) in [(&request, 10), (&request, request.len() - 1), (&sign_in, sign_in.len() - 5)].repeat(4) {
        let mut client = Client::to(server.public);
        client.send(&request[..cut]);
        begun.push((client, &request[cut..]));
    }
    // So that all of it has been received.
    std::thread::sleep(Duration::from_millis(50));
    server.signal("TERM");
    let start = Instant::now();
    support::wait_until("the signal is heard", || server.stderr().contains("ending"));
    std::thread::sleep(Duration::from_millis(200));
    assert!(TcpStream::connect(server.public).is_err(), "nobody new is let in");
    for (client, rest) in &mut begun {
        client.send(*rest);
        let answer = client.answer();
        assert_eq!((answer.status, answer.closes()), (200, true), "{answer:?}");
        client.assert_ended(2_000);
    }
    for client in &mut idle {
        client.assert_ended(2_000);
    }
    assert_eq!(server.wait_end(3_000), Some(0));
    assert!(start.elapsed() < Duration::from_secs(3));
}

fn a_second_process_on_the_port_is_told_who_holds_it(server: &mut Server) {
    let data = tempfile::tempdir().unwrap();
    let (public, admin) = (server.public.to_string(), server.admin.to_string());
    for (listen, admin, taken) in [(&*public, "127.0.0.1:0", &public), ("127.0.0.1:0", &*admin, &admin)] {
        let mut second: Command = support::process::onecode();
        second.args(["serve", "--listen", listen, "--admin", admin, "--data"]).arg(data.path());
        let (status, line) = support::process::run_badly(&mut second);
        let said = line.lines().last().unwrap();
        assert_eq!(status, 69, "{line}");
        assert!(said.contains(taken) && said.contains(&format!("(pid {})", server.pid())), "{said}");
    }
    assert_eq!(server.client().ask(server.refresh(1)).status, 200, "the first one does not mind");
}

fn sighup_keeps_connections(server: &mut Server) {
    let request = server.refresh(1);
    let mut client = server.client();
    let mut within = server.client();
    assert_eq!(client.ask(&request).status, 200);
    within.send(&request[..30]);
    for _ in 0..3 {
        server.reload("keys and sign-in read again");
        assert_eq!(client.ask(&request).status, 200);
    }
    within.send(&request[30..]);
    assert_eq!(within.answer().status, 200);
}

fn lines_are_answered_while_they_still_come(server: &mut Server) {
    let line = |n: u32, status: &str| {
        let id = onecode::registry::demo::id_number(n);
        let id = std::str::from_utf8(id.as_bytes()).unwrap();
        let version = support::unix_s() * 1_000 + 20_000 + u64::from(n);
        format!("{}\n", serde_json::json!({"id_number": id, "status": status, "version": version}))
    };
    let head = "POST /admin/residents HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-ndjson\r\n";
    let mut socket = Socket::connect(server.admin);
    socket.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
    let mut received = Vec::new();
    for n in 1..=20 {
        let line = line(n, "red");
        socket.send(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes());
        let wanted = format!("{{\"line\":{n},\"result\":\"done\"}}\n\r\n");
        while !received.ends_with(wanted.as_bytes()) {
            let more = socket.receive(support::PATIENCE_MS);
            received.extend(more.filter(|more| !more.is_empty()).expect("an answer while the body is open"));
        }
        // The very next refresh shows it, whichever shard it comes to.
        for _ in 0..2 {
            assert_eq!(server.client().ask(server.refresh(n)).json()["status"], "red");
        }
    }
    socket.send(b"0\r\n\r\n");
    // Many lines at once, from one who reads only at the end, and one who leaves in the midst.
    let body: String = (1..=2_000).map(|n| line(n % 100 + 1_000, "yellow")).collect();
    let whole = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    Socket::connect(server.admin).send(&whole.as_bytes()[..whole.len() / 2]);
    let answer = Client::to(server.admin).ask(whole);
    assert_eq!((answer.status, answer.text().lines().count()), (200, 2_000));
    assert_eq!(server.client().ask(server.refresh(1)).status, 200, "and it serves on");
}
