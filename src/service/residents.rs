//! `/admin/residents`: what the city says about its residents, and what is known of one of them.
//!
//! ID numbers come in here and go no further than their keyed hash: no answer, log or record holds one, and errors of
//! the JSON reader, which quote what they read, are told by their kind alone.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::callers::hex;
use super::problem::{self, Problem};
use super::writes::{Change, StatusWrite};
use super::{Answer, Ask, Handled, Outcome, Pending, Reply, Route, Service};
use crate::http::head::Head;
use crate::limits::{ANSWER_MS_MAX, JOURNAL_TEXT_BYTES_MAX, VERSION_AHEAD_MS_MAX};
use crate::registry::id_number::IdNumber;
use crate::words::{Now, ResidentNumber, Status};

/// A line of `POST /admin/residents`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusLine {
    id_number: Option<Box<str>>,
    resident: Option<Box<str>>,
    tube: Option<IgnoredAny>,
    status: Option<Box<str>>,
    version: Option<u64>,
    reason: Option<Box<str>>,
    #[serde(default)]
    remove: bool,
    test: Option<bool>,
    #[serde(default)]
    region: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupBody {
    id_number: Option<Box<str>>,
    resident: Option<Box<str>>,
}

/// GB/T 2260 codes have six digits.
const REGION_MAX: u32 = 999_999;

impl Service {
    /// The statement that a line makes.
    pub(super) fn read_status(&self, now: Now, line: &[u8]) -> Result<StatusWrite, &'static Problem> {
        let line: StatusLine = serde_json::from_slice(line).map_err(|_| &problem::LINE_MALFORMED)?;
        if line.tube.is_some() {
            return Err(&problem::TUBE_NOT_SUPPORTED);
        }
        let (id_number, resident) = (line.id_number.as_deref(), line.resident.as_deref());
        let (resident, check) = self.name(id_number, resident, &problem::LINE_MALFORMED)?;
        let version = line.version.ok_or(&problem::LINE_MALFORMED)?;
        if version > now.unix_ms.saturating_add(VERSION_AHEAD_MS_MAX) {
            return Err(&problem::VERSION_AHEAD);
        }
        let status = match (line.status.as_deref(), line.remove) {
            (None, true) => None,
            (Some(word), false) => Some(word.parse().map_err(|_| &problem::LINE_MALFORMED)?),
            _ => return Err(&problem::LINE_MALFORMED),
        };
        let reason = line.reason.unwrap_or_default();
        if !is_keepable(&reason) {
            return Err(&problem::TEXT_REFUSED);
        }
        if line.region > REGION_MAX {
            return Err(&problem::LINE_MALFORMED);
        }
        let (test, region) = (line.test, line.region);
        Ok(StatusWrite { resident, check, version, status, test, region, reason })
    }

    /// Whom one of the two members names, with the check where it was the ID number; `malformed` is the error of neither.
    fn name(
        &self,
        id_number: Option<&str>,
        resident: Option<&str>,
        malformed: &'static Problem,
    ) -> Result<(ResidentNumber, Option<u64>), &'static Problem> {
        match (id_number, resident) {
            (Some(id_number), None) => {
                let id = IdNumber::parse(id_number.as_bytes()).map_err(|_| &problem::ID_NUMBER_MALFORMED)?;
                let (resident, check) = self.parts.settings.hash_key.number(&id);
                Ok((resident, Some(check)))
            }
            (None, Some(text)) => {
                let number = hex(text.as_bytes()).map(u64::from_be_bytes).ok_or(malformed)?;
                Ok((ResidentNumber(number), None))
            }
            _ => Err(malformed),
        }
    }

    /// First the call is written down, then the resident's owner is asked, then it is answered.
    pub(super) fn lookup(&mut self, head: &Head<'_>, body: &[u8], reply: &Reply<'_>) -> Handled {
        let action = "POST /admin/residents/lookup";
        self.for_caller(head, reply, action, |service, author| {
            super::check_content_type(head)?;
            let body: LookupBody = serde_json::from_slice(body).map_err(|_| problem::BODY_MALFORMED)?;
            let (id_number, resident) = (body.id_number.as_deref(), body.resident.as_deref());
            let named = service.name(id_number, resident, &problem::BODY_MALFORMED);
            let (resident, check) = named.map_err(|problem| *problem)?;
            let detail = format!("{:016x}", resident.0);
            service.write_audit(reply.now, reply.asker, author, action, &detail)?;
            Ok(Outcome::Wait(Pending::new(Route::Lookup, ANSWER_MS_MAX, move |_, answer, _| {
                answer.done()?;
                let told = Pending::new(Route::Lookup, ANSWER_MS_MAX, move |service, answer, reply| {
                    service.looked_up(resident, check, &answer, reply)
                });
                Ok(Outcome::Ask(Ask::History(resident), told))
            })))
        })
    }

    fn looked_up(
        &mut self,
        resident: ResidentNumber,
        check: Option<u64>,
        answer: &Answer,
        reply: &mut Reply<'_>,
    ) -> Handled {
        let Answer::History(history) = answer else { return Err(answer.problem()) };
        let known = self.parts.registry.read(resident).filter(|known| check.is_none_or(|check| check == known.check));
        let record = known.ok_or(problem::UNKNOWN_RESIDENT)?;
        let document = serde_json::json!({
            "resident": format!("{:016x}", resident.0),
            "status": record.status.word(),
            "version": record.version,
            "region": record.region,
            "test": record.test,
            "history": history.iter().map(told).collect::<Vec<_>>(),
        });
        Ok(reply.document("application/json", document.to_string()))
    }
}

fn told(Change { version, status, at_ms, author, reason, .. }: &Change) -> serde_json::Value {
    let (word, removed) = (status.map(Status::word), status.is_none());
    serde_json::json!({
        "version": version, "status": word, "removed": removed, "at": at_ms, "author": **author, "reason": reason,
    })
}

/// Whether a text may go into the journal: it fits, and holds no ID number, for which there is no place there.
pub(super) fn is_keepable(text: &str) -> bool {
    let holds_id_number = || text.as_bytes().windows(18).any(|part| IdNumber::parse(part).is_ok());
    text.len() <= JOURNAL_TEXT_BYTES_MAX && !holds_id_number()
}
