//! The body of a refresh, `{"code":"OC1:…","status":"green",…}`, written into the caller's buffer.
//!
//! Every body of an issuer has one length, whatever the status says: a shorter word is followed by the spaces that JSON
//! allows before a comma. Without the matrix it is the same bytes up to there, and a brace: one cached body for both.

use super::claims::CODE_CHARS_MAX;
use super::qr::{MATRIX_CHARS, Matrix};
use super::window::Times;
use crate::words::Status;

/// The longest body: the longest code, a test resident, three times of ten digits.
pub const PAYLOAD_BYTES_MAX: usize = 760;
/// What closes the form without the matrix.
pub const CLOSING: &[u8] = b"}";

/// The longest word of a status, to which the others are padded.
const STATUS_BYTES: usize = 7;
/// Every member at its longest, without the values: names, quotes, colons, commas, braces.
const _: () = assert!(
    b"{\"code\":\"\",\"status\":\"\",\"iat\":,\"exp\":,\"refresh_at\":".len()
        + b",\"env\":\"test\",\"qr\":{\"size\":49,\"bits\":\"\"}}".len()
        + CODE_CHARS_MAX
        + STATUS_BYTES
        + 3 * 10
        + MATRIX_CHARS
        <= PAYLOAD_BYTES_MAX
);

/// What a body says.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "where the name says it")]
pub struct Payload<'a> {
    /// The code; Base45 holds nothing that JSON must escape.
    pub code: &'a str,
    pub status: Status,
    pub times: Times,
    pub test: bool,
    pub matrix: &'a Matrix,
}

/// Where the parts of a written body end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "where the name says it")]
pub struct Lengths {
    pub full: u16,
    /// The body before its matrix: with [`CLOSING`] behind it, the answer to `?qr=none`.
    pub head: u16,
}

/// Writes the body at the start of `out`.
/// Panics when the code is longer than [`CODE_CHARS_MAX`], which no issuer makes.
pub fn write(payload: &Payload<'_>, out: &mut [u8; PAYLOAD_BYTES_MAX]) -> Lengths {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(b"{\"code\":\"");
    put(payload.code.as_bytes());
    put(b"\",\"status\":\"");
    let word = payload.status.word();
    put(word.as_bytes());
    put(b"\"");
    put(&[b' '; STATUS_BYTES][word.len()..]);
    for (name, value) in [
        (&b",\"iat\":"[..], payload.times.iat),
        (b",\"exp\":", payload.times.exp),
        (b",\"refresh_at\":", payload.times.refresh_at),
    ] {
        put(name);
        put(itoa::Buffer::new().format(value).as_bytes());
    }
    if payload.test {
        put(b",\"env\":\"test\"");
    }
    let mut matrix = [0; MATRIX_CHARS];
    payload.matrix.base64(&mut matrix);
    put(b",\"qr\":{\"size\":49,\"bits\":\"");
    put(&matrix);
    put(b"\"}}");
    let head = at - MATRIX_CHARS - b",\"qr\":{\"size\":49,\"bits\":\"\"}}".len();
    let short = |length: usize| u16::try_from(length).expect("at most PAYLOAD_BYTES_MAX");
    Lengths { full: short(at), head: short(head) }
}

#[allow(missing_docs, reason = "where the name says it")]
impl Lengths {
    pub fn full<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        &body[..usize::from(self.full)]
    }

    /// `body` without its matrix, in two parts to be sent one behind the other.
    pub fn without_matrix<'a>(&self, body: &'a [u8]) -> (&'a [u8], &'static [u8]) {
        (&body[..usize::from(self.head)], CLOSING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::claims::tests::some_code;
    use crate::code::qr::tests::symbol_of;
    use crate::code::qr::{MATRIX_BYTES, Painter};
    use crate::code::window::Window;
    use crate::words::ResidentNumber;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;

    fn body(code: &str, status: Status, test: bool) -> (Vec<u8>, Vec<u8>) {
        let mut matrix = Matrix::blank();
        Painter::default().paint(&symbol_of(code.as_bytes()).unwrap(), &mut matrix);
        let times = Window::new(45, 120).unwrap().times(ResidentNumber(5), 1_780_000_000);
        let mut out = [0; PAYLOAD_BYTES_MAX];
        let lengths = write(&Payload { code, status, times, test, matrix: &matrix }, &mut out);
        let (head, closing) = lengths.without_matrix(&out);
        (lengths.full(&out).to_vec(), [head, closing].concat())
    }

    #[test]
    fn the_members_stand_as_the_contract_says() {
        let code = some_code(3);
        let (full, none) = body(code.as_str(), Status::Green, false);
        let text = String::from_utf8(full.clone()).unwrap();
        assert!(text.starts_with(&format!("{{\"code\":\"{}\",\"status\":\"green\"  ,\"iat\":", code.as_str())));
        let json: Value = serde_json::from_slice(&full).unwrap();
        assert_eq!((json["iat"].as_u64(), json["exp"].as_u64()), (Some(1_779_999_975), Some(1_780_000_095)));
        assert_eq!(json["qr"]["size"], 49);
        assert_eq!(STANDARD.decode(json["qr"]["bits"].as_str().unwrap()).unwrap().len(), MATRIX_BYTES);
        let mut without: Value = serde_json::from_slice(&none).unwrap();
        without["qr"] = json["qr"].clone();
        assert_eq!(without, json);
    }

    #[test]
    fn the_length_tells_nothing_of_the_status() {
        let all = [Status::Unknown, Status::Green, Status::Yellow, Status::Red];
        let lengths: Vec<_> = all
            .into_iter()
            .map(|status| body(some_code(4).as_str(), status, false))
            .map(|(full, none)| (full.len(), none.len()))
            .collect();
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    }

    #[test]
    fn a_test_residents_body_says_so_behind_the_times() {
        let (full, none) = body(some_code(5).as_str(), Status::Red, true);
        assert!(String::from_utf8(none.clone()).unwrap().ends_with(",\"env\":\"test\"}"));
        for body in [full, none] {
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["env"], "test");
        }
    }

    #[test]
    fn the_longest_body_fits() {
        let (full, none) = body(&"A".repeat(CODE_CHARS_MAX), Status::Unknown, true);
        assert!(full.len() <= PAYLOAD_BYTES_MAX && none.len() < 400, "{} {}", full.len(), none.len());
    }

    #[test]
    fn numbers_are_written_whole() {
        for value in [0, 9, 10, 1_780_000_000, u32::MAX] {
            let times = Times { iat: value, exp: value, refresh_at: value };
            let (code, mut out) = (some_code(6), [0; PAYLOAD_BYTES_MAX]);
            let payload =
                Payload { code: code.as_str(), status: Status::Red, times, test: false, matrix: &Matrix::blank() };
            let lengths = write(&payload, &mut out);
            let json: Value = serde_json::from_slice(lengths.full(&out)).unwrap();
            assert!(["iat", "exp", "refresh_at"].iter().all(|name| json[name] == value), "{json}");
        }
    }
}
