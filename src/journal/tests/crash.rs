//! Crashes at every boundary, under every rule, and again while recovering; faults at every call.

use std::sync::atomic::Ordering;

use super::disk::{Disk, Survival};
use super::machine::{Broken, Fault, Folded, Found, History, LANES, Machine, check};

const SEED: u64 = 0x0c0d_e5ee_d001;

/// Crashes a disk under a rule, recovers it, crashes that recovery after some of its calls, and recovers once more.
/// `false`: a sector torn in its midst lacked one single bit, which is refused rather than cut, see the format.
fn crash_twice(disk: &Disk, history: &History, folded: &Folded, rule: Survival, seed: u64) -> Result<bool, String> {
    let refused = |rule, error: &str| rule == Survival::Torn && error.ends_with("one bit of it has flipped");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut left = disk.crashed(rule, &mut random);
    let found = match check(&mut left, history, folded) {
        Err(error) if refused(rule, &error) => return Ok(false),
        found => found?,
    };
    let mut next = restarted(left, &found, history.acknowledged, random.u64(..));
    (0..random.u64(..12)).for_each(|_| {
        next.step(&mut |_, _| {});
    });
    if next.counters.segments.load(Ordering::Relaxed) > 0 {
        // From here on all that was found, and applied, must stay.
        next.history.acknowledged = found.counts;
    }
    let again = Survival::ALL[random.usize(..Survival::ALL.len())];
    let mut left = next.disk.crashed(again, &mut random);
    let found = match check(&mut left, &next.history, folded) {
        Err(error) if refused(again, &error) => return Ok(false),
        found => found.map_err(|error| format!("crashed again ({again:?}): {error}"))?,
    };
    // Faults are over: whatever is appended now is there afterwards.
    let mut last = restarted(left, &found, found.counts, random.u64(..));
    (0..7).for_each(|number| last.append(number % LANES));
    last.finish(&mut |_, _| {});
    if last.history.acknowledged != last.history.appended {
        return Err("what was appended after recovery is not acknowledged".to_owned());
    }
    let mut left = last.disk.crashed(Survival::Nothing, &mut random);
    check(&mut left, &last.history, folded).map_err(|error| format!("after recovery: {error}")).map(|_| true)
}

/// The next process, which goes on with what was found.
fn restarted(disk: Disk, found: &Found, acknowledged: [u64; LANES], seed: u64) -> Machine {
    let history = History { appended: found.counts, acknowledged, base: found.counts };
    Machine::new(disk, found.end.clone(), history, seed)
}

/// A workload of so many calls of the disk, with `at` at every boundary; old segments are folded away meanwhile, which
/// is what it returns.
fn workload(machine: &mut Machine, calls: u64, at: &mut dyn FnMut(&Disk, &History, &Folded)) -> Folded {
    let mut folded = Folded::default();
    while machine.calls < calls && !machine.has_failed() {
        for _ in 0..machine.random.usize(..12) {
            let lane = machine.random.usize(..LANES);
            machine.append(lane);
        }
        machine.step(&mut |disk, history| at(disk, history, &folded));
        let names = machine.disk.names();
        if names.len() > 3 {
            // A snapshot of all that lies before the last segment but one.
            let to = names[names.len() - 2] - 1;
            folded = fold(&machine.disk, &folded, to);
            names.iter().filter(|name| **name < names[names.len() - 2]).for_each(|name| machine.disk.forget(*name));
        }
    }
    machine.finish(&mut |disk, history| at(disk, history, &folded));
    folded
}

fn fold(disk: &Disk, folded: &Folded, to: u64) -> Folded {
    let mut counts = folded.counts;
    let read = crate::journal::recover::recover(&mut disk.clone(), Some(folded.to), |entry| {
        if entry.stored.sequence <= to {
            counts[usize::from(entry.stored.origin)] += 1;
        }
    });
    read.expect("the journal that is being written can be read");
    Folded { to, counts }
}

/// What a workload's crash images have shown.
#[derive(Debug)]
struct Images {
    count: u64,
    refused: u64,
    wrong: Option<String>,
}

/// Runs the workload on a writer that may be broken, and stops looking at the first image that does not hold.
fn images(broken: Broken, fault: Option<(u64, Fault)>, calls: u64) -> Images {
    let mut machine = Machine::fresh(SEED);
    (machine.broken, machine.fault) = (broken, fault);
    let mut images = Images { count: 0, refused: 0, wrong: None };
    workload(&mut machine, calls, &mut |disk, history, folded| {
        for rule in Survival::ALL {
            if images.wrong.is_some() {
                return;
            }
            let seed = SEED ^ images.count;
            match crash_twice(disk, history, folded, rule, seed) {
                Ok(held) => images.refused += u64::from(!held),
                Err(error) => images.wrong = Some(format!("image {}, {rule:?}, seed {seed:#x}: {error}", images.count)),
            }
            images.count += 1;
        }
    });
    images
}

#[test]
fn a_crash_at_every_boundary_of_2000_calls_loses_nothing() {
    let images = images(Broken::Nothing, None, 2_000);
    println!("each crashed again while recovering: {images:?}");
    assert_eq!(images.wrong, None);
    assert!(images.count >= 10_000 && images.refused * 1_000 < images.count, "{images:?}");
}

#[test]
fn broken_writers_are_caught() {
    for (broken, fault) in [
        (Broken::AcknowledgesBeforeSync, None),
        (Broken::AdoptsUnsynced, None),
        (Broken::ForgetsFolderSync, None),
        (Broken::TakesShortForWhole, Some(Fault::Short)),
    ] {
        let mut caught = (30..50).filter_map(|at| images(broken, fault.map(|fault| (at, fault)), 200).wrong);
        println!("{broken:?}: {}", caught.next().expect("nobody has noticed"));
    }
}

#[test]
fn a_fault_at_every_call_loses_nothing() {
    for fault in [Fault::Eio, Fault::Enospc, Fault::Short, Fault::Delay] {
        let mut failed = 0;
        for at in 1..=150 {
            let mut machine = Machine::fresh(SEED + at);
            machine.fault = Some((at, fault));
            let mut after = 0;
            let folded = workload(&mut machine, 160, &mut |disk, history, folded| {
                let rule = Survival::ALL[after % Survival::ALL.len()];
                after += 1;
                if after % 10 == 0 {
                    let checked = crash_twice(disk, history, folded, rule, SEED ^ at);
                    assert!(checked.is_ok(), "{checked:?}: {fault:?} at call {at}, {rule:?}");
                }
            });
            for rule in Survival::ALL {
                let checked = crash_twice(&machine.disk, &machine.history, &folded, rule, SEED ^ at);
                assert!(checked.is_ok(), "{checked:?}: {fault:?} at call {at}, {rule:?} at the end");
            }
            if machine.has_failed() {
                failed += 1;
                let (calls, acknowledged) = (machine.calls, machine.history.acknowledged);
                machine.append(0);
                machine.finish(&mut |_, _| {});
                assert_eq!(machine.calls, calls, "{fault:?} at {at}: the disk was touched after the first failure");
                assert_eq!(acknowledged, machine.history.acknowledged);
            } else {
                assert_eq!(machine.history.acknowledged, machine.history.appended, "{fault:?} at {at}");
            }
        }
        println!("{fault:?}: {failed} of 150 ended the journal");
        assert_eq!(failed > 0, matches!(fault, Fault::Eio | Fault::Enospc), "{fault:?}");
    }
}

/// One small operation of a process.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Append,
    Commit,
    Idle,
    Restart,
    Seal,
}

#[test]
fn all_sequences_of_three_operations_lose_nothing() {
    use Operation::{Append, Commit, Idle, Restart, Seal};
    let all = [Append, Commit, Idle, Restart, Seal];
    let mut count = 0u64;
    let sequences = (0..125).map(|index| [all[index % 5], all[index / 5 % 5], all[index / 25]]);
    for sequence in sequences {
        for rule in Survival::ALL {
            let mut machine = Machine::fresh(SEED);
            let mut at = |disk: &Disk, history: &History| {
                count += 1;
                let checked = crash_twice(disk, history, &Folded::default(), rule, SEED ^ count);
                assert!(checked.is_ok(), "{checked:?}: {sequence:?}, {rule:?}");
            };
            for operation in sequence {
                match operation {
                    Append => (0..4).for_each(|number| machine.append(number % LANES)),
                    Commit => while machine.step(&mut at) {},
                    Idle => {
                        while machine.step(&mut at) {}
                        while machine.step(&mut at) {}
                    }
                    Seal => {
                        machine.counters.sealing.store(true, Ordering::Relaxed);
                        while machine.step(&mut at) {}
                    }
                    Restart => {
                        let mut disk = machine.disk.crashed(rule, &mut machine.random);
                        let found = check(&mut disk, &machine.history, &Folded::default());
                        let found = found.unwrap_or_else(|error| panic!("{sequence:?}, {rule:?}: {error}"));
                        machine = restarted(disk, &found, machine.history.acknowledged, SEED ^ 7);
                    }
                }
            }
        }
    }
    println!("small images: {count}");
}
