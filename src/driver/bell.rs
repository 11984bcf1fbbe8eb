//! Wakes a shard's thread from another one: a byte through a socket pair, which every driver can wait for. The
//! journal's thread waits in its own way and is one more bell for the shards.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::journal::Doorbell;

/// The end that is rung, from any thread.
pub struct Bell(Wake);

enum Wake {
    Shard(UnixStream),
    Journal(Arc<Doorbell>),
}

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
    Ok((Bell(Wake::Shard(bell)), BellPull(pull)))
}

impl Bell {
    /// Wakes its thread.
    pub fn ring(&self) {
        match &self.0 {
            // A full pipe means that the shard has not heard the last rings yet; it will see all of its queue then. A
            // closed one means that it has ended.
            Wake::Shard(socket) => drop((&*socket).write(&[1])),
            Wake::Journal(doorbell) => doorbell.ring(),
        }
    }
}

impl From<Arc<Doorbell>> for Bell {
    fn from(doorbell: Arc<Doorbell>) -> Bell {
        Bell(Wake::Journal(doorbell))
    }
}
