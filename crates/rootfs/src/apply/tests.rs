//! Layers that are meant well, and layers that are not: nothing outside the tree may change.

use std::os::unix::fs::MetadataExt as _;

use kuz_image::scan::scan;

use super::*;
use crate::testing::{Yard, dir, file, header, is_root, link, symlink, tar};

fn all_kinds(path: &str) -> Vec<(Header, Vec<u8>)> {
    vec![
        file(path, "evil"),
        dir(path),
        symlink(path, "elsewhere"),
        link(Kind::Hardlink, path, "seed"),
        (header(path, Kind::Fifo), Vec::new()),
        (header(path, Kind::Char { major: 1, minor: 3 }), Vec::new()),
        (header(path, Kind::Char { major: 0, minor: 0 }), Vec::new()),
    ]
}

/// CVE-2026-17106, CVE-2014-9356, CVE-2018-20990, CVE-2026-33056, CVE-2026-11940, CVE-2021-32760 and their kin: links
/// of every shape at several depths, and every kind of entry, hard link and whiteout through and over them.
#[test]
fn nothing_leaves_the_tree() {
    let mut cases = 0;
    let yard = Yard::new();
    let outer = yard.outer().to_str().unwrap().to_owned();
    let before = yard.outside();
    let targets = [
        "..",
        "../..",
        "../canary",
        "/",
        &outer,
        "/proc/self/root",
        "/proc/self/fd/3/..",
        "../../../../../../../../tmp",
        "l2",
        ".",
    ];
    let depths = ["l", "a/l", "a/b/l"];
    for (at, target) in depths.into_iter().cycle().zip(targets.into_iter().chain(targets)) {
        let through =
            [format!("{at}/canary"), format!("{at}/canary/file"), format!("{at}{outer}/canary/file"), at.to_owned()];
        for path in &through {
            let name = path.rsplit('/').next().unwrap();
            let mut attacks = all_kinds(path);
            attacks.push(link(Kind::Hardlink, "stolen", path));
            attacks.push(file(&format!("{}.wh.{name}", &path[..path.len() - name.len()]), ""));
            attacks.push(file(&format!("{path}/.wh..wh..opq"), ""));
            // Several attacks share a tree, one layer after the other: the second meets what the first left.
            for attacks in attacks.chunks(2) {
                let fresh = Yard::new();
                let here = fresh.outer().to_str().unwrap();
                let safe = fresh.outside();
                for attack in attacks {
                    let entries = [
                        file("seed", "x"),
                        symlink("l2", here),
                        symlink(at, &target.replace(&outer, here)),
                        attack.clone(),
                    ];
                    let result = fresh.apply(&entries);
                    assert_eq!(fresh.outside(), safe, "{target} at {at}, {path}: {result:?}");
                    // A hard link to a link is the link itself: only a file could have been stolen.
                    let stolen = fresh.path().join("stolen");
                    if stolen.symlink_metadata().is_ok_and(|stat| stat.is_file()) {
                        assert_ne!(std::fs::read(stolen).unwrap(), b"keep");
                    }
                    cases += 1;
                }
            }
        }
    }
    assert!(cases > 200);
    assert_eq!(yard.outside(), before);
}

#[test]
fn what_no_layer_may_hold_is_refused() {
    let long = "n".repeat(256);
    let deep = "d/".repeat(1025);
    let mut cases = Vec::new();
    for path in ["../x", "/../x", "a/../../x", "a/..", "..", "./../x", "//../x", &long, &deep] {
        cases.extend(all_kinds(path).into_iter().map(|entry| vec![file("seed", ""), entry]));
    }
    for path in [".", "/", "./", "//", "./."] {
        cases.extend(
            all_kinds(path).into_iter().filter(|e| e.0.kind != Kind::Dir).map(|entry| vec![file("seed", ""), entry]),
        );
    }
    for name in [".wh.", ".wh..", ".wh...", "a/.wh.b/c", ".wh.a/b", ".wh.a/.wh.b"] {
        cases.push(vec![file(name, "")]);
    }
    for target in ["/", "..", "../canary/file", "d", "missing", "later", "seed/x", ".wh.gone", "loop", "loop/x"] {
        let entries =
            [file("seed", ""), dir("d"), file(".wh.gone", ""), symlink("loop/x", "../loop"), symlink("loop2", "loop2")];
        cases.push([entries.to_vec(), vec![link(Kind::Hardlink, "h", target), file("later", "")]].concat());
    }
    cases.push(vec![symlink("loop", "loop"), file("loop/x", "")]);
    cases.push(vec![file("f", ""), file("f/x", "")]);
    cases.push(vec![file("f", ""), dir("f/x")]);
    cases.push(vec![file("f", ""), symlink("l", "f"), file("l/x", "")]);
    for entries in cases {
        let yard = Yard::new();
        let before = yard.outside();
        let shown = format!(
            "{:?}",
            entries.iter().map(|e| (&e.0.kind, String::from_utf8_lossy(&e.0.path))).collect::<Vec<_>>()
        );
        let shown = &shown[..shown.len().min(300)];
        if let Ok(applied) = yard.apply(&entries) {
            // A link that the layer itself has under the name of a loop may be linked to; nothing else passes.
            assert!(shown.contains("loop/x"), "{shown} {applied:?}");
        }
        assert_eq!(yard.outside(), before, "{shown}");
    }
}

fn state(yard: &Yard, path: &str) -> String {
    let at = yard.path().join(path);
    let Ok(stat) = at.symlink_metadata() else { return "none".into() };
    if stat.is_dir() {
        let fd = std::fs::File::open(at).unwrap().into();
        return if walk::is_opaque(&fd).unwrap() { "opaque".into() } else { "dir".into() };
    }
    match std::fs::read_link(&at) {
        Ok(target) => format!("-> {}", target.display()),
        Err(_) if stat.is_file() => std::fs::read_to_string(at).unwrap(),
        Err(_) if stat.rdev() == 0 && stat.mode() & 0o170_000 == 0o020_000 => "whiteout".into(),
        Err(_) => "special".into(),
    }
}

type Case = (&'static [(&'static str, &'static str)], Vec<(Header, Vec<u8>)>);

#[test]
fn entries_mean_what_they_mean_in_a_layer() {
    if !is_root("making whiteouts") {
        return;
    }
    let cases: Vec<Case> = vec![
        (&[("gone", "whiteout")], vec![file(".wh.gone", "")]),
        (&[("d/gone", "whiteout"), ("d", "dir")], vec![file("d/.wh.gone", "")]),
        (&[("d", "opaque"), ("d/f", "1")], vec![dir("d"), file("d/f", "1"), file("d/.wh..wh..opq", "")]),
        (&[("d", "opaque"), ("d/f", "1")], vec![file("d/.wh..wh..opq", ""), dir("d"), file("d/f", "1")]),
        (&[("f", "1")], vec![file(".wh.f", ""), file("f", "1")]),
        (&[("f", "1")], vec![file("f", "1"), file(".wh.f", "")]),
        (&[("d", "opaque"), ("d/f", "1")], vec![dir("d"), file("d/f", "1"), file(".wh.d", "")]),
        (&[("d", "opaque"), ("d/f", "1")], vec![file(".wh.d", ""), dir("d"), file("d/f", "1")]),
        (&[("d", "opaque"), ("d/f", "1")], vec![file(".wh.d", ""), file("d/f", "1")]),
        (&[(".wh..wh.plnk", "none"), ("x", "none")], vec![dir(".wh..wh.plnk"), file(".wh..wh.plnk/1", "")]),
        (&[("f", "2")], vec![file("f", "1"), file("f", "2")]),
        (&[("f", "dir"), ("f/x", "1")], vec![file("f", "1"), dir("f"), file("f/x", "1")]),
        (&[("d", "1")], vec![dir("d"), file("d/x", "1"), file("d", "1")]),
        (&[("d", "-> e"), ("e", "none")], vec![dir("d"), file("d/x", "1"), symlink("d", "e")]),
        (&[("d", "dir"), ("d/a", "1"), ("d/b", "2")], vec![dir("d"), file("d/a", "1"), dir("d"), file("d/b", "2")]),
        (
            &[("l", "dir"), ("l/x", "1"), ("e", "dir"), ("e/x", "none")],
            vec![dir("e"), symlink("l", "e"), dir("l"), file("l/x", "1")],
        ),
        (&[("usr/lib/x", "1"), ("lib", "-> usr/lib")], vec![symlink("lib", "usr/lib"), file("lib/x", "1")]),
        (&[("etc/x", "1")], vec![symlink("l", "../../etc"), file("l/x", "1")]),
        (&[("h", "1")], vec![file("f", "1"), link(Kind::Hardlink, "h", "/f")]),
        (&[("f", "1")], vec![file("f", "1"), link(Kind::Hardlink, "f", "f")]),
        (&[("h", "-> f")], vec![symlink("l", "f"), link(Kind::Hardlink, "h", "l")]),
        (&[("null", "none"), ("dev", "dir")], vec![(header("dev/null", Kind::Char { major: 1, minor: 3 }), vec![])]),
        (&[("f", "none")], vec![file("f", "1"), (header("f", Kind::Block { major: 8, minor: 0 }), vec![])]),
        (&[("p", "special")], vec![(header("p", Kind::Fifo), vec![])]),
        (&[("a", "1")], vec![file("./a", "1")]),
        (&[("a/b", "1")], vec![file("/a//b", "1")]),
    ];
    for (want, entries) in cases {
        let yard = Yard::new();
        let shown = format!("{:?}", entries.iter().map(|e| String::from_utf8_lossy(&e.0.path)).collect::<Vec<_>>());
        let hard_self = entries.len() == 2 && shown == r#"["f", "f"]"# && entries[1].0.kind == Kind::Hardlink;
        let applied = yard.apply(&entries).unwrap();
        for (path, state_wanted) in want {
            assert_eq!(state(&yard, path), *state_wanted, "{path} of {shown}");
        }
        let plain = !shown.contains("\"h\"") && !hard_self;
        if plain {
            assert_eq!(applied.index, scan(tar(&entries).as_slice()).unwrap().index, "{shown}");
        }
    }
}

#[test]
fn metadata_is_set_and_forged_marks_are_dropped() {
    if !is_root("setting owners") {
        return;
    }
    let yard = Yard::new();
    let mut setuid = file("bin", "x");
    setuid.0.mode = 0o6755;
    (setuid.0.uid, setuid.0.gid) = (5, 6);
    for (name, value) in [
        ("user.note", "n"),
        ("user.overlay.opaque", "y"),
        ("user.overlay.redirect", "/x"),
        ("trusted.overlay.opaque", "y"),
        ("security.capability", "\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    ] {
        setuid.0.xattrs.insert(name.into(), value.into());
    }
    let mut tmp = dir("tmp");
    tmp.0.mode = 0o1777;
    tmp.0.xattrs.insert(b"user.overlay.opaque".to_vec(), b"y".to_vec());
    let mut closed = dir("closed");
    closed.0.mode = 0;
    let mut own = symlink("own", "bin");
    own.0.uid = 7;
    let mut old = file("old", "");
    old.0.mtime = -5;
    let mut top = dir("./");
    top.0.mode = 0o700;
    let entries = [top, tmp, closed, file("closed/f", "1"), setuid, own, old, file("late/x", "")];
    let applied = yard.apply(&entries).unwrap();
    let stat = |path: &str| yard.path().join(path).symlink_metadata().unwrap();
    assert_eq!((stat("bin").mode() & 0o7777, stat("bin").uid(), stat("bin").gid()), (0o6755, 5, 6));
    assert_eq!((stat("tmp").mode() & 0o7777, stat("tmp").mtime()), (0o1777, 1_000_000));
    assert_eq!((stat("closed").mode() & 0o7777, stat("closed").mtime()), (0, 1_000_000));
    assert_eq!((stat("own").uid(), stat("old").mtime(), stat("").mode() & 0o7777), (7, -5, 0o700));
    let bin = std::fs::File::open(yard.path().join("bin")).unwrap();
    let names = xattrs::names(bin.as_fd()).unwrap();
    assert!(names.contains(&b"user.note".to_vec()) && names.contains(&b"security.capability".to_vec()), "{names:?}");
    assert!(names.iter().all(|name| xattrs::overlay_word(name).is_none()), "{names:?}");
    assert_eq!(state(&yard, "tmp"), "dir");
    assert_eq!(applied.implied, [b"late".to_vec()]);
    let mut far = file("far", "");
    far.0.uid = u32::MAX;
    assert!(matches!(yard.apply(&[far]), Err(ApplyError::Owner { uid: u32::MAX, .. })));
}

#[test]
fn a_single_owner_can_read_everything() {
    let yard = Yard::new();
    let mut shadow = file("etc/shadow", "s");
    (shadow.0.mode, shadow.0.uid) = (0, 70_000);
    let mut closed = dir("closed");
    (closed.0.mode, closed.0.gid) = (0, 70_000);
    let entries = [file("etc/passwd", "root:x:0:0::/:\n"), shadow, closed, file("closed/f", "1")];
    let applied = apply(tar(&entries).as_slice(), &yard.tree(), Ownership::Single).unwrap();
    let stat = yard.path().join("etc/shadow").symlink_metadata().unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid()), (0o600, rustix::process::geteuid().as_raw()));
    assert_eq!(applied.index.entries[b"etc/shadow".as_slice()].uid, 70_000);
    assert_eq!(applied.index.accounts[b"etc/passwd".as_slice()], b"root:x:0:0::/:\n");
}

/// CVE-2026-95838: marks by the thousand take time in proportion.
#[test]
fn opaque_marks_are_cheap() {
    let yard = Yard::new();
    let mut entries = vec![dir("d")];
    entries.extend((0..3000).map(|number| file(&format!("d/{number}"), "")));
    entries.extend((0..3000).map(|_| file("d/.wh..wh..opq", "")));
    yard.apply(&entries).unwrap();
    assert_eq!(state(&yard, "d"), "opaque");
}

#[test]
fn damaged_archives_leave_no_descriptors_open() {
    let open = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let bytes = tar(&[dir("d"), file("d/f", "content"), symlink("d/l", "f")]);
    let yard = Yard::new();
    let tree = yard.tree();
    let before = open();
    for cut in (1..bytes.len()).step_by(97) {
        let _ = apply(&bytes[..cut], &tree, Ownership::Single);
    }
    // Other tests run at the same time and open files of their own.
    assert!(open() < before + 40);
}
