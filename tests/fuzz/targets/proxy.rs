//! What a balancer says of its client: the same for every cut, never more than its bytes say, and never what is HTTP.

use std::net::IpAddr;

use onecode::http::head;
use onecode::http::proxy::{Malformed, SIGNATURE, parse};
use onecode::limits::PROXY_BYTES_MAX;

use super::shown;

/// Reads the input whole and byte by byte.
pub fn run(data: &[u8]) {
    let found = parse(data);
    let first = (0..=data.len()).find_map(|end| match parse(&data[..end]) {
        Ok(None) => None,
        settled => Some((end, settled)),
    });
    assert_eq!(first.map_or(Ok(None), |(_, settled)| settled), found, "{}", shown(data));
    match found {
        Ok(Some((bytes, client))) => {
            assert_eq!(first.map(|(end, _)| end), Some(bytes), "as soon as it is whole: {}", shown(data));
            assert_says(&data[..bytes], client);
            assert!(head::parse(data).is_err(), "also HTTP: {}", shown(data));
        }
        Ok(None) => assert!(data.len() < PROXY_BYTES_MAX, "waits for ever: {}", shown(data)),
        Err(Malformed) => {}
    }
}

/// Reads the header once more, the other way round: writes what was understood, and finds that in it.
fn assert_says(header: &[u8], client: Option<IpAddr>) {
    let said = shown(header);
    assert!(header.starts_with(SIGNATURE) && header.len() <= PROXY_BYTES_MAX, "{said}");
    assert_eq!(usize::from(u16::from_be_bytes([header[14], header[15]])) + 16, header.len(), "{said}");
    let expected = match client {
        Some(IpAddr::V4(client)) => [&[0x21, 0x11, header[14], header[15]], &client.octets()[..]].concat(),
        Some(IpAddr::V6(client)) => [&[0x21, 0x21, header[14], header[15]], &client.octets()[..]].concat(),
        None => vec![if header[12] == 0x21 && header[13] == 0 { 0x21 } else { 0x20 }],
    };
    assert!(header[12..].starts_with(&expected), "{client:?}: {said}");
}
