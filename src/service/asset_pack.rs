//! Makes a page ready to be sent: its encodings with all their fields, their entity tags, and its content security policy.
//!
//! `build.rs` shares this file by path and packs what the binary embeds: so it reads no file and depends on nothing of
//! the crate. Compression is slow here on purpose: it happens once.

use std::borrow::Cow;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// For pages and the service worker: a cache asks each time, by their entity tag.
pub const REVALIDATE: &str = "no-cache";
/// For what carries the hash of its content in its name.
pub const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// What is embedded is borrowed, what is packed at start is not.
pub type Text = Cow<'static, str>;

/// One asset in one language.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Packed {
    pub route: Text,
    /// Its language, where a path has several.
    pub language: Option<Text>,
    /// The smallest first, the identity last.
    pub encodings: Vec<Encoded>,
}

/// One encoding of one asset.
#[derive(Debug)]
pub struct Encoded {
    /// The content coding, or `None` for the bytes as they are.
    pub encoding: Option<&'static str>,
    /// A strong entity tag, quotes included. Encodings differ in their bytes and so in their tags (RFC 9110 §8.8.1).
    pub etag: Text,
    /// An answer behind its date: the fields of a 304, further those of a part, length and empty line, and the body.
    pub whole: Bytes,
    /// Where in `whole` each of these ends, but the body.
    pub ends: [usize; 3],
}

/// Packs a body in every encoding that makes it smaller. Errors: a page that is not UTF-8.
pub fn pack(
    route: &str,
    language: Option<&str>,
    content_type: &str,
    cache_control: &str,
    body: &[u8],
) -> Result<Packed, std::str::Utf8Error> {
    let page = content_type.starts_with("text/html").then(|| std::str::from_utf8(body)).transpose()?;
    let policy = page.map(content_security_policy);
    let vary = if language.is_some() { "Accept-Encoding, Accept-Language" } else { "Accept-Encoding" };
    let lay_out = |(encoding, body): (Option<&'static str>, Vec<u8>)| {
        let etag = etag(&body);
        let mut head = String::new();
        let mut add = |name: &str, value: Option<&str>| {
            head.extend(value.into_iter().flat_map(|value| [name, ": ", value, "\r\n"]));
            head.len()
        };
        add("ETag", Some(&etag));
        add("Cache-Control", Some(cache_control));
        let unchanged_end = add("Vary", Some(vary));
        add("Content-Type", Some(content_type));
        add("X-Content-Type-Options", Some("nosniff"));
        add("Accept-Ranges", Some("bytes"));
        add("Content-Encoding", encoding);
        add("Content-Language", language);
        add("Content-Security-Policy", policy.as_deref());
        let part_end = add("Referrer-Policy", policy.as_ref().map(|_| "no-referrer"));
        let ends = [unchanged_end, part_end, add("Content-Length", Some(&body.len().to_string())) + 2];
        Encoded { encoding, etag: etag.into(), whole: [head.as_bytes(), b"\r\n", &body].concat().into(), ends }
    };
    let mut bodies = vec![(Some("br"), brotli(body)), (Some("gzip"), gzip(body))];
    bodies.retain(|(_, encoded)| encoded.len() < body.len());
    bodies.sort_by_key(|(_, encoded)| encoded.len());
    bodies.push((None, body.to_vec()));
    let encodings = bodies.into_iter().map(lay_out).collect();
    let (route, language) = (route.to_owned().into(), language.map(|language| language.to_owned().into()));
    Ok(Packed { route, language, encodings })
}

/// The policy of a page: nothing from elsewhere, and of what is inline only what stands in its plain `<script>` and
/// `<style>` elements now; an element that is not seen here is refused by the browser, never allowed.
fn content_security_policy(html: &str) -> String {
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

fn etag(body: &[u8]) -> String {
    // 96 bits: a tag only has to differ among the versions of one address.
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(body)[..12]))
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

    fn encode(body: &[u8]) -> Vec<Encoded> {
        pack("/", None, "text/plain", REVALIDATE, body).unwrap().encodings
    }

    #[test]
    fn every_encoding_decodes_to_the_body() {
        let body = "a page that repeats itself. ".repeat(40).into_bytes();
        let packed = encode(&body);
        assert_eq!(packed.iter().map(|each| each.encoding).collect::<Vec<_>>(), [Some("br"), Some("gzip"), None]);
        for each in &packed {
            let mut decoded = Vec::new();
            match each.encoding {
                Some("br") => brotli::BrotliDecompress(&mut each.body(), &mut decoded).unwrap(),
                Some(_) => drop(flate2::read::GzDecoder::new(each.body()).read_to_end(&mut decoded).unwrap()),
                None => decoded.extend_from_slice(each.body()),
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
}
