//! From a data folder to the state that it holds: the snapshot, then every record of the journal that is not in it. The
//! caller holds the folder, or nobody else knows of it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Ended, Fatal};
use crate::journal::recover::{Torn, segment_path};
use crate::journal::{End, Record, RecoverError, reading};
use crate::registry::data_folder::{SNAPSHOT_FILE, is_there};
use crate::registry::snapshot::{Snapshot, SnapshotError};
use crate::registry::table::Table;
use crate::service::{Past, apply};

pub(super) const JOURNAL_FOLDER: &str = "journal";

pub(super) fn journal_folder(data: &Path) -> PathBuf {
    data.join(JOURNAL_FOLDER)
}

/// Refuses a data folder that is not there.
pub(super) fn check_folder(data: &Path) -> Result<(), Ended> {
    let missing = || (Fatal::File, format!("{}: there is no such data folder", data.display()));
    data.is_dir().then_some(()).ok_or_else(missing)
}

/// What a journal had to add to a snapshot.
#[derive(Default)]
pub(super) struct Replayed {
    /// Where the journal ends.
    pub end: End,
    /// What is remembered besides the table.
    pub past: Past,
    /// Records that were not in the snapshot.
    pub records: u64,
    /// Test data was removed by one of them.
    pub purged: bool,
}

/// Applies the records after `folded_to`, and says what they were and how long that took.
pub(super) fn replay(table: &Table, data: &Path, folded_to: u64) -> Result<Replayed, Ended> {
    let (folder, began) = (journal_folder(data), Instant::now());
    let (mut replayed, mut full) = (Replayed::default(), None);
    let end = reading::read_still(&folder, folded_to, |entry| {
        full = full.or(apply::replay(table, &entry.record).err());
        replayed.past.note(&entry.record);
        replayed.records += 1;
        replayed.purged |= matches!(entry.record, Record::PurgeTest { .. });
    });
    replayed.end = end.map_err(|error| journal_refused(&folder, &error))?;
    if let Some(full) = full {
        let reason = format!("registry.capacity: {full}, fewer than were accepted: raise it");
        return Err((Fatal::Configuration, reason));
    }
    let (records, ms) = (super::counted(replayed.records, "record"), began.elapsed().as_millis());
    let torn = replayed.end.torn.map_or_else(String::new, |torn| format!("; {}", told_torn(&torn)));
    if replayed.records > 0 || replayed.end.torn.is_some() {
        eprintln!("onecode: journal: {records} applied after {folded_to} in {ms} ms{torn}");
    }
    Ok(replayed)
}

/// An unfinished last append, in words.
pub(super) fn told_torn(torn: &Torn) -> String {
    let name = segment_path(Path::new(""), torn.segment);
    format!(
        "an unfinished last append, never acknowledged, is left out ({}, offset {}, record {})",
        name.display(),
        torn.offset,
        torn.sequence
    )
}

pub(super) fn journal_refused(folder: &Path, error: &RecoverError) -> Ended {
    let fatal = if matches!(error, RecoverError::Io { .. }) { Fatal::File } else { Fatal::Configuration };
    (fatal, format!("{}: {error}", folder.display()))
}

/// All that a data folder holds, for a command: a table with room for `more` residents besides.
pub(super) fn open(data: &Path, key_id: [u8; 8], more: usize) -> Result<(Table, Replayed), Ended> {
    let path = data.join(SNAPSHOT_FILE);
    let snapshot = match path.try_exists() {
        Ok(true) => Some(Snapshot::open(&path, key_id)?),
        Ok(false) => None,
        Err(error) => return Err((Fatal::File, format!("{}: {error}", path.display()))),
    };
    let folded_to = snapshot.as_ref().map_or(0, |snapshot| snapshot.meta().folded_to);
    let (folder, mut statuses) = (journal_folder(data), 0);
    let count =
        |entry: &crate::journal::Entry<'_>| statuses += usize::from(matches!(entry.record, Record::Status { .. }));
    reading::read_still(&folder, folded_to, count).map_err(|error| journal_refused(&folder, &error))?;
    let rows = snapshot.as_ref().map_or(0, |snapshot| usize::try_from(snapshot.rows()).unwrap_or(usize::MAX));
    let capacity = rows.saturating_add(statuses).saturating_add(more);
    let table = match snapshot {
        Some(snapshot) => snapshot.load(capacity)?,
        None => super::registry::empty(capacity)?,
    };
    let replayed = replay(&table, data, folded_to)?;
    Ok((table, replayed))
}

/// The id of the hash key that a snapshot was made with; `None` where there is no snapshot.
pub(super) fn key_needed(snapshot: &Path) -> Result<Option<[u8; 8]>, Ended> {
    if !is_there(snapshot) {
        return Ok(None);
    }
    // To be told the id of its key a snapshot is opened with another one's.
    match Snapshot::open(snapshot, [0; 8]) {
        Err(SnapshotError::HashKey { needed, .. }) => Ok(Some(needed)),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(Some([0; 8])),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
