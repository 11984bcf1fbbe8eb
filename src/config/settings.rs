//! What was set for each key and where: the file, the environment and the flags laid over each other, unchecked.
//!
//! Here a key is found to be unknown or a value of the wrong kind; what a value means is for [`super`] and
//! [`super::values`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::{ConfigError, KEYS, Overrides};

/// Where a value was set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Source {
    File { name: String, line: usize },
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File { name, line } => write!(f, "{name}:{line}"),
            Source::Environment(variable) => f.write_str(variable),
            Source::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A value before it is checked: what the file holds, or the text of a variable or flag, which may stand for any kind.
enum Raw {
    Text(String),
    Integer(i64),
    Texts(Vec<String>),
    Untyped(String),
    Other(&'static str),
}

/// The values set for the keys, the strongest last. Weaker ones are read too, so that a wrong one is not found on the
/// day on which it counts.
#[derive(Default)]
pub(super) struct Settings(BTreeMap<&'static str, Vec<(Raw, Source)>>);

impl Settings {
    pub(super) fn add_file(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let line_of = |offset: usize| text.as_bytes()[..offset.min(text.len())].split(|&b| b == b'\n').count();
        let root = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(span.start));
            ConfigError::File { file: format!("{name}:{line}"), problem: one_line(error.message()) }
        })?;
        let mut leaves = Vec::new();
        flatten(root.get_ref(), "", &mut leaves);
        leaves.sort_by_key(|leaf| leaf.1);
        for (path, offset, value) in leaves {
            let source = Source::File { name: name.to_owned(), line: line_of(offset) };
            let Some(key) = KEYS.into_iter().find(|key| *key == path) else {
                let hint = nearest(&path, KEYS.into_iter()).map(str::to_owned);
                return Err(ConfigError::UnknownKey { place: source.to_string(), key: path, hint });
            };
            self.0.entry(key).or_default().push((raw(value), source));
        }
        Ok(())
    }

    pub(super) fn add_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            if is_foreign(name) {
                continue;
            }
            let Some(key) = KEYS.into_iter().find(|key| variable_of(key) == variable) else {
                let hint = nearest(&variable, KEYS.map(variable_of).iter().map(String::as_str)).map(str::to_owned);
                return Err(ConfigError::UnknownKey { place: "environment".into(), key: one_line(&variable), hint });
            };
            self.0.entry(key).or_default().push((Raw::Untyped(value), Source::Environment(variable)));
        }
        Ok(())
    }

    pub(super) fn add_flags(&mut self, flags: Overrides) -> Result<(), ConfigError> {
        let text = |flag: &'static str, path: Option<PathBuf>| {
            let not_text = |_| ConfigError::File { file: flag.into(), problem: "the path is not UTF-8".into() };
            path.map(|path| path.into_os_string().into_string().map_err(not_text)).transpose()
        };
        let given = [
            ("data", "--data", text("--data", flags.data)?),
            ("keys_dir", "--keys-dir", text("--keys-dir", flags.keys_dir)?),
            ("issuer", "--issuer", flags.issuer),
            ("listen.address", "--listen", flags.listen),
            ("admin.address", "--admin", flags.admin),
            ("runtime.shards", "--shards", flags.shards),
            ("runtime.cpus", "--cpus", flags.cpus),
            ("runtime.driver", "--driver", flags.driver),
        ];
        for (key, flag, value) in given {
            if let Some(value) = value {
                self.0.entry(key).or_default().push((Raw::Untyped(value), Source::Flag(flag)));
            }
        }
        Ok(())
    }

    pub(super) fn is_set(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Where each value that is set was set.
    pub(super) fn into_sources(self) -> BTreeMap<&'static str, Source> {
        self.0.into_iter().filter_map(|(key, mut values)| Some((key, values.pop()?.1))).collect()
    }

    /// The text of a key, never empty.
    pub(super) fn text(&self, key: &'static str) -> Result<Option<String>, ConfigError> {
        self.parsed(key, |text| Ok(text.to_owned()))
    }

    /// The list of texts of a key, each by way of `parse`; in a variable its parts are separated by commas.
    pub(super) fn texts(
        &self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Option<Vec<String>>, ConfigError> {
        self.read(key, |raw| match raw {
            Raw::Texts(texts) => texts.iter().map(|text| parse(text)).collect(),
            Raw::Untyped(texts) => texts.split(',').map(|text| parse(text.trim())).collect(),
            other => Err(expected(&format!("a list such as {example}"), other)),
        })
    }

    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.read(key, |raw| match raw {
            Raw::Text(text) | Raw::Untyped(text) if text.is_empty() => {
                Err("is empty: give it a value or leave it out".to_owned())
            }
            Raw::Text(text) | Raw::Untyped(text) => parse(text),
            other => Err(expected("a string", other)),
        })
    }

    pub(super) fn integer<N: Copy + PartialOrd + fmt::Display + TryFrom<i64>>(
        &self,
        key: &'static str,
        range: std::ops::RangeInclusive<N>,
    ) -> Result<Option<N>, ConfigError> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(key, |raw| {
            let (number, given) = match raw {
                Raw::Integer(number) => (Some(*number), number.to_string()),
                Raw::Untyped(text) => (text.parse().ok(), format!("{text:?}")),
                other => return Err(expected(&wanted, other)),
            };
            let number = number.and_then(|number| N::try_from(number).ok()).filter(|number| range.contains(number));
            number.ok_or_else(|| format!("{given} is not {wanted}"))
        })
    }

    /// The strongest value of a key; all of them must be readable.
    fn read<T>(&self, key: &'static str, read: impl Fn(&Raw) -> Result<T, String>) -> Result<Option<T>, ConfigError> {
        let mut strongest = None;
        for (raw, source) in self.0.get(key).into_iter().flatten() {
            let malformed = |problem: String| ConfigError::Value {
                place: source.to_string(),
                key,
                problem: one_line(&problem),
                malformed: true,
            };
            strongest = Some(read(raw).map_err(malformed)?);
        }
        Ok(strongest)
    }

    /// Refuses the value that counts, which is well-formed, by a rule.
    pub(super) fn refuse(&self, key: &'static str, problem: String) -> ConfigError {
        let strongest = self.0.get(key).and_then(|values| values.last());
        let place = strongest.map_or_else(|| "default".to_owned(), |(_, source)| source.to_string());
        ConfigError::Value { place, key, problem: one_line(&problem), malformed: false }
    }
}

/// All values below `table` with their dotted names and where the name of each begins in the text.
fn flatten<'a>(table: &'a DeTable<'_>, prefix: &str, leaves: &mut Vec<(String, usize, &'a DeValue<'a>)>) {
    for (name, value) in table {
        let bare = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
        let quoted = name.get_ref().is_empty() || !name.get_ref().bytes().all(bare);
        // Quoted as in the file, so that "a.b" is not taken for b in section a.
        let name_shown = if quoted { format!("{:?}", name.get_ref()) } else { name.get_ref().to_string() };
        let path = if prefix.is_empty() { name_shown } else { format!("{prefix}.{name_shown}") };
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => flatten(inner, &path, leaves),
            // An empty section of ours says nothing and is no mistake: it is what is left when all is commented out.
            DeValue::Table(_) if KEYS.iter().any(|key| key.strip_prefix(&path).is_some_and(|k| k.starts_with('.'))) => {
            }
            leaf => leaves.push((path, name.span().start, leaf)),
        }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Raw::Integer(number),
            Err(_) => Raw::Other("a number out of all ranges"),
        },
        DeValue::Array(items) => {
            let texts: Option<Vec<String>> =
                items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
            texts.map_or(Raw::Other("a list of something else"), Raw::Texts)
        }
        other => Raw::Other(other.type_str()),
    }
}

fn expected(wanted: &str, given: &Raw) -> String {
    let given = match given {
        Raw::Text(_) | Raw::Untyped(_) => "a string",
        Raw::Integer(_) => "a number",
        Raw::Texts(_) => "a list",
        Raw::Other(kind) => kind,
    };
    format!("expected {wanted}, got {given}")
}

pub(super) fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// Variables that are nobody's typing mistake: those of our own tools, and those that Kubernetes sets in every
/// container beside a Service with the name `onecode` (`enableServiceLinks`).
pub(super) fn is_foreign(name: &str) -> bool {
    let ours = ["BIN", "LOG", "SESSIONS"];
    let service = name == "SERVICE_HOST" || name == "SERVICE_PORT" || name.starts_with("SERVICE_PORT_");
    ours.contains(&name) || name.starts_with("TEST_") || service || name == "PORT" || name.starts_with("PORT_")
}

/// The candidate closest to `name`: in the section of that name, a few letters away, or the same last part in another
/// section.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    // The name of a section with a value: meant is one of its keys, and its first one most often.
    let within = |path: &&str| path.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    let close = || {
        let near = candidates.clone().map(|candidate| (edit_distance(name, candidate), candidate)).min();
        near.filter(|(distance, _)| *distance <= 1 + name.len() / 5).map(|(_, candidate)| candidate)
    };
    let namesake = || candidates.clone().find(|candidate| last(candidate) == last(name));
    candidates.clone().find(within).or_else(close).or_else(namesake)
}

/// Letters to insert, delete or replace (Levenshtein) between two names.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What our variables begin with.
pub(super) const ENVIRONMENT_PREFIX: &str = "ONECODE_";
