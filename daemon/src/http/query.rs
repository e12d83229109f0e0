//! Query strings with Docker's rules.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use crate::error::{ApiError, ApiResult};

/// The parameters of a request, in order, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    text: String,
}

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let decode = |part: &str| {
            percent_decode_str(&part.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self {
            pairs: pairs.map(|(k, v)| (decode(k), decode(v))).collect(),
            text: text.to_owned(),
        }
    }

    /// The bytes of a parameter that need not be text, as Go's forms have them: a plus sign is a blank.
    pub(crate) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let mut pairs = self.text.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(key, _)| *key == name)
            .map(|(_, value)| percent_decode_str(&value.replace('+', " ")).collect())
    }

    /// The first value; empty when absent, as Go's `r.Form.Get`.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    /// Unix seconds with an optional fraction of up to nine digits; 0 means none.
    pub(crate) fn time(&self, name: &str) -> ApiResult<Option<Timestamp>> {
        let Some(text) = self.non_empty(name).filter(|text| *text != "0") else {
            return Ok(None);
        };
        let parse = || {
            let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
            if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let nanos = format!("{fraction:0<9}").parse().ok()?;
            Timestamp::new(seconds.parse().ok()?, nanos).ok()
        };
        match parse() {
            Some(time) => Ok(Some(time)),
            None => Err(ApiError::bad(format!(
                "invalid value {text:?} for {name}: expected unix seconds"
            ))),
        }
    }

    /// The first value unless it is absent or empty.
    pub(crate) fn non_empty(&self, name: &str) -> Option<&str> {
        Some(self.get(name)).filter(|value| !value.is_empty())
    }

    pub(crate) fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.pairs
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Docker's booleans: "", 0, no, false, none are false, anything else is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        !matches!(
            self.get(name).trim().to_ascii_lowercase().as_str(),
            "" | "0" | "no" | "false" | "none"
        )
    }

    /// A number; absent or empty is `None`.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> ApiResult<Option<T>> {
        match self.non_empty(name) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(ApiError::bad(format!(
                    "invalid value {text:?} for {name}: expected a number"
                ))),
            },
        }
    }

    /// A JSON value; absent or empty is the default.
    pub(crate) fn json<T: serde::de::DeserializeOwned + Default>(&self, name: &str) -> ApiResult<T> {
        match self.non_empty(name) {
            None => Ok(T::default()),
            Some(text) => serde_json::from_str(text)
                .map_err(|error| ApiError::bad(format!("invalid JSON in parameter {name}: {error}"))),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let query = Query::parse("a=1&b=x%20y+z&flag&off=None&t=a%3A1&t=b&empty=");
        assert_eq!(query.number("a").unwrap(), Some(1));
        assert_eq!(query.get("b"), "x y z");
        assert_eq!(query.all("t").collect::<Vec<_>>(), ["a:1", "b"]);
        assert!(query.flag("a") && !query.flag("flag") && !query.flag("off") && !query.flag("absent"));
        assert_eq!(query.non_empty("empty"), None);
        assert!(query.number::<u16>("b").is_err());
    }
}
