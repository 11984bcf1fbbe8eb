//! Crashes at every boundary, under every rule, and again while recovering; faults at every call.

use std::cell::RefCell;
use std::io;

use super::disk::{Disk, SNAPSHOT, Survival};
use super::machine::{Broken, Fault, Folded, Found, History, LANES, Machine, check, check_removed, removals};
use crate::journal::Record;
use crate::journal::log::Counters;
use crate::journal::recover::Source;
use crate::journal::rewrite::{self, Segments};
use crate::words::ResidentNumber;

const SEED: u64 = 0x0c0d_e5ee_d001;

/// Crashes a disk under a rule, recovers it, crashes that recovery after some of its calls, and recovers once more.
/// `false`: a sector torn in its midst lacked one single bit, which is refused rather than cut, see the format.
fn crash_twice(disk: &Disk, history: &History, rule: Survival, seed: u64) -> Result<bool, String> {
    let refused = |rule, error: &str| rule == Survival::Torn && error.ends_with("one bit of it has flipped");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut left = disk.crashed(rule, &mut random);
    let found = match look(&mut left, history) {
        Err(error) if refused(rule, &error) => return Ok(false),
        found => found?,
    };
    let mut next = restarted(left, &found, history.acknowledged, random.u64(..));
    (0..random.u64(..12)).for_each(|_| {
        next.step(&mut |_, _| {});
    });
    if next.counters.segments.load() > 0 {
        // From here on all that was found, and applied, must stay.
        next.history.acknowledged = found.counts;
    }
    let again = Survival::ALL[random.usize(..Survival::ALL.len())];
    let mut left = next.disk.crashed(again, &mut random);
    let found = match look(&mut left, &next.history) {
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
    look(&mut left, &last.history).map_err(|error| format!("after recovery: {error}")).map(|_| true)
}

/// What a process finds on this disk: snapshot and journal.
fn look(disk: &mut Disk, history: &History) -> Result<Found, String> {
    let folded = Folded::of(disk)?;
    let found = check(disk, history, &folded)?;
    check_removed(disk, &folded)?;
    Ok(found)
}

/// The next process, which goes on with what was found.
fn restarted(disk: Disk, found: &Found, acknowledged: [u64; LANES], seed: u64) -> Machine {
    let history = History { appended: found.counts, acknowledged, base: found.counts };
    Machine::new(disk, found.end.clone(), history, seed)
}

/// A workload of so many calls of the disk, with `at` at every boundary; it is folded now and then meanwhile.
fn workload(machine: &mut Machine, calls: u64, at: At<'_>) {
    let mut followed = 0;
    while machine.calls < calls && !machine.has_failed() {
        for _ in 0..machine.random.usize(..12) {
            let lane = machine.random.usize(..LANES);
            machine.append(lane);
        }
        machine.step(at);
        if machine.disk.names().len() > 3 && machine.random.u8(..8) == 0 && !machine.has_failed() {
            // What has failed is done again by the next one.
            let _ = fold(machine, &mut followed, at);
        }
    }
    machine.finish(at);
}

/// What is called at every boundary.
type At<'a> = &'a mut dyn FnMut(&Disk, &History);

/// The segments as the fold sees them, while the process goes on between any two changes.
struct InUse<'a> {
    machine: RefCell<&'a mut Machine>,
    at: RefCell<At<'a>>,
}

impl InUse<'_> {
    fn change(&self, change: impl FnOnce(&mut Disk)) -> io::Result<()> {
        let (mut machine, mut at) = (self.machine.borrow_mut(), self.at.borrow_mut());
        machine.calls += 1;
        match machine.fault.filter(|(call, _)| *call == machine.calls) {
            Some((_, Fault::Eio)) => return Err(io::Error::from_raw_os_error(5)),
            Some((_, Fault::Enospc)) => return Err(io::Error::from_raw_os_error(28)),
            _ => change(&mut machine.disk),
        }
        at(&machine.disk, &machine.history);
        if machine.random.bool() {
            for _ in 0..machine.random.usize(..12) {
                let lane = machine.random.usize(..LANES);
                machine.append(lane);
            }
            machine.step(&mut **at);
        }
        Ok(())
    }
}

impl Source for &InUse<'_> {
    fn head(&mut self) -> io::Result<Option<u64>> {
        self.machine.borrow_mut().disk.head()
    }

    fn list(&mut self) -> io::Result<Vec<u64>> {
        self.machine.borrow_mut().disk.list()
    }

    fn read(&mut self, name: u64, bytes: u64, into: &mut Vec<u8>) -> io::Result<()> {
        self.machine.borrow_mut().disk.read(name, bytes, into)
    }
}

impl Segments for &InUse<'_> {
    fn replace(&mut self, name: u64, bytes: &[u8]) -> io::Result<()> {
        let broken = self.machine.borrow().broken;
        self.change(|disk| disk.create_aside(name))?;
        self.change(|disk| disk.write_aside(name, bytes))?;
        if broken != Broken::ReplacesUnsynced {
            self.change(|disk| disk.sync_aside(name))?;
        }
        self.change(|disk| disk.replace(name))?;
        self.change(|disk| disk.sync_folder_of(name))?;
        self.machine.borrow_mut().folds[usize::from(name != SNAPSHOT)] += 1;
        Ok(())
    }

    fn cut(&mut self, name: u64, bytes: u64) -> io::Result<()> {
        if self.machine.borrow().disk.seen(name).len() as u64 <= bytes {
            return Ok(());
        }
        self.change(|disk| disk.trim(name, bytes as usize))?;
        self.change(|disk| disk.sync_named(name))
    }

    fn delete(&mut self, names: &[u64]) -> io::Result<()> {
        names.iter().try_for_each(|name| self.change(|disk| disk.remove_named(*name)))?;
        self.machine.borrow_mut().folds[2] += names.len() as u64;
        self.change(Disk::sync_folder)
    }
}

/// Has the current segment ended, and all before it written anew.
fn forget(mut in_use: &InUse<'_>, counters: &Counters) -> io::Result<()> {
    let durable_to = counters.durable_to.load();
    counters.sealing.store(true);
    let mut steps = 0;
    while counters.sealed_to.load() <= durable_to {
        steps += 1;
        if steps > 1_000 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        in_use.machine.borrow_mut().step(&mut **in_use.at.borrow_mut());
    }
    let damaged = rewrite::forget_test_data(&mut in_use, counters.sealed_to.load())?;
    let broken = in_use.machine.borrow().broken;
    assert!(damaged.is_empty() || broken != Broken::Nothing, "{damaged:?}");
    Ok(())
}

/// Folds as the process does, see `cli/fold.rs`. `followed`: removals of test data that the segments have followed.
fn fold(machine: &mut Machine, followed: &mut u64, at: At<'_>) -> io::Result<()> {
    let (broken, counters) = (machine.broken, machine.counters.clone());
    let until_unix_ms = if machine.random.u8(..4) == 0 { 0 } else { u64::MAX };
    let in_use = InUse { machine: RefCell::new(machine), at: RefCell::new(at) };
    let settled = || {
        let (to, counts) = (counters.durable_to.load(), in_use.machine.borrow().history.acknowledged);
        Folded { to, counts }
    };
    let mut folded = settled();
    let asked = folded.counts.iter().map(|records| removals(*records)).sum::<u64>();
    if asked > *followed {
        forget(&in_use, &counters)?;
    }
    if broken == Broken::FoldsUnfollowedRemoval {
        folded = settled();
    }
    if broken == Broken::DeletesBeforeSnapshot {
        rewrite::delete_old(&mut &in_use, folded.to, until_unix_ms)?;
    }
    (&in_use).replace(SNAPSHOT, &folded.bytes())?;
    *followed = asked;
    rewrite::delete_old(&mut &in_use, folded.to, until_unix_ms).map(drop)
}

/// What a workload's crash images have shown.
#[derive(Debug)]
struct Images {
    count: u64,
    refused: u64,
    /// See [`Machine::folds`].
    folds: [u64; 3],
    wrong: Option<String>,
}

/// Runs the workload on a writer that may be broken, and stops looking at the first image that does not hold.
fn images(broken: Broken, fault: Option<(u64, Fault)>, calls: u64) -> Images {
    let mut machine = Machine::fresh(SEED);
    (machine.broken, machine.fault) = (broken, fault);
    let mut images = Images { count: 0, refused: 0, folds: [0; 3], wrong: None };
    workload(&mut machine, calls, &mut |disk, history| {
        for rule in Survival::ALL {
            if images.wrong.is_some() {
                return;
            }
            let seed = SEED ^ images.count;
            match crash_twice(disk, history, rule, seed) {
                Ok(held) => images.refused += u64::from(!held),
                Err(error) => images.wrong = Some(format!("image {}, {rule:?}, seed {seed:#x}: {error}", images.count)),
            }
            images.count += 1;
        }
    });
    images.folds = machine.folds;
    images
}

#[test]
fn a_crash_at_every_boundary_of_2000_calls_loses_nothing() {
    let images = images(Broken::Nothing, None, 2_000);
    println!("each crashed again while recovering: {images:?}");
    assert_eq!(images.wrong, None);
    assert!(images.count >= 10_000 && images.refused * 10_000 < images.count, "{images:?}");
    assert!(images.folds.iter().all(|count| *count >= 20), "{images:?}");
}

#[test]
fn a_removal_leaves_no_bytes_behind_the_end_of_a_segment() {
    let mut machine = Machine::fresh(SEED);
    let run = |machine: &mut Machine, records: u64| {
        (0..records).for_each(|_| machine.append(0));
        while machine.step(&mut |_, _| {}) {}
    };
    // Lane 0's record of number 6 is about test data, and alone in the last batch, which no mark follows.
    run(&mut machine, 6);
    machine.append(0);
    while machine.history.acknowledged[0] < 7 {
        machine.step(&mut |_, _| {});
    }
    let bytes = machine.disk.names().into_iter().flat_map(|name| machine.disk.seen(name).to_vec()).collect::<Vec<_>>();
    let test = Record::Sessions { resident: ResidentNumber(6), session: 0, test: true }.encode();
    let has = |bytes: &[u8]| bytes.windows(test.len() - 1).any(|window| *window == test[1..]);
    assert!(has(&bytes));
    // Killed, and once more before what was written again is cut off the segment before.
    let mut machine = after_kill(&machine, Survival::Killed);
    let mut disks = Vec::new();
    while machine.counters.segments.load() == 0 {
        disks.clear();
        machine.step(&mut |disk, _| disks.push(disk.clone()));
    }
    // Renamed, synced, cut.
    machine.disk = disks.swap_remove(1);
    let mut machine = after_kill(&machine, Survival::Nothing);
    run(&mut machine, 64);
    assert!(has(machine.disk.seen(1)), "not cut off");
    let (counters, mut ignored) = (machine.counters.clone(), |_: &Disk, _: &History| {});
    forget(&InUse { machine: RefCell::new(&mut machine), at: RefCell::new(&mut ignored) }, &counters).unwrap();
    for name in machine.disk.names() {
        assert!(!has(machine.disk.seen(name)), "segment {name}");
    }
    check(&mut machine.disk, &machine.history, &Folded::default()).map(drop).unwrap();
}

fn after_kill(machine: &Machine, rule: Survival) -> Machine {
    let mut disk = machine.disk.crashed(rule, &mut fastrand::Rng::with_seed(SEED));
    let found = check(&mut disk, &machine.history, &Folded::default()).unwrap();
    restarted(disk, &found, machine.history.acknowledged, SEED)
}

#[test]
fn broken_writers_are_caught() {
    for (broken, fault) in [
        (Broken::AcknowledgesBeforeSync, None),
        (Broken::AdoptsUnsynced, None),
        (Broken::ForgetsFolderSync, None),
        (Broken::TakesShortForWhole, Some(Fault::Short)),
        (Broken::ReplacesUnsynced, None),
        (Broken::DeletesBeforeSnapshot, None),
        (Broken::FoldsUnfollowedRemoval, None),
        (Broken::NotesBeforeAdoption, None),
        (Broken::NotesUnsynced, None),
    ] {
        let calls = if fault.is_some() { 200 } else { 2_000 };
        let mut caught = (30..50).filter_map(|at| images(broken, fault.map(|fault| (at, fault)), calls).wrong);
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
            workload(&mut machine, 160, &mut |disk, history| {
                let rule = Survival::ALL[after % Survival::ALL.len()];
                after += 1;
                if after % 10 == 0 {
                    let checked = crash_twice(disk, history, rule, SEED ^ at);
                    assert!(checked.is_ok(), "{checked:?}: {fault:?} at call {at}, {rule:?}");
                }
            });
            for rule in Survival::ALL {
                let checked = crash_twice(&machine.disk, &machine.history, rule, SEED ^ at);
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
                let checked = crash_twice(disk, history, rule, SEED ^ count);
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
                        machine.counters.sealing.store(true);
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
