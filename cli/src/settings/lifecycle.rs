//! `--restart` and `--health-…`.

use cooper_daemon::api::{HealthConfig, RestartPolicy};

use super::values;
use crate::args::create::ContainerFlags;

/// `NAME[:RETRIES]`; the engine knows the names.
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let (name, retries) = match text.split_once(':') {
        None => (text, 0),
        Some((name, retries)) => {
            let number = retries.parse();
            (
                name,
                number.map_err(|_| format!("invalid --restart `{text}`: {retries:?} is no number"))?,
            )
        }
    };
    Ok(RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count: retries,
    })
}

/// None where no flag says anything, so that the image's check holds.
pub(super) fn health_check(flags: &ContainerFlags) -> Result<Option<HealthConfig>, String> {
    if flags.no_healthcheck {
        return Ok(Some(HealthConfig {
            test: vec!["NONE".to_owned()],
            ..HealthConfig::default()
        }));
    }
    let time = |flag: &str, text: Option<&String>| {
        let Some(text) = text else { return Ok(0) };
        let time = values::age(text).and_then(|time| i64::try_from(time.as_nanos()).ok());
        time.ok_or_else(|| format!("invalid --{flag} `{text}`: expected a time such as 30s"))
    };
    let command = flags
        .health_cmd
        .iter()
        .flat_map(|command| ["CMD-SHELL".to_owned(), command.clone()]);
    let check = HealthConfig {
        test: command.collect(),
        interval: time("health-interval", flags.health_interval.as_ref())?,
        timeout: time("health-timeout", flags.health_timeout.as_ref())?,
        start_period: time("health-start-period", flags.health_start_period.as_ref())?,
        start_interval: time("health-start-interval", flags.health_start_interval.as_ref())?,
        retries: flags.health_retries.unwrap_or(0).into(),
    };
    Ok(Some(check).filter(|check| *check != HealthConfig::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let check = |text: &str| restart_policy(text).map(|policy| (policy.name, policy.maximum_retry_count));
        assert_eq!(check("always"), Ok(("always".to_owned(), 0)));
        assert_eq!(check("on-failure:3"), Ok(("on-failure".to_owned(), 3)));
        assert!(check("on-failure:x").unwrap_err().contains("\"x\" is no number"));
    }
}
