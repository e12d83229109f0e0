//! The `cooper` command. `args` holds what can be typed, `settings` what it means, `commands` what it does, `client`
//! and `session` how the engine is reached, `output` what is shown, `outputs` where the results of builds go.

mod args;
mod client;
mod commands;
mod failure;
mod output;
mod outputs;
mod session;
mod settings;
mod usage;

use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use cooper_daemon::{rootless, supervisor};

use args::root::Cli;
use failure::{ENGINE_ERROR, Failure};

/// How long the engine in this process may take to clean up after a cancelled build.
const CLEAN_UP: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    // A supervisor is this binary under another name; it must stay small and single-threaded.
    let name = std::env::args_os().next().unwrap_or_default();
    if name.as_bytes() == supervisor::ARGV0.as_bytes() {
        return exit_code(supervisor::main());
    }
    if name.as_bytes() == rootless::ARGV0.as_bytes() {
        return exit_code(rootless::helper_main());
    }
    let arguments: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, &arguments),
    };
    // While this is the only thread: a user namespace cannot be entered later.
    let (cli, door) = match commands::prepare(cli) {
        Ok(prepared) => prepared,
        Err(failure) => return report(&failure),
    };
    // SIGPIPE stays ignored, as Rust sets it up: a vanished reader is an error of the write, and a normal end.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            commands::talk(&format!("cooper: cannot start: {error}"));
            return ExitCode::from(ENGINE_ERROR);
        }
    };
    let result = runtime.block_on(commands::perform(cli, door));
    match &result {
        // Dropping the runtime's tasks cancels the work in progress; its threads then undo what they did.
        Err(Failure::Cancelled(_)) => runtime.shutdown_timeout(CLEAN_UP),
        // What is not acknowledged may be lost at any time, so there is nothing to wait for.
        _ => runtime.shutdown_background(),
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    let text = failure.to_string();
    if !text.is_empty() {
        commands::talk(&text);
    }
    ExitCode::from(failure.code())
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}
