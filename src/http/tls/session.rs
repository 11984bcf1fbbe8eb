//! One connection: sealed bytes come in and go out, plain ones stand on the other side.
//!
//! It keeps nothing but rustls's state and the part of a record that came, so that an idle connection has no buffer.

use std::sync::Arc;

use rustls::server::{ServerConfig, ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{Error, HandshakeKind};

use super::certificate::client_name;
use crate::http::response::ResponseBuffer;
use crate::limits::TLS_PENDING_BYTES_MAX;

/// More than one record adds to what it holds, a key update before it included (RFC 8446 §5.2, RFC 5246 §6.2.3).
const RECORD_OVERHEAD_BYTES: usize = 256;

/// One connection.
pub struct Session {
    connection: UnbufferedServerConnection,
    /// The part of a record that waits for its rest, in a buffer that is lent for as long as it is not empty.
    pub pending: Vec<u8>,
    /// How the handshake was done, once it is.
    pub established: Option<HandshakeKind>,
    failed: bool,
}

impl Session {
    pub(super) fn new(config: Arc<ServerConfig>) -> Session {
        // It fails for a fragment size out of range alone, and we set none.
        let connection = UnbufferedServerConnection::new(config).expect("the default fragment size is in range");
        Session { connection, pending: Vec::new(), established: None, failed: false }
    }

    /// The name of the client, if it has shown a certificate.
    pub fn client_name(&self) -> Option<Arc<str>> {
        self.connection.peer_certificates()?.first().map(|own| client_name(own))
    }

    /// Takes sealed bytes. What they held is added to `plain`, what is to be sent for them to `wire`. Says whether the
    /// peer sends no more (close_notify).
    /// Errors: the connection is over; an alert that says why is in `wire`, if one can be sent.
    pub fn receive(&mut self, bytes: &[u8], plain: &mut Vec<u8>, wire: &mut ResponseBuffer) -> Result<bool, Error> {
        self.pending.extend_from_slice(bytes);
        let received = self.read(plain, wire);
        if received.is_err() {
            self.failed = true;
            self.pending.clear();
        }
        received
    }

    fn read(&mut self, plain: &mut Vec<u8>, wire: &mut ResponseBuffer) -> Result<bool, Error> {
        let (mut has_ended, mut at, mut goes_on) = (false, 0, true);
        while goes_on {
            let UnbufferedStatus { mut discard, state, .. } =
                self.connection.process_tls_records(&mut self.pending[at..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, wire),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => has_ended = true,
                // More must come, or nothing will. Early data is not among it: no ticket of ours allows any.
                Ok(_) => goes_on = false,
                Err(error) => {
                    self.write_alert(at + discard, wire);
                    return Err(error);
                }
            }
            at += discard;
            // Once the handshake is done, nothing comes of no bytes.
            goes_on &= at < self.pending.len() || self.established.is_none();
        }
        self.pending.drain(..at);
        if self.pending.len() > TLS_PENDING_BYTES_MAX {
            return Err(Error::PeerSentOversizedRecord);
        }
        if self.established.is_none() && !self.connection.is_handshaking() {
            self.established = self.connection.handshake_kind();
        }
        Ok(has_ended)
    }

    /// Seals bytes, at most a record's worth (16 KiB), into `wire`; nothing to seal is the end, of which the client is
    /// told (close_notify). `false`: nothing can be sent, since the handshake is not done, or the connection is over.
    pub fn seal(&mut self, plain: &[u8], wire: &mut ResponseBuffer) -> bool {
        // After a failure rustls may not be asked: what came is out of step with it.
        while !self.failed {
            match self.connection.process_tls_records(&mut self.pending).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, wire),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return wire.fill(plain.len() + RECORD_OVERHEAD_BYTES, |room| match plain {
                        b"" => traffic.queue_close_notify(room).ok(),
                        plain => traffic.encrypt(plain, room).ok(),
                    });
                }
                _ => break,
            }
        }
        false
    }

    /// Just after a failure, while rustls has something to say.
    fn write_alert(&mut self, at: usize, wire: &mut ResponseBuffer) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut self.pending[at..]).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, wire),
                _ => return,
            }
        }
    }
}

fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, wire: &mut ResponseBuffer) {
    // Asked with no room it says how much it needs.
    let Err(EncodeError::InsufficientSize(need)) = data.encode(&mut []) else { return };
    wire.fill(need.required_size, |room| data.encode(room).ok());
}
