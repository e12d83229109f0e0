//! `GET /containers/{id}/top`: the host's `ps`, reduced to the container's processes.

use std::process::{Command, Stdio};

use axum::extract::{Path, State};
use axum::http::StatusCode;

use crate::api::TopResponse;
use crate::engine::{Engine, is_running};
use crate::error::{ApiError, ApiResult, json};
use crate::http::query::Query;

pub(super) async fn top(State(engine): State<Engine>, Path(name): Path<String>, query: Query) -> ApiResult {
    let args = query.non_empty("ps_args").unwrap_or("-ef").to_owned();
    engine
        .blocking(move |engine| {
            let id = engine.resolve_container(&name)?;
            if !is_running(&engine.containers()?.state(&id)?) {
                return Err(ApiError::not_running(&id));
            }
            let pids = engine.containers()?.pids(&id)?;
            Ok(json(StatusCode::OK, &select(&run_ps(&args)?, &pids)?))
        })
        .await
}

fn run_ps(args: &str) -> ApiResult<String> {
    let output = Command::new("ps")
        .args(args.split_ascii_whitespace())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| ApiError::internal(format!("failed to run ps: {error}")))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(ApiError::bad(format!("ps: {}", message.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Rows of `ps` whose PID column is one of `pids`; the last column takes the rest of its line.
fn select(output: &str, pids: &[i32]) -> ApiResult<TopResponse> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect();
    let Some(pid_column) = titles.iter().position(|title| title == "PID") else {
        return Err(ApiError::bad("Couldn't find PID field in ps output"));
    };
    let row = |line: &str| {
        let mut rest = line.trim_start();
        let mut row = Vec::with_capacity(titles.len());
        while row.len() + 1 < titles.len() {
            let (word, after) = rest.split_once(char::is_whitespace)?;
            row.push(word.to_owned());
            rest = after.trim_start();
        }
        row.push(rest.trim_end().to_owned());
        let pid: i32 = row[pid_column].parse().ok()?;
        pids.contains(&pid).then_some(row)
    };
    Ok(TopResponse {
        processes: lines.filter_map(row).collect(),
        titles,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_containers_rows() {
        let output = "UID   PID  PPID CMD\nroot    1     0 init\nroot   12     1 sleep 10 20\n";
        let all = select(output, &[12]).unwrap();
        assert_eq!(all.titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(all.processes, [["root", "12", "1", "sleep 10 20"]]);
        assert!(select("A B\n", &[1]).is_err());
    }
}
