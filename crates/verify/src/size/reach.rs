//! What nothing reaches from the image's command, as far as that can be told without running it: a hint.
//!
//! The command's words lead to programs, scripts to their interpreters, interpreters to their libraries. Everything that
//! could be loaded or read without a word of it counts as reached: shared libraries, configuration, whatever lies
//! outside the system's directories, and all programs where a shell script may start them. What remains is given by
//! Debian package, where none of its files is reached, and by directories that no program needs to run. Python
//! distributions come from [`super::imports`].

use std::collections::{BTreeMap, HashMap, HashSet};

use kuz_image::Stack;
use kuz_image::index::components;

use super::owners::Owner;
use super::{Config, Layer, Share, Unreached, shown};

/// Interpreters of scripts that are followed: a script's interpreter may be a script.
const DEPTH: usize = 5;
/// Where programs are looked for if the image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Groups of a report.
const GROUPS: usize = 200;
/// Programs that start others by what a script's text says.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "zsh", "busybox"];
/// Directories that no program needs to run, and what lies in them.
const IDLE: [(&[u8], &str); 14] = [
    (b"usr/include/", "C headers"),
    (b"usr/local/include/", "C headers"),
    (b"usr/share/doc/", "documentation"),
    (b"usr/share/man/", "manual pages"),
    (b"usr/local/share/man/", "manual pages"),
    (b"usr/share/info/", "manual pages"),
    (b"usr/share/locale/", "translations"),
    (b"usr/src/", "sources"),
    (b"var/cache/", "caches of package managers"),
    (b"var/lib/apt/lists/", "caches of package managers"),
    (b"root/.cache/", "caches of package managers"),
    (b"root/.npm/", "caches of package managers"),
    (b"tmp/", "temporary files"),
    (b"var/tmp/", "temporary files"),
];

/// What the command leads to.
#[derive(Debug, Default)]
struct Reached {
    /// For people: programs in the order in which they were found.
    command: Vec<String>,
    /// Real paths of programs and of files that the command names.
    files: HashSet<Vec<u8>>,
    /// Directories with all that is in them.
    trees: Vec<Vec<u8>>,
    /// Names of path components that the interpreters' libraries have.
    libraries: Vec<&'static str>,
    /// A shell script may start any program.
    any_program: bool,
}

/// Finds what nothing reaches, beside the `distributions` that nothing needs; nothing where it is not known what the image runs.
pub(super) fn unreached(
    config: &Config,
    layers: &[Layer],
    stack: &Stack,
    files: &HashMap<&[u8], u64>,
    packages: &[Owner],
    distributions: &[&Owner],
) -> Option<Unreached> {
    let reached = reached(config, layers, stack)?;
    let mut groups: BTreeMap<String, Share> = BTreeMap::new();
    let mut counted: HashSet<&[u8]> = HashSet::new();
    for package in packages.iter().filter(|package| !package.required) {
        // Configuration and documents are not why a package is there.
        let mut telling = package.files.iter().filter(|path| is_system(path) && idle(path).is_none()).peekable();
        let bare = telling.peek().is_none() && !package.files.iter().all(|path| idle(path).is_some());
        if package.files.is_empty()
            || bare
            || telling.any(|path| reached.has(path))
            || package.files.iter().any(|path| reached.names(path))
        {
            continue;
        }
        counted.extend(package.files.iter().map(Vec::as_slice));
        groups.insert(format!("0 {}", package.name), package.share());
    }
    for distribution in distributions {
        counted.extend(distribution.files.iter().map(Vec::as_slice));
        groups.insert(format!("2 {}", String::from_utf8_lossy(&distribution.info)), distribution.share());
    }
    for (path, bytes) in files.iter().filter(|(path, _)| !counted.contains(*path) && !reached.names(path)) {
        if let Some(name) = idle(path) {
            let share = groups
                .entry(format!("1 {name}"))
                .or_insert_with(|| Share { name: name.to_owned(), ..Share::default() });
            share.bytes = share.bytes.saturating_add(*bytes);
            share.files += 1;
        }
    }
    let mut groups: Vec<Share> = groups.into_values().filter(|share| share.bytes > 0).collect();
    groups.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.name.cmp(&other.name)));
    let bytes = groups.iter().map(|share| share.bytes).sum();
    groups.truncate(GROUPS);
    Some(Unreached { command: reached.command, bytes, groups })
}

/// What lies in a directory, or under a name, that no program needs to run.
fn idle(path: &[u8]) -> Option<&'static str> {
    if let Some((_, name)) = IDLE.iter().find(|(start, _)| path.starts_with(start)) {
        return Some(name);
    }
    let mut parts = components(path).skip_while(|part| !is_python(part));
    let stdlib = parts.next().is_some() && path.starts_with(b"usr/");
    if stdlib && parts.next().is_some_and(|part| part == b"test" || part == b"idlelib") {
        return Some("tests of Python's standard library");
    }
    (path.ends_with(b".a") && is_system(path)).then_some("static libraries")
}

fn is_python(part: &[u8]) -> bool {
    part.strip_prefix(b"python").is_some_and(|version| version.first().is_some_and(u8::is_ascii_digit))
}

fn is_system(path: &[u8]) -> bool {
    let mut parts = components(path);
    match (parts.next(), parts.next()) {
        (Some(b"usr"), Some(b"local")) => false,
        (Some(b"usr" | b"bin" | b"sbin" | b"lib" | b"lib32" | b"lib64" | b"libx32"), _) => true,
        _ => false,
    }
}

impl Reached {
    /// Whether the command itself names a file, or a directory that it is in.
    fn names(&self, path: &[u8]) -> bool {
        self.files.contains(path)
            || self.trees.iter().any(|tree| {
                path.strip_prefix(tree.as_slice()).is_some_and(|rest| tree.is_empty() || rest.first() == Some(&b'/'))
            })
    }

    /// Whether a file of the system's directories may be needed.
    fn has(&self, path: &[u8]) -> bool {
        let mut parts = components(path).peekable();
        let mut programs = false;
        let mut libraries = false;
        let mut compiler = false;
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                break;
            }
            programs |= matches!(part, b"bin" | b"sbin");
            compiler |= matches!(part, b"gcc" | b"gcc-cross" | b"bfd-plugins");
            libraries |= self.libraries.iter().any(|name| {
                part.strip_prefix(name.as_bytes())
                    .is_some_and(|rest| rest.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-')))
            });
        }
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let shared = name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.");
        let foreign = components(path).any(|part| is_python(part) || part.starts_with(b"perl"));
        // Data that libraries read without being told: certificates, time zones, locales.
        let of_libraries =
            [&b"usr/share/zoneinfo/"[..], b"usr/share/ca-certificates/", b"usr/lib/locale/", b"usr/lib/ssl/"];
        libraries
            || (programs && self.any_program)
            || (shared && !compiler && !foreign)
            || of_libraries.iter().any(|start| path.starts_with(start))
    }
}

fn reached(config: &Config, layers: &[Layer], stack: &Stack) -> Option<Reached> {
    let mut argv: Vec<String> = config.entrypoint.clone().unwrap_or_default();
    argv.extend(config.cmd.clone().unwrap_or_default());
    let words: Vec<String> = argv
        .iter()
        .flat_map(|word| {
            word.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')' | '"' | '\'' | '='))
        })
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let workdir = config.working_dir.clone().unwrap_or_default();
    let look = Look { config, layers, stack, workdir: workdir.clone() };
    let mut found = Reached::default();
    let first = look.program(argv.first()?)?;
    look.follow(&first, &mut found, DEPTH);
    for word in &words {
        match look.program(word) {
            Some(program) => look.follow(&program, &mut found, DEPTH),
            None => look.path(word, &mut found),
        }
    }
    let below = components(workdir.as_bytes()).collect::<Vec<_>>().join(&b'/');
    if !below.is_empty() {
        found.trees.push(stack.resolve(&below, true).map_or(below, |at| at.path));
    }
    Some(found)
}

struct Look<'a> {
    config: &'a Config,
    layers: &'a [Layer],
    stack: &'a Stack,
    workdir: String,
}

impl Look<'_> {
    /// The real path of a program, as a shell looks for it.
    fn program(&self, word: &str) -> Option<Vec<u8>> {
        if word.contains('/') {
            return self.file(&self.absolute(word));
        }
        let path = self.config.env.iter().flatten().find_map(|line| line.strip_prefix("PATH="));
        path.unwrap_or(PATH).split(':').find_map(|directory| self.file(&format!("{directory}/{word}")))
    }

    fn absolute(&self, word: &str) -> String {
        if word.starts_with('/') { word.to_owned() } else { format!("{}/{word}", self.workdir) }
    }

    /// The real path of an executable file.
    fn file(&self, path: &str) -> Option<Vec<u8>> {
        let found = self.stack.resolve(path.as_bytes(), true).ok()?;
        let entry = found.entry?;
        let is_file = matches!(entry.node, kuz_image::Node::File { .. } | kuz_image::Node::Hardlink(_));
        (is_file && entry.mode & 0o111 != 0).then_some(found.path)
    }

    /// A file or directory that the command names, as a path or as a module.
    fn path(&self, word: &str, found: &mut Reached) {
        let Ok(at) = self.stack.resolve(self.absolute(word).as_bytes(), true) else { return };
        match at.entry.map(|entry| entry.node) {
            Some(kuz_image::Node::Dir { .. }) if !at.path.is_empty() && word.contains('/') => found.trees.push(at.path),
            Some(_) => drop(found.files.insert(at.path)),
            None => {}
        }
    }

    /// A program, and what runs it if it is a script.
    fn follow(&self, program: &[u8], found: &mut Reached, depth: usize) {
        if !found.files.insert(program.to_vec()) {
            return;
        }
        found.command.push(shown(program));
        let name = program.rsplit(|&byte| byte == b'/').next().unwrap_or(program);
        let name = String::from_utf8_lossy(name).into_owned();
        found.libraries.extend(libraries(&name));
        let Some((layer, entry)) = self.stack.find(program) else { return };
        // A hard link is another name of a file in the same layer.
        let path = if let kuz_image::Node::Hardlink(target) = &entry.node { target } else { program };
        let Some(line) = self.layers.get(layer).and_then(|layer| layer.contents.scripts.get(path)) else { return };
        let line = String::from_utf8_lossy(line).into_owned();
        let mut words = line.split_whitespace().peekable();
        let Some(first) = words.next() else { return };
        let mut interpreters = vec![first.to_owned()];
        if first.ends_with("/env") {
            while words.next_if(|word| word.starts_with('-') || word.contains('=')).is_some() {}
            interpreters.extend(words.next().map(str::to_owned));
        }
        for interpreter in interpreters {
            let base = interpreter.rsplit('/').next().unwrap_or(&interpreter);
            found.any_program |= SHELLS.contains(&base);
            if depth > 0
                && let Some(next) = self.program(&interpreter)
            {
                self.follow(&next, found, depth - 1);
            }
        }
    }
}

/// What directories with an interpreter's libraries are called, version apart.
fn libraries(program: &str) -> &'static [&'static str] {
    const KNOWN: [(&str, &[&str]); 7] = [
        ("python", &["python"]),
        ("pypy", &["pypy", "python"]),
        ("perl", &["perl", "perl5", "perl-base"]),
        ("ruby", &["ruby", "gems", "bundle", "rubygems-integration"]),
        ("node", &["node_modules", "nodejs"]),
        ("php", &["php"]),
        ("java", &["jvm", "java", "openjdk"]),
    ];
    KNOWN.iter().find(|(name, _)| program.starts_with(name)).map_or(&[], |(_, libraries)| libraries)
}

#[cfg(test)]
mod tests {
    use kuz_image::Node;

    use super::super::Contents;
    use super::super::layers::tests::{file, layer};
    use super::*;

    fn package(name: &str, files: &[&str], required: bool) -> Owner {
        Owner {
            name: name.into(),
            files: files.iter().map(|path| path.as_bytes().to_vec()).collect(),
            bytes: files.len() as u64,
            required,
            ..Owner::default()
        }
    }

    fn told(config: &Config, scripts: &[(&str, &str)]) -> Option<(Vec<String>, Vec<String>)> {
        let paths = [
            "usr/local/bin/uvicorn",
            "usr/local/bin/python3.10",
            "usr/local/lib/python3.10/os.py",
            "usr/local/lib/python3.10/test/x.py",
            "usr/bin/dash",
            "usr/bin/gcc-12",
            "usr/lib/gcc/x86_64-linux-gnu/12/liblto_plugin.so",
            "usr/lib/x86_64-linux-gnu/libc.so.6",
            "usr/bin/ldd",
            "usr/bin/git",
            "usr/bin/perl",
            "usr/share/perl/5.36/strict.pm",
            "usr/share/doc/git/README",
            "usr/share/doc/libc6/copyright",
            "etc/bash_completion.d/git",
            "etc/protocols",
            "app/main.py",
        ];
        let mut entries: Vec<(&str, Node)> = paths.iter().map(|path| (*path, file(1))).collect();
        entries.push(("bin", Node::Symlink(b"usr/bin".to_vec())));
        entries.push(("usr/bin/sh", Node::Symlink(b"dash".to_vec())));
        entries.push(("usr/local/bin/python3", Node::Symlink(b"python3.10".to_vec())));
        let scripts = scripts.iter().map(|(path, line)| (path.as_bytes().to_vec(), line.as_bytes().to_vec())).collect();
        let layers = [layer(entries, Contents { scripts, ..Contents::default() })];
        let stack = Stack::new(layers.iter().map(|layer| layer.index.clone()).collect());
        let files: HashMap<&[u8], u64> = paths.iter().map(|path| (path.as_bytes(), 1)).collect();
        let packages = [
            package("gcc", &["usr/bin/gcc-12", "usr/lib/gcc/x86_64-linux-gnu/12/liblto_plugin.so"], false),
            package("libc", &["usr/lib/x86_64-linux-gnu/libc.so.6", "usr/share/doc/libc6/copyright"], false),
            package("libc-bin", &["usr/bin/ldd"], true),
            package("git", &["usr/bin/git", "usr/share/doc/git/README", "etc/bash_completion.d/git"], false),
            package("netbase", &["etc/protocols"], false),
            package("perl", &["usr/bin/perl", "usr/share/perl/5.36/strict.pm"], false),
        ];
        let found = unreached(config, &layers, &stack, &files, &packages, &[])?;
        Some((found.command, found.groups.into_iter().map(|share| share.name).collect()))
    }

    #[test]
    fn what_the_command_leads_to_is_not_named() {
        let words = |list: &[&str]| Some(list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        let config = |entrypoint: &[&str], cmd: &[&str]| Config {
            entrypoint: words(entrypoint),
            cmd: words(cmd),
            working_dir: Some("/app".into()),
            ..Config::default()
        };
        let python = [("usr/local/bin/uvicorn", "/usr/local/bin/python3")];
        let shell = [("usr/local/bin/uvicorn", "/bin/sh")];
        let perl = [("usr/local/bin/uvicorn", "/usr/bin/env perl")];
        let all = ["gcc", "git", "perl", "documentation", "tests of Python's standard library"];
        let rest = &all[3..];
        for (name, config, scripts, command, groups) in [
            ("exec form", config(&[], &["uvicorn", "main:app"]), &python[..], 2, &all[..]),
            ("shell form", config(&[], &["/bin/sh", "-c", "exec uvicorn main:app"]), &python, 3, &all),
            ("a shell script starts anything", config(&["uvicorn"], &[]), &shell, 2, rest),
            ("a program that is named", config(&["uvicorn"], &["git"]), &python, 3, &["gcc", "perl", all[3], all[4]]),
            ("another interpreter", config(&["uvicorn"], &[]), &perl, 2, &["gcc", "git", all[3], all[4]]),
        ] {
            let (programs, mut found) = told(&config, scripts).unwrap();
            assert_eq!(programs.len(), command, "{name}: {programs:?}");
            found.sort_by_key(|name| (rest.contains(&name.as_str()), name.clone()));
            assert_eq!(found, groups, "{name}");
        }
        assert_eq!(told(&config(&["missing"], &[]), &python), None);
        assert_eq!(told(&Config::default(), &python), None);
    }
}
