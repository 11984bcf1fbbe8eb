//! What carries the bytes of a connection. Everything above reads and writes through this type alone, so that TLS is
//! one more variant here and nothing anywhere else.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// An open connection, never blocking.
pub enum Stream {
    /// TCP as it is.
    Plain(TcpStream),
}

impl Stream {
    /// Begins to connect; writes wait until that is done.
    pub fn connect(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Stream> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Stream::Plain(stream))
    }

    /// Reads what is there.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Stream::Plain(stream) = self;
        stream.read(buffer)
    }

    /// Writes what there is room for.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Stream::Plain(stream) = self;
        stream.write(bytes)
    }
}
