//! Residents that nobody is, for the demo and for measurements: number N is the same person on every machine.
//!
//! Their ID numbers begin with 99, which no area has, so they can never be somebody's; every record is marked as test.

use super::id_number::{HashKey, IdNumber};
use super::table::Record;
use crate::words::Status;

/// The region that synthetic residents live in: Xi'an, by GB/T 2260.
pub const REGION: u32 = 610_100;

/// The ID number of synthetic resident `n`, from 1: each `n` has its own.
pub fn id_number(n: u32) -> IdNumber {
    let (rest, sequence) = (n / 1_000, n % 1_000);
    let (rest, day) = (rest / 28, rest % 28 + 1);
    let (rest, month) = (rest / 12, rest % 12 + 1);
    let (area, year) = (rest / 60, rest % 60 + 1950);
    let text = format!("99{area:04}{year:04}{month:02}{day:02}{sequence:03}");
    let digits = text.as_bytes().try_into().expect("2 + 4 + 4 + 2 + 2 + 3 digits; an area is below 2^32 / 20,160,000");
    IdNumber::from_digits(digits).expect("17 digits with a day from 1 to 28 are well-formed")
}

/// The status of synthetic resident `n`: green but for three in twenty, the first green.
pub const fn status(n: u32) -> Status {
    match n % 20 {
        17 => Status::Yellow,
        18 => Status::Red,
        19 => Status::Unknown,
        _ => Status::Green,
    }
}

/// The records of synthetic residents 1 to `residents`, in the order of their numbers N, all of one version (Unix ms).
pub fn records(residents: u32, key: &HashKey, version: u64) -> impl Iterator<Item = Record> + '_ {
    (1..=residents).map(move |n| {
        let (resident, check) = key.number(&id_number(n));
        let (status, test, region) = (status(n), true, REGION);
        Record { resident, check, version, status, removed: false, test, session: 0, region }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_resident_has_a_number_of_its_own_that_no_area_gives() {
        let steps = [27_999, 28_000, 335_999, 336_000, 20_159_999, 20_160_000, u32::MAX];
        let numbers: HashSet<_> = (1..5_000).chain(steps).map(|n| *id_number(n).as_bytes()).collect();
        assert_eq!(numbers.len(), 4_999 + steps.len());
        assert!(numbers.iter().all(|number| number.starts_with(b"99") && IdNumber::parse(number).is_ok()));
    }

    #[test]
    fn records_are_test_records_and_the_first_is_green() {
        let records: Vec<_> = records(100, &HashKey::new([1; 32]), 5).collect();
        assert_eq!(records.len(), 100);
        assert!(records.iter().all(|record| record.test && record.version == 5 && record.session == 0));
        assert_eq!(records[0].status, Status::Green);
        for status in [Status::Yellow, Status::Red, Status::Unknown] {
            assert_eq!(records.iter().filter(|record| record.status == status).count(), 5);
        }
    }
}
