//! What the fuzzer runs on, run here once over its corpora: small seeds for each way into a target, made below, and
//! whatever was found and mended since. `scripts/fuzz.sh` looks for more.

mod support;

#[path = "fuzz/journal.rs"]
mod journal;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use onecode::{limits, sys, words};

const FILES_MAX: usize = 40;
const FILE_BYTES_MAX: usize = 2 << 10;
const ALL_BYTES_MAX: usize = 150 << 10;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

/// The inputs of a target by their names.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(corpus(target)).unwrap_or_else(|error| panic!("the corpus of {target}: {error}"));
    let mut inputs: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

fn replay(target: &str) {
    let (_, run) = targets::ALL.iter().find(|(name, _)| *name == target).expect("a target");
    let inputs = inputs(target);
    assert!(!inputs.is_empty());
    for (name, data) in inputs {
        if let Err(panic) = catch_unwind(|| run(&data)) {
            eprintln!("tests/fuzz/corpus/{target}/{name} fails");
            resume_unwind(panic);
        }
    }
}

#[test]
fn the_corpus_of_head_holds() {
    replay("head");
}

#[test]
fn the_corpus_of_connection_holds() {
    replay("connection");
}

#[test]
fn the_corpus_of_proxy_holds() {
    replay("proxy");
}

#[test]
fn the_corpus_of_session_holds() {
    replay("session");
}

#[test]
fn the_corpus_of_verify_holds() {
    replay("verify");
}

#[test]
fn the_corpus_of_recovery_holds() {
    replay("recovery");
}

/// The seeds are those made in `seeds.rs`; `ONECODE_WRITE_SEEDS=1` writes them.
#[test]
fn the_corpora_have_their_seeds_and_stay_small() {
    let mut all_bytes = 0;
    for (target, _) in targets::ALL {
        for (name, data) in seeds::of(target) {
            let path = corpus(target).join(&name);
            if std::env::var_os("ONECODE_WRITE_SEEDS").is_some() {
                fs::create_dir_all(corpus(target)).unwrap();
                fs::write(&path, &data).unwrap();
            }
            let found = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(found == data, "{target}/{name} is another than seeds.rs makes: ONECODE_WRITE_SEEDS=1 writes it");
        }
        let inputs = inputs(target);
        assert!(inputs.len() <= FILES_MAX, "{target} has {} files", inputs.len());
        for (name, data) in inputs {
            assert!(data.len() <= FILE_BYTES_MAX, "{target}/{name} has {} bytes", data.len());
            all_bytes += data.len();
        }
    }
    assert!(all_bytes <= ALL_BYTES_MAX, "{all_bytes} bytes in all");
}

/// The targets are no empty promise: inputs that must be accepted are, and their oracles see them.
#[test]
fn the_seeds_reach_what_they_are_for() {
    seeds::assert_reached();
}
