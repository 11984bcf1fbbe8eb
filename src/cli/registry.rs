//! The registry of a process that serves: its size, its way from the snapshot into memory, and the warning before it
//! is full.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Ended, Fatal};
use crate::config::Config;
use crate::limits::{REGISTRY_RESIDENTS_MIN, REGISTRY_WARNING_PERCENT};
use crate::registry::snapshot::{Loading, Meta, Snapshot, SnapshotError};
use crate::registry::table::Table;

/// How often is looked whether the registry is nearly full.
const LOOK: Duration = Duration::from_secs(1);

/// How many residents a registry of `rows` is to have room for: as configured, or a quarter more than there are.
pub(super) fn capacity(config: &Config, rows: usize, place: &Path) -> Result<usize, Ended> {
    let Some(wanted) = config.registry_capacity else {
        return Ok(rows.saturating_add(rows / 4).max(REGISTRY_RESIDENTS_MIN));
    };
    if (wanted as usize) < rows {
        let reason = format!(
            "registry.capacity: {wanted} is less than the {rows} residents of {}: raise it or leave it out",
            place.display()
        );
        return Err((Fatal::Configuration, reason));
    }
    Ok(wanted as usize)
}

pub(super) fn empty(capacity: usize) -> Result<Table, Ended> {
    let what = format_args!("the system has no memory for a registry of {capacity} residents");
    Table::new(capacity).map_err(Fatal::System.at(what))
}

/// The snapshot at `path` in memory, read by all CPUs at once, with what it says of itself.
pub(super) fn load(config: &Config, path: &Path, key_id: [u8; 8]) -> Result<(Table, Meta), Ended> {
    let snapshot = Snapshot::open(path, key_id)?;
    let meta = snapshot.meta();
    let capacity = capacity(config, usize::try_from(snapshot.rows()).unwrap_or(usize::MAX), path)?;
    let loaded = snapshot.begin(capacity).and_then(|loading| {
        on_all_cpus(|_, _| loading.work()).into_iter().collect::<Result<(), SnapshotError>>()?;
        Loading::finish(loading)
    });
    Ok((loaded?, meta))
}

/// Sees to it that no write ever waits for the kernel's memory, and says what there is.
pub(super) fn settle(table: &Table, began: Instant) {
    on_all_cpus(|part, parts| table.touch(part, parts));
    let (bytes, huge_bytes) = table.bytes();
    let residents = super::counted(table.len() as u64, "resident");
    eprintln!(
        "onecode: registry: {residents}, room for {}; {} MB, {} % of it in huge pages; ready in {} ms",
        table.capacity(),
        bytes.div_ceil(1_000_000),
        huge_bytes * 100 / bytes.max(1),
        began.elapsed().as_millis()
    );
}

/// Says once, on stderr, when the registry is nearly full.
pub(super) fn watch(table: Arc<Table>) -> std::io::Result<()> {
    let watch = move || {
        while !table.is_nearly_full() {
            thread::sleep(LOOK);
        }
        eprintln!(
            "onecode: warning: the registry is over {REGISTRY_WARNING_PERCENT} % full, {} of {}: raise registry.capacity \
             and start again; when it is full, new residents are refused",
            table.used(),
            table.capacity()
        );
    };
    thread::Builder::new().name("registry".to_owned()).spawn(watch).map(drop)
}

/// Runs `part` on a thread for each CPU, with the number of the thread and of all of them.
fn on_all_cpus<T: Send>(part: impl Fn(usize, usize) -> T + Sync) -> Vec<T> {
    let parts = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let part = &part;
        let threads: Vec<_> = (1..parts).map(|index| scope.spawn(move || part(index, parts))).collect();
        let mut results = vec![part(0, parts)];
        // A panic has ended the process already.
        results.extend(threads.into_iter().flat_map(thread::ScopedJoinHandle::join));
        results
    })
}
