//! The keys a verifier trusts: which issuer holds which key, for what time, and for whose codes.
//!
//! It owns the look-up, always inside one issuer, and what each key may have signed; the algorithm comes from the entry
//! here, never from the code. It is filled from a keyring or from a JWK set.

use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use curve25519_dalek::edwards::CompressedEdwardsY;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::keyring::{Env, Kid, base64url};
use crate::sys::ed25519::Signer;

/// One key of one issuer.
#[derive(Clone, derive_more::Debug)]
pub struct TrustedKey {
    issuer: String,
    kid: Vec<u8>,
    pub(super) env: Env,
    key: ParsedPublicKey,
    /// Of a key of our own.
    #[debug(skip)]
    signer: Option<Arc<Signer>>,
    /// The first and the last `iat` it may have signed.
    not_before: u64,
    not_after: u64,
    /// What it signed is known, and refused.
    pub(super) revoked: bool,
}

impl TrustedKey {
    /// An Ed25519 key, which signs under the algorithm numbers -8 and -19, without bounds in time. `None` where
    /// `public_key` is no such key, or one of small order, under which anybody can sign.
    pub fn ed25519(issuer: &str, kid: &[u8], public_key: &[u8], env: Env) -> Option<TrustedKey> {
        let key = ParsedPublicKey::new(&ED25519, public_key).ok().filter(|_| !is_small_order(public_key))?;
        let (issuer, kid) = (issuer.to_owned(), kid.to_owned());
        Some(TrustedKey { issuer, kid, env, key, signer: None, not_before: 0, not_after: u64::MAX, revoked: false })
    }

    /// Bounds the `iat` of what it may have signed, in Unix seconds, both ends included. The time of a check does not
    /// matter: a lapsed key still verifies what it signed in time.
    #[must_use]
    pub fn bounded(self, not_before: u64, not_after: Option<u64>) -> TrustedKey {
        TrustedKey { not_before, not_after: not_after.unwrap_or(u64::MAX), ..self }
    }

    /// The same key with its private half.
    pub(super) fn owned(self, signer: Signer) -> TrustedKey {
        TrustedKey { signer: Some(Arc::new(signer)), ..self }
    }

    /// Whether it made `signature` over `signed` for a code of that `iat` and algorithm number, perhaps one good now.
    pub(super) fn made(&self, signature: &[u8], signed: &[u8], alg: i64, iat: u64, is_live: bool) -> bool {
        // EdDSA (RFC 9053 §2.2), deprecated but what every library accepts, and Ed25519 (RFC 9864 §2.2).
        let allowed = [-8, -19].contains(&alg);
        // A revoked key's code is known as such whenever it was issued.
        let in_time = self.revoked || (self.not_before..=self.not_after).contains(&iat);
        // A signature is a function of key and message (RFC 8032 §5.1.6), and to make it once more costs half of a check.
        let own = self.signer.as_ref().filter(|_| is_live && !self.revoked);
        let is_same = |signer: &Arc<Signer>| bool::from(signer.sign(signed).ct_eq(signature));
        allowed && in_time && (own.is_some_and(is_same) || self.key.verify_sig(signed, signature).is_ok())
    }

    fn place(&self) -> (&str, &[u8]) {
        (&self.issuer, &self.kid)
    }
}

/// The keys a verifier trusts.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Invariant: sorted by issuer, then key id.
    keys: Vec<TrustedKey>,
}

impl Trust {
    /// Trusts `keys`. Several may share an issuer and a key id; each is tried.
    pub fn new(mut keys: Vec<TrustedKey>) -> Trust {
        keys.sort_by(|one, other| one.place().cmp(&other.place()));
        Trust { keys }
    }

    /// Reads a JWK set as served at `/.well-known/jwks.json`: RFC 8037 keys, each with `iss` and `kid`, and with `env`,
    /// `nbf` and `exp` where they apply. Keys of other kinds are passed over (RFC 7517 §5).
    /// Errors: it is no JWK set, an Ed25519 key in it (counted from 0) is not whole or to be trusted, or there is none.
    pub fn from_jwks(json: &[u8]) -> Result<Trust, String> {
        let set: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
        let mut keys = Vec::new();
        for (index, jwk) in set["keys"].as_array().ok_or("it is not a JWK set")?.iter().enumerate() {
            if jwk["kty"] != "OKP" || jwk["crv"] != "Ed25519" {
                continue;
            }
            let jwk = Jwk::deserialize(jwk).map_err(|error| format!("key {index}: {error}"))?;
            let key = TrustedKey::ed25519(&jwk.iss, &jwk.kid.0, &jwk.x, jwk.env);
            let key = key.ok_or_else(|| format!("key {index}: it is not a usable Ed25519 public key"))?;
            keys.push(key.bounded(jwk.nbf, jwk.exp));
        }
        if keys.is_empty() { Err("it has no Ed25519 key".to_owned()) } else { Ok(Trust::new(keys)) }
    }

    pub(super) fn candidates(&self, place: (&str, &[u8])) -> &[TrustedKey] {
        let first = self.keys.partition_point(|key| key.place() < place);
        let count = self.keys[first..].partition_point(|key| key.place() == place);
        &self.keys[first..first + count]
    }
}

/// RFC 8037 §2.
#[derive(Deserialize)]
struct Jwk {
    #[serde(with = "base64url")]
    x: [u8; 32],
    kid: Kid,
    iss: String,
    #[serde(default)]
    env: Env,
    #[serde(default)]
    nbf: u64,
    exp: Option<u64>,
}

/// Whether a public key is one of the points of order 1, 2, 4 or 8, in any encoding: for those, signatures that fit
/// every message exist (RFC 8032 §5.1.7 leaves the check to the verifier).
fn is_small_order(public_key: &[u8]) -> bool {
    let point = CompressedEdwardsY::from_slice(public_key).ok().and_then(|point| point.decompress());
    point.is_none_or(|point| point.is_small_order())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::keyring::tests::keyring;
    use aws_lc_rs::signature::UnparsedPublicKey;

    const ISSUER: &str = "CN-610100";

    /// The y coordinates of the points of small order, little-endian: 0, 1, the two of order 8, p - 1, and p and p + 1, which stand for 0 and 1.
    const SMALL_ORDER_Y: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];

    #[test]
    fn a_key_under_which_anybody_can_sign_is_refused() {
        // R = the neutral point and S = 0 satisfy the equation whenever the challenge is a multiple of the key's order.
        let mut signature = [0; 64];
        signature[0] = 1;
        for (index, hex) in SMALL_ORDER_Y.iter().enumerate() {
            let y: [u8; 32] = std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap());
            for sign in [0, 0x80] {
                let mut key = y;
                key[31] |= sign;
                assert!(TrustedKey::ed25519("X", b"12345678", &key, Env::Prod).is_none(), "{index}");
            }
            let public_key = UnparsedPublicKey::new(&ED25519, y);
            let anybody = (0..200u8).any(|message| public_key.verify(&[message], &signature).is_ok());
            // Encodings above p are refused by some libraries already, so only the canonical ones must show it.
            assert!(anybody || index >= 5, "{index}");
        }
    }

    #[test]
    fn a_list_of_keys_that_is_not_whole_is_refused_by_its_member() {
        let good = keyring().jwks_json(ISSUER);
        let refused = |json: &str| Trust::from_jwks(json.as_bytes()).unwrap_err();
        assert_eq!(refused("[]"), "it is not a JWK set");
        assert_eq!(refused("not JSON"), "it is not a JWK set");
        assert_eq!(refused("{\"keys\":[]}"), "it has no Ed25519 key");
        assert_eq!(refused("{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\"}]}"), "it has no Ed25519 key");
        for name in ["iss", "kid", "x"] {
            let renamed = good.replacen(&format!("\"{name}\""), "\"other\"", 1);
            let error = refused(&renamed);
            assert!(error.starts_with("key 0: ") && error.contains(&format!("`{name}`")), "{error}");
        }
    }
}
