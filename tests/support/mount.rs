//! A disk of our own: a file system in a file.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::wait_until;

/// An ext4 of its own over a loop device. It is gone with this.
pub struct Disk {
    image: PathBuf,
    /// Where it is mounted.
    pub mount: PathBuf,
}

impl Disk {
    /// Makes and mounts one of so many MiB. `None`, and a line that says so, only where this may not be done.
    pub fn mount(folder: &Path, mebibytes: u64) -> Option<Disk> {
        let disk = Disk { image: folder.join("image"), mount: folder.join("mount") };
        File::create(&disk.image).unwrap().set_len(mebibytes << 20).unwrap();
        fs::create_dir(&disk.mount).unwrap();
        let (image, mount) = (disk.image.to_str().unwrap(), disk.mount.to_str().unwrap());
        let made = run("mkfs.ext4", &["-q", "-m", "0", image]);
        assert!(made.status.success(), "{made:?}");
        let mounted = run("mount", &["-o", "loop", image, mount]);
        if mounted.status.success() {
            return Some(disk);
        }
        let why = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
        let forbidden = ["superuser", "only root", "permission denied", "not permitted", "loop device"];
        assert!(forbidden.iter().any(|word| why.to_lowercase().contains(word)), "{why}");
        eprintln!("LEFT OUT: a file system may not be mounted here: {why}");
        None
    }

    /// Takes all the space that is left, in a file whose path is returned.
    pub fn fill(&self) -> PathBuf {
        let path = self.mount.join("filler");
        let mut file = File::create(&path).unwrap();
        let chunk = vec![1; 1 << 16];
        loop {
            // Synced, since a file system may promise more than it has.
            match file.write(&chunk).and_then(|_| file.sync_data()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return path,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Takes it away: from here on, whoever reads or writes it gets an I/O error.
    pub fn take_away(&self, once_read: &Path) {
        let (input, before) = (format!("if={}", once_read.display()), fs::read(once_read).unwrap());
        assert!(run("sync", &["--file-system", self.mount.to_str().unwrap()]).status.success());
        File::options().write(true).open(&self.image).unwrap().set_len(0).unwrap();
        wait_until("the disk is gone", || {
            // What the kernel still has of the file in memory would hide it; pages in use are not let go of at once.
            run("dd", &[&input, "of=/dev/null", "iflag=nocache", "count=0", "status=none"]);
            // A loop device gives an error, or zeros, for what its file has no more.
            fs::read(once_read).map_or(true, |now| now != before)
        });
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.mount).output();
    }
}

fn run(command: &str, arguments: &[&str]) -> Output {
    Command::new(command).args(arguments).output().unwrap_or_else(|error| panic!("{command}: {error}"))
}
