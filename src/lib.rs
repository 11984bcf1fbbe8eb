//! onecode: a health-code server that does not fall over.
//!
//! One process on one machine gives every resident of a city a short-lived signed QR code. This page is the map of the
//! house; each room's own page says what it owns and what it never does.
//!
//! ```text
//! cli ──▶ driver ──▶ shard ──▶ service ──▶ http  code  registry
//!  └────▶ observe reads every room's counters; words and limits are shared by all
//! ```
//!
//! Arrows point one way. [`http`], [`code`], [`registry`], [`service`] and [`shard`] are pure: bytes, the time and
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
//!    from the shard's cache. If it is not there, [`code`] patches a template, signs it, and draws the symbol.
//! 4. The answer is copied once, into the connection's send slot behind a fresh `Date`; [`shard::Shard::poll`] hands
//!    the slot to the driver, which owns it while the kernel reads from it, and gives it back with `handle_sent`.
//!
//! A code is a pure function of resident, status version, window, life and key. Every shard and every node with the key
//! makes the same bytes, so nothing is shared on this path, and a storm of reloads changes nothing.
//!
//! # The way of a write
//!
//! Each resident has one owning shard, the only writer of that record. What a request needs from an owner (an assertion
//! to be used up, sessions to be ended) leaves its shard as a [`service::Ask`] through a bounded queue
//! ([`shard::mailbox`]) and comes back as a [`service::Answer`]; the connection waits, the shard does not. A full queue
//! is an answer too: 503, with a time to come back.
//!
//! # What happens when something fails
//!
//! - What the network sends wrong is an error to the peer, named in its `type`; never a panic.
//! - Each limit is in [`limits`] with its unit in its name, and reaching it gives a clear answer.
//! - A panic, or a shard's thread that ends, ends the whole process with an exit status of its own: never a server
//!   half alive. What was signed stays good, and the next start makes the same codes again.
//! - Once the process has started, no refresh touches a disk.
//! - SIGTERM drains: what was asked is answered, then the process exits 0.
//!
//! # Assumptions
//!
//! Linux on x86-64, 64-bit. The clock is right to within a minute. The data folder belongs to one process, which holds
//! its lock; a file is replaced by writing it aside, syncing it, renaming it, and syncing its folder.

pub mod cli;
pub mod code;
pub mod config;
pub mod driver;
pub mod http;
pub mod limits;
pub mod observe;
pub mod registry;
pub mod service;
pub mod shard;
pub mod sys;
pub mod words;
