//! `POST /images/{name}/tag`.

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use cooper_registry::reference::{ImageRef, Tag};

use super::inspect::find;
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult};
use crate::http::query::Query;

/// The name that `repo` and `tag` of a query make; `latest` without a tag.
pub(in crate::routes) fn target(repo: &str, tag: &str) -> ApiResult<ImageRef> {
    let mut name: ImageRef = repo.parse()?;
    if name.digest.is_some() {
        return Err(ApiError::bad("refusing to create a tag with a digest reference"));
    }
    if !tag.is_empty() {
        name.tag = Some(tag.parse()?);
    }
    if name.tag.is_none() {
        name.tag = Some(Tag::latest());
    }
    Ok(name)
}

pub(super) async fn tag(engine: Engine, source: String, query: Query) -> ApiResult {
    let name = target(query.get("repo"), query.get("tag"))?;
    engine
        .blocking(move |engine| {
            let image = find(engine, &source)?;
            engine.store()?.tag_image(&image.id, &name)?;
            engine.tell_image("tag", &image.id, Some(&name));
            Ok(())
        })
        .await?;
    Ok(StatusCode::CREATED.into_response())
}
