//! The rules of the house, checked over the whole tree: who may import whom, what a pure room may not touch, the
//! budgets, and what must not be left lying about.
//!
//! The tree is read once. Each rule is a test of its own, prints its figures (`--nocapture`), and fails with
//! `file:line`, what is there and what to do instead. Code is looked at after a small scanner has blanked comments,
//! strings and test modules, so a word in a comment breaks no rule and a rule cannot be met by a comment.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

// Budgets: section 7 of the design.
const SRC_LINES_MAX: usize = 20_000;
const DRIVER_LINES_MAX: usize = 2_500;
const WEB_LINES_MAX: usize = 5_000;
const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const CONFIG_KEYS_MAX: usize = 50;
const CRATES_MAX: usize = 250;

/// Each room and the rooms it may import. `cli`, `lib.rs` and `main.rs` may import all; `words` and `limits` are
/// everyone's. `observe` reads every room and no room knows it.
const ROOMS: [(&str, &[&str]); 12] = [
    ("driver", &["shard", "service", "http", "code", "registry", "journal", "admission", "sys", "config"]),
    ("shard", &["service", "http", "code", "registry", "journal", "admission", "sys"]),
    ("service", &["http", "code", "registry", "journal", "admission", "sys"]),
    ("http", &["sys"]),
    ("code", &["sys"]),
    ("registry", &["sys"]),
    ("journal", &["sys"]),
    ("admission", &["sys"]),
    ("sys", &[]),
    ("observe", &["driver", "shard", "service", "http", "code", "registry", "journal", "admission", "sys", "config"]),
    ("tune", &["sys", "config"]),
    // It checks the JWKS that it reads, so that check-config finds what serve would.
    ("config", &["service", "sys"]),
];

/// Rooms without sockets, clocks, threads, files and randomness of their own.
const PURE: [&str; 6] = ["shard", "service", "http", "code", "registry", "admission"];

/// Files of pure rooms that read and write files, or make keys; nothing else is excused.
const FILE_READERS: [&str; 3] = ["src/registry/data_folder.rs", "src/registry/snapshot.rs", "src/code/keyring.rs"];

/// Paths that a pure room may not import or name, and what to do instead.
const BANNED_IN_PURE: [(&str, &str); 15] = [
    ("std::net", "addresses only (IpAddr, SocketAddr and their kinds); sockets are driver/'s"),
    ("std::time", "take words::Now; only std::time::Duration is a value"),
    ("std::thread", "threads are started by driver/ and cli/"),
    ("std::fs", "take bytes, or name the file in FILE_READERS of tests/tidy.rs if it is the room's file reader"),
    ("std::env", "settings come in as arguments, from config"),
    ("std::process", "return an error; only cli/ ends the process"),
    ("monoio", "runtimes are driver/'s"),
    ("io_uring_monoio", "runtimes are driver/'s"),
    ("io_uring", "runtimes are driver/'s"),
    ("glommio", "runtimes are driver/'s and the journal's writer's"),
    ("socket2", "sockets are driver/'s"),
    ("libc", "system calls are driver/'s and sys/'s"),
    ("rustix", "system calls are driver/'s and sys/'s"),
    ("getrandom", "take random bytes as an argument"),
    ("signal_hook", "signals are cli/'s"),
];

/// Exceptions to the line above.
const ALLOWED_IN_PURE: [&str; 7] = [
    "std::net::IpAddr",
    "std::net::SocketAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddrV4",
    "std::net::SocketAddrV6",
    "std::time::Duration",
];

struct File {
    /// From the root, with `/`.
    path: String,
    text: String,
    /// For Rust: the text with comments, strings and test modules as blanks, line for line.
    code: String,
    /// Like `code`, but test modules stay.
    code_with_tests: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The room below `src/`, if it is in one: `http` of `src/http/head.rs` and `config` of `src/config.rs`.
    fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        Some(inside.split('/').next()?.trim_end_matches(".rs"))
    }

    fn lines_without_tests(&self) -> usize {
        let is_test = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        if is_test { 0 } else { self.text.lines().count() - test_lines(&self.code_with_tests, &self.code) }
    }

    fn at(&self, offset: usize) -> String {
        format!("{}:{}", self.path, line_at(&self.text, offset))
    }
}

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));

static TREE: LazyLock<Vec<File>> = LazyLock::new(|| {
    let mut files = Vec::new();
    read_folder(&ROOT, "", &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
});

fn rust_files() -> impl Iterator<Item = &'static File> {
    TREE.iter().filter(|file| file.is_rust())
}

fn src_files() -> impl Iterator<Item = &'static File> {
    rust_files().filter(|file| file.path.starts_with("src/"))
}

fn read_folder(folder: &Path, prefix: &str, files: &mut Vec<File>) {
    // What git ignores, and what is not ours or not text.
    const PASSED_OVER: [&str; 7] = ["target", "node_modules", "dist", "venv", "__pycache__", "vectors", "corpus"];
    let entries = std::fs::read_dir(folder).expect("the tree can be read");
    for entry in entries {
        let entry = entry.expect("the tree can be read");
        let name = entry.file_name().into_string().expect("file names are UTF-8");
        if PASSED_OVER.contains(&name.as_str()) || (name.starts_with('.') && name != ".ci") {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type().expect("the tree can be read").is_dir() {
            read_folder(&entry.path(), &format!("{path}/"), files);
        } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
            let (mut code, mut code_with_tests) = (String::new(), String::new());
            if path.ends_with(".rs") {
                code_with_tests = blank_comments_and_strings(&text);
                code = blank_tests(&code_with_tests);
            }
            files.push(File { path, text, code, code_with_tests });
        }
    }
}

/// Fails with all findings at once, since one run should show all there is to do.
fn none(findings: Vec<String>, instead: &str) {
    assert!(findings.is_empty(), "\n{}\n=> {instead}\n", findings.join("\n"));
}

fn within(what: &str, count: usize, budget: usize) {
    println!("{what}: {count} of {budget}");
    assert!(count <= budget, "{what}: {count} is over the budget of {budget}: remove something");
}

#[test]
fn rooms_import_only_along_the_arrows() {
    let mut findings = Vec::new();
    for file in src_files() {
        let Some((room, allowed)) = file.room().and_then(|room| ROOMS.iter().find(|(name, _)| *name == room)) else {
            continue;
        };
        for (path, offset) in paths(&file.code) {
            let Some(other) = room_named(file, &path) else { continue };
            if other != *room && ROOMS.iter().any(|(name, _)| *name == other) && !allowed.contains(&other) {
                findings.push(format!("{}: {room} imports {other} ({path})", file.at(offset)));
            }
            if other == "cli" {
                findings.push(format!("{}: {room} imports cli", file.at(offset)));
            }
        }
    }
    none(findings, "arrows point cli -> driver -> shard -> service -> {http, code, registry, journal, admission}");
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    let mut findings = Vec::new();
    let mut seen = 0;
    for file in src_files().filter(|file| file.room().is_some_and(|room| PURE.contains(&room))) {
        seen += 1;
        for (path, offset) in paths(&file.code) {
            let path = path.replacen("core::", "std::", 1);
            let below = |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with("::"));
            let Some((banned, instead)) = BANNED_IN_PURE.iter().find(|(banned, _)| below(banned)) else { continue };
            let is_reader = FILE_READERS.contains(&file.path.as_str()) && ["std::fs"].contains(banned);
            if !is_reader && !ALLOWED_IN_PURE.iter().any(|allowed| below(allowed)) {
                findings.push(format!("{}: {path}: {instead}", file.at(offset)));
            }
        }
        for offset in words(&file.code, "fastrand") {
            if !file.code[offset..].starts_with("fastrand::Rng") {
                findings.push(format!("{}: take a seeded fastrand::Rng as an argument", file.at(offset)));
            }
        }
    }
    println!("pure files: {seen}");
    none(findings, "bytes, time and randomness come in as arguments; bytes and actions go out");
}

#[test]
fn unsafe_stands_only_in_driver_and_sys_and_gives_its_reason() {
    let mut findings = Vec::new();
    let mut count = 0;
    for file in rust_files() {
        for offset in words(&file.code_with_tests, "unsafe") {
            count += 1;
            // The floor is the driver's ring without a server, and counting C's allocations takes the place of malloc.
            let elsewhere = file.path.starts_with("benches/floor/") || file.path == "tests/allocations.rs";
            let allowed = elsewhere || matches!(file.room(), Some("driver" | "sys"));
            if !allowed {
                findings.push(format!("{}: unsafe outside driver/ and sys/", file.at(offset)));
            } else if !has_reason_above(&file.text, line_at(&file.text, offset)) {
                findings.push(format!("{}: unsafe without a reason just above", file.at(offset)));
            }
        }
    }
    println!("unsafe: {count}");
    none(findings, "put it behind a safe function in sys/ or driver/, with `// SAFETY:` (or `# Safety`) just above");
}

#[test]
fn source_stays_within_its_budgets() {
    let lines = |prefix: &str| {
        src_files().filter(|file| file.path.starts_with(prefix)).map(File::lines_without_tests).sum::<usize>()
    };
    for (room, _) in ROOMS {
        println!("  src/{room}: {}", lines(&format!("src/{room}/")) + lines(&format!("src/{room}.rs")));
    }
    within("lines of src/ without tests", lines("src/"), SRC_LINES_MAX);
    within("lines of src/driver/ without tests", lines("src/driver/"), DRIVER_LINES_MAX);
    let of_pages = |file: &&File| file.path.starts_with("web/") && !file.path.ends_with("package-lock.json");
    let web = TREE.iter().filter(of_pages).map(|file| file.text.lines().count()).sum();
    within("lines of web/", web, WEB_LINES_MAX);
}

#[test]
fn a_file_can_be_read_in_one_sitting() {
    const SOURCES: [&str; 8] = [".rs", ".ts", ".mjs", ".js", ".css", ".sh", ".py", ".lua"];
    let sources = || TREE.iter().filter(|file| SOURCES.iter().any(|end| file.path.ends_with(end)));
    let count = |file: &File| file.text.lines().count();
    if let Some(largest) = sources().max_by_key(|file| count(file)) {
        println!("largest file: {} with {} lines of {FILE_LINES_MAX}", largest.path, count(largest));
    }
    let over = sources().filter(|file| count(file) > FILE_LINES_MAX);
    none(
        over.map(|file| format!("{}:1: {} lines", file.path, count(file))).collect(),
        "split it by noun; a file has at most 800 lines",
    );
}

#[test]
fn a_function_fits_on_a_screen() {
    let mut findings = Vec::new();
    let mut longest = (0, String::new());
    for file in rust_files() {
        for (offset, lines) in functions(&file.code_with_tests) {
            let place = file.at(offset);
            if lines > FUNCTION_LINES_MAX {
                findings.push(format!("{place}: {lines} lines"));
            }
            longest = longest.max((lines, place));
        }
    }
    println!("longest function: {} with {} lines of {FUNCTION_LINES_MAX}", longest.1, longest.0);
    none(findings, "give its parts names; a function has at most 70 lines");
}

#[test]
fn the_configuration_stays_small() {
    within("configuration keys", onecode::config::keys().len(), CONFIG_KEYS_MAX);
}

#[test]
fn the_release_build_has_few_crates() {
    // Locked and offline: what was built is what is counted, and nothing is fetched.
    let arguments = ["tree", "-e", "normal", "--offline", "--locked", "--prefix", "none", "--format", "{p}"];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(&*ROOT).output().expect("cargo can be run");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo tree prints UTF-8");
    let crates: BTreeSet<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    within("crates in the release tree, onecode included", crates.len(), CRATES_MAX);
}

#[test]
fn nothing_unfinished_is_left() {
    // Put together here, so that this file does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut findings = Vec::new();
    // Written by tools, with what their authors left in it: lock files, and flame graphs with inferno's script.
    let written =
        |path: &str| path.ends_with(".lock") || path.ends_with("lock.json") || path.starts_with("flamegraphs/");
    for file in TREE.iter().filter(|file| !written(&file.path)) {
        for mark in marks {
            findings.extend(words(&file.text, mark).map(|offset| format!("{}: {mark}", file.at(offset))));
        }
        for offset in words(&file.code_with_tests, "dbg") {
            if file.code_with_tests[offset..].starts_with("dbg!") {
                findings.push(format!("{}: dbg!", file.at(offset)));
            }
        }
        for (offset, _) in file.code_with_tests.match_indices("#[ignore]") {
            findings.push(format!("{}: a test is ignored without a reason", file.at(offset)));
        }
    }
    none(findings, "finish it, or write it into the issue; an ignored test says why: #[ignore = \"…\"]");
}

#[test]
fn no_path_of_a_developers_machine_is_left() {
    let root = ROOT.display().to_string();
    let mut findings = Vec::new();
    for file in TREE.iter() {
        // The parts of each mark stand apart, so that this file does not find itself.
        for mark in [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Use", "rs/"), concat!("C:", "\\Users")] {
            findings.extend(file.text.match_indices(mark).map(|(offset, _)| format!("{}: {mark}", file.at(offset))));
        }
        // A root such as /src, as in a container, is a part of honest paths.
        if root.matches('/').count() > 1 {
            findings.extend(file.text.match_indices(&root).map(|(offset, _)| format!("{}: {root}", file.at(offset))));
        }
    }
    none(findings, "name it from the root of the repository");
}

#[test]
fn every_limit_is_used() {
    let limits = src_files().find(|file| file.path == "src/limits.rs").expect("src/limits.rs is there");
    let mut findings = Vec::new();
    let mut count = 0;
    for (offset, _) in limits.code.match_indices("pub const ") {
        let name: String = limits.code[offset + 10..].chars().take_while(|c| is_word(*c)).collect();
        count += 1;
        let elsewhere = rust_files().filter(|file| file.path != limits.path);
        let used = elsewhere.filter(|file| !file.path.starts_with("tests/"));
        if !used.into_iter().any(|file| words(&file.code, &name).next().is_some())
            && words(&limits.code, &name).count() < 2
        {
            findings.push(format!("{}: {name} limits nothing", limits.at(offset)));
        }
    }
    println!("limits: {count}");
    none(findings, "use it where the limit is kept, or remove it");
}

#[test]
fn each_file_opens_with_what_it_is_for() {
    let opens = |file: &File| {
        let first = file.text.lines().next().unwrap_or_default();
        first.starts_with("//! ") && first.len() > 20
    };
    let silent = rust_files().filter(|file| !opens(file));
    none(
        silent.map(|file| format!("{}:1: no essay", file.path)).collect(),
        "open with `//!`: what the file owns, what it never does, who calls it",
    );
}

#[test]
fn the_readme_names_only_what_exists() {
    let readme = TREE.iter().find(|file| file.path == "README.md").expect("README.md is there");
    let mut findings = Vec::new();
    let mut count = 0;
    for (offset, _) in readme.text.match_indices("scripts/") {
        let path: String = readme.text[offset..].chars().take_while(|c| is_word(*c) || "/.-".contains(*c)).collect();
        let path = path.trim_end_matches(['.', '/']);
        count += 1;
        if !ROOT.join(path).exists() {
            findings.push(format!("{}: {path} does not exist", readme.at(offset)));
        }
    }
    for (offset, _) in readme.text.match_indices("onecode ") {
        let rest = &readme.text[offset + 8..];
        let command: String = rest.chars().take_while(|c| is_word(*c) || *c == '-').collect();
        // A command stands in code: after a back-tick, a path, a prompt, or the indent of a block.
        let before = &readme.text[..offset];
        let is_code = before.ends_with(['`', '/']) || before.ends_with("$ ") || before.ends_with("\n    ");
        if is_code && !command.is_empty() && !command.starts_with('-') {
            count += 1;
            if !ROOT.join(format!("src/cli/{}.rs", command.replace('-', "_"))).exists() {
                findings.push(format!("{}: onecode has no command {command}", readme.at(offset)));
            }
        }
    }
    for (offset, _) in readme.text.match_indices("](") {
        let link = readme.text[offset + 2..].split(')').next().unwrap_or_default();
        count += 1;
        if !link.contains("://") && !ROOT.join(link).exists() {
            findings.push(format!("{}: {link} does not exist", readme.at(offset)));
        }
    }
    println!("scripts, commands and links in README.md: {count}");
    none(findings, "the README promises only what is there");
}

#[test]
fn the_scanner_sees_code_and_nothing_else() {
    let text = "fn a() { let _ = \"unsafe {\"; /* unsafe /* } */ */ 'x'; '\\''; b'{'; r#\"\"{\"#; } // unsafe\n\
                #[cfg(test)]\nmod tests { fn b() { unsafe {} } }\nfn c<'a>(x: &'a [u8; 2]) -> u8 {\n    x[0]\n}\n";
    let with_tests = blank_comments_and_strings(text);
    let code = blank_tests(&with_tests);
    assert_eq!(with_tests.len(), text.len());
    assert_eq!(words(&with_tests, "unsafe").count(), 1);
    assert_eq!(words(&code, "unsafe").count(), 0);
    assert_eq!(test_lines(&with_tests, &code), 2);
    assert_eq!(functions(&code).iter().map(|(_, lines)| *lines).collect::<Vec<_>>(), [1, 3]);
    let found = paths("use std::{time::{Instant, Duration as D}, fs};\nlet x = crate::http::head::parse();");
    let found: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(found, ["std::time::Instant", "std::time::Duration", "std::fs", "crate::http::head::parse"]);
}

/// The room that a path leads to: by `crate::`, or by enough `super::` to leave the file's own.
fn room_named<'a>(file: &File, path: &'a str) -> Option<&'a str> {
    if let Some(rest) = path.strip_prefix("crate::").or_else(|| path.strip_prefix("onecode::")) {
        return rest.split("::").next();
    }
    let inside = file.path.strip_prefix("src/")?.trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = inside.split('/').count();
    let supers = path.split("::").take_while(|part| *part == "super").count();
    if supers > 0 && supers >= depth { path.split("::").nth(supers) } else { None }
}

/// All paths of `use` items, groups spread out, and all paths of two parts and more in code; with their offsets.
fn paths(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut covered = 0;
    for offset in words(code, "use") {
        let Some(end) = code[offset..].find(';') else { continue };
        if offset < covered {
            continue;
        }
        spread("", &code[offset + 3..offset + end], offset, &mut found);
        covered = offset + end;
    }
    let uses: Vec<(usize, usize)> =
        words(code, "use").filter_map(|at| code[at..].find(';').map(|end| (at, at + end))).collect();
    let mut at = 0;
    while let Some(next) = code[at..].find("::") {
        let colons = at + next;
        let start = code[..colons].rfind(|c: char| !is_word(c)).map_or(0, |before| before + 1);
        let length = code[start..].find(|c: char| !is_word(c) && c != ':').unwrap_or(code.len() - start);
        at = (start + length).max(colons + 2);
        let path = code[start..start + length].trim_end_matches(':');
        if !uses.iter().any(|(from, to)| (*from..*to).contains(&start)) && path.contains("::") {
            found.push((path.to_owned(), start));
        }
    }
    found
}

/// Spreads out one tree of a `use` item.
fn spread(prefix: &str, tree: &str, offset: usize, found: &mut Vec<(String, usize)>) {
    let tree = tree.trim();
    let Some(brace) = tree.find('{') else {
        let name = tree.split_whitespace().next().unwrap_or_default();
        if !name.is_empty() {
            found.push((format!("{prefix}{}", name.trim_start_matches("::")), offset));
        }
        return;
    };
    let prefix = format!("{prefix}{}", tree[..brace].trim().trim_start_matches("::"));
    let inner = &tree[brace + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                spread(&prefix, &inner[start..at], offset, found);
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Where `word` stands by itself.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word)
        .map(|(offset, _)| offset)
        .filter(move |offset| !text[..*offset].ends_with(is_word) && !text[offset + word.len()..].starts_with(is_word))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text[..offset].bytes().filter(|b| *b == b'\n').count()
}

/// Whether the comments and attributes directly above line `line`, or that line, give the reason of an `unsafe`.
fn has_reason_above(text: &str, line: usize) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let gives = |text: &str| text.contains("SAFETY:") || text.contains("# Safety");
    let is_above = |text: &&&str| text.trim_start().starts_with("//") || text.trim_start().starts_with("#[");
    gives(lines[line - 1]) || lines[..line - 1].iter().rev().take_while(is_above).any(|text| gives(text))
}

/// The functions with a body: where each begins and how many lines it has.
fn functions(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for offset in words(code, "fn") {
        // `fn(u8) -> u8` is a type.
        if !code[offset + 2..].trim_start().starts_with(|c: char| is_word(c)) {
            continue;
        }
        let mut nested = 0;
        let body = code[offset..].char_indices().find_map(|(at, c)| {
            match c {
                '(' | '[' => nested += 1,
                ')' | ']' => nested -= 1,
                '{' if nested == 0 => return Some(Some(offset + at)),
                ';' if nested == 0 => return Some(None),
                _ => {}
            }
            None
        });
        if let Some(Some(open)) = body {
            let end = closing(code, open);
            found.push((offset, 1 + code[offset..end].matches('\n').count()));
        }
    }
    found
}

/// The offset of the brace that closes the one at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, b) in code.bytes().enumerate().skip(open) {
        match b {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Blanks each item under `#[cfg(test)]`.
fn blank_tests(code: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    for (start, _) in code.match_indices("#[cfg(test)]") {
        let item = start + code[start..].find(['{', ';']).unwrap_or(code.len() - start - 1);
        let end = if code.as_bytes()[item] == b'{' { closing(code, item) } else { item };
        blank(&mut bytes, start, end + 1);
    }
    String::from_utf8(bytes).expect("only ASCII was put in, and whole items were blanked")
}

/// Lines that only `blank_tests` emptied: those of the tests.
fn test_lines(with_tests: &str, code: &str) -> usize {
    let mut inside = false;
    let mut count = 0;
    for (before, after) in with_tests.lines().zip(code.lines()) {
        // A blank or comment line counts to whatever stands before it.
        if !before.trim().is_empty() {
            inside = before != after;
        }
        count += usize::from(inside);
    }
    count
}

/// Rust with comments, strings and characters as blanks of the same length, so that offsets and lines stay.
fn blank_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => at + text[at..].find('\n').unwrap_or(text.len() - at),
            b'/' if bytes[at..].starts_with(b"/*") => end_of_block_comment(bytes, at),
            b'"' => end_of_string(bytes, at),
            b'r' if !text[..at].ends_with(is_word) || text[..at].ends_with('b') => end_of_raw_string(text, at),
            b'\'' => end_of_character(text, at),
            _ => at,
        };
        if end > at {
            blank(&mut out, at, end);
        }
        at = end.max(at + 1);
    }
    // A character outside ASCII is blanked byte by byte, so nothing is left half.
    String::from_utf8(out).expect("only whole characters were blanked")
}

fn blank(bytes: &mut [u8], from: usize, to: usize) {
    let to = to.min(bytes.len());
    bytes[from..to].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
}

fn end_of_block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// The end of `r"…"` or `r#"…"#`; `start` itself if it is none.
fn end_of_raw_string(text: &str, start: usize) -> usize {
    let hashes = text[start + 1..].bytes().take_while(|b| *b == b'#').count();
    let open = start + 1 + hashes;
    if text.as_bytes().get(open) != Some(&b'"') {
        return start;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    text[open + 1..].find(&close).map_or(text.len(), |at| open + 1 + at + close.len())
}

/// The end of `'x'` or `'\n'`; `start` itself if it is a lifetime.
fn end_of_character(text: &str, start: usize) -> usize {
    let mut rest = text[start + 1..].char_indices();
    match (rest.next(), rest.next()) {
        (Some((_, '\\')), Some((after, _))) => {
            let from = start + 1 + after + 1;
            text[from..].find('\'').map_or(start, |at| from + at + 1)
        }
        (Some(_), Some((quote, '\''))) => start + 1 + quote + 1,
        _ => start,
    }
}
