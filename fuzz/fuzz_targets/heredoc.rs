//! Any text behind RUN as a line with heredocs and their bodies: starts lie in the line, bodies in the file.

#![no_main]

use kuz_dockerfile::ast::Kind;
use kuz_dockerfile::{heredoc, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let line = text.lines().next().unwrap_or_default();
    for start in heredoc::of_line(line).unwrap_or_default() {
        assert!(line.get(start.place).is_some());
    }
    let source = format!("FROM scratch\nRUN {text}");
    let parsed = parse(source.as_bytes());
    for instruction in &parsed.file.instructions {
        let Kind::Run(run) = &instruction.kind else { continue };
        for found in &run.heredocs {
            assert!(parsed.file.source.get(found.body.start..found.body.end).is_some());
            assert!(instruction.span.end >= found.body.end);
        }
    }
});
