//! Mounts made ready: what the sandbox is told, and what is held while it runs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cooper_registry::store::Snapshot;
use cooper_runner::spec::{MountSource, MountSpec, Propagation, Secret};

use super::super::context::{Environment, RootFs};
use super::agent::Agent;
use super::sources::{Source, Sources, at_mount};
use crate::build::{Error, IoContext as _};
use crate::mounts::{CacheMount, CacheMounts, MountIdentity, Sharing};
use crate::plan::{CopyFrom, Inline, Mount, MountKind, RunAction};

const PIPES: &str = "/dev/pipes";
/// BuildKit's limit on a secret.
const MAX_SECRET: usize = 500 << 10;

/// Everything that a RUN's mounts need. Dropped after its processes have ended.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) mounts: Vec<MountSpec>,
    /// Secrets as variables, `K=V`.
    pub(super) secrets: Vec<String>,
    caches: BTreeMap<String, CacheMount>,
    agents: Vec<Agent>,
}

/// A cache mount that a RUN needs.
struct Wanted {
    /// Number of the first mount that has it.
    number: usize,
    identity: MountIdentity,
    /// The strictest that is asked for.
    sharing: Sharing,
    made: Option<(u32, u32, u32)>,
}

impl Prepared {
    pub(super) fn new(
        environment: &Environment<'_>,
        action: &RunAction,
        sources: &Sources,
        rootfs: &dyn Fn(usize) -> Option<Arc<RootFs>>,
        snapshot: &Snapshot,
    ) -> Result<Self, Error> {
        let mut prepared = Self::default();
        if let Some(script) = &action.script {
            prepared.mounts.push(pipes(script, snapshot)?);
        }
        // Secrets and agents first: if one is missing nothing else needs to be made, or waited for.
        let mut specs: Vec<Option<MountSpec>> = Vec::new();
        for mount in &action.mounts {
            specs.push(match &mount.kind {
                MountKind::Secret { .. } => prepared.secret(environment, mount)?,
                MountKind::Ssh { .. } => prepared.agent(environment, mount)?,
                MountKind::Bind { .. } | MountKind::Cache { .. } | MountKind::Tmpfs { .. } => None,
            });
        }
        prepared.acquire_caches(environment, action, sources, rootfs)?;
        for (number, mount) in action.mounts.iter().enumerate() {
            if specs[number].is_none() {
                specs[number] = prepared.plain(environment, number, mount, sources, rootfs, snapshot)?;
            }
        }
        prepared.mounts.extend(specs.into_iter().flatten());
        Ok(prepared)
    }

    fn secret(&mut self, environment: &Environment<'_>, mount: &Mount) -> Result<Option<MountSpec>, Error> {
        let MountKind::Secret {
            id,
            target,
            env,
            required,
            mode,
            uid,
            gid,
        } = &mount.kind
        else {
            return Ok(None);
        };
        let fail = |message: String| at_mount(environment, mount, format!("secret {id}: {message}"));
        let Some(content) = environment.services.secrets.secret(id).map_err(fail)? else {
            return if *required {
                Err(fail("not found".to_owned()))
            } else {
                Ok(None)
            };
        };
        if content.len() > MAX_SECRET {
            return Err(fail(format!("larger than {MAX_SECRET} bytes")));
        }
        if let Some(name) = env {
            // The value must not be in the message, nor the error that has it.
            let value = std::str::from_utf8(&content)
                .ok()
                .filter(|value| !value.contains('\0'));
            let value = value.ok_or_else(|| fail("is not text and cannot be a variable".to_owned()))?;
            self.secrets.push(format!("{name}={value}"));
        }
        Ok(target.as_ref().map(|target| MountSpec {
            target: target.into(),
            source: MountSource::Secret {
                content: Secret(content),
                mode: *mode,
                uid: *uid,
                gid: *gid,
            },
            readonly: true,
        }))
    }

    fn agent(&mut self, environment: &Environment<'_>, mount: &Mount) -> Result<Option<MountSpec>, Error> {
        let MountKind::Ssh {
            id,
            target,
            required,
            mode,
            uid,
            gid,
        } = &mount.kind
        else {
            return Ok(None);
        };
        let fail = |message: String| at_mount(environment, mount, format!("ssh {id}: {message}"));
        let Some(socket) = environment.services.secrets.ssh_agent(id).map_err(fail)? else {
            return if *required {
                Err(at_mount(
                    environment,
                    mount,
                    format!("unset ssh forward key {id}"),
                ))
            } else {
                Ok(None)
            };
        };
        let agent = Agent::start(environment.exec_root, &socket, *mode, (*uid, *gid))?;
        let spec = bound(Path::new(target), &agent.socket(), false);
        self.agents.push(agent);
        Ok(Some(spec))
    }

    /// Takes all cache mounts in one order for all builds, so that no two wait for each other; one that is mounted twice is
    /// taken once.
    fn acquire_caches(
        &mut self,
        environment: &Environment<'_>,
        action: &RunAction,
        sources: &Sources,
        rootfs: &dyn Fn(usize) -> Option<Arc<RootFs>>,
    ) -> Result<(), Error> {
        let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
        for (number, mount) in action.mounts.iter().enumerate() {
            if let MountKind::Cache { sharing, made, .. } = &mount.kind
                && let Some(identity) = identity(environment, &mount.kind, rootfs)
            {
                let first = Wanted {
                    number,
                    sharing: *sharing,
                    made: *made,
                    identity: identity.clone(),
                };
                let entry = wanted.entry(identity.key()).or_insert(first);
                entry.sharing = entry.sharing.max(*sharing);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let store = CacheMounts::open(environment.store)?;
        for (key, wanted) in wanted {
            let fill = |path: &Path| match sources.get(wanted.number) {
                Some(source) => source.copy_to(environment, path),
                None => empty_cache(path, wanted.made),
            };
            environment
                .remote
                .restore_mount(environment.lease, &wanted.identity);
            let cache = store.acquire(&wanted.identity, wanted.sharing, &fill, environment.stop)?;
            environment.remote.note_mount(&wanted.identity);
            self.caches.insert(key, cache);
        }
        Ok(())
    }

    fn plain(
        &self,
        environment: &Environment<'_>,
        number: usize,
        mount: &Mount,
        sources: &Sources,
        rootfs: &dyn Fn(usize) -> Option<Arc<RootFs>>,
        snapshot: &Snapshot,
    ) -> Result<Option<MountSpec>, Error> {
        Ok(match &mount.kind {
            MountKind::Tmpfs {
                target,
                size,
                readonly,
            } => Some(MountSpec {
                target: target.into(),
                source: MountSource::Tmpfs {
                    size: *size,
                    mode: None,
                    exec: true,
                },
                readonly: *readonly,
            }),
            MountKind::Cache { target, readonly, .. } => {
                let cache = identity(environment, &mount.kind, rootfs)
                    .and_then(|identity| self.caches.get(&identity.key()));
                let cache = cache.ok_or_else(|| Error::internal("all cache mounts are taken"))?;
                Some(bound(Path::new(target), &cache.data(), *readonly))
            }
            MountKind::Bind { target, readonly, .. } => {
                let source = sources.get(number);
                let source = source.ok_or_else(|| Error::internal("all sources are found"))?;
                let scratch = snapshot.dir().join(format!("mount-{number}"));
                Some(bind(environment, source, Path::new(target), *readonly, &scratch)?)
            }
            MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
        })
    }
}

/// What a cache mount is found by.
fn identity(
    environment: &Environment<'_>,
    kind: &MountKind,
    rootfs: &dyn Fn(usize) -> Option<Arc<RootFs>>,
) -> Option<MountIdentity> {
    let MountKind::Cache {
        namespace,
        id,
        from,
        source,
        made,
        ..
    } = kind
    else {
        return None;
    };
    let mut origin = Vec::new();
    match from {
        Some(CopyFrom::Step(Some(step))) => origin.push(format!("rootfs={}", rootfs(*step)?.identity())),
        Some(CopyFrom::Named(number)) => {
            let name = environment.request.named_contexts.keys().nth(*number)?;
            origin.push(format!("context={name}"));
        }
        Some(CopyFrom::Step(None) | CopyFrom::Context) | None => {}
    }
    if source != "/" {
        origin.push(format!("source={source}"));
    } else if let Some((mode, uid, gid)) = made {
        origin.push(format!("mode={mode:o} uid={uid} gid={gid}"));
    }
    Some(MountIdentity {
        namespace: namespace.clone(),
        id: id.clone(),
        origin: origin.join(" "),
    })
}

/// A cache that begins empty.
fn empty_cache(path: &Path, made: Option<(u32, u32, u32)>) -> Result<(), Error> {
    let (mode, uid, gid) = made.unwrap_or((0o755, 0, 0));
    let made = fs::create_dir(path)
        .and_then(|()| std::os::unix::fs::chown(path, Some(uid), Some(gid)))
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    made.map_err(|error| Error::io(path, &error))
}

/// A mount of files that the step cannot change: what it writes goes to `scratch`, which goes with the snapshot.
fn bind(
    environment: &Environment<'_>,
    source: &Source,
    target: &Path,
    readonly: bool,
    scratch: &Path,
) -> Result<MountSpec, Error> {
    let make = |path: &Path| fs::create_dir(path).map_err(|error| Error::io(path, &error));
    let nothing = source.rootfs.is_none() && !source.is_context;
    if nothing || !source.is_plain() {
        make(scratch)?;
        let data = scratch.join("data");
        source.copy_to(environment, &data)?;
        return Ok(bound(target, &data, readonly));
    }
    let lowers = match &source.rootfs {
        Some(rootfs) => rootfs.lowers.clone(),
        None => vec![source.host_root()?],
    };
    let upper = if readonly {
        None
    } else {
        make(scratch)?;
        let (upper, work) = (scratch.join("upper"), scratch.join("work"));
        make(&upper)?;
        make(&work)?;
        // The root of the source has its own mode and owner; the upper directory stands for it.
        imitate(&lowers[0], &upper)?;
        Some((upper, work))
    };
    Ok(MountSpec {
        target: target.to_owned(),
        source: MountSource::Overlay {
            lowers,
            upper,
            path: source.top()?.real.clone(),
        },
        readonly,
    })
}

fn imitate(from: &Path, to: &Path) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt as _;
    let stat = fs::metadata(from).map_err(|error| Error::io(from, &error))?;
    let set = std::os::unix::fs::chown(to, Some(stat.uid()), Some(stat.gid()))
        .and_then(|()| fs::set_permissions(to, fs::Permissions::from_mode(stat.mode() & 0o7777)));
    set.map_err(|error| Error::io(to, &error))
}

fn bound(target: &Path, path: &Path, readonly: bool) -> MountSpec {
    MountSpec {
        target: target.to_owned(),
        source: MountSource::Bind {
            path: path.to_owned(),
            propagation: Propagation::Private,
        },
        readonly,
    }
}

/// A here-document that is a script, as a file beside the upper directory, so that it goes with the snapshot.
fn pipes(script: &Inline, snapshot: &Snapshot) -> Result<MountSpec, Error> {
    let dir = snapshot.dir().join("pipes");
    fs::create_dir(&dir).map_err(|error| Error::io(&dir, &error))?;
    let path: PathBuf = dir.join(&script.name);
    if path.parent() != Some(dir.as_path()) {
        return Err(Error::Source(format!(
            "{:?} is no name for a script",
            script.name
        )));
    }
    fs::write(&path, &script.bytes).map_err(|error| Error::io(&path, &error))?;
    for path in [&path, &dir] {
        rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o755)).at(path)?;
    }
    Ok(bound(Path::new(PIPES), &dir, true))
}
