//! The sandbox of a RUN.

use cooper_registry::store::Snapshot;
use cooper_runner::spec::{
    ContainerSpec, LogConfig, NetworkMode, ProcessSpec, RestartPolicy, RootFs as SpecRootFs, SPEC_VERSION,
    SeccompMode,
};

use super::super::context::{Environment, RootFs};
use super::devices::Edits;
use super::prepare::Prepared;
use crate::build::{Error, Request};
use crate::plan::RunAction;

/// Docker's default capabilities.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];
const SHM_SIZE: u64 = 64 << 20;
/// What `--add-host name:host-gateway` stands for.
const GATEWAY: &str = "host-gateway";

pub(super) fn spec(
    environment: &Environment<'_>,
    action: &RunAction,
    prepared: &Prepared,
    edits: Edits,
    parent: &RootFs,
    snapshot: &Snapshot,
) -> Result<ContainerSpec, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::internal(format!("random bytes: {error}")))?;
    let id = cooper_registry::digest::to_hex(&bytes);
    let request = environment.request;
    let group = request
        .cgroup_parent
        .as_deref()
        .map(|parent| parent.trim_matches('/'));
    let group = group.filter(|parent| !parent.is_empty()).unwrap_or("cooper");
    let env = action
        .env
        .iter()
        .chain(&action.proxies)
        .chain(&edits.env)
        .chain(&prepared.secrets);
    Ok(ContainerSpec {
        version: SPEC_VERSION,
        cgroup_path: format!("{group}/{id}"),
        id,
        hostname: action.hostname.clone(),
        rootfs: SpecRootFs {
            lowers: parent.lowers.clone(),
            upper: snapshot.upper(),
            work: snapshot.work(),
            readonly: false,
        },
        process: ProcessSpec {
            args: action.args.clone(),
            env: env.cloned().collect(),
            cwd: action.cwd.clone(),
            user: action.user.clone(),
            group_add: edits.groups,
            tty: false,
            console_size: None,
            open_stdin: false,
            stdin_once: false,
            capabilities: CAPABILITIES.iter().map(|name| (*name).to_owned()).collect(),
            no_new_privileges: false,
            rlimits: request.ulimits.clone(),
            oom_score_adj: None,
        },
        mounts: prepared.mounts.iter().cloned().chain(edits.mounts).collect(),
        network: action.network,
        privileged: action.insecure,
        seccomp: SeccompMode::Default,
        masked_paths: None,
        readonly_paths: None,
        resources: request.resources.clone(),
        device_rules: edits.rules,
        sysctls: std::collections::BTreeMap::new(),
        shm_size: request.shm_size.filter(|size| *size > 0).unwrap_or(SHM_SIZE),
        stop_signal: 15,
        log: LogConfig {
            enabled: false,
            ..LogConfig::default()
        },
        auto_remove: true,
        restart: RestartPolicy::default(),
        health: None,
    })
}

/// `--add-host`, with the address that this host has for a step of that network.
pub(super) fn hosts(request: &Request, network: NetworkMode) -> Vec<(String, String)> {
    let gateway = match network {
        // The step is on this host; without a network nothing is reached in any case.
        NetworkMode::Host | NetworkMode::None => "127.0.0.1",
    };
    let address = |given: &String| {
        if given == GATEWAY {
            gateway.to_owned()
        } else {
            given.clone()
        }
    };
    let hosts = request.extra_hosts.iter();
    hosts
        .map(|(name, given)| (name.clone(), address(given)))
        .collect()
}
