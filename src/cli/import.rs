//! `onecode import`: a CSV file into the registry of a data folder.
//!
//! Rows are merged in memory and the snapshot is replaced at the end: until then, and after any failure, the registry
//! that was there stands. What a file must look like is said in `registry::import`. Wrong rows are listed in
//! `rejects.csv`, which is always written, so that no list of an earlier import is taken for this one's.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Common, Done, Ended, Fatal, counted, state};
use crate::journal::reading;
use crate::journal::recover::segment_path;
use crate::registry::import::{ImportError, Mode, Report, import};
use crate::registry::{DataFolder, HashKey, Meta, SNAPSHOT_FILE, Table, replace_file, snapshot};

/// Merge a CSV file of residents into the registry: the newest row about each wins.
///
/// What the journal holds of writes while serving is applied first.
///
/// The header names the columns id_number, status and updated_at, and may name region and test; the text is UTF-8 or
/// GB18030. A server on the data folder is stopped first and reads the registry when it is started again.
///
/// What is printed adds up: each of the rows is inserted, updated, older than what was held, a duplicate of it, in
/// conflict with it (the same time and something else: the stricter stands) or rejected.
#[derive(clap::Args, Debug)]
#[command(after_help = super::with_exit_statuses(
    "With 0 every row was taken, with 1 some were rejected, which rejects.csv in the data folder lists by line, column and \
     reason, and the others taken. With any other status the registry is as it was, unless the reason says that the import \
     is done: then only the counts could not be written (74)."
))]
pub struct Args {
    /// The CSV file; /dev/stdin is standard input
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
    #[command(flatten)]
    common: Common,
    /// Take the file as the whole as of its newest row: who is not in it is removed
    ///
    /// What is newer than a row stays, as without it; so does who is not in the file and of whom something newer is held
    /// than its newest row (they are counted as kept), and who was removed stays so but for a newer row.
    #[arg(long)]
    replace: bool,
}

pub fn run(args: &Args) -> Done {
    let config = args.common.place.load(&[])?;
    let file_failed = Fatal::File.at(args.file.display());
    // Opened first: a mistyped name should not make a data folder.
    let input = File::open(&args.file).map_err(&file_failed)?;
    let metadata = input.metadata().map_err(&file_failed)?;
    let length_bytes = metadata.is_file().then_some(metadata.len());
    let folder = DataFolder::open(&config.data, std::process::id(), "onecode import")?;
    let keyring = super::open_keyring(&config)?;
    let key = HashKey::new(*keyring.hash_key.expose());

    // A row has at least 18 + 3 + 13 characters, two commas and a line end: this is a little more than there are.
    let rows_expected = usize::try_from(length_bytes.unwrap_or(0) / 37).unwrap_or(0);
    let (held, folded_to) = load(&folder, &key, rows_expected)?;
    let rejects = config.data.join(REJECTS_FILE);
    let now_unix_ms = super::now().unix_ms;
    let progress = progress_bar(length_bytes);
    let mode = if args.replace { Mode::Replace } else { Mode::Merge };
    let versions = YEAR_2000_BEGINS_UNIX_MS..=now_unix_ms + DAY_MS;
    let input = progress.wrap_read(input);
    let imported = replace_file(&rejects, 0o600, |file| {
        let mut list = BufWriter::new(file);
        list.write_all(b"line,column,reason\n")?;
        // No reason has a quote in it, and only a quoted field may have a comma.
        let mut reject = |line, column: &str, reason: &str| writeln!(list, "{line},{column},\"{reason}\"");
        let imported = import(input, held, mode, &key, versions, rows_expected, &mut reject)?;
        list.flush()?;
        Ok(imported)
    });
    progress.finish_and_clear();
    let (table, report) = imported.map_err(|error| match error {
        ImportError::Rejects(error) => (Fatal::Folder, format!("{}: cannot be written: {error}", rejects.display())),
        ImportError::File((fatal, reason)) => (fatal, format!("{}: {reason}", args.file.display())),
    })?;
    if report.rejected > 0 {
        let were = if report.rejected == 1 { "was" } else { "were" };
        eprintln!("onecode: import: {} {were} rejected, see {}", counted(report.rejected, "row"), rejects.display());
    }
    let (leaves_nobody, file) = (args.replace && report.rows == report.rejected, args.file.display());
    Fatal::Configuration.unless(!leaves_nobody, file, "--replace would leave nobody in the registry")?;

    // Nor one that a server with this configuration would refuse.
    state::room_to_serve(&config)(table.residents(), folded_to)?;

    let meta = Meta { key_id: key.id(), created_unix_ms: now_unix_ms, folded_to };
    snapshot::store(&folder.path.join(SNAPSHOT_FILE), &meta, &table, &mut |_| Ok(()))?;
    let done = |(fatal, reason): Ended| (fatal, format!("the import is done, but {reason}"));
    super::print(told(&report, table.residents(), args.common.json).as_bytes()).map_err(done)?;
    Ok(report.rejected == 0)
}

const REJECTS_FILE: &str = "rejects.csv";
/// Before it no health code was given out: an earlier time is one of another unit.
const YEAR_2000_BEGINS_UNIX_MS: u64 = 946_684_800_000;
/// How far the clock of whoever wrote the file may be ahead, in milliseconds; a later time could not be overtaken.
const DAY_MS: u64 = 86_400_000;

/// What is there, with room for the rows to come, and the last record of the journal in it, which is synced by then.
fn load(folder: &DataFolder, key: &HashKey, rows_expected: usize) -> Result<(Table, u64), Ended> {
    let (table, replayed) =
        state::open(&folder.path, key.id(), state::room_for_all(&folder.path, rows_expected), false)?;
    let journal = state::journal_folder(&folder.path);
    let synced = reading::names(&journal).and_then(|names| match names.last() {
        Some(newest) => File::open(segment_path(&journal, *newest))?.sync_all(),
        None => Ok(()),
    });
    synced.map_err(Fatal::File.at(journal.display()))?;
    Ok((table, replayed.end.next - 1))
}

fn progress_bar(length_bytes: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length_bytes {
        Some(length_bytes) => (ProgressBar::new(length_bytes), "{wide_bar} {bytes}/{total_bytes} {eta}"),
        None => (ProgressBar::no_length(), "{spinner} {bytes}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("a literal template"))
}

fn told(report: &Report, residents: usize, json: bool) -> String {
    let counts = [
        ("rows", report.rows),
        ("inserted", report.inserted),
        ("updated", report.updated),
        ("older", report.older),
        ("duplicates", report.duplicates),
        ("conflicts", report.conflicts),
        ("rejected", report.rejected),
        ("removed", report.removed),
        ("kept", report.kept),
        ("residents", residents as u64),
    ];
    if json {
        return format!("{}\n", counts.into_iter().collect::<serde_json::Value>());
    }
    counts.iter().map(|(name, count)| format!("{name:<10} {count:>12}\n")).collect()
}
