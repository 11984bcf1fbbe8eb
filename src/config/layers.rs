//! What was set, and where: the values of the file and of the environment, by key, unchecked.
//!
//! Here a key is found to be unknown or a value of the wrong kind; what a value means is for [`super`] and
//! [`super::values`].

use std::fmt;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::{ConfigError, KEYS, Key};

/// A value before it is checked: what the file holds, or the text of a variable or flag, which may stand for any kind.
pub(super) enum Raw {
    Text(String),
    Integer(i64),
    Texts(Vec<String>),
    Untyped(String),
    Other(&'static str),
}

impl Raw {
    /// A text that is not empty.
    pub(super) fn text(&self) -> Result<String, String> {
        self.parsed(|text| Ok(text.to_owned()))
    }

    pub(super) fn path(&self) -> Result<PathBuf, String> {
        self.parsed(|text| Ok(text.into()))
    }

    pub(super) fn parsed<T>(&self, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
        match self {
            Raw::Text(text) | Raw::Untyped(text) if text.is_empty() => {
                Err("is empty: give it a value or leave it out".to_owned())
            }
            Raw::Text(text) | Raw::Untyped(text) => parse(text),
            other => Err(other.instead_of("a string")),
        }
    }

    /// A list of texts, each by way of `parse`; in a variable its parts are separated by commas.
    pub(super) fn texts(
        &self,
        example: &str,
        parse: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Vec<String>, String> {
        match self {
            Raw::Texts(texts) => texts.iter().map(|text| parse(text)).collect(),
            Raw::Untyped(texts) => texts.split(',').map(|text| parse(text.trim())).collect(),
            other => Err(other.instead_of(&format!("a list such as {example}"))),
        }
    }

    pub(super) fn whole<N: Copy + PartialOrd + fmt::Display + TryFrom<i64>>(
        &self,
        range: std::ops::RangeInclusive<N>,
    ) -> Result<N, String> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let (number, given) = match self {
            Raw::Integer(number) => (Some(*number), number.to_string()),
            Raw::Untyped(text) => (text.parse().ok(), format!("{text:?}")),
            other => return Err(other.instead_of(&wanted)),
        };
        let number = number.and_then(|number| N::try_from(number).ok()).filter(|number| range.contains(number));
        number.ok_or_else(|| format!("{given} is not {wanted}"))
    }

    fn instead_of(&self, wanted: &str) -> String {
        let given = match self {
            Raw::Text(_) | Raw::Untyped(_) => "a string",
            Raw::Integer(_) => "a number",
            Raw::Texts(_) => "a list",
            Raw::Other(kind) => kind,
        };
        format!("expected {wanted}, got {given}")
    }
}

impl From<&DeValue<'_>> for Raw {
    fn from(value: &DeValue<'_>) -> Raw {
        match value {
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Raw::Other("a number out of all ranges"), Raw::Integer),
            DeValue::Array(items) => {
                let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
                Option::map_or(texts, Raw::Other("a list of something else"), Raw::Texts)
            }
            other => Raw::Other(other.type_str()),
        }
    }
}

/// The values of a file with their places, in the order in which they stand there.
pub(super) fn of_file(name: &str, text: &str) -> Result<Vec<(&'static Key, Raw, String)>, ConfigError> {
    let place = |offset: usize| {
        let line = text.as_bytes()[..offset.min(text.len())].split(|&b| b == b'\n').count();
        format!("{name}:{line}")
    };
    let root = DeTable::parse(text)
        .map_err(|error| ConfigError::at(place(error.span().map_or(0, |span| span.start)), error.message()))?;
    let mut leaves = Vec::new();
    flatten(root.get_ref(), "", &mut leaves);
    leaves.sort_by_key(|leaf| leaf.1);
    let known = |(path, offset, value): (String, usize, &DeValue<'_>)| {
        Ok((known(&path, str::to_owned, &place(offset))?, value.into(), place(offset)))
    };
    leaves.into_iter().map(known).collect()
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
            DeValue::Table(_) if super::keys().any(|key| is_within(key, &path)) => {}
            leaf => leaves.push((path, name.span().start, leaf)),
        }
    }
}

fn is_within(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

const ENVIRONMENT_PREFIX: &str = "ONECODE_";

/// The process's variables that are ours.
///
/// # Errors
/// A value that is not UTF-8, by the name of its variable.
pub(super) fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let text = |(name, value): (String, std::ffi::OsString)| match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(ConfigError::at(name, "its value is not UTF-8")),
    };
    named.filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).map(text).collect()
}

/// The key that a variable sets, if it is ours.
pub(super) fn of_variable(variable: &str) -> Result<Option<&'static Key>, ConfigError> {
    let is_ours = variable.strip_prefix(ENVIRONMENT_PREFIX).is_some_and(|name| !is_foreign(name));
    if is_ours { known(variable, variable_of, "environment").map(Some) } else { Ok(None) }
}

fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// Variables that are nobody's typing mistake: those of our own tools, and those that Kubernetes sets in every
/// container beside a Service with the name `onecode` (`enableServiceLinks`).
fn is_foreign(name: &str) -> bool {
    let ours = ["BIN", "LOG", "SESSIONS"];
    let service = name == "SERVICE_HOST" || name == "SERVICE_PORT" || name.starts_with("SERVICE_PORT_");
    ours.contains(&name) || name.starts_with("TEST_") || service || name == "PORT" || name.starts_with("PORT_")
}

/// The key of which `spell` makes this name; of an unknown one is told which key is closest to it: in the section of that
/// name, a few letters away, or the same last part in another section.
pub(super) fn known(name: &str, spell: impl Fn(&str) -> String, place: &str) -> Result<&'static Key, ConfigError> {
    let spelled: Vec<String> = super::keys().map(spell).collect();
    if let Some(index) = spelled.iter().position(|known| known == name) {
        return Ok(&KEYS[index]);
    }
    // The name of a section with a value: meant is one of its keys, and its first one most often.
    let within = spelled.iter().find(|known| is_within(known, name));
    let close = || {
        let nearest = spelled.iter().map(|known| (strsim::levenshtein(name, known), known)).min();
        nearest.filter(|(distance, _)| *distance <= 1 + name.len() / 5).map(|(_, known)| known)
    };
    let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
    let namesake = || spelled.iter().find(|known| last(known) == last(name));
    let hint = match within.or_else(close).or_else(namesake) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "`onecode check-config` prints the known ones".to_owned(),
    };
    Err(ConfigError::at(place, &format!("unknown key {name}; {hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let variables: std::collections::BTreeSet<String> = super::super::keys().map(variable_of).collect();
        assert_eq!(variables.len(), KEYS.len());
        assert!(!variables.iter().any(|name| is_foreign(&name[ENVIRONMENT_PREFIX.len()..])));
    }
}
