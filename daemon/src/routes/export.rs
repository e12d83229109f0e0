//! `GET /cooper/export`: an image as an archive, in the form that the client asks for. Not part of Docker's API.
//!
//! `image`: name or id, of an index too. `format`: `oci`, `docker` or `tar`. `options`: the builder's
//! [`WriteOptions`] as JSON; or one by one `compression`, `compression-level`, `force-compression`, `name` (repeated).
//! The answer is a tar; a failure after its first bytes cuts the connection, so that nobody takes half an archive for whole.
//! `GET /cooper/metadata` describes an image as buildx's metadata file does: `image`, `name` (repeated), `ref`.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use cooper_builder::build::{Compression, Error};
use cooper_builder::export::{Format, WriteOptions, metadata, write};
use cooper_registry::digest::Digest;
use cooper_registry::reference::ImageRef;

use crate::engine::Engine;
use crate::error::{ApiError, ApiResult, json};
use crate::http::body::BodyWriter;
use crate::http::query::Query;

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/cooper/export", get(export))
        .route("/cooper/metadata", get(describe))
}

async fn export(State(engine): State<Engine>, query: Query) -> ApiResult {
    let format: Format = word(&query, "format", "oci")?;
    let options = options(&query)?;
    let id = resolve(&engine, &query).await?;
    let (mut writer, body) = BodyWriter::new();
    tokio::spawn(async move {
        let written = engine
            .waiting(move |engine| {
                let mut buffered = std::io::BufWriter::with_capacity(256 << 10, &mut writer);
                let result = write(
                    engine.store()?,
                    engine.exec_root(),
                    &id,
                    format,
                    &options,
                    &mut buffered,
                );
                let flushed = std::io::Write::flush(&mut buffered);
                drop(buffered);
                let result = result
                    .map_err(told)
                    .and_then(|()| flushed.map_err(|error| ApiError::internal(error.to_string())));
                if let Err(error) = &result {
                    writer.fail(&error.message);
                }
                result
            })
            .await;
        if let Err(error) = written {
            tracing::debug!(error = error.message, "exporting an image ended early");
        }
    });
    Ok((
        StatusCode::OK,
        [(header::CONTENT_TYPE, "application/x-tar")],
        body,
    )
        .into_response())
}

async fn describe(State(engine): State<Engine>, query: Query) -> ApiResult {
    let id = resolve(&engine, &query).await?;
    let names = names(&query)?;
    let reference = query.get("ref").to_owned();
    engine
        .blocking(move |engine| {
            let found = metadata(engine.store()?, &id, &names, &reference, &[]).map_err(told)?;
            Ok(json(StatusCode::OK, &found))
        })
        .await
}

async fn resolve(engine: &Engine, query: &Query) -> ApiResult<Digest> {
    let image = query
        .non_empty("image")
        .ok_or_else(|| ApiError::bad("no image was named"))?
        .to_owned();
    engine
        .blocking(move |engine| Ok(engine.store()?.resolve_image(&image)?))
        .await
}

/// A value that the builder knows by its JSON word.
fn word<T: serde::de::DeserializeOwned>(query: &Query, name: &str, default: &str) -> ApiResult<T> {
    let text = query.non_empty(name).unwrap_or(default);
    serde_json::from_value(text.into()).map_err(|_| ApiError::bad(format!("invalid {name} {text:?}")))
}

fn names(query: &Query) -> ApiResult<Vec<ImageRef>> {
    let names = query.all("name").filter(|name| !name.is_empty());
    names.map(|name| Ok(name.parse()?)).collect()
}

fn options(query: &Query) -> ApiResult<WriteOptions> {
    let mut options: WriteOptions = query.json("options")?;
    if query.non_empty("compression").is_some() {
        options.compression = Some(Compression {
            kind: word(query, "compression", "")?,
            level: query.number("compression-level")?,
            force: query.flag("force-compression"),
        });
    }
    options.names.extend(names(query)?);
    Ok(options)
}

fn told(error: Error) -> ApiError {
    match error {
        Error::Source(reason) => ApiError::bad(reason),
        Error::Store(error) => error.into(),
        other => ApiError::internal(other.to_string()),
    }
}
