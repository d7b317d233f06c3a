//! Paths inside a tree, as values.
//!
//! In: bytes from a Dockerfile, a tar or an image's configuration. Out: a [`GuestPath`], cleaned and within the limits.
//! It deliberately has no conversion to a path of the machine: only a [`crate::Root`] can look it up.

use kuz_image::index::components;
use kuz_image::limits;

/// A path inside a tree: names without NUL, `.` and empty ones, no leading slash, within the limits. `..` is allowed;
/// at the root it stays at the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GuestPath(Vec<u8>);

/// Why some bytes are no path inside a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the path, shortened")]
pub enum PathError {
    /// NUL cannot be in a name.
    #[error("path `{path}` has a NUL byte in it")]
    Nul { path: String },
    /// Longer than the kernel takes.
    #[error("path `{path}…` is longer than {} bytes", limits::PATH_BYTES - 1)]
    TooLong { path: String },
    /// A name longer than the kernel takes.
    #[error("path `{path}` has a name of more than {} bytes", limits::NAME_BYTES)]
    NameTooLong { path: String },
    /// Too many directories.
    #[error("path `{path}…` has more than {} directories", limits::PATH_DEPTH)]
    TooDeep { path: String },
}

impl GuestPath {
    /// Checks and cleans a path. A leading slash means the tree's root, as does its absence.
    pub fn new(path: &[u8]) -> Result<Self, PathError> {
        let shown = || show(path.get(..200).unwrap_or(path));
        if path.len() > 2 * limits::PATH_BYTES {
            return Err(PathError::TooLong { path: shown() });
        }
        if path.contains(&0) {
            return Err(PathError::Nul { path: shown() });
        }
        let mut clean = Vec::with_capacity(path.len());
        let mut depth = 0;
        for name in components(path) {
            if name.len() > limits::NAME_BYTES {
                return Err(PathError::NameTooLong { path: shown() });
            }
            depth += 1;
            if depth > limits::PATH_DEPTH {
                return Err(PathError::TooDeep { path: shown() });
            }
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(name);
        }
        if clean.len() >= limits::PATH_BYTES {
            return Err(PathError::TooLong { path: shown() });
        }
        Ok(Self(clean))
    }

    /// A path that was made of names found in a tree.
    pub(crate) fn real(path: &[u8]) -> Self {
        Self(path.to_vec())
    }

    /// The bytes: no leading slash; empty is the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Is it the root itself?
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Does it hold a `..`?
    pub fn climbs(&self) -> bool {
        components(&self.0).any(|name| name == b"..")
    }

    /// The directory and the last name; `None` for the root.
    pub fn split(&self) -> Option<(Self, &[u8])> {
        if self.is_root() {
            return None;
        }
        let (parent, name) = split(&self.0);
        Some((Self(parent.to_vec()), name))
    }
}

/// Parent (empty at the root) and last name of a clean path.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

/// A path for a message: control characters and broken UTF-8 are escaped.
pub(crate) fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_bounded() {
        for (from, to) in [("/a//b/./c/", "a/b/c"), ("", ""), ("/", ""), ("./", ""), ("../a", "../a"), ("a/..", "a/..")]
        {
            assert_eq!(GuestPath::new(from.as_bytes()).unwrap().as_bytes(), to.as_bytes());
        }
        let long = vec![b'x'; 256];
        assert!(matches!(GuestPath::new(&long), Err(PathError::NameTooLong { .. })));
        assert!(matches!(GuestPath::new(b"a\0b"), Err(PathError::Nul { .. })));
        assert!(matches!(GuestPath::new(&b"a/".repeat(1025)), Err(PathError::TooDeep { .. })));
        let name = [vec![b'x'; 200], vec![b'/']].concat();
        assert!(matches!(GuestPath::new(&name.repeat(21)), Err(PathError::TooLong { .. })));
        assert!(matches!(GuestPath::new(&vec![b'/'; 100_000]), Err(PathError::TooLong { .. })));
    }

    proptest::proptest! {
        #[test]
        fn a_path_is_clean_whatever_it_was(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            if let Ok(path) = GuestPath::new(&bytes) {
                let clean = path.as_bytes();
                proptest::prop_assert!(!clean.starts_with(b"/") && !clean.ends_with(b"/") && !clean.contains(&0));
                proptest::prop_assert!(components(clean).all(|name| name.len() <= limits::NAME_BYTES));
                proptest::prop_assert_eq!(GuestPath::new(clean), Ok(path.clone()));
            }
        }
    }
}
