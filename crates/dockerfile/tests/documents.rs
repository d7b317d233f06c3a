//! The pages of the documentation that follow from tables: `docs/rules.md` is the rule table, and `docs/dockerfile.md`
//! names every instruction and flag that is read, and no other.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kuz_dockerfile::syntax::IMPLEMENTED;
use kuz_dockerfile::word::{MAX_NESTING, MAX_WORD};
use kuz_dockerfile::{MAX_SOURCE, MAX_STATEMENTS, SINCE, instruction_flags, lint};

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

/// The rows of the tables below each heading of an instruction: `## RUN`, `| `--mount=…` | 1.2 | …`.
fn flag_rows(text: &str) -> Vec<(&str, Vec<String>)> {
    let mut instruction = None;
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let upper = !heading.is_empty() && heading.bytes().all(|byte| byte.is_ascii_uppercase());
            instruction = upper.then_some(heading);
            rows.extend(instruction.map(|name| (name, Vec::new())));
        } else if let (Some(name), true) = (instruction, line.starts_with("| `--")) {
            // A bar within a cell is escaped.
            let cells = line.replace("\\|", "/");
            rows.push((name, cells.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()));
        }
    }
    rows
}

/// `chown` of `` `--chown=USER[:GROUP]` ``.
fn flag(cell: &str) -> String {
    cell.trim_start_matches("`--").chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect()
}

/// Every instruction and flag that is read, and no other.
#[test]
fn instructions_and_flags() {
    let text = std::fs::read_to_string(page("dockerfile.md")).unwrap();
    let named: BTreeSet<String> = flag_rows(&text)
        .iter()
        .map(|(name, cells)| cells.first().map_or((*name).to_owned(), |cell| format!("{name} --{}", flag(cell))))
        .collect();
    let read: BTreeSet<String> = instruction_flags()
        .iter()
        .flat_map(|(name, flags)| flags.iter().map(move |flag| format!("{name} --{flag}")).chain([(*name).to_owned()]))
        .collect();
    assert_eq!(named, read, "left: the page, right: the tables");
}

/// Each flag has its version of the syntax and says what it does.
#[test]
fn flags_and_their_versions() {
    let text = std::fs::read_to_string(page("dockerfile.md")).unwrap();
    for (name, cells) in flag_rows(&text).into_iter().filter(|(_, cells)| !cells.is_empty()) {
        assert_eq!(cells.len(), 3, "{name}: {cells:?}");
        let (flag, since, meaning) = (flag(&cells[0]), cells[1].as_str(), &cells[2]);
        let known = SINCE.iter().find(|(of, known, _)| *of == name && *known == flag).map_or("", |(_, _, since)| since);
        assert_eq!(since, known, "{name} --{flag}");
        assert!(!meaning.is_empty(), "{name} --{flag}");
    }
    let flags = instruction_flags();
    for (name, flag, since) in SINCE {
        assert!(flags.iter().any(|(of, known)| *of == name && known.contains(&flag)), "{name} --{flag} is not read");
        let minor = since.strip_prefix("1.").and_then(|minor| minor.parse::<u32>().ok());
        assert!(minor.is_some_and(|minor| minor <= IMPLEMENTED.1) || since == "labs", "{name} --{flag}: {since}");
    }
}

/// The row of limits, and what the page calls the language's version.
#[test]
fn numbers() {
    let text = std::fs::read_to_string(page("dockerfile.md")).unwrap();
    let limits = text.lines().find(|line| line.starts_with("| limits |")).unwrap();
    for part in [
        format!("{} MiB a file", MAX_SOURCE >> 20),
        format!("{MAX_STATEMENTS} instructions"),
        format!("{} MiB a word", MAX_WORD >> 20),
        format!("{MAX_NESTING} levels"),
    ] {
        assert!(limits.contains(&part), "{part} is not in {limits}");
    }
    let version = format!("`docker/dockerfile:{}.{}`", IMPLEMENTED.0, IMPLEMENTED.1);
    assert!(text.contains(&version), "{version}");
}
