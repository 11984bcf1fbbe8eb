//! What a record of the journal does to the table of residents: the only way in which it changes.
//!
//! Applying a record again, or records of different residents in another order, comes to the same table; so a replay
//! over a snapshot that was written meanwhile is harmless.

use crate::journal::Record;
use crate::registry::table::{self, Full, Place, Table};

/// Applies a record of the journal; says whether it changed anything. At start one thread owns all residents; later, the
/// caller owns the record's resident, for whom it has reserved the `place` of a statement.
/// Errors: the table has no room for a resident whose write was acknowledged: it was made too small.
pub fn apply(table: &Table, record: &Record<'_>, place: Option<Place>) -> Result<bool, Full> {
    match *record {
        Record::Status { resident, check, version, status, remove, test, region, .. } => {
            let place = place.map_or_else(|| table.reserve(resident), Ok)?;
            let said = table::Record { resident, check, version, status, removed: remove, test, session: 0, region };
            Ok(table.apply(&said, place))
        }
        Record::Sessions { resident, session, .. } => Ok(table.end_sessions(resident, session)),
        Record::PurgeTest { .. } => {
            let (mut changed, mut from) = (false, Some(0));
            while let Some(cell) = from {
                let (purged, next) = table.purge_test(0, 1, cell);
                (changed, from) = (changed | (purged > 0), next);
            }
            Ok(changed)
        }
        Record::Scan { .. } | Record::Audit { .. } => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{ResidentNumber, Status};

    fn record(number: u64, version: u64, remove: bool, test: bool) -> Record<'static> {
        Record::Status {
            resident: ResidentNumber(number),
            check: 1,
            version,
            status: Status::Red,
            remove,
            test,
            region: 0,
            at_ms: 0,
            author: "",
            reason: "",
        }
    }

    #[test]
    fn a_replay_of_what_was_applied_changes_nothing() {
        let purge = Record::PurgeTest { at_ms: 9, author: "local" };
        let audit = Record::Audit { at_ms: 9, author: "local", action: "lookup", detail: "" };
        let sessions = Record::Sessions { resident: ResidentNumber(1), session: 4, test: false };
        let log = [
            record(1, 5, false, false),
            record(2, 5, false, true),
            sessions,
            record(3, 5, false, false),
            record(3, 6, true, false),
            purge,
            audit,
            record(4, 5, false, true),
        ];
        let table = Table::new(8).unwrap();
        let changed: Vec<bool> = log.iter().map(|record| apply(&table, record, None).unwrap()).collect();
        assert_eq!(changed, [true, true, true, true, true, true, false, true]);
        let rows: Vec<_> = table.rows().collect();
        for from in 0..log.len() {
            log[from..].iter().for_each(|record| _ = apply(&table, record, None).unwrap());
            assert!(table.rows().eq(rows.iter().copied()), "from {from}");
        }
        assert_eq!((table.residents(), table.test_len(), table.read(ResidentNumber(1)).unwrap().session), (2, 1, 4));
    }

    #[test]
    fn a_table_without_room_for_what_was_acknowledged_is_an_error() {
        let table = Table::new(1).unwrap();
        assert_eq!(apply(&table, &record(1, 1, false, false), None), Ok(true));
        assert_eq!(apply(&table, &record(1, 2, true, false), None), Ok(true));
        assert_eq!(apply(&table, &record(2, 1, false, false), None), Err(Full { capacity: 1 }));
    }
}
