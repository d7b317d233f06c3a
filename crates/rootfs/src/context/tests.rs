//! Sources of every shape, ignore rules, files that change, and the digests' memory.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use super::*;
use crate::fingerprint::{FingerprintCache, digest};

/// `*` and literal names are all that these tests need.
fn simple_match(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.iter().position(|&b| b == b'*') {
        None => pattern == name,
        Some(star) => {
            let (before, after) = (&pattern[..star], &pattern[star + 1..]);
            name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
        }
    }
}

/// `secret` and what is in it is out; of `part` only `part/keep` is in.
fn rules(path: &[u8], _: bool) -> Verdict {
    match path {
        b"secret" => Verdict::Drop,
        b"part" | b"hollow" => Verdict::DropButLookBelow,
        _ if path.starts_with(b"secret/") => Verdict::Drop,
        _ if path.starts_with(b"part/") && path != b"part/keep" => Verdict::Drop,
        _ if path.starts_with(b"hollow/") => Verdict::Drop,
        _ => Verdict::Keep,
    }
}

fn yard() -> (tempfile::TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let at = outer.path().join("context");
    for directory in ["src/deep/er", "secret", "part", "hollow", "empty"] {
        std::fs::create_dir_all(at.join(directory)).unwrap();
    }
    for file in
        ["a.py", "b.py", "c.txt", "src/m.py", "src/deep/er/n.py", "secret/key", "part/keep", "part/drop", "hollow/x"]
    {
        std::fs::write(at.join(file), file).unwrap();
    }
    std::fs::write(outer.path().join("canary"), "outside").unwrap();
    for (link, target) in [
        ("to-src", "src"),
        ("to-a", "./a.py"),
        ("up", "../canary"),
        ("to-secret", "secret"),
        ("dangling", "nothing"),
        ("loop", "loop"),
    ] {
        symlink(target, at.join(link)).unwrap();
    }
    (outer, at)
}

fn select(context: &Context, pattern: &str) -> Result<Vec<String>, String> {
    let sources = context.select(pattern.as_bytes(), &simple_match, &rules).map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ok(sources
        .iter()
        .map(|source| {
            let entries: Vec<String> = source.entries.iter().map(|entry| text(&entry.relative)).collect();
            let line =
                format!("{}: {} = {}", text(source.name()), text(&source.entries[0].path), entries.join(" ").trim());
            line.trim_end().to_owned()
        })
        .collect())
}

#[test]
fn sources_select_what_docker_selects() {
    let (_outer, at) = yard();
    let context = Context::open(&at).unwrap();
    let src = "src: src = deep deep/er deep/er/n.py m.py";
    let cases: [(&str, &[&str]); 19] = [
        ("a.py", &["a.py: a.py ="]),
        ("/a.py", &["a.py: a.py ="]),
        ("../../a.py", &["a.py: a.py ="]),
        ("src/../a.py", &["a.py: a.py ="]),
        ("src", &[src]),
        ("./src/", &[src]),
        ("*.py", &["a.py: a.py =", "b.py: b.py ="]),
        ("s*", &[src]),
        ("*/*.py", &["m.py: src/m.py ="]),
        ("nothing*", &[]),
        ("nothing/*.py", &[]),
        ("*/key", &[]),
        ("secret/*", &[]),
        ("to-src", &["to-src: src = deep deep/er deep/er/n.py m.py"]),
        ("to-src/m.py", &["m.py: src/m.py ="]),
        ("to-src/*.py", &["m.py: src/m.py ="]),
        ("to-a", &["to-a: a.py ="]),
        ("part", &["part: part = keep"]),
        ("empty", &["empty: empty ="]),
    ];
    for (pattern, want) in cases {
        let want: Vec<String> = want.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(select(&context, pattern), Ok(want), "{pattern}");
    }
    let all = select(&context, ".").unwrap();
    let want = ":  = a.py b.py c.txt dangling empty loop part part/keep src src/deep src/deep/er src/deep/er/n.py \
                src/m.py to-a to-secret to-src up";
    assert_eq!(all, [want]);
    for (pattern, want) in [
        ("missing", "`missing` is not in the build context"),
        ("a.py/x", "`a.py/x` is not in the build context"),
        ("up", "`up` is not in the build context"),
        ("dangling", "`dangling` is not in the build context"),
        ("secret", "`secret` is excluded by .dockerignore"),
        ("secret/key", "`secret/key` is excluded by .dockerignore"),
        ("to-secret", "`to-secret` is excluded by .dockerignore"),
        ("to-secret/key", "`to-secret/key` is excluded by .dockerignore"),
        ("part/drop", "`part/drop` is excluded by .dockerignore"),
        ("hollow", "`hollow` is excluded by .dockerignore"),
        ("loop", "look up `loop` in the build context"),
    ] {
        assert_eq!(select(&context, pattern), Err(want.to_owned()), "{pattern}");
    }
}

#[test]
fn strange_files_are_listed_and_never_block() {
    let (_outer, at) = yard();
    let context = Context::open(&at).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(context.root().fd(), "fifo", FileType::Fifo, mode, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at.join("socket")).unwrap();
    std::fs::write(at.join("bad\n\u{1b}name"), "").unwrap();
    let get = |name: &str| context.select(name.as_bytes(), &simple_match, &rules).unwrap().remove(0).entries.remove(0);
    assert_eq!((get("fifo").kind, get("socket").kind), (EntryKind::Fifo, EntryKind::Socket));
    assert!(matches!(context.open_entry(&get("fifo")), Ok(_) | Err(ContextError::Changed { .. })));
    assert_eq!(get("bad\n\u{1b}name").kind, EntryKind::File);
    // A file that turns into a fifo or a link after it was selected is not read.
    let entry = get("c.txt");
    std::fs::remove_file(at.join("c.txt")).unwrap();
    rustix::fs::mknodat(context.root().fd(), "c.txt", FileType::Fifo, mode, 0).unwrap();
    assert!(matches!(context.open_entry(&entry), Err(ContextError::Changed { .. })));
    std::fs::remove_file(at.join("c.txt")).unwrap();
    symlink("../canary", at.join("c.txt")).unwrap();
    assert!(matches!(context.open_entry(&entry), Err(ContextError::Changed { .. })));
    // The same for a directory above it.
    let entry = get("src/m.py");
    std::fs::rename(at.join("src"), at.join("moved")).unwrap();
    symlink("moved", at.join("src")).unwrap();
    assert!(matches!(context.open_entry(&entry), Err(ContextError::Changed { .. })));
}

#[test]
fn changes_while_reading_are_seen() {
    let (_outer, at) = yard();
    let context = Context::open(&at).unwrap();
    let entry = context.select(b"a.py", &simple_match, &rules).unwrap().remove(0).entries.remove(0);
    let file = context.open_entry(&entry).unwrap();
    context.check_unchanged(&entry, &file).unwrap();
    std::fs::write(at.join("a.py"), "more than before").unwrap();
    assert!(matches!(context.check_unchanged(&entry, &file), Err(ContextError::Changed { .. })));
    let now = context.refresh(&entry).unwrap();
    assert_eq!((now.stamp.size, context.open_entry(&now).is_ok()), (16, true));
}

fn now(offset: i64) -> (i64, u32) {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    (i64::try_from(clock.as_secs()).unwrap() + offset, 0)
}

fn entries(context: &Context) -> Vec<Entry> {
    context.select(b".", &simple_match, &rules).unwrap().remove(0).entries
}

type Change = fn(&std::path::Path);

#[test]
fn digests_depend_on_content_and_not_on_time() {
    let (_outer, at) = yard();
    let context = Context::open(&at).unwrap();
    let of = || digest(&context, &mut entries(&context), &mut FingerprintCache::new(now(0))).unwrap();
    let first = of();
    let old = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    std::fs::File::options().write(true).open(at.join("a.py")).unwrap().set_times(old).unwrap();
    assert_eq!(of(), first);
    let changes: [(&str, Change); 6] = [
        ("content", |at| std::fs::write(at.join("a.py"), "A.py").unwrap()),
        ("mode", |at| std::fs::set_permissions(at.join("a.py"), std::fs::Permissions::from_mode(0o755)).unwrap()),
        ("name", |at| std::fs::rename(at.join("a.py"), at.join("d.py")).unwrap()),
        ("link", |at| {
            std::fs::remove_file(at.join("to-a")).unwrap();
            symlink("d.py", at.join("to-a")).unwrap();
        }),
        ("hard link", |at| {
            std::fs::write(at.join("twin"), "d").unwrap();
            std::fs::hard_link(at.join("twin"), at.join("twin2")).unwrap();
        }),
        ("no hard link", |at| {
            std::fs::remove_file(at.join("twin2")).unwrap();
            std::fs::write(at.join("twin2"), "d").unwrap();
        }),
    ];
    let mut seen = vec![first];
    for (what, change) in changes {
        change(&at);
        let next = of();
        assert!(!seen.contains(&next), "{what}");
        seen.push(next);
    }
    std::fs::write(at.join("part/drop"), "not part of it").unwrap();
    assert_eq!(of(), seen[seen.len() - 1]);
}

#[test]
fn a_second_look_reads_nothing_unless_the_file_is_fresh() {
    let (_outer, at) = yard();
    let context = Context::open(&at).unwrap();
    // Hashed long after the files were written: trusted.
    let mut cache = FingerprintCache::new(now(3600));
    let first = digest(&context, &mut entries(&context), &mut cache).unwrap();
    assert!(cache.is_dirty());
    let bytes = cache.to_bytes();
    let mut cache = FingerprintCache::from_bytes(&bytes, now(3600));
    assert_eq!(digest(&context, &mut entries(&context), &mut cache).unwrap(), first);
    assert!(!cache.is_dirty() && !cache.is_empty());
    // Hashed in the moment of writing: the next build looks again, and again remembers.
    let mut cache = FingerprintCache::new(now(0));
    digest(&context, &mut entries(&context), &mut cache).unwrap();
    let mut cache = FingerprintCache::from_bytes(&cache.to_bytes(), now(3600));
    assert_eq!(digest(&context, &mut entries(&context), &mut cache).unwrap(), first);
    assert!(cache.is_dirty());
    // A changed file is hashed again whatever the cache holds, and damage is no error.
    std::fs::write(at.join("a.py"), "changed").unwrap();
    assert_ne!(digest(&context, &mut entries(&context), &mut cache).unwrap(), first);
    assert!(FingerprintCache::from_bytes(b"\xff\xff\xff\xff\xff", now(0)).is_empty());
    assert!(FingerprintCache::from_bytes(&bytes[..bytes.len() / 2], now(0)).is_empty());
}

#[test]
fn many_files_are_hashed_on_all_cores_to_the_same_digest() {
    let (_outer, at) = yard();
    for number in 0..600 {
        std::fs::write(at.join(format!("src/deep/{number}")), format!("{number}")).unwrap();
    }
    let context = Context::open(&at).unwrap();
    let mut all = entries(&context);
    let parallel = digest(&context, &mut all, &mut FingerprintCache::new(now(3600))).unwrap();
    let mut cache = FingerprintCache::new(now(3600));
    for entry in &all {
        digest(&context, &mut [entry.clone()], &mut cache).unwrap();
    }
    assert_eq!(digest(&context, &mut all, &mut cache).unwrap(), parallel);
}

#[test]
fn a_walk_on_all_cores_finds_what_one_core_finds_in_the_same_order() {
    let outer = tempfile::tempdir().unwrap();
    let mut expected = vec![String::new()];
    // One directory that is split, then many that are read side by side.
    for (directory, files) in [("a".to_owned(), 1500)].into_iter().chain((0..40).map(|n| (format!("d{n:02}"), 30))) {
        std::fs::create_dir(outer.path().join(&directory)).unwrap();
        expected.push(directory.clone());
        for number in 0..files {
            let name = format!("{directory}/{number:04}");
            std::fs::write(outer.path().join(&name), "").unwrap();
            if number % 7 != 0 {
                expected.push(name);
            }
        }
    }
    let sevenths = |path: &[u8], is_dir: bool| {
        let number = path.rsplit(|byte| *byte == b'/').next().unwrap();
        let number = std::str::from_utf8(number).unwrap().parse::<u32>();
        if !is_dir && number.is_ok_and(|number| number % 7 == 0) { Verdict::Drop } else { Verdict::Keep }
    };
    let context = Context::open(outer.path()).unwrap();
    let sources = context.select(b".", &simple_match, &sevenths).unwrap();
    let found: Vec<&str> =
        sources[0].entries.iter().map(|entry| std::str::from_utf8(&entry.relative).unwrap()).collect();
    assert_eq!(found, expected);
}

#[test]
fn unreadable_files_matter_only_when_they_are_selected() {
    let (_outer, at) = yard();
    std::fs::set_permissions(at.join("secret"), std::fs::Permissions::from_mode(0o000)).unwrap();
    let context = Context::open(&at).unwrap();
    assert!(select(&context, ".").is_ok());
    std::fs::set_permissions(at.join("secret"), std::fs::Permissions::from_mode(0o700)).unwrap();
}
