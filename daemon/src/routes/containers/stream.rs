//! Answers that are an archive.

use std::io::Write;

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::engine::Engine;
use crate::error::ApiError;
use crate::http::body::BodyWriter;

/// Written to the client at once.
const BUFFER: usize = 256 << 10;

/// Answers with what `write` writes, as it writes it. A failure cuts the connection, so that nobody takes the archive for
/// whole.
pub(super) fn archive(
    engine: Engine,
    kind: &'static str,
    more: Option<(HeaderName, String)>,
    write: impl FnOnce(&mut dyn Write) -> Result<(), cooper_registry::store::Error> + Send + 'static,
) -> Response {
    let (mut writer, body) = BodyWriter::new();
    tokio::spawn(async move {
        let written = engine
            .waiting(move |_| {
                let mut buffered = std::io::BufWriter::with_capacity(BUFFER, &mut writer);
                let result = write(&mut buffered).map_err(ApiError::from).and_then(|()| {
                    buffered
                        .flush()
                        .map_err(|error| ApiError::internal(error.to_string()))
                });
                // What is left in it after a failure must not be written.
                drop(buffered.into_parts());
                if let Err(error) = &result {
                    writer.fail(&error.message);
                }
                result
            })
            .await;
        if let Err(error) = written {
            tracing::debug!(error = error.message, "an archive ended early");
        }
    });
    let mut response = (StatusCode::OK, [(header::CONTENT_TYPE, kind)], body).into_response();
    if let Some((name, Ok(value))) = more.map(|(name, value)| (name, value.parse())) {
        response.headers_mut().insert(name, value);
    }
    response
}
