//! The whole of a container's spec, and the process of an exec.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cooper_runner::caps;
use cooper_runner::spec::{ContainerSpec, LogConfig, NetworkMode, ProcessSpec, RootFs, SPEC_VERSION};

use super::lifecycle::{health_check, restart_policy};
use super::limits::{device_rules, resources, rlimits};
use super::mounts::{mounts, parse_size};
use super::security::security;
use super::signal::parse_signal;
use super::unsupported::refuse_unsupported;
use crate::api::{ContainerConfig, CreateRequest, ExecCreateRequest, HostConfig, MountPoint};
use crate::error::{ApiError, ApiResult};

/// Docker's PATH.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_SHM: i64 = 64 << 20;
const DISCARDED_PORTS: &str = "Published ports are discarded when using host network mode";

/// What a spec is made of. `request` has the image's defaults merged in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'i> {
    pub(crate) id: &'i str,
    pub(crate) request: &'i CreateRequest,
    /// Unpacked layers, top first.
    pub(crate) lowers: &'i [PathBuf],
    /// The container's directory.
    pub(crate) dir: &'i Path,
    /// CPUs of this host.
    pub(crate) cpus: usize,
}

/// A spec and what goes with it.
#[derive(Debug)]
pub(crate) struct Translated {
    pub(crate) spec: ContainerSpec,
    pub(crate) points: Vec<MountPoint>,
    /// Host directories to make when missing.
    pub(crate) create: Vec<PathBuf>,
    /// Host paths that must exist.
    pub(crate) require: Vec<PathBuf>,
    pub(crate) warnings: Vec<String>,
    /// Name and address for `/etc/hosts`.
    pub(crate) extra_hosts: Vec<(String, String)>,
}

/// Refuses what this engine does not implement and fills in the values that Docker shows for empty fields.
///
/// Called before the image's defaults are merged, so that a health check of the image is a warning and not an error.
pub(crate) fn normalise_host_config(request: &mut CreateRequest) -> ApiResult<()> {
    refuse_unsupported(request)?;
    let host = &mut request.host_config;
    let or = |field: &mut String, default: &str| {
        if field.is_empty() {
            default.clone_into(field);
        }
    };
    or(&mut host.log_config.kind, "json-file");
    or(&mut host.restart_policy.name, "no");
    or(&mut host.ipc_mode, "private");
    or(&mut host.cgroupns_mode, "private");
    or(&mut host.runtime, "cooper");
    if host.shm_size == 0 {
        host.shm_size = DEFAULT_SHM;
    }
    if host.shm_size < 0 {
        return Err(ApiError::bad("SHM size can not be less than 0"));
    }
    if host.memory_swappiness == Some(-1) {
        host.memory_swappiness = None;
    }
    if host.pids_limit.is_some_and(|limit| limit <= 0) {
        host.pids_limit = None;
    }
    Ok(())
}

pub(crate) fn translate(input: &Input<'_>) -> ApiResult<Translated> {
    let (config, host) = (&input.request.config, &input.request.host_config);
    let mounts = mounts(host)?;
    let security = security(host)?;
    let network = match host.network_mode.as_str() {
        "host" => NetworkMode::Host,
        _ => NetworkMode::None,
    };
    let stop_signal = match config.stop_signal.as_str() {
        "" => 15,
        text => parse_signal(text).ok_or_else(|| ApiError::bad(format!("invalid signal: {text}")))?,
    };
    let spec = ContainerSpec {
        version: SPEC_VERSION,
        id: input.id.to_owned(),
        hostname: config.hostname.clone(),
        rootfs: RootFs {
            lowers: input.lowers.to_vec(),
            upper: input.dir.join("upper"),
            work: input.dir.join("work"),
            readonly: host.readonly_rootfs,
        },
        process: ProcessSpec {
            args: command(config)?,
            env: environment(config, config.tty),
            cwd: if config.working_dir.is_empty() {
                "/".to_owned()
            } else {
                config.working_dir.clone()
            },
            user: config.user.clone(),
            group_add: host.group_add.clone().unwrap_or_default(),
            tty: config.tty,
            console_size: Some(host.console_size)
                .filter(|size| *size != [0, 0])
                .map(|[rows, cols]| (rows, cols)),
            open_stdin: config.open_stdin,
            stdin_once: config.stdin_once,
            capabilities: capabilities(host)?,
            no_new_privileges: security.no_new_privileges,
            rlimits: rlimits(host)?,
            oom_score_adj: Some(host.oom_score_adj)
                .filter(|adj| *adj != 0)
                .map(checked_oom)
                .transpose()?,
        },
        mounts: mounts.specs,
        network,
        privileged: host.privileged,
        seccomp: security.seccomp,
        masked_paths: security.masked_paths,
        readonly_paths: security.readonly_paths,
        resources: resources(host, input.cpus)?,
        device_rules: device_rules(host)?,
        cgroup_path: format!("cooper/{}", input.id),
        sysctls: sysctls(host, network)?,
        shm_size: u64::try_from(host.shm_size).unwrap_or(64 << 20),
        stop_signal,
        log: log_config(host)?,
        auto_remove: host.auto_remove,
        restart: restart_policy(&host.restart_policy)?,
        health: health_check(config.healthcheck.as_ref(), config.shell.as_deref())?,
    };
    let extra_hosts = host
        .extra_hosts
        .iter()
        .flatten()
        .map(|entry| extra_host(entry))
        .collect::<ApiResult<_>>()?;
    Ok(Translated {
        spec,
        points: mounts.points,
        create: mounts.create,
        require: mounts.require,
        warnings: warnings(config, host),
        extra_hosts,
    })
}

fn command(config: &ContainerConfig) -> ApiResult<Vec<String>> {
    let args: Vec<String> = config
        .entrypoint
        .iter()
        .chain(&config.cmd)
        .flatten()
        .cloned()
        .collect();
    match args.first() {
        None => Err(ApiError::bad("no command specified")),
        Some(program) if program.is_empty() => {
            Err(ApiError::bad("no command specified: the program's name is empty"))
        }
        Some(_) => Ok(args),
    }
}

/// Docker's defaults under the container's own; `NAME` without `=` removes.
fn environment(config: &ContainerConfig, tty: bool) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", config.hostname)];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    overlay(&mut env, config.env.iter().flatten());
    env
}

/// Later entries replace earlier ones of the same name in place.
fn overlay<'e>(env: &mut Vec<String>, changes: impl Iterator<Item = &'e String>) {
    for change in changes {
        let name = change.split('=').next().unwrap_or(change);
        let same = |pair: &String| pair.split('=').next() == Some(name);
        match (change.contains('='), env.iter().position(same)) {
            (true, Some(at)) => env[at].clone_from(change),
            (true, None) => env.push(change.clone()),
            (false, Some(at)) => {
                env.remove(at);
            }
            (false, None) => {}
        }
    }
}

fn capabilities(host: &HostConfig) -> ApiResult<Vec<String>> {
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    caps::resolve(&list(&host.cap_add), &list(&host.cap_drop), host.privileged)
        .map(|set| set.names())
        .map_err(|error| ApiError::bad(error.to_string()))
}

fn checked_oom(adj: i32) -> ApiResult<i32> {
    if (-1000..=1000).contains(&adj) {
        Ok(adj)
    } else {
        Err(ApiError::bad(format!(
            "Invalid value {adj}, range for oom score adj is [-1000, 1000]"
        )))
    }
}

/// Only sysctls that belong to a namespace of the container; others would change the host.
fn sysctls(host: &HostConfig, network: NetworkMode) -> ApiResult<BTreeMap<String, String>> {
    const IPC: [&str; 9] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "fs.mqueue.",
    ];
    for name in host.sysctls.keys() {
        let dotted = name.replace('/', ".");
        let ipc = IPC
            .iter()
            .any(|known| dotted == *known || (known.ends_with('.') && dotted.starts_with(known)));
        let uts = dotted == "kernel.domainname";
        if dotted.starts_with("net.") && network == NetworkMode::Host {
            return Err(ApiError::bad(format!(
                "sysctl {name:?} not allowed in host network namespace"
            )));
        }
        if !(ipc || uts || dotted.starts_with("net.")) || dotted.contains("..") {
            return Err(ApiError::bad(format!(
                "sysctl {name:?} is not in a separate kernel namespace"
            )));
        }
    }
    Ok(host.sysctls.clone())
}

fn log_config(host: &HostConfig) -> ApiResult<LogConfig> {
    let mut log = LogConfig::default();
    match host.log_config.kind.as_str() {
        "json-file" | "" => {}
        "none" => log.enabled = false,
        other => {
            return Err(ApiError::unavailable(format!(
                "HostConfig.LogConfig.Type {other:?}"
            )));
        }
    }
    for (key, value) in &host.log_config.config {
        let invalid = || ApiError::bad(format!("invalid value for log opt {key:?}: {value:?}"));
        match key.as_str() {
            "max-size" if value == "-1" => log.max_size = u64::MAX,
            "max-size" => log.max_size = parse_size(value).filter(|size| *size > 0).ok_or_else(invalid)?,
            "max-file" => {
                log.max_files = value
                    .parse()
                    .ok()
                    .filter(|files| *files > 0)
                    .ok_or_else(invalid)?;
            }
            "mode" if value == "blocking" => {}
            "mode" | "max-buffer-size" | "compress" | "labels" | "labels-regex" | "env" | "env-regex"
            | "tag" => {
                return Err(ApiError::unavailable(format!(
                    "HostConfig.LogConfig.Config {key:?}"
                )));
            }
            _ => {
                return Err(ApiError::bad(format!(
                    "unknown log opt '{key}' for json-file log driver"
                )));
            }
        }
    }
    Ok(log)
}

/// `name:address` or `name=address`; the address may be an IPv6 one in brackets.
fn extra_host(entry: &str) -> ApiResult<(String, String)> {
    let invalid = || ApiError::bad(format!("bad format for add-host: {entry:?}"));
    let (name, address) = entry
        .split_once('=')
        .or_else(|| entry.split_once(':'))
        .ok_or_else(invalid)?;
    if address == "host-gateway" {
        return Err(ApiError::unavailable("HostConfig.ExtraHosts with host-gateway"));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    let name_is_word = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    match bare.parse::<std::net::IpAddr>() {
        Ok(address) if name_is_word => Ok((name.to_owned(), address.to_string())),
        _ => Err(invalid()),
    }
}

fn warnings(config: &ContainerConfig, host: &HostConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    let published =
        host.publish_all_ports || host.port_bindings.values().flatten().any(|list| !list.is_empty());
    if published && host.network_mode == "host" {
        warnings.push(DISCARDED_PORTS.to_owned());
    } else if published {
        warnings.push("Published ports are discarded without a network".to_owned());
    }
    for volume in config.volumes.iter().flatten().map(|(path, _)| path) {
        warnings.push(format!(
            "anonymous volumes are not available yet: {volume} is part of the container's writable layer"
        ));
    }
    if host.privileged
        && host
            .security_opt
            .iter()
            .flatten()
            .any(|option| option.starts_with("seccomp"))
    {
        warnings.push(
            "a privileged container has no seccomp filter: --security-opt seccomp is ignored".to_owned(),
        );
    }
    warnings
}

/// The process of an exec in a container made from `config` and `host` with `spec`.
pub(crate) fn exec_process(
    spec: &ContainerSpec,
    config: &ContainerConfig,
    request: &ExecCreateRequest,
) -> ApiResult<ProcessSpec> {
    let args = request.cmd.clone().filter(|cmd| !cmd.is_empty());
    let args = args.ok_or_else(|| ApiError::bad("No exec command specified"))?;
    let mut env = environment(config, request.tty);
    overlay(&mut env, request.env.iter().flatten());
    let or = |own: &str, other: &str| {
        if own.is_empty() {
            other.to_owned()
        } else {
            own.to_owned()
        }
    };
    Ok(ProcessSpec {
        args,
        env,
        cwd: or(&request.working_dir, &spec.process.cwd),
        user: or(&request.user, &spec.process.user),
        tty: request.tty,
        console_size: request
            .console_size
            .filter(|size| *size != [0, 0])
            .map(|[rows, cols]| (rows, cols)),
        open_stdin: request.attach_stdin,
        stdin_once: true,
        ..spec.process.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> ApiResult<CreateRequest> {
        let mut request: CreateRequest = serde_json::from_str(json).unwrap();
        normalise_host_config(&mut request)?;
        Ok(request)
    }

    fn spec(json: &str) -> ApiResult<Translated> {
        let request = request(json)?;
        let dir = Path::new("/data/containers/a1");
        translate(&Input {
            id: "a1",
            request: &request,
            lowers: &[PathBuf::from("/l")],
            dir,
            cpus: 2,
        })
    }

    #[test]
    fn fields_reach_the_spec() {
        let json = r#"{"Cmd":["x"],"Entrypoint":["sh","-c"],"Env":["A=1","PATH"],"Tty":true,"User":"1:2","StopSignal":"INT",
            "HostConfig":{"NetworkMode":"host","Memory":67108864,"PidsLimit":9,"ReadonlyRootfs":true,"AutoRemove":true,
            "GroupAdd":["audio"],"Ulimits":[{"Name":"nofile","Soft":1,"Hard":-1}],"OomScoreAdj":5,"ShmSize":1024,
            "ConsoleSize":[24,80],"ExtraHosts":["db:10.0.0.1"],"LogConfig":{"Type":"json-file","Config":{"max-size":"1m"}},
            "PortBindings":{"80/tcp":[{"HostPort":"80"}]},"Tmpfs":{"/run":"size=1m"}}}"#;
        let all = spec(json).unwrap();
        let spec = all.spec;
        assert_eq!(spec.process.args, ["sh", "-c", "x"]);
        assert_eq!(spec.process.env, ["HOSTNAME=", "TERM=xterm", "A=1"]);
        assert_eq!(
            (
                spec.process.user.as_str(),
                spec.process.cwd.as_str(),
                spec.stop_signal
            ),
            ("1:2", "/", 2)
        );
        assert_eq!(
            (spec.resources.memory, spec.resources.pids_limit),
            (Some(64 << 20), Some(9))
        );
        assert_eq!(spec.process.rlimits, [("nofile".to_owned(), 1, u64::MAX)]);
        assert_eq!(
            (spec.process.console_size, spec.process.oom_score_adj),
            (Some((24, 80)), Some(5))
        );
        assert_eq!(
            (spec.rootfs.readonly, spec.auto_remove, spec.shm_size),
            (true, true, 1024)
        );
        assert_eq!(
            (spec.network, spec.log.max_size, spec.mounts.len()),
            (NetworkMode::Host, 1 << 20, 1)
        );
        assert_eq!(all.warnings, [DISCARDED_PORTS]);
        assert_eq!(all.extra_hosts, [("db".to_owned(), "10.0.0.1".to_owned())]);
    }

    #[test]
    fn wrong_values_are_named() {
        let check = |fields: &str, host: &str, expected: &str| {
            let json = format!("{{{fields}\"HostConfig\":{{\"NetworkMode\":\"none\"{host}}}}}");
            assert_eq!(spec(&json).unwrap_err().message, expected);
        };
        let cmd = r#""Cmd":["x"],"#;
        check("", "", "no command specified");
        check(r#""Cmd":["x"],"StopSignal":"FOO","#, "", "invalid signal: FOO");
        check(
            cmd,
            r#","OomScoreAdj":2000"#,
            "Invalid value 2000, range for oom score adj is [-1000, 1000]",
        );
        check(
            cmd,
            r#","Sysctls":{"kernel.pid_max":"1"}"#,
            "sysctl \"kernel.pid_max\" is not in a separate kernel namespace",
        );
        check(cmd, r#","ShmSize":-1"#, "SHM size can not be less than 0");
        check(cmd, r#","ExtraHosts":["db"]"#, "bad format for add-host: \"db\"");
        check(
            cmd,
            r#","LogConfig":{"Config":{"x":"y"}}"#,
            "unknown log opt 'x' for json-file log driver",
        );
    }

    #[test]
    fn an_exec_starts_from_the_container() {
        let mut request =
            request(r#"{"Cmd":["x"],"User":"7","Env":["A=1"],"HostConfig":{"NetworkMode":"none"}}"#).unwrap();
        request.config.hostname = "h".to_owned();
        let dir = Path::new("/c");
        let spec = translate(&Input {
            id: "a1",
            request: &request,
            lowers: &[],
            dir,
            cpus: 1,
        })
        .unwrap()
        .spec;
        let exec = ExecCreateRequest {
            cmd: Some(vec!["ls".to_owned()]),
            env: Some(vec!["A=2".to_owned(), "B=3".to_owned()]),
            ..Default::default()
        };
        let process = exec_process(&spec, &request.config, &exec).unwrap();
        assert_eq!(process.env[1..], ["HOSTNAME=h", "A=2", "B=3"]);
        assert_eq!(
            (process.user.as_str(), process.cwd.as_str(), process.open_stdin),
            ("7", "/", false)
        );
        assert_eq!(
            exec_process(&spec, &request.config, &ExecCreateRequest::default())
                .unwrap_err()
                .message,
            "No exec command specified"
        );
    }
}
