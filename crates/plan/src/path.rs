//! Paths of a Linux image as text: joined and cleaned by their letters alone, as Go's `path` package does.
//!
//! Symbolic links are not looked at: the planner has no file system. The result is always absolute.

/// `path` seen from `parent`, cleaned: absolute, no `.`, `..` or empty parts, no slash at the end.
pub(crate) fn join(parent: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{parent}/{path}") };
    clean(&whole)
}

/// As [`join`], but the slash at the end stays where `path` asks for a directory (`a/`, `.`, `a/.`, or nothing).
pub(crate) fn join_dest(parent: &str, path: &str) -> String {
    let directory = path.is_empty() || path.ends_with('/') || matches!(path.rsplit('/').next(), Some("." | ".."));
    let mut joined = join(parent, path);
    if directory && joined != "/" {
        joined.push('/');
    }
    joined
}

/// The last part of a path, as Go's `path.Base` (`/` for the root, `.` for nothing).
pub(crate) fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    path.trim_end_matches('/').rsplit('/').next().filter(|last| !last.is_empty()).unwrap_or("/")
}

fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined() {
        for (parent, path, want) in [
            ("/", "app", "/app"),
            ("/a", "b/c/", "/a/b/c"),
            ("/a", "/b/", "/b"),
            ("/a", "", "/a"),
            ("", "x", "/x"),
            ("/a/b", "../..", "/"),
            ("/a", "../../..", "/"),
            ("/a", "~/x", "/a/~/x"),
        ] {
            assert_eq!(join(parent, path), want, "{parent} {path}");
        }
    }

    #[test]
    fn destinations_keep_their_slash() {
        for (path, want) in [
            (".", "/w/"),
            ("", "/w/"),
            ("./", "/w/"),
            ("x", "/w/x"),
            ("x/", "/w/x/"),
            ("x/.", "/w/x/"),
            ("..", "/"),
            ("/", "/"),
            ("/a//b/", "/a/b/"),
            ("/a/../b", "/b"),
            ("/a/..b", "/a/..b"),
        ] {
            assert_eq!(join_dest("/w", path), want, "{path}");
        }
    }

    #[test]
    fn last_parts() {
        for (path, want) in [("/a/b", "b"), ("a", "a"), ("/", "/"), ("", "."), ("a/", "a")] {
            assert_eq!(base(path), want);
        }
    }
}
