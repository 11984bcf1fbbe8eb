//! Wakes a shard's thread from another one: a byte through a socket pair, which every driver can wait for. The
//! journal's thread waits in its own way and is one more bell for the shards.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::Thread;

/// The end that is rung, from any thread.
#[derive(Clone, derive_more::From)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Bell {
    Shard(Arc<UnixStream>),
    Journal(Thread),
}

/// A shard's bell, and the end that its driver reads. Errors when the process has no file descriptors left.
pub fn bell() -> io::Result<(Bell, UnixStream)> {
    let (bell, pull) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    pull.set_nonblocking(true)?;
    Ok((Bell::Shard(Arc::new(bell)), pull))
}

impl Bell {
    /// Wakes its thread.
    pub fn ring(&self) {
        match self {
            // With a full pipe the shard has yet to hear the last rings, and then sees all; with a closed one it has ended.
            Bell::Shard(socket) => drop((&**socket).write(&[1])),
            Bell::Journal(thread) => thread.unpark(),
        }
    }
}
