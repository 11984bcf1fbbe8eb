//! Whose a connection is: what a balancer says of its client, and how many connections each address has, so that none
//! takes more than its share of them. Behind one address of a carrier are 20,000 residents, so that share is half.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;

use super::connection::{Connection, Context};
use crate::http::proxy;
use crate::limits::REFUSED_CONNECTIONS_MAX;
use crate::service::counters::EndReason;
use crate::service::problem::{self, Problem};

/// The connections of a shard by address.
#[derive(Default)]
pub(super) struct Crowd {
    connections: HashMap<IpAddr, usize>,
    each_max: usize,
    pub(super) refused: usize,
}

/// What counts as one address: an IPv6 host has a whole /64 (RFC 6177), and could come from another of it each time.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

impl Crowd {
    pub(super) fn new(each_max: usize) -> Crowd {
        Crowd { each_max, ..Crowd::default() }
    }

    /// One more of this [`neighbourhood`]; how many that makes.
    fn enter(&mut self, address: IpAddr) -> usize {
        let count = self.connections.entry(address).or_default();
        *count += 1;
        *count
    }

    fn leave(&mut self, address: IpAddr) {
        if let Some(count) = self.connections.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(&address);
            }
        }
    }
}

impl Connection {
    /// What a balancer says of its client, before all else.
    pub(super) fn handle_proxy(&mut self, context: &mut Context<'_>, bytes: &[u8]) {
        if self.input.capacity() == 0 {
            self.input = context.buffers.tail();
        }
        self.input.extend_from_slice(bytes);
        match proxy::parse(&self.input) {
            Ok(None) => drop(self.head_started_ms.get_or_insert(context.now.mono_ms())),
            Ok(Some((length, client))) => {
                let input = mem::take(&mut self.input);
                (self.awaits_proxy, self.head_started_ms) = (false, None);
                if !client.is_none_or(|client| self.enter(context.crowd, client)) {
                    self.end_at_once(context.now, EndReason::Refused);
                } else if length < input.len() {
                    self.handle_wire(context, &input[length..]);
                }
                context.buffers.give_tail(input);
            }
            // A balancer could not read a refusal.
            Err(proxy::Malformed) => self.end_at_once(context.now, EndReason::Proxy),
        }
    }

    /// Counts it for its address; one too many is refused. `false`: there is no place to tell it so.
    pub(super) fn enter(&mut self, crowd: &mut Crowd, client: IpAddr) -> bool {
        let address = neighbourhood(client);
        self.address = Some(address);
        crowd.enter(address) <= crowd.each_max || self.is_one_too_many(crowd, problem::ADDRESS_CONNECTIONS_FULL)
    }

    /// Its first request will be refused with this. `false`: there is no place to tell it so.
    pub(super) fn is_one_too_many(&mut self, crowd: &mut Crowd, problem: Problem) -> bool {
        if self.refused.is_none() {
            if crowd.refused == REFUSED_CONNECTIONS_MAX {
                return false;
            }
            crowd.refused += 1;
            self.refused = Some(problem);
        }
        true
    }

    pub(super) fn leave(&self, crowd: &mut Crowd) {
        self.address.into_iter().for_each(|address| crowd.leave(address));
        crowd.refused -= usize::from(self.refused.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_forgotten_with_its_last_connection() {
        let address = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(address("::ffff:192.0.2.7"), address("192.0.2.7"));
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:2"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        let mut crowd = Crowd::default();
        assert_eq!([1, 2].map(|_| crowd.enter(address("192.0.2.7"))), [1, 2]);
        assert_eq!(crowd.enter(address("192.0.2.8")), 1);
        for one in ["192.0.2.7", "192.0.2.7", "192.0.2.8"] {
            crowd.leave(address(one));
        }
        assert!(crowd.connections.is_empty());
    }
}
