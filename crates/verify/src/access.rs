//! What a user finds at a path of an image: links followed as the kernel does, and every directory on the way entered.
//!
//! In: the stack, whom a process runs as, a path. Out: the file, or what stands in the way. Permission bits only: of
//! access lists and capabilities of files nothing is known.

use kuz_image::index::{components, join};
use kuz_image::{IndexEntry, Node, limits};
use kuz_rootfs::accounts::{self, AccountError, Accounts};

use crate::facts::Path;
use crate::subject::Subject;

/// Where the kernel mounts something of its own when a container starts.
const MOUNTED: [&[u8]; 4] = [b"proc", b"sys", b"dev", b"run"];

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// User.
    pub uid: u32,
    /// All groups.
    pub gids: Vec<u32>,
}

/// What is asked of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Execute a file, enter a directory.
    Execute = 1,
    /// Write a file, make files in a directory.
    Write = 2,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A regular file: its real path and layer.
    File(Path, usize),
    /// A directory: its real path.
    Dir(Path),
    /// Nothing; if a link leads here, the link and its target.
    Nothing(Option<(Path, Path)>),
    /// A directory on the way may not be entered.
    Closed(Path),
    /// It depends on what is mounted when the container starts, or is no file or directory.
    Unknown,
}

impl Who {
    /// Whom the image's USER means.
    pub fn of(subject: &Subject<'_>) -> Result<Self, AccountError> {
        let user = subject.config.config.user.as_deref().unwrap_or_default();
        let files = Accounts {
            passwd: subject.stack.account_file(b"etc/passwd"),
            group: subject.stack.account_file(b"etc/group"),
        };
        let identity = accounts::identity(user, files)?;
        let gids = std::iter::once(identity.gid).chain(identity.supplementary).collect();
        Ok(Self { uid: identity.uid, gids })
    }

    /// Whether the mode and owner of an entry grant a wish.
    pub fn may(&self, entry: &IndexEntry, wish: Wish) -> bool {
        let bit = wish as u32;
        if self.uid == 0 {
            let executes_file = wish == Wish::Execute && !matches!(entry.node, Node::Dir { .. });
            return !executes_file || entry.mode & 0o111 != 0;
        }
        let shift = match () {
            () if entry.uid == self.uid => 6,
            () if self.gids.contains(&entry.gid) => 3,
            () => 0,
        };
        entry.mode >> shift & bit != 0
    }
}

/// What this user finds at a path from the root.
pub fn look(subject: &Subject<'_>, who: &Who, path: &[u8]) -> Place {
    let mut rest: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
    let mut at: Path = Vec::new();
    let mut followed = None;
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == b".." {
            at.truncate(at.iter().rposition(|&byte| byte == b'/').unwrap_or(0));
            continue;
        }
        if subject.stack.get(&at).is_some_and(|entry| !who.may(entry, Wish::Execute)) {
            return Place::Closed(at);
        }
        let next = join(&at, &name);
        if MOUNTED.contains(&next.as_slice()) {
            return Place::Unknown;
        }
        match subject.stack.get(&next).map(|entry| &entry.node) {
            Some(Node::Symlink(target)) => {
                links += 1;
                if links > limits::SYMLINKS {
                    return Place::Unknown;
                }
                // Only a link in the place of the file itself explains why nothing is there.
                if rest.is_empty() {
                    followed = Some((next, target.clone()));
                }
                if target.first() == Some(&b'/') {
                    at.clear();
                }
                rest.extend(components(target).rev().map(<[u8]>::to_vec));
            }
            Some(Node::File { .. } | Node::Hardlink(_) | Node::Special(_)) if !rest.is_empty() => {
                return Place::Nothing(followed);
            }
            _ => at = next,
        }
    }
    match subject.stack.find(&at) {
        Some((layer, entry)) => match entry.node {
            Node::File { .. } | Node::Hardlink(_) => Place::File(at, layer),
            Node::Dir { .. } => Place::Dir(at),
            _ => Place::Unknown,
        },
        None if at.is_empty() => Place::Dir(at),
        // A directory that no layer lists may still be implied by what lies in it.
        None if subject.stack.below(&at).is_empty() => Place::Nothing(followed),
        None => Place::Dir(at),
    }
}
