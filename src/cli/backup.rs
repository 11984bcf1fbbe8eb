//! `onecode backup`: all that was acknowledged, copied into a folder while serving; `onecode restore` takes it.
//!
//! A backup is laid out as a data folder, with a manifest that names each file, its length and its SHA-256. First the
//! snapshot is copied, then the segments of the journal, oldest first; of the newest one as much as is on disk by then,
//! which so includes all that was acknowledged before. Then the copy is read back as a start would read it, and the hash
//! of that state goes into the manifest, which is written last. Keys are in no backup.
//!
//! What a start reads must be whole. What is folded already is copied as it is, or left out where it cannot be read, and
//! named: a damaged disk is when a backup is wanted most.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::state::{self, journal_refused};
use super::{Common, Done, Ended, Fatal, counted, hash_key_id, rfc3339};
use crate::code::keyring::Keyring;
use crate::config::Config;
use crate::journal::recover::{Folder, HEAD_FILE, Source as _, segment_path};
use crate::journal::rewrite::Dense;
use crate::journal::{RecoverError, reading};
use crate::limits::JOURNAL_SEGMENT_BYTES;
use crate::registry::{SNAPSHOT_FILE, is_there, replace_file};
use crate::sys::{background, regular_file};

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const FORMAT: &str = "onecode backup";
pub(super) const VERSION: u32 = 1;

#[derive(clap::Args)]
#[command(after_help = super::with_exit_statuses(
    "It has every write that was acknowledged before the command began. Keys are never in it: `onecode keys export` \
     writes them, sealed, to be kept elsewhere. The copy is read back, which takes as much memory as the registry. With 1 \
     the state is whole, and scans and calls cannot be read any more: stderr and the manifest name where."
))]
pub struct Args {
    /// Where to: a folder outside the data folder that is empty or not there yet
    #[arg(value_name = "DIR")]
    into: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) created: String,
    /// The key that residents are numbered with, without which the registry cannot be served.
    pub(super) hash_key_id: String,
    /// The keys that sign, where they could be read.
    pub(super) signing_keys: Vec<String>,
    /// The last record of the journal that is in it.
    pub(super) last_record: u64,
    pub(super) residents: u64,
    pub(super) state_sha256: String,
    /// What of the journal cannot be read, all of it folded.
    #[serde(default)]
    pub(super) left_out: Vec<String>,
    pub(super) files: Vec<Copied>,
}

#[derive(Serialize, Deserialize, PartialEq)]
pub(super) struct Copied {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

pub fn run(args: &Args) -> Done {
    let (began, config) = (Instant::now(), args.common.place.load(&[])?);
    background::give_way();
    state::check_folder(&config.data)?;
    check_empty(&args.into, &[])?;
    let folder = |recursive: bool, path: &Path| DirBuilder::new().recursive(recursive).mode(0o700).create(path);
    // Not recursive: of two backups into one folder, one comes first.
    let begun = folder(true, &args.into).and_then(|()| folder(false, &state::journal_folder(&args.into)));
    begun.map_err(Fatal::Folder.at(args.into.display()))?;
    // What is left would only be in the way of the next one; without a manifest it is no backup.
    let manifest = make(&config, &args.into).inspect_err(|_| _ = fs::remove_dir_all(&args.into))?;
    tell("backup", &manifest, began, args.common.json)
}

/// Prints what was done, to which state, with which keys that is served, and how long it took; and what is missing.
pub(super) fn tell(what: &str, manifest: &Manifest, began: Instant, as_json: bool) -> Done {
    let Manifest { hash_key_id, signing_keys, last_record, residents, state_sha256, left_out, files, .. } = manifest;
    let (ms, bytes) = (began.elapsed().as_millis() as u64, files.iter().map(|file| file.bytes).sum::<u64>());
    let text = if as_json {
        let mut facts = json!(manifest);
        (facts["files"], facts["bytes"], facts["ms"]) = (files.len().into(), bytes.into(), ms.into());
        facts.to_string()
    } else {
        let (residents, files) = (counted(*residents, "resident"), counted(files.len() as u64, "file"));
        let kids = if signing_keys.is_empty() { "not known".to_owned() } else { signing_keys.join(" ") };
        format!(
            "{what} done in {ms} ms: {residents}, journal up to record {last_record}; {files}, {bytes} bytes\n\
             state   {state_sha256}\n\
             needs   hash key {hash_key_id}, signing keys {kids}"
        )
    };
    left_out.iter().for_each(|missing| eprintln!("onecode: {what}: the journal is not whole: {missing}"));
    super::print(format!("{text}\n").as_bytes()).map_err(|(fatal, reason)| (fatal, format!("done, but {reason}")))?;
    Ok(left_out.is_empty())
}

/// Refuses a folder that holds anything but `allowed`.
pub(super) fn check_empty(folder: &Path, allowed: &[&Path]) -> Result<(), Ended> {
    let failed = Fatal::Folder.at(folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(&failed)?,
    };
    for entry in entries {
        let path = entry.map_err(&failed)?.path();
        let wrong = format_args!("it must be empty, and holds {}", path.display());
        Fatal::Folder.unless(allowed.contains(&&*path), folder.display(), wrong)?;
    }
    Ok(())
}

fn make(config: &Config, into: &Path) -> Result<Manifest, Ended> {
    let files = copy_all(&config.data, into)?;
    let kids = |keyring: &Keyring| keyring.signing_keys.iter().map(|key| key.kid.to_string()).collect();
    let (key_id, signing_keys) = match (state::key_needed(&into.join(SNAPSHOT_FILE))?, Keyring::open(&config.keys_dir))
    {
        (needed, Ok(keyring)) => (needed.unwrap_or_else(|| hash_key_id(&keyring)), kids(&keyring)),
        (Some(needed), Err(_)) => (needed, Vec::new()),
        (None, Err(error)) => return state::check_new(into).and(Err(error)),
    };
    let (table, replayed) = state::open(into, key_id, state::room_for_all(into, 0), false)?;
    // What a start does not read, because it is folded, is read for those who will ask the journal.
    let journal = state::journal_folder(into);
    let (_, damaged) = reading::read_on(&journal, |_| {}).map_err(|error| journal_refused(&journal, &error))?;
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        created: rfc3339(super::now().unix_s()),
        hash_key_id: hex::encode(key_id),
        signing_keys,
        last_record: replayed.end.next - 1,
        residents: table.residents() as u64,
        state_sha256: state::hash(&table),
        left_out: damaged.iter().map(ToString::to_string).collect(),
        files,
    };
    let (path, text) = (into.join(MANIFEST), serde_json::to_vec_pretty(&manifest).unwrap_or_default());
    replace_file(&path, 0o600, |file| file.write_all(&text)).map_err(Fatal::File.at(path.display()))?;
    Ok(manifest)
}

/// Copies the snapshot, then the journal. What a fold changes meanwhile it replaces as a whole; what it deletes is old and
/// folded, most likely into the snapshot that was copied, else [`make`] finds it missing.
fn copy_all(data: &Path, into: &Path) -> Result<Vec<Copied>, Ended> {
    let (journal, target) = (state::journal_folder(data), state::journal_folder(into));
    let (mut files, mut bytes) = (Vec::new(), Vec::new());
    for name in [SNAPSHOT_FILE, HEAD_FILE] {
        if is_there(&data.join(name)) {
            files.push(copy(data, into, name)?);
        }
    }
    let names = reading::names(&journal).map_err(Fatal::File.at(journal.display()))?;
    if let Some((&newest, sealed)) = names.split_last() {
        for &segment in sealed {
            match Folder(journal.clone()).read(segment, 8 * JOURNAL_SEGMENT_BYTES as u64, &mut bytes) {
                Ok(()) => files.push(write(&*bytes, into, &name(segment))?),
                Err(_) if !is_there(&segment_path(&journal, segment)) => {}
                Err(error) => eprintln!("onecode: backup: {}", RecoverError::Read { segment, error }),
            }
        }
        let bytes = so_far(&journal, newest).map_err(|error| journal_refused(&journal, &error))?;
        files.push(write(&*bytes, into, &name(newest))?);
    }
    File::open(&target).and_then(|folder| folder.sync_all()).map_err(Fatal::File.at(target.display()))?;
    Ok(files)
}

/// A segment's file, as a manifest names it.
pub(super) fn name(segment: u64) -> String {
    segment_path(&state::journal_folder(Path::new("")), segment).display().to_string()
}

/// The newest segment with all that is on disk by now, as one that the fold has rewritten: it says itself where it ends,
/// and has the records of any that has followed it since. Without a record it is as long as it was made.
fn so_far(journal: &Path, newest: u64) -> Result<Vec<u8>, RecoverError> {
    let header = reading::header(journal, newest)?;
    let (mut dense, mut last) = (Dense::new(header), None);
    reading::read(journal, Some(newest.saturating_sub(1)), |entry| {
        dense.push(&entry.stored);
        last = Some(entry.stored.sequence);
    })?;
    let mut bytes = last.map_or_else(|| header.encode().to_vec(), |last| dense.finish(last));
    if last.is_none() {
        bytes.resize(usize::try_from(header.bytes).unwrap_or(0).max(bytes.len()), 0);
    }
    Ok(bytes)
}

/// Copies a file of one folder into another, and says what it was.
pub(super) fn copy(from: &Path, into: &Path, name: &str) -> Result<Copied, Ended> {
    let path = from.join(name);
    let failed = |error: io::Error| (state::unread(&error), format!("{}: {error}", path.display()));
    write(regular_file::open(&path).map_err(failed)?, into, name)
}

fn write(mut from: impl Read, into: &Path, name: &str) -> Result<Copied, Ended> {
    let path = into.join(name);
    let mut written = || {
        let bytes = regular_file::create(&path, 0o600, |file| io::copy(&mut from, file))?;
        let mut hash = Sha256::new();
        io::copy(&mut File::open(&path)?, &mut hash)?;
        Ok::<_, io::Error>(Copied { name: name.to_owned(), bytes, sha256: hex::encode(hash.finalize()) })
    };
    written().map_err(Fatal::File.at(format_args!("copying to {}", path.display())))
}
