//! The delay governor over a queue with one server, and by itself.

use super::*;

/// A queue with one server: what `per_ms` arrive for, where one takes `service_us` and a refusal a fifth of that. Gives,
/// for the last `ms` milliseconds, how many were served in them and the greatest age of those, in milliseconds.
fn overload(delay: &mut Delay, from_ms: u64, ms: u64, per_ms: u64, service_us: u64) -> (u64, u64) {
    let (mut clock_us, mut served, mut oldest_ms) = (from_ms * 1_000, 0, 0);
    let mut number = 0;
    while clock_us < (from_ms + ms) * 1_000 {
        let now = Now { unix_ms: 0, mono_us: clock_us };
        delay.handle_turn(now);
        let came_us = from_ms * 1_000 + number * 1_000 / per_ms;
        if came_us > clock_us {
            clock_us = came_us;
            continue;
        }
        number += 1;
        let age_ms = (clock_us - came_us) / 1_000;
        delay.sample(age_ms);
        if !delay.is_active() || delay.admits(Class::Refresh, crate::words::mix(number)) {
            clock_us += service_us;
            (served, oldest_ms) = (served + 1, oldest_ms.max(age_ms));
        } else {
            clock_us += service_us / 5;
        }
    }
    (served, oldest_ms)
}

#[test]
fn a_queue_that_stands_is_shed_until_it_is_short_and_not_further() {
    let mut delay = Delay::default();
    // 100 us each: 10 a millisecond can be served, 20 come.
    overload(&mut delay, 0, 2_000, 20, 100);
    let (served, oldest_ms) = overload(&mut delay, 2_000, 2_000, 20, 100);
    // 40,000 came. To serve 15,000 and refuse the others, at a fifth of the cost each, takes all the time there was.
    assert!(served >= 14_700, "{served}");
    assert!(oldest_ms <= 4 * DELAY_TARGET_MS, "{oldest_ms}");
    // And it ends by itself.
    overload(&mut delay, 4_000, 4_000, 5, 100);
    assert!(!delay.is_active());
}

#[test]
fn a_queue_that_comes_and_goes_is_left_alone() {
    let mut delay = Delay::default();
    delay.handle_turn(Now::default());
    for ms in 1..1_000 {
        delay.sample(if ms % 50 < 40 { 3 * DELAY_TARGET_MS } else { 0 });
        delay.handle_turn(Now { unix_ms: 0, mono_us: ms * 1_000 });
        assert_eq!(delay.level, 0);
    }
}

#[test]
fn the_lowest_class_goes_first_and_those_of_one_hash_together() {
    let mut delay = Delay::default();
    let mut now_us = 0;
    let mut refused = [0; Class::COUNT];
    for turn in 0..40_000_u64 {
        delay.sample(5 * DELAY_TARGET_MS);
        for (at, class) in [Class::Page, Class::Refresh].into_iter().enumerate() {
            refused[at] += u32::from(!delay.admits(class, turn));
        }
        now_us += 100;
        delay.handle_turn(Now { unix_ms: 0, mono_us: now_us });
        if delay.sheds(Class::Refresh) {
            break;
        }
    }
    assert!(refused[0] > 0 && refused[1] == 0, "{refused:?}");
    let level = delay.level;
    assert!((0..200).all(|hash| delay.admits(Class::Page, hash) == (PARTS + hash as usize % PARTS >= level)));
}

#[test]
fn refusing_has_a_share() {
    let mut delay = Delay::default();
    let start = Now { unix_ms: 0, mono_us: 0 };
    delay.handle_turn(start);
    delay.sample(5 * DELAY_TARGET_MS);
    for _ in 0..400 {
        delay.served += 1;
    }
    delay.handle_turn(Now { unix_ms: 0, mono_us: DELAY_INTERVAL_MS * 1_000 });
    delay.sample(5 * DELAY_TARGET_MS);
    let now = Now { unix_ms: 0, mono_us: DELAY_INTERVAL_MS * 1_000 };
    let pauses: Vec<u64> = (0..200_000).map(|_| delay.pause_us(now) - now.mono_us).collect();
    // A hundred in an interval, one behind the other.
    assert_eq!(pauses[99], DELAY_INTERVAL_MS * 1_000, "{:?}", &pauses[..4]);
    assert_eq!(*pauses.last().unwrap(), PAUSE_US_MAX, "and none for ever");
}

#[test]
fn the_queue_of_new_connections_is_short_until_it_is_not_full_for_a_while() {
    let mut delay = Delay::default();
    let mut interval = |age_ms: u64, queued: u32, number: u64| {
        delay.sample(age_ms);
        delay.handle_queue(queued);
        delay.handle_turn(Now { unix_ms: 0, mono_us: number * DELAY_INTERVAL_MS * 1_000 });
        delay.is_crowded()
    };
    assert!(!interval(0, 5_000, 1), "a long queue alone is none that stands");
    assert!(interval(DELAY_TARGET_MS, 0, 2));
    assert!((3..60).all(|number| interval(0, CROWDED_BACKLOG_MAX, number)), "as long as it is full");
    let calm = (60..200).take_while(|number| interval(0, 1, *number)).count();
    assert_eq!(calm + 1, CALM_INTERVALS as usize);
}

#[test]
fn a_queue_that_is_not_taken_in_order_stands_all_the_same() {
    let mut delay = Delay::default();
    delay.handle_turn(Now::default());
    let mut interval = |young: i32, number: u64| {
        (0..100).for_each(|at| delay.sample(if at % 100 < young { 1 } else { 5 * DELAY_TARGET_MS }));
        delay.handle_turn(Now { unix_ms: 0, mono_us: number * DELAY_INTERVAL_MS * 1_000 });
        delay.level
    };
    assert_eq!(interval(100 / YOUNG_SHARE + 1, 1), 0);
    assert!(interval(100 / YOUNG_SHARE, 2) > 0, "some are always lucky");
}
