//! The brown-out: one level for the whole node, each of which doubles window and life of codes, so that the same crowd
//! asks half as often before anybody is refused for long.
//!
//! A level begins at the next boundary of the windows before it; codes that were made stay good.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits::BROWNOUT_AFTER_MS;
use crate::words::Now;

/// The highest level: eight times the window.
const LEVEL_MAX: u32 = 3;
const GAP_MS: u64 = 1_000;

/// The level, the one before it, and when it begins; all shards read it, and any of them changes it.
#[derive(Default)]
pub struct Brownout {
    /// Unix seconds from which the level counts, then four bits of the level before it, then four bits of the level.
    state: AtomicU64,
    pressed_since_ms: AtomicU64,
    pressed_ms: AtomicU64,
}

impl Brownout {
    /// The level in force at `unix_s`.
    pub fn level(&self, unix_s: u64) -> u32 {
        let state = self.state.load(Relaxed);
        if state == 0 {
            return 0;
        }
        (if unix_s >= state >> 8 { state & 15 } else { state >> 4 & 15 }) as u32
    }

    /// What a shard says each interval: whether refreshes are refused, or overdraw. `window_s` gives a level's window.
    pub(super) fn steer(&self, now: Now, pressed: bool, window_s: impl Fn(u32) -> u32) {
        let (state, now_ms) = (self.state.load(Relaxed), now.mono_ms());
        if pressed {
            // Pressure that was away for so long had ended.
            if now_ms.saturating_sub(self.pressed_ms.load(Relaxed)) > GAP_MS {
                self.pressed_since_ms.store(now_ms, Relaxed);
            }
            self.pressed_ms.store(now_ms, Relaxed);
        } else if state == 0 {
            return;
        }
        let (from_s, level) = (state >> 8, state & 15);
        let window_s = u64::from(window_s(level as u32));
        let rises = pressed && now_ms.saturating_sub(self.pressed_since_ms.load(Relaxed)) >= BROWNOUT_AFTER_MS;
        let sinks = now_ms.saturating_sub(self.pressed_ms.load(Relaxed)) >= window_s * 1_000;
        let next = match level {
            // One window at least, to see what the last change did.
            _ if now.unix_s() < from_s + if from_s == 0 { 0 } else { window_s } => return,
            level if rises && level < u64::from(LEVEL_MAX) => level + 1,
            level if sinks && level > 0 => level - 1,
            _ => return,
        };
        let from_s = (now.unix_s() / window_s + 1) * window_s;
        // Another shard may have said it already.
        let _ = self.state.compare_exchange(state, from_s << 8 | level << 4 | next, Relaxed, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Presses, or not, ten times a second from one second to another, and gives the levels that were in force.
    fn levels(brownout: &Brownout, seconds: std::ops::Range<u64>, pressed: bool) -> Vec<u32> {
        let mut levels = vec![brownout.level(1_000_000_000 + seconds.start)];
        for tenth in seconds.start * 10..seconds.end * 10 {
            let now = Now { unix_ms: 1_000_000_000_000 + tenth * 100, mono_us: (tenth + 100) * 100_000 };
            brownout.steer(now, pressed, |level| 50 << level);
            let level = brownout.level(now.unix_s());
            if *levels.last().unwrap() != level {
                levels.push(level);
            }
        }
        levels
    }

    #[test]
    fn it_rises_step_by_step_under_pressure_and_sinks_by_itself() {
        let brownout = Brownout::default();
        assert_eq!(levels(&brownout, 0..4, true), [0], "a short rush changes nothing");
        assert_eq!(levels(&brownout, 10..1_000, true), [0, 1, 2, 3]);
        assert_eq!(levels(&brownout, 1_000..1_900, false), [3, 2]);
        assert_eq!(levels(&brownout, 1_900..5_000, false), [2, 1, 0]);
    }

    #[test]
    fn a_level_begins_with_a_window_of_the_one_before_it() {
        let brownout = Brownout::default();
        levels(&brownout, 3..9, true);
        assert_eq!(brownout.level(1_000_000_049), 0);
        assert_eq!(brownout.level(1_000_000_050), 1);
    }
}
