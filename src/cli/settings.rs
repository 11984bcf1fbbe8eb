//! From the configuration, the keyring, the JWKS and the admin tokens to the settings that the shards hold; at start and on SIGHUP.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Ended, Fatal};
use crate::code::claims::Issuer;
use crate::code::keyring::Keyring;
use crate::code::qr::Painter;
use crate::code::window::Window;
use crate::config::Config;
use crate::registry::id_number::HashKey;
use crate::service::Settings;
use crate::service::device::DeviceKey;
use crate::service::session::SessionKey;

/// Reads the JWKS and makes, of that and the keyring, one whole set of settings.
pub(super) fn make(
    config: &Config,
    keyring: &Keyring,
    demo_residents: Option<u32>,
    generation: u32,
    started_unix_ms: u64,
) -> Result<Settings, Ended> {
    let issuer = Issuer::new(keyring, &config.issuer).map_err(Fatal::Configuration.ended())?;
    let window = Window::new(config.code_window_s, config.code_life_s).expect("the configuration is checked");
    let session = keyring.session_key();
    let session_key = SessionKey::new(session.epoch, *session.key.expose())
        .ok_or("the session epoch of the keyring is beyond its range")
        .map_err(Fatal::Configuration.ended())?;
    let jwks = keyring.jwks_json(&config.issuer);
    let hash = Sha256::digest(jwks.as_bytes());
    Ok(Settings {
        generation,
        issuer,
        painter: Painter::default(),
        window,
        session_key,
        device_key: DeviceKey::new(*keyring.device_key.expose()),
        callers: config.read_callers()?,
        trust: keyring.trusted(&config.issuer),
        session_s: u64::from(config.session_days) * 86_400,
        hash_key: Arc::new(HashKey::new(*keyring.hash_key.expose())),
        verifier: config.read_verifier()?,
        login_url: config.login_url.clone(),
        demo_residents,
        jwks: Bytes::from(jwks),
        jwks_etag: format!("\"{:016x}\"", u64::from_be_bytes(hash[..8].try_into().expect("a digest is longer"))),
        admin_host_names: config.admin_host_names.clone(),
        started_unix_ms,
    })
}
