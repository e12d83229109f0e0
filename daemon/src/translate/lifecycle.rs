//! Restart policies and health checks.

use std::time::Duration;

use cooper_registry::oci::HealthConfig;
use cooper_runner::spec::{HealthCheck, Restart, RestartPolicy};

use crate::api;
use crate::error::{ApiError, ApiResult};

/// Docker's defaults (moby `daemon/health.go`).
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// `HostConfig.RestartPolicy`, with one name that Docker does not have: `on-unhealthy`.
pub(super) fn restart_policy(policy: &api::RestartPolicy) -> ApiResult<RestartPolicy> {
    let when = match policy.name.as_str() {
        "" | "no" => Restart::No,
        "always" => Restart::Always,
        "unless-stopped" => Restart::UnlessStopped,
        "on-failure" => Restart::OnFailure,
        "on-unhealthy" => Restart::OnUnhealthy,
        other => {
            return Err(ApiError::bad(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', \
                 'on-unhealthy', or 'unless-stopped'"
            )));
        }
    };
    let retries = u32::try_from(policy.maximum_retry_count)
        .map_err(|_| ApiError::bad("invalid restart policy: maximum retry count cannot be negative"))?;
    if retries > 0 && !matches!(when, Restart::OnFailure | Restart::OnUnhealthy) {
        return Err(ApiError::bad(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ));
    }
    Ok(RestartPolicy {
        when,
        max_retries: retries,
    })
}

/// `Config.Healthcheck` merged with the image's; none if nobody asks. `shell`: `Config.Shell`.
pub(super) fn health_check(
    check: Option<&HealthConfig>,
    shell: Option<&[String]>,
) -> ApiResult<Option<HealthCheck>> {
    let Some(check) = check else { return Ok(None) };
    let time = |name: &str, nanoseconds: i64, default: Duration| match nanoseconds {
        0 => Ok(default),
        1_000_000.. => Ok(Duration::from_nanos(nanoseconds.unsigned_abs())),
        _ => Err(ApiError::bad(format!(
            "{name} in Healthcheck cannot be less than 1ms"
        ))),
    };
    let interval = time("Interval", check.interval, INTERVAL)?;
    let timeout = time("Timeout", check.timeout, TIMEOUT)?;
    let start_period = time("StartPeriod", check.start_period, Duration::ZERO)?;
    let start_interval = time("StartInterval", check.start_interval, START_INTERVAL)?;
    let retries = match check.retries {
        0 => RETRIES,
        1.. => u32::try_from(check.retries).unwrap_or(u32::MAX),
        _ => return Err(ApiError::bad("Retries in Healthcheck cannot be negative")),
    };
    let args = match check.test.split_first() {
        None => return Ok(None),
        Some((kind, rest)) => match kind.as_str() {
            "NONE" => return Ok(None),
            "CMD" if !rest.is_empty() => rest.to_vec(),
            "CMD-SHELL" if !rest.is_empty() => {
                let default = ["/bin/sh".to_owned(), "-c".to_owned()];
                let shell = shell.filter(|shell| !shell.is_empty()).unwrap_or(&default);
                [shell, rest].concat()
            }
            "CMD" | "CMD-SHELL" => {
                return Err(ApiError::bad(format!("{kind} in Healthcheck has no command")));
            }
            other => {
                return Err(ApiError::bad(format!(
                    "unknown type {other:?} in Healthcheck: expected NONE, CMD or CMD-SHELL"
                )));
            }
        },
    };
    Ok(Some(HealthCheck {
        args,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let check = |name: &str, retries: i64| {
            let policy = api::RestartPolicy {
                name: name.to_owned(),
                maximum_retry_count: retries,
            };
            restart_policy(&policy)
                .map(|policy| (policy.when, policy.max_retries))
                .map_err(|error| error.message)
        };
        assert_eq!(check("", 0), Ok((Restart::No, 0)));
        assert_eq!(check("always", 0), Ok((Restart::Always, 0)));
        assert_eq!(check("on-failure", 3), Ok((Restart::OnFailure, 3)));
        assert_eq!(check("on-unhealthy", 2), Ok((Restart::OnUnhealthy, 2)));
        assert!(
            check("always", 1)
                .unwrap_err()
                .contains("can only be used with 'on-failure'")
        );
        assert!(
            check("on-failure", -1)
                .unwrap_err()
                .contains("cannot be negative")
        );
        assert!(
            check("sometimes", 0)
                .unwrap_err()
                .contains("unknown policy 'sometimes'")
        );
    }

    #[test]
    fn checks() {
        let check = |test: &[&str], interval: i64, retries: i64| {
            let config = HealthConfig {
                test: test.iter().map(|text| (*text).to_owned()).collect(),
                interval,
                retries,
                ..HealthConfig::default()
            };
            health_check(Some(&config), None)
                .map(|check| {
                    check.map(|check| (check.args.join(" "), check.interval.as_millis(), check.retries))
                })
                .map_err(|error| error.message)
        };
        assert_eq!(check(&["NONE"], 0, 0), Ok(None));
        assert_eq!(check(&[], 0, 0), Ok(None));
        assert_eq!(
            check(&["CMD", "a", "b"], 0, 0),
            Ok(Some(("a b".to_owned(), 30_000, 3)))
        );
        let shell = "/bin/sh -c a || b".to_owned();
        assert_eq!(
            check(&["CMD-SHELL", "a || b"], 2_000_000, 1),
            Ok(Some((shell, 2, 1)))
        );
        assert!(check(&["CMD"], 0, 0).is_err() && check(&["EXEC", "x"], 0, 0).is_err());
        assert!(check(&["CMD", "a"], 5, 0).unwrap_err().contains("less than 1ms"));
        assert!(
            check(&["CMD", "a"], 0, -1)
                .unwrap_err()
                .contains("cannot be negative")
        );
    }
}
