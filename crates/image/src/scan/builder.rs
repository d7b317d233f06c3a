//! What tar entries mean in a layer: whiteouts, opaque directories, paths made plain.
//!
//! Headers go in, a [`LayerIndex`] comes out. A path that could mean something else to somebody else is refused.
//! Nothing is unpacked, and missing parents are not invented.

use crate::index::{ACCOUNT_FILES, IndexEntry, LayerIndex, Node, Special, components, join};
use crate::limits;
use crate::tar::{Header, Kind, TarError};

/// What names of whiteouts start with.
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The name that makes its directory opaque.
pub const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
/// Names of aufs's own files, which mean nothing in an image.
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// What a path stands for in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// Itself.
    Entry,
    /// This path of the layers below is gone.
    Whiteout(Vec<u8>),
    /// What the layers below have in this directory is gone.
    Opaque(Vec<u8>),
    /// A file of aufs: to be passed over.
    Aufs,
}

/// A path as an index has it: no leading or trailing slash, no `.`, the root empty. Refused: `..`, NUL, over-long.
pub fn normalise(path: &[u8]) -> Result<Vec<u8>, TarError> {
    let refused = |what| Err(TarError::refused(path, what));
    let mut normal = Vec::with_capacity(path.len());
    for (depth, name) in components(path).enumerate() {
        if name == b".." {
            return refused("its path holds `..`");
        }
        if name.contains(&0) {
            return refused("its path holds a NUL");
        }
        if name.len() > limits::NAME_BYTES {
            return refused("a name in its path is over 255 bytes");
        }
        if depth >= limits::PATH_DEPTH {
            return refused("its path is deeper than 1024 directories");
        }
        if !normal.is_empty() {
            normal.push(b'/');
        }
        normal.extend_from_slice(name);
    }
    if normal.len() > limits::PATH_BYTES { refused("its path is over 4096 bytes") } else { Ok(normal) }
}

/// What this normalised path stands for. A whiteout of nothing, of `.` or `..`, and an entry below one are refused.
pub fn mark(path: &[u8]) -> Result<Mark, TarError> {
    let (parent, name) = split(path);
    if components(path).any(|name| name.starts_with(AUFS_PREFIX) && name != OPAQUE_NAME) {
        return Ok(Mark::Aufs);
    }
    if components(parent).any(|name| name.starts_with(WHITEOUT_PREFIX)) {
        return Err(TarError::refused(path, "it lies below a whiteout"));
    }
    match name.strip_prefix(WHITEOUT_PREFIX) {
        None => Ok(Mark::Entry),
        Some(_) if name == OPAQUE_NAME => Ok(Mark::Opaque(parent.to_vec())),
        Some(b"" | b"." | b"..") => Err(TarError::refused(path, "a whiteout of no name")),
        Some(hidden) => Ok(Mark::Whiteout(join(parent, hidden))),
    }
}

/// Collects entries into a [`LayerIndex`]. Of two entries with one path the last counts.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    index: LayerIndex,
    /// Symbolic links seen: while there is none, no parent needs to be followed.
    links: bool,
    /// The parent of the last entry, as stored and as followed.
    parent: Option<(Vec<u8>, Vec<u8>)>,
}

impl IndexBuilder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether [`Self::add`] should be given this entry's content.
    pub fn wants_content(&mut self, header: &Header) -> bool {
        header.kind == Kind::File
            && header.size <= limits::ACCOUNT_FILE_BYTES as u64
            && ACCOUNT_FILES.iter().any(|file| header.path.ends_with(split(file).1))
            && self.locate(&header.path).is_ok_and(|path| ACCOUNT_FILES.contains(&path.as_slice()))
    }

    /// Where a regular file is going to be in the layer; `None` for whiteouts and everything that is no regular file.
    pub fn place(&mut self, header: &Header) -> Result<Option<Vec<u8>>, TarError> {
        if header.kind != Kind::File {
            return Ok(None);
        }
        let path = self.locate(&header.path)?;
        Ok((mark(&path)? == Mark::Entry).then_some(path))
    }

    /// Takes an entry in. After an error the builder is of no use.
    pub fn add(&mut self, header: &Header, account_content: Option<&[u8]>) -> Result<(), TarError> {
        let path = self.locate(&header.path)?;
        match mark(&path)? {
            Mark::Aufs => {}
            Mark::Whiteout(hidden) => self.whiteout(hidden, header),
            Mark::Opaque(directory) => self.opaque(directory, header)?,
            Mark::Entry => self.insert(path, header, account_content)?,
        }
        if self.index.entries.len() > limits::LAYER_ENTRIES {
            return Err(TarError::refused(&header.path, "the layer has more than 4194304 entries"));
        }
        Ok(())
    }

    /// What has been taken in so far.
    pub fn index(&self) -> &LayerIndex {
        &self.index
    }

    /// The index.
    pub fn finish(self) -> LayerIndex {
        self.index
    }

    /// Whiteouts hide what is below this layer only, wherever in the tar they stand: what the layer itself has at the
    /// path stays.
    fn whiteout(&mut self, hidden: Vec<u8>, header: &Header) {
        self.parent = None;
        match self.index.entries.get_mut(&hidden) {
            Some(IndexEntry { node: Node::Dir { opaque }, .. }) => *opaque = true,
            Some(_) => {}
            None => drop(self.index.entries.insert(hidden, entry(Node::Whiteout, header))),
        }
    }

    fn opaque(&mut self, directory: Vec<u8>, header: &Header) -> Result<(), TarError> {
        match self.index.entries.get_mut(&directory) {
            Some(IndexEntry { node: Node::Dir { opaque }, .. }) => *opaque = true,
            Some(old) if old.node != Node::Whiteout => {
                return Err(TarError::refused(&header.path, "its parent is no directory"));
            }
            // The mark has no other place. The directory's own entry, if one follows, brings the true metadata.
            _ => {
                let mut made = entry(Node::Dir { opaque: true }, header);
                made.mode = 0o755;
                self.index.entries.insert(directory, made);
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: Vec<u8>, header: &Header, account: Option<&[u8]>) -> Result<(), TarError> {
        let refused = |what| TarError::refused(&header.path, what);
        let mut node = match header.kind {
            Kind::File => Node::File { size: header.size },
            Kind::Dir => Node::Dir { opaque: false },
            Kind::Symlink if header.link.len() >= limits::PATH_BYTES => {
                return Err(refused("its link target is over 4095 bytes"));
            }
            Kind::Symlink => Node::Symlink(header.link.clone()),
            Kind::Hardlink => Node::Hardlink(self.hardlink_target(&path, header)?),
            Kind::Char { major, minor } => Node::Special(Special::Char { major, minor }),
            Kind::Block { major, minor } => Node::Special(Special::Block { major, minor }),
            Kind::Fifo => Node::Special(Special::Fifo),
        };
        if path.is_empty() && header.kind != Kind::Dir {
            return Err(refused("the root must be a directory"));
        }
        let old = self.index.entries.get(&path).map(|old| &old.node);
        if let Node::Dir { opaque } = &mut node {
            *opaque = matches!(old, Some(Node::Whiteout | Node::Dir { opaque: true }));
        } else {
            self.remove_below(&path);
        }
        // What the parent's path leads to may change where something is replaced, or by a new link.
        if self.index.entries.contains_key(&path) || header.kind == Kind::Symlink {
            self.parent = None;
        }
        self.links |= header.kind == Kind::Symlink;
        self.index.accounts.remove(&path);
        if let (Kind::File, Some(content)) = (header.kind, account)
            && ACCOUNT_FILES.contains(&path.as_slice())
        {
            self.index.accounts.insert(path.clone(), content.to_vec());
        }
        self.index.entries.insert(path, entry(node, header));
        Ok(())
    }

    fn hardlink_target(&mut self, path: &[u8], header: &Header) -> Result<Vec<u8>, TarError> {
        let refused = |what| Err(TarError::refused(&header.path, what));
        let Ok(target) = self.locate(&header.link) else {
            return refused("its hard link target is not a valid path in the layer");
        };
        if target == path {
            return refused("a hard link to itself");
        }
        if !matches!(mark(&target), Ok(Mark::Entry)) {
            return refused("a hard link to a whiteout");
        }
        match self.index.entries.get(&target).map(|entry| &entry.node) {
            Some(Node::Dir { .. }) => refused("a hard link to a directory"),
            _ => Ok(target),
        }
    }

    /// A file takes the place of a directory: what the layer had in it is gone.
    fn remove_below(&mut self, path: &[u8]) {
        let prefix = join(path, b"");
        let below = |(found, _): &(&Vec<u8>, &IndexEntry)| found.starts_with(&prefix);
        while let Some((found, _)) = self.index.entries.range(prefix.clone()..).next().filter(below) {
            let found = found.clone();
            self.index.accounts.remove(&found);
            self.index.entries.remove(&found);
        }
    }

    /// The path that an entry lands on: its parents' symbolic links in this layer are followed inside the image.
    fn locate(&mut self, stored: &[u8]) -> Result<Vec<u8>, TarError> {
        let path = normalise(stored)?;
        let (parent, name) = split(&path);
        if parent.is_empty() {
            return Ok(path);
        }
        if let Some((_, real)) = self.parent.as_ref().filter(|(known, _)| known == parent) {
            return Ok(join(real, name));
        }
        let real = self.follow(parent, stored)?;
        let located = join(&real, name);
        if located.len() > limits::PATH_BYTES {
            return Err(TarError::refused(stored, "its path is over 4096 bytes"));
        }
        self.parent = Some((parent.to_vec(), real));
        Ok(located)
    }

    fn follow(&self, parent: &[u8], stored: &[u8]) -> Result<Vec<u8>, TarError> {
        let mut rest: Vec<&[u8]> = components(parent).rev().collect();
        let mut at = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                at.truncate(at.iter().rposition(|&byte| byte == b'/').unwrap_or(0));
                continue;
            }
            let next = join(&at, name);
            match self.index.entries.get(&next).map(|entry| &entry.node) {
                Some(Node::Symlink(target)) if self.links => {
                    links += 1;
                    if links > limits::SYMLINKS {
                        return Err(TarError::refused(stored, "too many symbolic links in its path"));
                    }
                    if target.first() == Some(&b'/') {
                        at.clear();
                    }
                    rest.extend(components(target).rev());
                }
                Some(Node::File { .. } | Node::Hardlink(_) | Node::Special(_)) => {
                    return Err(TarError::refused(stored, "its parent is no directory"));
                }
                _ => at = next,
            }
        }
        Ok(at)
    }
}

fn entry(node: Node, header: &Header) -> IndexEntry {
    IndexEntry { node, mode: header.mode, uid: header.uid, gid: header.gid, mtime: header.mtime }
}

/// Parent and name of a normalised path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case = (&'static str, Vec<Header>, Vec<(&'static str, Node)>);

    fn header(path: &str, kind: Kind) -> Header {
        Header { path: path.into(), kind, mode: 0o755, ..Header::default() }
    }

    fn link(path: &str, kind: Kind, to: &str) -> Header {
        Header { link: to.into(), ..header(path, kind) }
    }

    fn file(path: &str) -> Header {
        header(path, Kind::File)
    }

    fn dir(path: &str) -> Header {
        header(path, Kind::Dir)
    }

    fn build(headers: &[Header]) -> Result<Vec<(String, Node)>, TarError> {
        let mut builder = IndexBuilder::new();
        for header in headers {
            builder.add(header, None)?;
        }
        let entries = builder.finish().entries.into_iter();
        Ok(entries.map(|(path, entry)| (String::from_utf8(path).unwrap(), entry.node)).collect())
    }

    #[test]
    fn entries_become_nodes() {
        let plain = || Node::File { size: 0 };
        let opaque = |opaque| Node::Dir { opaque };
        let symlink = |to: &str| Node::Symlink(to.into());
        let cases: Vec<Case> = vec![
            (
                "spellings",
                vec![file("./a"), dir("/b"), file("c//./d")],
                vec![("a", plain()), ("b", opaque(false)), ("c/d", plain())],
            ),
            ("the root", vec![dir("./")], vec![("", opaque(false))]),
            ("the last counts", vec![file("a"), dir("a")], vec![("a", opaque(false))]),
            (
                "a file takes a directory's place",
                vec![dir("a"), file("a/b"), file("a-"), file("a")],
                vec![("a", plain()), ("a-", plain())],
            ),
            ("whiteout", vec![file("d/.wh.a")], vec![("d/a", Node::Whiteout)]),
            ("whiteout before", vec![file(".wh.a"), dir("a")], vec![("a", opaque(true))]),
            ("whiteout after", vec![dir("a"), file("a/b"), file(".wh.a")], vec![("a", opaque(true)), ("a/b", plain())]),
            ("whiteout of a new file", vec![file("a"), file(".wh.a")], vec![("a", plain())]),
            ("opaque before", vec![file("a/.wh..wh..opq"), dir("a")], vec![("a", opaque(true))]),
            (
                "opaque after",
                vec![dir("a"), file("a/b"), file("a/.wh..wh..opq")],
                vec![("a", opaque(true)), ("a/b", plain())],
            ),
            ("opaque root", vec![file(".wh..wh..opq")], vec![("", opaque(true))]),
            ("aufs", vec![dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs")], vec![]),
            (
                "devices",
                vec![header("a", Kind::Char { major: 0, minor: 0 }), header("b", Kind::Fifo)],
                vec![("a", Node::Special(Special::Char { major: 0, minor: 0 })), ("b", Node::Special(Special::Fifo))],
            ),
            (
                "hard links",
                vec![file("a"), link("b", Kind::Hardlink, "./a")],
                vec![("a", plain()), ("b", Node::Hardlink(b"a".to_vec()))],
            ),
            (
                "through own links",
                vec![link("lib", Kind::Symlink, "usr/lib"), file("lib/a"), file("lib/b")],
                vec![("lib", symlink("usr/lib")), ("usr/lib/a", plain()), ("usr/lib/b", plain())],
            ),
            (
                "through links that lead out",
                vec![link("x/up", Kind::Symlink, "../../../etc"), file("x/up/p")],
                vec![("etc/p", plain()), ("x/up", symlink("../../../etc"))],
            ),
            (
                "a link becomes a directory",
                vec![link("a", Kind::Symlink, "/b"), file("a/x"), dir("a"), file("a/y")],
                vec![("a", opaque(false)), ("a/y", plain()), ("b/x", plain())],
            ),
            (
                "a directory becomes a link",
                vec![dir("a"), file("a/x"), link("a", Kind::Symlink, "b"), file("a/y")],
                vec![("a", symlink("b")), ("b/y", plain())],
            ),
        ];
        for (name, headers, want) in cases {
            let want: Vec<_> = want.into_iter().map(|(path, node)| (path.to_owned(), node)).collect();
            assert_eq!(build(&headers).unwrap(), want, "{name}");
        }
    }

    #[test]
    fn hostile_entries_are_refused() {
        let deep = "a/".repeat(limits::PATH_DEPTH + 1);
        let long = format!("{}/", "b".repeat(200)).repeat(21);
        let name = "n".repeat(256);
        let cases: Vec<Vec<Header>> = vec![
            vec![file("../a")],
            vec![file("a/../b")],
            vec![file("a/..")],
            vec![file("..")],
            vec![file("a\0b")],
            vec![file(&deep)],
            vec![file(&long)],
            vec![file(&name)],
            vec![file(".")],
            vec![file("/")],
            vec![link("./", Kind::Symlink, "/etc")],
            vec![file(".wh.")],
            vec![file("a/.wh..")],
            vec![file("a/.wh...")],
            vec![file(".wh.a/b")],
            vec![file("a"), file("a/b")],
            vec![file("a"), file("a/.wh..wh..opq")],
            vec![header("a", Kind::Fifo), file("a/b/c")],
            vec![link("a", Kind::Symlink, "a"), file("a/b")],
            vec![link("a", Kind::Hardlink, "../../etc/passwd")],
            vec![link("a", Kind::Hardlink, "a")],
            vec![link("a", Kind::Hardlink, ".wh.b")],
            vec![dir("d"), link("a", Kind::Hardlink, "d")],
            vec![link("a", Kind::Symlink, &"t".repeat(4096))],
        ];
        for headers in cases {
            assert!(matches!(build(&headers), Err(TarError::Refused { .. })), "{headers:?}");
        }
    }

    #[test]
    fn account_files_follow_their_entry() {
        let mut builder = IndexBuilder::new();
        let content = Header { size: 1, ..file("etc/passwd") };
        assert!(builder.wants_content(&content));
        assert!(!builder.wants_content(&file("home/etc/passwd")));
        assert!(!builder.wants_content(&link("etc/passwd", Kind::Symlink, "x")));
        builder.add(&content, Some(b"x")).unwrap();
        builder.add(&link("etc/passwd", Kind::Symlink, "/else"), None).unwrap();
        assert!(builder.index().accounts.is_empty());
        builder.add(&content, Some(b"x")).unwrap();
        builder.add(&file("etc"), None).unwrap();
        assert!(builder.index().accounts.is_empty());
    }

    #[test]
    fn many_opaque_marks_and_replacements_stay_linear() {
        let mut builder = IndexBuilder::new();
        for number in 0..100_000 {
            builder.add(&file(&format!("d{number}/.wh..wh..opq")), None).unwrap();
            builder.add(&file(&format!("d{number}/f")), None).unwrap();
            builder.add(&file("d/.wh..wh..opq"), None).unwrap();
        }
        assert_eq!(builder.index().entries.len(), 200_001);
    }
}
