//! The body of a refresh, `{"code":"OC1:…","status":"green",…}`, written into the caller's buffer.
//!
//! Every body of an issuer has one length, whatever the status says: a shorter word is followed by the spaces that JSON
//! allows before a comma. Without the matrix it is the same bytes up to there, and a brace: one cached body for both.

use super::claims::{CODE_CHARS_MAX, CodeRequest};
use super::qr::{MATRIX_CHARS, Matrix};

/// The longest body: the longest code, a test resident, three times of ten digits.
pub const PAYLOAD_BYTES_MAX: usize = 760;
const QR_OPENS: &[u8] = b",\"qr\":{\"size\":49,\"bits\":\"";
const QR_ENDS: &[u8] = b"\"}}";
const QR_BYTES: usize = QR_OPENS.len() + MATRIX_CHARS + QR_ENDS.len();

/// The longest word of a status, to which the others are padded.
const STATUS_BYTES: usize = 7;
/// Every member at its longest, without the values: names, quotes, colons, commas, braces.
const _: () = assert!(
    b"{\"code\":\"\",\"status\":\"\",\"iat\":,\"exp\":,\"refresh_at\":".len()
        + b",\"env\":\"test\"".len()
        + CODE_CHARS_MAX
        + STATUS_BYTES
        + 3 * 10
        + QR_BYTES
        <= PAYLOAD_BYTES_MAX
);

/// Writes the body for `code`, made for `request`, at the start of `out`. Returns where its matrix begins, for [`parts`].
/// Panics when the code is longer than [`CODE_CHARS_MAX`], which no issuer makes.
pub fn write(
    code: &str,
    request: &CodeRequest,
    refresh_at: u32,
    matrix: &Matrix,
    out: &mut [u8; PAYLOAD_BYTES_MAX],
) -> u16 {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(b"{\"code\":\"");
    // Base45 holds nothing that JSON must escape.
    put(code.as_bytes());
    put(b"\",\"status\":\"");
    let word = request.status.word();
    put(word.as_bytes());
    put(b"\"");
    put(&[b' '; STATUS_BYTES][word.len()..]);
    for (name, value) in
        [(&b",\"iat\":"[..], request.iat), (b",\"exp\":", request.exp), (b",\"refresh_at\":", refresh_at)]
    {
        put(name);
        put(itoa::Buffer::new().format(value).as_bytes());
    }
    if request.test {
        put(b",\"env\":\"test\"");
    }
    let mut bits = [0; MATRIX_CHARS];
    matrix.base64(&mut bits);
    put(QR_OPENS);
    put(&bits);
    put(QR_ENDS);
    u16::try_from(at - QR_BYTES).expect("at most PAYLOAD_BYTES_MAX")
}

/// A written body of which the matrix begins at `head`, to be sent in two parts; or `bare`: what `?qr=none` answers.
pub fn parts(body: &[u8; PAYLOAD_BYTES_MAX], head: u16, bare: bool) -> [&[u8]; 2] {
    let head = usize::from(head);
    if bare { [&body[..head], b"}"] } else { [&body[..head + QR_BYTES], b""] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::claims::tests::some_code;
    use crate::code::qr::tests::symbol_of;
    use crate::code::qr::{MATRIX_BYTES, Painter};
    use crate::code::window::Window;
    use crate::words::{ResidentNumber, Status};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;

    fn request(status: Status, test: bool) -> CodeRequest {
        let (resident, version) = (ResidentNumber(5), 1);
        let times = Window::new(45, 120).unwrap().times(resident, 1_780_000_000);
        CodeRequest { resident, version, status, iat: times.iat, exp: times.exp, test }
    }

    fn body(code: &str, status: Status, test: bool) -> (Vec<u8>, Vec<u8>) {
        let mut matrix = Matrix::blank();
        Painter::default().paint(&symbol_of(code.as_bytes()).unwrap(), &mut matrix);
        let mut out = [0; PAYLOAD_BYTES_MAX];
        let head = write(code, &request(status, test), 1_780_000_030, &matrix, &mut out);
        (parts(&out, head, false).concat(), parts(&out, head, true).concat())
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
            let request = CodeRequest { iat: value, exp: value, ..request(Status::Red, false) };
            let (code, mut out) = (some_code(6), [0; PAYLOAD_BYTES_MAX]);
            let head = write(code.as_str(), &request, value, &Matrix::blank(), &mut out);
            let json: Value = serde_json::from_slice(&parts(&out, head, false).concat()).unwrap();
            assert!(["iat", "exp", "refresh_at"].iter().all(|name| json[name] == value), "{json}");
        }
    }
}
