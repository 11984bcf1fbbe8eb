//! The durable log of accepted writes.
//!
//! A shard appends a [`Record`] through its [`Port`] and goes on; the journal's thread writes what all shards have
//! appended in batches, syncs, and only then tells each shard how many of its records are on disk. State changes by
//! applying records once they are durable: at run time by the shard that appended them, at start in their order.

#![forbid(unsafe_code)]

pub(crate) mod log;
pub(crate) mod port;
pub(crate) mod reading;
mod record;
pub(crate) mod recover;
pub(crate) mod rewrite;
pub(crate) mod segment;
#[cfg(test)]
mod tests;
pub mod writer;

pub use log::Counters;
pub use port::{Lane, Port, Refused, Shut};
pub use record::Record;
pub use recover::End;
pub(crate) use recover::{Entry, RecoverError};
pub use writer::{Handle, Writer, start};
