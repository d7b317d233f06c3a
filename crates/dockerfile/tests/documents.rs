//! The pages of the documentation that follow from tables: `docs/rules.md` is the rule table, and `docs/dockerfile.md`
//! names every instruction and flag that is read, and no other.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kuz_dockerfile::{instruction_flags, lint};

fn page(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

#[test]
fn rules() {
    let (path, wanted) = (page("rules.md"), lint::document());
    if std::env::var_os("KUZ_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == wanted, "docs/rules.md isn't what the table says: run this test with KUZ_BLESS=1");
}

/// Instructions and flags as the page's headings and table rows name them: `## RUN`, `| --mount | …`.
#[test]
fn instructions_and_flags() {
    let text = std::fs::read_to_string(page("dockerfile.md")).unwrap();
    let mut named = BTreeSet::new();
    let mut instruction = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let upper = !heading.is_empty() && heading.bytes().all(|byte| byte.is_ascii_uppercase());
            instruction = upper.then_some(heading);
            named.extend(instruction.map(str::to_owned));
        } else if let Some(row) = line.strip_prefix("| `--")
            && let Some(instruction) = instruction
        {
            let flag: String = row.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            named.insert(format!("{instruction} --{flag}"));
        }
    }
    let read: BTreeSet<String> = instruction_flags()
        .iter()
        .flat_map(|(name, flags)| flags.iter().map(move |flag| format!("{name} --{flag}")).chain([(*name).to_owned()]))
        .collect();
    assert_eq!(named, read, "left: the page, right: the tables");
}
