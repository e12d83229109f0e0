//! Networks and volumes: the two networks that need no bridge, and no volumes yet.

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use cooper_registry::digest::Digest;

use crate::api::{Ipam, Network, VolumeList, ZERO_TIME};
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult, json};
use crate::http::filters::Filters;
use crate::http::query::Query;

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/networks", get(list))
        .route("/networks/create", axum::routing::post(no_networks))
        .route("/networks/prune", axum::routing::post(no_networks))
        .route("/networks/{id}", get(inspect).delete(no_networks))
        .route("/networks/{id}/connect", axum::routing::post(no_networks))
        .route("/networks/{id}/disconnect", axum::routing::post(no_networks))
        .route("/volumes", get(list_volumes))
        .route("/volumes/create", axum::routing::post(no_volumes))
        .route("/volumes/prune", axum::routing::post(no_volumes))
        .route(
            "/volumes/{name}",
            get(inspect_volume).delete(inspect_volume).put(no_volumes),
        )
}

/// The id of a predefined network: the same on every engine, because nothing of it is stored.
pub(super) fn network_id(name: &str) -> String {
    Digest::sha256(format!("cooper network {name}").as_bytes())
        .to_string()
        .replace("sha256:", "")
}

fn networks() -> [Network; 2] {
    [("none", "null"), ("host", "host")].map(|(name, driver)| Network {
        name: name.to_owned(),
        id: network_id(name),
        created: ZERO_TIME.to_owned(),
        scope: "local".to_owned(),
        driver: driver.to_owned(),
        enable_ipv4: true,
        ipam: Ipam {
            driver: "default".to_owned(),
            options: None,
            config: None,
        },
        ..Network::default()
    })
}

async fn list(query: Query) -> ApiResult {
    let known = ["dangling", "driver", "id", "label", "name", "scope", "type"];
    let filters = Filters::parse(&query, &known)?;
    let dangling = filters.flag("dangling")?;
    let keep = |network: &Network| {
        filters.any("driver", |driver| network.driver == driver)
            && filters.any("id", |id| network.id.starts_with(id))
            && filters.any("name", |name| network.name.contains(name))
            && filters.any("scope", |scope| network.scope == scope)
            && filters.any("type", |kind| kind == "builtin")
            && filters.labels(&network.labels)
            && dangling != Some(true)
    };
    Ok(json(
        StatusCode::OK,
        &networks().into_iter().filter(keep).collect::<Vec<_>>(),
    ))
}

async fn inspect(Path(id): Path<String>) -> ApiResult {
    let found = networks()
        .into_iter()
        .find(|network| network.name == id || (id.len() >= 4 && network.id.starts_with(&id)));
    match found {
        Some(network) => Ok(json(StatusCode::OK, &network)),
        None => Err(ApiError::not_found(format!("network {id} not found"))),
    }
}

async fn no_networks() -> ApiError {
    ApiError::unavailable("managing networks (containers can use host and none)")
}

async fn list_volumes() -> Response {
    json(StatusCode::OK, &VolumeList::default())
}

async fn inspect_volume(Path(name): Path<String>) -> ApiError {
    ApiError::not_found(format!("get {name}: no such volume"))
}

async fn no_volumes() -> ApiError {
    ApiError::unavailable("managing volumes (bind mounts and tmpfs are available)")
}
