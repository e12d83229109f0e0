//! The engine as its clients see it: HTTP over the in-process door, and docker's CLI over a unix socket.
//!
//! This binary is three programs: the tests, a daemon (`engine --daemon SOCKET DATA EXEC`) and, under the supervisor's
//! argv[0], the supervisor of the containers that either of them starts.

mod api;
mod client;
mod docker;
mod run;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cooper_daemon::{Engine, EngineConfig, Listener, serve, supervisor};
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args
        .next()
        .is_some_and(|program| Path::new(&program).ends_with(supervisor::ARGV0))
    {
        return ExitCode::from(u8::try_from(supervisor::main()).unwrap_or(1));
    }
    if args.next().is_some_and(|first| first == "--daemon") {
        let mut path = || PathBuf::from(args.next().expect("--daemon takes three paths"));
        daemon(&path(), path(), path());
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let mut tests = api::tests();
    tests.extend(run::tests());
    tests.extend(docker::tests());
    libtest_mimic::run(&arguments, tests).exit_code()
}

/// Serves until SIGTERM.
fn daemon(socket: &Path, data_root: PathBuf, exec_root: PathBuf) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let engine = Engine::open(EngineConfig {
            data_root,
            exec_root,
            config_file: None,
        })
        .expect("an engine");
        let listener = Listener::bind(socket).expect("a socket");
        let mut term =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a handler");
        serve(engine, vec![listener], async {
            term.recv().await;
        })
        .await;
    });
    runtime.shutdown_background();
}
