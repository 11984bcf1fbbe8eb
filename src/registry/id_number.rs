//! The resident ID number (GB 11643-1999) and the keyed hash that stands for it everywhere else.
//!
//! A number is checked for its form, its check character and its calendar date, and for nothing more: area codes
//! change, and a birth date in the future is for the authority that gave it to explain. Nothing here prints one.
//!
//! The hash is keyed because 18 digits can be tried one by one: without the key a resident number says nothing, with
//! it the whole country is enumerated in minutes. So the key lives with the other keys and is wiped when dropped.

use derive_more::Debug;
use time::{Date, Month};
use zeroize::ZeroizeOnDrop;

use crate::words::ResidentNumber;

/// Characters of an ID number: 6 of area, 8 of birth date, 3 of sequence, 1 of check.
const LENGTH: usize = 18;

/// A well-formed resident ID number, its check character in upper case.
#[derive(Clone, PartialEq, Eq, Debug)]
#[debug("IdNumber(not shown)")]
pub struct IdNumber([u8; LENGTH]);

impl IdNumber {
    /// Reads 17 digits and a check character (`0` to `9`, `X` or `x`).
    /// Errors name the first rule that is broken, never the number.
    pub fn parse(text: &[u8]) -> Result<IdNumber, String> {
        let length = |_| format!("{} bytes, expected {LENGTH}", text.len());
        let mut characters: [u8; LENGTH] = text.try_into().map_err(length)?;
        characters[LENGTH - 1].make_ascii_uppercase();
        let check = characters[LENGTH - 1];
        match characters[..LENGTH - 1].iter().position(|c| !c.is_ascii_digit()) {
            Some(index) => Err(format!("character {} is not a digit", index + 1)),
            None if !check.is_ascii_digit() && check != b'X' => Err(format!("character {LENGTH} is not a digit or X")),
            None if check != check_character(&characters) => Err("the check character does not fit".to_owned()),
            None if !is_calendar_date(&characters[6..14]) => Err("the birth date is not a calendar date".to_owned()),
            None => Ok(IdNumber(characters)),
        }
    }

    /// Makes a number of 17 digits by adding their check character.
    pub(super) fn from_digits(digits: &[u8; LENGTH - 1]) -> Result<IdNumber, String> {
        let mut characters = [b'0'; LENGTH];
        characters[..LENGTH - 1].copy_from_slice(digits);
        characters[LENGTH - 1] = check_character(&characters);
        IdNumber::parse(&characters)
    }

    /// The 18 characters, for the one who has to write them down again: the demo and the tests.
    pub fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }
}

/// The key that turns ID numbers into resident numbers. Two registries agree about residents only if they hold the
/// same one, so a snapshot names it by [`HashKey::id`].
#[derive(Clone, Debug, ZeroizeOnDrop)]
#[debug("HashKey(not shown)")]
pub struct HashKey([u8; 32]);

impl HashKey {
    /// Takes 32 secret, uniformly random bytes.
    pub const fn new(bytes: [u8; 32]) -> HashKey {
        HashKey(bytes)
    }

    /// The name of this key in files and messages: 8 bytes that say nothing about it.
    pub fn id(&self) -> [u8; 8] {
        let digest = blake3::derive_key("onecode registry hash key id v1", &self.0);
        let (id, _) = digest.split_first_chunk().expect("a digest of 32 bytes has a first 8");
        *id
    }

    /// The resident number of an ID number, and a check value that tells two ID numbers with one resident number
    /// apart: the first and the second 8 bytes of the keyed hash, big-endian.
    pub fn number(&self, id_number: &IdNumber) -> (ResidentNumber, u64) {
        let digest = blake3::keyed_hash(&self.0, &id_number.0);
        let (words, _) = digest.as_bytes().as_chunks::<8>();
        (ResidentNumber(u64::from_be_bytes(words[0])), u64::from_be_bytes(words[1]))
    }
}

/// The check character of the first 17: ISO 7064 MOD 11-2. The weight of place i is 2^(17-i) mod 11, and the weighted
/// sum with the check character (X counts 10) leaves 1 when divided by 11.
fn check_character(characters: &[u8; LENGTH]) -> u8 {
    const WEIGHTS: [u32; LENGTH - 1] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    const CHECKS: &[u8; 11] = b"10X98765432";
    let sum: u32 = characters.iter().zip(WEIGHTS).map(|(c, weight)| u32::from(c - b'0') * weight).sum();
    CHECKS[(sum % 11) as usize]
}

/// Whether 8 digits are a day of the Gregorian calendar, year 1 to 9999.
fn is_calendar_date(digits: &[u8]) -> bool {
    let two = |at: usize| (digits[at] - b'0') * 10 + (digits[at + 1] - b'0');
    let year = i32::from(two(0)) * 100 + i32::from(two(2));
    let date = Month::try_from(two(4)).and_then(|month| Date::from_calendar_date(year, month, two(6)));
    year >= 1 && date.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(first_14: &str) -> Result<IdNumber, String> {
        let digits: [u8; 17] = format!("{first_14}001").into_bytes().try_into().unwrap();
        IdNumber::from_digits(&digits)
    }

    #[test]
    fn the_examples_of_the_standard_are_valid() {
        // GB 11643-1999, annex: a number with X and one with a digit.
        for text in ["11010519491231002X", "440524188001010014"] {
            assert_eq!(IdNumber::parse(text.as_bytes()).unwrap().as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn a_small_x_is_the_same_number() {
        assert_eq!(IdNumber::parse(b"11010519491231002x"), IdNumber::parse(b"11010519491231002X"));
    }

    #[test]
    fn every_single_wrong_digit_is_found() {
        for text in [b"11010519491231002X", b"440524188001010014"] {
            for place in 0..LENGTH {
                for digit in b'0'..=b'9' {
                    let mut wrong = *text;
                    wrong[place] = digit;
                    assert_eq!(IdNumber::parse(&wrong).is_ok(), wrong == *text);
                }
            }
        }
    }

    #[test]
    fn form_errors_are_named() {
        for (text, says) in [
            ("", "0 bytes, expected 18"),
            ("110105491231002", "15 bytes, expected 18"),
            ("1101051949123100 X", "character 17 is not a digit"),
            ("X1010519491231002X", "character 1 is not a digit"),
            ("11010519491231002Y", "character 18 is not a digit or X"),
            ("110105194912310021", "the check character does not fit"),
        ] {
            assert_eq!(IdNumber::parse(text.as_bytes()).unwrap_err(), says);
        }
    }

    #[test]
    fn only_days_of_the_calendar_pass() {
        for good in ["20000229", "20240229", "19991231", "00010101", "99991231"] {
            assert!(made(&format!("610100{good}")).is_ok(), "{good}");
        }
        for bad in ["19000229", "20230229", "20230431", "20231301", "20230001", "20230100", "00000101", "20230132"] {
            assert_eq!(made(&format!("610100{bad}")), Err("the birth date is not a calendar date".to_owned()), "{bad}");
        }
    }

    #[test]
    fn the_resident_number_is_the_keyed_hash() {
        let id_number = IdNumber::parse(b"11010519491231002x").unwrap();
        let digest = blake3::keyed_hash(&[7; 32], b"11010519491231002X");
        let (number, check) = HashKey::new([7; 32]).number(&id_number);
        assert_eq!(number.0.to_be_bytes(), digest.as_bytes()[..8]);
        assert_eq!(check.to_be_bytes(), digest.as_bytes()[8..16]);
        assert_ne!(HashKey::new([8; 32]).number(&id_number).0, number);
    }

    #[test]
    fn the_key_id_is_not_the_key_and_nothing_prints_either() {
        let key = HashKey::new([7; 32]);
        assert_ne!(key.id(), [7; 8]);
        assert_ne!(key.id(), HashKey::new([8; 32]).id());
        let shown = format!("{key:?} {:?}", IdNumber::parse(b"11010519491231002x"));
        assert!(!shown.contains('7') && !shown.contains("1101"), "{shown}");
    }
}
