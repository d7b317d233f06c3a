//! What `docs/dockerfile.md` says of mounts, build arguments and the plan's limit is what the planner does.

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;

use support::{findings, request, with_args};

fn page() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/dockerfile.md");
    std::fs::read_to_string(path).expect("the page")
}

/// The rows of the table behind a heading, cut at their bars.
fn rows<'t>(text: &'t str, heading: &str) -> Vec<Vec<&'t str>> {
    let (_, section) = text.split_once(&format!("{heading}\n")).expect("the heading");
    let lines = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    lines.skip(2).map(|line| line.trim_matches(['|', ' ']).split(" | ").map(str::trim).collect()).collect()
}

/// What stands between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Each type takes each of its options; `required` and `size` are only for those that name them.
#[test]
fn mounts() {
    let text = page();
    let mut types = BTreeSet::new();
    for row in rows(&text, "### Mounts") {
        let (kind, options) = (quoted(row[0])[0], quoted(row[1]));
        types.insert(kind.to_owned());
        for option in &options {
            let name = option.split('=').next().unwrap_or_default();
            let value = match name {
                "sharing" => "=locked",
                "mode" => "=0700",
                "uid" | "gid" => "=1",
                "size" => "=1m",
                "required" | "readonly" | "ro" | "rw" | "readwrite" => "",
                _ => "=/x",
            };
            let value = if name == "from" { "=busybox" } else { value };
            let place = if matches!(name, "target" | "dst" | "destination") { "" } else { ",target=/t" };
            let line = format!("FROM busybox\nRUN --mount=type={kind}{place},{name}{value} x\n");
            assert_eq!(findings(&line, &request()), [] as [String; 0], "{kind} {option}");
        }
        for option in ["required", "size=1"].into_iter().filter(|option| {
            let name = option.split('=').next().unwrap_or_default();
            !options.contains(&name)
        }) {
            let line = format!("FROM busybox\nRUN --mount=type={kind},target=/t,{option} x\n");
            assert!(findings(&line, &request())[0].contains("unexpected key"), "{kind} {option}");
        }
    }
    assert_eq!(types, ["bind", "cache", "secret", "ssh", "tmpfs"].map(str::to_owned).into());
}

/// The page lists those that are known: another one is told of.
#[test]
fn steering_arguments() {
    let text = page();
    let rows = rows(&text, "### Build arguments that steer the build");
    assert_eq!(rows.len(), kuz_plan::CONTROLS.len());
    for row in rows {
        let name = quoted(row[0])[0];
        assert!(kuz_plan::CONTROLS.contains(&name), "{name}");
        let told = findings("FROM busybox\n", &with_args(&[(name, "1")]));
        assert_eq!(!told.is_empty(), row[1].contains("is an error"), "{name}: {told:?}");
    }
}

#[test]
fn the_plans_limit() {
    let text = page();
    let limits = text.lines().find(|line| line.starts_with("| limits |")).expect("the row");
    assert!(limits.contains(&format!("{} MiB a plan", kuz_plan::MAX_PLAN >> 20)), "{limits}");
    // A variable that doubles, and steps that each hold it.
    let doubling = "ENV A=$A$A\n".repeat(19);
    let file = format!("FROM busybox\nENV A=xx\n{doubling}{}", "LABEL a=$A\n".repeat(600));
    let told = findings(&file, &request());
    assert!(told.len() == 1 && told[0].starts_with("PlanTooLarge: "), "{told:?}");
}
