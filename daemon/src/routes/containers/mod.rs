//! Containers.

mod archive;
mod attach;
mod changes;
mod commit;
mod create;
mod export;
mod inspect;
mod lifecycle;
mod list;
mod log_file;
mod logs;
mod prune;
mod remove;
pub(super) mod resize;
pub(super) use prune::until as prune_until;
mod stats;
pub(super) mod status;
mod stream;
pub(super) mod summary;
mod top;
mod update;
mod wait;

use axum::Router;
use axum::routing::{delete, get, post};

use crate::engine::Engine;

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/containers/json", get(list::list))
        .route("/containers/create", post(create::create))
        .route("/containers/prune", post(prune::prune))
        .route("/containers/{id}", delete(remove::remove))
        .route("/containers/{id}/json", get(inspect::inspect))
        .route("/containers/{id}/top", get(top::top))
        .route("/containers/{id}/changes", get(changes::changes))
        .route("/containers/{id}/export", get(export::export))
        .route("/containers/{id}/stats", get(stats::stats))
        .route("/containers/{id}/update", post(update::update))
        .route(
            "/containers/{id}/archive",
            get(archive::get).head(archive::head).put(archive::put),
        )
        .route("/commit", post(commit::commit))
        .route("/containers/{id}/logs", get(logs::logs))
        .route("/containers/{id}/start", post(lifecycle::start))
        .route("/containers/{id}/stop", post(lifecycle::stop))
        .route("/containers/{id}/restart", post(lifecycle::restart))
        .route("/containers/{id}/kill", post(lifecycle::kill))
        .route("/containers/{id}/pause", post(lifecycle::pause))
        .route("/containers/{id}/unpause", post(lifecycle::unpause))
        .route("/containers/{id}/rename", post(lifecycle::rename))
        .route("/containers/{id}/resize", post(resize::resize))
        .route("/containers/{id}/wait", post(wait::wait))
        .route("/containers/{id}/attach", post(attach::attach))
}
