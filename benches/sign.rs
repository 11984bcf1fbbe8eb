//! The Ed25519 signature of a code by each library at hand, so that anyone can see which is the fastest on his machine.
//!
//! `src/sys/ed25519.rs` has the winner here. With `--count` under `valgrind` the total of C allocations shows too.

mod support;

use aws_lc_rs::signature::Ed25519KeyPair;
use ed25519_dalek::Signer as _;
use onecode::sys::ed25519::Signer;
use support::Bench;

/// What is signed of a code of `CN-610100`.
const MESSAGE_BYTES: usize = 77;

fn main() {
    let bench = Bench::from_arguments();
    let seed = [7; 32];
    let mut message = [0; MESSAGE_BYTES];
    let mut next = |call: usize| {
        message[..8].copy_from_slice(&call.to_le_bytes());
        message
    };
    let signer = Signer::from_seed(&seed);
    bench.case("ours: ED25519_sign of AWS-LC", |call| signer.sign(&next(call)));
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    bench.case("aws-lc-rs", |call| pair.sign(&next(call)));
    let dalek = ed25519_dalek::SigningKey::from_bytes(&seed);
    bench.case("ed25519-dalek", |call| dalek.sign(&next(call)));
    let expanded = ed25519_dalek::hazmat::ExpandedSecretKey::from(&seed);
    let public_key = dalek.verifying_key();
    bench.case("ed25519-dalek, key expanded beforehand", |call| {
        ed25519_dalek::hazmat::raw_sign::<sha2::Sha512>(&expanded, &next(call), &public_key)
    });
}
