//! Running as an unprivileged user: one user namespace, shared by all of the user's processes.
//!
//! A `cooper` that is not root enters, before it has a second thread, a user namespace in which the user is root and the
//! ranges that `/etc/subuid` and `/etc/subgid` give are the other ids, and a mount namespace of its own. From then on it is
//! root as far as the rest of the program is concerned; what the kernel still withholds is dealt with where it matters, by
//! [`in_user_namespace`].
//!
//! # One namespace for all
//! With a namespace each, two engines with equal mappings could share the files of a store, but only within one namespace
//! may a process look into another one's `/proc/<pid>/ns`, join its namespaces or signal its processes of other users. So
//! whoever starts looks for a process of the user that is inside already, and joins it. None is kept alive for that alone:
//!
//! - `<runtime dir>/cooper.namespace` is a file on which every process inside holds a shared record lock (fcntl(2)) for as
//!   long as it lives: engines and supervisors. Asking the kernel who holds it gives a living process, never a stale number.
//! - A process that enters holds the file's flock(2) from before it asks until it holds the record lock itself, so two
//!   that start at once do not make two namespaces.
//! - If nobody is inside, a helper (this binary under the name [`ARGV0`]) makes the namespace, and newuidmap(1) and
//!   newgidmap(1) write its mapping from outside. Without an entry in both files the user's own id alone is mapped.
//!
//! The owner of a namespace has all capabilities over it, so entering needs no privilege and no second execution.
//!
//! | file | job |
//! |---|---|
//! | `user` | who the user is, and the directories that go with that |
//! | `idmap` | ids inside and outside |
//! | `subid` | `/etc/subuid` and `/etc/subgid` |
//! | `create` | making a namespace: the helper and its mapping |
//! | `enter` | joining or making it |
//! | `presence` | the lock file |

mod create;
mod enter;
mod error;
mod idmap;
mod presence;
mod subid;
mod user;

pub use create::{ARGV0, helper_main};
pub use error::RootlessError;
pub use idmap::IdMap;
pub use presence::keep_across_exec;
pub(crate) use presence::{announce_inherited, inherit};
pub use user::{ENTERED, User};

/// Inode number of the initial user namespace in every kernel (`PROC_USER_INIT_INO`).
const INITIAL: u64 = 0xEFFF_FFFD;

/// Whether this process is in a user namespace other than the initial one: root there may mount overlays only with
/// `userxattr`, makes no device nodes, and has the ids of [`IdMap`] alone.
pub fn in_user_namespace() -> bool {
    rustix::fs::stat("/proc/self/ns/user").is_ok_and(|stat| stat.st_ino != INITIAL)
}
