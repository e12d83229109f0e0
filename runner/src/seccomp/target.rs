//! For whom a profile is compiled.

use super::Arch;
use crate::caps::CapSet;

/// The process and kernel that a filter is for: rules of a profile may depend on each of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// The kernel's native architecture.
    pub arch: Arch,
    /// The process's bounding set.
    pub caps: CapSet,
    /// Kernel release, major and minor.
    pub kernel: (u32, u32),
}

impl Target {
    /// This machine, with the given bounding set. Reads the kernel's release; one that cannot be read counts as 0.0, which
    /// only ever allows less in a profile that denies by default.
    pub fn host(caps: CapSet) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .ok()
            .and_then(|release| parse_release(&release))
            .unwrap_or_default();
        Self {
            arch: Arch::host(),
            caps,
            kernel,
        }
    }
}

/// `6.18.44-fc` -> (6, 18).
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_parse() {
        let check = |text: &str, expected| assert_eq!(parse_release(text), expected, "{text:?}");
        check("6.18.44-fc-v669\n", Some((6, 18)));
        check("5.4-rc1", Some((5, 4)));
        check("7.0", Some((7, 0)));
        check("linux", None);
        assert!(Target::host(CapSet::empty()).kernel > (4, 0));
    }
}
