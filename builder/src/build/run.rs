//! The course of a build.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cooper_registry::digest::DiffId;
use cooper_registry::oci::{ImageConfig, Platform};
use cooper_registry::reference::ImageRef;
use cooper_registry::store::{Image, Store};

use super::error::Error;
use super::options::CacheLocation;
use super::request::{Built, BuiltImage, Event, Request};
use super::services::Services;
use crate::cache::{self, RemoteCache};
use crate::context::{ContextFiles, DigestCache, read_dockerfile};
use crate::dockerfile::{Diagnostic, Dockerfile, lint, parse};
use crate::exec::{Environment, Events, Outcome, RootFs, execute, finish_image};
use crate::plan::{Globals, Graph, Plan, Source, evaluate, outline, unused_build_args};

/// Runs the build. Blocking; spawns its own worker threads; returns when the image is durable and named, or nothing is
/// left behind.
///
/// `exec_root` is a directory for run-time state (sandboxes, build locks). `events` is called from several threads.
/// Setting `cancelled` ends the build with [`Error::Cancelled`] within a fraction of a second and kills running
/// processes; a pull that [`Services::bases`] has begun is waited for.
///
/// # Errors
/// See [`Error`]. The snapshots of unfinished steps are removed; results of finished steps stay in the cache.
pub fn build(
    store: &Store,
    exec_root: &Path,
    request: &Request,
    services: &Services<'_>,
    events: &(dyn Fn(Event) + Sync),
    cancelled: &AtomicBool,
) -> Result<Built, Error> {
    let request = &with_epoch(request)?;
    let context = ContextFiles::open(request)?;
    let (name, bytes) = read_dockerfile(request, context.as_ref())?;
    let source = Source {
        name: &name,
        bytes: &bytes,
    };
    let dockerfile =
        parse(&bytes, &name).map_err(|problems| Error::Dockerfile(problems.render(&bytes, &name)))?;
    check(events, &dockerfile, &source)?;
    let globals = Globals::new(request, &dockerfile, &source)?;
    let graph = Graph::new(request, &dockerfile, &source, &globals)?;
    let unused = unused_build_args(request, &dockerfile, &graph);
    if !unused.is_empty() {
        events(Event::Warning {
            text: format!("one or more build-args [{}] were not consumed", unused.join(" ")),
        });
    }
    let steps = outline(&dockerfile, &graph);
    events(Event::Plan { steps: steps.clone() });
    let images = resolve_images(request, &graph, &source, services, cancelled)?;
    let configs: Vec<&ImageConfig> = images.iter().map(|image| &image.config).collect();
    let plan = evaluate(request, &dockerfile, source, &globals, &graph, &configs, steps)?;

    let empty = exec_root.join("build/empty");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&empty);
    made.map_err(|error| Error::io(&empty, &error))?;
    let digests = match &context {
        Some(context) => Some(DigestCache::load(store, &context.root)?),
        None => None,
    };
    let lease = store.lease()?;
    let remote = RemoteCache::open(store, &lease, request, *services, events);
    let environment = Environment {
        store,
        exec_root,
        request,
        source,
        events,
        context: context.as_ref(),
        digests: digests.as_ref(),
        images: &images,
        lease: &lease,
        remote: &remote,
        empty: &empty,
        stop: &AtomicBool::new(false),
    };
    let outcome = complete(&environment, &plan, cancelled);
    if let Some(digests) = &digests {
        digests.save(store)?;
    }
    let outcome = outcome?;
    let layers = target_layers(&plan, &outcome);
    let built = export(store, request, &plan, &outcome, &remote)?;
    cache::export(&remote, &lease, &request.cache_to, &layers)?;
    for built in &built.images {
        events(Event::Image {
            id: built.image.to_string(),
            names: built.names.iter().map(ImageRef::familiar).collect(),
        });
    }
    Ok(built)
}

/// Executes the plan and has all that the image needs in the store. A cache that does not keep its promises is left aside,
/// and the plan is executed again: what was done so far is in the store's own cache.
fn complete(environment: &Environment<'_>, plan: &Plan, cancelled: &AtomicBool) -> Result<Outcome, Error> {
    let mut tries = environment.request.cache_from.len();
    loop {
        let stop = AtomicBool::new(false);
        let environment = Environment {
            stop: &stop,
            ..*environment
        };
        let outcome = execute(&environment, &plan.steps, cancelled).and_then(|outcome| {
            if let Some(rootfs) = target_rootfs(plan, &outcome) {
                environment.ready(rootfs)?;
            }
            Ok(outcome)
        });
        match outcome {
            Err(Error::CacheLost) if tries > 0 => tries -= 1,
            other => return other,
        }
    }
}

fn target_rootfs<'a>(plan: &Plan, outcome: &'a Outcome) -> Option<&'a RootFs> {
    outcome.results.get(&plan.target.rootfs?).map(|rootfs| &**rootfs)
}

fn target_layers(plan: &Plan, outcome: &Outcome) -> BTreeSet<DiffId> {
    let layers = target_rootfs(plan, outcome)
        .into_iter()
        .flat_map(|rootfs| &rootfs.layers);
    layers.map(|layer| layer.diff_id.clone()).collect()
}

/// The build argument `SOURCE_DATE_EPOCH` sets the clamp, too.
fn with_epoch(request: &Request) -> Result<Request, Error> {
    let mut request = request.clone();
    if let (None, Some(Some(text))) = (
        request.source_date_epoch,
        request.build_args.get("SOURCE_DATE_EPOCH"),
    ) && !text.is_empty()
    {
        let seconds = text.parse();
        let invalid = |_| {
            Error::Source(format!(
                "invalid SOURCE_DATE_EPOCH: {text:?} is no number of seconds"
            ))
        };
        request.source_date_epoch = Some(seconds.map_err(invalid)?);
    }
    Ok(request)
}

/// Tells the warnings of build checks; `# check=error=true` makes them fail the build.
fn check(events: Events<'_>, dockerfile: &Dockerfile, source: &Source<'_>) -> Result<(), Error> {
    let warnings = lint(dockerfile);
    if dockerfile.directives.check.error && !warnings.is_empty() {
        return Err(Error::Dockerfile(warnings.render(source.bytes, source.name)));
    }
    for warning in warnings.iter() {
        events(Event::Warning {
            text: source.render(warning.clone()),
        });
    }
    Ok(())
}

/// Finds all base images at once, each in a thread of its own: fetching is mostly waiting.
fn resolve_images(
    request: &Request,
    graph: &Graph,
    source: &Source<'_>,
    services: &Services<'_>,
    cancelled: &AtomicBool,
) -> Result<Vec<Image>, Error> {
    if cancelled.load(Ordering::Relaxed) {
        return Err(Error::Cancelled);
    }
    let found: Vec<Result<Image, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = graph
            .images
            .iter()
            .map(|(name, _)| {
                scope.spawn(move || services.bases.resolve(name, &Platform::host(), request.pull))
            })
            .collect();
        let panicked = || Err("the search for the image ended abnormally".to_owned());
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| panicked()))
            .collect()
    });
    if cancelled.load(Ordering::Relaxed) {
        return Err(Error::Cancelled);
    }
    let mut images = Vec::new();
    for (image, (name, span)) in found.into_iter().zip(&graph.images) {
        images.push(image.map_err(|message| {
            let problem = Diagnostic::error(*span, format!("{}: {message}", name.familiar()));
            Error::Base {
                name: name.familiar(),
                message,
                excerpt: source.render(problem),
            }
        })?);
    }
    Ok(images)
}

fn export(
    store: &Store,
    request: &Request,
    plan: &Plan,
    outcome: &Outcome,
    remote: &RemoteCache<'_>,
) -> Result<Built, Error> {
    let empty = RootFs::default();
    let rootfs = target_rootfs(plan, outcome).unwrap_or(&empty);
    let created = |step: usize| outcome.results.get(&step)?.layers.last()?.created.clone();
    let mut config = finish_image(&plan.target, rootfs, &created, request)?;
    let inline = |location: &CacheLocation| matches!(location, CacheLocation::Inline);
    if request.cache_to.iter().any(|to| inline(&to.location)) {
        let layers = target_layers(plan, outcome);
        cache::embed(&mut config, &remote.records(Some(&layers))?);
    }
    let layers: Vec<_> = rootfs
        .layers
        .iter()
        .map(|layer| layer.descriptor.clone())
        .collect();
    let names = request.targets.first().map(|target| target.names.clone());
    let names = names.unwrap_or_default();
    let image = store.put_image(&config, &layers, &names)?;
    Ok(Built {
        images: vec![BuiltImage { image, names }],
        steps: plan.steps.len(),
        cached: outcome.cached,
    })
}
