//! Any text as flags of every instruction: errors or an instruction, and mounts, devices and durations of any form.

#![no_main]

use kuz_dockerfile::{instruction_flags, parse, parse_device, parse_duration};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse_device(text);
    let _ = parse_duration(text);
    let line = text.lines().next().unwrap_or_default();
    for (instruction, flags) in instruction_flags() {
        let mut source = format!("FROM scratch\n{instruction} {line} a b\n");
        for flag in flags {
            source.push_str(&format!("{instruction} --{flag}={line} a b\n"));
        }
        let parsed = parse(source.as_bytes());
        assert!(parsed.has_errors() || parsed.file.instructions.len() > 1, "{source}");
    }
});
