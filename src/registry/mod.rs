//! The registry: who has which status. Its only touch of the world is the data folder: its lock and its files. ID
//! numbers pass through here and stay nowhere: what is kept is their keyed hash ([`id_number`]).
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

pub use data_folder::{DataFolder, SNAPSHOT_FILE, is_there, replace_file};
pub use id_number::{HashKey, IdNumber};
pub use snapshot::{Meta, Snapshot};
pub use table::{Record, Table};
