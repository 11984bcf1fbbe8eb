//! The commands, one file each, and what they share: the exit statuses and the one line on stderr.

mod assets;
mod backup;
mod check_config;
mod demo;
mod fold;
mod import;
mod journal;
mod keys;
mod link;
mod privileges;
mod restore;
mod serve;
mod sizing;
mod state;
mod takeover;
mod tls;
mod verify;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::code::keyring::{KEYRING_FILE, Keyring};
use crate::config::{self, Config, Flag};
pub(crate) use crate::driver::now;
use crate::registry::{HashKey, SNAPSHOT_FILE, Snapshot};
use crate::words::{Ended, Fatal};

/// What a command comes to: whether the answer is yes.
type Done = Result<bool, Ended>;

/// The exit status of a command, which says why on stderr if it ended early.
fn exit(done: Done) -> ExitCode {
    let status = done.map(|is_yes| u8::from(!is_yes)).unwrap_or_else(|(fatal, reason)| {
        eprintln!("onecode: {reason}");
        fatal as u8
    });
    ExitCode::from(status)
}

/// Writes to standard output, at once.
fn print(text: &[u8]) -> Result<(), Ended> {
    let mut out = io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush()).map_err(Fatal::File.at("standard output"))
}

/// Where data and keys are: for each command that touches them what it is for `serve`.
#[derive(clap::Args, Debug)]
struct Place {
    /// Configuration file (TOML); without it flags, ONECODE_… variables and defaults apply
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Data folder [default: that of the configuration, or /var/lib/onecode]
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<String>,
    /// Keys folder [default: that of the configuration, or keys/ in the data folder]
    #[arg(long, value_name = "DIR", global = true)]
    keys_dir: Option<String>,
}

impl Place {
    /// The configuration, with the other flags that the command has for it.
    fn load(&self, others: &[Flag<'_>]) -> Result<Config, Ended> {
        let own = [("data", "--data", self.data.as_deref()), ("keys_dir", "--keys-dir", self.keys_dir.as_deref())];
        config::load(self.config.as_deref(), own.iter().chain(others).copied())
    }
}

/// What every command takes that prints facts of a data folder.
#[derive(clap::Args, Debug)]
struct Common {
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// The keys of a data folder, which the caller holds; made if there are none and no registry needs the lost ones.
fn open_keyring(config: &Config) -> Result<Keyring, Ended> {
    check_keys_kept(config)?;
    Keyring::open_or_create(&config.keys_dir, now().unix_s(), random)
}

/// Refuses a registry without its keys: new ones would make strangers of all who are in it.
fn check_keys_kept(config: &Config) -> Result<(), Ended> {
    let (snapshot, keyring) = (config.data.join(SNAPSHOT_FILE), config.keys_dir.join(KEYRING_FILE));
    if keyring.exists() {
        return Ok(());
    }
    let Some(needed) = state::key_needed(&snapshot)? else { return state::check_new(&config.data) };
    let (needed, keyring) = (u64::from_be_bytes(needed), keyring.display());
    let wrong =
        format!("the registry was made with hash key {needed:016x}, and {keyring} is missing: restore the keys");
    Err(Fatal::Configuration.at(snapshot.display())(wrong))
}

/// What snapshots call the key that residents are numbered with.
fn hash_key_id(keyring: &Keyring) -> [u8; 8] {
    HashKey::new(*keyring.hash_key.expose()).id()
}

/// Refuses keys that are not those of the registry that is there.
fn check_keys_belong(config: &Config, keyring: &Keyring) -> Result<(), Ended> {
    match Snapshot::open(&config.data.join(SNAPSHOT_FILE)) {
        Ok(snapshot) => snapshot.made_with(hash_key_id(keyring)).map(drop),
        // What is damaged needs its keys all the same.
        Err(_) => Ok(()),
    }
}

/// A number of things, such as `1 row`.
fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A health-code server that does not fall over.
#[derive(Parser)]
#[command(version, about, after_help = EXIT_STATUSES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// For the help of a command: what is its own, then what all have in common.
fn with_exit_statuses(own: &str) -> String {
    format!("{own}\n\n{EXIT_STATUSES}")
}

const EXIT_STATUSES: &str = "\
Exit status:
   0  done
   1  the answer is no: an invalid code, rejected rows
   2  wrong usage: an unknown flag, or a value that its flag cannot have
  69  an address cannot be listened on (it is named, and who holds it)
  70  internal error: the process ended rather than serve half alive
  71  the system refused threads, descriptors or memory
  73  the data folder cannot be created or written
  74  a file, the input or the output cannot be read or written
  75  the data folder is in use by another process (it is named)
  78  bad configuration, keys, registry or file of residents; a configuration,
      or a file that it names, that cannot be read; a flag's value that a rule
      refuses, such as an admin address that is not a loopback address";

#[derive(Subcommand)]
enum Command {
    /// Serve codes, pages and the admin listener.
    Serve(serve::Args),
    /// Check the configuration and print what is in force.
    CheckConfig(check_config::Args),
    /// Import residents from a CSV file into the registry.
    Import(import::Args),
    /// Make, rotate, list, revoke, export and import keys.
    Keys(keys::Args),
    /// Inspect, verify or export the journal.
    Journal(journal::Args),
    /// Write a backup of the data folder; the server may be running.
    Backup(backup::Args),
    /// Make a data folder from a backup.
    Restore(restore::Args),
    /// Say what a city needs: requests, bandwidth, cores, memory.
    Sizing(sizing::Args),
    /// Verify codes offline.
    Verify(verify::Args),
}

/// Runs the command that the arguments name and returns its exit status.
pub fn main() -> ExitCode {
    let of = |command| move |(fatal, reason)| (fatal, format!("{command}: {reason}"));
    exit(match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Import(args) => import::run(&args).map_err(of("import")),
        Command::Keys(args) => keys::run(args),
        Command::Journal(args) => journal::run(&args).map_err(of("journal")),
        Command::Backup(args) => backup::run(&args).map_err(of("backup")),
        Command::Restore(args) => restore::run(&args).map_err(of("restore")),
        Command::Sizing(args) => sizing::run(&args),
        Command::Verify(args) => verify::run(&args),
    })
}

/// A time for people; one that no calendar has stays a number.
fn rfc3339(unix_s: u64) -> String {
    let time = i64::try_from(unix_s).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| unix_s.to_string())
}

/// The Unix seconds of a time on the command line.
fn parse_time(text: &str) -> Result<u64, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| "not a time such as 2026-01-31T08:00:00+08:00")?;
    u64::try_from(time.unix_timestamp()).map_err(|_| "a time before 1970".to_owned())
}

/// Fills `bytes` from the system's generator; for keys.
/// Panics when the system has none: nothing can then be done that needs a secret.
pub(crate) fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system gives random bytes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::snapshot::{self, Meta};
    use crate::registry::table::Table;

    #[test]
    fn a_registry_without_its_keys_gets_no_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { config: None, data: folder.path().to_str().map(str::to_owned), keys_dir: None };
        let config = place.load(&[]).unwrap();
        let keyring = open_keyring(&config).unwrap();
        let path = folder.path().join(SNAPSHOT_FILE);
        let meta = Meta { key_id: [7; 8], created_unix_ms: 0, folded_to: 0 };
        snapshot::store(&path, &meta, &Table::new(0).unwrap(), &mut |_| Ok(())).unwrap();
        assert_eq!(open_keyring(&config).unwrap().hash_key.expose(), keyring.hash_key.expose());
        std::fs::remove_dir_all(&config.keys_dir).unwrap();
        let (fatal, reason) = open_keyring(&config).unwrap_err();
        assert_eq!(fatal, Fatal::Configuration);
        assert!(reason.contains("hash key 0707070707070707") && reason.contains("restore the keys"), "{reason}");
        assert!(!config.keys_dir.exists());
        assert_eq!(check_keys_belong(&config, &keyring).unwrap_err().0, Fatal::Configuration);
        let meta = Meta { key_id: HashKey::new(*keyring.hash_key.expose()).id(), ..meta };
        snapshot::store(&path, &meta, &Table::new(0).unwrap(), &mut |_| Ok(())).unwrap();
        assert!(check_keys_belong(&config, &keyring).is_ok());
    }

    #[test]
    fn flags_beat_the_file_in_every_command() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, "data = \"/d\"\nkeys_dir = \"/k\"\nissuer = \"CN-1\"\n").unwrap();
        let place =
            |data: Option<&str>| Place { config: Some(file.clone()), data: data.map(Into::into), keys_dir: None };
        let config = place(None).load(&[]).unwrap();
        assert_eq!((config.data.to_str(), config.keys_dir.to_str(), &*config.issuer), (Some("/d"), Some("/k"), "CN-1"));
        let config = place(Some("/e")).load(&[("issuer", "--issuer", Some("CN-2"))]).unwrap();
        assert_eq!((config.data.to_str(), &*config.issuer), (Some("/e"), "CN-2"));
        assert_eq!(place(Some("")).load(&[]).unwrap_err().0, Fatal::Usage);
    }

    #[test]
    fn one_thing_is_not_many() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "row")), ["0 rows", "1 row", "2 rows"]);
    }
}
