//! The EU Digital COVID Certificate: `HC1:`, Base45, zlib, COSE_Sign1, and in it one statement or a few.
//!
//! hcert_spec 1.0.8, in the public repository ehn-dcc-development/hcert-spec. It is read leniently, since its encoding is
//! not ours to dictate: indefinite lengths, any order of keys, and numbers and tags of any form occur in what states have
//! published. What a statement is worth here is said by a [table](Rule), which is data. No name leaves this file.

use std::collections::BTreeMap;
use std::io::Read as _;

use ciborium::Value;
use flate2::read::ZlibDecoder;
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Iso8601;
use time::{Date, OffsetDateTime};

use super::cose::Sign1;
use super::verify::{Claims, Code};
use crate::limits::{DCC_BYTES_MAX, DCC_PAIRS_MAX, DCC_STATEMENTS_MAX};
use crate::words::Status;

/// What every text of this profile begins with.
pub const PREFIX: &[u8; 4] = b"HC1:";

/// What a certificate states, in the order in which it is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "where the name says it")]
pub enum Kind {
    Vaccination,
    Test,
    Recovery,
}

/// A row of the table that makes a status of a statement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What is stated.
    pub kind: Kind,
    /// Fields of the statement and what they must be, by the names of the EU's schema: `dn` and `sd` for a dose of so many,
    /// `tt` and `tr` for a kind of test (LOINC) and its result (SNOMED CT).
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// The age in hours at which it begins to count: since the vaccination, the sample or the first positive test.
    pub from_hours: u64,
    /// The age at which it ends.
    pub to_hours: u64,
    /// What it then counts as.
    pub status: Status,
}

/// The pairs of a map.
type Pairs = Vec<(Value, Value)>;

impl Rule {
    fn holds(&self, kind: Kind, stated: &Pairs, at_unix_s: u64) -> bool {
        let ages = self.from_hours.saturating_mul(3_600)..self.to_hours.saturating_mul(3_600);
        let age_s = |name| at_unix_s.checked_sub(unix_s(&field(stated, name)?)?);
        self.kind == kind
            && self.fields.iter().all(|(name, wanted)| field(stated, name).as_ref() == Some(wanted))
            && ["dt", "sc", "fr"].into_iter().find_map(age_s).is_some_and(|age_s| ages.contains(&age_s))
    }
}

/// Reads what stood behind prefix and Base45. Its status is that of the first row of the table that holds for any of
/// its statements; without one it is unknown.
pub(super) fn read(compressed: &[u8], table: &[Rule], at_unix_s: u64) -> Option<Code<'static>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(compressed).take(DCC_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).ok()?;
    let mut outer = item(&bytes)?;
    // A CWT (RFC 8392 §6) and a COSE_Sign1 (RFC 9052 §2); both tags may be left out.
    for tag in [61, 18] {
        outer = match outer {
            Value::Tag(own, inner) if own == tag => *inner,
            other => other,
        };
    }
    let [protected, unprotected, payload, signature] = <[Value; 4]>::try_from(outer.into_array().ok()?).ok()?;
    let [protected, payload, signature] = [protected.into_bytes(), payload.into_bytes(), signature.into_bytes()];
    let (protected, payload, signature) = (protected.ok()?, payload.ok()?, signature.ok()?);
    let header = if protected.is_empty() { Value::Map(Vec::new()) } else { item(&protected)? };
    // What is protected counts where both have it.
    let headers = [pairs(&header)?, pairs(&unprotected)?];
    let parameter = |label: u8| headers.iter().find_map(|header| get(header, label));
    // It names parameters that must be understood, and none is (RFC 9052 §3.1).
    if parameter(2).is_some() {
        return None;
    }
    let (alg, kid) = (parameter(1)?.as_integer()?.try_into().ok()?, parameter(4)?.as_bytes()?.clone());
    let claims = read_claims(&item(&payload)?, table, at_unix_s)?;
    let (protected, payload, signature, kid) = (protected.into(), payload.into(), signature.into(), kid.into());
    Some(Code { sign1: Sign1 { protected, payload, signature, alg, kid }, is_ours: false, claims })
}

/// A certificate that names no issuer is that of its first statement's country.
fn read_claims(payload: &Value, table: &[Rule], at_unix_s: u64) -> Option<Claims> {
    let claims = pairs(payload)?;
    let certificate = pairs(get(pairs(get(claims, -260)?)?, 1)?)?;
    let mut statements = Vec::new();
    for (key, kind) in [("v", Kind::Vaccination), ("t", Kind::Test), ("r", Kind::Recovery)] {
        // Some issuers write null where there is none.
        let stated = get(certificate, key).and_then(Value::as_array);
        for stated in stated.into_iter().flatten().take(DCC_STATEMENTS_MAX) {
            statements.push((kind, pairs(stated)?));
        }
    }
    let iss = match get(claims, 1) {
        Some(issuer) => untagged(issuer).as_text()?.to_owned(),
        None => field(statements.first()?.1, "co")?,
    };
    let [iat, exp, nbf] = [6, 4, 5].map(|key: u8| get(claims, key).map(seconds));
    let nbf = if let Some(nbf) = nbf { Some(nbf?) } else { None };
    let holds = |rule: &&Rule| statements.iter().any(|(kind, stated)| rule.holds(*kind, stated, at_unix_s));
    let status = table.iter().find(holds).map_or(Status::Unknown, |rule| rule.status);
    Some(Claims { iss, iat: iat??, exp: exp??, nbf, status, ..Claims::default() })
}

/// The one item that `bytes` are. The library bounds its depth.
fn item(mut bytes: &[u8]) -> Option<Value> {
    let within = bytes.len() <= DCC_BYTES_MAX;
    within.then(|| ciborium::from_reader(&mut bytes).ok()).flatten().filter(|_| bytes.is_empty())
}

/// Those of a map with not too many keys, and none of them twice.
fn pairs(map: &Value) -> Option<&Pairs> {
    let pairs = map.as_map().filter(|pairs| pairs.len() <= DCC_PAIRS_MAX)?;
    let is_new = |(at, (key, _)): (usize, &(Value, Value))| pairs[..at].iter().all(|(other, _)| other != key);
    pairs.iter().enumerate().all(is_new).then_some(pairs)
}

fn get(pairs: &Pairs, key: impl Into<Value>) -> Option<&Value> {
    let key = key.into();
    pairs.iter().find(|(own, _)| *own == key).map(|(_, value)| value)
}

/// A text, or a number as one.
fn field(stated: &Pairs, name: &str) -> Option<String> {
    match untagged(get(stated, name)?) {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(i128::from(*number).to_string()),
        _ => None,
    }
}

/// A NumericDate (RFC 8392 §2), tagged or not and with a fraction or without; before 1970 it is 0.
fn seconds(value: &Value) -> Option<u64> {
    match untagged(value) {
        Value::Integer(seconds) => Some(i64::try_from(*seconds).ok()?.max(0) as u64),
        Value::Float(seconds) => Some(*seconds as u64),
        _ => None,
    }
}

fn untagged(mut value: &Value) -> &Value {
    while let Value::Tag(_, inner) = value {
        value = inner;
    }
    value
}

/// Unix seconds of a date with a time and an offset, or else of the beginning of its day in UTC.
fn unix_s(text: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(text, &Iso8601::PARSING).ok();
    let day = || Some(Date::parse(text.get(..10)?, &Iso8601::PARSING).ok()?.midnight().assume_utc());
    u64::try_from(time.or_else(day)?.unix_timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::read::ZlibEncoder;
    use proptest::prelude::*;

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        ZlibEncoder::new(bytes, Compression::fast()).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn nothing_costs_more_than_its_bounds() {
        let deep_maps = [0xa1, 0x01].repeat(DCC_BYTES_MAX / 2);
        let tags = vec![0xc1; DCC_BYTES_MAX];
        let many = [&[0x84, 0x40, 0xb9, 0x7f, 0xff][..], &[0x00; 0xfffe], &[0x40, 0x40]].concat();
        for bytes in [&vec![0; 64 << 20], &deep_maps, &tags, &many] {
            assert!(read(&compressed(bytes), &[], 0).is_none());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(read(&bytes, &[], 0).is_none());
            prop_assert!(read(&compressed(&bytes), &[], 0).is_none());
        }
    }
}
