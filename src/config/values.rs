//! The values of the configuration that are more than a number or a text, each from its text and back.
//!
//! A refusal is half a line, what came and what was expected; [`super`] puts the place and the key before it.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;

use crate::limits::{CPUS_MAX, EGRESS_BITS_PER_S_MIN, ISSUER_BYTES_MAX};

/// A text as it is, where it fits what is `wanted`.
fn as_it_is(text: &str, fits: bool, wanted: impl Display) -> Result<String, String> {
    if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is not {wanted}")) }
}

pub(super) fn issuer(text: &str) -> Result<String, String> {
    let is_plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
    let fits = text.len() <= ISSUER_BYTES_MAX && text.bytes().all(is_plain);
    as_it_is(text, fits, format_args!("a region code such as CN-610100 (A-Z, 0-9 and -, up to {ISSUER_BYTES_MAX})"))
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address and a port such as 127.0.0.1:8080 or [::]:8080"))
}

pub(super) fn file(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a file has no name".to_owned()) } else { Ok(text.to_owned()) }
}

/// One of a few words.
pub(super) fn one_of(words: &[&str]) -> impl Fn(&str) -> Result<String, String> {
    move |text| as_it_is(text, words.contains(&text), format_args!("one of {}", words.join(", ")))
}

pub(super) fn host_name(text: &str) -> Result<String, String> {
    let label_ok =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let fits = text.len() <= 253 && text.split('.').all(label_ok);
    as_it_is(text, fits, "a host name (no scheme, no port)").map(|text| text.to_ascii_lowercase())
}

/// An address, or the addresses of a network in CIDR notation (RFC 4632 §3.1).
pub(super) fn network(text: &str) -> Result<String, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().ok().or_else(|| address().ok());
    let wrong = || format!("{text:?} is not an IP address or a network such as 10.0.0.0/8");
    network.map(|network| network.to_string()).ok_or_else(wrong)
}

/// A serialized origin (RFC 6454 §6.2), as browsers write it.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b);
    let fits = !authority.is_empty() && authority.bytes().all(is_plain);
    as_it_is(text, fits, "an origin such as https://app.example (scheme, host, port, in lower case)")
}

/// A number of bits a second, or `auto`.
pub(super) fn budget(text: &str) -> Result<String, String> {
    let is_number = text.parse().is_ok_and(|bits: u64| bits >= EGRESS_BITS_PER_S_MIN);
    let wanted = format_args!("a whole number from {EGRESS_BITS_PER_S_MIN} on, nor \"auto\"");
    as_it_is(text, is_number || text == "auto", wanted)
}

/// The CPUs to pin the shards to, in this order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(into = "String")]
pub struct Cpus(pub Vec<u16>);

impl From<Cpus> for String {
    fn from(Cpus(cpus): Cpus) -> String {
        cpus.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
    }
}

/// CPU numbers and ranges in the kernel's list format (`cpuset(7)`): `0-3,8`.
pub(super) fn cpus(text: &str) -> Result<Cpus, String> {
    let number = |text: &str| -> Option<u16> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|cpu| digits && *cpu < CPUS_MAX)
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(number(first)?..=number(last)?).filter(|range| !range.is_empty())
    };
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    let wrong = || format!("{text:?} is not a list of CPUs below {CPUS_MAX} such as 0-3,8");
    let cpus: Vec<u16> = ranges.ok_or_else(wrong)?.into_iter().flatten().collect();
    match (1..cpus.len()).find(|index| cpus[..*index].contains(&cpus[*index])) {
        Some(index) => Err(format!("{text:?} names CPU {} twice: each shard has its own", cpus[index])),
        None => Ok(Cpus(cpus)),
    }
}

/// The page appends its own query and gets its answer in the fragment, so the fragment is not ours to have.
pub(super) fn login_url(text: &str) -> Result<String, String> {
    let is_url_byte = |b: u8| b.is_ascii_graphic() && !b"\"'<>\\`{}|^#".contains(&b);
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    let fits = !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(is_url_byte);
    as_it_is(text, fits, "an https:// or http:// address without a fragment")
}
