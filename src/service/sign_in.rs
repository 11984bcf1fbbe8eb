//! Sign-in: whether an assertion (a JWT from the city's identity provider) is good and which person it names.
//!
//! A [`Verifier`] holds the provider's public keys and checks one assertion by itself; whether it was used before is
//! for [`super::used_assertions`] to say. It reads no clock: the JWT library's own clock checks are off and all times
//! are compared here with the instant that is handed in. Nothing of an assertion is ever part of an error.
//!
//! Which algorithm a signature is checked by follows from the key alone (RFC 8725 section 3.1): an Ed25519 key takes
//! EdDSA, a P-256 key ES256, an RSA key RS256, and an assertion that claims another one meets no key.

use std::collections::HashMap;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::problem::{self, Problem};
use crate::limits::{
    ASSERTION_AHEAD_S_MAX, ASSERTION_BYTES_MAX, ASSERTION_LIFE_S_MAX, ID_CLAIM_BYTES_MAX, JWKS_KEYS_MAX,
};
use crate::words::Now;

/// What a good assertion says.
#[derive(Clone, PartialEq, Eq, derive_more::Debug)]
pub struct SignIn {
    /// The ID number as the provider wrote it: 1..=64 ASCII letters and digits. Whether it is one is not checked here.
    /// It must not reach a log, not even by a `{:?}`.
    #[debug(skip)]
    pub id_number: String,
    /// What makes the assertion count once, see [`UsedAssertions`](super::used_assertions::UsedAssertions).
    #[debug(skip)]
    pub once: [u8; 16],
    /// The first second at which the assertion is over, since 1970-01-01T00:00:00Z.
    pub expires_unix_s: u64,
}

/// The provider's keys and what its assertions must say.
pub struct Verifier {
    keys: Vec<Key>,
    issuer: String,
    audience: String,
    id_claim: String,
}

impl Verifier {
    /// Takes the usable keys of a JWKS (RFC 7517). `issuer` and `audience` are the exact `iss` and `aud` to expect,
    /// `id_claim` is the name of the claim with the ID number.
    /// Errors: why the set is refused as a whole, in words; keys of other kinds and uses are passed over.
    pub fn from_jwks(json: &str, issuer: &str, audience: &str, id_claim: &str) -> Result<Verifier, String> {
        // Or a member that we read is of another kind, or stands twice in one object (RFC 7517 section 4).
        let set: KeySet = serde_json::from_str(json)
            .map_err(|_| r#"is not a JWKS: expected {"keys":[…]} with no member repeated"#.to_owned())?;
        let mut keys: Vec<Key> = Vec::new();
        for (at, jwk) in set.keys.into_iter().enumerate() {
            let Some(key) = Key::from_jwk(jwk).map_err(|wrong| format!("keys[{at}] {wrong}"))? else { continue };
            if keys.iter().any(|other| other.kid.is_some() && other.kid == key.kid && other.alg == key.alg) {
                return Err(format!("keys[{at}] has the kid of a key before it: remove one of them"));
            }
            keys.push(key);
        }
        match keys.len() {
            0 => Err("has no public key that signs by EdDSA, ES256 or RS256".to_owned()),
            1..=JWKS_KEYS_MAX => {
                Ok(Verifier { keys, issuer: issuer.into(), audience: audience.into(), id_claim: id_claim.into() })
            }
            _ => Err(format!("has more than {JWKS_KEYS_MAX} signing keys: remove those retired")),
        }
    }

    /// Checks an assertion at `now`, in a process that took its first assertion at `started_unix_ms` or later.
    /// Errors: the first thing that is wrong with it; the signature comes before everything that the claims say.
    pub fn verify(&self, assertion: &str, now: Now, started_unix_ms: u64) -> Result<SignIn, Problem> {
        if assertion.len() > ASSERTION_BYTES_MAX {
            return Err(problem::ASSERTION_MALFORMED);
        }
        let (signed, _) = assertion.rsplit_once('.').ok_or(problem::ASSERTION_MALFORMED)?;
        let (header, _) = signed.split_once('.').ok_or(problem::ASSERTION_MALFORMED)?;
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| problem::ASSERTION_MALFORMED)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| problem::ASSERTION_MALFORMED)?;
        let claims = self.verified_claims(assertion, &header)?;

        if claims.iss.as_str() != Some(&self.issuer) {
            return Err(problem::ASSERTION_ISSUER_WRONG);
        }
        let is_audience = |name: &Value| name.as_str() == Some(&self.audience);
        // RFC 7519 section 4.1.3: a string or a list of strings.
        let is_for_us = match &claims.aud {
            Value::Array(names) => names.iter().any(is_audience),
            name => is_audience(name),
        };
        if !is_for_us {
            return Err(problem::ASSERTION_AUDIENCE_WRONG);
        }
        let expires_unix_s = check_times(&claims, now, started_unix_ms)?;
        let id = claims.others.get(&self.id_claim).and_then(Value::as_str).unwrap_or_default();
        if !(1..=ID_CLAIM_BYTES_MAX).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(problem::ASSERTION_PERSON_MISSING);
        }
        // Of what is signed and not of the signature: for every ECDSA signature (r, s) there is a second one (r, -s)
        // that anybody can compute, and it would count as another assertion.
        let mut once = [0; 16];
        once.copy_from_slice(&Sha256::digest(signed.as_bytes())[..16]);
        Ok(SignIn { id_number: id.to_owned(), once, expires_unix_s })
    }

    fn verified_claims(&self, assertion: &str, header: &Header) -> Result<Claims, Problem> {
        // RFC 7515 section 4.1.11: whoever does not understand an extension listed there must refuse; we have none.
        if header.crit {
            return Err(problem::ASSERTION_ALGORITHM_REFUSED);
        }
        let alg = ALGORITHMS.iter().find(|(word, _)| *word == header.alg).map(|(_, alg)| *alg);
        let alg = alg.ok_or(problem::ASSERTION_ALGORITHM_REFUSED)?;
        // With a `kid`, only the key of that name; without one all of the algorithm, JWKS_KEYS_MAX at most.
        let named = |key: &&Key| key.alg == alg && (header.kid.is_none() || key.kid == header.kid);
        let mut refused = problem::ASSERTION_KEY_UNKNOWN;
        for key in self.keys.iter().filter(named) {
            match jsonwebtoken::decode::<Claims>(assertion, &key.key, &key.validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) => {
                    refused = match error.kind() {
                        jsonwebtoken::errors::ErrorKind::InvalidSignature => problem::ASSERTION_FORGED,
                        _ => problem::ASSERTION_MALFORMED,
                    };
                }
            }
        }
        Err(refused)
    }
}

/// Checks `exp`, `iat` and `nbf` and returns the first whole second at which the assertion is over.
fn check_times(claims: &Claims, now: Now, started_unix_ms: u64) -> Result<u64, Problem> {
    let dates = [claims.exp, claims.iat, claims.nbf.unwrap_or(claims.iat)];
    // Until the year 5138; what is beyond is in milliseconds by mistake, or meant to break arithmetic.
    if !dates.iter().all(|seconds| (0.0..1e11).contains(seconds)) {
        return Err(problem::ASSERTION_MALFORMED);
    }
    let [expires_ms, issued_ms, valid_from_ms] = dates.map(|seconds| seconds * 1_000.0);
    if expires_ms.floor() <= now.unix_ms as f64 {
        return Err(problem::ASSERTION_EXPIRED);
    }
    // Both come from the provider's clock, which may run a little ahead of ours.
    if issued_ms.max(valid_from_ms) > (now.unix_ms + ASSERTION_AHEAD_S_MAX * 1_000) as f64 {
        return Err(problem::ASSERTION_NOT_YET_VALID);
    }
    // Rounded, since the difference of two fractional dates may be a hair above a whole number.
    let life_ms = (expires_ms - issued_ms).round();
    if life_ms > (ASSERTION_LIFE_S_MAX * 1_000) as f64 || life_ms <= 0.0 {
        return Err(problem::ASSERTION_LIFE_WRONG);
    }
    // Most providers cut `iat` to whole seconds. In the second of the start it is then not known on which side of it
    // the assertion was issued, and it is refused: the earliest time that it can mean decides.
    if issued_ms.floor() < started_unix_ms as f64 {
        return Err(problem::ASSERTION_BEFORE_START);
    }
    // Within 0..=1e11.
    Ok((expires_ms / 1_000.0).ceil() as u64)
}

/// One usable key with the checks that the JWT library makes by it: the algorithm and the signature, and no more.
struct Key {
    kid: Option<String>,
    alg: Algorithm,
    key: DecodingKey,
    validation: Validation,
}

impl Key {
    /// The key of a JWK; `None` if it is of another kind or for another use.
    fn from_jwk(jwk: Jwk) -> Result<Option<Key>, &'static str> {
        // RFC 7518: `d` is the private part of EC, RSA and OKP keys, `k` a shared key.
        if jwk.d.is_some() || jwk.k.is_some() {
            return Err("holds a private or shared key: replace it, and put only its public part here");
        }
        let (word, alg) = match (jwk.kty.as_deref(), jwk.crv.as_deref()) {
            (Some("OKP"), Some("Ed25519")) => ALGORITHMS[0],
            (Some("EC"), Some("P-256")) => ALGORITHMS[1],
            (Some("RSA"), _) => ALGORITHMS[2],
            _ => return Ok(None),
        };
        let says = |value: Option<String>, wanted: &str| value.is_none_or(|value| value == wanted);
        let may_verify = jwk.key_ops.is_none_or(|all| all.iter().any(|one| one == "verify"));
        if !says(jwk.usage, "sig") || !says(jwk.alg, word) || !may_verify {
            return Ok(None);
        }
        let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        // RFC 7518 section 6.2.1.2: each coordinate has its full length. 4 marks an uncompressed point (SEC 1, 2.3.3).
        let point = |(x, y): (Vec<u8>, Vec<u8>)| [&[4], &*x, &*y].concat();
        let key = match alg {
            Algorithm::EdDSA => {
                bytes(jwk.x).filter(|x| ParsedPublicKey::new(&ED25519, x).is_ok()).map(|x| DecodingKey::from_ed_der(&x))
            }
            Algorithm::ES256 => bytes(jwk.x)
                .zip(bytes(jwk.y))
                .map(point)
                .filter(|point| ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_ok())
                .map(|point| DecodingKey::from_ec_der(&point)),
            _ => bytes(jwk.n)
                .zip(bytes(jwk.e))
                .filter(|(n, _)| (2_048 / 8..=8_192 / 8).contains(&n.len()))
                .filter(|(n, e)| PublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).is_ok())
                .map(|(n, e)| DecodingKey::from_rsa_raw_components(&n, &e)),
        };
        let key = key.ok_or("is not a valid Ed25519, P-256 or RSA (2048 bits) key")?;
        let mut validation = Validation::new(alg);
        // The library would read the system's clock; and what it does not require, it does not check.
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        Ok(Some(Key { kid: jwk.kid, alg, key, validation }))
    }
}

/// The part of a JWT's header that matters. Keys that a header brings along (`jwk`, `jku`, `x5c`) are never looked at.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Whether it stands there, whatever its value.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Here as in a header and a key, a member that we name and that stands twice is an error, as section 4 of RFC 7515,
/// 7517 and 7519 allows: two readers that each take another is how a check is passed around. Of others the last counts.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    iss: Value,
    #[serde(default)]
    aud: Value,
    /// NumericDates (RFC 7519 section 2): seconds, perhaps with a fraction.
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    #[serde(flatten)]
    others: HashMap<String, Value>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

/// What matters of a key (RFC 7517 section 4, RFC 7518 section 6).
#[derive(Deserialize)]
struct Jwk {
    kty: Option<String>,
    crv: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    key_ops: Option<Vec<String>>,
    kid: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

const ALGORITHMS: [(&str, Algorithm); 3] =
    [("EdDSA", Algorithm::EdDSA), ("ES256", Algorithm::ES256), ("RS256", Algorithm::RS256)];

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    };
    use serde_json::json;
    use std::sync::LazyLock;

    const NOW_S: u64 = 1_800_000_000;
    const STARTED_MS: u64 = (NOW_S - 100) * 1_000;
    const ID: &str = "11010519491231002X";

    struct Signer {
        ed: Ed25519KeyPair,
        ec: EcdsaKeyPair,
        rsa: RsaKeyPair,
    }

    // Made once: an RSA key takes a good part of a second.
    static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer {
        ed: Ed25519KeyPair::generate().unwrap(),
        ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        rsa: RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap(),
    });

    fn b64(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn ed_jwk(kid: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(SIGNER.ed.public_key())})
    }

    fn ec_jwk(kid: &str) -> Value {
        let point = SIGNER.ec.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(&point[1..33]), "y": b64(&point[33..])})
    }

    fn rsa_jwk(kid: &str) -> Value {
        let public = SIGNER.rsa.public_key();
        let n = b64(public.modulus().big_endian_without_leading_zero());
        let e = b64(public.exponent().big_endian_without_leading_zero());
        json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": n, "e": e})
    }

    fn verifier(keys: &[Value]) -> Result<Verifier, String> {
        Verifier::from_jwks(&json!({ "keys": keys }).to_string(), "https://id.example", "onecode", "id_number")
    }

    fn all_keys() -> Verifier {
        verifier(&[ed_jwk("ed"), ec_jwk("ec"), rsa_jwk("rsa")]).unwrap()
    }

    fn signature(by: &str, signed: &str) -> Vec<u8> {
        match by {
            "EdDSA" => SIGNER.ed.sign(signed.as_bytes()).as_ref().to_vec(),
            "ES256" => SIGNER.ec.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec(),
            _ => {
                let mut signature = vec![0; SIGNER.rsa.public_modulus_len()];
                SIGNER.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
                signature
            }
        }
    }

    /// A JWT with header and claims as they are, signed by `by`.
    fn jwt(by: &str, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(claims));
        let signature = signature(by, &signed);
        format!("{signed}.{}", b64(signature))
    }

    fn claims() -> Value {
        json!({"iss": "https://id.example", "aud": "onecode", "iat": NOW_S, "exp": NOW_S + 60, "id_number": ID})
    }

    fn with(changes: Value) -> String {
        let mut claims = claims();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        jwt("EdDSA", r#"{"alg":"EdDSA","kid":"ed"}"#, &claims.to_string())
    }

    fn verify(verifier: &Verifier, assertion: &str) -> Result<SignIn, Problem> {
        verifier.verify(assertion, Now { unix_ms: NOW_S * 1_000 + 500, mono_us: 0 }, STARTED_MS)
    }

    fn refused(assertion: &str) -> Problem {
        verify(&all_keys(), assertion).expect_err("this is refused")
    }

    #[test]
    fn the_three_algorithms_are_accepted_with_and_without_kid() {
        for (alg, kid) in [("EdDSA", "ed"), ("ES256", "ec"), ("RS256", "rsa")] {
            for header in [json!({"alg": alg, "kid": kid, "typ": "JWT"}), json!({"alg": alg})] {
                let assertion = jwt(alg, &header.to_string(), &claims().to_string());
                let sign_in = verify(&all_keys(), &assertion).unwrap();
                assert_eq!((sign_in.id_number.as_str(), sign_in.expires_unix_s), (ID, NOW_S + 60));
            }
        }
        assert!(!format!("{:?}", verify(&all_keys(), &with(json!({})))).contains(ID));
    }

    #[test]
    fn the_algorithm_follows_from_the_key_and_never_from_the_token_alone() {
        let claims = claims().to_string();
        for alg in ["none", "None", "HS256", "HS512", "RS512", "PS256", "ES384", "ed25519", ""] {
            let header = json!({"alg": alg, "kid": "rsa"}).to_string();
            assert_eq!(refused(&jwt("RS256", &header, &claims)), problem::ASSERTION_ALGORITHM_REFUSED, "{alg}");
        }
        let unsigned = format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(&claims));
        assert_eq!(refused(&unsigned), problem::ASSERTION_ALGORITHM_REFUSED);
        // The public key as the secret of a MAC, the classic confusion.
        let signed = format!("{}.{}", b64(r#"{"alg":"HS256","kid":"ed"}"#), b64(&claims));
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SIGNER.ed.public_key().as_ref());
        let confused = format!("{signed}.{}", b64(aws_lc_rs::hmac::sign(&secret, signed.as_bytes())));
        assert_eq!(refused(&confused), problem::ASSERTION_ALGORITHM_REFUSED);
        // A permitted algorithm, but of another key.
        let crossed = jwt("ES256", r#"{"alg":"ES256","kid":"ed"}"#, &claims);
        assert_eq!(refused(&crossed), problem::ASSERTION_KEY_UNKNOWN);
        let crossed = jwt("ES256", r#"{"alg":"EdDSA","kid":"ed"}"#, &claims);
        assert_eq!(refused(&crossed), problem::ASSERTION_FORGED);
        for crit in [r#"["b64"],"b64":false"#, "null", "[]", "false", r#""""#] {
            let critical = jwt("EdDSA", &format!(r#"{{"alg":"EdDSA","kid":"ed","crit":{crit}}}"#), &claims);
            assert_eq!(refused(&critical), problem::ASSERTION_ALGORITHM_REFUSED, "{crit}");
        }
    }

    #[test]
    fn a_kid_selects_its_key() {
        let other = Ed25519KeyPair::generate().unwrap();
        let other = json!({"kty": "OKP", "crv": "Ed25519", "kid": "other", "x": b64(other.public_key())});
        let verifier = verifier(&[other, ed_jwk("ed")]).unwrap();
        let by = |header: &str| verify(&verifier, &jwt("EdDSA", header, &claims().to_string()));
        assert!(by(r#"{"alg":"EdDSA","kid":"ed"}"#).is_ok());
        assert!(by(r#"{"alg":"EdDSA"}"#).is_ok());
        assert_eq!(by(r#"{"alg":"EdDSA","kid":"other"}"#), Err(problem::ASSERTION_FORGED));
        assert_eq!(by(r#"{"alg":"EdDSA","kid":"third"}"#), Err(problem::ASSERTION_KEY_UNKNOWN));
        assert_eq!(by(r#"{"alg":"ES256"}"#), Err(problem::ASSERTION_KEY_UNKNOWN));
    }

    #[test]
    fn what_is_no_jwt_is_malformed() {
        let good = with(json!({}));
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let claims = claims().to_string();
        let cases = [
            String::new(),
            "..".into(),
            signed.into(),
            format!("{good}.x"),
            format!("{good}="),
            format!("é.{good}"),
            "a".repeat(ASSERTION_BYTES_MAX + 1),
            with(json!({"padding": "a".repeat(ASSERTION_BYTES_MAX)})),
            jwt("EdDSA", "[]", &claims),
            jwt("EdDSA", r#"{"kid":"ed"}"#, &claims),
            jwt("EdDSA", r#"{"alg":"EdDSA","alg":"EdDSA"}"#, &claims),
            jwt("EdDSA", r#"{"alg":"EdDSA","kid":"ed"}"#, "[]"),
            jwt("EdDSA", r#"{"alg":"EdDSA","kid":"ed"}"#, &claims.replacen('{', r#"{"iss":"https://id.example","#, 1)),
            with(json!({"exp": null})),
            with(json!({"iat": null})),
            with(json!({"exp": "soon"})),
            with(json!({"nbf": "now"})),
            with(json!({"exp": NOW_S * 1_000})),
            with(json!({"iat": -1})),
        ];
        for case in cases {
            assert_eq!(refused(&case), problem::ASSERTION_MALFORMED, "{case}");
        }
        let mut forged = URL_SAFE_NO_PAD.decode(signature).unwrap();
        forged[5] ^= 1;
        assert_eq!(refused(&format!("{signed}.{}", b64(forged))), problem::ASSERTION_FORGED);
        let other_claims = format!("{}.{}", signed.split_once('.').unwrap().0, b64(claims.replace("60", "61")));
        assert_eq!(refused(&format!("{other_claims}.{signature}")), problem::ASSERTION_FORGED);
    }

    #[test]
    fn issuer_audience_and_person_are_required() {
        assert_eq!(refused(&with(json!({"iss": "https://evil.example"}))), problem::ASSERTION_ISSUER_WRONG);
        assert_eq!(refused(&with(json!({"iss": ["https://id.example"]}))), problem::ASSERTION_ISSUER_WRONG);
        assert_eq!(refused(&with(json!({"iss": null}))), problem::ASSERTION_ISSUER_WRONG);
        for aud in [json!("other"), json!(["other"]), json!([]), json!(7), Value::Null] {
            assert_eq!(refused(&with(json!({ "aud": aud }))), problem::ASSERTION_AUDIENCE_WRONG);
        }
        assert!(verify(&all_keys(), &with(json!({"aud": ["other", "onecode"]}))).is_ok());
        for id in [json!(""), json!("1".repeat(65)), json!("11 0"), json!("１１"), json!(110105), Value::Null] {
            assert_eq!(refused(&with(json!({ "id_number": id }))), problem::ASSERTION_PERSON_MISSING);
        }
    }

    #[test]
    fn times_are_checked_to_the_millisecond() {
        // Now is NOW_S + 0.5, the start is NOW_S - 100.
        let times = |iat: f64, exp: f64, nbf: Option<f64>| {
            let at = |offset: f64| NOW_S as f64 + offset;
            let nbf = nbf.map_or(Value::Null, |nbf| json!(at(nbf)));
            verify(&all_keys(), &with(json!({"iat": at(iat), "exp": at(exp), "nbf": nbf}))).map(|s| s.expires_unix_s)
        };
        assert_eq!(times(0.0, 0.5, None), Err(problem::ASSERTION_EXPIRED));
        assert_eq!(times(0.0, 0.501, None), Ok(NOW_S + 1));
        assert_eq!(times(0.0, 300.0, None), Ok(NOW_S + 300));
        assert_eq!(times(0.1, 300.1, None), Ok(NOW_S + 301));
        assert_eq!(times(0.0, 300.002, None), Err(problem::ASSERTION_LIFE_WRONG));
        assert_eq!(times(60.5, 61.0, None), Ok(NOW_S + 61));
        assert_eq!(times(60.502, 61.0, None), Err(problem::ASSERTION_NOT_YET_VALID));
        assert_eq!(times(0.0, 70.0, Some(60.4)), Ok(NOW_S + 70));
        assert_eq!(times(0.0, 70.0, Some(60.6)), Err(problem::ASSERTION_NOT_YET_VALID));
        assert_eq!(times(50.0, 49.0, None), Err(problem::ASSERTION_LIFE_WRONG));
        assert_eq!(times(-100.0, 10.0, None), Ok(NOW_S + 10));
        assert_eq!(times(-100.002, 10.0, None), Err(problem::ASSERTION_BEFORE_START));
    }

    #[test]
    fn the_second_signature_of_ecdsa_is_the_same_assertion() {
        let first = jwt("ES256", r#"{"alg":"ES256"}"#, &claims().to_string());
        let second = jwt("ES256", r#"{"alg":"ES256"}"#, &claims().to_string());
        assert_ne!(first, second);
        let once = |assertion: &str| verify(&all_keys(), assertion).unwrap().once;
        assert_eq!(once(&first), once(&second));
        assert_ne!(once(&first), once(&with(json!({}))));
    }

    #[test]
    fn a_jwks_is_read_strictly() {
        let first_words = |error: String| error.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        let refused = |read: Result<Verifier, String>| read.err().map(first_words).unwrap_or_default();
        let read = |json: &str| refused(Verifier::from_jwks(json, "i", "a", "id"));
        let (unreadable, unusable) = ("is not a", "has no public");
        let (secret, invalid) = ("keys[0] holds a", "keys[0] is not");
        for json in ["", "{}", "[]", "{\"keys\":{}}", "{\"keys\":[1]}", "{\"keys\":[],\"keys\":[]}", "{\"keys\":[]} x"]
        {
            assert_eq!(read(json), unreadable, "{json}");
        }
        let twice = json!({"keys": [ed_jwk("ed")]}).to_string().replace("\"kid\"", "\"kid\":\"x\",\"kid\"");
        assert_eq!(read(&twice), unreadable);
        assert_eq!(read("{\"keys\":[]}"), unusable);

        let changed = |mut jwk: Value, name: &str, value: Value| {
            jwk[name] = value;
            refused(verifier(&[jwk]))
        };
        assert_eq!(changed(ed_jwk("ed"), "d", json!("AA")), secret);
        assert_eq!(refused(verifier(&[json!({"kty": "oct", "k": "AA"})])), secret);
        for value in [json!("AA"), json!("A="), Value::Null] {
            assert_eq!(changed(ed_jwk("ed"), "x", value), invalid);
        }
        assert_eq!(changed(ed_jwk("ed"), "kid", json!(7)), unreadable);
        assert_eq!(changed(ec_jwk("ec"), "y", json!(b64([1; 32]))), invalid);
        assert_eq!(changed(rsa_jwk("rsa"), "n", json!(b64([0xFF; 128]))), invalid);
        assert_eq!(changed(rsa_jwk("rsa"), "e", json!("")), invalid);
        for (name, value) in [("use", "enc"), ("alg", "PS256"), ("kty", "XX")] {
            assert_eq!(changed(rsa_jwk("rsa"), name, json!(value)), unusable);
        }
        assert_eq!(changed(ed_jwk("ed"), "key_ops", json!(["sign"])), unusable);
        assert_eq!(changed(ed_jwk("ed"), "key_ops", json!(["verify"])), "");

        assert_eq!(refused(verifier(&[ed_jwk("a"), ed_jwk("a")])), "keys[1] has the");
        assert!(verifier(&[ed_jwk("a"), ec_jwk("a"), json!({"kty": "XX"})]).is_ok());
        let many: Vec<Value> = (0..=JWKS_KEYS_MAX).map(|i| ed_jwk(&i.to_string())).collect();
        assert_eq!(refused(verifier(&many)), "has more than");
    }
}
