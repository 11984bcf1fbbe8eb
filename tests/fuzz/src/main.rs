//! libFuzzer on one of the targets, the one that `ONECODE_FUZZ_TARGET` names. One program for all, so that it is linked
//! once; `scripts/fuzz.sh` builds it with coverage and runs it.

#![no_main]

#[path = "../journal.rs"]
mod journal;
#[path = "../../support/mod.rs"]
mod support;
#[path = "../targets/mod.rs"]
mod targets;

use std::sync::LazyLock;

use onecode::{limits, sys, words};

/// The target; looked up once, since it is called some ten thousand times a second.
static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("ONECODE_FUZZ_TARGET").expect("ONECODE_FUZZ_TARGET names a target");
    let named = targets::ALL.iter().find(|(name, _)| *name == wanted);
    named.unwrap_or_else(|| panic!("there is no target {wanted}")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
