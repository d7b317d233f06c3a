//! Seconds since 1970 as RFC 3339, as image configurations write time.
//!
//! Values only: the clock is the program's.

use jiff::Timestamp;

/// `1970-01-01T00:00:00Z`
pub(crate) fn rfc3339(seconds: i64) -> String {
    rfc3339_exact(seconds, 0)
}

/// The same with nanoseconds, if there are any. Times out of range become the nearest that can be written.
pub(crate) fn rfc3339_exact(seconds: i64, nanoseconds: u32) -> String {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or_default();
    let limit = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::new(seconds, nanoseconds).unwrap_or(limit).to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_written_as_configurations_have_them() {
        assert_eq!(super::rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(super::rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(super::rfc3339_exact(0, 5_000_000), "1970-01-01T00:00:00.005Z");
    }
}
