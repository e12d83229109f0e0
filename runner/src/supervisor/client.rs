//! The outgoing side of an attached client.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

/// Bytes queued for a client before the supervisor stops reading the process's output.
const HIGH_WATER: usize = 256 << 10;

/// A non-blocking socket with a queue of what it did not take yet.
#[derive(Debug)]
pub(super) struct Outlet {
    stream: UnixStream,
    queue: Vec<u8>,
    sent: usize,
    broken: bool,
}

impl Outlet {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            queue: Vec::new(),
            sent: 0,
            broken: false,
        }
    }

    /// The peer is gone; what is pushed is dropped.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.queue.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.queued() >= HIGH_WATER
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len() - self.sent
    }

    /// Forgets the peer: nothing more is sent to it.
    pub(super) fn give_up(&mut self) {
        self.broken = true;
    }

    /// Ends the connection at once: its peer sees the end.
    pub(super) fn hang_up(&mut self) {
        // A peer that is gone needs no end.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        self.broken = true;
    }

    /// Sends or queues `header` and `payload`.
    pub(super) fn push(&mut self, header: &[u8], payload: &[u8]) {
        if self.broken {
            return;
        }
        let mut sent = 0;
        if self.is_empty() {
            sent = self.send(&[header, payload]);
        }
        let from_header = sent.min(header.len());
        self.queue.extend_from_slice(&header[from_header..]);
        self.queue.extend_from_slice(&payload[sent - from_header..]);
    }

    /// Sends as much of the queue as the socket takes.
    pub(super) fn flush(&mut self) {
        while !self.is_empty() && !self.broken {
            let queue = std::mem::take(&mut self.queue);
            let sent = self.send(&[&queue[self.sent..]]);
            self.queue = queue;
            self.sent += sent;
            if sent == 0 {
                break;
            }
        }
        if self.is_empty() || self.broken {
            self.queue = Vec::new();
            self.sent = 0;
        } else if self.sent >= HIGH_WATER {
            self.queue.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn send(&mut self, parts: &[&[u8]]) -> usize {
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match rustix::net::sendmsg(&self.stream, &slices, &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => return sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return 0,
                Err(_) => {
                    self.broken = true;
                    return 0;
                }
            }
        }
    }

    /// Reads what the client sent; 0 is its half-close, `None` means nothing now.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        loop {
            match rustix::net::recv(&self.stream, &mut *buffer, rustix::net::RecvFlags::DONTWAIT) {
                Ok((read, _)) => return Some(read),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(_) => {
                    self.broken = true;
                    return Some(0);
                }
            }
        }
    }

    /// Whether the peer may talk to us: our own user or root (CVE-2020-15257).
    pub(super) fn peer_is_allowed(&self) -> io::Result<bool> {
        let peer = rustix::net::sockopt::socket_peercred(&self.stream)?.uid;
        Ok(peer.is_root() || peer == rustix::process::geteuid())
    }
}

impl AsFd for Outlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
