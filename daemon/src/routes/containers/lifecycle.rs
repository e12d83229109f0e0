//! Start, stop, restart, kill, pause, unpause, rename.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use cooper_runner::container::{Error, StartErrorKind, Status, WaitCondition};

use crate::engine::{Engine, is_running};
use crate::error::{ApiError, ApiResult, start_message};
use crate::http::query::Query;
use crate::translate::{is_valid_name, parse_signal};

/// Docker ignores bodies up to this size ("{}" and blanks of old clients).
const IGNORED_BODY: u64 = 7;

fn done(changed: bool) -> Response {
    if changed {
        StatusCode::NO_CONTENT.into_response()
    } else {
        StatusCode::NOT_MODIFIED.into_response()
    }
}

pub(super) async fn start(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> ApiResult {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > IGNORED_BODY) {
        return Err(ApiError::bad(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if query.non_empty("checkpoint").is_some() {
        return Err(ApiError::unavailable("starting from a checkpoint"));
    }
    let changed = engine
        .blocking(move |engine| {
            let id = engine.resolve_container(&name)?;
            match engine.containers()?.state(&id)?.status {
                Status::Running | Status::Restarting => return Ok(false),
                Status::Paused => {
                    return Err(ApiError::conflict(
                        "cannot start a paused container, try unpause instead",
                    ));
                }
                Status::Created | Status::Exited | Status::Dead => {}
            }
            start_process(engine, &id)?;
            Ok(true)
        })
        .await?;
    Ok(done(changed))
}

/// Starts, with the words around a failure that clients and people know from Docker.
fn start_process(engine: &Engine, id: &str) -> ApiResult<()> {
    let containers = engine.containers()?;
    // A container with --rm is gone after a failed start, maybe before its supervisor's answer reaches us.
    let wait = match containers.spec(id)?.auto_remove {
        true => Some(containers.wait_begin(id, WaitCondition::Removed)?),
        false => None,
    };
    match (containers.start(id), wait) {
        (Ok(()), _) => Ok(()),
        (Err(Error::NotFound(_) | Error::Supervisor(_)), Some(wait)) => {
            let exit = wait.finish()?;
            if exit.error.is_empty() {
                // It ran, and ended before the answer came.
                return Ok(());
            }
            let kind = match exit.code {
                127 => StartErrorKind::NotFound,
                126 => StartErrorKind::NotExecutable,
                _ => StartErrorKind::Other,
            };
            Err(start_error(kind, &exit.error))
        }
        (Err(Error::Start { kind, message }), _) => Err(start_error(kind, &message)),
        (Err(error), _) => Err(error.into()),
    }
}

fn start_error(kind: StartErrorKind, message: &str) -> ApiError {
    let status = match kind {
        StartErrorKind::NotFound | StartErrorKind::NotExecutable => StatusCode::BAD_REQUEST,
        StartErrorKind::Other => StatusCode::INTERNAL_SERVER_ERROR,
    };
    ApiError::new(
        status,
        format!(
            "failed to start container process: {}",
            start_message(kind, message)
        ),
    )
}

fn signal(query: &Query) -> ApiResult<Option<i32>> {
    let parse =
        |text: &str| parse_signal(text).ok_or_else(|| ApiError::bad(format!("invalid signal: {text}")));
    query.non_empty("signal").map(parse).transpose()
}

/// Stops if it runs; whether it did. Seconds: the request's, the container's, or the runner's default.
fn stop_process(engine: &Engine, id: &str, signal: Option<i32>, seconds: Option<i64>) -> ApiResult<bool> {
    let containers = engine.containers()?;
    if !is_running(&containers.state(id)?) {
        return Ok(false);
    }
    let seconds = match seconds {
        Some(seconds) => Some(seconds),
        None => engine.metadata(id)?.config.stop_timeout,
    };
    match containers.stop(id, signal, seconds) {
        // It ended on its own, or removed itself at its end.
        Ok(()) | Err(Error::State { .. }) => {
            containers.tell(id, "stop", &[]);
            Ok(true)
        }
        Err(Error::NotFound(_)) => Ok(true),
        Err(error) => Err(ApiError::from(error).context(format!("cannot stop container: {id}"))),
    }
}

pub(super) async fn stop(State(engine): State<Engine>, Path(name): Path<String>, query: Query) -> ApiResult {
    let signal = signal(&query)?;
    let seconds = query.number("t")?;
    let stopped = engine
        .waiting(move |engine| {
            let id = engine.resolve_container(&name)?;
            stop_process(engine, &id, signal, seconds)
        })
        .await?;
    Ok(done(stopped))
}

pub(super) async fn restart(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    query: Query,
) -> ApiResult {
    let signal = signal(&query)?;
    let seconds = query.number("t")?;
    engine
        .waiting(move |engine| {
            let id = engine.resolve_container(&name)?;
            stop_process(engine, &id, signal, seconds)?;
            start_process(engine, &id)
                .map_err(|error| error.context(format!("Cannot restart container {name}")))?;
            engine.containers()?.tell(&id, "restart", &[]);
            Ok(())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn kill(State(engine): State<Engine>, Path(name): Path<String>, query: Query) -> ApiResult {
    engine
        .blocking(move |engine| {
            let context = |error: ApiError| error.context(format!("cannot kill container: {name}"));
            let signal = signal(&query).map_err(context)?.unwrap_or(9);
            let id = engine.resolve_container(&name).map_err(context)?;
            let containers = engine.containers()?;
            if !is_running(&containers.state(&id)?) {
                return Err(context(ApiError::not_running(&id)));
            }
            match containers.kill(&id, signal) {
                Ok(()) => Ok(()),
                Err(Error::State { .. }) => Err(context(ApiError::not_running(&id))),
                Err(error) => Err(context(error.into())),
            }
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn pause(State(engine): State<Engine>, Path(name): Path<String>) -> ApiResult {
    engine
        .blocking(move |engine| {
            let id = engine.resolve_container(&name)?;
            match engine.containers()?.state(&id)?.status {
                Status::Running => Ok(engine.containers()?.pause(&id)?),
                Status::Paused => Err(ApiError::conflict(format!("container {id} is already paused"))),
                Status::Restarting => Err(ApiError::conflict(format!(
                    "Container {id} is restarting, wait until the container is running"
                ))),
                _ => Err(ApiError::not_running(&id)),
            }
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn unpause(State(engine): State<Engine>, Path(name): Path<String>) -> ApiResult {
    engine
        .blocking(move |engine| {
            let id = engine.resolve_container(&name)?;
            match engine.containers()?.state(&id)?.status {
                Status::Paused => Ok(engine.containers()?.unpause(&id)?),
                _ => Err(ApiError::internal(format!("Container {id} is not paused"))),
            }
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn rename(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    query: Query,
) -> ApiResult {
    let new = query.get("name").trim_start_matches('/').to_owned();
    if new.is_empty() {
        return Err(ApiError::bad("Neither old nor new names may be empty"));
    }
    if !is_valid_name(&new) {
        return Err(ApiError::bad(format!(
            "Error when allocating new name: Invalid container name ({new}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    engine
        .blocking(move |engine| {
            let id = engine.resolve_container(&name)?;
            if engine.containers()?.name(&id)? == new {
                return Err(ApiError::bad(
                    "Renaming a container with the same name as its current name",
                ));
            }
            let renamed = engine.containers()?.rename(&id, &new);
            renamed.map_err(|error| ApiError::from(error).context("Error when allocating new name"))
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
