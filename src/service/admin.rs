//! Who may speak to the admin listener from a browser: nobody but a page of its own.
//!
//! An operator's browser also shows pages of strangers. A rebinding name (DNS) is stopped by `Host`, a form or a fetch
//! of another page by `Origin` and `Sec-Fetch-Site`.

use std::net::{IpAddr, Ipv6Addr};

use super::Problem;
use super::problem::{HOST_REFUSED, ORIGIN_REFUSED};
use crate::http::field::Field;
use crate::http::head::Head;

/// Refuses what may come from somebody else's page.
pub(super) fn guard(head: &Head<'_>, host_names: &[String]) -> Result<(), Problem> {
    if !head.get(Field::Host).is_some_and(|host| is_ours(host, host_names)) {
        return Err(HOST_REFUSED);
    }
    let foreign_site = head.get(Field::SecFetchSite).is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    if foreign_site || super::is_foreign(head) {
        return Err(ORIGIN_REFUSED);
    }
    Ok(())
}

/// An IP literal, localhost, or one of the configured names, with or without a port.
fn is_ours(host: &[u8], host_names: &[String]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    if let Some(literal) = host.strip_prefix('[') {
        return literal.split_once(']').is_some_and(|(address, port)| {
            address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || port.starts_with(':'))
        });
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || host_names.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_configured_names_are_ours() {
        let names = ["ops.city.example".to_owned()];
        for host in ["127.0.0.1", "127.0.0.1:8081", "[::1]:8081", "[::1]", "LOCALHOST:1", "Ops.City.Example:8081"] {
            assert!(is_ours(host.as_bytes(), &names), "{host}");
        }
        for host in ["", "evil.example", "evil.example:8081", "localhost.evil.example", "[evil]", "[::1]evil", "\u{fe}"]
        {
            assert!(!is_ours(host.as_bytes(), &names), "{host}");
        }
    }
}
