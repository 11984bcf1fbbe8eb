//! Every write that comes in through HTTP, over the simulator: what is taken, what is refused and how, and that an answer
//! comes after the disk. A failing seed is printed; `ONECODE_TEST_SEED=N` runs that one alone.

mod support;

use onecode::code::claims::{CodeBuffer, CodeRequest};
use onecode::journal::Record;
use onecode::limits::{RECEIVE_BYTES_MAX, STREAM_SLICE_BYTES};
use onecode::registry::demo;
use onecode::service::callers::Callers;
use onecode::service::device::Kind;
use onecode::shard::Next;
use onecode::words::Status;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::lines::*;
use support::simulated::{RESIDENTS, START, Simulated, settings_for};
use support::{Host, REFRESH, SESSION, bearer, get, take_answer, take_chunks};

#[test]
fn a_line_is_applied_on_every_shard_before_it_is_answered() {
    let process = process(0);
    let body = status_line(1, "red", version(1)) + &status_line(2, "yellow", version(1));
    assert_eq!(ask_lines(&process, &body), ["done", "done"]);
    for shard in 0..2 {
        assert_eq!(shown(&process, shard, 1).unwrap(), "red");
        assert_eq!(shown(&process, shard, 2).unwrap(), "yellow");
        assert_eq!(shown(&process, shard, 3).unwrap(), "green", "nothing was said of them");
    }
    // Said again, and something older: neither is news, and neither does harm.
    let body = status_line(1, "green", version(1)) + &status_line(2, "green", version(0));
    assert_eq!(ask_lines(&process, &body), ["ignored", "ignored"]);
    assert_eq!(shown(&process, 0, 1).unwrap(), "red");
    let ignored: u64 = process.counters.iter().map(|counters| counters.statuses_ignored.get()).sum();
    assert_eq!(ignored, 2);
}

#[test]
fn residents_are_added_named_by_number_and_removed() {
    let process = process(0);
    let new = RESIDENTS + 1;
    let by_number =
        |status: &str, more| format!("{}\n", json!({"resident": hex(new), "status": status, "version": version(more)}));
    assert_eq!(ask_lines(&process, &by_number("red", 1)), ["unknown-resident"]);
    let added =
        json!({"id_number": id_number(new), "status": "green", "version": version(2), "test": true, "region": 610_102});
    assert_eq!(ask_lines(&process, &added.to_string()), ["done"], "a last line needs no line end");
    assert_eq!(process.registry.read(number(new)).unwrap().region, 610_102);
    assert_eq!(ask_lines(&process, &by_number("red", 3)), ["done"]);
    assert_eq!(shown(&process, 0, new).unwrap(), "red");
    let remove = |more| format!("{}\n", json!({"resident": hex(new), "remove": true, "version": version(more)}));
    assert_eq!(ask_lines(&process, &remove(3)), ["ignored"], "no newer than what stands");
    assert_eq!(ask_lines(&process, &remove(4)), ["done"]);
    assert_eq!(shown(&process, 1, new), None);
    assert_eq!(ask_lines(&process, &status_line(new, "green", version(2))), ["ignored"], "a replay brings nobody back");
    assert_eq!(ask_lines(&process, &status_line(new, "green", version(5))), ["done"]);
    assert_eq!(shown(&process, 1, new).unwrap(), "green");
}

#[test]
fn what_an_upload_adds_its_later_lines_must_fit() {
    let process = process(0);
    let line = |n: u32, status: &str, more: u64, test: bool| {
        format!("{}\n", json!({"id_number": id_number(n), "status": status, "version": version(more), "test": test}))
    };
    for (n, test) in [(RESIDENTS + 1, false), (RESIDENTS + 2, true)] {
        let body = line(n, "red", 1, test) + &line(n, "yellow", 2, !test) + &line(n, "green", 3, test);
        assert_eq!(ask_lines(&process, &body), ["done", "test-mark-differs", "done"]);
        assert_eq!(process.registry.read(number(n)).unwrap().test, test);
        assert_eq!(ask_lines(&process, &line(n, "red", 4, !test)), ["test-mark-differs"]);
    }
}

#[test]
fn a_bad_line_is_told_by_its_number_and_the_others_go_on() {
    let process = process(0);
    let id = id_number(1);
    let mut wrong_check = id.clone();
    let last = if wrong_check.pop() == Some('1') { '2' } else { '1' };
    wrong_check.push(last);
    let line = |value: Value| value.to_string();
    let mixed = json!({"id_number": id, "resident": hex(1), "status": "red", "version": 1});
    let cases = [
        (line(json!({"id_number": wrong_check, "status": "red", "version": 1})), "id-number-malformed"),
        (line(json!({"id_number": "", "status": "red", "version": 1})), "id-number-malformed"),
        (line(json!({"id_number": id, "status": "red", "version": "1"})), "line-malformed"),
        (line(json!({"id_number": id, "status": "red", "version": -1})), "line-malformed"),
        (line(json!({"id_number": id, "status": "red", "version": 1.5})), "line-malformed"),
        (line(json!({"id_number": id, "status": "red"})), "line-malformed"),
        (line(json!({"id_number": id, "version": 1})), "line-malformed"),
        (line(json!({"id_number": id, "status": "RED", "version": 1})), "line-malformed"),
        (line(json!({"id_number": id, "status": "red", "version": 1, "remove": true})), "line-malformed"),
        (line(json!({"id_number": id, "status": "red", "version": 1, "colour": "x"})), "line-malformed"),
        (line(json!({"id_number": id, "status": "red", "version": version(2 * 86_400_000)})), "version-ahead"),
        (line(json!({"id_number": id, "status": "red", "version": 1, "region": 1_000_000})), "line-malformed"),
        (line(json!({"id_number": id, "status": "red", "version": 1, "reason": "x".repeat(256)})), "text-refused"),
        (line(json!({"id_number": id, "status": "red", "version": 1, "reason": format!("of {id}")})), "text-refused"),
        (line(json!({"id_number": id, "status": "red", "version": version(9), "test": false})), "test-mark-differs"),
        (line(json!({"tube": "T1", "status": "red", "version": 1})), "tube-not-supported"),
        (line(json!({"resident": "12", "status": "red", "version": 1})), "line-malformed"),
        (line(json!({"status": "red", "version": 1})), "line-malformed"),
        (line(mixed), "line-malformed"),
        ("{".to_owned(), "line-malformed"),
        ("\u{0}".to_owned(), "line-malformed"),
        ("[]".to_owned(), "line-malformed"),
        (
            format!("{{\"id_number\":\"{id}\",\"id_number\":\"{id}\",\"status\":\"red\",\"version\":1}}"),
            "line-malformed",
        ),
        ("x".repeat(4_097), "line-too-long"),
        ("x".repeat(40_000), "line-too-long"),
    ];
    let body: String = cases.iter().map(|(line, _)| format!("{line}\n")).collect();
    let whole = format!("{body}\r\n  \n{}", status_line(2, "red", version(1)));
    let answer = process.client_of(process.admin).ask(lines(RESIDENTS_PATH, NDJSON, &whole));
    let wanted: Vec<&str> = cases.iter().map(|(_, word)| *word).chain(["done"]).collect();
    assert_eq!(results(&answer), wanted);
    assert!(!answer.text().contains(&id[..17]), "an answer holds no ID number");
    assert!(answer.text().ends_with(&format!("{{\"line\":{},\"result\":\"done\"}}\n", cases.len() + 3)));
    for (_, record) in &process.sim.borrow().disk.log {
        let holds = |id: &str| record.windows(17).any(|part| part == &id.as_bytes()[..17]);
        assert!(!holds(&id) && !holds(&id_number(2)), "the journal holds no ID number");
    }
    assert_eq!(shown(&process, 0, 1).unwrap(), "green");
}

#[test]
fn what_is_no_stream_of_lines_is_refused_as_a_whole() {
    let process = process(0);
    let ask = |request: String| process.client_of(process.admin).ask(request);
    let line = status_line(1, "red", version(1));
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        let answer = ask(lines(RESIDENTS_PATH, kind, &line));
        assert_eq!((answer.status, answer.problem().as_str()), (415, "content-type-wrong"));
    }
    for kind in ["application/json", "Application/X-NDJSON; charset=utf-8", "application/jsonl"] {
        assert_eq!(ask(lines(RESIDENTS_PATH, &format!("Content-Type: {kind}\r\n"), "\n")).status, 200, "{kind}");
    }
    assert_eq!(ask(lines(RESIDENTS_PATH, NDJSON, "")).problem(), "body-malformed");
    let wrong_method = |method: &str| ask(lines(RESIDENTS_PATH, NDJSON, &line).replacen("POST", method, 1));
    assert_eq!(wrong_method("PUT").status, 405);
    assert_eq!(wrong_method("DELETE").field("Allow"), Some("POST, OPTIONS"));
    let mut head = process.client_of(process.admin);
    head.send(format!("HEAD {RESIDENTS_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
    assert_eq!(head.answer_to_head().status, 405);
    let foreign = format!("{NDJSON}Origin: http://evil.example\r\n");
    assert_eq!(ask(lines(RESIDENTS_PATH, &foreign, &line)).problem(), "origin-refused");
    // The public listener has none of it.
    assert_eq!(process.client_of(0).ask(lines(RESIDENTS_PATH, NDJSON, &line)).status, 404);
    assert_eq!(shown(&process, 0, 1).unwrap(), "green");
}

#[test]
fn answers_flow_while_the_body_still_arrives_and_another_request_may_follow() {
    for_seeds(50, |seed| {
        let process = process(seed);
        process.sim.borrow_mut().disk.sync_ms_max = 3;
        let client = process.sim.borrow_mut().connect(process.admin).unwrap();
        let send = |text: &str| process.sim.borrow_mut().send(client, text.as_bytes());
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let head =
            format!("POST {RESIDENTS_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{NDJSON}Transfer-Encoding: chunked\r\n\r\n");
        send(&head);
        let mut received = Vec::new();
        for n in 1..=5 {
            let line = status_line(n, "red", version(1));
            // A line may fall into two chunks, and is answered once it has ended.
            let (first, rest) = line.split_at(20);
            send(&chunk(first));
            process.sim.borrow_mut().advance(20);
            let before = received.len();
            received.extend(process.sim.borrow_mut().take_received(client));
            assert_eq!(received.len(), before, "half a line is not answered");
            send(&chunk(rest));
            process.sim.borrow_mut().advance(20);
            received.extend(process.sim.borrow_mut().take_received(client));
            let wanted = format!("{{\"line\":{n},\"result\":\"done\"}}\n\r\n");
            assert!(received.ends_with(wanted.as_bytes()), "{}", String::from_utf8_lossy(&received));
        }
        send(&format!("0\r\n\r\n{}", get("/healthz", "").replace("test", "127.0.0.1")));
        process.sim.borrow_mut().settle();
        received.extend(process.sim.borrow_mut().take_received(client));
        let answer = take_answer(&mut received, false).unwrap();
        assert_eq!(results(&answer), ["done"; 5]);
        assert_eq!(take_answer(&mut received, false).unwrap().text(), "ok\n");
        assert!(received.is_empty());
    });
}

#[test]
fn http_1_0_is_answered_without_chunks_and_closed() {
    let process = process(0);
    let body = status_line(1, "red", version(1)) + &status_line(2, "red", version(1));
    let request =
        lines(RESIDENTS_PATH, &format!("{NDJSON}Connection: keep-alive\r\n"), &body).replace("HTTP/1.1", "HTTP/1.0");
    let mut sim = process.sim.borrow_mut();
    let client = sim.connect(process.admin).unwrap();
    sim.send(client, request.as_bytes());
    sim.settle();
    let received = String::from_utf8(sim.take_received(client)).unwrap();
    let (head, body) = received.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("Connection: close") && !head.contains("Transfer-Encoding") && !head.contains("Content-Length")
    );
    assert_eq!(told(body), ["done"; 2]);
    assert!(sim.is_server_done(client));
}

#[test]
fn a_long_stream_is_answered_in_order_however_it_is_cut() {
    let count = 3_000;
    let body: String = (0..count)
        .map(|n: u32| match n % 7 {
            0 => "{}\n".to_owned(),
            _ => status_line(n % RESIDENTS + 1, "yellow", version(u64::from(n))),
        })
        .collect();
    for_seeds(10, |seed| {
        let process = process(seed);
        process.sim.borrow_mut().disk.sync_ms_max = seed % 4;
        let client = process.sim.borrow_mut().connect(process.admin).unwrap();
        process.sim.borrow_mut().send(client, lines(RESIDENTS_PATH, NDJSON, &body).as_bytes());
        process.sim.borrow_mut().advance(3_000);
        let mut received = process.sim.borrow_mut().take_received(client);
        let answer = take_answer(&mut received, false).expect("a whole answer");
        let results = results(&answer);
        assert_eq!(results.len(), count as usize);
        for (n, result) in results.iter().enumerate() {
            assert_eq!(result, if n % 7 == 0 { "line-malformed" } else { "done" }, "line {}", n + 1);
        }
    });
}

#[test]
fn a_sender_is_held_back_while_too_many_lines_wait() {
    let process = process(0);
    process.sim.borrow_mut().disk.sync_ms_max = 1_000_000;
    let body = "{}\n".repeat(200_000);
    let mut sim = process.sim.borrow_mut();
    let client = sim.connect(process.admin).unwrap();
    // The audit of the call is not on disk, so no line is answered.
    sim.send(client, lines(RESIDENTS_PATH, NDJSON, &body).as_bytes());
    sim.settle();
    let read: u64 = process.counters.iter().map(|counters| counters.received_bytes.get()).sum();
    assert!(read < 32_768, "{read} bytes were read of {}", body.len());
    // Until the journal is late: nothing of it is told as done.
    sim.advance(5_200);
    let mut received = sim.take_received(client);
    let answer = take_answer(&mut received, false).unwrap();
    assert_eq!((answer.status, answer.problem().as_str()), (503, "journal-late"));
    assert!(answer.field("Retry-After").is_some() && answer.closes());
}

#[test]
fn a_stalled_or_broken_body_ends_and_what_was_told_stays() {
    let process = process(0);
    let first = status_line(1, "red", version(1));
    let begin = |body: &str| {
        let head = format!("POST {RESIDENTS_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{NDJSON}");
        format!("{head}Content-Length: 100000\r\n\r\n{body}")
    };
    let mut sim = process.sim.borrow_mut();
    let open = |sim: &mut support::sim::Sim<support::disk::Disk>, request: &str| {
        let client = sim.connect(process.admin).unwrap();
        sim.send(client, request.as_bytes());
        sim.settle();
        client
    };
    let [stalled, silent] = [begin(&first), begin("")].map(|request| open(&mut sim, &request));
    sim.advance(4_800);
    assert!(!sim.is_server_done(stalled) && !sim.is_server_done(silent));
    sim.advance(500);
    let received = String::from_utf8(sim.take_received(stalled)).unwrap();
    let (_, body) = received.split_once("\r\n\r\n").unwrap();
    assert!(body.contains("{\"line\":1,\"result\":\"done\"}"));
    assert!(body.contains("{\"line\":2,\"result\":\"error\",\"type\":\"urn:onecode:problem:request-timeout\"}"));
    assert!(take_chunks(body.as_bytes()).is_none(), "without its last chunk it is not whole");
    assert!(sim.is_server_done(stalled));
    assert!(sim.take_received(silent).starts_with(b"HTTP/1.1 408 "));
    // An end in the midst of the body, of a line; and a chunk that is none.
    let cut = open(&mut sim, &begin(&(first.clone() + "{\"id_number\":")));
    sim.end(cut);
    sim.settle();
    let received = String::from_utf8(sim.take_received(cut)).unwrap();
    assert!(
        received.contains("\"line\":1,\"result\":\"ignored\"") && received.contains(":body-truncated\""),
        "{received}"
    );
    assert!(!received.ends_with("0\r\n\r\n") && sim.is_closed(cut));
    let head =
        format!("POST {RESIDENTS_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{NDJSON}Transfer-Encoding: chunked\r\n\r\n");
    let broken = open(&mut sim, &format!("{head}{:x}\r\n{first}\r\nzz\r\n", first.len()));
    let received = String::from_utf8(sim.take_received(broken)).unwrap();
    assert!(received.contains(":bad-chunk-size\"") && sim.is_server_done(broken), "{received}");
    let broken = open(&mut sim, &format!("{head}zz\r\n"));
    assert!(sim.take_received(broken).starts_with(b"HTTP/1.1 400 "));
}

#[test]
fn tokens_open_what_their_scopes_say_and_every_call_is_in_the_audit() {
    let token = |name: &str, scopes: &str| {
        let hash: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[token]]\nname = \"{name}\"\nscopes = [{scopes}]\nsha256 = \"{hash}\"\n")
    };
    let callers = Callers::from_toml(&(token("lab", "\"residents\"") + &token("ops", "\"read\""))).unwrap();
    let process = Simulated::with(0, settings_for(None, callers), 2, 4_096);
    let admin = |request: String| process.client_of(process.admin).ask(request.replace("test\r\n", "127.0.0.1\r\n"));
    let body = status_line(1, "red", version(1));
    let with = |name: &str| format!("{NDJSON}{}", bearer(name));
    let refused = admin(lines(RESIDENTS_PATH, NDJSON, &body));
    assert_eq!((refused.status, refused.problem().as_str()), (401, "token-missing"));
    assert_eq!(refused.field("WWW-Authenticate"), Some("Bearer"));
    assert_eq!(admin(lines(RESIDENTS_PATH, &with("nobody"), &body)).problem(), "token-invalid");
    let refused = admin(lines(RESIDENTS_PATH, &with("ops"), &body));
    assert_eq!((refused.status, refused.problem().as_str()), (403, "scope-missing"));
    assert_eq!(results(&admin(lines(RESIDENTS_PATH, &with("lab"), &body))), ["done"]);
    let lookup = lines(
        "/admin/residents/lookup",
        &format!("Content-Type: application/json\r\n{}", bearer("lab")),
        &json!({"id_number": id_number(1)}).to_string(),
    );
    let found = admin(lookup).json();
    assert_eq!(
        (found["resident"].as_str().unwrap(), found["history"][0]["author"].as_str().unwrap()),
        (hex(1).as_str(), "lab")
    );
    for path in ["/metrics", "/status.json", "/admin/audit"] {
        assert_eq!(admin(get(path, "")).status, 401, "{path}");
        assert_eq!(admin(get(path, &bearer("lab"))).status, 403, "{path}");
        assert_eq!(admin(get(path, &bearer("ops"))).status, 200, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(admin(get(path, "")).status, 200, "{path}");
    }
    let audit = admin(get("/admin/audit", &bearer("ops"))).json();
    let told: Vec<_> = audit
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (entry["author"].as_str().unwrap(), entry["action"].as_str().unwrap(), entry["detail"].as_str().unwrap())
        })
        .collect();
    let wanted = [
        ("lab", "POST /admin/residents/lookup", hex(1)),
        ("lab", "POST /admin/residents", String::new()),
        ("ops", "POST /admin/residents", "refused: scope-missing".to_owned()),
    ];
    assert_eq!(
        told,
        wanted.each_ref().map(|(author, action, detail)| (*author, *action, detail.as_str())),
        "newest first"
    );
    let on_disk = records(&process, |record| matches!(record, Record::Audit { .. }).then_some(()));
    assert_eq!(on_disk.len(), 3, "and nothing of strangers");
    assert_eq!(admin(get("/admin/audit?limit=1", &bearer("ops"))).json().as_array().unwrap().len(), 1);
    for limit in ["0", "x", "4097", "-1", ""] {
        assert_eq!(admin(get(&format!("/admin/audit?limit={limit}"), &bearer("ops"))).problem(), "query-unknown");
    }
}

#[test]
fn a_lookup_tells_the_history_newest_first_and_no_id_number() {
    let process = process(0);
    let statement = |status: &str, more, reason: &str| {
        format!(
            "{}\n",
            json!({"id_number": id_number(5), "status": status, "version": version(more), "reason": reason})
        )
    };
    ask_lines(&process, &(statement("yellow", 1, "contact") + &statement("red", 2, "阳性")));
    let ask = |body: Value| {
        let request = lines("/admin/residents/lookup", "Content-Type: application/json\r\n", &body.to_string());
        process.client_of(process.admin).ask(request)
    };
    let by_id = ask(json!({"id_number": id_number(5)}));
    let found = by_id.json();
    assert_eq!((found["status"].as_str(), found["version"].as_u64()), (Some("red"), Some(version(2))));
    let history: Vec<_> = found["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            (change["status"].as_str().unwrap(), change["reason"].as_str().unwrap(), change["author"].as_str().unwrap())
        })
        .collect();
    assert_eq!(history, [("red", "阳性", "local"), ("yellow", "contact", "local")]);
    assert!(!by_id.text().contains(&id_number(5)[..17]));
    assert_eq!(ask(json!({"resident": hex(5)})).json(), found);
    assert_eq!(ask(json!({"id_number": id_number(6)})).json()["history"], json!([]));
    let unknown = ask(json!({"id_number": id_number(RESIDENTS + 9)}));
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "unknown-resident"));
    for (body, word) in [
        (json!({}), "body-malformed"),
        (json!({"id_number": "1"}), "id-number-malformed"),
        (json!({"resident": "1"}), "body-malformed"),
        (json!({"id_number": id_number(5), "resident": hex(5)}), "body-malformed"),
        (json!({"id_number": id_number(5), "more": 1}), "body-malformed"),
    ] {
        assert_eq!(ask(body).problem(), word);
    }
    let wrong_type = lines("/admin/residents/lookup", "Content-Type: text/plain\r\n", "{}");
    assert_eq!(process.client_of(process.admin).ask(wrong_type).status, 415);
}

/// A code of demo resident `n`, as it is at the start.
fn code(n: u32, version: u64, iat: u64, status: Status, test: bool) -> String {
    let mut code = CodeBuffer::default();
    let iat = u32::try_from(iat).unwrap();
    let request = CodeRequest { resident: number(n), version, status, iat, exp: iat + 120, test };
    SETTINGS.issuer.write(&request, &SETTINGS.issuer.sign(&request), &mut code);
    code.as_str().to_owned()
}

fn verify_request(process: &Simulated, code: &str) -> String {
    let fields = format!("Content-Type: application/json\r\n{}", bearer(&process.device(Kind::Scanner)));
    lines("/scan/verify", &fields, &json!({"code": code, "place": "north gate"}).to_string())
}

#[test]
fn a_scan_has_its_verdict_and_its_record() {
    let process = process(0);
    let now = START.unix_s();
    let ask = |code: &str| process.client_of(1).ask(verify_request(&process, code));
    let good = code(1, START.unix_ms, now, Status::Green, true);
    let cases = [
        (good.clone(), "valid"),
        (code(1, START.unix_ms, now - 300, Status::Green, true), "expired"),
        (code(1, START.unix_ms, now + 300, Status::Green, true), "not_yet_valid"),
        (code(RESIDENTS + 5, START.unix_ms, now, Status::Green, true), "unknown_resident"),
        ("OC1:".to_owned(), "malformed"),
        ("hello".to_owned(), "malformed"),
    ];
    let mut sizes = Vec::new();
    for (code, result) in &cases {
        let answer = ask(code);
        let verdict = answer.json();
        assert_eq!(verdict["result"], *result);
        assert_eq!(verdict["recorded"], true);
        // All residents here are test residents; who is none is known by the key alone, and here both keys are one.
        assert_eq!(verdict["env"] == "test", !matches!(*result, "malformed" | "unknown_resident"), "{verdict}");
        sizes.push(answer.body.len());
    }
    assert!(sizes.windows(2).all(|two| two[0] == two[1]), "all results have one size: {sizes:?}");
    let scans = records(&process, |record| match *record {
        Record::Scan { result, place, device, test, at_ms, .. } => {
            Some((result.to_owned(), place.to_owned(), device.to_owned(), test, at_ms / 1_000 == now))
        }
        _ => None,
    });
    let wanted: Vec<_> = cases
        .iter()
        .map(|(_, result)| {
            (
                (*result).to_owned(),
                "north gate".to_owned(),
                "scanner-0000000000000007".to_owned(),
                !matches!(*result, "malformed" | "unknown_resident"),
                true,
            )
        })
        .collect();
    assert_eq!(scans, wanted);
    // What counts is what stands now, not what the code said when it was signed.
    ask_lines(&process, &status_line(1, "red", version(1)));
    assert_eq!(ask(&good).json()["status"], "red");
}

#[test]
fn a_verdict_never_fails_on_the_disk() {
    let good = code(1, START.unix_ms, START.unix_s(), Status::Green, true);
    // A journal that has failed, and one that is late.
    for (fails_after, sync_ms_max) in [(0, 0), (usize::MAX, 1_000_000)] {
        let process = process(3);
        {
            let mut sim = process.sim.borrow_mut();
            (sim.disk.fails_after, sim.disk.sync_ms_max) = (fails_after, sync_ms_max);
        }
        for _ in 0..2 {
            let began = process.elapsed_ms();
            let answer = process.client_of(0).ask(verify_request(&process, &good));
            assert_eq!(
                (answer.json()["result"].as_str(), answer.json()["recorded"].as_bool()),
                (Some("valid"), Some(false))
            );
            assert!(process.elapsed_ms() - began <= 1_200, "a door waits {} ms", process.elapsed_ms() - began);
        }
    }
}

#[test]
fn only_a_scanner_may_verify_and_only_devices_bring_records() {
    let process = process(0);
    let ask = |path: &str, fields: &str| process.client_of(0).ask(lines(path, fields, "{}"));
    let json = "Content-Type: application/json\r\n";
    let session = process.session(1);
    let expired = {
        let device = onecode::service::device::Device { id: 1, kind: Kind::Scanner, expires_unix_s: 1 };
        process.settings.device_key.mint(&device)
    };
    for path in ["/scan/verify", "/scan/records"] {
        assert_eq!(ask(path, json).problem(), "token-missing");
        assert_eq!(
            ask(path, &format!("{json}{}", bearer(&session))).problem(),
            "token-invalid",
            "a session is no token"
        );
        assert_eq!(ask(path, &format!("{json}{}", bearer(&expired))).problem(), "token-expired");
        let scanner = bearer(&process.device(Kind::Scanner));
        assert_eq!(ask(path, &scanner).problem(), "content-type-wrong");
    }
    assert_eq!(
        ask("/scan/verify", &format!("{json}{}", bearer(&process.device(Kind::Post)))).problem(),
        "scope-missing"
    );
    let refresh = get(REFRESH, &bearer(&process.device(Kind::Scanner)));
    assert_eq!(process.client_of(0).ask(refresh).problem(), "session-invalid", "and a token no session");
    let bad_id = "{\"code\":\"\",\"place\":\"\",\"id\":\"7\"}";
    for body in ["{}", "{\"code\":1,\"place\":\"\"}", "{\"code\":\"\",\"place\":\"\",\"x\":1}", bad_id, "", "null"] {
        let fields = format!("{json}{}", bearer(&process.device(Kind::Scanner)));
        let answer = process.client_of(0).ask(lines("/scan/verify", &fields, body));
        assert_eq!((answer.status, answer.problem().as_str()), (400, "body-malformed"), "{body}");
    }
}

/// A time at which scans were made.
const LOCALHOST: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const AT: u64 = 1_700_000_000_000;

fn scan_line(id: u128, at: u64, cti: [u8; 16], result: &str) -> String {
    let cti = u128::from_be_bytes(cti);
    format!(
        "{}\n",
        json!({"id": format!("{id:032x}"), "at": at, "place": "bus 7", "cti": format!("{cti:032x}"), "result": result})
    )
}

/// Many streams at once must not keep a refresh waiting for more than a slice of one of them.
#[test]
fn batches_are_read_in_slices_a_turn_and_all_of_them_in_the_end() {
    let process = process(0);
    let fields = format!("{NDJSON}{}", bearer(&process.device(Kind::Scanner)));
    let body: String = (0..100).map(|n| scan_line(n, AT + 77, [9; 16], "valid")).collect();
    let request = lines("/scan/records", &fields, &body);
    let taken = || process.counters[0].journal_appended.get();
    let most = (STREAM_SLICE_BYTES / scan_line(99, AT + 77, [9; 16], "valid").len()) as u64 + 1;
    let mut sim = process.sim.borrow_mut();
    let now = sim.now();
    let shard = sim.shard(0);
    let connections: Vec<_> = (0..3).map(|_| shard.handle_accept(now, LOCALHOST).unwrap()).collect();
    for id in &connections {
        for piece in request.as_bytes().chunks(RECEIVE_BYTES_MAX) {
            shard.handle_received(now, *id, piece);
            assert!(matches!(shard.poll(now, *id), Next::ReceiveOrWake), "it may send on");
        }
    }
    assert!((1..=most).contains(&taken()), "{} of one turn", taken());
    let (mut turns, mut before) = (0, taken());
    while before < 300 {
        let rung: Vec<usize> = std::iter::from_fn(|| shard.poll_bell()).collect();
        assert!(rung.contains(&0), "it has more to do");
        shard.handle_messages(now);
        assert!((1..=most).contains(&(taken() - before)), "{} of one turn", taken() - before);
        (turns, before) = (turns + 1, taken());
    }
    assert!(turns >= 300 / most - 1);
    // Whose turn never came because it went meanwhile holds nobody up.
    let [gone, stays] = [0, 1].map(|_| shard.handle_accept(now, LOCALHOST).unwrap());
    [gone, stays].iter().for_each(|id| shard.handle_received(now, *id, request.as_bytes()));
    shard.handle_closed(gone, false, None);
    for _ in 0..100 {
        shard.handle_messages(now);
    }
    assert!(taken() >= 400);
}

#[test]
fn who_ends_after_the_last_line_has_all_of_them_answered() {
    for_seeds(20, |seed| {
        let process = process(seed);
        process.sim.borrow_mut().disk.sync_ms_max = 20;
        let body: String = (0..2_500).map(|n| status_line(n % RESIDENTS + 1, "red", version(u64::from(n)))).collect();
        let mut sim = process.sim.borrow_mut();
        let client = sim.connect(process.admin).unwrap();
        sim.send(client, lines(RESIDENTS_PATH, NDJSON, &body).as_bytes());
        sim.end(client);
        sim.advance(3_000);
        let mut received = sim.take_received(client);
        let answer = take_answer(&mut received, false).expect("a whole answer");
        assert_eq!(results(&answer).len(), 2_500);
        assert!(sim.is_closed(client));
    });
}

#[test]
fn scans_are_kept_as_they_came_and_may_come_twice() {
    let process = process(0);
    let fields = format!("{NDJSON}{}", bearer(&process.device(Kind::Post)));
    let ask = |body: &str| process.client_of(1).ask(lines("/scan/records", &fields, body));
    let body = scan_line(1, AT + 77, [9; 16], "valid") + &scan_line(2, AT + 78, [8; 16], "expired");
    assert_eq!(results(&ask(&body)), ["done", "done"]);
    assert_eq!(results(&ask(&body)), ["done", "done"], "twice is as good as once");
    let uuid = body.lines().next().unwrap().replace(&format!("{:032x}", 1), "00000000-0000-0000-0000-000000000001");
    assert_eq!(results(&ask(&uuid)), ["done"]);
    let scans = records(&process, |record| match *record {
        Record::Scan { id, at_ms, cti, result, device, received_ms, .. } => {
            assert!(received_ms >= START.unix_ms);
            Some((u128::from_be_bytes(id), at_ms - AT, cti[0], result.to_owned(), device.starts_with("post-")))
        }
        _ => None,
    });
    let [first, second] = [(1, 77, 9, "valid".to_owned(), true), (2, 78, 8, "expired".to_owned(), true)];
    assert_eq!(scans, [first.clone(), second.clone(), first.clone(), second, first]);
    // Once test data was removed, only the scanner knows that the code was a test's.
    let marked = scan_line(4, AT + 79, [7; 16], "valid").replace("\"at\"", "\"test\":true,\"at\"");
    assert_eq!(results(&ask(&marked)), ["done"]);
    let tests = records(&process, |record| match *record {
        Record::Scan { id, test, .. } => test.then_some(u128::from_be_bytes(id)),
        _ => None,
    });
    assert_eq!(tests, [4]);
    let good = scan_line(3, AT + 1, [1; 16], "valid");
    let dated = |at: u64| scan_line(3, at, [1; 16], "valid");
    let day_ahead = START.unix_ms + 86_400_000;
    // Seconds, the year 1970, and a clock that is years ahead are no times of a scan.
    let times = [0, START.unix_s(), 1_577_836_799_999, 1_577_836_800_000, day_ahead, day_ahead + 60_000, u64::MAX];
    let words = results(&ask(&times.map(dated).concat()));
    let refused = "time-refused";
    assert_eq!(words, [refused, refused, refused, "done", "done", refused, refused]);
    for bad in [
        marked.replace("true", "1"),
        good.replace("valid", "fine"),
        good.replace(&format!("\"at\":{}", AT + 1), "\"at\":\"1\""),
        good.replace(&format!("\"at\":{},", AT + 1), ""),
        good.replace("bus 7", &"x".repeat(300)),
        good.replace("\"place\"", "\"places\""),
        good.replace("0101", "01"),
        good.replace("0101", "0g01"),
    ] {
        let words = results(&ask(&(bad.clone() + &good)));
        assert!(
            matches!(words[0].as_str(), "line-malformed" | "text-refused") && words[1] == "done",
            "{bad}: {words:?}"
        );
    }
}

#[test]
fn signing_out_is_on_disk_before_it_is_answered() {
    let process = process(0);
    let session = process.session(3);
    let sign_out = get(SESSION, &bearer(&session)).replace("GET", "DELETE");
    assert_eq!(process.client_of(0).ask(&sign_out).status, 204);
    let sessions = records(&process, |record| match *record {
        Record::Sessions { resident, session, test } => Some((resident, session, test)),
        _ => None,
    });
    assert_eq!(sessions, [(number(3), 1, true)]);
    // Without a disk nobody is signed out, and nobody is told so.
    process.sim.borrow_mut().disk.fails_after = 0;
    let session = process.session(4);
    let sign_out = get(SESSION, &bearer(&session)).replace("GET", "DELETE");
    for _ in 0..2 {
        let answer = process.client_of(0).ask(&sign_out);
        assert_eq!((answer.status, answer.problem().as_str()), (503, "journal-failed"));
    }
    assert_eq!(process.client_of(0).ask(get(REFRESH, &bearer(&session))).status, 200, "reads go on");
}

#[test]
fn a_failed_journal_refuses_writes_and_says_so_where_operators_look() {
    let process = process(0);
    process.sim.borrow_mut().disk.fails_after = 3;
    let ask = |body: &str| process.client_of(process.admin).ask(lines(RESIDENTS_PATH, NDJSON, body));
    assert_eq!(results(&ask(&status_line(1, "red", version(1)))), ["done"]);
    let ready = |shard: usize| process.client_of(shard).ask(get("/readyz", "").replace("test", "127.0.0.1"));
    assert_eq!(ready(process.admin).status, 200);
    loop {
        let answer = ask(&status_line(2, "red", version(1)));
        if answer.status == 503 {
            assert_eq!(answer.problem(), "journal-failed");
            break;
        }
    }
    assert_eq!(ready(process.admin).problem(), "journal-failed");
    assert_eq!(ready(0).problem(), "not-ready", "the reason is told to operators only");
    let lookup = lines(
        "/admin/residents/lookup",
        "Content-Type: application/json\r\n",
        &json!({"resident": hex(1)}).to_string(),
    );
    assert_eq!(
        process.client_of(process.admin).ask(lookup).problem(),
        "journal-failed",
        "a call that is in no audit is none"
    );
    for path in ["/admin/audit", "/status.json", "/metrics"] {
        let reads = process.client_of(process.admin).ask(get(path, "").replace("test", "127.0.0.1"));
        assert_eq!(reads.status, 200, "{path} needs no record");
    }
    assert_eq!(shown(&process, 0, 1).unwrap(), "red");
    assert_eq!(shown(&process, 0, 3).unwrap(), "green");
}

/// A rehearsal: the same lines with the mark, then without it. Neither the payload of this window nor a signature that was
/// made ahead for the next one may be taken for the new statement.
#[test]
fn what_comes_again_after_test_data_went_is_shown_at_once_and_signed_anew() {
    let process = process(0);
    let line = |status: &str, test: bool| {
        json!({"id_number": id_number(1), "status": status, "version": version(5), "test": test}).to_string()
    };
    assert_eq!(ask_lines(&process, &line("yellow", true)), ["done"]);
    let refreshed = |shard| process.client_of(shard).ask(process.refresh(1)).json();
    let before = refreshed(0);
    assert_eq!((before["status"].as_str(), before["env"].as_str()), (Some("yellow"), Some("test")));
    // Until it is due, and signed for ahead.
    let due_unix_s = before["refresh_at"].as_u64().unwrap();
    while process.sim.borrow().now().unix_s() + 1 < due_unix_s {
        process.sim.borrow_mut().advance(100);
    }
    let now = process.sim.borrow().now();
    while process.sim.borrow_mut().shard(0).service.has_work_ahead(now) {
        process.sim.borrow_mut().shard(0).service.work_ahead(now);
    }
    assert!(process.counters[0].ahead_signatures.get() > 0);
    assert_eq!(refreshed(1)["status"], "yellow");
    let purge = get("/admin/test-data", "").replace("GET", "DELETE").replace("test\r\n", "127.0.0.1\r\n");
    assert_eq!(process.client_of(process.admin).ask(&purge).status, 200);
    assert_eq!(ask_lines(&process, &line("red", false)), ["done"]);
    let verified = |code: &Value| {
        let request = verify_request(&process, code.as_str().unwrap());
        process.client_of(0).ask(request).json()["result"].as_str().unwrap().to_owned()
    };
    for shard in [0, 1] {
        let after = refreshed(shard);
        assert_eq!((after["status"].as_str(), after.get("env")), (Some("red"), None), "shard {shard}");
        assert_eq!(verified(&after["code"]), "valid");
    }
    while process.sim.borrow().now().unix_s() < due_unix_s {
        process.sim.borrow_mut().advance(100);
    }
    let after = refreshed(1);
    assert_eq!((after["status"].as_str(), verified(&after["code"]).as_str()), (Some("red"), "valid"));
}

#[test]
fn scans_that_may_have_been_taken_are_not_told_as_not_taken() {
    let process = process(0);
    process.sim.borrow_mut().disk.sync_ms_max = 1_000_000;
    let fields = format!("{NDJSON}{}", bearer(&process.device(Kind::Scanner)));
    for count in [1, 20] {
        let body: String = (0..count).map(|n| scan_line(n, START.unix_ms, [9; 16], "valid")).collect();
        let mut sim = process.sim.borrow_mut();
        let client = sim.connect(0).unwrap();
        sim.send(client, lines("/scan/records", &fields, &body).as_bytes());
        sim.advance(5_200);
        let answer = take_answer(&mut sim.take_received(client), false).unwrap();
        assert_eq!((answer.status, answer.problem().as_str()), (503, "journal-late"), "{count} lines");
    }
}

#[test]
fn test_data_goes_on_every_shard_and_nothing_else_does() {
    for_seeds(30, |seed| {
        let process = process(seed);
        process.sim.borrow_mut().disk.sync_ms_max = 5;
        let real = RESIDENTS + 1;
        let settings = &process.settings;
        let (resident, check) = settings.hash_key.number(&demo::id_number(real));
        assert_eq!(ask_lines(&process, &status_line(real, "green", version(1))), ["done"]);
        assert_eq!(process.registry.read(resident).unwrap().check, check);
        let purge = get("/admin/test-data", "").replace("GET", "DELETE").replace("test\r\n", "127.0.0.1\r\n");
        let answer = process.client_of(process.admin).ask(&purge);
        assert_eq!((answer.status, answer.json()), (200, json!({"residents": RESIDENTS})));
        assert_eq!((process.registry.residents(), process.registry.test_len()), (1, 0));
        assert_eq!(process.client_of(process.admin).ask(&purge).json(), json!({"residents": 0}));
        let purged =
            records(&process, |record| matches!(record, Record::PurgeTest { author: "local", .. }).then_some(()));
        assert_eq!(purged.len(), 2);
        let added = json!({"id_number": id_number(1), "status": "red", "version": version(2), "test": true});
        assert_eq!(ask_lines(&process, &added.to_string()), ["done"], "and new ones may come");
    });
}

#[test]
fn a_full_registry_takes_no_one_new_and_says_so() {
    let process = process(0);
    let body: String = (1..=RESIDENTS + 1).map(|n| status_line(RESIDENTS + n, "green", version(1))).collect();
    let words = ask_lines(&process, &body);
    let (done, full) =
        (words.iter().filter(|word| *word == "done"), words.iter().filter(|word| *word == "registry-full"));
    assert_eq!((done.count(), full.count()), (RESIDENTS as usize, 1));
    let answer =
        process.client_of(process.admin).ask(lines(RESIDENTS_PATH, NDJSON, &status_line(9_999, "green", version(1))));
    assert_eq!((answer.status, answer.problem().as_str()), (503, "registry-full"));
    assert_eq!(ask_lines(&process, &status_line(1, "red", version(1))), ["done"], "who is known has a place");
}
