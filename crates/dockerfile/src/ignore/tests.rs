//! Patterns and paths against what other builders decide.

use super::*;

fn ignore(lines: &str) -> Ignore {
    Ignore::parse(lines.as_bytes()).unwrap()
}

#[test]
fn the_last_match_decides_and_says_its_line() {
    let ignore = ignore("# all logs\n*.log\n\n!keep.log\nsub\n!sub/in\n");
    for (path, expected) in [
        ("a.log", Some((true, 2))),
        ("keep.log", Some((false, 4))),
        ("sub", Some((true, 5))),
        ("sub/x/y", Some((true, 5))),
        ("sub/in/y", Some((false, 6))),
        ("b", None),
        (".", None),
    ] {
        let found = ignore.decide(path.as_bytes()).map(|decision| (decision.excluded, decision.line));
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn lines_are_cleaned() {
    let ignore = ignore("\u{feff} /a/./b/ \r\n # no comment\n! /c/../d\n");
    let texts: Vec<_> = ignore.patterns().iter().map(|p| (p.text(), p.is_negated(), p.line())).collect();
    assert_eq!(
        texts,
        [(b"a/b".as_slice(), false, 1), (b"# no comment".as_slice(), false, 2), (b"d".as_slice(), true, 3)]
    );
    assert!(ignore.has_negations() && !ignore.is_empty());
}

#[test]
fn mistakes_name_their_line() {
    assert_eq!(Ignore::parse(b"a\n!\n").unwrap_err(), IgnoreError::LoneExclamation { line: 2 });
    assert_eq!(Ignore::parse(b"\n[a\n").unwrap_err(), IgnoreError::Pattern { line: 2, source: BadPattern });
}

#[test]
fn shapes_agree_with_tokens() {
    // Fast ways are no other ways, but for `**name`, which is an ending by its definition.
    for pattern in ["a", "a/**", "**/a", "**", "a**", "**/a/b", "x\\y"] {
        let mut ignore = Ignore::from_patterns([pattern]).unwrap();
        for path in ["a", "a/b", "b/a", "ab", "ba", "b/a/b", "a/", "xy"] {
            let fast = ignore.patterns[0].matches(path.as_bytes());
            let shape = std::mem::replace(&mut ignore.patterns[0].shape, Shape::Tokens);
            assert_eq!(ignore.patterns[0].matches(path.as_bytes()), fast, "{pattern} {path}");
            ignore.patterns[0].shape = shape;
        }
    }
}

#[test]
fn walking_gives_the_same_answers() {
    let ignore = ignore("*\n!a\na/b\n!a/b/*/x\n**/y\n!**/[k-m]?\n");
    for path in ["a", "a/b", "a/b/c", "a/b/c/x", "a/b/c/x/y", "a/y", "q", "q/lz", "q/lz/y", "q/l"] {
        let mut matched = Matched::default();
        let mut decided = None;
        for (at, _) in path.match_indices('/').chain([(path.len(), "")]) {
            (decided, matched) = ignore.decide_below(&path.as_bytes()[..at], &matched);
        }
        assert_eq!(decided, ignore.decide(path.as_bytes()), "{path}");
    }
}

#[test]
fn excluded_directories_are_entered_only_for_a_reason() {
    for (lines, dir, expected) in [
        ("a", "a", false),
        ("a", "b", true),
        ("a\n!a/b", "a", true),
        ("a\n!a/b", "a/c", false),
        ("a\n!a/b/c", "a/b", true),
        ("!a/b\na", "a", false),
        ("*\n!*.md", "a", false),
        ("*\n!*/*.md", "a", true),
        ("*\n!*/*.md", "a/b", false),
        ("*\n!**/*.md", "a/b", true),
        ("*\n!a/**", "a/b", true),
        ("*\n!a/**", "b", false),
        ("*\n!a?c/d", "abc", true),
        ("*\n!a[x]c/d", "abc", false),
        ("*\n!b/a\n", "a", false),
        ("*\n!a", "a/b", true),
    ] {
        assert_eq!(ignore(lines).could_match_below(dir.as_bytes()), expected, "{lines:?} {dir}");
    }
}

#[test]
fn hostile_patterns_take_no_time() {
    let pattern = "*a".repeat(200) + "/**/" + &"**/a*".repeat(50);
    let ignore = Ignore::from_patterns([pattern]).unwrap();
    assert!(!ignore.matches("a".repeat(2000).as_bytes()));
    assert!(!ignore.matches("a/".repeat(1000).as_bytes()));
}
