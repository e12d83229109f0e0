//! `attach`.

use cooper_daemon::api::{ContainerInspect, WaitResponse};

use super::foreground;
use crate::args::container::AttachArgs;
use crate::client::{Client, Payload, escape};
use crate::failure::{Failure, Result};
use crate::session::{self, End, Session, Signals};
use crate::settings::container::Streams;

/// `attach`.
pub(super) async fn run(client: &Client, args: &AttachArgs) -> Result {
    let container: ContainerInspect = client
        .get(&format!("/containers/{}/json", escape(&args.container)))
        .await?;
    let state = &container.state;
    if !state.running || state.paused {
        let what = if state.paused { "paused" } else { "not running" };
        return Err(Failure::new(format!(
            "cannot attach to container {}: it is {what}",
            args.container
        )));
    }
    let stdin = !args.no_stdin && container.config.open_stdin;
    if stdin && container.config.tty && !session::is_terminal_stdin() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let signals = if args.sig_proxy {
        Signals::forwarded()?
    } else {
        Signals::ending()?
    };
    let stream = foreground::attach(
        client,
        &container.id,
        Streams {
            stdin,
            stdout: true,
            stderr: true,
        },
    )
    .await?;
    let session = Session {
        client,
        stream,
        stdin,
        tty: container.config.tty,
        detach_keys: session::parse_keys(&args.detach_keys).map_err(Failure::new)?,
        resize: format!("/containers/{}/resize", container.id),
        signals_to: args.sig_proxy.then(|| container.id.clone()),
        signals,
    };
    match session.run().await? {
        End::Output => {}
        End::Detached => return Ok(()),
        End::Signal(name) => return Err(Failure::Exit(128 + session::signal_number(name))),
    }
    let waited = client
        .post::<WaitResponse>(&format!("/containers/{}/wait", container.id), Payload::Empty)
        .await;
    match waited {
        // With --rm it may be gone already, its exit code with it.
        Err(error) if error.is_not_found() => Ok(()),
        other => foreground::exit(&other?),
    }
}
