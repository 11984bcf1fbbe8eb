//! onecode: a health-code server that does not fall over.
//!
//! One process on one machine gives every resident of a city a short-lived signed QR code. This page is the map of the
//! house; each room's own page says what it owns and what it never does.
//!
//! ```text
//! cli ──▶ driver ──▶ shard ──▶ service ──▶ http  code  registry  journal  admission
//!  └────▶ observe reads every room's counters; words and limits are shared by all
//! ```
//!
//! Arrows point one way. [`http`], [`code`], [`registry`], [`admission`], [`service`] and [`shard`] are pure: bytes, the time and
//! randomness come in as arguments, bytes and answers go out. They open no socket, read no clock, start no thread and
//! contain no `unsafe`, which the lints and `tests/tidy.rs` hold. So the same state machines run under every driver,
//! under the simulator, in a benchmark and in a fuzzer.
//!
//! # The way of a request
//!
//! 1. A [`driver`] receives bytes on a connection of its shard and lends them to [`shard::Shard::handle_received`].
//! 2. The connection frames a request in place ([`http::head`], [`http::body`]); only the tail of a request that came
//!    in pieces is copied.
//! 3. [`service::Service::handle`] finds the route. For a refresh it checks the session (one MAC over 20 bytes), reads
//!    the resident's record (one or two cache lines, no lock, from whichever shard), and takes this window's payload
//!    from the shard's cache. If it is not there, [`code`] patches a template, signs it, and draws the symbol; the
//!    signature of who was told to come back now may have been made ahead, by any shard ([`service::ahead`]).
//! 4. The answer is copied once, into the connection's send slot behind a fresh `Date`; [`shard::Shard::poll`] hands
//!    the slot to the driver, which owns it while the kernel reads from it, and gives it back with `handle_sent`.
//!
//! A code is a pure function of resident, status version, window, life and key, so nothing is shared on this path.
//!
//! Where the listener speaks TLS, `shard/secure.rs` stands around the connection: it opens what came before the connection
//! reads it, and seals what that answers; no driver knows of it.
//!
//! # The way of a write
//!
//! Each resident has one owning shard, the only writer of that record. What a request needs from an owner leaves its
//! shard as a [`service::Ask`] through a bounded queue ([`shard::mailbox`]) and comes back as a [`service::Answer`]; the
//! connection waits, the shard does not. A full queue is an answer too: 503, with a time to come back.
//!
//! 1. A request is checked; a body of lines ([`service::Stream`]) is checked line by line, and several lines travel to
//!    their owner in one ask. While too many lines wait for their answers the connection reads no further.
//! 2. The owner reserves room in the registry and appends a [`journal::Record`] to its lane; a scan, or an operator's
//!    call, goes into the lane of the shard that it came to. What is to be done then waits in a queue beside it.
//! 3. The journal's thread syncs what lies in all lanes, says how many of each are on disk, and rings.
//! 4. [`service::Service::poll_durable`] applies what is durable, in the lane's order, and only then is it answered: every
//!    refresh after the answer shows it, on every shard.
//!
//! After the first failed write or sync nothing is acknowledged (503, `journal-failed`); refreshes and verdicts go on.
//!
//! A thread of its own (`cli/fold.rs`) folds the journal: it writes the live table as a new snapshot, once the shards have
//! applied all up to the record that the snapshot names, and deletes segments that are folded and old enough. A start
//! loads the snapshot and applies the records after that one ([`service::apply`]).
//!
//! When more come than can be served, [`admission`] says before a body is read who waits, who is refused, who is dropped.
//!
//! # What happens when something fails
//!
//! - What the network sends wrong is an error to the peer, named in its `type`; never a panic.
//! - Each limit is in [`limits`] with its unit in its name, and reaching it gives a clear answer.
//! - A panic, or a shard's thread that ends, ends the whole process with an exit status of its own: never a server
//!   half alive. What was signed stays good, and the next start makes the same codes again.
//! - SIGTERM drains: what was asked is answered, then the process exits 0; the admin listener says 503 until then.
//!
//! # Assumptions
//!
//! Linux on x86-64, 64-bit. The clock is right to within a minute. The data folder belongs to one process, which holds
//! its lock; a file is replaced by writing it aside, syncing it, renaming it, and syncing its folder.

pub mod admission;
pub mod cli;
pub mod code;
pub mod config;
pub mod driver;
pub mod http;
pub mod journal;
pub mod limits;
pub mod observe;
pub mod registry;
pub mod service;
pub mod shard;
pub mod sys;
pub mod words;
