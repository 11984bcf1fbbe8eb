//! Who may call the admin listener: named tokens with scopes, of which only the hash is kept, and no page but its own.
//!
//! ```toml
//! [[token]]
//! name = "health-bureau"
//! scopes = ["residents"]
//! sha256 = "<SHA-256 of the token, 64 hexadecimal digits>"
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Service;
use super::problem::{self, Problem};
use crate::http::field::Field;
use crate::http::head::Head;
use crate::http::negotiate;
use crate::limits::{ADMIN_TOKENS_MAX, CALLER_NAME_BYTES_MAX};

/// What a token may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Scope {
    /// Metrics, status, audit.
    Read,
    /// Residents: their statuses, look-ups, test data.
    Residents,
    Devices,
    Keys,
    Trust,
}

/// All callers. Without a token whoever reaches the listener, then on a loopback address, is `local` and may do all.
#[derive(Clone, Default, Debug)]
pub struct Callers(Vec<Token>);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    name: String,
    scopes: Vec<Scope>,
    #[serde(rename = "sha256", with = "hex::serde")]
    hash: [u8; 32],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensFile {
    #[serde(default)]
    token: Vec<Token>,
}

impl Callers {
    /// The callers of a tokens file. Errors: why it is refused: the place, and never a hash.
    pub fn from_toml(text: &str) -> Result<Callers, String> {
        let TokensFile { token: tokens } = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].split('\n').count());
            format!("line {line}: {}", error.message().replace('\n', " "))
        })?;
        if tokens.is_empty() || tokens.len() > ADMIN_TOKENS_MAX {
            return Err(format!("{} tokens, expected 1 to {ADMIN_TOKENS_MAX}", tokens.len()));
        }
        for (index, Token { name, scopes, hash }) in tokens.iter().enumerate() {
            let (wrong, before) = (|problem: &str| Err(format!("token {}: {problem}", index + 1)), &tokens[..index]);
            let named = (1..=CALLER_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
            if !named || name == "local" || name.starts_with("cert:") {
                return wrong("the name is not 1 to 64 visible ASCII characters, or it is local or cert:…");
            }
            if scopes.is_empty() {
                return wrong("it has no scope: read, residents, devices, keys or trust");
            }
            if before.iter().any(|token| token.name == *name || token.hash == *hash) {
                return wrong("another token has the same name or the same sha256");
            }
        }
        Ok(Callers(tokens))
    }

    /// The name of a request's caller, without tokens that of its certificate if any, and whether it has `scope`.
    fn find(&self, head: &Head<'_>, scope: Scope, client: Option<&Arc<str>>) -> Result<(Arc<str>, bool), Problem> {
        if self.0.is_empty() {
            return Ok((client.map_or_else(|| "local".into(), Arc::clone), true));
        }
        let hash: [u8; 32] = Sha256::digest(token(head)?).into();
        // Every hash is compared, each in constant time, so that the time says nothing about which came close.
        let found = self
            .0
            .iter()
            .fold(None, |found, token| if bool::from(token.hash.ct_eq(&hash)) { Some(token) } else { found });
        let token = found.ok_or(problem::TOKEN_INVALID)?;
        Ok((token.name.as_str().into(), token.scopes.contains(&scope)))
    }
}

impl Service {
    /// Who makes a request of the admin listener, and whether that one has `scope`.
    pub(super) fn caller(&self, head: &Head<'_>, scope: Scope) -> Result<(Arc<str>, bool), Problem> {
        self.parts.settings.callers.find(head, scope, self.client.as_ref())
    }
}

/// Refuses what may come from a page of strangers in an operator's browser: a rebinding name (DNS) is stopped by `Host`,
/// a form or a fetch by `Origin` and `Sec-Fetch-Site`.
pub(super) fn guard(head: &Head<'_>, host_names: &[String]) -> Result<(), Problem> {
    // An IP literal, localhost, or one of the configured names, with or without a port.
    let host = negotiate::host(head);
    let mut names = host_names.iter().map(String::as_str).chain(["localhost"]);
    if host.parse::<IpAddr>().is_err() && !names.any(|ours| ours.eq_ignore_ascii_case(host)) {
        return Err(problem::HOST_REFUSED);
    }
    let foreign_site = head.get(Field::SecFetchSite).is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    if foreign_site || super::is_foreign(head) { Err(problem::ORIGIN_REFUSED) } else { Ok(()) }
}

pub(super) fn token<'b>(head: &Head<'b>) -> Result<&'b [u8], Problem> {
    head.get(Field::Authorization).ok_or(problem::TOKEN_MISSING)?;
    negotiate::bearer(head).ok_or(problem::TOKEN_INVALID)
}

/// `N` bytes from twice as many hexadecimal digits.
pub(super) fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::parse;

    fn file(name: &str, scopes: &str, token: &str) -> String {
        let hash: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[token]]\nname = \"{name}\"\nscopes = [{scopes}]\nsha256 = \"{hash}\"\n")
    }

    #[test]
    fn a_token_opens_what_its_scopes_say_and_nothing_else() {
        let text = file("lab", "\"residents\"", "secret-1") + &file("ops", "\"read\", \"keys\"", "secret-2");
        let callers = Callers::from_toml(&text).unwrap();
        let admit = |field: &str, scope| {
            let bytes = format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n");
            let head = parse(bytes.as_bytes()).unwrap().unwrap();
            callers.find(&head, scope, None).map(|(name, may)| (name.to_string(), may)).map_err(|problem| problem.word)
        };
        let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
        assert_eq!(admit(&bearer("secret-1"), Scope::Residents), Ok(("lab".to_owned(), true)));
        assert_eq!(admit(&bearer("secret-2"), Scope::Keys), Ok(("ops".to_owned(), true)));
        assert_eq!(admit(&bearer("secret-1"), Scope::Read), Ok(("lab".to_owned(), false)));
        assert_eq!(admit(&bearer("secret-3"), Scope::Read), Err("token-invalid"));
        assert_eq!(admit("Authorization: Basic secret-1\r\n", Scope::Read), Err("token-invalid"));
        assert_eq!(admit("", Scope::Read), Err("token-missing"));
    }

    #[test]
    fn a_file_that_is_not_whole_is_refused_and_tells_no_hash() {
        let good = file("lab", "\"read\"", "s");
        for (text, named) in [
            (String::new(), "0 tokens"),
            ("token = 5".to_owned(), "line 1"),
            (good.replace("name = \"lab\"\n", ""), "line 1: missing field `name`"),
            (good.replace("lab", "local"), "token 1: the name"),
            (good.replace("lab", ""), "token 1: the name"),
            (good.replace("lab", "a b"), "token 1: the name"),
            (good.replace("lab", "cert:lab"), "token 1: the name"),
            (good.replace("\"read\"", ""), "token 1: it has no scope"),
            (good.replace("\"read\"", "\"write\""), "unknown variant"),
            (good.replace("sha256 = \"", "sha256 = \"0"), "line 4: "),
            (good.clone() + &good, "token 2: another token has the same name or"),
            (good.clone() + &good.replace("lab", "lab2"), "or the same sha256"),
            (good.clone() + "clear = \"s\"\n", "unknown field"),
        ] {
            let told = Callers::from_toml(&text).unwrap_err();
            assert!(told.contains(named), "{told}");
        }
        let many: String = (0..=ADMIN_TOKENS_MAX).map(|n| file(&format!("n{n}"), "\"read\"", &n.to_string())).collect();
        assert_eq!(Callers::from_toml(&many).unwrap_err(), "65 tokens, expected 1 to 64");
    }

    #[test]
    fn only_addresses_localhost_and_configured_names_are_ours() {
        let names = ["ops.city.example".to_owned()];
        let guard = |host: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            parse(text.as_bytes()).map(|head| guard(&head.unwrap(), &names))
        };
        for host in ["127.0.0.1", "127.0.0.1:8081", "[::1]:8081", "[::1]", "LOCALHOST:1", "Ops.City.Example:8081"] {
            assert_eq!(guard(host), Ok(Ok(())), "{host}");
        }
        for host in ["evil.example", "evil.example:8081", "localhost.evil.example", "127.0.0.1.evil.example", "::1"] {
            assert_ne!(guard(host), Ok(Ok(())), "{host}");
        }
        for host in ["", "[evil]", "[::1]evil", "\u{fe}"] {
            assert_eq!(guard(host), Err(crate::http::head::HeadError::Host), "{host}");
        }
        let nobody = parse(b"GET / HTTP/1.0\r\n\r\n").unwrap().unwrap();
        assert_eq!(super::guard(&nobody, &names), Err(problem::HOST_REFUSED));
    }
}
