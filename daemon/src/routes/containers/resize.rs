//! `POST /containers/{id}/resize`.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;

use crate::engine::{Engine, is_running};
use crate::error::{ApiError, ApiResult};
use crate::http::query::Query;

/// Rows and columns from `h` and `w`.
pub(crate) fn size(query: &Query) -> ApiResult<(u16, u16)> {
    let number = |name: &str, what: &str| {
        let text = query.get(name);
        text.parse()
            .map_err(|_| ApiError::bad(format!("invalid resize {what} \"{text}\": invalid syntax")))
    };
    Ok((number("h", "height")?, number("w", "width")?))
}

pub(super) async fn resize(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    query: Query,
) -> ApiResult {
    let (rows, cols) = size(&query)?;
    engine
        .blocking(move |engine| {
            let id = engine.resolve_container(&name)?;
            if !is_running(&engine.containers()?.state(&id)?) {
                return Err(ApiError::not_running(&id));
            }
            Ok(engine.containers()?.resize(&id, rows, cols)?)
        })
        .await?;
    Ok((StatusCode::OK, [(header::CONTENT_LENGTH, "0")]).into_response())
}
