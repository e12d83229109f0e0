//! Times as Go prints them.

/// Go's zero `time.Time`, which Docker prints for "never".
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Unix seconds of an RFC 3339 time; 0 for the zero time and for anything that is no time.
pub fn unix_seconds(rfc3339: &str) -> i64 {
    match rfc3339.parse::<jiff::Timestamp>() {
        Ok(time) if rfc3339 != ZERO_TIME => time.as_second(),
        _ => 0,
    }
}
