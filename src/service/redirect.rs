//! The plain listener beside TLS: whoever comes is sent to the same path there, and told nothing else.

use super::problem::{self, Problem};
use super::reply::Fields;
use super::{Outcome, Reply, Route, Service};
use crate::http::head::Head;
use crate::http::negotiate;

/// A browser that was here once asks by TLS alone for half a year (RFC 6797): else whoever stands in between could
/// answer the next typed address. Only with pages, since no one opens anything else first, and only where a plain
/// listener leads here: so an operator says that TLS is to stay. Not for subdomains, which are not ours to speak for.
const HSTS: Fields<'_> = &[("Strict-Transport-Security", "max-age=15552000")];

impl Service {
    pub(super) fn hsts(&self) -> Fields<'static> {
        if self.tls().is_some() && self.parts.settings.tls.redirect.is_some() { HSTS } else { &[] }
    }

    /// Answers whatever was asked; the connection ends with it.
    pub(super) fn redirect(&mut self, head: &Head<'_>, reply: &mut Reply<'_>) -> Outcome {
        let located = self.location(head).map(|location| {
            // Not for ever, which is what a 308 says alone (RFC 9110 §15.4.9).
            reply.inline(308, &[("Location", &*location), ("Cache-Control", "max-age=3600")], b"");
            Outcome::Answered
        });
        self.conclude(Route::Redirect, located, reply)
    }

    /// The same over TLS. Only to hosts that our certificates are for: nobody is led elsewhere by way of us.
    fn location(&self, head: &Head<'_>) -> Result<String, Problem> {
        let name = negotiate::host(head);
        let host = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
        let redirect = self.parts.settings.tls.redirect.as_ref();
        let redirect = redirect.filter(|redirect| redirect.certificates.iter().any(|own| own.covers(name)));
        let port = match redirect.ok_or(problem::HOST_UNKNOWN)?.port {
            443 => String::new(),
            port => format!(":{port}"),
        };
        if !head.path.starts_with('/') {
            return Err(problem::UNKNOWN_ROUTE);
        }
        let query = head.query.map_or_else(String::new, |query| format!("?{query}"));
        Ok(format!("https://{host}{port}{}{query}", head.path))
    }
}
