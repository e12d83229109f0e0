//! Limits of RUN: `--memory` and its relatives, `--resource`, `--ulimit`.

use cooper_daemon::build::Resources;

use super::csv::{pairs, required, unknown};
use crate::settings::values;

const KEYS: [&str; 7] = [
    "memory",
    "memory-swap",
    "cpu-shares",
    "cpu-period",
    "cpu-quota",
    "cpuset-cpus",
    "cpuset-mems",
];

/// docker's flags; each is also a key of `--resource`.
#[derive(Debug, Default)]
pub(crate) struct ResourceFlags<'a> {
    pub(crate) memory: Option<&'a str>,
    pub(crate) memory_swap: Option<&'a str>,
    pub(crate) cpu_shares: Option<&'a str>,
    pub(crate) cpu_period: Option<&'a str>,
    pub(crate) cpu_quota: Option<&'a str>,
    pub(crate) cpuset_cpus: Option<&'a str>,
    pub(crate) cpuset_mems: Option<&'a str>,
}

/// The limits; flags of their own win over `--resource`.
pub(crate) fn resources(resource: &[String], flags: &ResourceFlags<'_>) -> Result<Resources, String> {
    let mut all = Resources::default();
    for text in resource {
        for (key, value) in pairs(text)? {
            let value = required("resource", &key, value)?;
            set(&mut all, &key, &value).map_err(|error| format!("invalid --resource {key}: {error}"))?;
        }
    }
    let own = [
        flags.memory,
        flags.memory_swap,
        flags.cpu_shares,
        flags.cpu_period,
        flags.cpu_quota,
        flags.cpuset_cpus,
        flags.cpuset_mems,
    ];
    for (key, value) in KEYS.into_iter().zip(own) {
        if let Some(value) = value {
            set(&mut all, key, value).map_err(|error| format!("invalid --{key}: {error}"))?;
        }
    }
    Ok(all)
}

fn set(all: &mut Resources, key: &str, value: &str) -> Result<(), String> {
    let number = || {
        value
            .parse::<i64>()
            .map_err(|_| format!("`{value}` is not a number"))
    };
    let positive = || {
        value
            .parse::<u64>()
            .map_err(|_| format!("`{value}` is not a positive number"))
    };
    match key {
        "memory" => all.memory = Some(values::bytes(value)?),
        "memory-swap" if value == "-1" => all.memory_swap = Some(-1),
        "memory-swap" => all.memory_swap = Some(values::bytes(value)?),
        "cpu-shares" => all.cpu_shares = Some(positive()?),
        "cpu-period" => all.cpu_period = Some(positive()?),
        "cpu-quota" => all.cpu_quota = Some(number()?),
        "cpuset-cpus" => all.cpuset_cpus = Some(value.to_owned()),
        "cpuset-mems" => all.cpuset_mems = Some(value.to_owned()),
        other => return Err(unknown("resource", "key", other, &KEYS)),
    }
    Ok(())
}

/// Name, soft and hard limit of each `--ulimit`.
pub(crate) fn ulimits(flags: &[String]) -> Result<Vec<(String, u64, u64)>, String> {
    let value = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    flags
        .iter()
        .map(|flag| values::ulimit(flag).map(|limit| (limit.name, value(limit.soft), value(limit.hard))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_resource() {
        let flags = ResourceFlags {
            memory: Some("1g"),
            ..ResourceFlags::default()
        };
        let all = resources(&["memory=2g,memory-swap=-1,cpuset-cpus=0".to_owned()], &flags).unwrap();
        assert_eq!((all.memory, all.memory_swap), (Some(1 << 30), Some(-1)));
        assert_eq!(all.cpuset_cpus.as_deref(), Some("0"));
        for wrong in ["memory=x", "cpu-share=1", "cpu-shares=-1", "memory"] {
            assert!(
                resources(&[wrong.to_owned()], &ResourceFlags::default()).is_err(),
                "{wrong}"
            );
        }
        assert_eq!(
            ulimits(&["nofile=1:2".to_owned(), "core=-1".to_owned()]).unwrap(),
            [
                ("nofile".to_owned(), 1, 2),
                ("core".to_owned(), u64::MAX, u64::MAX)
            ]
        );
    }
}
