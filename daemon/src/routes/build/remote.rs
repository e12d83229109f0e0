//! A Dockerfile behind a URL (`--file https://…`).

use std::time::Duration;

use cooper_builder::dockerfile::MAX_SOURCE;

use crate::error::{ApiError, ApiResult};

/// Time for the whole transfer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fetches it; redirections are followed, up to ten.
pub(super) async fn dockerfile(url: &str) -> ApiResult<Vec<u8>> {
    let shown = without_password(url);
    let failed =
        |why: &dyn std::fmt::Display| ApiError::bad(format!("failed to fetch the Dockerfile {shown}: {why}"));
    let mut client = reqwest::Client::builder().timeout(PATIENCE).http1_only();
    client = client.user_agent(concat!("cooper/", env!("CARGO_PKG_VERSION")));
    let client = client.build().map_err(|error| failed(&root_cause(&error)))?;
    let sent = client.get(url).send().await;
    let mut response = sent.map_err(|error| failed(&root_cause(&error)))?;
    if !response.status().is_success() {
        return Err(failed(&format!("the server answered {}", response.status())));
    }
    let mut content = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| failed(&root_cause(&error)))?
    {
        if content.len() + chunk.len() > MAX_SOURCE {
            return Err(failed(&format!("longer than {MAX_SOURCE} bytes")));
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content)
}

/// For messages: they go to logs, where a password does not belong.
fn without_password(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(mut url) if url.password().is_some() => match url.set_password(Some("***")) {
            Ok(()) => url.to_string(),
            Err(()) => "(a URL with a password)".to_owned(),
        },
        _ => url.to_owned(),
    }
}

/// reqwest's own message only repeats the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(
            without_password("https://u:secret@host/D"),
            "https://u:***@host/D"
        );
        assert_eq!(without_password("https://host/D?a=b"), "https://host/D?a=b");
    }
}
