//! `POST /containers/{id}/update`: new limits into a container's `HostConfig`, with Docker's rules.

use cooper_runner::cgroup::Resources;
use cooper_runner::spec::RestartPolicy;

use super::lifecycle::restart_policy;
use super::limits::resources;
use super::unsupported::refuse_unsupported_host;
use crate::api::{HostConfig, UpdateRequest};
use crate::error::{ApiError, ApiResult};

/// What a request changes, after checking it by itself: zero and empty values change nothing.
pub(crate) fn check_update(change: &UpdateRequest, cpus: usize) -> ApiResult<()> {
    refuse_unsupported_host(change)?;
    let mut alone = change.clone();
    // Whether there is a memory limit to go with these is known only with the container's.
    if alone.memory == 0 {
        alone.memory_swap = 0;
    }
    resources(&alone, cpus)?;
    restart_policy(&change.restart_policy).map(drop)
}

/// Changes `host` and gives the new limits, all of them, and the restart policy.
pub(crate) fn merge_update(
    host: &mut HostConfig,
    change: &UpdateRequest,
    cpus: usize,
) -> ApiResult<(Resources, RestartPolicy)> {
    let conflict = |text: &str| Err(ApiError::bad(format!("Conflicting options: {text}")));
    if change.nano_cpus > 0 && host.cpu_period > 0 {
        return conflict("Nano CPUs cannot be updated as CPU Period has already been set");
    }
    if change.nano_cpus > 0 && host.cpu_quota > 0 {
        return conflict("Nano CPUs cannot be updated as CPU Quota has already been set");
    }
    if change.cpu_period > 0 && host.nano_cpus > 0 {
        return conflict("CPU Period cannot be updated as NanoCPUs has already been set");
    }
    if change.cpu_quota > 0 && host.nano_cpus > 0 {
        return conflict("CPU Quota cannot be updated as NanoCPUs has already been set");
    }
    // Docker refuses this for unlimited swap as well, where nothing is wrong with it.
    if change.memory != 0
        && change.memory_swap == 0
        && host.memory_swap > 0
        && change.memory > host.memory_swap
    {
        return Err(ApiError::bad(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    let number = |to: &mut i64, from: i64| {
        if from != 0 {
            *to = from;
        }
    };
    let text = |to: &mut String, from: &String| {
        if !from.is_empty() {
            to.clone_from(from);
        }
    };
    number(&mut host.cpu_shares, change.cpu_shares);
    number(&mut host.nano_cpus, change.nano_cpus);
    number(&mut host.cpu_period, change.cpu_period);
    number(&mut host.cpu_quota, change.cpu_quota);
    number(&mut host.memory, change.memory);
    number(&mut host.memory_swap, change.memory_swap);
    number(&mut host.memory_reservation, change.memory_reservation);
    text(&mut host.cpuset_cpus, &change.cpuset_cpus);
    text(&mut host.cpuset_mems, &change.cpuset_mems);
    if !change.restart_policy.name.is_empty() {
        if host.auto_remove && change.restart_policy.name != "no" {
            return Err(ApiError::bad(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        host.restart_policy = change.restart_policy.clone();
    }
    if change.pids_limit.is_some() {
        host.pids_limit = change.pids_limit.filter(|limit| *limit > 0);
    }
    let mut resources = resources(host, cpus)?;
    if change.pids_limit.is_some() && resources.pids_limit.is_none() {
        // A limit that was there is to go.
        resources.pids_limit = Some(-1);
    }
    Ok((resources, restart_policy(&host.restart_policy)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;

    #[test]
    fn zero_changes_nothing_and_the_rest_is_checked_with_what_is_there() {
        let check =
            |before: &HostConfig, change: UpdateRequest, expected: Result<&dyn Fn(&Resources), &str>| {
                let mut host = before.clone();
                let result = check_update(&change, 4).and_then(|()| merge_update(&mut host, &change, 4));
                match (result, expected) {
                    (Ok((resources, _)), Ok(look)) => look(&resources),
                    (Err(error), Err(text)) => assert!(error.message.contains(text), "{}", error.message),
                    (result, _) => panic!("{change:?}: {result:?}"),
                }
            };
        let with = |set: &dyn Fn(&mut HostConfig)| {
            let mut host = HostConfig::default();
            set(&mut host);
            host
        };
        let plain = with(&|_| {});
        let limited = with(&|host| {
            host.memory = 64 << 20;
            host.memory_swap = 128 << 20;
            host.pids_limit = Some(10);
        });
        check(
            &limited,
            plain.clone(),
            Ok(&|resources| {
                assert_eq!(
                    (resources.memory, resources.pids_limit),
                    (Some(64 << 20), Some(10))
                );
            }),
        );
        check(
            &limited,
            with(&|host| host.pids_limit = Some(-1)),
            Ok(&|resources| {
                assert_eq!(resources.pids_limit, Some(-1));
            }),
        );
        check(
            &limited,
            with(&|host| host.memory = 96 << 20),
            Ok(&|resources| {
                assert_eq!(
                    (resources.memory, resources.memory_swap),
                    (Some(96 << 20), Some(128 << 20))
                );
            }),
        );
        check(
            &limited,
            with(&|host| host.memory = 256 << 20),
            Err("smaller than already set memoryswap limit"),
        );
        check(
            &limited,
            with(&|host| host.memory_swap = -1),
            Ok(&|resources| {
                assert_eq!(resources.memory_swap, Some(-1));
            }),
        );
        check(
            &plain,
            with(&|host| host.memory_swap = 8 << 20),
            Err("always set the Memory limit"),
        );
        check(
            &plain,
            with(&|host| host.memory = 32 << 20),
            Ok(&|resources| {
                assert_eq!(resources.memory, Some(32 << 20));
            }),
        );
        check(
            &plain,
            with(&|host| host.memory = 1 << 20),
            Err("Minimum memory limit allowed is 6MB"),
        );
        let nano = with(&|host| host.nano_cpus = 500_000_000);
        check(
            &nano,
            with(&|host| host.cpu_quota = 5000),
            Err("as NanoCPUs has already been set"),
        );
        check(
            &nano,
            with(&|host| host.nano_cpus = 1_000_000_000),
            Ok(&|resources| {
                assert_eq!(resources.cpu_quota, Some(100_000));
            }),
        );
        let policy = |name: &str| {
            with(&|host| {
                host.restart_policy = api::RestartPolicy {
                    name: name.to_owned(),
                    maximum_retry_count: 0,
                };
            })
        };
        check(&plain, policy("sometimes"), Err("unknown policy"));
        let removed = with(&|host| host.auto_remove = true);
        check(&removed, policy("always"), Err("AutoRemove is enabled"));
        check(&removed, policy("no"), Ok(&|_| {}));
        check(&plain, with(&|host| host.blkio_weight = 10), Err("BlkioWeight"));
    }
}
