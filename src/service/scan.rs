//! `/scan/verify` and `/scan/records`: what doors ask, and what they have noted while nobody could be asked.
//!
//! A verdict never fails on the disk. It waits a moment for its record; without one it says `"recorded":false`, and the
//! scanner keeps the scan, by the id in the answer, and brings it later. A scan that comes twice is written twice with
//! one id, and told once by `journal export`.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use serde::Deserialize;

use super::callers::{self, hex};
use super::device::Kind;
use super::problem::{self, Problem};
use super::residents::is_keepable;
use super::writes::{LineResult, Then};
use super::{Answer, Handled, Outcome, Pending, Reply, Route, Service};
use crate::admission::rate::Caller;
use crate::code::keyring::Env;
use crate::code::verify::{self, Claims, LEEWAY_S, Outcome as Verdict};
use crate::http::field::Field;
use crate::http::head::Head;
use crate::journal::Record;
use crate::limits::{SCAN_RECORD_MS_MAX, SCAN_UNIX_MS_MIN, VERSION_AHEAD_MS_MAX};
use crate::registry::table::Record as Resident;
use crate::words::{Now, Status};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyBody {
    code: Box<str>,
    place: Box<str>,
    /// The scanner's, under which it brings the scan later if it gets no answer.
    id: Option<Box<str>>,
}

/// A line of `POST /scan/records`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordLine {
    id: Box<str>,
    at: u64,
    place: Box<str>,
    cti: Box<str>,
    result: Box<str>,
    /// What the verdict said of the code; nobody can tell any more once test data was removed.
    #[serde(default)]
    test: bool,
}

/// Every verdict is padded to this with spaces, which JSON allows behind a value: its size tells nothing.
const VERDICT_BYTES: usize = 176;

impl Service {
    /// The name of the device, of one of these kinds, by its token; or of the scanner by its certificate.
    pub(super) fn device(&mut self, now: Now, head: &Head<'_>, kinds: &[Kind]) -> Result<Arc<str>, Problem> {
        if self.is_refused_origin(head) {
            return Err(problem::ORIGIN_REFUSED);
        }
        let name = match (&self.client, head.get(Field::Authorization)) {
            (Some(client), None) => client.clone(),
            _ => {
                let device = self.parts.settings.device_key.check(callers::token(head)?, now.unix_s())?;
                if !kinds.contains(&device.kind) {
                    return Err(problem::SCOPE_MISSING);
                }
                device.to_string().into()
            }
        };
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&name);
        self.limit(now, Caller::Device(hash)).map(|()| name)
    }

    pub(super) fn scan_verify(&mut self, head: &Head<'_>, body: &[u8], reply: &mut Reply<'_>) -> Handled {
        let now = reply.now;
        let device = self.device(now, head, &[Kind::Scanner])?;
        super::check_content_type(head)?;
        let body: VerifyBody = serde_json::from_slice(body).map_err(|_| problem::BODY_MALFORMED)?;
        if !is_keepable(&body.place) {
            return Err(problem::TEXT_REFUSED);
        }
        let verdict = verify::verify(&self.parts.settings.trust, body.code.as_bytes(), now.unix_s(), LEEWAY_S);
        let resident = verdict.claims.as_ref().and_then(|claims| self.holder(claims));
        let result = match verdict.outcome {
            Verdict::Valid if resident.is_none() => Verdict::UnknownResident,
            outcome => outcome,
        };
        let test = resident.is_some_and(|resident| resident.test)
            || verdict.claims.as_ref().is_some_and(|claims| claims.env == Env::Test);
        let mut made = [0; 16];
        self.random.fill(&mut made);
        let id = body.id.map_or(Some(made), |id| scan_id(&id)).ok_or(problem::BODY_MALFORMED)?;
        let status = resident.map_or(Status::Unknown, |resident| resident.status);
        let mut told = format!(r#"{{"result":"{}""#, result.word());
        if let Some(Claims { iat, exp, .. }) = &verdict.claims {
            told += &format!(r#","status":"{}","iat":{iat},"exp":{exp}"#, status.word());
        }
        if test {
            told += r#","env":"test""#;
        }
        told += &format!(r#","id":"{:032x}","recorded":"#, u128::from_be_bytes(id));
        let record = Record::Scan {
            id,
            at_ms: now.unix_ms,
            received_ms: now.unix_ms,
            cti: verdict.claims.map_or([0; 16], |claims| claims.cti),
            result: result.word(),
            place: &body.place,
            device: &device,
            test,
        };
        // Behind a disk that hangs every verdict would wait as long as the first one, for nothing.
        if !self.writes.is_late(now) && self.write(now, reply.asker, &record, Then::Answer).is_ok() {
            return Ok(Outcome::Wait(Pending::new(
                Route::ScanVerify,
                SCAN_RECORD_MS_MAX,
                move |service, answer, reply| Ok(service.verified(&told, &answer, reply)),
            )));
        }
        Ok(self.verified(&told, &Answer::Refused(problem::BUSY), reply))
    }

    /// Whose code it is, by what only this server can read.
    fn holder(&self, claims: &Claims) -> Option<Resident> {
        let opened = self.parts.settings.issuer.open_cti(&claims.cti);
        self.parts.registry.read(opened.resident).filter(|_| u64::from(opened.iat) == claims.iat)
    }

    /// Answers what is `told` of a code, and whether it is written down.
    fn verified(&self, told: &str, answer: &Answer, reply: &mut Reply<'_>) -> Outcome {
        let recorded = matches!(answer, Answer::Done);
        self.parts.counters.scans_unrecorded.add(u64::from(!recorded));
        let told = format!("{told}{recorded}}}");
        reply.json(&format!("{told:VERDICT_BYTES$}"))
    }

    /// Writes down the scan that a line of `device` tells of: the ticket of its record.
    pub(super) fn take_scan(&mut self, now: Now, line: &[u8], device: &str) -> Result<u64, LineResult> {
        let line: RecordLine = serde_json::from_slice(line).map_err(|_| &problem::LINE_MALFORMED)?;
        if !is_keepable(&line.place) {
            return Err(LineResult::Error(&problem::TEXT_REFUSED));
        }
        if !(SCAN_UNIX_MS_MIN..=now.unix_ms.saturating_add(VERSION_AHEAD_MS_MAX)).contains(&line.at) {
            return Err(LineResult::Error(&problem::TIME_REFUSED));
        }
        let result = line.result.parse().ok().map(Verdict::word);
        let (Some(id), Some(cti), Some(result)) = (scan_id(&line.id), hex(line.cti.as_bytes()), result) else {
            return Err(LineResult::Error(&problem::LINE_MALFORMED));
        };
        let opened = self.parts.settings.issuer.open_cti(&cti);
        // A code of another issuer opens to a number that nobody has.
        let test = line.test || self.parts.registry.read(opened.resident).is_some_and(|resident| resident.test);
        let (at_ms, received_ms, place) = (line.at, now.unix_ms, &*line.place);
        let record = Record::Scan { id, at_ms, received_ms, cti, result, place, device, test };
        Ok(self.append(&record)?)
    }
}

/// As `crypto.randomUUID()` writes it, or its digits alone.
fn scan_id(text: &str) -> Option<[u8; 16]> {
    hex(text.as_bytes()).or_else(|| hex(text.replace('-', "").as_bytes()))
}
