//! When and how long to wait before trying again.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Attempts for one request or one stretch of a blob without progress.
pub(super) const ATTEMPTS: u32 = 5;
/// A registry that asks for more patience than this gets a failed pull instead.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Whether a status may pass by itself.
pub(super) fn passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED && status.as_u16() != 507)
}

/// How long to wait after attempt number `attempt` (from 1): what the registry asked for in seconds, up to 30 s,
/// otherwise doubling from 200 ms with up to half of it random, so that many clients do not come back at once.
pub(super) fn delay(attempt: u32, headers: Option<&HeaderMap>) -> Duration {
    let asked = headers.and_then(|headers| headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok());
    if let Some(seconds) = asked {
        return Duration::from_secs(seconds).min(MAX_WAIT);
    }
    let base = 200_u64 << attempt.saturating_sub(1).min(5);
    // Without randomness there is still a wait.
    let jitter = getrandom::u32().map_or(0, |random| u64::from(random) % (base / 2));
    Duration::from_millis(base + jitter)
}
