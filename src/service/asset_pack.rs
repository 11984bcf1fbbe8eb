//! Makes a page ready to be sent: its encodings, their entity tags, and its content security policy.
//!
//! `build.rs` shares this file by path and packs what the binary embeds. It reads no file and depends on nothing of
//! the crate, so that pages from elsewhere can be packed by the same rules. Compression is slow here on purpose: it
//! happens once, and every request afterwards sends bytes that are ready.

use std::borrow::Cow;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// How long a cache may use an asset without asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheClass {
    /// Asks each time, by its entity tag: pages and the service worker.
    Revalidate,
    /// Used for a day: what has a fixed name and hardly ever changes.
    Day,
    /// Used for ever: its name carries the hash of its content.
    Immutable,
}

impl CacheClass {
    /// The class of a word in `assets.json`, or `None` for a word that is no class.
    pub fn from_word(word: &str) -> Option<CacheClass> {
        let words =
            [("revalidate", CacheClass::Revalidate), ("day", CacheClass::Day), ("immutable", CacheClass::Immutable)];
        words.into_iter().find(|(known, _)| *known == word).map(|(_, class)| class)
    }

    /// The value of `Cache-Control`.
    pub fn cache_control(self) -> &'static str {
        match self {
            CacheClass::Revalidate => "no-cache",
            CacheClass::Day => "public, max-age=86400",
            CacheClass::Immutable => "public, max-age=31536000, immutable",
        }
    }
}

/// What is embedded is borrowed, what is packed at start is not.
pub type Text = Cow<'static, str>;

/// One asset in one language, with all its encodings.
#[allow(missing_docs, reason = "the names say it")]
pub struct Packed {
    pub route: Text,
    /// Its language, where a path has several.
    pub language: Option<Text>,
    pub content_type: Text,
    pub cache_control: Text,
    /// The value of `Content-Security-Policy`, for pages.
    pub csp: Option<Text>,
    /// The smallest first, the identity last.
    pub encodings: Vec<Encoded>,
}

/// One encoding of one asset.
pub struct Encoded {
    /// The content coding, or `None` for the bytes as they are.
    pub encoding: Option<Text>,
    /// A strong entity tag, quotes included. Encodings differ in their bytes and so in their tags (RFC 9110 §8.8.1).
    pub etag: Text,
    /// The encoded bytes.
    pub body: Cow<'static, [u8]>,
}

/// Packs a body in every encoding that makes it smaller.
///
/// # Errors
/// A page that is not UTF-8.
pub fn pack(
    route: &str,
    language: Option<&str>,
    content_type: &str,
    cache: CacheClass,
    body: &[u8],
) -> Result<Packed, std::str::Utf8Error> {
    let page = content_type.starts_with("text/html").then(|| std::str::from_utf8(body)).transpose()?;
    Ok(Packed {
        route: route.to_owned().into(),
        language: language.map(|language| language.to_owned().into()),
        content_type: content_type.to_owned().into(),
        cache_control: cache.cache_control().into(),
        csp: page.map(|page| content_security_policy(page).into()),
        encodings: encode(body),
    })
}

fn encode(body: &[u8]) -> Vec<Encoded> {
    let mut encodings: Vec<Encoded> = [("br", brotli(body)), ("gzip", gzip(body))]
        .into_iter()
        .filter(|(_, encoded)| encoded.len() < body.len())
        .map(|(name, encoded)| Encoded { encoding: Some(name.into()), etag: etag(&encoded), body: encoded.into() })
        .collect();
    encodings.sort_by_key(|encoded| encoded.body.len());
    encodings.push(Encoded { encoding: None, etag: etag(body), body: body.to_vec().into() });
    encodings
}

/// The content security policy of a page: nothing from elsewhere, and of what is inline only what stands in it now.
///
/// Finds plain `<script>` and `<style>` elements, as our pages write them; an element it does not see is refused by the
/// browser, never allowed.
pub fn content_security_policy(html: &str) -> String {
    let mut policy = String::from("default-src 'none'");
    for (directive, element) in [("script-src", "script"), ("style-src", "style")] {
        let hashes = inline_hashes(html, element);
        if !hashes.is_empty() {
            policy.push_str(&format!("; {directive} {}", hashes.join(" ")));
        }
    }
    policy.push_str(
        "; connect-src 'self'; img-src 'self' data:; manifest-src 'self'; worker-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    );
    policy
}

fn inline_hashes(html: &str, element: &str) -> Vec<String> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    html.split(&open)
        .skip(1)
        .filter_map(|rest| rest.split_once(&close))
        .map(|(text, _)| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text))))
        .collect()
}

fn etag(body: &[u8]) -> Text {
    // 96 bits: a tag only has to differ among the versions of one address.
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(body)[..12])).into()
}

fn brotli(body: &[u8]) -> Vec<u8> {
    let parameters = brotli::enc::BrotliEncoderParams { quality: 11, size_hint: body.len(), ..Default::default() };
    let mut encoded = Vec::new();
    brotli::BrotliCompress(&mut &body[..], &mut encoded, &parameters).expect("reading and writing memory cannot fail");
    encoded
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("writing to memory cannot fail")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn every_encoding_decodes_to_the_body() {
        let body = "a page that repeats itself. ".repeat(40).into_bytes();
        let packed = encode(&body);
        assert_eq!(
            packed.iter().map(|each| each.encoding.as_deref()).collect::<Vec<_>>(),
            [Some("br"), Some("gzip"), None]
        );
        for each in &packed {
            let mut decoded = Vec::new();
            match each.encoding.as_deref() {
                Some("br") => brotli::BrotliDecompress(&mut &each.body[..], &mut decoded).unwrap(),
                Some(_) => drop(flate2::read::GzDecoder::new(&each.body[..]).read_to_end(&mut decoded).unwrap()),
                None => decoded.extend_from_slice(&each.body),
            }
            assert_eq!(decoded, body);
        }
    }

    #[test]
    fn an_encoding_that_is_not_smaller_is_left_out() {
        let packed = encode(b"ab");
        assert_eq!(packed.len(), 1);
        assert_eq!(packed[0].encoding, None);
    }

    #[test]
    fn tags_are_strong_and_differ_among_encodings() {
        let packed = encode("again and again. ".repeat(30).as_bytes());
        for (index, each) in packed.iter().enumerate() {
            assert!(each.etag.starts_with('"') && each.etag.ends_with('"') && each.etag.len() == 18);
            assert!(packed[..index].iter().all(|other| other.etag != each.etag));
        }
    }

    #[test]
    fn the_policy_names_the_hash_of_each_inline_element() {
        let policy = content_security_policy("<style>a{}</style><script>1</script><script>2</script>");
        for (directive, texts) in [("style-src", &["a{}"][..]), ("script-src", &["1", "2"][..])] {
            let hashes: Vec<String> =
                texts.iter().map(|text| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))).collect();
            assert!(policy.contains(&format!("; {directive} {};", hashes.join(" "))), "{policy}");
        }
        assert!(policy.starts_with("default-src 'none'; ") && policy.contains("frame-ancestors 'none'"));
        assert!(!content_security_policy("<p>").contains("script-src"));
    }

    #[test]
    fn only_hashed_names_are_immutable_and_an_unknown_class_is_none() {
        let control = |word| CacheClass::from_word(word).map(CacheClass::cache_control);
        assert_eq!(control("revalidate"), Some("no-cache"));
        assert_eq!(control("day"), Some("public, max-age=86400"));
        assert!(control("immutable").is_some_and(|value| value.ends_with("immutable")));
        assert_eq!(control("Day"), None);
    }
}
