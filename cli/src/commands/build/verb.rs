//! The verb `build`.

use cooper_daemon::build::Verification;

use super::call::ask;
use super::outcome::{Built, metadata, write_ids, write_metadata};
use super::watch::Watcher;
use super::{Order, build, flags};
use crate::args::build::{BuildArgs, ProgressMode};
use crate::client::Client;
use crate::commands::create::usage;
use crate::commands::inspect::pretty;
use crate::commands::print;
use crate::failure::{Failure, Result};
use crate::outputs::{OutputSpec, receive, refuse_terminal};
use crate::session::Signals;
use crate::settings::build::{Question, question};

/// `build`.
pub(in crate::commands) async fn run(client: &Client, args: &BuildArgs) -> Result {
    let outputs = flags::outputs(args).map_err(usage)?;
    if let Some(question) = question(args.call.as_deref(), args.check).map_err(usage)? {
        return answer(client, args, &outputs, question).await;
    }
    for spec in &outputs {
        refuse_terminal(spec)?;
    }
    if args.watch {
        return watch(client, args, &outputs).await;
    }
    let mut signals = Signals::ending()?;
    let order = Order::new(args, &outputs)?;
    let epoch = order.epoch();
    let built = build(client, order, &mut signals).await?;
    done(client, args, &outputs, epoch, &built).await
}

/// `--call` and `--check`: prints the answer, whose exit code is ours.
async fn answer(client: &Client, args: &BuildArgs, outputs: &[OutputSpec], question: Question) -> Result {
    if args.watch {
        return Err(usage("--watch is for builds, not for questions".to_owned()));
    }
    let mut signals = Signals::ending()?;
    let report = ask(client, Order::new(args, outputs)?, &mut signals).await?;
    if question.json {
        let mut value = serde_json::to_value(&report)?;
        if let Some(map) = value.as_object_mut() {
            // For people.
            map.remove("text");
        }
        print::line(&pretty(&value)?)?;
    } else {
        print::data(&report.to_string())?;
    }
    match report.exit_code() {
        0 => Ok(()),
        code => Err(Failure::Exit(code)),
    }
}

/// What `--verify` found, on stdout; the exit code is 1 if the images differ.
fn verdict(verified: &Verification) -> Result {
    if verified.image == verified.rebuilt {
        return print::line(&format!("the same: {}", verified.image));
    }
    print::line(&format!(
        "not the same: {} became {}",
        verified.image, verified.rebuilt
    ))?;
    for difference in &verified.differences {
        print::line(&difference.to_string())?;
    }
    Err(Failure::Exit(1))
}

/// What is left to do after a build.
async fn done(
    client: &Client,
    args: &BuildArgs,
    outputs: &[OutputSpec],
    epoch: Option<i64>,
    built: &Built,
) -> Result {
    if let Some(verified) = &built.verified {
        return verdict(verified);
    }
    for spec in outputs {
        for image in &built.images {
            for warning in receive(client, &image.id, spec, &image.names, epoch).await? {
                print::warning(&warning);
            }
        }
    }
    if let Some(path) = &args.iidfile {
        write_ids(path, built)?;
    }
    if let Some(path) = &args.metadata_file {
        write_metadata(path, &metadata(client, built).await?)?;
    }
    let quiet = args.quiet || args.progress == ProgressMode::Quiet;
    // An archive there is not to be followed by anything.
    if quiet && !outputs.iter().any(OutputSpec::is_stdout) {
        for image in &built.images {
            print::line(&image.id)?;
        }
    }
    Ok(())
}

/// Builds, and again after every change, until a signal ends it. A change during a build starts it anew.
async fn watch(client: &Client, args: &BuildArgs, outputs: &[OutputSpec]) -> Result {
    let mut signals = Signals::ending()?;
    let mut built_once = false;
    loop {
        let order = Order::new(args, outputs)?;
        let epoch = order.epoch();
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
                let result = match result {
                    Ok(built) => done(client, args, outputs, epoch, &built).await,
                    Err(failure) => Err(failure),
                };
                match result {
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
