//! What was set, and where: the values of the file and of the environment, by key, unchecked.
//!
//! Here a key is found unknown or a value of the wrong kind; what it means is for [`super`] and [`super::values`].

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use toml::de::{DeTable, DeValue};

use super::{KEYS, Key, refused};
use crate::words::Ended;

/// A value before it is checked, as the text that it has in a variable or as a flag, where a list has commas.
pub(super) struct Raw(pub(super) String);

impl Raw {
    fn of_file(value: &DeValue<'_>) -> Option<Raw> {
        Some(Raw(match value {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.to_string(),
            DeValue::Array(items) => {
                items.iter().map(|item| item.get_ref().as_str()).collect::<Option<Vec<&str>>>()?.join(",")
            }
            _ => return None,
        }))
    }

    /// A text that is not empty.
    pub(super) fn text(&self) -> Result<String, String> {
        self.parsed(|text| Ok(text.to_owned()))
    }

    pub(super) fn path(&self) -> Result<PathBuf, String> {
        self.parsed(|text| Ok(text.into()))
    }

    pub(super) fn parsed<T>(&self, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
        match &*self.0 {
            "" => Err("is empty: give it a value or leave it out".to_owned()),
            text => parse(text),
        }
    }

    /// A list of texts, each by way of `parse`.
    pub(super) fn texts(&self, parse: impl Fn(&str) -> Result<String, String>) -> Result<Vec<String>, String> {
        self.0.split_terminator(',').map(|text| parse(text.trim())).collect()
    }

    pub(super) fn whole<N: PartialOrd + Display + FromStr>(&self, range: RangeInclusive<N>) -> Result<N, String> {
        let text = &self.0;
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("{text:?} is not a whole number from {} to {}", range.start(), range.end()))
    }
}

/// Gives the values of a file to `each`, with their keys and places.
pub(super) fn of_file(
    name: &str,
    text: &str,
    mut each: impl FnMut(&'static Key, &Raw, String) -> Result<(), Ended>,
) -> Result<(), Ended> {
    let place = |offset: usize| {
        let line = text.as_bytes()[..offset.min(text.len())].split(|&b| b == b'\n').count();
        format!("{name}:{line}")
    };
    let root = DeTable::parse(text)
        .map_err(|error| refused(place(error.span().map_or(0, |span| span.start)), error.message()))?;
    let mut leaves = Vec::new();
    flatten(root.get_ref(), "", &mut leaves);
    leaves.sort_by_key(|(_, offset, _)| *offset);
    leaves.into_iter().try_for_each(|(path, offset, value)| {
        let place = place(offset);
        let key = known(&path, str::to_owned, &place)?;
        let kinds = "expected a string, a whole number, or a list of strings";
        let raw = Raw::of_file(value).ok_or_else(|| refused(format_args!("{place}: {path}"), kinds))?;
        each(key, &raw, place)
    })
}

/// All values below `table` with their dotted names and where the name of each begins in the text.
fn flatten<'a>(table: &'a DeTable<'_>, prefix: &str, leaves: &mut Vec<(String, usize, &'a DeValue<'a>)>) {
    for (name, value) in table {
        let path = format!("{prefix}{}", name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => flatten(inner, &format!("{path}."), leaves),
            leaf => leaves.push((path, name.span().start, leaf)),
        }
    }
}

const ENVIRONMENT_PREFIX: &str = "ONECODE_";

/// How variables of others begin behind our prefix: those of our own tools, and those that Kubernetes sets in every
/// container beside a Service with the name `onecode` (`enableServiceLinks`).
const FOREIGN: [&str; 6] = ["BIN", "LOG", "SESSIONS", "TEST_", "SERVICE_", "PORT"];

/// The process's variables that set a key.
pub(super) fn environment() -> Result<Vec<(String, String)>, Ended> {
    let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let text = |(name, value): (String, std::ffi::OsString)| match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(refused(name, "its value is not UTF-8")),
    };
    named.filter(|(name, _)| is_ours(name)).map(text).collect()
}

pub(super) fn is_ours(variable: &str) -> bool {
    let name = variable.strip_prefix(ENVIRONMENT_PREFIX);
    name.is_some_and(|name| !FOREIGN.iter().any(|foreign| name.starts_with(foreign)))
}

/// The variable that sets a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// The key of which `spell` makes this name.
pub(super) fn known(name: &str, spell: impl Fn(&str) -> String, place: &str) -> Result<&'static Key, Ended> {
    let unknown = || refused(place, &format!("unknown key {name}; `onecode check-config` prints the known ones"));
    KEYS.iter().find(|(key, ..)| spell(key) == name).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let variables: std::collections::BTreeSet<String> = super::super::keys().map(variable_of).collect();
        assert_eq!(variables.len(), KEYS.len());
        assert!(variables.iter().all(|name| is_ours(name)));
    }
}
