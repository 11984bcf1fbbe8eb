//! The tests' support names the server's program, which no target here starts and which is not built with them.

fn main() {
    println!("cargo::rustc-env=CARGO_BIN_EXE_onecode=none");
    println!("cargo::rerun-if-changed=build.rs");
}
