//! Any text as a word: expansion ends, keeps its limit, and gives the same with the same variables.

#![no_main]

use kuz_dockerfile::word::{Lexer, MAX_WORD};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let env = vec![("A".to_owned(), "one two".to_owned()), ("E".to_owned(), String::new())];
    for escape in ['\\', '`'] {
        for lexer in [Lexer::new(escape), Lexer::new(escape).keep_quotes().keep_escapes(), Lexer::new(escape).keep_unset()] {
            let Ok(expanded) = lexer.process(text, &env) else { continue };
            assert!(expanded.text.len() <= MAX_WORD);
            assert_eq!(expanded.words.len(), expanded.places.len());
            assert!(expanded.places.iter().all(|place| text.get(place.clone()).is_some()));
            assert_eq!(Ok(expanded), lexer.process(text, &env));
        }
    }
});
