//! TLS 1.3 and 1.2 as bytes in and bytes out, on rustls and aws-lc.
//!
//! It owns what a listener needs ([`Server`]), what one connection needs ([`Session`]), and the tickets by which clients
//! come back. Certificates come in as text and the time as an argument; the one thing that is not handed in is the
//! randomness of handshakes, which is aws-lc's own. It knows no HTTP but its name, `http/1.1` in ALPN: a client that
//! offers only others is refused (RFC 7301 §3.2). Early data is off: it can be replayed (RFC 8446 §8).

mod certificate;
mod session;
#[cfg(test)]
mod tests;
mod tickets;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use sha2::{Digest, Sha256};

pub use certificate::{Certificate, Chain};
pub use rustls::HandshakeKind;
pub use session::Session;
pub use tickets::{SECRET_BYTES, Tickets};

use crate::words::Now;
use tickets::Ticketer;

/// What all listeners have of TLS; replaced as a whole on SIGHUP, while connections go on with what they began with.
#[derive(Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Listeners {
    pub public: Option<Arc<Server>>,
    pub admin: Option<Arc<Server>>,
    pub redirect: Option<Redirect>,
    /// When the first certificate ends, since 1970-01-01T00:00:00Z; 0 without any.
    pub expires_unix_s: u64,
}

/// Where the plain listener sends its clients.
pub struct Redirect {
    /// The port that the world knows the public listener by.
    pub port: u16,
    /// Those of the public listener.
    pub certificates: Vec<Certificate>,
}

/// What the connections of one listener are opened with.
pub struct Server {
    config: Arc<ServerConfig>,
    clock: Arc<Clock>,
}

/// The time that was last handed in, in seconds since 1970, for the validity of client certificates and the age of tickets.
#[derive(Default, Debug)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Relaxed))))
    }
}

impl Server {
    /// For the listener of this name: tickets of one are worth nothing to another. With authorities (PEM) clients may
    /// show a certificate of theirs, or must. Errors, in words for an operator: what is wrong with the authorities.
    pub fn new(
        name: &str,
        certificates: &[Certificate],
        authorities: Option<(&[u8], u64)>,
        must_show: bool,
        tickets: &Arc<Tickets>,
    ) -> Result<Server, String> {
        let (clock, provider) = (Arc::new(Clock::default()), Arc::new(default_provider()));
        let versions = ServerConfig::builder_with_details(provider.clone(), clock.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions");
        let mut context = Sha256::new_with_prefix(name);
        let builder = match authorities {
            None => versions.with_no_client_auth(),
            Some((pem, now_unix_s)) => {
                context.update(pem);
                let verifier = WebPkiClientVerifier::builder_with_provider(
                    Arc::new(certificate::roots(pem, now_unix_s)?),
                    provider,
                );
                let verifier = if must_show { verifier } else { verifier.allow_unauthenticated() };
                versions.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(certificate::Resolver::new(certificates)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(Ticketer { tickets: tickets.clone(), context: context.finalize().into() });
        // A phone opens one connection at a time, and gets another ticket with each.
        config.send_tls13_tickets = 1;
        Ok(Server { config: Arc::new(config), clock })
    }

    /// A connection whose first bytes are there.
    pub fn open(&self, now: Now) -> Session {
        if self.clock.0.load(Relaxed) != now.unix_s() {
            self.clock.0.store(now.unix_s(), Relaxed);
        }
        Session::new(self.config.clone())
    }
}
