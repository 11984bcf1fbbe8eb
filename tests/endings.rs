//! What ends and what goes on: sessions over a restart, connections over a refusal, answers over the process's end.

mod support;

use std::time::Duration;

use support::process::{Server, Under};
use support::{Client, Host, REFRESH, SESSION, bearer, get, post, wait_until};

#[test]
fn a_page_of_another_origin_signs_nobody_in() {
    let server = Server::demo();
    let sign_in = post(SESSION, r#"{"demo_resident":1}"#);
    for foreign in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let request = sign_in.replacen("\r\n", &format!("\r\n{foreign}\r\n"), 1);
        let answer = server.client().ask(&request);
        assert_eq!((answer.status, answer.problem().as_str()), (403, "origin-refused"), "{foreign}");
        assert_eq!(answer.field("Set-Cookie"), None);
    }
    assert_eq!(server.client().ask(&sign_in).status, 200);
}

#[test]
fn a_session_made_after_a_sign_out_outlives_a_restart() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let start = || {
        Server::over(&data, |command| {
            command.args(["--demo", "--residents", "10"]);
        })
    };
    let server = start();
    let new_session = |server: &Server| {
        let answer = server.client().ask(post(SESSION, r#"{"demo_resident":1}"#));
        answer.json()["session"].as_str().unwrap().to_owned()
    };
    let refreshes = |server: &Server, session: &str| server.client().ask(get(REFRESH, &bearer(session))).status;
    let first = new_session(&server);
    assert_eq!(server.client().ask(get(SESSION, &bearer(&first)).replace("GET", "DELETE")).status, 204);
    let second = new_session(&server);
    assert_eq!((refreshes(&server, &first), refreshes(&server, &second)), (401, 200));
    assert_eq!(server.stop().0, Some(0));
    let server = start();
    assert_eq!(refreshes(&server, &second), 200);
    assert_eq!(server.client().ask(get(SESSION, &bearer(&second)).replace("GET", "DELETE")).status, 204);
    assert_eq!((refreshes(&server, &first), refreshes(&server, &second)), (401, 401), "both end, the older one too");
}

#[test]
fn a_refusal_without_a_body_to_read_leaves_the_connection() {
    let server = Server::demo();
    let mut client = server.client();
    for _ in 0..2 {
        let answer = client.ask("POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((answer.status, answer.closes()), (404, false));
    }
}

/// A slow reader with a long pipeline behind it, more than the kernel's buffers hold, when the process is told to end:
/// whatever the last answer is, it says so (RFC 9112 §9.6).
#[test]
fn what_is_answered_at_the_end_is_answered_whole() {
    let pages = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    std::fs::write(pages.path().join("a.jpg"), (0..13_000).map(|_| random.u8(..)).collect::<Vec<u8>>()).unwrap();
    for under in Under::ALL.into_iter().filter(|under| under.is_here()) {
        let mut server = Server::demo_with(|command| {
            under.apply(command);
            command.env("ONECODE_ASSETS_DIR", pages.path());
        });
        let mut client = Client::to(server.public);
        client.send(get("/a.jpg", "").repeat(500));
        std::thread::sleep(Duration::from_millis(200));
        server.signal("TERM");
        let mut answers = 0;
        loop {
            let answer = client.answer();
            assert_eq!((answer.status, answer.body.len()), (200, 13_000), "{}", under.name());
            answers += 1;
            if answer.closes() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(answers < 500, "{}: {answers}", under.name());
        client.assert_ended(2_000);
        assert_eq!(server.wait_end(5_000), Some(0), "{}", under.name());
    }
}

#[test]
fn the_admin_listener_tells_why_until_the_last_request_is_answered() {
    for under in Under::ALL {
        let Some(mut server) = Server::under(under) else { continue };
        let answer = server.ask_admin("/readyz?verbose");
        let parts =
            "registry: ok, residents 200\nkeys: ok, session epoch 1\nsign-in: ok, by the demo's numbers\njournal: ok\n";
        assert_eq!((answer.status, answer.text()), (200, &*format!("{parts}shards: ok, 2\nready\n")));
        assert_eq!(server.client().ask(get("/readyz?verbose", "")).text(), "ready\n", "on the admin listener only");
        let request = server.refresh(1);
        let (mut late, mut checked) = (server.client(), server.client());
        late.send(&request[..20]);
        assert_eq!(checked.ask(get("/healthz", "")).status, 200);
        std::thread::sleep(Duration::from_millis(50));
        server.signal("TERM");
        wait_until("the signal is heard", || server.stderr().contains("ending"));
        std::thread::sleep(Duration::from_millis(300));
        let answer = checked.ask(get("/readyz", ""));
        assert_eq!((answer.status, answer.problem().as_str(), answer.closes()), (503, "not-ready", true));
        for _ in 0..4 {
            let answer = server.ask_admin("/readyz");
            assert_eq!((answer.status, answer.problem().as_str(), answer.closes()), (503, "draining", true));
            let answer = server.ask_admin("/readyz?verbose");
            assert_eq!((answer.status, answer.text()), (503, &*format!("{parts}shards: draining, 2\nnot ready\n")));
            assert!(answer.closes() && answer.field("Retry-After").is_some());
            std::thread::sleep(Duration::from_millis(150));
        }
        assert_eq!(late.ask(&request[20..]).status, 200, "{}", under.name());
        drop((late, checked));
        assert_eq!(server.wait_end(2_000), Some(0), "{}", under.name());
    }
}

#[test]
fn nobody_keeps_the_process_by_asking_the_admin_listener_for_ever() {
    let mut server = Server::demo();
    let (request, start) = (server.refresh(1), std::time::Instant::now());
    let mut late = Client::to(server.public);
    late.send(&request[..20]);
    let mut admin: Vec<Client<'static>> = (0..3).map(|_| Client::to(server.admin)).collect();
    admin.iter_mut().for_each(|client| client.send("GET /readyz HTTP/1.1\r\nHost: "));
    std::thread::sleep(Duration::from_millis(50));
    server.signal("TERM");
    assert_eq!(server.wait_end(12_000), Some(0));
    assert!(start.elapsed() < Duration::from_secs(12));
    drop((late, admin));
}
