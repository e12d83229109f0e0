//! Starting processes: what is prepared before clone, and the talk with the child until it executes.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::WaitIdOptions;
use rustix::thread::ThreadNameSpaceType;

use super::child::{Child, try_wait};
use crate::caps::CapSet;
use crate::cgroup::{self, Cgroup, DeviceRule, Layout};
use crate::init::{
    self, CgroupView, FileMount, JoinPlan, Message, Result, SetupError, StartPlan, Stdio, Stub, Sync,
    run_join, run_start,
};
use crate::rootless::in_user_namespace;
use crate::seccomp::{self, Insn, Profile, Program, Target};
use crate::spec::{ContainerSpec, NetworkMode, ProcessSpec, SeccompMode};
use crate::sys::{self, Cloned};

/// What is said of a child that ended without a word.
const ENDED: &str = "the container's process ended during its set-up (out of memory?)";

/// A container that has just been started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) cgroup: Cgroup,
    pub(super) stubs: Vec<Stub>,
    pub(super) warnings: Vec<String>,
}

/// What differs between a container and a build step.
#[derive(Debug)]
pub(super) struct StartOptions {
    pub(super) files: Vec<FileMount>,
    pub(super) empty: PathBuf,
    pub(super) volatile: bool,
    pub(super) record_stubs: bool,
}

fn other(error: impl std::fmt::Display) -> SetupError {
    SetupError::other(error.to_string())
}

/// Creates the cgroup, clones and sees the child through to execve.
pub(super) fn start(spec: &ContainerSpec, options: StartOptions) -> Result<Started> {
    init::validate_sysctls(&spec.sysctls, spec.network)?;
    let caps = capabilities(&spec.process, spec.privileged)?;
    let seccomp = filter(spec, caps)?;
    let devices = if spec.privileged {
        vec![DeviceRule {
            allow: true,
            kind: 'a',
            major: None,
            minor: None,
            access: "rwm".into(),
        }]
    } else {
        let mut rules = cgroup::docker_default_devices();
        rules.extend(spec.device_rules.iter().cloned());
        rules
    };
    let (cgroup, mut warnings) =
        Cgroup::create(&spec.cgroup_path, &spec.resources, &devices).map_err(other)?;
    let result = clone_first(spec, options, caps, seccomp.as_ref(), &cgroup);
    match result {
        Ok((child, stubs, more)) => {
            warnings.extend(more);
            Ok(Started {
                child,
                cgroup,
                stubs,
                warnings,
            })
        }
        Err(error) => {
            let _ = cgroup.delete();
            Err(error)
        }
    }
}

fn clone_first(
    spec: &ContainerSpec,
    options: StartOptions,
    caps: CapSet,
    seccomp: Option<&Program>,
    cgroup: &Cgroup,
) -> Result<(Child, Vec<Stub>, Vec<String>)> {
    let streams = Streams::new(&spec.process).map_err(other)?;
    let plan = StartPlan {
        spec,
        caps,
        seccomp: seccomp.map(|program| program.instructions.as_slice()),
        group: cgroup,
        cgroup: cgroup_view(&spec.cgroup_path),
        files: options.files,
        empty: options.empty,
        stdio: streams.child,
        volatile: options.volatile,
        record_stubs: options.record_stubs,
    };
    let mut flags = sys::CLONE_NEWNS | sys::CLONE_NEWPID | sys::CLONE_NEWUTS | sys::CLONE_NEWIPC;
    if spec.network == NetworkMode::None {
        flags |= sys::CLONE_NEWNET;
    }
    let (ours, theirs) = Sync::pair().map_err(other)?;
    match sys::clone_process(flags, cgroup.clone_into_fd()).map_err(other)? {
        Cloned::Child => {
            drop(ours);
            run_start(&plan, &theirs)
        }
        Cloned::Parent { pid, pidfd } => {
            drop((theirs, plan));
            attend(&spec.process, None, streams.supervisor, pid, pidfd, &ours)
        }
    }
}

/// Starts an additional process in the container whose first process is `target`.
pub(super) fn join(
    id: &str,
    process: &ProcessSpec,
    privileged: bool,
    spec: &ContainerSpec,
    target: &OwnedFd,
    cgroup: &Cgroup,
) -> Result<(Child, Vec<String>)> {
    let caps = capabilities(process, privileged)?;
    let seccomp = filter(spec, caps)?;
    let streams = Streams::new(process).map_err(other)?;
    let plan = JoinPlan {
        process,
        target: target.as_fd(),
        container: &spec.id,
        network: spec.network,
        group: cgroup,
        caps,
        seccomp: seccomp
            .as_ref()
            .map(|program| program.instructions.as_slice() as &[Insn]),
        stdio: streams.child,
    };
    let (ours, theirs) = Sync::pair().map_err(other)?;
    // Children are born in the container's PID namespace for the duration of one clone, so that the exec is our own
    // child and needs no intermediate process.
    let own = fs::File::open("/proc/self/ns/pid").map_err(other)?;
    let pid_namespace = ThreadNameSpaceType::PROCESS_ID;
    rustix::thread::move_into_thread_name_spaces(target.as_fd(), pid_namespace).map_err(other)?;
    let cloned = sys::clone_process(0, cgroup.clone_into_fd());
    if matches!(cloned, Ok(Cloned::Child)) {
        drop(ours);
        run_join(&plan, &theirs)
    }
    let restored = match rustix::thread::move_into_link_name_space(own.as_fd(), None) {
        // The host's PID namespace does not take back what is in a user namespace. A supervisor clones for its container
        // only, so its later children are born in the right one too.
        Err(Errno::PERM) if in_user_namespace() => Ok(()),
        result => result,
    };
    let Cloned::Parent { pid, pidfd } = cloned.map_err(other)? else {
        return Err(SetupError::other("clone returned twice in one process"));
    };
    restored.map_err(other)?;
    drop((theirs, plan));
    let (child, _, warnings) = attend(process, Some(id), streams.supervisor, pid, pidfd, &ours)?;
    Ok((child, warnings))
}

/// Listens until the child executes or fails.
fn attend(
    process: &ProcessSpec,
    exec: Option<&str>,
    streams: SupervisorStreams,
    pid: i32,
    pidfd: OwnedFd,
    sync: &Sync,
) -> Result<(Child, Vec<Stub>, Vec<String>)> {
    let mut outcome = Outcome::default();
    if let Err(error) = outcome.listen(sync) {
        let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
        try_wait(&pidfd, WaitIdOptions::empty());
        return Err(error);
    }
    let mut streams = streams;
    if let Some(terminal) = &outcome.terminal {
        let duplicate = || rustix::io::fcntl_dupfd_cloexec(terminal, 3).map_err(other);
        streams = SupervisorStreams {
            stdin: process.open_stdin.then(duplicate).transpose()?,
            outputs: [Some(duplicate()?), None],
        };
        set_nonblocking(terminal).map_err(other)?;
    }
    let child = Child {
        exec: exec.map(str::to_owned),
        pid,
        pidfd,
        terminal: outcome.terminal,
        stdin: streams.stdin,
        outputs: streams.outputs,
        pending: Vec::new(),
        close_stdin: false,
        stdin_once: process.stdin_once || exec.is_some(),
        exit: None,
    };
    Ok((child, outcome.stubs, outcome.warnings))
}

#[derive(Debug, Default)]
struct Outcome {
    ready: bool,
    terminal: Option<OwnedFd>,
    stubs: Vec<Stub>,
    warnings: Vec<String>,
}

impl Outcome {
    fn listen(&mut self, sync: &Sync) -> Result<()> {
        while let Some((message, fd)) = sync.receive().map_err(other)? {
            match message {
                Message::Warning(warning) => self.warnings.push(warning),
                Message::Terminal => self.terminal = fd,
                Message::Stubs(stubs) => self.stubs = stubs,
                Message::Ready => self.ready = true,
                Message::Failed(error) => return Err(error),
            }
        }
        if self.ready {
            return Ok(());
        }
        Err(SetupError::other(ENDED))
    }
}

fn capabilities(process: &ProcessSpec, privileged: bool) -> Result<CapSet> {
    if privileged {
        Ok(CapSet::all())
    } else {
        CapSet::from_names(&process.capabilities).map_err(other)
    }
}

fn filter(spec: &ContainerSpec, caps: CapSet) -> Result<Option<Program>> {
    let profile = match &spec.seccomp {
        _ if spec.privileged => return Ok(None),
        SeccompMode::Unconfined => return Ok(None),
        SeccompMode::Default => Profile::docker_default(),
        SeccompMode::Profile(json) => Profile::parse(json.as_bytes()).map_err(other)?,
    };
    seccomp::compile(&profile, &Target::host(caps))
        .map(Some)
        .map_err(other)
}

/// The directories of our group in each mounted v1 hierarchy, by mountinfo(5).
fn cgroup_view(path: &str) -> CgroupView {
    if cgroup::detect() == Layout::V2 {
        return CgroupView::V2;
    }
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let hierarchies = mountinfo.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mount_point = Path::new(mount.split(' ').nth(4)?);
        let name = mount_point.file_name()?.to_str()?.to_owned();
        filesystem
            .starts_with("cgroup ")
            .then(|| (name, mount_point.join(path.trim_start_matches('/'))))
    });
    CgroupView::V1(hierarchies.collect())
}

/// Both ends of a process's streams.
struct Streams {
    child: Stdio,
    supervisor: SupervisorStreams,
}

struct SupervisorStreams {
    stdin: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
}

impl Streams {
    fn new(process: &ProcessSpec) -> io::Result<Self> {
        if process.tty {
            let supervisor = SupervisorStreams {
                stdin: None,
                outputs: [None, None],
            };
            return Ok(Self {
                child: Stdio::Terminal,
                supervisor,
            });
        }
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
        let (stdin, our_stdin) = if process.open_stdin {
            let (read, write) = pipe()?;
            set_nonblocking(&write)?;
            (read, Some(write))
        } else {
            (
                rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
                None,
            )
        };
        let ((our_stdout, stdout), (our_stderr, stderr)) = (pipe()?, pipe()?);
        set_nonblocking(&our_stdout)?;
        set_nonblocking(&our_stderr)?;
        Ok(Self {
            child: Stdio::Pipes {
                stdin,
                stdout,
                stderr,
            },
            supervisor: SupervisorStreams {
                stdin: our_stdin,
                outputs: [Some(our_stdout), Some(our_stderr)],
            },
        })
    }
}

fn set_nonblocking(fd: impl AsFd) -> rustix::io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)
}
