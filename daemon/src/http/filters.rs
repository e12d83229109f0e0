//! The `filters` parameter: `{"label":["a=b"]}`, or the old `{"label":{"a=b":true}}`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::query::Query;
use crate::error::{ApiError, ApiResult};

/// Filters by key; several values of one key are alternatives (all must hold for `label`), several keys must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    List(Vec<String>),
    Set(BTreeMap<String, bool>),
}

impl Filters {
    /// Reads the parameter and refuses keys that are not in `known`.
    pub(crate) fn parse(query: &Query, known: &[&str]) -> ApiResult<Self> {
        let Some(text) = query.non_empty("filters") else {
            return Ok(Self::default());
        };
        let parsed: BTreeMap<String, Values> =
            serde_json::from_str(text).map_err(|_| ApiError::bad("invalid filter"))?;
        let mut filters = BTreeMap::new();
        for (key, values) in parsed {
            if !known.contains(&key.as_str()) {
                return Err(ApiError::bad(format!("invalid filter '{key}'")));
            }
            let values = match values {
                Values::List(list) => list,
                Values::Set(set) => set
                    .into_iter()
                    .filter(|(_, on)| *on)
                    .map(|(value, _)| value)
                    .collect(),
            };
            filters.insert(key, values);
        }
        Ok(Self(filters))
    }

    pub(crate) fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// True when the key was not given, or one of its values satisfies `test`.
    pub(crate) fn any(&self, key: &str, test: impl FnMut(&str) -> bool) -> bool {
        let values = self.values(key);
        let mut test = test;
        values.is_empty() || values.iter().any(|value| test(value))
    }

    /// Docker's label rule: every `key` or `key=value` must be there.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label")
            .iter()
            .all(|wanted| has_label(labels, wanted))
            && !self
                .values("label!")
                .iter()
                .any(|unwanted| has_label(labels, unwanted))
    }

    /// One boolean value, as `dangling`.
    pub(crate) fn flag(&self, key: &str) -> ApiResult<Option<bool>> {
        match self.values(key) {
            [] => Ok(None),
            [value] => match value.as_str() {
                "1" | "true" | "t" | "T" | "TRUE" | "True" => Ok(Some(true)),
                "0" | "false" | "f" | "F" | "FALSE" | "False" => Ok(Some(false)),
                _ => Err(ApiError::bad(format!("invalid filter '{key}={value}'"))),
            },
            values => Err(ApiError::bad(format!(
                "invalid filter '{key}={}'",
                values.join(",")
            ))),
        }
    }
}

fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_and_refuses_unknown_keys() {
        let parse = |json: &str| {
            let encoded =
                percent_encoding::utf8_percent_encode(json, percent_encoding::NON_ALPHANUMERIC).to_string();
            Filters::parse(&Query::parse(&format!("filters={encoded}")), &["label", "name"])
        };
        for json in [
            r#"{"label":["a=b","c"]}"#,
            r#"{"label":{"a=b":true,"c":true,"d":false}}"#,
        ] {
            let filters = parse(json).unwrap();
            let labels = |pairs: &[(&str, &str)]| {
                filters.labels(
                    &pairs
                        .iter()
                        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                        .collect(),
                )
            };
            assert!(
                labels(&[("a", "b"), ("c", "")])
                    && !labels(&[("a", "x"), ("c", "")])
                    && !labels(&[("a", "b")])
            );
        }
        assert_eq!(
            parse(r#"{"foo":["x"]}"#).unwrap_err().message,
            "invalid filter 'foo'"
        );
        assert_eq!(parse("foo").unwrap_err().message, "invalid filter");
        assert!(
            Filters::parse(&Query::default(), &[])
                .unwrap()
                .any("name", |_| false)
        );
    }
}
