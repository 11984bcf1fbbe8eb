//! The `unsafe` that is not the network's: one small file for each reason, each behind safe functions.

pub mod arena;
pub mod ed25519;
pub mod simd;
