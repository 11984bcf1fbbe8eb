//! The token of a device: 48 characters that the server, or a collector with the same key, checks with one MAC.
//!
//! Its form and MAC are those of [`session`](super::session); which devices were revoked is not known here.
//!
//! ```text
//! byte   0        1     2..4     4..12  12..16   16..20   20..36
//!        version  kind  0        id     0        expires  MAC of bytes 0..20
//! ```

use super::problem::{Problem, TOKEN_EXPIRED, TOKEN_INVALID};
use super::session::{MacKey, Token};

/// What a device is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, strum::Display, strum::FromRepr)]
#[strum(serialize_all = "lowercase")]
#[repr(u8)]
pub enum Kind {
    /// Checks codes at a door, in a bus.
    Scanner = 1,
    /// Checks codes and takes samples.
    Post = 2,
}

/// What a token says; written as the journal names the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, derive_more::Display)]
#[display("{kind}-{id:016x}")]
#[allow(missing_docs, reason = "the names say it")]
pub struct Device {
    pub id: u64,
    pub kind: Kind,
    /// The first second at which the token is over, since 1970-01-01T00:00:00Z.
    pub expires_unix_s: u32,
}

/// The key of all device tokens.
#[derive(Clone)]
pub struct DeviceKey(MacKey);

impl DeviceKey {
    /// Takes 32 secret, uniformly random bytes.
    pub fn new(key: [u8; 32]) -> DeviceKey {
        DeviceKey(MacKey::new(key))
    }

    /// The token of `device`.
    pub fn mint(&self, device: &Device) -> String {
        let about = u128::from(VERSION) << 120 | (device.kind as u128) << 112 | u128::from(device.id) << 32;
        self.0.seal(about, device.expires_unix_s)
    }

    /// The device that `token` names, if the token is ours and not over at `now_unix_s`.
    /// Errors: a token that is not ours, of which nothing about time is said, or one that is over.
    pub fn check(&self, token: &[u8], now_unix_s: u64) -> Result<Device, Problem> {
        let token = Token::read(token, VERSION).filter(|token| token.is_of(&self.0)).ok_or(TOKEN_INVALID)?;
        let kind = Kind::from_repr((token.about >> 112) as u8).ok_or(TOKEN_INVALID)?;
        let (id, expires_unix_s) = ((token.about >> 32) as u64, token.expires_unix_s);
        let is_over = now_unix_s >= u64::from(expires_unix_s);
        if is_over { Err(TOKEN_EXPIRED) } else { Ok(Device { id, kind, expires_unix_s }) }
    }
}

/// Not that of a session, so that neither is ever taken for the other.
const VERSION: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const DEVICE: Device = Device { id: 0x0123_4567_89AB_CDEF, kind: Kind::Post, expires_unix_s: 1_800_000_000 };

    #[test]
    fn what_was_minted_is_read_back_until_its_second() {
        let key = DeviceKey::new([7; 32]);
        for kind in [Kind::Scanner, Kind::Post] {
            let device = Device { kind, ..DEVICE };
            let token = key.mint(&device);
            assert_eq!(token.len(), 48);
            assert_eq!(key.check(token.as_bytes(), 1_799_999_999), Ok(device));
            assert_eq!(key.check(token.as_bytes(), 1_800_000_000), Err(TOKEN_EXPIRED));
        }
    }

    #[test]
    fn any_changed_bit_and_any_other_key_or_length_is_refused() {
        let key = DeviceKey::new([7; 32]);
        let bytes = URL_SAFE_NO_PAD.decode(key.mint(&DEVICE)).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let token = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(key.check(token.as_bytes(), u64::MAX), Err(TOKEN_INVALID));
        }
        let other = DeviceKey::new([8; 32]).mint(&DEVICE);
        for token in [other.as_bytes(), b"", &key.mint(&DEVICE).as_bytes()[..47], &[0xFF; 48]] {
            assert_eq!(key.check(token, 0), Err(TOKEN_INVALID));
        }
    }
}
