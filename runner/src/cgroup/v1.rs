//! Control groups v1: one directory in every hierarchy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::resources::Limit;
use super::{CgroupError, DeviceRule, Resources, devices, files};

const FREEZE: Duration = Duration::from_secs(5);
const KILL: Duration = Duration::from_secs(10);
/// Hierarchies in which processes are counted, best first: any one tells them all.
const COUNTING: [&str; 4] = ["pids", "freezer", "memory", "devices"];

/// A group: its directory by controller.
#[derive(Debug)]
pub(super) struct Group {
    dirs: BTreeMap<String, PathBuf>,
}

impl Group {
    /// Makes the directories; on failure what was made is removed again.
    pub(super) fn create(
        bases: &BTreeMap<String, PathBuf>,
        path: &str,
        resources: &Resources,
        rules: &[DeviceRule],
    ) -> Result<(Self, Vec<String>), CgroupError> {
        let group = Self {
            dirs: bases
                .iter()
                .map(|(name, base)| (name.clone(), base.join(path)))
                .collect(),
        };
        let made = group.make(bases, path).and_then(|()| {
            let mut warnings = group.apply(resources)?;
            group.allow_devices(rules, &mut warnings)?;
            Ok(warnings)
        });
        match made {
            Ok(warnings) => Ok((group, warnings)),
            // The directories of somebody else's group stay.
            Err(error @ CgroupError::InUse(_)) => Err(error),
            Err(error) => {
                // The first error is the one to tell.
                let _ = group.delete();
                Err(error)
            }
        }
    }

    /// Finds the directories that exist; `None` if none does.
    pub(super) fn open(bases: &BTreeMap<String, PathBuf>, path: &str) -> Option<Self> {
        let dirs: BTreeMap<_, _> = bases
            .iter()
            .map(|(name, base)| (name.clone(), base.join(path)))
            .filter(|(_, dir)| dir.is_dir())
            .collect();
        (!dirs.is_empty()).then_some(Self { dirs })
    }

    fn make(&self, bases: &BTreeMap<String, PathBuf>, path: &str) -> Result<(), CgroupError> {
        for dir in self.unique_dirs() {
            if dir.is_dir() && !files::pids(dir)?.is_empty() {
                return Err(CgroupError::InUse(dir.to_owned()));
            }
        }
        for (name, base) in bases {
            let mut dir = base.clone();
            for component in path.split('/') {
                let parent = dir.clone();
                dir.push(component);
                files::make_dir(&dir)?;
                if name == "cpuset" {
                    // A cpuset starts empty and then takes no process.
                    for file in ["cpuset.cpus", "cpuset.mems"] {
                        inherit(&parent, &dir, file)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the limits that are set; gives warnings for those whose controller is missing.
    pub(super) fn apply(&self, resources: &Resources) -> Result<Vec<String>, CgroupError> {
        let mut warnings = Vec::new();
        self.apply_memory(resources, &mut warnings)?;

        let mut cpu = Vec::new();
        cpu.extend(
            resources
                .shares()
                .map(|shares| ("cpu.shares", shares.to_string())),
        );
        cpu.extend(
            resources
                .period()
                .map(|period| ("cpu.cfs_period_us", period.to_string())),
        );
        cpu.extend(
            resources
                .quota()
                .map(|quota| ("cpu.cfs_quota_us", quota.max(-1).to_string())),
        );
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

    /// The kernel keeps memory <= total at every moment, so the order depends on the direction of the change.
    fn apply_memory(&self, resources: &Resources, warnings: &mut Vec<String>) -> Result<(), CgroupError> {
        const MEMORY: &str = "memory.limit_in_bytes";
        const TOTAL: &str = "memory.memsw.limit_in_bytes";
        let word = |limit: Limit| limit.or_word("-1");
        let memory = resources.memory_limit();
        let mut total = resources.total_limit()?;
        if let (Some(dir), Some(_)) = (self.dirs.get("memory"), total)
            && !dir.join(TOTAL).exists()
        {
            if resources.memory_swap.is_some_and(|swap| swap != 0) {
                warnings.push("swap limit ignored: the kernel does not account swap".to_owned());
            }
            total = None;
        }
        let mut values = Vec::new();
        values.extend(memory.map(|limit| (MEMORY, word(limit))));
        values.extend(total.map(|limit| (TOTAL, word(limit))));
        if let (Some(dir), Some(memory), Some(_)) = (self.dirs.get("memory"), memory, total) {
            let current = files::read(&dir.join(TOTAL))?.trim().parse().unwrap_or(u64::MAX);
            let raises = match memory {
                Limit::Unlimited => true,
                Limit::Bytes(bytes) => bytes > current,
            };
            if raises {
                values.reverse();
            }
        }
        values.extend(
            resources
                .reservation()
                .map(|limit| ("memory.soft_limit_in_bytes", word(limit))),
        );
        self.write_all("memory", "memory", &values, warnings)
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
        let Some(dir) = self.dirs.get(controller) else {
            warnings.push(format!(
                "{what} limit ignored: the {controller} cgroup controller is not available"
            ));
            return Ok(());
        };
        for (file, value) in values {
            files::write(&dir.join(file), value)?;
        }
        Ok(())
    }

    fn allow_devices(&self, rules: &[DeviceRule], warnings: &mut Vec<String>) -> Result<(), CgroupError> {
        let Some(dir) = self.dirs.get("devices") else {
            warnings.push("device rules ignored: the devices cgroup controller is not available".to_owned());
            return Ok(());
        };
        files::write(&dir.join("devices.deny"), "a")?;
        for rule in rules {
            let file = if rule.allow {
                "devices.allow"
            } else {
                "devices.deny"
            };
            files::write(&dir.join(file), &devices::v1_line(rule))?;
        }
        Ok(())
    }

    /// The group's directory in a controller's hierarchy.
    pub(super) fn dir(&self, controller: &str) -> Option<&Path> {
        self.dirs.get(controller).map(PathBuf::as_path)
    }

    pub(super) fn add_process(&self, pid: i32) -> Result<(), CgroupError> {
        for dir in self.unique_dirs() {
            files::write(&dir.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// `cgroup.procs` takes the kernel's lock on all forks and exits, which means waiting for an RCU grace period of 5 to
    /// 15 ms. A thread that moves itself through `tasks` needs no such lock (Linux 5.5).
    pub(super) fn join(&self) -> Result<(), CgroupError> {
        for dir in self.unique_dirs() {
            files::write(&dir.join("tasks"), "0")?;
        }
        Ok(())
    }

    pub(super) fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        self.counting_dir().map_or_else(|| Ok(Vec::new()), files::pids)
    }

    pub(super) fn oom_killed(&self) -> bool {
        self.dirs.get("memory").is_some_and(|dir| {
            files::keyed_number(&dir.join("memory.oom_control"), "oom_kill").is_some_and(|kills| kills > 0)
        })
    }

    pub(super) fn freeze(&self) -> Result<(), CgroupError> {
        let Some(dir) = self.dirs.get("freezer") else {
            return Err(CgroupError::InvalidResources(
                "the freezer cgroup controller is not available".to_owned(),
            ));
        };
        let state = dir.join("freezer.state");
        // A process that forks while the kernel walks the group leaves it FREEZING; asking again helps.
        let frozen = files::wait_until(FREEZE, || {
            files::write(&state, "FROZEN")?;
            Ok(files::read(&state)?.trim() == "FROZEN")
        })?;
        if frozen {
            return Ok(());
        }
        self.thaw()?;
        Err(CgroupError::FreezeTimeout(dir.clone()))
    }

    pub(super) fn thaw(&self) -> Result<(), CgroupError> {
        match self.dirs.get("freezer") {
            Some(dir) => files::write(&dir.join("freezer.state"), "THAWED"),
            None => Ok(()),
        }
    }

    /// Frozen processes cannot fork, so one pass gets them all; without a freezer passes are repeated.
    pub(super) fn kill_all(&self) -> Result<(), CgroupError> {
        let Some(dir) = self.counting_dir() else {
            return Ok(());
        };
        if files::pids(dir)?.is_empty() {
            return Ok(());
        }
        let frozen = self.freeze().is_ok();
        let killed = files::pids(dir).map(|pids| files::kill(&pids));
        if frozen {
            self.thaw()?;
        }
        killed?;
        let gone = files::wait_until(KILL, || {
            let pids: Vec<i32> = files::pids(dir)?
                .into_iter()
                .filter(|pid| !is_zombie(*pid))
                .collect();
            files::kill(&pids);
            Ok(pids.is_empty())
        })?;
        if gone {
            Ok(())
        } else {
            Err(CgroupError::KillTimeout(dir.to_owned()))
        }
    }

    pub(super) fn delete(self) -> Result<(), CgroupError> {
        // One deadline for all: a process that is left keeps every hierarchy busy.
        let deadline = Instant::now() + files::BUSY;
        let errors: Vec<CgroupError> = self
            .unique_dirs()
            .into_iter()
            .filter_map(|dir| files::remove(dir, deadline).err())
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(CgroupError::Delete(errors))
        }
    }

    fn unique_dirs(&self) -> BTreeSet<&Path> {
        self.dirs.values().map(PathBuf::as_path).collect()
    }

    fn counting_dir(&self) -> Option<&Path> {
        let best = COUNTING.iter().find_map(|name| self.dirs.get(*name));
        best.or_else(|| self.dirs.values().next()).map(PathBuf::as_path)
    }
}

/// A zombie stays in its group until its parent reaps it, which may be our caller.
fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit_once(')')
                .map(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
        })
        .unwrap_or(true)
}

fn inherit(parent: &Path, child: &Path, file: &str) -> Result<(), CgroupError> {
    let target = child.join(file);
    if files::read(&target)?.trim().is_empty() {
        files::write(&target, files::read(&parent.join(file))?.trim())?;
    }
    Ok(())
}
