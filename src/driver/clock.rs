//! The one place of the server that reads clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::words::Now;

/// Reads both clocks; its monotonic zero is where it was made.
#[derive(Clone, Copy)]
pub struct Clock {
    zero: Instant,
}

impl Clock {
    /// A clock whose monotonic zero is now.
    pub fn start() -> Clock {
        Clock { zero: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Now {
        // A host whose clock stands before 1970 gets 1970: every code it makes is then refused as expired.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mono = self.zero.elapsed();
        Now {
            unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
            mono_us: u64::try_from(mono.as_micros()).unwrap_or(u64::MAX),
        }
    }
}
