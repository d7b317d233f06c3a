//! The parser: syntax trees, directives, heredocs, words.

use std::path::PathBuf;

use kuz_dockerfile::statement::{self, Args, Statement};
use kuz_dockerfile::{Severity, directive, heredoc, parse};
use serde_json::Value;

use super::corpus::{Verdicts, folder, judge, same, text, texts, wants_error};
use super::dump;

fn statements(source: &str) -> Vec<Statement> {
    let escape = parse(source.as_bytes()).file.directives.escape_char();
    statement::read(source, statement::directives_end(source), escape, &mut Vec::new())
}

/// The folders of a folder of the corpus, with their names.
fn folders(name: &str) -> Vec<(String, PathBuf)> {
    let Some(folder) = folder().map(|folder| folder.join(name)).filter(|folder| folder.is_dir()) else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
}

#[test]
fn trees() {
    let mut verdicts = Verdicts::new("parser/testfiles");
    for (name, dir) in folders("parser/testfiles") {
        let source = std::fs::read_to_string(dir.join("Dockerfile")).unwrap();
        let expected = std::fs::read_to_string(dir.join("result")).unwrap();
        let found = dump::all(&statements(&source));
        let right = found.trim() == expected.replace('\r', "").trim();
        verdicts.add(&name, "tree", if right { Ok(()) } else { Err(format!("{found}\n--- expected\n{expected}")) });
    }
    verdicts.close();
}

#[test]
fn broken_files() {
    let mut verdicts = Verdicts::new("parser/testfiles-negative");
    for (name, dir) in folders("parser/testfiles-negative") {
        let source = std::fs::read(dir.join("Dockerfile")).unwrap_or_default();
        verdicts.add(&name, "error", same("fails", parse(&source).has_errors(), true));
    }
    verdicts.close();
}

#[test]
fn directives() {
    judge("parser/directives", |case| {
        let file = parse(text(case, "input").as_bytes()).file;
        let directives = &file.directives;
        let found = match text(case, "directive") {
            "syntax" => directives.syntax.clone(),
            "check" => directives.check.clone(),
            _ => directives.escape.as_ref().map(|word| {
                let value = word.value.to_string();
                kuz_dockerfile::Spanned::new(value, word.span)
            }),
        };
        same("found", found.is_some(), case["found"] == true)?;
        let Some(word) = found else { return Ok(()) };
        same("value", directive::first_word(&word.value), text(case, "value"))?;
        if let Some(whole) = case["cmdline"].as_str() {
            same("cmdline", word.value.as_str(), whole)?;
        }
        if let Some(line) = case["line"].as_u64() {
            same("line", file.lines(word.span).0 as u64, line)?;
        }
        Ok(())
    });
}

#[test]
fn heredoc_words() {
    judge("parser/heredoc-words", |case| match text(case, "feature") {
        "heredoc-word" => {
            let found = heredoc::of_word(text(case, "input"));
            if wants_error(case) {
                return same("fails", found.is_err(), true);
            }
            let name = found.map_err(|error| error.to_string())?.map(|start| start.name);
            same("name", name.as_deref(), case["name"].as_str())
        }
        "heredocs-of-line" => {
            // The peer asks the text; whether the instruction may have heredocs is asked of the statement.
            let starts = heredoc::of_line(text(case, "input")).map_err(|error| error.to_string())?;
            same("names", starts.into_iter().map(|start| start.name).collect(), texts(case, "names"))
        }
        "heredoc-chomp" => same("body", heredoc::strip_tabs(text(case, "input")).as_str(), text(case, "expect")),
        other => Err(format!("unknown feature {other}")),
    });
}

#[test]
fn heredocs_of_a_file() {
    judge("parser/heredoc-extract", |case| {
        let found = statements(text(case, "dockerfile"));
        let expected = case["heredocs"].as_array().unwrap();
        let expected: Vec<&Value> = expected.iter().collect();
        // A table row holds the heredocs of the instructions behind FROM.
        let found: Vec<_> = found.iter().skip(found.len() - expected.len()).collect();
        for (statement, expected) in found.iter().zip(expected) {
            let expected = expected.as_array().unwrap();
            same(&format!("number in {}", statement.text), statement.heredocs.len(), expected.len())?;
            for (heredoc, expected) in statement.heredocs.iter().zip(expected) {
                same("name", heredoc.name.as_str(), text(expected, "name"))?;
                let content = text(expected, "content");
                let strip = expected["chomp"] == true;
                let content = if strip { heredoc::strip_tabs(content) } else { content.to_owned() };
                same("content", heredoc.content.clone(), content)?;
                same("expand", heredoc.expand, expected["expand"] == true)?;
                same("strip", heredoc.strip_tabs, strip)?;
                same("fd", u64::from(heredoc.fd), expected["fd"].as_u64().unwrap_or(0))?;
            }
        }
        Ok(())
    });
}

#[test]
fn lines() {
    judge("parser/lines", |case| match text(case, "feature") {
        "empty-continuation" => {
            let file = parse(text(case, "dockerfile").as_bytes()).file;
            let ends: Vec<_> = kuz_dockerfile::lint(&file)
                .into_iter()
                .filter(|found| found.rule == "NoEmptyContinuation")
                .filter_map(|found| {
                    file.instructions.iter().find(|i| i.span.start < found.span.start && found.span.end <= i.span.end)
                })
                .map(|instruction| instruction.text.clone())
                .collect();
            same("instructions", ends, texts(case, "warnings"))
        }
        "line-too-long" => {
            // Deliberately not so here: a line may be as long as the file.
            let times = usize::try_from(case["times"].as_u64().unwrap()).unwrap();
            let source = text(case, "dockerfile_prefix").to_owned() + &text(case, "repeat").repeat(times);
            same("fails", parse(source.as_bytes()).has_errors(), false)
        }
        other => Err(format!("unknown feature {other}")),
    });
}

#[test]
fn words_and_json() {
    judge("parser/words-and-json", |case| {
        let input = text(case, "input");
        let source = match text(case, "feature") {
            "parse-words" => format!("FROM a\nARG {input}\n"),
            "name-val" => format!("FROM a\n{} {input}\n", text(case, "instruction")),
            _ => format!("FROM a\nCMD {input}\n"),
        };
        let parsed = parse(source.as_bytes());
        if let Some(message) = case["error"].as_str() {
            let found = parsed.diagnostics.iter().any(|found| found.message.contains(message));
            return same("reported", found, true);
        }
        if wants_error(case) {
            return same("fails", parsed.diagnostics.iter().any(|found| found.severity == Severity::Error), true);
        }
        let found: Vec<String> = match &statements(&source)[1].args {
            Args::Words(words) | Args::Json(words) => words.iter().map(|word| word.value.clone()).collect(),
            Args::Pairs(pairs) => pairs
                .iter()
                .flat_map(|pair| {
                    let sign = if pair.legacy { "" } else { "=" };
                    [pair.key.value.clone(), pair.value.value.clone(), sign.to_owned()]
                })
                .collect(),
            other => return Err(format!("{other:?}")),
        };
        same("values", found, texts(case, "expect"))
    });
}
