//! After start a shard's thread allocates nothing: not for a warm refresh, not for a page, not for a cold refresh with
//! its signature. What counts is C's own `malloc`, under which everything else lies here, the signature library's
//! included; the binary's allocator is its own business, but what is not asked of it costs nothing there either.

mod support;

use std::cell::Cell;
use std::ffi::c_void;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use onecode::admission::Admission;
use onecode::driver::{self, Seat};
use onecode::journal::{Lane, Port};
use onecode::limits::{PAYLOAD_CACHE_SLOTS, SHARD_CONNECTIONS_MAX};
use onecode::registry::demo;
use onecode::registry::table::{Record, Table};
use onecode::service::ahead::Ahead;
use onecode::service::assets::Library;
use onecode::service::session::{self, Session};
use onecode::service::{Parts, Past, Role, Service};
use onecode::shard::Shard;
use onecode::shard::mailbox::{INBOX_MESSAGES_MAX, Inbox, Mailbox, Message};
use support::simulated::{Nothing, settings};

thread_local! {
    static IS_SHARD: Cell<bool> = const { Cell::new(false) };
}
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn count() {
    if IS_SHARD.with(Cell::get) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: declared as glibc exports them beside malloc, calloc, realloc and memalign, with the same contracts.
unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(memory: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(alignment: usize, size: usize) -> *mut c_void;
}

// SAFETY: has malloc's name and does what malloc does, through glibc's own.
#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    count();
    // SAFETY: any size may be asked for.
    unsafe { __libc_malloc(size) }
}

// SAFETY: has calloc's name and does what calloc does, through glibc's own.
#[unsafe(no_mangle)]
extern "C" fn calloc(number: usize, size: usize) -> *mut c_void {
    count();
    // SAFETY: any number and size may be asked for.
    unsafe { __libc_calloc(number, size) }
}

// SAFETY: has realloc's name and does what realloc does, through glibc's own.
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(memory: *mut c_void, size: usize) -> *mut c_void {
    count();
    // SAFETY: the caller keeps realloc's contract.
    unsafe { __libc_realloc(memory, size) }
}

// SAFETY: has posix_memalign's name and does what it does, through glibc's own.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(place: *mut *mut c_void, alignment: usize, size: usize) -> i32 {
    count();
    // SAFETY: posix_memalign takes what memalign takes.
    let memory = unsafe { __libc_memalign(alignment, size) };
    // SAFETY: the caller gives a place to write to.
    unsafe { place.write(memory) };
    0
}

const RESIDENTS: u32 = 20_000;
const CONNECTIONS: usize = 8;
const PIPELINE: usize = 32;

/// Sends a batch of requests over each connection and reads as many answers, all of which must be good ones.
fn exchange(
    connections: &mut [TcpStream],
    requests: &mut dyn Iterator<Item = String>,
    rounds: usize,
    buffer: &mut [u8],
) {
    for _ in 0..rounds {
        for connection in connections.iter_mut() {
            let batch: String = requests.take(PIPELINE).collect();
            connection.write_all(batch.as_bytes()).unwrap();
            let (mut filled, mut answers, mut at) = (0, 0, 0);
            while answers < PIPELINE {
                let length = connection.read(&mut buffer[filled..]).unwrap();
                assert!(length > 0, "the server closed the connection");
                filled += length;
                while let Some(bytes) = answer_bytes(&buffer[at..filled]) {
                    at += bytes;
                    answers += 1;
                }
            }
            assert_eq!(at, filled, "nothing comes that was not asked for");
        }
    }
}

/// The length of the answer at the start, once it is whole.
fn answer_bytes(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 ") || text.starts_with("HTTP/1.1 304 "), "{text}");
    let length =
        text.split("Content-Length: ").nth(1).map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}

/// One shard of the default driver, on a thread whose allocations count.
struct Running {
    address: SocketAddr,
    sessions: Vec<String>,
    page_etag: String,
    inbox: Arc<Inbox>,
    bells: Arc<[driver::Bell]>,
    thread: JoinHandle<()>,
}

fn start() -> Running {
    let settings = settings(None);
    let now = driver::now();
    let registry = Arc::new(Table::new(2 * RESIDENTS as usize).unwrap());
    let signed_in = |record: Record| {
        registry.write(&record).unwrap();
        let expires_unix_s = u32::try_from(now.unix_s() + 86_400).unwrap();
        let session = Session { resident: record.resident, number: 0, expires_unix_s };
        session::mint(&settings.session_key, &session)
    };
    let sessions = demo::records(RESIDENTS, &settings.hash_key, now.unix_ms).map(signed_in).collect();
    let listener = driver::bind("127.0.0.1:0".parse().unwrap(), 1, None).unwrap().remove(0);
    let address = listener.local_addr().unwrap();
    let inbox = Arc::new(Inbox::new(INBOX_MESSAGES_MAX));
    let mailbox = Mailbox::all(std::slice::from_ref(&inbox)).remove(0);
    let (bell, pull) = driver::bell().unwrap();
    let bells: Arc<[driver::Bell]> = Arc::new([bell]);
    let library = Arc::new(Library::new(Vec::new()).unwrap());
    let page_etag = library.find("/", Some(b"br"), None).unwrap().etag.clone();
    let (counters, overview) = (Arc::default(), Arc::new(Nothing));
    let parts = Parts {
        role: Role::Public,
        shards: 1,
        settings,
        registry,
        counters,
        overview,
        library,
        payloads: PAYLOAD_CACHE_SLOTS,
        ahead: Arc::new(Ahead::new(1_024).unwrap()),
        admission: Admission::default(),
        seed: 1,
    };
    let service = move || Service::new(parts, Port::new(Lane::new()), Past::default());
    let shard = Box::new(move |now| Shard::new(service(), mailbox, SHARD_CONNECTIONS_MAX, now));
    let seat = Seat {
        shard,
        listener,
        pull,
        bells: bells.clone(),
        pages: &[],
        zerocopy_threshold_bytes: usize::MAX,
        cpu: None,
    };
    let taken = driver::choose("uring").expect("the tests of the default driver need io_uring");
    let thread = std::thread::spawn(move || {
        IS_SHARD.with(|is_shard| is_shard.set(true));
        driver::run(&taken, seat).unwrap();
    });
    Running { address, sessions, page_etag: page_etag.into_owned(), inbox, bells, thread }
}

impl Running {
    fn connect(&self) -> Vec<TcpStream> {
        (0..CONNECTIONS).map(|_| TcpStream::connect(self.address).unwrap()).collect()
    }

    /// What phones ask when nothing is new: refreshes in three forms, the page in two, health.
    fn warm_requests(&self) -> Vec<String> {
        let page = |more: &str| format!("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: br\r\n{more}\r\n");
        let cookie = &self.sessions[5];
        vec![
            refresh(&self.sessions[0], ""),
            refresh(&self.sessions[1], "?qr=none"),
            format!("GET /person/app/refreshQRCode HTTP/1.1\r\nHost: h\r\nCookie: oc={cookie}\r\n\r\n"),
            page(""),
            page(&format!("If-None-Match: {}\r\n", self.page_etag)),
            "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
            refresh(&self.sessions[2], ""),
            page("Accept-Language: en\r\n"),
        ]
    }
}

fn refresh(session: &str, query: &str) -> String {
    format!("GET /person/app/refreshQRCode{query} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {session}\r\n\r\n")
}

#[test]
fn a_shards_thread_allocates_nothing_after_start() {
    let running = start();
    let mut buffer = vec![0; 4 << 20];
    let warm_requests = running.warm_requests();
    let mut warm = warm_requests.iter().cycle().cloned();
    let mut cold = running.sessions.iter().cycle().map(|session| refresh(session, ""));
    let mut connections = running.connect();
    exchange(&mut connections, &mut warm, 40, &mut buffer);
    exchange(&mut connections, &mut cold, 4, &mut buffer);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(before > 0, "the count works");

    // A connection has 10,000 requests, so new ones come and go.
    let rounds = 9_900 / PIPELINE;
    let mut done = 0;
    while done < 1_000_000 {
        drop(connections);
        connections = running.connect();
        exchange(&mut connections, &mut warm, rounds, &mut buffer);
        done += rounds * PIPELINE * CONNECTIONS;
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "in {done} warm requests");

    drop(connections);
    connections = running.connect();
    exchange(&mut connections, &mut cold, 70, &mut buffer);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "in {} cold refreshes", 70 * PIPELINE * CONNECTIONS);

    drop(connections);
    assert!(driver::tell(&running.inbox, &running.bells[0], Message::Drain));
    running.thread.join().unwrap();
}
