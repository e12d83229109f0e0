//! Messages from the child to its supervisor while it sets itself up.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

use super::{SetupError, Stub};

/// One datagram of the protocol: any number of `Warning`, `Terminal` and `Stubs`, then `Ready`, then either the
/// socket closes because execve succeeded or `Failed` follows. `Failed` may come at any point and is the last message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Something was not done that may be left undone.
    Warning(String),
    /// Carries the pty's controlling side as a descriptor.
    Terminal,
    /// Mount points created in the upper directory.
    Stubs(Vec<Stub>),
    /// All set up; execve is next.
    Ready,
    /// Set-up or execve failed.
    Failed(SetupError),
}

/// Longest message; also bounds what the supervisor allocates for one.
const MAX_MESSAGE: usize = 128 << 10;

/// One end of the pair.
#[derive(Debug)]
pub(crate) struct Sync(OwnedFd);

impl AsFd for Sync {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Sync {
    /// (supervisor's end, child's end)
    pub(crate) fn pair() -> rustix::io::Result<(Self, Self)> {
        let (a, b) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(a), Self(b)))
    }

    /// Whether the supervisor still holds its end. Asked once the parent-death signal is set, because a supervisor that
    /// died before that sends none.
    pub(crate) fn is_attended(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let read = rustix::io::retry_on_intr(|| rustix::net::recv(&self.0, &mut [0_u8; 1], flags));
        matches!(read, Err(rustix::io::Errno::AGAIN))
    }

    /// Sends a message, with a descriptor if one is given. Failure means that the supervisor died, and then so does the
    /// child (parent-death signal); nothing is left to report it to.
    pub(crate) fn send(&self, message: &Message, fd: Option<BorrowedFd<'_>>) {
        let Ok(bytes) = serde_json::to_vec(message) else {
            return;
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let _ = rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(
                &self.0,
                &[IoSlice::new(&bytes)],
                &mut control,
                SendFlags::NOSIGNAL,
            )
        });
    }

    /// The next message; `None` when the other end is closed.
    pub(crate) fn receive(&self) -> rustix::io::Result<Option<(Message, Option<OwnedFd>)>> {
        let mut buffer = vec![0_u8; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let read = loop {
            let slices = &mut [IoSliceMut::new(&mut buffer)];
            match rustix::net::recvmsg(&self.0, slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                result => break result?.bytes,
            }
        };
        if read == 0 {
            return Ok(None);
        }
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let message = serde_json::from_slice(&buffer[..read]).map_err(|_| rustix::io::Errno::BADMSG)?;
        Ok(Some((message, fd)))
    }
}
