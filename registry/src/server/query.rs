//! Query strings.

use percent_encoding::percent_decode_str;

use super::error::ApiError;

/// A decoded query string; keys may repeat. `+` stays `+`: no value of this API has blanks, media types have pluses.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: Option<&str>) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pairs = text
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(key, value)| (decode(key), decode(value)))
                .collect(),
        )
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The page size `n`: `None` if absent.
    pub(super) fn page_size(&self) -> Result<Option<usize>, ApiError> {
        match self.get("n") {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| ApiError::page_size(text)),
        }
    }
}
