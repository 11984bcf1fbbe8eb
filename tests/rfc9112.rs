//! Every sentence of RFC 9112 that binds a server or a recipient: where the tests for it are, or why it cannot apply. Those
//! of the head alone are in `src/http/tests/rfc9112.rs`; here the real process answers.

mod support;

use std::path::Path;

use support::process::Server;
use support::{Answer, Client, Host, REFRESH, SESSION, get, post, take_answer};

/// How a requirement is met.
enum Met {
    /// By a branch that cites it and a test of this name.
    By(&'static str),
    /// It cannot be broken, and why.
    Never(&'static str),
}
use Met::{By, Never};

const REQUIREMENTS: [(&str, &str, Met); 39] = [
    (
        "2.2a",
        "octets are parsed as a superset of US-ASCII",
        By("rfc9112_2_2_a_octets_are_not_decoded_before_they_are_framed"),
    ),
    (
        "2.2b",
        "no bare CR is sent outside of content",
        By("rfc9112_2_2_b_d_answers_have_whole_lines_and_no_space_before_them"),
    ),
    ("2.2c", "a bare CR is refused", By("rfc9112_2_2_c_bare_cr_is_refused_everywhere")),
    (
        "2.2d",
        "no whitespace between start-line and fields is sent",
        By("rfc9112_2_2_b_d_answers_have_whole_lines_and_no_space_before_them"),
    ),
    ("2.2e", "such whitespace is refused", By("rfc9112_2_2_e_whitespace_before_the_first_field_is_refused")),
    ("3a", "a target that is too long gets 414", By("rfc9112_3_a_a_request_line_too_long_is_414")),
    ("3.2a", "Host missing, repeated or invalid gets 400", By("rfc9112_3_2_a_host_is_there_once_and_valid")),
    (
        "3.2.2a",
        "the host of an absolute target counts",
        By("rfc9112_3_2_2_a_the_host_of_an_absolute_target_replaces_host"),
    ),
    ("3.2.2b", "an absolute target is accepted", By("rfc9112_3_2_2_b_absolute_form_is_accepted")),
    ("4a", "the space behind the status is sent", By("rfc9112_4_a_a_space_follows_each_status")),
    ("5.1a", "whitespace before the colon gets 400", By("rfc9112_5_1_a_a_name_is_a_token_right_before_its_colon")),
    ("5.2a", "no folded field is sent", By("rfc9112_2_2_b_d_answers_have_whole_lines_and_no_space_before_them")),
    ("5.2b", "a folded field gets 400", By("rfc9112_5_2_b_folded_lines_are_refused")),
    ("6.1a", "chunked is understood", By("rfc9112_6_1_a_chunked_is_understood")),
    ("6.1b", "chunked is applied once", By("rfc9112_6_1_d_e_g_6_2_a_answers_have_one_framing_that_the_client_knows")),
    (
        "6.1c",
        "of a request with another coding chunked is the last",
        Never("binds the sender of a request; 6.3a is the other side"),
    ),
    (
        "6.1d",
        "an answer in another coding ends in chunked",
        By("rfc9112_6_1_d_e_g_6_2_a_answers_have_one_framing_that_the_client_knows"),
    ),
    (
        "6.1e",
        "no Transfer-Encoding in 1xx or 204",
        By("rfc9112_6_1_d_e_g_6_2_a_answers_have_one_framing_that_the_client_knows"),
    ),
    ("6.1f", "no Transfer-Encoding in a 2xx to CONNECT", Never("CONNECT gets 501")),
    (
        "6.1g",
        "no Transfer-Encoding to HTTP/1.0",
        By("rfc9112_6_1_d_e_g_6_2_a_answers_have_one_framing_that_the_client_knows"),
    ),
    (
        "6.1h",
        "Transfer-Encoding beside Content-Length ends the connection",
        By("rfc9112_6_1_h_length_and_encoding_together_are_refused"),
    ),
    ("6.1i", "Transfer-Encoding in HTTP/1.0 ends the connection", By("rfc9112_6_1_i_encoding_in_http_1_0_is_refused")),
    (
        "6.2a",
        "no Content-Length beside Transfer-Encoding is sent",
        By("rfc9112_6_1_d_e_g_6_2_a_answers_have_one_framing_that_the_client_knows"),
    ),
    (
        "6.3a",
        "a last coding other than chunked gets 400",
        By("rfc9112_6_3_a_encodings_that_do_not_end_in_one_chunked_are_refused"),
    ),
    (
        "6.3b",
        "a Content-Length that is not one number is an error",
        By("rfc9112_6_3_b_c_a_content_length_that_is_not_one_number_is_refused"),
    ),
    ("6.3c", "and gets 400 and the end", By("rfc9112_6_3_framing_errors_get_400_and_the_end")),
    (
        "6.3d",
        "a body cut short is incomplete and ends the connection",
        By("rfc9112_6_3_d_a_body_cut_short_changes_nothing"),
    ),
    ("7.1a", "chunked is decoded", By("rfc9112_7_1_chunked_bodies_mean_what_whole_ones_mean")),
    ("7.1b", "a huge chunk size does not overflow", By("rfc9112_7_1_b_huge_chunk_sizes_do_not_overflow")),
    ("7.1.1a", "unknown chunk extensions are ignored", By("rfc9112_7_1_chunked_bodies_mean_what_whole_ones_mean")),
    ("7.1.2a", "trailers that are kept are kept apart", Never("trailers are checked and dropped")),
    ("7.1.2b", "a trailer is merged only where that is defined", By("rfc9112_7_1_2_trailers_change_nothing")),
    ("9.3a", "without persistence every answer says close", Never("connections persist; where one does not, 9.6c")),
    (
        "9.3b",
        "a body is read whole, or the connection ends",
        By("rfc9112_9_3_b_a_body_that_is_not_read_ends_the_connection"),
    ),
    ("9.3.2a", "pipelined answers come in order", By("rfc9112_9_3_2_a_pipelined_answers_come_in_order")),
    (
        "9.6a",
        "a client's close ends the connection behind its answer",
        By("rfc9112_9_6_a_b_nothing_behind_close_is_handled"),
    ),
    ("9.6b", "and nothing behind it is handled", By("rfc9112_9_6_a_b_nothing_behind_close_is_handled")),
    ("9.6c", "our close ends the connection behind that answer", By("rfc9112_9_6_c_d_our_close_is_the_last_answer")),
    ("9.6d", "and nothing behind it is handled", By("rfc9112_9_6_c_d_our_close_is_the_last_answer")),
];

fn read(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_requirement_is_cited_and_tested_or_cannot_apply() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut src, mut tests) = (String::new(), std::fs::read_to_string(root.join("tests/rfc9112.rs")).unwrap());
    read(&root.join("src"), &mut src);
    tests.push_str(&src);
    for (id, what, met) in &REQUIREMENTS {
        match met {
            By(test) => {
                assert!(tests.contains(&format!("fn {test}()")), "{id}, {what}: there is no test {test}");
                let is_cited = [")", ","]
                    .iter()
                    .any(|end| ["(", " "].iter().any(|before| src.contains(&format!("{before}{id}{end}"))));
                assert!(is_cited, "{id}, {what}: no branch cites it");
            }
            Never(why) => assert!(!why.is_empty(), "{id}, {what}"),
        }
    }
}

/// All answers to these bytes, up to the end of the connection or of the client's.
fn answers(server: &Server, request: &str) -> Vec<Answer> {
    let mut client = server.client();
    client.send(request);
    client.finish_sending();
    let mut received = client.rest();
    let mut answers = Vec::new();
    while let Some(answer) = take_answer(&mut received, false) {
        answers.push(answer);
    }
    assert!(received.is_empty(), "{}", received.escape_ascii());
    answers
}

const CONTINUE: &str = "Expect: 100-continue\r\n";

/// One answer of each kind that there is.
fn kinds(server: &Server) -> Vec<Answer> {
    let json = "Content-Type: application/json\r\n";
    let requests = [
        get("/healthz", ""),
        get("/", "Accept-Encoding: gzip\r\n"),
        get("/", "Range: bytes=0-9\r\n"),
        get("/", "Range: bytes=99999999-\r\n"),
        get("/.well-known/jwks.json", ""),
        get("/nowhere", ""),
        get(REFRESH, ""),
        post(SESSION, r#"{"demo_resident":1}"#),
        post(SESSION, "{"),
        format!("OPTIONS {REFRESH} HTTP/1.1\r\nHost: h\r\n\r\n"),
        format!("PUT {REFRESH} HTTP/1.1\r\nHost: h\r\n\r\n"),
        "BREW / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        format!("POST {SESSION} HTTP/1.1\r\nHost: h\r\n{json}{CONTINUE}Content-Length: 19\r\n\r\n"),
        format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(3_000)),
        "GET / HTTP/1.1\r\nHost : h\r\n\r\n".to_owned(),
    ];
    let all: Vec<Answer> = requests.iter().flat_map(|request| answers(server, request)).collect();
    assert!(all.len() >= requests.len());
    all
}

#[test]
fn rfc9112_2_2_b_d_answers_have_whole_lines_and_no_space_before_them() {
    for answer in kinds(&Server::demo()) {
        let lines: Vec<&str> = answer.head.strip_suffix("\r\n\r\n").unwrap().split("\r\n").collect();
        assert!(lines.iter().all(|line| !line.contains(['\r', '\n', '\0'])), "{answer:?}");
        for field in &lines[1..] {
            let (name, _) = field.split_once(':').unwrap_or_else(|| panic!("{field}"));
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{field}");
        }
    }
}

#[test]
fn rfc9112_4_a_a_space_follows_each_status() {
    for answer in kinds(&Server::demo()) {
        let line = answer.head.lines().next().unwrap();
        let rest = line.strip_prefix("HTTP/1.1 ").unwrap();
        assert!(rest[..3].bytes().all(|b| b.is_ascii_digit()) && rest[3..].starts_with(' '), "{line}");
    }
}

#[test]
fn rfc9112_6_1_d_e_g_6_2_a_answers_have_one_framing_that_the_client_knows() {
    let server = Server::demo();
    for answer in kinds(&server) {
        let (length, encoding) = (answer.field("Content-Length"), answer.field("Transfer-Encoding"));
        match answer.status {
            100..200 | 204 | 304 => assert_eq!((length, encoding), (None, None), "{answer:?}"),
            _ => assert!(length.is_some() != encoding.is_some(), "{answer:?}"),
        }
        assert!(encoding.is_none_or(|encoding| encoding == "chunked"), "{answer:?}");
    }
    // The one answer whose length is not known when it begins.
    let line = r#"{"id_number":"x","status":"red","version":1}"#;
    let lines = |version: &str| {
        format!(
            "POST /admin/residents {version}\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 44\r\n\r\n{line}"
        )
    };
    let ask = |version| Client::to(server.admin).ask(lines(version));
    let chunked = ask("HTTP/1.1");
    assert_eq!((chunked.field("Transfer-Encoding"), chunked.field("Content-Length")), (Some("chunked"), None));
    let mut old = Client::to(server.admin);
    old.send(lines("HTTP/1.0"));
    let until_the_end = String::from_utf8(old.rest()).unwrap();
    assert!(
        !until_the_end.contains("Transfer-Encoding") && !until_the_end.contains("Content-Length"),
        "{until_the_end}"
    );
    assert!(until_the_end.contains("Connection: close") && until_the_end.ends_with("}\n"), "{until_the_end}");
}

#[test]
fn rfc9112_6_3_framing_errors_get_400_and_the_end() {
    let server = Server::demo();
    let behind = get("/healthz", "");
    for fields in [
        "Content-Length: x",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1, 2",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
    ] {
        let found = answers(&server, &format!("POST {SESSION} HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{behind}"));
        let [answer] = &found[..] else { panic!("{fields}: {found:?}") };
        assert!(matches!(answer.status, 400 | 501) && answer.closes(), "{fields}: {answer:?}");
    }
}

#[test]
fn rfc9112_6_3_d_a_body_cut_short_changes_nothing() {
    let server = Server::demo();
    let body = r#"{"demo_resident":1}"#;
    let cut = |framing: &str, body: &str| {
        answers(&server, &format!("POST {SESSION} HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n{body}"))
    };
    // Whole JSON, yet not the whole body.
    for (framing, body) in [
        ("Content-Length: 20", body.to_owned()),
        ("Transfer-Encoding: chunked", format!("13\r\n{body}\r\n")),
        ("Transfer-Encoding: chunked", format!("13\r\n{body}\r\n0\r\n")),
    ] {
        for answer in cut(framing, &body) {
            assert!(answer.status >= 400 && answer.closes(), "{framing}: {answer:?}");
        }
    }
}

#[test]
fn rfc9112_7_1_chunked_bodies_mean_what_whole_ones_mean() {
    let server = Server::demo();
    let chunked = |body: &str| {
        let request = format!("POST {SESSION} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        answers(&server, &(request + &get("/healthz", ""))).iter().map(|answer| answer.status).collect::<Vec<_>>()
    };
    for body in [
        "13\r\n{\"demo_resident\":1}\r\n0\r\n\r\n",
        "013\r\n{\"demo_resident\":1}\r\n00\r\n\r\n",
        "1\r\n{\r\n12\r\n\"demo_resident\":1}\r\n0\r\n\r\n",
        "13;name=value;x=\"a;b\"\r\n{\"demo_resident\":1}\r\n0;last\r\n\r\n",
    ] {
        assert_eq!(chunked(body), [200, 200], "{body}");
    }
    for wrong in ["13\n{", "x\r\n", "13 \r\n{", "-1\r\n", "0x13\r\n", "13\r\n{\"demo_resident\":1}x\r\n0\r\n\r\n"] {
        assert_eq!(chunked(wrong), [400], "{wrong}");
    }
}

#[test]
fn rfc9112_7_1_b_huge_chunk_sizes_do_not_overflow() {
    let server = Server::demo();
    for size in ["ffffffffffffffff", "10000000000000000", "1000000000000000000000000000005", "7fffffffffffffff"] {
        let head = format!("POST {SESSION} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n");
        let found = answers(&server, &format!("{head}{{}}\r\n0\r\n\r\n{}", get("/healthz", "")));
        let [answer] = &found[..] else { panic!("{size}: {found:?}") };
        assert!(matches!(answer.status, 400 | 413) && answer.closes(), "{size}: {answer:?}");
    }
}

#[test]
fn rfc9112_7_1_2_trailers_change_nothing() {
    let server = Server::demo();
    let body = "13\r\n{\"demo_resident\":1}\r\n0\r\nContent-Length: 5\r\nHost: evil\r\nConnection: close\r\n\r\n";
    let head = format!("POST {SESSION} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    let found = answers(&server, &format!("{head}{body}{}", get("/healthz", "")));
    assert_eq!(found.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200]);
}

#[test]
fn rfc9112_9_3_b_a_body_that_is_not_read_ends_the_connection() {
    let server = Server::demo();
    let refused = format!("POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n{}", get("/healthz", ""));
    let found = answers(&server, &refused);
    let [answer] = &found[..] else { panic!("{found:?}") };
    assert_eq!((answer.status, answer.closes()), (404, true));
}

#[test]
fn rfc9112_9_3_2_a_pipelined_answers_come_in_order() {
    let server = Server::demo();
    // One that waits for another shard stands before those that do not.
    let requests = [
        post(SESSION, r#"{"demo_resident":1}"#),
        get("/healthz", ""),
        get("/nowhere", ""),
        post(SESSION, "{"),
        get("/.well-known/jwks.json", ""),
    ];
    let statuses = |found: Vec<Answer>| found.iter().map(|answer| answer.status).collect::<Vec<_>>();
    assert_eq!(statuses(answers(&server, &requests.concat().repeat(3))), [200, 200, 404, 400, 200].repeat(3));
}

#[test]
fn rfc9112_9_6_a_b_nothing_behind_close_is_handled() {
    let server = Server::demo();
    let sign_in = post(SESSION, r#"{"demo_resident":1}"#);
    for last in [get("/healthz", "Connection: close\r\n"), get("/healthz", "Connection: x, CLOSE\r\n")] {
        let found = answers(&server, &(last + &sign_in));
        let [answer] = &found[..] else { panic!("{found:?}") };
        assert_eq!((answer.status, answer.closes()), (200, true));
    }
}

#[test]
fn rfc9112_9_6_c_d_our_close_is_the_last_answer() {
    let server = Server::demo();
    let found = answers(&server, &(get("/healthz", "A : b\r\n") + &get("/healthz", "").repeat(3)));
    let [answer] = &found[..] else { panic!("{found:?}") };
    assert_eq!((answer.status, answer.closes()), (400, true));
}
