//! What the routes need to know that is the same on every shard and is replaced as a whole on SIGHUP.

use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;

use super::callers::Callers;
use super::device::DeviceKey;
use super::session::SessionKey;
use super::sign_in::Verifier;
use crate::code::claims::Issuer;
use crate::code::qr::Painter;
use crate::code::trust::Trust;
use crate::code::window::Window;
use crate::http::tls::Listeners;
use crate::registry::id_number::HashKey;

/// One whole set; shards hold it by `Arc` and never change it.
#[allow(missing_docs, reason = "the names say it")]
pub struct Settings {
    /// Raised with each set, so that what was made under another one is told apart.
    pub generation: u32,
    pub issuer: Issuer,
    pub painter: Painter,
    pub window: Window,
    pub session_key: SessionKey,
    pub session_s: u64,
    pub device_key: DeviceKey,
    pub callers: Callers,
    /// Checks the codes that scanners bring: our own keys.
    pub trust: Trust,
    pub hash_key: Arc<HashKey>,
    /// Checks assertions; none: sign-in is not configured.
    pub verifier: Option<Verifier>,
    /// Where the page sends a resident to sign in.
    pub login_url: Option<String>,
    /// How many synthetic residents may sign in by number; none outside the demo.
    pub demo_residents: Option<u32>,
    pub jwks: Bytes,
    /// Its strong entity tag.
    pub jwks_etag: String,
    /// Further names that the admin listener answers to.
    pub admin_host_names: Vec<String>,
    pub tls: Listeners,
    /// Balancers whose word about their clients counts.
    pub trusted_proxies: Vec<IpNet>,
    /// That word comes by the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// Origins whose pages may call what residents and scanners call.
    pub allowed_origins: Vec<Arc<str>>,
    /// When the first of the processes that took over from each other started: assertions from before may have been used.
    pub started_unix_ms: u64,
}
