//! Build cases of other builders' test suites, as far as a plan decides them: does it plan, what is the final
//! configuration, how many layers, which history lines. Skipped where the corpus is not at hand.

#![allow(clippy::panic, clippy::print_stderr, reason = "a test says by panicking what failed, and why it is skipped")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kuz_dockerfile::Severity;
use kuz_dockerfile::glob::Glob;
use kuz_image::{DiffId, Digest, ImageConfig};
use kuz_plan::plan::{KnownImage, KnownImages, Op, Plan};
use kuz_plan::{Planned, Request};
use kuz_testkit::conformance::{folder, judge, same, text, texts, wants_error};
use serde_json::{Map, Value, json};
use support::request;

fn read(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn strings(value: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    value.as_object().map(|map| map.iter().map(|(key, value)| (key.clone(), text(value))).collect()).unwrap_or_default()
}

/// The images that a case may use, by familiar name.
struct Images {
    base: ImageConfig,
    built: BTreeMap<String, Plan>,
}

impl Images {
    fn known(&self, reference: &str) -> ImageConfig {
        let built = self.built.iter().find(|(name, _)| {
            name.parse::<kuz_image::Reference>().is_ok_and(|name| name.with_default_tag().to_string() == reference)
        });
        match built {
            None => self.base.clone(),
            Some((_, plan)) => {
                let stage = plan.stages.last().expect("a stage");
                let mut config = ImageConfig::clone(&stage.config);
                let made = layers(plan) - config.rootfs.diff_ids.len();
                config.rootfs.diff_ids.extend((0..made).map(|_| DiffId(Digest::of(b"made"))));
                config
            }
        }
    }

    fn plan(&self, text: &[u8], request: &Request) -> Result<Plan, Vec<String>> {
        let parsed = kuz_dockerfile::parse(text);
        let told = |found: &kuz_dockerfile::Diagnostic| {
            format!("{} ({})", found.message, found.hint.as_deref().unwrap_or_default())
        };
        let errors: Vec<String> =
            parsed.diagnostics.iter().filter(|found| found.severity == Severity::Error).map(told).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut known = KnownImages::new();
        loop {
            match kuz_plan::plan(&parsed.file, request, &known) {
                Err(errors) => return Err(errors.iter().map(told).collect()),
                Ok(Planned::Ready(plan)) => return Ok(plan),
                Ok(Planned::Needs(needs)) => {
                    for need in needs {
                        let manifest = Digest::of(need.reference.as_bytes());
                        let image = KnownImage { manifest, config: self.known(&need.reference) };
                        known.insert((need.reference, need.platform), image);
                    }
                }
            }
        }
    }
}

/// Layers of the final image.
fn layers(plan: &Plan) -> usize {
    let mut number = plan.stages.len() - 1;
    let mut made = 0;
    loop {
        let stage = &plan.stages[number];
        made += stage.steps.iter().filter(|step| step.op != Op::Nothing).count();
        match &stage.base {
            kuz_plan::plan::Base::Stage(below) => number = below.0,
            _ => return made + stage.config.rootfs.diff_ids.len(),
        }
    }
}

fn request_of(case: &Value) -> Request {
    let build = &case["build"];
    let mut request = request();
    request.build_args = strings(&build["build_args"]);
    request.target = build["target"].as_str().map(str::to_owned);
    request.labels = strings(&build["flags"]["labels"]);
    if let Some(platform) = build["platform"].as_str() {
        request.platform = platform.parse().expect("a platform");
    }
    for (name, context) in build["named_contexts"].as_object().into_iter().flatten() {
        match context["image"].as_str() {
            Some(image) => drop(request.named_images.insert(name.clone(), image.to_owned())),
            None => drop(request.named_contexts.insert(name.clone())),
        }
    }
    request
}

/// Where the case says that the file is.
fn dockerfile(folder: &Path, case: &Value) -> PathBuf {
    let name = case["build"]["dockerfile"].as_str().unwrap_or("Dockerfile");
    match case["build"]["dockerfile_outside_ctx"].as_bool() {
        Some(true) => folder.join(name),
        _ => folder.join("ctx").join(name),
    }
}

/// Absent, null and empty are the same; no working directory is the root.
fn is_same(name: &str, got: Option<&Value>, want: &Value) -> bool {
    let plain = |value: Option<&Value>| match value {
        None | Some(Value::Null) => Value::Null,
        Some(Value::Array(list)) if list.is_empty() => Value::Null,
        Some(Value::Object(map)) if map.is_empty() => Value::Null,
        Some(Value::String(text)) if text.is_empty() || (name == "WorkingDir" && text == "/") => Value::Null,
        Some(other) => other.clone(),
    };
    plain(got) == plain(Some(want))
}

fn check(plan: &Plan, expect: &Value) -> Vec<String> {
    let stage = plan.stages.last().expect("a stage");
    let config = serde_json::to_value(&stage.config.config).expect("serialises");
    let mut wrong = Vec::new();
    for (name, want) in expect["config"].as_object().unwrap_or(&Map::new()) {
        if !is_same(name, config.get(name), want) {
            wrong.push(format!("{name} is {}, not {want}", config[name]));
        }
    }
    for want in expect["config_contains"]["Env"].as_array().into_iter().flatten() {
        if !config["Env"].as_array().is_some_and(|env| env.contains(want)) {
            wrong.push(format!("Env is {}, without {want}", config["Env"]));
        }
    }
    if let Some(want) = expect["layers"].as_u64()
        && layers(plan) as u64 != want
    {
        wrong.push(format!("{} layers, not {want}", layers(plan)));
    }
    let history = expect["history"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (step, want) in stage.steps.iter().rev().zip(history.iter().rev()) {
        let line = want["created_by_contains"].as_str().unwrap_or_default();
        let empty = want["empty_layer"].as_bool().unwrap_or(step.op == Op::Nothing);
        if !step.created_by.contains(line) || (step.op == Op::Nothing) != empty {
            wrong.push(format!("history has {:?}, not {line:?} (empty: {empty})", step.created_by));
        }
    }
    wrong
}

#[test]
fn build_cases_plan_as_expected() {
    let Some(root) = folder().filter(|root| root.join("builds").is_dir()) else { return };
    let config = root.join("base/base.json");
    let config = if config.is_file() { read(&config)["config"].clone() } else { json!({"Env": ["PATH=/bin"]}) };
    let base: ImageConfig = ImageConfig {
        config: serde_json::from_value(config).expect("a config"),
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        rootfs: kuz_image::RootFs { diff_ids: vec![DiffId(Digest::of(b"base"))], ..kuz_image::RootFs::default() },
        ..ImageConfig::default()
    };
    let mut wrong = Vec::new();
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root.join("builds"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.sort();
    for folder in &folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let case = read(&folder.join("case.json"));
        let mut images = Images { base: base.clone(), built: BTreeMap::new() };
        for pre in case["prebuild"].as_array().into_iter().flatten() {
            let file = folder.join(pre["ctx"].as_str().expect("a folder")).join("Dockerfile");
            let plan = images.plan(&std::fs::read(file).expect("readable"), &request());
            images.built.insert(pre["name"].as_str().expect("a name").to_owned(), plan.expect("prebuild plans"));
        }
        let Ok(text) = std::fs::read(dockerfile(folder, &case)) else { continue };
        let planned = images.plan(&text, &request_of(&case));
        let success = case["expect"]["success"].as_bool().unwrap_or(true);
        match planned {
            Ok(plan) if success => {
                wrong.extend(check(&plan, &case["expect"]).iter().map(|text| format!("{name}: {text}")));
            }
            Err(errors) if success => wrong.push(format!("{name}: does not plan: {errors:?}")),
            // Files that are missing and commands that fail are for the executor to find.
            Ok(_) => {}
            Err(errors) => {
                let all = errors.join("\n");
                for part in case["expect"]["error_contains"].as_array().into_iter().flatten() {
                    let part = part.as_str().unwrap_or_default();
                    if !all.contains(part) {
                        wrong.push(format!("{name}: error {all:?} does not say {part:?}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), folders.len(), wrong.join("\n"));
}

#[test]
fn conversion_tables_hold() {
    let images = Images { base: ImageConfig::default(), built: BTreeMap::new() };
    judge("instructions/convert", |case| {
        let request = Request { target: case["target"].as_str().map(str::to_owned), ..request() };
        let found = images.plan(text(case, "dockerfile").as_bytes(), &request);
        match case["error"].as_str() {
            Some(part) => same("message", found.is_err_and(|all| all.join("\n").contains(part)), true),
            None => same(&format!("{found:?} fails"), found.is_err(), wants_error(case)),
        }
    });
}

#[test]
fn port_tables_hold() {
    let images = Images { base: ImageConfig::default(), built: BTreeMap::new() };
    judge("instructions/expose", |case| {
        let specs = texts(case, "specs");
        if specs.iter().any(String::is_empty) {
            // An empty word cannot be written; without words the instruction is refused.
            return same("fails", images.plan(b"FROM scratch\nEXPOSE\n", &request()).is_err(), wants_error(case));
        }
        let found = images.plan(format!("FROM scratch\nEXPOSE {}\n", specs.join(" ")).as_bytes(), &request());
        if wants_error(case) {
            return same("fails", found.is_err(), true);
        }
        let plan = found.map_err(|errors| errors.join("; "))?;
        let ports = plan.stages[0].config.config.exposed_ports.clone().unwrap_or_default();
        let mut want = texts(case, "expect");
        want.sort_unstable();
        same("ports", ports.into_keys().collect(), want)
    });
}

/// The peer sets a variable in a list; here ENV does, over a base image's list.
#[test]
fn variable_tables_hold() {
    judge("instructions/add-env", |case| {
        let mut base = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
        base.config.env = Some(texts(case, "env"));
        let images = Images { base, built: BTreeMap::new() };
        let source = format!("FROM busybox\nENV {}={}\n", text(case, "key"), text(case, "value"));
        let plan = images.plan(source.as_bytes(), &request()).map_err(|errors| errors.join("; "))?;
        let mut found = plan.stages[0].config.config.env.clone().unwrap_or_default();
        // A search path is added where a base has none.
        found.retain(|entry| !entry.starts_with("PATH="));
        same("variables", found, texts(case, "expect"))
    });
}

/// A pattern as the peer applies it to an image's name: to the short name, with and without its tag.
#[test]
fn name_patterns_hold() {
    judge("reference/familiar-match", |case| {
        let Ok(glob) = Glob::new(text(case, "pattern").as_bytes()) else {
            return same("fails", true, wants_error(case));
        };
        same("fails", false, wants_error(case))?;
        let reference: kuz_image::Reference = text(case, "input").parse().map_err(|error| format!("{error}"))?;
        let names = [reference.familiar(), reference.familiar_name()];
        same("matches", names.iter().any(|name| glob.matches(name.as_bytes())), case["match"] == true)
    });
}

/// What RUN is given of the predefined arguments.
#[test]
fn proxy_tables_hold() {
    judge("instructions/proxy-args", |case| {
        let request = Request { build_args: strings(&case["build_args"]), ..request() };
        let images = Images { base: ImageConfig::default(), built: BTreeMap::new() };
        let plan = images.plan(b"FROM scratch\nRUN a\n", &request).map_err(|errors| errors.join("; "))?;
        let Some(Op::Run(run)) = plan.stages[0].steps.first().map(|step| &step.op) else {
            return Err("there is no RUN".to_owned());
        };
        for kind in ["http", "https", "ftp", "no", "all"] {
            let name = format!("{kind}_proxy");
            let found = run.proxies.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value);
            same(kind, found, case["expect"][kind].as_str().unwrap_or_default())?;
        }
        Ok(())
    });
}

/// The checks that planning makes, by rule and line; all others belong to the parser.
#[test]
fn warning_tables_hold() {
    const OURS: [&str; 3] = ["UndefinedVar", "UndefinedArgInFrom", "InvalidDefaultArgInFrom"];
    let ours = |rule: &str| OURS.contains(&rule);
    judge("instructions/lint", |case| {
        let source = text(case, "dockerfile");
        if source.contains("# check=") {
            return Ok(());
        }
        let target = case["target"].as_str().map(str::to_owned);
        let request = Request { build_args: strings(&case["build_args"]), target, ..request() };
        let mut base = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
        base.config.env = Some(vec!["PATH=/bin".to_owned()]);
        let images = Images { base, built: BTreeMap::new() };
        let Ok(plan) = images.plan(source.as_bytes(), &request) else { return Ok(()) };
        let line = |found: &kuz_dockerfile::Diagnostic| kuz_dockerfile::line_of(source, found.span.start) as u64;
        let found = plan.warnings.iter().filter(|found| ours(found.rule));
        let mut found: Vec<(&str, u64)> = found.map(|found| (found.rule, line(found))).collect();
        let wanted = case["warnings"].as_array().into_iter().flatten();
        let wanted = wanted.filter_map(|wanted| Some((wanted["rule"].as_str()?, wanted["line"].as_u64()?)));
        let mut wanted: Vec<(&str, u64)> = wanted.filter(|(rule, _)| ours(rule)).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        same("warnings", found, wanted)
    });
}
