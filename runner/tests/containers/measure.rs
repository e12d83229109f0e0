//! `containers measure`: latencies and the supervisor's memory, for a release build.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cooper_runner::container::WaitCondition;

use crate::world::{World, process};

pub(crate) fn main() -> ExitCode {
    let world = World::new();
    let show = |name: &str, mut times: Vec<Duration>| {
        times.sort_unstable();
        let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
        println!(
            "{name}: p50 {:.2} ms, p99 {:.2} ms, min {:.2} ms",
            at(50),
            at(99),
            at(0)
        );
    };
    let [mut created, mut started, mut ended, mut total, mut kept] = [const { Vec::new() }; 5];
    for round in 0..205 {
        let spec = world.spec_with(&["true"], |spec| spec.auto_remove = true);
        let begun = Instant::now();
        let id = world.create(&spec);
        let wait = world.containers.wait_begin(&id, WaitCondition::Removed).unwrap();
        let creation = begun.elapsed();
        world.containers.start(&id).unwrap();
        let start = begun.elapsed();
        wait.finish().unwrap();
        if round >= 5 {
            created.push(creation);
            started.push(start - creation);
            ended.push(begun.elapsed() - start);
            total.push(begun.elapsed());
        }
    }
    for _ in 0..50 {
        let spec = world.spec(&["true"]);
        let begun = Instant::now();
        let id = world.create(&spec);
        let wait = world.containers.wait_begin(&id, WaitCondition::NextExit).unwrap();
        world.containers.start(&id).unwrap();
        wait.finish().unwrap();
        kept.push(begun.elapsed());
    }
    show("create + supervisor", created);
    show("start", started);
    show("exit to removed", ended);
    show("run --rm in total", total);
    show("run, kept (one fsync)", kept);

    let id = world.background("");
    let mut execs = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        world.exec(&id, &process(&["true"]), b"").unwrap();
        execs.push(begun.elapsed());
    }
    show("exec", execs);
    std::thread::sleep(Duration::from_millis(500));
    memory(&id);
    let mut steps = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        crate::builds::step(&world, &["true"]);
        steps.push(begun.elapsed());
    }
    show("build step", steps);
    ExitCode::SUCCESS
}

fn memory(id: &str) {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        if command.starts_with(cooper_runner::supervisor::ARGV0) && command.contains(id) {
            let status = std::fs::read_to_string(entry.path().join("status")).unwrap();
            for line in status
                .lines()
                .filter(|line| line.starts_with("Rss") || line.starts_with("VmRSS"))
            {
                println!("supervisor {line}");
            }
        }
    }
}
