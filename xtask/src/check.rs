//! What is checked before tests run: form, lints, the project's own rules, and what dependencies are allowed.
//!
//! All four are run even if one fails, so that one run tells everything.

use std::fs;
use std::path::PathBuf;

use crate::problem::Problem;
use crate::program::{self, Workspace, cargo, command};
use crate::{Outcome, say, tidy_rules};

/// The version that `deny.toml` is written for.
const DENY_VERSION: &str = "0.20.2";

/// The task.
pub(crate) fn run() -> Outcome {
    let workspace = Workspace::find()?;
    let steps: [(&str, &dyn Fn() -> Outcome); 4] = [
        ("fmt", &|| program::run(cargo().args(["fmt", "--all", "--check"]))),
        ("clippy", &|| {
            let arguments = ["clippy", "--locked", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
            program::run(cargo().args(arguments))
        }),
        ("tidy", &tidy),
        ("deny", &|| deny(&workspace)),
    ];
    let mut failed = Vec::new();
    for (name, step) in steps {
        say(name);
        if let Err(problem) = step() {
            problem.print();
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Problem::Failed(format!("check failed: {}", failed.join(", ")))) }
}

/// The project's own rules.
pub(crate) fn tidy() -> Outcome {
    let workspace = Workspace::find()?;
    let findings = tidy_rules::findings(&workspace.root)?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() { Ok(()) } else { Err(Problem::Failed(format!("{} rules broken", findings.len()))) }
}

/// cargo-deny, without advisories: their database is not to be had everywhere.
fn deny(workspace: &Workspace) -> Outcome {
    let deny = cargo_deny(workspace)?;
    let arguments = ["--workspace", "--log-level=error", "check", "bans", "licenses", "sources"];
    program::run(command(deny, arguments).current_dir(&workspace.root))
}

/// The installed one, or one of our own under `target/tools`.
fn cargo_deny(workspace: &Workspace) -> Outcome<PathBuf> {
    let own = workspace.target.join("tools").join("bin").join("cargo-deny");
    if let Some(found) = program::find("cargo-deny").or_else(|| own.is_file().then(|| own.clone())) {
        return Ok(found);
    }
    let folder = workspace.target.join("tools");
    fs::create_dir_all(&folder).map_err(Problem::file("make", &folder))?;
    say(&format!("installing cargo-deny {DENY_VERSION} into {} (a few minutes)", folder.display()));
    let mut install = cargo();
    // Without its default features it brings no git implementation: only advisories need one.
    install.args(["install", "--quiet", "--locked", "--no-default-features", "--version", DENY_VERSION, "cargo-deny"]);
    install.arg("--root").arg(&folder).arg("--target-dir").arg(folder.join("build"));
    // Seconds of its run time are worth less than minutes of its build.
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    program::run(&mut install)?;
    let build = folder.join("build");
    fs::remove_dir_all(&build).map_err(Problem::file("remove", build))?;
    Ok(own)
}
