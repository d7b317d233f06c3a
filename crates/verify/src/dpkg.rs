//! Which package owns a file: the lists of dpkg (Debian, Ubuntu) and apk's database (Alpine).
//!
//! Only libraries and commands are remembered: what somebody can miss. Paths are as the package has them, so on a
//! system whose `/lib` is a link to `/usr/lib` both spellings are to be tried ([`spellings`]).

use std::collections::BTreeMap;

use crate::facts::Path;

/// Where dpkg has a list of files for each package.
const LISTS: &[u8] = b"var/lib/dpkg/info/";
/// apk's database.
const APK: &[u8] = b"lib/apk/db/installed";
/// Directories of commands.
const COMMANDS: [&[u8]; 6] = [b"bin", b"sbin", b"usr/bin", b"usr/sbin", b"usr/local/bin", b"usr/local/sbin"];

/// Whether [`owners`] can read this file.
pub(crate) fn is_list(path: &[u8]) -> bool {
    path == APK || (path.starts_with(LISTS) && path.ends_with(b".list"))
}

/// The libraries and commands that a list names, with their package.
pub fn owners(path: &[u8], content: &[u8]) -> BTreeMap<Path, String> {
    if path == APK {
        return of_apk(content);
    }
    let name = path.strip_prefix(LISTS).and_then(|name| name.strip_suffix(b".list")).unwrap_or_default();
    let name = name.split(|&byte| byte == b':').next().unwrap_or_default();
    let Ok(package) = std::str::from_utf8(name) else { return BTreeMap::new() };
    let lines = content.split(|&byte| byte == b'\n').filter_map(|line| line.strip_prefix(b"/"));
    lines.filter(|line| is_wanted(line)).map(|line| (line.to_vec(), package.to_owned())).collect()
}

/// `P:` begins a package, `F:` names a directory, `R:` a file in it.
fn of_apk(content: &[u8]) -> BTreeMap<Path, String> {
    let (mut package, mut directory) = (String::new(), Vec::new());
    let mut owners = BTreeMap::new();
    for line in content.split(|&byte| byte == b'\n') {
        match line {
            [b'P', b':', name @ ..] => package = String::from_utf8_lossy(name).into_owned(),
            [b'F', b':', name @ ..] => directory = name.to_vec(),
            [b'R', b':', name @ ..] => {
                let path = kuz_image::index::join(&directory, name);
                if is_wanted(&path) {
                    owners.insert(path, package.clone());
                }
            }
            _ => {}
        }
    }
    owners
}

fn is_wanted(path: &[u8]) -> bool {
    let at = path.iter().rposition(|&byte| byte == b'/').unwrap_or_default();
    let (directory, name) = (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default());
    COMMANDS.contains(&directory) || is_library(name)
}

/// `libx.so`, `libx.so.1.2`
pub(crate) fn is_library(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some(at) = rest.iter().position(|&byte| byte == b'.') {
        rest = rest.get(at + 1..).unwrap_or_default();
        if rest == b"so" || rest.starts_with(b"so.") {
            return true;
        }
    }
    false
}

/// A path, and how it may be written where `/lib`, `/bin` and `/sbin` are links into `/usr`.
pub fn spellings(path: &[u8]) -> [Path; 2] {
    let other = path.strip_prefix(b"usr/").map_or_else(|| [b"usr/", path].concat(), <[u8]>::to_vec);
    [path.to_vec(), other]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_commands_have_their_package() {
        let list =
            b"/.\n/usr\n/usr/lib\n/usr/lib/x86_64-linux-gnu/libpq.so.5\n/usr/share/doc/libpq5/copyright\n/usr/bin/pq\n";
        let owners = owners(b"var/lib/dpkg/info/libpq5:amd64.list", list);
        let shown: Vec<(String, &str)> = owners
            .iter()
            .map(|(path, package)| (String::from_utf8_lossy(path).into_owned(), package.as_str()))
            .collect();
        assert_eq!(shown, [("usr/bin/pq".into(), "libpq5"), ("usr/lib/x86_64-linux-gnu/libpq.so.5".into(), "libpq5")]);
        let database = b"P:libpq\nV:16\nF:usr\nF:usr/lib\nR:libpq.so.5\nZ:x\n\nP:zlib\nF:lib\nR:libz.so.1\nR:readme\n";
        let owners = super::owners(APK, database);
        assert_eq!(owners.get(&b"usr/lib/libpq.so.5"[..]).map(String::as_str), Some("libpq"));
        assert_eq!(owners.get(&b"lib/libz.so.1"[..]).map(String::as_str), Some("zlib"));
        assert_eq!(owners.len(), 2);
    }

    #[test]
    fn names_of_libraries() {
        for (name, want) in
            [("libz.so", true), ("libz.so.1.2", true), ("libz-1.so.2", true), ("a.so.d.txt", true), ("solo", false)]
        {
            assert_eq!(is_library(name.as_bytes()), want, "{name}");
        }
        assert!(!is_library(b"x.sofa") && !is_library(b"x.a"));
        assert_eq!(spellings(b"usr/lib/a"), [b"usr/lib/a".to_vec(), b"lib/a".to_vec()]);
        assert_eq!(spellings(b"lib/a"), [b"lib/a".to_vec(), b"usr/lib/a".to_vec()]);
    }
}
