//! What ends and what goes on: sessions over a restart, connections over a refusal, answers over the process's end.

mod support;

use std::time::Duration;

use support::process::{Server, Under};
use support::{Client, Host, REFRESH, SESSION, bearer, get, post};

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

/// A slow reader with a long pipeline behind it, when the process is told to end.
#[test]
fn what_is_answered_at_the_end_is_answered_whole() {
    for under in Under::ALL {
        let Some(mut server) = Server::under(under) else { continue };
        let mut client = Client::to(server.public);
        client.send(get("/", "").repeat(500));
        std::thread::sleep(Duration::from_millis(200));
        server.signal("TERM");
        let mut answers = 0;
        let last = loop {
            let answer = client.answer();
            assert_eq!(answer.status, 200, "{}", under.name());
            answers += 1;
            if answer.closes() {
                break answer;
            }
        };
        assert!(last.closes() && answers < 500, "{}: {answers}", under.name());
        client.assert_ended(2_000);
        assert_eq!(server.wait_end(5_000), Some(0), "{}", under.name());
    }
}
