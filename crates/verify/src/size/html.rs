//! A report as one HTML page that needs nothing else: no network, no framework, in light and dark.
//!
//! Tables are written here; the treemap is drawn by a script out of the tree, which is in the page as JSON. Every name
//! is outside data: escaped in the markup, and in the JSON so that no `<` can end its element. The page's policy allows
//! nothing from anywhere.

use std::fmt::Write as _;

use super::{Change, Comparison, Hidden, Report, Share, human};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");
/// Rows of a table; the JSON form has more.
const ROWS: usize = 100;
/// Rows that are shown before somebody asks for more.
const FIRST: usize = 15;

/// The page of a report, with what differs from another image if it is compared.
pub fn html(report: &Report, comparison: Option<&Comparison>) -> String {
    let mut page = String::new();
    let title = escaped(&report.image);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
         <title>Size of {title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n\
         <p class=\"soft\">{}</p>\n",
        escaped(&report.id)
    );
    let _ = writeln!(
        page,
        "<p>{} uncompressed, {} stored; {} in {} files that a container sees; {} wasted; {} twice.</p>",
        human(report.bytes),
        human(report.stored),
        human(report.shown),
        report.files,
        human(report.wasted.bytes),
        human(report.duplicates.bytes),
    );
    page.push_str(
        "<h2>Files</h2>\n<nav id=\"trail\" aria-label=\"Directories\"></nav>\n\
         <div id=\"map\" role=\"group\" aria-label=\"Treemap of directories\"></div>\n\
         <p id=\"said\" class=\"soft\" aria-live=\"polite\"></p>\n\
         <p class=\"soft\">Arrow keys move, Enter opens a directory, Escape goes back.</p>\n",
    );
    if let Some(comparison) = comparison {
        compared(&mut page, comparison);
    }
    layers(&mut page, report);
    shares(&mut page, "Stages", &report.stages);
    shares(&mut page, "Python distributions", &report.distributions);
    shares(&mut page, "Debian packages", &report.packages);
    wasted(&mut page, report);
    duplicates(&mut page, report);
    if let Some(unreached) = &report.unreached {
        let title = format!("Not reached from the command ({}, a hint)", human(unreached.bytes));
        shares(&mut page, &title, &unreached.groups);
        let _ = writeln!(
            page,
            "<p class=\"soft\">Nothing leads there from {}, as far as can be told without running it. A program may start \
             or read what no file names.</p>",
            escaped(&unreached.command.join(", "))
        );
    }
    // In a script element only `<` is special.
    let tree = serde_json::to_string(&report.tree).unwrap_or_default().replace('<', "\\u003c");
    let _ = write!(
        page,
        "</main>\n<script type=\"application/json\" id=\"tree\">{tree}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    );
    page
}

/// A text in markup.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut all, c| {
        match c {
            '&' => all.push_str("&amp;"),
            '<' => all.push_str("&lt;"),
            '>' => all.push_str("&gt;"),
            '"' => all.push_str("&quot;"),
            '\'' => all.push_str("&#39;"),
            c if c.is_control() => all.extend(c.escape_default()),
            c => all.push(c),
        }
        all
    })
}

/// A table: column names, those of numbers first marked; rows as escaped cells.
fn table(page: &mut String, title: &str, columns: &[(&str, bool)], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(page, "<h2>{}</h2>", escaped(title));
    let head: String = columns.iter().map(|(name, number)| cell("th", name, *number)).collect();
    let body = |rows: &[Vec<String>]| -> String {
        let row = |row: &Vec<String>| {
            let cells = row.iter().zip(columns).map(|(text, (_, number))| cell("td", text, *number));
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        rows.iter().map(row).collect()
    };
    let (first, rest) = rows.split_at_checked(FIRST).unwrap_or((rows, &[]));
    let _ = writeln!(page, "<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{}</tbody>\n</table>", body(first));
    if !rest.is_empty() {
        let rest = rest.get(..ROWS).unwrap_or(rest);
        let _ = writeln!(
            page,
            "<details>\n<summary>{} more</summary>\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{}</tbody>\n</table>\n</details>",
            rest.len(),
            body(rest)
        );
    }
}

fn cell(tag: &str, text: &str, number: bool) -> String {
    let class = if number { " class=\"number\"" } else { "" };
    format!("<{tag}{class}>{text}</{tag}>")
}

fn shares(page: &mut String, title: &str, shares: &[Share]) {
    let rows: Vec<Vec<String>> = shares
        .iter()
        .map(|share| {
            let version = share.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            vec![human(share.bytes), share.files.to_string(), escaped(&format!("{}{version}", share.name))]
        })
        .collect();
    table(page, title, &[("Size", true), ("Files", true), ("Name", false)], &rows);
}

fn layers(page: &mut String, report: &Report) {
    let rows: Vec<Vec<String>> = report
        .layers
        .iter()
        .map(|layer| {
            let stage = layer.origin.as_ref().map(|origin| origin.stage.clone()).unwrap_or_default();
            vec![
                human(layer.bytes),
                human(layer.stored),
                human(layer.written.saturating_sub(layer.shown)),
                escaped(&stage),
                escaped(&layer.step()),
            ]
        })
        .collect();
    let columns = [("Size", true), ("Stored", true), ("Wasted", true), ("Stage", false), ("Step", false)];
    table(page, "Layers", &columns, &rows);
}

fn wasted(page: &mut String, report: &Report) {
    let rows: Vec<Vec<String>> = report
        .wasted
        .paths
        .iter()
        .map(|wasted| {
            let how = match wasted.how {
                Hidden::Deleted => "deleted",
                Hidden::Overwritten => "overwritten",
                Hidden::Repeated => "written again unchanged",
            };
            vec![
                human(wasted.bytes),
                wasted.files.to_string(),
                format!("{} in layer {}, {how} by layer {}", escaped(&wasted.path), wasted.layer, wasted.by),
            ]
        })
        .collect();
    let title = format!("Written and not seen ({})", human(report.wasted.bytes));
    table(page, &title, &[("Size", true), ("Files", true), ("Path", false)], &rows);
}

fn duplicates(page: &mut String, report: &Report) {
    let rows: Vec<Vec<String>> = report
        .duplicates
        .groups
        .iter()
        .map(|group| {
            let places = group.places.iter().map(|(layer, path)| format!("{} (layer {layer})", escaped(path)));
            vec![human(group.bytes), group.copies.to_string(), places.collect::<Vec<_>>().join("<br>")]
        })
        .collect();
    let title = format!("The same content more than once ({})", human(report.duplicates.bytes));
    table(page, &title, &[("Size of one", true), ("Copies", true), ("Places", false)], &rows);
}

fn compared(page: &mut String, comparison: &Comparison) {
    let (old, new) = comparison.bytes;
    let _ = writeln!(
        page,
        "<h2>Compared with {}</h2>\n<p>{} now, {} there: {}.</p>",
        escaped(&comparison.against),
        human(new),
        human(old),
        signed(i128::from(new) - i128::from(old)),
    );
    for (title, changes) in [
        ("Stages that differ", &comparison.stages),
        ("Layers that differ", &comparison.layers),
        ("Directories that differ", &comparison.directories),
        ("Python distributions that differ", &comparison.distributions),
        ("Debian packages that differ", &comparison.packages),
    ] {
        let rows: Vec<Vec<String>> = changes.iter().map(change).collect();
        table(page, title, &[("Difference", true), ("There", true), ("Now", true), ("Name", false)], &rows);
    }
}

fn change(change: &Change) -> Vec<String> {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), human);
    let versions = change.versions.as_ref().map(|(old, new)| format!(" ({old} to {new})")).unwrap_or_default();
    vec![signed(change.delta()), size(change.old), size(change.new), escaped(&format!("{}{versions}", change.name))]
}

/// A difference with its sign.
pub fn signed(delta: i128) -> String {
    let bytes = u64::try_from(delta.unsigned_abs()).unwrap_or(u64::MAX);
    format!("{}{}", if delta < 0 { "-" } else { "+" }, human(bytes))
}

#[cfg(test)]
mod tests {
    use kuz_image::Config;

    use super::super::account::tests::{origin, sample};
    use super::super::layers::tests::{entry, file};
    use super::super::{account, compare};
    use super::*;

    #[test]
    fn hostile_names_stay_text() {
        let config = Config::default();
        let mut subject = sample(&config);
        let evil = "</script><script>alert(1)</script>\"'&\u{1b}[2J";
        subject.name = evil.into();
        subject.layers[2].origin = Some(origin(evil, false, Some(evil)));
        subject.layers[2].created_by = Some(evil.into());
        let index = std::sync::Arc::make_mut(&mut subject.layers[2].index);
        index.entries.insert(format!("app/{}", evil.replace('/', "_")).into_bytes(), entry(file(90_000)));
        let report = account(&subject);
        let page = html(&report, Some(&compare(&report, &account(&sample(&config)))));
        assert_eq!(page.matches("<script").count(), 2, "the two of the page itself");
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(!page.contains("alert(1)</") && !page.contains('\u{1b}'));
        assert!(page.contains("&lt;/script&gt;&lt;script&gt;alert(1)"));
        for outside in ["http://", "https://", "src=", "url(", "@import", "<link"] {
            assert!(!page.contains(outside), "{outside} in a page that needs nothing else");
        }
    }

    #[test]
    fn differences_have_signs() {
        assert_eq!((signed(2048).as_str(), signed(-10).as_str(), signed(0).as_str()), ("+2.0K", "-10", "+0"));
    }
}
