//! Deterministic CBOR (RFC 8949 §4.2.1): what minicbor reads, less all that could be encoded in another way.
//!
//! Each value has exactly one encoding here, so that a code of ours cannot be rewritten without being refused. The work
//! is bounded by the length of the input: every item consumes at least one byte. Called by `verify`.

use minicbor::decode::{Decoder, Error};

/// How deep items may nest: a code needs 2, and the bound keeps recursion off a stranger's stack.
const DEPTH_MAX: u8 = 8;

/// A reader of the one item that `bytes` are. Errors: they are not one item and nothing behind it, or it is not in its
/// deterministic encoding: shortest heads, definite lengths, map keys in bytewise order and so never twice.
/// Floating-point numbers are refused because nothing of ours has one, and nesting beyond 8 levels.
pub fn only_item(bytes: &[u8]) -> Result<Decoder<'_>, Error> {
    let mut decoder = Decoder::new(bytes);
    item(&mut decoder, DEPTH_MAX)?;
    if decoder.position() == bytes.len() { Ok(Decoder::new(bytes)) } else { Err(Error::message("trailing bytes")) }
}

/// Hands the pairs of the map that `bytes` are to `each`: the encoded key, and a reader of the value.
/// Errors: those of [`only_item`] and of `each`, and `bytes` are no map.
pub fn pairs<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(&'a [u8], Decoder<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut map = only_item(bytes)?;
    for _ in 0..map.map()?.unwrap_or(0) {
        let key = item(&mut map, DEPTH_MAX)?;
        each(key, Decoder::new(item(&mut map, DEPTH_MAX)?))?;
    }
    Ok(())
}

/// Passes over an item, and returns its encoding.
fn item<'a>(decoder: &mut Decoder<'a>, depth: u8) -> Result<&'a [u8], Error> {
    let refused = Error::message;
    let depth = depth.checked_sub(1).ok_or(refused("items nested too deep"))?;
    let (input, start) = (decoder.input(), decoder.position());
    let (first, behind) = input.get(start..).and_then(<[u8]>::split_first).ok_or(Error::end_of_input())?;
    // The bytes of its argument; a smaller one has a shorter form.
    let is_shortest = match (first & 0x1f, behind) {
        (24, [argument, ..]) => *argument >= 24,
        (width @ 25..=27, _) => behind.iter().take(1 << (width - 25)).any(|byte| *byte != 0),
        _ => true,
    };
    let definite = |count: Option<u64>| count.ok_or(refused("an indefinite length"));
    match first >> 5 {
        0 | 1 => drop(decoder.int()?),
        2 => drop(decoder.bytes()?),
        3 => drop(decoder.str()?),
        4 => {
            for _ in 0..definite(decoder.array()?)? {
                item(decoder, depth)?;
            }
        }
        5 => {
            let mut previous: &[u8] = &[];
            for _ in 0..definite(decoder.map()?)? {
                let key = item(decoder, depth)?;
                if key <= previous {
                    return Err(refused("a map key out of order or there twice"));
                }
                previous = key;
                item(decoder, depth)?;
            }
        }
        6 => {
            decoder.tag()?;
            item(decoder, depth)?;
        }
        // RFC 8949 §3.3: false, true, null.
        _ if (0xf4..=0xf6).contains(first) => decoder.skip()?,
        _ => return Err(refused("an item of a kind that is never used")),
    }
    if is_shortest { Ok(&input[start..decoder.position()]) } else { Err(refused("a number that has a shorter form")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_read(bytes: &[u8]) -> bool {
        only_item(bytes).is_ok()
    }

    #[test]
    fn one_encoding_a_value_and_no_other() {
        let table: [(&[u8], bool); 24] = [
            (&[0x00], true),
            (&[0x18, 0x18], true),
            (&[0x18, 0x17], false),
            (&[0x19, 0x00, 0xff], false),
            (&[0x1a, 0, 0, 0xff, 0xff], false),
            (&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], false),
            (&[0x58, 0x01, 0x00], false),
            (&[0x5f, 0x41, 0x00, 0xff], false),
            (&[0xbf, 0xff], false),
            (&[0x1c], false),
            (&[0xf4], true),
            (&[0xf8, 0x14], false),
            (&[0xf9, 0x00, 0x00], false),
            (&[0xa2, 0x01, 0x00, 0x20, 0x00], true),
            (&[0xa2, 0x20, 0x00, 0x01, 0x00], false),
            (&[0xa2, 0x01, 0x00, 0x01, 0x00], false),
            (&[0x61, 0xff], false),
            (&[0x42, 0x00], false),
            (&[0x00, 0x00], false),
            (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], false),
            (&[], false),
            (&[0x3b, 0xff, 255, 255, 255, 255, 255, 255, 255], true),
            (&[0xd8, 0x17, 0x00], false),
            (&[0x98, 0x01, 0x00], false),
        ];
        for (bytes, expected) in table {
            assert_eq!(is_read(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert!(is_read(&[0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x00]));
        for deep in [0x81, 0xc1] {
            assert!(!is_read(&[&[deep; 8][..], &[0]].concat()) && !is_read(&[deep; 4096]));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_read(&bytes);
        }
    }
}
