//! Certificates and keys from PEM (RFC 7468), checked before anything is served with them.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureAlgorithm};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use crate::limits::{CALLER_NAME_BYTES_MAX, TLS_CHAIN_BYTES_MAX};

/// Certificates, the server's own first, without their key.
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    expires_unix_s: u64,
}

/// A chain with its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// Its last second, since 1970-01-01T00:00:00Z.
    pub expires_unix_s: u64,
}

impl Chain {
    /// Errors, in words for an operator: it cannot be read, is too long, or not good now.
    pub fn from_pem(pem: &[u8], now_unix_s: u64) -> Result<Chain, String> {
        let certificates = certificates(pem)?;
        if certificates.iter().map(|one| one.len()).sum::<usize>() > TLS_CHAIN_BYTES_MAX {
            return Err(format!("the chain is longer than {TLS_CHAIN_BYTES_MAX} bytes: leave out what clients have"));
        }
        Chain::new(certificates, now_unix_s)
    }

    fn new(certificates: Vec<CertificateDer<'static>>, now_unix_s: u64) -> Result<Chain, String> {
        let told = |time: ASN1Time| time.to_rfc2822().unwrap_or_else(|_| time.timestamp().to_string());
        let mut expires_unix_s = u64::MAX;
        for (index, certificate) in certificates.iter().enumerate() {
            let (_, own) = X509Certificate::from_der(certificate).map_err(|_| "is not an X.509 certificate")?;
            let which = if index == 0 { String::new() } else { format!("certificate {} of the chain: ", index + 1) };
            let (begins, ends) = (own.validity().not_before, own.validity().not_after);
            expires_unix_s = expires_unix_s.min(u64::try_from(ends.timestamp()).unwrap_or(0));
            if expires_unix_s < now_unix_s {
                return Err(format!("{which}expired on {}: renew it", told(ends)));
            }
            if u64::try_from(begins.timestamp()).is_ok_and(|begins| begins > now_unix_s) {
                return Err(format!("{which}is not good before {}: is the clock right?", told(begins)));
            }
        }
        Ok(Chain { certificates, expires_unix_s })
    }
}

impl Certificate {
    /// Errors, in words for an operator: the key cannot be read, is encrypted, or another's.
    pub fn new(chain: Chain, key: &[u8]) -> Result<Certificate, String> {
        let is_marked = |mark: &[u8]| key.windows(mark.len()).any(|window| window == mark);
        if is_marked(b"BEGIN ENCRYPTED PRIVATE KEY") || is_marked(b"Proc-Type: 4,ENCRYPTED") {
            return Err("the key is encrypted, and nobody could type its passphrase: decrypt it (openssl pkey)".into());
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "holds no private key (PEM)")?;
        let key =
            CertifiedKey::from_der(chain.certificates, key, &default_provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => "is not the key of this certificate".to_owned(),
                error => format!("not a key that can be used, as is RSA from 2048 bits on: {error}"),
            })?;
        Ok(Certificate { key: Arc::new(key), expires_unix_s: chain.expires_unix_s })
    }

    /// Whether it is for a host, a name or an address.
    pub fn covers(&self, host: &str) -> bool {
        let (Ok(name), Ok(own)) = (ServerName::try_from(host), self.key.end_entity_cert()) else { return false };
        ParsedCertificate::try_from(own).is_ok_and(|own| verify_server_name(&own, &name).is_ok())
    }
}

/// The authorities of client certificates, or what is wrong with them, in words.
pub(super) fn roots(pem: &[u8], now_unix_s: u64) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        // One that is not good now: nobody else asks that of these.
        Chain::new(vec![certificate.clone()], now_unix_s)?;
        roots.add(certificate).map_err(|error| format!("not an authority's certificate: {error}"))?;
    }
    Ok(roots)
}

/// At least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| "is not whole (PEM)")?;
    if all.is_empty() { Err("holds no certificate (PEM)".to_owned()) } else { Ok(all) }
}

/// The name of a client whose certificate was checked: `cert:` and its common name, or where that is none to write into
/// a record, the beginning of the certificate's SHA-256.
pub(super) fn client_name(certificate: &[u8]) -> Arc<str> {
    let parsed = X509Certificate::from_der(certificate).ok();
    let name = parsed.as_ref().and_then(|(_, own)| own.subject().iter_common_name().next()?.as_str().ok());
    let is_name = |name: &&str| {
        (1..=CALLER_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let hash = || Sha256::digest(certificate)[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("cert:{}", name.filter(is_name).map_or_else(hash, str::to_owned)).into()
}

/// Gives each client a certificate for its host (RFC 6066 §3) that it can check, if possible not RSA, ten times as dear.
#[derive(Debug)]
pub(super) struct Resolver(Vec<Certificate>);

impl Resolver {
    pub(super) fn new(certificates: &[Certificate]) -> Resolver {
        let mut all = certificates.to_vec();
        all.sort_by_key(|own| own.key.key.algorithm() == SignatureAlgorithm::RSA);
        Resolver(all)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |own: &&Certificate| own.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let fitting: Vec<&Certificate> = self.0.iter().filter(fits).collect();
        let named = match fitting.as_slice() {
            [] | [_] => None,
            several => hello.server_name().and_then(|name| several.iter().find(|own| own.covers(name))),
        };
        // With none that fits the handshake fails further on, with the alert for it.
        named.or(fitting.first()).copied().or(self.0.first()).map(|own| own.key.clone())
    }
}
