//! Real containers from a busybox root file system. Needs root; the supervisor is this binary, executed again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::print_stdout,
    reason = "tests say why they are skipped, and what they measured"
)]

mod builds;
mod crashes;
mod execs;
mod files;
mod lifecycle;
mod measure;
mod restarts;
mod security;
mod streams;
mod world;

use std::process::ExitCode;

use cooper_runner::supervisor;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    if name == supervisor::ARGV0 {
        return ExitCode::from(u8::try_from(supervisor::main()).unwrap_or(1));
    }
    if std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == "start-detached")
    {
        return crashes::start_detached();
    }
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "measure") {
        return measure::main();
    }
    let mut args = Arguments::from_args();
    // Parallel enough to matter, few enough for small machines.
    args.test_threads.get_or_insert(4);
    if !rustix::process::geteuid().is_root() {
        println!("skipped: containers need root");
        return ExitCode::SUCCESS;
    }
    if !std::path::Path::new("/bin/busybox").exists() {
        println!("skipped: no /bin/busybox (package busybox-static)");
        return ExitCode::SUCCESS;
    }
    let tests: Vec<Trial> = [
        lifecycle::TESTS,
        restarts::TESTS,
        streams::TESTS,
        execs::TESTS,
        files::TESTS,
        security::TESTS,
        crashes::TESTS,
        builds::TESTS,
    ]
    .concat()
    .into_iter()
    .map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    })
    .collect();
    libtest_mimic::run(&args, tests).exit_code()
}
