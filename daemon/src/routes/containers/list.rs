//! `GET /containers/json`.

use axum::extract::State;
use axum::http::StatusCode;
use cooper_runner::container::State as Process;

use super::status::status_name;
use super::summary::{ImageNames, add_sizes, summarise};
use crate::engine::{Engine, Metadata, is_running};
use crate::error::{ApiError, ApiResult, json};
use crate::http::filters::Filters;
use crate::http::query::Query;

/// Docker's filters; those about ports, networks and swarm have nothing to match yet and are refused below.
const FILTERS: [&str; 10] = [
    "ancestor", "before", "exited", "health", "id", "label", "name", "network", "since", "status",
];
const VERDICTS: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];
const STATES: [&str; 7] = [
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];

pub(super) async fn list(State(engine): State<Engine>, query: Query) -> ApiResult {
    let filters = Filters::parse(&query, &FILTERS)?;
    for status in filters.values("status") {
        if !STATES.contains(&status.as_str()) {
            return Err(ApiError::bad(format!(
                "invalid filter 'status={status}': invalid value for state ({status}): must be one of created, running, \
                 paused, restarting, removing, exited, dead"
            )));
        }
    }
    for code in filters.values("exited") {
        if code.parse::<i32>().is_err() {
            return Err(ApiError::bad(format!("invalid filter 'exited={code}'")));
        }
    }
    for verdict in filters.values("health") {
        if !VERDICTS.contains(&verdict.as_str()) {
            return Err(ApiError::bad(format!(
                "invalid filter 'health={verdict}': invalid value for health ({verdict}): must be one of starting, \
                 healthy, unhealthy, none"
            )));
        }
    }
    let limit = query
        .number::<i64>("limit")?
        .and_then(|limit| usize::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    let by_state = !filters.values("status").is_empty() || !filters.values("exited").is_empty();
    let all = query.flag("all") || limit.is_some() || by_state;
    let size = query.flag("size");
    engine
        .blocking(move |engine| {
            let mut found = engine.all_containers()?;
            // Newest first.
            found.sort_by(|(a, _), (b, _)| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
            let bounds = Bounds::new(engine, &filters)?;
            let mut names = ImageNames::new(engine);
            let mut entries = Vec::new();
            for (metadata, state) in &found {
                if !(all || is_running(state))
                    || !matches(&filters, metadata, state)
                    || !bounds.contain(metadata)
                {
                    continue;
                }
                let mut entry = match summarise(engine, metadata, state, &mut names) {
                    Ok(entry) => entry,
                    // Removed while we were looking.
                    Err(error) if error.status == StatusCode::NOT_FOUND => continue,
                    Err(error) => return Err(error),
                };
                let name_matches = filters.any("name", |pattern| name_matches(&entry.names, pattern));
                let ancestor = filters.any("ancestor", |name| {
                    metadata.config.image == name || names.id(name).is_some_and(|id| id == metadata.image_id)
                });
                let health = engine.health(&metadata.id)?;
                let verdict = health.map_or("none", |health| health.status.as_str());
                let healthy = filters.any("health", |wanted| verdict == wanted);
                if !name_matches || !ancestor || !healthy {
                    continue;
                }
                if size {
                    add_sizes(engine, metadata, &mut entry)?;
                }
                entries.push(entry);
                if limit.is_some_and(|limit| entries.len() >= limit) {
                    break;
                }
            }
            Ok(json(StatusCode::OK, &entries))
        })
        .await
}

fn matches(filters: &Filters, metadata: &Metadata, state: &Process) -> bool {
    filters.any("id", |id| metadata.id.starts_with(id))
        && filters.any("status", |status| status_name(state.status) == status)
        && filters.any("exited", |code| {
            !is_running(state) && state.started_at.is_some() && code == state.exit_code.to_string()
        })
        && filters.any("network", |network| metadata.host_config.network_mode == network)
        && filters.labels(&metadata.config.labels)
}

/// Docker takes a regular expression here; in practice it is a substring or `^/name$`. Anchors are honoured, the other
/// signs of regular expressions stand for themselves.
fn name_matches(names: &[String], pattern: &str) -> bool {
    let (start, rest) = pattern
        .strip_prefix('^')
        .map_or((false, pattern), |rest| (true, rest));
    let (end, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
    let test = |name: &str| match (start, end) {
        (true, true) => name == rest,
        (true, false) => name.starts_with(rest),
        (false, true) => name.ends_with(rest),
        (false, false) => name.contains(rest),
    };
    names
        .iter()
        .any(|name| test(name) || test(name.trim_start_matches('/')))
}

/// `before` and `since`: creation times of other containers.
struct Bounds {
    before: Option<String>,
    since: Option<String>,
}

impl Bounds {
    fn new(engine: &Engine, filters: &Filters) -> ApiResult<Self> {
        let created = |key: &str| {
            let value = filters.values(key).first();
            value
                .map(|name| Ok::<_, ApiError>(engine.metadata(&engine.resolve_container(name)?)?.created))
                .transpose()
        };
        Ok(Self {
            before: created("before")?,
            since: created("since")?,
        })
    }

    fn contain(&self, metadata: &Metadata) -> bool {
        self.before.as_ref().is_none_or(|bound| metadata.created < *bound)
            && self.since.as_ref().is_none_or(|bound| metadata.created > *bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_with_and_without_slash() {
        let names = ["/web_1".to_owned()];
        for (pattern, expected) in [
            ("web", true),
            ("^/web_1$", true),
            ("^web_1$", true),
            ("^eb", false),
            ("_1$", true),
            ("x", false),
        ] {
            assert_eq!(name_matches(&names, pattern), expected, "{pattern}");
        }
    }
}
