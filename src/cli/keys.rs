//! `onecode keys`: makes, rotates, lists, revokes, exports and imports the keys of a server.
//!
//! It reads the clock and the operating system's randomness and hands both to the keyring, which does the rest. No
//! subcommand prints a secret; `export` writes them sealed under a passphrase, which never stands on a command line.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use zeroize::Zeroizing;

use super::{Common, Done, Ended, Fatal, random, rfc3339};
use crate::code::keyring::{Keyring, Kid, SigningKey};
use crate::code::sealed;
use crate::registry::import::read_line;
use crate::sys::regular_file::{self, read_bounded};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make what is missing, and nothing else
    Generate,
    /// Add a signing key that is published before its first use, or end all sessions
    Rotate {
        /// Which key
        #[arg(value_enum, default_value_t = Rotated::Signing)]
        what: Rotated,
        /// When a new signing key signs first, from now: the time scanners have to learn of it
        #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(..=8_760))]
        lead_hours: u32,
    },
    /// Show the keys, never their secrets
    List,
    /// Refuse everything that a key signed
    Revoke {
        /// The key's id, as `keys list` shows it
        #[arg(value_name = "KID", allow_hyphen_values = true)]
        kid: Kid,
    },
    /// Write all keys, sealed under a passphrase
    Export {
        /// A new file; standard output without it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// A file whose first line is the passphrase; the first line of standard input without it
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Restore the keys that `keys export` wrote, where there are none
    ///
    /// What was rotated or revoked since the export is again as it was then.
    Import {
        /// What `keys export` wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// A file whose first line is the passphrase; the first line of standard input without it
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
}

#[derive(clap::ValueEnum, Clone, Copy)]
enum Rotated {
    /// The key that signs residents' codes
    Signing,
    /// The key of all sessions: everyone signs in again
    Session,
}

/// What is said when keys are changed: the server holds those that it has read.
const RELOAD: &str = "a running server takes this up when it is sent SIGHUP";

pub fn run(args: Args) -> Done {
    let config = args.common.place.load(&[])?;
    let (folder, now) = (&*config.keys_dir, super::now().unix_s());
    if let Command::Import { file, passphrase_file } = &args.command {
        let keyring = open_export(file, passphrase_file.as_deref())?;
        super::check_keys_belong(&config, &keyring)?;
        keyring.restore(folder)?;
        eprintln!("onecode: the keys are restored; {RELOAD}");
    }
    super::check_keys_kept(&config)?;
    match args.command {
        Command::List | Command::Import { .. } => {}
        Command::Generate => {
            Keyring::open_or_create(folder, now, random)?;
            Keyring::update(folder, |keyring| keyring.complete(now, random))?;
        }
        Command::Rotate { what: Rotated::Signing, lead_hours } => {
            let lead_s = u64::from(lead_hours) * 3_600;
            let kid = Keyring::update(folder, |keyring| keyring.rotate_signing(now, lead_s, random))?;
            eprintln!("onecode: {kid} signs from {} on; {RELOAD}", rfc3339(now + lead_s));
        }
        Command::Rotate { what: Rotated::Session, .. } => {
            let epoch = Keyring::update(folder, |keyring| keyring.rotate_session(random))?;
            eprintln!("onecode: sessions of epochs before {epoch} are over; {RELOAD}");
        }
        Command::Revoke { kid } => {
            if !Keyring::update(folder, |keyring| keyring.revoke(kid, now, random))? {
                eprintln!("onecode: no key {kid} in {}: `keys list` shows them", folder.display());
                return Ok(false);
            }
            eprintln!("onecode: {kid} is revoked; {RELOAD}");
        }
        Command::Export { out, passphrase_file } => {
            export(&Keyring::open(folder)?, out.as_deref(), passphrase_file.as_deref())?;
            return Ok(true);
        }
    }
    print(&Keyring::open(folder)?, now, args.common.json)?;
    Ok(true)
}

/// Times are in Unix seconds in JSON.
fn print(keyring: &Keyring, now: u64, as_json: bool) -> Result<(), Ended> {
    let epoch = keyring.session_key().epoch;
    let text = if as_json {
        let listed = |key: &SigningKey| {
            json!({ "kid": key.kid, "env": key.env, "state": keyring.state(key, now), "created": key.created,
                "not_before": key.not_before, "not_after": keyring.not_after(key), "revoked": key.revoked })
        };
        let keys: Vec<_> = keyring.signing_keys.iter().map(listed).collect();
        json!({ "keys": keys, "session_epoch": epoch }).to_string()
    } else {
        let at = |word: &str, unix_s: Option<u64>| {
            unix_s.map_or_else(String::new, |unix_s| format!(" {word} {}", rfc3339(unix_s)))
        };
        let line = |key: &SigningKey| {
            let from = at("from", Some(key.not_before).filter(|from| *from > 0));
            let (until, revoked) = (at("until", keyring.not_after(key)), at("revoked", key.revoked));
            let (state, created) = (keyring.state(key, now), rfc3339(key.created));
            format!("{} {} {state} created {created}{from}{until}{revoked}\n", key.kid, key.env)
        };
        let lines: String = keyring.signing_keys.iter().map(line).collect();
        format!("{lines}session epoch {epoch}")
    };
    super::print(format!("{text}\n").as_bytes())
}

fn passphrase(file: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, Ended> {
    let (input, place): (io::Result<Box<dyn BufRead>>, _) = match file {
        Some(path) => {
            (File::open(path).map(|file| Box::new(io::BufReader::new(file)) as _), path.display().to_string())
        }
        None => (Ok(Box::new(io::stdin().lock())), "standard input".to_owned()),
    };
    if file.is_none() && io::stdin().is_terminal() {
        eprint!("passphrase (shown as typed; --passphrase-file takes it from a file): ");
    }
    let mut line = Zeroizing::new(Vec::with_capacity(2 * PASSPHRASE_BYTES_MAX));
    let read = input.and_then(|mut input| read_line(&mut input, PASSPHRASE_BYTES_MAX as u64, &mut line));
    read.map_err(Fatal::File.at(format_args!("no passphrase from {place}")))?;
    Ok(line)
}

pub(super) fn open_export(path: &Path, passphrase_file: Option<&Path>) -> Result<Keyring, Ended> {
    let sealed = read_bounded(regular_file::open(path), EXPORT_BYTES_MAX).map_err(Fatal::File.at(path.display()))?;
    sealed::open_sealed(&sealed, &passphrase(passphrase_file)?).map_err(Fatal::Configuration.ended())
}

/// Twice what any keyring has.
const EXPORT_BYTES_MAX: u64 = 2 << 20;

fn export(keyring: &Keyring, out: Option<&Path>, passphrase_file: Option<&Path>) -> Result<(), Ended> {
    let passphrase = passphrase(passphrase_file)?;
    let sealed = sealed::seal(keyring, &passphrase, random)?;
    let Some(path) = out else { return super::print(&sealed) };
    regular_file::create(path, 0o600, |file| file.write_all(&sealed)).map_err(Fatal::File.at(path.display()))
}

/// No one types more.
const PASSPHRASE_BYTES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use super::*;
    use clap::Parser;
    use std::os::unix::fs::PermissionsExt;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn run(args: Args) -> ExitCode {
        super::super::exit(super::run(args))
    }

    fn parsed(words: &[&str]) -> Args {
        Cli::try_parse_from(["keys"].iter().chain(words)).map(|cli| cli.args).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_key_id_may_begin_with_a_hyphen_and_folders_stand_anywhere() {
        for kid in ["-hAAAAAAAAA", "--AAAAAAAAA", "-AAAAAAAAAA", "_AAAAAAAAAA"] {
            for words in
                [&["revoke", kid, "--data", "d"][..], &["--data", "d", "revoke", kid], &["revoke", "--data", "d", kid]]
            {
                let args = parsed(words);
                assert_eq!(args.common.place.data.as_deref(), Some("d"));
                assert!(matches!(args.command, Command::Revoke { kid: parsed } if parsed.to_string() == kid));
            }
        }
    }

    #[test]
    fn generate_twice_changes_nothing_and_the_rest_follows() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        let data = folder.path().to_str().unwrap();
        let file = || std::fs::read(keys.join("keyring.json")).unwrap();
        assert_eq!(run(parsed(&["list", "--data", data])), ExitCode::from(78));
        assert_eq!(run(parsed(&["generate", "--data", data])), ExitCode::SUCCESS);
        let first = file();
        assert_eq!(run(parsed(&["generate", "--data", data, "--json"])), ExitCode::SUCCESS);
        assert_eq!(file(), first);
        assert_eq!(run(parsed(&["rotate", "--data", data])), ExitCode::SUCCESS);
        assert_eq!(run(parsed(&["rotate", "session", "--data", data])), ExitCode::SUCCESS);
        let keyring = Keyring::open(&keys).unwrap();
        assert_eq!((keyring.signing_keys.len(), keyring.session_key().epoch), (3, 2));
        let kid = keyring.signing_keys[0].kid.to_string();
        assert_eq!(run(parsed(&["revoke", &kid, "--data", data])), ExitCode::SUCCESS);
        assert_eq!(run(parsed(&["revoke", "AAAAAAAAAAA", "--data", data])), ExitCode::from(1));
        assert!(!folder.path().join("none").exists());
        assert_eq!(run(parsed(&["rotate", "--keys-dir", &format!("{data}/none")])), ExitCode::from(78));
        assert!(!folder.path().join("none").exists(), "a mistyped name makes no folder");
        assert_eq!(run(parsed(&["generate", "--keys-dir", &format!("{data}/keys/keyring.json")])), ExitCode::from(73));
        for (words, says) in [(&["revoke", "zz"][..], "11 characters"), (&["rotate", "--lead-hours", "8761"], "8760")] {
            let error = Cli::try_parse_from(["keys"].iter().chain(words)).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn an_export_opens_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let keys = path("keys");
        std::fs::write(path("short"), "word\n").unwrap();
        std::fs::write(path("long"), "a sentence kept in the safe\r\nand a second line\n").unwrap();
        assert_eq!(run(parsed(&["generate", "--keys-dir", &keys])), ExitCode::SUCCESS);
        let export = |passphrase: &str| {
            let words = ["export", "--keys-dir", &keys, "--out", &path("out"), "--passphrase-file", &path(passphrase)];
            run(parsed(&words))
        };
        assert_eq!(export("missing"), ExitCode::from(74));
        assert_eq!(export("short"), ExitCode::from(2));
        assert_eq!(export("long"), ExitCode::SUCCESS);
        assert_eq!(export("long"), ExitCode::from(74), "what is there is not overwritten");
        let opened = sealed::open_sealed(&std::fs::read(path("out")).unwrap(), b"a sentence kept in the safe").unwrap();
        assert_eq!(opened.hash_key.expose(), Keyring::open(Path::new(&keys)).unwrap().hash_key.expose());

        let import = |file: &str, passphrase: &str| {
            run(parsed(&["import", "--keys-dir", &keys, &path(file), "--passphrase-file", &path(passphrase)]))
        };
        let keyring = Path::new(&keys).join("keyring.json");
        let whole = std::fs::read(&keyring).unwrap();
        assert_eq!(import("out", "long"), ExitCode::from(78), "a good keyring is not overwritten");
        std::fs::write(&keyring, "{").unwrap();
        assert_eq!(import("out", "long"), ExitCode::from(78), "nor is a damaged one");
        assert_eq!(std::fs::read(&keyring).unwrap(), b"{");
        std::fs::remove_dir_all(&keys).unwrap();
        assert_eq!(import("out", "short"), ExitCode::from(78), "another passphrase");
        assert_eq!((import("none", "long"), import("long", "long")), (ExitCode::from(74), ExitCode::from(78)));
        assert!(!keyring.exists());
        assert_eq!(import("out", "long"), ExitCode::SUCCESS);
        assert_eq!(std::fs::read(&keyring).unwrap(), whole);
        assert_eq!(std::fs::metadata(&keyring).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
