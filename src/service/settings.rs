//! What the routes need to know that is the same on every shard and is replaced as a whole on SIGHUP.

use std::sync::Arc;

use bytes::Bytes;

use super::session::SessionKey;
use super::sign_in::Verifier;
use crate::code::claims::Issuer;
use crate::code::qr::Painter;
use crate::code::window::Window;
use crate::registry::id_number::HashKey;

/// One whole set; shards hold it by `Arc` and never change it.
pub struct Settings {
    /// Raised with each set, so that what was made under another one is told apart.
    pub generation: u32,
    /// Signs codes.
    pub issuer: Issuer,
    /// Draws them.
    pub painter: Painter,
    /// Window and life of codes.
    pub window: Window,
    /// Makes and checks sessions.
    pub session_key: SessionKey,
    /// How long a session lasts.
    pub session_s: u64,
    /// From ID number to resident number.
    pub hash_key: Arc<HashKey>,
    /// Checks assertions; none: sign-in is not configured.
    pub verifier: Option<Verifier>,
    /// Where the page sends a resident to sign in.
    pub login_url: Option<String>,
    /// How many synthetic residents may sign in by number; none outside the demo.
    pub demo_residents: Option<u32>,
    /// `/.well-known/jwks.json`.
    pub jwks: Bytes,
    /// Its strong entity tag.
    pub jwks_etag: String,
    /// Further names that the admin listener answers to.
    pub admin_host_names: Vec<String>,
    /// When the process started: assertions from before it may have been used.
    pub started_unix_ms: u64,
}
