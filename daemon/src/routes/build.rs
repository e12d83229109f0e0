//! Builds: `POST /build`, the classic builder's request with its stream of text, and `POST /cooper/build`, this engine's
//! own. Both end in the same course.

mod archive;
mod classic;
mod course;
mod own;
mod parts;
mod prune;
mod remote;
mod text;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use crate::engine::Engine;
use crate::error::{ApiError, ApiResult};
use crate::http::query::Query;

pub(super) use prune::du_filters;

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/build", post(classic::build_image))
        .route("/build/prune", post(prune::prune))
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
