//! `/person/app/refreshQRCode`: the one answer that everything else is here for.
//!
//! Session, record, payload of this window from the shard's cache or made now, send slot. No lock, no allocation, no
//! system call; one signature for a resident, a status and a window.

use bytes::Bytes;

use super::cache::Key;
use super::problem::{self, Problem};
use super::{Handled, Outcome, Reply, Service, Settings, is_foreign, session};
use crate::admission::rate::Caller;
use crate::code::claims::{CodeBuffer, CodeRequest};
use crate::code::payload;
use crate::code::qr::{self, Matrix};
use crate::code::window::Times;
use crate::http::field::Field;
use crate::http::head::Head;
use crate::http::negotiate;
use crate::registry::table::Record;
use crate::sys::ed25519::SIGNATURE_BYTES;
use crate::words::{Now, ResidentNumber};

/// The fields of a refresh: it is for the one who asked.
const REFRESH_HEAD: &[u8] = b"Content-Type: application/json\r\nCache-Control: private, no-store\r\n";

impl Service {
    pub(super) fn refresh(&mut self, head: &Head<'_>, reply: &mut Reply<'_>) -> Handled {
        let now = reply.now;
        let (record, _) = self.signed_in_record(now, head).map_err(|error| self.limit_strangers(now, head, error))?;
        let [qr, format] = ["qr", "format"].map(|name| negotiate::query_parameter(head.query, name));
        match (qr, format) {
            (None, None) => self.refresh_json(&record, false, reply)?,
            (Some("none"), None) => self.refresh_json(&record, true, reply)?,
            (None, Some(format @ ("svg" | "png" | "text"))) => self.refresh_print(&record, format, reply)?,
            _ => return Err(problem::QUERY_UNKNOWN),
        }
        Ok(Outcome::Answered)
    }

    /// The record of the resident whose session came with the request, and the number of that.
    pub(super) fn signed_in_record(&self, now: Now, head: &Head<'_>) -> Result<(Record, u32), Problem> {
        let session = read_session(&self.parts.settings, now, head, self.is_secure(head), |resident| {
            // The check takes as long as memory does.
            self.parts.registry.prefetch(resident);
            self.payloads.prefetch(resident);
        })?;
        let record = self.parts.registry.read(session.resident).ok_or(problem::UNKNOWN_RESIDENT)?;
        // A number above the record's is of before a restart that forgot who had signed out: it is no older for that.
        if session.number < record.session {
            return Err(problem::SESSION_ENDED);
        }
        Ok((record, session.number))
    }

    fn refresh_json(&mut self, record: &Record, bare: bool, reply: &mut Reply<'_>) -> Result<(), Problem> {
        let now_unix_s = reply.now.unix_s();
        let (key, request, times) = self.request(record, now_unix_s);
        // A repeat costs nothing, and is not counted.
        let place = if let Some(place) = self.payloads.find(&key) {
            self.parts.counters.payload_hits.add(1);
            place
        } else {
            self.limit(reply.now, Caller::Session(record.resident.0))?;
            let ahead = self.parts.ahead.find(&key);
            let counters = &self.parts.counters;
            if ahead.is_some() { &counters.ahead_hits } else { &counters.signatures }.add(1);
            self.expected.add(now_unix_s, record.resident, times.refresh_at);
            let (code, matrix) = make(&self.parts.settings, &request, ahead);
            let write = |body: &mut _| payload::write(code.as_str(), &request, times.refresh_at, &matrix, body);
            self.payloads.put(key, write)
        };
        let (body, head) = self.payloads.get(place);
        reply.prepared(REFRESH_HEAD, payload::parts(body, head, bare));
        Ok(())
    }

    /// Whether a resident is expected soon: work that nobody waits for yet, for a driver that has nothing else to do.
    pub fn has_work_ahead(&mut self, now: Now) -> bool {
        self.expected.is_due(now.unix_s())
    }

    /// Signs for one resident who is expected soon, in some microseconds.
    pub fn work_ahead(&mut self, now: Now) {
        let Some((resident, second)) = self.expected.next(now.unix_s()) else { return };
        let Some(record) = self.parts.registry.read(resident) else { return };
        let (key, request, _) = self.request(&record, second);
        if self.parts.ahead.find(&key).is_none() {
            self.parts.ahead.put(&key, &self.parts.settings.issuer.sign(&request));
            self.parts.counters.signatures.add(1);
            self.parts.counters.ahead_signatures.add(1);
        }
    }

    /// For kiosks and print: drawn anew each time, off the hot path.
    fn refresh_print(&mut self, record: &Record, format: &str, reply: &mut Reply<'_>) -> Result<(), Problem> {
        self.limit(reply.now, Caller::Session(record.resident.0))?;
        let (_, request, _) = self.request(record, reply.now.unix_s());
        let (code, matrix) = make(&self.parts.settings, &request, None);
        self.parts.counters.signatures.add(1);
        let (content_type, body) = match format {
            "svg" => ("image/svg+xml", qr::svg(&matrix)),
            "png" => ("image/png", qr::png(&matrix)),
            _ => ("text/plain", code.as_bytes().to_vec()),
        };
        let private = ("Cache-Control", "private, no-store");
        let fields = [("Content-Type", content_type), private, ("X-Content-Type-Options", "nosniff")];
        reply.shared(200, &fields, Bytes::from(body));
        Ok(())
    }

    /// What is to be signed for a resident at a time, and what names it.
    fn request(&self, record: &Record, unix_s: u64) -> (Key, CodeRequest, Times) {
        let (&Record { resident, version, status, test, .. }, settings) = (record, &self.parts.settings);
        let level = self.parts.admission.shared.brownout.level(unix_s);
        let times = settings.window.lengthened(level).times(resident, unix_s);
        let said = settings.generation << 5 | level << 3 | u32::from(test) << 2 | status as u32;
        let key = Key { resident, version, window: times.iat, said };
        (key, CodeRequest { resident, version, status, iat: times.iat, exp: times.exp, test }, times)
    }
}

/// Whose session a request says it carries.
pub(super) fn claimed_resident(head: &Head<'_>) -> Option<ResidentNumber> {
    let cookie = |name| negotiate::cookie(head, name, 0);
    let token = negotiate::bearer(head).or_else(|| cookie("__Host-oc")).or_else(|| cookie("oc"))?;
    session::Claimed::read(token).ok().map(|claimed| claimed.resident())
}

/// A code, signed ahead or now, and its symbol.
fn make(settings: &Settings, request: &CodeRequest, ahead: Option<[u8; SIGNATURE_BYTES]>) -> (CodeBuffer, Matrix) {
    let (mut code, mut matrix) = (CodeBuffer::default(), Matrix::blank());
    let signature = ahead.unwrap_or_else(|| settings.issuer.sign(request));
    settings.issuer.write(request, &signature, &mut code);
    settings.painter.paint(&code.symbol, &mut matrix);
    (code, matrix)
}

/// The session that a request carries, as a bearer token or, from a page of ours, as a cookie: the first, or else the
/// second of that name. `expect` hears whose it is before that is checked.
fn read_session(
    settings: &Settings,
    now: Now,
    head: &Head<'_>,
    secure: bool,
    expect: impl Fn(ResidentNumber),
) -> Result<session::Session, Problem> {
    let check = |token| {
        let claimed = session::Claimed::read(token)?;
        expect(claimed.resident());
        claimed.check(&settings.session_key, now.unix_s())
    };
    let named = |name| Some((negotiate::cookie(head, name, 0)?, Some(name)));
    let (token, name) = match head.get(Field::Authorization) {
        Some(_) => (negotiate::bearer(head).ok_or(problem::SESSION_INVALID)?, None),
        None if is_foreign(head) => return Err(problem::SESSION_MISSING),
        // Over TLS only the one counts that no other host and no plain connection can plant (RFC 6265bis §4.1.3.2).
        None => named("__Host-oc").or_else(|| named("oc").filter(|_| !secure)).ok_or(problem::SESSION_MISSING)?,
    };
    check(token).or_else(|error| {
        let second = name.and_then(|name| negotiate::cookie(head, name, 1));
        second.and_then(|token| check(token).ok()).ok_or(error)
    })
}
