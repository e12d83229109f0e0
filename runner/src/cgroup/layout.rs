//! Where which hierarchy is mounted.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::CgroupError;
use crate::rootless::in_user_namespace;

/// v1 hierarchies that a container's group is made in, if mounted.
const V1_CONTROLLERS: [&str; 12] = [
    "devices",
    "memory",
    "cpu",
    "cpuacct",
    "cpuset",
    "pids",
    "freezer",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
];
const MAX_MOUNTINFO: u64 = 16 << 20;

/// The kernel interface that holds the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One hierarchy a controller; also when an empty v2 tree is mounted beside them.
    V1,
    /// One unified hierarchy.
    V2,
}

/// Which interface this machine has. A machine without any counts as v2; making a group then fails.
pub fn detect() -> Layout {
    Mounts::read().map_or(Layout::V2, |mounts| mounts.layout())
}

/// Whether groups can be made: in a user namespace only where a part of the tree is delegated to the user.
pub fn is_delegated() -> bool {
    if !in_user_namespace() {
        return true;
    }
    let Ok(mounts) = Mounts::read() else { return false };
    let bases: Vec<PathBuf> = match mounts.layout() {
        Layout::V1 => mounts.v1_bases().into_values().collect(),
        Layout::V2 => mounts.v2_base().into_iter().collect(),
    };
    !bases.is_empty() && bases.iter().all(|base| is_writable(base))
}

fn is_writable(dir: &Path) -> bool {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok()
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// The group that is at the top of the mount, `/` or that of an enclosing container.
    root: String,
    point: PathBuf,
}

/// All hierarchies, and where this process is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    v1: BTreeMap<String, Mount>,
    v2: Option<Mount>,
    /// This process's group by controller; `""` is v2.
    own: BTreeMap<String, String>,
}

impl Mounts {
    pub(super) fn read() -> Result<Self, CgroupError> {
        let read = |path: &str| {
            let mut text = String::new();
            std::fs::File::open(path)
                .and_then(|file| file.take(MAX_MOUNTINFO).read_to_string(&mut text))
                .map_err(|source| super::files::failed("reading", Path::new(path), source))?;
            Ok(text)
        };
        Ok(Self::parse(
            &read("/proc/self/mountinfo")?,
            &read("/proc/self/cgroup")?,
        ))
    }

    /// Takes the contents of `/proc/self/mountinfo` and `/proc/self/cgroup`.
    pub(super) fn parse(mountinfo: &str, own: &str) -> Self {
        let mut mounts = Self::default();
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else {
                continue;
            };
            let mut before = before.split(' ').skip(3);
            let (Some(root), Some(point)) = (before.next(), before.next()) else {
                continue;
            };
            let mount = Mount {
                root: unescape(root),
                point: PathBuf::from(unescape(point)),
            };
            let mut after = after.split(' ');
            match after.next() {
                Some("cgroup2") => {
                    mounts.v2.get_or_insert(mount);
                }
                Some("cgroup") => {
                    for option in after.nth(1).unwrap_or_default().split(',') {
                        if V1_CONTROLLERS.contains(&option) {
                            mounts
                                .v1
                                .entry(option.to_owned())
                                .or_insert_with(|| mount.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            if let (Some(controllers), Some(path)) = (fields.next(), fields.next()) {
                for controller in controllers.split(',') {
                    mounts.own.insert(controller.to_owned(), path.to_owned());
                }
            }
        }
        mounts
    }

    pub(super) fn layout(&self) -> Layout {
        if self.v1.is_empty() {
            Layout::V2
        } else {
            Layout::V1
        }
    }

    /// The base directory of every v1 controller; co-mounted controllers share one.
    pub(super) fn v1_bases(&self) -> BTreeMap<String, PathBuf> {
        self.v1
            .iter()
            .map(|(name, mount)| (name.clone(), self.base(mount, name)))
            .collect()
    }

    /// The base directory of the v2 tree.
    pub(super) fn v2_base(&self) -> Option<PathBuf> {
        self.v2.as_ref().map(|mount| self.base(mount, ""))
    }

    fn base(&self, mount: &Mount, controller: &str) -> PathBuf {
        let own = self.own.get(controller).map(String::as_str);
        pick_base(mount, own, is_writable)
    }
}

/// The mount point if it is writable; else the highest ancestor of the own group from which on all are writable down to it;
/// else the mount point, for the error to tell about.
fn pick_base(mount: &Mount, own: Option<&str>, writable: impl Fn(&Path) -> bool) -> PathBuf {
    if writable(&mount.point) {
        return mount.point.clone();
    }
    let below = own.and_then(|own| Path::new(own).strip_prefix(&mount.root).ok());
    let Some(below) = below.filter(|below| {
        below
            .components()
            .all(|c| matches!(c, std::path::Component::Normal(_)))
    }) else {
        return mount.point.clone();
    };
    let own_dir = mount.point.join(below);
    own_dir
        .ancestors()
        .take_while(|dir| dir.starts_with(&mount.point) && writable(dir))
        .last()
        .unwrap_or(&mount.point)
        .to_owned()
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    let mut text = field.to_owned();
    for (escaped, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        text = text.replace(escaped, plain);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/ab /sys/fs/cgroup/mem\\040ory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_counts_as_v1() {
        let mounts = Mounts::parse(HYBRID, "4:memory:/docker/ab/x\n2:cpu,cpuacct:/\n0::/y\n");
        assert_eq!(mounts.layout(), Layout::V1);
        assert_eq!(mounts.v1.keys().collect::<Vec<_>>(), ["cpu", "cpuacct", "memory"]);
        assert_eq!(mounts.v1["memory"].point, Path::new("/sys/fs/cgroup/mem ory"));
        assert_eq!(mounts.own["cpuacct"], "/");
        assert_eq!(mounts.own[""], "/y");
        assert_eq!(
            mounts.v2.as_ref().map(|mount| mount.point.clone()),
            Some("/sys/fs/cgroup/unified".into())
        );
    }

    #[test]
    fn unified_counts_as_v2() {
        let mounts = Mounts::parse(
            "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/\n",
        );
        assert_eq!(mounts.layout(), Layout::V2);
        assert_eq!(Mounts::parse("", "").layout(), Layout::V2);
        assert_eq!(Mounts::parse("", "").v2_base(), None);
    }

    #[test]
    fn bases_are_the_highest_writable_groups() {
        let check = |root: &str, own: Option<&str>, writable: &[&str], expected: &str| {
            let mount = Mount {
                root: root.into(),
                point: "/cg".into(),
            };
            let base = pick_base(&mount, own, |dir| writable.iter().any(|w| dir == Path::new(w)));
            assert_eq!(
                base,
                Path::new(expected),
                "root {root} own {own:?} writable {writable:?}"
            );
        };
        check("/", Some("/a/b"), &["/cg", "/cg/a", "/cg/a/b"], "/cg");
        check(
            "/",
            Some("/user/me/app"),
            &["/cg/user/me", "/cg/user/me/app"],
            "/cg/user/me",
        );
        check("/", Some("/user/me/app"), &["/cg/user"], "/cg");
        check("/docker/ab", Some("/docker/ab/x"), &["/cg/x"], "/cg/x");
        check("/docker/ab", Some("/other"), &["/cg/other"], "/cg");
        check("/", Some("/../../etc"), &["/cg/../../etc"], "/cg");
        check("/", None, &[], "/cg");
    }
}
