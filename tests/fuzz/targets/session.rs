//! What a resident brings: the session token and the assertion (JWT). Nothing is accepted but what was made with the
//! key, in its one spelling; what is changed afterwards is never accepted for somebody else.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use onecode::limits::ASSERTION_LIFE_S_MAX;
use onecode::service::problem::{Problem, SESSION_EXPIRED};
use onecode::service::session::{Claimed, Session, SessionKey, mint};
use onecode::service::sign_in::{SignIn, Verifier};
use onecode::words::{Now, ResidentNumber};
use serde_json::{Value, json};

use super::shown;

/// When everything here happens.
pub const NOW: Now = Now { unix_ms: 1_800_000_000_500, mono_us: 0 };
/// Whom the seeds' assertions name: nobody else's are ever signed but by an input that says so itself.
pub const ID_NUMBER: &str = "11010519491231002X";
pub const ISSUER: &str = "https://id.city.example";
pub const AUDIENCE: &str = "onecode";
/// Stands between the parts of an input; in no UTF-8.
pub const BETWEEN: u8 = 0xff;

/// The key pair of RFC 7515 appendix A.3.
const EC: [&str; 3] = [
    "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
];

static SESSION_KEY: LazyLock<SessionKey> = LazyLock::new(|| SessionKey::new(7, [0x42; 32]).expect("a small epoch"));
static ED: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[9; 32]).expect("a seed"));
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let jwks = json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": URL_SAFE_NO_PAD.encode(ED.public_key())},
        {"kty": "EC", "crv": "P-256", "kid": "ec", "x": EC[0], "y": EC[1]},
    ]});
    Verifier::from_jwks(&jwks.to_string(), ISSUER, AUDIENCE, "id_number").expect("two good keys")
});

/// Reads the input as a token, as changes to a good token, as an assertion, or as what an assertion is to say.
pub fn run(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    match mode % 4 {
        0 => read_token(rest),
        1 => change_token(rest),
        2 => read_assertion(rest),
        _ => sign_assertion(rest, mode & 4 != 0),
    }
}

/// What a token is worth.
pub fn check(token: &[u8], now_unix_s: u64) -> Result<Session, Problem> {
    Claimed::read(token)?.check(&SESSION_KEY, now_unix_s)
}

/// A good token of this session.
pub fn token(session: &Session) -> Vec<u8> {
    mint(&SESSION_KEY, session).into_bytes()
}

fn read_token(token: &[u8]) {
    let found = check(token, 0);
    assert_eq!(check(token, 0), found, "{}", shown(token));
    match found {
        Ok(session) => {
            assert_eq!(mint(&SESSION_KEY, &session).as_bytes(), token, "a second spelling");
            assert_eq!(Claimed::read(token).map(|claimed| claimed.resident()), Ok(session.resident));
            let expected =
                if NOW.unix_s() < u64::from(session.expires_unix_s) { Ok(session) } else { Err(SESSION_EXPIRED) };
            assert_eq!(check(token, NOW.unix_s()), expected);
        }
        Err(error) => {
            let later = check(token, u64::MAX);
            assert_eq!(later, Err(error), "{}", shown(token));
        }
    }
}

/// The first 16 bytes are a session, the others places and bits of its token that are flipped.
fn change_token(data: &[u8]) {
    let Some((fields, changes)) = data.split_first_chunk::<16>() else { return };
    let word = |at: usize| u32::from_be_bytes(fields[at..at + 4].try_into().expect("4 bytes"));
    let resident = ResidentNumber(u64::from(word(0)) << 32 | u64::from(word(4)));
    let session = Session { resident, number: word(8), expires_unix_s: word(12).max(1) };
    let good = token(&session);
    assert_eq!(check(&good, 0), Ok(session));
    let mut changed = good.clone();
    for change in changes.as_chunks::<2>().0 {
        changed[usize::from(change[0]) % good.len()] ^= change[1];
    }
    if changed != good {
        assert!(check(&changed, 0).is_err(), "{} for {session:?}", shown(&changed));
        read_token(&changed);
    }
}

/// What an assertion is worth.
pub fn verify(assertion: &str) -> Result<SignIn, Problem> {
    VERIFIER.verify(assertion, NOW, NOW.unix_ms - 100_000)
}

fn read_assertion(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let found = verify(&text);
    assert_eq!(verify(&text), found, "{text}");
    if let Ok(sign_in) = found {
        assert_eq!(sign_in.id_number, ID_NUMBER, "forged: {text}");
    }
}

/// An assertion of this header and these claims.
pub fn assertion(header: &[u8], claims: &[u8], by_ec: bool) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = if by_ec {
        let [x, y, d] = EC.map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64url"));
        let public = [&[4], &x[..], &y].concat();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &d, &public);
        let signature = pair.expect("a key pair").sign(&SystemRandom::new(), signed.as_bytes());
        URL_SAFE_NO_PAD.encode(signature.expect("it signs"))
    } else {
        URL_SAFE_NO_PAD.encode(ED.sign(signed.as_bytes()))
    };
    format!("{signed}.{signature}")
}

/// A header, the claims, and places and bits of the assertion that are flipped.
fn sign_assertion(data: &[u8], by_ec: bool) {
    let mut parts = data.splitn(3, |byte| *byte == BETWEEN);
    let [header, claims, changes] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let good = assertion(header, claims, by_ec);
    let found = verify(&good);
    assert_eq!(verify(&good), found, "{good}");
    if let Ok(sign_in) = &found {
        assert_says(sign_in, header, claims, by_ec);
    }
    let mut changed = good.clone().into_bytes();
    for change in changes.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % changed.len();
        changed[at] ^= change[2] & 0x7f;
    }
    let changed = String::from_utf8(changed).expect("ASCII stays ASCII");
    if let Ok(other) = verify(&changed) {
        assert_eq!(Ok(other), found, "{changed}");
    }
}

/// Reads the claims once more, with nothing of the server's.
fn assert_says(sign_in: &SignIn, header: &[u8], claims: &[u8], by_ec: bool) {
    let [header, claims] =
        [header, claims].map(|part| serde_json::from_slice::<Value>(part).expect("accepted, so JSON"));
    assert_eq!(header["alg"], if by_ec { "ES256" } else { "EdDSA" });
    assert!(header.get("crit").is_none(), "{header}");
    assert_eq!(claims["iss"], ISSUER);
    let audiences = claims["aud"].as_array().cloned().unwrap_or_else(|| vec![claims["aud"].clone()]);
    assert!(audiences.contains(&json!(AUDIENCE)), "{claims}");
    assert_eq!(claims["id_number"], sign_in.id_number.as_str());
    assert!(sign_in.id_number.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{claims}");
    let [issued, expires] = ["iat", "exp"].map(|name| claims[name].as_f64().expect("a date"));
    let (now, life) = (NOW.unix_ms as f64 / 1_000.0, expires - issued);
    assert!(expires > now && issued <= now + 61.0, "{claims}");
    assert!(life > 0.0 && life < ASSERTION_LIFE_S_MAX as f64 + 0.001, "{claims}");
    assert!((sign_in.expires_unix_s as f64 - expires.ceil()).abs() < 1.0, "{claims}");
}
