//! The data folder: made if missing, held by one process at a time, its files only ever replaced as wholes.
//!
//! The hold is an advisory lock (`flock(2)`) on the folder itself, which nobody can remove beneath its holder, and which
//! the kernel drops with that one however it ends. The file `lock` only tells the next one who it is.

use std::fmt::Display;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::sys::regular_file;
pub use crate::sys::regular_file::replace as replace_file;
use crate::words::{Ended, Fatal};

/// The name of the registry's file in the data folder.
pub const SNAPSHOT_FILE: &str = "registry.snapshot";

/// An open data folder. It is free for others when this is dropped.
#[derive(Debug)]
pub struct DataFolder {
    /// Where it is.
    pub path: PathBuf,
    /// Holds the folder by being open, here or, handed on, in another process.
    pub held: File,
}

impl DataFolder {
    /// Makes the folder if it is missing (mode 0700, with its parents), and takes hold of it. `pid` and
    /// `command` are what a second opener is told, such as `onecode import`.
    /// Errors: the folder cannot be made or written, others than its owner can write it, or another process holds it.
    pub fn open(path: &Path, pid: u32, command: &str) -> Result<DataFolder, Ended> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path).and_then(|()| File::open(path));
        let made = made.and_then(|folder| Ok((folder.metadata()?.mode() & 0o777, folder)));
        let (mode, folder) = made.map_err(unusable(path))?;
        // They could replace what is in it.
        let (is_own, place) = (mode & 0o022 == 0, format_args!("the data folder {}", path.display()));
        let wrong = format_args!("mode {mode:04o}, others can write it: run chmod go-w {}", path.display());
        Fatal::Configuration.unless(is_own, place, wrong)?;
        DataFolder::hold(path, folder, pid, command)
    }

    /// Takes hold of the folder by a descriptor of it, be it one by which another process holds it.
    /// Errors: it cannot be written, or is held by other means.
    pub fn hold(path: &Path, folder: File, pid: u32, command: &str) -> Result<DataFolder, Ended> {
        // Not truncated on opening: until the lock is ours the text in it is another's.
        let lock = regular_file::open_or_create(&path.join("lock"), 0o600);
        let mut lock = lock.map_err(|error| unusable(path)(format!("lock: {error}")))?;
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy(path, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(unusable(path)(error)),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{pid} {command}")).map_err(unusable(path))?;
        // What a crash has left of a replacement; that it stays harms nobody.
        for aside in [".registry.snapshot.new", ".rejects.csv.new"] {
            let _ = fs::remove_file(path.join(aside));
        }
        Ok(DataFolder { path: path.to_owned(), held: folder })
    }
}

/// Whether there is anything of that name, be it a link that leads nowhere or what cannot be looked at.
pub fn is_there(path: &Path) -> bool {
    !fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// What the holder wrote into its lock file; it may not have come to that yet.
fn busy(path: &Path, lock: &mut File) -> Ended {
    let mut text = String::new();
    // An unreadable text leaves the holder unnamed, which is what the message then says.
    let _ = lock.take(1_000).read_to_string(&mut text);
    let holder = text.trim_end().split_once(' ').map_or_else(
        || "another process".to_owned(),
        |(pid, command)| format!("process {pid} ({command}); stop that first"),
    );
    (Fatal::Held, format!("the data folder {} is held by {holder}", path.display()))
}

fn unusable<E: Display>(path: &Path) -> impl Fn(E) -> Ended {
    Fatal::Folder.at(format!("the data folder {} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_missing_folder_is_made_for_its_owner_alone() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("a/b");
        let _folder = DataFolder::open(&path, std::process::id(), "onecode test").unwrap();
        assert_eq!((mode(&path), mode(&path.join("lock"))), (0o700, 0o600));
    }

    #[test]
    fn a_second_opener_is_told_who_holds_it_until_that_one_is_gone() {
        let outer = tempfile::tempdir().unwrap();
        let held = DataFolder::open(outer.path(), std::process::id(), "onecode serve").unwrap();
        let named = DataFolder::open(outer.path(), std::process::id(), "onecode import").unwrap_err().1;
        assert!(named.contains(&format!("held by process {} (onecode serve)", std::process::id())), "{named}");
        // Nor does it help to remove what looks like a lock that somebody has left.
        fs::remove_file(outer.path().join("lock")).unwrap();
        let second = DataFolder::open(outer.path(), std::process::id(), "onecode serve");
        assert!(second.unwrap_err().1.ends_with("is held by another process"));
        drop(held);
        DataFolder::open(outer.path(), std::process::id(), "x").unwrap();
    }

    #[test]
    fn a_hold_is_handed_on_without_a_gap() {
        let outer = tempfile::tempdir().unwrap();
        let before = DataFolder::open(outer.path(), 7, "onecode serve").unwrap();
        let after = DataFolder::hold(outer.path(), before.held.try_clone().unwrap(), 8, "onecode serve").unwrap();
        drop(before);
        let error = DataFolder::open(outer.path(), 9, "x").unwrap_err().1;
        assert!(error.contains("process 8 (onecode serve)"), "{error}");
        drop(after);
        DataFolder::open(outer.path(), 9, "x").unwrap();
    }

    #[test]
    fn a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays() {
        let outer = tempfile::tempdir().unwrap();
        let (data, target) = (outer.path().join("data"), outer.path().join("target"));
        fs::create_dir(&data).unwrap();
        fs::write(&target, "of others").unwrap();
        std::os::unix::fs::symlink(&target, data.join("lock")).unwrap();
        let error = DataFolder::open(&data, std::process::id(), "x").unwrap_err().1;
        assert!(error.contains("lock: "), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"of others");
    }

    #[test]
    fn what_a_crash_left_aside_is_removed() {
        let outer = tempfile::tempdir().unwrap();
        let names = [".rejects.csv.new", ".registry.snapshot.new", ".hidden", "a.new"];
        names.iter().for_each(|name| fs::write(outer.path().join(name), "").unwrap());
        let _held = DataFolder::open(outer.path(), std::process::id(), "x").unwrap();
        assert_eq!(names.map(|name| outer.path().join(name).exists()), [false, false, true, true]);
    }

    #[test]
    fn an_unusable_folder_is_named() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("file");
        fs::write(&path, "").unwrap();
        let error = DataFolder::open(&path, std::process::id(), "x").unwrap_err().1;
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused_by_name() {
        let outer = tempfile::tempdir().unwrap();
        for (mode, refused) in [(0o755, false), (0o775, true), (0o702, true)] {
            fs::set_permissions(outer.path(), fs::Permissions::from_mode(mode)).unwrap();
            let opened = DataFolder::open(outer.path(), std::process::id(), "x");
            assert_eq!(opened.is_err(), refused);
            assert!(opened.map_or_else(|error| error.1.contains(outer.path().to_str().unwrap()), |_| true));
        }
    }

    #[test]
    fn a_replacement_is_whole_or_not_at_all() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("key");
        replace_file(&path, 0o600, |file| file.write_all(b"old")).unwrap();
        fs::write(outer.path().join(".key.new"), "left by a crash").unwrap();
        let failed: io::Result<()> = replace_file(&path, 0o600, |file| {
            file.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        replace_file(&path, 0o640, |file| file.write_all(b"new")).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"new".to_vec(), 0o640));
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1, "nothing is left aside");
    }
}
