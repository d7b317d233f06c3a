//! Whatever bytes come in: no panic, and places that lie in the text.

use kuz_dockerfile::ignore::Ignore;
use kuz_dockerfile::lint::lint;
use kuz_dockerfile::word::{Lexer, expand, expand_body, expand_words};
use kuz_dockerfile::{Parsed, heredoc, parse, parse_duration, parse_one};
use proptest::prelude::*;

fn places_are_sound(parsed: &Parsed) {
    let source = &parsed.file.source;
    for found in parsed.diagnostics.iter().chain(&lint(&parsed.file)) {
        assert!(source.get(found.span.start..found.span.end).is_some(), "{found:?} in {source:?}");
    }
    for instruction in &parsed.file.instructions {
        let text = source.get(instruction.span.start..instruction.span.end);
        assert!(text.is_some_and(|text| text.starts_with(&instruction.keyword.value)), "{instruction:?}");
    }
}

/// Text that looks like a Dockerfile often enough to get somewhere.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "FROM",
            "RUN",
            "COPY",
            "ADD",
            "ENV",
            "ARG",
            "LABEL",
            "ONBUILD",
            "HEALTHCHECK",
            "CMD",
            "VOLUME",
            "EXPOSE",
            " ",
            " ",
            " ",
            "\n",
            "\n",
            "\\\n",
            "`\n",
            "\r\n",
            "\t",
            "#",
            "# escape=`\n",
            "# check=skip=all\n",
            "<<EOF",
            "<<-'E'",
            "EOF\n",
            "E\n",
            "--from=",
            "--mount=type=",
            "--",
            "\"",
            "'",
            "[\"a\"]",
            "[",
            "]",
            "=",
            "$",
            "${a",
            ":-",
            "}",
            "\\",
            "a",
            "é",
            "\u{2028}",
            "\0",
            ",",
            "--interval=1s",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,4}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn parsing_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        places_are_sound(&parse(&bytes));
    }

    #[test]
    fn parsing_likely_text(text in pieces()) {
        places_are_sound(&parse(text.as_bytes()));
        let _ = parse_one(&text);
        let _ = heredoc::of_line(&text);
    }

    #[test]
    fn expanding_likely_text(text in pieces(), escape in prop::sample::select(vec!['\\', '`'])) {
        let env = |name: &str| (name != "b").then(|| "x *[y".to_owned());
        let _ = expand(&text, &env, escape);
        let _ = expand_words(&text, &env, escape);
        let _ = expand_body(&text, &env);
        if let Ok(found) = Lexer::new(escape).keep_quotes().keep_escapes().keep_unset().process(&text, &env) {
            for place in found.places {
                prop_assert!(text.get(place).is_some());
            }
        }
    }

    #[test]
    fn expanding_any_text(text in "\\PC*") {
        let _ = expand(&text, &|_: &str| Some("aé".to_owned()), '\\');
        let _ = parse_duration(&text);
    }

    #[test]
    fn ignoring_any_bytes(file in prop::collection::vec(any::<u8>(), 0..60), path in prop::collection::vec(any::<u8>(), 0..30)) {
        if let Ok(ignore) = Ignore::parse(&file) {
            let excluded = ignore.matches(&path);
            let entered = ignore.could_match_below(&path);
            prop_assert!(excluded || entered, "what is not left out is entered");
        }
    }

    /// What could_match_below denies is never let in.
    #[test]
    fn nothing_is_missed_below(lines in prop::collection::vec("!?(\\*\\*|\\*|a|b|\\?|\\[ab\\]|a\\*)(/(\\*\\*|\\*|a|b|\\?|b\\*)){0,3}", 1..6), path in "[ab](/[ab]{1,2}){1,4}") {
        let ignore = Ignore::from_patterns(&lines).unwrap();
        for (at, _) in path.match_indices('/') {
            if !ignore.could_match_below(&path.as_bytes()[..at]) {
                prop_assert!(ignore.matches(path.as_bytes()), "{lines:?} {path} below {}", &path[..at]);
            }
        }
    }
}
