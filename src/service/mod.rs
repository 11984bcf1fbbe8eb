//! What each endpoint does: a request and the time go in, an answer comes out.
//!
//! One [`Service`] belongs to one shard. It holds the shard's payloads of this window and the assertions that the
//! shard has seen; it reads the registry, which all shards share, without waiting. What another shard must do for a
//! request leaves as an [`Ask`] and comes back as an [`Answer`].

#![forbid(unsafe_code)]

mod admin;
pub mod asset_pack;
pub mod assets;
mod cache;
pub mod counters;
pub mod problem;
mod refresh;
mod reply;
mod route;
pub mod session;
mod sessions;
pub mod settings;
pub mod sign_in;
pub mod used_assertions;

use std::sync::Arc;

use bytes::Bytes;
use crossbeam::utils::CachePadded;

pub use problem::Problem;
pub use reply::{Output, Reply, ReplyTarget};
pub use route::{Role, Route};
pub use settings::Settings;

use crate::http::date::DateCache;
use crate::http::field::Field;
use crate::http::head::{Head, Method, Scheme};
use crate::http::negotiate::{self, ByteRange};
use crate::limits::BODY_BYTES_MAX;
use crate::registry::table::Table;
use crate::words::{Now, ResidentNumber};
use assets::Library;
use cache::PayloadCache;
use counters::Counters;
use used_assertions::{Claim, UsedAssertions};

/// What a request needs from the shard that owns its resident or its assertion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Remember this assertion, unless it was used before.
    UseAssertion {
        /// Names the assertion.
        once: [u8; 16],
        /// How long it must be remembered.
        expires_unix_s: u64,
    },
    /// End all sessions of this resident.
    EndSessions {
        /// Whose.
        resident: ResidentNumber,
        /// The number of the session that asks, which ends too.
        up_to: u32,
    },
}

/// What became of an [`Ask`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was done.
    Done,
    /// The assertion had been used.
    Replayed,
    /// No more assertions can be remembered now.
    Full,
    /// There is no such resident.
    Unknown,
    /// The owner's queue is full.
    Busy,
}

/// A request that waits for an [`Answer`], reduced to what its own answer will need.
#[derive(Clone, Copy, Debug)]
pub enum Pending {
    /// Sign this resident in.
    SignIn {
        /// Who has proved to be this resident.
        resident: ResidentNumber,
        /// The cookie may be marked `Secure`.
        secure: bool,
    },
    /// Say that the sessions have ended.
    SignOut {
        /// As the cookie was set.
        secure: bool,
    },
}

/// What became of a request.
pub enum Outcome {
    /// It is answered.
    Answered,
    /// It waits for another shard.
    Ask(Ask, Pending),
}

/// What becomes of a request with a body, before that is read.
pub enum Begin {
    /// It is wanted, up to so many bytes.
    Body {
        /// A larger one gets 413.
        bytes_max: usize,
    },
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
pub struct Parts {
    /// Which listener.
    pub role: Role,
    /// How many shards own residents: the public ones, numbered from 0.
    pub shards: usize,
    /// Keys, sign-in and lifetimes.
    pub settings: Arc<Settings>,
    /// The residents.
    pub registry: Arc<Table>,
    /// Where this shard counts.
    pub counters: Arc<CachePadded<Counters>>,
    /// What the admin listener shows.
    pub overview: Arc<dyn Overview>,
    /// Pages and their files.
    pub library: Arc<Library>,
    /// For jitter, and for nothing that must be hard to guess.
    pub seed: u64,
}

/// One shard's endpoints.
pub struct Service {
    parts: Parts,
    date: DateCache,
    payloads: PayloadCache,
    used: UsedAssertions,
    draining: bool,
    random: fastrand::Rng,
}

impl Service {
    /// The endpoints of one shard.
    pub fn new(parts: Parts) -> Service {
        Service {
            date: DateCache::default(),
            payloads: PayloadCache::new(),
            used: UsedAssertions::default(),
            draining: false,
            random: fastrand::Rng::with_seed(parts.seed),
            parts,
        }
    }

    /// What this shard counts.
    pub fn counters(&self) -> &Counters {
        &self.parts.counters
    }

    /// Other settings from here on.
    pub fn set(&mut self, settings: Arc<Settings>) {
        self.parts.settings = settings;
    }

    /// `/readyz` says no from here on.
    pub fn set_draining(&mut self) {
        self.draining = true;
    }

    /// Which shard must do this.
    pub fn owner(&self, ask: &Ask) -> usize {
        let number = match ask {
            Ask::UseAssertion { once, .. } => {
                u64::from_le_bytes([once[0], once[1], once[2], once[3], once[4], once[5], once[6], once[7]])
            }
            Ask::EndSessions { resident, .. } => resident.0,
        };
        // Below the number of shards, so it fits.
        usize::try_from(number % self.parts.shards as u64).unwrap_or(0)
    }

    /// Does what another shard, or this one, needs of the owner.
    pub fn answer(&mut self, now: Now, ask: Ask) -> Answer {
        match ask {
            Ask::UseAssertion { once, expires_unix_s } => match self.used.claim(once, expires_unix_s, now.unix_s()) {
                Claim::First => Answer::Done,
                Claim::Replayed => Answer::Replayed,
                Claim::Full => Answer::Full,
            },
            Ask::EndSessions { resident, up_to } => match self.parts.registry.raise_session(resident, up_to) {
                Some(_) => Answer::Done,
                None => Answer::Unknown,
            },
        }
    }

    /// A request with a body has begun: refuses it at once where no body can change that.
    pub fn begin(&mut self, now: Now, head: &Head<'_>, reply: &mut Reply<'_>) -> Begin {
        match self.admit(head) {
            Ok(_) => Begin::Body { bytes_max: BODY_BYTES_MAX },
            Err((route, problem)) => {
                self.refuse_route(now, route, problem, reply);
                Begin::Answered
            }
        }
    }

    /// A whole request.
    pub fn handle(&mut self, now: Now, head: &Head<'_>, body: &[u8], reply: &mut Reply<'_>) -> Outcome {
        let route = match self.admit(head) {
            Ok(route) => route,
            Err((route, problem)) => {
                self.refuse_route(now, route, problem, reply);
                return Outcome::Answered;
            }
        };
        if head.method == Method::Options {
            self.count(route, 204);
            reply.inline(self.date.at(now.unix_s()), 204, &[("Allow", route.allow())], b"");
            return Outcome::Answered;
        }
        match route {
            Route::Refresh => self.refresh(now, head, reply),
            Route::Session => return self.session(now, head, body, reply),
            Route::Page => self.page(now, head, reply),
            Route::Jwks => {
                let (document, etag) = (self.parts.settings.jwks.clone(), self.parts.settings.clone());
                self.document(now, head, route, "application/json", document, Some(&etag.jwks_etag), reply);
            }
            Route::Health => self.document(now, head, route, "text/plain", Bytes::from_static(b"ok\n"), None, reply),
            Route::Ready => self.ready(now, head, reply),
            Route::Metrics => {
                let metrics = self.parts.overview.metrics(now);
                self.document(now, head, route, "text/plain; version=0.0.4", metrics, None, reply);
            }
            Route::Status => {
                let status = self.parts.overview.status(now);
                self.document(now, head, route, "application/json", status, None, reply);
            }
            Route::Unknown | Route::Unread => unreachable!("refused by admit"),
        }
        Outcome::Answered
    }

    /// Goes on with a request that waited.
    pub fn resume(&mut self, now: Now, pending: Pending, answer: Answer, reply: &mut Reply<'_>) {
        match pending {
            Pending::SignIn { resident, secure } => self.signed_in(now, resident, secure, answer, reply),
            Pending::SignOut { secure } => self.signed_out(now, secure, answer, reply),
        }
    }

    /// Answers what could not be read as a request.
    pub fn refuse(&mut self, now: Now, problem: Problem, reply: &mut Reply<'_>) {
        self.refuse_route(now, Route::Unread, problem, reply);
    }

    /// The route of a request, or why there is none for it.
    fn admit(&self, head: &Head<'_>) -> Result<Route, (Route, Problem)> {
        let mut route = Route::of(self.parts.role, head.path);
        if self.parts.role == Role::Admin {
            admin::guard(head, &self.parts.settings.admin_host_names).map_err(|problem| (route, problem))?;
        } else if route == Route::Unknown && self.parts.library.has(head.path) {
            route = Route::Page;
        }
        if head.scheme == Some(Scheme::Https) {
            return Err((route, problem::SCHEME_WRONG));
        }
        match route {
            // RFC 9110 §9.1: a method nobody knows is 501, one that this path lacks is 405.
            _ if matches!(head.method, Method::Other | Method::Connect) => Err((route, problem::METHOD_UNKNOWN)),
            // RFC 9110 §9.3.7: `*` asks about the server as a whole.
            Route::Unknown if head.path == "*" => Ok(Route::Health),
            Route::Unknown => Err((route, problem::UNKNOWN_ROUTE)),
            _ if !route.allows(head.method) => Err((route, problem::METHOD_NOT_ALLOWED)),
            _ => Ok(route),
        }
    }

    fn refuse_route(&mut self, now: Now, route: Route, problem: Problem, reply: &mut Reply<'_>) {
        self.count(route, problem.status);
        let allow = [("Allow", route.allow())];
        let challenge = [("WWW-Authenticate", "Bearer")];
        let fields: reply::Fields<'_> = match problem.status {
            405 => &allow,
            401 => &challenge,
            _ => &[],
        };
        // Spread, so that those who were refused together do not come back together.
        let retry_after_s = (problem.status == 503).then(|| self.random.u32(RETRY_AFTER_S));
        let members = match (&self.parts.settings.login_url, self.parts.settings.demo_residents) {
            _ if problem.status != 401 => String::new(),
            (_, Some(_)) => r#""demo":true"#.to_owned(),
            // The configuration refuses URLs with characters that JSON would escape.
            (Some(url), None) => format!(r#""login_url":"{url}""#),
            (None, None) => String::new(),
        };
        reply.problem(self.date.at(now.unix_s()), problem, retry_after_s, fields, &members);
    }

    fn count(&self, route: Route, status: u16) {
        self.parts.counters.count_answer(route, status);
    }

    fn ready(&mut self, now: Now, head: &Head<'_>, reply: &mut Reply<'_>) {
        if self.draining {
            let problem = if self.parts.role == Role::Admin { problem::DRAINING } else { problem::NOT_READY };
            self.refuse_route(now, Route::Ready, problem, reply);
            return;
        }
        self.document(now, head, Route::Ready, "text/plain", Bytes::from_static(b"ready\n"), None, reply);
    }

    /// A document that several answers share.
    #[allow(clippy::too_many_arguments)]
    fn document(
        &mut self,
        now: Now,
        head: &Head<'_>,
        route: Route,
        content_type: &str,
        document: Bytes,
        etag: Option<&str>,
        reply: &mut Reply<'_>,
    ) {
        let date = self.date.at(now.unix_s());
        let Some(etag) = etag else {
            self.parts.counters.count_answer(route, 200);
            reply.shared(date, 200, &[("Content-Type", content_type), ("Cache-Control", "no-store")], document);
            return;
        };
        let validators = [("ETag", etag), ("Cache-Control", "no-cache")];
        if negotiate::is_none_match(head, etag) {
            self.parts.counters.count_answer(route, 304);
            reply.inline(date, 304, &validators, b"");
            return;
        }
        self.parts.counters.count_answer(route, 200);
        let fields =
            [("Content-Type", content_type), validators[0], validators[1], ("Access-Control-Allow-Origin", "*")];
        reply.shared(date, 200, &fields, document);
    }

    fn page(&mut self, now: Now, head: &Head<'_>, reply: &mut Reply<'_>) {
        let (encoding, language) = (head.get(Field::AcceptEncoding), head.get(Field::AcceptLanguage));
        let Some(page) = self.parts.library.find(head.path, encoding, language) else {
            self.refuse_route(now, Route::Unknown, problem::UNKNOWN_ROUTE, reply);
            return;
        };
        let date = self.date.at(now.unix_s());
        let length = page.body().len() as u64;
        let status = if negotiate::is_none_match(head, &page.etag) {
            reply.borrowed(date, 304, page.unchanged, page.unchanged.len());
            304
        } else {
            match negotiate::byte_range(head, length, &page.etag) {
                ByteRange::Whole => {
                    reply.borrowed(date, 200, page.whole(), page.head().len());
                    200
                }
                ByteRange::Part { first, last } => {
                    // Within the body, which is in memory.
                    let part = &page.body()[first as usize..=last as usize];
                    reply.part(date, page.fields(), (first, last, length), part);
                    206
                }
                ByteRange::Unsatisfiable => {
                    let range = format!("bytes */{length}");
                    self.parts.counters.count_answer(Route::Page, 416);
                    reply.problem(date, problem::RANGE_UNSATISFIABLE, None, &[("Content-Range", &range)], "");
                    return;
                }
            }
        };
        self.parts.counters.count_answer(Route::Page, status);
    }
}

/// Seconds that a refused client is asked to stay away.
const RETRY_AFTER_S: std::ops::RangeInclusive<u32> = 1..=8;

/// Whether a request comes from a page of another origin (RFC 6454): then its cookie counts for nothing.
fn is_foreign(head: &Head<'_>) -> bool {
    if head.get(Field::SecFetchSite) == Some(b"cross-site") {
        return true;
    }
    let Some(origin) = head.get(Field::Origin) else { return false };
    let host = head.get(Field::Host).unwrap_or_default();
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}
