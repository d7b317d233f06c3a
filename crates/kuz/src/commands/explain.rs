//! `kuz explain`: why the steps of a build were hits or misses, or what the next build would do and why.
//!
//! For people on standard output, or JSON; `kuz build --explain` writes the same text to standard error. All findings
//! are `kuz_build::explain`'s.

use std::fmt::Write as _;

use kuz_build::explain::{self, Explanation, Outcome, StageView, StepView};

use super::{build, print, print_json, shown};
use crate::args::{ExplainArgs, Format, ProgressArg};
use crate::progress::Progress;
use crate::{exit_code, machine, render, signals};

/// Columns of a terminal that is not asked for its width.
const WIDTH: usize = 80;

/// Runs the command.
pub(crate) fn run(arguments: &ExplainArgs) -> u8 {
    let progress = Progress::new(ProgressArg::Auto, false);
    let ready = build::request(&arguments.build).and_then(|request| Ok((request, machine::read()?)));
    let (request, machine) = match ready {
        Ok(ready) => ready,
        Err(message) => {
            progress.say(&format!("error: {message}"));
            return exit_code::USAGE;
        }
    };
    let cancel = signals::listen(false);
    let ask = if arguments.last { explain::last } else { explain::next };
    let outcome = ask(&request, &machine, &cancel, &|event| progress.on(&event));
    progress.close();
    let outcome = outcome.and_then(|explanation| match arguments.format {
        Format::Text => print(&text(&explanation)),
        Format::Json => print_json(&explanation),
    });
    match outcome {
        Ok(()) => exit_code::SUCCESS,
        Err(failure) => shown(&failure, &progress),
    }
}

/// An explanation for people.
pub(crate) fn text(explanation: &Explanation) -> String {
    let mut text = heading(explanation);
    for stage in &explanation.stages {
        text.push('\n');
        stage_text(&mut text, stage);
    }
    if !explanation.advice.is_empty() {
        text.push_str("\nWhat would make the next build faster:\n");
    }
    for advice in &explanation.advice {
        text.push_str(&wrapped("- ", &advice.message));
        if !advice.lines.is_empty() {
            let _ = writeln!(text, "    {}:", advice.file);
        }
        for line in &advice.lines {
            let _ = writeln!(text, "      {}", render::clean_line(line));
        }
    }
    text
}

fn heading(explanation: &Explanation) -> String {
    let steps = || explanation.stages.iter().flat_map(|stage| &stage.steps);
    let count = |wanted: &[Outcome]| steps().filter(|step| wanted.contains(&step.outcome)).count();
    let all = steps().filter(|step| step.outcome != Outcome::Config).count();
    let target = explanation.target.as_ref().map(|target| format!(", target {target}")).unwrap_or_default();
    let file = render::clean_line(&format!("{}{target}", explanation.file));
    let open = match count(&[Outcome::Open]) {
        0 => String::new(),
        open => format!(", and perhaps {open} more"),
    };
    let mut line = match (&explanation.built, explanation.ms) {
        (Some(built), took) => {
            let took = took.map(|took| format!(" in {}", duration(took))).unwrap_or_default();
            let done = count(&[Outcome::Done, Outcome::Failed]);
            format!("{file}: {done} of {all} steps were done anew{took}, {}", day(built))
        }
        (None, _) => {
            format!("{file}: the next build does {} of {all} steps anew{open}", count(&[Outcome::Miss]))
        }
    };
    if let Some(compared) = &explanation.compared {
        let _ = write!(line, "\ncompared with the build of {}", day(compared));
    }
    line + "\n"
}

/// A time to the second.
fn day(time: &str) -> String {
    let whole = time.split('.').next().unwrap_or(time);
    whole.trim_end_matches('Z').replace('T', " ") + " UTC"
}

fn stage_text(text: &mut String, stage: &StageView) {
    let name = match &stage.name {
        Some(name) => format!("{name} (stage {})", stage.number),
        None => format!("stage {}", stage.number),
    };
    let base = render::clean_line(&format!("{name} on {}", stage.base));
    let _ = writeln!(text, "{}", columns(&base, &duration(stage.ms)));
    if let Some((old, new)) = &stage.base_change {
        let line = format!("another base than before: {}, was {}", short(new), short(old));
        text.push_str(&wrapped("     ", &line));
    }
    for step in &stage.steps {
        step_text(text, step);
    }
}

fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

fn step_text(text: &mut String, step: &StepView) {
    if step.outcome == Outcome::Config {
        return;
    }
    let outcome = match step.outcome {
        Outcome::Cached => "cached".to_owned(),
        Outcome::Done => format!("done {:>8}", duration(step.ms)),
        Outcome::Failed => format!("FAILED {:>8}", duration(step.ms)),
        Outcome::Hit => "hit".to_owned(),
        Outcome::Miss if step.ms > 0.0 => format!("miss, ~{}", duration(step.ms)),
        Outcome::Miss => "miss".to_owned(),
        Outcome::Open => "open".to_owned(),
        Outcome::NotReached => "not reached".to_owned(),
        Outcome::Config => String::new(),
    };
    let line = step.text.lines().next().unwrap_or_default();
    let _ = writeln!(text, "{}", columns(&format!("{:>3}  {}", step.number, render::clean(line)), &outcome));
    let reasons = step.reasons.iter().take(2).map(ToString::to_string).collect::<Vec<_>>();
    if reasons.is_empty() {
        return;
    }
    let hit = matches!(step.outcome, Outcome::Cached | Outcome::Hit);
    let mut reason = reasons.join("; ");
    if hit {
        reason = format!("as in an earlier build than the last one: {reason}");
    }
    if step.reasons.len() > 2 {
        let _ = write!(reason, "; and {} more", step.reasons.len() - 2);
    }
    if step.in_a_row >= 3 {
        let _ = write!(reason, " (done in each of the last {} builds)", step.in_a_row);
    }
    text.push_str(&wrapped("     ", &reason));
}

/// Two texts at both ends of a line.
fn columns(left: &str, right: &str) -> String {
    let room = WIDTH.saturating_sub(right.chars().count() + 2);
    let long = left.chars().count() > room;
    let left: String = left.chars().take(if long { room.saturating_sub(1) } else { room }).collect();
    let left = if long { left + "…" } else { left };
    format!("{left:room$}  {right}")
}

/// A text in lines that fit, each behind as many blanks as the beginning has characters.
fn wrapped(start: &str, text: &str) -> String {
    let indent = start.chars().count();
    let mut all = String::new();
    let mut line = start.to_owned();
    let mut empty = true;
    for word in render::clean_line(text).split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(all, "{}", line.trim_end());
            line = " ".repeat(indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(all, "{}", line.trim_end());
    all
}

/// Milliseconds for people.
fn duration(ms: f64) -> String {
    if ms < 1.0 {
        "0 ms".to_owned()
    } else if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else if ms < 100_000.0 {
        format!("{:.1} s", ms / 1000.0)
    } else {
        format!("{:.0} s", ms / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit() {
        let words = "word ".repeat(60);
        for line in wrapped("- ", &words).lines().chain([columns(&words, "done 3 s").as_str()]) {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert_eq!(wrapped("- ", "a\u{1b}b"), "- a\\u{1b}b\n");
        assert!(columns("a", "b").starts_with("a  ") && columns("a", "b").len() == WIDTH);
    }

    #[test]
    fn times_are_short() {
        for (ms, want) in [(0.2, "0 ms"), (12.4, "12 ms"), (1234.0, "1.2 s"), (123_456.0, "123 s")] {
            assert_eq!(duration(ms), want);
        }
        assert_eq!(day("2026-01-02T03:04:05.678Z"), "2026-01-02 03:04:05 UTC");
    }
}
