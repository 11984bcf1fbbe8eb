//! The PROXY protocol, version 2: what a balancer says of its client before its bytes (HAProxy, 2020-03-05, §2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits::PROXY_BYTES_MAX;

/// What a header begins with.
pub const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The fixed part of a header.
const FIXED_BYTES: usize = 16;

/// It is no header of version 2 for a TCP connection, or longer than any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// Whether this is more of a header, whole or not, than two empty lines.
pub fn is_begun(data: &[u8]) -> bool {
    data.len() > 4 && data.iter().zip(SIGNATURE).all(|(byte, known)| byte == known)
}

/// The length of the header that `data` begins with, and the client's address: none where the balancer speaks for
/// itself (`LOCAL`) or does not know. `None`: more bytes must come. Errors: no more bytes make a header of this.
pub fn parse(data: &[u8]) -> Result<Option<(usize, Option<IpAddr>)>, Malformed> {
    let known = data.len().min(SIGNATURE.len());
    if data[..known] != SIGNATURE[..known] {
        return Err(Malformed);
    }
    let Some((fixed, rest)) = data.split_first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let bytes = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if bytes > PROXY_BYTES_MAX {
        return Err(Malformed);
    }
    // Version and command; family and transport. What follows the addresses (TLVs) is passed over.
    let address_bytes = match (fixed[12], fixed[13]) {
        (0x20, _) | (0x21, 0x00) => 0,
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        _ => return Err(Malformed),
    };
    if bytes < FIXED_BYTES + address_bytes {
        return Err(Malformed);
    }
    let Some(rest) = rest.get(..bytes - FIXED_BYTES) else { return Ok(None) };
    let address = match address_bytes {
        12 => rest.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into()),
        36 => rest.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into()),
        _ => None,
    };
    Ok(Some((bytes, address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, rest].concat()
    }

    #[test]
    fn clients_are_told_wherever_the_bytes_are_cut() {
        let four = [&[192, 0, 2, 7][..], &[10, 0, 0, 1, 1, 2, 3, 4], b"\x04\x00\x01x"].concat();
        let six = [[0x20; 16], [0x21; 16]].concat().into_iter().chain([1, 2, 3, 4]).collect::<Vec<u8>>();
        let cases = [
            (header(0x21, 0x11, &four), Some("192.0.2.7")),
            (header(0x21, 0x21, &six), Some("2020:2020:2020:2020:2020:2020:2020:2020")),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &four), None),
            (header(0x21, 0x00, b"?"), None),
        ];
        for (header, client) in cases {
            let told = Some((header.len(), client.map(|client| client.parse().unwrap())));
            for end in 0..header.len() {
                assert_eq!(parse(&header[..end]), Ok(None), "{end}");
            }
            assert_eq!(parse(&[&header, &b"GET /"[..]].concat()), Ok(told));
        }
    }

    #[test]
    fn nothing_else_is_a_header() {
        let wrong = [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"\r\n\r\nG".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(),
            header(0x11, 0x11, &[0; 12]),
            header(0x22, 0x11, &[0; 12]),
            header(0x21, 0x12, &[0; 12]),
            header(0x21, 0x31, &[0; 216]),
            header(0x21, 0x11, &[0; 11]),
            header(0x21, 0x21, &[0; 35]),
            header(0x21, 0x11, &[0; PROXY_BYTES_MAX]),
        ];
        for wrong in wrong {
            assert_eq!(parse(&wrong), Err(Malformed), "{wrong:?}");
        }
    }
}
