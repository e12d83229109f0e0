//! Lists: tags, catalog, referrers.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json as object;

use super::body::blocking;
use super::dispatch::{Registry, Repo, json, value, with_type};
use super::error::ApiError;
use super::query::Query;
use crate::digest::Digest;
use crate::oci::media_type;
use crate::reference::RepoName;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

pub(super) async fn tags(registry: Arc<Registry>, repo: Repo, query: &Query) -> Result<Response, ApiError> {
    let count = query.page_size()?;
    let last = query.get("last").map(str::to_owned);
    let name = repo.clone();
    let tags = blocking(move || {
        let limit = count.map(|count| count.saturating_add(1));
        let tags = registry.store.tags(&name.name, last.as_deref(), limit)?;
        tags.ok_or_else(|| ApiError::name_unknown(&name.text))
    })
    .await?;
    let tags = tags.iter().map(|tag| tag.as_str().to_owned()).collect();
    let (tags, next) = page(tags, count, &format!("/v2/{}/tags/list", repo.text));
    Ok(linked(
        json(object!({ "name": repo.text, "tags": tags }).to_string()),
        next,
    ))
}

pub(super) async fn catalog(registry: Arc<Registry>, query: &Query) -> Result<Response, ApiError> {
    let count = query.page_size()?;
    // Answers carry short names; the order is that of the full ones.
    let last = query.get("last").map(|last| match last.parse::<RepoName>() {
        Ok(name) => name.to_string(),
        Err(_) => last.to_owned(),
    });
    let names = blocking(move || {
        let limit = count.map(|count| count.saturating_add(1));
        Ok(registry.store.repositories(last.as_deref(), limit)?)
    })
    .await?;
    let names = names.iter().map(RepoName::familiar).collect();
    let (names, next) = page(names, count, "/v2/_catalog");
    Ok(linked(json(object!({ "repositories": names }).to_string()), next))
}

pub(super) async fn referrers(
    registry: Arc<Registry>,
    repo: Repo,
    digest: Digest,
    query: &Query,
) -> Result<Response, ApiError> {
    let mut list = blocking(move || Ok(registry.store.referrers(&repo.name, &digest)?)).await?;
    let filter = query.get("artifactType").filter(|wanted| !wanted.is_empty());
    if let Some(wanted) = filter {
        list.retain(|descriptor| descriptor.artifact_type.as_deref() == Some(wanted));
    }
    let body =
        object!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": list }).to_string();
    let mut response = with_type(body, HeaderValue::from_static(media_type::OCI_INDEX));
    if filter.is_some() {
        response
            .headers_mut()
            .insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

/// Cuts a list that was asked for with one entry too many; the target of `Link` if there is more.
fn page(mut list: Vec<String>, count: Option<usize>, path: &str) -> (Vec<String>, Option<String>) {
    let Some(count) = count.filter(|count| list.len() > *count) else {
        return (list, None);
    };
    list.truncate(count);
    let next = list.last().map(|last| {
        format!(
            "<{path}?n={count}&last={}>; rel=\"next\"",
            utf8_percent_encode(last, NON_ALPHANUMERIC)
        )
    });
    (list, next)
}

fn linked(mut response: Response, next: Option<String>) -> Response {
    if let Some(next) = next {
        response.headers_mut().insert(header::LINK, value(next));
    }
    response
}
