//! The one place of the server that reads clocks.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::words::Now;

/// The monotonic zero, the same for all threads.
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Reads both clocks. A host whose clock stands before 1970 gets 1970: every code it makes is then refused as expired.
pub fn now() -> Now {
    let zero = *ZERO;
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { unix_ms: unix.as_millis() as u64, mono_us: zero.elapsed().as_micros() as u64 }
}
