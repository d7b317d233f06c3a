//! The searches that a scan runs, made once from the table: words to rules, and the rules' regular expressions.
//!
//! Two sets of words: those of tokens, for every file, and those that only make sense in text. Each set is searched by one
//! vectorised search, which is what makes a scan fast; an automaton takes its place on machines without such vectors.
//! Regular expressions are compiled when their words are first met.

use std::cmp::Reverse;
use std::sync::{LazyLock, OnceLock};

use aho_corasick::packed::{self, MatchKind};
use aho_corasick::{AhoCorasick, Span};
use regex::bytes::{Regex, RegexBuilder};

use super::assignment;
use super::rules::{RULES, Trigger};

/// A compiled regular expression is never larger: the table's are far smaller.
const REGEX_BYTES: usize = 4 << 20;

/// How long the parts are that are searched for: as many bytes as the vectorised search looks at.
const PART: usize = 4;

/// Everything that is made from the table.
pub(super) static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::new);

/// Searches and expressions.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) tokens: Words,
    pub(super) words: Words,
    expressions: Vec<OnceLock<Option<Regex>>>,
}

/// A set of words, and what to try where one stands. What is searched for are the words' rarest parts.
#[derive(Debug)]
pub(super) struct Words {
    /// Words of one length of parts each: a search looks at no more bytes than its shortest part has, so that a short one
    /// would slow all others down.
    pub(super) groups: Vec<Group>,
}

/// One search of a set.
#[derive(Debug)]
pub(super) struct Group {
    search: Option<Search>,
    /// By the part's number: the words that have it.
    words: Vec<Vec<Word>>,
}

/// A word, and what is tried where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    text: &'static str,
    /// Where the part begins in it.
    part: usize,
    /// What it is for.
    pub(super) target: Target,
}

/// What is tried at a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A rule, by its number in the table.
    Rule(usize),
    /// The assignment that the word stands in.
    Assignment,
}

impl Word {
    /// Where it begins, if it is what the part at this place belongs to.
    pub(super) fn around(&self, text: &[u8], part: usize) -> Option<usize> {
        let start = part.checked_sub(self.part)?;
        text.get(start..)?.starts_with(self.text.as_bytes()).then_some(start)
    }
}

#[derive(Debug)]
enum Search {
    Packed(packed::Searcher),
    Automaton(AhoCorasick),
}

impl Engine {
    fn new() -> Self {
        let mut tokens: Vec<(&'static str, Target)> = Vec::new();
        let mut words: Vec<(&'static str, Target)> =
            assignment::WORDS.iter().map(|word| (*word, Target::Assignment)).collect();
        for (number, rule) in RULES.iter().enumerate() {
            match rule.trigger {
                Trigger::Tokens(keywords, _) => {
                    tokens.extend(keywords.iter().map(|word| (*word, Target::Rule(number))));
                }
                Trigger::Words(keywords, _) => words.extend(keywords.iter().map(|word| (*word, Target::Rule(number)))),
                Trigger::Files(_) | Trigger::Said => {}
            }
        }
        let expressions = RULES.iter().map(|_| OnceLock::new()).collect();
        Self { tokens: Words::new(&tokens), words: Words::new(&words), expressions }
    }

    /// The expression of a rule, by its number.
    pub(super) fn expression(&self, number: usize) -> Option<&Regex> {
        let compile =
            || RegexBuilder::new(RULES.get(number)?.regex).unicode(false).size_limit(REGEX_BYTES).build().ok();
        self.expressions.get(number)?.get_or_init(compile).as_ref()
    }
}

impl Words {
    fn new(pairs: &[(&'static str, Target)]) -> Self {
        let (long, short): (Vec<_>, Vec<_>) = pairs.iter().copied().partition(|(word, _)| word.len() >= PART);
        let groups = [long, short].into_iter().filter(|pairs| !pairs.is_empty());
        Self { groups: groups.map(|pairs| Group::new(&pairs)).collect() }
    }
}

impl Group {
    fn new(pairs: &[(&'static str, Target)]) -> Self {
        // Every part once for each word that has it, in order.
        let mut sharing: Vec<(&[u8], &str)> =
            pairs.iter().flat_map(|(text, _)| text.as_bytes().windows(PART).map(move |part| (part, *text))).collect();
        sharing.sort_unstable();
        sharing.dedup();
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut words: Vec<Vec<Word>> = Vec::new();
        for &(text, target) in pairs {
            let (part, bytes) = rarest(text, &sharing);
            let number = parts.iter().position(|other| *other == bytes).unwrap_or_else(|| {
                parts.push(bytes);
                words.push(Vec::new());
                words.len() - 1
            });
            words[number].push(Word { text, part, target });
        }
        let packed = packed::Config::new().match_kind(MatchKind::LeftmostFirst).builder().extend(&parts).build();
        let search = packed.map(Search::Packed).or_else(|| AhoCorasick::new(&parts).ok().map(Search::Automaton));
        Self { search, words }
    }

    /// The first part from `from` on: where it begins, and the words that it may belong to.
    pub(super) fn find(&self, text: &[u8], from: usize) -> Option<(usize, &[Word])> {
        if from >= text.len() {
            return None;
        }
        let span = Span { start: from, end: text.len() };
        let (start, pattern) = match self.search.as_ref()? {
            Search::Packed(search) => search.find_in(text, span).map(|found| (found.start(), found.pattern()))?,
            Search::Automaton(search) => {
                let found = search.find(aho_corasick::Input::new(text).span(span))?;
                (found.start(), found.pattern())
            }
        };
        Some((start, self.words.get(pattern.as_usize()).map_or(&[], Vec::as_slice)))
    }
}

/// The part of a word that text has least; of equal ones the one that most of the words share: `sharing` has each part with
/// each of them, in order.
fn rarest<'w>(word: &'w str, sharing: &[(&[u8], &str)]) -> (usize, &'w [u8]) {
    let whole = (0, word.as_bytes());
    word.as_bytes()
        .windows(PART)
        .enumerate()
        .min_by_key(|(_, part)| {
            let before = |limit: fn(&[u8], &[u8]) -> bool| sharing.partition_point(|(other, _)| limit(other, part));
            let sharing = before(|other, part| other <= part) - before(|other, part| other < part);
            (part.iter().map(|&byte| frequency(byte)).sum::<u32>(), Reverse(sharing))
        })
        .unwrap_or(whole)
}

/// How frequent a byte is in programs and documents, roughly.
fn frequency(byte: u8) -> u32 {
    match byte {
        b'j' | b'q' | b'x' | b'z' | b'J' | b'Q' | b'X' | b'Z' | b'~' => 1,
        b'A'..=b'Z' | b'0'..=b'9' | b'k' | b'v' => 2,
        b'-' | b' ' => 6,
        byte if byte.is_ascii_lowercase() => 5,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_compiles() {
        for (number, rule) in RULES.iter().enumerate() {
            assert!(ENGINE.expression(number).is_some(), "{}", rule.name);
        }
    }

    #[test]
    fn words_are_found_where_they_stand() {
        let text = [&b"x".repeat(1000)[..], b"github_pat_", &b"y".repeat(1000)[..]].concat();
        let tokens = &ENGINE.tokens.groups[0];
        let (at, words) = tokens.find(&text, 0).unwrap();
        let starts: Vec<(usize, &str)> =
            words.iter().filter_map(|word| Some((word.around(&text, at)?, word.text))).collect();
        assert_eq!(starts, [(1000, "github_pat_")]);
        assert!(tokens.find(&text, at + 1).is_none());
        assert!(tokens.find(b"", 0).is_none());
        let (at, words) = ENGINE.words.groups[0].find(b"a SECRET", 0).unwrap();
        assert!(words.iter().any(|word| word.target == Target::Assignment && word.around(b"a SECRET", at) == Some(2)));
    }

    #[test]
    fn both_sets_are_small_enough_for_the_fastest_search() {
        for group in ENGINE.tokens.groups.iter().chain(&ENGINE.words.groups) {
            // More share the search's eight buckets with one another, and stop it too often.
            assert!(group.words.len() <= 32, "{}: {:?}", group.words.len(), group.words);
            if cfg!(target_arch = "x86_64") && std::arch::is_x86_feature_detected!("ssse3") {
                assert!(matches!(group.search, Some(Search::Packed(_))));
            }
        }
    }
}
