//! What every door's build has in common: the thread it runs on, who cancels it, and what it is given.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::response::Response;
use cooper_builder::build::{self, Built, Error, Event, Request, Services};
use cooper_builder::call::{Call, Report, ask};
use cooper_registry::client::Credentials;
use cooper_runner::spec::NetworkMode;
use serde::Serialize;

use crate::engine::{Build, ClientRegistries, Engine, EngineWeb, OfferedSecrets, PullingBases};
use crate::error::{ApiError, ApiResult};
use crate::http::lines::{Lines, LinesBody};

/// What docker's clients write for "the address of the host".
const HOST_GATEWAY: &str = "host-gateway";

/// How a client is told.
pub(super) trait Tell: Send + Sync {
    /// Progress.
    fn event(&self, event: Event);
    /// The build is done.
    fn finished(&self, built: &Built);
    /// It failed: tells why, or gives back what the answer's error is to be.
    fn failed(&self, error: Error) -> ApiResult<()>;
}

/// A build that is ready to run.
pub(super) struct Job {
    pub(super) request: Request,
    /// By registry host.
    pub(super) credentials: BTreeMap<String, Credentials>,
    pub(super) secrets: OfferedSecrets,
    pub(super) runtime: tokio::runtime::Handle,
}

/// Runs `work`, which blocks, on a thread of its own and answers with its lines. The build is cancelled when the client
/// hangs up, also while nothing is printed.
pub(super) async fn answer<T: Serialize + From<ApiError> + Send + 'static>(
    engine: Engine,
    running: Build,
    lines: Lines<T>,
    body: LinesBody<T>,
    work: impl FnOnce(&Engine, &AtomicBool) -> ApiResult<()> + Send + 'static,
) -> Response {
    let cancelled = running.cancelled().clone();
    let report = lines.clone();
    let work = async move {
        let run = move |engine: &Engine| work(engine, running.cancelled());
        if let Err(error) = engine.waiting(run).await {
            report.fail(error).await;
        }
    };
    let hang_up = async move {
        lines.closed().await;
        cancelled.store(true, Ordering::Relaxed);
        std::future::pending::<()>().await;
    };
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = work => {}
            () = hang_up => {}
        }
    });
    body.response().await
}

/// Builds. Blocking.
pub(super) fn run(engine: &Engine, mut job: Job, tell: &dyn Tell, cancelled: &AtomicBool) -> ApiResult<()> {
    for (host, address) in &mut job.request.extra_hosts {
        if address == HOST_GATEWAY {
            *address = gateway(job.request.network, host)?;
        }
    }
    let (store, exec_root) = (engine.store()?, engine.exec_root());
    let events = |event| tell.event(event);
    let built = serve(engine, &job, &events, |services| {
        if job.request.verify.is_none() {
            return build::build(store, exec_root, &job.request, services, &events, cancelled);
        }
        let result = build::verify(store, exec_root, &job.request, services, &events, cancelled)?;
        events(Event::Verified { result });
        Ok(Built {
            images: Vec::new(),
            steps: 0,
            cached: 0,
        })
    });
    match built {
        Ok(built) => {
            tell.finished(&built);
            if built.cached < built.steps {
                engine.trim_build_cache();
            }
            Ok(())
        }
        Err(error) => tell.failed(error),
    }
}

/// Answers a question about the Dockerfile. Blocking.
pub(super) fn question(
    engine: &Engine,
    job: &Job,
    call: Call,
    tell: &dyn Tell,
    cancelled: &AtomicBool,
) -> ApiResult<Result<Report, Error>> {
    let store = engine.store()?;
    let events = |event| tell.event(event);
    Ok(serve(engine, job, &events, |services| {
        ask(store, &job.request, services, call, cancelled)
    }))
}

/// Gives `work` what a build asks of its engine.
fn serve<T>(
    engine: &Engine,
    job: &Job,
    events: &(dyn Fn(Event) + Send + Sync),
    work: impl FnOnce(&Services<'_>) -> T,
) -> T {
    let registries = ClientRegistries {
        engine: engine.clone(),
        credentials: job.credentials.clone(),
        runtime: job.runtime.clone(),
    };
    let bases = PullingBases {
        engine: engine.clone(),
        credentials: job.credentials.clone(),
        runtime: job.runtime.clone(),
        events,
    };
    let web = EngineWeb {
        runtime: job.runtime.clone(),
    };
    work(&Services {
        bases: &bases,
        secrets: &job.secrets,
        web: &web,
        registries: &registries,
    })
}

/// The host's address as RUN sees it.
fn gateway(network: NetworkMode, host: &str) -> ApiResult<String> {
    match network {
        NetworkMode::Host => Ok("127.0.0.1".to_owned()),
        NetworkMode::None => Err(ApiError::bad(format!(
            "--add-host {host}:{HOST_GATEWAY}: without a network the host cannot be reached"
        ))),
    }
}
