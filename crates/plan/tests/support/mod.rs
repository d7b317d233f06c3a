//! What the tests of planning share: a request, a few known images, and a plan from a text.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::panic, reason = "a test says by panicking what failed")]

use std::collections::{BTreeMap, BTreeSet};

use kuz_dockerfile::{Diagnostic, Dockerfile};
use kuz_image::{Config, DiffId, Digest, ImageConfig, Platform};
use kuz_plan::plan::{KnownImage, KnownImages, Network, Plan};
use kuz_plan::{Planned, Request};

/// A request for linux/amd64 with nothing special.
pub(crate) fn request() -> Request {
    Request {
        build_args: BTreeMap::new(),
        target: None,
        platform: Platform::new("linux", "amd64", None),
        build_platform: Platform::new("linux", "amd64", None),
        labels: BTreeMap::new(),
        network: Network::Host,
        named_contexts: BTreeSet::new(),
        named_images: BTreeMap::new(),
    }
}

/// A request with these build arguments.
pub(crate) fn with_args(args: &[(&str, &str)]) -> Request {
    let build_args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Request { build_args, ..request() }
}

/// The tree of a text that parses.
pub(crate) fn parse(text: &str) -> Dockerfile {
    let parsed = kuz_dockerfile::parse(text.as_bytes());
    let errors: Vec<&Diagnostic> =
        parsed.diagnostics.iter().filter(|found| found.severity == kuz_dockerfile::Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}");
    parsed.file
}

/// The images that tests know, for every platform that is asked for.
fn known(reference: &str, platform: &Platform) -> Option<KnownImage> {
    let list = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let config = match reference {
        "docker.io/library/python:3.10" => Config {
            env: list(&["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"]),
            cmd: list(&["python3"]),
            ..Config::default()
        },
        "docker.io/library/busybox:latest" => Config { cmd: list(&["sh"]), ..Config::default() },
        "docker.io/library/triggers:latest" => Config {
            on_build: list(&["ARG WHO=nobody", "RUN echo hello $WHO", "COPY --from=tools /t /t"]),
            working_dir: Some("/srv".to_owned()),
            user: Some("app".to_owned()),
            ..Config::default()
        },
        "docker.io/library/full:latest" => Config {
            entrypoint: list(&["/entry"]),
            cmd: list(&["serve"]),
            labels: Some(BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())])),
            shell: list(&["/bin/bash", "-c"]),
            stop_signal: Some("SIGINT".to_owned()),
            ..Config::default()
        },
        _ => return None,
    };
    let mut image = ImageConfig { config, created: Some("2020-01-01T00:00:00Z".to_owned()), ..ImageConfig::default() };
    image.os.clone_from(&platform.os);
    image.architecture.clone_from(&platform.architecture);
    image.rootfs.diff_ids = vec![DiffId(Digest::of(reference.as_bytes()))];
    Some(KnownImage { manifest: Digest::of(format!("{reference} {platform}").as_bytes()), config: image })
}

/// Plans, looking up what is needed; also says which images were asked for.
pub(crate) fn plan_asking(text: &str, request: &Request) -> (Result<Plan, Vec<Diagnostic>>, Vec<String>) {
    let file = parse(text);
    let mut images = KnownImages::new();
    let mut asked = Vec::new();
    loop {
        match kuz_plan::plan(&file, request, &images) {
            Err(errors) => return (Err(errors), asked),
            Ok(Planned::Ready(plan)) => return (Ok(plan), asked),
            Ok(Planned::Needs(needs)) => {
                assert!(!needs.is_empty(), "nothing is needed, and yet there is no plan");
                for need in needs {
                    let image = known(&need.reference, &need.platform)
                        .unwrap_or_else(|| known("docker.io/library/busybox:latest", &need.platform).expect("known"));
                    asked.push(format!("{} {}", need.reference, need.platform));
                    let before = images.insert((need.reference, need.platform), image);
                    assert!(before.is_none(), "asked twice");
                }
            }
        }
    }
}

/// The plan of a text that can be planned.
pub(crate) fn plan(text: &str, request: &Request) -> Plan {
    plan_asking(text, request).0.unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"))
}

/// `Rule: message [hint]` of the parser's errors, or of the planner's findings where there are none.
pub(crate) fn findings(text: &str, request: &Request) -> Vec<String> {
    let parsed = kuz_dockerfile::parse(text.as_bytes());
    let found = if parsed.has_errors() {
        parsed.diagnostics
    } else {
        match plan_asking(text, request).0 {
            Ok(plan) => plan.warnings,
            Err(errors) => errors,
        }
    };
    found
        .iter()
        .map(|found| match &found.hint {
            Some(hint) => format!("{}: {} [{hint}]", found.rule, found.message),
            None => format!("{}: {}", found.rule, found.message),
        })
        .collect()
}
