//! `run --build --watch`: builds and runs, and again after every change. The old container goes on until the new image is
//! there, and after a build that failed.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use super::build::{self, Order, Watcher};
use super::create::{self, usage};
use super::foreground::Attachment;
use super::print;
use crate::args::create::RunArgs;
use crate::client::{Client, Payload, query};
use crate::failure::{Failure, Result};
use crate::session::{self, Signals};
use crate::settings::container;

/// How long a container that was stopped may take to be gone, beyond the time that it is given to stop.
const GONE: Duration = Duration::from_secs(30);

/// A container in the foreground.
struct Running<'a> {
    id: String,
    session: Pin<Box<dyn Future<Output = Result> + 'a>>,
}

/// Why the loop goes on or ends.
enum Next {
    Changed(PathBuf),
    Signal(&'static str),
}

/// Runs until a signal ends it.
pub(super) async fn run(client: &Client, args: &RunArgs, directory: &Path) -> Result {
    let mut signals = Signals::ending()?;
    let mut running: Option<Running<'_>> = None;
    loop {
        let order = Order::for_run(args, directory)?;
        // Before the build, so that no change is missed.
        let mut watcher = Watcher::start(order.watched()?)?;
        let interrupted = {
            let mut unheard = Signals::none();
            let build = build::build(client, order, &mut unheard);
            let next = next(&mut watcher, &mut signals, &mut running);
            tokio::pin!(build, next);
            tokio::select! {
                biased;
                next = &mut next => Ok(next?),
                result = &mut build => Err(result),
            }
        };
        let next = match interrupted {
            Ok(next) => {
                client.cancel_builds().await;
                next
            }
            Err(result) => {
                match result {
                    Ok(built) => {
                        stop(client, args, running.take()).await?;
                        running = Some(begin(client, args, built.id()).await?);
                    }
                    Err(failure) => print::talk(&failure.to_string()),
                }
                next(&mut watcher, &mut signals, &mut running).await?
            }
        };
        match next {
            Next::Changed(path) => print::talk(&format!("{} changed, building again", path.display())),
            Next::Signal(name) => {
                stop(client, args, running.take()).await?;
                return Err(Failure::Exit(128 + session::signal_number(name)));
            }
        }
    }
}

/// Waits for a change or a signal, while the container's output is shown.
async fn next(
    watcher: &mut Watcher,
    signals: &mut Signals,
    running: &mut Option<Running<'_>>,
) -> Result<Next> {
    let change = watcher.changed();
    tokio::pin!(change);
    loop {
        tokio::select! {
            biased;
            name = signals.next() => return Ok(Next::Signal(name)),
            change = &mut change => return Ok(Next::Changed(change?)),
            result = output(running) => ended(result, running),
        }
    }
}

/// The container's end; never, when there is none.
async fn output(running: &mut Option<Running<'_>>) -> Result {
    match running {
        Some(running) => running.session.as_mut().await,
        None => std::future::pending().await,
    }
}

/// The container ended by itself.
fn ended(result: Result, running: &mut Option<Running<'_>>) {
    *running = None;
    let how = match result {
        Ok(()) => "exited with code 0".to_owned(),
        Err(Failure::Exit(code)) => format!("exited with code {code}"),
        Err(failure) => failure.to_string(),
    };
    print::talk(&format!("the container {how}; watching for changes, Ctrl-C ends"));
}

/// Creates and starts a container.
async fn begin<'a>(client: &'a Client, args: &RunArgs, image: &str) -> Result<Running<'a>> {
    let streams = container::streams(&args.flags, false).map_err(usage)?;
    let request = create::request(&args.flags, image, &args.rest, streams)?;
    let id = create::create(client, &args.flags, &request).await?;
    let (tty, removed) = (args.flags.tty, args.flags.rm);
    let own = id.clone();
    let session = async move {
        let attachment = Attachment {
            id: &own,
            streams,
            tty,
            removed,
            detach_keys: Vec::new(),
            sig_proxy: false,
        };
        attachment.start(client, Signals::none()).await
    };
    Ok(Running {
        id,
        session: Box::pin(session),
    })
}

/// Stops a container and removes it: its name is free afterwards.
async fn stop(client: &Client, args: &RunArgs, running: Option<Running<'_>>) -> Result {
    let Some(Running { id, session }) = running else {
        return Ok(());
    };
    let grace = args
        .flags
        .stop_timeout
        .and_then(|seconds| u64::try_from(seconds).ok());
    let path = format!("/containers/{id}/stop");
    let stopping = client.act(&path, Payload::Empty);
    // Its last words are shown meanwhile.
    let patience = GONE + Duration::from_secs(grace.unwrap_or(10));
    let both = async { tokio::join!(stopping, session) };
    if let Ok((Err(error), _)) = tokio::time::timeout(patience, both).await
        && !error.is_not_found()
    {
        return Err(error.into());
    }
    match client
        .delete(&query(&format!("/containers/{id}"), &[("force", "1")]))
        .await
    {
        Ok(_) => Ok(()),
        // One with --rm is gone already.
        Err(error) if error.is_not_found() || args.flags.rm => Ok(()),
        Err(error) => Err(error.into()),
    }
}
