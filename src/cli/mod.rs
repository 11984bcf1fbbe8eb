//! The commands, one file each.

/// Runs the command that the arguments name and returns its exit status.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
