//! Embeds the citizen page and what belongs to it.
//!
//! With `web/dist` (made by `scripts/build-web.sh`) it packs the files that `assets.json` lists; without it, one plain
//! page, so that a bare `cargo build` works without Node. The result is `assets.rs` in Cargo's output folder, a list
//! that `src/service/assets.rs` includes.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

#[path = "src/service/asset_pack.rs"]
mod asset_pack;

/// One file of the pages, as `assets.json` names it.
struct Asset {
    route: String,
    file: PathBuf,
    language: Option<String>,
    content_type: String,
    cache_control: &'static str,
}

fn main() {
    let web = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("Cargo sets it")).join("web");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("Cargo sets it"));
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/service/asset_pack.rs");
    println!("cargo:rerun-if-changed=web/plain.html");
    // Cargo counts a missing path as changed at every build, so without web/dist the folder above is watched: it
    // changes when web/dist appears. When web/dist goes, its being missing runs this once more.
    let dist = web.join("dist");
    let built = dist.join("assets.json").exists();
    println!("cargo:rerun-if-changed={}", if built { "web/dist" } else { "web" });

    let assets = if built { listed(&dist) } else { vec![plain(&web)] };
    fs::write(out.join("assets.rs"), table(&assets, &out)).expect("Cargo's output folder is writable");
}

/// The plain page, alone.
fn plain(web: &Path) -> Asset {
    Asset {
        route: "/".into(),
        file: web.join("plain.html"),
        language: None,
        content_type: "text/html; charset=utf-8".into(),
        cache_control: asset_pack::REVALIDATE,
    }
}

/// What `web/dist/assets.json` lists. It is our own build's output: anything unexpected stops this build.
fn listed(dist: &Path) -> Vec<Asset> {
    let text = fs::read_to_string(dist.join("assets.json")).expect("web/dist/assets.json is readable");
    let list: Value = serde_json::from_str(&text).expect("web/dist/assets.json is JSON");
    let assets = list["assets"].as_array().expect("web/dist/assets.json has a list `assets`");
    assets
        .iter()
        .map(|asset| {
            let text = |name: &str| {
                let value = asset[name].as_str();
                value.unwrap_or_else(|| panic!("web/dist/assets.json: `{name}` missing in {asset}")).to_owned()
            };
            Asset {
                route: text("route"),
                file: dist.join(text("file")),
                language: asset["lang"].as_str().map(str::to_owned),
                content_type: text("type"),
                cache_control: match &*text("cache") {
                    "revalidate" => asset_pack::REVALIDATE,
                    // What has a fixed name and hardly ever changes.
                    "day" => "public, max-age=86400",
                    "immutable" => asset_pack::IMMUTABLE,
                    _ => panic!("web/dist/assets.json: unknown `cache` in {asset}"),
                },
            }
        })
        .collect()
}

/// The source of the table, in the order of the list. Answers go to files beside it.
fn table(assets: &[Asset], out: &Path) -> String {
    let mut source = String::from("vec![\n");
    for (index, asset) in assets.iter().enumerate() {
        let body = fs::read(&asset.file).unwrap_or_else(|error| panic!("{}: {error}", asset.file.display()));
        let Asset { route, language, content_type, cache_control, .. } = asset;
        let packed = asset_pack::pack(route, language.as_deref(), content_type, cache_control, &body)
            .unwrap_or_else(|error| panic!("{}: {error}", asset.file.display()));
        let mut encodings = String::new();
        for asset_pack::Encoded { encoding, etag, whole, ends } in &packed.encodings {
            let file = format!("asset-{index}.{}", encoding.unwrap_or("identity"));
            fs::write(out.join(&file), whole).expect("Cargo's output folder is writable");
            let whole = format!("Bytes::from_static(include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\")))");
            let etag = text(etag);
            writeln!(
                encodings,
                "        Encoded {{ encoding: {encoding:?}, etag: {etag}, whole: {whole}, ends: {ends:?} }},"
            )
            .expect("a string grows");
        }
        let language = packed.language.map_or("None".to_owned(), |language| format!("Some({})", text(&language)));
        let route = text(&packed.route);
        writeln!(source, "    Packed {{ route: {route}, language: {language}, encodings: vec![\n{encodings}    ] }},")
            .expect("a string grows");
    }
    source + "]\n"
}

fn text(text: &str) -> String {
    format!("Cow::Borrowed({text:?})")
}
