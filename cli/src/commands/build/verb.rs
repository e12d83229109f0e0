//! The verb `build`.

use super::outcome::{Built, write_files};
use super::watch::Watcher;
use super::{Order, build};
use crate::args::build::{BuildArgs, ProgressMode};
use crate::client::Client;
use crate::commands::print;
use crate::failure::{Failure, Result};
use crate::session::Signals;

/// `build`.
pub(in crate::commands) async fn run(client: &Client, args: &BuildArgs) -> Result {
    if args.watch {
        return watch(client, args).await;
    }
    let mut signals = Signals::ending()?;
    let built = build(client, Order::new(args)?, &mut signals).await?;
    done(args, &built)
}

/// What is left to do after a build.
fn done(args: &BuildArgs, built: &Built) -> Result {
    write_files(built, args.iidfile.as_deref(), args.metadata_file.as_deref())?;
    if args.quiet || args.progress == ProgressMode::Quiet {
        for image in &built.images {
            print::line(&image.id)?;
        }
    }
    Ok(())
}

/// Builds, and again after every change, until a signal ends it. A change during a build starts it anew.
async fn watch(client: &Client, args: &BuildArgs) -> Result {
    let mut signals = Signals::ending()?;
    let mut built_once = false;
    loop {
        let order = Order::new(args)?;
        // Before the build, so that no change is missed.
        let mut watcher = Watcher::start(order.watched()?)?;
        let changed = {
            let build = build(client, order, &mut signals);
            tokio::pin!(build);
            tokio::select! {
                result = &mut build => Err(result),
                change = watcher.changed() => Ok(change?),
            }
        };
        let change = match changed {
            Ok(change) => {
                client.cancel_builds().await;
                change
            }
            Err(result) => {
                match result.and_then(|built| done(args, &built)) {
                    Ok(()) => built_once = true,
                    Err(failure @ (Failure::Cancelled(_) | Failure::BrokenPipe | Failure::Exit(_))) => {
                        return ended(failure, built_once);
                    }
                    Err(failure) => print::talk(&failure.to_string()),
                }
                print::talk("watching for changes, Ctrl-C ends");
                tokio::select! {
                    change = watcher.changed() => change?,
                    name = signals.next() => {
                        let code = 128 + crate::session::signal_number(name);
                        return ended(Failure::Cancelled(code), built_once);
                    }
                }
            }
        };
        print::talk(&format!("{} changed, building again", change.display()));
    }
}

/// Ctrl-C is how a watch ends; after a build that succeeded it is no failure.
fn ended(failure: Failure, built_once: bool) -> Result {
    match failure {
        Failure::Cancelled(code) if built_once && code == 128 + 2 => Ok(()),
        other => Err(other),
    }
}
