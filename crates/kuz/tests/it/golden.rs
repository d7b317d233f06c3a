//! The usual mistakes in Dockerfiles of Python services, and what the program says to each: `tests/golden`.
//!
//! A case is one file: what the mistake is, the files of a context (`--- NAME`), then a command and all that it writes
//! (`--- $ kuz …`). What differs from run to run (ports, times, places) is replaced. `KUZ_BLESS=1` writes the outputs anew:
//! read them, each must tell a person what to do.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::kit::Place;

/// As many mistakes as there have to be at least.
const FEWEST: usize = 30;

struct Case {
    /// Everything before the first command.
    given: String,
    /// Name and content.
    files: Vec<(String, String)>,
    /// Words, and what is written.
    commands: Vec<(String, String)>,
}

fn read(text: &str) -> Case {
    let mut case = Case { given: String::new(), files: Vec::new(), commands: Vec::new() };
    for part in text.split_inclusive('\n') {
        let head = part.strip_prefix("--- ").map(str::trim_end);
        match (head, head.and_then(|head| head.strip_prefix("$ "))) {
            (_, Some(command)) => case.commands.push((command.to_owned(), String::new())),
            (Some(name), None) => case.files.push((name.to_owned(), String::new())),
            (None, _) => match (case.commands.last_mut(), case.files.last_mut()) {
                (Some((_, output)), _) => output.push_str(part),
                (None, Some((_, content))) => content.push_str(part),
                (None, None) => {}
            },
        }
        if case.commands.is_empty() {
            case.given.push_str(part);
        }
    }
    case
}

/// `NAME`, `NAME (crlf)`, `NAME (bom)`.
fn write(place: &Place, name: &str, content: &str) {
    let (name, how) = name.split_once(" (").unwrap_or((name, ""));
    let content = if how.contains("crlf") { content.replace('\n', "\r\n") } else { content.to_owned() };
    let content = if how.contains("bom") { format!("\u{feff}{content}") } else { content };
    place.write(&format!("ctx/{name}"), &content);
}

/// What a command writes, standard output first, without what differs from run to run.
fn output(place: &Place, command: &str) -> String {
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let ran = place.kuz(&words);
    let mut text = format!("{}{}exit code {}\n", ran.stdout, ran.stderr, ran.code);
    text = text.replace(&place.dir.path().display().to_string(), "DIR");
    if let Some(registry) = &place.registry {
        text = text.replace(&registry.host(), "REGISTRY");
    }
    let mut clean = String::new();
    for line in text.lines() {
        // How long a step took, and ids, which hold times.
        let took = [" after ", " done in "].iter().find_map(|word| line.split_once(word).map(|(head, _)| (head, word)));
        let line = match took {
            Some((head, word)) if line.starts_with('[') && line.ends_with('s') => format!("{head}{word}…"),
            _ => match line.split_once("sha256:") {
                Some((head, id)) if id.len() >= 64 => format!("{head}sha256:…{}", &id[64..]),
                _ => line.to_owned(),
            },
        };
        let _ = writeln!(clean, "{}", line.trim_end());
    }
    clean
}

#[test]
fn each_usual_mistake_is_answered() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= FEWEST, "{} cases", paths.len());
    let mut wrong = String::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let case = read(&text);
        assert!(!case.commands.is_empty(), "{}: no command", path.display());
        let place = Place::with_registry();
        case.files.iter().for_each(|(name, content)| write(&place, name, content));
        let mut found = case.given.clone();
        for (command, _) in &case.commands {
            let _ = write!(found, "--- $ {command}\n{}", output(&place, command));
        }
        if std::env::var_os("KUZ_BLESS").is_some() {
            std::fs::write(&path, &found).unwrap();
        } else if found != text {
            let _ = writeln!(wrong, "{}:\n{found}", path.display());
        }
    }
    assert!(wrong.is_empty(), "other outputs than the files have (KUZ_BLESS=1 writes them anew):\n{wrong}");
}
