//! From a parsed command line to the verb's function.

use super::lifecycle::Action;
use super::{
    attach, build, builder, commit, completion, cp, create, daemon, df, diff, events, exec, export, history,
    images, import, info, inspect, lifecycle, load, logs, prune, ps, pull, registry, rmi, run, save, start,
    stats, tag, top, unshare, update, version,
};
use crate::args::builder::BuilderVerb;
use crate::args::root::{Cli, ContainerVerb, ImageVerb, Verb};
use crate::args::system::{ObjectType, RegistryVerb, SystemVerb};
use crate::client::{Client, Door, Places, choose};
use crate::failure::{Failure, Result};

/// `--host` without a path: the default socket.
const DEFAULT_HOST: &str = "unix://";

/// Settles which engine is used. If it is to be in this process and the user is not root, the process enters the user's
/// namespace, so this must come before there is a second thread.
pub(crate) fn prepare(mut cli: Cli) -> Result<(Cli, Option<Door>)> {
    let is_engine = matches!(
        &cli.verb,
        Verb::Daemon(_) | Verb::Registry(RegistryVerb::Serve(_)) | Verb::Unshare(_)
    );
    let user = match (&cli.verb, &cli.global.host) {
        (Verb::Completion(_) | Verb::Man(_), _) => return Ok((cli, None)),
        // An engine that is named needs none of the user's directories.
        (_, Some(host)) if !is_engine && host != DEFAULT_HOST => None,
        _ => cooper_daemon::rootless::User::detect()?,
    };
    if let Some(user) = &user {
        cli.global.places = Places::of_user(user);
    }
    let door = if is_engine {
        None
    } else {
        Some(choose(&cli.global).map_err(Failure::new)?)
    };
    if let (Some(user), None | Some(Door::InProcess { .. })) = (&user, &door) {
        user.enter()?;
    }
    Ok((cli, door))
}

/// Does what was asked, with the door that [`prepare`] has chosen.
pub(crate) async fn perform(cli: Cli, door: Option<Door>) -> Result {
    let Cli { global, verb } = cli;
    match verb {
        // These need no engine, or are one.
        Verb::Completion(args) => completion::script(&args),
        Verb::Man(args) => completion::manual(&args),
        Verb::Daemon(args) => daemon::run(&global, args).await,
        Verb::Registry(RegistryVerb::Serve(args)) => registry::serve(&global, &args).await,
        Verb::Unshare(args) => unshare::run(&global, &args),
        verb => {
            if global.debug {
                super::log_to_stderr(tracing::Level::DEBUG);
            }
            let door = door.ok_or_else(|| Failure::new("no engine was chosen"))?;
            if let Some(warning) = door.warning() {
                super::print::warning(&warning);
            }
            dispatch(&Client::new(door), verb).await
        }
    }
}

async fn dispatch(client: &Client, verb: Verb) -> Result {
    match verb {
        Verb::Build(args) | Verb::Image(ImageVerb::Build(args)) | Verb::Builder(BuilderVerb::Build(args)) => {
            build::run(client, &args).await
        }
        Verb::Builder(BuilderVerb::Du(args)) => builder::du(client, &args).await,
        Verb::Builder(BuilderVerb::Prune(args)) => builder::prune(client, &args).await,
        Verb::Run(args) | Verb::Container(ContainerVerb::Run(args)) => run::run(client, args).await,
        Verb::Create(args) | Verb::Container(ContainerVerb::Create(args)) => create::run(client, &args).await,
        Verb::Start(args) | Verb::Container(ContainerVerb::Start(args)) => start::run(client, &args).await,
        Verb::Attach(args) | Verb::Container(ContainerVerb::Attach(args)) => attach::run(client, &args).await,
        Verb::Exec(args) | Verb::Container(ContainerVerb::Exec(args)) => exec::run(client, &args).await,
        Verb::Ps(args) | Verb::Container(ContainerVerb::Ls(args)) => ps::run(client, &args).await,
        Verb::Logs(args) | Verb::Container(ContainerVerb::Logs(args)) => logs::run(client, &args).await,
        Verb::Stop(args) | Verb::Container(ContainerVerb::Stop(args)) => {
            lifecycle::run(client, &args.containers, &Action::stop(&args)).await
        }
        Verb::Restart(args) | Verb::Container(ContainerVerb::Restart(args)) => {
            lifecycle::run(client, &args.containers, &Action::restart(&args)).await
        }
        Verb::Kill(args) | Verb::Container(ContainerVerb::Kill(args)) => {
            lifecycle::run(client, &args.containers, &Action::Kill(args.signal)).await
        }
        Verb::Pause(args) | Verb::Container(ContainerVerb::Pause(args)) => {
            lifecycle::run(client, &args.containers, &Action::Pause).await
        }
        Verb::Unpause(args) | Verb::Container(ContainerVerb::Unpause(args)) => {
            lifecycle::run(client, &args.containers, &Action::Unpause).await
        }
        Verb::Rm(args) | Verb::Container(ContainerVerb::Rm(args)) => {
            let action = Action::Remove {
                force: args.force,
                volumes: args.volumes,
            };
            lifecycle::run(client, &args.containers, &action).await
        }
        Verb::Wait(args) | Verb::Container(ContainerVerb::Wait(args)) => {
            lifecycle::run(client, &args.containers, &Action::Wait).await
        }
        Verb::Rename(args) | Verb::Container(ContainerVerb::Rename(args)) => {
            lifecycle::rename(client, &args).await
        }
        Verb::Diff(args) | Verb::Container(ContainerVerb::Diff(args)) => diff::run(client, &args).await,
        Verb::Cp(args) | Verb::Container(ContainerVerb::Cp(args)) => cp::run(client, &args).await,
        Verb::Export(args) | Verb::Container(ContainerVerb::Export(args)) => export::run(client, &args).await,
        Verb::Commit(args) | Verb::Container(ContainerVerb::Commit(args)) => commit::run(client, &args).await,
        Verb::Stats(args) | Verb::Container(ContainerVerb::Stats(args)) => stats::run(client, &args).await,
        Verb::Update(args) | Verb::Container(ContainerVerb::Update(args)) => update::run(client, &args).await,
        Verb::Top(args) | Verb::Container(ContainerVerb::Top(args)) => top::run(client, &args).await,
        Verb::Images(args) | Verb::Image(ImageVerb::Ls(args)) => images::run(client, &args).await,
        Verb::Rmi(args) | Verb::Image(ImageVerb::Rm(args)) => rmi::run(client, &args).await,
        Verb::Tag(args) | Verb::Image(ImageVerb::Tag(args)) => tag::run(client, &args).await,
        Verb::Inspect(args) => inspect::run(client, &args, args.kind).await,
        Verb::Container(ContainerVerb::Inspect(args)) => {
            inspect::run(client, &args, Some(ObjectType::Container)).await
        }
        Verb::Image(ImageVerb::Inspect(args)) => inspect::run(client, &args, Some(ObjectType::Image)).await,
        Verb::History(args) | Verb::Image(ImageVerb::History(args)) => history::run(client, &args).await,
        Verb::Import(args) | Verb::Image(ImageVerb::Import(args)) => import::run(client, &args).await,
        Verb::Load(args) | Verb::Image(ImageVerb::Load(args)) => load::run(client, &args).await,
        Verb::Save(args) | Verb::Image(ImageVerb::Save(args)) => save::run(client, &args).await,
        Verb::Pull(args) | Verb::Image(ImageVerb::Pull(args)) => pull::run(client, &args).await,
        Verb::Push(args) | Verb::Image(ImageVerb::Push(args)) => pull::push(client, &args).await,
        Verb::System(SystemVerb::Df(args)) => df::run(client, &args).await,
        Verb::System(SystemVerb::Prune(args)) => prune::system(client, &args).await,
        Verb::Container(ContainerVerb::Prune(args)) => prune::containers(client, &args).await,
        Verb::Image(ImageVerb::Prune(args)) => prune::images(client, &args).await,
        Verb::Events(args) => events::run(client, &args).await,
        Verb::Info(args) | Verb::System(SystemVerb::Info(args)) => info::run(client, &args).await,
        Verb::Version(args) => version::run(client, &args).await,
        Verb::Completion(_) | Verb::Man(_) | Verb::Daemon(_) | Verb::Registry(_) | Verb::Unshare(_) => {
            unreachable!("handled by `perform`, which has no client for them")
        }
    }
}
