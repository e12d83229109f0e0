//! `POST /containers/prune`.

use axum::extract::State;
use axum::http::StatusCode;

use crate::api;
use crate::engine::{Engine, disk_bytes, is_running};
use crate::error::{ApiError, ApiResult, json};
use crate::http::filters::Filters;
use crate::http::query::Query;

pub(super) async fn prune(State(engine): State<Engine>, query: Query) -> ApiResult {
    let filters = Filters::parse(&query, &["label", "label!", "until"])?;
    let until = until(&filters)?;
    engine
        .blocking(move |engine| {
            let mut deleted = Vec::new();
            let mut reclaimed = 0;
            for (metadata, state) in engine.all_containers()? {
                let recent = until.is_some_and(|until| api::unix_seconds(&metadata.created) >= until);
                if is_running(&state) || recent || !filters.labels(&metadata.config.labels) {
                    continue;
                }
                let bytes = disk_bytes(&engine.containers()?.dir(&metadata.id).join("upper"));
                match engine.remove_container(&metadata.id, false) {
                    Ok(()) => {
                        reclaimed += bytes;
                        deleted.push(metadata.id);
                    }
                    // Started or removed by someone else meanwhile.
                    Err(error)
                        if error.status == StatusCode::CONFLICT || error.status == StatusCode::NOT_FOUND => {}
                    Err(error) => return Err(error),
                }
            }
            let containers_deleted = Some(deleted).filter(|deleted| !deleted.is_empty());
            Ok(json(
                StatusCode::OK,
                &api::PruneContainersReport {
                    containers_deleted,
                    space_reclaimed: reclaimed,
                },
            ))
        })
        .await
}

/// The `until` filter in unix seconds: a time, unix seconds, or how long ago (`24h`, `10m`).
pub(crate) fn until(filters: &Filters) -> ApiResult<Option<i64>> {
    let text = match filters.values("until") {
        [] => return Ok(None),
        [text] => text,
        _ => return Err(ApiError::bad("more than one until filter specified")),
    };
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(Some(seconds));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Some(time.as_second()));
    }
    let ago = text.parse::<jiff::SignedDuration>().ok();
    match ago.and_then(|ago| jiff::Timestamp::now().checked_sub(ago).ok()) {
        Some(time) => Ok(Some(time.as_second())),
        None => Err(ApiError::bad(format!("invalid filter 'until={text}'"))),
    }
}
