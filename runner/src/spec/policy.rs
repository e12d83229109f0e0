//! When a container is started again, and how it is found healthy.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a supervisor does when the container's process has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// In which case it starts the process again.
    pub when: Restart,
    /// How often in a row for [`Restart::OnFailure`] and [`Restart::OnUnhealthy`]; 0 for any number.
    pub max_retries: u32,
}

/// The cases of a [`RestartPolicy`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// Always, until it is stopped by hand.
    Always,
    /// The same, and not after a reboot either if it was stopped by hand.
    UnlessStopped,
    /// If the exit code is not 0.
    OnFailure,
    /// As [`Restart::OnFailure`]; a container that becomes unhealthy is ended for that.
    OnUnhealthy,
}

/// A probe that is run in the container again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Program and arguments; healthy if it exits with 0.
    pub args: Vec<String>,
    /// From the end of one probe to the next.
    pub interval: Duration,
    /// A probe that takes longer is killed and has failed.
    pub timeout: Duration,
    /// So long after the start failures do not count while the container was not healthy yet.
    pub start_period: Duration,
    /// Takes the place of the interval in that time.
    pub start_interval: Duration,
    /// As many failures in a row make it unhealthy; at least 1.
    pub retries: u32,
}
