//! Verification: a text and a list of trusted keys in, a verdict out.
//!
//! One library for the server, the command and later readers. It owns the order of results: malformed,
//! unknown_issuer, bad_signature, revoked, expired or not_yet_valid; nothing of a code is reported before its signature
//! is known to be good. A key is looked up inside its issuer only, and what it may sign with comes from its entry, not
//! from the code. It reads no clock and knows no registry, and its work is bounded for any input.

use minicbor::decode::Error;
use serde::Serialize;
use strum::{EnumString, IntoStaticStr};

use super::cbor::pairs;
use super::claims::PREFIX;
use super::cose::Sign1;
use super::keyring::Env;
use super::trust::{Trust, TrustedKey};
use super::{base45, dcc};
pub use crate::limits::LEEWAY_S;
use crate::words::Status;

/// The longest text that is looked at, in bytes; longer ones are malformed at once.
pub const TEXT_BYTES_MAX: usize = 4_096;

/// The word of a verdict. Which words a verifier can come to depends on what it knows besides the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs, reason = "where the name says it")]
pub enum Outcome {
    /// Signed by a trusted key and within its life.
    Valid,
    /// Expired, but inside a grace that its issuer announced.
    ValidInGrace,
    Expired,
    NotYetValid,
    /// The key was revoked, or the code itself.
    Revoked,
    /// No key the issuer holds under that id, for that time, made the signature.
    BadSignature,
    /// The issuer, or this key of it, is not on the list.
    UnknownIssuer,
    /// The verifier's own clock is wrong.
    ClockSuspect,
    /// Valid by a list of keys that is too old to be relied on.
    StaleTrust,
    Malformed,
    /// A good code of somebody the registry does not know.
    UnknownResident,
}

impl Outcome {
    /// The word that stands in JSON; part of the interface.
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// Whether a door may let the holder of such a code pass, by its status: `valid` and `valid_in_grace`.
    pub const fn counts(self) -> bool {
        matches!(self, Outcome::Valid | Outcome::ValidInGrace)
    }
}

/// What a code with a good signature says. Times are in Unix seconds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "where the name says it")]
pub struct Claims {
    pub status: Status,
    pub iss: String,
    pub iat: u64,
    pub exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// The token id, which only its issuer can open; not shown, since it names a resident to whoever holds that key.
    /// Zeros where the form has none.
    #[serde(skip)]
    pub cti: [u8; 16],
    #[serde(skip_serializing_if = "Env::is_prod")]
    pub env: Env,
}

/// The answer to one text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[allow(missing_docs, reason = "where the name says it")]
pub struct Verdict {
    #[serde(rename = "result")]
    pub outcome: Outcome,
    /// Present exactly when the signature is good.
    #[serde(flatten)]
    pub claims: Option<Claims>,
}

/// Says what `text` is worth at `at_unix_s`, when clocks may differ by `leeway_s` seconds. Nothing is trimmed: a code
/// neither begins nor ends with a space, and spaces inside are part of it.
pub fn verify(trust: &Trust, text: &[u8], at_unix_s: u64, leeway_s: u64) -> Verdict {
    let without_claims = |outcome| Verdict { outcome, claims: None };
    let mut buffer = [0; TEXT_BYTES_MAX];
    let Some(Code { sign1, is_ours, claims }) = Code::decode(trust, text, at_unix_s, &mut buffer) else {
        return without_claims(Outcome::Malformed);
    };
    let mut candidates = trust.candidates((is_ours, &claims.iss, &sign1.kid));
    let begin = claims.nbf.unwrap_or(0).max(claims.iat);
    let (ends, has_begun) = (claims.exp.saturating_add(leeway_s), begin <= at_unix_s.saturating_add(leeway_s));
    let (signed, is_live) = (sign1.signed(), has_begun && at_unix_s < ends);
    let made = |key: &&TrustedKey| key.made(&sign1.signature, &signed, sign1.alg, claims.iat, is_live);
    let Some(key) = candidates.clone().find(made) else {
        let is_listed = candidates.any(|key| key.kid == *sign1.kid);
        return without_claims(if is_listed { Outcome::BadSignature } else { Outcome::UnknownIssuer });
    };
    let outcome = if key.revoked {
        Outcome::Revoked
    } else if at_unix_s >= ends {
        // RFC 7519 §4.1.4, to which RFC 8392 refers: not on or after exp.
        Outcome::Expired
    } else if !has_begun {
        Outcome::NotYetValid
    } else {
        Outcome::Valid
    };
    Verdict { outcome, claims: Some(Claims { env: key.env, ..claims }) }
}

/// A well-formed code whose signature nobody has checked.
pub(super) struct Code<'a> {
    pub sign1: Sign1<'a>,
    /// Ours, or an EU certificate.
    pub is_ours: bool,
    /// Without `env`, which the key says.
    pub claims: Claims,
}

impl<'a> Code<'a> {
    fn decode(trust: &Trust, text: &[u8], at_unix_s: u64, buffer: &'a mut [u8; TEXT_BYTES_MAX]) -> Option<Code<'a>> {
        let (prefix, base45) = text.split_first_chunk().filter(|_| text.len() <= TEXT_BYTES_MAX)?;
        if ![PREFIX, dcc::PREFIX].contains(&prefix) {
            return None;
        }
        let length = base45::decode(base45, buffer)?;
        let bytes = &buffer[..length];
        if prefix == PREFIX { Code::read(bytes).ok() } else { dcc::read(bytes, &trust.dcc, at_unix_s) }
    }

    fn read(bytes: &'a [u8]) -> Result<Code<'a>, Error> {
        let (sign1, mut claims, mut required) = (Sign1::read(bytes)?, Claims::default(), 0);
        pairs(&sign1.payload, |key, mut value| {
            required += 1;
            match key {
                [0x01] => claims.iss = value.str()?.to_owned(),
                [0x04] => claims.exp = value.u64()?,
                [0x06] => claims.iat = value.u64()?,
                [0x07] => claims.cti = value.bytes()?.try_into().map_err(|_| Error::message("a cti of 16 bytes"))?,
                // Claim -65537; any value that is not one of ours is unknown.
                [0x3a, 0x00, 0x01, 0x00, 0x00] => {
                    claims.status = value.u64().map_or(Status::Unknown, Status::from_claim)
                }
                [0x05] => {
                    claims.nbf = Some(value.u64()?);
                    required -= 1;
                }
                // A claim that a later profile adds says nothing against the others (RFC 8392 §3).
                _ => required -= 1,
            }
            Ok(())
        })?;
        // No key stands twice, so five of the five that every code of ours has are all of them.
        if required == 5 {
            Ok(Code { sign1, is_ours: true, claims })
        } else {
            Err(Error::message("a claim is missing"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::claims::{CodeBuffer, CodeRequest, DEFAULT_ISSUER, Issuer};
    use crate::code::keyring::Keyring;
    use crate::code::keyring::tests::{counting_random, keyring};
    use crate::words::ResidentNumber;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use coset::TaggedCborSerializable;
    use coset::cbor::value::Value;
    use minicbor::encode::{Encoder, write::Cursor};
    use proptest::prelude::*;

    const IAT: u64 = 1_780_000_000;
    const KID: &[u8] = b"testkey1";

    fn issued(keyring: &Keyring, status: Status, test: bool) -> String {
        let mut code = CodeBuffer::default();
        let (iat, exp) = (1_780_000_000, 1_780_000_120);
        let request = CodeRequest { resident: ResidentNumber(9), version: 3, status, iat, exp, test };
        let issuer = Issuer::new(keyring, DEFAULT_ISSUER).unwrap();
        issuer.write(&request, &issuer.sign(&request), &mut code);
        code.as_str().to_owned()
    }

    fn outcome(trust: &Trust, text: &str, at: u64) -> Outcome {
        verify(trust, text.as_bytes(), at, LEEWAY_S).outcome
    }

    fn signer() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn trusted() -> TrustedKey {
        TrustedKey::ed25519(DEFAULT_ISSUER, KID, signer().public_key().as_ref(), Env::Prod).unwrap()
    }

    fn text_of(bytes: &[u8]) -> String {
        let mut out = vec![0; base45::encoded_len(bytes.len())];
        base45::encode(bytes, &mut out);
        format!("OC1:{}", String::from_utf8(out).unwrap())
    }

    /// A code signed over any header and payload, so that only the decoder stands between it and `valid`.
    fn forged(protected: &[u8], unprotected: &[u8], payload: &[u8]) -> String {
        let string = |bytes: &[u8]| {
            let mut out = [0; 600];
            let mut encoder = Encoder::new(Cursor::new(&mut out[..]));
            encoder.bytes(bytes).unwrap();
            let length = encoder.writer().position();
            out[..length].to_vec()
        };
        let (parts, body) = (string(protected), string(payload));
        let signed = [b"\x84\x6aSignature1", &parts[..], &[0x40], &body].concat();
        let signature = signer().sign(&signed);
        text_of(&[&[0xd2, 0x84], &parts[..], unprotected, &body, &[0x58, 0x40], signature.as_ref()].concat())
    }

    fn protected(alg: u8) -> Vec<u8> {
        [&[0xa2, 0x01, alg, 0x04, 0x48], KID].concat()
    }

    /// A payload with these pairs after the head, and the issuer's.
    fn payload(pairs: u8, rest: &[&[u8]]) -> Vec<u8> {
        [&[0xa0 + pairs, 0x01, 0x69], DEFAULT_ISSUER.as_bytes(), &rest.concat()].concat()
    }

    const EXP: &[u8] = &[0x04, 0x1a, 0x6a, 0x18, 0xa5, 0x78];
    const IAT_PAIR: &[u8] = &[0x06, 0x1a, 0x6a, 0x18, 0xa5, 0x00];
    const CTI: &[u8] = &[0x07, 0x50, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    const GREEN: &[u8] = &[0x3a, 0x00, 0x01, 0x00, 0x00, 0x01];

    #[test]
    fn a_code_of_ours_is_valid_within_its_life_and_the_leeway() {
        let keyring = keyring();
        let trust = keyring.trusted(DEFAULT_ISSUER);
        let code = issued(&keyring, Status::Yellow, false);
        for (at, expected) in [
            (0, Outcome::NotYetValid),
            (IAT - 61, Outcome::NotYetValid),
            (IAT - 60, Outcome::Valid),
            (IAT, Outcome::Valid),
            (IAT + 179, Outcome::Valid),
            (IAT + 180, Outcome::Expired),
            (u64::MAX, Outcome::Expired),
        ] {
            assert_eq!(outcome(&trust, &code, at), expected, "{at}");
        }
        let claims = verify(&trust, code.as_bytes(), IAT, 0).claims.unwrap();
        assert_eq!((claims.iss.as_str(), claims.iat, claims.exp), (DEFAULT_ISSUER, IAT, IAT + 120));
        assert_eq!((claims.status, claims.env, claims.nbf), (Status::Yellow, Env::Prod, None));
        let claims = verify(&trust, issued(&keyring, Status::Red, true).as_bytes(), IAT, 0).claims.unwrap();
        assert_eq!((claims.status, claims.env), (Status::Red, Env::Test));
    }

    #[test]
    fn a_served_jwk_set_says_the_same_as_the_keyring() {
        let keyring = keyring();
        let trust = Trust::from_jwks(keyring.jwks_json(DEFAULT_ISSUER).as_bytes()).unwrap();
        for test in [false, true] {
            let code = issued(&keyring, Status::Green, test);
            let verdict = verify(&trust, code.as_bytes(), IAT, LEEWAY_S);
            assert_eq!(verdict, verify(&keyring.trusted(DEFAULT_ISSUER), code.as_bytes(), IAT, LEEWAY_S));
            assert_eq!(verdict.outcome, Outcome::Valid);
        }
    }

    #[test]
    fn the_first_reason_in_the_order_of_results_is_given() {
        let mut keyring = keyring();
        let code = issued(&keyring, Status::Green, false);
        let active = keyring.active(IAT, Env::Prod).unwrap().kid;
        assert_eq!(outcome(&keyring.trusted("CN-500000"), &code, IAT), Outcome::UnknownIssuer);
        // Another key of the same issuer under the same id; a bad signature comes before a life that is over.
        let public_key = signer().public_key().as_ref().to_vec();
        let other = TrustedKey::ed25519(DEFAULT_ISSUER, &active.0, &public_key, Env::Prod).unwrap();
        assert_eq!(outcome(&Trust::new(vec![other.clone()]), &code, 0), Outcome::BadSignature);
        keyring.revoke(active, IAT, counting_random);
        let trust = keyring.trusted(DEFAULT_ISSUER);
        assert_eq!(outcome(&trust, &code, IAT), Outcome::Revoked);
        assert_eq!(outcome(&trust, &code, IAT + 1_000), Outcome::Revoked, "revoked comes before expired");
        // The same id twice: each key is tried.
        let revoked = keyring.signing_keys.iter().find(|key| key.kid == active).unwrap().public_key();
        let mut revoked = TrustedKey::ed25519(DEFAULT_ISSUER, &active.0, &revoked, Env::Prod).unwrap();
        revoked.revoked = true;
        for both in [vec![other.clone(), revoked.clone()], vec![revoked, other]] {
            assert_eq!(outcome(&Trust::new(both), &code, IAT), Outcome::Revoked);
        }
    }

    #[test]
    fn a_key_bounds_iat_and_not_the_time_of_the_check() {
        let code = forged(&protected(0x27), &[0xa0], &payload(5, &[EXP, IAT_PAIR, CTI, GREEN]));
        for (not_before, not_after, expected) in [
            (0, None, Outcome::Valid),
            (IAT, Some(IAT), Outcome::Valid),
            (IAT + 1, None, Outcome::BadSignature),
            (0, Some(IAT - 1), Outcome::BadSignature),
        ] {
            let trust = Trust::new(vec![trusted().bounded(not_before, not_after)]);
            assert_eq!(outcome(&trust, &code, IAT + 100), expected);
        }
    }

    #[test]
    fn signed_or_not_only_our_form_is_a_code() {
        let trust = Trust::new(vec![trusted()]);
        let good = payload(5, &[EXP, IAT_PAIR, CTI, GREEN]);
        let crit = [&[0xa3, 0x01, 0x27, 0x02, 0x81, 0x01, 0x04, 0x48], KID].concat();
        let nbf: &[u8] = &[0x05, 0x1a, 0x6a, 0x18, 0xa5, 0x3d];
        let unknown: &[u8] = &[0x3a, 0x00, 0x01, 0x00, 0x01, 0x44, 1, 2, 3, 4];
        let cases: Vec<(&str, Outcome, String)> = vec![
            ("alg -8", Outcome::Valid, forged(&protected(0x27), &[0xa0], &good)),
            ("alg -19", Outcome::Valid, forged(&protected(0x32), &[0xa0], &good)),
            ("alg -7", Outcome::BadSignature, forged(&protected(0x26), &[0xa0], &good)),
            ("crit", Outcome::Malformed, forged(&crit, &[0xa0], &good)),
            ("unprotected", Outcome::Malformed, forged(&protected(0x27), &[0xa1, 0x01, 0x27], &good)),
            ("no claims", Outcome::Malformed, forged(&protected(0x27), &[0xa0], &payload(1, &[]))),
            ("no header", Outcome::Malformed, forged(&[], &[0xa0], &good)),
            ("claim left out", Outcome::Malformed, {
                forged(&protected(0x27), &[0xa0], &payload(4, &[EXP, IAT_PAIR, GREEN]))
            }),
            ("claim twice", Outcome::Malformed, {
                forged(&protected(0x27), &[0xa0], &payload(6, &[EXP, EXP, IAT_PAIR, CTI, GREEN]))
            }),
            ("order", Outcome::Malformed, {
                forged(&protected(0x27), &[0xa0], &payload(5, &[IAT_PAIR, EXP, CTI, GREEN]))
            }),
            ("indefinite", Outcome::Malformed, {
                let mut map = payload(5, &[EXP, IAT_PAIR, CTI, GREEN, &[0xff]]);
                map[0] = 0xbf;
                forged(&protected(0x27), &[0xa0], &map)
            }),
            ("trailing", Outcome::Malformed, forged(&protected(0x27), &[0xa0], &[&good[..], &[0]].concat())),
            ("huge count", Outcome::Malformed, {
                let map = [&[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &good[1..]].concat();
                forged(&protected(0x27), &[0xa0], &map)
            }),
            ("nbf later", Outcome::NotYetValid, {
                forged(&protected(0x27), &[0xa0], &payload(6, &[EXP, nbf, IAT_PAIR, CTI, GREEN]))
            }),
            ("claim of a later profile", Outcome::Valid, {
                forged(&protected(0x27), &[0xa0], &payload(6, &[EXP, IAT_PAIR, CTI, GREEN, unknown]))
            }),
        ];
        for (name, expected, text) in cases {
            assert_eq!(outcome(&trust, &text, IAT), expected, "{name}");
        }
    }

    #[test]
    fn a_status_of_another_kind_is_unknown() {
        let trust = Trust::new(vec![trusted()]);
        for value in [&[0x00][..], &[0x04], &[0x20], &[0x18, 0xff], &[0x61, b'1'], &[0xf5]] {
            let status = [&GREEN[..5], value].concat();
            let text = forged(&protected(0x27), &[0xa0], &payload(5, &[EXP, IAT_PAIR, CTI, &status]));
            let verdict = verify(&trust, text.as_bytes(), IAT, LEEWAY_S);
            assert_eq!((verdict.outcome, verdict.claims.unwrap().status), (Outcome::Valid, Status::Unknown));
        }
    }

    #[test]
    fn what_coset_writes_is_read() {
        let payload = Value::Map(vec![
            (1.into(), DEFAULT_ISSUER.into()),
            (4.into(), (IAT + 120).into()),
            (6.into(), IAT.into()),
            (7.into(), Value::Bytes(vec![3; 16])),
            ((-65_537).into(), 3.into()),
        ]);
        let mut bytes = Vec::new();
        coset::cbor::into_writer(&payload, &mut bytes).unwrap();
        let header = coset::HeaderBuilder::new().algorithm(coset::iana::Algorithm::EdDSA).key_id(KID.to_vec()).build();
        let sign1 = coset::CoseSign1Builder::new()
            .protected(header)
            .payload(bytes)
            .create_signature(b"", |signed| signer().sign(signed).as_ref().to_vec())
            .build();
        let text = text_of(&sign1.to_tagged_vec().unwrap());
        let verdict = verify(&Trust::new(vec![trusted()]), text.as_bytes(), IAT, LEEWAY_S);
        assert_eq!((verdict.outcome, verdict.claims.unwrap().status), (Outcome::Valid, Status::Red));
    }

    #[test]
    fn cut_or_altered_anywhere_it_is_never_valid() {
        let keyring = keyring();
        let trust = keyring.trusted(DEFAULT_ISSUER);
        let code = issued(&keyring, Status::Green, false).into_bytes();
        for end in 0..code.len() {
            assert_eq!(verify(&trust, &code[..end], IAT, LEEWAY_S).outcome, Outcome::Malformed);
        }
        for at in 0..code.len() {
            for other in b'\t'..=0x7f {
                let mut altered = code.clone();
                altered[at] = other;
                let verdict = verify(&trust, &altered, IAT, LEEWAY_S);
                assert_eq!(verdict.outcome == Outcome::Valid, altered == code, "{at} {other}");
                assert_eq!(verdict.claims.is_some(), altered == code, "{at} {other}");
            }
        }
        let mut bytes = [0; TEXT_BYTES_MAX];
        let length = base45::decode(&code[4..], &mut bytes).unwrap();
        for bit in 0..length * 8 {
            let mut altered = bytes[..length].to_vec();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(&trust, text_of(&altered).as_bytes(), IAT, LEEWAY_S).claims, None, "bit {bit}");
        }
    }

    #[test]
    fn nothing_is_trimmed_and_nothing_long_is_read() {
        let keyring = keyring();
        let trust = keyring.trusted(DEFAULT_ISSUER);
        let code = issued(&keyring, Status::Green, false);
        let texts = [
            String::new(),
            "OC1:".to_owned(),
            format!(" {code}"),
            format!("{code} "),
            format!("{code}\n"),
            code.replacen(' ', "", 1),
            code.replacen("OC1:", "oc1:", 1),
            code.replacen("OC1:", "HC1:", 1),
            format!("{code}{code}"),
            "OC1:".to_owned() + &"0".repeat(TEXT_BYTES_MAX - 4),
            "OC1:".to_owned() + &"0".repeat(1 << 20),
        ];
        for text in texts {
            assert_eq!(outcome(&trust, &text, IAT), Outcome::Malformed);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let trust = Trust::new(vec![trusted()]);
            prop_assert_eq!(verify(&trust, &bytes, IAT, LEEWAY_S).outcome, Outcome::Malformed);
            let verdict = verify(&trust, text_of(&bytes).as_bytes(), IAT, LEEWAY_S);
            prop_assert_eq!(verdict.claims, None);
        }
    }
}
