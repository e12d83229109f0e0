//! The real binary against real kernels: needs root and a static busybox. Every test that cannot run says why;
//! `COOPER_REQUIRE_PRIVILEGED=1` (continuous integration) turns that into a failure.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test without the standard harness"
)]

mod account;
mod build;
mod build_classic;
mod build_contexts;
mod build_course;
mod clients;
mod crash;
mod daemon;
mod data;
mod events;
mod export;
mod image;
mod lifecycle;
mod rootless;
mod rootless_engines;
mod run;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use world::World;

type Test = (&'static str, fn(&World));

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests: Vec<Test> = [
        run::TESTS,
        image::TESTS,
        build::TESTS,
        build_classic::TESTS,
        build_contexts::TESTS,
        build_course::TESTS,
        crash::TESTS,
        daemon::TESTS,
        data::TESTS,
        events::TESTS,
        lifecycle::TESTS,
        clients::TESTS,
        export::TESTS,
        rootless::TESTS,
        rootless_engines::TESTS,
    ]
    .concat();
    let missing = world::missing();
    let required = world::required();
    if let (Some(reason), false) = (&missing, arguments.list) {
        println!("skipped: {reason}");
    }
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            let missing = missing.clone();
            Trial::test(name, move || {
                match missing {
                    Some(reason) if required => return Err(format!("cannot run: {reason}").into()),
                    Some(_) => return Ok(()),
                    None => {}
                }
                test(&World::new());
                Ok(())
            })
            .with_ignored_flag(false)
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    account::remove();
    conclusion.exit_code()
}
