//! The window: when a code was issued, until when it lives, and when its holder should ask for the next one.
//!
//! All residents share the window's start as `iat`, so a code is the same from every shard and node and its time tells
//! nothing about who holds it. `refresh_at` alone is spread, so that a city never turns at once.

use crate::limits::{CODE_LIFE_S_MAX, CODE_WINDOW_S_MAX};
use crate::words::{ResidentNumber, mix};

/// How long a window is and how long a code made in it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// At least 1.
    window_s: u32,
    /// At least two windows: a code may be that old when its holder asks again.
    life_s: u32,
}

/// The times of one resident's code, in Unix seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// The start of the window, and of the code's life.
    pub iat: u32,
    /// The end of the code's life.
    pub exp: u32,
    /// When the holder should ask again: in the next window, at a second of the resident's own.
    pub refresh_at: u32,
}

impl Window {
    /// A window of `window_s` seconds whose codes live `life_s` seconds. `None`: an empty window, a life shorter than
    /// two windows, or one longer than [`CODE_LIFE_S_MAX`].
    pub const fn new(window_s: u32, life_s: u32) -> Option<Window> {
        if window_s == 0 || life_s > CODE_LIFE_S_MAX || life_s / 2 < window_s {
            return None;
        }
        Some(Window { window_s, life_s })
    }

    /// The window's length, in seconds.
    pub const fn seconds(self) -> u32 {
        self.window_s
    }

    /// Window and life doubled so many times, as far as they may go.
    pub fn lengthened(self, level: u32) -> Window {
        let longer = |seconds: u32, most: u32| (seconds << level).min(most.max(seconds));
        let (window_s, life_s) = (longer(self.window_s, CODE_WINDOW_S_MAX), longer(self.life_s, CODE_LIFE_S_MAX));
        Window { window_s: window_s.min(life_s / 2), life_s }
    }

    /// The times of `resident`'s code at `now_unix_s`. After 2106, when 32 bits hold them no more, they stand still.
    pub fn times(&self, resident: ResidentNumber, now_unix_s: u64) -> Times {
        let window_s = u64::from(self.window_s);
        let number = now_unix_s / window_s;
        let start = number * window_s;
        // The resident number is a keyed hash itself, so this need hide nothing.
        let delay_s = mix(resident.0 ^ number) % window_s;
        Times {
            iat: seconds(start),
            exp: seconds(start.saturating_add(u64::from(self.life_s))),
            refresh_at: seconds(start.saturating_add(window_s).saturating_add(delay_s)),
        }
    }
}

fn seconds(unix_s: u64) -> u32 {
    u32::try_from(unix_s).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_780_000_000;

    #[test]
    fn all_residents_share_the_start_and_the_end() {
        for resident in 0..1_000 {
            let times = Window::new(45, 120).unwrap().times(ResidentNumber(resident), NOW);
            assert_eq!((times.iat, times.exp), (1_779_999_975, 1_780_000_095));
        }
    }

    #[test]
    fn nothing_changes_within_a_window() {
        let start = NOW / 45 * 45;
        let first = Window::new(45, 120).unwrap().times(ResidentNumber(7), start);
        assert!((start..start + 45).all(|now| Window::new(45, 120).unwrap().times(ResidentNumber(7), now) == first));
        assert_ne!(Window::new(45, 120).unwrap().times(ResidentNumber(7), start + 45), first);
    }

    #[test]
    fn a_refresh_falls_into_the_next_window_and_into_the_life() {
        for (window_s, life_s) in [(45, 120), (90, 240), (180, 480), (300, 600), (1, 2)] {
            let window = Window::new(window_s, life_s).unwrap();
            for resident in 0..1_000u64 {
                let times = window.times(ResidentNumber(resident.wrapping_mul(0x9e37_79b9)), NOW + resident);
                assert!((times.iat + window_s..times.iat + 2 * window_s).contains(&times.refresh_at));
                assert!(times.refresh_at < times.exp);
            }
        }
    }

    #[test]
    fn a_city_never_turns_at_once() {
        let mut count = [0u32; 45];
        for resident in 0..45_000u64 {
            let times = Window::new(45, 120).unwrap().times(ResidentNumber(resident), NOW);
            count[(times.refresh_at - times.iat - 45) as usize] += 1;
        }
        // Binomial, mean 1,000, deviation 31: six deviations either side.
        assert!(count.iter().all(|count| (810..1_190).contains(count)), "{count:?}");
    }

    #[test]
    fn a_window_that_outlives_its_codes_is_refused() {
        assert_eq!(Window::new(0, 120), None);
        assert_eq!(Window::new(61, 120), None);
        assert_eq!(Window::new(60, 601), None);
    }

    #[test]
    fn the_end_of_32_bit_time_is_not_a_panic() {
        assert_eq!(Window::new(45, 120).unwrap().times(ResidentNumber(1), u64::MAX).exp, u32::MAX);
    }
}
