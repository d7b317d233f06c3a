//! COPY, ADD and WORKDIR: paths joined, options expanded and checked, sources still symbolic.
//!
//! Which files a source matches, who `--chown` is and what a URL holds are the executor's questions.

use kuz_dockerfile::ast::{self, Heredoc, Word};
use kuz_dockerfile::{Diagnostic, Span};
use kuz_image::Digest;

use crate::expand;
use crate::path;
use crate::plan::{Copy, Inline, MakeDir, Op, Source, Step, Word as PlanWord};
use crate::redact;
use crate::steps::{Effect, Lowering};

impl Lowering<'_> {
    pub(crate) fn copy(&mut self, copy: &ast::Copy, span: Span) -> Effect {
        let (planned, dest) = self.files(copy, span)?;
        for source in &planned.sources {
            if is_url(&source.text) && !is_git(&source.text) {
                return Err(Diagnostic::error("RemoteCopySource", source.span, "source can't be a URL for COPY")
                    .hint("use ADD"));
            }
            if is_git(&source.text) {
                return Err(Diagnostic::error("RemoteCopySource", source.span, "source can't be a git ref for COPY")
                    .hint("use ADD"));
            }
        }
        let line = created_by("COPY", copy, &planned, &dest);
        Ok(Some((Op::Copy(Box::new(planned)), line)))
    }

    pub(crate) fn add(&mut self, copy: &ast::Copy, span: Span) -> Effect {
        let (planned, dest) = self.files(copy, span)?;
        if let (Some(checksum), Some(word)) = (&planned.checksum, &copy.checksum) {
            check_checksum(checksum, &planned.sources, word.span)?;
        }
        let line = created_by("ADD", copy, &planned, &dest);
        Ok(Some((Op::Add(Box::new(planned)), line)))
    }

    /// What both have in common, and the destination as it is expanded but not joined.
    fn files(&mut self, copy: &ast::Copy, span: Span) -> Result<(Copy, String), Diagnostic> {
        let from = match &copy.from {
            Some(from) if !from.value.is_empty() => self.source(&from.value, self.place(from.span))?,
            _ => Source::Context,
        };
        let chown = self.option(copy.chown.as_ref())?;
        let chmod = self.option(copy.chmod.as_ref())?;
        if let Some(mode) = &chmod {
            check_mode(mode, copy.chmod.as_ref().map_or(span, |word| word.span))?;
        }
        let checksum = self.option(copy.checksum.as_ref())?;
        let mut sources = Vec::with_capacity(copy.sources.len());
        for word in &copy.sources {
            sources.push(PlanWord { text: self.word(word)?, span: self.place(word.span) });
        }
        let dest = self.word(&copy.dest)?;
        let mut inline = Vec::with_capacity(copy.heredocs.len());
        for heredoc in &copy.heredocs {
            inline.push(Inline { name: heredoc.name.clone(), content: self.heredoc(heredoc)? });
        }
        let planned = Copy {
            from,
            sources,
            inline,
            dest: path::join_dest(&self.cwd(), &dest),
            chown,
            chmod,
            link: copy.link,
            parents: copy.parents,
            exclude: copy.exclude.iter().map(|pattern| pattern.value.clone()).collect(),
            unpack: copy.unpack,
            checksum,
            keep_git_dir: copy.keep_git_dir.unwrap_or(false),
        };
        Ok((planned, dest))
    }

    /// A file's content: variables replaced if the word is unquoted, quotes and all else kept.
    fn heredoc(&mut self, heredoc: &Heredoc) -> Result<String, Diagnostic> {
        if !heredoc.expand {
            return Ok(heredoc.content.clone());
        }
        let expanded = expand::body(&heredoc.content, heredoc.body, &self.scope.env)?;
        self.warn(&expanded.unmatched, heredoc.body);
        Ok(expanded.text)
    }

    pub(crate) fn workdir(&mut self, word: &Word) -> Effect {
        let written = self.word(word)?;
        let path = path::join(&self.cwd(), &written);
        // As BuildKit has it, an absolute path stays as written in the configuration, up to a slash at its end.
        let kept = if written.starts_with('/') { written } else { path.clone() };
        let line = format!("WORKDIR {kept}");
        self.config_mut().working_dir = Some(kept);
        let op = if path == "/" { Op::Nothing } else { Op::MakeDir(MakeDir { path, user: self.user() }) };
        Ok(Some((op, line)))
    }

    /// FROM a `--build-context` that is a directory: its files are the base.
    pub(crate) fn take_directory(&mut self, name: &str, span: Span) {
        let from = Source::Named(name.to_owned());
        let copy = Copy::plain(from, PlanWord { text: "/".to_owned(), span }, "/");
        let op = Op::Copy(Box::new(copy));
        self.push(Step { op, span, text: format!("FROM {name}"), created_by: "COPY / / # buildkit".to_owned() });
    }
}

/// `COPY --chown=u a b /dest/ # buildkit`: the destination as written, flags that BuildKit shows.
fn created_by(keyword: &str, copy: &ast::Copy, planned: &Copy, dest: &str) -> String {
    let mut words = vec![keyword.to_owned()];
    words.extend(copy.parents.then(|| "--parents".to_owned()));
    words.extend(planned.chown.as_ref().map(|owner| format!("--chown={owner}")));
    words.extend(planned.chmod.as_ref().map(|mode| format!("--chmod={mode}")));
    words.extend(planned.sources.iter().map(|source| redact::addresses(&source.text).into_owned()));
    words.extend(planned.inline.iter().map(|file| format!("<<{}", file.name)));
    words.push(dest.to_owned());
    format!("{} # buildkit", words.join(" "))
}

/// `http://` and `https://`.
pub(crate) fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// Whether ADD takes a source for a git repository: by its scheme, as `user@host:path`, or a URL whose path ends in `.git`.
pub fn is_git(source: &str) -> bool {
    // `git@` is nobody's file, whatever follows: what is wrong with it is said as of an address.
    if ["git://", "ssh://", "git@"].iter().any(|start| source.starts_with(start)) || is_scp(source) {
        return true;
    }
    let path = source.split(['#', '?']).next().unwrap_or(source);
    is_url(source) && path.strip_suffix(".git").is_some()
}

/// `user@host:path`
fn is_scp(source: &str) -> bool {
    let part = |text: &str, more: char| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || char::from(b) == more)
    };
    let halves = source.split_once('@').and_then(|(user, rest)| Some((user, rest.split_once(':')?.0)));
    halves.is_some_and(|(user, host)| part(user, '_') && part(host, '.'))
}

fn check_checksum(checksum: &str, sources: &[PlanWord], span: Span) -> Result<(), Diagnostic> {
    let error = |message: &str| {
        Err(Diagnostic::error("InvalidChecksum", span, message)
            .hint("write --checksum=sha256:… and the 64 digits that `sha256sum` prints, with one URL; of a repository its commit"))
    };
    let [source] = sources else { return error("checksum can't be specified for multiple sources") };
    if is_git(&source.text) {
        return Ok(());
    }
    if !is_url(&source.text) {
        return error("checksum requires HTTP(S) or Git sources");
    }
    match checksum.split_once(':') {
        None | Some(("" | "sha256" | "sha512", _)) if checksum.parse::<Digest>().is_err() => {
            error("invalid checksum digest format")
        }
        Some((algorithm, _)) if !matches!(algorithm, "sha256" | "sha512") => error("unsupported digest algorithm"),
        _ => Ok(()),
    }
}

/// Octal up to 07777, or symbolic as chmod(1) takes it (`u=rwX,go=rX`).
fn check_mode(mode: &str, span: Span) -> Result<(), Diagnostic> {
    let octal = u32::from_str_radix(mode, 8).is_ok_and(|bits| bits <= 0o7777) && !mode.starts_with('+');
    if octal || mode.split(',').all(is_symbolic) {
        return Ok(());
    }
    let message = format!("invalid chmod parameter: '{mode}'. it should be octal string and between 0 and 07777");
    Err(Diagnostic::error("InvalidChmod", span, message).hint("or symbolic, for example u=rwX,go=rX"))
}

/// `[ugoa]*([-+=][rwxXst]*|[-+=][ugo])+`
fn is_symbolic(clause: &str) -> bool {
    let rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    let mut actions = rest.split_inclusive(['+', '-', '=']).peekable();
    // The split leaves each operator at the end of the part before it: the first must be an operator alone.
    if !matches!(actions.next(), Some("+" | "-" | "=")) {
        return false;
    }
    actions.all(|part| {
        let bits = part.trim_end_matches(['+', '-', '=']);
        bits.chars().all(|bit| "rwxXst".contains(bit)) || matches!(bits, "u" | "g" | "o")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_or_symbolic() {
        for good in ["0", "644", "0755", "7777", "u=rwX,go=rX", "+x", "a-w", "g=u", "u+r-w", "=", "go="] {
            assert!(check_mode(good, Span::default()).is_ok(), "{good}");
        }
        for bad in ["", "10000", "64a", "888", "+7", "u", "u=rwq", "x", "u=r,", "u=ug", "rw+x"] {
            assert!(check_mode(bad, Span::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn remote_sources_are_told_apart() {
        for (source, url, git) in [
            ("a.git", false, false),
            ("http://h/a", true, false),
            ("https://h/a.git", true, true),
            ("https://h/a.git#v1:sub", true, true),
            ("https://h/a.git?ref=v1", true, true),
            ("https://h/a?x=.git", true, false),
            ("git@h:a/b", false, true),
            ("deploy@example.org:a/b", false, true),
            ("a@b", false, false),
            ("@b:c", false, false),
            ("a/b@c:d", false, false),
            ("git://h/a", false, true),
            ("ssh://h/a", false, true),
            ("dir/http://x", false, false),
        ] {
            assert_eq!((is_url(source), is_git(source)), (url, git), "{source}");
        }
    }

    #[test]
    fn checksums_need_one_remote_source() {
        let word = |text: &str| PlanWord { text: text.to_owned(), span: Span::default() };
        let sum = format!("sha256:{}", "0".repeat(64));
        for (checksum, sources, want) in [
            (sum.as_str(), vec!["https://h/a"], None),
            ("abc123", vec!["https://h/a.git"], None),
            (&sum, vec!["https://h/a", "b"], Some("checksum can't be specified for multiple sources")),
            (&sum, vec!["b"], Some("checksum requires HTTP(S) or Git sources")),
            ("abc", vec!["https://h/a"], Some("invalid checksum digest format")),
            ("sha256:00", vec!["https://h/a"], Some("invalid checksum digest format")),
            ("md5:00", vec!["https://h/a"], Some("unsupported digest algorithm")),
        ] {
            let sources: Vec<PlanWord> = sources.into_iter().map(word).collect();
            let got = check_checksum(checksum, &sources, Span::default()).err().map(|error| error.message);
            assert_eq!(got.as_deref(), want, "{checksum}");
        }
    }
}
