//! Who may speak to the admin listener from a browser: nobody but a page of its own.
//!
//! An operator's browser also shows pages of strangers. A rebinding name (DNS) is stopped by `Host`, a form or a fetch
//! of another page by `Origin` and `Sec-Fetch-Site`.

use std::net::IpAddr;

use super::Problem;
use super::problem::{HOST_REFUSED, ORIGIN_REFUSED};
use crate::http::field::Field;
use crate::http::head::Head;
use crate::http::negotiate;

/// Refuses what may come from somebody else's page.
pub(super) fn guard(head: &Head<'_>, host_names: &[String]) -> Result<(), Problem> {
    // An IP literal, localhost, or one of the configured names, with or without a port.
    let host = negotiate::host(head);
    let mut names = host_names.iter().map(String::as_str).chain(["localhost"]);
    if host.parse::<IpAddr>().is_err() && !names.any(|ours| ours.eq_ignore_ascii_case(host)) {
        return Err(HOST_REFUSED);
    }
    let foreign_site = head.get(Field::SecFetchSite).is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    if foreign_site || super::is_foreign(head) { Err(ORIGIN_REFUSED) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{self, HeadError};

    #[test]
    fn only_addresses_localhost_and_configured_names_are_ours() {
        let names = ["ops.city.example".to_owned()];
        let guard = |host: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            head::parse(text.as_bytes()).map(|head| guard(&head.unwrap(), &names))
        };
        for host in ["127.0.0.1", "127.0.0.1:8081", "[::1]:8081", "[::1]", "LOCALHOST:1", "Ops.City.Example:8081"] {
            assert_eq!(guard(host), Ok(Ok(())), "{host}");
        }
        for host in ["evil.example", "evil.example:8081", "localhost.evil.example", "127.0.0.1.evil.example", "::1"] {
            assert_ne!(guard(host), Ok(Ok(())), "{host}");
        }
        for host in ["", "[evil]", "[::1]evil", "\u{fe}"] {
            assert_eq!(guard(host), Err(HeadError::Host), "{host}");
        }
        let nobody = head::parse(b"GET / HTTP/1.0\r\n\r\n").unwrap().unwrap();
        assert_eq!(super::guard(&nobody, &names), Err(HOST_REFUSED));
    }
}
