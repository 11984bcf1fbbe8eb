//! The one place of the server that reads clocks.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::words::Now;

/// The monotonic zero, the same for all threads.
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Reads both clocks.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

#[allow(missing_docs, reason = "the names say it")]
impl Clock {
    pub fn start() -> Clock {
        Clock(*ZERO)
    }

    pub fn now(&self) -> Now {
        // A host whose clock stands before 1970 gets 1970: every code it makes is then refused as expired.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mono = self.0.elapsed();
        Now {
            unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
            mono_us: u64::try_from(mono.as_micros()).unwrap_or(u64::MAX),
        }
    }
}
