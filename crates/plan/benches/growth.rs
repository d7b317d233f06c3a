//! How long large files take to be parsed, checked and planned: `cargo bench -p kuz-plan`.
//!
//! Each shape at 25,000 and at 100,000 instructions, and an ignore file at 2,500 and 10,000 patterns; the last column is how
//! often as long the larger one took. 4 is linear; the tests of `crates/plan/src/work.rs` count instead of timing.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Instant;

use kuz_dockerfile::ignore::Ignore;
use kuz_image::{Digest, ImageConfig, Platform};
use kuz_plan::plan::{KnownImage, KnownImages, Network};
use kuz_plan::{Planned, Request};

const SMALL: usize = 25_000;
const LARGE: usize = 100_000;

fn lines(head: &str, count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).fold(head.to_owned(), |mut text, number| {
        let _ = writeln!(text, "{}", line(number));
        text
    })
}

type Shape = (&'static str, fn(usize) -> String);

const SHAPES: [Shape; 6] = [
    ("LABELs", |n| lines("FROM a\n", n, |i| format!("LABEL l{i}=x"))),
    ("distinct ENVs", |n| lines("FROM a\n", n, |i| format!("ENV V{i}=x"))),
    ("ENVs and RUNs", |n| lines("FROM a\n", n / 2, |i| format!("ENV V{i}=x\nRUN y"))),
    ("ARGs", |n| lines("FROM a\n", n, |i| format!("ARG V{i}=x"))),
    ("stages", |n| lines("FROM a AS s0\n", n / 2, |i| format!("FROM s{i} AS s{}\nRUN x", i + 1))),
    ("all kinds", |n| {
        lines("FROM a\n", n / 10, |i| {
            format!(
                "ENV E{i}=x\nARG A{i}=x\nLABEL l{i}=$E{i}\nWORKDIR /w{i}\nCOPY a{i} .\nEXPOSE {}\nUSER u{i}\nVOLUME /v{i}\n\
                 CMD [\"c{i}\"]\nRUN --mount=type=cache,target=/c{i} x",
                i % 60_000 + 1
            )
        })
    }),
];

fn request() -> Request {
    Request {
        build_args: BTreeMap::new(),
        target: None,
        platform: Platform::host(),
        build_platform: Platform::host(),
        labels: BTreeMap::new(),
        network: Network::Host,
        named_contexts: BTreeSet::new(),
        named_images: BTreeMap::new(),
    }
}

/// Milliseconds for parsing, rules, planning.
fn measure(text: &str) -> [f64; 3] {
    let started = Instant::now();
    let parsed = kuz_dockerfile::parse(text.as_bytes());
    let parse = started.elapsed();
    let started = Instant::now();
    let found = kuz_dockerfile::lint(&parsed.file).len();
    let lint = started.elapsed();
    let started = Instant::now();
    let mut known = KnownImages::new();
    while let Ok(Planned::Needs(needs)) = kuz_plan::plan(&parsed.file, &request(), &known) {
        let image = || KnownImage { manifest: Digest::of(b""), config: ImageConfig::default() };
        known.extend(needs.into_iter().map(|need| ((need.reference, need.platform), image())));
    }
    std::hint::black_box(found);
    [parse, lint, started.elapsed()].map(|time| time.as_secs_f64() * 1000.0)
}

fn row(name: &str, small: f64, large: f64) {
    println!("{name:<24} {small:>9.1} {large:>9.1} {:>6.1}", large / small);
}

fn main() {
    println!("{:<24} {:>9} {:>9} {:>6}", "ms", SMALL, LARGE, "ratio");
    for (name, shape) in SHAPES {
        let (small, large) = (measure(&shape(SMALL)), measure(&shape(LARGE)));
        for (what, (small, large)) in ["parse", "rules", "plan"].iter().zip(small.into_iter().zip(large)) {
            row(&format!("{name}: {what}"), small, large);
        }
    }
    let patterns = |count| lines("", count, |i| format!("dir{i}/**/*.tm[p{}]", i % 10));
    let time = |text: &str| {
        let started = Instant::now();
        std::hint::black_box(Ignore::parse(text.as_bytes()).map(|ignore| ignore.patterns().len()).unwrap_or_default());
        started.elapsed().as_secs_f64() * 1000.0
    };
    row("ignore file: parse", time(&patterns(SMALL / 10)), time(&patterns(LARGE / 10)));
}
