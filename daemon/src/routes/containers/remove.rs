//! `DELETE /containers/{id}`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use cooper_runner::container::Status;

use crate::engine::Engine;
use crate::error::{ApiError, ApiResult};
use crate::http::query::Query;

pub(super) async fn remove(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    query: Query,
) -> ApiResult {
    if query.flag("link") {
        return Err(ApiError::unavailable("removing links"));
    }
    let force = query.flag("force");
    // `v` removes anonymous volumes; there are none apart from the container's own layer, which goes anyway.
    engine
        .waiting(move |engine| {
            let id = engine.resolve_container(&name)?;
            if !force {
                let obstacle = match engine.containers()?.state(&id)?.status {
                    Status::Running => {
                        Some("container is running: stop the container before removing or force remove")
                    }
                    Status::Restarting => {
                        Some("container is restarting: stop the container before removing or force remove")
                    }
                    Status::Paused => Some("container is paused and must be unpaused first"),
                    Status::Created | Status::Exited | Status::Dead => None,
                };
                if let Some(obstacle) = obstacle {
                    return Err(ApiError::conflict(format!(
                        "cannot remove container \"{name}\": {obstacle}"
                    )));
                }
            }
            engine.remove_container(&id, force)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
