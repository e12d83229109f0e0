//! Starting what should run when a daemon comes up: after a reboot, or after a supervisor was killed, nobody else does.

use cooper_runner::container::{State, Status};
use cooper_runner::spec::{Restart, RestartPolicy};

use super::Engine;
use crate::error::ApiResult;

impl Engine {
    /// Starts every container whose restart policy wants it to run and whose supervisor is gone. What cannot be started
    /// is logged.
    pub(crate) fn restore(&self) -> ApiResult<()> {
        let containers = self.containers()?;
        for (metadata, state) in self.all_containers()? {
            let policy = match containers.spec(&metadata.id) {
                Ok(spec) => spec.restart,
                Err(error) => {
                    tracing::warn!(id = metadata.id, %error, "cannot tell whether to start a container");
                    continue;
                }
            };
            if !should_run(policy, &state) {
                continue;
            }
            match containers.start(&metadata.id) {
                Ok(()) => tracing::info!(id = metadata.id, "started again by its restart policy"),
                Err(error) => {
                    tracing::warn!(id = metadata.id, %error, "a container could not be started again");
                }
            }
        }
        Ok(())
    }
}

/// As moby's `restartmanager` decides when dockerd starts; a container that never ran is left alone.
fn should_run(policy: RestartPolicy, state: &State) -> bool {
    if state.status != Status::Exited {
        return false;
    }
    match policy.when {
        Restart::No => false,
        Restart::Always => true,
        Restart::UnlessStopped => !state.stopped_by_hand,
        Restart::OnFailure | Restart::OnUnhealthy => {
            let tries_left = policy.max_retries == 0 || state.restart_count < policy.max_retries;
            !state.stopped_by_hand && state.exit_code != 0 && tries_left
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions() {
        let check = |when, status: &str, exit_code: i32, stopped: bool, expected: bool| {
            let state = serde_json::json!({"version": 1, "status": status, "pid": 0, "exit_code": exit_code,
                "oom_killed": false, "error": "", "started_at": null, "finished_at": null, "stopped_by_hand": stopped});
            let state: State = serde_json::from_value(state).unwrap();
            let policy = RestartPolicy { when, max_retries: 0 };
            assert_eq!(
                should_run(policy, &state),
                expected,
                "{policy:?} {status} {exit_code} {stopped}"
            );
        };
        check(Restart::No, "exited", 137, false, false);
        check(Restart::Always, "exited", 0, true, true);
        check(Restart::Always, "created", 0, false, false);
        check(Restart::Always, "running", 0, false, false);
        check(Restart::UnlessStopped, "exited", 0, true, false);
        check(Restart::UnlessStopped, "exited", 0, false, true);
        check(Restart::OnFailure, "exited", 137, false, true);
        check(Restart::OnFailure, "exited", 0, false, false);
        check(Restart::OnFailure, "exited", 143, true, false);
    }
}
