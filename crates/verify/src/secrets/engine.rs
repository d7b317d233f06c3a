//! The searches that a scan runs, made once from the table: words to rules, and the rules' regular expressions.
//!
//! Two sets of words: those of tokens, for every file, and those that only make sense in text. Each set is searched by one
//! vectorised search, which is what makes a scan fast; an automaton takes its place on machines without such vectors.
//! Regular expressions are compiled when their words are first met.

use std::sync::{LazyLock, OnceLock};

use aho_corasick::packed::{self, MatchKind};
use aho_corasick::{AhoCorasick, Span};
use regex::bytes::{Regex, RegexBuilder};

use super::assignment;
use super::rules::{RULES, Trigger};

/// A compiled regular expression is never larger: the table's are far smaller.
const REGEX_BYTES: usize = 4 << 20;

/// Everything that is made from the table.
pub(super) static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::new);

/// Searches and expressions.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) tokens: Words,
    pub(super) words: Words,
    expressions: Vec<OnceLock<Option<Regex>>>,
}

/// A set of words, and what to try where one stands.
#[derive(Debug)]
pub(super) struct Words {
    search: Option<Search>,
    targets: Vec<Vec<Target>>,
}

/// What is tried at a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A rule, by its number in the table.
    Rule(usize),
    /// The assignment that the word stands in.
    Assignment,
}

#[derive(Debug)]
enum Search {
    Packed(packed::Searcher),
    Automaton(AhoCorasick),
}

impl Engine {
    fn new() -> Self {
        let mut tokens: Vec<(&str, Target)> = Vec::new();
        let mut words: Vec<(&str, Target)> = assignment::WORDS.iter().map(|word| (*word, Target::Assignment)).collect();
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
    fn new(pairs: &[(&str, Target)]) -> Self {
        let mut words: Vec<&str> = pairs.iter().map(|(word, _)| *word).collect();
        words.sort_unstable();
        words.dedup();
        let targets = words
            .iter()
            .map(|word| pairs.iter().filter(|(other, _)| other == word).map(|(_, target)| *target).collect());
        let targets = targets.collect();
        let packed = packed::Config::new().match_kind(MatchKind::LeftmostFirst).builder().extend(&words).build();
        let search = packed.map(Search::Packed).or_else(|| AhoCorasick::new(&words).ok().map(Search::Automaton));
        Self { search, targets }
    }

    /// The first word from `from` on: where it begins, and what to try there.
    pub(super) fn find(&self, text: &[u8], from: usize) -> Option<(usize, &[Target])> {
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
        Some((start, self.targets.get(pattern.as_usize()).map_or(&[], Vec::as_slice)))
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
        let text = [&b"x".repeat(1000)[..], b"ghp_", &b"y".repeat(1000)[..]].concat();
        let (at, targets) = ENGINE.tokens.find(&text, 0).unwrap();
        let Target::Rule(number) = targets[0] else { panic!("a rule") };
        assert_eq!((at, RULES[number].name), (1000, "GithubToken"));
        assert!(ENGINE.tokens.find(&text, 1001).is_none());
        assert!(ENGINE.tokens.find(b"", 0).is_none());
        assert_eq!(ENGINE.words.find(b"a SECRET", 0), Some((2, &[Target::Assignment][..])));
    }
}
