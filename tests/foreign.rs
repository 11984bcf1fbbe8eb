//! Codes that were not made here, which `tests/code.rs` holds against the shared table, altered in every way.

use onecode::code::trust::Trust;
use onecode::code::verify::{LEEWAY_S, Outcome, verify};
use serde_json::Value;

fn cases() -> Value {
    serde_json::from_str(include_str!("codes/cases.json")).expect("tests/codes/make.py wrote it")
}

#[test]
fn a_foreign_code_cut_or_altered_anywhere_is_never_valid() {
    let table = cases();
    let trust = Trust::from_jwks(table["trust"].to_string().as_bytes()).unwrap();
    let at = table["at"].as_u64().unwrap();
    for name in ["ES256", "PS256", "maps of no length"] {
        let case = table["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
        let text = case["text"].as_str().unwrap().as_bytes();
        for end in 0..text.len() {
            assert_eq!(verify(&trust, &text[..end], at, LEEWAY_S).outcome, Outcome::Malformed);
        }
        for index in 0..text.len() {
            for other in [b'0', b'A', b' ', b':', b'\n', 0xff] {
                let mut altered = text.to_vec();
                altered[index] = other;
                let verdict = verify(&trust, &altered, at, LEEWAY_S);
                assert_eq!(verdict.outcome == Outcome::Valid, altered == text, "{name} {index} {other}");
            }
        }
    }
}

#[test]
fn a_list_with_foreign_keys_that_is_not_whole_is_refused_by_its_member() {
    let table = cases();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut trust = table["trust"].clone();
        change(&mut trust);
        Trust::from_jwks(trust.to_string().as_bytes()).unwrap_err()
    };
    let not_usable = |index: usize, alg| format!("key {index}: it is not a usable public key for {alg}");
    assert_eq!(refused(&|trust| trust["keys"][1]["x"] = "A".repeat(43).into()), not_usable(1, "Es256"));
    assert_eq!(refused(&|trust| trust["keys"][4]["n"] = "AQAB".into()), not_usable(4, "Ps256"));
    assert_eq!(refused(&|trust| trust["keys"][4]["n"] = "%".into()), "key 4: its `n` is missing, or not base64url");
    assert!(refused(&|trust| trust["keys"][1]["y"] = "AQAB".into()).starts_with("key 1: "));
    assert!(refused(&|trust| trust["dcc"][0]["kind"] = "poem".into()).starts_with("its table `dcc`: "));
    assert!(refused(&|trust| trust["dcc"][0]["colour"] = "green".into()).contains("colour"));
}
