//! Exec: another process in a running container.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use cooper_runner::container::{self, StartErrorKind, Status};

use super::containers::resize::size;
use crate::api;
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult, json, start_message};
use crate::http::body;
use crate::http::hijack::{Hijack, Process, adopt, frame};
use crate::http::keys::DetachKeys;
use crate::http::query::Query;
use crate::translate::exec_process;

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/containers/{id}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect))
}

async fn create(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult {
    let request: api::ExecCreateRequest = body::json(&headers, body).await?;
    let id = engine
        .blocking(move |engine| create_exec(engine, &name, &request))
        .await?;
    Ok(json(StatusCode::CREATED, &api::ExecCreateResponse { id }))
}

fn create_exec(engine: &Engine, name: &str, request: &api::ExecCreateRequest) -> ApiResult<String> {
    if request.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::bad("No exec command specified"));
    }
    DetachKeys::parse(&request.detach_keys)?;
    let id = engine.resolve_container(name)?;
    let containers = engine.containers()?;
    match containers.state(&id)?.status {
        Status::Running => {}
        Status::Restarting => {
            return Err(ApiError::conflict(format!(
                "Container {name} is restarting, wait until the container is running"
            )));
        }
        Status::Paused => {
            return Err(ApiError::conflict(format!(
                "Container {name} is paused, unpause the container before exec"
            )));
        }
        _ => return Err(ApiError::not_running(&id)),
    }
    let process = exec_process(&containers.spec(&id)?, &engine.metadata(&id)?.config, request)?;
    let exec = containers.exec_create(&id, &process, request.privileged)?;
    let action = format!("exec_create: {}", process.args.join(" "));
    containers.tell(&id, &action, &[("execID", exec.clone())]);
    Ok(exec)
}

fn no_such_exec(id: &str) -> ApiError {
    ApiError::not_found(format!("No such exec instance: {id}"))
}

fn exec_state(
    engine: &Engine,
    id: &str,
) -> ApiResult<(String, cooper_runner::spec::ProcessSpec, container::ExecState)> {
    engine.containers()?.exec_state(id).map_err(|error| match error {
        container::Error::NotFound(_) => no_such_exec(id),
        other => other.into(),
    })
}

/// What the start came to.
enum Started {
    Detached,
    Streaming {
        tty: bool,
        stdin: bool,
        stream: std::os::unix::net::UnixStream,
    },
    Failed {
        tty: bool,
        message: String,
    },
}

async fn start(State(engine): State<Engine>, Path(id): Path<String>, mut request: Request) -> ApiResult {
    let hijack = Hijack::prepare(&mut request);
    let (parts, body) = request.into_parts();
    let options: api::ExecStartRequest = body::optional_json(&parts.headers, body)
        .await?
        .unwrap_or_default();
    match engine
        .blocking(move |engine| start_exec(engine, &id, &options))
        .await?
    {
        Started::Detached => Ok(StatusCode::OK.into_response()),
        Started::Streaming { tty, stdin, stream } => {
            // Docker takes the keys from exec create; this engine keeps no state of its own, so they are the default.
            let detach = if tty && stdin {
                Some(DetachKeys::parse("")?)
            } else {
                None
            };
            Ok(hijack.respond(
                tty,
                Process::Stream {
                    stream: adopt(stream)?,
                    stdin,
                    detach,
                },
            ))
        }
        Started::Failed { tty, message } => {
            let text = format!("OCI runtime exec failed: exec failed: {message}\r\n");
            let bytes = if tty {
                text.into_bytes()
            } else {
                frame(false, text.as_bytes())
            };
            Ok(hijack.respond(tty, Process::Text(bytes)))
        }
    }
}

fn start_exec(engine: &Engine, id: &str, options: &api::ExecStartRequest) -> ApiResult<Started> {
    let (container_id, process, state) = exec_state(engine, id)?;
    if state.running || state.exit_code.is_some() {
        return Err(ApiError::conflict(format!("exec command {id} has already run")));
    }
    let containers = engine.containers()?;
    match containers.state(&container_id)?.status {
        Status::Running => {}
        Status::Paused => {
            return Err(ApiError::conflict(format!(
                "Container {container_id} is paused, unpause the container before exec"
            )));
        }
        _ => return Err(ApiError::not_running(&container_id)),
    }
    match containers.exec_start(id, options.detach) {
        Ok(Some(stream)) => {
            if let Some([rows, cols]) = options.console_size.filter(|size| *size != [0, 0] && process.tty) {
                containers.exec_resize(id, rows, cols)?;
            }
            Ok(Started::Streaming {
                tty: process.tty,
                stdin: process.open_stdin,
                stream,
            })
        }
        Ok(None) => Ok(Started::Detached),
        Err(container::Error::Start { kind, message })
            if !options.detach && kind != StartErrorKind::Other =>
        {
            Ok(Started::Failed {
                tty: process.tty,
                message: start_message(kind, &message),
            })
        }
        Err(error) => Err(error.into()),
    }
}

async fn resize(State(engine): State<Engine>, Path(id): Path<String>, query: Query) -> ApiResult {
    let (rows, cols) = size(&query)?;
    engine
        .blocking(move |engine| {
            exec_state(engine, &id)?;
            Ok(engine.containers()?.exec_resize(&id, rows, cols)?)
        })
        .await?;
    Ok((StatusCode::OK, [(header::CONTENT_LENGTH, "0")]).into_response())
}

async fn inspect(State(engine): State<Engine>, Path(id): Path<String>) -> ApiResult<Response> {
    engine
        .blocking(move |engine| {
            let (container_id, process, state) = exec_state(engine, &id)?;
            let mut args = process.args.into_iter();
            let answer = api::ExecInspect {
                id,
                running: state.running,
                exit_code: state.exit_code,
                process_config: api::ExecProcessConfig {
                    tty: process.tty,
                    entrypoint: args.next().unwrap_or_default(),
                    arguments: args.collect(),
                    privileged: false,
                    user: process.user,
                },
                open_stdin: process.open_stdin,
                open_stderr: true,
                open_stdout: true,
                can_remove: false,
                container_id,
                detach_keys: String::new(),
                pid: state.pid,
            };
            Ok(json(StatusCode::OK, &answer))
        })
        .await
}
