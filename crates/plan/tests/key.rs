//! Keys: every field of a step counts, nothing else does, and no two different steps share the bytes of a key.

use std::collections::BTreeMap;

use kuz_dockerfile::Span;
use kuz_image::Digest;
use kuz_plan::cache_key;
use kuz_plan::plan::{
    Copy, Env, ImageSource, Inline, MakeDir, Mount, Network, Op, Run, Sharing, Source, StageId, Word,
};
use kuz_plan::preimage;
use proptest::prelude::*;

fn key(op: &Op) -> String {
    cache_key(&Digest::of(b"parent"), op, &[Digest::of(b"input")]).to_string()
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn word(text: &str) -> Word {
    Word { text: text.to_owned(), span: Span::new(1, 2) }
}

fn inline(name: &str, content: &str) -> Inline {
    Inline { name: text(name), content: text(content) }
}

fn run() -> Run {
    Run {
        argv: vec![text("sh"), text("-c"), text("make")],
        env: [("A", "1"), ("B", "2")].into_iter().collect(),
        proxies: vec![(text("http_proxy"), text("p"))],
        cwd: text("/"),
        user: text("app"),
        network: Network::Host,
        scripts: vec![inline("EOF", "#!/bin/sh\n")],
        mounts: vec![],
        insecure: false,
    }
}

fn copy() -> Copy {
    Copy {
        from: Source::Context,
        sources: vec![word("a"), word("b")],
        inline: vec![inline("EOF", "x")],
        dest: text("/d/"),
        chown: Some(text("u")),
        chmod: Some(text("0644")),
        link: false,
        parents: false,
        exclude: vec![text("*.o")],
        unpack: None,
        checksum: None,
        keep_git_dir: false,
    }
}

/// The struct with one field changed at a time.
macro_rules! each {
    ($make:expr, $wrap:expr, $($field:ident = $value:expr),+ $(,)?) => {
        vec![$({
            let mut changed = $make;
            changed.$field = $value;
            (stringify!($field = $value), $wrap(changed))
        }),+]
    };
}

fn bind() -> Mount {
    Mount::Bind { from: Source::Context, source: text("/"), target: text("/t"), writable: false }
}

fn cache() -> Mount {
    cache_of("c", None, "/", "/t", false, Sharing::Shared, (0o755, 0, 0))
}

fn cache_of(
    id: &str,
    from: Option<Source>,
    source: &str,
    target: &str,
    readonly: bool,
    sharing: Sharing,
    (mode, uid, gid): (u32, u32, u32),
) -> Mount {
    Mount::Cache { id: text(id), from, source: text(source), target: text(target), readonly, sharing, mode, uid, gid }
}

fn secret(id: &str, target: Option<&str>, env: Option<&str>, required: bool, access: (u32, u32, u32)) -> Mount {
    let (mode, uid, gid) = access;
    Mount::Secret { id: text(id), target: target.map(text), env: env.map(text), required, mode, uid, gid }
}

fn ssh(id: &str, target: Option<&str>, required: bool, (mode, uid, gid): (u32, u32, u32)) -> Mount {
    Mount::Ssh { id: text(id), target: target.map(text), required, mode, uid, gid }
}

fn mounts() -> Vec<Mount> {
    let image = || Source::Image(ImageSource::scratch());
    vec![
        bind(),
        Mount::Bind { from: image(), source: text("/"), target: text("/t"), writable: false },
        Mount::Bind { from: Source::Context, source: text("/s"), target: text("/t"), writable: false },
        Mount::Bind { from: Source::Context, source: text("/"), target: text("/u"), writable: false },
        Mount::Bind { from: Source::Context, source: text("/"), target: text("/t"), writable: true },
        cache(),
        cache_of("d", None, "/", "/t", false, Sharing::Shared, (0o755, 0, 0)),
        cache_of("c", Some(image()), "/", "/t", false, Sharing::Shared, (0o755, 0, 0)),
        cache_of("c", None, "/s", "/t", false, Sharing::Shared, (0o755, 0, 0)),
        cache_of("c", None, "/", "/u", false, Sharing::Shared, (0o755, 0, 0)),
        cache_of("c", None, "/", "/t", true, Sharing::Shared, (0o755, 0, 0)),
        cache_of("c", None, "/", "/t", false, Sharing::Private, (0o755, 0, 0)),
        cache_of("c", None, "/", "/t", false, Sharing::Locked, (0o755, 0, 0)),
        cache_of("c", None, "/", "/t", false, Sharing::Shared, (0o700, 0, 0)),
        cache_of("c", None, "/", "/t", false, Sharing::Shared, (0o755, 1, 0)),
        cache_of("c", None, "/", "/t", false, Sharing::Shared, (0o755, 0, 1)),
        Mount::Tmpfs { target: text("/t"), size: None },
        Mount::Tmpfs { target: text("/u"), size: None },
        Mount::Tmpfs { target: text("/t"), size: Some(1) },
        secret("s", None, None, false, (0o400, 0, 0)),
        secret("t", None, None, false, (0o400, 0, 0)),
        secret("s", Some("/t"), None, false, (0o400, 0, 0)),
        secret("s", None, Some("E"), false, (0o400, 0, 0)),
        secret("s", None, None, true, (0o400, 0, 0)),
        secret("s", None, None, false, (0o440, 0, 0)),
        secret("s", None, None, false, (0o400, 1, 0)),
        secret("s", None, None, false, (0o400, 0, 1)),
        ssh("s", None, false, (0o600, 0, 0)),
        ssh("t", None, false, (0o600, 0, 0)),
        ssh("s", Some("/t"), false, (0o600, 0, 0)),
        ssh("s", None, true, (0o600, 0, 0)),
        ssh("s", None, false, (0o660, 0, 0)),
        ssh("s", None, false, (0o600, 1, 0)),
        ssh("s", None, false, (0o600, 0, 1)),
    ]
}

fn all_different() -> Vec<(String, Op)> {
    let run_op = |run| Op::Run(Box::new(run));
    let mut ops = each!(
        run(),
        run_op,
        argv = vec![text("sh"), text("-c make")],
        argv = vec![],
        env = [("A", "1")].into_iter().collect(),
        env = [("A", "2"), ("B", "1")].into_iter().collect(),
        env = [("B", "2"), ("A", "1")].into_iter().collect(),
        env = [("A1", ""), ("B", "2")].into_iter().collect(),
        cwd = text("/app"),
        user = text(""),
        network = Network::None,
        scripts = vec![],
        scripts = vec![inline("EOT", "#!/bin/sh\n")],
        scripts = vec![inline("EOF", "#!/bin/bash\n")],
        insecure = true,
    );
    let copy_op = |copy| Op::Copy(Box::new(copy));
    ops.extend(each!(
        copy(),
        copy_op,
        from = Source::Stage(StageId(0)),
        from = Source::Image(ImageSource::scratch()),
        from = Source::Named(text("n")),
        sources = vec![word("b"), word("a")],
        sources = vec![word("a")],
        inline = vec![],
        inline = vec![inline("EOT", "x")],
        inline = vec![inline("EOF", "y")],
        dest = text("/d"),
        chown = None,
        chown = Some(text("")),
        chmod = None,
        chmod = Some(text("644")),
        link = true,
        parents = true,
        exclude = vec![],
        exclude = vec![text("*"), text(".o")],
        unpack = Some(false),
        unpack = Some(true),
        checksum = Some(text("sha256:0")),
        keep_git_dir = true,
    ));
    let mut ops: Vec<(String, Op)> = ops.into_iter().map(|(name, op)| (text(name), op)).collect();
    ops.push((text("run"), run_op(run())));
    ops.push((text("copy"), copy_op(copy())));
    ops.push((text("add"), Op::Add(Box::new(copy()))));
    ops.push((text("nothing"), Op::Nothing));
    for (path, user) in [("/a", "u"), ("/b", "u"), ("/a", "")] {
        ops.push((format!("mkdir {path} {user}"), Op::MakeDir(MakeDir { path: text(path), user: text(user) })));
    }
    for mount in mounts() {
        ops.push((format!("{mount:?}"), run_op(Run { mounts: vec![mount], ..run() })));
    }
    ops.push((text("two mounts"), run_op(Run { mounts: vec![bind(), cache()], ..run() })));
    ops.push((text("two mounts turned"), run_op(Run { mounts: vec![cache(), bind()], ..run() })));
    ops
}

#[test]
fn changing_any_field_changes_the_key() {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (name, op) in all_different() {
        if let Some(other) = seen.insert(key(&op), name.clone()) {
            panic!("{name} has the key of {other}");
        }
    }
}

/// Whatever changes a key can be named: the fields tell the same ops apart that keys do.
#[test]
fn changing_any_field_changes_the_preimage() {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (name, op) in all_different() {
        if let Some(other) = seen.insert(format!("{:?}", preimage::fields(&op)), name.clone()) {
            panic!("{name} has the fields of {other}");
        }
    }
    let stage = |number| Op::Copy(Box::new(Copy { from: Source::Stage(StageId(number)), ..copy() }));
    assert_eq!(preimage::fields(&stage(0)), preimage::fields(&stage(1)));
}

/// No value of a secret variable is in the fields, wherever it was written.
#[test]
fn preimages_hide_secrets() {
    let secret = "c4n4ry-value";
    let run = Run {
        argv: vec![text("sh"), text("-c"), format!("login {secret} && PASSWORD=other-canary make")],
        env: [(text("DEPLOY_TOKEN"), text(secret)), (text("URL"), format!("https://u:{secret}@h/x"))]
            .into_iter()
            .collect(),
        mounts: vec![secret_mount(secret)],
        ..run()
    };
    let fields = format!("{:?}", preimage::fields(&Op::Run(Box::new(run))));
    assert!(!fields.contains(secret) && !fields.contains("other-canary"), "{fields}");
    assert!(fields.contains("DEPLOY_TOKEN") && fields.contains("login ***"), "{fields}");
}

fn secret_mount(target: &str) -> Mount {
    secret("s", Some(&format!("/run/{target}")), None, false, (0o400, 0, 0))
}

#[test]
fn what_does_not_matter_does_not_change_the_key() {
    let moved = Copy { sources: vec![Word { span: Span::new(7, 9), ..word("a") }, word("b")], ..copy() };
    assert_eq!(key(&Op::Copy(Box::new(moved))), key(&Op::Copy(Box::new(copy()))), "spans");
    let other_proxy = Run { proxies: vec![(text("http_proxy"), text("q"))], ..run() };
    assert_eq!(key(&Op::Run(Box::new(other_proxy))), key(&Op::Run(Box::new(run()))), "proxies");
    let stage = |number| Op::Copy(Box::new(Copy { from: Source::Stage(StageId(number)), ..copy() }));
    assert_eq!(key(&stage(0)), key(&stage(1)), "the content of a stage is an input; its number is not");
}

#[test]
fn parent_and_inputs_count() {
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    let op = Op::Nothing;
    let keys = [
        cache_key(&a, &op, &[]),
        cache_key(&b, &op, &[]),
        cache_key(&a, &op, std::slice::from_ref(&b)),
        cache_key(&a, &op, &[a.clone(), b.clone()]),
        cache_key(&a, &op, &[b.clone(), a.clone()]),
    ];
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
    assert_eq!(keys[0].as_str().len(), 64);
}

/// Keys are kept in stores: a change of the encoding must be meant, and needs another version in its domain.
#[test]
fn the_encoding_is_pinned() {
    let run = Op::Run(Box::new(Run { mounts: mounts(), ..run() }));
    assert_eq!(key(&run), "6fb688c91d186e5e98f0624b83d16ac7532f77d67407c48d72b60f66d8fda80c");
    assert_eq!(key(&Op::Copy(Box::new(copy()))), "03d1c53456844e6fb7c771d07b98bb36dde4e5a32807024ef267e451a94ac626");
}

proptest! {
    /// Wherever the borders between words are, other words have another key.
    #[test]
    fn different_words_have_different_keys(
        a in prop::collection::vec("[ab=]{0,2}", 0..4),
        b in prop::collection::vec("[ab=]{0,2}", 0..4),
        x in prop::collection::vec(("[ab=]{0,2}", "[ab=]{0,2}"), 0..3),
        y in prop::collection::vec(("[ab=]{0,2}", "[ab=]{0,2}"), 0..3),
    ) {
        let env = |pairs: Vec<(String, String)>| pairs.into_iter().collect::<Env>();
        let (x, y) = (env(x), env(y));
        let one = key(&Op::Run(Box::new(Run { argv: a.clone(), env: x.clone(), ..run() })));
        let other = key(&Op::Run(Box::new(Run { argv: b.clone(), env: y.clone(), ..run() })));
        prop_assert_eq!(one == other, (a, x) == (b, y));
    }
}
