//! The session token: 48 characters that the server can check with one MAC and no table.
//!
//! It owns the layout and the MAC. It does not know whether the resident exists or whether the session number is still
//! the one in the resident's record: `service` compares that after [`Claimed::check`], which is on the path of
//! every refresh and does not allocate.
//!
//! ```text
//! byte   0        1..4    4..12      12..16    16..20       20..36
//!        version  epoch   resident   number    expires      MAC: AES-256-CMAC (RFC 4493) of bytes 0..20
//! ```
//! All integers are big-endian; the 36 bytes are written as base64url (RFC 4648 section 5), which for a length that
//! three divides has neither padding nor spare bits, so each session has exactly one spelling.

use aes::Aes256Enc;
use aes::cipher::{Block, BlockEncrypt, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::ZeroizeOnDrop;

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
///
/// The MAC is AES-CMAC (RFC 4493, NIST SP 800-38B) under a 256-bit key: for 20 bytes two blocks of a cipher that the CPU
/// has, a tenth of what a hash takes, and it is on the path of every refresh.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SessionKey {
    epoch: u32,
    /// Wipes itself.
    #[zeroize(skip)]
    cipher: Aes256Enc,
    /// The subkey K2 of a last block that is not whole, with the padding of 4 bytes already in it.
    last: [u8; BLOCK_BYTES],
}

impl SessionKey {
    /// The key of `epoch`; `None` if the epoch is above [`EPOCH_MAX`].
    pub fn new(epoch: u32, key: [u8; 32]) -> Option<SessionKey> {
        if epoch > EPOCH_MAX {
            return None;
        }
        let cipher = Aes256Enc::new(&key.into());
        let mut zero = Block::<Aes256Enc>::default();
        cipher.encrypt_block(&mut zero);
        // RFC 4493 section 2.3: K1 and K2 are the cipher of zero, doubled once and twice in GF(2^128).
        let mut last = double(double(zero.into()));
        last[SIGNED_BYTES - BLOCK_BYTES] ^= 0x80;
        Some(SessionKey { epoch, cipher, last })
    }

    /// The epoch, 0..=[`EPOCH_MAX`].
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    fn mac(&self, signed: &[u8; SIGNED_BYTES]) -> [u8; MAC_BYTES] {
        let mut block = Block::<Aes256Enc>::clone_from_slice(&signed[..BLOCK_BYTES]);
        self.cipher.encrypt_block(&mut block);
        for (byte, last) in block.iter_mut().zip(&self.last) {
            *byte ^= last;
        }
        for (byte, signed) in block.iter_mut().zip(&signed[BLOCK_BYTES..]) {
            *byte ^= signed;
        }
        self.cipher.encrypt_block(&mut block);
        block.into()
    }
}

/// A block times x, modulo x^128 + x^7 + x^2 + x + 1.
fn double(block: [u8; BLOCK_BYTES]) -> [u8; BLOCK_BYTES] {
    let number = u128::from_be_bytes(block);
    ((number << 1) ^ ((number >> 127) * 0x87)).to_be_bytes()
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

/// The token of `session`.
pub fn mint(key: &SessionKey, session: &Session) -> [u8; SESSION_TOKEN_BYTES] {
    let mut bytes = [0; TOKEN_BYTES];
    // The version goes over the epoch's highest byte, which is 0 (EPOCH_MAX).
    bytes[0..4].copy_from_slice(&key.epoch.to_be_bytes());
    bytes[0] = VERSION;
    bytes[4..12].copy_from_slice(&session.resident.0.to_be_bytes());
    bytes[12..16].copy_from_slice(&session.number.to_be_bytes());
    bytes[16..20].copy_from_slice(&session.expires_unix_s.to_be_bytes());
    let (signed, mac) = bytes.split_first_chunk_mut().expect("36 bytes begin with 20");
    mac.copy_from_slice(&key.mac(signed));
    let mut token = [0; SESSION_TOKEN_BYTES];
    let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut token);
    assert_eq!(written, Ok(SESSION_TOKEN_BYTES), "36 bytes are 48 characters of base64");
    token
}

/// What a token says, before it is known whether it is ours: good for fetching from memory what will be needed if it is.
#[derive(Clone, Copy, Debug)]
pub struct Claimed([u8; TOKEN_BYTES]);

impl Claimed {
    /// Reads a token.
    ///
    /// # Errors
    /// It is not 48 base64url characters, or of another version.
    pub fn read(token: &[u8]) -> Result<Claimed, SessionError> {
        let mut bytes = [0; TOKEN_BYTES];
        let is_decoded =
            token.len() == SESSION_TOKEN_BYTES && URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) == Ok(TOKEN_BYTES);
        if is_decoded && bytes[0] == VERSION { Ok(Claimed(bytes)) } else { Err(SessionError::Malformed) }
    }

    /// Whose session it says it is.
    pub fn resident(&self) -> ResidentNumber {
        ResidentNumber(u64::from(u32_at(&self.0, 4)) << 32 | u64::from(u32_at(&self.0, 8)))
    }

    /// The session, if it is ours and not over at `now_unix_s`.
    ///
    /// # Errors
    /// [`SessionError`], in the order of its variants: nothing about time is said of a token that is not ours.
    pub fn check(&self, key: &SessionKey, now_unix_s: u64) -> Result<Session, SessionError> {
        let epoch = u32_at(&self.0, 0) & EPOCH_MAX;
        if epoch != key.epoch {
            return Err(SessionError::Ended(epoch));
        }
        // As numbers, which are compared in a few instructions and in constant time all the same.
        let (signed, _) = self.0.split_first_chunk().expect("36 bytes begin with 20");
        let theirs = *self.0.last_chunk().expect("36 bytes end with 16");
        let [ours, theirs] = [key.mac(signed), theirs].map(u128::from_ne_bytes);
        if !bool::from(ours.ct_eq(&theirs)) {
            return Err(SessionError::Forged);
        }
        let (number, expires_unix_s) = (u32_at(&self.0, 12), u32_at(&self.0, 16));
        if now_unix_s >= u64::from(expires_unix_s) {
            return Err(SessionError::Expired);
        }
        Ok(Session { resident: self.resident(), number, expires_unix_s })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

const VERSION: u8 = 1;
const SIGNED_BYTES: usize = 20;
const MAC_BYTES: usize = BLOCK_BYTES;
/// A block of AES (FIPS 197).
const BLOCK_BYTES: usize = 16;
const TOKEN_BYTES: usize = SIGNED_BYTES + MAC_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &SessionKey, token: &[u8], now_unix_s: u64) -> Result<Session, SessionError> {
        Claimed::read(token)?.check(key, now_unix_s)
    }

    const SESSION: Session =
        Session { resident: ResidentNumber(0x0123_4567_89AB_CDEF), number: 7, expires_unix_s: 1_800_000_000 };

    /// Of the examples of AES-256 in SP 800-38B.
    const NIST_KEY: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";

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
        // From Python's cryptography: CMAC(AES(b"\x42" * 32)) of the 20 bytes.
        let mac = 0xb911_6b3d_caa2_b783_6ef8_c85c_a569_4c1a_u128.to_be_bytes();
        assert_eq!(bytes[20..], mac);
    }

    #[test]
    fn the_mac_is_that_of_nist_sp_800_38b() {
        let key: Vec<u8> =
            (0..64).step_by(2).map(|at| u8::from_str_radix(&NIST_KEY[at..at + 2], 16).unwrap()).collect();
        let key = SessionKey::new(1, key.try_into().unwrap()).unwrap();
        let message = 0x6bc1_bee2_2e40_9f96_e93d_7e11_7393_172a_u128.to_be_bytes();
        let signed: [u8; SIGNED_BYTES] = [&message[..], &[0xae, 0x2d, 0x8a, 0x57]].concat().try_into().unwrap();
        assert_eq!(u128::from_be_bytes(key.mac(&signed)), 0x1567_27dc_0878_944a_023c_1fe0_3bad_6d93);
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
