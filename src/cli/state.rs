//! From a data folder to the state that it holds: the snapshot, then all records of the journal that are not in it.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::{Ended, Fatal, counted};
use crate::config::Config;
use crate::journal::recover::{HEAD_FILE, Torn, segment_path};
use crate::journal::{End, Entry, Record, RecoverError, reading};
use crate::limits::REGISTRY_RESIDENTS_MIN;
use crate::registry::{Meta, SNAPSHOT_FILE, Snapshot, Table, is_there};
use crate::service::{Past, apply};

pub(super) fn journal_folder(data: &Path) -> PathBuf {
    data.join("journal")
}

/// Refuses a data folder that is not there.
pub(super) fn check_folder(data: &Path) -> Result<(), Ended> {
    Fatal::File.unless(data.is_dir(), data.display(), "there is no such data folder")
}

/// Refuses a folder without a registry where there was a journal: its records alone are not the state.
pub(super) fn check_new(data: &Path) -> Result<(), Ended> {
    let journal = journal_folder(data);
    let names = reading::names(&journal).map_err(Fatal::File.at(journal.display()))?;
    let (is_new, journal) = (names.is_empty() && !is_there(&data.join(HEAD_FILE)), journal.display());
    let wrong = format_args!("and {journal} goes on from it: put it back, or restore a backup");
    Fatal::Configuration.unless(is_new, data.display(), format_args!("{SNAPSHOT_FILE} is missing, {wrong}"))
}

/// What a journal had to add to a snapshot.
#[derive(Default)]
pub(super) struct Replayed {
    /// The last record that was in the snapshot.
    pub folded_to: u64,
    /// When the snapshot was made; of none: now.
    pub folded_unix_ms: u64,
    pub end: End,
    /// What is remembered besides the table.
    pub past: Past,
    /// Records that were not in the snapshot.
    pub records: u64,
    /// Test data was removed by one of them.
    pub purged: bool,
}

/// All that a data folder holds. `room` says for how many residents the table is to be, of the rows of the snapshot and
/// the last record folded into it. Nobody changes anything meanwhile; or, `in_use`, the journal: [`catch_up`] adds the rest.
pub(super) fn open(
    data: &Path,
    key_id: [u8; 8],
    room: impl FnOnce(usize, u64) -> Result<usize, Ended>,
    in_use: bool,
) -> Result<(Table, Replayed), Ended> {
    let path = data.join(SNAPSHOT_FILE);
    let (table, folded_to, folded_unix_ms) = if is_there(&path) {
        let snapshot = Snapshot::open(&path)?.made_with(key_id)?;
        let Meta { folded_to, created_unix_ms, .. } = snapshot.meta;
        let rows = usize::try_from(snapshot.rows).unwrap_or(usize::MAX);
        let table = snapshot.load(room(rows, folded_to)?, |work| on_all_cpus(|_, _| work()))?;
        (table, folded_to, created_unix_ms)
    } else {
        check_new(data)?;
        (Table::new(room(0, 0)?)?, 0, super::now().unix_ms)
    };
    let mut replayed = Replayed { folded_to, folded_unix_ms, ..Replayed::default() };
    replay(&table, &journal_folder(data), folded_to, &mut replayed, in_use)?;
    Ok((table, replayed))
}

/// Adds what the journal has got since it was read in use, now that nobody writes it.
pub(super) fn catch_up(data: &Path, table: &Table, replayed: &mut Replayed) -> Result<(), Ended> {
    replay(table, &journal_folder(data), replayed.end.next.saturating_sub(1), replayed, false)
}

/// Applies the records after a sequence, and says how many they were and how long that took.
fn replay(table: &Table, folder: &Path, after: u64, replayed: &mut Replayed, in_use: bool) -> Result<(), Ended> {
    let (began, before, mut full) = (Instant::now(), replayed.records, None);
    let each = |entry: &Entry<'_>| {
        full = full.or(apply::apply(table, &entry.record, None).err());
        replayed.past.note(&entry.record);
        replayed.records += 1;
        replayed.purged |= matches!(entry.record, Record::PurgeTest { .. });
    };
    let end = if in_use { reading::read(folder, Some(after), each) } else { reading::read_still(folder, after, each) };
    replayed.end = end.map_err(|error| journal_refused(folder, &error))?;
    if let Some(full) = full {
        let wrong = format!("{full}, fewer than were accepted: raise it");
        return Err(Fatal::Configuration.at("registry.capacity")(wrong));
    }
    let (added, ms) = (replayed.records - before, began.elapsed().as_millis());
    let torn = replayed.end.torn.map_or_else(String::new, |torn| format!("; {}", told_torn(&torn)));
    if added > 0 || replayed.end.torn.is_some() {
        eprintln!("onecode: journal: {} applied after {after} in {ms} ms{torn}", counted(added, "record"));
    }
    Ok(())
}

/// For [`open`] by a command: room for all that a data folder holds, and `more`.
pub(super) fn room_for_all(data: &Path, more: usize) -> impl FnOnce(usize, u64) -> Result<usize, Ended> {
    let folder = journal_folder(data);
    move |rows, folded_to| {
        let mut statuses = 0;
        let count = |entry: &Entry<'_>| statuses += usize::from(matches!(entry.record, Record::Status { .. }));
        reading::read_still(&folder, folded_to, count).map_err(|error| journal_refused(&folder, &error))?;
        Ok(rows.saturating_add(statuses).saturating_add(more))
    }
}

/// For [`open`] by a server: room as configured, or for a quarter more than there are.
pub(super) fn room_to_serve(config: &Config) -> impl FnOnce(usize, u64) -> Result<usize, Ended> {
    move |rows, _| {
        let default = rows.saturating_add(rows / 4).max(REGISTRY_RESIDENTS_MIN);
        let (room, snapshot) = (config.registry_capacity.map_or(default, |wanted| wanted as usize), SNAPSHOT_FILE);
        let data = config.data.display();
        let wrong =
            format_args!("{room} is less than the {rows} residents of {data}/{snapshot}: raise it or leave it out");
        Fatal::Configuration.unless(room >= rows, "registry.capacity", wrong).map(|()| room)
    }
}

/// Sees to it that no write ever waits for the kernel's memory, and says what there is.
pub(super) fn settle(table: &Table, began: Instant) {
    on_all_cpus(|part, parts| table.touch(part, parts));
    let (bytes, huge_bytes) = table.bytes();
    let (held, room, ms) = (counted(table.residents() as u64, "resident"), table.capacity, began.elapsed().as_millis());
    let (mb, huge) = (bytes.div_ceil(1_000_000), huge_bytes * 100 / bytes.max(1));
    eprintln!("onecode: registry: {held}, room for {room}; {mb} MB, {huge} % of it in huge pages; ready in {ms} ms");
}

/// Runs `part` on a thread for each CPU, with the number of the thread and of all of them.
fn on_all_cpus(part: impl Fn(usize, usize) + Sync) {
    let (part, parts) = (&part, thread::available_parallelism().map_or(1, usize::from));
    thread::scope(|scope| (0..parts).for_each(|index| _ = scope.spawn(move || part(index, parts))));
}

/// An unfinished last append, in words that hold beside a process that writes it, too.
pub(super) fn told_torn(torn: &Torn) -> String {
    let (name, Torn { offset, sequence, .. }) = (segment_path(Path::new(""), torn.segment), torn);
    let place = format!("{}, offset {offset}, record {sequence}", name.display());
    format!("an unfinished last append, cut off or under way and so not acknowledged, is left out ({place})")
}

/// The end of a command that cannot read a file it needs: what is missing, or something else, is not the system's fault.
pub(super) fn unread(error: &io::Error) -> Fatal {
    let by_system = error.raw_os_error().is_some() && error.kind() != io::ErrorKind::NotFound;
    if by_system { Fatal::File } else { Fatal::Configuration }
}

pub(super) fn journal_refused(folder: &Path, error: &RecoverError) -> Ended {
    let fatal = match error {
        RecoverError::Io(error) | RecoverError::Read { error, .. } => unread(error),
        _ => Fatal::Configuration,
    };
    (fatal, format!("{}: {error}", folder.display()))
}

/// The id of the hash key that a snapshot was made with; `None` where there is no snapshot.
pub(super) fn key_needed(snapshot: &Path) -> Result<Option<[u8; 8]>, Ended> {
    Ok(if is_there(snapshot) { Some(Snapshot::open(snapshot)?.meta.key_id) } else { None })
}

/// SHA-256 over all rows of a table in their order, those of residents removed too: one hash, one state.
pub(super) fn hash(table: &Table) -> String {
    let mut hash = Sha256::new();
    table.rows().flatten().for_each(|word| hash.update(word.to_le_bytes()));
    hex::encode(hash.finalize())
}
