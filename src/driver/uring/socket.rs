//! One accepted socket, and what the kernel may still be doing with it.
//!
//! A place is given back only when no operation of its connection is in flight: a descriptor that is closed under a
//! receive stays open in the kernel, and a completion that comes later must not meet another connection
//! (`io_uring_cancelation(7)`). Each operation carries the generation of its connection all the same, so that a
//! completion that is late beyond all rules is dropped.

use std::os::fd::RawFd;

use crate::driver::in_flight::InFlight;
use crate::service::Output;
use crate::shard::ConnectionId;

/// What a completion is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, strum::FromRepr)]
#[repr(u8)]
pub(super) enum Operation {
    Accept = 1,
    Bell = 2,
    Receive = 3,
    Send = 4,
    /// Its own completion says nothing that the cancelled operation's does not.
    Cancel = 5,
    Close = 6,
}

const GENERATION_BITS: u32 = 24;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

/// An operation and its connection, as the 64 bits that the kernel carries for us.
pub(super) fn user_data(operation: Operation, id: ConnectionId) -> u64 {
    u64::from(operation as u8) << 56 | u64::from(id.generation & GENERATION_MASK) << 32 | u64::from(id.index)
}

/// The same, back again: the operation, the index, and the low bits of the generation.
pub(super) fn from_user_data(bits: u64) -> (Option<Operation>, u32, u32) {
    (Operation::from_repr((bits >> 56) as u8), bits as u32, (bits >> 32) as u32 & GENERATION_MASK)
}

/// Which receive is armed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Receiving {
    #[default]
    Nothing,
    Once,
    Multi,
}

/// One accepted socket.
#[derive(Default)]
pub(super) struct Socket {
    pub(super) id: ConnectionId,
    pub(super) descriptor: RawFd,
    pub(super) receiving: Receiving,
    /// Has sent more than one request's bytes, so that a receive that stays armed is worth its cancellation.
    pub(super) lasting: bool,
    /// Sent while it was not its turn: a receive that stays armed would let it fill our memory.
    pub(super) demoted: bool,
    pub(super) cancelling: bool,
    /// It is the connection's turn to send: nothing of it is unanswered.
    pub(super) turn: bool,
    /// The other end is on this host; not known before the first large page.
    pub(super) local: Option<bool>,
    /// What the kernel reads from; taken out by the completion and by nothing else.
    pub(super) sending: Option<InFlight>,
    /// What a failed send has left.
    pub(super) unsent: Option<Output>,
    /// The connection is over, by failure or not; the socket closes as soon as nothing is in flight.
    pub(super) ending: Option<bool>,
}

const _: () = assert!(size_of::<Option<Socket>>() <= 384);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_survives_the_way_through_the_kernel() {
        for operation in (1..=6).map(|number| Operation::from_repr(number).unwrap()) {
            let id = ConnectionId { index: 65_535, generation: 0x12_3456 };
            assert_eq!(from_user_data(user_data(operation, id)), (Some(operation), 65_535, 0x12_3456));
            let id = ConnectionId { index: u32::MAX, generation: u32::MAX };
            assert_eq!(from_user_data(user_data(operation, id)), (Some(operation), u32::MAX, GENERATION_MASK));
        }
        assert_eq!(from_user_data(0).0, None);
    }
}
