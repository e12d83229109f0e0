//! Images. Names contain slashes, so the operation is what comes last in the path.

mod archive;
mod changes;
pub(super) use changes::apply as apply_change;
mod delete;
mod import;
mod inspect;
pub(super) mod list;
mod prune;
mod tag;
pub(super) use tag::target;
mod transfer;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::routing::{get, post};

use crate::engine::Engine;
use crate::error::{ApiError, ApiResult};
use crate::http::query::Query;

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/images/json", get(list::list))
        .route("/images/create", post(import::create))
        .route("/images/load", post(archive::load))
        .route("/images/get", get(archive::get_many))
        .route("/images/prune", post(prune::prune))
        .route("/images/{*name}", get(read).post(write).delete(delete::delete))
}

fn operation(path: &str) -> Option<(String, &str)> {
    let (name, operation) = path.rsplit_once('/')?;
    Some((name.to_owned(), operation))
}

async fn read(State(engine): State<Engine>, Path(path): Path<String>, query: Query) -> ApiResult {
    match operation(&path) {
        Some((name, "json")) => inspect::inspect(engine, name).await,
        Some((name, "history")) => inspect::history(engine, name).await,
        Some((name, "get")) => archive::get(engine, vec![name], &query).await,
        _ => Err(ApiError::not_found("page not found")),
    }
}

async fn write(
    State(engine): State<Engine>,
    Path(path): Path<String>,
    query: Query,
    request: Request,
) -> ApiResult {
    match operation(&path) {
        Some((name, "push")) => transfer::push(engine, name, &query, request.headers()).await,
        Some((name, "tag")) => tag::tag(engine, name, query).await,
        _ => Err(ApiError::not_found("page not found")),
    }
}
