//! One step: from the cache if it can be, executed otherwise.

use std::sync::Arc;

use cooper_registry::oci::Platform;
use cooper_registry::store::{Image, Layer, Snapshot};

use super::base::base;
use super::context::{Environment, LayerRef, RootFs};
use super::{copy, run};
use crate::build::Error;
use crate::cache::{Flight, Key, look_up, remember};
use crate::dockerfile::Diagnostic;
use crate::fetch::{Fetcher, Remote};
use crate::plan::{Action, CopyAction, CopyFrom, CopySource, RunAction, Source, Step, WorkdirAction};
use crate::tree::{Assembly, Lowers, Owner, lookup_owner};

/// A step's result.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) rootfs: Arc<RootFs>,
    pub(crate) cached: bool,
    /// The image that a base step found.
    pub(crate) image: Option<Arc<Image>>,
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
        Action::Base(action) => base(environment, step, action),
        Action::Same(same) => Ok(Done {
            rootfs: input(*same).ok_or_else(|| Error::internal("a step's twin is done before it"))?,
            cached: true,
            image: None,
        }),
        Action::Nothing => Ok(Done {
            rootfs: parent,
            cached: true,
            image: None,
        }),
        Action::Run(action) => run_step(environment, step, action, &parent, &input),
        Action::Workdir(action) => {
            let mut key = Key::new("WORKDIR");
            key.add("rootfs", parent.identity());
            key.add("path", &action.path);
            key.add("user", &action.user);
            let key = with_clamp(environment, key);
            cached_layer(environment, step, &parent, &key, false, || {
                workdir(environment, action, &parent)
            })
        }
        Action::Fetch(remote) => fetch(environment, remote),
        Action::Copy(action) => {
            let source =
                |id: usize| input(id).ok_or_else(|| Error::internal("a step's source is done before it"));
            let from = match action.from {
                CopyFrom::Step(Some(id)) => Some(source(id)?),
                CopyFrom::Step(None) | CopyFrom::Context | CopyFrom::Named(_) => None,
            };
            copy_step(environment, step, action, &parent, from.as_deref(), &source)
        }
    }
}

/// A RUN that mounts stages is found by what they are as a whole first, then by the contents of what it mounts.
fn run_step(
    environment: &Environment<'_>,
    step: &Step,
    action: &RunAction,
    parent: &Arc<RootFs>,
    input: &dyn Fn(usize) -> Option<Arc<RootFs>>,
) -> Result<Done, Error> {
    let identity = |step: usize| input(step).map(|rootfs| rootfs.identity());
    let common = |key| with_platform(step, with_clamp(environment, key));
    let quick = run::quick(environment, action, parent, &identity).map(common);
    if let Some(quick) = quick.as_ref().filter(|_| !step.no_cache)
        && let Some(done) = hit(environment, parent, quick)?
    {
        return Ok(done);
    }
    let sources = run::find(environment, action, input)?;
    let key = common(run::key(environment, action, parent, &sources)?);
    let run = run::Run {
        step,
        action,
        parent,
        sources: &sources,
        input,
    };
    let done = cached(environment, step, parent, &key, step.no_cache, |snapshot| {
        let possible = environment.emulation.check(&step.platform);
        possible.map_err(Error::Source)?;
        run::execute(environment, &run, snapshot)
    })?;
    if let Some(quick) = quick {
        also_remember(environment, &quick, step, &done)?;
    }
    Ok(done)
}

/// Records a result under a second key.
fn also_remember(environment: &Environment<'_>, key: &Key, step: &Step, done: &Done) -> Result<(), Error> {
    if let Some(LayerRef {
        diff_id,
        created: Some(created),
        ..
    }) = done.rootfs.layers.last()
    {
        remember(environment.store, key, &step.info.name, diff_id, created)?;
    }
    Ok(())
}

/// What a program of another machine does is another result.
fn with_platform(step: &Step, mut key: Key) -> Key {
    let host = Platform::host();
    let foreign = Some(&step.platform).filter(|platform| !platform.same_machine(&host));
    key.add_some("foreign", foreign.map(Platform::to_string));
    key
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

/// Copies from stages and of what was fetched are found by what these are; otherwise, and for the context, by the files'
/// contents.
fn copy_step(
    environment: &Environment<'_>,
    step: &Step,
    action: &CopyAction,
    parent: &Arc<RootFs>,
    from: Option<&RootFs>,
    fetched: &dyn Fn(usize) -> Result<Arc<RootFs>, Error>,
) -> Result<Done, Error> {
    let is_path = |source: &CopySource| matches!(source, CopySource::Path(..));
    let from_context = !matches!(action.from, CopyFrom::Step(_)) && action.sources.iter().any(is_path);
    let mut quick = None;
    if !from_context && !action.sources.is_empty() {
        let mut key = with_clamp(environment, copy::action_key(action, parent)?);
        key.add_some("from", from.map(RootFs::identity));
        // The other key has these files' contents; this one must say which files they are.
        for source in &action.sources {
            match source {
                CopySource::Path(path, _) => key.add("path", path),
                CopySource::Http { step, .. } | CopySource::Git { step } => {
                    key.add("fetched", fetched(*step)?.identity());
                }
            }
        }
        key.add_some(
            "excludes",
            action.excludes.as_ref().map(|patterns| format!("{patterns:?}")),
        );
        quick = Some(key);
    }
    if let Some(quick) = quick.as_ref().filter(|_| !step.no_cache)
        && let Some(done) = hit(environment, parent, quick)?
    {
        return Ok(done);
    }
    let sources = copy::find(environment, action, from, fetched)?;
    let mut key = with_clamp(environment, copy::action_key(action, parent)?);
    sources.add_to(environment, &mut key)?;
    let done = cached_layer(environment, step, parent, &key, step.no_cache, || {
        copy::execute(environment, action, &sources, parent)
    })?;
    if let Some(quick) = quick {
        also_remember(environment, &quick, step, &done)?;
    }
    Ok(done)
}

fn hit(environment: &Environment<'_>, parent: &RootFs, key: &Key) -> Result<Option<Done>, Error> {
    let Some(found) = look_up(environment.store, environment.lease, key)? else {
        return Ok(None);
    };
    Ok(Some(Done {
        rootfs: parent.with(environment.store, found.layer, found.created),
        cached: true,
        image: None,
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
    cached_layer(environment, step, parent, key, ignore_cache, || {
        let snapshot = environment.store.new_snapshot()?;
        let keep = make(&snapshot)?;
        environment.check_cancelled()?;
        let clamp = environment.request.source_date_epoch;
        Ok((environment.store.commit_snapshot(snapshot, clamp)?, keep))
    })
}

/// Takes the result of `key` from the cache, or has `make` make the layer.
fn cached_layer(
    environment: &Environment<'_>,
    step: &Step,
    parent: &RootFs,
    key: &Key,
    ignore_cache: bool,
    make: impl FnOnce() -> Result<(Layer, Keep), Error>,
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
    let (layer, keep) = make()?;
    environment.lease.layer(&layer.diff_id)?;
    let created = jiff::Timestamp::now().to_string();
    if keep == Keep::Yes {
        remember(environment.store, key, &step.info.name, &layer.diff_id, &created)?;
    }
    drop(flight);
    Ok(Done {
        rootfs: parent.with(environment.store, layer, created),
        cached: false,
        image: None,
    })
}

/// A source of ADD as a root file system of its own.
fn fetch(environment: &Environment<'_>, remote: &Remote) -> Result<Done, Error> {
    let fetcher = Fetcher {
        store: environment.store,
        services: environment.services,
        lease: environment.lease,
        stop: environment.stop,
    };
    let fetched = fetcher.fetch(remote)?;
    let rootfs = RootFs::default().with(environment.store, fetched.layer, fetched.created);
    Ok(Done {
        rootfs,
        cached: fetched.cached,
        image: None,
    })
}

fn workdir(
    environment: &Environment<'_>,
    action: &WorkdirAction,
    parent: &RootFs,
) -> Result<(Layer, Keep), Error> {
    let below = Lowers::open(&parent.lowers)?;
    let owner = if action.user.is_empty() {
        Owner::default()
    } else {
        lookup_owner(&below, &action.user)?
    };
    let mut assembly = Assembly::new(&below);
    assembly.make_dir(&action.path, owner)?;
    let (layer, _) = copy::write(environment, &assembly)?;
    Ok((layer, Keep::Yes))
}

/// Says where in the Dockerfile a step failed.
pub(super) fn locate(source: &Source<'_>, step: &Step, error: Error) -> Error {
    match error {
        error @ (Error::Cancelled
        | Error::Dockerfile(_)
        | Error::Base { .. }
        | Error::Run { .. }
        | Error::Step { .. }) => error,
        error => {
            let text = match &step.trigger {
                Some(trigger) => format!("{trigger}: {error}"),
                None => error.to_string(),
            };
            let excerpt = source.render(Diagnostic::error(step.span, text));
            Error::Step {
                excerpt,
                source: Box::new(error),
            }
        }
    }
}
