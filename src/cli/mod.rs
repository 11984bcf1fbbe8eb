//! The commands, one file each, and what they share: the exit statuses and the one line on stderr.

mod assets;
pub mod check_config;
mod demo;
pub mod import;
pub mod keys;
pub mod serve;
mod settings;
pub mod verify;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::code::keyring::{KEYRING_FILE, Keyring, KeyringError};
use crate::config::{self, Config, ConfigError, Overrides};
use crate::driver::Clock;
use crate::registry::data_folder::{DataFolderError, SNAPSHOT_FILE};
use crate::registry::snapshot::{Snapshot, SnapshotError};
use crate::words::Now;

/// What ended a command early, as its exit status; the numbers are those of `sysexits.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Fatal {
    /// A flag has a value that it cannot have; the number is clap's.
    Usage = 2,
    /// An address cannot be listened on.
    Address = 69,
    /// A panic: a rule of our own was broken.
    Panic = 70,
    /// The system refused threads, descriptors or memory.
    System = 71,
    /// A data folder cannot be created or written.
    Folder = 73,
    /// A file could not be read or written.
    File = 74,
    /// The data folder is held by another process.
    Held = 75,
    /// The configuration, a key or a registry is not as it must be.
    Configuration = 78,
}

impl Fatal {
    /// Says why on stderr and gives the exit status.
    pub fn because(self, reason: impl Display) -> ExitCode {
        eprintln!("onecode: {reason}");
        ExitCode::from(self as u8)
    }
}

/// Why a command ended early: the exit status and the line on stderr.
type Ended = (Fatal, String);

fn config_refused(error: &ConfigError) -> Ended {
    (if error.is_of_a_flag() { Fatal::Usage } else { Fatal::Configuration }, error.to_string())
}

fn folder_refused(error: &DataFolderError) -> Ended {
    let fatal = match error {
        DataFolderError::Busy { .. } => Fatal::Held,
        DataFolderError::Unusable { .. } => Fatal::Folder,
        DataFolderError::Exposed { .. } => Fatal::Configuration,
    };
    (fatal, error.to_string())
}

fn keyring_fatal(error: &KeyringError) -> Fatal {
    match error {
        KeyringError::Io { error, .. } if error.kind() != std::io::ErrorKind::NotFound => Fatal::File,
        KeyringError::Folder { .. } => Fatal::Folder,
        KeyringError::Random(_) => Fatal::System,
        _ => Fatal::Configuration,
    }
}

fn snapshot_refused(error: &SnapshotError) -> Ended {
    let of_the_file = matches!(error, SnapshotError::Io { .. } | SnapshotError::Store { .. });
    (if of_the_file { Fatal::File } else { Fatal::Configuration }, error.to_string())
}

/// Where data and keys are: for each command that touches them what it is for `serve`.
#[derive(clap::Args, Debug)]
struct Place {
    /// Configuration file (TOML); without it flags, ONECODE_… variables and defaults apply
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Data folder [default: that of the configuration, or /var/lib/onecode]
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// Keys folder [default: that of the configuration, or keys/ in the data folder]
    #[arg(long, value_name = "DIR", global = true)]
    keys_dir: Option<PathBuf>,
}

impl Place {
    fn load(&self, issuer: Option<String>) -> Result<Config, Ended> {
        let (data, keys_dir) = (self.data.clone(), self.keys_dir.clone());
        let flags = Overrides { data, keys_dir, issuer, ..Overrides::default() };
        let environment = config::environment().map_err(|error| config_refused(&error))?;
        config::load(self.config.as_deref(), environment, flags).map_err(|error| config_refused(&error))
    }
}

/// The keys of a data folder, which the caller holds; made if there are none and no registry needs the lost ones.
fn open_keyring(config: &Config) -> Result<Keyring, Ended> {
    let snapshot = config.data.join(SNAPSHOT_FILE);
    if snapshot.exists() && !config.keys_dir.join(KEYRING_FILE).exists() {
        return Err(keys_lost(&snapshot, &config.keys_dir));
    }
    Keyring::open_or_create(&config.keys_dir, now().unix_s(), random)
        .map_err(|error| (keyring_fatal(&error), error.to_string()))
}

fn keys_lost(snapshot: &Path, keys_dir: &Path) -> Ended {
    // To be told the id of its key a snapshot is opened with another one's.
    match Snapshot::open(snapshot, [0; 8]) {
        Err(SnapshotError::HashKey { needed, .. }) => {
            let (needed, keyring) = (u64::from_be_bytes(needed), keys_dir.join(KEYRING_FILE));
            let (snapshot, keyring) = (snapshot.display(), keyring.display());
            let reason = format!(
                "{snapshot}: the registry was made with hash key {needed:016x}, and {keyring} is missing: restore the keys"
            );
            (Fatal::Configuration, reason)
        }
        Err(error) => snapshot_refused(&error),
        Ok(_) => (Fatal::Configuration, format!("{}: made with no hash key", snapshot.display())),
    }
}

/// A number of things, such as `1 row`.
fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A health-code server that does not fall over.
#[derive(Parser)]
#[command(version, about, after_help = EXIT_STATUSES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUSES: &str = "\
Exit status:
   0  done
   1  the answer is no: an invalid code, rejected rows
   2  wrong usage
  69  an address cannot be listened on (it is named, and who holds it)
  70  internal error: the process ended rather than serve half alive
  71  the system refused threads, descriptors or memory
  73  the data folder cannot be created or written
  74  a file cannot be read or written
  75  the data folder is in use by another process (it is named)
  78  bad configuration, keys, registry or file of residents";

#[derive(Subcommand)]
enum Command {
    /// Serve codes, pages and the admin listener.
    Serve(serve::Args),
    /// Check the configuration and print what is in force.
    CheckConfig(check_config::Args),
    /// Import residents from a CSV file into the registry.
    Import(import::Args),
    /// Make, rotate, list, revoke and export keys.
    Keys(keys::Args),
    /// Verify codes offline.
    Verify(verify::Args),
}

/// Runs the command that the arguments name and returns its exit status.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::CheckConfig(args) => check_config::run(args),
        Command::Import(args) => import::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Verify(args) => verify::run(args),
    }
}

/// The time, for commands that need it once.
pub(crate) fn now() -> Now {
    Clock::start().now()
}

/// Fills `bytes` from the system's generator; for keys.
pub(crate) fn random(bytes: &mut [u8]) -> std::io::Result<()> {
    getrandom::fill(bytes).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_without_its_keys_gets_no_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { config: None, data: Some(folder.path().to_owned()), keys_dir: None };
        let config = place.load(None).unwrap();
        let keyring = open_keyring(&config).unwrap();
        let path = folder.path().join(SNAPSHOT_FILE);
        crate::registry::snapshot::store(&path, [7; 8], 0, std::iter::empty()).unwrap();
        assert_eq!(open_keyring(&config).unwrap().hash_key_id(), keyring.hash_key_id());
        std::fs::remove_dir_all(&config.keys_dir).unwrap();
        let (fatal, reason) = open_keyring(&config).unwrap_err();
        assert_eq!(fatal, Fatal::Configuration);
        assert!(reason.contains("hash key 0707070707070707") && reason.contains("restore the keys"), "{reason}");
        assert!(!config.keys_dir.exists());
    }

    #[test]
    fn flags_beat_the_file_in_every_command() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, "data = \"/d\"\nkeys_dir = \"/k\"\nissuer = \"CN-1\"\n").unwrap();
        let place =
            |data: Option<&str>| Place { config: Some(file.clone()), data: data.map(Into::into), keys_dir: None };
        let config = place(None).load(None).unwrap();
        assert_eq!((config.data.to_str(), config.keys_dir.to_str(), &*config.issuer), (Some("/d"), Some("/k"), "CN-1"));
        let config = place(Some("/e")).load(Some("CN-2".to_owned())).unwrap();
        assert_eq!((config.data.to_str(), &*config.issuer), (Some("/e"), "CN-2"));
        assert_eq!(place(Some("")).load(None).unwrap_err().0, Fatal::Usage);
    }

    #[test]
    fn one_thing_is_not_many() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "row")), ["0 rows", "1 row", "2 rows"]);
    }
}
