//! Words to files: PATH, links, permissions and `#!` lines, as the kernel and the shells go about them.
//!
//! Collects findings and the programs that are started. A path that a mount may hide, and words that a shell has yet to
//! expand, are claimed nothing about.

use std::collections::BTreeMap;

use kuz_image::index::join;

use super::shell::{self, Simple, Word};
use super::words::{Line, base, split};
use super::{DEFAULT_PATH, advice};
use crate::access::{self, Place, Who, Wish};
use crate::facts::Path;
use crate::finding::{Advice, Finding, Level};
use crate::python::Argv;
use crate::subject::{Subject, show};

/// Interpreters of interpreters: the kernel follows four.
const INTERPRETERS: usize = 4;
/// What the kernel reads of a `#!` line, its end included.
const KERNEL_LINE: usize = 255;
/// What shells do themselves.
const BUILTINS: [&str; 45] = [
    ":", ".", "[", "alias", "bg", "break", "builtin", "caller", "cd", "command", "continue", "declare", "dirs", "echo",
    "enable", "eval", "exec", "exit", "export", "false", "fg", "getopts", "hash", "jobs", "kill", "let", "local",
    "printf", "pwd", "read", "readonly", "return", "set", "shift", "shopt", "source", "test", "times", "trap", "true",
    "type", "ulimit", "umask", "unset", "wait",
];

/// Options of servers whose value is a number, an address, or a level.
const NUMBERS: [&str; 9] =
    ["port", "host", "bind", "workers", "threads", "timeout", "log-level", "concurrency", "worker-connections"];

/// Looks commands up.
pub(super) struct Resolver<'s> {
    subject: &'s Subject<'s>,
    who: Who,
    pub(super) findings: Vec<Finding>,
    pub(super) programs: Vec<Path>,
    pub(super) started: Vec<Argv>,
    /// As `started`, with those of which only numbers and addresses are not known, and those that only run on a failure.
    pub(super) all: Vec<Argv>,
    /// Something else may be started.
    pub(super) open: bool,
}

/// What a word leads to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// A file that may be executed: its real path, and its layer.
    File(Path, usize),
    /// There, but it may not be executed; where it was found.
    Refused(Path, Why),
    /// Nowhere; a link that leads nowhere, if that is why.
    Nothing(Option<(Path, Path)>),
    Unknown,
}

/// Why a file may not be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    Mode,
    Directory,
    Closed(Path),
}

/// Where words are looked up.
#[derive(Debug, Clone)]
struct Where {
    path: Option<String>,
    cwd: Option<String>,
}

impl<'s> Resolver<'s> {
    pub(super) fn new(subject: &'s Subject<'s>, who: Who) -> Self {
        Self {
            subject,
            who,
            findings: Vec::new(),
            programs: Vec::new(),
            started: Vec::new(),
            all: Vec::new(),
            open: false,
        }
    }

    /// The command line of the image.
    pub(super) fn argv(&mut self, argv: &[String]) {
        let path = self.subject.variable("PATH").unwrap_or(DEFAULT_PATH).to_owned();
        let place = Where { path: Some(path), cwd: Some(self.subject.workdir().to_owned()) };
        self.words(argv, &place);
    }

    fn words(&mut self, argv: &[String], place: &Where) {
        match split(argv) {
            Line::Programs(programs) => {
                if let Some(last) = programs.last() {
                    let argv = self.started(last, place, &[]);
                    self.open |= argv.is_none();
                    self.all.extend(argv.clone());
                    self.started.extend(argv);
                }
                for words in programs {
                    if let Some(word) = words.first().filter(|word| word.as_str() != "exec") {
                        self.command(word, place, false);
                    }
                }
            }
            Line::Shell { shell, line, login } => {
                if let Found::Nothing(None) = self.find(shell, place) {
                    let message = format!("the command's shell `{}` is not in the image", shell.escape_debug());
                    let advice = without_shell(line);
                    self.findings.push(Finding::new("CommandNotFound", Level::Error, message).advise(Some(advice)));
                } else {
                    self.command(shell, place, false);
                }
                let path = place.path.clone().filter(|_| !login);
                self.line(line, Where { path, cwd: place.cwd.clone() });
            }
        }
    }

    /// A shell's line, command by command.
    fn line(&mut self, line: &str, mut place: Where) {
        let Some(commands) = shell::parse(line) else {
            self.open = true;
            return;
        };
        for simple in commands {
            if simple.words.is_empty() && simple.assignments.iter().any(sets_path) {
                place.path = None;
            }
            self.simple(&simple, &mut place);
        }
    }

    fn simple(&mut self, simple: &Simple, place: &mut Where) {
        let mut words: &[Word] = &simple.words;
        // `exec` and `command` run what follows their options.
        while let Some((first, rest)) = words.split_first() {
            if !first.literal || !matches!(first.text.as_str(), "exec" | "command" | "builtin") {
                break;
            }
            let options = rest.iter().take_while(|word| word.text.starts_with('-')).count();
            // `command -v` only asks, and `exec -a` takes a name.
            if options > 0 {
                self.open = true;
                return;
            }
            words = rest;
        }
        let Some(first) = words.first().filter(|word| word.literal) else {
            self.open |= !words.is_empty();
            return;
        };
        if BUILTINS.contains(&first.text.as_str()) {
            // What these run is not to be seen.
            self.open |= matches!(first.text.as_str(), "." | "source" | "eval" | "trap");
            change(first, words, place);
            return;
        }
        let path = if simple.assignments.iter().any(sets_path) { None } else { place.path.clone() };
        let here = Where { path, cwd: place.cwd.clone() };
        match self.any(words, &here, &simple.assignments) {
            Some(argv) => self.all.push(argv),
            None => self.open = true,
        }
        if !simple.certain {
            return;
        }
        // A wrapper's words are followed only where the shell changes none of them.
        let literal = words.iter().take_while(|word| word.literal).map(|word| word.text.clone()).collect::<Vec<_>>();
        match split(&literal) {
            Line::Programs(programs) => {
                if let Some(last) = programs.last().filter(|_| literal.len() == words.len()) {
                    let argv = self.started(last, &here, &simple.assignments);
                    self.started.extend(argv);
                }
                for words in programs {
                    if let Some(word) = words.first() {
                        self.command(word, &here, true);
                    }
                }
            }
            Line::Shell { shell, .. } => self.command(shell, &here, true),
        }
    }

    /// What is started with which words, if that is known.
    fn started(&self, words: &[String], place: &Where, assignments: &[Word]) -> Option<Argv> {
        let cwd = place.cwd.clone().filter(|_| place.path.is_some())?;
        let mut env: BTreeMap<String, String> = self.subject.variables();
        for assignment in assignments {
            // What a shell has yet to expand is not known, and neither is what comes of it.
            let (name, value) = assignment.text.split_once('=').filter(|_| assignment.literal)?;
            env.insert(name.to_owned(), value.to_owned());
        }
        Some(Argv { argv: words.to_vec(), cwd, env })
    }

    /// The same, where words may also be numbers and addresses that are not known.
    fn any(&self, words: &[Word], place: &Where, assignments: &[Word]) -> Option<Argv> {
        let mut before = "";
        for word in words {
            if !word.literal && !is_number(before, &word.text) {
                return None;
            }
            before = &word.text;
        }
        let all: Vec<String> = words.iter().map(|word| word.text.clone()).collect();
        match split(&all) {
            Line::Programs(programs) => self.started(programs.last()?, place, assignments),
            Line::Shell { .. } => None,
        }
    }

    /// One command by its word. A shell runs a script without a `#!` line itself.
    fn command(&mut self, word: &str, place: &Where, in_shell: bool) {
        match self.find(word, place) {
            Found::Unknown => {}
            Found::File(path, layer) => self.follow(&path, layer, place, in_shell, 0),
            Found::Refused(path, why) => self.refused(word, &path, &why),
            Found::Nothing(link) => self.missing(word, link, place, in_shell),
        }
    }

    /// What a word means on PATH, or as a path.
    fn find(&self, word: &str, place: &Where) -> Found {
        if word.is_empty() {
            return Found::Unknown;
        }
        if word.contains('/') {
            let path = match (&place.cwd, word.starts_with('/')) {
                (_, true) => word.as_bytes().to_vec(),
                (Some(cwd), false) => join(cwd.as_bytes(), word.as_bytes()),
                (None, false) => return Found::Unknown,
            };
            return self.file(&path);
        }
        let Some(list) = &place.path else { return Found::Unknown };
        let mut first_refused = None;
        let mut link = None;
        for directory in list.split(':') {
            let directory = if directory.is_empty() { "." } else { directory };
            let directory = match &place.cwd {
                _ if directory.starts_with('/') => directory.to_owned(),
                Some(cwd) => format!("{cwd}/{directory}"),
                None => return Found::Unknown,
            };
            match self.file(&join(directory.as_bytes(), word.as_bytes())) {
                Found::Refused(_, Why::Directory) => {}
                Found::Refused(path, why) => {
                    first_refused.get_or_insert((path, why));
                }
                Found::Nothing(found) => link = link.or(found),
                other => return other,
            }
        }
        // A directory of PATH that is itself closed or missing says nothing about the word.
        match first_refused {
            Some((path, Why::Closed(_))) if self.subject.at(&path).is_none() => Found::Nothing(link),
            Some((path, why)) => Found::Refused(path, why),
            None => Found::Nothing(link),
        }
    }

    fn file(&self, path: &[u8]) -> Found {
        match access::look(self.subject, &self.who, path) {
            Place::File(real, layer) => {
                let executable = self.subject.stack.get(&real).is_some_and(|entry| self.who.may(entry, Wish::Execute));
                if executable { Found::File(real, layer) } else { Found::Refused(real, Why::Mode) }
            }
            Place::Dir(real) => Found::Refused(real, Why::Directory),
            Place::Nothing(link) => Found::Nothing(link),
            Place::Closed(directory) => Found::Refused(path.to_vec(), Why::Closed(directory)),
            Place::Unknown => Found::Unknown,
        }
    }

    /// What the kernel makes of an executable file.
    fn follow(&mut self, path: &Path, layer: usize, place: &Where, in_shell: bool, depth: usize) {
        if let Some(line) = self.subject.fact(path, |facts| &facts.shebangs) {
            self.script(path, layer, &line.clone(), place, depth);
        } else if self.subject.fact(path, |facts| &facts.elf).is_some() {
            if !self.programs.contains(path) {
                self.programs.push(path.clone());
            }
        } else if !in_shell {
            let message =
                format!("`{}` is neither a program nor begins with `#!`: the kernel cannot start it", show(path));
            let advice =
                Advice::text("begin it with a line such as `#!/bin/sh`, or name its interpreter in the command");
            self.findings
                .push(Finding::new("NoInterpreter", Level::Error, message).at(path, Some(layer)).advise(Some(advice)));
        }
    }

    /// A script's first line, and the interpreter that it names.
    fn script(&mut self, path: &Path, layer: usize, line: &[u8], place: &Where, depth: usize) {
        let name = show(path);
        let bad = |message: String, advice: Advice| {
            Finding::new("BadShebang", Level::Error, message).at(path, Some(layer)).advise(Some(advice))
        };
        if line.contains(&b'\r') {
            let message = format!(
                "`{name}` has Windows line ends: its first line asks for an interpreter whose name ends in a carriage return"
            );
            let advice = self.run("convert its line ends", format!("RUN sed -i 's/\\r$//' {name}"));
            return self.findings.push(bad(message, advice));
        }
        let text = String::from_utf8_lossy(line).into_owned();
        let mut words = text.trim_matches([' ', '\t']).splitn(2, [' ', '\t']);
        let interpreter = words.next().unwrap_or_default().to_owned();
        let argument = words.next().map(|rest| rest.trim_matches([' ', '\t']).to_owned());
        // `#!` and the line's end are read too.
        if interpreter.is_empty() || interpreter.len() + 2 > KERNEL_LINE {
            let what = if interpreter.is_empty() { "names no interpreter" } else { "is longer than the kernel reads" };
            let message = format!("the first line of `{name}` {what}");
            return self.findings.push(bad(message, Advice::text("begin it with a line such as `#!/bin/sh`")));
        }
        if depth >= INTERPRETERS {
            let message = format!("`{name}` is a script for a script: the kernel follows no more than {INTERPRETERS}");
            return self.findings.push(bad(message, Advice::text("name the last interpreter in its first line")));
        }
        // The kernel takes a relative interpreter from the working directory.
        let at = if interpreter.contains('/') { interpreter.clone() } else { format!("./{interpreter}") };
        match self.find(&at, place) {
            Found::File(real, layer) => self.follow(&real, layer, place, false, depth + 1),
            Found::Unknown => return,
            Found::Refused(real, why) => return self.refused(&interpreter, &real, &why),
            Found::Nothing(_) => {
                let message = format!("`{name}` is run by `{interpreter}`, which is not in the image");
                let advice = advice::interpreter(self.subject, &interpreter);
                let finding = Finding::new("InterpreterNotFound", Level::Error, message);
                return self.findings.push(finding.at(path, Some(layer)).advise(Some(advice)));
            }
        }
        if base(&interpreter) == "env"
            && let Some(argument) = argument
        {
            self.env(path, layer, &argument, place);
        }
    }

    /// `#!/usr/bin/env NAME`: what env starts.
    fn env(&mut self, path: &Path, layer: usize, argument: &str, place: &Where) {
        let split_words = argument.strip_prefix("-S").or_else(|| argument.strip_prefix("--split-string="));
        let Some(text) = split_words.or(Some(argument).filter(|text| !text.contains([' ', '\t']))) else {
            // All that follows is one word, in which env finds no program.
            let name = show(path);
            let message = format!("the first line of `{name}` gives env the one word `{}`", argument.escape_debug());
            let advice = Advice::text("write `env -S` where there are several words");
            let finding = Finding::new("BadShebang", Level::Error, message).at(path, Some(layer)).advise(Some(advice));
            return self.findings.push(finding);
        };
        let mut words = text.split_whitespace().skip_while(|word| word.contains('='));
        let Some(word) = words.next().filter(|word| !word.starts_with('-')) else { return };
        match self.find(word, place) {
            Found::File(real, layer) => self.follow(&real, layer, place, true, 1),
            Found::Unknown => {}
            Found::Refused(real, why) => self.refused(word, &real, &why),
            Found::Nothing(_) => {
                let message = format!("`{}` is run by `{word}`, which is not in the image", show(path));
                let advice = advice::command(self.subject, word);
                let finding = Finding::new("InterpreterNotFound", Level::Error, message);
                self.findings.push(finding.at(path, Some(layer)).advise(Some(advice)));
            }
        }
    }

    /// A step that mends something, where the image has a shell for it.
    fn run(&self, text: &str, line: String) -> Advice {
        if self.subject.has_file(b"bin/sh") { Advice::line(text, line) } else { Advice::text(text) }
    }

    fn refused(&mut self, word: &str, path: &Path, why: &Why) {
        let name = show(path);
        let word = word.escape_debug();
        let user = self.subject.config.config.user.as_deref().filter(|user| !user.is_empty()).unwrap_or("root");
        let user = user.escape_debug();
        let (rule, message, advice) = match why {
            Why::Directory => (
                "CommandNotExecutable",
                format!("the command `{word}` is a directory (`{name}`)"),
                Advice::text("name a file in it"),
            ),
            Why::Mode => (
                "CommandNotExecutable",
                format!("the command `{word}` (`{name}`) may not be executed by {user}"),
                self.run("give it the permission (`COPY --chmod=755`, or later)", format!("RUN chmod a+rx {name}")),
            ),
            Why::Closed(directory) => {
                let directory = show(directory);
                (
                    "CommandNotReachable",
                    format!("the command `{word}` lies below `{directory}`, which {user} may not enter"),
                    self.run("open the directory", format!("RUN chmod a+rx {directory}")),
                )
            }
        };
        let layer = self.subject.stack.find(path).map(|(layer, _)| layer);
        self.findings.push(Finding::new(rule, Level::Error, message).at(path, layer).advise(Some(advice)));
    }

    fn missing(&mut self, word: &str, link: Option<(Path, Path)>, place: &Where, in_shell: bool) {
        let shown = word.escape_debug();
        if let Some((from, to)) = link {
            let (layer, _) = self.subject.stack.find(&from).unzip();
            let target = String::from_utf8_lossy(&to).escape_debug().to_string();
            let message = format!("the command `{shown}` is a link to `{target}`, which is not in the image");
            let absolute = if to.first() == Some(&b'/') { to } else { join(crate::elf::search::parent(&from), &to) };
            let target = show(&crate::elf::search::plain(&absolute));
            let finding = Finding::new("CommandNotFound", Level::Error, message).at(&from, layer);
            return self.findings.push(finding.advise(Some(advice::file(self.subject, &target))));
        }
        let (message, advice) = if word.contains('/') {
            let cwd = place.cwd.as_deref().unwrap_or("/");
            let path =
                if word.starts_with('/') { word.to_owned() } else { format!("{}/{word}", cwd.trim_end_matches('/')) };
            let path = show(&crate::elf::search::plain(path.as_bytes()));
            let what = if path == word { String::new() } else { format!(" (`{path}`)") };
            (format!("the command `{shown}`{what} is not in the image"), advice::file(self.subject, &path))
        } else {
            (format!("the command `{shown}` is not in the image"), advice::command(self.subject, word))
        };
        let advice = if !in_shell && word.contains([' ', '\t']) { advice::one_word(word) } else { advice };
        self.findings.push(Finding::new("CommandNotFound", Level::Error, message).advise(Some(advice)));
    }
}

/// What a line needs of its shell: nothing, if it is one command of plain words.
fn without_shell(line: &str) -> Advice {
    let simple = shell::parse(line).unwrap_or_default();
    let one = match simple.as_slice() {
        [one] if one.assignments.is_empty() && one.words.iter().all(|word| word.literal) => one,
        _ => return advice::no_shell(None),
    };
    let words: Vec<&str> = one.words.iter().map(|word| word.text.as_str()).skip_while(|word| *word == "exec").collect();
    let builtin = words.first().is_none_or(|first| BUILTINS.contains(first));
    advice::no_shell(Some(words.as_slice()).filter(|_| !builtin))
}

/// Whether a word that a shell has yet to expand is a number or an address, by the option that it belongs to or stands in.
fn is_number(before: &str, word: &str) -> bool {
    let of_option = |word: &str| {
        let name = word.trim_start_matches('-');
        word.starts_with('-') && (NUMBERS.contains(&name) || matches!(word, "-b" | "-p" | "-w" | "-t"))
    };
    of_option(before)
        || word.split_once('=').is_some_and(|(name, _)| of_option(name))
        || word.split_once(":$").is_some_and(|(host, _)| host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

fn sets_path(word: &Word) -> bool {
    word.text.starts_with("PATH=")
}

/// What a builtin changes about the place of the commands after it.
fn change(first: &Word, words: &[Word], place: &mut Where) {
    match first.text.as_str() {
        "cd" => {
            let target = words.get(1).filter(|word| word.literal && words.len() == 2 && !word.text.starts_with('-'));
            place.cwd = match (target, place.cwd.take()) {
                (Some(word), _) if word.text.starts_with('/') => Some(word.text.clone()),
                (Some(word), Some(cwd)) => Some(format!("{cwd}/{}", word.text)),
                _ => None,
            };
        }
        // What a sourced file or an alias does is not known.
        "." | "source" | "eval" | "alias" => *place = Where { path: None, cwd: None },
        "export" | "unset" | "declare" | "readonly"
            if words.iter().any(|word| word.text.starts_with("PATH") || !word.literal) =>
        {
            place.path = None;
        }
        _ => {}
    }
}
