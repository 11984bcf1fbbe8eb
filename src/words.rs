//! The words every room shares: a resident's number, a status, the instant that is handed in, and why a command ends.
//!
//! Nothing here reads a clock or a file. The drivers and the commands make a [`Now`]; the pure rooms take it.

use std::fmt::Display;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, FromRepr, IntoStaticStr};

/// A resident, as sessions, codes and the journal name them: the first 8 bytes, big-endian, of the keyed hash of
/// the ID number. The same in every import, snapshot and node that holds the same hash key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct ResidentNumber(pub u64);

/// What a resident's code says. The discriminants are the values of claim -65537.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, Display, EnumString, FromRepr, IntoStaticStr, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
#[repr(u8)]
pub enum Status {
    /// Nobody has said anything yet, or what was said is not one of the three.
    #[default]
    Unknown = 0,
    /// No restriction.
    Green = 1,
    /// Restricted: to be tested or observed.
    Yellow = 2,
    /// Isolated.
    Red = 3,
}

impl Status {
    /// The status of a claim value; anything that is not 1, 2 or 3 is unknown.
    pub fn from_claim(value: u64) -> Status {
        u8::try_from(value).ok().and_then(Status::from_repr).unwrap_or_default()
    }

    /// The word used in JSON and CSV: `unknown`, `green`, `yellow` or `red`.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// The output function of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit. It hides nothing.
pub const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// The instant at which an input arrived, taken once by the driver and handed into every pure room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Milliseconds since 1970-01-01T00:00:00Z. May jump when the host's clock is set.
    pub unix_ms: u64,
    /// Microseconds on a clock that never goes back; its zero is arbitrary. All timers use this one.
    pub mono_us: u64,
}

impl Now {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub const fn unix_s(self) -> u64 {
        self.unix_ms / 1_000
    }

    /// Milliseconds on the monotonic clock.
    pub const fn mono_ms(self) -> u64 {
        self.mono_us / 1_000
    }
}

/// What ends a command early, as its exit status; the numbers are those of `sysexits.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "EXIT_STATUSES of the commands says it")]
pub enum Fatal {
    Usage = 2,
    Address = 69,
    Panic = 70,
    System = 71,
    Folder = 73,
    File = 74,
    Held = 75,
    Configuration = 78,
}

/// Why a command ends early: the exit status, and one line for the operator that names what is wrong.
pub type Ended = (Fatal, String);

impl Fatal {
    /// For `map_err`: the error as it is.
    pub fn ended<E: Display>(self) -> impl Fn(E) -> Ended {
        move |error| (self, error.to_string())
    }

    /// For `map_err`: the error behind the place that it is of.
    pub fn at<E: Display>(self, place: impl Display) -> impl Fn(E) -> Ended {
        move |error| (self, format!("{place}: {error}"))
    }

    /// Ends a command unless something holds: what is wrong, behind the place that it is of.
    pub fn unless(self, holds: bool, place: impl Display, wrong: impl Display) -> Result<(), Ended> {
        if holds { Ok(()) } else { Err(self.at(place)(wrong)) }
    }
}
