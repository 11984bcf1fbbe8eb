//! The keyring: every secret of a server in one file, `keyring.json` in the keys folder.
//!
//! It owns the signing keys and their dates, the keys of the resident hash, of `cti`, of sessions and of device tokens,
//! and the file's format and permissions. Secrets are wiped when dropped and never printed by `Debug` or an error. Only
//! commands and the start of the server come here; a request never does. Randomness and time are handed in, and every
//! change holds a lock on the folder, so that `import` and `serve`, started together, make one keyring and not two.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{IntoDeserializer as _, value};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strum::Display;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::trust::{Trust, TrustedKey};
use crate::limits::CODE_WINDOW_S_MAX;
use crate::sys::ed25519::Signer;
use crate::sys::regular_file::{self, read_bounded};
use crate::words::{Ended, Fatal};

/// The file's name inside the keys folder.
pub const KEYRING_FILE: &str = "keyring.json";
const FORMAT: u32 = 1;
/// A keyring has a few hundred bytes a key; anything near this is not one.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How long, in seconds, a retired key may sign beside its successor: a node may take up a rotated keyring a day late.
const RETIREMENT_OVERLAP_S: u64 = 86_400;

/// Fills a buffer with random bytes: the operating system's in commands, a seeded source in tests.
pub type Random = fn(&mut [u8]);

/// Bytes as unpadded base64url in JSON.
pub(super) mod base64url {
    use super::*;

    pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let mut bytes = [0; N];
        match URL_SAFE_NO_PAD.decode_slice(text.as_bytes(), &mut bytes) {
            Ok(length) if length == N => Ok(bytes),
            _ => Err(serde::de::Error::custom(format_args!("not base64url of {N} bytes"))),
        }
    }
}

/// `N` secret bytes, wiped when dropped and never printed.
#[derive(Clone, derive_more::Debug, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
#[debug("Secret")]
#[serde(transparent)]
pub struct Secret<const N: usize>(#[serde(with = "base64url")] [u8; N]);

impl<const N: usize> Secret<N> {
    /// The bytes, for the one computation that needs them.
    pub const fn expose(&self) -> &[u8; N] {
        &self.0
    }

    fn generate(random: Random) -> Secret<N> {
        let mut secret = Secret([0; N]);
        random(&mut secret.0);
        secret
    }
}

/// A key id: the first 8 bytes of the RFC 9679 thumbprint of the public key; base64url in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, derive_more::Display, Serialize, Deserialize)]
#[display("{}", URL_SAFE_NO_PAD.encode(_0))]
#[serde(transparent)]
pub struct Kid(#[serde(with = "base64url")] pub [u8; 8]);

#[allow(missing_docs, reason = "where the name says it")]
impl Kid {
    pub fn of(public_key: &[u8; 32]) -> Kid {
        // RFC 9679 §3: SHA-256 of the deterministic encoding of {1: 1 (OKP), -1: 6 (Ed25519), -2: x}.
        let cose_key = [&[0xa3, 0x01, 0x01, 0x20, 0x06, 0x21, 0x58, 0x20], &public_key[..]].concat();
        Kid(*digest(&SHA256, &cose_key).as_ref().first_chunk().expect("32 bytes"))
    }
}

impl FromStr for Kid {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Kid, Self::Err> {
        let kid = Kid::deserialize(text.into_deserializer());
        kid.map_err(|_: value::Error| "not a key id, which has 11 characters: `onecode keys list` shows them")
    }
}

/// Whose codes a key signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
#[allow(missing_docs, reason = "where the name says it")]
pub enum Env {
    #[default]
    Prod,
    /// Test residents: pages show TEST, never green.
    Test,
}

impl Env {
    /// Whether it is that of residents, of which codes need not tell.
    pub(super) fn is_prod(&self) -> bool {
        *self == Env::Prod
    }
}

/// One Ed25519 signing key. Times are in Unix seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "where the name says it")]
pub struct SigningKey {
    /// Always the thumbprint of the key that `seed` makes.
    pub kid: Kid,
    seed: Secret<32>,
    pub env: Env,
    pub created: u64,
    /// The first `iat` it signs.
    pub not_before: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked: Option<u64>,
}

#[allow(missing_docs, reason = "where the name says it")]
impl SigningKey {
    fn generate(env: Env, created: u64, not_before: u64, random: Random) -> SigningKey {
        let seed = Secret::generate(random);
        let kid = Kid::of(&Signer::from_seed(seed.expose()).public_key());
        SigningKey { kid, seed, env, created, not_before, revoked: None }
    }

    pub fn signer(&self) -> Signer {
        Signer::from_seed(self.seed.expose())
    }

    pub fn public_key(&self) -> [u8; 32] {
        self.signer().public_key()
    }

    /// The newest key is the greatest; the key id only makes the order total.
    pub(super) fn age(&self) -> (u64, u64, Kid) {
        (self.not_before, self.created, self.kid)
    }
}

/// The key that signs sessions, and the epoch it stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "where the name says it")]
pub struct SessionKey {
    /// Grows with every rotation; a session of another epoch is over.
    pub epoch: u32,
    pub key: Secret<32>,
}

/// All secrets of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "where the name says it")]
pub struct Keyring {
    /// Invariant: [`FORMAT`].
    format: u32,
    /// In the order in which they were made.
    pub signing_keys: Vec<SigningKey>,
    /// The key of the hash that makes a resident number of an ID number.
    pub hash_key: Secret<32>,
    pub cti_key: Secret<16>,
    /// The one that signs, and no other is accepted.
    session_keys: [SessionKey; 1],
    pub device_key: Secret<32>,
}

impl Keyring {
    /// New secrets, with one signing key for each environment.
    pub fn generate(now_unix_s: u64, random: Random) -> Keyring {
        let mut keyring = Keyring {
            format: FORMAT,
            signing_keys: Vec::new(),
            hash_key: Secret::generate(random),
            cti_key: Secret::generate(random),
            session_keys: [SessionKey { epoch: 1, key: Secret::generate(random) }],
            device_key: Secret::generate(random),
        };
        keyring.complete(now_unix_s, random);
        keyring
    }

    /// Makes a signing key for each environment in which none can sign now. It begins at 0, so it signs at once, in the
    /// window already begun, and also when the clock is set back.
    pub fn complete(&mut self, now_unix_s: u64, random: Random) {
        for env in [Env::Prod, Env::Test] {
            // A key that is to sign in the current window has begun by its start.
            if self.active(now_unix_s.saturating_sub(u64::from(CODE_WINDOW_S_MAX)), env).is_none() {
                self.signing_keys.push(SigningKey::generate(env, now_unix_s, 0, random));
            }
        }
    }

    /// Adds a signing key for residents that begins in `lead_s` seconds, published until then, and returns its id.
    pub fn rotate_signing(&mut self, now_unix_s: u64, lead_s: u64, random: Random) -> Kid {
        let key = SigningKey::generate(Env::Prod, now_unix_s, now_unix_s.saturating_add(lead_s), random);
        let kid = key.kid;
        self.signing_keys.push(key);
        kid
    }

    /// Ends all sessions: a new session key under the next epoch, and the old ones destroyed. Returns the epoch.
    pub fn rotate_session(&mut self, random: Random) -> u32 {
        // The last of four billion epochs stays; its new key ends the sessions as well.
        let epoch = self.session_key().epoch.saturating_add(1);
        self.session_keys = [SessionKey { epoch, key: Secret::generate(random) }];
        epoch
    }

    /// Revokes a signing key, and makes another if none is left to sign. False: there is no such key; twice is as once.
    pub fn revoke(&mut self, kid: Kid, now_unix_s: u64, random: Random) -> bool {
        let Some(key) = self.signing_keys.iter_mut().find(|key| key.kid == kid) else { return false };
        key.revoked.get_or_insert(now_unix_s);
        self.complete(now_unix_s, random);
        true
    }

    /// The key that signs a code of that `iat`: the newest that is not revoked and has begun.
    pub fn active(&self, iat: u64, env: Env) -> Option<&SigningKey> {
        let usable = |key: &&SigningKey| key.env == env && key.revoked.is_none() && key.not_before <= iat;
        self.signing_keys.iter().filter(usable).max_by_key(|key| key.age())
    }

    /// What `key` is doing at `now_unix_s`, in the words of `keys list`: a revoked one verifies nothing, the next one is
    /// published, the active one signs, a retired one verifies what it signed.
    pub fn state(&self, key: &SigningKey, now_unix_s: u64) -> &'static str {
        match self.active(now_unix_s, key.env) {
            _ if key.revoked.is_some() => "revoked",
            _ if key.not_before > now_unix_s => "next",
            Some(active) if active.kid == key.kid => "active",
            _ => "retired",
        }
    }

    /// The last `iat` that `key` may have signed: a day into its successor's time. `None` without one, and if revoked.
    pub fn not_after(&self, key: &SigningKey) -> Option<u64> {
        if key.revoked.is_some() {
            return None;
        }
        let successor =
            |other: &&SigningKey| other.env == key.env && other.revoked.is_none() && other.age() > key.age();
        let first = self.signing_keys.iter().filter(successor).map(|other| other.not_before).min()?;
        Some(first.saturating_add(RETIREMENT_OVERLAP_S))
    }

    /// The key that signs sessions.
    pub fn session_key(&self) -> &SessionKey {
        &self.session_keys[0]
    }

    /// The keys that verify codes of this server, as `issuer`; revoked ones included, so that they are known as such.
    pub fn trusted(&self, issuer: &str) -> Trust {
        let trusted = |key: &SigningKey| {
            let mut trusted = TrustedKey::ed25519(issuer, &key.kid.0, &key.public_key(), key.env)
                .expect("a public key made from a seed is a point of the large subgroup")
                .bounded(key.not_before, self.not_after(key));
            (trusted.signer, trusted.revoked) = (Some(Arc::new(key.signer())), key.revoked.is_some());
            trusted
        };
        Trust::new(self.signing_keys.iter().map(trusted).collect())
    }

    /// The JWK set (RFC 7517, RFC 8037), without revoked keys: its readers may know nothing of revocation.
    pub fn jwks_json(&self, issuer: &str) -> String {
        let jwk = |key: &SigningKey| {
            let mut jwk = serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": key.kid.to_string(),
                "x": URL_SAFE_NO_PAD.encode(key.public_key()), "iss": issuer, "env": key.env,
            });
            if key.not_before > 0 {
                jwk["nbf"] = key.not_before.into();
            }
            if let Some(not_after) = self.not_after(key) {
                jwk["exp"] = not_after.into();
            }
            jwk
        };
        let keys: Vec<_> = self.signing_keys.iter().filter(|key| key.revoked.is_none()).map(jwk).collect();
        serde_json::json!({ "keys": keys }).to_string()
    }

    /// Reads the keyring of `folder`.
    /// Errors: it is missing, readable by others, of another format, or damaged; never with what is in it.
    pub fn open(folder: &Path) -> Result<Keyring, Ended> {
        let path = folder.join(KEYRING_FILE);
        let file = regular_file::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => (Fatal::Configuration, format!("{} {MISSING}", path.display())),
            _ => Fatal::File.at(path.display())(error),
        })?;
        let metadata = file.metadata().map_err(Fatal::File.at(path.display()))?;
        check_private(&path, &metadata, 0o600)?;
        check_private(folder, &fs::metadata(folder).map_err(Fatal::File.at(folder.display()))?, 0o700)?;
        let json = Zeroizing::new(read_bounded(Ok(file), FILE_BYTES_MAX).map_err(Fatal::File.at(path.display()))?);
        Keyring::from_json(&json).map_err(Fatal::Configuration.at(path.display()))
    }

    /// [Reads](Keyring::open) the keyring of `folder`, or makes folder and keyring.
    pub fn open_or_create(folder: &Path, now_unix_s: u64, random: Random) -> Result<Keyring, Ended> {
        let _lock = make_and_lock(folder)?;
        if !folder.join(KEYRING_FILE).exists() {
            Keyring::generate(now_unix_s, random).write(folder)?;
        }
        Keyring::open(folder)
    }

    /// Changes the keyring of `folder`, once [read](Keyring::open), and replaces its file, under the folder's lock.
    pub fn update<T>(folder: &Path, change: impl FnOnce(&mut Keyring) -> T) -> Result<T, Ended> {
        // Before the lock, so that a folder that is not there is told as missing keys.
        Keyring::open(folder)?;
        let _lock = lock(folder)?;
        let mut keyring = Keyring::open(folder)?;
        let done = change(&mut keyring);
        keyring.write(folder)?;
        Ok(done)
    }

    /// Puts this keyring into `folder`, making the folder if it is missing; only where there is none.
    /// Errors: there is a keyring, be it a damaged one, or the folder cannot be written.
    pub fn restore(&self, folder: &Path) -> Result<(), Ended> {
        let (_lock, path) = (make_and_lock(folder)?, folder.join(KEYRING_FILE));
        Fatal::Configuration.unless(!path.exists(), path.display(), "it is there: move it away first")?;
        self.write(folder)
    }

    pub(super) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        // More than any ring needs, so that the buffer does not grow and leave copies behind.
        let mut json = Zeroizing::new(Vec::with_capacity(4_096 + 512 * self.signing_keys.len()));
        serde_json::to_writer_pretty(&mut *json, self).expect("strings and numbers are always JSON");
        json
    }

    pub(super) fn from_json(json: &[u8]) -> Result<Keyring, String> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let damaged = |why| format!("the keyring is damaged: {why}; {RESTORE}");
        let no_keyring = |_| damaged("it is not the JSON of a keyring");
        let Versioned { format } = serde_json::from_slice(json).map_err(no_keyring)?;
        if format != FORMAT {
            let reads = format!("this version reads format {FORMAT}: use the version that wrote it");
            return Err(format!("the keyring has format {format}, {reads}"));
        }
        let keyring: Keyring = serde_json::from_slice(json).map_err(no_keyring)?;
        if keyring.signing_keys.iter().any(|key| key.kid != Kid::of(&key.public_key())) {
            return Err(damaged("a key id does not belong to its key"));
        }
        Ok(keyring)
    }

    fn write(&self, folder: &Path) -> Result<(), Ended> {
        let path = folder.join(KEYRING_FILE);
        let written = regular_file::replace(&path, 0o600, |file| file.write_all(&self.to_json()));
        written.map_err(Fatal::File.at(path.display()))
    }
}

/// Refuses what others than its owner can reach.
fn check_private(path: &Path, metadata: &fs::Metadata, right: u32) -> Result<(), Ended> {
    let (mode, path) = (metadata.mode() & 0o777, path.display());
    let wrong = format_args!("mode {mode:04o}, others can reach the keys: run chmod {right:o} {path}");
    Fatal::Configuration.unless(mode & 0o077 == 0, &path, wrong)
}

/// Makes the folder if it is missing, 0700, and holds its lock until the returned handle is dropped.
fn make_and_lock(folder: &Path) -> Result<File, Ended> {
    let private = || DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let made = folder.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| private());
    let metadata = made.and_then(|()| fs::metadata(folder)).map_err(Fatal::Folder.at(folder.display()))?;
    check_private(folder, &metadata, 0o700)?;
    lock(folder)
}

fn lock(folder: &Path) -> Result<File, Ended> {
    let locked = File::open(folder).and_then(|handle| handle.lock().map(|()| handle));
    locked.map_err(Fatal::Folder.at(folder.display()))
}

const MISSING: &str = "is missing: `onecode keys generate` makes it, `keys import` restores it";
const RESTORE: &str = "move it away, and `onecode keys import` restores what `keys export` wrote";

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU64, Ordering};

    const NOW: u64 = 1_780_000_000;

    /// Bytes that differ from call to call, so that no two keys are the same.
    pub(in crate::code) fn counting_random(bytes: &mut [u8]) {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        for (index, block) in bytes.chunks_mut(32).enumerate() {
            let mut seed = call.to_be_bytes().to_vec();
            seed.push(u8::try_from(index).unwrap());
            block.copy_from_slice(&digest(&SHA256, &seed).as_ref()[..block.len()]);
        }
    }

    /// A keyring made at [`NOW`].
    pub(in crate::code) fn keyring() -> Keyring {
        Keyring::generate(NOW, counting_random)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_keyring_is_private_and_opens_as_itself() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("data/keys");
        let made = Keyring::open_or_create(&keys, NOW, counting_random).unwrap();
        assert_eq!((mode(&keys), mode(&keys.join(KEYRING_FILE))), (0o700, 0o600));
        let again = Keyring::open_or_create(&keys, NOW + 1, counting_random).unwrap();
        assert_eq!(*made.to_json(), *again.to_json());
        assert_eq!(made.hash_key.expose(), again.hash_key.expose());
        assert_ne!(made.hash_key.expose(), keyring().hash_key.expose());
    }

    #[test]
    fn two_commands_started_together_make_one_keyring() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        let made = || *Keyring::open_or_create(&keys, NOW, counting_random).unwrap().hash_key.expose();
        let ids = std::thread::scope(|scope| {
            let started: Vec<_> = (0..8).map(|_| scope.spawn(made)).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
    }

    #[test]
    fn what_others_can_reach_or_another_version_wrote_is_refused_by_name() {
        let outer = tempfile::tempdir().unwrap();
        let folder = &outer.path().join("keys");
        let path = folder.join(KEYRING_FILE);
        let refused = || Keyring::open(folder).unwrap_err().1;
        assert!(refused().contains("keys generate"));
        keyring().restore(folder).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(refused().contains("chmod 600"));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(refused().contains(&format!("chmod 700 {}", folder.display())));
        assert!(Keyring::open_or_create(folder, NOW, counting_random).is_err());
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(&path, b"{\"format\":2}").unwrap();
        assert!(refused().contains("format 2") && refused().contains(path.to_str().unwrap()));
        for damaged in [&b""[..], b"[]", b"{\"format\":1}"] {
            fs::write(&path, damaged).unwrap();
            assert!(refused().contains("damaged") && refused().contains(path.to_str().unwrap()));
        }
        let mut other = keyring();
        other.signing_keys[0].kid = Kid([0; 8]);
        let (fatal, reason) = other.restore(folder).unwrap_err();
        assert!(fatal == Fatal::Configuration && reason.contains("is there: move it away first"), "{reason}");
        fs::remove_file(&path).unwrap();
        other.restore(folder).unwrap();
        assert!(refused().contains("key id"));
    }

    #[test]
    fn debug_prints_no_secret() {
        let keyring = keyring();
        let debug = format!("{keyring:?}");
        let json = String::from_utf8(keyring.to_json().to_vec()).unwrap();
        for secret in json.split('"').filter(|text| text.len() > 20) {
            assert!(!debug.contains(secret));
        }
        assert!(!debug.contains(&format!("{:?}", keyring.cti_key.expose())));
    }

    #[test]
    fn a_rotated_key_signs_from_its_time_on_and_the_old_one_retires() {
        let mut keyring = keyring();
        let old = keyring.active(NOW, Env::Prod).unwrap().kid;
        let new = keyring.rotate_signing(NOW, 86_400, counting_random);
        let find = |kid| keyring.signing_keys.iter().find(|key| key.kid == kid).unwrap();
        assert_eq!(keyring.active(NOW + 86_399, Env::Prod).unwrap().kid, old);
        assert_eq!(keyring.active(NOW + 86_400, Env::Prod).unwrap().kid, new);
        assert_eq!(keyring.state(find(new), NOW), "next");
        assert_eq!(keyring.state(find(old), NOW + 86_400), "retired");
        assert_eq!(keyring.not_after(find(old)), Some(NOW + 2 * 86_400));
        assert_eq!(keyring.not_after(find(new)), None);
        assert_ne!(keyring.active(NOW, Env::Test).unwrap().kid, old);
    }

    #[test]
    fn a_revoked_key_never_signs_and_leaves_another_that_does() {
        let mut keyring = keyring();
        let kid = keyring.active(NOW, Env::Prod).unwrap().kid;
        assert!(!keyring.revoke(Kid([0; 8]), NOW, counting_random));
        assert!(keyring.revoke(kid, NOW, counting_random));
        let other = keyring.active(NOW - 45, Env::Prod).unwrap().kid;
        assert_ne!(other, kid);
        assert!(keyring.revoke(kid, NOW + 1, counting_random));
        assert_eq!(keyring.signing_keys.len(), 3);
        let jwks = keyring.jwks_json("CN-610100");
        assert!(!jwks.contains(&kid.to_string()) && jwks.contains(&other.to_string()));
    }

    #[test]
    fn a_raised_epoch_leaves_no_older_key() {
        let mut keyring = keyring();
        let before = keyring.session_key().key.expose().to_owned();
        assert_eq!(keyring.rotate_session(counting_random), 2);
        assert_eq!(keyring.session_key().epoch, 2);
        assert_ne!(*keyring.session_key().key.expose(), before);
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_9679() {
        // The public key of RFC 8032 §7.1 test 1; the digest was made with Python's cbor2 and hashlib.
        let seed = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
        let json = format!("\"{seed}\"");
        let key = SigningKey {
            kid: Kid([0; 8]),
            seed: serde_json::from_str(&json).unwrap(),
            env: Env::Test,
            created: 0,
            not_before: 0,
            revoked: None,
        };
        assert_eq!(URL_SAFE_NO_PAD.encode(key.public_key()), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(Kid::of(&key.public_key()).to_string(), "hm7vvWcYyIQ");
        assert_eq!("hm7vvWcYyIQ".parse::<Kid>().unwrap(), Kid::of(&key.public_key()));
    }
}
