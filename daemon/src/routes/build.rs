//! Builds: `POST /build`, the classic builder's request with its stream of text, and `POST /cooper/build`, this engine's
//! own. Both end in the same course.

mod archive;
mod classic;
mod course;
mod own;
mod parts;
mod remote;
mod text;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use cooper_registry::store::GcOptions;

use crate::api::PruneBuildReport;
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult, json};
use crate::http::filters::Filters;
use crate::http::query::Query;

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/build", post(classic::build_image))
        .route("/build/prune", post(prune))
        .route("/build/cancel", post(cancel))
        .route("/cooper/build", get(own::door).post(own::build))
}

/// Cancels the builds that were begun with this `buildid`; one that is not known has ended, which is no error in Docker
/// either.
async fn cancel(State(engine): State<Engine>, query: Query) -> ApiResult<Response> {
    let Some(id) = query.non_empty("id") else {
        return Err(ApiError::bad("build ID not provided"));
    };
    engine.builds().cancel(Some(id));
    Ok(StatusCode::OK.into_response())
}

async fn prune(State(engine): State<Engine>, query: Query) -> ApiResult {
    for name in [
        "keep-storage",
        "reserved-space",
        "max-used-space",
        "min-free-space",
    ] {
        if query.non_empty(name).is_some_and(|value| value != "0") {
            return Err(ApiError::unavailable(format!(
                "parameter {name} of POST /build/prune"
            )));
        }
    }
    let filters = Filters::parse(
        &query,
        &["until", "id", "type", "description", "inuse", "shared", "private"],
    )?;
    if filters != Filters::default() {
        return Err(ApiError::unavailable("filters of POST /build/prune"));
    }
    engine
        .blocking(|engine| {
            let report = engine.collect(&GcOptions {
                cache: true,
                ..GcOptions::default()
            })?;
            let caches_deleted = Some(report.cache_deleted).filter(|deleted| !deleted.is_empty());
            Ok(json(
                StatusCode::OK,
                &PruneBuildReport {
                    caches_deleted,
                    space_reclaimed: report.freed_bytes,
                },
            ))
        })
        .await
}
