//! `kuz store check|du|prune`: looking after the store.
//!
//! Tables for people, JSON for programs; `check` exits with the store's code when it finds damage.

use std::fmt::Write as _;

use kuz_build::error::BuildError;
use kuz_build::upkeep;

use super::{print, print_json, with_session};
use crate::args::{Format, StoreCommand};
use crate::progress::megabytes;
use crate::sizes;

/// `kuz store …`
pub(crate) fn run(command: &StoreCommand) -> u8 {
    match command {
        StoreCommand::Check { repair, format } => check(*repair, *format),
        StoreCommand::Du { format } => usage(*format),
        StoreCommand::Prune { all, keep_storage } => prune(*all, keep_storage.as_deref()),
    }
}

fn check(repair: bool, format: Format) -> u8 {
    with_session(false, |session, _| {
        let report = upkeep::check(session, repair)?;
        match format {
            Format::Json => print_json(&report)?,
            Format::Text => {
                let mut text = String::new();
                for problem in &report.problems {
                    let _ = writeln!(text, "{problem}");
                }
                let verdict = match (report.problems.len(), repair) {
                    (0, _) => "the store is sound".to_owned(),
                    (n, true) => format!("{n} problems; what was damaged is dropped"),
                    (n, false) => format!("{n} problems; `kuz store check --repair` drops what is damaged"),
                };
                let _ = writeln!(text, "{} things checked: {verdict}", report.checked);
                print(&text)?;
            }
        }
        if report.problems.is_empty() || repair {
            return Ok(());
        }
        Err(BuildError::Store {
            action: "check the store".into(),
            source: format!("{} problems", report.problems.len()).into(),
        })
    })
}

fn usage(format: Format) -> u8 {
    with_session(false, |session, _| {
        let kinds = upkeep::usage(session)?;
        match format {
            Format::Json => print_json(&kinds),
            Format::Text => {
                let mut text = format!("{:12}  {:>8}  {:>10}\n", "KIND", "COUNT", "SIZE");
                for kind in &kinds {
                    let _ = writeln!(text, "{:12}  {:>8}  {:>10}", kind.kind, kind.count, megabytes(kind.bytes));
                }
                let total = kinds.iter().map(|kind| kind.bytes).sum();
                let _ = writeln!(text, "{:12}  {:>8}  {:>10}", "total", "", megabytes(total));
                print(&text)
            }
        }
    })
}

fn prune(all: bool, keep: Option<&str>) -> u8 {
    with_session(false, |session, _| {
        let keep = keep.map(sizes::parse).transpose().map_err(BuildError::input)?;
        let freed = upkeep::prune(session, all, keep)?;
        print(&format!("removed {} things, {}\n", freed.count, megabytes(freed.bytes)))
    })
}
