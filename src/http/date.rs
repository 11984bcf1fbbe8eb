//! The `Date` of an answer, as RFC 9110 §5.6.7 writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
//!
//! A pure function of the second it is given, and a cache of the last one, since a shard writes it into every answer.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// The bytes of an IMF-fixdate.
pub const DATE_BYTES: usize = 29;

/// The date last written. One a shard.
#[derive(Clone, Default, Debug)]
pub struct DateCache(Option<(u64, [u8; DATE_BYTES])>);

impl DateCache {
    /// The date at `unix_s` seconds since 1970.
    pub fn at(&mut self, unix_s: u64) -> &[u8; DATE_BYTES] {
        if self.0.is_none_or(|(last_s, _)| last_s != unix_s) {
            self.0 = None;
        }
        &self.0.get_or_insert_with(|| (unix_s, imf_fixdate(unix_s))).1
    }
}

/// The date at `unix_s` seconds since 1970, in GMT; beyond the year 9999 its last second.
pub fn imf_fixdate(unix_s: u64) -> [u8; DATE_BYTES] {
    let unix_s = i64::try_from(unix_s.min(YEAR_9999_END_UNIX_S)).expect("far below 2^63");
    let time = OffsetDateTime::from_unix_timestamp(unix_s).expect("a second from 1970 to 9999");
    // RFC 2822 writes the same, but for the zone.
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 +0000";
    time.format_into(&mut &mut text[..], &Rfc2822).expect("31 bytes from 1900 to 9999");
    text[26..29].copy_from_slice(b"GMT");
    *text.first_chunk().expect("31 bytes begin with 29")
}

const YEAR_9999_END_UNIX_S: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut cache = DateCache::default();
        for unix_s in [0, 1, 1, 784_111_777, 784_111_776] {
            assert_eq!(cache.at(unix_s), &imf_fixdate(unix_s));
        }
    }
}
