//! Stop, restart, kill, pause, unpause, rm, wait, rename.

use cooper_daemon::api::WaitResponse;

use super::each::each;
use crate::args::container::{RenameArgs, StopArgs};
use crate::client::{Client, Payload, escape, query};
use crate::failure::Result;

/// What to do with each container.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// `stop` or `restart`, with their endpoint.
    Stop {
        endpoint: &'static str,
        timeout: Option<String>,
        signal: Option<String>,
    },
    Kill(String),
    Pause,
    Unpause,
    Remove {
        force: bool,
        volumes: bool,
    },
    Wait,
}

impl Action {
    pub(super) fn stop(args: &StopArgs) -> Self {
        Self::Stop {
            endpoint: "stop",
            timeout: args.timeout.map(|seconds| seconds.to_string()),
            signal: args.signal.clone(),
        }
    }

    pub(super) fn restart(args: &StopArgs) -> Self {
        Self::Stop {
            endpoint: "restart",
            timeout: args.timeout.map(|seconds| seconds.to_string()),
            signal: args.signal.clone(),
        }
    }
}

/// Applies an action to every container.
pub(super) async fn run(client: &Client, containers: &[String], action: &Action) -> Result {
    each(containers, |name| one(client, name, action)).await
}

async fn one(client: &Client, name: &str, action: &Action) -> Result<String> {
    let path = |verb: &str| format!("/containers/{}/{verb}", escape(name));
    match action {
        Action::Stop {
            endpoint,
            timeout,
            signal,
        } => {
            let mut pairs = Vec::new();
            pairs.extend(timeout.as_deref().map(|timeout| ("t", timeout)));
            pairs.extend(signal.as_deref().map(|signal| ("signal", signal)));
            client
                .act(&query(&path(endpoint), &pairs), Payload::Empty)
                .await?;
        }
        Action::Kill(signal) => {
            client
                .act(&query(&path("kill"), &[("signal", signal)]), Payload::Empty)
                .await?;
        }
        Action::Pause => {
            client.act(&path("pause"), Payload::Empty).await?;
        }
        Action::Unpause => {
            client.act(&path("unpause"), Payload::Empty).await?;
        }
        Action::Remove { force, volumes } => {
            let flag = |set: bool| if set { "1" } else { "0" };
            let pairs = [("force", flag(*force)), ("v", flag(*volumes))];
            let removed = client
                .delete(&query(&format!("/containers/{}", escape(name)), &pairs))
                .await;
            match removed {
                // As `rm -f` of a file: what is not there is gone.
                Err(error) if *force && error.is_not_found() => {
                    super::print::talk(&crate::failure::Failure::from(error).to_string());
                    return Ok(String::new());
                }
                other => other.map(drop)?,
            }
        }
        Action::Wait => {
            let answer: WaitResponse = client.post(&path("wait"), Payload::Empty).await?;
            return Ok(format!("{}\n", answer.status_code));
        }
    }
    Ok(format!("{name}\n"))
}

/// `rename`.
pub(super) async fn rename(client: &Client, args: &RenameArgs) -> Result {
    let path = format!("/containers/{}/rename", escape(&args.container));
    client
        .act(&query(&path, &[("name", &args.name)]), Payload::Empty)
        .await?;
    Ok(())
}
