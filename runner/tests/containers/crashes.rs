//! Killing engines and supervisors.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use cooper_runner::container::{Containers, Error, Status, WaitCondition};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::world::{Test, World, process};

pub(crate) const TESTS: &[Test] = &[
    (
        "crashes::containers_outlive_their_engine",
        containers_outlive_their_engine,
    ),
    (
        "crashes::a_dead_supervisor_leaves_nothing",
        a_dead_supervisor_leaves_nothing,
    ),
    (
        "crashes::a_dead_supervisor_s_container_can_be_started_again",
        restart_after_death,
    ),
    (
        "crashes::a_waiting_supervisor_ends_with_its_last_client",
        waiting_supervisor_ends,
    ),
    (
        "crashes::auto_remove_survives_the_supervisor",
        auto_remove_survives_the_supervisor,
    ),
];

/// Starts the container given by arguments and then waits to be killed.
pub(crate) fn start_detached() -> ExitCode {
    let args: Vec<PathBuf> = std::env::args_os().skip(2).map(PathBuf::from).collect();
    let containers = Containers::open(&args[0], &args[1]).unwrap();
    containers.start(args[2].to_str().unwrap()).unwrap();
    println!("started");
    loop {
        std::thread::park();
    }
}

fn supervisors(id: &str) -> Vec<Pid> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).into_owned();
        let pid = entry.file_name().to_str()?.parse().ok()?;
        (command.starts_with(cooper_runner::supervisor::ARGV0) && command.contains(id))
            .then(|| Pid::from_raw(pid))?
    });
    pids.collect()
}

/// Kills the supervisor and waits until it is gone.
fn kill_supervisor(id: &str) {
    for pid in supervisors(id) {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
        rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
        wait_for_end(&pidfd);
    }
}

fn wait_for_end(pidfd: &rustix::fd::OwnedFd) {
    let mut fds = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).unwrap();
}

fn containers_outlive_their_engine() {
    let world = World::new();
    let id = world.create(&world.spec(&["sh", "-c", "echo running; exec sleep 1000"]));
    let mut engine = Command::new(std::env::current_exe().unwrap())
        .arg("start-detached")
        .args([world.path("data"), world.path("exec"), id.clone().into()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(engine.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "started\n");
    engine.kill().unwrap();
    engine.wait().unwrap();
    let state = world.containers.state(&id).unwrap();
    assert_eq!(state.status, Status::Running);
    assert!(Path::new(&format!("/proc/{}", state.pid)).exists());
    // Another engine carries on.
    assert_eq!(
        world.exec(&id, &process(&["echo", "hi"]), b"").unwrap().stdout,
        "hi\n"
    );
    let wait = world
        .containers
        .wait_begin(&id, WaitCondition::NotRunning)
        .unwrap();
    world.containers.kill(&id, 9).unwrap();
    assert_eq!(wait.finish().unwrap().code, 137);
}

fn a_dead_supervisor_leaves_nothing() {
    let world = World::new();
    let id = world.background("");
    let pid = Pid::from_raw(world.containers.state(&id).unwrap().pid).unwrap();
    let first = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let wait = world
        .containers
        .wait_begin(&id, WaitCondition::NotRunning)
        .unwrap();
    kill_supervisor(&id);
    // By the parent-death signal, before anybody looks.
    wait_for_end(&first);
    let status = wait.finish().unwrap();
    assert_eq!(status.code, 137);
    let state = world.containers.state(&id).unwrap();
    assert_eq!(
        (state.status, state.exit_code, state.pid),
        (Status::Exited, 137, 0)
    );
    assert!(state.error.contains("supervisor"));
    let cgroup = world.containers.spec(&id).unwrap().cgroup_path;
    assert!(!Path::new("/sys/fs/cgroup/pids").join(&cgroup).exists());
    assert!(!Path::new("/sys/fs/cgroup").join(&cgroup).exists());
}

fn restart_after_death() {
    let world = World::new();
    let id = world.create(&world.spec(&[
        "sh",
        "-c",
        "[ -e /again ] && exit 3; touch /again; exec sleep 1000",
    ]));
    world.containers.start(&id).unwrap();
    while !world.containers.dir(&id).join("upper/again").exists() {
        std::thread::yield_now();
    }
    kill_supervisor(&id);
    let wait = world.containers.wait_begin(&id, WaitCondition::NextExit).unwrap();
    world.containers.start(&id).unwrap();
    assert_eq!(wait.finish().unwrap().code, 3);
}

fn waiting_supervisor_ends() {
    let world = World::new();
    let id = world.create(&world.spec(&["true"]));
    let stream = world.containers.attach(&id, crate::world::ALL).unwrap();
    let pids = supervisors(&id);
    assert_eq!(pids.len(), 1);
    let pidfd = rustix::process::pidfd_open(pids[0], PidfdFlags::empty()).unwrap();
    drop(stream);
    wait_for_end(&pidfd);
    assert_eq!(world.containers.state(&id).unwrap().status, Status::Created);
    world.containers.start(&id).unwrap();
    world.containers.wait(&id, WaitCondition::NotRunning).unwrap();
}

fn auto_remove_survives_the_supervisor() {
    let world = World::new();
    let id = world.background_with("", |spec| spec.auto_remove = true);
    kill_supervisor(&id);
    assert!(matches!(world.containers.state(&id), Err(Error::NotFound(_))));
    assert!(!world.containers.dir(&id).exists());
}
