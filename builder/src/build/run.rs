//! The course of a build.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cooper_registry::reference::ImageRef;
use cooper_registry::store::Store;
use cooper_runner::cgroup::{Resources, is_delegated};

use super::checks::Checks;
use super::course::Course;
use super::error::Error;
use super::request::{Built, Context, Event, NamedContext, Request, Target};
use super::result::{self, Origin};
use super::services::Services;
use crate::cache::{self, Journal, RemoteCache};
use crate::context::{ContextFiles, DigestCache, NamedContexts, read_dockerfile};
use crate::dockerfile::{Dockerfile, parse};
use crate::exec::{Emulation, Environment, Outcome, execute};
use crate::export::{Publisher, check_options};
use crate::fetch::Fetcher;
use crate::plan::{Epoch, Planner, Source, epoch};

/// Runs the build. Blocking; spawns its own worker threads; returns when the image is durable and named, or nothing is
/// left behind.
///
/// `exec_root` is a directory for run-time state (sandboxes, build locks). `events` is called from several threads.
/// Setting `cancelled` ends the build with [`Error::Cancelled`] within a fraction of a second and kills running
/// processes; a pull that [`Services::bases`] has begun is told to stop.
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
    let request = &with_target(request);
    let begun = jiff::Timestamp::now();
    check_options(request)?;
    let lease = store.lease()?;
    let fetcher = Fetcher {
        store,
        services,
        lease: &lease,
        stop: cancelled,
    };
    let context = ContextFiles::open(request, &fetcher)?;
    let (name, bytes) = read_dockerfile(request, context.as_ref())?;
    let source = Source::new(&name, &bytes);
    let dockerfile =
        parse(&bytes, &name).map_err(|problems| Error::Dockerfile(problems.render(&bytes, &name)))?;
    let checks = Checks::new(request, context.as_ref(), &dockerfile, source)?;
    checks.before(events)?;
    if request.resources != Resources::default() && !is_delegated() {
        events(Event::Warning {
            text: "limits are ignored: no cgroups are delegated to this user".to_owned(),
        });
    }
    let request = &with_epoch(request, &dockerfile, &source)?;
    let planner = Planner::new(request, &dockerfile, source)?;
    let journal = Journal::open(store, request, &dockerfile)?;
    lease.layers(journal.layers())?;
    let mut course = Course::new(planner, checks, events, &journal);

    let empty = exec_root.join("build/empty");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&empty);
    made.map_err(|error| Error::io(&empty, &error))?;
    let digests = match &context {
        Some(context) => Some(DigestCache::load(store, &context.root)?),
        None => None,
    };
    let named = NamedContexts::new(request, fetcher);
    let remote = RemoteCache::open(store, &lease, request, *services, events);
    let environment = Environment {
        store,
        exec_root,
        request,
        source,
        events,
        context: context.as_ref(),
        digests: digests.as_ref(),
        services,
        named: &named,
        emulation: &Emulation::default(),
        lease: &lease,
        journal: &journal,
        remote: &remote,
        empty: &empty,
        stop: &AtomicBool::new(false),
    };
    let outcome = complete(&environment, &mut course, cancelled);
    if let Some(digests) = &digests {
        digests.save(store)?;
    }
    named.save()?;
    if request.verify.is_none() {
        journal.save(store)?;
    }
    let outcome = outcome?;
    if cancelled.load(Ordering::Relaxed) {
        return Err(Error::Cancelled);
    }
    let finished = course.finish()?;
    let publisher = Publisher {
        store,
        lease: &lease,
        request,
        registries: services.registries,
        empty: &empty,
        cancelled,
        events,
    };
    let origin = Origin { begun, source };
    let built = Built {
        images: result::put(&publisher, &finished, &outcome, &origin, &remote)?,
        steps: finished.count,
        cached: outcome.cached,
    };
    cache::export(
        &remote,
        &lease,
        &request.cache_to,
        &result::layers(&finished.images, &outcome),
    )?;
    for built in &built.images {
        events(Event::Image {
            id: built.image.to_string(),
            names: built.names.iter().map(ImageRef::familiar).collect(),
        });
    }
    Ok(built)
}

/// Executes the plan and has all that the images need in the store. A cache that does not keep its promises is left aside,
/// and the plan is executed again: what was done so far is in the store's own cache.
fn complete(
    environment: &Environment<'_>,
    course: &mut Course<'_>,
    cancelled: &AtomicBool,
) -> Result<Outcome, Error> {
    let mut tries = environment.request.cache_from.len();
    loop {
        let stop = AtomicBool::new(false);
        let environment = Environment {
            stop: &stop,
            ..*environment
        };
        let outcome = execute(&environment, course, cancelled).and_then(|outcome| {
            let mut results = course.results().filter_map(|step| outcome.results.get(&step));
            results.try_for_each(|rootfs| environment.ready(rootfs))?;
            Ok(outcome)
        });
        match outcome {
            Err(Error::CacheLost) if tries > 0 => {
                tries -= 1;
                course.again();
            }
            other => return other,
        }
    }
}

/// A build makes at least one image: that of the last stage.
fn with_target(request: &Request) -> Request {
    let mut request = request.clone();
    if request.targets.is_empty() {
        request.targets.push(Target::default());
    }
    request
}

/// The build argument or global ARG `SOURCE_DATE_EPOCH` sets the clamp, too.
fn with_epoch(request: &Request, dockerfile: &Dockerfile, source: &Source<'_>) -> Result<Request, Error> {
    let mut request = request.clone();
    if request.source_date_epoch.is_some() {
        return Ok(request);
    }
    let is_remote = match epoch(&request, dockerfile, source)? {
        Epoch::None => false,
        Epoch::Seconds(seconds) => {
            request.source_date_epoch = Some(seconds);
            false
        }
        Epoch::Context => matches!(request.context, Context::Remote(_)),
        Epoch::Named(name) => matches!(request.named_contexts.get(&name), Some(NamedContext::Remote(_))),
    };
    if request.source_date_epoch.is_none() && !is_remote {
        // It has been answered: no step sees the question.
        request.build_args.remove("SOURCE_DATE_EPOCH");
    }
    if is_remote {
        return Err(Error::Source(
            "SOURCE_DATE_EPOCH from a remote context is not supported yet".to_owned(),
        ));
    }
    Ok(request)
}
