//! `kuz size`: where an image's bytes are, as a text for a terminal, as JSON, or as a page with a treemap.
//!
//! The report is `kuz_build::size`'s. The text shows the largest of everything; all of it is in the other forms.

use std::fmt::Write as _;

use kuz_build::error::BuildError;
use kuz_build::size::{self, Change, Comparison, Hidden, Node, Report, Share, human, signed};

use super::{print, print_json, with_session};
use crate::args::{SizeArgs, SizeFormat};
use crate::render;

/// Columns of a terminal that is not asked for its width.
const WIDTH: usize = 80;
/// Rows of a list.
const ROWS: usize = 8;
/// Directories that are listed, this deep.
const DEPTH: usize = 4;

/// Runs the command.
pub(crate) fn run(arguments: &SizeArgs) -> u8 {
    with_session(false, |session, _| {
        let report = size::report(session, &arguments.image)?;
        let against = arguments.against.as_ref().map(|other| size::report(session, other)).transpose()?;
        let compared = against.as_ref().map(|against| size::compare(&report, against));
        let text = match arguments.format {
            SizeFormat::Text => text(&report, compared.as_ref()),
            SizeFormat::Html => size::html(&report, compared.as_ref()),
            SizeFormat::Json if arguments.output.is_none() => {
                return match &compared {
                    None => print_json(&report),
                    Some(compared) => print_json(compared),
                };
            }
            SizeFormat::Json => json(&report, compared.as_ref())?,
        };
        match &arguments.output {
            None => print(&text),
            Some(path) => std::fs::write(path, text)
                .map_err(|error| BuildError::store(format!("write `{}`", path.display()), error)),
        }
    })
}

fn json(report: &Report, compared: Option<&Comparison>) -> Result<String, BuildError> {
    let encoded = match compared {
        None => serde_json::to_string_pretty(report),
        Some(compared) => serde_json::to_string_pretty(compared),
    };
    encoded.map(|text| text + "\n").map_err(|error| BuildError::store("encode the report", error))
}

fn text(report: &Report, compared: Option<&Comparison>) -> String {
    let mut text = head(report);
    match compared {
        Some(compared) => comparison(&mut text, compared),
        None => whole(&mut text, report),
    }
    text
}

fn head(report: &Report) -> String {
    let mut text = format!(
        "{}: {} ({} stored), {} layers, {} files\n",
        render::clean_line(&report.image),
        human(report.bytes),
        human(report.stored),
        report.layers.len(),
        report.files,
    );
    let _ = writeln!(
        text,
        "{} seen by a container, {} wasted by later layers, {} twice",
        human(report.shown),
        human(report.wasted.bytes),
        human(report.duplicates.bytes),
    );
    text
}

fn whole(text: &mut String, report: &Report) {
    shares(text, "STAGES", &report.stages, report.bytes, "");
    title(text, "LAYERS", "");
    for layer in &report.layers {
        let hidden = layer.written.saturating_sub(layer.shown);
        let hidden = if hidden == 0 { String::new() } else { format!(" ({} wasted)", human(hidden)) };
        row(text, &human(layer.bytes), &percent(layer.bytes, report.bytes), &layer.step(), &hidden);
    }
    title(text, "DIRECTORIES", "");
    let mut directories = Vec::new();
    flatten(&report.tree, "", DEPTH, &mut directories);
    directories.sort_by(|one: &(String, u64), other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    for (path, bytes) in directories.iter().take(2 * ROWS) {
        row(text, &human(*bytes), &percent(*bytes, report.shown), path, "");
    }
    shares(text, "PYTHON DISTRIBUTIONS", &report.distributions, report.shown, "");
    shares(text, "DEBIAN PACKAGES", &report.packages, report.shown, "");
    wasted(text, report);
    if report.duplicates.bytes > 0 {
        title(text, "TWICE", "the same content more than once");
        for group in report.duplicates.groups.iter().take(ROWS) {
            let more = format!(" ({} copies)", group.copies);
            let place = group.places.last().map(|(_, path)| path.as_str()).unwrap_or_default();
            row(text, &human(group.bytes), "", place, &more);
        }
    }
    if let Some(unreached) = report.unreached.as_ref().filter(|unreached| unreached.bytes > 0) {
        let names = unreached.command.iter().map(|path| path.rsplit('/').next().unwrap_or(path));
        let names = render::clean_line(&names.collect::<Vec<_>>().join(", "));
        let hint = format!("{}, a hint: nothing leads there from {names}", human(unreached.bytes));
        shares(text, "NOT REACHED", &unreached.groups, report.shown, &hint);
    }
}

fn wasted(text: &mut String, report: &Report) {
    if report.wasted.bytes == 0 {
        return;
    }
    title(text, "WASTED", "written, then deleted or overwritten");
    for wasted in report.wasted.paths.iter().take(ROWS) {
        let how = match wasted.how {
            Hidden::Deleted => "deleted",
            Hidden::Overwritten => "overwritten",
            Hidden::Repeated => "repeated",
        };
        let how = format!(" ({} {how} by {})", wasted.layer, wasted.by);
        row(text, &human(wasted.bytes), "", &wasted.path, &how);
    }
    more(text, report.wasted.paths.len());
}

/// Directories that are worth a line: those with much in them that is not in one of their own.
fn flatten(node: &Node, path: &str, depth: usize, all: &mut Vec<(String, u64)>) {
    for child in node.children.iter().filter(|child| !child.children.is_empty()) {
        let path = format!("{path}/{}", child.name);
        let largest = child.children.iter().map(|inner| inner.bytes).max().unwrap_or_default();
        // A directory that is all of its parent says more than the parent.
        if largest < child.bytes / 10 * 9 || depth == 0 {
            all.push((path.clone(), child.bytes));
        }
        if depth > 0 {
            flatten(child, &path, depth - 1, all);
        }
    }
}

fn shares(text: &mut String, name: &str, shares: &[Share], all: u64, hint: &str) {
    if shares.is_empty() {
        return;
    }
    title(text, name, hint);
    for share in shares.iter().take(ROWS) {
        let version = share.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        row(text, &human(share.bytes), &percent(share.bytes, all), &format!("{}{version}", share.name), "");
    }
    more(text, shares.len());
}

fn comparison(text: &mut String, compared: &Comparison) {
    let (old, new) = compared.bytes;
    let _ = writeln!(
        text,
        "against {}: {} ({} there, {} here)",
        render::clean_line(&compared.against),
        signed(i128::from(new) - i128::from(old)),
        human(old),
        human(new),
    );
    for (name, changes) in [
        ("STAGES", &compared.stages),
        ("LAYERS", &compared.layers),
        ("DIRECTORIES", &compared.directories),
        ("PYTHON DISTRIBUTIONS", &compared.distributions),
        ("DEBIAN PACKAGES", &compared.packages),
    ] {
        if changes.is_empty() {
            continue;
        }
        title(text, name, "");
        for change in changes.iter().take(ROWS) {
            row(text, &signed(change.delta()), "", &change.name, &how(change));
        }
        more(text, changes.len());
    }
}

fn how(change: &Change) -> String {
    match (change.old, change.new, &change.versions) {
        (None, _, _) => " (new)".to_owned(),
        (_, None, _) => " (gone)".to_owned(),
        (_, _, Some((old, new))) => format!(" ({old} -> {new})"),
        (Some(old), Some(new), None) => format!(" ({} -> {})", human(old), human(new)),
    }
}

fn title(text: &mut String, name: &str, hint: &str) {
    let hint = if hint.is_empty() { String::new() } else { format!("  {hint}") };
    let line: String = format!("{name}{hint}").chars().take(WIDTH).collect();
    let _ = writeln!(text, "\n{line}");
}

fn more(text: &mut String, all: usize) {
    if all > ROWS {
        let _ = writeln!(text, "              and {} more", all - ROWS);
    }
}

/// A line: two numbers, a name cut to what is left of it, and a remark that is not.
fn row(text: &mut String, size: &str, part: &str, name: &str, remark: &str) {
    let name = render::clean_line(name);
    let remark: String = render::clean_line(remark).chars().take(WIDTH / 2).collect();
    let room = WIDTH.saturating_sub(14 + remark.chars().count());
    let cut = if name.chars().count() > room {
        // The end of a path says more than its beginning, that of a command less.
        let keep = room.saturating_sub(1);
        if name.starts_with('/') {
            let skip = name.chars().count() - keep;
            format!("…{}", name.chars().skip(skip).collect::<String>())
        } else {
            format!("{}…", name.chars().take(keep).collect::<String>())
        }
    } else {
        name
    };
    let _ = writeln!(text, "{}", format!("{size:>7} {part:>4}  {cut}{remark}").trim_end());
}

fn percent(part: u64, all: u64) -> String {
    let (part, all) = (u128::from(part), u128::from(all));
    (part * 200 + all).checked_div(2 * all).map_or_else(String::new, |percent| format!("{percent}%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fit() {
        let long = "/usr/lib/".repeat(20);
        for name in [long.as_str(), "RUN a very long command ".repeat(9).as_str(), "short"] {
            let mut text = String::new();
            row(&mut text, "+1.5M", "12%", name, &" remark".repeat(10));
            row(&mut text, "10M", "", name, " (0 deleted by 1)");
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        }
        let mut text = String::new();
        row(&mut text, "10M", "5%", &long, "");
        assert!(text.trim_end().ends_with("/usr/lib/"), "{text}");
    }
}
