//! Dates from seconds.

const DAY: u64 = 24 * 60 * 60;

/// Seconds since the beginning of 1970 as a date and a time, UTC.
pub(super) fn utc(seconds: u32) -> String {
    let (days, second) = (u64::from(seconds) / DAY, u64::from(seconds) % DAY);
    // Counted from 1 March 1968: then the day that may be missing is the last of four years.
    let days = days + 671;
    // There is no year in reach, 1970 to 2106, but 2100 that is a multiple of 4 and no leap year.
    let after_february_2100 = days >= 48_212;
    let days = days + u64::from(after_february_2100);
    let (fours, day) = (days / 1461, days % 1461);
    let year_of_four = (day / 365).min(3);
    let day = day - year_of_four * 365;
    // Months from March on have 31, 30, 31, 30, 31 days, over and over.
    let month = (day * 5 + 2) / 153;
    let day_of_month = day - (month * 153 + 2) / 5 + 1;
    let (month, years) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = 1968 + fours * 4 + year_of_four + years;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_dates() {
        // By date -u -d @SECONDS.
        for (seconds, date) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (68_169_600, "1972-02-29 00:00:00 UTC"),
            (68_256_000, "1972-03-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_795_248_000, "2026-11-21 08:00:00 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (u32::MAX, "2106-02-07 06:28:15 UTC"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }
}
