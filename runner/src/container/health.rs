//! What is known of a container's health: `health.json`, written by its supervisor after each probe.

use serde::{Deserialize, Serialize};

use super::containers::Containers;
use super::error::Error;
use super::layout::{Layout, check_version, read_json, write_json};

const VERSION: u32 = 1;
/// Results kept, as Docker does.
pub(crate) const KEPT: usize = 5;
/// Bytes of output kept of each.
pub(crate) const MAX_OUTPUT: usize = 4096;

/// A verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Not known yet.
    #[default]
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// Too many probes in a row failed.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The result of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// RFC 3339 with nanoseconds.
    pub start: String,
    /// Likewise.
    pub end: String,
    /// Exit code; -1 for a probe that could not be run or took too long.
    pub exit_code: i32,
    /// The beginning of what it wrote.
    pub output: String,
}

/// A container's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    version: u32,
    /// The verdict.
    pub status: HealthStatus,
    /// Failures since the last success.
    pub failing_streak: u32,
    /// The last results, oldest first.
    pub log: Vec<ProbeResult>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            version: VERSION,
            status: HealthStatus::Starting,
            failing_streak: 0,
            log: Vec::new(),
        }
    }
}

impl Health {
    /// Takes a result into account (moby `daemon/health.go`): `excused` failures do not count while nothing is known.
    /// True if the verdict changed.
    pub(crate) fn take(&mut self, result: ProbeResult, retries: u32, excused: bool) -> bool {
        let before = self.status;
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !(excused && before == HealthStatus::Starting) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= retries.max(1) {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(result);
        let surplus = self.log.len().saturating_sub(KEPT);
        self.log.drain(..surplus);
        self.status != before
    }
}

impl Layout {
    fn health(&self) -> std::path::PathBuf {
        self.dir.join("health.json")
    }

    pub(crate) fn write_health(&self, health: &Health) -> Result<(), Error> {
        write_json(&self.health(), health, false)
    }
}

impl Containers {
    /// What is known of a container's health; none if it was never probed.
    ///
    /// # Errors
    /// The file is damaged or from a newer version.
    pub fn health(&self, id: &str) -> Result<Option<Health>, Error> {
        let layout = self.layout(id)?;
        let health: Health = match read_json(&layout.health()) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            result => result?,
        };
        check_version(&layout.health(), health.version, VERSION)?;
        Ok(Some(health))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        let check = |steps: &[(i32, bool)], expected: &[HealthStatus]| {
            let mut health = Health::default();
            let mut seen = Vec::new();
            for (exit_code, excused) in steps {
                let before = health.status;
                let result = ProbeResult {
                    start: String::new(),
                    end: String::new(),
                    exit_code: *exit_code,
                    output: String::new(),
                };
                assert_eq!(health.take(result, 2, *excused), health.status != before);
                seen.push(health.status);
            }
            assert_eq!(seen, expected);
            assert!(health.log.len() <= KEPT);
        };
        check(
            &[(0, false), (1, false), (1, false), (0, false)],
            &[Healthy, Healthy, Unhealthy, Healthy],
        );
        check(
            &[(1, true), (1, true), (1, true), (1, false), (-1, false)],
            &[Starting, Starting, Starting, Starting, Unhealthy],
        );
        // Once it was healthy its start period is over.
        check(&[(0, true), (1, true), (1, true)], &[Healthy, Healthy, Unhealthy]);
        check(&[(0, false); 9], &[Healthy; 9]);
    }
}
