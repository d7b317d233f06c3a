//! What a file's path says: which rules are about it, and whether assignments are looked for in it.
//!
//! A path in (no leading slash), answers out. Patterns are the last names of a path, with `*` for any characters of a name.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::rules::{RULES, Trigger};

/// Ends of names of files that show how another file is written.
const SAMPLE_ENDS: &[&[u8]] = &[
    b"example",
    b"sample",
    b"template",
    b"tmpl",
    b"dist",
    b"defaults",
    b"schema",
    b"md",
    b"js",
    b"ts",
    b"py",
    b"go",
    b"html",
];
/// What assignments are looked for in, by the end of the name. Translations, style sheets, lock files and the like have
/// many words and no secrets.
const ASSIGNMENT_ENDS: &[&[u8]] = &[
    b"py",
    b"js",
    b"cjs",
    b"mjs",
    b"ts",
    b"tsx",
    b"jsx",
    b"json",
    b"yaml",
    b"yml",
    b"toml",
    b"ini",
    b"cfg",
    b"conf",
    b"config",
    b"properties",
    b"env",
    b"envrc",
    b"sh",
    b"bash",
    b"zsh",
    b"rb",
    b"php",
    b"go",
    b"java",
    b"kt",
    b"cs",
    b"rs",
    b"scala",
    b"tf",
    b"tfvars",
    b"xml",
    b"txt",
    b"sql",
    b"service",
    b"profile",
    b"bashrc",
    b"local",
    b"production",
    b"prod",
    b"development",
    b"dev",
    b"staging",
];
/// The same, where values stand without quotes: settings, not programs.
const BARE_ENDS: &[&[u8]] = &[
    b"yaml",
    b"yml",
    b"ini",
    b"cfg",
    b"conf",
    b"config",
    b"properties",
    b"env",
    b"envrc",
    b"sh",
    b"bash",
    b"zsh",
    b"tfvars",
    b"service",
    b"profile",
    b"bashrc",
    b"local",
    b"production",
    b"prod",
    b"development",
    b"dev",
    b"staging",
];
/// Whole names that hold no settings whatever their ends are.
const NO_ASSIGNMENTS: &[&str] =
    &["*.min.js", "*-lock.json", "*.lock.json", "*.bundle.js", "*.dist-info/*", "*.egg-info/*"];

/// Where and how assignments are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assignments {
    /// Not looked for.
    None,
    /// Values have quotes.
    Quoted,
    /// Values may stand without.
    Bare,
}

/// The rules that are about files with this path, by number.
pub(super) fn rules(path: &[u8]) -> Vec<usize> {
    let name = name_of(path);
    let exact = PATTERNS.names.get(name).into_iter().flatten();
    let starred = PATTERNS.starred.iter().filter(|(_, pattern)| like(name, last_of(pattern)));
    let about = exact.chain(starred).filter(|(_, pattern)| matches(path, pattern) && !sample(path, pattern));
    let mut numbers: Vec<usize> = about.map(|(number, _)| *number).collect();
    numbers.dedup();
    numbers
}

/// A rule's number and a pattern of it.
type Pattern = (usize, &'static str);

/// The table's patterns, by their last names: most files are asked about once and have none.
struct Patterns {
    names: HashMap<&'static [u8], Vec<Pattern>>,
    starred: Vec<Pattern>,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let mut patterns = Patterns { names: HashMap::new(), starred: Vec::new() };
    for (number, rule) in RULES.iter().enumerate() {
        let Trigger::Files(list) = rule.trigger else { continue };
        for pattern in list {
            let last = last_of(pattern);
            if last.contains(&b'*') {
                patterns.starred.push((number, pattern));
            } else {
                patterns.names.entry(last).or_default().push((number, pattern));
            }
        }
    }
    patterns
});

fn last_of(pattern: &'static str) -> &'static [u8] {
    name_of(pattern.as_bytes())
}

/// How assignments are written in it.
pub(super) fn assignments(path: &[u8]) -> Assignments {
    if NO_ASSIGNMENTS.iter().any(|pattern| matches(path, pattern)) {
        return Assignments::None;
    }
    let end = end_of(path).to_ascii_lowercase();
    if BARE_ENDS.contains(&end.as_slice()) {
        Assignments::Bare
    } else if ASSIGNMENT_ENDS.contains(&end.as_slice()) {
        Assignments::Quoted
    } else {
        Assignments::None
    }
}

/// `.env.example` and its like: only patterns with a star at their end are that wide.
fn sample(path: &[u8], pattern: &str) -> bool {
    pattern.ends_with('*') && SAMPLE_ENDS.contains(&end_of(path).to_ascii_lowercase().as_slice())
}

/// What follows the last full stop of the name, or the name.
fn end_of(path: &[u8]) -> &[u8] {
    let name = name_of(path);
    name.rsplit(|&byte| byte == b'.').next().unwrap_or(name)
}

/// The last name of a path.
pub(super) fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// The path's last names are the pattern's.
pub(super) fn matches(path: &[u8], pattern: &str) -> bool {
    let mut names = path.rsplit(|&byte| byte == b'/');
    pattern.as_bytes().rsplit(|&byte| byte == b'/').all(|pattern| names.next().is_some_and(|name| like(name, pattern)))
}

/// The one `*` that a name of a pattern may have stands for any characters.
fn like(name: &[u8], pattern: &[u8]) -> bool {
    match pattern.iter().position(|&byte| byte == b'*') {
        None => name == pattern,
        Some(star) => {
            let (before, after) =
                (pattern.get(..star).unwrap_or_default(), pattern.get(star + 1..).unwrap_or_default());
            name.strip_prefix(before).is_some_and(|rest| rest.ends_with(after))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is() {
        for (path, want) in [
            ("app/.env", "EnvFile"),
            (".env", "EnvFile"),
            ("app/.env.production", "EnvFile"),
            ("app/prod.env", "EnvFile"),
            ("app/.env.example", ""),
            ("app/.env.js", ""),
            ("app/env", ""),
            ("root/.npmrc", "NpmConfig"),
            ("etc/pip.conf", "PipConfig"),
            ("app/.git/config", "GitCredentials"),
            ("app/git/config", ""),
            ("etc/apt/auth.conf.d/x.conf", "Netrc"),
            ("root/.ssh/id_ed25519", "SshIdentity"),
            ("root/.ssh/id_ed25519.pub", ""),
            ("etc/shadow", "PasswordHashes"),
            ("app/terraform.tfstate", "TerraformState"),
            ("app/main.py", ""),
        ] {
            let names: Vec<&str> = rules(path.as_bytes()).iter().map(|&number| RULES[number].name).collect();
            assert_eq!(names.join(" "), want, "{path}");
        }
        for (path, want) in [
            ("a/settings.py", Assignments::Quoted),
            ("a/x.YAML", Assignments::Bare),
            ("a/.env", Assignments::Bare),
            ("a/app.min.js", Assignments::None),
            ("a/x.po", Assignments::None),
            ("a/x-1.dist-info/direct_url.json", Assignments::None),
        ] {
            assert_eq!(assignments(path.as_bytes()), want, "{path}");
        }
    }
}
