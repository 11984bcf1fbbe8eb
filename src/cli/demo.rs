//! What `serve --demo` makes: synthetic residents, marked as test, and a session for each of them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Ended, Fatal, counted, serve, snapshot_refused};
use crate::config::Config;
use crate::registry::data_folder::{DataFolder, replace_file};
use crate::registry::demo;
use crate::registry::snapshot;
use crate::registry::table::Table;
use crate::service::Settings;
use crate::service::session::{self, Session};
use crate::words::Now;

/// Marks a data folder as the demo's own; holds the number of its residents.
const MARK: &str = "demo";
/// Where a load script finds sessions.
const SESSIONS: &str = "sessions.txt";
const RESIDENTS: u32 = 100_000;

/// A demo in its data folder.
pub(super) struct Demo {
    /// How many synthetic residents there are.
    pub(super) residents: u32,
    snapshot: PathBuf,
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

/// Whether the demo has made this folder.
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
    let occupied = fs::read_dir(&path).is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name() != "lock"));
    if occupied && !is_demo(&path) {
        let reason =
            format!("{}: --demo takes an empty data folder or one of its own, and leaves others alone", path.display());
        return Err((Fatal::Configuration, reason));
    }
    let folder = serve::open_folder_at(&path)?;
    let residents = match fs::read_to_string(path.join(MARK)) {
        Ok(text) => {
            let made: u32 = text
                .trim()
                .parse()
                .map_err(|_| (Fatal::Configuration, format!("{}: not the demo's mark", path.join(MARK).display())))?;
            if wanted.is_some_and(|wanted| wanted != made) {
                let reason = format!(
                    "{} holds a demo of {}; leave out --residents, or take an empty folder",
                    path.display(),
                    counted(made.into(), "resident")
                );
                return Err((Fatal::Configuration, reason));
            }
            made
        }
        Err(_) => {
            let residents = wanted.unwrap_or(RESIDENTS);
            // Before anything else is made: a start that fails on the way is then taken up by the next one.
            replace_file(&path.join(MARK), 0o600, |file| writeln!(file, "{residents}"))
                .map_err(|error| (Fatal::File, format!("{}: {error}", path.join(MARK).display())))?;
            residents
        }
    };
    let demo = Demo { residents, snapshot: folder.snapshot_path(), folder: path };
    Ok((folder, demo))
}

impl Demo {
    /// The demo's residents, made now or before, and a fresh session for each in `sessions.txt`.
    pub(super) fn registry(&self, settings: &Settings, now: Now) -> Result<Table, Ended> {
        let failed = |what: &str, error: &dyn std::fmt::Display| (Fatal::File, format!("{what}: {error}"));
        let key_id = settings.hash_key.id();
        let capacity =
            (self.residents as usize + self.residents as usize / 4).max(crate::limits::REGISTRY_RESIDENTS_MIN);
        let registry = if self.snapshot.exists() {
            let loaded = snapshot::Snapshot::open(&self.snapshot, key_id).and_then(|snapshot| snapshot.load(capacity));
            loaded.map_err(|error| snapshot_refused(&error))?
        } else {
            let registry = Table::with_capacity(capacity);
            for record in demo::records(self.residents, &settings.hash_key, now.unix_ms) {
                registry.write(&record).map_err(|error| failed("the demo's registry", &error))?;
            }
            snapshot::store(&self.snapshot, key_id, now.unix_ms, registry.sorted())
                .map_err(|error| snapshot_refused(&error))?;
            registry
        };
        self.write_sessions(settings, now).map_err(|error| failed(SESSIONS, &error))?;
        Ok(registry)
    }

    /// One session a line, all lines of one length, so that a load script reads line N by its offset.
    fn write_sessions(&self, settings: &Settings, now: Now) -> std::io::Result<()> {
        let expires_unix_s = u32::try_from(now.unix_s() + settings.session_s).unwrap_or(u32::MAX);
        replace_file(&self.folder.join(SESSIONS), 0o600, |file| {
            (1..=self.residents).try_for_each(|number| {
                let (resident, _) = settings.hash_key.number(&demo::id_number(number));
                let session = Session { resident, number: 0, expires_unix_s };
                file.write_all(&session::mint(&settings.session_key, &session))?;
                file.write_all(b"\n")
            })
        })
    }

    /// Says where to look, and how to ask.
    pub(super) fn announce(&self, address: SocketAddr, admin: SocketAddr) {
        let sessions = self.folder.join(SESSIONS);
        let sessions = sessions.display();
        serve::say(&[
            format!("onecode demo: {}, test codes only", counted(u64::from(self.residents), "synthetic resident")),
            format!("  page      http://{address}/"),
            format!("  admin     http://{admin}/status.json  and /metrics"),
            format!("  sessions  {sessions}  (one a line)"),
            format!(
                "  curl -H \"Authorization: Bearer $(head -n 1 {sessions})\" http://{address}/person/app/refreshQRCode"
            ),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Overrides};

    #[test]
    fn a_first_start_that_failed_is_taken_up_by_the_next() {
        let outer = tempfile::tempdir().unwrap();
        let flags = Overrides { data: Some(outer.path().to_owned()), ..Overrides::default() };
        let config = config::load(None, std::iter::empty(), flags).unwrap();
        let open = |wanted| open(&config, wanted, super::super::now()).map(|(_, demo)| demo.residents);
        fs::write(outer.path().join("lock"), "").unwrap();
        assert_eq!(open(Some(7)).unwrap(), 7);
        assert!(is_demo(outer.path()) && !outer.path().join("registry.snapshot").exists());
        fs::create_dir(outer.path().join("keys")).unwrap();
        assert_eq!(open(None).unwrap(), 7);
        fs::remove_file(outer.path().join(MARK)).unwrap();
        assert_eq!(open(None).unwrap_err().0, Fatal::Configuration, "a folder of others");
    }
}
