//! `onecode restore`: a data folder from a backup, each file checked, and the state as a whole.
//!
//! The snapshot comes last: what a restore that was cut off has left is a journal without it, which no command takes for
//! the state. What is left of one that fails is removed.

use std::fmt::Display;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use super::backup::{FORMAT, MANIFEST, Manifest, VERSION, check_empty, copy, name, tell};
use super::state;
use super::{Common, Done, Ended, Fatal, hash_key_id};
use crate::code::keyring::Keyring;
use crate::journal::recover::HEAD_FILE;
use crate::journal::writer;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::registry::{DataFolder, SNAPSHOT_FILE};
use crate::sys::regular_file::{self, read_bounded, sync_folder_of};

#[derive(clap::Args)]
#[command(after_help = super::with_exit_statuses(
    "The data folder must be empty, but for its keys. Every file is checked against the manifest, and the state against \
     its hash: what is no backup, or a damaged one, is 78. `onecode keys import` puts back the keys. With 1 all of the \
     backup is there, and scans and calls in it cannot be read: stderr names where."
))]
pub struct Args {
    /// The backup
    #[arg(value_name = "DIR")]
    from: PathBuf,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: &Args) -> Done {
    let (began, config) = (Instant::now(), args.common.place.load(&[])?);
    let manifest = read_manifest(&args.from)?;
    let needed = &manifest.hash_key_id;
    let there = Keyring::open(&config.keys_dir).ok().map(|keyring| hex::encode(hash_key_id(&keyring)));
    let other = there.as_ref().filter(|there| *there != needed).map_or("", String::as_str);
    let wrong = format_args!("the backup needs hash key {needed}, and this is {other}");
    Fatal::Configuration.unless(other.is_empty(), config.keys_dir.display(), wrong)?;
    let folder = DataFolder::open(&config.data, std::process::id(), "onecode restore")?;
    check_empty(&config.data, &[&config.data.join("lock"), &config.keys_dir])?;
    bring_back(&args.from, &folder.path, &manifest).inspect_err(|_| clear(&folder.path))?;
    if there.is_none() {
        eprintln!("onecode: restore: before serving `onecode keys import` the keys: hash key {needed}");
    }
    tell("restore", &manifest, began, args.common.json)
}

fn read_manifest(from: &Path) -> Result<Manifest, Ended> {
    let path = from.join(MANIFEST);
    let check = |holds: bool, wrong: &dyn Display| Fatal::Configuration.unless(holds, path.display(), wrong);
    check(path.exists(), &"there is no manifest: no backup, or one that did not come to its end")?;
    let bytes = read_bounded(regular_file::open(&path), MANIFEST_BYTES_MAX).map_err(Fatal::File.at(path.display()))?;
    let told: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    check(told["format"] == FORMAT, &"not the manifest of a backup")?;
    let version = &told["version"];
    check(version == VERSION, &format_args!("version {version}, which this program does not know"))?;
    let manifest: Manifest = serde_json::from_value(told).map_err(Fatal::Configuration.at(path.display()))?;
    let mut names = manifest.files.iter().map(|file| &file.name);
    names.try_for_each(|name| check(is_ours(name), &format_args!("{name:?} is no file of a backup")))?;
    Ok(manifest)
}

/// Whether a backup has files of this name: nothing else is written, wherever a manifest points.
fn is_ours(file: &str) -> bool {
    let hex = file.rsplit('/').next().and_then(|file| file.strip_suffix(".log")).unwrap_or_default();
    [SNAPSHOT_FILE, HEAD_FILE].contains(&file)
        || u64::from_str_radix(hex, 16).is_ok_and(|segment| name(segment) == file)
}

/// Removes what [`bring_back`] has copied; what cannot be is in the way of the next one, which says so.
fn clear(data: &Path) {
    [SNAPSHOT_FILE, HEAD_FILE].iter().for_each(|name| _ = fs::remove_file(data.join(name)));
    let _ = fs::remove_dir_all(state::journal_folder(data));
}

fn bring_back(from: &Path, data: &Path, manifest: &Manifest) -> Result<(), Ended> {
    let place = format_args!("{}: the backup is damaged", from.display());
    let journal = state::journal_folder(data);
    writer::make_folder(&journal).map_err(Fatal::File.at(journal.display()))?;
    for file in manifest.files.iter().rev() {
        let (is_same, name) = (copy(from, data, &file.name)? == *file, &file.name);
        Fatal::Configuration.unless(is_same, place, format_args!("{name} is not what the manifest says"))?;
    }
    let synced = File::open(&journal).and_then(|folder| folder.sync_all()).and_then(|()| sync_folder_of(&journal));
    synced.map_err(Fatal::File.at(journal.display()))?;
    let key_id = u64::from_str_radix(&manifest.hash_key_id, 16).map(u64::to_be_bytes);
    let key_id = key_id.map_err(Fatal::Configuration.at("hash_key_id of the manifest"))?;
    let (table, replayed) = state::open(data, key_id, state::room_for_all(data, 0), false)?;
    let Manifest { state_sha256, last_record, residents, .. } = manifest;
    let found = (&state::hash(&table), replayed.end.next - 1, table.residents() as u64);
    let is_same = found == (state_sha256, *last_record, *residents);
    Fatal::Configuration.unless(is_same, place, "its state is not what the manifest says")
}
