//! The keys a verifier trusts: which issuer holds which key, for what time, and for whose codes.
//!
//! It owns the look-up, always inside one issuer, and what each key may have signed; the algorithm comes from the entry
//! here, never from the code. It is filled from a keyring or from a JWK set.

use std::fmt::Display;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::PublicKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use curve25519_dalek::edwards::CompressedEdwardsY;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::dcc::Rule;
use super::keyring::{Env, Kid};
use crate::sys::ed25519::Signer;

/// The algorithm of a key; a code may only name the numbers of its key's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Alg {
    /// For our form: EdDSA (RFC 9053 §2.2), deprecated but what every library accepts, and Ed25519 (RFC 9864 §2.2).
    Ed25519,
    /// For EU certificates: ES256 (RFC 9053 §2.1) and ESP256 (RFC 9864 §2.1), both on P-256.
    Es256,
    /// For EU certificates: RSASSA-PSS with SHA-256 (RFC 8230 §2), from 2,048 bits on.
    Ps256,
}

/// One key of one issuer.
#[derive(Clone, derive_more::Debug)]
pub struct TrustedKey {
    issuer: String,
    pub(super) kid: Vec<u8>,
    alg: Alg,
    pub(super) env: Env,
    key: ParsedPublicKey,
    /// Of a key of our own.
    #[debug(skip)]
    pub(super) signer: Option<Arc<Signer>>,
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
        TrustedKey::new(issuer, kid, Alg::Ed25519, public_key, env)
    }

    /// The key of an X.509 certificate, PEM or DER, whose owner signs EU certificates; its id is the first 8 bytes of
    /// SHA-256 of the DER (hcert_spec §3.2.2). The certificate's own dates and its issuer are not looked at.
    /// Errors: it is no certificate, or its key is neither for ES256 nor for PS256.
    pub fn of_certificate(certificate: &[u8]) -> Result<TrustedKey, &'static str> {
        let der = CertificateDer::from_pem_slice(certificate).unwrap_or_else(|_| certificate.into());
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| "it is not an X.509 certificate (PEM or DER)")?;
        let (kid, key) = (&Sha256::digest(&der)[..8], parsed.public_key().raw);
        let of = |alg| TrustedKey::new("", kid, alg, key, Env::Prod);
        of(Alg::Es256).or_else(|| of(Alg::Ps256)).ok_or("its key is neither P-256 nor RSA of 2,048 bits and more")
    }

    /// A key of any algorithm: 32 bytes, a point (SEC 1 §2.3.3), or DER (RFC 5280 §4.1.2.7).
    fn new(issuer: &str, kid: &[u8], alg: Alg, public_key: &[u8], env: Env) -> Option<TrustedKey> {
        let algorithm: &dyn VerificationAlgorithm = match alg {
            Alg::Ed25519 if is_small_order(public_key) => return None,
            Alg::Ed25519 => &ED25519,
            Alg::Es256 => &ECDSA_P256_SHA256_FIXED,
            // The parser takes others, too, and every signature of theirs would be a bad one.
            Alg::Ps256 if !(256..=1_024).contains(&PublicKey::from_der(public_key).ok()?.modulus_len()) => return None,
            Alg::Ps256 => &RSA_PSS_2048_8192_SHA256,
        };
        let (issuer, kid, key) = (issuer.to_owned(), kid.to_owned(), ParsedPublicKey::new(algorithm, public_key).ok()?);
        let (not_before, not_after) = (0, u64::MAX);
        Some(TrustedKey { issuer, kid, alg, env, key, signer: None, not_before, not_after, revoked: false })
    }

    /// Bounds the `iat` of what it may have signed, in Unix seconds, both ends included. The time of a check does not
    /// matter: a lapsed key still verifies what it signed in time.
    #[must_use]
    pub fn bounded(self, not_before: u64, not_after: Option<u64>) -> TrustedKey {
        TrustedKey { not_before, not_after: not_after.unwrap_or(u64::MAX), ..self }
    }

    /// Whether it made `signature` over `signed` for a code of that `iat` and algorithm number, perhaps one good now.
    pub(super) fn made(&self, signature: &[u8], signed: &[u8], alg: i64, iat: u64, is_live: bool) -> bool {
        let numbers: &[i64] = match self.alg {
            Alg::Ed25519 => &[-8, -19],
            Alg::Es256 => &[-7, -9],
            Alg::Ps256 => &[-37],
        };
        // A revoked key's code is known as such whenever it was issued.
        let in_time = self.revoked || (self.not_before..=self.not_after).contains(&iat);
        // A signature is a function of key and message (RFC 8032 §5.1.6), and to make it once more costs half of a check.
        let own = self.signer.as_ref().filter(|_| is_live && !self.revoked);
        let is_same = |signer: &Arc<Signer>| bool::from(signer.sign(signed).ct_eq(signature));
        numbers.contains(&alg)
            && in_time
            && (own.is_some_and(is_same) || self.key.verify_sig(signed, signature).is_ok())
    }

    /// Whether it is for codes of our form, whose, and which.
    fn place(&self) -> (bool, &str, &[u8]) {
        (self.alg == Alg::Ed25519, &self.issuer, &self.kid)
    }
}

/// The keys a verifier trusts.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Invariant: sorted by their places.
    keys: Vec<TrustedKey>,
    /// A signer of EU certificates of whatever issuer and key id.
    pub signer: Option<TrustedKey>,
    /// What foreign certificates count as.
    pub(super) dcc: Vec<Rule>,
}

impl Trust {
    /// Trusts `keys`. Several may share an issuer and a key id; each is tried.
    pub fn new(mut keys: Vec<TrustedKey>) -> Trust {
        keys.sort_by(|one, other| one.place().cmp(&other.place()));
        Trust { keys, ..Trust::default() }
    }

    /// Reads a JWK set as served at `/.well-known/jwks.json`: keys for Ed25519 (RFC 8037), for codes of our form, and
    /// P-256 and, where `alg` is PS256, RSA (RFC 7518 §6), for EU certificates, which count as the table of the member
    /// `dcc` says; each with `iss` and `kid`, and with `env`, `nbf` and `exp` where they apply. Keys of other kinds are
    /// passed over (RFC 7517 §5).
    /// Errors: it is no JWK set, a key in it (counted from 0) or the table is not whole or to be trusted, or there is none.
    pub fn from_jwks(json: &[u8]) -> Result<Trust, String> {
        let mut set: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
        let mut keys = Vec::new();
        for (index, jwk) in set["keys"].as_array().ok_or("it is not a JWK set")?.iter().enumerate() {
            let refused = |why: &dyn Display| format!("key {index}: {why}");
            let part = |name: &str| {
                let part = jwk[name].as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
                part.ok_or_else(|| refused(&format_args!("its `{name}` is missing, or not base64url")))
            };
            let (alg, key) = match (jwk["kty"].as_str(), jwk["crv"].as_str(), jwk["alg"].as_str()) {
                (Some("OKP"), Some("Ed25519"), _) => (Alg::Ed25519, part("x")?),
                (Some("EC"), Some("P-256"), None | Some("ES256")) => {
                    (Alg::Es256, [&[4][..], &part("x")?, &part("y")?].concat())
                }
                (Some("RSA"), _, Some("PS256")) => {
                    let key: Result<PublicKeyX509Der<'_>, _> =
                        RsaPublicKeyComponents { n: part("n")?, e: part("e")? }.as_der();
                    (Alg::Ps256, key.map_or_else(|_| Vec::new(), |key| key.as_ref().to_vec()))
                }
                _ => continue,
            };
            let Jwk { kid, iss, env, nbf, exp } = Jwk::deserialize(jwk).map_err(|error| refused(&error))?;
            let key = TrustedKey::new(&iss, &kid.0, alg, &key, env);
            let key = key.ok_or_else(|| refused(&format_args!("it is not a usable public key for {alg:?}")))?;
            keys.push(key.bounded(nbf, exp));
        }
        if keys.is_empty() {
            return Err("it has no key that codes are signed with".to_owned());
        }
        let dcc = Option::deserialize(set["dcc"].take()).map_err(|error| format!("its table `dcc`: {error}"))?;
        Ok(Trust { dcc: dcc.unwrap_or_default(), ..Trust::new(keys) })
    }

    pub(super) fn candidates<'t>(
        &'t self,
        place: (bool, &str, &[u8]),
    ) -> impl Iterator<Item = &'t TrustedKey> + Clone + use<'t> {
        let first = self.keys.partition_point(|key| key.place() < place);
        let count = self.keys[first..].partition_point(|key| key.place() == place);
        let signer = self.signer.as_ref().filter(|_| !place.0);
        self.keys[first..first + count].iter().chain(signer)
    }
}

/// What keys of all kinds have.
#[derive(Deserialize)]
struct Jwk {
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
        for none in ["{\"keys\":[]}", "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\"}]}"] {
            assert_eq!(refused(none), "it has no key that codes are signed with");
        }
        for name in ["iss", "kid", "x"] {
            let renamed = good.replacen(&format!("\"{name}\""), "\"other\"", 1);
            let error = refused(&renamed);
            assert!(error.starts_with("key 0: ") && error.contains(&format!("`{name}`")), "{error}");
        }
    }

    /// The vectors of Wycheproof, where `VECTORS_DIR` names the folder that holds them.
    #[test]
    fn published_signatures_are_good_or_bad_as_they_say() {
        let Some(folder) = std::env::var_os("VECTORS_DIR") else {
            return println!("VECTORS_DIR names no folder of published vectors: none was run");
        };
        for (alg, number, name) in [(Alg::Ed25519, -8, "ed25519"), (Alg::Es256, -7, "ecdsa_secp256r1_sha256_p1363")] {
            let path = std::path::Path::new(&folder).join(format!("wycheproof/{name}_test.json"));
            let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            let bytes = |value: &serde_json::Value| hex::decode(value.as_str().unwrap()).unwrap();
            let mut run = 0;
            for group in json["testGroups"].as_array().unwrap() {
                let (raw, der) = (&group["publicKey"]["pk"], &group["publicKeyDer"]);
                let key = TrustedKey::new("", b"", alg, &bytes(if alg == Alg::Ed25519 { raw } else { der }), Env::Test);
                for test in group["tests"].as_array().unwrap() {
                    let (signature, signed) = (bytes(&test["sig"]), bytes(&test["msg"]));
                    let made = key.as_ref().is_some_and(|key| key.made(&signature, &signed, number, 0, true));
                    assert_eq!(made, test["result"] == "valid", "{name} {}", test["tcId"]);
                    run += 1;
                }
            }
            println!("{name}: {run} run, none left out");
            assert!(run > 100);
        }
    }
}
