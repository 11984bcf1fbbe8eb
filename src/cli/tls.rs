//! From files to what the listeners speak TLS with, at start, in `check-config` and on SIGHUP; and what goes on beside:
//! other keys for tickets, and the warning before a certificate ends.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::atomic::AtomicCell;
use rcgen::{CertificateParams, KeyPair};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Ended, Fatal, link};
use crate::config::Config;
use crate::http::tls::{Certificate, Chain, Listeners, Redirect, SECRET_BYTES, Server, Tickets};
use crate::limits::{CERTIFICATE_WARNING_S, TICKET_ROTATION_S};
use crate::registry::replace_file;

/// Certificate and key of the demo, in its data folder.
pub(super) const DEMO_CERTIFICATE: &str = "tls.pem";
const DEMO_KEY: &str = "tls-key.pem";
/// How long the demo's is good: longer ones some browsers refuse.
const DEMO_LIFE: Duration = Duration::from_hours(365 * 24);

/// What outlives a reload.
pub(super) struct Tls {
    pub(super) tickets: Arc<Tickets>,
    /// The end of the first certificate to end; 0: none is used.
    pub(super) expires_unix_s: Arc<AtomicCell<u64>>,
    /// How often SIGHUP found something wrong, and all stayed as it was.
    pub(super) reloads_refused: Arc<AtomicCell<u64>>,
}

fn secret() -> Zeroizing<[u8; SECRET_BYTES]> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    super::random(&mut *secret);
    secret
}

impl Tls {
    pub(super) fn new() -> Tls {
        Tls {
            tickets: Arc::new(Tickets::new(&secret())),
            expires_unix_s: Arc::default(),
            reloads_refused: Arc::default(),
        }
    }

    /// Opens tickets of the process before this one, too: those of all but its oldest key.
    pub(super) fn take_over(&self, secrets: &[[u8; SECRET_BYTES]]) {
        secrets.iter().chain([&*secret()]).for_each(|secret| self.tickets.rotate(secret));
    }

    pub(super) fn read(&self, config: &Config) -> Result<Listeners, Ended> {
        if config.tls_certificates.is_empty() {
            return Ok(Listeners::default());
        }
        let now_unix_s = super::now().unix_s();
        let certificates = config.tls_certificates.iter().enumerate().map(|(index, chain)| {
            let key = config.tls_keys.get(index).unwrap_or(chain);
            read_certificate(config, Path::new(chain), Path::new(key), now_unix_s)
        });
        let certificates = certificates.collect::<Result<Vec<_>, Ended>>()?;
        let server = |key: &str, authorities: &Option<PathBuf>, must_show: bool| {
            let pem = authorities.as_ref().map(|path| config.read(key, path)).transpose()?;
            let pem = pem.as_ref().map(|pem| (pem.as_bytes(), now_unix_s));
            Server::new(key, &certificates, pem, must_show, &self.tickets)
                .map(Arc::new)
                .map_err(|problem| config.refuse_file(key, authorities.as_deref().unwrap_or(Path::new("")), problem))
        };
        let public = server("tls.client_ca_file", &config.tls_client_ca_file, false)?;
        let admin = || server("admin.client_ca_file", &config.admin_client_ca_file, true);
        Ok(Listeners {
            public: Some(public),
            admin: (config.admin_tls == "on").then(admin).transpose()?,
            expires_unix_s: certificates.iter().map(|own| own.expires_unix_s).min().unwrap_or(0),
            redirect: config.redirect_address.map(|_| Redirect {
                port: config.tls_redirect_port.unwrap_or(config.listen_address.port()),
                certificates,
            }),
        })
    }

    /// Begins to look after what is used: replaces ticket keys, and says each day that a certificate ends soon.
    pub(super) fn watch(&self, listeners: &Listeners) -> std::io::Result<()> {
        self.set(listeners);
        let (tickets, expires_unix_s) = (self.tickets.clone(), self.expires_unix_s.clone());
        let watch = move || {
            for rotation in 1_u32.. {
                thread::sleep(Duration::from_secs(TICKET_ROTATION_S.into()));
                tickets.rotate(&secret());
                if rotation.is_multiple_of(86_400 / TICKET_ROTATION_S) {
                    warn(expires_unix_s.load());
                }
            }
        };
        thread::Builder::new().name("tls".to_owned()).spawn(watch).map(drop)
    }

    /// These are used from here on.
    pub(super) fn set(&self, listeners: &Listeners) {
        self.expires_unix_s.store(listeners.expires_unix_s);
        warn(listeners.expires_unix_s);
    }
}

fn warn(expires_unix_s: u64) {
    let left_s = expires_unix_s.saturating_sub(super::now().unix_s());
    if expires_unix_s > 0 && left_s < CERTIFICATE_WARNING_S {
        let left = super::counted(left_s / 86_400, "day");
        eprintln!("onecode: warning: a certificate of tls.certificates ends in {left}: renew it, then send SIGHUP");
    }
}

fn read_certificate(config: &Config, chain: &Path, key: &Path, now_unix_s: u64) -> Result<Certificate, Ended> {
    let of_key = if chain == key { "tls.certificates" } else { "tls.keys" };
    let (chain_text, key_text) = (config.read("tls.certificates", chain)?, Zeroizing::new(config.read(of_key, key)?));
    let read = Chain::from_pem(chain_text.as_bytes(), now_unix_s);
    let read = read.map_err(|problem| config.refuse_file("tls.certificates", chain, problem))?;
    let own = Certificate::new(read, key_text.as_bytes());
    let own = own.map_err(|problem| config.refuse_file(of_key, key, problem))?;
    // A group of its own may read it, as Debian's ssl-cert does.
    let is_open = fs::metadata(key).is_ok_and(|metadata| metadata.mode() & 0o007 != 0);
    let wrong = "everyone on this host may read the private key: make it 600 or 640";
    if is_open { Err(config.refuse_file(of_key, key, wrong)) } else { Ok(own) }
}

/// The demo's own certificate, for this host and the address that it listens on; made where the one of an earlier start
/// is not good any more.
pub(super) fn make_demo(config: &mut Config) -> Result<(), Ended> {
    let (chain, key) = (config.data.join(DEMO_CERTIFICATE), config.data.join(DEMO_KEY));
    let own = config.listen_address.ip().to_canonical();
    let world = Some(own).filter(IpAddr::is_unspecified).and_then(|_| link::own_address()).unwrap_or(own);
    let names = ["localhost", "127.0.0.1", "::1", &own.to_string(), &world.to_string()].map(str::to_owned);
    let kept = read_certificate(config, &chain, &key, super::now().unix_s() + 86_400).ok();
    if !kept.is_some_and(|own| names.iter().all(|name| own.covers(name))) {
        let failed = |error: rcgen::Error| (Fatal::System, format!("the demo's certificate: {error}"));
        let pair = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(names).map_err(failed)?;
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - Duration::from_hours(24), now + DEMO_LIFE);
        let made = params.self_signed(&pair).map_err(failed)?;
        for (path, mode, text) in [(&key, 0o600, pair.serialize_pem()), (&chain, 0o644, made.pem())] {
            replace_file(path, mode, |file| file.write_all(text.as_bytes()))
                .map_err(Fatal::Folder.at(path.display()))?;
        }
    }
    config.tls_certificates = vec![chain.display().to_string()];
    config.tls_keys = vec![key.display().to_string()];
    Ok(())
}
