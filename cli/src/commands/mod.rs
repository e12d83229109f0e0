//! What the verbs do: one file a verb, dispatched by [`perform`].

mod attach;
mod build;
mod builder;
mod commit;
mod completion;
mod cp;
mod create;
mod daemon;
mod df;
mod diff;
mod each;
mod events;
mod exec;
mod export;
mod foreground;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod lifecycle;
mod load;
mod logs;
mod print;
mod prune;
mod ps;
mod pull;
mod registry;
mod rerun;
mod rmi;
mod run;
mod save;
mod start;
mod stats;
mod tag;
mod top;
mod unshare;
mod update;
mod verb;
mod version;

pub(crate) use print::talk;
pub(crate) use verb::{perform, prepare};

/// Sends what the engine logs to stderr; `COOPER_LOG` (env-filter syntax) overrides the level.
fn log_to_stderr(level: tracing::Level) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("COOPER_LOG").unwrap_or_else(|_| EnvFilter::new(level.to_string()));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // A second call is a no-op: the first one won.
    let _ = subscriber
        .with_ansi(crate::output::messages::stderr_is_terminal())
        .try_init();
}
