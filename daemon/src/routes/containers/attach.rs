//! `POST /containers/{id}/attach`.

use axum::extract::{Path, Request, State};
use axum::response::IntoResponse as _;
use cooper_runner::container::{AttachOptions, Status};

use super::logs::{LogQuery, respond};
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult};
use crate::http::hijack::{Hijack, Process, adopt};
use crate::http::keys::DetachKeys;
use crate::http::query::Query;
use crate::http::version::{ApiVersion, MULTIPLEXED_SINCE};

pub(super) async fn attach(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    query: Query,
    mut request: Request,
) -> ApiResult {
    let keys = DetachKeys::parse(query.get("detachKeys"))?;
    let hijack = Hijack::prepare(&mut request);
    let (logs, stream) = (query.flag("logs"), query.flag("stream"));
    let options = AttachOptions {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        logs,
    };
    if !stream {
        // Only what was written until now: that is the log.
        let version = request
            .extensions()
            .get::<ApiVersion>()
            .copied()
            .unwrap_or(MULTIPLEXED_SINCE);
        if !logs {
            return Ok(axum::http::StatusCode::OK.into_response());
        }
        let query = LogQuery {
            stdout: options.stdout,
            stderr: options.stderr,
            ..LogQuery::default()
        };
        return respond(engine, name, query, version).await;
    }
    let (tty, socket) = engine
        .blocking(move |engine| {
            let id = engine.resolve_container(&name)?;
            let containers = engine.containers()?;
            if containers.state(&id)?.status == Status::Paused {
                return Err(ApiError::conflict(format!(
                    "container {id} is paused, unpause the container before attach"
                )));
            }
            let tty = containers.spec(&id)?.process.tty;
            Ok((tty, containers.attach(&id, options)?))
        })
        .await?;
    let detach = Some(keys).filter(|_| tty && options.stdin);
    Ok(hijack.respond(
        tty,
        Process::Stream {
            stream: adopt(socket)?,
            stdin: options.stdin,
            detach,
        },
    ))
}
