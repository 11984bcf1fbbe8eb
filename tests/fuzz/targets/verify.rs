//! Verification of codes: any text has one verdict, and what is accepted has one spelling, down to the last bit of its
//! CBOR.

use std::sync::LazyLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use onecode::code::base45;
use onecode::code::claims::{DEFAULT_ISSUER, PREFIX};
use onecode::code::keyring::Env;
use onecode::code::trust::{Trust, TrustedKey};
use onecode::code::verify::{Claims, LEEWAY_S, Outcome, TEXT_BYTES_MAX, verify};

use super::{random_of, shown};

/// The `iat` of the seeds' codes.
pub const IAT: u64 = 1_780_000_000;
/// The time of the check.
const AT: u64 = IAT + 100;
/// A key without bounds, and one that may sign from [`IAT`] on.
pub const KIDS: [&[u8]; 2] = [b"testkey1", b"testkey2"];

static SIGNER: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed"));
static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let key = |kid, env| TrustedKey::ed25519(DEFAULT_ISSUER, kid, SIGNER.public_key().as_ref(), env).expect("a key");
    Trust::new(vec![key(KIDS[0], Env::Prod), key(KIDS[1], Env::Test).bounded(IAT, None)])
});

/// Verifies the text of the input and holds what is accepted against its bytes.
pub fn run(data: &[u8]) {
    if let Some(text) = text(data) {
        check(&text);
    }
}

/// What an input stands for: a text, the bytes of a text, or header and payload of a code that is then signed.
pub fn text(data: &[u8]) -> Option<Vec<u8>> {
    let (mode, rest) = data.split_first()?;
    Some(match mode % 3 {
        0 => rest.to_vec(),
        1 => text_of(rest),
        _ => {
            let (&length, rest) = rest.split_first()?;
            let (header, payload) = rest.split_at(usize::from(length).min(rest.len()));
            signed(header, payload)
        }
    })
}

/// Whether the signature of a text is good.
#[allow(dead_code, reason = "only the tests ask")]
pub fn is_accepted(text: &[u8]) -> bool {
    verify(&TRUST, text, AT, LEEWAY_S).claims.is_some()
}

/// The text of these bytes.
pub fn text_of(bytes: &[u8]) -> Vec<u8> {
    let mut text = PREFIX.to_vec();
    text.resize(PREFIX.len() + base45::encoded_len(bytes.len()), 0);
    base45::encode(bytes, &mut text[PREFIX.len()..]);
    text
}

/// A code whose signature is good, whatever its header and payload are.
pub fn signed(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let string = |bytes: &[u8]| [&head(2, bytes.len() as u64)[..], bytes].concat();
    let (header, payload) = (string(header), string(payload));
    let signature = SIGNER.sign(&[b"\x84\x6aSignature1", &header[..], b"\x40", &payload].concat());
    text_of(&[b"\xd2\x84", &header[..], b"\xa0", &payload, &string(signature.as_ref())].concat())
}

fn check(text: &[u8]) {
    let verdict = verify(&TRUST, text, AT, LEEWAY_S);
    assert_eq!(verify(&TRUST, text, AT, LEEWAY_S), verdict, "{}", shown(text));
    let at_another_time = verify(&TRUST, text, u64::MAX, 0);
    assert_eq!(at_another_time.claims, verdict.claims, "{}", shown(text));
    let Some(claims) = verdict.claims else {
        let is_before_time =
            [Outcome::Malformed, Outcome::UnknownIssuer, Outcome::BadSignature].contains(&verdict.outcome);
        assert!(is_before_time && at_another_time.outcome == verdict.outcome, "{verdict:?}: {}", shown(text));
        return;
    };
    assert!(text.len() <= TEXT_BYTES_MAX);
    let begins = claims.iat.max(claims.nbf.unwrap_or(0));
    let outcome = match AT {
        at if at >= claims.exp.saturating_add(LEEWAY_S) => Outcome::Expired,
        at if at + LEEWAY_S < begins => Outcome::NotYetValid,
        _ => Outcome::Valid,
    };
    assert_eq!(verdict.outcome, outcome, "{claims:?}");
    assert_only_spelling(text, &claims);
    // Any other text is another code, or none.
    let mut random = random_of(text);
    let mut changed = text.to_vec();
    let at = random.usize(..text.len());
    changed[at] ^= random.u8(1..);
    assert_eq!(verify(&TRUST, &changed, AT, LEEWAY_S).claims, None, "{}", shown(&changed));
}

/// Encodes again what was accepted, by the rules of RFC 8949 section 4.2.1, and holds the claims against it.
fn assert_only_spelling(text: &[u8], claims: &Claims) {
    let mut buffer = [0; TEXT_BYTES_MAX];
    let length = base45::decode(&text[PREFIX.len()..], &mut buffer).expect("accepted, so Base45");
    let bytes = &buffer[..length];
    assert_eq!(text_of(bytes), text, "{}", shown(text));
    assert_eq!(encoded_again(bytes), bytes, "{}", shown(text));
    // Tag and array are a byte each; then the header, an empty map, and the payload.
    let (header, rest) = string_of(&bytes[2..]);
    let (payload, _) = string_of(&rest[1..]);
    assert_eq!(encoded_again(header), header, "{}", shown(header));
    assert_eq!(encoded_again(payload), payload, "{}", shown(payload));
    let says = |key: &[u8], value: Vec<u8>| pairs(payload).contains(&(key.to_vec(), value));
    let iss = [&head(3, claims.iss.len() as u64)[..], claims.iss.as_bytes()].concat();
    let all = says(&[1], iss)
        && says(&[4], head(0, claims.exp))
        && says(&[6], head(0, claims.iat))
        && says(&[7], [&[0x50], &claims.cti[..]].concat())
        && claims.nbf.is_none_or(|nbf| says(&[5], head(0, nbf)));
    assert!(all, "{claims:?} of {}", shown(payload));
}

/// The shortest head of an item.
pub fn head(major: u8, argument: u64) -> Vec<u8> {
    let bytes = argument.to_be_bytes();
    let (information, from) = match argument {
        0..24 => return vec![major << 5 | argument as u8],
        24..0x100 => (24, 7),
        0x100..0x1_0000 => (25, 6),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 0),
    };
    [&[major << 5 | information], &bytes[from..]].concat()
}

/// Major type and argument of the item at the front, in any width.
fn take_head(input: &mut &[u8]) -> (u8, u64) {
    let (&first, rest) = input.split_first().expect("an item");
    let width = match first & 0x1f {
        0..24 => 0,
        information @ 24..28 => 1 << (information - 24),
        other => panic!("accepted a head of {other}"),
    };
    let (argument, rest) = rest.split_at(width);
    *input = rest;
    let wide = argument.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    (first >> 5, if width == 0 { u64::from(first & 0x1f) } else { wide })
}

/// The byte string at the front, and what follows it.
fn string_of(mut input: &[u8]) -> (&[u8], &[u8]) {
    let (major, length) = take_head(&mut input);
    assert_eq!(major, 2);
    input.split_at(usize::try_from(length).expect("a length"))
}

fn encoded_again(mut input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_item(&mut input, &mut out);
    assert!(input.is_empty(), "accepted with bytes behind");
    out
}

fn encode_item(input: &mut &[u8], out: &mut Vec<u8>) {
    let (major, argument) = take_head(input);
    out.extend(head(major, argument));
    match major {
        0 | 1 | 7 => {}
        2 | 3 => {
            let (string, rest) = input.split_at(usize::try_from(argument).expect("a length"));
            out.extend(string);
            *input = rest;
        }
        4 => (0..argument).for_each(|_| encode_item(input, out)),
        5 => {
            for (key, value) in take_pairs(input, argument) {
                out.extend(key);
                out.extend(value);
            }
        }
        _ => encode_item(input, out),
    }
}

/// So many pairs, in the order of their keys and each key once.
fn take_pairs(input: &mut &[u8], count: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut item = || {
        let mut out = Vec::new();
        encode_item(input, &mut out);
        out
    };
    let mut pairs: Vec<_> = (0..count).map(|_| (item(), item())).collect();
    pairs.sort();
    pairs.dedup_by(|one, other| one.0 == other.0);
    pairs
}

/// The pairs of a map.
fn pairs(mut map: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (major, count) = take_head(&mut map);
    assert_eq!(major, 5);
    take_pairs(&mut map, count)
}
