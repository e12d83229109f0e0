//! One step: from the cache if it can be, executed otherwise.

use std::sync::Arc;

use cooper_registry::oci::Platform;
use cooper_registry::store::{Image, Layer};

use super::attempt::Attempt;
use super::base::base;
use super::context::{Environment, RootFs};
use super::renamed::Renamed;
use super::{copy, run};
use crate::build::Error;
use crate::cache::Key;
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
    let attempt = Attempt {
        environment,
        step,
        parent: &parent,
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
        Action::Run(action) => run_step(attempt, action, &input),
        Action::Workdir(action) => {
            let mut key = Key::new("WORKDIR");
            key.add("rootfs", parent.identity());
            key.add("path", &action.path);
            key.add("user", &action.user);
            let key = with_clamp(environment, key);
            attempt.cached_layer(&key, false, None, || workdir(environment, action, &parent))
        }
        Action::Fetch(remote) => fetch(environment, remote),
        Action::Copy(action) => {
            let source =
                |id: usize| input(id).ok_or_else(|| Error::internal("a step's source is done before it"));
            let from = match action.from {
                CopyFrom::Step(Some(id)) => Some(source(id)?),
                CopyFrom::Step(None) | CopyFrom::Context | CopyFrom::Named(_) => None,
            };
            copy_step(attempt, action, from.as_deref(), &source)
        }
    }
}

/// A RUN that mounts stages is found by what they are as a whole first, then by the contents of what it mounts.
fn run_step(
    attempt: Attempt<'_>,
    action: &RunAction,
    input: &dyn Fn(usize) -> Option<Arc<RootFs>>,
) -> Result<Done, Error> {
    let Attempt {
        environment,
        step,
        parent,
    } = attempt;
    let identity = |step: usize| input(step).map(|rootfs| rootfs.identity());
    let common = |key| with_platform(step, with_clamp(environment, key));
    let quick = run::quick(environment, action, parent, &identity).map(common);
    if let Some(quick) = quick.as_ref().filter(|_| !step.no_cache)
        && let Some(done) = attempt.hit(&quick.hash())?
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
    attempt.cached(&key, step.no_cache, quick.as_ref(), |snapshot| {
        let possible = environment.emulation.check(&step.platform);
        possible.map_err(Error::Source)?;
        run::execute(environment, &run, snapshot)
    })
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
    attempt: Attempt<'_>,
    action: &CopyAction,
    from: Option<&RootFs>,
    fetched: &dyn Fn(usize) -> Result<Arc<RootFs>, Error>,
) -> Result<Done, Error> {
    let Attempt {
        environment,
        step,
        parent,
    } = attempt;
    let is_path = |source: &CopySource| matches!(source, CopySource::Path(..));
    let from_context = !matches!(action.from, CopyFrom::Step(_)) && action.sources.iter().any(is_path);
    if action.link {
        environment.ready(parent)?;
    }
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
        && let Some(done) = attempt.hit(&quick.hash())?
    {
        return Ok(done);
    }
    if let Some(from) = from {
        environment.ready(from)?;
    }
    let sources = copy::find(environment, action, from, fetched)?;
    let mut key = with_clamp(environment, copy::action_key(action, parent)?);
    sources.add_to(environment, &mut key)?;
    let renamed = Renamed::new(action, &sources, &key);
    let hash = key.hash();
    if let Some(renamed) = renamed.as_ref().filter(|_| !step.no_cache)
        && !attempt.is_known(&hash)?
        && let Some(done) = attempt.hit(&renamed.key.hash())?
    {
        return Ok(done);
    }
    let done = attempt.cached_layer(&key, step.no_cache, quick.as_ref(), || {
        copy::execute(environment, action, &sources, parent)
    })?;
    if let Some(renamed) = renamed.filter(|_| !done.cached) {
        renamed.remember(attempt, &done.rootfs, &hash)?;
    }
    Ok(done)
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
        | Error::CacheLost
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
