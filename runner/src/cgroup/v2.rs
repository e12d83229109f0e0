//! Control groups v2: one directory.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::resources::Limit;
use super::{CgroupError, DeviceRule, Resources, device_filter, files};
use crate::rootless::in_user_namespace;
use crate::sys::bpf;

const FREEZE: Duration = Duration::from_secs(5);
const KILL: Duration = Duration::from_secs(10);
/// What a container may have limits of. `hugetlb` and others stay off: each enabled controller costs time at every fork.
const CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];
/// Where processes of a group that is to have children are moved, as container init scripts do.
const EVACUATED: &str = "init";
const EVACUATIONS: usize = 4;

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    dir: PathBuf,
    fd: OwnedFd,
}

impl Group {
    /// Makes the group at `base/path`, enabling controllers on the way down.
    pub(super) fn create(
        base: &Path,
        path: &str,
        resources: &Resources,
        rules: &[DeviceRule],
    ) -> Result<(Self, Vec<String>), CgroupError> {
        let mut dir = base.to_owned();
        for component in path.split('/') {
            enable_controllers(&dir)?;
            dir.push(component);
            files::make_dir(&dir)?;
        }
        if !files::pids(&dir)?.is_empty() {
            return Err(CgroupError::InUse(dir));
        }
        let made = Self::at(dir.clone()).and_then(|group| {
            let mut warnings = group.apply(resources)?;
            // In a user namespace nobody makes device nodes that would need filtering, or may load the filter.
            if !in_user_namespace() {
                warnings.extend(group.allow_devices(rules).err());
            }
            Ok((group, warnings))
        });
        if made.is_err() {
            // The first error is the one to tell.
            let _ = files::remove(&dir, Instant::now() + files::BUSY);
        }
        made
    }

    pub(super) fn open(base: &Path, path: &str) -> Option<Self> {
        Self::at(base.join(path)).ok()
    }

    fn at(dir: PathBuf) -> Result<Self, CgroupError> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&dir, flags, Mode::empty())
            .map_err(|errno| files::failed("opening", &dir, errno.into()))?;
        Ok(Self { dir, fd })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Writes the limits that are set; gives warnings for those whose controller is missing.
    pub(super) fn apply(&self, resources: &Resources) -> Result<Vec<String>, CgroupError> {
        let mut warnings = Vec::new();
        let word = |limit: Limit| limit.or_word("max");

        let mut memory = Vec::new();
        memory.extend(resources.memory_limit().map(|limit| ("memory.max", word(limit))));
        memory.extend(resources.reservation().map(|limit| ("memory.low", word(limit))));
        self.write_all("memory", "memory", &memory, &mut warnings)?;
        if let Some(swap) = swap_max(resources)? {
            if self.dir.join("memory.swap.max").exists() {
                files::write(&self.dir.join("memory.swap.max"), &swap)?;
            } else if resources.memory_swap.is_some_and(|swap| swap != 0) {
                warnings.push("swap limit ignored: the kernel does not account swap".to_owned());
            }
        }

        let mut cpu = Vec::new();
        cpu.extend(
            resources
                .shares()
                .map(|shares| ("cpu.weight", weight(shares).to_string())),
        );
        cpu.extend(cpu_max(resources).map(|max| ("cpu.max", max)));
        self.write_all("cpu", "CPU", &cpu, &mut warnings)?;

        let mut cpuset = Vec::new();
        cpuset.extend(resources.cpus().map(|cpus| ("cpuset.cpus", cpus.to_owned())));
        cpuset.extend(resources.mems().map(|mems| ("cpuset.mems", mems.to_owned())));
        self.write_all("cpuset", "cpuset", &cpuset, &mut warnings)?;

        let pids: Vec<_> = resources
            .pids_max()
            .map(|max| ("pids.max", max))
            .into_iter()
            .collect();
        self.write_all("pids", "PIDs", &pids, &mut warnings)?;
        Ok(warnings)
    }

    fn write_all(
        &self,
        controller: &str,
        what: &str,
        values: &[(&str, String)],
        warnings: &mut Vec<String>,
    ) -> Result<(), CgroupError> {
        if values.is_empty() {
            return Ok(());
        }
        if !words(&self.dir.join("cgroup.controllers"))?
            .iter()
            .any(|enabled| enabled == controller)
        {
            warnings.push(format!(
                "{what} limit ignored: the {controller} cgroup controller is not available"
            ));
            return Ok(());
        }
        for (file, value) in values {
            files::write(&self.dir.join(file), value)?;
        }
        Ok(())
    }

    /// The error is the warning to give.
    fn allow_devices(&self, rules: &[DeviceRule]) -> Result<(), String> {
        let program = device_filter::generate(rules);
        bpf::load_device_filter(&program)
            .and_then(|filter| bpf::attach_device_filter(self.fd(), filter.as_fd()))
            .map_err(|error| format!("device rules ignored: loading the device filter: {error}"))
    }

    pub(super) fn add_process(&self, pid: i32) -> Result<(), CgroupError> {
        files::write(&self.dir.join("cgroup.procs"), &pid.to_string())
    }

    pub(super) fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        files::pids(&self.dir)
    }

    pub(super) fn oom_killed(&self) -> bool {
        files::keyed_number(&self.dir.join("memory.events"), "oom_kill").is_some_and(|kills| kills > 0)
    }

    pub(super) fn freeze(&self) -> Result<(), CgroupError> {
        files::write(&self.dir.join("cgroup.freeze"), "1")?;
        let events = self.dir.join("cgroup.events");
        // An empty group never counts as frozen, but there is nothing to wait for either.
        let frozen = files::wait_until(FREEZE, || {
            Ok(files::keyed_number(&events, "frozen") == Some(1)
                || files::keyed_number(&events, "populated") == Some(0))
        })?;
        if frozen {
            return Ok(());
        }
        self.thaw()?;
        Err(CgroupError::FreezeTimeout(self.dir.clone()))
    }

    pub(super) fn thaw(&self) -> Result<(), CgroupError> {
        files::write(&self.dir.join("cgroup.freeze"), "0")
    }

    /// `cgroup.kill` where the kernel has it (5.14), else frozen and one by one.
    pub(super) fn kill_all(&self) -> Result<(), CgroupError> {
        match files::write(&self.dir.join("cgroup.kill"), "1") {
            Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        if files::pids(&self.dir)?.is_empty() {
            return Ok(());
        }
        let frozen = self.freeze().is_ok();
        let killed = files::pids(&self.dir).map(|pids| files::kill(&pids));
        if frozen {
            self.thaw()?;
        }
        killed?;
        let events = self.dir.join("cgroup.events");
        let gone = files::wait_until(KILL, || {
            files::kill(&files::pids(&self.dir)?);
            // Zombies do not count here.
            Ok(files::keyed_number(&events, "populated") == Some(0))
        })?;
        if gone {
            Ok(())
        } else {
            Err(CgroupError::KillTimeout(self.dir.clone()))
        }
    }

    pub(super) fn delete(self) -> Result<(), CgroupError> {
        files::remove(&self.dir, Instant::now() + files::BUSY)
    }
}

/// Enables for the children of `dir` what a container can use. What cannot be enabled is found missing when it is needed.
///
/// A group other than the machine's root cannot have both processes and children with controllers: the processes that are
/// in the way (those of the container that we run in, when the base is its root) move into a child first. The kernel does
/// not always say so (`EBUSY`): it takes cpu, cpuset and pids from a group with processes, and from then on the group is the
/// root of a threaded tree, whose children no process can enter.
fn enable_controllers(dir: &Path) -> Result<(), CgroupError> {
    let available = words(&dir.join("cgroup.controllers"))?;
    let control = dir.join("cgroup.subtree_control");
    let enabled = words(&control)?;
    let missing: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|c| available.iter().any(|a| a == c) && !enabled.iter().any(|e| e == c))
        .collect();
    // The machine's root group has no type.
    let kind = files::read(&dir.join("cgroup.type")).ok();
    let threaded = kind
        .as_deref()
        .is_some_and(|kind| kind.trim() == "domain threaded");
    if kind.is_some() && (threaded || !missing.is_empty()) {
        evacuate(dir)?;
    }
    for controller in missing {
        let value = format!("+{controller}");
        // Processes may fork while they are moved, so once is not always enough.
        for _ in 0..EVACUATIONS {
            match files::write(&control, &value) {
                Err(CgroupError::Io { source, .. })
                    if kind.is_some()
                        && matches!(files::errno(&source), Some(libc::EBUSY | libc::EOPNOTSUPP)) =>
                {
                    evacuate(dir)?;
                }
                _ => break,
            }
        }
    }
    Ok(())
}

fn evacuate(dir: &Path) -> Result<(), CgroupError> {
    let pids = files::read(&dir.join("cgroup.procs"))?;
    if pids.is_empty() {
        return Ok(());
    }
    let refuge = dir.join(EVACUATED);
    files::make_dir(&refuge)?;
    let procs = refuge.join("cgroup.procs");
    for pid in pids.lines() {
        match files::write(&procs, pid) {
            // It has exited meanwhile.
            Err(CgroupError::Io { source, .. }) if files::errno(&source) == Some(libc::ESRCH) => {}
            result => result?,
        }
    }
    Ok(())
}

fn words(path: &Path) -> Result<Vec<String>, CgroupError> {
    Ok(files::read(path)?.split_whitespace().map(str::to_owned).collect())
}

/// v2 limits swap alone: the total minus the memory.
fn swap_max(resources: &Resources) -> Result<Option<String>, CgroupError> {
    Ok(match (resources.total_limit()?, resources.memory_limit()) {
        (None, _) => None,
        (Some(Limit::Bytes(total)), Some(Limit::Bytes(memory))) => Some((total - memory).to_string()),
        (Some(_), _) => Some("max".to_owned()),
    })
}

/// `quota period`; a period alone keeps the quota unlimited.
fn cpu_max(resources: &Resources) -> Option<String> {
    let (quota, period) = (resources.quota(), resources.period());
    if quota.is_none() && period.is_none() {
        return None;
    }
    let quota = quota
        .filter(|quota| *quota > 0)
        .map_or_else(|| "max".to_owned(), |quota| quota.to_string());
    Some(format!("{quota} {}", period.unwrap_or(100_000)))
}

/// v1 shares (2 to 262144, default 1024) as a v2 weight (1 to 10000, default 100), by the curve of runc 1.3.2 and crun 1.23
/// through these three points: log10(w) = (l² + 125 l) / 612 - 7/34 with l = log2(shares). Older runc used a straight line
/// that made 1024 a weight of 39.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = f64::from(u32::try_from(shares).unwrap_or(u32::MAX)).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the curve stays between 1 and 10000"
            )]
            let weight = 10f64.powf(exponent).ceil() as u64;
            weight.clamp(1, 10_000)
        }
    }
}

#[cfg(test)]
mod tests;
