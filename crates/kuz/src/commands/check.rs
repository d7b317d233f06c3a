//! `kuz check`, and what `kuz build` does instead of building: `--check` and `--call`.
//!
//! Findings go to standard output in the form that was asked for; the exit code says whether there's something to mend.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;

use kuz_build::check::{self, CheckOptions};
use kuz_build::contract::InputData;
use kuz_build::error::{BuildError, Findings};
use kuz_build::request::BuildRequest;
use kuz_build::{LabelForm, Outline, Severity, Target, UnknownForm};

use super::{print, print_json, shown};
use crate::args::{CheckArgs, CheckFormat, FailOn, ProgressArg};
use crate::progress::Progress;
use crate::render::{self, Colour};
use crate::{exit_code, findings, named};

/// Runs `kuz check`.
pub(crate) fn run(arguments: &CheckArgs) -> u8 {
    let progress = Progress::new(ProgressArg::Auto, false);
    let build_args = super::build::build_args(&arguments.build_args);
    let (build_args, contexts) = match build_args.and_then(|args| Ok((args, named::contexts(&arguments.contexts)?))) {
        Ok(values) => values,
        Err(message) => {
            progress.say(&format!("error: {message}"));
            return exit_code::USAGE;
        }
    };
    let label_schema = match label_schema(&arguments.required_labels) {
        Ok(schema) => schema,
        Err(message) => {
            progress.say(&format!("error: --require-label: {message}"));
            return exit_code::USAGE;
        }
    };
    let (file, context) = places(&arguments.file, arguments.context.as_deref());
    let request = BuildRequest {
        dockerfile_given: file.is_some(),
        input: InputData {
            dockerfile_path: file.unwrap_or_else(|| "Dockerfile".into()),
            build_context: Some(context),
            build_args: Some(build_args),
            tag: None,
        },
        target: arguments.target.clone(),
        contexts,
        ..BuildRequest::default()
    };
    let set = |words: &[String]| words.iter().cloned().collect::<BTreeSet<_>>();
    let options = CheckOptions {
        all_stages: true,
        enable: set(&arguments.enable),
        trusted_registries: set(&arguments.trusted_registries),
        label_schema,
        strict_labels: arguments.strict_labels,
    };
    let outcome = check::check(&request, &options).and_then(|found| {
        match arguments.format {
            CheckFormat::Text => print(&text(&found))?,
            CheckFormat::Json => print_json(&findings::as_json(&found))?,
            CheckFormat::Sarif => print_json(&findings::as_sarif(&found))?,
            CheckFormat::Github => print(&findings::as_github(&found))?,
        }
        Ok(code(&found, arguments.fail_on))
    });
    outcome.unwrap_or_else(|failure| shown(&failure, &progress))
}

/// Keys with their forms. Keys have no colon.
fn label_schema(words: &[String]) -> Result<BTreeMap<String, LabelForm>, UnknownForm> {
    let pair = |word: &String| {
        let (key, form) = word.split_once(':').unwrap_or((word, ""));
        Ok((key.to_owned(), form.parse()?))
    };
    words.iter().map(pair).collect()
}

/// The Dockerfile, if a file is named, and the context: a directory that's named, else the one that has the file.
fn places(file: &str, context: Option<&str>) -> (Option<String>, String) {
    let path = Path::new(file);
    if file != "-" && path.is_dir() {
        return match context {
            None => (None, file.to_owned()),
            Some(context) => (Some(path.join("Dockerfile").to_string_lossy().into_owned()), context.to_owned()),
        };
    }
    let parent = path.parent().map(|parent| parent.to_string_lossy().into_owned());
    let parent = parent.filter(|parent| !parent.is_empty()).unwrap_or_else(|| ".".to_owned());
    (Some(file.to_owned()), context.map_or(parent, str::to_owned))
}

fn code(found: &Findings, fail_on: FailOn) -> u8 {
    let limit = match fail_on {
        FailOn::Error => Severity::Error,
        FailOn::Warning => Severity::Warning,
        FailOn::Note => Severity::Note,
    };
    let failed = found.diagnostics.iter().any(|finding| finding.severity >= limit);
    if failed { exit_code::INPUT } else { exit_code::SUCCESS }
}

/// For people: every finding with its line, and how many there are.
fn text(found: &Findings) -> String {
    let terminal = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let colour = if terminal { Colour::On } else { Colour::Off };
    if found.diagnostics.is_empty() {
        return format!("{}: no findings\n", render::clean(&found.file));
    }
    let count = |wanted| found.diagnostics.iter().filter(|finding| finding.severity == wanted).count();
    let counts = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")]
        .into_iter()
        .map(|(severity, word)| (count(severity), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}{}", if count == 1 { "" } else { "s" }));
    let counts = counts.collect::<Vec<_>>().join(", ");
    format!("{}\n{}: {counts}\n", render::findings(found, colour), render::clean(&found.file))
}

/// `kuz build --check` and `--call=…`.
pub(crate) fn called(call: &str, request: &BuildRequest, progress: &Progress) -> u8 {
    let mut parts = call.split(',');
    let what = parts.next().unwrap_or_default();
    let mut json = false;
    for part in parts {
        match part {
            "format=json" => json = true,
            "format=text" => json = false,
            other => {
                progress.say(&format!("error: `--call {call}`: `{other}` is not supported (want format=json)"));
                return exit_code::USAGE;
            }
        }
    }
    let outcome = match what {
        "check" | "lint" => checked(request, json),
        "outline" => check::outline(request).and_then(|outline| {
            if json { print_json(&outline) } else { print(&outline_text(&outline)) }.map(|()| exit_code::SUCCESS)
        }),
        "targets" => check::targets(request).and_then(|targets| {
            let value = serde_json::json!({ "targets": targets });
            if json { print_json(&value) } else { print(&targets_text(&targets)) }.map(|()| exit_code::SUCCESS)
        }),
        other => {
            progress.say(&format!("error: `--call {other}` is not known (want check, outline or targets)"));
            return exit_code::USAGE;
        }
    };
    outcome.unwrap_or_else(|failure| shown(&failure, progress))
}

fn checked(request: &BuildRequest, json: bool) -> Result<u8, BuildError> {
    let found = check::check(request, &CheckOptions::default())?;
    if json {
        print_json(&findings::as_buildkit_json(&found))?;
    } else {
        print(&text(&found))?;
    }
    Ok(code(&found, FailOn::Warning))
}

fn targets_text(targets: &[Target]) -> String {
    let rows = targets.iter().map(|target| {
        let default = if target.default { " (default)" } else { "" };
        [format!("{}{default}", target.name), target.description.clone().unwrap_or_default()]
    });
    table(["TARGET", "DESCRIPTION"], rows)
}

fn outline_text(outline: &Outline) -> String {
    let mut text = format!("TARGET: {}\n", render::clean(&outline.name));
    if let Some(description) = &outline.description {
        let _ = writeln!(text, "DESCRIPTION: {}", render::clean(description));
    }
    if !outline.args.is_empty() {
        let rows = outline.args.iter().map(|arg| {
            [arg.name.clone(), arg.value.clone().unwrap_or_default(), arg.description.clone().unwrap_or_default()]
        });
        text.push('\n');
        text.push_str(&table(["BUILD ARG", "VALUE", "DESCRIPTION"], rows));
    }
    for (title, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh), ("CACHE", &outline.cache)] {
        if !list.is_empty() {
            let rows = list.iter().map(|mounted| {
                [mounted.name.clone(), if mounted.required { "true".to_owned() } else { String::new() }]
            });
            text.push('\n');
            text.push_str(&table([title, "REQUIRED"], rows));
        }
    }
    text
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut all = vec![head.map(str::to_owned)];
    all.extend(rows.map(|row| row.map(|cell| render::clean(&cell).replace('\n', " "))));
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_its_context() {
        let shown = |file: &str, context: Option<&str>| {
            let (file, context) = places(file, context);
            format!("{} {context}", file.unwrap_or_default())
        };
        assert_eq!(shown(".", None), " .");
        assert_eq!(shown("Dockerfile", None), "Dockerfile .");
        assert_eq!(shown("docker/app.Dockerfile", None), "docker/app.Dockerfile docker");
        assert_eq!(shown("docker/app.Dockerfile", Some(".")), "docker/app.Dockerfile .");
        assert_eq!(shown("-", None), "- .");
    }

    #[test]
    fn tables_line_up() {
        let rows = [["a".to_owned(), "b".to_owned()], ["long".to_owned(), String::new()]];
        assert_eq!(table(["X", "Y"], rows.into_iter()), "X      Y\na      b\nlong\n");
    }
}
