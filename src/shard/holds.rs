//! Connections not read for now: pages that wait for room in the budget, and refused ones that wait for their turn.

use std::collections::VecDeque;

use super::connection::{Connection, Context};
use super::{ConnectionId, Shard};
use crate::admission::{Admission, Refuser, Verdict};
use crate::http::head::{Framing, Head};
use crate::limits::{ACTIVE_TICK_MS, HELD_MS_MAX};
use crate::service::counters::EndReason;
use crate::words::Now;

#[derive(Default)]
pub(super) struct Holds {
    /// Since when they wait for room, monotonic milliseconds, the first first.
    pub(super) parked: VecDeque<(u64, ConnectionId)>,
    /// When they are read again, monotonic microseconds, in that order.
    paused: VecDeque<(u64, ConnectionId)>,
}

impl Holds {
    pub(super) fn is_empty(&self) -> bool {
        self.parked.is_empty() && self.paused.is_empty()
    }

    /// The next one whose wait is over.
    fn next(&mut self, now: Now, admission: &mut Admission) -> Option<ConnectionId> {
        let is_due = |(until_us, _): &mut (u64, ConnectionId)| *until_us <= now.mono_us || !admission.delay.is_active();
        if let Some((_, id)) = self.paused.pop_front_if(is_due) {
            return Some(id);
        }
        let (since_ms, _) = self.parked.front()?;
        let is_due = now.mono_ms() >= since_ms + HELD_MS_MAX || admission.account.has_room(now);
        if is_due { self.parked.pop_front().map(|(_, id)| id) } else { None }
    }
}

impl Connection {
    /// Asks whether the request that `data` begins with is served. If not now, or not at all: how many bytes it took.
    #[inline]
    pub(super) fn put_off(&mut self, context: &mut Context<'_>, head: &Head<'_>, data: &[u8]) -> Option<usize> {
        let id = context.asker.connection;
        let since_ms = match context.service.judge(context.now, head, id, self.held_since_ms) {
            Verdict::Hold => *self.held_since_ms.get_or_insert(context.now.mono_ms()),
            verdict => {
                self.held_since_ms = None;
                let Verdict::Refuse(by) = verdict else { return None };
                return Some(self.shed(context, head, by, data));
            }
        };
        self.is_held = true;
        context.holds.parked.push_back((since_ms, id));
        Some(0)
    }

    /// Refuses a request and says how many bytes of `data` it took.
    fn shed(&mut self, context: &mut Context<'_>, head: &Head<'_>, by: Refuser, data: &[u8]) -> usize {
        let has_body = !matches!(head.framing, Framing::None | Framing::Length(0));
        let target = context.service.target(head, has_body || self.is_spent(context));
        let mut reply = self.reply(context, target);
        context.service.refuse_by(by, head, &mut reply);
        let until_us = matches!(by, Refuser::Delay | Refuser::SessionRate)
            .then(|| context.service.parts.admission.delay.pause_us(context.now));
        if target.closes {
            // RFC 9112 §9.3 (9.3b): its body is not read.
            self.end(context.now, EndReason::Closed, has_body);
            return data.len();
        }
        if let Some(until_us) = until_us {
            self.is_held = true;
            context.holds.paused.push_back((until_us, context.asker.connection));
        }
        head.bytes
    }

    /// Reads on. What came meanwhile may be too old by now.
    fn resume(&mut self, context: &mut Context<'_>) {
        self.is_held = false;
        if self.has_rest() {
            return;
        }
        let since_ms = self.held_since_ms.filter(|_| !self.input.is_empty());
        if since_ms.is_some_and(|since_ms| !context.service.parts.admission.is_in_time(context.now, since_ms)) {
            return self.drop_overdue(context);
        }
        self.consume_input(context);
    }

    /// Nobody waits for what it asked any more: there is no answer.
    pub(super) fn drop_overdue(&mut self, context: &mut Context<'_>) {
        context.service.parts.counters.shed[Refuser::Deadline as usize].add(1);
        self.end_at_once(context.now, EndReason::Overdue);
    }
}

impl Shard {
    /// A turn of the driver has begun: those whose wait is over are read again.
    #[inline]
    pub fn handle_turn(&mut self, now: Now) {
        self.service.handle_turn(now);
        while !self.holds.is_empty()
            && let Some(id) = self.holds.next(now, &mut self.service.parts.admission)
        {
            self.with(now, id, |connection, context| connection.resume(context));
            self.settle(now, id);
            self.rearm(now, id);
            self.wake(id);
        }
    }

    /// How soon, in milliseconds, the driver is to begin another turn although nothing happens.
    pub fn turn_ms(&mut self) -> Option<u64> {
        (!self.holds.is_empty() || self.service.parts.admission.is_active()).then_some(ACTIVE_TICK_MS)
    }
}
