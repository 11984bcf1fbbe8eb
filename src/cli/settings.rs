//! From the configuration, the keyring and the JWKS to the settings that the shards hold; at start and on SIGHUP.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Fatal;
use crate::code::claims::Issuer;
use crate::code::qr::Painter;
use crate::code::window::Window;
use crate::config::Config;
use crate::registry::id_number::HashKey;
use crate::service::Settings;
use crate::service::session::SessionKey;

/// Reads what must be read and makes one whole set of settings.
///
/// # Errors
/// The exit status and the reason.
pub(super) fn make(
    config: &Config,
    demo_residents: Option<u32>,
    generation: u32,
    started_unix_ms: u64,
) -> Result<Settings, (Fatal, String)> {
    let refused = |reason: String| (Fatal::Configuration, reason);
    let keyring = super::open_keyring(config)?;
    let issuer = Issuer::new(&keyring, &config.issuer).map_err(|error| refused(error.to_string()))?;
    let window = Window::new(config.code_window_s, config.code_life_s).map_err(|error| refused(error.to_string()))?;
    let session = keyring.session_key();
    let session_key = SessionKey::new(session.epoch, *session.key.expose())
        .ok_or_else(|| refused("the session epoch of the keyring is beyond its range".to_owned()))?;
    let verifier = config.read_verifier().map_err(|error| refused(error.to_string()))?;
    let jwks = keyring.jwks_json(&config.issuer);
    let hash = Sha256::digest(jwks.as_bytes());
    Ok(Settings {
        generation,
        issuer,
        painter: Painter::new(),
        window,
        session_key,
        session_s: u64::from(config.session_days) * 86_400,
        hash_key: Arc::new(HashKey::new(*keyring.hash_key.expose())),
        verifier,
        login_url: config.auth.as_ref().and_then(|auth| auth.login_url.clone()),
        demo_residents,
        jwks: Bytes::from(jwks),
        jwks_etag: format!("\"{:016x}\"", u64::from_be_bytes(hash[..8].try_into().expect("a digest is longer"))),
        admin_host_names: config.admin_host_names.clone(),
        started_unix_ms,
    })
}
