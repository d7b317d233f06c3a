//! Messages between the main process, the worker and init: length-prefixed postcard over stream sockets, with
//! descriptors beside them.
//!
//! A [`Channel`] is one end of a socket pair. `send` may be called from several threads, `recv` from one. A peer that is
//! gone reads as `None`. No message is trusted for its size.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest message: an index of a layer with a few million entries.
const MESSAGE_BYTES: usize = 512 << 20;
/// Descriptors beside one message (the kernel takes 253).
pub(crate) const MESSAGE_FDS: usize = 128;

/// Why a message could not be sent or read.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The socket failed.
    #[error("talk to the other process")]
    Socket(#[source] io::Error),
    /// Not what was expected.
    #[error("understand the other process's message")]
    Malformed(#[source] postcard::Error),
    /// Larger than anything sensible.
    #[error("message of {bytes} bytes is over the limit of {MESSAGE_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// More descriptors than fit beside one message.
    #[error("{count} descriptors are over the limit of {MESSAGE_FDS}")]
    TooManyFds {
        /// How many.
        count: usize,
    },
}

impl From<Errno> for ProtocolError {
    fn from(errno: Errno) -> Self {
        Self::Socket(errno.into())
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    sending: Mutex<()>,
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self { socket, sending: Mutex::new(()) }
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.socket
    }
}

impl Channel {
    /// Two connected ends, both close-on-exec.
    pub(crate) fn pair() -> Result<(Self, Self), ProtocolError> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok((a.into(), b.into()))
    }

    /// Sends a message and descriptors.
    pub(crate) fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), ProtocolError> {
        let body = postcard::to_stdvec(message).map_err(ProtocolError::Malformed)?;
        if body.len() > MESSAGE_BYTES {
            return Err(ProtocolError::TooLarge { bytes: body.len() });
        }
        if fds.len() > MESSAGE_FDS {
            return Err(ProtocolError::TooManyFds { count: fds.len() });
        }
        let size = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let _turn = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        // The descriptors travel with the first byte; the rest is plain.
        let mut head: &[u8] = &size;
        let mut rest: &[u8] = &body;
        while !head.is_empty() || !rest.is_empty() {
            let sent = match sendmsg(
                &self.socket,
                &[IoSlice::new(head), IoSlice::new(rest)],
                &mut ancillary,
                SendFlags::NOSIGNAL,
            ) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            ancillary.clear();
            let of_head = sent.min(head.len());
            head = head.get(of_head..).unwrap_or_default();
            rest = rest.get(sent - of_head..).unwrap_or_default();
        }
        Ok(())
    }

    /// The next message and what came beside it; `None` when the peer has gone.
    pub(crate) fn recv<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>, ProtocolError> {
        let mut fds = Vec::new();
        let mut size = [0_u8; 4];
        if !self.fill(&mut size, &mut fds)? {
            return Ok(None);
        }
        let bytes = usize::try_from(u32::from_le_bytes(size)).unwrap_or(usize::MAX);
        if bytes > MESSAGE_BYTES {
            return Err(ProtocolError::TooLarge { bytes });
        }
        // Grown as the bytes arrive: a size alone reserves nothing.
        let mut body = Vec::new();
        while body.len() < bytes {
            let from = body.len();
            body.resize(bytes.min(from + (1 << 20)), 0);
            if !self.fill(body.get_mut(from..).unwrap_or_default(), &mut fds)? {
                return Ok(None);
            }
        }
        let message = postcard::from_bytes(&body).map_err(ProtocolError::Malformed)?;
        Ok(Some((message, fds)))
    }

    /// Reads until the buffer is full; `false` when the peer has gone.
    fn fill(&self, mut buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<bool, ProtocolError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS))];
        while !buffer.is_empty() {
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let received =
                recvmsg(&self.socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
            let bytes = match received {
                Err(Errno::INTR) => continue,
                Err(Errno::CONNRESET) => return Ok(false),
                other => other?.bytes,
            };
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    fds.extend(received);
                }
            }
            if bytes == 0 {
                return Ok(false);
            }
            buffer = buffer.get_mut(bytes..).unwrap_or_default();
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (ours, theirs) = Channel::pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let long = vec![7_u8; 3 << 20];
        let sender = std::thread::spawn(move || {
            ours.send(&"first", &[write.as_fd()]).unwrap();
            ours.send(&long, &[]).unwrap();
        });
        let (text, fds) = theirs.recv::<String>().unwrap().unwrap();
        assert_eq!((text.as_str(), fds.len()), ("first", 1));
        assert_eq!(theirs.recv::<Vec<u8>>().unwrap().unwrap().0.len(), 3 << 20);
        sender.join().unwrap();
        std::fs::File::from(fds.into_iter().next().unwrap()).write_all(b"x").unwrap();
        let mut content = Vec::new();
        std::fs::File::from(read).read_to_end(&mut content).unwrap();
        assert_eq!(content, b"x");
        assert!(theirs.recv::<String>().unwrap().is_none(), "the peer has gone");
    }

    #[test]
    fn sizes_are_not_trusted() {
        let (ours, theirs) = Channel::pair().unwrap();
        rustix::io::write(&ours, &u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(theirs.recv::<String>(), Err(ProtocolError::TooLarge { .. })));
        let (ours, theirs) = Channel::pair().unwrap();
        rustix::io::write(&ours, &[1, 0, 0, 0, 0xff]).unwrap();
        assert!(matches!(theirs.recv::<String>(), Err(ProtocolError::Malformed(_))));
    }
}
