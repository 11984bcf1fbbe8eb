//! Damage to a journal at rest: each flipped bit, and worse, is found or harms nothing.

use std::collections::BTreeMap;

use super::disk::{Disk, HEAD, Survival};
use super::machine::{Folded, History, LANES, Machine, check};
use crate::journal::RecoverError;
use crate::journal::recover::recover;
use crate::journal::rewrite::Dense;
use crate::journal::segment::{Header, Stored};

/// A journal of several segments. `marked`: its process ended in order; else it was killed right after its last
/// acknowledgement.
fn journal(marked: bool) -> (Disk, History) {
    let mut machine = Machine::fresh(11);
    for _ in 0..13 {
        (0..15).for_each(|number| machine.append(number % LANES));
        (0..6).for_each(|_| {
            machine.step(&mut |_, _| {});
        });
    }
    if marked {
        machine.finish(&mut |_, _| {});
    } else {
        while machine.step(&mut |_, _| {}) {}
    }
    assert_eq!(machine.history.acknowledged, machine.history.appended);
    let disk = machine.disk.crashed(Survival::All, &mut machine.random);
    (disk, machine.history)
}

fn last_records(disk: &Disk) -> (u64, usize, usize) {
    let mut found = (0, 0, 0);
    recover(&mut disk.clone(), None, |entry| {
        found = (entry.segment, entry.stored.offset, entry.stored.offset + 31 + entry.stored.bytes.len());
    })
    .unwrap();
    found
}

#[test]
fn each_of_100000_flipped_bits_is_found_or_harmless() {
    let mut random = fastrand::Rng::with_seed(3);
    let (mut found, mut harmless) = (0, 0);
    for marked in [true, false] {
        let (mut disk, history) = journal(marked);
        check(&mut disk, &history, &Folded::default()).map(drop).unwrap();
        let names = disk.names();
        assert!(names.len() > 2, "{names:?}");
        let (last, last_at, last_end) = last_records(&disk);
        let lengths: BTreeMap<u64, usize> = names.iter().map(|name| (*name, disk.bytes_mut(*name).len())).collect();
        let flip = |disk: &mut Disk, name: u64, bit: usize| disk.bytes_mut(name)[bit / 8] ^= 1 << (bit % 8);
        let mut try_one = |name: u64, bit: usize, in_last: bool| {
            flip(&mut disk, name, bit);
            let result = check(&mut disk, &history, &Folded::default());
            flip(&mut disk, name, bit);
            match result {
                Ok(_) if in_last => panic!("bit {bit} of the last acknowledged record makes no difference"),
                Ok(_) => harmless += 1,
                Err(error) => {
                    assert!(error.starts_with("refused: "), "segment {name:x}, bit {bit}: {error}");
                    found += 1;
                }
            }
        };
        // All of the last acknowledged record, then anywhere.
        (last_at * 8..last_end * 8).for_each(|bit| try_one(last, bit, true));
        for _ in 0..50_000 {
            let name = names[random.usize(..names.len())];
            let bytes = if name == last { last_end + 8_192 } else { lengths[&name] };
            try_one(name, random.usize(..8 * bytes), false);
        }
    }
    println!("flipped bits: {found} found, {harmless} harmless");
    assert!(found + harmless >= 100_000);
}

#[test]
fn an_unmarked_tail_is_cut_at_every_length() {
    let (mut disk, mut history) = journal(false);
    let (last, last_at, last_end) = last_records(&disk);
    history.acknowledged = [0; LANES];
    let whole = disk.bytes_mut(last).clone();
    for cut in last_at..last_end {
        disk.bytes_mut(last)[cut..].fill(0);
        match check(&mut disk, &history, &Folded::default()) {
            Ok(found) => {
                let torn = found.end.torn.map(|torn| torn.offset);
                let same = disk.bytes_mut(last)[..last_end] == whole[..last_end];
                assert!(torn == Some(last_at) || (torn.is_none() && (same || cut == last_at)), "{torn:?} at {cut}");
            }
            // Its padding is gone, too, so it is no flipped bit.
            Err(error) => panic!("cut at {}: {error}", cut - last_at),
        }
        disk.bytes_mut(last).clone_from(&whole);
    }
}

#[test]
fn a_marked_tail_is_never_cut() {
    let (mut disk, history) = journal(true);
    let (last, last_at, last_end) = last_records(&disk);
    let whole = disk.bytes_mut(last).clone();
    for cut in last_at..last_end {
        disk.bytes_mut(last)[cut..last_end].fill(0);
        if *disk.bytes_mut(last) != whole {
            let error = check(&mut disk, &history, &Folded::default()).map(drop).unwrap_err();
            assert!(error.starts_with("refused: "), "{error}");
        }
        disk.bytes_mut(last).clone_from(&whole);
    }
}

#[test]
fn damage_names_file_offset_and_sequence() {
    let (mut disk, _) = journal(true);
    let names = disk.names();
    let mut at = (0, 0, 0);
    recover(&mut disk.clone(), None, |entry| {
        if entry.segment == names[1] && at.0 < 5 {
            at = (at.0 + 1, entry.stored.offset, entry.stored.sequence);
        }
    })
    .unwrap();
    let (_, offset, sequence) = at;
    disk.bytes_mut(names[1])[offset..offset + 512].fill(0);
    let error = recover(&mut disk, None, |_| {}).unwrap_err().to_string();
    let expected = format!("{:016x}.log is damaged at offset {offset}, record {sequence}: ", names[1]);
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn missing_swapped_and_foreign_segments_are_refused() {
    let (disk, _) = journal(true);
    let names = disk.names();
    let refused = |change: &dyn Fn(&mut Disk)| {
        let mut disk = disk.clone();
        change(&mut disk);
        recover(&mut disk, Some(0), |_| {}).unwrap_err()
    };
    for missing in &names[..names.len() - 1] {
        let error = refused(&|disk| disk.forget(*missing));
        assert!(matches!(error, RecoverError::Gap { .. }), "{error}");
    }
    let newest = *names.last().unwrap();
    let all = |disk: &mut Disk| names.iter().for_each(|name| disk.forget(*name));
    for missing in [&|disk: &mut Disk| disk.forget(newest), &all as &dyn Fn(&mut Disk)] {
        let error = refused(missing);
        assert!(error.to_string().contains(&format!("{newest:016x}.log")), "{error}");
    }
    // Nor is it nothing that is folded.
    let mut gone = disk.clone();
    names.iter().chain(&[HEAD]).for_each(|name| gone.forget(*name));
    assert!(recover(&mut gone, Some(0), |_| {}).is_ok());
    assert!(recover(&mut gone, Some(9), |_| {}).unwrap_err().to_string().contains("no segment is left"));
    let error = refused(&|disk| {
        let other = disk.bytes_mut(names[1]).clone();
        *disk.bytes_mut(names[2]) = other;
    });
    assert!(matches!(error, RecoverError::Header { .. }), "{error}");
    let error = refused(&|disk| disk.bytes_mut(*names.last().unwrap()).truncate(60_000));
    assert!(error.to_string().contains("shorter"), "{error}");
    let error = refused(&|disk| disk.bytes_mut(names[1]).truncate(100));
    assert!(matches!(error, RecoverError::Header { .. }), "{error}");
    let error = refused(&|disk| disk.bytes_mut(names[0])[..8].fill(b'x'));
    assert!(error.to_string().contains("not a segment"), "{error}");
    let error = refused(&|disk| {
        let bytes = disk.bytes_mut(names[0]);
        bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..4_092]);
        bytes[4_092..4_096].copy_from_slice(&checksum.to_le_bytes());
    });
    assert!(error.to_string().contains("version 2"), "{error}");
    let mut folded_away = disk.clone();
    folded_away.forget(names[0]);
    recover(&mut folded_away, Some(names[1] - 1), |_| {}).unwrap();
    recover(&mut folded_away, None, |_| {}).unwrap();
    // A snapshot that has folded more than there ever was.
    assert!(matches!(recover(&mut disk.clone(), Some(1 << 40), |_| {}), Err(RecoverError::Gap { .. })));
}

#[test]
fn a_record_of_a_kind_to_come_is_refused_by_name() {
    let (mut disk, _) = journal(true);
    let (last, at, end) = last_records(&disk);
    let bytes = disk.bytes_mut(last);
    bytes[at + 31] = 6;
    let checksum = crc32c::crc32c(&bytes[at + 4..at + 32]);
    bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    assert!(end > at);
    let error = recover(&mut disk, None, |_| {}).unwrap_err().to_string();
    assert!(error.contains("kind 6") && error.contains("newer") && error.contains(&format!("offset {at}")), "{error}");
}

#[test]
fn a_segment_that_was_rewritten_is_read_and_each_flip_in_it_found() {
    let (mut disk, _) = journal(true);
    let name = disk.names()[1];
    let (mut kept, mut all) = (Vec::new(), Vec::new());
    let end = recover(&mut disk.clone(), None, |entry| {
        all.push(entry.stored.sequence);
        if entry.segment == name {
            kept.push((entry.stored.sequence, entry.stored.origin, entry.stored.bytes.to_vec()));
        }
    })
    .unwrap();
    let next = end.next;
    let last = kept.last().unwrap().0;
    let is_kept = |sequence: u64| sequence.is_multiple_of(3);
    let header = Header::parse(disk.bytes_mut(name)).unwrap();
    let mut dense = Dense::new(header);
    for (sequence, origin, bytes) in kept.iter().filter(|record| is_kept(record.0)) {
        dense.push(&Stored { offset: 0, sequence: *sequence, origin: *origin, bytes });
    }
    *disk.bytes_mut(name) = dense.finish(last);
    let mut found = Vec::new();
    let end = recover(&mut disk, None, |entry| found.push(entry.stored.sequence)).unwrap();
    all.retain(|sequence| !(name..=last).contains(sequence) || is_kept(*sequence));
    assert_eq!((&found, end.next), (&all, next));
    for bit in (0..disk.bytes_mut(name).len() * 8).step_by(61) {
        disk.bytes_mut(name)[bit / 8] ^= 1 << (bit % 8);
        let mut found = Vec::new();
        let result = recover(&mut disk, None, |entry| found.push(entry.stored.sequence));
        assert!(result.is_err() || found == all, "bit {bit}");
        disk.bytes_mut(name)[bit / 8] ^= 1 << (bit % 8);
    }
    // Nothing of it need stay.
    *disk.bytes_mut(name) = Dense::new(header).finish(last);
    recover(&mut disk, None, |_| {}).unwrap();
}
