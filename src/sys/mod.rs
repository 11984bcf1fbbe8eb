//! The `unsafe` that is not the network's, and what only the system's own flags can say: one small file for each reason,
//! each behind safe functions.

pub mod arena;
pub mod background;
pub mod cells;
pub mod ed25519;
pub mod open_files;
pub mod prefetch;
pub mod regular_file;
pub mod simd;
