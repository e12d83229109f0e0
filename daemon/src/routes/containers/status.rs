//! What a container's state looks like in lists: "Up 3 minutes (Paused)", "Exited (137) 2 hours ago".

use cooper_runner::container::{Health, HealthStatus, State, Status};
use jiff::{SignedDuration, Timestamp};

use crate::api::{self, ContainerState, HealthcheckResult, ZERO_TIME};

/// Docker's `units.HumanDuration`.
pub(crate) fn human_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Go rounds hours to the nearest and the rest down from there.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// The `Status` column at `now`.
pub(crate) fn status_text(state: &State, health: Option<&Health>, now: Timestamp) -> String {
    let since = |time: &Option<String>| {
        let time = time.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        time.map(|time| human_duration(now.duration_since(time)))
    };
    match state.status {
        Status::Running => {
            let since = since(&state.started_at).unwrap_or_default();
            match health.map(|health| health.status) {
                None => format!("Up {since}"),
                Some(HealthStatus::Starting) => format!("Up {since} (health: starting)"),
                Some(verdict) => format!("Up {since} ({})", verdict.as_str()),
            }
        }
        Status::Paused => format!("Up {} (Paused)", since(&state.started_at).unwrap_or_default()),
        Status::Restarting => match since(&state.finished_at) {
            Some(ago) => format!("Restarting ({}) {ago} ago", state.exit_code),
            None => format!("Restarting ({})", state.exit_code),
        },
        Status::Created => "Created".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Exited => match since(&state.finished_at) {
            Some(ago) => format!("Exited ({}) {ago} ago", state.exit_code),
            None => format!("Exited ({})", state.exit_code),
        },
    }
}

/// Docker's name of a status.
pub(crate) fn status_name(status: Status) -> &'static str {
    match status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Restarting => "restarting",
        Status::Exited => "exited",
        Status::Dead => "dead",
    }
}

/// The `State` object of inspect. A paused container is also running.
pub(crate) fn state_object(state: &State, health: Option<&Health>) -> ContainerState {
    let time = |time: &Option<String>| time.clone().unwrap_or_else(|| ZERO_TIME.to_owned());
    ContainerState {
        status: status_name(state.status).to_owned(),
        running: state.is_running(),
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: state.pid,
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: time(&state.started_at),
        finished_at: time(&state.finished_at),
        health: health.map(health_object),
    }
}

fn health_object(health: &Health) -> api::Health {
    let results = health.log.iter().map(|result| HealthcheckResult {
        start: result.start.clone(),
        end: result.end.clone(),
        exit_code: result.exit_code,
        output: result.output.clone(),
    });
    api::Health {
        status: health.status.as_str().to_owned(),
        failing_streak: health.failing_streak.into(),
        log: results.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_dockers() {
        const HOUR: i64 = 3600;
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (HOUR, "About an hour"),
            (5 * HOUR, "5 hours"),
            (49 * HOUR, "2 days"),
            (24 * 14 * HOUR, "2 weeks"),
            (24 * 60 * HOUR, "2 months"),
            (24 * 365 * 2 * HOUR, "2 years"),
        ] {
            assert_eq!(
                human_duration(SignedDuration::from_secs(seconds)),
                expected,
                "{seconds}"
            );
        }
    }

    #[test]
    fn states_read_as_dockers() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let check = |status, exit_code, expected: &str| {
            let time = Some("2026-01-01T00:55:00Z".to_owned());
            let state = State {
                version: 1,
                status,
                pid: 0,
                exit_code,
                oom_killed: false,
                error: String::new(),
                started_at: time.clone(),
                finished_at: time,
                warnings: Vec::new(),
                restart_count: 0,
                stopped_by_hand: false,
            };
            assert_eq!(status_text(&state, None, now), expected);
            let starting = Health::default();
            let expected = match status {
                Status::Running => format!("{expected} (health: starting)"),
                _ => expected.to_owned(),
            };
            assert_eq!(status_text(&state, Some(&starting), now), expected);
        };
        check(Status::Running, 0, "Up 5 minutes");
        check(Status::Paused, 0, "Up 5 minutes (Paused)");
        check(Status::Exited, 137, "Exited (137) 5 minutes ago");
        check(Status::Created, 0, "Created");
        check(Status::Restarting, 3, "Restarting (3) 5 minutes ago");
    }
}
