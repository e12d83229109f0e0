//! `POST /build/prune`.
//!
//! Parameters: `all`; `reserved-space` (or `keep-storage`, its old name), `max-used-space`, `min-free-space` in bytes;
//! `filters` with `until` (or `unused-for`), `id`, `parent`, `type`, `description`, `inuse`, `shared`, `private`, and
//! buildx's `parents`, `mutable`, `immutable`. A field without a value is one that must hold.

use axum::extract::State;
use axum::http::StatusCode;
use cooper_builder::cache::{self, Filter, Limits, Prune};

use crate::api::PruneBuildReport;
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult, json};
use crate::http::filters::Filters;
use crate::http::query::Query;
use crate::routes::containers::prune_until as until;

/// What entries are filtered by, here and in `GET /system/df`.
const FIELDS: [&str; 10] = [
    "id",
    "parent",
    "parents",
    "type",
    "description",
    "inuse",
    "shared",
    "private",
    "mutable",
    "immutable",
];

pub(super) async fn prune(State(engine): State<Engine>, query: Query) -> ApiResult {
    let options = parse(&query)?;
    engine
        .blocking(move |engine| {
            let store = engine.store()?;
            let pruned = cache::prune(store, &options, &|gc| engine.collect_for_builder(gc))
                .map_err(|error| ApiError::internal(error.to_string()))?;
            let report = PruneBuildReport {
                caches_deleted: Some(pruned.deleted).filter(|deleted| !deleted.is_empty()),
                space_reclaimed: pruned.freed,
            };
            Ok(json(StatusCode::OK, &report))
        })
        .await
}

/// `filters` of `GET /system/df` for the build cache; Docker has none there.
pub(in crate::routes) fn du_filters(query: &Query) -> ApiResult<Vec<Filter>> {
    conditions(&Filters::parse(query, &FIELDS)?)
}

fn conditions(filters: &Filters) -> ApiResult<Vec<Filter>> {
    let mut conditions = Vec::new();
    for field in FIELDS {
        match filters.values(field) {
            [] => {}
            [value] => {
                let filter = Filter::new(field, value);
                conditions.push(filter.map_err(|error| ApiError::bad(error.to_string()))?);
            }
            // dockerd's `errMultipleFilterValues`.
            _ => return Err(ApiError::bad("filters expect only one value")),
        }
    }
    Ok(conditions)
}

fn parse(query: &Query) -> ApiResult<Prune> {
    let known: Vec<&str> = FIELDS.into_iter().chain(["until", "unused-for"]).collect();
    let filters = Filters::parse(query, &known)?;
    let mut options = Prune {
        all: query.flag("all"),
        limits: Limits {
            reserved: match query.number("reserved-space")? {
                Some(bytes) => bytes,
                None => query.number("keep-storage")?.unwrap_or(0),
            },
            max_used: query.number("max-used-space")?.unwrap_or(0),
            min_free: query.number("min-free-space")?.unwrap_or(0),
        },
        ..Prune::default()
    };
    options.filters = conditions(&filters)?;
    if let Some(time) = until(&filters)? {
        let ago = jiff::Timestamp::now().as_second().saturating_sub(time);
        options.unused_for = Some(u64::try_from(ago).unwrap_or(0));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let check = |query: &str| parse(&Query::parse(query)).map_err(|error| error.message);
        // What docker's CLI 28 sends.
        assert_eq!(
            check("filters=%7B%7D&keep-storage=0&all=0").unwrap(),
            Prune::default()
        );
        let all = check("all=1&keep-storage=5&max-used-space=7&min-free-space=9").unwrap();
        let limits = Limits {
            reserved: 5,
            max_used: 7,
            min_free: 9,
        };
        assert_eq!((all.all, all.limits), (true, limits));
        let filters = |json: &str| {
            let json = percent_encoding::utf8_percent_encode(json, percent_encoding::NON_ALPHANUMERIC);
            check(&format!("filters={json}"))
        };
        let found = filters(r#"{"until":["24h"],"type":["regular"],"shared":["false"]}"#).unwrap();
        assert_eq!(found.unused_for, Some(86_400));
        assert_eq!(
            found.filters,
            [Filter::Type("regular".into()), Filter::Shared(false)]
        );
        assert_eq!(
            filters(r#"{"type":["a","b"]}"#).unwrap_err(),
            "filters expect only one value"
        );
        assert_eq!(
            filters(r#"{"label":["a"]}"#).unwrap_err(),
            "invalid filter 'label'"
        );
        assert!(filters(r#"{"until":["x"]}"#).is_err() && check("keep-storage=x").is_err());
    }
}
