//! onecode: a health-code server that does not fall over.

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

/// The allocator for what is not hot: start-up, the control plane, the commands. A warm request allocates nothing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
