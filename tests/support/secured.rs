//! A host behind TLS: the same lines as without, through rustls's own client, and certificates to try with.
//!
//! It holds the server to what nobody sees from above: an end that was not told before (close_notify) is a mistake.

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::{Host, Line, PATIENCE_MS};

/// An authority of its own, and what it has signed.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub pem: String,
}

/// A certificate and its key, PEM.
pub struct Pair {
    pub chain: String,
    pub key: String,
}

impl Pair {
    /// Puts both into files: `NAME.pem` and `NAME.key`, which nobody else may read.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        use std::os::unix::fs::PermissionsExt;
        let (chain, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&chain, &self.chain).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        (chain, key)
    }
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        Authority::with(name, |_| {})
    }

    pub fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for localhost and 127.0.0.1, or for a client, with this common name.
    pub fn sign(&self, name: &str, rsa: bool, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate_for(if rsa { &PKCS_RSA_SHA256 } else { &PKCS_ECDSA_P256_SHA256 }).unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { chain, key: key.serialize_pem() }
    }
}

/// A client that trusts what is in `pem`, and shows a certificate if it has one.
pub fn client(pem: &str, versions: &[&'static SupportedProtocolVersion], own: Option<&Pair>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = vec![CertificateDer::from_pem_slice(own.chain.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// A host whose listener speaks TLS.
pub struct Secured<'h> {
    pub host: &'h dyn Host,
    pub config: Arc<ClientConfig>,
}

impl Host for Secured<'_> {
    fn connect(&self) -> Box<dyn Line + '_> {
        Box::new(SecuredLine::over(self.host.connect(), &self.config))
    }

    fn session(&self, number: u32) -> String {
        self.host.session(number)
    }

    fn elapsed_ms(&self) -> u64 {
        self.host.elapsed_ms()
    }

    fn is_exact(&self) -> bool {
        self.host.is_exact()
    }
}

/// A line through TLS. The handshake is done before it is handed out.
pub struct SecuredLine<'h> {
    line: Box<dyn Line + 'h>,
    pub connection: ClientConnection,
    /// What came and was not asked for yet.
    plain: Vec<u8>,
}

/// What a client sends first.
pub fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(config.clone(), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

impl<'h> SecuredLine<'h> {
    /// A handshake over an open line.
    pub fn over(line: Box<dyn Line + 'h>, config: &Arc<ClientConfig>) -> SecuredLine<'h> {
        SecuredLine::attempt(line, config).unwrap_or_else(|error| panic!("the handshake failed: {error}"))
    }

    /// The same with a host of this name.
    pub fn to(line: Box<dyn Line + 'h>, name: &'static str, config: &Arc<ClientConfig>) -> SecuredLine<'h> {
        let connection = ClientConnection::new(config.clone(), ServerName::try_from(name).unwrap()).unwrap();
        let mut line = SecuredLine { line, connection, plain: Vec::new() };
        line.go_on().unwrap_or_else(|error| panic!("{name}: the handshake failed: {error}"));
        line
    }

    /// The same, or why the server refused.
    pub fn attempt(line: Box<dyn Line + 'h>, config: &Arc<ClientConfig>) -> Result<SecuredLine<'h>, rustls::Error> {
        let mut line = SecuredLine::unfinished(line, config);
        line.go_on()?;
        Ok(line)
    }

    /// Before its handshake.
    pub fn unfinished(line: Box<dyn Line + 'h>, config: &Arc<ClientConfig>) -> SecuredLine<'h> {
        let name = ServerName::try_from("localhost").unwrap();
        SecuredLine { line, connection: ClientConnection::new(config.clone(), name).unwrap(), plain: Vec::new() }
    }

    /// The handshake; an alert that it sends is on its way.
    pub fn go_on(&mut self) -> Result<(), rustls::Error> {
        self.flush();
        while self.connection.is_handshaking() {
            self.try_receive()?;
        }
        Ok(())
    }

    /// Waits for something, which an end is not.
    pub fn try_receive(&mut self) -> Result<(), rustls::Error> {
        let bytes = self.line.receive(PATIENCE_MS).expect("something comes");
        if bytes.is_empty() {
            return Err(rustls::Error::General("the end".to_owned()));
        }
        let taken = self.take(&bytes);
        self.flush();
        taken
    }

    /// Sends a record that asks for nothing (KeyUpdate, RFC 8446 §4.6.3).
    pub fn renew_keys(&mut self) {
        self.connection.refresh_traffic_keys().unwrap();
        self.flush();
    }

    /// Whether the connection ends within the time.
    pub fn is_over(&mut self, within_ms: u64) -> bool {
        self.line.receive(within_ms).is_some_and(|bytes| {
            let _ = self.take(&bytes);
            bytes.is_empty() || self.connection.process_new_packets().is_ok_and(|state| state.peer_has_closed())
        })
    }

    /// Seals bytes and sends only the first of what that makes.
    pub fn send_part(&mut self, bytes: &[u8], length: usize) {
        let mut sealed = Vec::new();
        self.connection.writer().write_all(bytes).unwrap();
        self.connection.write_tls(&mut sealed).unwrap();
        self.line.send(&sealed[..length]);
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), rustls::Error> {
        let mut buffer = [0; 16_384];
        while !bytes.is_empty() {
            let mut cursor = Cursor::new(bytes);
            self.connection.read_tls(&mut cursor).unwrap();
            let taken = usize::try_from(cursor.position()).unwrap();
            self.connection.process_new_packets()?;
            // Its own buffer is bounded.
            while let Ok(length @ 1..) = self.connection.reader().read(&mut buffer) {
                self.plain.extend_from_slice(&buffer[..length]);
            }
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    fn flush(&mut self) {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).unwrap();
        }
        if !bytes.is_empty() {
            self.line.send(&bytes);
        }
    }

    /// What lies ready: an empty vector is the end that was told.
    fn ready(&mut self) -> Option<Vec<u8>> {
        let is_over = matches!(self.connection.reader().read(&mut [0]), Ok(0));
        (is_over || !self.plain.is_empty()).then(|| std::mem::take(&mut self.plain))
    }
}

impl Line for SecuredLine<'_> {
    fn send(&mut self, bytes: &[u8]) {
        // Its own buffer is bounded, too.
        for piece in bytes.chunks(16_384) {
            self.connection.writer().write_all(piece).unwrap();
            self.flush();
        }
    }

    fn finish_sending(&mut self) {
        self.connection.send_close_notify();
        self.flush();
    }

    fn receive(&mut self, within_ms: u64) -> Option<Vec<u8>> {
        loop {
            if let Some(bytes) = self.ready() {
                return Some(bytes);
            }
            let bytes = self.line.receive(within_ms)?;
            assert!(!bytes.is_empty(), "the connection was cut without a word");
            self.take(&bytes).unwrap_or_else(|error| panic!("the connection failed: {error}"));
            self.flush();
        }
    }
}
