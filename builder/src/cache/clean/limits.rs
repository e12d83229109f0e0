//! How much may stay.

/// Bounds in bytes; 0 is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// What is never gone below (`reservedSpace`, `keep-storage`).
    pub reserved: u64,
    /// What the cache may take (`maxUsedSpace`).
    pub max_used: u64,
    /// What is to be free on the disk (`minFreeSpace`).
    pub min_free: u64,
}

impl Limits {
    /// No bound at all: everything may go.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// How much of `total` bytes may stay with `free` bytes free on the disk. Differs from BuildKit in one case: limits
    /// that are all met keep everything, where BuildKit removes all if only `min_free` is set.
    pub fn keep(&self, total: u64, free: u64) -> u64 {
        if self.is_none() {
            return 0;
        }
        let only_reserved = self.max_used == 0 && self.min_free == 0;
        let mut keep = match self.max_used {
            0 if only_reserved => 0,
            0 => total,
            max => max.min(total),
        };
        let excess = self.min_free.saturating_sub(free);
        keep = keep.min(total.saturating_sub(excess));
        keep.max(self.reserved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_bytes() {
        let check = |reserved, max_used, min_free, total, free, expected| {
            let limits = Limits {
                reserved,
                max_used,
                min_free,
            };
            assert_eq!(limits.keep(total, free), expected, "{limits:?} {total} {free}");
        };
        check(0, 0, 0, 100, 5, 0);
        check(10, 0, 0, 100, 5, 10);
        check(0, 30, 0, 100, 5, 30);
        check(0, 300, 0, 100, 5, 100);
        check(0, 0, 20, 100, 25, 100);
        check(0, 0, 20, 100, 5, 85);
        check(90, 0, 20, 100, 5, 90);
        check(10, 50, 20, 100, 5, 50);
        check(10, 95, 20, 100, 5, 85);
        check(10, 95, 200, 100, 5, 10);
    }
}
