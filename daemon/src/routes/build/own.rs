//! `/cooper/build`: see [`crate::api::BuildCall`].

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::extract::{Request, State};
use axum::response::Response;
use cooper_builder::build::{Built, CacheLocation, Error, Event};
use zeroize::Zeroizing;

use super::course::{self, Job, Tell};
use super::{parts, remote};
use crate::api::{
    BUILD_VERSION, BuildCall, BuildDoor, BuildFailure, BuildLine, BuildResult, ImageResult, MAX_BUILD_CALL,
    MAX_SECRET,
};
use crate::engine::{Engine, OfferedSecrets};
use crate::error::{ApiError, ApiResult};
use crate::http::auth::registry_config;
use crate::http::body::BodyReader;
use crate::http::door::Origin;
use crate::http::lines::Lines;

/// `GET /cooper/build`.
pub(super) async fn door(request: Request) -> Json<BuildDoor> {
    Json(BuildDoor {
        version: BUILD_VERSION,
        shares_files: shares_files(&request),
    })
}

fn shares_files(request: &Request) -> bool {
    let origin = request.extensions().get::<Origin>();
    origin.is_some_and(|origin| origin.shares_files)
}

/// `POST /cooper/build`.
pub(super) async fn build(State(engine): State<Engine>, request: Request) -> Response {
    let shares_files = shares_files(&request);
    let credentials = registry_config(request.headers());
    let runtime = tokio::runtime::Handle::current();
    let mut body = BodyReader::new(request.into_body());
    let (lines, answer) = Lines::channel();
    let running = engine.builds().begin(None);
    let tell = OwnLines {
        lines: lines.clone(),
        cancelled: running.cancelled().clone(),
    };
    let work = move |engine: &Engine, cancelled: &AtomicBool| {
        let mut call = read_call(&mut body)?;
        check(&call, shares_files)?;
        // Lives as long as the build; swept by the store if this process is killed.
        let scratch = match call.parts.is_empty() {
            true => None,
            false => Some(engine.store()?.new_snapshot()?),
        };
        let place = scratch.as_ref().map(|scratch| scratch.upper());
        if let Some(place) = &place {
            parts::unpack(&mut body, &call.parts, place, cancelled)?;
        }
        parts::settle(&mut call.request, &call.parts, place.as_deref(), shares_files)?;
        if let Some(url) = &call.dockerfile_url {
            let fetched = runtime.block_on(async {
                tokio::select! {
                    fetched = remote::dockerfile(url) => fetched,
                    () = tell.lines.closed() => Err(ApiError::internal("build cancelled")),
                }
            });
            call.request.dockerfile = Some(fetched?);
        }
        if let Some(dockerfile) = call.dockerfile {
            call.request.dockerfile = Some(dockerfile.0.to_vec());
        }
        if let Some(ignore) = call.ignore {
            call.request.ignore = Some(ignore.0.to_vec());
        }
        let job = Job {
            request: call.request,
            credentials,
            secrets: OfferedSecrets {
                values: call.secrets,
                agents: call.ssh,
            },
            runtime,
        };
        match call.call {
            None => course::run(engine, job, &tell, cancelled),
            Some(question) => match course::question(engine, &job, question, &tell, cancelled)? {
                Ok(report) => {
                    tell.send(BuildLine::Report(report));
                    Ok(())
                }
                Err(error) => tell.failed(error),
            },
        }
    };
    course::answer(engine, running, lines, answer, work).await
}

/// The head of the body.
fn read_call(body: &mut dyn Read) -> ApiResult<BuildCall> {
    let failed = |error: std::io::Error| ApiError::bad(format!("failed to read the build request: {error}"));
    let mut length = [0; 4];
    body.read_exact(&mut length).map_err(failed)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_BUILD_CALL {
        return Err(ApiError::bad(format!(
            "a build request of {length} bytes, at most {MAX_BUILD_CALL} are allowed"
        )));
    }
    // It may hold secrets. Grows with what arrives, not with what was announced, and is wiped at its end.
    let mut text = Zeroizing::new(Vec::with_capacity(length.min(64 << 10)));
    while text.len() < length {
        let start = text.len();
        let room = (length - start).min(64 << 10);
        if text.capacity() < start + room {
            let mut larger = Zeroizing::new(Vec::with_capacity((start + room).max(2 * start).min(length)));
            larger.extend_from_slice(&text);
            text = larger;
        }
        text.resize(start + room, 0);
        body.read_exact(&mut text[start..]).map_err(failed)?;
    }
    // The message of the parser has places and types, no values of strings.
    serde_json::from_slice(&text).map_err(|error| {
        let what = error.classify();
        let (line, column) = (error.line(), error.column());
        ApiError::bad(format!(
            "invalid build request: {what:?} error in line {line}, column {column}"
        ))
    })
}

/// Refuses what this client must not ask for.
fn check(call: &BuildCall, shares_files: bool) -> ApiResult<()> {
    parts::check_names(&call.parts)?;
    if let Some(id) = call.secrets.iter().find(|(_, value)| value.0.len() > MAX_SECRET) {
        let (id, size) = (id.0, id.1.0.len());
        return Err(ApiError::bad(format!(
            "secret {id:?} has {size} bytes, at most {MAX_SECRET} are allowed"
        )));
    }
    if shares_files {
        return Ok(());
    }
    if let Some(id) = call.ssh.keys().next() {
        return Err(ApiError::bad(format!(
            "ssh agent {id:?} cannot be reached from this engine: --ssh works with an engine on the same host only"
        )));
    }
    let local = |location: &CacheLocation| match location {
        CacheLocation::Local { path, .. } => Some(path.display().to_string()),
        CacheLocation::Registry(_) | CacheLocation::Inline => None,
    };
    let imports = call.request.cache_from.iter().map(|import| &import.location);
    let exports = call.request.cache_to.iter().map(|export| &export.location);
    match imports.chain(exports).find_map(local) {
        Some(path) => Err(ApiError::bad(format!(
            "cache directory {path} is not on the engine's host: use type=registry"
        ))),
        None => Ok(()),
    }
}

/// Tells events and the result as they are.
struct OwnLines {
    lines: Lines<BuildLine>,
    cancelled: Arc<AtomicBool>,
}

impl OwnLines {
    /// A client that has gone cancels the build.
    fn send(&self, line: BuildLine) {
        if !self.lines.send_blocking(line) {
            self.cancelled.store(true, Ordering::Relaxed);
        }
    }
}

impl Tell for OwnLines {
    fn event(&self, event: Event) {
        self.send(BuildLine::Event(event));
    }

    fn finished(&self, built: &Built) {
        let images = built.images.iter().map(|image| ImageResult {
            id: image.image.to_string(),
            names: image.names.iter().map(ToString::to_string).collect(),
        });
        self.send(BuildLine::Result(BuildResult {
            images: images.collect(),
            steps: built.steps,
            cached: built.cached,
        }));
    }

    fn failed(&self, error: Error) -> ApiResult<()> {
        let failure = match error {
            Error::Run { code, excerpt, .. } => BuildFailure {
                message: excerpt,
                code: Some(code),
            },
            other => BuildFailure {
                message: other.to_string(),
                code: None,
            },
        };
        self.send(BuildLine::Error(failure));
        Ok(())
    }
}

impl From<ApiError> for BuildLine {
    fn from(error: ApiError) -> Self {
        Self::Error(BuildFailure {
            message: error.message,
            code: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use cooper_builder::build::CacheImport;

    use super::*;

    #[test]
    fn heads_of_bodies() {
        let check = |length: u32, text: &str, expected: Option<&str>| {
            let bytes = [&length.to_be_bytes()[..], text.as_bytes()].concat();
            let read = read_call(&mut bytes.as_slice());
            let message = read.err().map(|error| error.message);
            match (&message, expected) {
                (None, None) => {}
                (Some(message), Some(part)) if message.contains(part) => {}
                _ => panic!("{length} {text}: {message:?}"),
            }
        };
        check(2, "{}", None);
        check(200_000, &format!("{{}}{}", " ".repeat(199_998)), None);
        check(3, "{}", Some("failed to read"));
        check(u32::MAX, "{}", Some("at most"));
        check(9, "{\"a\": 1,}", Some("invalid build request"));
        check(26, "{\"secrets\": {\"a\": \"s3cr!\"}}", Some("Data error"));
    }

    #[test]
    fn strangers_name_no_paths() {
        let with = |change: &dyn Fn(&mut BuildCall)| {
            let mut call = BuildCall::default();
            change(&mut call);
            (check(&call, false).is_ok(), check(&call, true).is_ok())
        };
        assert_eq!(with(&|_| {}), (true, true));
        let ssh = |call: &mut BuildCall| {
            call.ssh.insert("default".to_owned(), "/run/agent".into());
        };
        assert_eq!(with(&ssh), (false, true));
        let cache = |call: &mut BuildCall| {
            call.request.cache_from = vec![CacheImport {
                location: CacheLocation::Local {
                    path: "/etc".into(),
                    tag: None,
                },
            }];
        };
        assert_eq!(with(&cache), (false, true));
        let large = |call: &mut BuildCall| {
            call.secrets
                .insert("s".to_owned(), vec![0; MAX_SECRET + 1].into());
        };
        assert_eq!(with(&large), (false, false));
    }
}
