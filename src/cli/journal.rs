//! `onecode journal`: what is in the journal of a data folder, whether it is whole, and its scans and status changes
//! for those who must trace a contact.
//!
//! All of it only reads, and takes no hold of the folder: the server may be running. Every record that was acknowledged
//! before the command began is read.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};

use super::keys::rfc3339;
use super::state::{self, hex};
use super::verify::parse_time;
use super::{Ended, Fatal, Place, counted};
use crate::code::claims::Issuer;
use crate::code::keyring::Keyring;
use crate::config::Config;
use crate::journal::segment::HeaderError;
use crate::journal::{End, Record, RecoverError, reading};
use crate::words::Status;

/// Inspect, verify or export the journal; the server may be running.
#[derive(clap::Args)]
#[command(after_help = "It reads what was on disk when it began, all that was acknowledged by then included.\n\
                        Exit status: 0 done; 1 verify: the journal is damaged (file, offset and record are named); \
                        2 wrong usage; 74 a file cannot be read; 78 a journal that is damaged, or newer than this \
                        program")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the segments: their records, times and kinds
    Inspect,
    /// Read everything and check it; an unfinished last append is told, and no damage
    Verify,
    /// Write scans, or changes of status, as CSV or NDJSON
    #[command(
        after_help = "Residents are named by resident number, never by ID number; a scan's resident is told where \
                            the keys of this server open its code. A scan that came twice is written once. All that \
                            a removal of test data covers is left out always"
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
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq)]
enum What {
    /// Scans, by the time of the scan
    Scans,
    /// Changes of status, by the time they were accepted
    Statuses,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq)]
enum Format {
    Csv,
    Ndjson,
}

fn parse_resident(text: &str) -> Result<u64, &'static str> {
    let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16 && !text.starts_with('+'));
    number.ok_or("not a resident number, which has 16 hexadecimal digits")
}

pub fn run(args: Args) -> ExitCode {
    let done = args.place.load(&[]).and_then(|config| match args.command {
        Command::Inspect => inspect(&config, args.json),
        Command::Verify => verify(&config, args.json),
        Command::Export(export) => write_export(&config, &export),
    });
    done.unwrap_or_else(|(fatal, reason)| fatal.because(format_args!("journal: {reason}")))
}

/// What is told of a segment.
#[derive(Default, Serialize)]
struct Segment {
    first: u64,
    last: u64,
    records: u64,
    test: u64,
    bytes: u64,
    sealed: bool,
    created: String,
    kinds: BTreeMap<&'static str, u64>,
}

fn kind(record: &Record<'_>) -> &'static str {
    match record {
        Record::Status { .. } => "status",
        Record::Sessions { .. } => "sessions",
        Record::Scan { .. } => "scan",
        Record::Audit { .. } => "audit",
        Record::PurgeTest { .. } => "purge",
    }
}

/// Segments by the names of their files, and how the reading ended.
type Survey = (Vec<(String, Segment)>, Result<End, RecoverError>);

/// Everything in the journal.
fn survey(config: &Config) -> Result<Survey, Ended> {
    let folder = state::journal_folder(&config.data);
    state::check_folder(&config.data)?;
    let mut segments: BTreeMap<u64, Segment> = BTreeMap::new();
    let end = reading::read(&folder, None, |entry| {
        let segment = segments.entry(entry.segment).or_default();
        segment.last = entry.stored.sequence;
        segment.records += 1;
        segment.test += u64::from(entry.record.is_test());
        *segment.kinds.entry(kind(&entry.record)).or_default() += 1;
    });
    let names = reading::names(&folder).map_err(Fatal::File.at(folder.display()))?;
    let newest = names.last().copied();
    for name in names {
        let segment = segments.entry(name).or_default();
        (segment.first, segment.sealed) = (name, newest != Some(name));
        if let Ok(header) = reading::header(&folder, name) {
            segment.created = rfc3339(header.created_unix_ms / 1_000);
            segment.sealed |= header.dense.is_some();
        }
        let path = crate::journal::recover::segment_path(&folder, name);
        segment.bytes = path.metadata().map_or(0, |file| file.len());
    }
    let named = |(name, segment)| (format!("{name:016x}.log"), segment);
    Ok((segments.into_iter().map(named).collect(), end))
}

fn inspect(config: &Config, json: bool) -> Result<ExitCode, Ended> {
    let (segments, end) = survey(config)?;
    let mut lines = Vec::new();
    for (name, segment) in &segments {
        if json {
            let mut told = serde_json::to_value(segment).unwrap_or_default();
            told["segment"] = name.as_str().into();
            lines.push(told.to_string());
            continue;
        }
        let kinds: Vec<String> = segment.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let Segment { first, last, records, test, bytes, sealed, created, .. } = segment;
        let state = if *sealed { "sealed" } else { "open" };
        let range = if *records == 0 { "empty".to_owned() } else { format!("{first} to {last}") };
        lines
            .push(format!("{name} {state} {bytes} bytes, since {created}: {range}; test {test}; {}", kinds.join(", ")));
    }
    say(&lines)?;
    match end {
        Ok(end) => {
            end.torn.iter().for_each(|torn| eprintln!("onecode: journal: {}", state::told_torn(torn)));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(state::journal_refused(&state::journal_folder(&config.data), &error)),
    }
}

fn verify(config: &Config, json: bool) -> Result<ExitCode, Ended> {
    let (segments, end) = survey(config)?;
    let records: u64 = segments.iter().map(|(_, segment)| segment.records).sum();
    let told = match &end {
        Ok(end) => json!({ "result": if end.torn.is_some() { "torn" } else { "clean" }, "segments": segments.len(),
            "records": records, "last": end.next - 1, "torn": end.torn.as_ref().map(state::told_torn) }),
        Err(error @ (RecoverError::Damaged { .. } | RecoverError::Gap { .. } | RecoverError::Header { .. }))
            if !matches!(error, RecoverError::Header { error: HeaderError::Version(_), .. }) =>
        {
            json!({ "result": "damaged", "segments": segments.len(), "records": records, "damage": error.to_string() })
        }
        Err(error) => return Err(state::journal_refused(&state::journal_folder(&config.data), error)),
    };
    let text = |member: &str| told[member].as_str().map(str::to_owned);
    let in_words = || {
        let what = text("damage").or_else(|| text("torn")).map_or_else(String::new, |what| format!("; {what}"));
        format!(
            "{}: {}, {}{what}",
            text("result").unwrap_or_default(),
            counted(records, "record"),
            counted(segments.len() as u64, "segment")
        )
    };
    say(&[if json { told.to_string() } else { in_words() }])?;
    Ok(ExitCode::from(u8::from(end.is_err())))
}

fn say(lines: &[String]) -> Result<(), Ended> {
    super::print(lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes())
}

const SCAN_FIELDS: [&str; 9] = ["at", "place", "result", "resident", "cti", "id", "device", "received", "test"];
const STATUS_FIELDS: [&str; 9] =
    ["at", "resident", "status", "version", "removed", "region", "author", "reason", "test"];

/// A code is used within so many seconds of when it was made: what a foreign code opens to is further off.
const CODE_AGE_S_MAX: u64 = 86_400;

fn write_export(config: &Config, export: &Export) -> Result<ExitCode, Ended> {
    let folder = state::journal_folder(&config.data);
    state::check_folder(&config.data)?;
    if export.what == What::Statuses && export.place.is_some() {
        return Err((Fatal::Usage, "--place is of scans; changes of status have none".to_owned()));
    }
    let issuer = Keyring::open(&config.keys_dir).ok().and_then(|keyring| Issuer::new(&keyring, &config.issuer).ok());
    if issuer.is_none() && export.what == What::Scans {
        if export.resident.is_some() {
            let reason = format!("{}: no keys, and --resident needs them", config.keys_dir.display());
            return Err((Fatal::Configuration, reason));
        }
        eprintln!("onecode: journal: {}: no keys: the residents of scans are not told", config.keys_dir.display());
    }
    let mut purged = 0;
    let refused = |error: RecoverError| state::journal_refused(&folder, &error);
    if export.test {
        reading::read(&folder, None, |entry| {
            if matches!(entry.record, Record::PurgeTest { .. }) {
                purged = entry.stored.sequence;
            }
        })
        .map_err(refused)?;
    }
    let mut out = Output::new(export);
    let mut failed = None;
    let end = reading::read(&folder, None, |entry| {
        let record = &entry.record;
        if failed.is_none() && (!record.is_test() || (export.test && entry.stored.sequence > purged)) {
            failed = out.take(record, issuer.as_ref()).err();
        }
    });
    let failed_output = Fatal::File.at("standard output");
    out.flush().map_err(&failed_output)?;
    end.map_err(refused)?;
    failed.map_or(Ok(ExitCode::SUCCESS), |error| Err(failed_output(error)))
}

/// What an export writes to.
struct Output<'a> {
    export: &'a Export,
    /// One of the two is used.
    csv: csv::Writer<io::Stdout>,
    lines: BufWriter<io::Stdout>,
    /// Scans that are written already.
    seen: HashSet<[u8; 16]>,
    headed: bool,
}

impl Output<'_> {
    fn new(export: &Export) -> Output<'_> {
        let (csv, lines) = (csv::Writer::from_writer(io::stdout()), BufWriter::new(io::stdout()));
        Output { export, csv, lines, seen: HashSet::new(), headed: false }
    }

    fn take(&mut self, record: &Record<'_>, issuer: Option<&Issuer>) -> io::Result<()> {
        let (what, wanted) = (self.export.what, self.export);
        let in_time = |ms: u64| {
            wanted.from.is_none_or(|from| ms >= from.saturating_mul(1_000))
                && wanted.to.is_none_or(|to| ms < to.saturating_mul(1_000))
        };
        let is_them = |number: Option<u64>| wanted.resident.is_none_or(|wanted| number == Some(wanted));
        match *record {
            Record::Scan { id, at_ms, received_ms, cti, result, place, device, test } if what == What::Scans => {
                let resident = issuer.and_then(|issuer| {
                    let opened = issuer.open_cti(&cti);
                    let age_s = (at_ms / 1_000).checked_sub(u64::from(opened.iat).saturating_sub(CODE_AGE_S_MAX))?;
                    (age_s <= 2 * CODE_AGE_S_MAX).then_some(opened.resident.0)
                });
                let at_place = wanted.place.as_deref().is_none_or(|wanted| wanted == place);
                if !at_place || !in_time(at_ms) || !is_them(resident) || !self.seen.insert(id) {
                    return Ok(());
                }
                let values = [
                    time(at_ms),
                    place.into(),
                    result.into(),
                    resident.map(|number| format!("{number:016x}")).into(),
                    hex(&cti).into(),
                    hex(&id).into(),
                    device.into(),
                    time(received_ms),
                    test.into(),
                ];
                self.write(&SCAN_FIELDS, values)
            }
            Record::Status { resident, version, status, remove, test, region, at_ms, author, reason, .. }
                if what == What::Statuses =>
            {
                if !in_time(at_ms) || !is_them(Some(resident.0)) {
                    return Ok(());
                }
                let status = (!remove).then_some(Status::word(status));
                let values = [
                    time(at_ms),
                    format!("{:016x}", resident.0).into(),
                    status.into(),
                    version.into(),
                    remove.into(),
                    region.into(),
                    author.into(),
                    reason.into(),
                    test.into(),
                ];
                self.write(&STATUS_FIELDS, values)
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, fields: &[&str; 9], values: [Value; 9]) -> io::Result<()> {
        if self.export.format == Format::Ndjson {
            let object: serde_json::Map<String, Value> =
                fields.iter().map(|field| (*field).to_owned()).zip(values).collect();
            // Never through the writer of CSV, whose quotes these lines would get.
            return self.lines.write_all(format!("{}\n", Value::Object(object)).as_bytes());
        }
        self.head(fields)?;
        let text = |value: Value| match value {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        };
        self.csv.write_record(values.map(text)).map_err(io::Error::other)
    }

    /// The names of the columns, once.
    fn head(&mut self, fields: &[&str; 9]) -> io::Result<()> {
        if std::mem::replace(&mut self.headed, true) {
            return Ok(());
        }
        self.csv.write_record(fields).map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.export.format == Format::Csv {
            self.head(if self.export.what == What::Scans { &SCAN_FIELDS } else { &STATUS_FIELDS })?;
        }
        self.csv.flush()?;
        self.lines.flush()
    }
}

/// To the millisecond, in UTC.
fn time(unix_ms: u64) -> Value {
    let seconds = rfc3339(unix_ms / 1_000);
    match seconds.strip_suffix('Z') {
        Some(seconds) => format!("{seconds}.{:03}Z", unix_ms % 1_000).into(),
        None => unix_ms.into(),
    }
}
