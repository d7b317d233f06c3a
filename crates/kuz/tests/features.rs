//! The specification's scenarios, run against the real program with real base images and the real pip.
//!
//! In: `tests/features/*.feature` and the stand-in base images that `cargo xtask bases` makes (`KUZ_STANDIN`, else beside
//! the program in `target/standin`), served from loopback. Out: cucumber's report and a last line `N passed, N failed, N
//! skipped`. Without the images every scenario is skipped, and a line says why. The steps are in `features/steps.rs`.
#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "a test runner of its own: its report is its output, and steps fail by panicking"
)]

#[path = "features/bench.rs"]
mod bench;
#[path = "features/inspect.rs"]
mod inspect;
#[path = "features/podman.rs"]
mod podman;
#[path = "features/steps.rs"]
mod steps;

use std::process::ExitCode;

use cucumber::World as _;

use crate::bench::Bench;
use crate::steps::Repository;

const FEATURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/features");
const NAME: &str = "features";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        // Runners that start each test by itself ask for names first: this is one test to them.
        if !arguments.iter().any(|argument| argument == "--ignored") {
            println!("{NAME}: test");
        }
        return ExitCode::SUCCESS;
    }
    if let Some(filter) = arguments.iter().find(|argument| !argument.starts_with('-'))
        && !NAME.contains(filter.as_str())
    {
        return ExitCode::SUCCESS;
    }
    if let Err(reason) = Bench::shared() {
        println!("skipped: {reason}");
        println!("0 passed, 0 failed, {} skipped", scenario_count());
        return ExitCode::SUCCESS;
    }
    let report = Repository::cucumber().max_concurrent_scenarios(1).with_default_cli().run(FEATURES).await;
    let scenarios = report.scenarios_stats();
    // A step without a definition, or a feature that cannot be read, is a mistake of ours: no reason to be green.
    let failed = scenarios.failed + scenarios.skipped + cucumber::writer::Stats::<Repository>::parsing_errors(&report);
    Bench::clear();
    let skipped = steps::skipped();
    println!("{} passed, {failed} failed, {skipped} skipped", scenarios.passed - skipped);
    if failed == 0 && scenarios.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many scenarios the feature files hold.
fn scenario_count() -> usize {
    let entries = std::fs::read_dir(FEATURES).into_iter().flatten().flatten();
    let features =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "feature"));
    let texts = features.filter_map(|path| std::fs::read_to_string(path).ok());
    texts.map(|text| text.lines().filter(|line| line.trim_start().starts_with("Scenario:")).count()).sum()
}
