//! What the parts of a code cost in the libraries that peers use, in nanoseconds a call, as one JSON object: the bench
//! sets the server's own parts beside them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::Ed25519KeyPair;
use ed25519_dalek::{Signer, SigningKey};
use qrcode::{EcLevel, QrCode};

fn main() {
    let claims = peers::claims(1, 1, peers::Times::now(1));
    let code = peers::text(&[&claims[..], &[0x58, 0x40], &[0x5a; 64]].concat());
    let aws_lc = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes are a seed");
    let dalek = SigningKey::from_bytes(&[7; 32]);
    // As long as what the server signs: the claims behind the head of RFC 9052 §4.4.
    let signed = [&b"\x84\x6aSignature1"[..], &claims[2..]].concat();
    let sign_aws_lc = || _ = black_box(aws_lc.sign(black_box(&signed)));
    let sign_dalek = || _ = black_box(dalek.sign(black_box(&signed)));
    let matrix_fixed = || _ = black_box(peers::fixed_symbol(black_box(&code)));
    let matrix_automatic = || _ = black_box(QrCode::with_error_correction_level(black_box(&code), EcLevel::M));
    let parts: [(&str, &dyn Fn()); 4] = [
        ("sign_aws_lc_ns", &sign_aws_lc),
        ("sign_dalek_ns", &sign_dalek),
        ("matrix_qrcode_fixed_ns", &matrix_fixed),
        ("matrix_qrcode_automatic_ns", &matrix_automatic),
    ];
    let figures: Vec<String> = parts.iter().map(|(name, part)| format!("\"{name}\": {:.1}", time_ns(part))).collect();
    println!("{{{}}}", figures.join(", "));
}

/// The median of 15 batches of at least 5 ms.
fn time_ns(part: &dyn Fn()) -> f64 {
    let mut calls = 1_u32;
    let batch = |calls: u32| {
        let start = Instant::now();
        (0..calls).for_each(|_| part());
        start.elapsed()
    };
    while batch(calls) < Duration::from_millis(5) {
        calls *= 2;
    }
    let mut times: Vec<Duration> = (0..15).map(|_| batch(calls)).collect();
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e9 / f64::from(calls)
}
