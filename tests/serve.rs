//! The promises of `onecode serve`, made by the real process: what it refuses to start with, who is signed in, that a
//! code is a pure function, that keys turn without a restart, and what never reaches a log.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use coset::{CborSerializable, TaggedCborSerializable};
use onecode::code::base45;
use onecode::code::claims::Issuer;
use onecode::code::keyring::Keyring;
use onecode::registry::demo;
use onecode::registry::id_number::HashKey;
use serde_json::{Value, json};
use support::identity::{AUDIENCE, ISSUER, PROVIDER, Provider, claims, sign_in_body};
use support::process::{Server, onecode, run, run_badly, run_well};
use support::{Answer, Client, Host, REFRESH, SESSION, bearer, get, post, unix_s, wait_until};

/// A data folder with what lies beside it: the configuration, the provider's JWKS, a CSV file.
struct Site {
    outer: tempfile::TempDir,
}

impl Site {
    /// A site that signs people in by the provider.
    fn new() -> Site {
        let site = Site { outer: tempfile::tempdir().unwrap() };
        fs::write(site.path("jwks.json"), PROVIDER.jwks()).unwrap();
        let jwks = site.path("jwks.json");
        let config = format!(
            "[auth]\njwks_file = {jwks:?}\nissuer = {ISSUER:?}\naudience = {AUDIENCE:?}\nlogin_url = \"https://id.city.example/in\"\n"
        );
        fs::write(site.path("onecode.toml"), config).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.outer.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Imports residents in the order of `numbers`; the status of each follows from its number.
    fn import(&self, numbers: impl Iterator<Item = u32>, flags: &[&str]) {
        let mut csv = "id_number,status,updated_at\n".to_owned();
        for number in numbers {
            csv += &format!("{},{},1700000000000\n", id_number(number), demo::status(number).word());
        }
        fs::write(self.path("residents.csv"), csv).unwrap();
        run_well(onecode().arg("import").arg("--data").arg(self.data()).args(flags).arg(self.path("residents.csv")));
    }

    /// Serves with two shards.
    fn serve(&self) -> Server {
        let config = self.path("onecode.toml");
        Server::over(&self.data(), |command| {
            command.args(["--shards", "2", "--config"]).arg(config);
        })
    }
}

fn id_number(n: u32) -> String {
    String::from_utf8(demo::id_number(n).as_bytes().to_vec()).unwrap()
}

/// Assertions of the second of the start are refused: until this one is over there is nothing to sign in with.
fn wait_for_the_next_second() {
    let now_s = unix_s();
    wait_until("the next second", || unix_s() > now_s);
}

fn try_sign_in(server: &Server, assertion: &str) -> Answer {
    server.client().ask(post(SESSION, &sign_in_body(assertion)))
}

fn sign_in(server: &Server, number: u32, jti: &str) -> String {
    let answer = try_sign_in(server, &PROVIDER.assertion(&id_number(number), unix_s(), jti));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["session"].as_str().unwrap().to_owned()
}

fn refresh(server: &Server, session: &str) -> Answer {
    server.client().ask(get(REFRESH, &bearer(session)))
}

/// The problem that a session gets, or `None` where it gets a code.
fn refused(server: &Server, session: &str) -> Option<String> {
    let answer = refresh(server, session);
    (answer.status != 200).then(|| answer.problem())
}

fn code(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["code"].as_str().unwrap().to_owned()
}

/// What the code in an answer says, read by a stranger's CBOR library; and whose it is, by the keys of the data folder.
struct Opened {
    resident: u64,
    status: i128,
    kid: Vec<u8>,
}

fn opened(data: &Path, answer: &Answer) -> Opened {
    let code = code(answer);
    let mut bytes = [0; 512];
    let length = base45::decode(code.strip_prefix("OC1:").unwrap().as_bytes(), &mut bytes).unwrap();
    let sign1 = coset::CoseSign1::from_tagged_slice(&bytes[..length]).unwrap();
    let claims = coset::cwt::ClaimsSet::from_slice(&sign1.payload.unwrap()).unwrap();
    let keyring = Keyring::open(&data.join("keys")).unwrap();
    let cti: [u8; 16] = claims.cwt_id.unwrap().try_into().unwrap();
    let resident = Issuer::new(&keyring, "CN-610100").unwrap().open_cti(&cti).resident.0;
    let status = claims.rest.iter().find(|(name, _)| *name == coset::cwt::ClaimName::PrivateUse(-65537)).unwrap();
    Opened { resident, status: status.1.as_integer().unwrap().into(), kid: sign1.protected.header.key_id }
}

fn resident_number(data: &Path, n: u32) -> u64 {
    let keyring = Keyring::open(&data.join("keys")).unwrap();
    HashKey::new(*keyring.hash_key.expose()).number(&demo::id_number(n)).0.0
}

/// Connections to one server such that each of its shards has some; the kernel spreads them by their ports.
fn on_every_shard(server: &Server) -> Vec<Client<'_>> {
    let mut clients: Vec<Client<'_>> = Vec::new();
    loop {
        clients.extend((0..8).map(|_| server.client()));
        for client in &mut clients {
            assert_eq!(client.ask(get("/healthz", "")).status, 200);
        }
        let open = |shard: u32| server.metric(&format!("onecode_connections_open{{shard=\"{shard}\"}}"));
        if open(0) > 0.0 && open(1) > 0.0 {
            return clients;
        }
    }
}

/// Acts within one window of 45 s; once more, should the next one begin meanwhile.
fn within_a_window<T>(act: impl Fn() -> T) -> T {
    loop {
        let window = unix_s() / 45;
        let result = act();
        if unix_s() / 45 == window {
            return result;
        }
    }
}

fn demo_over(data: &Path, residents: Option<u32>) -> Command {
    let mut command = onecode();
    command.args(["serve", "--demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"]).arg(data);
    if let Some(residents) = residents {
        command.args(["--residents", &residents.to_string()]);
    }
    command
}

fn demo_server(data: &Path) -> Server {
    Server::over(data, |command| {
        command.arg("--demo");
    })
}

/// The one line of a refusal, whose exit status must be this.
fn refusal(command: &mut Command, status: i32) -> String {
    let (found, text) = run_badly(command);
    assert_eq!(found, status, "{text}");
    let line = text.lines().last().unwrap_or_default().to_owned();
    assert!(line.starts_with("onecode: "), "{text}");
    line
}

#[test]
fn the_demo_makes_what_it_says_and_uses_it_again() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("demo");
    let server = Server::over(&data, |command| {
        command.args(["--demo", "--residents", "30"]);
    });
    let said = server.stdout();
    let sessions_file = data.join("sessions.txt");
    assert!(said.contains(&format!("http://{}/\n", server.public)) && said.contains("  curl -H "), "{said}");
    assert!(said.contains(sessions_file.to_str().unwrap()));
    let sessions = fs::read_to_string(&sessions_file).unwrap();
    assert_eq!(sessions.lines().count(), 30);
    assert!(sessions.lines().all(|line| line.len() == 48) && sessions.ends_with('\n'));
    let curl = said.lines().find_map(|line| line.trim().strip_prefix("curl ")).unwrap();
    let curled = run_well(Command::new("sh").args(["-c", &format!("curl --silent {curl}")]));
    assert!(curled.starts_with("{\"code\":\"OC1:"), "{curled}");
    for number in [1, 17, 30] {
        let answer = refresh(&server, sessions.lines().nth(number as usize - 1).unwrap());
        let opened = opened(&data, &answer);
        assert_eq!(opened.resident, resident_number(&data, number));
        assert_eq!(opened.status, demo::status(number) as i128);
    }
    assert_eq!(server.client().ask(post(SESSION, r#"{"demo_resident":31}"#)).problem(), "unknown-resident");
    assert_eq!(server.stop().0, Some(0));

    let again = demo_server(&data);
    assert!(again.stdout().contains("30 synthetic residents"));
    assert_eq!(refused(&again, sessions.lines().next().unwrap()), None, "yesterday's session still opens");
    drop(again);
    let line = refusal(&mut demo_over(&data, Some(31)), 78);
    assert!(line.contains("30 residents") && line.contains("--residents"), "{line}");
    let mut plain = onecode();
    let line = refusal(plain.args(["serve", "--data"]).arg(&data), 78);
    assert!(line.contains("made by the demo"), "{line}");
}

#[test]
fn the_demo_leaves_a_registry_of_others_alone() {
    let site = Site::new();
    site.import(1..=3, &[]);
    let before = fs::read(site.data().join("registry.snapshot")).unwrap();
    let line = refusal(&mut demo_over(&site.data(), None), 78);
    assert!(line.contains(site.data().to_str().unwrap()), "{line}");
    assert_eq!(fs::read(site.data().join("registry.snapshot")).unwrap(), before);
}

#[test]
fn a_data_folder_that_cannot_be_written_is_named() {
    let site = Site::new();
    fs::write(site.path("file"), "").unwrap();
    for folder in [site.path("file"), site.path("file").join("below"), PathBuf::from("/proc/onecode")] {
        for demo in [&["serve"][..], &["serve", "--demo"]] {
            let line = refusal(onecode().args(demo).arg("--data").arg(&folder), 73);
            assert!(line.contains(folder.to_str().unwrap()), "{line}");
        }
    }
}

#[test]
fn a_wrong_configuration_is_named_by_key_and_place() {
    let site = Site::new();
    let file = site.path("wrong.toml");
    let refuse = |text: &str, named: &[&str]| {
        fs::write(&file, text).unwrap();
        let line = refusal(onecode().args(["serve", "--config"]).arg(&file).arg("--data").arg(site.data()), 78);
        assert!(named.iter().all(|name| line.contains(name)), "{line}");
    };
    refuse("[listen]\nadress = \"127.0.0.1:0\"\n", &["wrong.toml:2", "unknown key listen.adress"]);
    refuse("[code]\nwindow_s = 3\n", &["wrong.toml:2", "code.window_s", "5 to 300"]);
    refuse("[admin]\naddress = \"0.0.0.0:8081\"\n", &["admin.address", "loopback"]);
    refuse("listen = [\n", &["wrong.toml:"]);
    let line = refusal(onecode().args(["serve", "--data"]).arg(site.data()).env("ONECODE_LISTEN_ADRESS", "x"), 78);
    assert!(line.contains("unknown key ONECODE_LISTEN_ADRESS"), "{line}");
    for (flag, value) in [("--driver", "best"), ("--shards", "0")] {
        let line = refusal(onecode().args(["serve", flag, value, "--data"]).arg(site.data()), 2);
        assert!(line.contains(flag) && line.contains(value), "{line}");
    }
    for (flag, value) in [("--admin", "0.0.0.0:1"), ("--cpus", "1023")] {
        refusal(onecode().args(["serve", flag, value, "--data"]).arg(site.data()), 78);
    }
    let temporary = site.path("temporary");
    fs::create_dir(&temporary).unwrap();
    for (words, status, says) in [
        (["--cpus", "1023", "--admin", "127.0.0.1:0"], 78, "runtime.cpus"),
        (["--listen", "192.0.2.1:1", "--admin", "127.0.0.1:0"], 69, "192.0.2.1"),
    ] {
        let mut demo = onecode();
        demo.args(["serve", "--demo", "--residents", "9"]).args(words).env("TMPDIR", &temporary);
        let line = refusal(&mut demo, status);
        assert!(line.contains(says), "{line}");
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "the demo's folder is gone");
    }
    assert!(!site.data().exists(), "nothing is made for a configuration that is wrong");
    refuse("[auth]\njwks_file = \"/nowhere\"\nissuer = \"i\"\naudience = \"a\"\n", &["/nowhere"]);
}

#[test]
fn a_snapshot_of_another_version_or_key_is_refused_and_kept() {
    let site = Site::new();
    site.import(1..=3, &[]);
    let path = site.data().join("registry.snapshot");
    let whole = fs::read(&path).unwrap();
    let mut later = whole.clone();
    later[8..12].copy_from_slice(&9_u32.to_le_bytes());
    let mut rotten = whole.clone();
    *rotten.last_mut().unwrap() ^= 1;
    let serve = || {
        let mut command = onecode();
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"]).arg(site.data());
        command
    };
    for (bytes, says) in [(&later, "version 9"), (&rotten, "damaged"), (&whole[..4_200].to_vec(), "bytes")] {
        fs::write(&path, bytes).unwrap();
        let line = refusal(&mut serve(), 78);
        assert!(line.contains(path.to_str().unwrap()) && line.contains(says), "{line}");
        assert_eq!(fs::read(&path).unwrap(), *bytes);
    }
    fs::write(&path, &whole).unwrap();
    fs::remove_dir_all(site.data().join("keys")).unwrap();
    let line = refusal(&mut serve(), 78);
    assert!(line.contains("key"), "another hash key would make strangers of all: {line}");
}

#[test]
fn a_data_folder_held_by_another_process_is_left_to_it() {
    let site = Site::new();
    let server = site.serve();
    let mut second = onecode();
    let line = refusal(second.args(["serve", "--data"]).arg(site.data()), 75);
    assert!(line.contains(&format!("process {} (onecode serve)", server.pid())), "{line}");
    let mut import = onecode();
    let csv = site.path("residents.csv");
    fs::write(&csv, "id_number,status,updated_at\n").unwrap();
    let output = run(import.arg("import").arg("--data").arg(site.data()).arg(csv));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && line.contains(&server.pid().to_string()), "{line}");
}

#[test]
fn an_empty_registry_serves_and_sign_in_says_what_is_missing() {
    let outer = tempfile::tempdir().unwrap();
    let server = Server::over(&outer.path().join("data"), |_| {});
    assert!(server.stderr().contains("nobody is in the registry until `onecode import`"), "{}", server.stderr());
    assert_eq!(server.client().ask(get("/readyz", "")).status, 200);
    assert_eq!(server.client().ask(get("/", "")).status, 200);
    let answer = try_sign_in(&server, "a.b.c");
    assert_eq!((answer.status, answer.problem().as_str()), (503, "sign-in-not-configured"));
    assert!(answer.field("Retry-After").is_some(), "every 503 says when to come back");
    let answer = server.client().ask(post(SESSION, r#"{"demo_resident":1}"#));
    assert_eq!((answer.status, answer.problem().as_str()), (400, "body-malformed"), "only in the demo");
    let keyring = outer.path().join("data/keys/keyring.json");
    let mode = fs::metadata(keyring).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn assertions_of_all_three_kinds_sign_in_once() {
    let site = Site::new();
    site.import(1..=3, &[]);
    let server = site.serve();
    wait_for_the_next_second();
    for (number, algorithm) in [(1, "EdDSA"), (2, "ES256"), (3, "RS256")] {
        let assertion = PROVIDER.sign(algorithm, &claims(&id_number(number), unix_s(), algorithm));
        let answer = try_sign_in(&server, &assertion);
        assert_eq!(answer.status, 200, "{algorithm}: {answer:?}");
        let session = answer.json()["session"].as_str().unwrap().to_owned();
        let cookie = answer.field("Set-Cookie").unwrap();
        assert!(cookie.starts_with(&format!("oc={session}; ")), "{cookie}");
        assert!(["HttpOnly", "SameSite=Strict", "Path=/"].iter().all(|part| cookie.contains(part)), "{cookie}");
        let expires_at = answer.json()["expires_at"].as_u64().unwrap();
        assert!(expires_at.abs_diff(unix_s() + 30 * 86_400) < 5);
        let opened = opened(&site.data(), &refresh(&server, &session));
        assert_eq!(opened.resident, resident_number(&site.data(), number));
        let replays: BTreeSet<String> = on_every_shard(&server)
            .iter_mut()
            .map(|client| client.ask(post(SESSION, &sign_in_body(&assertion))).problem())
            .collect();
        assert_eq!(replays, ["assertion-replayed".to_owned()].into(), "from every shard");
    }
}

#[test]
fn wrong_assertions_are_refused_by_name() {
    let site = Site::new();
    site.import(1..=2, &[]);
    let before_start = PROVIDER.assertion(&id_number(1), unix_s(), "before");
    let server = site.serve();
    wait_for_the_next_second();
    let now_s = unix_s();
    let with = |name: &str, value: Value| {
        let mut claims = claims(&id_number(1), now_s, name);
        claims[name] = value;
        PROVIDER.sign("EdDSA", &claims)
    };
    let good = PROVIDER.assertion(&id_number(1), now_s, "good");
    let other = PROVIDER.assertion(&id_number(2), now_s, "other");
    let (signed, _) = good.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    let cases = [
        ("assertion-before-start", before_start),
        ("assertion-expired", with("exp", json!(now_s - 1))),
        ("assertion-life-wrong", with("exp", json!(now_s + 301))),
        ("assertion-not-yet-valid", with("nbf", json!(now_s + 100))),
        ("assertion-issuer-wrong", with("iss", json!("https://other.example"))),
        ("assertion-audience-wrong", with("aud", json!("other"))),
        ("assertion-person-missing", with("id_number", json!(""))),
        ("assertion-forged", Provider::new().assertion(&id_number(1), now_s, "forged")),
        ("assertion-forged", format!("{signed}.{signature}")),
        ("assertion-malformed", "not.a.jwt".to_owned()),
        ("unknown-resident", PROVIDER.assertion(&id_number(3), now_s, "nobody")),
    ];
    for (word, assertion) in cases {
        let answer = try_sign_in(&server, &assertion);
        assert_eq!(answer.problem(), word);
        assert_eq!(answer.status, if word == "unknown-resident" { 404 } else { 401 });
        assert!(!answer.text().contains(&id_number(1)));
    }
    for body in ["", "{}", "[]", "{\"assertion\":1}", "{\"assertion\":\"a\",\"demo_resident\":1}", "{\"x\":1}"] {
        let answer = server.client().ask(post(SESSION, body));
        assert_eq!((answer.status, answer.problem().as_str()), (400, "body-malformed"), "{body}");
    }
    assert_eq!(try_sign_in(&server, &good).status, 200, "the same, unharmed");
}

#[test]
fn the_jwks_is_read_again_on_sighup_and_a_bad_one_changes_nothing() {
    let site = Site::new();
    site.import(1..=1, &[]);
    let server = site.serve();
    wait_for_the_next_second();
    let other = Provider::new();
    let by = |provider: &Provider, jti: &str| try_sign_in(&server, &provider.assertion(&id_number(1), unix_s(), jti));
    assert_eq!(by(&PROVIDER, "1").status, 200);
    fs::write(site.path("jwks.json"), "{\"keys\":[]}").unwrap();
    server.reload("keys and sign-in stay as they were");
    assert_eq!((by(&PROVIDER, "2").status, by(&other, "2").status), (200, 401));
    fs::write(site.path("jwks.json"), other.jwks()).unwrap();
    server.reload("keys and sign-in read again");
    assert_eq!((by(&PROVIDER, "3").status, by(&other, "3").status), (401, 200));
}

#[test]
fn signing_out_ends_all_sessions_of_that_resident_on_every_shard() {
    let server = Server::demo();
    let (first, other) = (server.session(1), server.session(2));
    let answer = server.client().ask(post(SESSION, r#"{"demo_resident":1}"#));
    let second = answer.json()["session"].as_str().unwrap().to_owned();
    let sign_out = get(SESSION, &format!("Cookie: oc={second}\r\n")).replace("GET", "DELETE");
    let answer = server.client().ask(&sign_out);
    assert_eq!(answer.status, 204);
    let cookie = answer.field("Set-Cookie").unwrap();
    assert!(cookie.starts_with("oc=;") && cookie.contains("Max-Age=0"), "{cookie}");
    for client in &mut on_every_shard(&server) {
        for session in [&first, &second] {
            assert_eq!(client.ask(get(REFRESH, &bearer(session))).problem(), "session-ended");
        }
        assert_eq!(client.ask(get(REFRESH, &bearer(&other))).status, 200);
    }
}

#[test]
fn a_new_session_epoch_ends_every_session() {
    let server = Server::demo();
    let sessions = [server.session(1), server.session(2)];
    assert_eq!(refused(&server, &sessions[0]), None);
    run_well(onecode().args(["keys", "rotate", "session", "--data"]).arg(server.data()));
    assert_eq!(refused(&server, &sessions[0]), None, "not before the process has read it");
    server.reload("keys and sign-in read again");
    for client in &mut on_every_shard(&server) {
        for session in &sessions {
            assert_eq!(client.ask(get(REFRESH, &bearer(session))).problem(), "session-ended");
        }
    }
    let answer = server.client().ask(post(SESSION, r#"{"demo_resident":1}"#));
    assert_eq!(refused(&server, answer.json()["session"].as_str().unwrap()), None);
}

#[test]
fn a_new_signing_key_is_published_before_it_signs() {
    let site = Site::new();
    site.import(1..=1, &[]);
    let config = site.path("onecode.toml");
    fs::write(&config, fs::read_to_string(&config).unwrap() + "[code]\nwindow_s = 5\n").unwrap();
    let server = site.serve();
    wait_for_the_next_second();
    let session = sign_in(&server, 1, "rotate");
    let kid = || opened(&site.data(), &refresh(&server, &session)).kid;
    let published = || server.client().ask(get("/.well-known/jwks.json", "")).json()["keys"].as_array().unwrap().len();
    let rotate = |lead_hours: &str| {
        run_well(onecode().args(["keys", "rotate", "--lead-hours", lead_hours, "--data"]).arg(site.data()));
        server.reload("keys and sign-in read again");
    };
    let (first, first_answer) = (kid(), refresh(&server, &session));
    assert_eq!(published(), 2);
    rotate("1");
    assert_eq!((published(), kid()), (3, first.clone()), "its time has not come");
    rotate("0");
    assert_eq!(published(), 4);
    wait_until("the next window has another key", || kid() != first);
    let trust = site.path("trust.json");
    fs::write(&trust, server.client().ask(get("/.well-known/jwks.json", "")).body).unwrap();
    for answer in [first_answer, refresh(&server, &session)] {
        let said = run_well(onecode().args(["verify", "--json", "--trust"]).arg(&trust).arg(code(&answer)));
        let verdict: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&verdict["result"], &verdict["status"]), (&json!("valid"), &json!("green")));
    }
}

#[test]
fn a_refresh_is_the_same_bytes_from_every_shard_and_after_a_restart() {
    let outer = tempfile::tempdir().unwrap();
    let data = outer.path().join("data");
    let (before, after) = within_a_window(|| {
        let server = Server::over(&data, |command| {
            command.args(["--demo", "--residents", "20", "--shards", "2"]);
        });
        let requests = [1, 17, 18, 19].map(|number| server.refresh(number));
        let all = |server: &Server| -> Vec<BTreeSet<Vec<u8>>> {
            let mut clients = on_every_shard(server);
            let mut bodies = |request| clients.iter_mut().map(|client| client.ask(request).body).collect();
            requests.iter().map(&mut bodies).collect()
        };
        let before = all(&server);
        assert!(before.iter().all(|bodies| bodies.len() == 1), "two shards, one body");
        assert_eq!(server.stop().0, Some(0));
        let restarted = Server::over(&data, |command| {
            command.args(["--demo", "--shards", "2"]);
        });
        (before, all(&restarted))
    });
    assert!(before == after, "another process with the same keys makes the same bytes");
}

#[test]
fn a_reload_storm_signs_once_for_each_shard_and_window() {
    const RELOADS: usize = 1_000;
    let server = Server::demo();
    let request = server.refresh(1);
    let signatures = || server.metric("onecode_signatures_total");
    let (bodies, signed) = within_a_window(|| {
        let before = signatures();
        let mut clients: Vec<Client<'_>> = (0..RELOADS).map(|_| server.client()).collect();
        clients.iter_mut().for_each(|client| client.send(&request));
        let bodies: BTreeSet<Vec<u8>> = clients.iter_mut().map(|client| client.answer().body).collect();
        (bodies, signatures() - before)
    });
    assert_eq!(bodies.len(), 1);
    assert!(signed <= 2.0, "{signed} signatures for one resident in one window on two shards");
}

#[test]
fn a_refresh_is_small_and_of_one_length_whatever_the_status() {
    let server = Server::demo();
    let ask = |number: u32, query: &str| {
        let session = server.session(number);
        let answer = server.client().ask(get(&format!("{REFRESH}{query}"), &bearer(&session)));
        assert_eq!((answer.status, answer.field("Cache-Control")), (200, Some("private, no-store")));
        answer
    };
    for (query, bytes_max) in [("", 1_024), ("?qr=none", 640)] {
        let lengths: BTreeSet<usize> = [1, 17, 18, 19].map(|number| ask(number, query).bytes()).into();
        assert_eq!(lengths.len(), 1, "{lengths:?}: the length would tell the status");
        assert!(lengths.iter().all(|bytes| *bytes <= bytes_max), "{lengths:?} for {query:?}");
    }
    let answer = ask(1, "");
    let json = answer.json();
    let matrix = base64::engine::general_purpose::STANDARD.decode(json["qr"]["bits"].as_str().unwrap()).unwrap();
    let size = json["qr"]["size"].as_u64().unwrap() as usize;
    assert_eq!((size, matrix.len()), (49, (49_usize * 49).div_ceil(8)));
    let number = |name: &str| json[name].as_u64().unwrap();
    assert!(number("iat") % 45 == 0 && number("exp") == number("iat") + 120);
    assert!((number("iat") + 45..number("iat") + 90).contains(&number("refresh_at")));
    assert!(ask(1, "?qr=none").json().get("qr").is_none());
}

#[test]
fn a_code_also_comes_as_svg_png_and_text_and_in_no_other_form() {
    let server = Server::demo();
    let session = server.session(1);
    let ask = |query: &str| server.client().ask(get(&format!("{REFRESH}{query}"), &bearer(&session)));
    within_a_window(|| assert_eq!(ask("?format=text").text(), code(&ask(""))));
    for (query, content_type, begins) in [
        ("?format=text", "text/plain", &b"OC1:"[..]),
        ("?format=svg", "image/svg+xml", b"<svg"),
        ("?format=png", "image/png", b"\x89PNG\r\n\x1a\n"),
    ] {
        let answer = ask(query);
        assert_eq!(answer.field("Content-Type"), Some(content_type));
        assert_eq!(answer.field("X-Content-Type-Options"), Some("nosniff"));
        assert!(answer.body.starts_with(begins), "{query}");
    }
    for query in ["?format=pdf", "?format=", "?qr=all", "?qr=none&format=svg", "?qr"] {
        let answer = ask(query);
        assert_eq!((answer.status, answer.problem().as_str()), (400, "query-unknown"), "{query}");
    }
}

#[test]
fn a_cookie_counts_only_on_pages_of_our_own() {
    let server = Server::demo();
    let (session, public) = (server.session(1), server.public);
    let cookie = format!("Cookie: a=b; oc={session}\r\n");
    let ask =
        |fields: &str| server.client().ask(get(REFRESH, fields).replace("Host: test", &format!("Host: {public}")));
    assert_eq!(ask(&cookie).status, 200);
    assert_eq!(ask(&format!("{cookie}Origin: http://{public}\r\n")).status, 200);
    for origin in ["https://evil.example", "null", "http://127.0.0.1", &format!("http://{public}.evil.example")] {
        let answer = ask(&format!("{cookie}Origin: {origin}\r\n"));
        assert_eq!((answer.status, answer.problem().as_str()), (401, "session-missing"), "{origin}");
        assert_eq!(answer.field("Access-Control-Allow-Credentials"), None);
        let answer = ask(&format!("{}Origin: {origin}\r\n", bearer(&session)));
        assert_eq!(answer.status, 200, "a token is nobody's by accident");
    }
    for fields in ["", "Authorization: Basic eDp5\r\n", "Cookie: oc=short\r\n", "Cookie: ocx=1\r\n"] {
        let answer = ask(fields);
        assert_eq!((answer.status, answer.field("WWW-Authenticate")), (401, Some("Bearer")), "{fields}");
    }
    let mut forged = session.clone().into_bytes();
    forged[40] = if forged[40] == b'A' { b'B' } else { b'A' };
    assert_eq!(refused(&server, std::str::from_utf8(&forged).unwrap()).as_deref(), Some("session-invalid"));
}

#[test]
fn the_admin_listener_answers_no_stranger_in_a_browser() {
    let server = Server::demo_with(|command| {
        command.env("ONECODE_ADMIN_HOST_NAMES", "ops.city.example");
    });
    let admin = server.admin;
    let ask = |host: &str, fields: &str| {
        Client::to(admin).ask(get("/status.json", fields).replace("Host: test", &format!("Host: {host}")))
    };
    for host in [&*admin.to_string(), "localhost:1", "[::1]", "OPS.city.example:8081"] {
        assert_eq!(ask(host, "").status, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "ops.city.example.evil.example"] {
        assert_eq!(ask(host, "").problem(), "host-refused", "{host}");
    }
    for fields in [
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        let answer = ask("localhost", fields);
        assert_eq!((answer.status, answer.problem().as_str()), (403, "origin-refused"), "{fields}");
    }
    for fields in ["Sec-Fetch-Site: none\r\n", "Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost\r\n"] {
        assert_eq!(ask("localhost", fields).status, 200, "{fields}");
    }
    assert_eq!(server.client().ask(get("/metrics", "")).status, 404, "and nothing of it is public");
}

/// A metric's labels and value, by its name: the Prometheus text format 0.0.4, as strictly as we write it.
fn parse_metrics(text: &str) -> BTreeMap<String, Vec<(String, f64)>> {
    let mut metrics: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
    let (mut helped, mut current) = (None, None);
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(!words.is_empty() && !metrics.contains_key(name), "{line}");
            helped = Some(name);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(helped == Some(name) && matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            current = Some(name);
            metrics.insert(name.to_owned(), Vec::new());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert_eq!(Some(name), current, "{line}");
            let labels = labels.strip_suffix('}').unwrap();
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (name, value) = label.split_once('=').unwrap();
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
                assert!(value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{line}");
            }
            let samples = metrics.get_mut(name).unwrap();
            assert!(samples.iter().all(|(other, _)| other != labels), "twice: {line}");
            samples.push((labels.to_owned(), value.parse().unwrap()));
        }
    }
    assert!(metrics.values().all(|samples| !samples.is_empty()));
    metrics
}

#[test]
fn metrics_are_prometheus_text_and_count_what_was_done() {
    let server = Server::demo();
    for _ in 0..3 {
        assert_eq!(server.client().ask(server.refresh(1)).status, 200);
    }
    server.client().ask(get("/nothing", ""));
    server.client().ask("nonsense\r\n\r\n");
    let answer = server.ask_admin("/metrics");
    assert_eq!(answer.field("Content-Type"), Some("text/plain; version=0.0.4"));
    let metrics = parse_metrics(answer.text());
    let value = |name: &str, labels: &str| {
        metrics[name].iter().find(|(other, _)| other == labels).unwrap_or_else(|| panic!("{name} {labels}")).1
    };
    assert!(value("onecode_requests_total", "route=\"refresh\",result=\"2xx\"") == 3.0);
    assert!(value("onecode_requests_total", "route=\"unknown\",result=\"4xx\"") == 1.0);
    assert!(value("onecode_requests_total", "route=\"unread\",result=\"4xx\"") == 1.0);
    assert!(value("onecode_residents", "") == 200.0);
    let codes = value("onecode_signatures_total", "") + value("onecode_payload_hits_total", "");
    assert!(codes == 3.0);
    let status = server.ask_admin("/status.json").json();
    assert_eq!((&status["residents"], &status["requests"]["refresh"]["2xx"]), (&json!(200), &json!(3)));
    // The chain, and what has labels.
    assert!(value("onecode_thread_cpu_seconds_total", "thread=\"shard-0\"") > 0.0);
    assert!(status["thread_wait_seconds_total"]["journal"].is_number() && status["shed_total"]["delay"] == 0);
    assert!(status["connections_open"].as_array().is_some_and(|shards| shards.len() >= 2));
    let age_s = value("process_clock_seconds", "") - value("onecode_snapshot_unix_seconds", "");
    assert!((0.0..60.0).contains(&age_s), "{age_s}");
    assert!(
        value("onecode_sampled_waits_total", "") > 0.0 && value("onecode_interface_received_bytes_total", "") > 0.0
    );
    assert_eq!(server.client().ask(get("/ops", "")).status, 404, "the operators' page is not public");
}

#[test]
fn the_key_set_has_an_entity_tag_and_is_not_sent_twice() {
    let server = Server::demo();
    let ask = |fields: &str| server.client().ask(get("/.well-known/jwks.json", fields));
    let answer = ask("");
    assert_eq!(answer.field("Content-Type"), Some("application/json"));
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"));
    assert!(answer.json()["keys"].as_array().unwrap().iter().all(|key| key.get("d").is_none()));
    let etag = answer.field("ETag").unwrap().to_owned();
    for tags in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let answer = ask(&format!("If-None-Match: {tags}\r\n"));
        assert_eq!((answer.status, answer.field("ETag")), (304, Some(&*etag)), "{tags}");
    }
    assert_eq!(ask("If-None-Match: \"other\"\r\n").status, 200);
}

#[test]
fn another_order_in_the_next_import_leaves_every_session_with_its_person() {
    let site = Site::new();
    site.import(1..=40, &[]);
    let server = site.serve();
    wait_for_the_next_second();
    let sessions: Vec<(u32, String)> =
        (1..=40).step_by(3).map(|number| (number, sign_in(&server, number, "order"))).collect();
    let own = |server: &Server| {
        for (number, session) in &sessions {
            let opened = opened(&site.data(), &refresh(server, session));
            assert_eq!(opened.resident, resident_number(&site.data(), *number));
            assert_eq!(opened.status, demo::status(*number) as i128);
        }
    };
    own(&server);
    server.stop();
    // Others come before, between and behind them, and the old ones the other way round.
    site.import(
        (1..=120).rev().filter(|number| number % 2 == 0).chain((1..=120).filter(|n| n % 2 == 1)),
        &["--replace"],
    );
    own(&site.serve());
}

#[test]
fn a_sign_in_begun_before_sigterm_is_answered_whichever_shard_must_be_asked() {
    let site = Site::new();
    site.import(1..=16, &[]);
    let mut server = site.serve();
    wait_for_the_next_second();
    let mut begun: Vec<(Client<'static>, String)> = Vec::new();
    for number in 1..=16 {
        let request = post(SESSION, &sign_in_body(&PROVIDER.assertion(&id_number(number), unix_s(), "term")));
        let mut client = Client::to(server.public);
        client.send(&request[..200]);
        begun.push((client, request[200..].to_owned()));
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    server.signal("TERM");
    wait_until("the signal is heard", || server.stderr().contains("ending"));
    // One after the other, so that a shard may be done before the last of them asks it.
    for (mut client, rest) in begun {
        std::thread::sleep(std::time::Duration::from_millis(60));
        let answer = client.ask(rest);
        assert_eq!((answer.status, answer.closes()), (200, true), "{answer:?}");
    }
    assert_eq!(server.wait_end(2_000), Some(0));
}

#[test]
fn no_code_session_or_id_number_reaches_a_log() {
    let site = Site::new();
    site.import(1..=3, &[]);
    let server = site.serve();
    wait_for_the_next_second();
    let session = sign_in(&server, 1, "log");
    let assertion = PROVIDER.assertion(&id_number(2), unix_s(), "log");
    try_sign_in(&server, &assertion);
    try_sign_in(&server, &assertion);
    let code = code(&refresh(&server, &session));
    // Where they do not belong, too.
    for path in [format!("/{session}"), format!("{REFRESH}?format={session}"), format!("/?id={}", id_number(1))] {
        server.client().ask(get(&path, &bearer(&session)));
    }
    server.client().ask(format!("{session} {} HTTP/1.1\r\nHost: x\r\n\r\n", id_number(1)));
    server.client().ask(post(SESSION, &format!("{{\"assertion\":\"{}\"}}", id_number(1))));
    server.client().ask(get(SESSION, &bearer(&session)).replace("GET", "DELETE"));
    server.reload("keys and sign-in read again");
    let status = server.ask_admin("/status.json").text().to_owned() + server.ask_admin("/metrics").text();
    let (_, said) = server.stop();
    assert!(said.lines().count() >= 3, "{said}");
    for secret in [&*session, &assertion, &code, &code[4..40], &id_number(1), &id_number(2), "OC1:"] {
        assert!(!said.contains(secret) && !status.contains(secret), "{secret} in {said}");
    }
}
