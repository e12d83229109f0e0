//! API versions: the optional `/v1.xx` before every path, and the headers on every answer.

use std::fmt;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::api::{API_VERSION, MIN_API_VERSION};
use crate::error::ApiError;

/// The API version of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion {
    major: u32,
    minor: u32,
}

/// From here on, framed output has a content type of its own.
pub(crate) const MULTIPLEXED_SINCE: ApiVersion = ApiVersion { major: 1, minor: 42 };

/// From here on, images have no `VirtualSize`.
pub(crate) const NO_VIRTUAL_SIZE_SINCE: ApiVersion = ApiVersion { major: 1, minor: 44 };

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
            if digits { text.parse().ok() } else { None }
        };
        let (major, minor) = text.split_once('.')?;
        Some(Self {
            major: number(major)?,
            minor: number(minor)?,
        })
    }

    fn supported() -> (Self, Self) {
        // Both constants have the form that `parse` takes; the unit test below reads them.
        let zero = Self { major: 0, minor: 0 };
        (
            Self::parse(MIN_API_VERSION).unwrap_or(zero),
            Self::parse(API_VERSION).unwrap_or(zero),
        )
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Takes the version off the path and keeps it as an extension; `Err` is the answer for a version out of range.
///
/// A path version below 1.24 is answered in plain text, as Docker does for clients that cannot read its JSON errors.
pub(crate) fn strip(mut request: Request) -> Result<Request, Box<Response>> {
    let (min, max) = ApiVersion::supported();
    let path = request.uri().path();
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let (version, _) = rest.split_once('/')?;
        Some((ApiVersion::parse(version)?, version.len() + 2))
    });
    let Some((version, prefix)) = versioned else {
        request.extensions_mut().insert(max);
        return Ok(request);
    };
    if version < min {
        let text = format!(
            "client version {version} is too old. Minimum supported API version is {min}, please upgrade your client \
             to a newer version\n"
        );
        return Err(Box::new((StatusCode::BAD_REQUEST, text).into_response()));
    }
    if version > max {
        let text = format!("client version {version} is too new. Maximum supported API version is {max}");
        return Err(Box::new(ApiError::bad(text).into_response()));
    }
    let rest = request
        .uri()
        .path_and_query()
        .map_or("/", |all| &all.as_str()[prefix..]);
    match rest.parse::<Uri>() {
        Ok(uri) => *request.uri_mut() = uri,
        Err(_) => return Err(Box::new(ApiError::not_found("page not found").into_response())),
    }
    request.extensions_mut().insert(version);
    Ok(request)
}

/// Docker's headers; the server's name tells ours, the form is Docker's.
pub(crate) fn stamp(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let server = concat!("Docker/", env!("CARGO_PKG_VERSION"), " (linux) Cooper");
    headers.insert(header::SERVER, HeaderValue::from_static(server));
    headers.insert(
        HeaderName::from_static("api-version"),
        HeaderValue::from_static(API_VERSION),
    );
    headers.insert(
        HeaderName::from_static("ostype"),
        HeaderValue::from_static("linux"),
    );
    headers.insert(
        HeaderName::from_static("docker-experimental"),
        HeaderValue::from_static("false"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_versions() {
        let version = |major, minor| Some(ApiVersion { major, minor });
        for (text, expected) in [
            ("1.51", version(1, 51)),
            ("1.9", version(1, 9)),
            ("1", None),
            ("1.x", None),
            ("1.+4", None),
            ("", None),
        ] {
            assert_eq!(ApiVersion::parse(text), expected, "{text}");
        }
        assert!(ApiVersion::parse("1.9") < ApiVersion::parse("1.24"));
        assert!(ApiVersion::parse(MIN_API_VERSION).is_some() && ApiVersion::parse(API_VERSION).is_some());
    }
}
