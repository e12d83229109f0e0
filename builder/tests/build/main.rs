//! Real builds on a busybox base. Needs root; the supervisor of RUN is this binary, executed again.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests with a harness of their own are not known as tests"
)]

mod add_git;
mod add_url;
mod cache;
mod cache_mounts;
mod calls;
mod cases;
mod copy_flags;
mod crashes;
mod debug;
mod explain;
mod export;
mod failures;
mod files;
mod flight;
mod history;
mod mounts;
mod named;
mod onbuild;
mod platforms;
mod prune;
mod remote_cache;
mod repeat;
mod run_flags;
mod secrets;
mod server;
mod targets;
mod world;

use std::process::ExitCode;

use cooper_runner::supervisor;
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if std::env::args_os().next().unwrap_or_default() == supervisor::ARGV0 {
        return ExitCode::from(u8::try_from(supervisor::main()).unwrap_or(1));
    }
    if let Some(code) = flight::child() {
        return code;
    }
    if crashes::child() {
        return ExitCode::SUCCESS;
    }
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(4);
    if !rustix::process::geteuid().is_root() {
        println!("skipped: builds need root");
        return ExitCode::SUCCESS;
    }
    if !std::path::Path::new("/bin/busybox").exists() {
        println!("skipped: no /bin/busybox (package busybox-static)");
        return ExitCode::SUCCESS;
    }
    let tests = [
        cases::TESTS,
        files::TESTS,
        history::TESTS,
        cache::TESTS,
        failures::TESTS,
        named::TESTS,
        onbuild::TESTS,
        platforms::TESTS,
        targets::TESTS,
        calls::TESTS,
        copy_flags::TESTS,
        add_url::TESTS,
        add_git::TESTS,
        explain::TESTS,
        flight::TESTS,
        repeat::TESTS,
        mounts::TESTS,
        cache_mounts::TESTS,
        run_flags::TESTS,
        secrets::TESTS,
        debug::TESTS,
        export::TESTS,
        remote_cache::TESTS,
        prune::TESTS,
        crashes::TESTS,
    ]
    .concat();
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&args, trials.collect()).exit_code()
}
