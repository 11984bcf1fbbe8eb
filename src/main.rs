//! The `onecode` binary; everything is in the library.

/// The allocator for what is not hot: start-up, the control plane, the commands. A warm request allocates nothing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    onecode::cli::main()
}
