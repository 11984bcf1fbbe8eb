//! The `onecode` binary; everything is in the library.

fn main() -> std::process::ExitCode {
    onecode::cli::main()
}
