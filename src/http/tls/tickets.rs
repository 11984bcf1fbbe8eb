//! Stateless tickets (RFC 5077, RFC 8446 §4.6.1): what a client needs to come back with a short handshake lies sealed
//! with the client. All shards hold the same keys, so a connection resumes on whichever shard it reaches.
//!
//! Every [`TICKET_ROTATION_S`] seconds a new key seals; [`TICKET_KEYS`] are kept, which bounds what a stolen one opens.
//!
//! A ticket is good only for the listener that gave it and for as long as that trusts the same client certificates:
//! otherwise one from an open listener would pass for a certificate on another (rustls, "Sharing resumption storage").

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use crate::limits::{TICKET_KEYS, TICKET_ROTATION_S};

/// Bytes of a secret: the name of a key, which its tickets begin with, and the key.
pub const SECRET_BYTES: usize = NAME_BYTES + 32;
const NAME_BYTES: usize = 16;

struct Key {
    key: RandomizedNonceKey,
    /// Its name and itself, for the next process.
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

/// The keys of all tickets, the newest first.
pub struct Tickets(RwLock<Vec<Key>>);

impl Tickets {
    /// With one key, from secret, uniformly random bytes.
    pub fn new(secret: &[u8; SECRET_BYTES]) -> Tickets {
        let tickets = Tickets(RwLock::default());
        tickets.rotate(secret);
        tickets
    }

    /// Seals new tickets with another key from here on, and forgets the oldest.
    pub fn rotate(&self, secret: &[u8; SECRET_BYTES]) {
        // AES-256 takes any 32 bytes.
        let Ok(key) = RandomizedNonceKey::new(&AES_256_GCM, &secret[NAME_BYTES..]) else { return };
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert(0, Key { key, secret: Zeroizing::new(*secret) });
        keys.truncate(TICKET_KEYS);
    }

    /// All secrets, the oldest first.
    pub fn secrets(&self) -> Zeroizing<Vec<[u8; SECRET_BYTES]>> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Zeroizing::new(keys.iter().rev().map(|key| *key.secret).collect())
    }
}

/// Tickets of one listener.
#[derive(derive_more::Debug)]
#[debug("Ticketer")]
pub(super) struct Ticketer {
    pub(super) tickets: Arc<Tickets>,
    /// Sealed under, so that they open nowhere else.
    pub(super) context: [u8; 32],
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // Before its last full turn each ticket is still good.
        TICKET_ROTATION_S * (TICKET_KEYS as u32 - 1)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.tickets.0.read().unwrap_or_else(PoisonError::into_inner);
        let (key, mut sealed) = (keys.first()?, plain.to_vec());
        let nonce = key.key.seal_in_place_append_tag(Aad::from(self.context), &mut sealed).ok()?;
        Some([&key.secret[..NAME_BYTES], nonce.as_ref().as_slice(), &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.tickets.0.read().unwrap_or_else(PoisonError::into_inner);
        let (key, mut sealed) = (keys.iter().find(|key| key.secret.starts_with(name))?, sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.key.open_in_place(nonce, Aad::from(self.context), &mut sealed).ok()?;
        Some(plain.to_vec())
    }
}
