//! BuildKit's rules as a table: what stands below, what is copied, what comes out.

use std::sync::Arc;

use kuz_image::scan::scan;

use super::*;
use crate::testing::{dir, file, header, link, listing, symlink, tar};

fn stack(entries: &[(Header, Vec<u8>)]) -> Stack {
    Stack::new(vec![Arc::new(scan(tar(entries).as_slice()).unwrap().index)])
}

fn base() -> Stack {
    let mut own = dir("own");
    (own.0.mode, own.0.uid) = (0o700, 42);
    stack(&[
        dir("app"),
        dir("app/sub"),
        file("app/file", "old"),
        dir("usr"),
        dir("usr/lib"),
        symlink("lib", "usr/lib"),
        symlink("out", "../../../../etc"),
        symlink("loop", "loop"),
        symlink("app/link", "../usr/target"),
        own,
    ])
}

/// A source: its last name, and entries whose paths are relative to it.
type Given = (&'static str, Vec<(Header, Vec<u8>)>);

fn one(name: &'static str, content: &str) -> Given {
    (name, vec![file("", content)])
}

fn many(entries: Vec<(Header, Vec<u8>)>) -> Given {
    ("src", [vec![dir("")], entries].concat())
}

fn copy_onto(stack: &Stack, options: CopyOptions, sources: &[Given]) -> Result<Vec<String>, CopyError> {
    let mut layer = CopyLayer::new(stack, options, LayerWriter::new(Vec::new()));
    for (name, entries) in sources {
        layer.begin_source(name.as_bytes(), entries[0].0.kind == Kind::Dir)?;
        for (header, content) in entries {
            let inode = content.starts_with(b"inode").then_some((1, 1));
            let entry = CopyEntry { relative: header.path.clone(), header: header.clone(), inode };
            layer.add(&entry, &mut content.as_slice())?;
        }
    }
    Ok(listing(&layer.finish()?.0))
}

fn to(dest: &str) -> CopyOptions {
    CopyOptions { dest: dest.into(), dest_is_dir: dest.ends_with('/'), now: 7, ..CopyOptions::default() }
}

#[test]
fn destinations() {
    let strange = {
        let mut closed = dir("sub");
        closed.0.mode = 0o500;
        closed
    };
    let cases: Vec<(&str, Vec<Given>, &[&str])> = vec![
        ("/new", vec![one("f", "x")], &["file new 644 0:0 x"]),
        ("/new/", vec![one("f", "x")], &["dir new 755 0:0", "file new/f 644 0:0 x"]),
        ("/a/b/c", vec![one("f", "x")], &["dir a 755 0:0", "dir a/b 755 0:0", "file a/b/c 644 0:0 x"]),
        ("/app", vec![one("f", "x")], &["dir app 755 0:0", "file app/f 644 0:0 x"]),
        (
            "/app/",
            vec![one("f", "x"), one("g", "y")],
            &["dir app 755 0:0", "file app/f 644 0:0 x", "file app/g 644 0:0 y"],
        ),
        ("/app/file", vec![one("f", "x")], &["dir app 755 0:0", "file app/file 644 0:0 x"]),
        ("/", vec![one("f", "x")], &["file f 644 0:0 x"]),
        ("/lib/f", vec![one("f", "x")], &["dir usr 755 0:0", "dir usr/lib 755 0:0", "file usr/lib/f 644 0:0 x"]),
        ("/lib", vec![one("f", "x")], &["dir usr 755 0:0", "dir usr/lib 755 0:0", "file usr/lib/f 644 0:0 x"]),
        ("/out/f", vec![one("f", "x")], &["dir etc 755 0:0", "file etc/f 644 0:0 x"]),
        // The named destination is followed, also when it dangles.
        ("/app/link", vec![one("f", "x")], &["dir usr 755 0:0", "file usr/target 644 0:0 x"]),
        // Below it, a file takes a link's place.
        ("/app/", vec![one("link", "x")], &["dir app 755 0:0", "file app/link 644 0:0 x"]),
        ("/app", vec![many(vec![file("link", "x")])], &["dir app 755 0:0", "file app/link 644 0:0 x"]),
        ("/own", vec![many(vec![file("f", "x")])], &["dir own 700 42:0", "file own/f 644 0:0 x"]),
        ("/app", vec![many(vec![strange])], &["dir app 755 0:0", "dir app/sub 500 0:0"]),
        (
            "/n",
            vec![many(vec![dir("d"), file("d/f", "x")])],
            &["dir n 755 0:0", "dir n/d 755 0:0", "file n/d/f 644 0:0 x"],
        ),
        ("/n", vec![many(vec![])], &["dir n 755 0:0"]),
        ("/n", vec![one("f", "x"), one("g", "y")], &["file n 644 0:0 x", "file n 644 0:0 y"]),
        ("/n/", vec![many(vec![symlink("l", "/t")])], &["dir n 755 0:0", "link n/l 777 0:0 /t"]),
        (
            "/n",
            vec![many(vec![file("a", "inode"), file("b", "inode")])],
            &["dir n 755 0:0", "file n/a 644 0:0 inode", "hard n/b 644 0:0 n/a"],
        ),
        ("/n", vec![many(vec![(header("p", Kind::Fifo), vec![])])], &["dir n 755 0:0", "fifo n/p 644 0:0"]),
        // What an earlier source brought counts.
        (
            "/n/",
            vec![many(vec![symlink("l", "/app")]), one("l", "x")],
            &["dir n 755 0:0", "link n/l 777 0:0 /app", "file n/l 644 0:0 x"],
        ),
    ];
    for (dest, sources, want) in cases {
        let got = copy_onto(&base(), to(dest), &sources);
        assert_eq!(
            got.as_deref().ok(),
            Some(want.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>().as_slice()),
            "{dest}: {got:?}"
        );
    }
}

#[test]
fn what_cannot_be_copied() {
    let cases: Vec<(&str, Vec<Given>, &str)> = vec![
        ("/app/file/", vec![one("f", "x")], "cannot copy to `/app/file`: it is not a directory"),
        ("/app/file/x", vec![one("f", "x")], "cannot copy to `/app/file`: it is not a directory"),
        ("/app/file", vec![many(vec![])], "cannot copy to `/app/file`: it is not a directory"),
        ("/", vec![many(vec![dir("lib")])], "cannot copy to `/lib`: it is not a directory"),
        ("/app", vec![many(vec![dir("file")])], "cannot copy to `/app/file`: it is not a directory"),
        ("/app", vec![many(vec![file("sub", "x")])], "cannot copy to `/app/sub`: it is a directory, the source is not"),
        ("/app", vec![one("sub", "x")], "cannot copy to `/app/sub`: it is a directory, the source is not"),
        ("/loop/x", vec![one("f", "x")], "too many symbolic links at `/loop`"),
        ("/n", vec![one("f", "x"), many(vec![])], "cannot copy to `/n`: it is not a directory"),
        ("/n/", vec![one("f", "x"), many(vec![dir("f")])], "cannot copy to `/n/f`: it is not a directory"),
        (
            "/n/",
            vec![one(".wh.f", "x")],
            "`n/.wh.f` cannot be in a layer: names that begin with `.wh.` mean removed files there",
        ),
        (
            "/.wh.n/f",
            vec![one("f", "x")],
            "`.wh.n/f` cannot be in a layer: names that begin with `.wh.` mean removed files there",
        ),
    ];
    for (dest, sources, want) in cases {
        let got = copy_onto(&base(), to(dest), &sources);
        assert_eq!(
            got.as_ref().map_err(ToString::to_string),
            Err(want.to_owned()).as_ref().map_err(String::clone),
            "{dest}"
        );
    }
}

#[test]
fn owners_modes_and_times() {
    let options = CopyOptions {
        owner: (1000, 1001),
        chmod: Some(Chmod::parse("640").unwrap()),
        epoch: Some(5),
        ..to("/app/new/")
    };
    let got = copy_onto(&base(), options.clone(), &[one("f", "x")]).unwrap();
    assert_eq!(got, ["dir app 755 0:0", "dir app/new 640 1000:1001", "file app/new/f 640 1000:1001 x"]);
    let symbolic = CopyOptions { chmod: Some(Chmod::parse("go-r,u+X").unwrap()), ..options.clone() };
    let got = copy_onto(&base(), symbolic, &[many(vec![dir("d"), file("d/f", "x"), symlink("l", "f")])]).unwrap();
    let want = [
        "dir app 755 0:0",
        "dir app/new 755 1000:1001",
        "dir app/new/d 711 1000:1001",
        "file app/new/d/f 600 1000:1001 x",
        "link app/new/l 777 1000:1001 f",
    ];
    assert_eq!(got, want);
    let stack = base();
    let mut layer = CopyLayer::new(&stack, options, LayerWriter::new(Vec::new()));
    layer.begin_source(b"f", false).unwrap();
    layer.add(&CopyEntry { relative: vec![], header: file("", "x").0, inode: None }, &mut b"x".as_slice()).unwrap();
    assert!(layer.finish().unwrap().1.index.entries.values().all(|entry| entry.mtime == 5));
}

#[test]
fn owners_are_kept_when_asked_for() {
    let mut owned = file("sub/f", "x");
    (owned.0.uid, owned.0.gid) = (5, 6);
    let options = CopyOptions { keeps_owner: true, ..to("/new/") };
    let got = copy_onto(&base(), options, &[many(vec![dir("sub"), owned])]).unwrap();
    assert_eq!(got, ["dir new 755 0:0", "dir new/sub 755 0:0", "file new/sub/f 644 5:6 x"]);
}

#[test]
fn of_several_files_for_one_name_the_last_is_seen() {
    let below = Stack::default();
    let mut layer = CopyLayer::new(&below, to("/new"), LayerWriter::new(Vec::new()));
    for content in ["one", "other"] {
        layer.begin_source(content.as_bytes(), false).unwrap();
        let entry = CopyEntry { relative: Vec::new(), header: file("", content).0, inode: None };
        layer.add(&entry, &mut content.as_bytes()).unwrap();
    }
    let (tar, scanned) = layer.finish().unwrap();
    assert_eq!(listing(&tar).last().map(String::as_str), Some("file new 644 0:0 other"));
    assert_eq!(scanned.index.entries.len(), 1);
}

#[test]
fn workdir_makes_what_is_missing() {
    for (path, made, want) in [
        ("/app", false, vec![]),
        ("/", false, vec![]),
        ("/lib", false, vec![]),
        ("/app/x/y", true, vec!["dir app 755 0:0", "dir app/x 755 3:4", "dir app/x/y 755 3:4"]),
        ("/lib/x", true, vec!["dir usr 755 0:0", "dir usr/lib 755 0:0", "dir usr/lib/x 755 3:4"]),
    ] {
        let stack = base();
        let options = CopyOptions { owner: (3, 4), ..CopyOptions::default() };
        let mut layer = CopyLayer::new(&stack, options, LayerWriter::new(Vec::new()));
        assert_eq!(layer.make_dir(path.as_bytes()).unwrap(), made, "{path}");
        assert_eq!(listing(&layer.finish().unwrap().0), want, "{path}");
    }
    let stack = base();
    let mut layer = CopyLayer::new(&stack, CopyOptions::default(), LayerWriter::new(Vec::new()));
    assert!(matches!(layer.make_dir(b"/app/file"), Err(CopyError::NotADirectory { .. })));
}

#[test]
fn archives_are_unpacked_below_the_destination() {
    let mut owned = file("./usr/x", "1");
    owned.0.uid = 9;
    let inside = [
        file(".", ""),
        dir("./"),
        owned,
        symlink("l", "usr"),
        file("l/y", "2"),
        link(Kind::Hardlink, "h", "usr/x"),
        file("lib/z", "3"),
        dir("l"),
        file("l/w", "4"),
    ];
    let unpack = |dest: &str, owner, entries: &[(Header, Vec<u8>)]| {
        let stack = base();
        let options = CopyOptions { archive_owner: owner, ..to(dest) };
        let mut layer = CopyLayer::new(&stack, options, LayerWriter::new(Vec::new()));
        layer.add_archive(tar(entries).as_slice())?;
        Ok::<_, CopyError>(listing(&layer.finish()?.0))
    };
    let want = [
        "dir usr 755 0:0",
        "file usr/x 644 9:0 1",
        "link l 644 0:0 usr",
        "file usr/y 644 0:0 2",
        "hard h 644 0:0 usr/x",
        "dir usr/lib 755 0:0",
        "file usr/lib/z 644 0:0 3",
        "dir l 755 0:0",
        "file l/w 644 0:0 4",
    ];
    assert_eq!(unpack("/", None, &inside).unwrap(), want);
    let got = unpack("/n", Some((5, 5)), &[file("f", "1")]).unwrap();
    assert_eq!(got, ["dir n 755 0:0", "file n/f 644 5:5 1"]);
    for bad in [
        vec![file("../f", "")],
        vec![file("a/../../f", "")],
        vec![symlink(".", "/etc")],
        vec![link(Kind::Hardlink, "h", "app/file")],
        vec![link(Kind::Hardlink, "h", "../f")],
        vec![file("h", ""), link(Kind::Hardlink, "h", "h")],
        vec![file(".wh.f", "")],
        vec![file("d/.wh..wh..opq", "")],
        vec![symlink("s", "s"), file("s/x", "")],
        vec![file("f", ""), file("f/x", "")],
    ] {
        assert!(unpack("/", None, &bad).is_err(), "{bad:?}");
    }
    // Escapes end inside: the stack knows no outside.
    let got = unpack("/n", None, &[symlink("e", "/../../etc"), file("e/passwd", "x")]).unwrap();
    assert_eq!(got, ["dir n 755 0:0", "link n/e 644 0:0 /../../etc", "dir etc 755 0:0", "file etc/passwd 644 0:0 x"]);
}
