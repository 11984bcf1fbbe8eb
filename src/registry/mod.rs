//! The registry: who has which status. It owns the resident's record, the table that every shard reads, the file
//! that keeps it, and the way in from CSV.
//!
//! It reads no clock and opens no socket; its only touch of the world is the data folder: its lock and its files.
//! ID numbers pass through here and stay nowhere: what is kept is their keyed hash ([`id_number`]).
//!
//! `cli` opens the [`data_folder`], loads a [`snapshot`] into a [`table`] and hands that to the shards; `import`
//! merges a CSV file into such a table and stores it again; `demo` makes residents that nobody is.

#![forbid(unsafe_code)]

pub mod data_folder;
pub mod demo;
pub mod id_number;
pub mod import;
pub mod snapshot;
pub mod table;
