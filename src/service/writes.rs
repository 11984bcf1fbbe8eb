//! What waits for the journal, and what is done once it is on disk.
//!
//! A shard appends the records of its own residents, and of the requests that came to it, to its own lane and keeps
//! here what each was for, in the order of their tickets. When the journal says how many are durable, they are applied
//! in that order, and only then answered. After the journal has failed nothing more is applied or acknowledged.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::json;

use super::apply::apply;
use super::problem::{self, Problem};
use super::{Answer, Ask, Service};
use crate::journal::{Port, Record, Refused};
use crate::limits::{
    ADMIN_TOKENS_MAX, AUDIT_ENTRIES_MAX, AUDIT_REFUSAL_MS_MIN, HISTORY_CHANGES_MAX, SCAN_RECORD_MS_MAX,
    TEST_HOLD_MS_MAX,
};
use crate::registry::table::{Place, Record as Known};
use crate::words::{Now, ResidentNumber, Status};

/// A connection of one shard: its place, and how often that was given back, so that a stale one finds nothing.
pub type ConnectionId = thunderdome::Index;

/// That of no connection: an operation of none, or what is written and not answered.
pub const NOBODY: ConnectionId = ConnectionId::DANGLING;

/// Who waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Asker {
    pub shard: usize,
    pub connection: ConnectionId,
}

/// What became of one line of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, derive_more::From)]
pub enum LineResult {
    /// It is on disk, and applied.
    Done,
    /// Something newer, or the same, was said before.
    Ignored,
    /// It was refused; with [`problem::BUSY`] for want of room: send it again.
    Error(&'static Problem),
    /// Nothing is said about it: the line was empty.
    Silent,
}

/// One statement about a resident, as a line said it.
#[derive(Clone, Debug)]
pub struct StatusWrite {
    pub(super) resident: ResidentNumber,
    /// Known where the line had the ID number: then an unknown resident is added.
    pub(super) check: Option<u64>,
    pub(super) version: u64,
    /// None: forget the resident.
    pub(super) status: Option<Status>,
    /// As the line had it; must agree with what is known.
    pub(super) test: Option<bool>,
    /// 0 where the line had none.
    pub(super) region: u32,
    pub(super) reason: Box<str>,
}

/// A change of status, as look-ups tell it; a removal has no status.
#[derive(Clone, Debug)]
pub struct Change {
    pub(super) resident: ResidentNumber,
    pub(super) version: u64,
    pub(super) status: Option<Status>,
    pub(super) at_ms: u64,
    pub(super) author: Arc<str>,
    pub(super) reason: Box<str>,
    pub(super) test: bool,
}

/// What is remembered of the journal besides the registry: the latest changes and calls. Filled at start by the replay.
#[derive(Clone, Default, Debug)]
pub struct Past {
    changes: VecDeque<Change>,
    /// As JSON.
    audit: VecDeque<String>,
}

impl Past {
    /// Takes note of a record of the journal, in the order of their sequence.
    pub fn note(&mut self, record: &Record<'_>) {
        match *record {
            Record::Status { resident, version, status, remove, test, at_ms, author, reason, .. } => {
                let (author, reason, status) = (author.into(), reason.into(), (!remove).then_some(status));
                let change = Change { resident, version, status, at_ms, author, reason, test };
                keep_latest(&mut self.changes, change, HISTORY_CHANGES_MAX);
            }
            Record::Audit { at_ms, author, action, detail } => {
                let told = json!({ "at": at_ms, "author": author, "action": action, "detail": detail });
                keep_latest(&mut self.audit, told.to_string(), AUDIT_ENTRIES_MAX);
            }
            Record::PurgeTest { .. } => self.changes.retain(|change| !change.test),
            Record::Sessions { .. } | Record::Scan { .. } => {}
        }
    }

    /// The part of it that shard `own` of `shards` answers for; the calls belong to the admin shard, which is `shards`.
    pub fn share(&self, own: usize, shards: usize) -> Past {
        let owned = |change: &&Change| own < shards && change.resident.0 % shards as u64 == own as u64;
        let changes = self.changes.iter().filter(owned).cloned().collect();
        Past { changes, audit: if own == shards { self.audit.clone() } else { VecDeque::new() } }
    }

    /// The latest calls as JSON, newest first.
    pub(super) fn latest_audit(&self, limit: usize) -> String {
        format!("[{}]", self.audit.iter().rev().take(limit).map(String::as_str).collect::<Vec<_>>().join(","))
    }
}

fn keep_latest<T>(queue: &mut VecDeque<T>, entry: T, max: usize) {
    if queue.len() == max {
        queue.pop_front();
    }
    queue.push_back(entry);
}

/// What is done once a record is durable.
pub(super) enum Then {
    Answer,
    Apply(Box<[u8]>),
    /// Lines whose records are all on disk with this one.
    Lines(Vec<(u64, LineResult)>),
    Statuses {
        /// What is answered already; where what was taken is to be answered, its place in the table, and its record.
        lines: Vec<(u64, LineResult)>,
        taken: Vec<(usize, Place, Box<[u8]>)>,
    },
    /// The removal of test residents is on disk: every owner does it.
    Purge,
}

struct Waiting {
    ticket: u64,
    since_ms: u64,
    asker: Asker,
    then: Then,
}

/// What [`Service::poll_durable`] has for an asker.
pub enum Due {
    /// Its answer.
    Answer(Answer),
    /// What the owners must do on its behalf.
    Ask(Ask),
}

/// One shard's side of the journal.
pub(super) struct Writes {
    pub(super) port: Port,
    /// In the order of their tickets.
    waiting: VecDeque<Waiting>,
    pub(super) past: Past,
    /// Residents who are added by what is not applied yet, each with check and mark: what comes behind must fit.
    added: HashMap<ResidentNumber, (u64, bool)>,
    /// Writes of test residents are put off until then, in monotonic milliseconds.
    hold_test_until_ms: u64,
    /// Test residents are being forgotten: for whom, how many so far, and from where in the table to go on.
    purging: Option<(Asker, usize, usize)>,
    /// Removals of test data that were asked for here.
    purges: u64,
    /// By caller: until when no refusal is written down, in monotonic milliseconds, and how many so were not.
    refusals: HashMap<Arc<str>, (u64, u64)>,
}

impl Writes {
    pub(super) fn new(port: Port, past: Past) -> Writes {
        let (waiting, added, refusals) = (VecDeque::new(), HashMap::new(), HashMap::new());
        Writes { port, waiting, past, added, hold_test_until_ms: 0, purging: None, purges: 0, refusals }
    }

    /// Whether a caller's refusal is to be written down, so that no caller's push the others' calls out of what is
    /// remembered: then how many were not since the last one that was.
    pub(super) fn refused(&mut self, now: Now, caller: &Arc<str>) -> Option<u64> {
        if self.refusals.len() > ADMIN_TOKENS_MAX {
            // Names of tokens files that were read before.
            self.refusals.clear();
        }
        let (until_ms, unwritten) = self.refusals.entry(caller.clone()).or_default();
        if now.mono_ms() < *until_ms {
            *unwritten += 1;
            return None;
        }
        *until_ms = now.mono_ms() + AUDIT_REFUSAL_MS_MIN;
        Some(std::mem::take(unwritten))
    }

    /// Whether a record has waited for longer than a verdict would wait for its own.
    pub(super) fn is_late(&self, now: Now) -> bool {
        self.waiting.front().is_some_and(|oldest| now.mono_ms() >= oldest.since_ms + SCAN_RECORD_MS_MAX)
    }
}

impl LineResult {
    /// Why the whole request may be refused with it, if nothing of it was taken.
    pub(super) fn unavailable(self) -> Option<Problem> {
        let LineResult::Error(problem) = self else { return None };
        Some(*problem).filter(|problem| problem.status == 503)
    }
}

impl Ask {
    /// Its answer when the owner's queue is full.
    pub fn refused(self) -> Answer {
        let Ask::Statuses(statuses) = self else { return Answer::Refused(problem::BUSY) };
        Answer::Lines(statuses.lines.iter().map(|(line, _)| (*line, LineResult::Error(&problem::BUSY))).collect())
    }
}

impl Service {
    pub(super) fn append(&mut self, record: &Record<'_>) -> Result<u64, &'static Problem> {
        let appended = self.writes.port.append(record);
        let counters = &self.parts.counters;
        if appended.is_ok() { &counters.journal_appended } else { &counters.journal_refused }.add(1);
        appended.map_err(|refused| match refused {
            Refused::Full => &problem::BUSY,
            Refused::Failed => &problem::JOURNAL_FAILED,
            Refused::Space => &problem::JOURNAL_FULL,
        })
    }

    /// Writes down a call; its answer comes once that is durable.
    pub(super) fn write_audit(
        &mut self,
        now: Now,
        asker: Asker,
        author: &Arc<str>,
        action: &str,
        detail: &str,
    ) -> Result<(), Problem> {
        let record = Record::Audit { at_ms: now.unix_ms, author, action, detail };
        self.write(now, asker, &record, Then::Apply(record.encode()))
    }

    /// Writes down one record; what follows from it, an answer to `asker` at least, comes once that is durable.
    pub(super) fn write(&mut self, now: Now, asker: Asker, record: &Record<'_>, then: Then) -> Result<(), Problem> {
        let ticket = self.append(record).map_err(|refused| *refused)?;
        self.wait(now, ticket, asker, then);
        Ok(())
    }

    pub(super) fn wait(&mut self, now: Now, ticket: u64, asker: Asker, then: Then) {
        let since_ms = now.mono_ms().max(1);
        if self.writes.waiting.is_empty() {
            self.parts.counters.journal_waits_since_ms.set(since_ms);
        }
        self.writes.waiting.push_back(Waiting { ticket, since_ms, asker, then });
    }

    /// Writes down statements about residents that this shard owns. `Some`: nothing of them waits for the journal.
    pub(super) fn write_statuses(&mut self, now: Now, asker: Asker, statuses: Statuses) -> Option<Answer> {
        let Statuses { author, lines: writes, .. } = statuses;
        let (mut lines, mut taken, mut last) = (Vec::with_capacity(writes.len()), Vec::new(), 0);
        for (line, write) in writes {
            match self.take_status(now, &author, write) {
                Ok((ticket, place, record)) => {
                    last = ticket;
                    taken.push((lines.len(), place, record));
                    lines.push((line, LineResult::Done));
                }
                Err(result) => lines.push((line, result)),
            }
        }
        if taken.is_empty() {
            return Some(Answer::Lines(lines));
        }
        self.wait(now, last, asker, Then::Statuses { lines, taken });
        None
    }

    /// Appends one statement, completed by what is known of the resident, unless the registry already answers it.
    fn take_status(
        &mut self,
        now: Now,
        author: &str,
        write: StatusWrite,
    ) -> Result<(u64, Place, Box<[u8]>), LineResult> {
        let registry = self.parts.registry.clone();
        let known = registry.read(write.resident).or_else(|| registry.removed(write.resident));
        let (check, test) = self.check_status(now, known.as_ref(), &write)?;
        let place = registry.reserve(write.resident).map_err(|_| &problem::REGISTRY_FULL)?;
        let StatusWrite { resident, version, status: said, region, ref reason, .. } = write;
        let (status, remove, at_ms) = (said.unwrap_or_default(), said.is_none(), now.unix_ms);
        let record = Record::Status { resident, check, version, status, remove, test, region, at_ms, author, reason };
        let ticket = match self.append(&record) {
            Ok(ticket) => ticket,
            Err(refused) => {
                registry.release(place);
                return Err(refused.into());
            }
        };
        if known.is_none() {
            self.writes.added.entry(resident).or_insert((check, test));
        }
        Ok((ticket, place, record.encode()))
    }

    /// Whether a statement can be taken, by the record as it is applied now (`known`), and with which check and mark.
    fn check_status(&self, now: Now, known: Option<&Known>, write: &StatusWrite) -> Result<(u64, bool), LineResult> {
        let applied = known.map(|known| (known.check, known.test));
        let held = applied.or_else(|| self.writes.added.get(&write.resident).copied());
        let of_line = || write.check.map(|check| (check, write.test == Some(true)));
        let (check, test) = held.or_else(of_line).ok_or(&problem::UNKNOWN_RESIDENT)?;
        if write.check.is_some_and(|of_line| of_line != check) {
            return Err(LineResult::Error(&problem::RESIDENT_COLLISION));
        }
        if known.is_some_and(|known| write.version <= known.version) {
            self.parts.counters.statuses_ignored.add(1);
            return Err(LineResult::Ignored);
        }
        // Otherwise the removal of test data could take a person with it.
        if write.test.is_some_and(|of_line| of_line != test) {
            return Err(LineResult::Error(&problem::TEST_MARK_DIFFERS));
        }
        if test && now.mono_ms() < self.writes.hold_test_until_ms { Err(&problem::BUSY)? } else { Ok((check, test)) }
    }

    /// Ends all sessions of a resident whom this shard owns. `Some`: it does not wait for the journal.
    pub(super) fn write_sessions(
        &mut self,
        now: Now,
        asker: Asker,
        resident: ResidentNumber,
        up_to: u32,
    ) -> Option<Answer> {
        let Some(record) = self.parts.registry.read(resident) else {
            return Some(Answer::Refused(problem::UNKNOWN_RESIDENT));
        };
        // After 4 billion sign-outs nobody could sign out any more, which is later than any resident lives.
        let session = record.session.max(up_to).saturating_add(1);
        let written = Record::Sessions { resident, session, test: record.test };
        self.write(now, asker, &written, Then::Apply(written.encode())).err().map(Answer::Refused)
    }

    /// Puts off writes of test residents, and answers once those that were taken before are applied.
    pub(super) fn hold_test(&mut self, now: Now, asker: Asker) -> Option<Answer> {
        self.writes.hold_test_until_ms = now.mono_ms() + TEST_HOLD_MS_MAX;
        let Some(&Waiting { ticket, .. }) = self.writes.waiting.back() else { return Some(Answer::Done) };
        self.wait(now, ticket, asker, Then::Answer);
        None
    }

    /// Begins to forget the test residents that this shard owns.
    pub(super) fn purge_test(&mut self, now: Now, asker: Asker) -> Option<Answer> {
        self.writes.hold_test_until_ms = now.mono_ms() + TEST_HOLD_MS_MAX;
        self.writes.past.changes.retain(|change| !change.test);
        self.writes.purges += 1;
        self.writes.purging = Some((asker, 0, 0));
        None
    }

    /// Whether [`poll_purged`](Self::poll_purged) has more to do.
    pub fn is_purging(&self) -> bool {
        self.writes.purging.is_some()
    }

    /// Forgets some more test residents, for a time that requests can wait; the answer once that was all.
    pub fn poll_purged(&mut self, own: usize) -> Option<(Asker, Answer)> {
        let (asker, before, from) = self.writes.purging.take()?;
        let (purged, next) = self.parts.registry.purge_test(own as u64, self.parts.shards as u64, from);
        let purged = before + purged;
        if let Some(next) = next {
            self.writes.purging = Some((asker, purged, next));
            return None;
        }
        self.writes.hold_test_until_ms = 0;
        self.writes.port.lane.purges.store(self.writes.purges);
        Some((asker, Answer::Purged(purged as u64)))
    }

    /// The latest changes of a resident whom this shard owns, newest first.
    pub(super) fn history(&self, resident: ResidentNumber) -> Vec<Change> {
        self.writes.past.changes.iter().rev().filter(|change| change.resident == resident).cloned().collect()
    }

    /// Whether the journal's thread must be woken.
    pub fn poll_journal_bell(&mut self) -> bool {
        self.writes.port.poll_bell()
    }

    /// Applies the next write that has become durable, or gives up the next that never will, and says what is due.
    pub fn poll_durable(&mut self) -> Option<(Asker, Due)> {
        let next = self.writes.waiting.front()?;
        // What was durable before the failure is told before it.
        let failed = self.writes.port.lane.failed.load();
        let durable = next.ticket <= self.writes.port.lane.durable.load();
        if !durable && !failed {
            return None;
        }
        let Waiting { ticket, asker, then, .. } = self.writes.waiting.pop_front()?;
        let since_ms = self.writes.waiting.front().map_or(0, |oldest| oldest.since_ms);
        self.parts.counters.journal_waits_since_ms.set(since_ms);
        if !durable {
            return Some((asker, Due::Answer(self.give_up(then))));
        }
        let due = self.apply(then);
        self.writes.port.lane.applied.store(ticket);
        Some((asker, due))
    }

    fn apply(&mut self, then: Then) -> Due {
        let count = match &then {
            Then::Lines(lines) => lines.len(),
            Then::Statuses { taken, .. } => taken.len(),
            _ => 1,
        };
        self.parts.counters.journal_acknowledged.add(count as u64);
        Due::Answer(match then {
            Then::Answer => Answer::Done,
            Then::Apply(record) => {
                self.apply_record(&record, None);
                Answer::Done
            }
            Then::Lines(lines) => Answer::Lines(lines),
            Then::Statuses { mut lines, taken } => {
                for (at, place, record) in taken {
                    if !self.apply_record(&record, Some(place)) {
                        self.parts.counters.statuses_ignored.add(1);
                        lines[at].1 = LineResult::Ignored;
                    }
                }
                Answer::Lines(lines)
            }
            Then::Purge => {
                self.writes.purges += 1;
                self.writes.port.lane.purges.store(self.writes.purges);
                return Due::Ask(Ask::PurgeTest);
            }
        })
    }

    /// Applies a record as a start does; says whether it changed anything.
    fn apply_record(&mut self, record: &[u8], place: Option<Place>) -> bool {
        let record = Record::decode(record).expect("a record that was encoded");
        if let Record::Status { resident, .. } = &record {
            self.writes.added.remove(resident);
        }
        let is_news = apply(&self.parts.registry, &record, place).unwrap_or(false);
        if is_news || matches!(record, Record::Audit { .. }) {
            self.writes.past.note(&record);
        }
        is_news
    }

    fn give_up(&mut self, then: Then) -> Answer {
        self.writes.added.clear();
        let (Then::Lines(mut lines) | Then::Statuses { mut lines, .. }) = then else {
            return Answer::Refused(problem::JOURNAL_FAILED);
        };
        for (_, result) in lines.iter_mut().filter(|(_, result)| *result == LineResult::Done) {
            *result = LineResult::Error(&problem::JOURNAL_FAILED);
        }
        Answer::Lines(lines)
    }
}

/// Statements of one request about residents of one owner, each with the number of its line.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Statuses {
    /// The shard that owns all of them.
    pub owner: usize,
    pub author: Arc<str>,
    pub lines: Vec<(u64, StatusWrite)>,
}
