//! The routes, one file per group of the Engine API's definition.

mod build;
mod containers;
mod events;
mod exec;
mod export;
mod images;
mod later;
mod networks;
mod system;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use percent_encoding::percent_decode_str;
use tower::ServiceExt as _;

use crate::engine::Engine;
use crate::error::ApiError;
use crate::http::{leftover, version};

/// The Engine API: every route bare and under `/v{version}`.
pub fn router(engine: Engine) -> Router {
    let routes = Router::new()
        .merge(system::routes())
        .merge(containers::routes())
        .merge(events::routes())
        .merge(exec::routes())
        .merge(images::routes())
        .merge(build::routes())
        .merge(export::routes())
        .merge(networks::routes())
        .merge(later::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state(engine);
    let service = tower::service_fn(move |request: Request| {
        let routes = routes.clone();
        async move {
            let response = match version::strip(request) {
                Ok(request) => dispatch(routes, request).await,
                Err(response) => *response,
            };
            Ok::<_, std::convert::Infallible>(version::stamp(response))
        }
    });
    Router::new().fallback_service(service)
}

async fn dispatch(routes: Router, request: Request) -> Response {
    if request.method() == Method::OPTIONS {
        return axum::http::StatusCode::OK.into_response();
    }
    if percent_decode_str(request.uri().path()).decode_utf8().is_err() {
        return ApiError::bad("the path is not valid UTF-8").into_response();
    }
    let (parts, body) = request.into_parts();
    let (body, leftover) = leftover::lend(body);
    let response = match routes.oneshot(Request::from_parts(parts, body)).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    leftover.drain().await;
    response
}

/// Docker answers 404 for unknown paths and for unknown methods alike.
async fn not_found() -> ApiError {
    ApiError::not_found("page not found")
}
