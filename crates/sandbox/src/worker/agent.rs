//! Passing a command's questions to an ssh agent of this machine, in the main process.
//!
//! In: a listening socket that the command can connect to, and the agent's path. Out: answers. Only listing keys and
//! signing are passed on; everything else (adding, removing, locking, extensions) is answered with "failure" here. The
//! agent sees this process's user, never an id of the sandbox.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::net::Shutdown;

/// The longest message: what OpenSSH's own agent takes.
const MESSAGE_BYTES: u32 = 256 << 10;
/// Connections at the same time.
const CONNECTIONS: usize = 64;
/// "List the keys" and "sign": the numbers of the protocol.
const ALLOWED: [u8; 2] = [11, 13];
/// The answer "failure" with its length.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];

/// Answers for as long as it exists. Conversations end with the command, which holds their other ends.
#[derive(Debug)]
pub(super) struct Relay {
    listener: Option<UnixListener>,
}

impl Relay {
    pub(super) fn start(listener: OwnedFd, agent: PathBuf) -> Self {
        let listener = UnixListener::from(listener);
        let Ok(ours) = listener.try_clone() else { return Self { listener: None } };
        let started = std::thread::Builder::new().name("ssh agent".to_owned()).spawn(move || accept(&ours, &agent));
        // Without a thread nobody answers: the command's connection is refused when the socket goes.
        Self { listener: started.is_ok().then_some(listener) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            // Wakes the thread that accepts.
            let _ = rustix::net::shutdown(listener, Shutdown::Both);
        }
    }
}

fn accept(listener: &UnixListener, agent: &Path) {
    let open = Arc::new(AtomicUsize::new(0));
    while let Ok((client, _)) = listener.accept() {
        if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (agent, count) = (agent.to_owned(), Arc::clone(&open));
        let talk = move || {
            if let Ok(agent) = UnixStream::connect(agent) {
                // However it ends, both sides learn of it by the closed connection.
                let _ = converse(&client, &agent);
            }
            count.fetch_sub(1, Ordering::SeqCst);
        };
        if std::thread::Builder::new().name("ssh agent".to_owned()).spawn(talk).is_err() {
            open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Question by question.
fn converse(mut client: &UnixStream, mut agent: &UnixStream) -> io::Result<()> {
    while let Some(question) = message(&mut client)? {
        // The kind is what follows the length.
        if !question.get(4).is_some_and(|kind| ALLOWED.contains(kind)) {
            client.write_all(&FAILURE)?;
            continue;
        }
        agent.write_all(&question)?;
        let Some(answer) = message(&mut agent)? else { return Ok(()) };
        client.write_all(&answer)?;
    }
    Ok(())
}

/// A message with its length; `None` at the end.
fn message(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0_u8; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let bytes = u32::from_be_bytes(length);
    if bytes > MESSAGE_BYTES {
        return Err(io::Error::other("a message is over the limit"));
    }
    let mut message = length.to_vec();
    from.take(u64::from(bytes)).read_to_end(&mut message)?;
    if message.len() != length.len() + usize::try_from(bytes).unwrap_or(usize::MAX) {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listing_and_signing_reach_the_agent() {
        let (mut command, client) = UnixStream::pair().unwrap();
        let (mut agent, ours) = UnixStream::pair().unwrap();
        let relay = std::thread::spawn(move || converse(&client, &ours));
        let frame = |kind: u8, rest: &[u8]| {
            let length = u32::try_from(rest.len() + 1).unwrap().to_be_bytes();
            [&length[..], &[kind], rest].concat()
        };
        // Add, remove, remove all, lock, extension, and an empty message.
        for kind in [17, 18, 19, 22, 25, 27] {
            command.write_all(&frame(kind, b"x")).unwrap();
            assert_eq!(message(&mut command).unwrap().unwrap(), FAILURE, "{kind}");
        }
        command.write_all(&[0; 4]).unwrap();
        assert_eq!(message(&mut command).unwrap().unwrap(), FAILURE);
        for kind in ALLOWED {
            command.write_all(&frame(kind, b"question")).unwrap();
            assert_eq!(message(&mut agent).unwrap().unwrap(), frame(kind, b"question"));
            agent.write_all(&frame(12, b"answer")).unwrap();
            assert_eq!(message(&mut command).unwrap().unwrap(), frame(12, b"answer"));
        }
        command.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert!(relay.join().unwrap().is_err(), "a length over the limit ends it");
        assert_eq!(message(&mut agent).unwrap(), None);
    }
}
