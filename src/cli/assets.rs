//! The operator's own pages: `assets.dir`, read, compressed and hashed once, at start.
//!
//! A file is served at its path in the folder; `index.html` at its folder's, and `NAME.LANG.html` as one language of
//! `NAME.html`. A name that carries a hash (`app-3f9a0c12.js`) may be kept for ever, every other one asks each time.

use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use super::{Ended, Fatal};
use crate::limits::ASSET_FILE_BYTES_MAX;
use crate::service::asset_pack::{Encoded, IMMUTABLE, Packed, REVALIDATE, pack};
use crate::sys::regular_file::{self, read_bounded};

/// Reads and packs the folder. Each file must fit the budget in all its encodings: a browser may ask for any of them.
pub(super) fn read(folder: &Path, bytes_max: u32) -> Result<Vec<Packed>, Ended> {
    let is_shown = |entry: &DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
    let mut packed = Vec::new();
    // It follows links, and refuses one to a folder around it.
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_entry(is_shown) {
        let entry = entry.map_err(Fatal::Configuration.ended())?;
        let place = entry.path().display();
        let name = entry.path().strip_prefix(folder).unwrap_or(entry.path()).to_string_lossy();
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte));
        Fatal::Configuration.unless(is_plain, &place, "a path of a URL has letters, digits, and - _ . ~ only")?;
        if entry.file_type().is_dir() {
            continue;
        }
        let end = name.rsplit_once('.').map_or("", |(_, end)| end);
        let kinds = || format!("files of this kind are not served, only {}", KINDS.map(|(kind, _)| kind).join(", "));
        let known = KINDS.iter().find(|(kind, _)| *kind == end);
        let (_, content_type) = known.ok_or_else(|| Fatal::Configuration.at(&place)(kinds()))?;
        // Bounded first of all, so that a wrong one is not compressed for hours.
        let body = read_bounded(regular_file::open(entry.path()), ASSET_FILE_BYTES_MAX.into());
        let body = body.map_err(Fatal::Configuration.at(&place))?;
        let (route, language) = route(&name);
        let cache_control = if is_hashed(&name) { IMMUTABLE } else { REVALIDATE };
        let asset = pack(&route, language, content_type, cache_control, &body)
            .map_err(Fatal::Configuration.at(format_args!("{place}: a page is UTF-8")))?;
        // As it is it is asked for by few, and text is then three or four times as long.
        let plain = |encoded: &Encoded| encoded.encoding.is_none() && asset.encodings.len() > 1;
        let bytes_of = |one: &Encoded| one.body().len().div_ceil(if plain(one) { 4 } else { 1 }) + HEAD_BYTES;
        let bytes = asset.encodings.iter().map(bytes_of).max().unwrap_or(0);
        let wrong = format_args!(
            "{bytes} bytes on the wire, of at most assets.file_bytes_max = {bytes_max}: the longest of br, gzip, and a \
             quarter of the file as it is"
        );
        Fatal::Configuration.unless(bytes <= bytes_max as usize, place, wrong)?;
        packed.push(asset);
    }
    // The first language of a path is its default, and ours is Chinese.
    packed.sort_by_key(|asset| asset.language.as_deref() != Some("zh-CN"));
    Ok(packed)
}

/// What the head of an answer with a page comes to, policy included.
const HEAD_BYTES: usize = 700;

/// The path and, for a page in several languages, the language.
fn route(name: &str) -> (String, Option<&str>) {
    let (folder, name) = name.rsplit_once('/').map_or(("", name), |(folder, last)| (&name[..=folder.len()], last));
    let (name, language) = match name.strip_suffix(".html").and_then(|stem| stem.split_once('.')) {
        Some((stem, language)) => (format!("{stem}.html"), Some(language)),
        None => (name.to_owned(), None),
    };
    let name = if name == "index.html" { "" } else { &name };
    (format!("/{folder}{name}"), language)
}

/// Whether the name ends, before its extension, in a hash of eight hexadecimal digits or more.
fn is_hashed(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let hash = stem.rsplit(['-', '.']).next().unwrap_or_default();
    hash.len() >= 8 && hash.len() < stem.len() && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What is served, by the end of its name.
const KINDS: [(&str, &str); 16] = [
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("webmanifest", "application/manifest+json"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("ico", "image/x-icon"),
    ("woff2", "font/woff2"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, body) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, body).unwrap();
        }
        folder
    }

    #[test]
    fn a_file_is_served_at_its_path_and_a_page_in_its_language() {
        let folder = folder(&[
            ("index.zh-CN.html", b"<p>1"),
            ("index.en.html", b"<p>2"),
            ("help/index.html", b"<p>3"),
            ("assets/app-3f9a0c12.js", b"1"),
            (".hidden", b"x"),
        ]);
        let packed = read(folder.path(), 14_000).unwrap();
        let shown: Vec<_> = packed
            .iter()
            .map(|asset| {
                let is_immutable = str::from_utf8(&asset.encodings[0].whole[..80]).unwrap().contains("immutable");
                (&*asset.route, asset.language.as_deref(), is_immutable)
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("/", Some("zh-CN"), false),
                ("/assets/app-3f9a0c12.js", None, true),
                ("/help/", None, false),
                ("/", Some("en"), false),
            ]
        );
    }

    #[test]
    fn a_file_beyond_the_budget_is_refused_by_name_unless_the_budget_is_raised() {
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..20_000).map(|_| random.u8(..)).collect();
        let folder = folder(&[("photo.jpg", &noise)]);
        let (_, reason) = read(folder.path(), 14_000).err().unwrap();
        assert!(reason.contains("photo.jpg") && reason.contains("assets.file_bytes_max"), "{reason}");
        assert_eq!(read(folder.path(), 30_000).unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_one_encoding_makes_small_is_refused_for_the_others() {
        let folder = folder(&[("long.html", "hello ".repeat(20_000).as_bytes())]);
        let (_, reason) = read(folder.path(), 14_000).err().unwrap();
        assert!(reason.contains("long.html") && reason.contains("30700 bytes"), "{reason}");
        assert_eq!(read(folder.path(), 31_000).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_page_and_what_is_no_path_is_refused_by_name() {
        for name in ["run.sh", "a b.html"] {
            let folder = folder(&[(name, b"x")]);
            let (_, reason) = read(folder.path(), 14_000).err().unwrap();
            assert!(reason.contains(name), "{reason}");
        }
        assert!(read(Path::new("/nowhere-at-all"), 1).is_err());
    }
}
