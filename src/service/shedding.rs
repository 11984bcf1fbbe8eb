//! What admission means for a request: whose it is, how much it counts, and how it is refused.

use std::net::IpAddr;

use super::problem::{self, Problem};
use super::{ConnectionId, Reply, Role, Route, Service, refresh};
use crate::admission::rate::Caller;
use crate::admission::{Class, Refuser, Verdict};
use crate::http::field::Field;
use crate::http::head::Head;
use crate::words::{Now, mix};

impl Service {
    /// What becomes of a request, before its body is read; `held_since_ms` is when it was first told to wait.
    #[inline]
    pub fn judge(&mut self, now: Now, head: &Head<'_>, id: ConnectionId, held_since_ms: Option<u64>) -> Verdict {
        if self.parts.role != Role::Public || self.parts.admission.is_open() {
            return Verdict::Serve;
        }
        let class = Route::of(self.parts.role, head.path).class();
        let mut session = None;
        let who = || {
            session = refresh::claimed_resident(head).filter(|_| class == Class::Refresh);
            // Behind one address are thousands, of whom the connection tells one from another.
            session.map_or_else(|| mix(id.to_bits()), |resident| resident.0)
        };
        if class <= Class::Session
            && held_since_ms.is_none()
            && self.parts.admission.is_active()
            && !self.allows_address(now, head)
        {
            return Verdict::Refuse(Refuser::AddressRate);
        }
        let verdict = self.parts.admission.judge(now, class, who, held_since_ms);
        let spent = session.filter(|_| verdict == Verdict::Refuse(Refuser::Delay)).is_some_and(|resident| {
            // A repeat inside the window is free while there is time, so whether it has used up its own is asked last.
            !self.parts.admission.rates.allows(now, Caller::Session(resident.0), false)
        });
        if spent { Verdict::Refuse(Refuser::SessionRate) } else { verdict }
    }

    /// Refuses what [`judge`](Self::judge) has refused.
    pub fn refuse_by(&mut self, refuser: Refuser, head: &Head<'_>, reply: &mut Reply<'_>) {
        self.parts.counters.shed[refuser as usize].add(1);
        self.conclude(self.route(head.path), Err(Problem::from_refuser(refuser)), reply);
    }

    fn allows_address(&mut self, now: Now, head: &Head<'_>) -> bool {
        // Of a trusted balancer, who it says that it heard from.
        let forwarded = || super::forwarded(head, Field::XForwardedFor)?.parse().ok();
        let address = self.address.or_else(forwarded).map_or(0, |address: IpAddr| match address {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            // What counts as one address is a /64.
            IpAddr::V6(address) => mix((address.to_bits() >> 64) as u64),
        });
        self.parts.admission.rates.allows(now, Caller::Address(address), true)
    }

    /// Counts a request of a session or of a device. Errors: it is one too many.
    pub(super) fn limit(&mut self, now: Now, caller: Caller) -> Result<(), Problem> {
        if self.parts.admission.rates.allows(now, caller, true) {
            return Ok(());
        }
        let refuser = if matches!(caller, Caller::Device(_)) { Refuser::DeviceRate } else { Refuser::SessionRate };
        self.parts.counters.shed[refuser as usize].add(1);
        Err(Problem::from_refuser(refuser))
    }

    /// The same for a request without a session that counts, of which each address has its share under load.
    pub(super) fn limit_strangers(&mut self, now: Now, head: &Head<'_>, error: Problem) -> Problem {
        if !self.parts.admission.is_active() || self.allows_address(now, head) {
            return error;
        }
        self.parts.counters.shed[Refuser::AddressRate as usize].add(1);
        problem::ADDRESS_RATE
    }
}
