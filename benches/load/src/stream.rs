//! What carries the bytes of a connection. Everything above reads and writes through this type alone, so that TLS is
//! one more variant here and nothing anywhere else.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Socket, Type};

/// Servers whose tickets one of many clients keeps.
const TICKETS_OF_ONE: usize = 8;
/// Of connect(2), for a socket that does not block.
const EINPROGRESS: i32 = 115;
/// What the kernel may receive for one that reads slowly.
const SLOW_RECEIVE_BYTES: usize = 4_096;
/// And the segments that it takes: Ethernet's.
const SLOW_SEGMENT_BYTES: u32 = 1_460;

/// What connections are opened with.
#[derive(Clone)]
pub struct Dial {
    address: SocketAddr,
    /// Where from, if that is settled.
    source: Option<Ipv4Addr>,
    /// From how many addresses in turn, and the first of them.
    sources: Option<(Ipv4Addr, u32)>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// It comes back with tickets.
    resumes: bool,
}

/// What TLS is asked for.
#[derive(Clone, Copy, Default)]
pub struct Wishes {
    /// Come back with tickets instead of a whole handshake.
    pub resume: bool,
    /// X25519MLKEM768 instead of X25519 alone.
    pub post_quantum: bool,
}

impl Dial {
    /// Without TLS.
    pub fn plain(address: SocketAddr) -> Dial {
        Dial { address, source: None, sources: None, tls: None, resumes: false }
    }

    /// The same for one of many connections. On loopback they come from four addresses in turn: a server may let one address
    /// have but half of its connections.
    pub fn of(&self, number: usize) -> Dial {
        let loopback = self.address.ip().is_loopback() && self.address.is_ipv4();
        let sources = self.sources.or(loopback.then_some((Ipv4Addr::new(127, 0, 0, 2), 4)));
        let source = sources.map(|(first, count)| first.to_bits().wrapping_add((number % count as usize) as u32));
        // From there the kernel comes by itself, and finds a port sooner among those that it remembers.
        let source = source.map(Ipv4Addr::from_bits).filter(|source| *source != Ipv4Addr::LOCALHOST);
        let mut dial = Dial { source, ..self.clone() };
        if self.resumes
            && let Some((config, _)) = &mut dial.tls
        {
            // Each has a ticket of its own: of those of one server a store keeps eight, whoever comes back.
            Arc::make_mut(config).resumption = Resumption::in_memory_sessions(TICKETS_OF_ONE);
        }
        dial
    }

    /// From so many addresses in turn, all of which must be this host's.
    pub fn with_sources(self, first: Ipv4Addr, count: u32) -> Dial {
        Dial { sources: Some((first, count)), ..self }
    }

    /// Whether it was told where from.
    pub fn has_sources(&self) -> bool {
        self.sources.is_some()
    }

    /// With TLS to a server whose certificate is for `host` and from an authority in the file `trust` (PEM).
    pub fn tls(address: SocketAddr, host: &str, trust: &Path, wishes: Wishes) -> Result<Dial, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", trust.display());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(trust).map_err(|error| wrong(&error))? {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
        let mut provider = default_provider();
        // As browsers have it; both servers follow their client.
        provider.cipher_suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("AES_128"));
        provider.kx_groups = vec![if wishes.post_quantum { kx_group::X25519MLKEM768 } else { kx_group::X25519 }];
        let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| wrong(&error))?.with_root_certificates(roots);
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // As many tickets as connections may come back with at once.
        config.resumption = if wishes.resume { Resumption::in_memory_sessions(1_024) } else { Resumption::disabled() };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
        Ok(Dial { tls: Some((Arc::new(config), name)), resumes: wishes.resume, ..Dial::plain(address) })
    }
}

impl Dial {
    /// The first message of a TLS client, as this one would send it.
    pub fn hello(&self) -> io::Result<Vec<u8>> {
        let Some((config, name)) = &self.tls else {
            return Err(io::Error::other("a hello wants https:// and --trust"));
        };
        let mut connection = ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
        let mut hello = Vec::new();
        connection.write_tls(&mut hello)?;
        Ok(hello)
    }
}

/// Begins to connect without TLS, whatever the server speaks, for `--hostile`; one that reads slowly offers a small window.
pub fn connect_plain(dial: &Dial, registry: &Registry, token: Token, reads_slowly: bool) -> io::Result<TcpStream> {
    let receive_bytes = reads_slowly.then_some(SLOW_RECEIVE_BYTES);
    let mut stream = connect_from(dial.source, dial.address, receive_bytes)?;
    stream.set_nodelay(true)?;
    registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

/// An open connection, never blocking.
pub enum Stream {
    /// TCP as it is.
    Plain(TcpStream),
    /// TLS over it.
    Tls(Box<rustls::StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Begins to connect; writes wait until that is done.
    pub fn connect(dial: &Dial, registry: &Registry, token: Token) -> io::Result<Stream> {
        let mut stream = match dial.source {
            None => TcpStream::connect(dial.address)?,
            source => connect_from(source, dial.address, None)?,
        };
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let Some((config, name)) = &dial.tls else { return Ok(Stream::Plain(stream)) };
        let connection = ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
        Ok(Stream::Tls(Box::new(rustls::StreamOwned::new(connection, stream))))
    }

    /// Reads what is there.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }

    /// Writes what there is room for.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }
}

fn connect_from(source: Option<Ipv4Addr>, address: SocketAddr, receive_bytes: Option<usize>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes)?;
        // On loopback, too, the server then keeps no more for it than on a line.
        socket.set_tcp_mss(SLOW_SEGMENT_BYTES)?;
    }
    if let Some(source) = source {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}
