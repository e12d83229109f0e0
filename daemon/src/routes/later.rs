//! Operations that exist in Docker and not here yet: each says so, none pretends.

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::{any, get, post};

use crate::engine::Engine;
use crate::error::{ApiError, json};

const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
                        this node to swarm and try again.";

pub(super) fn routes() -> Router<Engine> {
    let mut router = Router::new()
        .route("/containers/{id}/attach/ws", get(unavailable))
        .route("/containers/{id}/checkpoints", any(unavailable))
        .route("/images/search", get(unavailable))
        .route("/distribution/{*name}", get(unavailable))
        .route("/session", post(unavailable))
        .route("/grpc", post(unavailable))
        .route("/plugins", get(no_plugins))
        .route("/plugins/{*rest}", any(plugin));
    for family in ["swarm", "services", "tasks", "nodes", "secrets", "configs"] {
        router = router
            .route(&format!("/{family}"), any(no_swarm))
            .route(&format!("/{family}/{{*rest}}"), any(no_swarm));
    }
    router
}

async fn unavailable(request: Request) -> ApiError {
    ApiError::unavailable(format!("{} {}", request.method(), request.uri().path()))
}

async fn no_swarm() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NO_SWARM)
}

/// `docker inspect` of an unknown name asks for a plugin of that name last, and prints any answer but 404.
async fn plugin(Path(rest): Path<String>, request: Request) -> ApiError {
    match rest.strip_suffix("/json") {
        Some(name) if request.method() == Method::GET => {
            ApiError::not_found(format!("plugin {name:?} not found"))
        }
        _ => unavailable(request).await,
    }
}

async fn no_plugins() -> Response {
    json(StatusCode::OK, &[(); 0])
}
