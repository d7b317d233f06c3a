//! Which modules Python's own library has, by version.

use std::collections::HashMap;
use std::sync::LazyLock;

/// See its first lines.
const TABLE: &str = include_str!("stdlib.txt");
/// See its first lines.
const NAMES: &str = include_str!("stdlib_names.txt");
/// A module and, of [`NAMES`], a name in it, to the first minor version that has it and the last.
type Versions = HashMap<(&'static str, &'static str), (u8, u8)>;

/// [`TABLE`]; its names are empty.
static MODULES: LazyLock<Versions> = LazyLock::new(|| read(TABLE, false));
/// [`NAMES`].
static MODULE_NAMES: LazyLock<Versions> = LazyLock::new(|| read(NAMES, true));

/// The newest minor version that the table knows.
const NEWEST: u8 = 14;

/// What the table says about a top-level module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    /// This version has it.
    Has,
    /// It was removed: the last minor version that has it.
    Until(u8),
    /// It came later: the first minor version that has it.
    From(u8),
    /// No version has it.
    Never,
    /// The version is newer than the table.
    Unknown,
}

/// Whether Python 3.`minor`'s library has a top-level module.
pub(super) fn library(name: &str, minor: u8) -> Library {
    if name.starts_with("_sysconfigdata") || (name.starts_with("_test") && name.is_ascii()) {
        return Library::Has;
    }
    let missing = if minor > NEWEST { Library::Unknown } else { Library::Never };
    MODULES.get(&(name, "")).map_or(missing, |versions| of(*versions, minor))
}

/// What is known of a name in a module of Python 3.`minor`'s library: [`Library::Unknown`] for most.
pub(super) fn library_name(module: &str, name: &str, minor: u8) -> Library {
    MODULE_NAMES.get(&(module, name)).map_or(Library::Unknown, |versions| of(*versions, minor))
}

/// What two versions say about one.
fn of((first, last): (u8, u8), minor: u8) -> Library {
    match (minor < first, minor > last) {
        (true, _) => Library::From(first),
        (_, true) => Library::Until(last),
        // What is last in the newest version may go on.
        _ => Library::Has,
    }
}

/// A table by its lines: a module, a name in it if there are any, the first minor version and the last.
fn read(table: &'static str, names: bool) -> Versions {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let line = |line: &'static str| {
        let mut parts = line.split(' ');
        let module = parts.next()?;
        let name = if names { parts.next()? } else { "" };
        let mut number = |default| parts.next().and_then(|text| text.parse().ok()).unwrap_or(default);
        Some(((module, name), (number(0_u8), number(u8::MAX))))
    };
    lines.filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_and_go() {
        for (module, name, minor, expected) in [
            ("enum", "StrEnum", 10, Library::From(11)),
            ("enum", "StrEnum", 11, Library::Has),
            ("collections", "Mapping", 10, Library::Until(9)),
            ("collections", "Mapping", 9, Library::Has),
            ("typing", "override", 11, Library::From(12)),
            ("enum", "Enum", 10, Library::Unknown),
        ] {
            assert_eq!(library_name(module, name, minor), expected, "{module}.{name} 3.{minor}");
        }
        let keys: Vec<Vec<&str>> =
            NAMES.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').take(2).collect()).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "sorted, each once");
    }

    #[test]
    fn modules_come_and_go() {
        for (name, minor, expected) in [
            ("os", 8, Library::Has),
            ("tomllib", 10, Library::From(11)),
            ("tomllib", 11, Library::Has),
            ("distutils", 11, Library::Has),
            ("distutils", 12, Library::Until(11)),
            ("imp", 12, Library::Until(11)),
            ("asyncore", 13, Library::Until(11)),
            ("cgi", 13, Library::Until(12)),
            ("annotationlib", 13, Library::From(14)),
            ("sys", 13, Library::Has),
            ("posix", 10, Library::Has),
            ("_frozen_importlib", 8, Library::Has),
            ("yaml", 10, Library::Never),
            ("os", 20, Library::Has),
            ("yaml", 20, Library::Unknown),
        ] {
            assert_eq!(library(name, minor), expected, "{name} 3.{minor}");
        }
        let names: Vec<&str> = TABLE.lines().skip(2).filter_map(|line| line.split(' ').next()).collect();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "sorted, each once");
    }
}
