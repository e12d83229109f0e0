//! `POST /images/prune`.

use axum::extract::State;
use axum::http::StatusCode;
use cooper_registry::store::GcOptions;

use crate::api::{DeletedImage, PruneImagesReport};
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult, json};
use crate::http::filters::Filters;
use crate::http::query::Query;

pub(super) async fn prune(State(engine): State<Engine>, query: Query) -> ApiResult {
    let filters = Filters::parse(&query, &["dangling", "label", "label!", "until"])?;
    for key in ["label", "label!", "until"] {
        if !filters.values(key).is_empty() {
            return Err(ApiError::unavailable(format!(
                "filter {key} of POST /images/prune"
            )));
        }
    }
    // Only dangling ones unless told otherwise; the CLI's --all sends dangling=false.
    let unused_images = !filters.flag("dangling")?.unwrap_or(true);
    engine
        .blocking(move |engine| {
            let report = engine.collect(&GcOptions {
                dangling: true,
                unused_images,
                ..GcOptions::default()
            })?;
            let untagged = report.untagged.iter().map(|name| DeletedImage {
                untagged: name.familiar(),
                ..DeletedImage::default()
            });
            let deleted = report.deleted.iter().map(|digest| DeletedImage {
                deleted: digest.to_string(),
                ..DeletedImage::default()
            });
            let all: Vec<_> = untagged.chain(deleted).collect();
            let images_deleted = Some(all).filter(|all| !all.is_empty());
            Ok(json(
                StatusCode::OK,
                &PruneImagesReport {
                    images_deleted,
                    space_reclaimed: report.freed_bytes,
                },
            ))
        })
        .await
}
