//! `POST /containers/{id}/update`.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use cooper_runner::cgroup::Resources;
use cooper_runner::cgroup::is_delegated;
use cooper_runner::container;

use crate::api::{UpdateRequest, UpdateResponse};
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult, json};
use crate::http::body;
use crate::http::query::Query;
use crate::routes::system::cpus;
use crate::translate::{check_update, merge_update};

/// Limits were asked of an engine that may make no groups.
const NO_CGROUPS: &str = "No cgroups are delegated to this user. Limitation discarded.";

/// A failure on the way through the runner.
struct Failed(ApiError);

impl From<container::Error> for Failed {
    fn from(error: container::Error) -> Self {
        Self(error.into())
    }
}

pub(super) async fn update(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    _: Query,
    headers: HeaderMap,
    body: Body,
) -> ApiResult {
    let change: UpdateRequest = body::json(&headers, body).await?;
    let answer = engine
        .waiting(move |engine| {
            let id = engine.resolve_container(&name)?;
            check_update(&change, cpus())?;
            apply(engine, &id, &change)
                .map_err(|error| error.context(format!("Cannot update container {id}")))
        })
        .await?;
    Ok(json(StatusCode::OK, &answer))
}

fn apply(engine: &Engine, id: &str, change: &UpdateRequest) -> ApiResult<UpdateResponse> {
    let mut warnings = None;
    let updated = engine.containers()?.update(id, |overrides| {
        // Under the container's lock, so that of two updates at once each finds the other's.
        let mut host = engine.metadata(id).map_err(Failed)?.host_config;
        let (resources, restart) = merge_update(&mut host, change, cpus()).map_err(Failed)?;
        if resources != Resources::default() && !is_delegated() {
            warnings = Some(vec![NO_CGROUPS.to_owned()]);
        }
        overrides.resources = Some(resources);
        overrides.restart = Some(restart);
        overrides.engine =
            serde_json::to_value(&host).map_err(|error| Failed(ApiError::internal(error.to_string())))?;
        Ok::<_, Failed>(())
    });
    updated.map_err(|Failed(error)| error)?;
    Ok(UpdateResponse { warnings })
}
