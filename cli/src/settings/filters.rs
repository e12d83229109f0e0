//! `--filter NAME=VALUE`, as the Engine API takes it.

use std::collections::BTreeMap;

/// The `filters` parameter; `None` when there are none.
pub(crate) fn encode(filters: &[String]) -> Result<Option<String>, String> {
    let mut all: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for filter in filters {
        let (name, value) = filter
            .split_once('=')
            .ok_or_else(|| format!("invalid filter `{filter}`: expected NAME=VALUE"))?;
        all.entry(name.trim().to_ascii_lowercase())
            .or_default()
            .push(value.trim());
    }
    if all.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&all)
        .map(Some)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let check = |filters: &[&str], expected: Result<Option<&str>, ()>| {
            let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
            assert_eq!(
                encode(&filters).map_err(drop),
                expected.map(|text| text.map(str::to_owned)),
                "{filters:?}"
            );
        };
        check(&[], Ok(None));
        check(
            &["label=a=b", "Label=c", "name=x"],
            Ok(Some("{\"label\":[\"a=b\",\"c\"],\"name\":[\"x\"]}")),
        );
        check(&["name"], Err(()));
    }
}
