//! Who is at the other end of a unix socket.

use rustix::fs::{Stat, stat};
use tokio::net::unix::UCred;

/// Whether the peer sees the files of this host as this process does: the same user, mount namespace and root directory.
///
/// Then a path that it names means the same file to both, and reading that file for it gives it nothing that it could
/// not read itself. A process in a container that has the socket mounted, or another user of the socket's group, is no
/// such peer. What `/proc` tells is of the process that connected; one that has ended is none.
pub(super) fn shares_files(peer: &UCred) -> bool {
    if peer.uid() != rustix::process::geteuid().as_raw() {
        return false;
    }
    let Some(pid) = peer.pid().filter(|pid| *pid > 0) else {
        return false;
    };
    let same = |what: &str| {
        let theirs = stat(format!("/proc/{pid}/{what}")).map(|found| identity(&found));
        let ours = stat(format!("/proc/self/{what}")).map(|found| identity(&found));
        matches!((theirs, ours), (Ok(theirs), Ok(ours)) if theirs == ours)
    };
    // The link itself is followed: a namespace has an inode of its own, a root the directory's.
    same("ns/mnt") && same("root/.")
}

fn identity(found: &Stat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn this_process_shares_its_files() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(shares_files(&ours.peer_cred().unwrap()));
    }
}
