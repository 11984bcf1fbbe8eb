//! Base45 (RFC 9285): bytes as the characters of QR alphanumeric mode, three for every two bytes.
//!
//! Encoding goes into the caller's slice, so that issuing a code allocates nothing. Decoding is strict: each byte
//! string has exactly one text, so that a code cannot be altered unnoticed. A space is a character like any other.

/// The characters in the order of their values, which are also those of QR alphanumeric mode (ISO/IEC 18004 table 5).
pub(super) const ALPHABET: &[u8; 45] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";

/// The value of each character, 255 outside the alphabet.
const VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0u8;
    while value < 45 {
        values[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// How many characters `bytes` bytes become.
pub const fn encoded_len(bytes: usize) -> usize {
    bytes / 2 * 3 + bytes % 2 * 2
}

/// Writes the text of `bytes` at the start of `out` and returns its length.
/// Panics when `out` is shorter than [`encoded_len`]; the callers' buffers are sized from it.
pub fn encode(bytes: &[u8], out: &mut [u8]) -> usize {
    let length = encoded_len(bytes.len());
    let (pairs, rest) = bytes.as_chunks::<2>();
    let (triples, tail) = out[..length].as_chunks_mut::<3>();
    for (pair, triple) in pairs.iter().zip(triples) {
        *triple = values(*pair).map(|value| ALPHABET[value as usize]);
    }
    if let ([last], [low, high]) = (rest, tail) {
        let group = usize::from(*last);
        *low = ALPHABET[group % 45];
        *high = ALPHABET[group / 45];
    }
    length
}

/// The values of the three characters of two bytes.
#[inline(always)]
pub(super) fn values(pair: [u8; 2]) -> [u32; 3] {
    let group = u32::from(u16::from_be_bytes(pair));
    let low = group % (45 * 45);
    [low % 45, low / 45, group / (45 * 45)]
}

/// Writes the bytes of `text` at the start of `out` and returns how many there are. `None` where the text breaks a rule
/// of RFC 9285 §4 and §6 or stands for more than `out` holds, which may then be partly written.
pub fn decode(text: &[u8], out: &mut [u8]) -> Option<usize> {
    let length = match text.len() % 3 {
        1 => return None,
        rest => text.len() / 3 * 2 + rest / 2,
    };
    let (triples, rest) = text.as_chunks::<3>();
    let (pairs, tail) = out.get_mut(..length)?.as_chunks_mut::<2>();
    for (triple, pair) in triples.iter().zip(pairs) {
        let group = value(triple[0])? + 45 * value(triple[1])? + 45 * 45 * value(triple[2])?;
        *pair = u16::try_from(group).ok()?.to_be_bytes();
    }
    if let ([low, high], [last]) = (rest, tail) {
        *last = u8::try_from(value(*low)? + 45 * value(*high)?).ok()?;
    }
    Some(length)
}

pub(super) fn value(character: u8) -> Option<u32> {
    Some(VALUES[usize::from(character)]).filter(|value| *value < 45).map(u32::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(bytes: &[u8]) -> String {
        let mut out = [0; 600];
        let length = encode(bytes, &mut out);
        String::from_utf8(out[..length].to_vec()).unwrap()
    }

    fn decoded(text: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0; 600];
        decode(text, &mut out).map(|length| out[..length].to_vec())
    }

    #[test]
    fn the_examples_of_the_rfc_hold_both_ways() {
        let examples: [(&[u8], &str); 6] = [
            (b"AB", "BB8"),
            (b"Hello!!", "%69 VD92EX0"),
            (b"base-45", "UJCLQE7W581"),
            (b"ietf!", "QED8WEX0"),
            (&[0xff, 0xff], "FGW"),
            (b"", ""),
        ];
        for (bytes, text) in examples {
            assert_eq!(encoded(bytes), text);
            assert_eq!(decoded(text.as_bytes()).unwrap(), bytes);
        }
    }

    #[test]
    fn what_no_encoder_writes_is_refused() {
        assert_eq!(decoded(b"GGW"), None);
        assert_eq!(decoded(b":::"), None);
        assert_eq!(decoded(b"U5"), Some(vec![255]));
        assert_eq!(decoded(b"V5"), None);
        assert_eq!(decoded(b"::"), None);
        assert_eq!(decoded(b"B"), None);
        assert_eq!(decoded(b"BB8B"), None);
        for text in ["bb8", "B\nB", "B\u{e9}", "B_8", "BB8\0\0\0"] {
            assert_eq!(decoded(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn more_than_the_buffer_holds_is_refused_not_cut() {
        assert_eq!(decode(b"BB8BB8", &mut [0; 3]), None);
        assert_eq!(decode(b"BB8BB8", &mut [0; 4]), Some(4));
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = encoded(&bytes);
            prop_assert_eq!(text.len(), encoded_len(bytes.len()));
            prop_assert!(!text.ends_with(' '), "a trailing space could be trimmed on the way");
            prop_assert_eq!(decoded(text.as_bytes()).unwrap(), bytes);
        }

        #[test]
        fn what_decodes_encodes_to_itself(text in "[0-9A-Z $%*+./:-]{0,60}") {
            if let Some(bytes) = decoded(text.as_bytes()) {
                prop_assert_eq!(encoded(&bytes), text);
            }
        }
    }
}
