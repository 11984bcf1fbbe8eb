//! What `serve --demo` makes: synthetic residents, marked as test, and a session for each of them.

use std::fs;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Ended, Fatal, counted};
use crate::config::Config;
use crate::registry::{DataFolder, HashKey, Table, demo, replace_file};
use crate::service::Settings;
use crate::service::device::{Device, Kind};
use crate::service::session::{self, Session};
use crate::words::Now;

/// Marks a data folder as the demo's own; holds the number of its residents.
const MARK: &str = "demo";
/// Where a load script finds sessions.
const SESSIONS: &str = "sessions.txt";
/// Where a scanner's token is, and that of a sampling post.
const TOKENS: [(&str, Kind); 2] = [("scanner-token.txt", Kind::Scanner), ("post-token.txt", Kind::Post)];
const RESIDENTS: u32 = 100_000;

pub(super) struct Demo {
    pub(super) residents: u32,
    folder: PathBuf,
}

/// Made by us in the folder for temporary files, and removed at the end, whichever that is.
static TEMPORARY: OnceLock<PathBuf> = OnceLock::new();

/// Removes the demo's temporary folder, if there is one; before the process ends.
pub(super) fn remove_temporary() {
    if let Some(folder) = TEMPORARY.get() {
        // What is left in the folder for temporary files is the system's to clear.
        let _ = fs::remove_dir_all(folder);
    }
}

pub(super) fn is_demo(folder: &Path) -> bool {
    folder.join(MARK).exists()
}

/// Opens the demo's folder: a temporary one, or the one that was given, empty or made by the demo before.
pub(super) fn open(config: &Config, wanted: Option<u32>, now: Now) -> Result<(DataFolder, Demo), Ended> {
    let path = if config.is_default("data") {
        let name = format!("onecode-demo-{}-{}", std::process::id(), now.unix_ms);
        TEMPORARY.get_or_init(|| std::env::temp_dir().join(name)).clone()
    } else {
        config.data.clone()
    };
    // A lock alone is what a start leaves that did not come to more, such as on a full disk.
    let occupied = || fs::read_dir(&path).is_ok_and(|all| all.flatten().any(|entry| entry.file_name() != "lock"));
    let folder = DataFolder::open(&path, std::process::id(), "onecode serve")?;
    let other = "--demo takes an empty data folder or one of its own, and leaves others alone";
    Fatal::Configuration.unless(!occupied() || is_demo(&path), path.display(), other)?;
    let mark = path.join(MARK);
    let residents = match fs::read_to_string(&mark) {
        Ok(text) => {
            let no_mark = |_| Fatal::Configuration.at(mark.display())("not the demo's mark");
            let made: u32 = text.trim().parse().map_err(no_mark)?;
            let held = counted(made.into(), "resident");
            let wrong = format_args!("it holds a demo of {held}; leave out --residents, or take an empty folder");
            Fatal::Configuration.unless(wanted.is_none_or(|wanted| wanted == made), path.display(), wrong)?;
            made
        }
        Err(_) => {
            let residents = wanted.unwrap_or(RESIDENTS);
            // Before anything else is made: a start that fails on the way is then taken up by the next one.
            replace_file(&mark, 0o600, |file| writeln!(file, "{residents}"))
                .map_err(Fatal::Folder.at(mark.display()))?;
            residents
        }
    };
    Ok((folder, Demo { residents, folder: path }))
}

impl Demo {
    pub(super) fn table(&self, key: &HashKey, now: Now) -> Result<Table, Ended> {
        let table = Table::new(self.residents as usize)?;
        let written = demo::records(self.residents, key, now.unix_ms).try_for_each(|record| table.write(&record));
        written.map(|()| table).map_err(Fatal::System.at("the demo's registry"))
    }

    /// A fresh session for each resident in `sessions.txt`, one a line and all of one length, so that a load script reads
    /// line N by its offset; and the tokens of two devices beside it.
    pub(super) fn write_tokens(&self, settings: &Settings, table: &Table, now: Now) -> Result<(), Ended> {
        let expires_unix_s = u32::try_from(now.unix_s() + settings.session_s).unwrap_or(u32::MAX);
        for (id, (name, kind)) in (1..).zip(TOKENS) {
            let token = settings.device_key.mint(&Device { id, kind, expires_unix_s });
            replace_file(&self.folder.join(name), 0o600, |file| writeln!(file, "{token}"))
                .map_err(Fatal::File.at(name))?;
        }
        let written = replace_file(&self.folder.join(SESSIONS), 0o600, |file| {
            let mut file = BufWriter::new(file);
            (1..=self.residents).try_for_each(|number| {
                let (resident, _) = settings.hash_key.number(&demo::id_number(number));
                let number = table.read(resident).map_or(0, |record| record.session);
                let session = Session { resident, number, expires_unix_s };
                writeln!(file, "{}", session::mint(&settings.session_key, &session))
            })?;
            file.flush()
        });
        written.map_err(Fatal::File.at(SESSIONS))
    }

    /// Says where to look, and how to ask.
    pub(super) fn announce(&self, (scheme, address): (&str, SocketAddr), (admin_scheme, admin): (&str, SocketAddr)) {
        let (sessions, scanner) = (self.folder.join(SESSIONS), self.folder.join(TOKENS[0].0));
        let (sessions, scanner) = (sessions.display(), scanner.display());
        let trusted = self.folder.join(super::tls::DEMO_CERTIFICATE);
        let own = scheme == "https" && trusted.exists();
        let trust = if own { format!(" --cacert {}", trusted.display()) } else { String::new() };
        let residents = counted(u64::from(self.residents), "synthetic resident");
        // Nobody may be listening, which is no reason not to serve.
        let _ = super::print(
            format!(
                "onecode demo: {residents}, test codes only\n\
                 \x20 page      {scheme}://{address}/\n\
                 \x20 admin     {admin_scheme}://{admin}/ops  (also /metrics and /status.json)\n\
                 \x20 sessions  {sessions}  (one a line)\n\
                 \x20 scanner   {scanner}  (the token of a door; a sampling post's is beside it)\n\
                 \x20 curl{trust} -H \"Authorization: Bearer $(head -n 1 {sessions})\" {scheme}://{address}/person/app/refreshQRCode\n"
            )
            .as_bytes(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_first_start_that_failed_is_taken_up_by_the_next() {
        let outer = tempfile::tempdir().unwrap();
        let config = config::load(None, [("data", "--data", outer.path().to_str())]).unwrap();
        let open = |wanted| open(&config, wanted, super::super::now()).map(|(_, demo)| demo.residents);
        fs::write(outer.path().join("lock"), "").unwrap();
        assert_eq!(open(Some(7)).unwrap(), 7);
        assert!(is_demo(outer.path()) && !outer.path().join("registry.snapshot").exists());
        fs::create_dir(outer.path().join("keys")).unwrap();
        assert_eq!(open(None).unwrap(), 7);
        fs::remove_file(outer.path().join(MARK)).unwrap();
        assert_eq!(open(None).unwrap_err().0, Fatal::Configuration, "a folder of others");
        let other = DataFolder::open(outer.path(), 7, "onecode serve").unwrap();
        let (fatal, reason) = open(None).unwrap_err();
        assert!(fatal == Fatal::Held && reason.contains("process 7 (onecode serve)"), "half made by another: {reason}");
        drop(other);
    }
}
