//! Points in time as etcd's log writes them: `2006-01-02T15:04:05.999999Z`, always UTC.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

/// A point in time, to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamp {
    seconds: u64,
    microseconds: u32,
}

impl Timestamp {
    /// Now, by the system's clock. A clock before 1970 counts as 1970.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { seconds: since.as_secs(), microseconds: since.subsec_micros() }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.seconds / 86_400, self.seconds % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.microseconds > 0 {
            let fraction = format!("{:06}", self.microseconds);
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

/// Year, month and day of a day since 1970-01-01, by the Gregorian calendar.
fn date(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while days >= year_days(year) {
        days -= year_days(year);
        year += 1;
    }
    let mut month = 1;
    while days >= month_days(year, month) {
        days -= month_days(year, month);
        month += 1;
    }
    (year, month, days + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn year_days(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_fractions_are_written_as_etcd_does() {
        for (seconds, microseconds, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 500_000, "2000-02-29T00:00:00.5Z"),
            (1_109_548_799, 1, "2005-02-27T23:59:59.000001Z"),
            (4_107_542_399, 999_999, "2100-02-28T23:59:59.999999Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp { seconds, microseconds }.to_string(), text);
        }
    }
}
