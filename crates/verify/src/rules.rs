//! The rules by name: what each says, how bad it usually is, and which part of the image it is about.
//!
//! Data only; `docs/verify.md` is written from it. The checks themselves are in the modules of their subjects.

use std::sync::LazyLock;

use crate::finding::Level;

/// What a finding is about, where it is not about a file of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// ENTRYPOINT and CMD.
    Command,
    /// USER
    User,
    /// WORKDIR
    Workdir,
    /// HEALTHCHECK
    Healthcheck,
    /// Its file.
    File,
}

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its stable name.
    pub name: &'static str,
    /// The worst that its findings are.
    pub level: Level,
    /// What they are about.
    pub about: About,
    /// One sentence: upper case, no period.
    pub description: &'static str,
}

const fn rule(name: &'static str, level: Level, about: About, description: &'static str) -> Rule {
    Rule { name, level, about, description }
}

/// All rules.
pub const RULES: &[Rule] = &[
    rule(
        "CommandNotFound",
        Level::Error,
        About::Command,
        "What ENTRYPOINT or CMD starts is not in the image, or not on PATH",
    ),
    rule("CommandNotExecutable", Level::Error, About::Command, "The final user may not execute the command"),
    rule(
        "CommandNotReachable",
        Level::Error,
        About::Command,
        "The final user may not enter a directory that leads to the command",
    ),
    rule(
        "InterpreterNotFound",
        Level::Error,
        About::File,
        "The interpreter that a script's first line names is not in the image",
    ),
    rule(
        "BadShebang",
        Level::Error,
        About::File,
        "The kernel cannot follow a script's first line: Windows line ends, too long, no interpreter",
    ),
    rule("NoInterpreter", Level::Error, About::File, "The command is neither a program nor a script with a `#!` line"),
    rule("NoCommand", Level::Note, About::Command, "The image has neither ENTRYPOINT nor CMD"),
    rule("UnknownUser", Level::Error, About::User, "USER names somebody whom the image does not know"),
    rule("LoaderNotFound", Level::Error, About::File, "The loader that a program names is not in the image"),
    rule(
        "WrongLibc",
        Level::Error,
        About::File,
        "A program or library is built for glibc and the image is of musl, or the other way round",
    ),
    rule("WrongMachine", Level::Error, About::File, "A program or library is built for another processor"),
    rule(
        "LibraryNotFound",
        Level::Error,
        About::File,
        "A shared library that will be asked for is not where the loader looks",
    ),
    rule(
        "LibraryNotCached",
        Level::Error,
        About::File,
        "A shared library was copied, but the loader's cache was not renewed",
    ),
    rule(
        "SymbolVersionNotFound",
        Level::Error,
        About::File,
        "A shared library is older than what was linked against it",
    ),
    rule(
        "PythonFileNotFound",
        Level::Error,
        About::Command,
        "A file that Python is to run or read is not in the image",
    ),
    rule(
        "PythonTargetNotFound",
        Level::Error,
        About::Command,
        "The module that the command names is not where Python looks",
    ),
    rule(
        "PythonAttributeNotFound",
        Level::Error,
        About::File,
        "The module is there and does not bind the name that the command asks for",
    ),
    rule("PythonModuleNotFound", Level::Error, About::File, "A module that is imported is not in the image"),
    rule("PythonNameNotFound", Level::Error, About::File, "A name that is imported from a module is not bound there"),
    rule(
        "PythonRelativeImport",
        Level::Error,
        About::File,
        "A relative import leads out of its package, or stands in a file that is no package's",
    ),
    rule(
        "PythonImportCycle",
        Level::Error,
        About::File,
        "Two modules import each other, and one takes a name that is not bound yet",
    ),
    rule("PythonSyntaxError", Level::Error, About::File, "A source file is no Python"),
    rule("PythonSyntaxTooNew", Level::Error, About::File, "A source file needs a newer Python than the image has"),
    rule(
        "PythonVersionMismatch",
        Level::Error,
        About::File,
        "Packages were installed for another Python than the image has",
    ),
    rule(
        "PythonOtherVersion",
        Level::Error,
        About::File,
        "A package that is needed lies where only another Python looks",
    ),
    rule(
        "PythonExtensionMismatch",
        Level::Error,
        About::File,
        "An extension module is built for another Python, processor or C library",
    ),
    rule("PythonWheelMismatch", Level::Error, About::File, "A wheel is for another Python, processor or C library"),
    rule(
        "PythonRequirementMissing",
        Level::Warning,
        About::File,
        "A distribution asks for another that is not installed",
    ),
    rule(
        "PythonRequirementVersion",
        Level::Warning,
        About::File,
        "A distribution asks for another version of one that is installed",
    ),
    rule("PythonRecordIncomplete", Level::Warning, About::File, "Files of an installed distribution are missing"),
    rule(
        "PythonRecordChanged",
        Level::Note,
        About::File,
        "Files of an installed distribution have another size than it recorded",
    ),
    rule(
        "PythonPathLost",
        Level::Warning,
        About::File,
        "A `.pth` file or editable install leads to a directory that is not in the image",
    ),
    rule(
        "PythonConsoleScriptMissing",
        Level::Error,
        About::Command,
        "The command is a distribution's script, and only its modules were carried over",
    ),
    rule("PythonScriptsMissing", Level::Note, About::File, "Scripts of installed distributions were not carried over"),
    rule("RunsAsRoot", Level::Note, About::User, "The image runs as root"),
    rule(
        "SignalsMayBeSwallowed",
        Level::Note,
        About::Command,
        "A shell stands between the engine's signals and the command",
    ),
    rule("DevelopmentServer", Level::Note, About::Command, "The command starts a server with `--reload`"),
    rule("BoundToLoopback", Level::Note, About::Command, "The server listens on loopback only"),
    rule("HealthcheckFails", Level::Note, About::Healthcheck, "HEALTHCHECK starts what is not in the image"),
    rule("WorkdirNotWritable", Level::Note, About::Workdir, "The final user may not write to the working directory"),
];

/// The rules about secrets, whose table is [`crate::secrets::RULES`].
static SECRETS: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let about = crate::secrets::RULES.iter();
    about.map(|secret| rule(secret.name, secret.level, About::File, secret.what)).collect()
});

/// The rule with a name.
pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().chain(SECRETS.iter()).find(|rule| rule.name == name)
}

/// Whether a rule is about something that must not be given away, rather than about whether the image runs.
pub fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|rule| rule.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/verify.md` has one line for each rule, in this order. `KUZ_BLESS=1` writes them anew.
    #[test]
    fn the_document_lists_the_rules() {
        let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/verify.md");
        let text = std::fs::read_to_string(document).unwrap();
        let row = |rule: &Rule| format!("| `{}` | {} | {} |", rule.name, rule.level.name(), rule.description);
        let wanted: Vec<String> = RULES.iter().map(row).collect();
        let listed: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
        if std::env::var_os("KUZ_BLESS").is_some() && listed != wanted {
            let head = "|---|---|---|\n";
            let (before, after) = text.split_once(head).unwrap();
            let rest: Vec<&str> = after.lines().skip_while(|line| line.starts_with("| `")).collect();
            let made = format!("{before}{head}{}\n{}\n", wanted.join("\n"), rest.join("\n"));
            std::fs::write(document, made).unwrap();
            return;
        }
        assert_eq!(listed, wanted, "run the tests once with KUZ_BLESS=1");
    }

    #[test]
    fn names_are_unique() {
        for (at, rule) in RULES.iter().enumerate() {
            assert!(RULES[..at].iter().all(|other| other.name != rule.name), "{}", rule.name);
        }
    }
}
