//! Who is served when not all can be: the egress budget, the delay governor, rate limits and the brown-out, against the
//! real process.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use onecode::admission::Refuser;
use onecode::limits::HELLO_DEADLINE_PARTS;
use rustls::version::TLS13;
use serde_json::Value;
use support::process::{Server, onecode, run_badly};
use support::secured::{self, Secured, SecuredLine};
use support::simulated::{DEADLINE_MS, Simulated, settings, settings_with_tls};
use support::{Client, Host, REFRESH, bearer, get, post};

fn demo(settings: &[(&str, &str)]) -> Server {
    Server::demo_with(|command| {
        command.envs(settings.iter().map(|(key, value)| (format!("ONECODE_{key}"), value)));
    })
}

fn shed(server: &Server, by: &str) -> f64 {
    server.metric(&format!("onecode_shed_total{{by=\"{by}\"}}"))
}

fn session(server: &Server, resident: usize) -> String {
    let sessions = std::fs::read_to_string(server.data().join("sessions.txt")).unwrap();
    bearer(sessions.lines().nth(resident).unwrap())
}

#[test]
fn pages_keep_to_the_budget_and_refreshes_go_first() {
    let bits_per_s = 2_000_000.0;
    let server = demo(&[("BANDWIDTH_EGRESS_BITS_PER_S", "2000000")]);
    assert_eq!(server.metric("onecode_egress_budget_bytes_per_second") * 8.0, bits_per_s);
    let page = get("/", "Accept-Encoding: identity\r\n");
    let refresh = get(REFRESH, &session(&server, 3));
    let end = Instant::now() + Duration::from_secs(4);
    let statuses = std::thread::scope(|scope| {
        let visit = || {
            let (mut client, mut statuses) = (Client::to(server.public), Vec::new());
            while Instant::now() < end {
                let answer = client.ask(&page);
                if answer.status == 503 {
                    assert_eq!(answer.problem(), "bytes-governor");
                    assert!((1..=8).contains(&answer.field("Retry-After").unwrap().parse().unwrap()));
                }
                statuses.push(answer.status);
            }
            statuses
        };
        let visitors: Vec<_> = (0..24).map(|_| scope.spawn(visit)).collect();
        let mut client = Client::to(server.public);
        sleep(Duration::from_millis(500));
        for _ in 0..3 {
            let (sent, began) = (server.metric("onecode_sent_bytes_total"), Instant::now());
            for _ in 0..9 {
                let asked = Instant::now();
                assert_eq!(client.ask(&refresh).status, 200);
                assert!(asked.elapsed() < Duration::from_millis(250), "{:?}", asked.elapsed());
                sleep(Duration::from_millis(100));
            }
            let sent = server.metric("onecode_sent_bytes_total") - sent;
            let rate = sent * 8.0 / began.elapsed().as_secs_f64();
            assert!(rate <= 1.05 * bits_per_s, "{rate}");
            assert!(rate >= 0.7 * bits_per_s, "what there is, is used: {rate}");
        }
        visitors.into_iter().flat_map(|visitor| visitor.join().unwrap()).collect::<Vec<u16>>()
    });
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(refused > 0 && statuses.iter().all(|status| matches!(status, 200 | 503)));
    assert_eq!(shed(&server, "bytes"), refused as f64);
    assert_eq!(server.metric("onecode_requests_total{route=\"page\",result=\"5xx\"}"), refused as f64);
    assert!(server.stderr().contains("egress budget: 2000000 bits a second"));
}

#[test]
fn a_long_file_costs_what_was_sent_of_it_when_it_was() {
    const BYTES: usize = 4_000_000;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("long.txt"), "x".repeat(BYTES)).unwrap();
    // A megabyte a second.
    let pages = folder.path().to_str().unwrap();
    let server = demo(&[
        ("BANDWIDTH_EGRESS_BITS_PER_S", "8000000"),
        ("ASSETS_DIR", pages),
        ("ASSETS_FILE_BYTES_MAX", "8000000"),
    ]);
    let long = get("/long.txt", "Accept-Encoding: identity\r\n");
    // Who asks for it and goes away has cost nobody four seconds.
    for _ in 0..3 {
        let mut gone = TcpStream::connect(server.public).unwrap();
        gone.write_all(long.as_bytes()).unwrap();
        sleep(Duration::from_millis(20));
    }
    sleep(Duration::from_millis(900));
    assert_eq!(client_of(&server).ask(get("/", "")).status, 200);
    // Nor may many who have not read have it all at once.
    let mut readers: Vec<TcpStream> = (0..6).map(|_| TcpStream::connect(server.public).unwrap()).collect();
    readers.iter_mut().for_each(|reader| reader.write_all(long.as_bytes()).unwrap());
    sleep(Duration::from_secs(2));
    let (sent, began) = (server.metric("onecode_sent_bytes_total"), Instant::now());
    std::thread::scope(|scope| {
        for reader in &mut readers {
            scope.spawn(|| {
                let (mut buffer, end) = (vec![0; 65_536], began + Duration::from_secs(3));
                while Instant::now() < end && reader.read(&mut buffer).is_ok_and(|length| length > 0) {}
            });
        }
    });
    let rate = (server.metric("onecode_sent_bytes_total") - sent) / began.elapsed().as_secs_f64();
    assert!((300_000.0..=1_250_000.0).contains(&rate), "{rate}");
}

#[test]
fn a_session_and_a_device_have_their_rates_and_repeats_are_free() {
    let rates = [("ADMISSION_SESSION_REQUESTS_PER_MINUTE", "10"), ("ADMISSION_DEVICE_REQUESTS_PER_MINUTE", "2")];
    let server = demo(&rates);
    let mut client = Client::to(server.public);
    let (mine, another) = (session(&server, 1), session(&server, 2));
    for _ in 0..100 {
        assert_eq!(client.ask(get(REFRESH, &mine)).status, 200, "the same window costs nothing");
    }
    let drawn = |client: &mut Client<'_>, session: &str| client.ask(get(&format!("{REFRESH}?format=svg"), session));
    let answers: Vec<_> = (0..12).map(|_| drawn(&mut client, &mine)).collect();
    let limited = answers.iter().find(|answer| answer.status != 200).expect("ten a minute");
    assert_eq!((limited.status, limited.problem().as_str()), (429, "session-rate"));
    assert!(limited.field("Retry-After").is_some());
    assert_eq!(drawn(&mut client, &another).status, 200, "others have their own");
    let token = std::fs::read_to_string(server.data().join("scanner-token.txt")).unwrap();
    let scan = post("/scan/verify", r#"{"code":"x","place":"p"}"#)
        .replace("\r\n\r\n", &format!("\r\n{}\r\n", bearer(token.trim())));
    let statuses = [0; 3].map(|_| client.ask(&scan).status);
    assert_eq!(statuses, [200, 200, 429]);
    assert!(shed(&server, "session_rate") >= 1.0 && shed(&server, "device_rate") == 1.0);
}

#[test]
fn what_is_past_its_deadline_is_not_answered_and_the_rest_is_as_ever() {
    let server = demo(&[("ADMISSION_DEADLINE_MS", "1000")]);
    let refresh = get(REFRESH, &session(&server, 1));
    let mut clients: Vec<Client<'_>> = (0..20).map(|_| Client::to(server.public)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask(&refresh).status, 200));
    let mut operator = Client::to(server.admin);
    // Who was not read when it stopped has not waited for it.
    sleep(Duration::from_millis(100));
    server.signal("STOP");
    clients.iter_mut().for_each(|client| client.send(&refresh));
    operator.send(get("/metrics", "").replace("Host: test", "Host: localhost"));
    sleep(Duration::from_millis(1_300));
    server.signal("CONT");
    for client in &mut clients {
        client.assert_ended(3_000);
    }
    assert_eq!(operator.answer().status, 200, "operators are no crowd");
    assert_eq!(shed(&server, "deadline"), 20.0);
    assert_eq!(client_of(&server).ask(&refresh).status, 200);
}

#[test]
fn a_queue_that_stands_is_shed_and_who_was_refused_is_read_again_in_turn() {
    let process = Simulated::with(7, settings(None), 1, 4_096);
    let requests: Vec<String> = (1..=64).map(|one| get(REFRESH, &bearer(&process.session(one)))).collect();
    // Each comes over a new connection, and has waited to be accepted.
    let round = || {
        let mut clients: Vec<Client<'_>> = requests.iter().map(|_| process.client_of(0)).collect();
        process.sim.borrow_mut().advance(20);
        clients.iter_mut().zip(&requests).for_each(|(client, request)| client.send(request));
        clients.retain_mut(|client| {
            let answer = client.answer();
            if answer.status == 503 {
                assert_eq!(answer.problem(), "delay-governor");
                assert!(answer.field("Retry-After").is_some() && !answer.closes());
            }
            answer.status == 503
        });
        clients
    };
    process.sim.borrow_mut().age_ms = 500;
    let rounds: Vec<Vec<Client<'_>>> = (0..40).map(|_| round()).collect();
    let refused = rounds.iter().map(Vec::len).sum::<usize>();
    assert!(rounds[0].is_empty() && refused > 0);
    assert_eq!(process.counters[0].shed[Refuser::Delay as usize].get(), refused as u64);
    // Those who were refused last ask again at once: they are not read before their turn, and then served.
    process.sim.borrow_mut().age_ms = 0;
    let mut last: Vec<Client<'_>> = rounds.into_iter().rev().find(|round| !round.is_empty()).unwrap();
    last.iter_mut().for_each(|client| client.send(&requests[0]));
    assert!(last.iter_mut().all(|client| client.answer().status == 200));
    assert!(round().is_empty());
}

#[test]
fn who_has_used_up_his_rate_is_told_that_and_not_that_there_is_no_time() {
    let process = Simulated::with(9, settings(None), 1, 4_096);
    let sessions: Vec<String> = (1..=64).map(|one| bearer(&process.session(one))).collect();
    let spent = &sessions[..16];
    for session in spent {
        let mut client = process.client_of(0);
        assert_eq!(client.ask(get(REFRESH, session)).status, 200);
        while client.ask(get(&format!("{REFRESH}?format=svg"), session)).status == 200 {}
        assert_eq!(client.ask(get(REFRESH, session)).status, 200, "the same window costs nothing while there is time");
    }
    process.sim.borrow_mut().age_ms = 500;
    let mut told = [0, 0];
    for _ in 0..40 {
        process.sim.borrow_mut().advance(20);
        for (place, session) in sessions.iter().enumerate() {
            let answer = process.client_of(0).ask(get(REFRESH, session));
            if answer.status != 200 {
                let is_spent = place < spent.len();
                assert_eq!(answer.problem(), if is_spent { "session-rate" } else { "delay-governor" });
                assert!(answer.field("Retry-After").is_some());
                told[usize::from(is_spent)] += 1;
            }
        }
    }
    assert!(told.iter().all(|told| *told > 0), "{told:?}");
}

#[test]
fn a_handshake_is_begun_only_for_who_can_still_be_answered_in_time() {
    let (settings, pem) = settings_with_tls();
    let process = Simulated::with(8, settings, 1, 4_096);
    let config = Arc::new(secured::client(&pem, &[&TLS13], None));
    let shed = || process.counters[0].shed[Refuser::Deadline as usize].get();
    let begins = |age_ms| {
        process.sim.borrow_mut().advance(20);
        process.sim.borrow_mut().age_ms = age_ms;
        let before = shed();
        let begins = SecuredLine::attempt(process.connect(), &config).is_ok();
        assert_eq!(shed() > before, !begins);
        begins
    };
    let late_ms = DEADLINE_MS / HELLO_DEADLINE_PARTS;
    assert!(begins(0) && begins(late_ms), "one that is late is no queue");
    assert!((0..50).any(|_| !begins(late_ms)), "a queue that stands is");
    assert!(!begins(late_ms) && begins(0) && begins(late_ms - 1) && !begins(late_ms));
    assert!((0..50).all(|_| begins(0)) && begins(late_ms), "until it is gone");
    // What comes over a connection that there is may be older.
    process.sim.borrow_mut().age_ms = 0;
    let host = Secured { host: &process, config };
    let mut client = host.client();
    process.sim.borrow_mut().advance(DEADLINE_MS / 2);
    process.sim.borrow_mut().age_ms = DEADLINE_MS / 2;
    assert_eq!(client.ask(get(REFRESH, &bearer(&process.session(1)))).status, 200);
}

fn client_of(server: &Server) -> Client<'static> {
    Client::to(server.public)
}

#[test]
fn windows_grow_while_refreshes_alone_take_more_than_the_budget_and_shrink_again() {
    let server = demo(&[("BANDWIDTH_EGRESS_BITS_PER_S", "1000000"), ("CODE_WINDOW_S", "5"), ("CODE_LIFE_S", "20")]);
    let life = |client: &mut Client<'_>| {
        let code: Value = client.ask(get(REFRESH, &session(&server, 9))).json();
        code["exp"].as_u64().unwrap() - code["iat"].as_u64().unwrap()
    };
    let mut client = client_of(&server);
    assert_eq!(life(&mut client), 20);
    let refresh = get(REFRESH, &session(&server, 1));
    // The kernel lets none of them send more than the budget; together they do.
    let mut crowd: Vec<Client<'_>> = (0..16).map(|_| client_of(&server)).collect();
    let began = Instant::now();
    while server.metric("onecode_brownout_level") == 0.0 {
        assert!(began.elapsed() < Duration::from_secs(20));
        crowd.iter_mut().for_each(|client| client.send(&refresh));
        let answers = crowd.iter_mut().map(Client::answer);
        assert!(answers.into_iter().all(|answer| answer.status == 200), "a refresh is never refused for its bytes");
    }
    assert_eq!(life(&mut client), 40);
    assert_eq!(shed(&server, "bytes"), 0.0);
    // And by itself, with nobody there to ask.
    drop((crowd, client));
    let calm = Instant::now();
    while server.metric("onecode_brownout_level") > 0.0 {
        assert!(calm.elapsed() < Duration::from_secs(90));
        sleep(Duration::from_millis(200));
    }
    assert_eq!(life(&mut client_of(&server)), 20);
}

#[test]
fn limits_that_cannot_be_kept_are_refused_by_name() {
    let cases = [
        ("BANDWIDTH_EGRESS_BITS_PER_S", "0", "bandwidth.egress_bits_per_s"),
        ("BANDWIDTH_EGRESS_BITS_PER_S", "fast", "nor \"auto\""),
        ("BANDWIDTH_EGRESS_BITS_PER_S", "auto", "the kernel knows no speed of the link of 127.0.0.1"),
        ("ADMISSION_DEADLINE_MS", "499", "admission.deadline_ms"),
        ("ADMISSION_SESSION_REQUESTS_PER_MINUTE", "1", "is less than the 4 that code.window_s = 45 needs"),
        ("ADMISSION_DEVICE_REQUESTS_PER_MINUTE", "-1", "admission.device_requests_per_minute"),
    ];
    let data = tempfile::tempdir().unwrap();
    for (key, value, told) in cases {
        let mut command = onecode();
        command.args(["serve", "--data"]).arg(data.path()).env(format!("ONECODE_{key}"), value);
        let (status, line) = run_badly(&mut command);
        assert_eq!(status, 78, "{line}");
        assert!(line.contains(told), "{line}");
    }
}
