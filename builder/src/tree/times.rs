//! Times of files.

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};

/// Sets the time of last modification and no other.
pub(crate) fn only_modified(time: Timespec) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: time,
    }
}
