//! Resource limits, with Docker's checks and wording.

use cooper_runner::cgroup::{DeviceRule, Resources};

use crate::api::HostConfig;
use crate::error::{ApiError, ApiResult};

/// Docker's least memory limit.
const MIN_MEMORY: i64 = 6 << 20;
/// Docker's CFS period.
const CPU_PERIOD: u64 = 100_000;

/// `cpus`: how many this host has.
pub(crate) fn resources(host: &HostConfig, cpus: usize) -> ApiResult<Resources> {
    check_memory(host)?;
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let (cpu_quota, cpu_period) = if host.nano_cpus != 0 {
        if host.cpu_quota != 0 || host.cpu_period != 0 {
            return Err(ApiError::bad(
                "Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set",
            ));
        }
        let whole = i64::try_from(cpus)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000_000);
        if host.nano_cpus < 10_000_000 || host.nano_cpus > whole {
            return Err(ApiError::bad(format!(
                "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            )));
        }
        (Some(host.nano_cpus / 10_000), Some(CPU_PERIOD))
    } else {
        if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
            return Err(ApiError::bad(
                "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
            ));
        }
        if host.cpu_quota > 0 && host.cpu_quota < 1000 {
            return Err(ApiError::bad(
                "CPU cfs quota can not be less than 1ms (i.e. 1000)",
            ));
        }
        (
            Some(host.cpu_quota).filter(|quota| *quota != 0),
            positive(host.cpu_period),
        )
    };
    if host.cpu_shares < 0 {
        return Err(ApiError::bad(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.cpu_shares
        )));
    }
    check_cpu_list("CpusetCpus", &host.cpuset_cpus)?;
    check_cpu_list("CpusetMems", &host.cpuset_mems)?;
    Ok(Resources {
        memory: Some(host.memory).filter(|memory| *memory > 0),
        memory_swap: Some(host.memory_swap).filter(|swap| *swap != 0),
        memory_reservation: Some(host.memory_reservation).filter(|memory| *memory > 0),
        cpu_shares: positive(host.cpu_shares),
        cpu_quota,
        cpu_period,
        cpuset_cpus: Some(host.cpuset_cpus.clone()).filter(|cpus| !cpus.is_empty()),
        cpuset_mems: Some(host.cpuset_mems.clone()).filter(|mems| !mems.is_empty()),
        pids_limit: host.pids_limit.filter(|limit| *limit > 0),
    })
}

fn check_memory(host: &HostConfig) -> ApiResult<()> {
    let fail = |text: &str| Err(ApiError::bad(text));
    if host.memory != 0 && host.memory < MIN_MEMORY {
        return fail("Minimum memory limit allowed is 6MB");
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return fail("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory == 0 && host.memory_swap > 0 {
        return fail("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if host.memory_reservation != 0 && host.memory_reservation < MIN_MEMORY {
        return fail("Minimum memory reservation allowed is 6MB");
    }
    if host.memory > 0 && host.memory_reservation > host.memory {
        return fail("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    Ok(())
}

/// `0-3,7`; whether these exist on the host is the kernel's to say.
fn check_cpu_list(field: &str, text: &str) -> ApiResult<()> {
    let number = |text: &str| !text.is_empty() && text.len() < 6 && text.bytes().all(|b| b.is_ascii_digit());
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first) && number(last),
        None => number(part),
    };
    if text.is_empty() || text.split(',').all(|part| range(part.trim())) {
        Ok(())
    } else {
        Err(ApiError::bad(format!("Invalid value {text} for {field}")))
    }
}

/// Ulimits as name, soft, hard; -1 is unlimited.
pub(crate) fn rlimits(host: &HostConfig) -> ApiResult<Vec<(String, u64, u64)>> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let value = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let check = |limit: &crate::api::Ulimit| {
        if !NAMES.contains(&limit.name.as_str()) {
            return Err(ApiError::bad(format!("invalid ulimit type: {}", limit.name)));
        }
        let (soft, hard) = (value(limit.soft), value(limit.hard));
        if soft > hard {
            return Err(ApiError::bad(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            )));
        }
        Ok((limit.name.clone(), soft, hard))
    };
    host.ulimits.iter().map(check).collect()
}

/// `c 1:3 rwm` rules.
pub(crate) fn device_rules(host: &HostConfig) -> ApiResult<Vec<DeviceRule>> {
    let parse = |text: &String| {
        let mut words = text.split_whitespace();
        let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
        let (major, minor) = numbers.split_once(':')?;
        let number = |text: &str| {
            if text == "*" {
                Some(None)
            } else {
                text.parse().ok().map(Some)
            }
        };
        let kind = match kind {
            "a" | "b" | "c" => kind.chars().next()?,
            _ => return None,
        };
        let valid = !access.is_empty() && access.chars().all(|c| "rwm".contains(c)) && words.next().is_none();
        let rule = DeviceRule {
            allow: true,
            kind,
            major: number(major)?,
            minor: number(minor)?,
            access: access.to_owned(),
        };
        valid.then_some(rule)
    };
    let all = host.device_cgroup_rules.iter().flatten();
    all.map(|text| {
        parse(text).ok_or_else(|| ApiError::bad(format!("invalid device cgroup rule format: '{text}'")))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked_as_docker_does() {
        let check = |host: HostConfig, expected: Result<(Option<i64>, Option<i64>), &str>| {
            let result = resources(&host, 2)
                .map(|r| (r.memory, r.cpu_quota))
                .map_err(|error| error.message);
            assert_eq!(result, expected.map_err(str::to_owned));
        };
        let host = HostConfig::default;
        check(host(), Ok((None, None)));
        check(
            HostConfig {
                memory: 64 << 20,
                nano_cpus: 500_000_000,
                ..host()
            },
            Ok((Some(64 << 20), Some(50_000))),
        );
        check(
            HostConfig {
                memory: 1000,
                ..host()
            },
            Err("Minimum memory limit allowed is 6MB"),
        );
        let range = "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available";
        check(
            HostConfig {
                nano_cpus: 9_000_000_000,
                ..host()
            },
            Err(range),
        );
        check(
            HostConfig {
                nano_cpus: i64::MIN,
                ..host()
            },
            Err(range),
        );
        let cpuset = HostConfig {
            cpuset_cpus: "0-1,x".to_owned(),
            ..host()
        };
        check(cpuset, Err("Invalid value 0-1,x for CpusetCpus"));
    }

    #[test]
    fn device_rules_are_parsed_or_refused() {
        let rules = |text: &str| {
            device_rules(&HostConfig {
                device_cgroup_rules: Some(vec![text.to_owned()]),
                ..HostConfig::default()
            })
        };
        let rule = rules("c 1:* rw").unwrap().remove(0);
        assert_eq!(
            (rule.kind, rule.major, rule.minor, rule.access.as_str()),
            ('c', Some(1), None, "rw")
        );
        for bad in ["", "x 1:1 r", "c 1 r", "c 1:1 z", "c 1:1 r r"] {
            assert!(rules(bad).is_err(), "{bad}");
        }
    }
}
