//! Any bytes as a Dockerfile: parsing and all rules end without a panic, and every finding has a place in the text.

#![no_main]

use kuz_dockerfile::lint::{Check, Options, lint_with};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parsed = kuz_dockerfile::parse(bytes);
    let check = Check { enable_all: true, experimental_all: true, ..Check::default() };
    let advice = lint_with(&parsed.file, &check, &Options::default());
    let source = &parsed.file.source;
    for found in parsed.diagnostics.iter().chain(&advice) {
        assert!(found.span.start <= found.span.end && found.span.end <= source.len(), "{found:?}");
        assert!(source.is_char_boundary(found.span.start) && source.is_char_boundary(found.span.end), "{found:?}");
    }
    for instruction in &parsed.file.instructions {
        assert!(source.get(instruction.span.start..instruction.span.end).is_some());
    }
});
