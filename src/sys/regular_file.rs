//! Opens a file for reading without ever waiting, and replaces one as a whole. `open(2)` of a pipe waits for its other
//! end, and a start or a reload that waits there hears no signal.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file, where `O_NONBLOCK` changes nothing; an error where it is none.
pub fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("is not a regular file")) }
}

/// All of a file; an error where that is more than `bytes_max`.
pub fn read_bounded(file: io::Result<File>, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = file?;
    // Room for all of it, so that no copy of a secret is left behind by growing.
    let size = file.metadata().map_or(0, |metadata| metadata.len().min(bytes_max));
    let mut bytes = Vec::with_capacity(size as usize + 1);
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it is larger than {bytes_max} bytes, so it is the wrong file")));
    }
    Ok(bytes)
}

/// As [`open`], to read and write it, made with the given mode where there is none; an error where it is a link.
pub fn open_or_create(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(mode);
    let file = options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("is not a regular file")) }
}

/// Makes a new file of the given mode (such as 0o600), and syncs it. Errors: there is something of that name, be it a
/// link, which stays as it is; or what the system or `write` said, and then no part of a file is left.
pub fn create<T, E: From<io::Error>>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    write(&mut file).and_then(|written| file.sync_all().map(|()| written).map_err(E::from)).inspect_err(|_| {
        // The error that matters is the first one.
        let _ = fs::remove_file(path);
    })
}

/// Replaces a file as a whole, with the given mode: after a crash or a failure, there is the old file or the new one.
/// The new one is written aside, synced and renamed, and its folder synced.
/// Errors: what the system or `write` said; the old file then stands and nothing is left beside it. (Only when the very
/// last step fails, the sync of the folder, is the new one in place, and it is not known whether a crash undoes that.)
pub fn replace<T, E: From<io::Error>>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    let name = path.file_name().ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
    let aside = path.with_file_name(format!(".{}.new", name.display()));
    remove(&aside)?;
    let written = create(&aside, mode, write)?;
    fs::rename(&aside, path).inspect_err(|_| _ = fs::remove_file(&aside))?;
    sync_folder_of(path)?;
    Ok(written)
}

/// Removes a file, where there is one.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Syncs the folder that a path lies in: what was made, renamed or removed there then stays so.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
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
