//! A container's first process.

use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use super::confine::{Confinement, confine};
use super::error::{Doing, Result, SetupError};
use super::identity::{self, look_up};
use super::message::{Message, Sync};
use super::mounts::{self, CgroupView, FileMount};
use super::paths::Root;
use super::program::{self, Program, Stdio};
use super::rootfs;
use super::stubs::Recorder;
use super::sysctl::{self, Proc};
use super::{console, devices, masks};
use crate::caps::CapSet;
use crate::cgroup::Cgroup;
use crate::overlay::Overlay;
use crate::seccomp::Insn;
use crate::spec::{ContainerSpec, NetworkMode};
use crate::sys;

/// All that the child needs; prepared by the supervisor before clone.
#[derive(Debug)]
pub(crate) struct StartPlan<'a> {
    pub(crate) spec: &'a ContainerSpec,
    pub(crate) caps: CapSet,
    pub(crate) seccomp: Option<&'a [Insn]>,
    /// The group that the child moves itself into.
    pub(crate) group: &'a Cgroup,
    pub(crate) cgroup: CgroupView,
    /// `/etc/hosts` and the like.
    pub(crate) files: Vec<FileMount>,
    /// An empty directory on the host: the mount point of the root, and the lower layer of an empty image.
    pub(crate) empty: PathBuf,
    pub(crate) stdio: Stdio,
    /// The upper directory does not outlive the container, or is made durable by its owner.
    pub(crate) volatile: bool,
    /// Report created mount points.
    pub(crate) record_stubs: bool,
}

/// Sets the container up and executes its program. Errors go to the supervisor through `sync`.
pub(crate) fn run_start(plan: &StartPlan<'_>, sync: &Sync) -> ! {
    let error = match start(plan, sync) {
        Ok(program) => program.execute(sync),
        Err(error) => error,
    };
    sync.send(&Message::Failed(error), None);
    sys::exit_now(1)
}

/// The order matters:
/// 1. shielded from the container and tied to the supervisor before anything of the image is touched;
/// 2. in its cgroup before the cgroup namespace is made from it, and before it uses memory worth counting;
/// 3. all mounts by handle, masks last, then the root is switched;
/// 4. the filter is loaded while CAP_SYS_ADMIN is held, unless no_new_privs allows it to come last;
/// 5. limits before capabilities, capabilities before the working directory is verified and the program looked up.
fn start(plan: &StartPlan<'_>, sync: &Sync) -> Result<Program> {
    let spec = plan.spec;
    let mut keep = plan.stdio.fds();
    keep.push(sync.as_fd());
    sys::close_range(&keep).doing("close the supervisor's descriptors")?;
    identity::shield()?;
    if !sync.is_attended() {
        sys::exit_now(1);
    }
    plan.group
        .join()
        .map_err(|error| SetupError::other(error.to_string()))?;
    sys::unshare_cgroup_namespace().doing("create a cgroup namespace")?;
    rustix::process::umask(Mode::empty());
    if spec.network == NetworkMode::None {
        sys::bring_loopback_up().doing("bring up lo")?;
        sys::set_hostname(&spec.hostname).doing("set the host name")?;
    }

    let binds = mounts::open_binds(spec)?;
    rootfs::isolate_propagation()?;
    let trees: Vec<_> = binds
        .into_iter()
        .zip(mounts::open_overlays(spec, &plan.empty)?)
        .map(|(bind, overlay)| bind.or(overlay))
        .collect();
    let null = devices::host_null()?;
    let host_devices = if spec.privileged {
        devices::host_devices()
    } else {
        Vec::new()
    };
    let proc = Proc::new()?;
    sysctl::apply(&proc, &spec.sysctls, spec.network)?;

    let recorder = if plan.record_stubs {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let upper =
            rustix::fs::open(&spec.rootfs.upper, flags, Mode::empty()).doing("open the upper directory")?;
        Some(Recorder::new(upper))
    } else {
        None
    };
    let overlay = Overlay {
        lowers: &spec.rootfs.lowers,
        upper: Some((&spec.rootfs.upper, &spec.rootfs.work)),
        empty: &plan.empty,
        volatile: plan.volatile,
        inert: false,
    };
    let mount = overlay
        .mount_here()
        .map_err(|error| SetupError::other(format!("mount the root file system: {error}")))?;
    let mut root = Root::new(mount, recorder);
    let defaults = mounts::mount_defaults(&mut root, spec, &plan.cgroup)?;
    if let Some(dev) = &defaults.dev {
        devices::populate(dev, &host_devices)?;
    }
    mounts::mount_extra(&mut root, spec, trees, &plan.files)?;
    let terminal = open_terminal(plan, &root, &defaults, sync)?;
    if !spec.privileged {
        let read_only = spec
            .readonly_paths
            .clone()
            .unwrap_or_else(masks::default_read_only);
        masks::make_read_only(&root, &read_only)?;
        let masked = spec.masked_paths.clone().unwrap_or_else(masks::default_masked);
        masks::mask(&root, &null, &masked)?;
    }
    rootfs::pivot(root.fd())?;
    program::install(&plan.stdio, terminal.as_ref())?;

    let process = &spec.process;
    let user = look_up(&root, process)?;
    program::enter_cwd(&mut root, &process.cwd)?;
    if spec.rootfs.readonly {
        let attr = sys::MountAttr::set(sys::MountAttr::RDONLY);
        sys::set_mount_attr(root.fd(), false, attr).doing("make the root read-only")?;
    }
    let stubs = root.into_stubs();
    if !stubs.is_empty() {
        sync.send(&Message::Stubs(stubs), None);
    }
    let confinement = Confinement {
        container: &spec.id,
        process,
        user: &user,
        caps: plan.caps,
        seccomp: plan.seccomp,
    };
    confine(confinement, proc, sync)
}

fn open_terminal(
    plan: &StartPlan<'_>,
    root: &Root,
    defaults: &mounts::Defaults,
    sync: &Sync,
) -> Result<Option<std::os::fd::OwnedFd>> {
    if !plan.spec.process.tty {
        return Ok(None);
    }
    let size = plan.spec.process.console_size;
    let pty = match &defaults.devpts {
        Some(devpts) => console::open(devpts, size)?,
        None => console::open_in(root, size)?,
    };
    if let Some(dev) = &defaults.dev {
        console::mount_console(dev, &pty.terminal)?;
    }
    sync.send(&Message::Terminal, Some(pty.controller.as_fd()));
    Ok(Some(pty.terminal))
}
