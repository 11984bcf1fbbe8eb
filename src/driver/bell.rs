//! Wakes a shard's thread from another one: a byte through a socket pair, which every driver can wait for.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

/// The end that is rung, from any thread.
pub struct Bell(UnixStream);

/// The end that the shard's driver reads.
pub struct BellPull(pub UnixStream);

/// A bell and its pull.
///
/// # Errors
/// When the process has no file descriptors left.
pub fn bell() -> io::Result<(Bell, BellPull)> {
    let (bell, pull) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    pull.set_nonblocking(true)?;
    Ok((Bell(bell), BellPull(pull)))
}

impl Bell {
    /// Wakes the shard.
    pub fn ring(&self) {
        // A full pipe means that the shard has not heard the last rings yet; it will see all of its queue then. A
        // closed one means that it has ended.
        let _ = (&self.0).write(&[1]);
    }
}
