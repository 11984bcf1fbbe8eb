//! Opens a file for reading without ever waiting: `open(2)` of a pipe waits for its other end, and a start or a reload
//! that waits there hears no signal.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file, where `O_NONBLOCK` changes nothing.
///
/// # Errors
/// What the system said, or that it is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("is not a regular file")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&*pipe, folder.path(), Path::new("/dev/zero")] {
            assert_eq!(open(path).unwrap_err().to_string(), "is not a regular file", "{}", path.display());
        }
        assert!(open(Path::new("/proc/self/stat")).is_ok() && open(&folder.path().join("none")).is_err());
    }
}
