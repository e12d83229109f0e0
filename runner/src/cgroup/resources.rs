//! Limits as Docker's API has them.

use serde::{Deserialize, Serialize};

use super::CgroupError;

/// Limits of a container; `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory; 0 leaves the default, -1 is unlimited.
    #[serde(default)]
    pub memory: Option<i64>,
    /// Memory plus swap in bytes, -1 unlimited. `None` and 0 mean twice `memory`, as in Docker.
    #[serde(default)]
    pub memory_swap: Option<i64>,
    /// Bytes that reclaim spares while others have more than theirs; 0 leaves the default.
    #[serde(default)]
    pub memory_reservation: Option<i64>,
    /// Relative weight, 2 to 262144 (v1 scale, 1024 is the default); 0 leaves the default.
    #[serde(default)]
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time per period; 0 leaves the default, negative is unlimited.
    #[serde(default)]
    pub cpu_quota: Option<i64>,
    /// Microseconds; 0 leaves the default of 100000.
    #[serde(default)]
    pub cpu_period: Option<u64>,
    /// CPUs by the kernel's list format (`0-2,5`); empty leaves the default.
    #[serde(default)]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, likewise.
    #[serde(default)]
    pub cpuset_mems: Option<String>,
    /// Number of tasks; 0 or negative unlimited.
    #[serde(default)]
    pub pids_limit: Option<i64>,
}

/// One rule of the device controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Grant, or take away.
    pub allow: bool,
    /// `c` character, `b` block, `a` all devices (numbers and access are then ignored).
    pub kind: char,
    /// Major number; `None` is any.
    pub major: Option<u32>,
    /// Minor number; `None` is any.
    pub minor: Option<u32>,
    /// A subset of `rwm`: read, write, make a node.
    pub access: String,
}

/// A limit that may be "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Bytes(u64),
    Unlimited,
}

impl Limit {
    /// `None` for Docker's 0, which changes nothing.
    fn parse(value: Option<i64>) -> Option<Self> {
        match value? {
            0 => None,
            value => Some(u64::try_from(value).map_or(Self::Unlimited, Self::Bytes)),
        }
    }

    pub(super) fn or_word(self, unlimited: &str) -> String {
        match self {
            Self::Bytes(bytes) => bytes.to_string(),
            Self::Unlimited => unlimited.to_owned(),
        }
    }
}

impl Resources {
    pub(super) fn memory_limit(&self) -> Option<Limit> {
        Limit::parse(self.memory)
    }

    pub(super) fn reservation(&self) -> Option<Limit> {
        Limit::parse(self.memory_reservation)
    }

    /// The limit of memory and swap together, with Docker's default of twice the memory.
    ///
    /// # Errors
    /// A total without a memory limit, or below it.
    pub(super) fn total_limit(&self) -> Result<Option<Limit>, CgroupError> {
        let invalid = |text: &str| Err(CgroupError::InvalidResources(text.to_owned()));
        match (Limit::parse(self.memory_swap), self.memory_limit()) {
            (None, Some(Limit::Bytes(memory))) => Ok(Some(Limit::Bytes(memory.saturating_mul(2)))),
            (None, unlimited_or_none) => Ok(unlimited_or_none),
            (Some(Limit::Unlimited), _) => Ok(Some(Limit::Unlimited)),
            (Some(Limit::Bytes(total)), Some(Limit::Bytes(memory))) if total >= memory => {
                Ok(Some(Limit::Bytes(total)))
            }
            (Some(Limit::Bytes(_)), Some(Limit::Bytes(_))) => {
                invalid("the memory and swap limit is below the memory limit")
            }
            (Some(Limit::Bytes(_)), _) => invalid("a swap limit needs a memory limit"),
        }
    }

    pub(super) fn shares(&self) -> Option<u64> {
        self.cpu_shares.filter(|shares| *shares != 0)
    }

    pub(super) fn quota(&self) -> Option<i64> {
        self.cpu_quota.filter(|quota| *quota != 0)
    }

    pub(super) fn period(&self) -> Option<u64> {
        self.cpu_period.filter(|period| *period != 0)
    }

    pub(super) fn cpus(&self) -> Option<&str> {
        self.cpuset_cpus.as_deref().filter(|list| !list.is_empty())
    }

    pub(super) fn mems(&self) -> Option<&str> {
        self.cpuset_mems.as_deref().filter(|list| !list.is_empty())
    }

    /// `pids.max`, the same in v1 and v2.
    pub(super) fn pids_max(&self) -> Option<String> {
        self.pids_limit.map(|limit| {
            if limit > 0 {
                limit.to_string()
            } else {
                "max".to_owned()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_follow_docker() {
        let check = |memory: Option<i64>, swap: Option<i64>, expected: Option<Limit>| {
            let resources = Resources {
                memory,
                memory_swap: swap,
                ..Resources::default()
            };
            assert_eq!(resources.total_limit().unwrap(), expected, "{memory:?} {swap:?}");
        };
        check(None, None, None);
        check(Some(0), None, None);
        check(Some(100), None, Some(Limit::Bytes(200)));
        check(Some(100), Some(0), Some(Limit::Bytes(200)));
        check(Some(100), Some(100), Some(Limit::Bytes(100)));
        check(Some(100), Some(-1), Some(Limit::Unlimited));
        check(Some(-1), None, Some(Limit::Unlimited));
        check(None, Some(-1), Some(Limit::Unlimited));
        check(Some(i64::MAX), None, Some(Limit::Bytes(u64::MAX - 1)));
        for (memory, memory_swap) in [(Some(100), Some(99)), (None, Some(1)), (Some(-1), Some(1))] {
            let resources = Resources {
                memory,
                memory_swap,
                ..Resources::default()
            };
            assert!(resources.total_limit().is_err(), "{memory:?} {memory_swap:?}");
        }
    }
}
