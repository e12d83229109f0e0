//! Linux capabilities as Docker names, grants and removes them.

use std::fmt;
use std::sync::OnceLock;

/// Names by number, `linux/capability.h` up to Linux 5.9 (none was added since).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Number of the last name.
const NEWEST: u8 = 40;

/// Docker's default: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT
/// MKNOD AUDIT_WRITE SETFCAP.
const DOCKER_DEFAULT: [u8; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];

/// A capability that cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapError {
    /// No kernel knows the name.
    #[error("unknown capability: {0:?}")]
    Unknown(String),
    /// The name is known but newer than the running kernel.
    #[error("capability not supported by your kernel or not available in the current environment: {0:?}")]
    Unsupported(String),
}

/// A set of capabilities; bit n stands for capability number n.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CapSet(u64);

impl CapSet {
    /// No capability.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Every capability the running kernel knows.
    pub fn all() -> Self {
        Self::up_to(kernel_last_cap())
    }

    /// The 14 capabilities of a container that asks for nothing special (Docker 1.10 to 29).
    pub fn docker_default() -> Self {
        DOCKER_DEFAULT.into_iter().collect()
    }

    /// The effective set of this process: what it can pass on to a container at most.
    ///
    /// Reads `/proc/self/status`; [`CapSet::all`] when that tells nothing.
    pub fn available() -> Self {
        std::fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|status| parse_effective(&status))
            .unwrap_or_else(Self::all)
            .intersect(Self::all())
    }

    /// The set with exactly these bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    const fn up_to(last: u8) -> Self {
        if last >= 63 {
            Self(u64::MAX)
        } else {
            Self((1 << (last + 1)) - 1)
        }
    }

    /// Whether capability number `n` is in the set.
    pub const fn contains(self, n: u8) -> bool {
        n < 64 && self.0 & (1 << n) != 0
    }

    /// Adds capability number `n`; numbers above 63 are ignored.
    pub const fn insert(&mut self, n: u8) {
        if n < 64 {
            self.0 |= 1 << n;
        }
    }

    /// Removes capability number `n`.
    pub const fn remove(&mut self, n: u8) {
        if n < 64 {
            self.0 &= !(1 << n);
        }
    }

    /// Bit n = capability n, as `capset(2)` takes it in two halves.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Capabilities in both sets.
    #[must_use]
    pub const fn intersect(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Capabilities in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Capabilities of `self` that are not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers in the set, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |n| self.contains(*n))
    }

    /// `CAP_X` names sorted by number; numbers without a name are left out.
    pub fn names(self) -> Vec<String> {
        self.iter()
            .filter_map(|n| NAMES.get(usize::from(n)))
            .map(|name| (*name).to_owned())
            .collect()
    }

    /// The set of the named capabilities; case and a missing `CAP_` do not matter, `ALL` is every one.
    ///
    /// # Errors
    /// A name that is unknown, or unknown to the running kernel.
    pub fn from_names(names: &[String]) -> Result<Self, CapError> {
        let all = Self::all();
        let mut set = Self::empty();
        for name in names {
            match parse_name(name, all)? {
                Named::All => set = set.union(all),
                Named::One(n) => set.insert(n),
            }
        }
        Ok(set)
    }
}

impl FromIterator<u8> for CapSet {
    fn from_iter<I: IntoIterator<Item = u8>>(numbers: I) -> Self {
        let mut set = Self::empty();
        for n in numbers {
            set.insert(n);
        }
        set
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapSet({:#x})", self.0)
    }
}

/// The number of a capability by its full name (`CAP_CHOWN`); `None` if unknown.
pub fn number(name: &str) -> Option<u8> {
    NAMES
        .iter()
        .position(|known| *known == name)
        .and_then(|n| u8::try_from(n).ok())
}

/// The capabilities of a container by Docker's rule of `--cap-add`, `--cap-drop` and `--privileged`.
///
/// Privileged: everything. Adding `ALL`: everything minus the dropped ones. Dropping `ALL`: only the added ones.
/// Otherwise the default minus the dropped plus the added ones, so adding wins (moby `oci/caps.TweakCapabilities`).
///
/// # Errors
/// A name that is unknown, or unknown to the running kernel; with `privileged` the names are not looked at.
pub fn resolve(add: &[String], drop: &[String], privileged: bool) -> Result<CapSet, CapError> {
    resolve_within(add, drop, privileged, CapSet::all())
}

/// [`resolve`] where `all` is every capability there is.
///
/// # Errors
/// A name that is unknown or not in `all`.
pub fn resolve_within(
    add: &[String],
    drop: &[String],
    privileged: bool,
    all: CapSet,
) -> Result<CapSet, CapError> {
    if privileged {
        return Ok(all);
    }
    let (add_all, added) = parse_list(add, all)?;
    let (drop_all, dropped) = parse_list(drop, all)?;
    Ok(if add_all {
        all.difference(dropped)
    } else if drop_all {
        added
    } else {
        CapSet::docker_default().difference(dropped).union(added)
    })
}

enum Named {
    All,
    One(u8),
}

fn parse_name(name: &str, all: CapSet) -> Result<Named, CapError> {
    let mut upper = name.to_ascii_uppercase();
    if upper == "ALL" {
        return Ok(Named::All);
    }
    if !upper.starts_with("CAP_") {
        upper.insert_str(0, "CAP_");
    }
    match number(&upper) {
        None => Err(CapError::Unknown(upper)),
        Some(n) if !all.contains(n) => Err(CapError::Unsupported(upper)),
        Some(n) => Ok(Named::One(n)),
    }
}

fn parse_list(names: &[String], all: CapSet) -> Result<(bool, CapSet), CapError> {
    let mut every = false;
    let mut set = CapSet::empty();
    for name in names {
        match parse_name(name, all)? {
            Named::All => every = true,
            Named::One(n) => set.insert(n),
        }
    }
    Ok((every, set))
}

/// `/proc/sys/kernel/cap_last_cap`, or the newest number known here when it cannot be read. Never changes while a
/// kernel runs, so it is read once.
fn kernel_last_cap() -> u8 {
    static LAST: OnceLock<u8> = OnceLock::new();
    *LAST.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .filter(|last| *last < 64)
            .unwrap_or(NEWEST)
    })
}

fn parse_effective(status: &str) -> Option<CapSet> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok().map(CapSet)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: CapSet = CapSet::up_to(40);

    fn list(names: &str) -> Vec<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(number("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(number("CAP_SYSLOG"), Some(34));
        assert_eq!(number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number("SYS_ADMIN"), None);
        assert_eq!(
            CapSet::docker_default().bits(),
            0xa804_25fb,
            "the mask seen in any Docker container"
        );
        assert_eq!(ALL.names().len(), 41);
        assert_eq!(CapSet::up_to(63).bits(), u64::MAX);
    }

    #[test]
    fn tweaks_follow_docker() {
        let default = CapSet::docker_default();
        let check = |add: &str, drop: &str, privileged: bool, expected: CapSet| {
            let got = resolve_within(&list(add), &list(drop), privileged, ALL);
            assert_eq!(
                got,
                Ok(expected),
                "add {add:?} drop {drop:?} privileged {privileged}"
            );
        };
        let set = |numbers: &[u8]| numbers.iter().copied().collect::<CapSet>();
        check("", "", false, default);
        check("", "", true, ALL);
        check("no_such_name", "", true, ALL);
        check("sys_admin", "", false, default.union(set(&[21])));
        check(
            "CAP_NET_ADMIN cap_net_admin",
            "",
            false,
            default.union(set(&[12])),
        );
        check("", "mknod Net_Raw", false, default.difference(set(&[27, 13])));
        check("all", "MKNOD", false, ALL.difference(set(&[27])));
        check("CHOWN", "ALL", false, set(&[0]));
        check("", "all", false, CapSet::empty());
        check("ALL", "ALL", false, ALL);
        check("MKNOD", "MKNOD", false, default);
        check("ALL SYS_TIME", "SYS_TIME", false, ALL.difference(set(&[25])));
    }

    #[test]
    fn bad_names_are_refused() {
        let check = |add: &str, expected: CapError| {
            assert_eq!(
                resolve_within(&list(add), &[], false, CapSet::up_to(37)),
                Err(expected)
            );
        };
        check("FOO", CapError::Unknown("CAP_FOO".into()));
        check("CAP_ALL", CapError::Unknown("CAP_ALL".into()));
        check("bpf", CapError::Unsupported("CAP_BPF".into()));
    }

    #[test]
    fn names_round_trip() {
        let set = CapSet::docker_default();
        assert_eq!(CapSet::from_names(&set.names()), Ok(set));
        assert_eq!(CapSet::from_names(&list("all")), Ok(CapSet::all()));
    }

    #[test]
    fn effective_set_is_read_from_status() {
        assert_eq!(
            parse_effective("Name:\tx\nCapEff:\t000001fffeffffff\n"),
            Some(CapSet(0x1ff_feff_ffff))
        );
        assert_eq!(parse_effective("CapEff:\tzz\n"), None);
        assert_eq!(CapSet::available().difference(CapSet::all()), CapSet::empty());
    }
}
