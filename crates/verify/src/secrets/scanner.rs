//! The scan of files as their bytes come by, with bounded memory.
//!
//! In: each regular file of a layer, as a path and its bytes in pieces. Out: its hits. A file is looked at in windows that
//! overlap by the longest match; whatever begins in one window's own part is judged there, once. In binary files only
//! forms are looked for that random bytes do not have. Digests are made of files with hits only, except that files longer
//! than a window are hashed as they pass, since their beginning is gone when a hit comes.

use std::collections::BTreeMap;
use std::ops::Range;

use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::engine::{ENGINE, Group, Target, Words};
use super::paths::{self, Assignments};
use super::rules::{BEFORE, Found, RULES, Trigger, Verdict};
use super::{Hit, assignment, likely, pem};

/// How much of a file is looked at at once; files up to this length are held whole.
pub const WINDOW: usize = 1 << 20;
/// Matches of one rule in one file that are counted: a file of nothing but tokens costs no more.
pub const MATCHES: u32 = 100;
/// Hits in one layer. A layer with more has been made to have them, or is a collection of samples.
pub const HITS: usize = 10_000;
/// What windows share: a match that begins before it ends in the same window.
const OVERLAP: usize = pem::KEY_TEXT + (16 << 10);
/// A NUL this early makes a file binary, as in git.
const HEAD: usize = 8000;

/// What programs, libraries and archives of objects begin with.
const PROGRAMS: &[&[u8]] = &[b"\x7fELF", b"!<arch>\n"];
/// The rule that says least.
const ASSIGNMENT: &str = "SecretAssignment";

/// Scans the files of one layer, one after the other.
#[derive(Debug)]
pub struct Scanner {
    path: Vec<u8>,
    window: Vec<u8>,
    /// How much of the window's beginning was another window's own part.
    passed: usize,
    /// Line ends before the window.
    lines: u32,
    binary: Option<bool>,
    program: bool,
    files: Vec<usize>,
    assignments: Assignments,
    /// Of a file that is longer than a window.
    sha256: Option<Sha256>,
    /// By the rule's number: line (or none) and how often.
    found: BTreeMap<usize, Matches>,
    hits: usize,
}

#[derive(Debug, Clone, Copy)]
struct Matches {
    line: Option<u32>,
    count: u32,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// For a layer.
    pub fn new() -> Self {
        Self {
            path: Vec::new(),
            window: Vec::new(),
            passed: 0,
            lines: 0,
            binary: None,
            program: false,
            files: Vec::new(),
            assignments: Assignments::None,
            sha256: None,
            found: BTreeMap::new(),
            hits: 0,
        }
    }

    /// A file begins; its size, if known, saves memory moves and is not relied on.
    pub fn begin(&mut self, path: &[u8], size: u64) {
        self.path = path.strip_prefix(b"/").unwrap_or(path).to_vec();
        self.window.clear();
        self.window.reserve(usize::try_from(size).unwrap_or(WINDOW).min(WINDOW));
        (self.passed, self.lines, self.binary, self.program, self.sha256) = (0, 0, None, false, None);
        self.files = paths::rules(&self.path);
        self.assignments = paths::assignments(&self.path);
        self.found.clear();
    }

    /// The next bytes of it.
    pub fn bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.window.len() == WINDOW {
                self.look(false);
            }
            let (taken, rest) = bytes.split_at(bytes.len().min(WINDOW - self.window.len()));
            self.window.extend_from_slice(taken);
            if let Some(sha256) = &mut self.sha256 {
                sha256.update(taken);
            }
            bytes = rest;
        }
    }

    /// The file ends: what was found in it.
    pub fn end(&mut self) -> Vec<Hit> {
        self.look(true);
        let found = std::mem::take(&mut self.found);
        if found.is_empty() {
            return Vec::new();
        }
        let (sha256, md5) = match self.sha256.take() {
            Some(sha256) => (sha256.finalize().into(), None),
            None => (Sha256::digest(&self.window).into(), Some(Md5::digest(&self.window).into())),
        };
        let exact: Vec<Option<u32>> =
            found.iter().filter(|(number, _)| !loose(**number)).map(|(_, at)| at.line).collect();
        let settings = found.keys().any(|number| self.files.contains(number));
        let mut hits: Vec<Hit> = Vec::new();
        for (number, at) in found {
            let Some(rule) = RULES.get(number) else { continue };
            // What is known for what it is, is not reported as an assignment or a file of settings again.
            let again = loose(number) && at.count == 1 && at.line.is_some() && exact.contains(&at.line);
            if !again && (rule.name != ASSIGNMENT || !settings) {
                let path = self.path.clone();
                hits.push(Hit { rule: rule.name.to_owned(), path, line: at.line, count: at.count, sha256, md5 });
            }
        }
        let room = HITS.saturating_sub(self.hits);
        let many = Hit { rule: "TooManyHits".to_owned(), path: self.path.clone(), line: None, count: 1, sha256, md5 };
        let over = hits.len() > room;
        hits.truncate(room);
        hits.extend(Some(many).filter(|_| over && self.hits <= HITS));
        self.hits += hits.len();
        hits
    }

    /// Looks at the window's own part, and keeps what the next one needs.
    fn look(&mut self, last: bool) {
        let binary = *self.binary.get_or_insert_with(|| {
            let head = self.window.get(..self.window.len().min(HEAD)).unwrap_or_default();
            self.program = PROGRAMS.iter().any(|magic| head.starts_with(magic));
            memchr::memchr(0, head).is_some()
        });
        let own = if last { self.window.len() } else { self.window.len().saturating_sub(OVERLAP) };
        let mut found = std::mem::take(&mut self.found);
        let mut pass = Pass {
            text: &self.window,
            from: self.passed,
            own,
            binary,
            program: self.program,
            lines: self.lines,
            found: &mut found,
        };
        pass.at_words(&ENGINE.tokens, Assignments::None);
        if !binary {
            pass.at_words(&ENGINE.words, self.assignments);
        }
        for &number in &self.files {
            pass.everywhere(number);
        }
        self.found = found;
        if !last {
            if self.sha256.is_none() {
                self.sha256 = Some(Sha256::new_with_prefix(&self.window));
            }
            let gone = own.saturating_sub(BEFORE);
            if !binary {
                let ends = memchr::memchr_iter(b'\n', self.window.get(..gone).unwrap_or_default()).count();
                self.lines = self.lines.saturating_add(u32::try_from(ends).unwrap_or(u32::MAX));
            }
            self.window.drain(..gone);
            self.passed = own - gone;
        }
    }
}

/// Rules that say no more than where something stands: a match of another one in the same line says what it is.
fn loose(number: usize) -> bool {
    const LOOSE: &[&str] = &[ASSIGNMENT, "SshIdentity", "EnvFile", "AwsCredentials"];
    RULES.get(number).is_some_and(|rule| LOOSE.contains(&rule.name))
}

/// One look at one window.
struct Pass<'p> {
    text: &'p [u8],
    from: usize,
    own: usize,
    binary: bool,
    program: bool,
    lines: u32,
    found: &'p mut BTreeMap<usize, Matches>,
}

impl Pass<'_> {
    fn at_words(&mut self, words: &Words, assignments: Assignments) {
        for group in &words.groups {
            self.at_group(group, assignments);
        }
    }

    fn at_group(&mut self, group: &Group, assignments: Assignments) {
        let mut from = self.from;
        // A name with several words is one assignment.
        let mut named = 0;
        while let Some((part, candidates)) = group.find(self.text, from).filter(|(part, _)| *part < self.own) {
            from = part + 1;
            for word in candidates {
                let Some(at) = word.around(self.text, part) else { continue };
                match word.target {
                    Target::Rule(number) => self.at_word(number, at),
                    Target::Assignment if assignments == Assignments::None || at < named => {}
                    Target::Assignment => {
                        if let Some(found) = assignment::around(self.text, at, assignments == Assignments::Bare) {
                            named = found.end;
                            self.say(found.rule, found.start);
                        }
                    }
                }
            }
        }
    }

    /// Tries a rule at one of its words.
    fn at_word(&mut self, number: usize, at: usize) {
        let Some(rule) = RULES.get(number) else { return };
        let (Trigger::Tokens(_, reach) | Trigger::Words(_, reach)) = rule.trigger else { return };
        let letter = |place: Option<&u8>| place.is_some_and(u8::is_ascii_alphanumeric);
        let inside = letter(self.text.get(at)) && letter(at.checked_sub(1).and_then(|before| self.text.get(before)));
        if inside && !reach.part || self.full(number) || !(rule.gate)(self.text.get(at..).unwrap_or_default()) {
            return;
        }
        let start = at.saturating_sub(reach.before);
        let end = self.text.len().min(at.saturating_add(reach.after));
        self.expression(number, start..end, start, Some(at));
    }

    /// Tries a rule on all of the window.
    fn everywhere(&mut self, number: usize) {
        let mut from = self.from;
        while from < self.own && !self.full(number) {
            match self.expression(number, 0..self.text.len(), from, None) {
                Some(end) => from = end.max(from + 1),
                None => break,
            }
        }
    }

    /// One search of a rule's expression in a part of the window, for a match that covers a word. Gives where it ends.
    fn expression(&mut self, number: usize, part: Range<usize>, from: usize, word: Option<usize>) -> Option<usize> {
        let rule = RULES.get(number)?;
        let start = part.start;
        let text = self.text.get(part)?;
        let captures = ENGINE.expression(number)?.captures_at(text, from.checked_sub(start)?)?;
        let whole = captures.get(0)?;
        let group = captures.iter().skip(1).flatten().next();
        let secret = group.unwrap_or(whole);
        let covers = word.is_none_or(|word| (whole.start()..whole.end()).contains(&(word - start)));
        let random = rule.entropy == 0 || likely::entropy(secret.as_bytes()) * 10.0 >= f64::from(rule.entropy);
        // What begins in the next window's part is found there.
        if covers && random && start + whole.start() < self.own {
            let rest = self.text.get(start + whole.start()..).unwrap_or_default();
            let at = start + secret.start();
            match (rule.check)(&Found { secret: secret.as_bytes(), whole: whole.as_bytes(), rest }) {
                Verdict::No => {}
                Verdict::Yes if self.program && rule.name == "PrivateKey" => self.say("EmbeddedPrivateKey", at),
                Verdict::Yes => self.note(number, at),
                Verdict::As(name) => self.say(name, at),
            }
        }
        Some(start + whole.end())
    }

    fn full(&self, number: usize) -> bool {
        self.found.get(&number).is_some_and(|matches| matches.count >= MATCHES)
    }

    fn say(&mut self, name: &str, at: usize) {
        if let Some(number) = RULES.iter().position(|rule| rule.name == name) {
            self.note(number, at);
        }
    }

    fn note(&mut self, number: usize, at: usize) {
        let line = || {
            let ends = memchr::memchr_iter(b'\n', self.text.get(..at).unwrap_or_default()).count();
            self.lines.saturating_add(u32::try_from(ends).unwrap_or(u32::MAX)).saturating_add(1)
        };
        let first = if self.binary { None } else { Some(line()) };
        let matches = self.found.entry(number).or_insert(Matches { line: first, count: 0 });
        matches.count = (matches.count + 1).min(MATCHES);
    }
}
