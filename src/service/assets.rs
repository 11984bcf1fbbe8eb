//! The pages and their files: what there is, ready to be sent, and which representation a request gets.
//!
//! At start everything goes into one arena: of each encoding the fields that depend on nothing but itself and, right behind
//! them, its body, so that an answer is a status line with its date and one borrowed piece. `build.rs` embeds our own
//! pages; an operator's come from a folder that `cli` has read and take the place of ours where they have the same path.
//!
//! It never allocates after start; a client that refuses all there is gets the default, as RFC 9110 §12.4.1 allows.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::io;

use bytes::Bytes;

use super::asset_pack::{Encoded, Packed};
use crate::sys::arena;

fn embedded() -> Vec<Packed> {
    include!(concat!(env!("OUT_DIR"), "/assets.rs"))
}

impl Encoded {
    /// The body alone.
    pub fn body(&self) -> &[u8] {
        &self.whole[self.ends[2]..]
    }
}

/// All pages and files of a server.
pub struct Library {
    /// Of the languages of one path the first is the default.
    assets: Vec<Packed>,
    /// The memory that all that is sent borrowed lies in.
    pub arena: &'static [u8],
}

impl Library {
    /// Our own pages, and over them an operator's. Errors when the system has no memory.
    pub fn new(operators: Vec<Packed>) -> io::Result<Library> {
        let mut assets = embedded();
        assets.retain(|asset| operators.iter().all(|theirs| theirs.route != asset.route));
        assets.extend(operators);
        let mut wholes: Vec<_> =
            assets.iter_mut().flat_map(|asset| &mut asset.encodings).map(|encoded| &mut encoded.whole).collect();
        let (kept, arena) = arena::keep(&wholes)?;
        wholes.iter_mut().zip(kept).for_each(|(whole, kept)| **whole = Bytes::from_static(kept));
        Ok(Library { assets, arena })
    }

    /// Whether there is the path that these two make together.
    pub fn has(&self, path: &str, end: &str) -> bool {
        self.assets.iter().any(|asset| asset.route.strip_suffix(end) == Some(path))
    }

    /// What of `path` (without its query) to send for these two field values, or `None` when there is no such path. A
    /// field that is absent is `None`; one that came in several lines is given as its first line.
    pub fn find(&self, path: &str, accept_encoding: Option<&[u8]>, accept_language: Option<&[u8]>) -> Option<&Encoded> {
        let languages = self.assets.iter().filter(|asset| asset.route == path);
        // Of equal wishes, or none, the last of these: the default.
        let best = languages.rev().max_by_key(|asset| {
            wish_for_language(asset.language.as_deref().unwrap_or_default(), accept_language.unwrap_or_default())
        })?;
        Some(choose_encoding(&best.encodings, accept_encoding.unwrap_or_default()))
    }
}

/// How well a language is wanted, compared in this order: its quality, then the earliest range in the list.
type Wish = (u16, Reverse<usize>);

/// The wish for one language tag, by the range that fits it best: the tag itself, then one that shares its primary
/// subtag, then `*`. So `zh`, `zh-Hans` and `zh-TW` all prefer `zh-CN` to another language (RFC 4647 §3.4, where the
/// range is cut from its end), and `en` takes `en-GB`'s reader. A quality of 0 refuses.
fn wish_for_language(tag: &str, accept: &[u8]) -> Option<Wish> {
    let tag = tag.as_bytes();
    let fitting = elements(accept).enumerate().filter_map(|(position, (range, quality))| {
        let fit = match range {
            _ if range.eq_ignore_ascii_case(tag) => 3,
            _ if primary(range).eq_ignore_ascii_case(primary(tag)) => 2,
            b"*" => 1,
            _ => return None,
        };
        Some((fit, (quality, Reverse(position))))
    });
    fitting.max().map(|(_, wish)| wish).filter(|(quality, _)| *quality > 0)
}

fn primary(tag: &[u8]) -> &[u8] {
    tag.split(|byte| *byte == b'-').next().unwrap_or_default()
}

/// RFC 9110 §12.5.3. Of equal qualities the smaller body wins, which stands earlier; the identity, unless named, is
/// acceptable but the last choice, and is what a client gets that accepts nothing.
fn choose_encoding<'r>(encodings: &'r [Encoded], accept: &[u8]) -> &'r Encoded {
    let weighed = encodings.iter().rev().map(|one| (quality_of_encoding(one.encoding, accept), one));
    let best = weighed.filter(|(quality, _)| *quality > 0).max_by_key(|(quality, _)| *quality);
    best.map_or(&encodings[encodings.len() - 1], |(_, one)| one)
}

fn quality_of_encoding(encoding: Option<&str>, accept: &[u8]) -> u16 {
    let name = encoding.unwrap_or("identity").as_bytes();
    let mut any = None;
    for (coding, quality) in elements(accept) {
        // RFC 9110 §8.4.1.3: x-gzip is gzip.
        if coding.eq_ignore_ascii_case(name) || (name == b"gzip" && coding.eq_ignore_ascii_case(b"x-gzip")) {
            return quality;
        }
        if coding == b"*" {
            any = Some(quality);
        }
    }
    any.unwrap_or(0)
}

/// The members of a list with their weights in thousandths (RFC 9110 §12.4.2). One whose weight is no weight is left out.
fn elements(list: &[u8]) -> impl Iterator<Item = (&[u8], u16)> {
    list.split(|byte| *byte == b',').filter_map(|element| {
        let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        let weight: f32 = std::str::from_utf8(weight.unwrap_or(b"1")).ok()?.parse().ok()?;
        (0.0..=1.0).contains(&weight).then_some((name, (weight * 1_000.0).round() as u16))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::asset_pack::{REVALIDATE, pack};

    fn asset(route: &str, language: Option<&str>, body: &str) -> Packed {
        pack(route, language, "text/plain", REVALIDATE, body.as_bytes()).unwrap()
    }

    fn library() -> Library {
        let text = "again and again. ".repeat(40);
        Library::new(vec![
            asset("/one", None, &text),
            asset("/two", Some("zh-CN"), &text),
            asset("/two", Some("en"), &format!("{text}!")),
        ])
        .unwrap()
    }

    fn encoding(accept: &str) -> &'static str {
        library().find("/one", Some(accept.as_bytes()), None).unwrap().encoding.unwrap_or("identity")
    }

    fn language(accept: &str) -> String {
        let library = library();
        let found = library.find("/two", None, Some(accept.as_bytes())).unwrap();
        let head = str::from_utf8(&found.whole[..found.ends[1]]).unwrap();
        head.split("Content-Language: ").nth(1).unwrap().lines().next().unwrap().to_owned()
    }

    #[test]
    fn the_smallest_acceptable_encoding_is_chosen() {
        assert_eq!(encoding("gzip, deflate, br, zstd"), "br");
        assert_eq!(encoding("gzip, deflate"), "gzip");
        assert_eq!(encoding("X-GZIP"), "gzip");
        assert_eq!(encoding("*"), "br");
        assert_eq!(encoding("br;q=0, *"), "gzip");
    }

    #[test]
    fn a_higher_weight_beats_a_smaller_body() {
        assert_eq!(encoding("br;q=0.5, gzip;q=0.8"), "gzip");
        assert_eq!(encoding("br;q=0.8 , identity ; q=1"), "identity");
        assert_eq!(encoding("gzip;q=0.001"), "gzip");
        assert_eq!(encoding("br; Q=0.3, *;q=0.2"), "br");
    }

    #[test]
    fn without_an_acceptable_encoding_the_bytes_go_as_they_are() {
        for accept in
            ["", "zstd", "br;q=0, gzip;q=0.000", "identity", "*;q=0", "identity;q=0", "identity;q=0, zstd", ",;,"]
        {
            assert_eq!(encoding(accept), "identity", "{accept}");
        }
        assert_eq!(encoding("identity;q=0, *;q=0.1"), "br");
    }

    #[test]
    fn a_member_with_a_broken_weight_is_left_out() {
        for accept in ["br;q=2", "br;q=1.001", "br;q=nan", "br;q=", "br;q=inf", "br;q=0.x", "br;q=-1"] {
            assert_eq!(encoding(accept), "identity", "{accept}");
        }
        assert_eq!(encoding("br;q=1.000"), "br");
        assert_eq!(encoding("br;q=0."), "identity");
    }

    #[test]
    fn a_language_is_chosen_by_its_primary_subtag() {
        for accept in ["zh", "zh-CN", "ZH-hans", "zh-Hans-CN", "zh-TW, en;q=0.9", "en;q=0.8, zh", "fr, zh;q=0.2"] {
            assert_eq!(language(accept), "zh-CN", "{accept}");
        }
        for accept in ["en", "en-GB,en;q=0.9,zh;q=0.8", "fr, en;q=0.1", "en, zh", "zh;q=0, *"] {
            assert_eq!(language(accept), "en", "{accept}");
        }
    }

    #[test]
    fn without_an_acceptable_language_the_default_is_served() {
        for accept in ["", "fr", "*", "de-AT, fr;q=0.5", "zh;q=0, en;q=0", ";q=1"] {
            assert_eq!(language(accept), "zh-CN", "{accept}");
        }
    }

    #[test]
    fn an_exact_range_overrides_a_shorter_one() {
        assert_eq!(language("zh, zh-CN;q=0.1, en;q=0.5"), "en");
        assert_eq!(language("zh-CN;q=0, zh, en;q=0.5"), "en");
    }

    #[test]
    fn an_answer_is_its_fields_its_length_and_its_body_in_one_piece() {
        let library = library();
        let found = library.find("/two", Some(b"br"), Some(b"en")).unwrap();
        let [unchanged_end, part_end, head_end] = found.ends;
        let head = std::str::from_utf8(&found.whole[..head_end]).unwrap();
        assert_eq!(head[part_end..], format!("Content-Length: {}\r\n\r\n", found.body().len()));
        assert_eq!(found.whole, [head.as_bytes(), found.body()].concat());
        for field in [
            "Content-Encoding: br\r\n",
            "Content-Language: en\r\n",
            "Vary: Accept-Encoding, Accept-Language\r\n",
            "Accept-Ranges: bytes\r\n",
        ] {
            assert!(head.contains(field), "{head}");
        }
        let unchanged = &head[..unchanged_end];
        assert!(unchanged.contains(&*found.etag) && unchanged.ends_with("\r\n") && !unchanged.contains("Content"));
    }

    #[test]
    fn the_page_is_embedded_with_its_policy_and_an_unknown_path_is_not() {
        let library = Library::new(Vec::new()).unwrap();
        let page = library.find("/", None, None).unwrap();
        let head = std::str::from_utf8(&page.whole[..page.ends[2]]).unwrap();
        assert!(
            head.contains("Content-Type: text/html") && head.contains("Content-Security-Policy: default-src 'none'")
        );
        assert!(page.body().starts_with(b"<!doctype html>"));
        assert!(!library.has("/nothing", "") && library.find("/nothing", None, None).is_none());
    }

    #[test]
    fn an_operators_page_takes_the_place_of_ours() {
        let library = Library::new(vec![asset("/", None, "theirs")]).unwrap();
        assert_eq!(library.find("/", Some(b"br"), Some(b"en")).unwrap().body(), b"theirs");
    }
}
