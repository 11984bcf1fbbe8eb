//! What operators ask besides residents: the audit, and that all test data goes.
//!
//! Writes and look-ups are in the audit, by the name of their caller, on disk before their answer; what only reads
//! figures (`/metrics`, `/status.json`, `/admin/audit`) is not. A call of a known caller that was refused is written
//! there behind its answer, one a second; what strangers try is only counted.

use std::sync::Arc;

use bytes::Bytes;

use super::callers::Scope;
use super::problem::{self, Problem};
use super::writes::{Asker, NOBODY, Then};
use super::{Answer, Ask, Handled, Outcome, Pending, Reply, Route, Service};
use crate::http::head::Head;
use crate::http::negotiate;
use crate::journal::Record;
use crate::limits::{AUDIT_ENTRIES_DEFAULT, AUDIT_ENTRIES_MAX, PURGE_MS_MAX};

impl Service {
    /// Carries out a write for its caller, who must have the scope; a refusal is noted.
    pub(super) fn for_caller<T>(
        &mut self,
        head: &Head<'_>,
        reply: &Reply<'_>,
        action: &str,
        act: impl FnOnce(&mut Service, &Arc<str>) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let (author, may) = self.caller(head, Scope::Residents)?;
        let done = if may { act(self, &author) } else { Err(problem::SCOPE_MISSING) };
        if let Err(Problem { word, status: ..500, .. }) = done
            && let Some(unwritten) = self.writes.refused(reply.now, &author)
        {
            let more = if unwritten > 0 { format!(", and {unwritten} more since the last") } else { String::new() };
            // No answer waits for it; while the journal takes nothing that is all that is lost.
            let asker = Asker { connection: NOBODY, ..reply.asker };
            let _ = self.write_audit(reply.now, asker, &author, action, &format!("refused: {word}{more}"));
        }
        done
    }

    pub(super) fn audit(&self, head: &Head<'_>) -> Result<Bytes, Problem> {
        let limit = negotiate::query_parameter(head.query, "limit").map_or(Ok(AUDIT_ENTRIES_DEFAULT), str::parse);
        let limit = limit.ok().filter(|limit| (1..=AUDIT_ENTRIES_MAX).contains(limit)).ok_or(problem::QUERY_UNKNOWN)?;
        Ok(Bytes::from(self.writes.past.latest_audit(limit)))
    }

    pub(super) fn purge(&mut self, head: &Head<'_>, reply: &Reply<'_>) -> Handled {
        let action = "DELETE /admin/test-data";
        self.for_caller(head, reply, action, |service, author| {
            service.write_audit(reply.now, reply.asker, author, action, "")?;
            let author = author.clone();
            Ok(Outcome::Wait(Pending::new(Route::TestData, PURGE_MS_MAX, move |service, answer, _| {
                answer.done()?;
                Ok(Outcome::Ask(Ask::HoldTest, held(author, service.parts.shards)))
            })))
        })
    }
}

/// So many owners have yet to settle the writes of test residents that they took before: were one still on its way when
/// the removal is written down, it would be gone after a restart and here until then.
fn held(author: Arc<str>, owners: usize) -> Pending {
    Pending::new(Route::TestData, PURGE_MS_MAX, move |service, answer, reply| {
        answer.done()?;
        if owners > 1 {
            return Ok(Outcome::Wait(held(author, owners - 1)));
        }
        let record = Record::PurgeTest { at_ms: reply.now.unix_ms, author: &author };
        service.write(reply.now, reply.asker, &record, Then::Purge)?;
        Ok(Outcome::Wait(purged(service.parts.shards, 0)))
    })
}

/// The removal is being written down; then so many owners have yet to do it, and so many residents are gone.
fn purged(owners: usize, before: u64) -> Pending {
    Pending::new(Route::TestData, PURGE_MS_MAX, move |_, answer, reply| match answer {
        Answer::Purged(residents) if owners > 1 => Ok(Outcome::Wait(purged(owners - 1, before + residents))),
        Answer::Purged(residents) => Ok(reply.json(&format!(r#"{{"residents":{}}}"#, before + residents))),
        _ => Err(answer.problem()),
    })
}
