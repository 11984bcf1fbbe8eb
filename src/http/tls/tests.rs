//! The room against rustls's own client, byte by byte.

use std::io::{Cursor, Read, Write};
use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Error, ProtocolVersion, RootCertStore, SupportedProtocolVersion, version,
};

use super::*;
use crate::http::response::ResponseBuffer;
use crate::limits::{TICKET_KEYS, TLS_PENDING_BYTES_MAX, TLS_WIRE_BYTES};

const NOW: Now = Now { unix_ms: 1_800_000_000_000, mono_us: 5 };

/// A certificate and its key, PEM.
fn pair(rsa: bool, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = KeyPair::generate_for(if rsa { &PKCS_RSA_SHA256 } else { &PKCS_ECDSA_P256_SHA256 }).unwrap();
    let mut params = CertificateParams::new(["code.example".to_owned(), "*.wild.example".to_owned()]).unwrap();
    change(&mut params);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

static ECDSA: LazyLock<(String, String)> = LazyLock::new(|| pair(false, |_| {}));
static RSA: LazyLock<(String, String)> = LazyLock::new(|| pair(true, |_| {}));

fn read(chain: &str, key: &str) -> Result<Certificate, (bool, String)> {
    let chain = Chain::from_pem(chain.as_bytes(), NOW.unix_s()).map_err(|problem| (false, problem))?;
    Certificate::new(chain, key.as_bytes()).map_err(|problem| (true, problem))
}

fn certificates() -> Vec<Certificate> {
    [&*RSA, &*ECDSA].map(|(chain, key)| read(chain, key).unwrap()).into()
}

fn tickets() -> Arc<Tickets> {
    Arc::new(Tickets::new(&[7; SECRET_BYTES]))
}

fn server(tickets: &Arc<Tickets>) -> Server {
    Server::new("public", &certificates(), None, false, tickets).unwrap()
}

fn client_config(versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for (chain, _) in [&*ECDSA, &*RSA] {
        roots.add(CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let mut config =
        builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// A client and a session with nothing between them but pieces of a size.
struct Line {
    client: ClientConnection,
    session: Session,
    piece_bytes: usize,
    plain: Vec<u8>,
    ended: bool,
}

impl Line {
    fn new(config: &Arc<ClientConfig>, server: &Server, piece_bytes: usize) -> Line {
        let client = ClientConnection::new(config.clone(), ServerName::try_from("code.example").unwrap()).unwrap();
        Line { client, session: server.open(NOW), piece_bytes, plain: Vec::new(), ended: false }
    }

    fn deliver(&mut self, wire: &ResponseBuffer) -> Result<(), Error> {
        let mut bytes = wire.bytes().unwrap();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(self.piece_bytes));
            let mut piece = Cursor::new(piece);
            // It takes no more than it has room for.
            while self.client.read_tls(&mut piece).unwrap() > 0 {
                self.client.process_new_packets()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Moves bytes both ways until none are left.
    fn run(&mut self) -> Result<(), Error> {
        loop {
            let mut sent = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut sent).unwrap();
            }
            if sent.is_empty() {
                return Ok(());
            }
            for piece in sent.chunks(self.piece_bytes) {
                let mut wire = ResponseBuffer::with_bytes(64);
                let received = self.session.receive(piece, &mut self.plain, &mut wire);
                self.deliver(&wire)?;
                self.ended |= received?;
            }
        }
    }

    fn answer(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut wire = ResponseBuffer::with_bytes(TLS_WIRE_BYTES);
        assert!(self.session.seal(plain, &mut wire));
        self.deliver(&wire).unwrap();
        let mut read = vec![0; plain.len()];
        self.client.reader().read_exact(&mut read).unwrap();
        read
    }
}

#[test]
fn every_cut_of_the_bytes_gives_the_same() {
    let server = server(&tickets());
    for version in [&version::TLS13, &version::TLS12] {
        let config = Arc::new(client_config(&[version], &["h2", "http/1.1"]));
        for piece_bytes in (1..=64).chain([255, 256, 257, 517, 1_000, 4_096, 20_000]) {
            let mut line = Line::new(&config, &server, piece_bytes);
            line.run().unwrap();
            assert!(line.session.established.is_some() && !line.client.is_handshaking());
            assert_eq!(line.client.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(line.client.protocol_version(), Some(version.version));
            for length in [1, 2_000, 16_384] {
                let request: Vec<u8> = (0..length).map(|at: usize| at.to_le_bytes()[0]).collect();
                line.client.writer().write_all(&request).unwrap();
                line.run().unwrap();
                assert_eq!(std::mem::take(&mut line.plain), request);
                assert_eq!(line.session.pending.len(), 0);
                assert_eq!(line.answer(&request), request);
            }
            line.client.send_close_notify();
            line.run().unwrap();
            assert!(line.ended);
            let mut wire = ResponseBuffer::with_bytes(64);
            assert!(line.session.seal(b"", &mut wire));
            line.deliver(&wire).unwrap();
            assert_eq!(line.client.reader().read(&mut [0; 8]).unwrap(), 0, "an end that was told");
        }
    }
}

#[test]
fn a_client_that_cannot_read_one_kind_of_key_gets_the_other() {
    let server = server(&tickets());
    for (suites, is_rsa) in [("ECDHE_RSA", true), ("ECDHE_ECDSA", false), ("", false)] {
        let mut provider = default_provider();
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains(suites));
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice((if is_rsa { &RSA } else { &ECDSA }).0.as_bytes()).unwrap()).unwrap();
        let builder =
            ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&version::TLS12]);
        let config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        Line::new(&Arc::new(config), &server, 1_500).run().unwrap();
    }
}

#[test]
fn both_groups_are_taken_as_the_client_prefers() {
    use rustls::crypto::aws_lc_rs::kx_group;
    let server = server(&tickets());
    for group in [kx_group::X25519MLKEM768, kx_group::X25519] {
        let mut provider = default_provider();
        provider.kx_groups = vec![group];
        let builder =
            ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&version::TLS13]);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ECDSA.0.as_bytes()).unwrap()).unwrap();
        let config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        let mut line = Line::new(&Arc::new(config), &server, 1_500);
        line.run().unwrap();
        assert_eq!(line.client.negotiated_key_exchange_group().unwrap().name(), group.name());
    }
}

#[test]
fn a_client_of_other_protocols_is_refused_by_name() {
    let server = server(&tickets());
    let mut line = Line::new(&Arc::new(client_config(&[&version::TLS13], &["h2"])), &server, 1_500);
    let alert = rustls::AlertDescription::NoApplicationProtocol;
    assert_eq!(line.run(), Err(Error::AlertReceived(alert)));
    // Whoever says nothing speaks HTTP/1.1 all the same.
    Line::new(&Arc::new(client_config(&[&version::TLS13], &[])), &server, 1_500).run().unwrap();
}

#[test]
fn a_ticket_opens_wherever_its_key_is_and_nowhere_else() {
    for version in [&version::TLS13, &version::TLS12] {
        let tickets = tickets();
        let config = Arc::new(client_config(&[version], &["http/1.1"]));
        let connect = |server: &Server| {
            let mut line = Line::new(&config, server, 1_500);
            line.run().unwrap();
            line.session.established.unwrap()
        };
        assert_eq!(connect(&server(&tickets)), HandshakeKind::Full);
        assert_eq!(connect(&server(&tickets)), HandshakeKind::Resumed, "another shard");
        for turn in 1..TICKET_KEYS {
            tickets.rotate(&[u8::try_from(turn).unwrap(); SECRET_BYTES]);
        }
        assert_eq!(connect(&server(&tickets)), HandshakeKind::Resumed, "older keys still open");
        for turn in 10..10 + TICKET_KEYS {
            tickets.rotate(&[u8::try_from(turn).unwrap(); SECRET_BYTES]);
        }
        assert_eq!(connect(&server(&tickets)), HandshakeKind::Full, "forgotten keys do not");
        let roots = ECDSA.0.as_bytes();
        for other in [("admin", None), ("public", Some(roots))] {
            connect(&server(&tickets));
            let other =
                Server::new(other.0, &certificates(), other.1.map(|pem| (pem, NOW.unix_s())), false, &tickets).unwrap();
            assert_eq!(connect(&other), HandshakeKind::Full, "nor does another listener");
        }
    }
}

#[test]
fn early_data_is_never_read() {
    let tickets = tickets();
    let mut config = client_config(&[&version::TLS13], &["http/1.1"]);
    config.enable_early_data = true;
    config.resumption = Resumption::in_memory_sessions(4);
    let config = Arc::new(config);
    // Ours offers none; another server of the same name that does makes a client bring some.
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut careless = builder.with_cert_resolver(Arc::new(certificate::Resolver::new(&certificates())));
    careless.max_early_data_size = 1_000;
    let careless = Server { config: Arc::new(careless), clock: Arc::default() };
    Line::new(&config, &careless, 1_500).run().unwrap();
    let ours = server(&tickets);
    let mut line = Line::new(&config, &ours, 1_500);
    line.client.early_data().expect("the ticket allows it").write_all(b"DELETE / HTTP/1.1\r\n").unwrap();
    line.run().unwrap();
    assert!(!line.client.is_early_data_accepted());
    assert_eq!(line.plain, b"", "and the handshake goes on without it");
    assert!(line.session.established.is_some());
    let mut line = Line::new(&config, &ours, 1_500);
    assert!(line.client.early_data().is_none(), "our tickets do not allow it");
}

#[test]
fn garbage_gets_an_alert_and_nothing_more() {
    let server = server(&tickets());
    let mut random = fastrand::Rng::with_seed(3);
    for turn in 0..2_000 {
        let mut bytes: Vec<u8> = (0..random.usize(5..600)).map(|_| random.u8(..)).collect();
        if turn % 2 == 0 {
            bytes[..3].copy_from_slice(&[22, 3, 1]);
        }
        if turn == 1 {
            bytes = b"GET / HTTP/1.1\r\nHost: code.example\r\n\r\n".to_vec();
        }
        let (mut session, mut plain) = (server.open(NOW), Vec::new());
        let mut wire = ResponseBuffer::with_bytes(64);
        let mut failed = false;
        for piece in bytes.chunks(random.usize(1..100)) {
            if session.receive(piece, &mut plain, &mut wire).is_err() {
                failed = true;
                break;
            }
        }
        assert!(plain.is_empty() && session.established.is_none());
        if turn == 1 {
            assert!(failed && wire.bytes().unwrap().starts_with(&[21, 3]), "an alert: {:?}", wire.bytes());
        }
        // Whatever state it is in, the end of it can be asked for.
        session.seal(b"", &mut wire);
        assert!(!failed || !session.seal(b"x", &mut wire));
    }
}

#[test]
fn a_handshake_that_grows_without_end_is_ended() {
    let (mut session, mut wire) = (server(&tickets()).open(NOW), ResponseBuffer::with_bytes(64));
    // A ClientHello that says it has 60,000 bytes, in records of 1,000.
    let mut hello = vec![1, 0, 0xea, 0x60];
    hello.resize(60_004, 0);
    let mut taken = 0;
    let ended = hello.chunks(1_000).find_map(|part| {
        let header = [22, 3, 1, u8::try_from(part.len() >> 8).unwrap(), (part.len() & 255) as u8];
        taken += part.len();
        session.receive(&[&header, part].concat(), &mut Vec::new(), &mut wire).err()
    });
    assert!(ended.is_some() && taken <= TLS_PENDING_BYTES_MAX + 1_000, "{taken}");
    assert_eq!(session.pending.len(), 0);
}

#[test]
fn a_broken_record_ends_the_connection_with_an_alert() {
    let server = server(&tickets());
    for version in [&version::TLS13, &version::TLS12] {
        let mut line = Line::new(&Arc::new(client_config(&[version], &[])), &server, 1_500);
        line.run().unwrap();
        let (mut sent, mut wire) = (Vec::new(), ResponseBuffer::with_bytes(64));
        line.client.writer().write_all(b"GET / HTTP/1.1\r\n").unwrap();
        line.client.write_tls(&mut sent).unwrap();
        *sent.last_mut().unwrap() ^= 1;
        assert_eq!(line.session.receive(&sent, &mut line.plain, &mut wire).unwrap_err(), Error::DecryptError);
        assert!(line.plain.is_empty());
        assert_eq!(line.deliver(&wire), Err(Error::AlertReceived(rustls::AlertDescription::BadRecordMac)));
    }
}

#[test]
fn certificates_that_cannot_serve_are_refused_by_name() {
    let (chain, key) = &*ECDSA;
    let refused = |chain: &str, key: &str| read(chain, key).unwrap_err();
    let ends = |days: i64| {
        let time = time::OffsetDateTime::from_unix_timestamp(1_800_000_000 + days * 86_400).unwrap();
        move |params: &mut CertificateParams| params.not_after = time
    };
    let begins = time::OffsetDateTime::from_unix_timestamp(1_800_086_400).unwrap();
    let expired = pair(false, ends(-1));
    let early = pair(false, |params| params.not_before = begins);
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let long = chain.repeat(40);
    for (chain, key, of_key, problem) in [
        ("", &**key, false, "holds no certificate"),
        (&**key, key, false, "holds no certificate"),
        (&chain[..chain.len() / 2], key, false, "is not whole"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key, false, "is not an X.509 certificate"),
        (&expired.0, &expired.1, false, "expired on Thu, 14 Jan 2027"),
        (&early.0, &early.1, false, "is not good before Sat, 16 Jan 2027"),
        (&format!("{chain}{}", expired.0), key, false, "certificate 2 of the chain: expired on Thu, 14 Jan 2027"),
        (&long, key, false, "the chain is longer than 12288 bytes"),
        (chain, chain, true, "holds no private key"),
        (chain, &encrypted, true, "the key is encrypted"),
        (chain, &RSA.1, true, "is not the key of this certificate"),
    ] {
        let (told_of_key, told) = refused(chain, key);
        assert!(told_of_key == of_key && told.contains(problem), "{problem}: {told}");
    }
    let good = pair(false, ends(1));
    let good = read(&good.0, &good.1).unwrap();
    assert_eq!(good.expires_unix_s, NOW.unix_s() + 86_400);
    assert!(Server::new("public", &[good], Some((b"nothing", 0)), false, &tickets()).is_err());
}

#[test]
fn a_certificate_covers_its_names_and_no_others() {
    let own = &certificates()[0];
    for name in ["code.example", "CODE.example", "a.wild.example"] {
        assert!(own.covers(name), "{name}");
    }
    for name in ["", "example", "evil.example", "wild.example", "a.b.wild.example", "127.0.0.1", "code.example.evil"] {
        assert!(!own.covers(name), "{name}");
    }
}

#[test]
fn a_client_is_named_by_its_certificate() {
    let named = |name: &str| {
        let (chain, _) = pair(false, |params| params.distinguished_name.push(rcgen::DnType::CommonName, name));
        certificate::client_name(&CertificateDer::from_pem_slice(chain.as_bytes()).unwrap())
    };
    assert_eq!(&*named("door-7"), "cert:door-7");
    for unfit in ["", "Door 7", "door\n7", "门", &"x".repeat(65)] {
        let name = named(unfit);
        assert!(name.len() == 37 && name[5..].bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    }
    assert_eq!(ProtocolVersion::TLSv1_3, version::TLS13.version);
}
