//! Instructions: mistakes, heredocs, devices, flags, comments. (Tables about planning are the planner's.)

use kuz_dockerfile::ast::{Command, Instruction, Kind};
use kuz_dockerfile::{parse, parse_device, parse_one};
use serde_json::{Value, json};

use super::corpus::{judge, same, text, texts, wants_error};

#[test]
fn mistakes() {
    judge("instructions/parse-errors", |case| {
        let found = parse_one(text(case, "dockerfile"));
        let Some(message) = case["error"].as_str() else {
            return same("fails", found.is_err(), false);
        };
        let messages: Vec<_> = found.err().unwrap_or_default().into_iter().map(|found| found.message).collect();
        same(&format!("{messages:?} has {message:?}"), messages.iter().any(|found| found.contains(message)), true)
    });
}

#[test]
fn heredocs() {
    judge("instructions/heredoc", |case| {
        let instruction = parse_one(text(case, "dockerfile")).map_err(|found| format!("{found:?}"))?;
        match &instruction.kind {
            Kind::Copy(copy) => {
                same("dest", copy.dest.value.as_str(), text(case, "dest"))?;
                same("sources", copy.sources.iter().map(|word| word.value.clone()).collect(), texts(case, "sources"))?;
                let contents: Vec<_> = copy
                    .heredocs
                    .iter()
                    .map(|heredoc| json!({"path": heredoc.name, "data": heredoc.content, "expand": heredoc.expand}))
                    .collect();
                same("contents", &Value::Array(contents), &case["contents"])
            }
            Kind::Run(run) => {
                let command = match &run.command {
                    Command::Shell(word) => vec![word.value.clone()],
                    Command::Exec(words) => words.clone(),
                };
                same("shell", matches!(run.command, Command::Shell(_)), case["shell"] == true)?;
                same("command", command, texts(case, "command"))?;
                let files = case["files"].as_array().unwrap();
                same("files", run.heredocs.len(), files.len())?;
                for (heredoc, file) in run.heredocs.iter().zip(files) {
                    let data = text(file, "data");
                    let strip = file["chomp"] == true;
                    let data = if strip { kuz_dockerfile::heredoc::strip_tabs(data) } else { data.to_owned() };
                    same("file", (heredoc.name.as_str(), &heredoc.content), (text(file, "name"), &data))?;
                    same("strip", heredoc.strip_tabs, strip)?;
                }
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn devices() {
    judge("instructions/run-device", |case| match parse_device(text(case, "input")) {
        Ok(device) => {
            same("name", device.name.as_str(), text(case, "name"))?;
            same("required", device.required, case["required"] == true)
        }
        Err(error) => same("message", error.to_string().as_str(), case["error"].as_str().unwrap_or_default()),
    });
}

/// The peer's flags are invented ones; here the same arguments are tried on flags of the same kind that there are.
#[test]
fn flags() {
    judge("instructions/flags", |case| {
        let stand_in = |arg: &String| {
            let names =
                ["bool1=link", "bool2=keep-git-dir", "bool3=unpack", "str1=chown", "str2=chmod", "str3=checksum"];
            names.iter().fold(arg.clone(), |arg, pair| {
                let (name, real) = pair.split_once('=').unwrap();
                arg.replacen(&format!("--{name}"), &format!("--{real}"), 1)
            })
        };
        // What is not defined in the case is no flag of ADD either.
        let defined: Vec<_> = texts(case, "defs").iter().map(|def| def.split('=').next().unwrap().to_owned()).collect();
        let known = |arg: &&String| {
            let name = arg.trim_start_matches("--").split('=').next().unwrap();
            !matches!(name, "bool4" | "bool5" | "str4")
        };
        let args: Vec<_> = texts(case, "args");
        let args: Vec<_> = args
            .iter()
            .filter(known)
            .map(|arg| {
                let name = arg.trim_start_matches("--").split('=').next().unwrap();
                let arg = if name.is_empty() || defined.iter().any(|d| d == name) {
                    stand_in(arg)
                } else {
                    "--no-such".to_owned()
                };
                format!("\"{arg}\"").replacen("\"--", "--\"", 1)
            })
            .collect();
        let found = parse_one(&format!("ADD {} a b", args.join(" ")));
        same(&format!("{args:?} fails ({found:?})"), found.is_err(), wants_error(case))
    });
}

fn described(instruction: &Instruction, name: &str) -> String {
    let line = instruction.comments.iter().find_map(|comment| comment.value.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_default().to_owned()
}

#[test]
fn comments() {
    judge("instructions/doc-comments", |case| {
        let file = parse(text(case, "dockerfile").as_bytes()).file;
        let (mut meta, mut stages, mut args) = (Vec::new(), Vec::new(), Vec::new());
        for instruction in &file.instructions {
            match &instruction.kind {
                Kind::Arg(items) => {
                    for item in items {
                        let entry = json!([item.name.value, described(instruction, &item.name.value)]);
                        if stages.is_empty() { meta.push(entry) } else { args.push(entry) }
                    }
                }
                Kind::From(from) => {
                    let name = from.alias.as_ref().map_or("", |alias| &alias.value);
                    stages.push(json!([name, described(instruction, name)]));
                }
                _ => {}
            }
        }
        let found = json!({"meta_args": meta, "stages": stages, "stage_args": args});
        same("descriptions", &found, &case["expect"])
    });
}
