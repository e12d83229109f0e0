//! One step: from the cache if it can be, executed otherwise.

use std::path::Path;
use std::sync::Arc;

use cooper_registry::store::Snapshot;

use super::context::{Environment, LayerRef, RootFs};
use super::{copy, run};
use crate::build::Error;
use crate::cache::{Flight, Key, look_up, remember};
use crate::dockerfile::Diagnostic;
use crate::plan::{Action, CopyAction, CopyFrom, Source, Step, WorkdirAction};
use crate::tree::{Owner, Touched, lookup_owner, mount_writable, resolve};

/// A step's result.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) rootfs: Arc<RootFs>,
    pub(crate) cached: bool,
}

/// Whether the result may be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Yes,
    /// An input changed while it was read.
    No,
}

pub(super) fn execute_step(
    environment: &Environment<'_>,
    step: &Step,
    inputs: &[(usize, Arc<RootFs>)],
) -> Result<Done, Error> {
    let input = |id: usize| {
        inputs
            .iter()
            .find(|(need, _)| *need == id)
            .map(|(_, rootfs)| Arc::clone(rootfs))
    };
    let parent = match step.parent {
        None => Arc::new(RootFs::default()),
        Some(id) => input(id).ok_or_else(|| Error::internal("a step's parent is done before it"))?,
    };
    match &step.action {
        Action::Base(image) => base(environment, *image),
        Action::Nothing => Ok(Done {
            rootfs: parent,
            cached: true,
        }),
        Action::Run(action) => {
            let key = with_clamp(environment, run::key(action, &parent));
            cached(
                environment,
                step,
                &parent,
                &key,
                environment.request.no_cache,
                |snapshot| run::execute(environment, step.info.id, step.span, action, &parent, snapshot),
            )
        }
        Action::Workdir(action) => {
            let mut key = Key::new("WORKDIR");
            key.add("rootfs", parent.identity());
            key.add("path", &action.path);
            key.add("user", &action.user);
            let key = with_clamp(environment, key);
            cached(environment, step, &parent, &key, false, |snapshot| {
                workdir(environment, action, &parent, snapshot)
            })
        }
        Action::Copy(action) => {
            let from = match action.from {
                CopyFrom::Step(Some(id)) => {
                    Some(input(id).ok_or_else(|| Error::internal("a step's source is done before it"))?)
                }
                CopyFrom::Step(None) | CopyFrom::Context => None,
            };
            copy_step(environment, step, action, &parent, from.as_deref())
        }
    }
}

/// Layers clamped to a time are others than those that are not.
fn with_clamp(environment: &Environment<'_>, mut key: Key) -> Key {
    key.add_some(
        "clamp",
        environment
            .request
            .source_date_epoch
            .map(|epoch| epoch.to_string()),
    );
    key
}

/// Copies between stages are found by what both stages are; otherwise, and for the context, by the files' contents.
fn copy_step(
    environment: &Environment<'_>,
    step: &Step,
    action: &CopyAction,
    parent: &Arc<RootFs>,
    from: Option<&RootFs>,
) -> Result<Done, Error> {
    let quick = from.map(|from| {
        let mut key = with_clamp(environment, copy::action_key(action, parent));
        key.add("from", from.identity());
        // The other key has these files' contents; this one must say which files they are.
        action
            .sources
            .iter()
            .for_each(|(source, _)| key.add("path", source));
        key
    });
    if let Some(quick) = quick.as_ref().filter(|_| !environment.request.no_cache)
        && let Some(done) = hit(environment, parent, quick)?
    {
        return Ok(done);
    }
    if let Some(from) = from {
        environment.ready(from)?;
    }
    let sources = copy::find(environment, action, from)?;
    let mut key = with_clamp(environment, copy::action_key(action, parent));
    sources.add_to(environment, &mut key)?;
    let done = cached(
        environment,
        step,
        parent,
        &key,
        environment.request.no_cache,
        |snapshot| copy::execute(environment, action, &sources, parent, snapshot),
    )?;
    if let (
        Some(quick),
        Some(LayerRef {
            diff_id,
            created: Some(created),
            ..
        }),
    ) = (quick, done.rootfs.layers.last())
    {
        remember(environment.store, &quick, &step.info.name, diff_id, created)?;
        environment.remote.note(&quick.name(), diff_id);
    }
    Ok(done)
}

fn hit(environment: &Environment<'_>, parent: &RootFs, key: &Key) -> Result<Option<Done>, Error> {
    let found = match look_up(environment.store, environment.lease, key)? {
        None => environment.remote.look_up(environment.lease, &key.name())?,
        found => found,
    };
    let Some(found) = found else {
        return Ok(None);
    };
    environment.remote.note(&key.name(), &found.layer.diff_id);
    Ok(Some(Done {
        rootfs: parent.with(environment.store, found.layer, found.created),
        cached: true,
    }))
}

/// Takes the result of `key` from the cache, or makes it with `make` in a snapshot that becomes a layer.
fn cached(
    environment: &Environment<'_>,
    step: &Step,
    parent: &RootFs,
    key: &Key,
    ignore_cache: bool,
    make: impl FnOnce(&Snapshot) -> Result<Keep, Error>,
) -> Result<Done, Error> {
    let mut flight = None;
    if !ignore_cache {
        if let Some(done) = hit(environment, parent, key)? {
            return Ok(done);
        }
        // Whoever was first may have finished meanwhile.
        flight = Some(Flight::board(environment.exec_root, key, environment.stop)?);
        if let Some(done) = hit(environment, parent, key)? {
            return Ok(done);
        }
    }
    environment.check_cancelled()?;
    environment.ready(parent)?;
    let snapshot = environment.store.new_snapshot()?;
    let keep = make(&snapshot)?;
    environment.check_cancelled()?;
    let layer = environment
        .store
        .commit_snapshot(snapshot, environment.request.source_date_epoch)?;
    environment.lease.layer(&layer.diff_id)?;
    let created = jiff::Timestamp::now().to_string();
    if keep == Keep::Yes {
        remember(environment.store, key, &step.info.name, &layer.diff_id, &created)?;
        environment.remote.note(&key.name(), &layer.diff_id);
    }
    drop(flight);
    Ok(Done {
        rootfs: parent.with(environment.store, layer, created),
        cached: false,
    })
}

fn base(environment: &Environment<'_>, image: usize) -> Result<Done, Error> {
    let image = &environment.images[image];
    environment.lease.manifest(&image.manifest_digest)?;
    let lowers = environment.store.unpack_image(image)?;
    let ids = &image.config.rootfs.diff_ids;
    if ids.len() != image.manifest.layers.len() {
        return Err(Error::Source(format!(
            "the image's manifest has {} layers, its config {}",
            image.manifest.layers.len(),
            ids.len()
        )));
    }
    let layers = ids
        .iter()
        .zip(&image.manifest.layers)
        .map(|(diff_id, descriptor)| LayerRef {
            diff_id: diff_id.clone(),
            descriptor: descriptor.clone(),
            created: None,
        });
    Ok(Done {
        rootfs: Arc::new(RootFs {
            layers: layers.collect(),
            lowers,
        }),
        cached: true,
    })
}

fn workdir(
    environment: &Environment<'_>,
    action: &WorkdirAction,
    parent: &RootFs,
    snapshot: &Snapshot,
) -> Result<Keep, Error> {
    let root = mount_writable(
        &parent.lowers,
        &snapshot.upper(),
        &snapshot.work(),
        environment.empty,
    )?;
    let owner = if action.user.is_empty() {
        Owner::default()
    } else {
        lookup_owner(&root, &action.user)?
    };
    let found = resolve(&root, Path::new(&action.path)).map_err(|errno| Error::File {
        path: action.path.trim_start_matches('/').into(),
        errno,
    })?;
    let mut touched = Touched::default();
    touched.make_dirs(&root, &found.real, 0o755, owner)?;
    touched.finish(&root)?;
    Ok(Keep::Yes)
}

/// Says where in the Dockerfile a step failed.
pub(super) fn locate(source: &Source<'_>, step: &Step, error: Error) -> Error {
    match error {
        error @ (Error::Cancelled
        | Error::CacheLost
        | Error::Dockerfile(_)
        | Error::Run { .. }
        | Error::Step { .. }) => error,
        error => {
            let excerpt = source.render(Diagnostic::error(step.span, error.to_string()));
            Error::Step {
                excerpt,
                source: Box::new(error),
            }
        }
    }
}
