//! `POST /build`: the classic builder's request with its stream of lines, or this engine's own stream.
//!
//! Parameters beyond Docker's: `cooper-events=1` sends the builder's events as `{"cooper": …}` lines instead of text;
//! `cooper-context=<absolute path>` builds a directory of this host in place, on the in-process door only;
//! with `cooper-dockerfile=1` the body is then the Dockerfile, which need not be in that directory;
//! `cooper-epoch=<unix seconds>` is SOURCE_DATE_EPOCH; `cooper-parallelism=<n>` limits the steps that run at once.

mod prune;
mod stream;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::post;
use cooper_builder::build::{self, Context, Error, Services, Target};
use cooper_builder::context::{UnpackLimits, untar};
use cooper_registry::reference::ImageRef;
use cooper_runner::spec::NetworkMode;

use crate::api::{ErrorDetail, Message};
use crate::engine::{ClientRegistries, Engine, EngineWeb, GivenSecrets, PullingBases};
use crate::error::{ApiError, ApiResult};
use crate::http::auth::registry_config;
use crate::http::body::BodyReader;
use crate::http::door::Origin;
use crate::http::lines::Lines;
use crate::http::query::Query;

pub(super) use prune::du_filters;

/// A Dockerfile sent without a context is at most this large.
const DOCKERFILE: &str = "Dockerfile";
/// Largest Dockerfile taken as the body of a request.
const MAX_DOCKERFILE: usize = 4 << 20;

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/build", post(build_image))
        .route("/build/prune", post(prune::prune))
        .route("/build/cancel", post(cancel))
}

async fn cancel() -> ApiError {
    ApiError::unavailable("cancelling a build by id (closing the connection cancels it)")
}

/// Where the context comes from.
enum Source {
    Directory(PathBuf),
    Tar(BodyReader),
}

async fn build_image(State(engine): State<Engine>, query: Query, request: Request) -> ApiResult {
    let mut parsed = parse(&query)?;
    let origin = request.extensions().get::<Origin>().copied();
    let headers = request.headers().clone();
    let source = match query.non_empty("cooper-context") {
        None => Source::Tar(BodyReader::new(request.into_body())),
        Some(path) => {
            let directory = local_context(&query, path, origin)?;
            if query.flag("cooper-dockerfile") {
                let content = axum::body::to_bytes(request.into_body(), MAX_DOCKERFILE).await;
                parsed.dockerfile = Some(content.map_err(|error| ApiError::bad(error.to_string()))?.into());
            }
            Source::Directory(directory)
        }
    };
    let bases = PullingBases {
        engine: engine.clone(),
        credentials: registry_config(&headers),
        runtime: tokio::runtime::Handle::current(),
    };
    let registries = ClientRegistries {
        engine: engine.clone(),
        credentials: bases.credentials.clone(),
        runtime: bases.runtime.clone(),
    };
    let web = EngineWeb {
        runtime: bases.runtime.clone(),
    };
    let (events, quiet) = (query.flag("cooper-events"), query.flag("q"));
    let (lines, answer) = Lines::channel();
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = cancelled.clone();
    let watched = lines.clone();
    let report = lines.clone();
    let work = async move {
        let run = move |engine: &Engine| {
            let output = stream::Output::new(lines, events, quiet, flag.clone());
            let services = Services {
                bases: &bases,
                secrets: &GivenSecrets::default(),
                web: &web,
                registries: &registries,
            };
            run(engine, parsed, source, services, &output, &flag)
        };
        if let Err(error) = engine.waiting(run).await {
            report.fail(error).await;
        }
    };
    // A client that hangs up while nothing is printed cancels as well.
    let hang_up = async move {
        watched.closed().await;
        cancelled.store(true, Ordering::Relaxed);
    };
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = work => {}
            () = async { hang_up.await; std::future::pending().await } => {}
        }
    });
    Ok(answer.response().await)
}

/// Host paths mean something only when the client is this process.
fn local_context(query: &Query, path: &str, origin: Option<Origin>) -> ApiResult<PathBuf> {
    if !origin.is_some_and(|origin| origin.in_process) {
        return Err(ApiError::bad(
            "cooper-context is only for clients in the engine's own process: send a tar instead",
        ));
    }
    // Paths are bytes; the query was decoded as text for everything else.
    let path = PathBuf::from(std::ffi::OsString::from_vec(
        query.raw("cooper-context").unwrap_or_else(|| path.into()),
    ));
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(ApiError::bad("cooper-context must be an absolute path"))
    }
}

/// Docker's parameters as a request without its context.
fn parse(query: &Query) -> ApiResult<build::Request> {
    refuse_unsupported(query)?;
    let names = query.all("t").filter(|name| !name.is_empty());
    let names = names
        .map(|name| Ok(with_tag(name.parse()?)))
        .collect::<ApiResult<Vec<ImageRef>>>()?;
    let network = match query.get("networkmode") {
        // The classic builder's default is the bridge; without one, RUN gets the host's network, as it needs one.
        "" | "default" | "bridge" | "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        other => return Err(ApiError::unavailable(format!("networkmode {other:?} of a build"))),
    };
    let dockerfile = query.non_empty("dockerfile").unwrap_or(DOCKERFILE).to_owned();
    Ok(build::Request {
        dockerfile_name: dockerfile,
        build_args: query.json::<BTreeMap<String, Option<String>>>("buildargs")?,
        targets: vec![Target {
            stage: query.non_empty("target").map(str::to_owned),
            names,
        }],
        no_cache: query.flag("nocache"),
        pull: query.flag("pull"),
        labels: query
            .json::<Option<BTreeMap<String, String>>>("labels")?
            .unwrap_or_default(),
        network,
        source_date_epoch: query.number("cooper-epoch")?,
        parallelism: query.number("cooper-parallelism")?.unwrap_or(0),
        ..build::Request::default()
    })
}

fn with_tag(mut name: ImageRef) -> ImageRef {
    if name.digest.is_none() && name.tag.is_none() {
        name.tag = name.tag_or_latest();
    }
    name
}

/// What the classic builder could and this one cannot; defaults of docker's CLI pass.
fn refuse_unsupported(query: &Query) -> ApiResult<()> {
    match query.get("version") {
        "" | "1" => {}
        "2" => {
            return Err(ApiError::unavailable(
                "BuildKit's protocol (use DOCKER_BUILDKIT=0)",
            ));
        }
        other => return Err(ApiError::bad(format!("invalid builder version {other:?}"))),
    }
    if query
        .non_empty("remote")
        .is_some_and(|remote| remote != "client-session")
    {
        return Err(ApiError::unavailable("a remote build context"));
    }
    let set = |name: &str, defaults: &[&str]| {
        let value = query.get(name);
        !value.is_empty() && !defaults.contains(&value)
    };
    let limits = [
        "memory",
        "memswap",
        "cpushares",
        "cpuperiod",
        "cpuquota",
        "shmsize",
    ];
    let lists = ["extrahosts", "ulimits", "outputs", "securityopt"];
    let limit = limits.into_iter().find(|name| set(name, &["0", "-1"]));
    let list = lists.into_iter().find(|name| set(name, &["[]", "null"]));
    let other = ["cpusetcpus", "cpusetmems", "cgroupparent", "squash", "isolation"]
        .into_iter()
        .find(|name| set(name, &["0", "false", "default"]));
    match limit.or(list).or(other) {
        Some(name) => Err(ApiError::unavailable(format!("parameter {name} of POST /build"))),
        None => check_platform(query),
    }
}

fn check_platform(query: &Query) -> ApiResult<()> {
    let host = cooper_registry::oci::Platform::host();
    let parts: Vec<&str> = query
        .get("platform")
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    match parts.as_slice() {
        [] => Ok(()),
        [os, architecture, ..] if *os == host.os && *architecture == host.architecture => Ok(()),
        [one] if *one == host.os || *one == host.architecture => Ok(()),
        _ => Err(ApiError::unavailable(format!(
            "building for platform {}",
            query.get("platform")
        ))),
    }
}

fn run(
    engine: &Engine,
    mut request: build::Request,
    source: Source,
    services: Services<'_>,
    output: &stream::Output,
    cancelled: &AtomicBool,
) -> ApiResult<()> {
    let store = engine.store()?;
    // Lives as long as the build; swept by the store if this process is killed.
    let scratch;
    request.context = match source {
        Source::Directory(path) => Context::Directory(path),
        Source::Tar(mut reader) => {
            scratch = store.new_snapshot()?;
            let dir = scratch.upper();
            let mut unpacked = stream::decompressed(&mut reader)
                .map_err(|error| ApiError::bad(format!("failed to read the build context: {error}")))?;
            untar(unpacked.as_mut(), &dir, UnpackLimits::default())
                .map_err(|error| ApiError::bad(error.to_string()))?;
            Context::Directory(dir)
        }
    };
    let send = |event| output.event(event);
    match build::build(store, engine.exec_root(), &request, &services, &send, cancelled) {
        Ok(built) => {
            output.finished(&built);
            if built.cached < built.steps {
                engine.trim_build_cache();
            }
            Ok(())
        }
        Err(Error::Run {
            command,
            code,
            excerpt,
        }) => {
            let text = if output.is_own() {
                excerpt
            } else {
                format!("The command '{command}' returned a non-zero code: {code}")
            };
            let detail = ErrorDetail {
                code: Some(i64::from(code)),
                message: text.clone(),
            };
            output.send(Message {
                error_detail: Some(detail),
                error: Some(text),
                ..Message::default()
            });
            Ok(())
        }
        Err(Error::Cancelled) => Err(ApiError::internal("build cancelled")),
        Err(error @ Error::Dockerfile(_)) => Err(ApiError::bad(error.to_string())),
        Err(error) => Err(ApiError::internal(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_or_refused() {
        let check = |query: &str| parse(&Query::parse(query)).map_err(|error| error.message);
        // What docker's CLI 28 sends with DOCKER_BUILDKIT=0.
        let defaults = "buildargs=%7B%22A%22%3Anull%7D&cachefrom=%5B%5D&cgroupparent=&cpuperiod=0&cpuquota=0&cpusetcpus=\
            &cpusetmems=&cpushares=0&dockerfile=Dockerfile&labels=%7B%7D&memory=0&memswap=0&networkmode=default&rm=1\
            &shmsize=0&t=a&target=&ulimits=null&version=1";
        let request = check(defaults).unwrap();
        assert_eq!(
            request.targets[0].names[0].to_string(),
            "docker.io/library/a:latest"
        );
        assert_eq!(request.build_args["A"], None);
        assert_eq!(
            (request.network, request.dockerfile_name.as_str()),
            (NetworkMode::Host, "Dockerfile")
        );
        let missing = |what: &str| Err(format!("{what} is not implemented by this engine yet"));
        assert_eq!(
            check("memory=100").map(|_| ()),
            missing("parameter memory of POST /build")
        );
        assert_eq!(
            check("squash=1").map(|_| ()),
            missing("parameter squash of POST /build")
        );
        assert_eq!(
            check("remote=https://x").map(|_| ()),
            missing("a remote build context")
        );
        assert!(check("t=Bad").is_err() && check("buildargs=x").is_err() && check("version=3").is_err());
    }
}
