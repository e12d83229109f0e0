//! `POST /containers/{id}/wait`: headers at once, the exit status when it is known.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use cooper_runner::container::{Advance, Error, ExitStatus, Wait, WaitCondition};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::api;
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult};
use crate::http::query::Query;

pub(super) async fn wait(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    query: Query,
) -> ApiResult<Response> {
    let condition = match query.get("condition") {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(ApiError::bad(format!("invalid condition: {other:?}"))),
    };
    // Registered before the headers go out: the client starts the container once it has them.
    let wait = engine
        .blocking(move |engine| {
            let id = engine.resolve_container(&name)?;
            Ok(engine.containers()?.wait_begin(&id, condition)?)
        })
        .await?;
    // Part of the answer's body, so that the wait ends when the client hangs up.
    let line = async move {
        let result = match finish(&engine, wait).await {
            Ok(result) => answer(result, condition),
            Err(error) => failure(error.message),
        };
        let mut bytes = serde_json::to_vec(&result).map_err(std::io::Error::other)?;
        bytes.push(b'\n');
        Ok::<_, std::io::Error>(Bytes::from(bytes))
    };
    let body = Body::from_stream(futures_util::stream::once(line));
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Waits without a thread: a container may have any number of waiters for as long as it lives.
async fn finish(engine: &Engine, mut wait: Wait) -> ApiResult<Result<ExitStatus, Error>> {
    loop {
        let descriptor = wait.descriptor().map(|fd| fd.try_clone_to_owned()).transpose();
        if let Some(descriptor) = descriptor.map_err(failed)? {
            #[expect(
                deprecated,
                reason = "an owned descriptor stays what it is; the newer call needs unsafe code"
            )]
            let watched = AsyncFd::with_interest(descriptor, Interest::READABLE).map_err(failed)?;
            let _ready = watched.readable().await.map_err(failed)?;
        }
        match engine.blocking(move |_| Ok(wait.advance())).await? {
            Ok(Advance::Done(status)) => return Ok(Ok(status)),
            Ok(Advance::Pending(next)) => wait = next,
            Err(error) => return Ok(Err(error)),
        }
    }
}

fn failed(error: std::io::Error) -> ApiError {
    ApiError::internal(format!("failed to wait: {error}"))
}

/// Why a start failed is told to waits that come later; those that waited for the run read it in the answer to start, and
/// docker's CLI would print it a second time.
fn answer(result: Result<ExitStatus, Error>, condition: WaitCondition) -> api::WaitResponse {
    match result {
        Ok(exit) => api::WaitResponse {
            status_code: i64::from(exit.code),
            error: Some(exit.error)
                .filter(|error| !error.is_empty() && condition == WaitCondition::NotRunning)
                .map(|message| api::WaitError { message }),
        },
        Err(error) => failure(error.to_string()),
    }
}

fn failure(message: String) -> api::WaitResponse {
    api::WaitResponse {
        status_code: -1,
        error: Some(api::WaitError { message }),
    }
}
