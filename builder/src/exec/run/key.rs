//! What the result of a RUN depends on.

use super::super::context::{Environment, RootFs};
use super::sources::Sources;
use crate::build::Error;
use crate::cache::Key;
use crate::plan::{CopyFrom, Mount, MountKind, RunAction};
use cooper_runner::spec::NetworkMode;

/// The key with the contents of what is mounted.
///
/// As in BuildKit's: values of proxies and secrets, addresses of further hosts, what is in cache mounts, their ids and
/// sharing unless they are the default ones, limits on memory and CPU, and paths of mounted sources do not count.
pub(in crate::exec) fn key(
    environment: &Environment<'_>,
    action: &RunAction,
    parent: &RootFs,
    sources: &Sources,
) -> Result<Key, Error> {
    let mut key = without_sources(environment, action, parent);
    sources.add_to(environment, &mut key)?;
    Ok(key)
}

/// The key with the whole of the stages and images that are mounted: found without looking at a file. None if files of the
/// context are, or nothing.
pub(in crate::exec) fn quick(
    environment: &Environment<'_>,
    action: &RunAction,
    parent: &RootFs,
    identity: &dyn Fn(usize) -> Option<String>,
) -> Option<Key> {
    let mut key = without_sources(environment, action, parent);
    let mut any = false;
    for mount in &action.mounts {
        let (MountKind::Bind { source, .. } | MountKind::Cache { source, .. }) = &mount.kind else {
            continue;
        };
        match mount.kind.from() {
            None => continue,
            Some(CopyFrom::Context | CopyFrom::Named(_)) => return None,
            Some(CopyFrom::Step(None)) => key.add("from", "scratch"),
            Some(CopyFrom::Step(Some(step))) => key.add("from", identity(step)?),
        }
        key.add("path", source);
        any = true;
    }
    any.then_some(key)
}

fn without_sources(environment: &Environment<'_>, action: &RunAction, parent: &RootFs) -> Key {
    let mut key = Key::new("RUN");
    key.add("rootfs", parent.identity());
    action.args.iter().for_each(|arg| key.add("arg", arg));
    action.env.iter().for_each(|pair| key.add("env", pair));
    key.add("cwd", &action.cwd);
    key.add("user", &action.user);
    key.add("network", network(action.network));
    key.add("hostname", &action.hostname);
    key.add("platform", std::env::consts::ARCH);
    if let Some(script) = &action.script {
        key.add("script", &script.name);
        key.add("script", &script.bytes);
    }
    action
        .mounts
        .iter()
        .for_each(|mount| key.add("mount", describe(mount)));
    key.add_some("security", action.insecure.then_some("insecure"));
    for device in &action.devices {
        key.add("device", format!("{} required={}", device.name, device.required));
    }
    let request = environment.request;
    for (name, _) in &request.extra_hosts {
        key.add("host", name);
    }
    for (name, soft, hard) in &request.ulimits {
        key.add("ulimit", format!("{name}={soft}:{hard}"));
    }
    key.add_some("cgroup-parent", request.cgroup_parent.as_ref());
    key.add_some("shm-size", request.shm_size.map(|size| size.to_string()));
    key
}

fn network(mode: NetworkMode) -> &'static str {
    match mode {
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    }
}

/// A mount without the files in it.
fn describe(mount: &Mount) -> String {
    let access = |readonly: &bool| if *readonly { "ro" } else { "rw" };
    let need = |required: &bool| if *required { "required" } else { "optional" };
    match &mount.kind {
        MountKind::Bind { target, readonly, .. } => format!("bind {target:?} {}", access(readonly)),
        MountKind::Cache {
            target,
            readonly,
            default_id,
            sharing,
            ..
        } => {
            let own = !default_id || *sharing != crate::mounts::Sharing::Shared;
            let id = if own { "own" } else { "default" };
            format!("cache {target:?} {} {id}", access(readonly))
        }
        MountKind::Tmpfs {
            target,
            size,
            readonly,
        } => {
            format!("tmpfs {target:?} {} {}", access(readonly), size.unwrap_or(0))
        }
        MountKind::Secret {
            id,
            target,
            env,
            required,
            mode,
            uid,
            gid,
        } => format!(
            "secret {id:?} {target:?} {env:?} {mode:o} {uid}:{gid} {}",
            need(required)
        ),
        MountKind::Ssh {
            id,
            target,
            required,
            mode,
            uid,
            gid,
        } => format!("ssh {id:?} {target:?} {mode:o} {uid}:{gid} {}", need(required)),
    }
}
