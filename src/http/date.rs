//! The `Date` of an answer, as RFC 9110 §5.6.7 writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
//!
//! A pure function of the second it is given, and a cache of the last one, since a shard writes it into every answer.

/// The bytes of an IMF-fixdate.
pub const DATE_BYTES: usize = 29;

/// The date last written. One a shard.
#[derive(Clone, Debug)]
pub struct DateCache {
    unix_s: u64,
    text: [u8; DATE_BYTES],
}

impl DateCache {
    /// A cache that holds the epoch.
    pub fn new() -> DateCache {
        DateCache { unix_s: 0, text: imf_fixdate(0) }
    }

    /// The date at `unix_s` seconds since 1970.
    pub fn at(&mut self, unix_s: u64) -> &[u8; DATE_BYTES] {
        if self.unix_s != unix_s {
            *self = DateCache { unix_s, text: imf_fixdate(unix_s) };
        }
        &self.text
    }
}

impl Default for DateCache {
    fn default() -> DateCache {
        DateCache::new()
    }
}

/// The date at `unix_s` seconds since 1970, in GMT; beyond the year 9999 its last second.
pub fn imf_fixdate(unix_s: u64) -> [u8; DATE_BYTES] {
    let unix_s = unix_s.min(YEAR_9999_END_UNIX_S);
    let (days, second_of_day) = (unix_s / 86_400, unix_s % 86_400);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, so the leap day is last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);

    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    text[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    put_two(&mut text[5..7], day);
    text[8..11].copy_from_slice(MONTHS[month as usize]);
    put_two(&mut text[12..14], year / 100);
    put_two(&mut text[14..16], year % 100);
    put_two(&mut text[17..19], second_of_day / 3_600);
    put_two(&mut text[20..22], second_of_day / 60 % 60);
    put_two(&mut text[23..25], second_of_day % 60);
    text
}

/// Writes `value`, below 100, as two digits.
fn put_two(place: &mut [u8], value: u64) {
    let [tens, ones] = [value / 10 % 10, value % 10].map(|digit| b'0' + digit.to_le_bytes()[0]);
    place.copy_from_slice(&[tens, ones]);
}

const YEAR_9999_END_UNIX_S: u64 = 253_402_300_799;
/// From the day of the epoch on.
const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;

    /// The same date from the calendar of the `time` crate.
    fn oracle(unix_s: u64) -> String {
        let at = OffsetDateTime::from_unix_timestamp(i64::try_from(unix_s).unwrap()).unwrap();
        let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
        let (hour, minute, second) = at.to_hms();
        let (day, year) = (at.day(), at.year());
        format!("{}, {day:02} {} {year:04} {hour:02}:{minute:02}:{second:02} GMT", &weekday[..3], &month[..3])
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(&imf_fixdate(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        for day in 0..60_000 {
            let unix_s = day * 86_400 + day * 7_919 % 86_400;
            assert_eq!(str::from_utf8(&imf_fixdate(unix_s)).unwrap(), oracle(unix_s));
        }
        assert_eq!(str::from_utf8(&imf_fixdate(u64::MAX)).unwrap(), oracle(YEAR_9999_END_UNIX_S));
    }

    #[test]
    fn the_cache_follows_the_second_it_is_given() {
        let mut cache = DateCache::new();
        for unix_s in [0, 1, 1, 784_111_777, 784_111_776] {
            assert_eq!(cache.at(unix_s), &imf_fixdate(unix_s));
        }
    }
}
