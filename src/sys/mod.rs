//! The `unsafe` that is not the network's, and what only flags of the system can say: a small file for each reason.

pub mod arena;
pub mod background;
pub mod cells;
pub mod ed25519;
pub mod open_files;
pub mod prefetch;
pub mod regular_file;
pub mod simd;
