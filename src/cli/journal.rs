//! `onecode journal`: what is in a journal, whether it is whole, and its scans for those who must trace a contact.
//!
//! It only reads, and holds nothing: the server may be running. All that was acknowledged before it began is read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::state;
use super::{Common, Done, Ended, Fatal, counted, parse_time, rfc3339};
use crate::code::claims::Issuer;
use crate::code::keyring::Keyring;
use crate::config::Config;
use crate::journal::recover::segment_path;
use crate::journal::{Entry, Record, reading};

#[derive(clap::Args)]
#[command(after_help = super::with_exit_statuses(
    "It reads what was on disk when it began, all that was acknowledged by then included. Of a journal that is damaged \
     each names file, offset and record on stderr, reads on behind it, and ends with 1; one that is newer than this \
     program is 78."
))]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the segments: their records, times and kinds
    Inspect,
    /// Read everything and check it; an unfinished last append is told, and no damage
    Verify,
    /// Write scans, changes of status or the audit, as CSV or, with --json, NDJSON
    #[command(
        after_help = "Residents are named by resident number, never by ID number; a scan's resident is told where \
                            the keys of this server open its code. A scan that came twice is written once"
    )]
    Export(Export),
}

#[derive(clap::Args)]
struct Export {
    /// What to write
    #[arg(value_enum, default_value_t = What::Scans)]
    what: What,
    /// Only scans at this place
    #[arg(long, value_name = "PLACE")]
    place: Option<String>,
    /// Only about this resident: the resident number, 16 hexadecimal digits
    #[arg(long, value_name = "NUMBER", value_parser = parse_resident)]
    resident: Option<u64>,
    /// Only from this time on (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<u64>,
    /// Only before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: Option<u64>,
    /// Test data too
    #[arg(long)]
    test: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq)]
enum What {
    /// Scans, by the time of the scan
    Scans,
    /// Changes of status, by the time they were accepted
    Statuses,
    /// Operators' calls, by their time
    Audit,
}

fn parse_resident(text: &str) -> Result<u64, &'static str> {
    let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16 && !text.starts_with('+'));
    number.ok_or("not a resident number, which has 16 hexadecimal digits")
}

pub fn run(args: &Args) -> Done {
    let config = args.common.place.load(&[])?;
    state::check_folder(&config.data)?;
    let folder = state::journal_folder(&config.data);
    match &args.command {
        Command::Inspect => inspect(&folder, args.common.json),
        Command::Verify => verify(&folder, args.common.json),
        Command::Export(export) => write_export(&config, &folder, export, args.common.json),
    }
}

#[derive(Default, Serialize)]
struct Segment {
    segment: String,
    first: u64,
    last: u64,
    records: u64,
    test: u64,
    bytes: u64,
    sealed: bool,
    created: String,
    kinds: BTreeMap<&'static str, u64>,
}

/// All segments, the last record of the journal, what is torn of it, and what is damaged.
type Survey = (Vec<Segment>, Option<u64>, Option<String>, Vec<String>);

fn survey(folder: &Path) -> Result<Survey, Ended> {
    let mut segments = BTreeMap::<u64, Segment>::new();
    let each = |entry: &Entry<'_>| {
        let segment = segments.entry(entry.segment).or_default();
        segment.last = entry.stored.sequence;
        segment.records += 1;
        segment.test += u64::from(entry.record.is_test());
        *segment.kinds.entry(entry.record.into()).or_default() += 1;
    };
    let (end, damaged) = reading::read_on(folder, each).map_err(|error| state::journal_refused(folder, &error))?;
    let names = reading::names(folder).map_err(Fatal::File.at(folder.display()))?;
    let newest = names.last().copied();
    for name in names {
        let segment = segments.entry(name).or_default();
        (segment.first, segment.sealed) = (name, newest != Some(name));
        if let Ok(header) = reading::header(folder, name) {
            segment.created = rfc3339(header.created_unix_ms / 1_000);
            segment.sealed |= header.dense.is_some();
        }
        let path = segment_path(folder, name);
        segment.bytes = path.metadata().map_or(0, |file| file.len());
        segment.segment = path.file_name().unwrap_or_default().display().to_string();
    }
    let (last, torn) = (end.as_ref().map(|end| end.next - 1), end.and_then(|end| end.torn));
    let (torn, damaged) = (torn.as_ref().map(state::told_torn), damaged.iter().map(ToString::to_string).collect());
    Ok((segments.into_values().collect(), last, torn, damaged))
}

fn inspect(folder: &Path, json: bool) -> Done {
    let (segments, _, torn, damaged) = survey(folder)?;
    let mut lines = String::new();
    for segment in &segments {
        if json {
            lines += &format!("{}\n", json!(segment));
            continue;
        }
        let kinds: String = segment.kinds.iter().map(|(kind, count)| format!("; {kind} {count}")).collect();
        let Segment { segment: name, first, last, records, test, bytes, sealed, created, .. } = segment;
        let state = if *sealed { "sealed" } else { "open" };
        let records = if *records > 0 { format!("{first} to {last}; test {test}") } else { "no record".to_owned() };
        lines += &format!("{name} {state} {bytes} bytes, since {created}: {records}{kinds}\n");
    }
    super::print(lines.as_bytes())?;
    damaged.iter().chain(&torn).for_each(|what| eprintln!("onecode: journal: {what}"));
    Ok(damaged.is_empty())
}

fn verify(folder: &Path, json: bool) -> Done {
    let (segments, last, torn, damaged) = survey(folder)?;
    let records: u64 = segments.iter().map(|segment| segment.records).sum();
    let damage = (!damaged.is_empty()).then(|| damaged.join("; "));
    let result = if damage.is_some() { "damaged" } else { torn.as_ref().map_or("clean", |_| "torn") };
    let told = if json {
        json!({ "result": result, "segments": segments.len(), "records": records, "last": last, "torn": torn, "damage": damage })
            .to_string()
    } else {
        let what = damage.or(torn).map_or_else(String::new, |what| format!("; {what}"));
        format!("{result}: {}, {}{what}", counted(records, "record"), counted(segments.len() as u64, "segment"))
    };
    super::print(format!("{told}\n").as_bytes())?;
    Ok(result != "damaged")
}

/// A code is used within so many seconds of when it was made: what a foreign code opens to is further off.
const CODE_AGE_S_MAX: u64 = 86_400;

fn write_export(config: &Config, folder: &Path, export: &Export, json: bool) -> Done {
    let issuer = Keyring::open(&config.keys_dir).ok().and_then(|keyring| Issuer::new(&keyring, &config.issuer).ok());
    if issuer.is_none() && export.what == What::Scans {
        let wrong = "no keys, and --resident needs them";
        Fatal::Configuration.unless(export.resident.is_none(), config.keys_dir.display(), wrong)?;
        eprintln!("onecode: journal: {}: no keys: the residents of scans are not told", config.keys_dir.display());
    }
    let fields = export.what.fields();
    let mut lines = BufWriter::new(io::stdout());
    let mut csv = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(io::stdout());
    let (mut seen, mut written) = (Seen::default(), if json { Ok(()) } else { csv.write_record(fields) });
    let read = reading::read_on(folder, |entry| {
        let told = written.is_ok() && (export.test || !entry.record.is_test());
        let row = told.then(|| export.row(&entry.record, issuer.as_ref(), &mut seen)).flatten();
        written = match row {
            None => return,
            Some(row) if json => writeln!(lines, "{row}").map_err(Into::into),
            Some(row) => csv.write_record(fields.iter().map(|field| cell(&row[*field]))),
        };
    });
    let flushed = written.map_err(io::Error::from).and_then(|()| lines.flush()).and_then(|()| csv.flush());
    flushed.map_err(Fatal::File.at("standard output"))?;
    let (_, damaged) = read.map_err(|error| state::journal_refused(folder, &error))?;
    damaged.iter().for_each(|what| eprintln!("onecode: journal: {what}"));
    Ok(damaged.is_empty())
}

impl What {
    fn fields(self) -> &'static [&'static str] {
        match self {
            What::Scans => &["at", "place", "result", "resident", "cti", "id", "device", "received", "test"],
            What::Statuses => &["at", "resident", "status", "version", "removed", "region", "author", "reason", "test"],
            What::Audit => &["at", "author", "action", "detail"],
        }
    }
}

/// What was told already, as far as what follows depends on it.
#[derive(Default)]
struct Seen {
    scans: HashSet<[u8; 16]>,
    /// By resident, the version that stands.
    versions: HashMap<u64, u64>,
}

impl Export {
    /// What is told of a record, by the names of the fields; `None` if it is not asked for, or no news.
    fn row(&self, record: &Record<'_>, issuer: Option<&Issuer>, seen: &mut Seen) -> Option<Value> {
        let in_time = |ms: u64| {
            self.from.is_none_or(|from| ms >= from.saturating_mul(1_000))
                && self.to.is_none_or(|to| ms < to.saturating_mul(1_000))
        };
        let is_them = |number: Option<u64>| self.resident.is_none_or(|wanted| number == Some(wanted));
        let at_place = |place: Option<&str>| self.place.as_deref().is_none_or(|wanted| place == Some(wanted));
        match *record {
            Record::Scan { id, at_ms, received_ms, cti, result, place, device, test } if self.what == What::Scans => {
                let resident = issuer.and_then(|issuer| {
                    let opened = issuer.open_cti(&cti);
                    let age_s = (at_ms / 1_000).checked_sub(u64::from(opened.iat).saturating_sub(CODE_AGE_S_MAX))?;
                    (age_s <= 2 * CODE_AGE_S_MAX).then_some(opened.resident.0)
                });
                let told = at_place(Some(place)) && in_time(at_ms) && is_them(resident) && seen.scans.insert(id);
                let resident = resident.map(|number| format!("{number:016x}"));
                told.then(|| json!({
                    "at": time(at_ms), "place": place, "result": result, "resident": resident, "cti": hex::encode(cti),
                    "id": hex::encode(id), "device": device, "received": time(received_ms), "test": test,
                }))
            }
            Record::Status { resident, version, status, remove, test, region, at_ms, author, reason, .. }
                if self.what == What::Statuses && is_them(Some(resident.0)) =>
            {
                // One that changes nothing was answered `ignored`.
                let known = seen.versions.entry(resident.0).or_default();
                let is_news = version > std::mem::replace(known, version.max(*known));
                let (resident, word) = (format!("{:016x}", resident.0), (!remove).then_some(status));
                (is_news && at_place(None) && in_time(at_ms)).then(|| {
                    json!({
                        "at": time(at_ms), "resident": resident, "status": word, "version": version, "removed": remove,
                        "region": region, "author": author, "reason": reason, "test": test,
                    })
                })
            }
            Record::Audit { at_ms, author, action, detail } if self.what == What::Audit => {
                let told = at_place(None) && is_them(None) && in_time(at_ms);
                told.then(|| json!({ "at": time(at_ms), "author": author, "action": action, "detail": detail }))
            }
            _ => None,
        }
    }
}

const FORMULA_BEGINS: [char; 10] = ['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠'];

/// A value in CSV. A spreadsheet runs what begins as a formula, even behind what it passes over (OWASP, "CSV Injection").
fn cell(value: &Value) -> String {
    let is_passed_over = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
    let is_formula = |text: &str| {
        [text, text.trim_start_matches(is_passed_over)].iter().any(|text| text.starts_with(FORMULA_BEGINS))
    };
    match value {
        Value::String(text) if is_formula(text) => format!("'{text}"),
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// To the millisecond, in UTC.
fn time(unix_ms: u64) -> String {
    rfc3339(unix_ms / 1_000).replace('Z', &format!(".{:03}Z", unix_ms % 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_begins_as_a_formula_does() {
        for text in
            ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", " +1", "\0=1", "\u{feff}@1", "\u{3000}＝1", "＝1"]
        {
            assert_eq!(cell(&text.into()), format!("'{text}"));
        }
        for (value, written) in
            [("Door 7 = A".into(), "Door 7 = A"), (Value::Null, ""), (7.into(), "7"), (true.into(), "true")]
        {
            assert_eq!(cell(&value), written);
        }
    }
}
