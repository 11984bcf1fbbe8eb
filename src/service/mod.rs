//! What each endpoint does: a request and the time go in, an answer comes out.
//!
//! One [`Service`] belongs to one shard. It holds the shard's payloads of this window and the assertions that the
//! shard has seen; it reads the registry, which all shards share, without waiting. What another shard must do for a
//! request leaves as an [`Ask`] and comes back as an [`Answer`].

#![forbid(unsafe_code)]

pub mod ahead;
pub mod apply;
pub mod asset_pack;
pub mod assets;
mod cache;
pub mod callers;
pub mod counters;
pub mod device;
pub mod operations;
pub mod problem;
mod redirect;
mod refresh;
mod reply;
mod residents;
mod route;
pub mod scan;
pub mod session;
mod sessions;
pub mod settings;
mod shedding;
pub mod sign_in;
mod stream;
pub mod used_assertions;
mod writes;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam::utils::CachePadded;

pub use crate::http::response::ReplyTarget;
pub use problem::Problem;
pub use reply::{Output, Reply};
pub use route::{Role, Route};
pub use settings::Settings;
pub use stream::{Stream, Written};
pub use writes::{Asker, Change, ConnectionId, Due, LineResult, NOBODY, Past, StatusWrite, Statuses};

use crate::admission::Admission;
use crate::http::date::DateCache;
use crate::http::field::Field;
use crate::http::head::{Head, Method};
use crate::http::negotiate::{self, ByteRange};
use crate::http::tls::Server;
use crate::journal::{Port, Shut};
use crate::limits::{BODY_BYTES_MAX, USED_ASSERTIONS_MAX};
use crate::registry::table::Table;
use crate::words::{Now, ResidentNumber};
use ahead::{Ahead, Expected};
use assets::Library;
use cache::PayloadCache;
use callers::Scope;
use counters::Counters;
use device::Kind;
use used_assertions::UsedAssertions;
use writes::Writes;

/// What a request needs from the shard that owns its resident or its assertion.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Ask {
    /// Remember this assertion, unless it was used before.
    UseAssertion {
        once: [u8; 16],
        /// How long it must be remembered.
        expires_unix_s: u64,
    },
    /// End all sessions of this resident.
    EndSessions {
        resident: ResidentNumber,
        /// The number of the session that asks, which ends too.
        up_to: u32,
    },
    /// Take these statements about your residents.
    Statuses(Box<Statuses>),
    /// Tell the latest changes of this resident.
    History(ResidentNumber),
    /// Put off writes of test residents, and settle those that were taken. For every owner.
    HoldTest,
    /// Forget your test residents. For every owner.
    PurgeTest,
}

/// What became of an [`Ask`], or of a record.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Answer {
    Done,
    Refused(Problem),
    Lines(Vec<(u64, LineResult)>),
    /// The latest changes of a resident, newest first.
    History(Vec<Change>),
    /// So many test residents were forgotten.
    Purged(u64),
}

impl Answer {
    /// Errors: why what was asked was not done.
    fn done(&self) -> Result<(), Problem> {
        if matches!(self, Answer::Done) { Ok(()) } else { Err(self.problem()) }
    }

    fn problem(&self) -> Problem {
        if let Answer::Refused(problem) = self { *problem } else { problem::BUSY }
    }
}

type Resume = dyn FnOnce(&mut Service, Answer, &mut Reply<'_>) -> Handled;

/// A request that waits for an [`Answer`], and how it goes on then.
pub struct Pending {
    route: Route,
    /// How long the answer is waited for, in milliseconds.
    pub wait_ms_max: u64,
    resume: Box<Resume>,
}

impl Pending {
    fn new<F>(route: Route, wait_ms_max: u64, resume: F) -> Pending
    where
        F: FnOnce(&mut Service, Answer, &mut Reply<'_>) -> Handled + 'static,
    {
        Pending { route, wait_ms_max, resume: Box::new(resume) }
    }
}

/// What became of a request.
pub enum Outcome {
    /// It is answered.
    Answered,
    /// It waits for its owner, or for all of them.
    Ask(Ask, Pending),
    /// It waits for what was asked or written already.
    Wait(Pending),
}

/// What became of a request, unless it is refused.
type Handled = Result<Outcome, Problem>;

/// What becomes of a request with a body, before that is read.
pub enum Begin {
    /// It is wanted, up to so many bytes.
    Body {
        /// A larger one gets 413.
        bytes_max: usize,
    },
    /// It is read line by line, whatever its length.
    Stream(Box<Stream>),
    /// It is refused already.
    Answered,
}

/// What the admin listener shows of the whole process.
pub trait Overview: Send + Sync {
    /// `/metrics`, in the Prometheus text format.
    fn metrics(&self, now: Now) -> Bytes;
    /// `/status.json`.
    fn status(&self, now: Now) -> Bytes;
}

/// What one shard's endpoints are made of.
#[allow(missing_docs, reason = "the names say it")]
pub struct Parts {
    pub role: Role,
    /// How many shards own residents: the public ones, numbered from 0.
    pub shards: usize,
    pub settings: Arc<Settings>,
    pub registry: Arc<Table>,
    /// Where this shard counts.
    pub counters: Arc<CachePadded<Counters>>,
    pub overview: Arc<dyn Overview>,
    pub library: Arc<Library>,
    /// Payloads of this window that the shard keeps; 768 bytes each.
    pub payloads: usize,
    /// What all shards have signed ahead.
    pub ahead: Arc<Ahead>,
    pub admission: Admission,
    /// For jitter, and for nothing that must be hard to guess.
    pub seed: u64,
}

/// One shard's endpoints.
pub struct Service {
    /// What it was made of; its shard counts there, asks the admission, and replaces the settings.
    pub parts: Parts,
    writes: Writes,
    date: DateCache,
    payloads: PayloadCache,
    expected: Expected,
    /// `None` once another process has them.
    used: Option<UsedAssertions>,
    /// `/readyz` says no.
    pub draining: bool,
    random: fastrand::Rng,
    /// The name in the certificate of the client at hand.
    client: Option<Arc<str>>,
    /// It came by way of a trusted balancer.
    is_proxied: bool,
    address: Option<IpAddr>,
}

impl Service {
    /// The endpoints of one shard: with its way into the journal, and its share of what that told at the start.
    pub fn new(parts: Parts, port: Port, past: Past) -> Service {
        let expected = if parts.role == Role::Public { parts.ahead.len().div_ceil(parts.shards) } else { 0 };
        Service {
            writes: Writes::new(port, past),
            date: DateCache::default(),
            payloads: PayloadCache::new(parts.payloads),
            expected: Expected::new(expected),
            used: Some(UsedAssertions::with_room(USED_ASSERTIONS_MAX)),
            draining: false,
            client: None,
            is_proxied: false,
            address: None,
            random: fastrand::Rng::with_seed(parts.seed),
            parts,
        }
    }

    /// What this listener's connections are opened with, where it speaks TLS.
    pub fn tls(&self) -> Option<&Arc<Server>> {
        match self.parts.role {
            Role::Public => self.parts.settings.tls.public.as_ref(),
            Role::Admin => self.parts.settings.tls.admin.as_ref(),
            Role::Redirect => None,
        }
    }

    /// What comes next is of a client with this name in its certificate, if any, from this address, proxied or not.
    pub fn set_client(&mut self, client: Option<&Arc<str>>, address: Option<IpAddr>, is_proxied: bool) {
        if self.client.is_some() || client.is_some() {
            self.client = client.cloned();
        }
        (self.address, self.is_proxied) = (address, is_proxied);
    }

    /// Whether what this peer says of its clients is believed.
    pub fn trusts_proxy(&self, peer: IpAddr) -> bool {
        let trusted = &self.parts.settings.trusted_proxies;
        self.parts.role != Role::Admin && trusted.iter().any(|net| net.contains(&peer.to_canonical()))
    }

    /// Whether the client speaks TLS, to us or to a trusted balancer.
    fn is_secure(&self, head: &Head<'_>) -> bool {
        let forwarded = || forwarded(head, Field::XForwardedProto).is_some_and(|it| it.eq_ignore_ascii_case("https"));
        self.tls().is_some() || (self.is_proxied && forwarded())
    }

    /// The same with the assertions that were used in the process before this one.
    pub fn remembering(self, used: Option<UsedAssertions>) -> Service {
        Service { used: used.or(self.used), ..self }
    }

    /// Takes no write and no assertion from here on, and gives away what it knows of those.
    pub fn let_go(&mut self) -> Option<UsedAssertions> {
        self.writes.port.closed = true;
        self.used.take()
    }

    /// A turn of the shard.
    #[inline]
    pub fn handle_turn(&mut self, now: Now) {
        self.parts.admission.handle_turn(now, |level| self.parts.settings.window.lengthened(level).seconds());
    }

    /// Which shard must do this; `None`: every owner.
    pub fn owner(&self, ask: &Ask) -> Option<usize> {
        let shards = self.parts.shards;
        match ask {
            Ask::UseAssertion { once, .. } => Some(owner_of(ResidentNumber(u128::from_le_bytes(*once) as u64), shards)),
            Ask::EndSessions { resident, .. } | Ask::History(resident) => Some(owner_of(*resident, shards)),
            Ask::Statuses(statuses) => Some(statuses.owner),
            Ask::HoldTest | Ask::PurgeTest => None,
        }
    }

    /// Does what another shard, or this one, needs of the owner. `None`: the answer comes from
    /// [`poll_durable`](Self::poll_durable) or [`poll_purged`](Self::poll_purged).
    pub fn answer(&mut self, now: Now, asker: Asker, ask: Ask) -> Option<Answer> {
        match ask {
            Ask::UseAssertion { once, expires_unix_s } => {
                let claimed = self.used.as_mut().map(|used| used.claim(once, expires_unix_s, now.unix_s()));
                Some(claimed.unwrap_or(Err(problem::BUSY)).map_or_else(Answer::Refused, |()| Answer::Done))
            }
            Ask::EndSessions { resident, up_to } => self.write_sessions(now, asker, resident, up_to),
            Ask::Statuses(statuses) => self.write_statuses(now, asker, *statuses),
            Ask::History(resident) => Some(Answer::History(self.history(resident))),
            Ask::HoldTest => self.hold_test(now, asker),
            Ask::PurgeTest => self.purge_test(now, asker),
        }
    }

    /// What an answer to `asker`, to what came at `now`, is written with.
    pub fn reply<'o>(&mut self, now: Now, asker: Asker, target: ReplyTarget, output: &'o mut Output) -> Reply<'o> {
        let origin = target.origin.and_then(|number| self.parts.settings.allowed_origins.get(usize::from(number)));
        Reply { now, asker, date: *self.date.at(now.unix_s()), target, origin: origin.cloned(), status: 0, output }
    }

    /// How this request is to be answered, where `closing` is the server's own wish.
    pub fn target(&self, head: &Head<'_>, closing: bool) -> ReplyTarget {
        ReplyTarget::new(head, closing, self.allowed_origin(head))
    }

    /// The number of the allowed origin whose page makes a call that such pages may make.
    fn allowed_origin(&self, head: &Head<'_>) -> Option<u16> {
        if self.parts.settings.allowed_origins.is_empty() {
            return None;
        }
        let origin = head.get(Field::Origin)?;
        let callable = matches!(
            Route::of(self.parts.role, head.path),
            Route::Session | Route::Refresh | Route::ScanVerify | Route::ScanRecords
        );
        let mut allowed = self.parts.settings.allowed_origins.iter();
        let number = allowed.position(|allowed| callable && allowed.as_bytes() == origin)?;
        u16::try_from(number).ok()
    }

    /// Whether a page of another origin asks, and may not.
    fn is_refused_origin(&self, head: &Head<'_>) -> bool {
        is_foreign(head) && self.allowed_origin(head).is_none()
    }

    /// A request with a body has begun: refuses it at once where no body can change that.
    pub fn begin(&mut self, head: &Head<'_>, reply: &mut Reply<'_>) -> Begin {
        if self.parts.role == Role::Redirect {
            self.redirect(head, reply);
            return Begin::Answered;
        }
        let begun = self.admit(head).and_then(|route| match (route, head.method) {
            (Route::Residents | Route::ScanRecords, Method::Post) => {
                let stream = self.begin_lines(route, head, reply).map_err(|problem| (route, problem))?;
                Ok(Begin::Stream(Box::new(stream)))
            }
            _ => Ok(Begin::Body { bytes_max: BODY_BYTES_MAX }),
        });
        begun.unwrap_or_else(|(route, problem)| {
            self.conclude(route, Err(problem), reply);
            Begin::Answered
        })
    }

    fn begin_lines(&mut self, route: Route, head: &Head<'_>, reply: &Reply<'_>) -> Result<Stream, Problem> {
        if route == Route::ScanRecords {
            let device = self.device(reply.now, head, &[Kind::Scanner, Kind::Post])?;
            check_content_type(head)?;
            return Ok(Stream::new(route, device, head.framing, reply));
        }
        self.for_caller(head, reply, stream::RESIDENTS, |service, author| {
            check_content_type(head)?;
            service.write_audit(reply.now, reply.asker, author, stream::RESIDENTS, "")?;
            Ok(Stream::new(route, author.clone(), head.framing, reply))
        })
    }

    /// A whole request.
    pub fn handle(&mut self, head: &Head<'_>, body: &[u8], reply: &mut Reply<'_>) -> Outcome {
        if self.parts.role == Role::Redirect {
            return self.redirect(head, reply);
        }
        let (route, handled) = match self.admit(head) {
            Ok(route) => (route, self.handle_route(route, head, body, reply)),
            Err((route, problem)) => (route, Err(problem)),
        };
        self.conclude(route, handled, reply)
    }

    #[inline(always)]
    fn handle_route(&mut self, route: Route, head: &Head<'_>, body: &[u8], reply: &mut Reply<'_>) -> Handled {
        match route {
            _ if head.method == Method::Options => {
                let methods = route.methods().1;
                let (allowed, fields) = (("Access-Control-Allow-Methods", methods), ("Access-Control-Max-Age", "7200"));
                let (asks_with, count) = match route {
                    Route::Jwks => ("If-None-Match", 5),
                    _ => ("Authorization, Content-Type", if reply.origin.is_some() { 4 } else { 1 }),
                };
                let all = [("Allow", methods), allowed, (ALLOW_HEADERS, asks_with), fields, ANYBODY];
                reply.inline(204, &all[..count], b"");
                Ok(Outcome::Answered)
            }
            Route::Refresh => self.refresh(head, reply),
            Route::Page => Ok(self.page(head, reply)),
            Route::Jwks => Ok(self.jwks(head, reply)),
            Route::Health => Ok(reply.document("text/plain", Bytes::from_static(b"ok\n"))),
            Route::Ready => self.ready(head, reply),
            Route::Session => self.session(head, body, reply),
            Route::ScanVerify => self.scan_verify(head, body, reply),
            Route::Lookup => self.lookup(head, body, reply),
            Route::TestData => self.purge(head, reply),
            Route::Metrics | Route::Status | Route::Audit => self.operator_reads(route, head, reply),
            // One with a body is a stream.
            Route::Residents | Route::ScanRecords => Err(problem::BODY_MALFORMED),
            Route::Redirect | Route::Unknown | Route::Unread => unreachable!("refused by admit"),
        }
    }

    /// Refuses what could not be done, and counts what is answered.
    #[inline(always)]
    fn conclude(&mut self, route: Route, handled: Handled, reply: &mut Reply<'_>) -> Outcome {
        let outcome = handled.unwrap_or_else(|problem| self.refuse_route(route, problem, reply));
        if reply.status > 0 {
            self.parts.counters.count_answer(route, reply.status);
        }
        outcome
    }

    /// What an operator's dashboard asks for.
    fn operator_reads(&self, route: Route, head: &Head<'_>, reply: &mut Reply<'_>) -> Handled {
        let (_, may) = self.caller(head, Scope::Read)?;
        if !may {
            return Err(problem::SCOPE_MISSING);
        }
        let (content_type, document) = match route {
            Route::Metrics => ("text/plain; version=0.0.4", self.parts.overview.metrics(reply.now)),
            Route::Audit => ("application/json", self.audit(head)?),
            _ => ("application/json", self.parts.overview.status(reply.now)),
        };
        Ok(reply.document(content_type, document))
    }

    /// Goes on with a request that waited.
    pub fn resume(&mut self, pending: Pending, answer: Answer, reply: &mut Reply<'_>) -> Outcome {
        let resumed = (pending.resume)(self, answer, reply);
        self.conclude(pending.route, resumed, reply)
    }

    /// Answers what could not be read as a request.
    pub fn refuse(&mut self, problem: Problem, reply: &mut Reply<'_>) {
        self.conclude(Route::Unread, Err(problem), reply);
    }

    /// The route of a request, or why there is none for it.
    fn admit(&self, head: &Head<'_>) -> Result<Route, (Route, Problem)> {
        let route = self.route(head.path);
        if self.parts.role == Role::Admin {
            callers::guard(head, &self.parts.settings.admin_host_names).map_err(|problem| (route, problem))?;
        }
        if head.is_https.is_some_and(|is_https| is_https != self.is_secure(head)) {
            return Err((route, problem::SCHEME_WRONG));
        }
        match route {
            // RFC 9110 §9.1: a method nobody knows is 501, one that this path lacks is 405.
            _ if matches!(head.method, Method::Other | Method::Connect) => Err((route, problem::METHOD_UNKNOWN)),
            // RFC 9110 §9.3.7: `*` asks about the server as a whole.
            Route::Unknown if head.path == "*" => Ok(Route::Health),
            Route::Unknown => Err((route, problem::UNKNOWN_ROUTE)),
            _ if !route.methods().0.contains(&head.method) => Err((route, problem::METHOD_NOT_ALLOWED)),
            _ => Ok(route),
        }
    }

    fn route(&self, path: &str) -> Route {
        // The operators' page is theirs, and they have no other.
        let is_ours = (self.parts.role == Role::Admin) == (path == "/ops");
        let is_page = || is_ours && ["", "/"].iter().any(|end| self.parts.library.has(path, end));
        match Route::of(self.parts.role, path) {
            Route::Unknown if is_page() => Route::Page,
            route => route,
        }
    }

    fn refuse_route(&mut self, route: Route, problem: Problem, reply: &mut Reply<'_>) -> Outcome {
        let allow = [("Allow", route.methods().1)];
        let fields: reply::Fields<'_> = match problem.status {
            405 => &allow,
            401 => &[("WWW-Authenticate", "Bearer")],
            _ => &[],
        };
        // Spread, so that those who were refused together do not come back together.
        let lasts = [problem::JOURNAL_FAILED, problem::JOURNAL_FULL, problem::REGISTRY_FULL].contains(&problem);
        let range = if lasts { RETRY_LATER_S } else { RETRY_AFTER_S };
        let least_s = if problem.status == 429 { self.parts.admission.rates.wait_s } else { 0 };
        let retry_after_s = matches!(problem.status, 429 | 503).then(|| least_s + self.random.u32(range));
        let members = match (&self.parts.settings.login_url, self.parts.settings.demo_residents) {
            _ if !matches!(route, Route::Session | Route::Refresh) || problem.status != 401 => String::new(),
            (_, Some(_)) => r#""demo":true"#.to_owned(),
            // The configuration refuses URLs with characters that JSON would escape.
            (Some(url), None) => format!(r#""login_url":"{url}""#),
            (None, None) => String::new(),
        };
        reply.problem(problem, retry_after_s, fields, &members);
        Outcome::Answered
    }

    fn ready(&mut self, head: &Head<'_>, reply: &mut Reply<'_>) -> Handled {
        let is_admin = self.parts.role == Role::Admin;
        let amiss = match (self.draining, self.writes.port.lane.failed.load()) {
            _ if !is_admin && (self.draining || self.writes.port.lane.failed.load()) => Some(problem::NOT_READY),
            (true, _) => Some(problem::DRAINING),
            (false, true) => Some(problem::JOURNAL_FAILED),
            (false, false) => None,
        };
        if is_admin && negotiate::query_parameter(head.query, "verbose").is_some() {
            let after_s = self.random.u32(RETRY_AFTER_S).to_string();
            let fields = [("Content-Type", "text/plain"), ("Cache-Control", "no-store"), ("Retry-After", &after_s)];
            let (status, fields) = if amiss.is_none() { (200, &fields[..2]) } else { (503, &fields[..]) };
            reply.inline(status, fields, self.components().as_bytes());
            return Ok(Outcome::Answered);
        }
        amiss.map_or_else(|| Ok(reply.document("text/plain", Bytes::from_static(b"ready\n"))), Err)
    }

    /// How each part is, a line for each, and what that comes to.
    fn components(&self) -> String {
        let Parts { settings, registry, shards, .. } = &self.parts;
        let sign_in = match (&settings.verifier, settings.demo_residents) {
            (Some(_), _) => "ok, by assertion",
            (None, Some(_)) => "ok, by the demo's numbers",
            (None, None) => "not configured",
        };
        let failed = self.writes.port.lane.failed.load();
        let journal = match self.writes.port.lane.shut.load() {
            _ if failed => "failed: writes are refused until a restart",
            Shut::ToAll => "full: writes are refused until there is space",
            Shut::ToScans => "nearly full: scans are refused until there is space",
            Shut::Open => "ok",
        };
        let serving = if self.draining { "draining" } else { "ok" };
        let ready = if self.draining || failed { "not ready" } else { "ready" };
        let (residents, epoch) = (registry.residents(), settings.session_key.epoch);
        format!(
            "registry: ok, residents {residents}\nkeys: ok, session epoch {epoch}\nsign-in: {sign_in}\n\
             journal: {journal}\nshards: {serving}, {shards}\n{ready}\n"
        )
    }

    fn jwks(&self, head: &Head<'_>, reply: &mut Reply<'_>) -> Outcome {
        let settings = &self.parts.settings;
        let (etag, cached) = (("ETag", &*settings.jwks_etag), ("Cache-Control", "no-cache"));
        let exposed = ("Access-Control-Expose-Headers", "ETag");
        let fields = [etag, cached, ANYBODY, exposed, ("Content-Type", "application/json")];
        if negotiate::is_none_match(head, &settings.jwks_etag) {
            reply.inline(304, &fields[..4], b"");
        } else {
            reply.shared(200, &fields, settings.jwks.clone());
        }
        Outcome::Answered
    }

    fn page(&self, head: &Head<'_>, reply: &mut Reply<'_>) -> Outcome {
        let (encoding, language) = (head.get(Field::AcceptEncoding), head.get(Field::AcceptLanguage));
        let Some(page) = self.parts.library.find(head.path, encoding, language) else {
            // A folder's page, whose own links are relative to the folder. A send slot need not have room for a query.
            let (mark, query) = head.query.map_or(("", ""), |query| ("?", query));
            let to = format!("Location: {}/{mark}{query}\r\n", head.path);
            reply.borrowed(308, self.hsts(), to + "Cache-Control: no-cache\r\nContent-Length: 0\r\n\r\n", usize::MAX);
            return Outcome::Answered;
        };
        let length = page.body().len() as u64;
        match negotiate::byte_range(head, length, &page.etag) {
            _ if negotiate::is_none_match(head, &page.etag) => reply.unchanged(self.hsts(), page),
            ByteRange::Whole => reply.borrowed(200, self.hsts(), page.whole.clone(), page.ends[2]),
            ByteRange::Part { first, last } => reply.part(page, first, last),
            ByteRange::Unsatisfiable => {
                let range = format!("bytes */{length}");
                reply.problem(problem::RANGE_UNSATISFIABLE, None, &[("Content-Range", &range)], "");
            }
        }
        Outcome::Answered
    }
}

/// What a trusted balancer itself says in a field, last in the list: what stands before it, its client may have sent.
fn forwarded<'b>(head: &Head<'b>, field: Field) -> Option<&'b str> {
    let list = std::str::from_utf8(head.all(field).last()?).ok()?;
    list.rsplit(',').next().map(str::trim)
}

/// Pages of every origin may read it.
const ANYBODY: (&str, &str) = ("Access-Control-Allow-Origin", "*");
const ALLOW_HEADERS: &str = "Access-Control-Allow-Headers";
/// Seconds that a refused client is asked to stay away.
const RETRY_AFTER_S: std::ops::RangeInclusive<u32> = 1..=8;
/// The same where an operator must help first.
const RETRY_LATER_S: std::ops::RangeInclusive<u32> = 60..=120;

fn owner_of(resident: ResidentNumber, shards: usize) -> usize {
    (resident.0 % shards as u64) as usize
}

/// Writes come as JSON or as lines of it, which no form of another page can send (Fetch, "CORS-safelisted").
fn check_content_type(head: &Head<'_>) -> Result<(), Problem> {
    let value = head.get(Field::ContentType).unwrap_or_default();
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let known = ["application/json", "application/x-ndjson", "application/ndjson", "application/jsonl"];
    let is_known = known.iter().any(|known| essence.eq_ignore_ascii_case(known.as_bytes()));
    if is_known { Ok(()) } else { Err(problem::CONTENT_TYPE_WRONG) }
}

/// Whether a request comes from a page of another origin (RFC 6454): then its cookie counts for nothing. A page of
/// another host of the same site may lead to ours, but change nothing there.
fn is_foreign(head: &Head<'_>) -> bool {
    match head.get(Field::SecFetchSite) {
        None | Some(b"same-origin" | b"none") => {}
        Some(b"same-site") if matches!(head.method, Method::Get | Method::Head) => {}
        Some(_) => return true,
    }
    let Some(origin) = head.get(Field::Origin) else { return false };
    // Behind a proxy that ends TLS only the origin tells the scheme, and so which port need not be written.
    let (authority, port): (_, &[u8]) = match (origin.strip_prefix(b"https://"), origin.strip_prefix(b"http://")) {
        (Some(authority), _) => (authority, b":443"),
        (None, Some(authority)) => (authority, b":80"),
        (None, None) => return true,
    };
    let host = head.get(Field::Host).unwrap_or_default();
    let [ours, theirs] = [host, authority].map(|name| name.strip_suffix(port).unwrap_or(name));
    theirs.is_empty() || !theirs.eq_ignore_ascii_case(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages_are_not_foreign() {
        let cases: [(&str, &str, &str, bool); 27] = [
            ("POST", "app.example", "", false),
            ("POST", "app.example", "Origin: https://app.example", false),
            ("POST", "app.example", "Origin: http://APP.example", false),
            ("POST", "app.example:443", "Origin: https://app.example", false),
            ("POST", "app.example", "Origin: https://app.example:443", false),
            ("POST", "app.example:80", "Origin: http://app.example", false),
            ("POST", "app.example:8080", "Origin: http://app.example:8080", false),
            ("POST", "[::1]:443", "Origin: https://[::1]", false),
            ("POST", "app.example:80", "Origin: https://app.example", true),
            ("POST", "app.example:443", "Origin: http://app.example", true),
            ("POST", "app.example:8443", "Origin: https://app.example", true),
            ("POST", "app.example", "Origin: https://app.example:8443", true),
            ("POST", "app.example", "Origin: https://app.example.evil", true),
            ("POST", "app.example", "Origin: https://evil.example", true),
            ("POST", "app.example", "Origin: ftp://app.example", true),
            ("POST", "app.example", "Origin: null", true),
            ("POST", "app.example", "Origin: app.example", true),
            ("POST", "", "Origin: https://", true),
            ("POST", "", "Origin: https://:443", true),
            ("POST", "app.example", "Sec-Fetch-Site: same-origin", false),
            ("POST", "app.example", "Sec-Fetch-Site: none", false),
            ("POST", "app.example", "Sec-Fetch-Site: same-site", true),
            ("DELETE", "app.example", "Sec-Fetch-Site: same-site", true),
            ("GET", "app.example", "Sec-Fetch-Site: same-site", false),
            ("GET", "app.example", "Sec-Fetch-Site: cross-site", true),
            ("GET", "app.example", "Sec-Fetch-Site: unheard-of", true),
            ("POST", "app.example", "Sec-Fetch-Site: same-origin\r\nOrigin: https://evil.example", true),
        ];
        for (method, host, field, foreign) in cases {
            let host = if host.is_empty() { String::new() } else { format!("Host: {host}\r\n") };
            let end = if field.is_empty() { "" } else { "\r\n" };
            let text = format!("{method} / HTTP/1.0\r\n{host}{field}{end}\r\n");
            let head = crate::http::head::parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(is_foreign(&head), foreign, "{text}");
        }
    }
}
