//! An argument list taken apart: a shell with a line, or a program under wrappers (`tini -- env A=b gunicorn …`).
//!
//! Words only; nothing is looked up. What a wrapper does with words that are not understood is not guessed at.

/// What an argument list starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'w> {
    /// A shell that runs a line of text.
    Shell {
        /// The shell.
        shell: &'w str,
        /// The line.
        line: &'w str,
        /// It reads its own start-up files first, which may change PATH.
        login: bool,
    },
    /// Programs by name: wrappers first, then what they start, with all of its words.
    Programs(Vec<&'w [String]>),
}

/// Shells whose `-c` is a line in the language that [`super::shell`] reads.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "ksh", "zsh", "mksh"];
/// Programs that start what follows `--` or their own options; with the options that take a word.
const WRAPPERS: [(&str, &[&str]); 8] = [
    ("tini", &["-p", "-e"]),
    ("docker-init", &["-p", "-e"]),
    ("dumb-init", &["-r", "--rewrite"]),
    ("catatonit", &[]),
    ("nohup", &[]),
    ("setsid", &[]),
    ("nice", &["-n"]),
    ("exec", &["-a"]),
];
/// Programs whose first word is a user, and the rest is started.
const AS_USER: [&str; 2] = ["gosu", "su-exec"];

/// Takes an argument list apart.
pub fn split(argv: &[String]) -> Line<'_> {
    if let Some(shell) = shell(argv) {
        return shell;
    }
    let mut programs = Vec::new();
    let mut rest = argv;
    while let Some(program) = rest.first() {
        programs.push(rest);
        match inner(base(program), rest.get(1..).unwrap_or_default()) {
            Some(inner) if !inner.is_empty() => rest = inner,
            _ => break,
        }
    }
    Line::Programs(programs)
}

/// The last name of a path.
pub(crate) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What a wrapper starts, if it is one.
fn inner<'w>(program: &str, arguments: &'w [String]) -> Option<&'w [String]> {
    if program == "env" {
        return after_env(arguments);
    }
    if AS_USER.contains(&program) {
        return arguments.get(1..);
    }
    let (_, valued) = WRAPPERS.iter().find(|(name, _)| *name == program)?;
    let mut at = 0;
    while let Some(word) = arguments.get(at).filter(|word| word.starts_with('-')) {
        at += 1;
        if word == "--" {
            break;
        }
        if valued.contains(&word.as_str()) {
            at += 1;
        }
    }
    arguments.get(at..)
}

/// `env [-i] [NAME=VALUE …] program …`; an option that changes more is not followed.
fn after_env(arguments: &[String]) -> Option<&[String]> {
    let mut at = 0;
    while let Some(word) = arguments.get(at) {
        match word.as_str() {
            "-u" | "--unset" => at += 1,
            "--" | "-v" | "--debug" => {}
            word if word.starts_with("PATH=") || (word.starts_with('-') && !word.starts_with("--unset=")) => {
                return None;
            }
            word if word.starts_with('-') || word.contains('=') => {}
            _ => return arguments.get(at..),
        }
        at += 1;
    }
    None
}

fn shell(argv: &[String]) -> Option<Line<'_>> {
    let (first, mut rest) = argv.split_first()?;
    let name = base(first);
    if name == "busybox" {
        let (applet, after) = rest.split_first()?;
        rest = SHELLS.contains(&applet.as_str()).then_some(after)?;
    } else if !SHELLS.contains(&name) {
        return None;
    }
    let mut login = false;
    let mut at = 0;
    while let Some(word) = rest.get(at).filter(|word| word.starts_with(['-', '+']) && word.len() > 1) {
        at += 1;
        let letters = word.trim_start_matches(['-', '+']);
        if word.starts_with("--") {
            login |= letters == "login";
            continue;
        }
        login |= word.starts_with('-') && letters.contains(['l', 'i']);
        if letters.ends_with('o') {
            at += 1;
        }
        if word.starts_with('-') && letters.contains('c') {
            // Options may still follow the `c` before the line does.
            while rest.get(at).is_some_and(|word| word.starts_with('-') && word.len() > 1) {
                at += if rest.get(at).is_some_and(|word| word.ends_with('o')) { 2 } else { 1 };
            }
            return Some(Line::Shell { shell: first, line: rest.get(at)?, login });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(argv: &[&str]) -> String {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        match split(&argv) {
            Line::Shell { shell, line, login } => format!("{shell}{} {line}", if login { " login" } else { "" }),
            Line::Programs(programs) => programs.iter().map(|words| words[0].clone()).collect::<Vec<_>>().join(" > "),
        }
    }

    #[test]
    fn shells_and_wrappers_are_taken_apart() {
        let cases: [(&[&str], &str); 20] = [
            (&["uvicorn", "main:app"], "uvicorn"),
            (&["/bin/sh", "-c", "uvicorn main:app"], "/bin/sh uvicorn main:app"),
            (&["bash", "-euo", "pipefail", "-c", "x y"], "bash x y"),
            (&["bash", "-o", "pipefail", "-ec", "x"], "bash x"),
            (&["bash", "-lc", "x"], "bash login x"),
            (&["bash", "--login", "-c", "x"], "bash login x"),
            (&["busybox", "sh", "-c", "x"], "busybox x"),
            (&["busybox", "httpd"], "busybox"),
            (&["sh", "run.sh"], "sh"),
            (&["sh"], "sh"),
            (&["python", "-c", "print()"], "python"),
            (&["tini", "--", "a", "-x"], "tini > a"),
            (&["/usr/bin/tini", "-g", "-p", "SIGTERM", "a"], "/usr/bin/tini > a"),
            (&["tini"], "tini"),
            (&["env", "A=b", "-u", "C", "a", "b=c"], "env > a"),
            (&["env", "-S", "a b"], "env"),
            (&["env", "PATH=/x", "a"], "env"),
            (&["dumb-init", "--", "env", "A=b", "a"], "dumb-init > env > a"),
            (&["gosu", "app", "a"], "gosu > a"),
            (&["gosu"], "gosu"),
        ];
        for (argv, want) in cases {
            assert_eq!(shown(argv), want, "{argv:?}");
        }
    }
}
