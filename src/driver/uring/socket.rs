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

const OPERATION_BITS: u32 = 8;

/// An operation and its connection (without the highest bits of its generation) as 64 bits for the kernel to carry.
pub(super) fn user_data(operation: Operation, id: ConnectionId) -> u64 {
    u64::from(operation as u8).rotate_right(OPERATION_BITS) | id.to_bits() << OPERATION_BITS >> OPERATION_BITS
}

pub(super) fn operation(user_data: u64) -> Option<Operation> {
    Operation::from_repr((user_data >> (u64::BITS - OPERATION_BITS)) as u8)
}

pub(super) fn place(user_data: u64) -> u32 {
    user_data as u32
}

/// Whether it was the operation of this connection, not of one before it in its place.
pub(super) fn is_of(user_data: u64, id: ConnectionId) -> bool {
    (user_data ^ id.to_bits()) << OPERATION_BITS == 0
}

/// Which receive is armed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Receiving {
    #[default]
    Nothing,
    Once,
    Multi,
}

#[derive(Default)]
pub(super) struct Socket {
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

const _: () = assert!(size_of::<Socket>() <= 376);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_survives_the_way_through_the_kernel() {
        for expected in (1..=6).map(|number| Operation::from_repr(number).unwrap()) {
            let [id, later, over] = [0x12_3456, 0x12_3457, 0xff12_3456]
                .map(|generation| ConnectionId::from_bits(generation << 32 | 65_535));
            let bits = user_data(expected, id.unwrap());
            assert_eq!((operation(bits), place(bits)), (Some(expected), 65_535));
            assert!(is_of(bits, id.unwrap()) && !is_of(bits, later.unwrap()) && is_of(bits, over.unwrap()));
        }
        assert_eq!(operation(0), None);
    }
}
