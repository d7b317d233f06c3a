//! The rules on what real packages have in them, and how fast a scan is. Both need more than a test run should take, and
//! the first needs the package index, so both are asked for by name:
//!
//! `cargo test -p kuz-verify --release -- --ignored --nocapture published_packages` (or `speed`)
//!
//! Packages are installed from wheels, which runs nothing of theirs; what an image gets is the same. What came out is in
//! `docs/secrets.md`.
#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use kuz_image::{ImageConfig, Stack};
use kuz_verify::secrets::{self, Scanner};
use kuz_verify::{LayerFacts, Level, Subject};

/// Servers, clients of clouds and databases, cryptography, and what ships its own test keys.
const PACKAGES: &[&str] = &[
    "tornado",
    "twisted",
    "cryptography",
    "paramiko",
    "requests",
    "django",
    "flask",
    "aiohttp",
    "boto3",
    "botocore",
    "google-auth",
    "google-cloud-storage",
    "google-api-core",
    "azure-identity",
    "azure-storage-blob",
    "azure-core",
    "azure-cosmos",
    "azure-servicebus",
    "msal",
    "pyjwt",
    "python-jose",
    "authlib",
    "oauthlib",
    "pyopenssl",
    "pynacl",
    "numpy",
    "pandas",
    "grpcio",
    "celery",
    "kombu",
    "sqlalchemy",
    "psycopg2-binary",
    "pymysql",
    "redis",
    "pymongo",
    "pip",
    "setuptools",
    "wheel",
    "fastapi",
    "starlette",
    "pydantic",
    "pydantic-core",
    "uvicorn",
    "gunicorn",
    "hypercorn",
    "websockets",
    "httpx",
    "urllib3",
    "certifi",
    "jinja2",
    "lxml",
    "pillow",
    "openai",
    "anthropic",
    "huggingface-hub",
    "slack-sdk",
    "stripe",
    "twilio",
    "sendgrid",
    "python-telegram-bot",
    "kubernetes",
    "docker",
    "ansible-core",
    "awscli",
    "asyncssh",
    "trustme",
    "moto",
    "sentry-sdk",
    "notebook",
    "werkzeug",
];

/// Regular files below a directory, as a layer has them.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut folders = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

fn scan(root: &Path) -> LayerFacts {
    let mut facts = LayerFacts::default();
    let mut scanner = Scanner::new();
    for file in files(root) {
        let path = file.strip_prefix(root).unwrap().to_string_lossy().into_owned().into_bytes();
        let bytes = std::fs::read(&file).unwrap();
        scanner.begin(&path, bytes.len() as u64);
        bytes.chunks(1 << 17).for_each(|piece| scanner.bytes(piece));
        facts.secrets.extend(scanner.end());
        if secrets::wanted(&path) {
            facts.kept.insert(path, bytes);
        }
    }
    facts
}

#[test]
#[ignore = "downloads seventy packages"]
fn published_packages() {
    // A directory that has them already is taken as it is.
    let made = tempfile::tempdir().unwrap();
    let given = std::env::var_os("KUZ_PACKAGES").map(PathBuf::from);
    let root = given.clone().unwrap_or_else(|| made.path().to_owned());
    if given.is_none() {
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-compile",
            "--only-binary",
            ":all:",
            "--target",
        ]);
        match pip.arg(&root).args(PACKAGES).status() {
            Ok(status) if status.success() => {}
            other => return println!("skipped: pip cannot install the packages here: {other:?}"),
        }
    }
    let facts = scan(&root);
    let packages = facts.kept.keys().filter(|path| path.ends_with(b"RECORD")).count();
    println!("{packages} packages, {} files with hits", facts.secrets.len());
    let mut counts: BTreeMap<(Level, &str), usize> = BTreeMap::new();
    for hit in &facts.secrets {
        let rule = secrets::rule(&hit.rule).unwrap();
        *counts.entry((rule.level, rule.name)).or_default() += 1;
        if rule.level == Level::Error || std::env::var_os("KUZ_ALL").is_some() {
            println!("  {}: {}:{}", hit.rule, String::from_utf8_lossy(&hit.path), hit.line.unwrap_or(0));
        }
    }
    for ((level, rule), count) in &counts {
        println!("{level:?} {rule}: {count} files");
    }
    let config = ImageConfig::default();
    let facts = vec![Arc::new(facts)];
    let subject = Subject { config: &config, stack: Stack::default(), facts, base_layers: 0, others: Vec::new() };
    let findings = secrets::check(&subject, &|_| false);
    let errors: Vec<_> = findings.iter().filter(|finding| finding.level == Level::Error).collect();
    println!("{} findings, {} errors", findings.len(), errors.len());
    assert!(packages >= 50, "only {packages} packages");
    assert!(errors.is_empty(), "{errors:#?}");
}

/// Seconds that this thread has had a processor: others may be busy on the machine.
fn on_processor() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or_default() / 1e9
}

#[test]
#[ignore = "a figure, not a verdict"]
fn speed() {
    let root = std::env::var_os("KUZ_PACKAGES").map_or_else(|| PathBuf::from("/usr/lib/python3"), PathBuf::from);
    let all: Vec<(Vec<u8>, Vec<u8>)> = files(&root)
        .into_iter()
        .map(|file| (file.to_string_lossy().into_owned().into_bytes(), std::fs::read(&file).unwrap()))
        .collect();
    let (binary, text): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(_, bytes)| bytes[..bytes.len().min(8000)].contains(&0));
    for (what, files) in [("text", text), ("binary", binary)] {
        let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let rate = |started: f64| bytes as f64 / 1e9 / (on_processor() - started);
        for _ in 0..3 {
            // Others may be busy on the machine: SHA-256 of the same bytes is the yardstick.
            let started = on_processor();
            let digests: usize = files.iter().map(|(_, bytes)| kuz_image::Digest::of(bytes).hex().len()).sum();
            let yardstick = rate(started);
            let mut scanner = Scanner::new();
            let started = on_processor();
            let mut hits = 0;
            for (path, bytes) in &files {
                scanner.begin(path, bytes.len() as u64);
                bytes.chunks(1 << 17).for_each(|piece| scanner.bytes(piece));
                hits += scanner.end().len();
            }
            let scan = rate(started);
            assert_eq!(digests, 64 * files.len());
            println!(
                "{what}: {} files, {bytes} bytes, {hits} hits: {scan:.2} GB/s; SHA-256: {yardstick:.2} GB/s",
                files.len()
            );
        }
    }
}
