//! The session token: 48 characters that the server can check with one MAC and no table.
//!
//! It owns the layout and the MAC. It does not know whether the resident exists or whether the session number is still
//! the one in the resident's record: `service` compares that after [`check`]. Both functions are on the path of every
//! refresh, so neither allocates.
//!
//! ```text
//! byte   0        1..4    4..12      12..16    16..20       20..36
//!        version  epoch   resident   number    expires      MAC: BLAKE3, keyed, of bytes 0..20, cut to 16 bytes
//! ```
//! All integers are big-endian; the 36 bytes are written as base64url (RFC 4648 section 5), which for a length that
//! three divides has neither padding nor spare bits, so each session has exactly one spelling.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::words::ResidentNumber;

/// Characters of a token.
pub const SESSION_TOKEN_BYTES: usize = 48;
/// The largest epoch that a token can name.
pub const EPOCH_MAX: u32 = (1 << 24) - 1;

/// What a session says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// Whose session it is.
    pub resident: ResidentNumber,
    /// The resident's session number when it was made; a higher one in the record has ended it.
    pub number: u32,
    /// The first second at which it is over, since 1970-01-01T00:00:00Z.
    pub expires_unix_s: u32,
}

/// The key of all sessions of one epoch. A new epoch, which has a new key, ends all sessions at once.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionKey {
    epoch: u32,
    key: [u8; 32],
}

impl SessionKey {
    /// The key of `epoch`; `None` if the epoch is above [`EPOCH_MAX`].
    pub const fn new(epoch: u32, key: [u8; 32]) -> Option<SessionKey> {
        if epoch > EPOCH_MAX { None } else { Some(SessionKey { epoch, key }) }
    }

    /// The epoch, 0..=[`EPOCH_MAX`].
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    fn mac(&self, signed: &[u8]) -> [u8; MAC_BYTES] {
        let hash = blake3::keyed_hash(&self.key, signed);
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&hash.as_bytes()[..MAC_BYTES]);
        mac
    }
}

/// Why a token opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionError {
    /// It is not 48 base64url characters, or of a version that this server does not know.
    Malformed,
    /// It names another epoch than the key's: sessions of this one were ended. Not authenticated, since the key of
    /// an ended epoch is gone; it grants nothing and only tells the page to sign in again.
    Ended(u32),
    /// The MAC is not ours.
    Forged,
    /// It was good until its time was over.
    Expired,
}

impl SessionError {
    /// The stable last part of the problem's `type`.
    pub const fn word(self) -> &'static str {
        match self {
            SessionError::Malformed => "session-malformed",
            SessionError::Forged => "session-forged",
            SessionError::Ended(_) => "session-ended",
            SessionError::Expired => "session-expired",
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SessionError::Malformed => "the session is not a session of this server",
            SessionError::Forged => "the session was not made by this server",
            SessionError::Ended(_) => "all sessions of that time were ended, sign in again",
            SessionError::Expired => "the session has expired, sign in again",
        })
    }
}

impl std::error::Error for SessionError {}

/// The token of `session`.
pub fn mint(key: &SessionKey, session: &Session) -> [u8; SESSION_TOKEN_BYTES] {
    let mut bytes = [0; TOKEN_BYTES];
    // The version goes over the epoch's highest byte, which is 0 (EPOCH_MAX).
    bytes[0..4].copy_from_slice(&key.epoch.to_be_bytes());
    bytes[0] = VERSION;
    bytes[4..12].copy_from_slice(&session.resident.0.to_be_bytes());
    bytes[12..16].copy_from_slice(&session.number.to_be_bytes());
    bytes[16..20].copy_from_slice(&session.expires_unix_s.to_be_bytes());
    let mac = key.mac(&bytes[..SIGNED_BYTES]);
    bytes[SIGNED_BYTES..].copy_from_slice(&mac);
    let mut token = [0; SESSION_TOKEN_BYTES];
    let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut token);
    assert_eq!(written, Ok(SESSION_TOKEN_BYTES), "36 bytes are 48 characters of base64");
    token
}

/// The session that `token` carries, if it is ours and not over at `now_unix_s`.
///
/// # Errors
/// [`SessionError`], in the order of its variants: nothing about time is said of a token that is not ours.
pub fn check(key: &SessionKey, token: &[u8], now_unix_s: u64) -> Result<Session, SessionError> {
    let mut bytes = [0; TOKEN_BYTES];
    if token.len() != SESSION_TOKEN_BYTES || URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) != Ok(TOKEN_BYTES) {
        return Err(SessionError::Malformed);
    }
    let (signed, mac) = bytes.split_at(SIGNED_BYTES);
    if signed[0] != VERSION {
        return Err(SessionError::Malformed);
    }
    let epoch = u32_at(signed, 0) & EPOCH_MAX;
    if epoch != key.epoch {
        return Err(SessionError::Ended(epoch));
    }
    if !bool::from(key.mac(signed).ct_eq(mac)) {
        return Err(SessionError::Forged);
    }
    let resident = ResidentNumber(u64::from(u32_at(signed, 4)) << 32 | u64::from(u32_at(signed, 8)));
    let session = Session { resident, number: u32_at(signed, 12), expires_unix_s: u32_at(signed, 16) };
    if now_unix_s >= u64::from(session.expires_unix_s) {
        return Err(SessionError::Expired);
    }
    Ok(session)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

const VERSION: u8 = 1;
const SIGNED_BYTES: usize = 20;
const MAC_BYTES: usize = 16;
const TOKEN_BYTES: usize = SIGNED_BYTES + MAC_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Session =
        Session { resident: ResidentNumber(0x0123_4567_89AB_CDEF), number: 7, expires_unix_s: 1_800_000_000 };

    fn key(epoch: u32) -> SessionKey {
        SessionKey::new(epoch, [0x42; 32]).unwrap()
    }

    #[test]
    fn what_was_minted_is_read_back() {
        for epoch in [0, 1, EPOCH_MAX] {
            let token = mint(&key(epoch), &SESSION);
            assert_eq!(check(&key(epoch), &token, 1_799_999_999), Ok(SESSION));
        }
        assert!(SessionKey::new(EPOCH_MAX + 1, [0; 32]).is_none());
    }

    #[test]
    fn the_layout_is_the_one_written_above() {
        let token = mint(&key(0x01_02_03), &SESSION);
        let bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
        let mut expected = vec![1, 1, 2, 3, 0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0, 0, 0, 7];
        expected.extend_from_slice(&1_800_000_000_u32.to_be_bytes());
        assert_eq!(bytes[..20], expected);
        assert_eq!(bytes[20..], blake3::keyed_hash(&[0x42; 32], &expected).as_bytes()[..16]);
    }

    #[test]
    fn a_session_ends_at_its_second() {
        let token = mint(&key(1), &SESSION);
        assert_eq!(check(&key(1), &token, 1_800_000_000), Err(SessionError::Expired));
        assert_eq!(check(&key(1), &token, u64::MAX), Err(SessionError::Expired));
        assert_eq!(check(&key(1), &token, 0), Ok(SESSION));
    }

    #[test]
    fn a_new_epoch_ends_all_sessions() {
        let token = mint(&key(1), &SESSION);
        assert_eq!(check(&key(2), &token, 0), Err(SessionError::Ended(1)));
    }

    #[test]
    fn any_changed_bit_is_refused() {
        let bytes = URL_SAFE_NO_PAD.decode(mint(&key(1), &SESSION)).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let token = URL_SAFE_NO_PAD.encode(changed);
            assert!(check(&key(1), token.as_bytes(), u64::MAX).is_err_and(|error| error != SessionError::Expired));
        }
        let other_key = SessionKey::new(1, [0x43; 32]).unwrap();
        assert_eq!(check(&other_key, &mint(&key(1), &SESSION), 0), Err(SessionError::Forged));
    }

    #[test]
    fn only_one_spelling_is_a_session() {
        let token = mint(&key(1), &SESSION).to_vec();
        let with = |at: usize, byte: u8| {
            let mut changed = token.clone();
            changed[at] = byte;
            changed
        };
        let longer = [token.clone(), vec![b'=']].concat();
        let cases = [vec![], token[..47].to_vec(), longer, with(47, b'='), with(0, b'+'), with(9, b'/'), with(9, 0xFF)];
        for case in cases {
            assert_eq!(check(&key(1), &case, 0), Err(SessionError::Malformed));
        }
    }
}
