//! The pages and their files: what there is, ready to be sent, and which representation a request gets.
//!
//! At start everything goes into one arena: of each representation the fields that depend on nothing but itself and,
//! right behind them, its body, so that an answer is a status line with its date and one borrowed piece; and the fields
//! of its 304. `build.rs` embeds our own pages; an operator's come from a folder that `cli` has read and take the place
//! of ours where they have the same path.
//!
//! It never allocates after start and never answers "not acceptable": where a client refuses all there is, it gets the
//! default, as RFC 9110 §12.4.1 allows.

use std::borrow::Cow;
use std::io;
use std::mem::take;

use super::asset_pack::{Encoded, Packed, Text};
use crate::sys::arena;

/// One page or file in one language and one encoding.
#[derive(Debug)]
pub struct Representation {
    encoding: Option<Text>,
    language: Option<Text>,
    /// The value of `ETag`: strong, quotes included.
    pub etag: Text,
    /// The rest of a whole answer: all fields but the length, each with its line end; then the length, the empty line,
    /// and the body.
    pub whole: &'static [u8],
    fields_bytes: usize,
    /// Where in `whole` the body starts.
    pub head_bytes: usize,
    /// The head of the answer that nothing has changed, from its first field to its empty line.
    pub unchanged: &'static [u8],
}

impl Representation {
    /// The fields that every answer with this representation has, each with its line end.
    pub fn fields(&self) -> &'static [u8] {
        &self.whole[..self.fields_bytes]
    }

    /// The body alone.
    pub fn body(&self) -> &'static [u8] {
        &self.whole[self.head_bytes..]
    }
}

/// One path. Invariant: `languages` is not empty and starts with the default; each of them is not empty, has all its
/// encodings in the order of their size, and ends with the identity.
struct Route {
    path: Text,
    languages: Vec<Vec<Representation>>,
}

/// What `build.rs` has packed.
fn embedded() -> Vec<Packed> {
    include!(concat!(env!("OUT_DIR"), "/assets.rs"))
}

/// All pages and files of a server.
pub struct Library {
    routes: Vec<Route>,
    arena: &'static [u8],
}

impl Library {
    /// Our own pages, and over them an operator's.
    ///
    /// # Errors
    /// When the system has no memory.
    pub fn new(operators: Vec<Packed>) -> io::Result<Library> {
        let mut assets = embedded();
        assets.retain(|asset| operators.iter().all(|theirs| theirs.route != asset.route));
        assets.extend(operators);
        let mut laid = Vec::new();
        for asset in &assets {
            let several = assets.iter().filter(|other| other.route == asset.route).count() > 1;
            laid.push(asset.encodings.iter().map(|encoded| Laid::out(asset, encoded, several)).collect::<Vec<_>>());
        }
        let pieces: Vec<Vec<u8>> =
            laid.iter_mut().flatten().flat_map(|laid| [take(&mut laid.whole), take(&mut laid.unchanged)]).collect();
        let (kept, arena) = arena::keep(&pieces)?;
        let mut kept = kept.into_iter();
        let mut routes: Vec<Route> = Vec::new();
        for (asset, laid) in assets.into_iter().zip(&laid) {
            let each = |(encoded, laid): (Encoded, &Laid)| Representation {
                encoding: encoded.encoding,
                language: asset.language.clone(),
                etag: encoded.etag,
                whole: kept.next().unwrap_or_default(),
                fields_bytes: laid.fields_bytes,
                head_bytes: laid.head_bytes,
                unchanged: kept.next().unwrap_or_default(),
            };
            let representations = asset.encodings.into_iter().zip(laid).map(each).collect();
            match routes.iter_mut().find(|route| route.path == asset.route) {
                Some(route) => route.languages.push(representations),
                None => routes.push(Route { path: asset.route, languages: vec![representations] }),
            }
        }
        Ok(Library { routes, arena })
    }

    /// The memory that all that is sent borrowed lies in.
    pub fn arena(&self) -> &'static [u8] {
        self.arena
    }

    /// Whether there is the path that these two make together.
    pub fn has(&self, path: &str, end: &str) -> bool {
        self.routes.iter().any(|route| route.path.strip_suffix(end) == Some(path))
    }

    /// The representation of `path` (without its query) for these two field values, or `None` when there is no such
    /// path. A field that is absent is `None`; one that came in several lines is given as its first line.
    pub fn find(
        &self,
        path: &str,
        accept_encoding: Option<&[u8]>,
        accept_language: Option<&[u8]>,
    ) -> Option<&Representation> {
        let route = self.routes.iter().find(|route| route.path == path)?;
        let encodings = choose_language(&route.languages, accept_language.unwrap_or_default());
        Some(choose_encoding(encodings, accept_encoding.unwrap_or_default()))
    }
}

/// The bytes of one representation as they go out.
struct Laid {
    whole: Vec<u8>,
    fields_bytes: usize,
    head_bytes: usize,
    unchanged: Vec<u8>,
}

impl Laid {
    fn out(asset: &Packed, encoded: &Encoded, several_languages: bool) -> Laid {
        let vary = if several_languages { "Accept-Encoding, Accept-Language" } else { "Accept-Encoding" };
        let validators =
            format!("ETag: {}\r\nCache-Control: {}\r\nVary: {vary}\r\n", encoded.etag, asset.cache_control);
        let mut fields = validators.clone();
        let mut add = |name: &str, value: &str| fields.extend([name, ": ", value, "\r\n"]);
        add("Content-Type", &asset.content_type);
        add("X-Content-Type-Options", "nosniff");
        add("Accept-Ranges", "bytes");
        if let Some(encoding) = &encoded.encoding {
            add("Content-Encoding", encoding);
        }
        if let Some(language) = &asset.language {
            add("Content-Language", language);
        }
        if let Some(policy) = &asset.csp {
            add("Content-Security-Policy", policy);
            add("Referrer-Policy", "no-referrer");
        }
        let fields_bytes = fields.len();
        let mut whole = format!("{fields}Content-Length: {}\r\n\r\n", encoded.body.len()).into_bytes();
        let head_bytes = whole.len();
        whole.extend_from_slice(&encoded.body);
        Laid { whole, fields_bytes, head_bytes, unchanged: format!("{validators}\r\n").into_bytes() }
    }
}

fn choose_language<'r>(languages: &'r [Vec<Representation>], accept: &[u8]) -> &'r [Representation] {
    let tag = |encodings: &'r [Representation]| encodings[0].language.as_deref().unwrap_or_default().as_bytes();
    // Of equal wishes, or none, the last of these: the default.
    let best = languages.iter().rev().max_by_key(|encodings| wish_for_language(tag(encodings), accept));
    best.unwrap_or(&languages[0])
}

/// How well a language is wanted, compared in this order: its quality, then the earliest range in the list.
type Wish = (u16, std::cmp::Reverse<usize>);

/// The wish for one language tag, by the range that fits it best: the tag itself, then one that shares its primary
/// subtag, then `*`. So `zh`, `zh-Hans` and `zh-TW` all prefer `zh-CN` to another language (RFC 4647 §3.4, where the
/// range is cut from its end), and `en` takes `en-GB`'s reader. A quality of 0 refuses.
fn wish_for_language(tag: &[u8], accept: &[u8]) -> Option<Wish> {
    let fitting = elements(accept).enumerate().filter_map(|(position, (range, quality))| {
        let fit = match range {
            _ if range.eq_ignore_ascii_case(tag) => 3,
            _ if primary(range).eq_ignore_ascii_case(primary(tag)) => 2,
            b"*" => 1,
            _ => return None,
        };
        Some((fit, (quality, std::cmp::Reverse(position))))
    });
    fitting.max().map(|(_, wish)| wish).filter(|(quality, _)| *quality > 0)
}

fn primary(tag: &[u8]) -> &[u8] {
    tag.split(|byte| *byte == b'-').next().unwrap_or_default()
}

/// RFC 9110 §12.5.3. Of equal qualities the smaller body wins, which stands earlier; the identity, unless named, is
/// acceptable but the last choice, and is what a client gets that accepts nothing.
fn choose_encoding<'r>(encodings: &'r [Representation], accept: &[u8]) -> &'r Representation {
    let weighed = encodings.iter().rev().map(|one| (quality_of_encoding(one.encoding.as_deref(), accept), one));
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

/// The members of a list with their weights in thousandths. A member whose weight is no weight is left out.
fn elements(list: &[u8]) -> impl Iterator<Item = (&[u8], u16)> {
    list.split(|byte| *byte == b',').filter_map(|element| {
        let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let mut quality = 1_000;
        for part in parts {
            if let [b'q' | b'Q', b'=', weight @ ..] = part {
                quality = thousandths(weight)?;
            }
        }
        Some((name, quality))
    })
}

/// RFC 9110 §12.4.2: `0` or `1`, up to three decimals, and not above 1.
fn thousandths(weight: &[u8]) -> Option<u16> {
    let (whole, decimals) = match weight {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut value = u16::from(whole - b'0');
    for place in 0..3 {
        let digit = decimals.get(place).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u16::from(digit - b'0');
    }
    (value <= 1_000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::asset_pack::{CacheClass, pack};

    fn asset(route: &str, language: Option<&str>, body: &str) -> Packed {
        pack(route, language, "text/plain", CacheClass::Revalidate, body.as_bytes()).unwrap()
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
        let library = library();
        match library.find("/one", Some(accept.as_bytes()), None).unwrap().encoding.as_deref() {
            Some("br") => "br",
            Some("gzip") => "gzip",
            Some(_) => "another",
            None => "identity",
        }
    }

    fn language(accept: &str) -> String {
        library().find("/two", None, Some(accept.as_bytes())).unwrap().language.clone().unwrap().into_owned()
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
        for accept in ["br;q=2", "br;q=1.001", "br;q=0.1234", "br;q=", "br;q=.5", "br;q=0.x", "br;q=-1"] {
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
        let head = std::str::from_utf8(&found.whole[..found.head_bytes]).unwrap();
        let length = format!("Content-Length: {}\r\n\r\n", found.body().len());
        assert_eq!(head, [std::str::from_utf8(found.fields()).unwrap(), &length].concat());
        assert_eq!(found.whole, [head.as_bytes(), found.body()].concat());
        for field in [
            "Content-Encoding: br\r\n",
            "Content-Language: en\r\n",
            "Vary: Accept-Encoding, Accept-Language\r\n",
            "Accept-Ranges: bytes\r\n",
        ] {
            assert!(head.contains(field), "{head}");
        }
        let unchanged = std::str::from_utf8(found.unchanged).unwrap();
        assert!(unchanged.contains(&*found.etag) && unchanged.ends_with("\r\n\r\n") && !unchanged.contains("Length"));
    }

    #[test]
    fn the_page_is_embedded_with_its_policy_and_an_unknown_path_is_not() {
        let library = Library::new(Vec::new()).unwrap();
        let page = library.find("/", None, None).unwrap();
        let head = std::str::from_utf8(&page.whole[..page.head_bytes]).unwrap();
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
