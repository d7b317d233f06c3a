//! Any bytes as an ignore file: all paths have an answer, and walking down gives the same one.

#![no_main]

use kuz_dockerfile::ignore::{Ignore, Matched};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 6] = ["a", "a/b", "a/b/c.txt", ".git/config", "src/main.py", "x y/\u{e9}"];

fuzz_target!(|bytes: &[u8]| {
    let Ok(ignore) = Ignore::parse(bytes) else { return };
    for path in PATHS {
        let at_once = ignore.matches(path.as_bytes());
        let mut matched = Matched::default();
        let mut decided = None;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let (decision, next) = ignore.decide_below(path[..end].as_bytes(), &matched);
            decided = decision;
            matched = next;
        }
        let walked = decided.is_some_and(|decision| decision.excluded);
        assert_eq!(at_once, walked, "{path} with {:?}", String::from_utf8_lossy(bytes));
    }
});
