//! `--exclude` and `--parents`: a source word to the directory that it starts at and what below it is wanted.
//!
//! Patterns are those of ignore files, relative to the source. With `--parents` the part of the word behind a `/./`
//! (or all of it) is itself such a pattern, and what matches it is wanted together with the directories above it.
//! Looks at no files.

use kuz_dockerfile::ignore::{Ignore, IgnoreError};
use kuz_plan::plan::Copy;
use kuz_rootfs::context::Verdict;

/// What one source word wants.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Where it starts: a path or wildcard.
    pub(crate) start: String,
    /// The path that must be there, for words that are no wildcards behind the pivot.
    pub(crate) required: Option<String>,
    include: Option<Ignore>,
    exclude: Option<Ignore>,
}

impl Wanted {
    /// Reads a word with the flags of its instruction.
    pub(crate) fn new(copy: &Copy, word: &str) -> Result<Self, IgnoreError> {
        let exclude = if copy.exclude.is_empty() { None } else { Some(Ignore::from_patterns(&copy.exclude)?) };
        let whole = Self { start: word.to_owned(), required: None, include: None, exclude };
        if !copy.parents {
            return Ok(whole);
        }
        let (start, pattern) = word.split_once("/./").unwrap_or(("/", word));
        let pattern = clean(pattern);
        let required = (!pattern.contains(['*', '?', '['])).then(|| format!("{start}/{pattern}"));
        let include = if pattern.is_empty() {
            None
        } else {
            Some(Ignore::from_patterns(["*".to_owned(), format!("!{pattern}")])?)
        };
        // The part before the pivot may be empty: `/./a`.
        let start = if start.is_empty() { "/".to_owned() } else { start.to_owned() };
        Ok(Self { start, required, include, ..whole })
    }

    /// Whether a path below the start is wanted.
    pub(crate) fn below(&self, relative: &[u8], is_dir: bool) -> Verdict {
        let judge =
            |rules: &Option<Ignore>| rules.as_ref().map_or(Verdict::Keep, |rules| judge(rules, relative, is_dir));
        judge(&self.include).and(|| judge(&self.exclude))
    }

    /// Whether the start itself is excluded, where it is no directory.
    pub(crate) fn excludes_file(&self, name: &[u8]) -> bool {
        self.exclude.as_ref().is_some_and(|rules| rules.matches(name))
    }

    /// Nothing is left out.
    pub(crate) fn wants_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }
}

/// What ignore rules say about a path.
pub(crate) fn judge(rules: &Ignore, path: &[u8], is_dir: bool) -> Verdict {
    if !rules.matches(path) {
        Verdict::Keep
    } else if is_dir && rules.could_match_below(path) {
        Verdict::DropButLookBelow
    } else {
        Verdict::Drop
    }
}

/// A path without `.`, `..` and slashes that say nothing, relative: what `..` would leave stays inside.
pub(crate) fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.join("/")
}

#[cfg(test)]
mod tests {
    use kuz_plan::plan::Source;

    use super::*;

    fn copy(parents: bool, exclude: &[&str]) -> Copy {
        Copy {
            from: Source::Context,
            sources: Vec::new(),
            inline: Vec::new(),
            dest: "/".into(),
            chown: None,
            chmod: None,
            link: false,
            parents,
            exclude: exclude.iter().map(|&pattern| pattern.to_owned()).collect(),
            unpack: None,
            checksum: None,
            keep_git_dir: false,
        }
    }

    #[test]
    fn words_are_cut_at_the_pivot() {
        for (word, start, required) in [
            ("/a/b", "/", Some("//a/b")),
            ("./a/b", "/", Some("//a/b")),
            ("./x/./y/*", "./x", None),
            ("/a/b*/./c/**/bar", "/a/b*", None),
            ("/a/./b/./c", "/a", Some("/a/b/c")),
            ("/a/d/.", "/", Some("//a/d")),
            ("/./a", "/", Some("/a")),
        ] {
            let wanted = Wanted::new(&copy(true, &[]), word).unwrap();
            assert_eq!((wanted.start.as_str(), wanted.required.as_deref()), (start, required), "{word}");
        }
        let plain = Wanted::new(&copy(false, &[]), "a/./b").unwrap();
        assert_eq!((plain.start.as_str(), plain.wants_all()), ("a/./b", true));
    }

    #[test]
    fn paths_below_the_start_are_wanted_or_not() {
        use Verdict::{Drop, DropButLookBelow, Keep};
        for (word, exclude, path, is_dir, want) in [
            ("x/a.txt", &[][..], "x", true, DropButLookBelow),
            ("x/a.txt", &[], "x/a.txt", false, Keep),
            ("x/a.txt", &[], "y", true, Drop),
            ("x/a.txt", &[], "x/b.txt", false, Drop),
            ("x", &[], "x/y/z", false, Keep),
            ("a/./*/c", &[], "b", true, DropButLookBelow),
            ("a/./*/c", &[], "b/c", true, Keep),
            ("a/./*/c", &[], "b/d", true, Drop),
            ("a/./d/**/baz", &[], "d/e/f", true, DropButLookBelow),
            ("a/./d/**/baz", &[], "d/e/f/baz", false, Keep),
            ("a/./d/**/baz", &[], "d/e/f/bay", false, Drop),
            ("x", &["x/*.txt"], "x/a.txt", false, Drop),
            ("x", &["x", "!x/keep"], "x", true, DropButLookBelow),
            ("x", &["x", "!x/keep"], "x/keep", false, Keep),
        ] {
            let wanted = Wanted::new(&copy(true, exclude), word).unwrap();
            assert_eq!(wanted.below(path.as_bytes(), is_dir), want, "{word} {exclude:?} {path}");
        }
        let wanted = Wanted::new(&copy(false, &["*.txt"]), "hom*").unwrap();
        assert!(wanted.excludes_file(b"home.txt") && !wanted.excludes_file(b"home.md"));
        assert!(Wanted::new(&copy(false, &["["]), "x").is_err());
    }
}
