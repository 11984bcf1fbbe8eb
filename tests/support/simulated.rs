//! Shards under the simulator with the demo's residents, and the same lines to them as to a real process.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use crossbeam::utils::CachePadded;
use onecode::admission::rate::Rates;
use onecode::admission::{Admission, Shared};
use onecode::code::claims::Issuer;
use onecode::code::keyring::Keyring;
use onecode::code::qr::Painter;
use onecode::code::window::Window;
use onecode::http::tls::{Certificate, Chain, SECRET_BYTES, Server, Tickets};
use onecode::journal::{Lane, Port};
use onecode::limits::SHARD_CONNECTIONS_MAX;
use onecode::registry::demo;
use onecode::registry::id_number::HashKey;
use onecode::registry::table::Table;
use onecode::service::ahead::Ahead;
use onecode::service::assets::Library;
use onecode::service::callers::Callers;
use onecode::service::counters::Counters;
use onecode::service::device::{Device, DeviceKey, Kind};
use onecode::service::session::{self, Session, SessionKey};
use onecode::service::sign_in::Verifier;
use onecode::service::{Overview, Parts, Past, Role, Service, Settings};
use onecode::shard::Shard;
use onecode::shard::mailbox::{Inbox, Mailbox};
use onecode::words::Now;

use super::disk::Disk;
use super::identity::{AUDIENCE, ISSUER};
use super::secured::Authority;
use super::sim::{Client as SimClient, Sim};
use super::{Host, Line};

/// When simulated processes start: in the midst of a window.
pub const START: Now = Now { unix_ms: 1_800_000_000_500, mono_us: 77_000_123 };
/// The pages of all simulated processes: a library's memory is never freed.
static LIBRARY: LazyLock<Arc<Library>> = LazyLock::new(|| Arc::new(Library::new(Vec::new()).unwrap()));
/// Work that is older is dropped under load, in milliseconds.
pub const DEADLINE_MS: u64 = 1_000;
/// Codes a minute that each session may have made.
const SESSION_PER_MINUTE: u32 = 12;
/// Residents of a simulated process.
pub const RESIDENTS: u32 = 64;

/// Key material that is the same in every run, so that a seed is all that a failure needs.
fn fixed(bytes: &mut [u8]) {
    bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8);
}

/// Settings of the demo kind, with sign-in by the keys of `jwks` where there are some.
pub fn settings(jwks: Option<&str>) -> Arc<Settings> {
    settings_for(jwks, Callers::default())
}

/// The same, for these callers of the admin listener.
pub fn settings_for(jwks: Option<&str>, callers: Callers) -> Arc<Settings> {
    let keyring = Keyring::generate(START.unix_s(), fixed);
    let session = keyring.session_key();
    let document = keyring.jwks_json("CN-610100");
    Arc::new(Settings {
        generation: 1,
        issuer: Issuer::new(&keyring, "CN-610100").unwrap(),
        painter: Painter::default(),
        window: Window::new(45, 120).unwrap(),
        session_key: SessionKey::new(session.epoch, *session.key.expose()).unwrap(),
        session_s: 86_400,
        device_key: DeviceKey::new(*keyring.device_key.expose()),
        callers,
        trust: keyring.trusted("CN-610100"),
        hash_key: Arc::new(HashKey::new(*keyring.hash_key.expose())),
        verifier: jwks.map(|jwks| Verifier::from_jwks(jwks, ISSUER, AUDIENCE, "id_number").unwrap()),
        login_url: None,
        demo_residents: Some(RESIDENTS),
        jwks: Bytes::from(document),
        jwks_etag: "\"0\"".to_owned(),
        admin_host_names: Vec::new(),
        tls: Default::default(),
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        allowed_origins: Vec::new(),
        started_unix_ms: START.unix_ms,
    })
}

/// The same behind TLS, and what to trust.
pub fn settings_with_tls() -> (Arc<Settings>, String) {
    let authority = Authority::new("simulated");
    let own = authority.sign("localhost", false, |_| {});
    let chain = Chain::from_pem(own.chain.as_bytes(), START.unix_s()).unwrap();
    let own = Certificate::new(chain, own.key.as_bytes()).unwrap();
    let tickets = Arc::new(Tickets::new(&[7; SECRET_BYTES]));
    let server = Server::new("public", &[own], None, false, &tickets).unwrap();
    let mut settings = Arc::into_inner(settings(None)).unwrap();
    settings.tls.public = Some(Arc::new(server));
    (Arc::new(settings), authority.pem)
}

/// An admin listener with nothing to show.
pub struct Nothing;

impl Overview for Nothing {
    fn metrics(&self, _: Now) -> Bytes {
        Bytes::new()
    }

    fn status(&self, _: Now) -> Bytes {
        Bytes::new()
    }
}

/// A simulated process. Behind its public shards comes the admin shard.
pub struct Simulated {
    pub registry: Arc<Table>,
    pub admin: usize,
    pub sim: RefCell<Sim<Disk>>,
    pub settings: Arc<Settings>,
    pub inboxes: Vec<Arc<Inbox>>,
    pub counters: Vec<Arc<CachePadded<Counters>>>,
}

impl Simulated {
    /// Two shards with the demo's residents.
    pub fn new(seed: u64) -> Simulated {
        Simulated::with(seed, settings(None), 2, 4_096)
    }

    /// `shards` shards whose inboxes hold `inbox_messages` each.
    pub fn with(seed: u64, settings: Arc<Settings>, shards: usize, inbox_messages: usize) -> Simulated {
        let registry = Arc::new(Table::new(2 * RESIDENTS as usize).unwrap());
        for record in demo::records(RESIDENTS, &settings.hash_key, START.unix_ms) {
            registry.write(&record).unwrap();
        }
        let seats = shards + 1;
        let inboxes: Vec<Arc<Inbox>> = (0..seats).map(|_| Arc::new(Inbox::new(inbox_messages))).collect();
        let counters: Vec<Arc<CachePadded<Counters>>> = (0..seats).map(|_| Arc::default()).collect();
        let lanes: Vec<Arc<Lane>> = (0..seats).map(|_| Lane::new()).collect();
        let library = LIBRARY.clone();
        let ahead = Arc::new(Ahead::new(64).unwrap());
        let shard = |(own, mailbox): (usize, Mailbox)| {
            let (settings, registry) = (settings.clone(), registry.clone());
            let overview = Arc::new(Nothing);
            let (counters, library) = (counters[own].clone(), library.clone());
            let (role, seed) = (if own < shards { Role::Public } else { Role::Admin }, own as u64);
            let (payloads, ahead) = (1_024, ahead.clone());
            let shared = Arc::new(Shared::new(None, 0));
            let admission = Admission::new(shared, shards, DEADLINE_MS, Rates::new(SESSION_PER_MINUTE, 0));
            let parts = Parts {
                role,
                shards,
                settings,
                registry,
                counters,
                overview,
                library,
                payloads,
                ahead,
                admission,
                seed,
            };
            let service = Service::new(parts, Port::new(lanes[own].clone()), Past::default());
            Shard::new(service, mailbox, SHARD_CONNECTIONS_MAX, START)
        };
        let all = Mailbox::all(&inboxes).into_iter().enumerate().map(shard).collect();
        let sim = RefCell::new(Sim::new(seed, START, all, Disk::new(lanes)));
        Simulated { sim, settings, inboxes, counters, registry, admin: shards }
    }

    /// The token of a device.
    pub fn device(&self, kind: Kind) -> String {
        let expires_unix_s = u32::try_from(START.unix_s() + 86_400).unwrap();
        self.settings.device_key.mint(&Device { id: 7, kind, expires_unix_s })
    }

    /// A line to one shard.
    pub fn connect_to(&self, shard: usize) -> Box<dyn Line + '_> {
        let client = self.sim.borrow_mut().connect(shard).expect("there is room");
        Box::new(SimLine { host: self, client })
    }

    /// A client of one shard.
    pub fn client_of(&self, shard: usize) -> super::Client<'_> {
        super::Client { line: self.connect_to(shard), received: Vec::new(), ended: false }
    }
}

impl Host for Simulated {
    fn connect(&self) -> Box<dyn Line + '_> {
        self.connect_to(0)
    }

    fn session(&self, number: u32) -> String {
        let (resident, _) = self.settings.hash_key.number(&demo::id_number(number));
        let expires_unix_s = u32::try_from(START.unix_s() + 86_400).unwrap();
        let session = Session { resident, number: 0, expires_unix_s };
        session::mint(&self.settings.session_key, &session)
    }

    fn elapsed_ms(&self) -> u64 {
        self.sim.borrow().now().mono_ms() - START.mono_ms()
    }

    fn is_exact(&self) -> bool {
        true
    }
}

struct SimLine<'h> {
    host: &'h Simulated,
    client: SimClient,
}

impl Line for SimLine<'_> {
    fn send(&mut self, bytes: &[u8]) {
        self.host.sim.borrow_mut().send(self.client, bytes);
    }

    fn finish_sending(&mut self) {
        self.host.sim.borrow_mut().end(self.client);
    }

    fn receive(&mut self, within_ms: u64) -> Option<Vec<u8>> {
        let mut sim = self.host.sim.borrow_mut();
        let end_ms = sim.now().mono_ms() + within_ms;
        loop {
            sim.settle();
            let received = sim.take_received(self.client);
            if !received.is_empty() || sim.is_server_done(self.client) {
                return Some(received);
            }
            let now_ms = sim.now().mono_ms();
            if now_ms >= end_ms {
                return None;
            }
            sim.advance((end_ms - now_ms).min(50));
        }
    }
}
