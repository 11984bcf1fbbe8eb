//! What is fuzzed. Each target is one function of bytes that asserts what must hold for any bytes, and prints nothing.
//! The fuzzer and `tests/fuzz.rs` call the same functions.

pub mod connection;
pub mod head;
pub mod proxy;
pub mod recovery;
pub mod session;
pub mod verify;

/// A name, which is also that of its corpus, and what is run.
type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const ALL: [Target; 6] = [
    ("head", head::run),
    ("connection", connection::run),
    ("proxy", proxy::run),
    ("session", session::run),
    ("verify", verify::run),
    ("recovery", recovery::run),
];

/// A generator that the input itself seeds, so that an input is all that a find needs.
fn random_of(data: &[u8]) -> fastrand::Rng {
    fastrand::Rng::with_seed(u64::from(crc32c::crc32c(data)))
}

/// `data` shown as text, for an assertion that fails.
fn shown(data: &[u8]) -> String {
    data.escape_ascii().to_string()
}
