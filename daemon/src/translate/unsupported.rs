//! Fields that this engine does not implement yet: refused by name, never ignored.

use crate::api::{ContainerConfig, CreateRequest, HostConfig};
use crate::error::{ApiError, ApiResult};

/// Why a container on a bridge cannot be made yet.
const NO_BRIDGE: &str = "bridge networks are not available yet: choose --network host or --network none";

/// Refuses what a request asks for and would not get; clients' defaults pass.
pub(crate) fn refuse_unsupported(request: &CreateRequest) -> ApiResult<()> {
    network(request)?;
    config(&request.config)?;
    host(&request.host_config)
}

/// The part of it that is about the host's resources.
pub(super) fn refuse_unsupported_host(host_config: &HostConfig) -> ApiResult<()> {
    host(host_config)
}

fn network(request: &CreateRequest) -> ApiResult<()> {
    let mode = request.host_config.network_mode.as_str();
    match mode {
        "host" | "none" => {}
        "" | "default" | "bridge" => return Err(ApiError::bad(NO_BRIDGE)),
        _ if mode.starts_with("container:") => {
            return Err(ApiError::unavailable(format!("HostConfig.NetworkMode {mode:?}")));
        }
        _ => return Err(ApiError::not_found(format!("network {mode} not found"))),
    }
    let endpoints = request
        .networking_config
        .iter()
        .filter_map(|config| config.endpoints_config.as_ref())
        .flatten();
    for (name, endpoint) in endpoints {
        if name != mode {
            return Err(ApiError::unavailable(format!(
                "NetworkingConfig.EndpointsConfig {name:?}"
            )));
        }
        let endpoint = endpoint.clone().unwrap_or_default();
        let list = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        if !list(&endpoint.aliases) || !list(&endpoint.links) || !endpoint.mac_address.is_empty() {
            return Err(ApiError::bad(format!(
                "conflicting options: endpoint settings and the network mode {mode:?}"
            )));
        }
    }
    Ok(())
}

fn config(config: &ContainerConfig) -> ApiResult<()> {
    first_of(&[
        ("MacAddress", !config.mac_address.is_empty()),
        ("Domainname", !config.domainname.is_empty()),
        (
            "OnBuild",
            config.on_build.as_ref().is_some_and(|list| !list.is_empty()),
        ),
    ])
}

fn host(host: &HostConfig) -> ApiResult<()> {
    fn some<T>(list: Option<&Vec<T>>) -> bool {
        list.is_some_and(|list| !list.is_empty())
    }
    let not = |text: &str, allowed: &[&str]| !text.is_empty() && !allowed.contains(&text);
    if host.auto_remove && not(&host.restart_policy.name, &["no"]) {
        return Err(ApiError::bad(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    first_of(&[
        ("HostConfig.ContainerIDFile", !host.container_id_file.is_empty()),
        ("HostConfig.VolumeDriver", not(&host.volume_driver, &["local"])),
        ("HostConfig.VolumesFrom", some(host.volumes_from.as_ref())),
        ("HostConfig.CgroupnsMode", not(&host.cgroupns_mode, &["private"])),
        ("HostConfig.Dns", !host.dns.is_empty()),
        ("HostConfig.DnsOptions", !host.dns_options.is_empty()),
        ("HostConfig.DnsSearch", !host.dns_search.is_empty()),
        (
            "HostConfig.IpcMode",
            not(&host.ipc_mode, &["private", "shareable"]),
        ),
        ("HostConfig.Cgroup", !host.cgroup.is_empty()),
        ("HostConfig.Links", some(host.links.as_ref())),
        ("HostConfig.PidMode", not(&host.pid_mode, &["private"])),
        ("HostConfig.StorageOpt", !host.storage_opt.is_empty()),
        ("HostConfig.UTSMode", !host.uts_mode.is_empty()),
        ("HostConfig.UsernsMode", not(&host.userns_mode, &["host"])),
        (
            "HostConfig.Runtime",
            not(&host.runtime, &["runc", "cooper", "io.containerd.runc.v2"]),
        ),
        ("HostConfig.Isolation", not(&host.isolation, &["default"])),
        ("HostConfig.CgroupParent", !host.cgroup_parent.is_empty()),
        ("HostConfig.BlkioWeight", host.blkio_weight != 0),
        (
            "HostConfig.BlkioWeightDevice",
            !host.blkio_weight_device.is_empty(),
        ),
        (
            "HostConfig.BlkioDeviceReadBps",
            !host.blkio_device_read_bps.is_empty(),
        ),
        (
            "HostConfig.BlkioDeviceWriteBps",
            !host.blkio_device_write_bps.is_empty(),
        ),
        (
            "HostConfig.BlkioDeviceReadIOps",
            !host.blkio_device_read_iops.is_empty(),
        ),
        (
            "HostConfig.BlkioDeviceWriteIOps",
            !host.blkio_device_write_iops.is_empty(),
        ),
        ("HostConfig.CpuRealtimePeriod", host.cpu_realtime_period != 0),
        ("HostConfig.CpuRealtimeRuntime", host.cpu_realtime_runtime != 0),
        ("HostConfig.Devices", !host.devices.is_empty()),
        ("HostConfig.DeviceRequests", some(host.device_requests.as_ref())),
        // -1 is how clients spell "not set".
        (
            "HostConfig.MemorySwappiness",
            host.memory_swappiness.is_some_and(|value| value != -1),
        ),
        ("HostConfig.OomKillDisable", host.oom_kill_disable == Some(true)),
        ("HostConfig.Init", host.init == Some(true)),
        ("HostConfig.CpuCount", host.cpu_count != 0),
        ("HostConfig.CpuPercent", host.cpu_percent != 0),
        ("HostConfig.IOMaximumIOps", host.io_maximum_iops != 0),
        ("HostConfig.IOMaximumBandwidth", host.io_maximum_bandwidth != 0),
    ])
}

fn first_of(fields: &[(&str, bool)]) -> ApiResult<()> {
    match fields.iter().find(|(_, used)| *used) {
        Some((field, _)) => Err(ApiError::unavailable(field)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_defaults_pass_and_the_rest_is_named() {
        let check = |host_config: &str, expected: Result<(), &str>| {
            let text = format!("{{\"Image\":\"a\",\"HostConfig\":{host_config}}}");
            let result = refuse_unsupported(&serde_json::from_str(&text).unwrap());
            assert_eq!(
                result.map_err(|error| error.message),
                expected.map_err(str::to_owned),
                "{host_config}"
            );
        };
        // What docker's CLI 28 sends for `run --network none`.
        let defaults = r#"{"Binds":null,"LogConfig":{"Type":"","Config":{}},"NetworkMode":"none","PortBindings":{},
            "RestartPolicy":{"Name":"no","MaximumRetryCount":0},"ConsoleSize":[0,0],"CgroupnsMode":"","Dns":[],
            "IpcMode":"","PidMode":"","UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"","BlkioWeight":0,
            "BlkioWeightDevice":[],"Devices":[],"MemorySwappiness":-1,"OomKillDisable":false,"PidsLimit":0,
            "Ulimits":[],"MaskedPaths":null,"ReadonlyPaths":null}"#;
        check(defaults, Ok(()));
        check(r#"{"NetworkMode":"host"}"#, Ok(()));
        check(
            r#"{"NetworkMode":"none","RestartPolicy":{"Name":"always"}}"#,
            Ok(()),
        );
        check("{}", Err(NO_BRIDGE));
        check(r#"{"NetworkMode":"bridge"}"#, Err(NO_BRIDGE));
        check(r#"{"NetworkMode":"mine"}"#, Err("network mine not found"));
        let missing = |field: &str| format!("{field} is not implemented by this engine yet");
        for (json, field) in [
            (r#"{"NetworkMode":"none","Init":true}"#, "HostConfig.Init"),
            (
                r#"{"NetworkMode":"none","Devices":[{"PathOnHost":"/dev/fuse"}]}"#,
                "HostConfig.Devices",
            ),
            (r#"{"NetworkMode":"none","PidMode":"host"}"#, "HostConfig.PidMode"),
        ] {
            check(json, Err(&missing(field)));
        }
    }
}
