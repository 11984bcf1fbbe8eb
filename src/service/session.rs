//! The session token: 48 characters that the server can check with one MAC and no table.
//!
//! It owns the MAC, which tokens of devices have too, and the layout. It does not know whether the resident exists or
//! whether the session number is still the one in the resident's record: `service` compares that after
//! [`Claimed::check`], which is on the path of every refresh and does not allocate.
//!
//! ```text
//! byte   0        1..4    4..12      12..16    16..20       20..36
//!        version  epoch   resident   number    expires      MAC of bytes 0..20
//! ```
//! All integers are big-endian; the 36 bytes are written as base64url (RFC 4648 section 5), which for a length that
//! three divides has neither padding nor spare bits, so each token has exactly one spelling.

use aes::Aes256Enc;
use aes::cipher::{BlockEncrypt, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::ZeroizeOnDrop;

use super::problem::{Problem, SESSION_ENDED, SESSION_EXPIRED, SESSION_INVALID};
use crate::words::ResidentNumber;

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

/// The key of tokens' MAC: AES-CMAC (RFC 4493, NIST SP 800-38B), for 20 bytes two blocks, a tenth of what a hash takes.
#[derive(Clone, ZeroizeOnDrop)]
pub(super) struct MacKey {
    /// Wipes itself.
    #[zeroize(skip)]
    cipher: Aes256Enc,
    /// The subkey K2 of a last block that is not whole, with the padding of 4 bytes already in it.
    last: u128,
}

impl MacKey {
    pub(super) fn new(key: [u8; 32]) -> MacKey {
        let mut key = MacKey { cipher: Aes256Enc::new(&key.into()), last: 0 };
        // RFC 4493 section 2.3: K1 and K2 are the cipher of zero, doubled once and twice, modulo x^128 + x^7 + x^2 + x + 1.
        let double = |block: u128| (block << 1) ^ ((block >> 127) * 0x87);
        key.last = double(double(key.encrypt(0))) ^ 0x80 << 88;
        key
    }

    fn encrypt(&self, block: u128) -> u128 {
        let mut block = block.to_be_bytes().into();
        self.cipher.encrypt_block(&mut block);
        u128::from_be_bytes(block.into())
    }

    fn mac(&self, about: u128, expires_unix_s: u32) -> u128 {
        self.encrypt(self.encrypt(about) ^ u128::from(expires_unix_s) << 96 ^ self.last)
    }

    pub(super) fn seal(&self, about: u128, expires_unix_s: u32) -> String {
        let mac = self.mac(about, expires_unix_s);
        URL_SAFE_NO_PAD.encode([&about.to_be_bytes()[..], &expires_unix_s.to_be_bytes(), &mac.to_be_bytes()].concat())
    }
}

/// A token, before it is known whether it is ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    /// The first 16 bytes: a version, and what that has in its place.
    pub(super) about: u128,
    pub(super) expires_unix_s: u32,
    mac: u128,
}

impl Token {
    pub(super) fn read(token: &[u8], version: u8) -> Option<Token> {
        let mut bytes = [0; TOKEN_BYTES];
        let is_decoded =
            token.len() == TOKEN_CHARS && URL_SAFE_NO_PAD.decode_slice(token, &mut bytes) == Ok(TOKEN_BYTES);
        let (about, rest) = bytes.split_first_chunk().filter(|_| is_decoded && bytes[0] == version)?;
        let (expires_unix_s, mac) = rest.split_first_chunk()?;
        let mac = u128::from_be_bytes(*mac.first_chunk()?);
        Some(Token { about: u128::from_be_bytes(*about), expires_unix_s: u32::from_be_bytes(*expires_unix_s), mac })
    }

    /// Whether it is of this key. Numbers are compared in a few instructions and in constant time all the same.
    pub(super) fn is_of(&self, key: &MacKey) -> bool {
        key.mac(self.about, self.expires_unix_s).ct_eq(&self.mac).into()
    }
}

/// The key of all sessions of one epoch. A new epoch, which has a new key, ends all sessions at once.
#[derive(Clone, ZeroizeOnDrop)]
pub struct SessionKey {
    /// 0..=[`EPOCH_MAX`].
    pub epoch: u32,
    mac: MacKey,
}

impl SessionKey {
    /// The key of `epoch`; `None` if the epoch is above [`EPOCH_MAX`].
    pub fn new(epoch: u32, key: [u8; 32]) -> Option<SessionKey> {
        (epoch <= EPOCH_MAX).then(|| SessionKey { epoch, mac: MacKey::new(key) })
    }
}

/// The token of `session`.
pub fn mint(key: &SessionKey, session: &Session) -> String {
    let about = u128::from(VERSION) << 120 | u128::from(key.epoch) << 96 | u128::from(session.resident.0) << 32;
    key.mac.seal(about | u128::from(session.number), session.expires_unix_s)
}

/// What a token says, before it is known whether it is ours: good for fetching from memory what will be needed if it is.
#[derive(Clone, Copy, Debug)]
pub struct Claimed(Token);

impl Claimed {
    /// Reads a token. Errors: it is not 48 base64url characters, or of another version.
    pub fn read(token: &[u8]) -> Result<Claimed, Problem> {
        Token::read(token, VERSION).map(Claimed).ok_or(SESSION_INVALID)
    }

    /// Whose session it says it is.
    pub fn resident(&self) -> ResidentNumber {
        ResidentNumber((self.0.about >> 32) as u64)
    }

    /// The session, if it is ours and not over at `now_unix_s`.
    /// Errors: it is of another epoch, which grants nothing and only tells the page to sign in again: the key of an
    /// ended epoch is gone. Else it is not ours, or it is over; nothing about time is said of one that is not ours.
    pub fn check(&self, key: &SessionKey, now_unix_s: u64) -> Result<Session, Problem> {
        if (self.0.about >> 96) as u32 & EPOCH_MAX != key.epoch {
            return Err(SESSION_ENDED);
        }
        if !self.0.is_of(&key.mac) {
            return Err(SESSION_INVALID);
        }
        let (number, expires_unix_s) = (self.0.about as u32, self.0.expires_unix_s);
        if now_unix_s >= u64::from(expires_unix_s) {
            return Err(SESSION_EXPIRED);
        }
        Ok(Session { resident: self.resident(), number, expires_unix_s })
    }
}

const VERSION: u8 = 1;
const TOKEN_CHARS: usize = 48;
const TOKEN_BYTES: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &SessionKey, token: &[u8], now_unix_s: u64) -> Result<Session, Problem> {
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
            assert_eq!(check(&key(epoch), token.as_bytes(), 1_799_999_999), Ok(SESSION));
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
        let key = MacKey::new(key.try_into().unwrap());
        let message = 0x6bc1_bee2_2e40_9f96_e93d_7e11_7393_172a;
        assert_eq!(key.mac(message, 0xae2d_8a57), 0x1567_27dc_0878_944a_023c_1fe0_3bad_6d93);
    }

    #[test]
    fn a_session_ends_at_its_second() {
        let token = mint(&key(1), &SESSION);
        assert_eq!(check(&key(1), token.as_bytes(), 1_800_000_000), Err(SESSION_EXPIRED));
        assert_eq!(check(&key(1), token.as_bytes(), u64::MAX), Err(SESSION_EXPIRED));
        assert_eq!(check(&key(1), token.as_bytes(), 0), Ok(SESSION));
    }

    #[test]
    fn a_new_epoch_ends_all_sessions() {
        let token = mint(&key(1), &SESSION);
        assert_eq!(check(&key(2), token.as_bytes(), 0), Err(SESSION_ENDED));
    }

    #[test]
    fn any_changed_bit_is_refused() {
        let bytes = URL_SAFE_NO_PAD.decode(mint(&key(1), &SESSION)).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let token = URL_SAFE_NO_PAD.encode(changed);
            assert!(check(&key(1), token.as_bytes(), u64::MAX).is_err_and(|error| error != SESSION_EXPIRED));
        }
        let other_key = SessionKey::new(1, [0x43; 32]).unwrap();
        assert_eq!(check(&other_key, mint(&key(1), &SESSION).as_bytes(), 0), Err(SESSION_INVALID));
    }

    #[test]
    fn only_one_spelling_is_a_session() {
        let token = mint(&key(1), &SESSION).into_bytes();
        let with = |at: usize, byte: u8| {
            let mut changed = token.clone();
            changed[at] = byte;
            changed
        };
        let longer = [token.clone(), vec![b'=']].concat();
        let cases = [vec![], token[..47].to_vec(), longer, with(47, b'='), with(0, b'+'), with(9, b'/'), with(9, 0xFF)];
        for case in cases {
            assert_eq!(check(&key(1), &case, 0), Err(SESSION_INVALID));
        }
    }
}
