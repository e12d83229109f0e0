//! `daemon`.

use std::path::PathBuf;

use cooper_daemon::{Engine, Listener, PidFile};

use super::create::usage;
use crate::args::root::Global;
use crate::args::system::{DaemonArgs, LogLevel};
use crate::client::{chain, directories};
use crate::failure::{Failure, Result};
use crate::session::{Signals, signal_number};

/// `daemon`: serves until SIGINT or SIGTERM. Containers go on.
pub(super) async fn run(global: &Global, args: DaemonArgs) -> Result {
    let level = match args.log_level {
        LogLevel::Trace => tracing::Level::TRACE,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Error => tracing::Level::ERROR,
    };
    super::log_to_stderr(if global.debug {
        level.max(tracing::Level::DEBUG)
    } else {
        level
    });
    let config = directories(&Global {
        data_root: args.daemon_data_root.or_else(|| global.data_root.clone()),
        exec_root: args.daemon_exec_root.or_else(|| global.exec_root.clone()),
        ..global.clone()
    });
    let mut hosts = args.hosts;
    if hosts.is_empty() {
        hosts.push(
            global
                .host
                .clone()
                .unwrap_or_else(|| format!("unix://{}", global.places.socket.display())),
        );
    }
    let sockets = hosts
        .iter()
        .map(|host| socket(host))
        .collect::<Result<Vec<PathBuf>>>()?;
    // Signals are caught first, so that every file made below is removed again.
    let mut signals = Signals::ending()?;
    let fail =
        |error: &dyn std::error::Error| Failure::new(format!("cannot start the daemon: {}", chain(error)));
    let _pidfile = args
        .pidfile
        .as_deref()
        .map(PidFile::create)
        .transpose()
        .map_err(|error| fail(&error))?;
    let root = config.data_root.clone();
    let engine = Engine::open(config).map_err(|error| fail(&error))?;
    let listeners = sockets
        .iter()
        .map(|path| Listener::bind(path))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| fail(&error))?;
    for path in &sockets {
        tracing::info!(socket = %path.display(), data_root = %root.display(), "listening");
    }
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let serving = cooper_daemon::serve(engine, listeners, async {
        // The sender lives as long as this function.
        let _ = stopping.await;
    });
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => return Ok(()),
        name = signals.next() => tracing::info!(signal = name, "shutting down, containers go on"),
    }
    // Received for certain: the server only ends after it.
    let _ = stop.send(());
    tokio::select! {
        () = &mut serving => Ok(()),
        // A second signal ends the grace period.
        name = signals.next() => Err(Failure::Exit(128 + signal_number(name))),
    }
}

fn socket(host: &str) -> Result<PathBuf> {
    let path = host.strip_prefix("unix://").unwrap_or(host);
    if path.starts_with('/') {
        Ok(PathBuf::from(path))
    } else {
        Err(usage(format!("cannot listen on `{host}`: expected unix:///path")))
    }
}
