//! A keyring sealed under a passphrase: what `keys export` writes and `keys import` opens.
//!
//! AES-256-GCM under a key from PBKDF2-HMAC-SHA256, both of aws-lc-rs, in a JSON envelope that states its parameters:
//!
//! ```json
//! {"format":"onecode sealed keyring","version":1,
//!  "kdf":"PBKDF2-HMAC-SHA256","iterations":600000,"salt":"<base64url, 16 bytes>",
//!  "aead":"AES-256-GCM","nonce":"<base64url, 12 bytes>","sealed":"<base64url, ciphertext and tag>"}
//! ```
//!
//! It reads no passphrase and touches no file. Called by commands only: the derivation takes a good part of a second.

use std::num::NonZeroU32;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::pbkdf2;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::keyring::{Keyring, Random, base64url};
use crate::words::{Ended, Fatal};

/// The shortest passphrase accepted for sealing, in bytes: what guards the keys of a city is a sentence, not a word.
pub const PASSPHRASE_BYTES_MIN: usize = 12;
/// OWASP's Password Storage Cheat Sheet (2023) asks for this many rounds with HMAC-SHA256.
const ITERATIONS: u32 = 600_000;
/// A file that asks for more would only hold up whoever opens it.
const ITERATIONS_MAX: u32 = 100_000_000;
const FORMAT: &str = "onecode sealed keyring";
const VERSION: u32 = 1;
const KDF: &str = "PBKDF2-HMAC-SHA256";
const AEAD: &str = "AES-256-GCM";
/// Bound to the ciphertext, so that it opens as nothing else.
const PURPOSE: &[u8] = b"onecode sealed keyring 1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    format: String,
    version: u32,
    kdf: String,
    iterations: u32,
    #[serde(with = "base64url")]
    salt: [u8; 16],
    aead: String,
    #[serde(with = "base64url")]
    nonce: [u8; NONCE_LEN],
    sealed: String,
}

/// Seals `keyring` under `passphrase`; the result is JSON and ends with a newline.
/// Errors: the passphrase is shorter than [`PASSPHRASE_BYTES_MIN`].
pub fn seal(keyring: &Keyring, passphrase: &[u8], random: Random) -> Result<Vec<u8>, Ended> {
    if passphrase.len() < PASSPHRASE_BYTES_MIN {
        return Err((Fatal::Usage, format!("the passphrase is shorter than {PASSPHRASE_BYTES_MIN} bytes")));
    }
    let (mut salt, mut nonce) = ([0; 16], [0; NONCE_LEN]);
    random(&mut salt);
    random(&mut nonce);
    let mut content = keyring.to_json();
    derive(passphrase, &salt, ITERATIONS)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(PURPOSE), &mut *content)
        .expect("a keyring is far shorter than what the cipher takes");
    let envelope = Envelope {
        format: FORMAT.to_owned(),
        version: VERSION,
        kdf: KDF.to_owned(),
        iterations: ITERATIONS,
        salt,
        aead: AEAD.to_owned(),
        nonce,
        sealed: URL_SAFE_NO_PAD.encode(&*content),
    };
    let json = serde_json::to_string(&envelope).expect("strings and numbers are always JSON");
    Ok(format!("{json}\n").into_bytes())
}

/// Opens what [`seal`] made. Errors: another format or version, another passphrase or altered bytes (which cannot be
/// told apart), or a keyring inside that this version does not read.
pub fn open_sealed(sealed: &[u8], passphrase: &[u8]) -> Result<Keyring, String> {
    let damaged = || "this is not a sealed keyring, or it is damaged".to_owned();
    let envelope: Envelope = serde_json::from_slice(sealed).map_err(|_| damaged())?;
    let Envelope { format, version, kdf, iterations, aead, .. } = &envelope;
    if (&**format, &**kdf, &**aead) != (FORMAT, KDF, AEAD) || !(ITERATIONS..=ITERATIONS_MAX).contains(iterations) {
        return Err(damaged());
    }
    if *version != VERSION {
        return Err(format!(
            "the sealed keyring has version {version}, this version of onecode reads version {VERSION}"
        ));
    }
    let mut content = URL_SAFE_NO_PAD.decode(&envelope.sealed).map(Zeroizing::new).map_err(|_| damaged())?;
    let opened = derive(passphrase, &envelope.salt, envelope.iterations)
        .open_in_place(Nonce::assume_unique_for_key(envelope.nonce), Aad::from(PURPOSE), &mut content)
        .map_err(|_| "the passphrase is another one, or the file was altered")?;
    Keyring::from_json(opened)
}

fn derive(passphrase: &[u8], salt: &[u8], iterations: u32) -> LessSafeKey {
    let iterations = NonZeroU32::new(iterations).expect("at least ITERATIONS");
    let mut key = Zeroizing::new([0; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, passphrase, &mut *key);
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).expect("a key of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::keyring::tests::{counting_random, keyring};

    const REFUSED: &str = "the passphrase is another one, or the file was altered";
    const PASSPHRASE: &[u8] = b"a sentence kept in the safe";

    #[test]
    fn what_was_sealed_opens_under_its_passphrase_only() {
        let keyring = keyring();
        let sealed = seal(&keyring, PASSPHRASE, counting_random).unwrap();
        let opened = open_sealed(&sealed, PASSPHRASE).unwrap();
        assert_eq!(*opened.to_json(), *keyring.to_json());
        assert_eq!(open_sealed(&sealed, b"another sentence").unwrap_err(), REFUSED);
    }

    #[test]
    fn nothing_secret_stands_in_the_envelope_and_alteration_is_refused() {
        let keyring = keyring();
        let sealed = seal(&keyring, PASSPHRASE, counting_random).unwrap();
        let text = String::from_utf8(sealed).unwrap();
        assert!(!text.contains(&URL_SAFE_NO_PAD.encode(keyring.hash_key.expose())));
        let (head, body) = text.split_at(text.find("\"sealed\":\"").unwrap() + 12);
        let altered = format!("{head}{}{}", if body.starts_with('A') { 'B' } else { 'A' }, &body[1..]);
        let refused = |text: &str| open_sealed(text.as_bytes(), PASSPHRASE).unwrap_err();
        assert_eq!(refused(&altered), REFUSED);
        assert!(refused("{}").contains("is damaged"));
        let later = text.replace("\"version\":1", "\"version\":2");
        assert!(refused(&later).contains("has version 2"));
        let cheap = text.replace("600000", "1");
        assert!(refused(&cheap).contains("is damaged"));
    }

    #[test]
    fn a_short_passphrase_seals_nothing() {
        assert_eq!(seal(&keyring(), b"short", counting_random).unwrap_err().0, Fatal::Usage);
    }
}
