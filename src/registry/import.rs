//! Merges a CSV file into the registry: each row says what one resident's status is since when.
//!
//! A header row is required: `id_number,status,updated_at` and, where wanted, `region` and `test`, in any order. Fields
//! may be quoted, lines end in LF or CRLF, a byte order mark is skipped. No field has a comma, quote or line end in it,
//! so a row is a line, and an open quote spoils that one only. After a wrong row the rest goes on; a file of another
//! shape is refused before anything is merged. The text of a field never comes back out: it may be an ID number.
//!
//! **Encoding.** UTF-8 and GB18030 need not be told apart. The bytes that mean something to CSV (comma, quote, CR, LF)
//! are part of no longer character in either: the later bytes of one in GB18030 are 0x30 to 0x39 or above 0x3f. Every
//! field but the status is ASCII, and the status words are matched in both: no word of one is a word of the other.
//!
//! **Merging.** The version of a statement is `updated_at` in Unix milliseconds. Of two about one resident the newer
//! stands, as a whole; of two of the same instant that differ, the stricter (red, yellow, green, unknown; then the
//! greater region; then test). So the order of rows, and of files with the same columns, does not matter. A column
//! that a file does not have leaves what the registry holds; an empty field says "none". Sessions are never touched.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::RangeInclusive;

use derive_more::From;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::id_number::{HashKey, IdNumber};
use super::table::{Record, Table};
use crate::limits::IMPORT_ROW_BYTES_MAX;
use crate::words::{Ended, Fatal, ResidentNumber, Status};

/// How a file is taken.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Newer rows replace what the registry holds, which otherwise stays.
    Merge,
    /// The file is the whole as of its newest row: who is not in it is gone, unless something newer than that is held
    /// of them; who is in it keeps what is as new as their row, else only the session number.
    Replace,
}

/// What became of the rows: `rows`, without header and empty lines, is the sum of the others but `removed` and `kept`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[allow(missing_docs, reason = "where the name says it")]
pub struct Report {
    pub rows: u64,
    /// About somebody not in the registry before, nor in a row above.
    pub inserted: u64,
    /// Newer than what was held.
    pub updated: u64,
    /// Older than what was held: ignored.
    pub older: u64,
    /// Says what was held: a repeated row, or a file taken again.
    pub duplicates: u64,
    /// Of the very version that was held, and says something else: the stricter stands.
    pub conflicts: u64,
    pub rejected: u64,
    /// Residents that were in the registry and are not in the file, when it replaces.
    pub removed: u64,
    /// Such residents of whom something is held that is newer than all of the file: they stay.
    pub kept: u64,
}

/// Merges `input` into `held` and returns the registry that results. A row of which `updated_at` is not within
/// `versions`, in Unix milliseconds, is wrong. `rows_expected` need not be right. Wrong rows go to `reject`: the
/// line of the file, from 1, the column (empty when it is the row), and why, which has no text of the file in it.
/// Errors: the file is refused as a whole, and `held` is to be taken as unchanged: load it again.
pub fn import(
    input: impl Read,
    held: Table,
    mode: Mode,
    key: &HashKey,
    versions: RangeInclusive<u64>,
    rows_expected: usize,
    reject: &mut dyn FnMut(u64, &'static str, &str) -> io::Result<()>,
) -> Result<(Table, Report), ImportError> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let (mut row, mut line) = (Vec::new(), 1);
    let mut read = |line: u64, row: &mut Vec<u8>| {
        let place = format_args!("cannot be read beyond line {line}");
        read_line(&mut input, IMPORT_ROW_BYTES_MAX, row).map_err(Fatal::File.at(place))
    };
    read(line, &mut row)?;
    let shape = "the first row is not a header id_number,status,updated_at[,region,test]";
    let columns = Columns::of_header(&row).map_err(Fatal::Configuration.at(shape))?;
    let seen = matches!(mode, Mode::Replace).then(|| Vec::with_capacity(rows_expected));
    let mut merger = Merger { table: held, seen, newest: 0, columns, versions, report: Report::default() };
    loop {
        line += 1;
        if !read(line, &mut row)? {
            return Ok(merger.finish()?);
        }
        if row.is_empty() {
            continue;
        }
        merger.make_room()?;
        merger.report.rows += 1;
        if let Err((column, reason)) = merger.take(&row, key) {
            merger.report.rejected += 1;
            reject(line, column, &reason)?;
        }
    }
}

/// Reads a line without its end, and of one of more than `bytes_max` as much as shows it. False at the end of input.
pub(crate) fn read_line(input: &mut impl BufRead, bytes_max: u64, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if input.by_ref().take(bytes_max + 1).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.pop_if(|last| *last == b'\n').is_none() {
        input.skip_until(b'\n')?;
    }
    line.pop_if(|last| *last == b'\r');
    Ok(true)
}

fn fields(row: &[u8]) -> Vec<&[u8]> {
    row.split(|byte| *byte == b',')
        .map(|field| if let [b'"', inner @ .., b'"'] = field { inner } else { field })
        .collect()
}

struct Merger {
    table: Table,
    /// Who is in a file that replaces.
    seen: Option<Vec<u64>>,
    /// The greatest version of a row.
    newest: u64,
    columns: Columns,
    versions: RangeInclusive<u64>,
    report: Report,
}

impl Merger {
    fn take(&mut self, row: &[u8], key: &HashKey) -> Result<(), (&'static str, String)> {
        let mut new = self.columns.record(row, key)?;
        if !self.versions.contains(&new.version) {
            let range = "before the year 2000 or more than a day from now; Unix times are in milliseconds";
            return Err(("updated_at", range.to_owned()));
        }
        self.newest = self.newest.max(new.version);
        let held = self.table.read(new.resident);
        if held.is_some_and(|held| held.check != new.check) {
            return Err(("id_number", "another ID number has the same resident number".to_owned()));
        }
        self.seen.iter_mut().for_each(|seen| seen.push(new.resident.0));
        let Some(held) = held else {
            let removed = self.table.removed(new.resident);
            if removed.is_some_and(|removed| removed.version >= new.version) {
                self.report.older += 1;
                return Ok(());
            }
            new.session = removed.map_or(0, |removed| removed.session);
            self.report.inserted += 1;
            self.table.write(&new).expect("room was made before this row");
            return Ok(());
        };
        new.session = held.session;
        let stays = self.seen.is_none() || new.version == held.version;
        if stays && !self.columns.0.contains(&REGION) {
            new.region = held.region;
        }
        if stays && !self.columns.0.contains(&TEST) {
            new.test = held.test;
        }
        let strictness = |record: &Record| (record.version, record.status as u8, record.region, record.test);
        match new.version.cmp(&held.version) {
            std::cmp::Ordering::Less => self.report.older += 1,
            std::cmp::Ordering::Greater => self.report.updated += 1,
            std::cmp::Ordering::Equal if new == held => self.report.duplicates += 1,
            std::cmp::Ordering::Equal => self.report.conflicts += 1,
        }
        if strictness(&new) > strictness(&held) {
            self.table.write(&new).expect("room was made before this row");
        }
        Ok(())
    }

    fn make_room(&mut self) -> Result<(), Ended> {
        if self.table.used() == self.table.capacity {
            let larger = Table::new(self.table.capacity * 2 + 1_000)?;
            larger.fill(self.table.rows());
            self.table = larger;
        }
        Ok(())
    }

    fn finish(self) -> Result<(Table, Report), Ended> {
        let Merger { table, newest, mut report, .. } = self;
        let Some(mut seen) = self.seen else { return Ok((table, report)) };
        seen.sort_unstable();
        let whole = Table::new(table.capacity)?;
        whole.fill(table.rows().filter(|[number, _, version, ..]| {
            let is_gone = seen.binary_search(number).is_err() && table.read(ResidentNumber(*number)).is_some();
            report.kept += u64::from(is_gone && *version > newest);
            report.removed += u64::from(is_gone && *version <= newest);
            !is_gone || *version > newest
        }));
        Ok((whole, report))
    }
}

/// Which of [`NAMES`] a file has, in its order.
struct Columns(Vec<usize>);

impl Columns {
    /// Names no column that is not ours: a file without a header has a person's row in its place.
    fn of_header(header: &[u8]) -> Result<Columns, String> {
        // The byte order mark in UTF-8 and in GB18030.
        let marks = [&b"\xef\xbb\xbf"[..], b"\x84\x31\x95\x33"];
        let names = fields(marks.iter().find_map(|mark| header.strip_prefix(*mark)).unwrap_or(header));
        let mut columns = Vec::new();
        for (place, name) in names.into_iter().enumerate() {
            let column = NAMES.iter().position(|known| known.as_bytes() == name);
            let column = column.ok_or_else(|| format!("column {} of the first row is none of them", place + 1))?;
            if columns.contains(&column) {
                return Err(format!("{} is there twice", NAMES[column]));
            }
            columns.push(column);
        }
        match (0..REGION).find(|column| !columns.contains(column)) {
            Some(column) => Err(format!("{} is missing", NAMES[column])),
            None => Ok(Columns(columns)),
        }
    }

    fn record(&self, row: &[u8], key: &HashKey) -> Result<Record, (&'static str, String)> {
        if row.len() as u64 > IMPORT_ROW_BYTES_MAX {
            return Err(("", format!("more than {IMPORT_ROW_BYTES_MAX} bytes")));
        }
        let fields = fields(row);
        if fields.len() != self.0.len() {
            return Err(("", format!("{} fields, expected {}", fields.len(), self.0.len())));
        }
        let mut values = [&b""[..]; NAMES.len()];
        self.0.iter().zip(fields).for_each(|(column, field)| values[*column] = field);
        let [id_number, said, updated_at, area, mark] = values;
        let wrong = |column: &'static str, reason: &'static str| move || (column, reason.to_owned());
        let id_number = IdNumber::parse(id_number).map_err(|reason| ("id_number", reason))?;
        let status = status(said).ok_or_else(wrong("status", "not one of green yellow red unknown 绿 黄 红"))?;
        let version = version(updated_at).ok_or_else(wrong("updated_at", "neither RFC 3339 nor Unix milliseconds"))?;
        let region = region(area).ok_or_else(wrong("region", "not the 6 digits of a GB/T 2260 area"))?;
        let test = test(mark).ok_or_else(wrong("test", "not one of true false 1 0"))?;
        let (resident, check) = key.number(&id_number);
        Ok(Record { resident, check, version, status, removed: false, test, session: 0, region })
    }
}

fn status(field: &[u8]) -> Option<Status> {
    match field {
        b"green" | b"\xe7\xbb\xbf" | b"\xc2\xcc" => Some(Status::Green),
        b"yellow" | b"\xe9\xbb\x84" | b"\xbb\xc6" => Some(Status::Yellow),
        b"red" | b"\xe7\xba\xa2" | b"\xba\xec" => Some(Status::Red),
        b"unknown" => Some(Status::Unknown),
        _ => None,
    }
}

/// RFC 3339 or Unix milliseconds, as Unix milliseconds.
fn version(field: &[u8]) -> Option<u64> {
    if field.iter().all(u8::is_ascii_digit) {
        return decimal(field);
    }
    let time = OffsetDateTime::parse(str::from_utf8(field).ok()?, &Rfc3339).ok()?;
    Some(u64::try_from(time.unix_timestamp()).ok()? * 1_000 + u64::from(time.millisecond()))
}

/// A number of 1 to 15 digits.
fn decimal(field: &[u8]) -> Option<u64> {
    let digits = (1..=15).contains(&field.len()) && field.iter().all(u8::is_ascii_digit);
    digits.then(|| field.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

fn region(field: &[u8]) -> Option<u32> {
    match field.len() {
        0 => Some(0),
        6 => decimal(field)?.try_into().ok(),
        _ => None,
    }
}

/// Spreadsheets write TRUE and FALSE.
fn test(field: &[u8]) -> Option<bool> {
    match field {
        b"" | b"0" => Some(false),
        b"1" => Some(true),
        _ if field.eq_ignore_ascii_case(b"false") => Some(false),
        _ if field.eq_ignore_ascii_case(b"true") => Some(true),
        _ => None,
    }
}

/// Why a file is refused as a whole; what the system said is said of the list of rejected rows.
#[derive(Debug, From)]
#[allow(missing_docs, reason = "that is all")]
pub enum ImportError {
    File(Ended),
    Rejects(io::Error),
}

/// The columns. The first three are required.
const NAMES: [&str; 5] = ["id_number", "status", "updated_at", "region", "test"];
const REGION: usize = 3;
const TEST: usize = 4;

/// Read at a time.
const BUFFER_BYTES: usize = 1 << 18;

#[cfg(test)]
mod tests {
    use super::super::demo;
    use super::super::table::tests::{raise_session, removal, say, status};
    use super::*;

    const KEY: HashKey = HashKey::new([9; 32]);

    type Rejects = Vec<(u64, &'static str, String)>;

    fn run(csv: impl AsRef<[u8]>, held: Table, mode: Mode) -> Result<(Table, Report, Rejects), ImportError> {
        let mut rejects = Vec::new();
        let mut keep = |line, column, reason: &str| {
            rejects.push((line, column, reason.to_owned()));
            Ok(())
        };
        let (table, report) = import(csv.as_ref(), held, mode, &KEY, 0..=u64::MAX, 0, &mut keep)?;
        let Report { rows, inserted, updated, older, duplicates, conflicts, rejected, .. } = report;
        assert_eq!(rows, inserted + updated + older + duplicates + conflicts + rejected, "the counts add up");
        assert_eq!(rejected, rejects.len() as u64);
        Ok((table, report, rejects))
    }

    fn fresh(csv: impl AsRef<[u8]>) -> (Table, Report, Rejects) {
        run(csv, Table::new(0).unwrap(), Mode::Merge).unwrap()
    }

    fn id(n: u32) -> String {
        String::from_utf8(demo::id_number(n).as_bytes().to_vec()).unwrap()
    }

    fn held(table: &Table, n: u32) -> Record {
        table.read(KEY.number(&demo::id_number(n)).0).unwrap()
    }

    fn rows(header: &str, rows: &[(u32, &str)]) -> String {
        rows.iter().fold(format!("{header}\n"), |csv, (n, rest)| csv + &format!("{},{rest}\n", id(*n)))
    }

    const HEADER: &str = "id_number,status,updated_at";
    const HEADER_5: &str = "id_number,status,updated_at,region,test";

    #[test]
    fn every_column_is_taken() {
        let (table, report, _) = fresh(rows(HEADER_5, &[(1, "yellow,1700000000123,610100,TRUE"), (2, "red,5,,")]));
        let (resident, check) = KEY.number(&demo::id_number(1));
        let version = 1_700_000_000_123;
        let first = status(resident.0, version, Status::Yellow);
        assert_eq!(held(&table, 1), Record { check, test: true, region: 610_100, ..first });
        assert_eq!((held(&table, 2).region, held(&table, 2).test), (0, false));
        assert_eq!(report, Report { rows: 2, inserted: 2, ..Report::default() });
    }

    #[test]
    fn columns_come_in_any_order_quoted_with_crlf_and_without_a_last_line_end() {
        let csv =
            format!("\u{feff}\"updated_at\",status,\"id_number\"\r\n7,\"red\",\"{}\"\r\n\r\n8,green,{}", id(1), id(2));
        let (table, report, _) = fresh(csv);
        assert_eq!((held(&table, 1).version, held(&table, 1).status), (7, Status::Red));
        assert_eq!((held(&table, 2).version, held(&table, 2).status), (8, Status::Green));
        assert_eq!(report.rows, 2);
    }

    #[test]
    fn chinese_words_are_read_in_both_encodings() {
        let csv = rows(HEADER, &[(1, "绿,1"), (2, "黄,1"), (3, "红,1"), (4, "蓝,1"), (5, "绿码,1")]);
        let (gb18030, ..) = encoding_rs::GB18030.encode(&csv);
        assert_ne!(*gb18030, *csv.as_bytes());
        for bytes in [csv.as_bytes(), &gb18030, &[b"\x84\x31\x95\x33", &gb18030[..]].concat()] {
            let (table, _, rejects) = fresh(bytes);
            let statuses = [1, 2, 3].map(|n| held(&table, n).status);
            assert_eq!(statuses, [Status::Green, Status::Yellow, Status::Red]);
            assert_eq!(rejects.iter().map(|(line, ..)| *line).collect::<Vec<_>>(), [5, 6]);
        }
    }

    #[test]
    fn times_are_rfc_3339_or_unix_milliseconds() {
        for (text, expected) in [
            ("2022-01-04T08:00:00+08:00", Some(1_641_254_400_000)),
            ("2022-01-04T00:00:00.1239Z", Some(1_641_254_400_123)),
            ("1641254400123", Some(1_641_254_400_123)),
            ("0", Some(0)),
            ("253402300799999", Some(253_402_300_799_999)),
            ("99999999999999999999", None),
            ("1969-12-31T23:59:59Z", None),
            ("2022-02-30T00:00:00Z", None),
            ("2022-01-04", None),
            ("-5", None),
            ("", None),
        ] {
            assert_eq!(version(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_time_out_of_the_range_is_a_wrong_row() {
        let csv = rows(HEADER, &[(1, "red,9"), (2, "red,10"), (3, "red,20"), (4, "red,21")]);
        let mut lines = Vec::new();
        let mut keep = |line, column, reason: &str| {
            assert!(column == "updated_at" && reason.starts_with("before the year 2000"));
            lines.push(line);
            Ok(())
        };
        let empty = Table::new(0).unwrap();
        let (table, _) = import(csv.as_bytes(), empty, Mode::Merge, &KEY, 10..=20, 0, &mut keep).unwrap();
        assert_eq!((table.residents(), lines), (2, vec![2, 5]));
    }

    #[test]
    fn wrong_rows_are_named_by_physical_line_and_the_rest_is_taken() {
        let good = |n: u32| format!("{},green,1,,\n", id(n));
        let csv = [
            format!("{HEADER_5}\n\n"),
            good(1),                                               // 3
            "\n11010519491231002,green,1,,\n".into(),              // 5
            "110105194912310021,green,1,,\n".into(),               // 6
            format!("{},purple,1,,\n", id(2)),                     // 7
            format!("{},green,yesterday,,\n", id(2)),              // 8
            format!("{},green,1,6101,\n", id(2)),                  // 9
            format!("{},green,1,610100,maybe\r\n\r\n\r\n", id(2)), // 10
            format!("{},green,1\n", id(2)),                        // 13
            format!("{},\"green\n\nred\",1,,\n", id(2)),           // 14 and 16
            good(3),                                               // 17
            format!("{},green,1,,,", id(2)),                       // 18
        ];
        let (table, report, rejects) = fresh(csv.concat());
        let found: Vec<_> = rejects.iter().map(|(line, column, reason)| (*line, *column, &**reason)).collect();
        assert_eq!(
            found,
            [
                (5, "id_number", "17 bytes, expected 18"),
                (6, "id_number", "the check character does not fit"),
                (7, "status", "not one of green yellow red unknown 绿 黄 红"),
                (8, "updated_at", "neither RFC 3339 nor Unix milliseconds"),
                (9, "region", "not the 6 digits of a GB/T 2260 area"),
                (10, "test", "not one of true false 1 0"),
                (13, "", "3 fields, expected 5"),
                (14, "", "2 fields, expected 5"),
                (16, "", "4 fields, expected 5"),
                (18, "", "6 fields, expected 5"),
            ]
        );
        assert_eq!((table.residents(), report.rows, report.inserted), (2, 12, 2));
    }

    #[test]
    fn the_newest_wins_and_every_row_is_counted() {
        let csv = rows(HEADER, &[(1, "green,5"), (1, "red,7"), (1, "yellow,6"), (1, "red,7"), (1, "green,7")]);
        let (table, report, _) = fresh(&csv);
        assert_eq!((held(&table, 1).version, held(&table, 1).status), (7, Status::Red));
        let expected = Report { rows: 5, inserted: 1, updated: 1, older: 1, duplicates: 1, conflicts: 1, ..report };
        assert_eq!(report, expected);
        let (_, again, _) = run(rows(HEADER, &[(1, "red,7")]), table, Mode::Merge).unwrap();
        assert_eq!(again, Report { rows: 1, duplicates: 1, ..Report::default() });
    }

    #[test]
    fn the_order_of_rows_and_files_does_not_matter() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..50 {
            let mut made: Vec<_> = (0..200)
                .map(|_| {
                    let status = ["green", "yellow", "red", "unknown"][random.usize(..4)];
                    let region = ["", "610100", "610102"][random.usize(..3)];
                    (random.u32(1..30), format!("{status},{},{region},{}", random.u32(..4), random.u32(..2)))
                })
                .collect();
            let mut states = Vec::new();
            for _ in 0..3 {
                random.shuffle(&mut made);
                let lines: Vec<_> = made.iter().map(|(n, rest)| (*n, rest.as_str())).collect();
                let (half, rest) = lines.split_at(random.usize(..lines.len()));
                let (table, ..) = fresh(rows(HEADER_5, half));
                let (table, ..) = run(rows(HEADER_5, rest), table, Mode::Merge).unwrap();
                states.push(table.sorted().collect::<Vec<_>>());
            }
            assert!(states.iter().all(|state| *state == states[0]));
        }
    }

    #[test]
    fn sessions_and_columns_that_the_file_lacks_stay() {
        let (table, ..) = fresh(rows(HEADER_5, &[(1, "green,5,610100,1")]));
        raise_session(&table, held(&table, 1).resident);
        let (table, ..) = run(rows(HEADER, &[(1, "red,6")]), table, Mode::Merge).unwrap();
        let now = held(&table, 1);
        assert_eq!((now.status, now.region, now.test, now.session), (Status::Red, 610_100, true, 1));
        let (table, ..) = run(rows(HEADER_5, &[(1, "red,7,,")]), table, Mode::Merge).unwrap();
        assert_eq!((held(&table, 1).region, held(&table, 1).test, held(&table, 1).session), (0, false, 1));
    }

    #[test]
    fn replacing_takes_the_file_as_the_whole_but_for_sessions() {
        let (table, ..) = fresh(rows(HEADER_5, &[(1, "green,1,610100,"), (2, "green,1,,"), (3, "green,1,,")]));
        raise_session(&table, held(&table, 1).resident);
        let (table, report, _) = run(rows(HEADER, &[(1, "red,2"), (4, "green,2")]), table, Mode::Replace).unwrap();
        assert_eq!(report, Report { rows: 2, inserted: 1, updated: 1, removed: 2, ..Report::default() });
        assert_eq!(table.residents(), 2);
        let stays = held(&table, 1);
        assert_eq!((stays.status, stays.version, stays.region, stays.session), (Status::Red, 2, 0, 1));
    }

    #[test]
    fn replacing_undoes_nothing_that_is_newer_than_the_file() {
        let numbers: Vec<_> = (1..=60).map(|n| (n, if n % 2 == 0 { "green,9,610100," } else { "green,1,," })).collect();
        let (table, ..) = fresh(rows(HEADER_5, &numbers));
        let remove = |n: u32, version| {
            let Record { resident, check, .. } = held(&table, n);
            assert!(say(&table, Record { check, ..removal(resident.0, version) }));
        };
        raise_session(&table, held(&table, 4).resident);
        remove(1, 4);
        remove(3, 9);
        remove(5, 9);
        // 1 was removed before its row, 3 after it, as 5, who is not in the file; 2 and 4 are known better.
        let file = [(1, "red,5"), (2, "red,5"), (3, "red,5"), (7, "green,1"), (99, "red,5")];
        let (table, report, _) = run(rows(HEADER, &file), table, Mode::Replace).unwrap();
        let expected = Report { rows: 5, inserted: 2, older: 2, duplicates: 1, removed: 26, kept: 29, ..report };
        assert_eq!(report, expected);
        assert_eq!(
            (held(&table, 1).status, held(&table, 2).version, held(&table, 2).region),
            (Status::Red, 9, 610_100)
        );
        assert_eq!(held(&table, 4).session, 1);
        let resident = |n| KEY.number(&demo::id_number(n)).0;
        assert!([3, 5].iter().all(|n| table.removed(resident(*n)).is_some() && table.read(resident(*n)).is_none()));
        assert!(table.read(resident(9)).is_none() && table.removed(resident(9)).is_none());
        // Nor does an older row bring back 5 later.
        let (table, report, _) = run(rows(HEADER, &[(5, "red,8"), (7, "green,1")]), table, Mode::Merge).unwrap();
        assert_eq!((report.older, report.duplicates, table.residents()), (1, 1, 33));
    }

    #[test]
    fn a_second_id_number_with_the_same_resident_number_is_rejected() {
        let (resident, check) = KEY.number(&demo::id_number(1));
        let other = Record { check: !check, session: 4, ..held(&fresh(rows(HEADER, &[(1, "green,1")])).0, 1) };
        assert_eq!(other.resident, resident);
        let with_other = || {
            let table = Table::new(1).unwrap();
            table.write(&other).unwrap();
            table
        };
        let (table, _, rejects) = run(rows(HEADER, &[(1, "red,9")]), with_other(), Mode::Merge).unwrap();
        let reason = "another ID number has the same resident number".to_owned();
        assert_eq!(rejects, [(2, "id_number", reason)]);
        assert_eq!(table.read(resident), Some(other));
        let (table, report, again) =
            run(rows(HEADER, &[(1, "red,9"), (2, "red,9")]), with_other(), Mode::Replace).unwrap();
        assert_eq!((again, report.removed, table.read(resident)), (rejects, 1, None), "nor is the other in the file");
    }

    #[test]
    fn a_file_of_another_shape_is_refused_by_name() {
        let refused = |csv: &[u8]| match run(csv, Table::new(0).unwrap(), Mode::Merge) {
            Err(ImportError::File((Fatal::Configuration, reason))) => reason,
            other => panic!("{other:?}"),
        };
        assert!(refused(b"").contains("column 1 of the first row"));
        assert!(refused(b"id_number,status\n").contains("updated_at is missing"));
        assert!(refused(b"id_number,status,updated_at,phone\n").contains("column 4 of the first row"));
        assert!(refused(b"id_number;status;updated_at\n").contains("column 1 of the first row"));
        assert!(refused(b"id_number,status,status,updated_at\n").contains("status is there twice"));
        assert!(refused(b"\xff\xfei\0d\0\n").contains("column 1 of the first row"));
        let bare = refused(format!("{},green,1\n", id(1)).as_bytes());
        assert!(bare.contains("column 1 of the first row") && !bare.contains(&id(1)), "{bare}");
    }

    #[test]
    fn an_open_quote_or_a_line_without_end_spoils_one_row() {
        let long = "x".repeat(2_000_000);
        let csv = format!("{HEADER}\n\"{},green,1\n{long}\r\n{},green,1\n{long}", id(1), id(2));
        let (table, report, rejects) = fresh(csv);
        assert_eq!((table.residents(), report.rows, report.inserted), (1, 4, 1));
        let found: Vec<_> = rejects.iter().map(|(line, _, reason)| (*line, &**reason)).collect();
        let long = "more than 4096 bytes";
        assert_eq!(found, [(2, "19 bytes, expected 18"), (3, long), (5, long)]);
    }

    #[test]
    fn a_reader_that_gives_single_bytes_or_fails_changes_nothing() {
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let Some((first, rest)) = self.0.split_first() else { return Err(io::ErrorKind::BrokenPipe.into()) };
                (self.0, buffer[0]) = (rest, *first);
                Ok(1)
            }
        }
        let csv = format!("\u{feff}{}", rows(HEADER, &[(1, "绿,1"), (2, "green,1")]));
        let mut taken = 0;
        let slow = Slow(csv.as_bytes());
        let error = import(slow, Table::new(0).unwrap(), Mode::Merge, &KEY, 0..=u64::MAX, 0, &mut |_, _, _| {
            taken += 1;
            Ok(())
        });
        let Err(ImportError::File((Fatal::File, reason))) = error else { panic!("{error:?}") };
        assert!(reason.starts_with("cannot be read beyond line 4: "), "{reason}");
        assert_eq!(taken, 0, "both rows were good");
    }

    #[test]
    fn no_damaged_file_panics_or_loses_count() {
        let mut random = fastrand::Rng::with_seed(11);
        let lines = [(1, "绿,1,610100,1"), (2, "\"red\",2022-01-04T08:00:00+08:00,,"), (3, "green,3,,0\r")];
        let good = rows(HEADER_5, &lines).into_bytes();
        let mut taken = 0;
        for _ in 0..20_000 {
            let mut csv = good.clone();
            for _ in 0..random.usize(1..4) {
                let place = random.usize(..csv.len());
                match random.usize(..3) {
                    0 => csv[place] = random.u8(..),
                    1 => drop(csv.remove(place)),
                    _ => csv.insert(place, b"\",\r\n\xef0"[random.usize(..6)]),
                }
            }
            taken += u32::from(run(&csv, Table::new(0).unwrap(), Mode::Merge).is_ok());
        }
        assert!(taken > 5_000, "most damage is in a row: {taken}");
    }
}
