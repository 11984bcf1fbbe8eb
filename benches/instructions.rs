//! What the parts of a refresh cost, without a network: in instructions under callgrind, which is the one figure that
//! a noisy machine gives the same twice, or in nanoseconds.
//!
//! `instructions --once` runs each part as often as its constant says, in a function of its own that callgrind collects
//! (scripts/bench/instructions.py); without it the same parts are timed and printed as one JSON object. Time, keys and
//! residents are fixed, so that two runs do the same. The shard is driven as a driver does it, through its public calls.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use onecode::admission::Admission;
use onecode::code::base45;
use onecode::code::claims::{CODE_CHARS_MAX, CodeBuffer, CodeRequest, DEFAULT_ISSUER, Issuer};
use onecode::code::keyring::Keyring;
use onecode::code::qr::{Matrix, Painter};
use onecode::code::verify::{LEEWAY_S, verify};
use onecode::code::window::Window;
use onecode::http::head;
use onecode::journal::{Lane, Port};
use onecode::limits::{PAYLOAD_CACHE_SLOTS, SHARD_CONNECTIONS_MAX};
use onecode::registry::demo;
use onecode::registry::id_number::HashKey;
use onecode::registry::table::Table;
use onecode::service::ahead::Ahead;
use onecode::service::assets::Library;
use onecode::service::callers::Callers;
use onecode::service::device::DeviceKey;
use onecode::service::session::{self, Session, SessionKey};
use onecode::service::{Overview, Parts, Past, Role, Service, Settings};
use onecode::shard::mailbox::{INBOX_MESSAGES_MAX, Inbox, Mailbox};
use onecode::shard::{ConnectionId, Next, Shard};
use onecode::sys::ed25519::Signer;
use onecode::words::{Now, Status};

const LOCALHOST: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const NOW: Now = Now { unix_ms: 1_780_000_000_000, mono_us: 1_000_000 };
/// Each asks once in the cold part; the first alone asks in the warm one.
const RESIDENTS: u32 = 3_000;
/// Calls under callgrind. More only take longer: nothing here varies from call to call but by the resident.
const CALLS_OF_A_PART: u32 = 500;
const CALLS_WARM: u32 = 2_000;
const CALLS_COLD: u32 = 300;
/// Of the default window, 45 s and 120 s.
const WINDOW_S: u64 = 45;

type Part = fn(&mut Bench, u32);

fn main() {
    let mut bench = Bench::new();
    let parts: [(&str, Part, u32); 9] = [
        ("head", part_head, CALLS_OF_A_PART),
        ("session", part_session, CALLS_OF_A_PART),
        ("sign", part_sign, CALLS_OF_A_PART),
        ("code", part_code, CALLS_OF_A_PART),
        ("verdict", part_verdict, CALLS_OF_A_PART),
        ("base45", part_base45, CALLS_OF_A_PART),
        ("matrix", part_matrix, CALLS_OF_A_PART),
        ("warm", part_warm, CALLS_WARM),
        ("cold", part_cold, CALLS_COLD),
    ];
    // The first refresh is the cold one of the resident who is then warm.
    bench.refresh(0);
    let once = std::env::args().any(|argument| argument == "--once");
    let figures = parts.map(|(name, part, calls)| {
        if once {
            part(&mut bench, calls);
            return format!("\"{name}\": {calls}");
        }
        format!("\"{name}_ns\": {:.1}", time_ns(&mut bench, part))
    });
    println!("{{{}}}", figures.join(", "));
}

/// The median of 15 batches of about 2 ms, after one that is not counted.
fn time_ns(bench: &mut Bench, part: fn(&mut Bench, u32)) -> f64 {
    let mut batch = |calls: u32| {
        let start = Instant::now();
        part(bench, calls);
        start.elapsed()
    };
    // Few enough that the cold part never comes back to a resident whose payload is still kept.
    let mut calls = 16_u32;
    while calls < RESIDENTS / 32 && batch(calls) < Duration::from_millis(2) {
        calls *= 2;
    }
    let mut times: Vec<Duration> = (0..15).map(|_| batch(calls)).collect();
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e9 / f64::from(calls)
}

/// The head parser, over a request as a phone's browser sends it.
#[inline(never)]
fn part_head(bench: &mut Bench, calls: u32) {
    for _ in 0..calls {
        let parsed = head::parse(black_box(&bench.requests[0]));
        assert!(matches!(black_box(parsed), Ok(Some(_))));
    }
}

/// The check of a session.
#[inline(never)]
fn part_session(bench: &mut Bench, calls: u32) {
    for _ in 0..calls {
        let claimed = session::Claimed::read(black_box(bench.session.as_bytes())).expect("it was minted");
        assert!(black_box(claimed.check(&bench.settings.session_key, NOW.unix_s())).is_ok());
    }
}

/// One Ed25519 signature over as many bytes as a code signs.
#[inline(never)]
fn part_sign(bench: &mut Bench, calls: u32) {
    for _ in 0..calls {
        black_box(bench.key.sign(black_box(&bench.signed)));
    }
}

/// A code: claims, signature, Base45.
#[inline(never)]
fn part_code(bench: &mut Bench, calls: u32) {
    for _ in 0..calls {
        let (issuer, request) = (&bench.settings.issuer, black_box(&bench.request));
        issuer.write(request, &issuer.sign(request), &mut bench.code);
        black_box(&bench.code);
    }
}

/// What a live code of ours is worth, from its text.
#[inline(never)]
fn part_verdict(bench: &mut Bench, calls: u32) {
    for _ in 0..calls {
        let verdict = verify(&bench.settings.trust, black_box(bench.code.as_bytes()), NOW.unix_s(), LEEWAY_S);
        assert!(black_box(verdict).outcome.counts());
    }
}

/// Base45 of as many bytes as vary in a code.
#[inline(never)]
fn part_base45(bench: &mut Bench, calls: u32) {
    for _ in 0..calls {
        black_box(base45::encode(black_box(&bench.signed[..100]), &mut bench.text));
    }
}

/// The symbol of a code.
#[inline(never)]
fn part_matrix(bench: &mut Bench, calls: u32) {
    for _ in 0..calls {
        bench.settings.painter.paint(black_box(&bench.code.symbol), &mut bench.matrix);
        black_box(&bench.matrix);
    }
}

/// A whole refresh from bytes to bytes, the payload being there.
#[inline(never)]
fn part_warm(bench: &mut Bench, calls: u32) {
    for _ in 0..calls {
        bench.refresh(0);
    }
}

/// A whole refresh from bytes to bytes, the payload being made.
#[inline(never)]
fn part_cold(bench: &mut Bench, calls: u32) {
    for _ in 0..calls {
        bench.refresh_next();
    }
}

/// A shard with one connection, and what the parts need.
struct Bench {
    settings: Arc<Settings>,
    shard: Shard,
    connection: ConnectionId,
    requests_on_connection: u32,
    requests: Vec<Vec<u8>>,
    next: usize,
    now: Now,
    session: String,
    key: Signer,
    signed: [u8; 125],
    request: CodeRequest,
    code: CodeBuffer,
    text: [u8; CODE_CHARS_MAX],
    matrix: Matrix,
}

impl Bench {
    fn new() -> Bench {
        let keyring = Keyring::generate(NOW.unix_s(), fixed_bytes);
        let settings = Arc::new(settings(&keyring));
        let table = Table::new(2 * RESIDENTS as usize).unwrap();
        let sessions: Vec<_> = demo::records(RESIDENTS, &settings.hash_key, NOW.unix_ms)
            .map(|record| {
                table.write(&record).expect("the table has room");
                let expires_unix_s = u32::try_from(NOW.unix_s() + 86_400).expect("before 2106");
                let session = Session { resident: record.resident, number: 0, expires_unix_s };
                (record, session::mint(&settings.session_key, &session))
            })
            .collect();
        let inbox = Arc::new(Inbox::new(INBOX_MESSAGES_MAX));
        let overview = Arc::new(Nothing);
        let parts = Parts {
            role: Role::Public,
            shards: 1,
            settings: settings.clone(),
            registry: Arc::new(table),
            counters: Arc::default(),
            overview,
            library: Arc::new(Library::new(Vec::new()).expect("there is memory")),
            payloads: PAYLOAD_CACHE_SLOTS,
            ahead: Arc::new(Ahead::new(0).expect("there is memory")),
            admission: Admission::default(),
            seed: 1,
        };
        let mailbox = Mailbox::all(&[inbox]).remove(0);
        let service = Service::new(parts, Port::new(Lane::new()), Past::default());
        let mut shard = Shard::new(service, mailbox, SHARD_CONNECTIONS_MAX, NOW);
        let times = settings.window.times(sessions[0].0.resident, NOW.unix_s());
        let request = CodeRequest {
            resident: sessions[0].0.resident,
            version: NOW.unix_ms,
            status: Status::Green,
            iat: times.iat,
            exp: times.exp,
            test: true,
        };
        let mut code = CodeBuffer::default();
        settings.issuer.write(&request, &settings.issuer.sign(&request), &mut code);
        let connection = shard.handle_accept(NOW, LOCALHOST).expect("there is room for one");
        Bench {
            connection,
            requests_on_connection: 0,
            requests: sessions.iter().map(|(_, session)| phones_request(session.as_bytes())).collect(),
            next: 1,
            now: NOW,
            session: sessions[0].1.clone(),
            key: keyring.signing_keys[0].signer(),
            signed: [0x5a; 125],
            request,
            code,
            text: [0; CODE_CHARS_MAX],
            matrix: Matrix::blank(),
            settings,
            shard,
        }
    }

    /// The next resident's refresh; a new window begins when all have had theirs, so that none is warm.
    fn refresh_next(&mut self) {
        if self.next == self.requests.len() {
            self.next = 1;
            self.now.unix_ms += WINDOW_S * 1_000;
        }
        self.refresh(self.next);
        self.next += 1;
    }

    /// One request and its answer, as a driver would carry them.
    fn refresh(&mut self, number: usize) {
        // Before the shard closes it for having had its share.
        if self.requests_on_connection == 5_000 {
            self.shard.handle_end(self.now, self.connection);
            self.shard.handle_closed(self.connection, false, None);
            self.connection = self.shard.handle_accept(self.now, LOCALHOST).expect("there is room for one");
            self.requests_on_connection = 0;
        }
        self.requests_on_connection += 1;
        self.shard.handle_received(self.now, self.connection, black_box(&self.requests[number]));
        let Next::Send(output) = self.shard.poll(self.now, self.connection) else { panic!("no answer to a refresh") };
        assert!(output.head.bytes().is_some_and(|bytes| bytes.starts_with(b"HTTP/1.1 200")), "not 200");
        self.shard.handle_sent(self.now, self.connection, black_box(output));
        assert!(matches!(self.shard.poll(self.now, self.connection), Next::Receive));
    }
}

fn settings(keyring: &Keyring) -> Settings {
    let session = keyring.session_key();
    Settings {
        generation: 1,
        issuer: Issuer::new(keyring, DEFAULT_ISSUER).expect("the keyring is whole"),
        painter: Painter::default(),
        window: Window::new(45, 120).unwrap(),
        session_key: SessionKey::new(session.epoch, *session.key.expose()).expect("the first epoch is in range"),
        device_key: DeviceKey::new(*keyring.device_key.expose()),
        callers: Callers::default(),
        trust: keyring.trusted(DEFAULT_ISSUER),
        session_s: 86_400,
        hash_key: Arc::new(HashKey::new(*keyring.hash_key.expose())),
        verifier: None,
        login_url: None,
        demo_residents: Some(RESIDENTS),
        jwks: Bytes::new(),
        jwks_etag: String::new(),
        admin_host_names: Vec::new(),
        tls: Default::default(),
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        allowed_origins: Vec::new(),
        started_unix_ms: NOW.unix_ms,
    }
}

/// What our page sends from a phone.
fn phones_request(session: &[u8]) -> Vec<u8> {
    let before = "GET /person/app/refreshQRCode HTTP/1.1\r\nHost: code.example.org\r\nAccept: */*\r\n\
                  Accept-Encoding: gzip, deflate, br\r\nAccept-Language: zh-CN,zh;q=0.9\r\nCookie: oc=";
    let after = "\r\nReferer: https://code.example.org/\r\nSec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\n\
                 Sec-Fetch-Site: same-origin\r\nUser-Agent: Mozilla/5.0 (Linux; Android 12; K) AppleWebKit/537.36 \
                 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36\r\n\r\n";
    [before.as_bytes(), session, after.as_bytes()].concat()
}

/// Keys need not be secret here, only the same in each run.
fn fixed_bytes(out: &mut [u8]) {
    out.iter_mut().zip(1_u8..).for_each(|(byte, value)| *byte = value.wrapping_mul(37));
}

struct Nothing;

impl Overview for Nothing {
    fn metrics(&self, _: Now) -> Bytes {
        Bytes::new()
    }

    fn status(&self, _: Now) -> Bytes {
        Bytes::new()
    }
}
