//! From hits and configurations to findings: levels, origins, publishers, and what is never said.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kuz_image::{Config, History, ImageConfig, IndexEntry, LayerIndex, Node, Stack};
use kuz_verify::secrets::{self, Scanner};
use kuz_verify::{Finding, LayerFacts, Level, Subject};

/// The value behind all secrets here; nothing may show it.
fn word() -> String {
    ["q8Zr2kW", "x7Lm0Tn", "B4vYc9Ha"].concat()
}

/// A live token's form without a checksum.
fn token() -> String {
    format!("{}_{}{}", "sk_live", word(), "Qe")
}

/// A layer of files (path, text); no text is a whiteout.
fn layer(files: &[(&str, Option<String>)]) -> (Arc<LayerIndex>, LayerFacts) {
    let mut index = LayerIndex::default();
    let mut facts = LayerFacts::default();
    let mut scanner = Scanner::new();
    for (path, text) in files {
        let node = text.as_ref().map_or(Node::Whiteout, |text| Node::File { size: text.len() as u64 });
        let entry = IndexEntry { node, mode: 0o644, uid: 0, gid: 0, mtime: 0 };
        index.entries.insert(path.as_bytes().to_vec(), entry);
        let Some(text) = text else { continue };
        scanner.begin(path.as_bytes(), text.len() as u64);
        scanner.bytes(text.as_bytes());
        facts.secrets.extend(scanner.end());
        if secrets::wanted(path.as_bytes()) {
            facts.kept.insert(path.as_bytes().to_vec(), text.clone().into_bytes());
        }
    }
    secrets::trim(&mut facts);
    (Arc::new(index), facts)
}

/// Findings as `level rule path layer: message`; none of them shows a secret.
fn shown(findings: &[Finding]) -> Vec<String> {
    assert!(!format!("{findings:?}").contains(&word()[..12]), "a finding shows a secret");
    let line = |finding: &Finding| {
        let path = finding.path.as_deref().unwrap_or("-");
        let layer = finding.layer.map_or_else(|| "-".to_owned(), |layer| layer.to_string());
        format!("{:?} {} {path} {layer}: {}", finding.level, finding.rule, finding.message)
    };
    findings.iter().map(line).collect()
}

fn history(lines: &[(&str, bool)]) -> Vec<History> {
    let entry = |(line, empty): &(&str, bool)| History {
        created_by: Some((*line).to_owned()),
        empty_layer: *empty,
        ..History::default()
    };
    lines.iter().map(entry).collect()
}

fn judge(
    layers: Vec<(Arc<LayerIndex>, LayerFacts)>,
    config: &ImageConfig,
    base_layers: usize,
    allowed: &[&str],
) -> Vec<Finding> {
    let (indexes, facts): (Vec<_>, Vec<_>) = layers.into_iter().map(|(index, facts)| (index, Arc::new(facts))).unzip();
    let subject = Subject { config, stack: Stack::new(indexes), facts, base_layers, others: Vec::new() };
    secrets::check(&subject, &|path| allowed.iter().any(|allowed| allowed.as_bytes() == path))
}

#[test]
fn hits_in_any_layer_are_found_with_what_became_of_them() {
    let secret = || Some(format!("x\nkey = '{}'\n", token()));
    let config = ImageConfig {
        history: history(&[
            ("base", false),
            ("COPY . . # buildkit", false),
            ("WORKDIR /app", true),
            ("RUN /bin/sh -c make # buildkit", false),
            ("x", false),
        ]),
        ..ImageConfig::default()
    };
    let layers = || {
        vec![
            layer(&[("etc/base", secret())]),
            layer(&[("app/a", secret()), ("app/b", secret()), ("app/[c]", secret())]),
            layer(&[("app/a", None), ("app/d", secret())]),
            layer(&[("app/b", Some("new".to_owned()))]),
        ]
    };
    let findings = judge(layers(), &config, 1, &[]);
    let what = "StripeKey";
    assert_eq!(
        shown(&findings),
        [
            format!("Error {what} /app/[c] 1: a live key of Stripe in line 2"),
            format!(
                "Error {what} /app/a 1: a live key of Stripe in line 2; deleted in a later layer, but still in the image"
            ),
            format!(
                "Error {what} /app/b 1: a live key of Stripe in line 2; replaced in a later layer, but still in the image"
            ),
            format!("Error {what} /app/d 2: a live key of Stripe in line 2"),
            format!("Note {what} /etc/base 0: a live key of Stripe that comes with the base image"),
        ]
    );
    let advice = |number: usize| findings[number].advice.clone().unwrap().text;
    assert!(
        advice(0).contains("add `**/\\[c\\]` to .dockerignore") && advice(0).contains("--allow-secret 'app/\\[c\\]'"),
        "{}",
        advice(0)
    );
    assert!(advice(3).contains("RUN --mount=type=secret"), "{}", advice(3));
    assert!(findings[4].advice.is_none());
    let findings = judge(layers(), &config, 1, &["app/a", "app/b", "app/[c]", "app/d"]);
    assert_eq!(findings.iter().map(|finding| finding.level).collect::<Vec<_>>(), [Level::Note]);
}

#[test]
fn published_files_are_notes() {
    let key = format!("key = '{}'\n", token());
    let other = format!("other = '{}'\n", token());
    let digest = |text: &str| {
        let digest = kuz_image::Digest::of(text.as_bytes());
        let bytes: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&digest.hex()[2 * at..2 * at + 2], 16).unwrap()).collect();
        URL_SAFE_NO_PAD.encode(bytes)
    };
    let site = "usr/lib/python3.10/site-packages";
    let file = |name: &str| format!("{site}/tornado/test/{name}");
    let record = format!(
        "tornado/test/key.py,sha256={},10\n\"tornado/a,b\",,\ntornado/test/c.py,sha256={},9\n",
        digest(&key),
        digest("c")
    );
    let names = [
        file("key.py"),
        file("other.py"),
        file("__pycache__/key.cpython-310.pyc"),
        file("__pycache__/c.cpython-310.pyc"),
        file("__pycache__/other.cpython-310.pyc"),
    ];
    let record_path = format!("{site}/tornado-6.4.dist-info/RECORD");
    let direct = format!("{site}/tornado-6.4.dist-info/direct_url.json");
    let mut files: Vec<(&str, Option<String>)> = vec![
        (&names[0], Some(key.clone())),
        (&names[1], Some(other.clone())),
        (&names[2], Some(format!("\0{key}"))),
        (&names[3], Some(format!("\0c{key}"))),
        (&names[4], Some(format!("\0{other}"))),
        (&record_path, Some(record)),
        ("usr/lib/python3.10/test/keycert.pem", Some(format!("py {key}"))),
    ];
    let config = ImageConfig::default();
    let findings = judge(vec![layer(&files)], &config, 0, &[]);
    assert_eq!(
        shown(&findings),
        [
            format!("Error StripeKey /{} 0: a live key of Stripe", names[4]),
            format!("Error StripeKey /{} 0: a live key of Stripe in line 1", names[1]),
            "Note StripeKey /usr/lib/python3.10/site-packages/tornado/test/key.py 0: a live key of Stripe that comes with the package tornado 6.4, in 3 files".to_owned(),
            "Note StripeKey /usr/lib/python3.10/test/keycert.pem 0: a live key of Stripe that comes with Python's own tests".to_owned(),
        ]
    );
    // What was installed from a directory is the user's own.
    files.push((&direct, Some("{\"url\": \"file:///app\", \"dir_info\": {}}".to_owned())));
    let findings = judge(vec![layer(&files)], &config, 0, &[]);
    assert_eq!(findings.iter().filter(|finding| finding.level == Level::Error).count(), 5);
    // The list may lie in another layer than the file.
    let (with, without): (Vec<_>, Vec<_>) = files[..6].iter().cloned().partition(|(path, _)| path.ends_with("RECORD"));
    let findings = judge(vec![layer(&without), layer(&with)], &config, 0, &[]);
    assert_eq!(findings.iter().filter(|finding| finding.level == Level::Error).count(), 2);
}

#[test]
fn debians_files_are_notes_and_its_lists_are_not_kept() {
    let key = format!("key = '{}'\n", token());
    let sum = |text: &str| {
        use md5::Digest as _;
        format!("{:032x}", u128::from_be_bytes(md5::Md5::digest(text.as_bytes()).into()))
    };
    let list = format!("{}  usr/share/a/other\n{}  usr/share/a/key\n", sum("x"), sum(&key));
    let files = [
        ("usr/share/a/key", Some(key.clone())),
        ("etc/ssl/private/ssl-cert-snakeoil.key", Some(format!("made {key}"))),
        ("var/lib/dpkg/info/a-doc:amd64.md5sums", Some(list)),
        ("var/lib/dpkg/info/b.md5sums", Some(format!("{}  usr/share/b\n", sum("b")))),
    ];
    let made = layer(&files);
    let kept: BTreeMap<_, _> =
        made.1.kept.iter().map(|(path, text)| (String::from_utf8_lossy(path), text.len())).collect();
    assert_eq!(
        kept.into_iter().collect::<Vec<_>>(),
        [("var/lib/dpkg/info/a-doc:amd64.md5sums".into(), 32 + 2 + 15 + 1)]
    );
    let findings = judge(vec![made], &ImageConfig::default(), 0, &[]);
    assert_eq!(
        shown(&findings),
        [
            "Warning StripeKey /etc/ssl/private/ssl-cert-snakeoil.key 0: a live key of Stripe in line 1",
            "Note StripeKey /usr/share/a/key 0: a live key of Stripe that comes with the Debian package a-doc",
        ]
    );
}

#[test]
fn many_hits_of_one_rule_are_counted() {
    let paths: Vec<String> = (0..30).map(|number| format!("app/f{number:02}")).collect();
    let files: Vec<(&str, Option<String>)> = paths.iter().map(|path| (path.as_str(), Some(token()))).collect();
    let findings = judge(vec![layer(&files)], &ImageConfig::default(), 0, &[]);
    assert_eq!(findings.len(), 21);
    assert!(shown(&findings).iter().any(|line| line.contains("/app/f20 0: a live key of Stripe in 10 more files")));
}

#[test]
fn the_configuration_gives_nothing_away() {
    let (word, token) = (word(), token());
    let environment = [
        "PATH=/usr/bin".to_owned(),
        "GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D".to_owned(),
        format!("DB_PASSWORD={word}"),
        format!("X={token}"),
        format!("BASE_TOKEN={word}-base"),
        "API_KEY_FILE=/run/secrets/key".to_owned(),
    ];
    let argument = format!("RUN |2 VERSION=1 DEPLOY_TOKEN={word} /bin/sh -c pip install x # buildkit");
    let lines = [
        (format!("ENV BASE_TOKEN={word}-base"), true),
        ("ADD rootfs.tar / # buildkit".to_owned(), false),
        (format!("ENV DB_PASSWORD={word} X={token}"), true),
        (argument.clone(), false),
        (argument, false),
        (format!("ENV OLD_SECRET={word}"), true),
        (format!("RUN /bin/sh -c curl https://me:{word}@host.corp/x # buildkit"), false),
        (format!("CMD [\"run\" \"--password\" \"{word}\"]"), true),
    ];
    let lines: Vec<(&str, bool)> = lines.iter().map(|(line, empty)| (line.as_str(), *empty)).collect();
    let config = ImageConfig {
        config: Config {
            env: Some(environment.to_vec()),
            labels: Some([("note".to_owned(), token.clone()), ("plain".to_owned(), "x".to_owned())].into()),
            cmd: Some(vec!["run".to_owned(), "--password".to_owned(), word.clone()]),
            entrypoint: Some(vec!["serve".to_owned(), format!("--api-key={word}")]),
            ..Config::default()
        },
        history: history(&lines),
        ..ImageConfig::default()
    };
    let what = "what looks like a password or a key";
    let findings = judge(Vec::new(), &config, 1, &[]);
    assert_eq!(
        shown(&findings),
        [
            "Error StripeKey - -: a live key of Stripe in the variable `X` (ENV)".to_owned(),
            "Error StripeKey - -: a live key of Stripe in the label `note`".to_owned(),
            "Warning AddressWithPassword - -: a password in an address in the history (RUN)".to_owned(),
            format!("Warning SecretAssignment - -: {what} in the variable `DB_PASSWORD` (ENV)"),
            format!("Warning SecretAssignment - -: {what} in ENTRYPOINT"),
            format!("Warning SecretAssignment - -: {what} in CMD"),
            format!(
                "Warning SecretAssignment - -: {what} in the build argument `DEPLOY_TOKEN`, which the history keeps"
            ),
            format!("Warning SecretAssignment - -: {what} in the history (ENV)"),
            format!("Note SecretAssignment - -: {what} in the variable `BASE_TOKEN` (ENV)"),
        ]
    );
    let allowed = [
        "env:X",
        "env:DB_PASSWORD",
        "env:BASE_TOKEN",
        "label:note",
        "arg:DEPLOY_TOKEN",
        "history",
        "cmd",
        "entrypoint",
    ];
    assert_eq!(judge(Vec::new(), &config, 1, &allowed), []);
    let annotations = [("a".to_owned(), token)].into();
    let findings = secrets::check_annotations(&annotations, &|_| false);
    assert_eq!(shown(&findings), ["Error StripeKey - -: a live key of Stripe in the annotation `a`"]);
    assert_eq!(secrets::check_annotations(&annotations, &|name| name == b"annotation:a"), []);
}
