//! `# syntax=`: whether what it names is the language that's read here.
//!
//! The directive's value (or that of the build argument `BUILDKIT_SYNTAX`) in, a diagnostic out. No frontend is ever
//! fetched or run: this program reads the language itself.

use crate::ast::{Dockerfile, Kind};
use crate::diagnostic::Diagnostic;
use crate::directive::first_word;
use crate::span::Span;

/// The language that is read here is that of `docker/dockerfile:1.26`.
pub const IMPLEMENTED: (u32, u32) = (1, 26);

/// What a `# syntax=` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frontend {
    /// The Dockerfile language, of a version if one is pinned.
    Dockerfile {
        /// Major and, where given, minor.
        version: Option<(u32, Option<u32>)>,
        /// With experimental parts.
        labs: bool,
    },
    /// A program of its own.
    Foreign(String),
}

impl Frontend {
    /// Reads an image name as `# syntax=` has it.
    pub fn of(value: &str) -> Self {
        let value = first_word(value.trim());
        let name = value.split_once('@').map_or(value, |(name, _)| name);
        let after_slash = name.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match name[after_slash..].split_once(':') {
            Some((last, tag)) => (&name[..after_slash + last.len()], tag),
            None => (name, ""),
        };
        let ours = |known: &str| path == known || path.strip_suffix(known).is_some_and(|rest| rest.ends_with('/'));
        if path != "dockerfile.v0" && !ours("docker/dockerfile") && !ours("docker/dockerfile-upstream") {
            return Self::Foreign(value.to_owned());
        }
        let (number, channel) = tag.split_once('-').unwrap_or((tag, ""));
        let mut parts = number.split('.').map(str::parse::<u32>);
        let version = parts.next().and_then(Result::ok).map(|major| (major, parts.next().and_then(Result::ok)));
        let labs = [number, channel].iter().any(|word| matches!(*word, "labs" | "experimental"));
        Self::Dockerfile { version, labs }
    }
}

/// What the file (or the build argument) asks for, and where.
fn asked<'f>(file: &'f Dockerfile, instead: Option<&'f str>) -> Option<(&'f str, Span)> {
    let directive = file.directives.syntax.as_ref();
    let span = directive.map_or(Span::default(), |word| word.span);
    instead.or(directive.map(|word| word.value.as_str())).map(|value| (value, span))
}

/// An error where the file is to be read by something else than this program. `instead` is `BUILDKIT_SYNTAX`.
pub fn check_frontend(file: &Dockerfile, instead: Option<&str>) -> Result<(), Diagnostic> {
    let Some((value, span)) = asked(file, instead) else { return Ok(()) };
    match Frontend::of(value) {
        Frontend::Dockerfile { .. } => Ok(()),
        Frontend::Foreign(name) => {
            let message = format!(
                "the file is to be read by the frontend `{}`, which is a program of its own",
                name.escape_debug()
            );
            let hint = "kuz reads Dockerfiles itself and runs no frontends; if this is an ordinary Dockerfile, remove the line";
            Err(Diagnostic::error("ForeignFrontend", span, message).hint(hint))
        }
    }
}

/// Warnings about the version: rule, place, message and hint.
pub(crate) fn warnings(file: &Dockerfile, instead: Option<&str>) -> Vec<(&'static str, Span, String, String)> {
    let mut found = Vec::new();
    let mut with_labs = false;
    if let Some((value, span)) = asked(file, instead)
        && let Frontend::Dockerfile { version, labs } = Frontend::of(value)
    {
        with_labs = labs;
        let newer = version.is_some_and(|(major, minor)| (major, minor.unwrap_or(0)) > IMPLEMENTED);
        if newer {
            let (major, minor) = IMPLEMENTED;
            let message = format!("the file asks for `{}`, and this version reads {major}.{minor}", first_word(value));
            found.push(("NewerSyntax", span, message, "what came after it is an error here, never ignored".to_owned()));
        }
    }
    for instruction in &file.instructions {
        let Kind::Run(run) = &instruction.kind else { continue };
        if let Some(device) = run.devices.first().filter(|_| !with_labs) {
            let message = "`RUN --device` is experimental, and not in the syntax that this file asks for".to_owned();
            found.push((
                "LabsSyntax",
                device.span,
                message,
                "begin the file with # syntax=docker/dockerfile:1-labs".to_owned(),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frontends() {
        let ours = |version, labs| Frontend::Dockerfile { version, labs };
        for (value, expected) in [
            ("docker/dockerfile", ours(None, false)),
            ("docker/dockerfile:1", ours(Some((1, None)), false)),
            ("docker/dockerfile:1.7-labs", ours(Some((1, Some(7))), true)),
            ("docker.io/docker/dockerfile:1.20.0", ours(Some((1, Some(20))), false)),
            ("mirror.example:5000/hub/docker/dockerfile-upstream:master-labs", ours(None, true)),
            ("docker/dockerfile:1.4@sha256:00 --flag", ours(Some((1, Some(4))), false)),
            ("docker/dockerfile:experimental", ours(None, true)),
            ("dockerfile.v0", ours(None, false)),
            ("example/mockerfile:1", Frontend::Foreign("example/mockerfile:1".to_owned())),
            ("notdocker/dockerfile", Frontend::Foreign("notdocker/dockerfile".to_owned())),
        ] {
            assert_eq!(Frontend::of(value), expected, "{value}");
        }
    }

    #[test]
    fn foreign_frontends_are_refused() {
        for (source, instead, refused) in [
            ("# syntax=a/b\nFROM x", None, true),
            ("# syntax=a/b\nFROM x", Some("dockerfile.v0"), false),
            ("# syntax=docker/dockerfile:1\nFROM x", Some("a/b"), true),
            ("// syntax=a/b\n{}", None, true),
            ("FROM x", None, false),
        ] {
            let file = crate::parse(source.as_bytes()).file;
            assert_eq!(check_frontend(&file, instead).is_err(), refused, "{source}");
        }
    }
}
