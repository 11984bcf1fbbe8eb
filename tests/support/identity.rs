//! A city's identity provider: three keys, their JWKS, and assertions signed by them, right and wrong.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The `iss` of its assertions.
pub const ISSUER: &str = "https://id.city.example";
/// The `aud` of its assertions.
pub const AUDIENCE: &str = "onecode";

/// The keys of the provider.
pub struct Provider {
    ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

/// Made once a test process: an RSA key takes a good part of a second.
pub static PROVIDER: LazyLock<Provider> = LazyLock::new(Provider::new);

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Provider {
    pub fn new() -> Provider {
        Provider {
            ed: Ed25519KeyPair::generate().unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            rsa: RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap(),
        }
    }

    /// RFC 7517, with the public keys only.
    pub fn jwks(&self) -> String {
        let point = self.ec.public_key().as_ref();
        let rsa = self.rsa.public_key();
        let n = b64(rsa.modulus().big_endian_without_leading_zero());
        let e = b64(rsa.exponent().big_endian_without_leading_zero());
        let keys = json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": b64(self.ed.public_key())},
            {"kty": "EC", "crv": "P-256", "kid": "ES256", "x": b64(&point[1..33]), "y": b64(&point[33..])},
            {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "RS256", "n": n, "e": e},
        ]});
        keys.to_string()
    }

    /// An assertion signed by the key of `algorithm`, which is also its `kid`.
    pub fn sign(&self, algorithm: &str, claims: &Value) -> String {
        let header = json!({"alg": algorithm, "kid": algorithm, "typ": "JWT"});
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = match algorithm {
            "EdDSA" => self.ed.sign(signed.as_bytes()).as_ref().to_vec(),
            "ES256" => self.ec.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec(),
            "RS256" => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            other => panic!("no key of {other}"),
        };
        format!("{signed}.{}", b64(signature))
    }

    /// A good assertion for a person at `now_s`, made unique by `jti`.
    pub fn assertion(&self, id_number: &str, now_s: u64, jti: &str) -> String {
        self.sign("EdDSA", &claims(id_number, now_s, jti))
    }
}

/// The claims of a good assertion.
pub fn claims(id_number: &str, now_s: u64, jti: &str) -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "iat": now_s, "exp": now_s + 120, "jti": jti, "id_number": id_number,
    })
}

/// The body of a sign-in by assertion.
pub fn sign_in_body(assertion: &str) -> String {
    json!({ "assertion": assertion }).to_string()
}
