//! Archives that are odd, broken or made to deceive: each is read in one known way or refused.
#![expect(clippy::panic, reason = "the functions beside the tests are tests too")]

mod raw;

use std::io::Read;

use kuz_image::limits;
use kuz_image::tar::{Header, Kind, TarError, TarReader};
use proptest::prelude::*;
use raw::{Raw, archive, pax_records};

fn read(bytes: &[u8]) -> Result<Vec<(Header, Vec<u8>)>, TarError> {
    let mut reader = TarReader::new(bytes);
    let mut entries = Vec::new();
    while let Some(mut entry) = reader.next()? {
        let header = entry.header().clone();
        let mut content = Vec::new();
        // What a small archive expands to is bounded here, as a caller would.
        (&mut entry).take(1 << 20).read_to_end(&mut content).map_err(TarError::Read)?;
        entries.push((header, content));
    }
    reader.finish()?;
    Ok(entries)
}

fn file(name: &str) -> Raw {
    Raw::file(name, b"")
}

/// Builds old GNU sparse headers.
fn sparse(regions: &[(u64, u64)], more: bool, real: u64, stored: &[u8]) -> Raw {
    let mut raw = Raw::new(b"s", b'S', stored).gnu();
    for (number, (offset, length)) in regions.iter().enumerate() {
        raw = raw.put(386 + 24 * number, format!("{offset:011o}\0{length:011o}\0").as_bytes());
    }
    raw.put(482, &[u8::from(more)]).put(483, format!("{real:011o}\0").as_bytes())
}

/// Name of the case, archive, and what the one entry is.
type Clear<'a> = (&'a str, Vec<Raw>, &'a str, Kind, &'a [u8]);

fn check_clear(cases: Vec<Clear<'_>>) {
    for (name, entries, path, kind, content) in cases {
        let got = read(&archive(&entries)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(got.len(), 1, "{name}");
        assert_eq!(String::from_utf8_lossy(&got[0].0.path), path, "{name}");
        assert_eq!((got[0].0.kind, got[0].1.as_slice()), (kind, content), "{name}");
        assert_eq!(got[0].0.size, content.len() as u64, "{name}");
    }
}

#[test]
fn odd_but_clear_archives_are_read() {
    let long = "d/".repeat(120) + "f";
    let full = "n".repeat(100);
    let old_sum = {
        let raw = Raw::file("\u{fc}", b"x");
        let mut block = raw.block;
        block[148..156].fill(b' ');
        let sum: i32 = block.iter().map(|&byte| i32::from(byte.cast_signed())).sum();
        raw.put(148, format!("{sum:06o}\0 ").as_bytes()).unsealed()
    };
    check_clear(vec![
        ("plain", vec![Raw::file("a", b"x")], "a", Kind::File, b"x"),
        ("old type", vec![Raw::new(b"a", 0, b"x")], "a", Kind::File, b"x"),
        ("contiguous", vec![Raw::new(b"a", b'7', b"x")], "a", Kind::File, b"x"),
        ("old directory", vec![Raw::new(b"a/", 0, b"")], "a", Kind::Dir, b""),
        ("no name", vec![Raw::file("", b"x")], ".", Kind::File, b"x"),
        ("slashes", vec![Raw::new(b"a///", b'5', b"")], "a", Kind::Dir, b""),
        ("root", vec![Raw::new(b"/", b'5', b"")], "/", Kind::Dir, b""),
        ("prefix", vec![file("a").put(345, b"p/q")], "p/q/a", Kind::File, b""),
        ("GNU has no prefix", vec![file("a").gnu().put(345, b"00000000001\0")], "a", Kind::File, b""),
        ("full name field", vec![file(&full)], &full, Kind::File, b""),
        ("signed sum", vec![old_sum], "\u{fc}", Kind::File, b"x"),
        ("pax path", vec![Raw::pax(&[("path", long.as_bytes())]), file("short")], &long, Kind::File, b""),
        (
            "pax size wins over less",
            vec![Raw::pax(&[("size", b"3")]), Raw::file("a", b"abc").size(0)],
            "a",
            Kind::File,
            b"abc",
        ),
        (
            "pax size wins over more",
            vec![Raw::pax(&[("size", b"3")]), Raw::file("a", b"abc").size(9)],
            "a",
            Kind::File,
            b"abc",
        ),
        ("unknown records", vec![Raw::pax(&[("comment", b"\n\n"), ("x.y", b"")]), file("a")], "a", Kind::File, b""),
        ("solaris", vec![Raw::new(b"p", b'X', &pax_records(&[("path", b"b")])), file("a")], "b", Kind::File, b""),
        ("global", vec![Raw::global(&[("comment", b"path=x"), ("uid", b"7")]), file("a")], "a", Kind::File, b""),
        ("long name", vec![Raw::new(b"././@LongLink", b'L', b"b/c\0").gnu(), file("a").gnu()], "b/c", Kind::File, b""),
        (
            "both names agree",
            vec![Raw::new(b"l", b'L', b"b\0").gnu(), Raw::pax(&[("path", b"b")]), file("a")],
            "b",
            Kind::File,
            b"",
        ),
        ("hard link with the file's size", vec![Raw::link("a", b'1', "b").size(77)], "a", Kind::Hardlink, b""),
        (
            "device",
            vec![file("a").put(156, b"3").put(329, b"0000005\0").put(337, b"0000001\0")],
            "a",
            Kind::Char { major: 5, minor: 1 },
            b"",
        ),
        ("fifo", vec![file("a").put(156, b"6")], "a", Kind::Fifo, b""),
    ]);
}

#[test]
fn sparse_files_of_all_forms_are_read() {
    check_clear(vec![
        ("old sparse", vec![sparse(&[(1, 2), (5, 0)], false, 5, b"xy")], "s", Kind::File, b"\0xy\0\0"),
        (
            "sparse 0.0",
            vec![
                Raw::pax(&[
                    ("GNU.sparse.size", b"4"),
                    ("GNU.sparse.numblocks", b"2"),
                    ("GNU.sparse.offset", b"0"),
                    ("GNU.sparse.numbytes", b"1"),
                    ("GNU.sparse.offset", b"3"),
                    ("GNU.sparse.numbytes", b"1"),
                ]),
                Raw::file("s", b"xy"),
            ],
            "s",
            Kind::File,
            b"x\0\0y",
        ),
        (
            "sparse 0.1",
            vec![
                Raw::pax(&[("GNU.sparse.size", b"4"), ("GNU.sparse.map", b"1,2"), ("GNU.sparse.name", b"s")]),
                Raw::file("GNUSparseFile.1/s", b"xy"),
            ],
            "s",
            Kind::File,
            b"\0xy\0",
        ),
        (
            "sparse 1.0",
            vec![
                Raw::pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.name", b"s"),
                    ("GNU.sparse.realsize", b"4"),
                ]),
                Raw::file("x", &[&b"1\n2\n2\n"[..], &[0; 506], b"xy"].concat()),
            ],
            "s",
            Kind::File,
            b"\0\0xy",
        ),
    ]);
}

#[test]
fn numbers_and_attributes_come_through() {
    let value = b"\x01\0\n30 path=../../etc/passwd\n=\xff";
    let entries = [
        Raw::pax(&[
            ("uid", b"4294967294"),
            ("gid", b"70000"),
            ("mtime", b"-1.5"),
            ("SCHILY.xattr.security.capability", value),
            ("SCHILY.xattr.user.empty", b""),
        ]),
        file("a").put(100, b"0104755\0"),
        file("b").put(108, b"\x80\0\0\0\x7f\xff\xff\xff").put(136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfb"),
    ];
    let got = read(&archive(&entries)).unwrap();
    let (first, second) = (&got[0].0, &got[1].0);
    assert_eq!((first.uid, first.gid, first.mtime, first.mode), (u32::MAX - 1, 70_000, -2, 0o4755));
    assert_eq!(first.xattrs[&b"security.capability"[..]], value);
    assert_eq!(first.xattrs[&b"user.empty"[..]], b"");
    assert_eq!((second.uid, second.mtime), (0x7fff_ffff, -5));
    assert!(second.xattrs.is_empty());
}

fn check_refused(cases: Vec<(&str, Vec<Raw>)>) {
    for (name, entries) in cases {
        // In front, so that a fault cannot be taken for an empty archive.
        let all = [vec![Raw::file("before", b"x")], entries].concat();
        match read(&archive(&all)) {
            Ok(entries) => panic!("{name}: read as {:?}", entries.last()),
            Err(TarError::Truncated { .. } | TarError::Read(_)) => panic!("{name}: only the length gave it away"),
            // Every case but those on it must get past the checksum.
            Err(TarError::Checksum { .. }) => assert!(name.contains("checksum"), "{name}"),
            Err(_) => {}
        }
    }
}

fn pax(key: &str, value: &[u8]) -> Vec<Raw> {
    vec![Raw::pax(&[(key, value)]), file("a")]
}

#[test]
fn hostile_archives_are_refused() {
    let limit = limits::TAR_EXTENSION_BYTES;
    let big = vec![b'a'; limit];
    check_refused(vec![
        ("wrong checksum", vec![file("a").put(148, b"000001\0 ").unsealed()]),
        ("no checksum", vec![file("a").unsealed()]),
        ("socket", vec![file("a").put(156, b"s")]),
        ("volume label", vec![file("a").put(156, b"V")]),
        ("multi-volume", vec![file("a").put(156, b"M")]),
        ("dump directory", vec![file("a").put(156, b"D")]),
        ("unknown type", vec![file("a").put(156, b"\xff")]),
        ("size junk", vec![file("a").put(124, b"0000000000x\0")]),
        ("size negative", vec![file("a").put(124, &[0xff; 12])]),
        ("size digits after the end", vec![file("a").put(124, b"0000\x000000007")]),
        ("owner negative", vec![file("a").put(108, &[0xff; 8])]),
        ("owner over 32 bits", vec![file("a").put(108, b"\x80\0\0\x01\0\0\0\0")]),
        ("mode junk", vec![file("a").put(100, b"rwxr-xr-")]),
        ("time junk", vec![file("a").put(136, b"yesterday\0\0\0")]),
        ("device junk", vec![file("a").put(156, b"3").put(329, b"x")]),
        ("directory with content", vec![Raw::new(b"a", b'5', b"hidden")]),
        ("file named as a directory with content", vec![Raw::file("a/", b"hidden")]),
        ("symlink with content", vec![Raw::link("a", b'2', "b").size(512)]),
        ("fifo with content", vec![Raw::new(b"a", b'6', b"hidden")]),
        ("hard link with a PAX size", vec![Raw::pax(&[("size", b"512")]), Raw::link("a", b'1', "b")]),
        ("symlink to nothing", vec![Raw::link("a", b'2', "")]),
        ("hard link to nothing", vec![Raw::link("a", b'1', "")]),
        ("two PAX headers", vec![Raw::pax(&[("path", b"a")]), Raw::pax(&[("path", b"b")]), file("c")]),
        ("two PAX paths", vec![Raw::pax(&[("path", b"a"), ("path", b"b")]), file("c")]),
        ("two PAX sizes", vec![Raw::pax(&[("size", b"0"), ("size", b"512")]), file("c")]),
        ("GNU and PAX names", vec![Raw::new(b"l", b'L', b"a\0").gnu(), Raw::pax(&[("path", b"b")]), file("c")]),
        ("a directory by one name only", vec![Raw::pax(&[("path", b"a")]), Raw::new(b"a/", 0, b"")]),
        ("PAX without an entry", vec![Raw::pax(&[("path", b"a")])]),
        ("long name without an entry", vec![Raw::new(b"l", b'L', b"a\0").gnu()]),
        ("long name empty", vec![Raw::new(b"l", b'L', b"\0").gnu(), file("a")]),
        ("long name with something after", vec![Raw::new(b"l", b'L', b"a\0b\0").gnu(), file("a")]),
        ("long name over the limit", vec![Raw::new(b"l", b'L', &[&big[..], b"\0"].concat()).gnu(), file("a")]),
        (
            "extensions over the limit together",
            vec![Raw::new(b"l", b'L', &big).gnu(), Raw::new(b"l", b'K', b"a\0").gnu(), file("a")],
        ),
        ("extension of 8 GiB", vec![Raw::new(b"l", b'x', b"").size(8 << 30), file("a")]),
        ("global path", vec![Raw::global(&[("path", b"x")]), file("a")]),
        ("global link", vec![Raw::global(&[("linkpath", b"x")]), file("a")]),
        ("global size", vec![Raw::global(&[("size", b"0")]), file("a")]),
        ("global sparse", vec![Raw::global(&[("GNU.sparse.name", b"x")]), file("a")]),
        ("global junk", vec![Raw::new(b"g", b'g', b"junk"), file("a")]),
    ]);
}

#[test]
fn hostile_records_are_refused() {
    let raw_pax = |bytes: &[u8]| vec![Raw::new(b"p", b'x', bytes), file("a")];
    let many_xattrs: Vec<(String, &[u8])> =
        (0..=limits::XATTRS).map(|number| (format!("SCHILY.xattr.user.{number}"), &b""[..])).collect();
    let many_xattrs: Vec<(&str, &[u8])> = many_xattrs.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    check_refused(vec![
        ("NUL in path", pax("path", b"a\0b")),
        ("NUL in link", vec![Raw::pax(&[("linkpath", b"a\0b")]), Raw::link("a", b'2', "b")]),
        ("NUL in key", pax("a\0", b"b")),
        ("path empty", pax("path", b"")),
        ("size empty", pax("size", b"")),
        ("size negative in PAX", pax("size", b"-1")),
        ("size hexadecimal", pax("size", b"0x10")),
        ("size over 63 bits", pax("size", b"9223372036854775808")),
        ("uid over 32 bits", pax("uid", b"4294967296")),
        ("gid junk", pax("gid", b"wheel")),
        ("mtime junk", pax("mtime", b"now")),
        ("record too long", raw_pax(b"99 path=a\n")),
        ("record too short", raw_pax(b"8 path=a\n")),
        ("record without newline", raw_pax(b"9 path=ab")),
        ("record without value", raw_pax(b"7 path\n")),
        ("record padded", raw_pax(b"9 path=a\n\0\0\0")),
        ("record of zero", raw_pax(b"0 path=a\n")),
        ("record length signed", raw_pax(b"+9 path=a\n")),
        ("attribute without a name", pax("SCHILY.xattr.", b"x")),
        ("attribute name too long", pax(&format!("SCHILY.xattr.{}", "n".repeat(256)), b"x")),
        ("attribute too long", pax("SCHILY.xattr.user.a", &vec![b'x'; limits::XATTR_BYTES + 1])),
        ("too many attributes", vec![Raw::pax(&many_xattrs), file("a")]),
    ]);
}

#[test]
fn hostile_sparse_files_are_refused() {
    let sparse_1 = |content: &[u8]| {
        let records: &[(&str, &[u8])] =
            &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"4")];
        vec![Raw::pax(records), Raw::file("x", content)]
    };
    let map = |size: &[u8], map: &[u8], stored: &[u8]| {
        vec![Raw::pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", map)]), Raw::file("a", stored)]
    };
    check_refused(vec![
        ("star's sparse file", pax("SCHILY.realsize", b"100")),
        ("sparse outside GNU", vec![Raw::new(b"s", b'S', b"")]),
        ("sparse overlap", vec![sparse(&[(0, 2), (1, 1)], false, 5, b"xyz")]),
        ("sparse beyond the end", vec![sparse(&[(4, 3)], false, 5, b"xyz")]),
        ("sparse stored less", vec![sparse(&[(0, 3)], false, 5, b"xy")]),
        ("sparse stored more", vec![sparse(&[(0, 1)], false, 5, b"xy")]),
        ("sparse goes on after its end", vec![sparse(&[(0, 2)], true, 5, b"xy")]),
        (
            "sparse hole bomb",
            vec![Raw::pax(&[("GNU.sparse.size", b"9223372036854775807"), ("GNU.sparse.map", b"")]), file("a")],
        ),
        ("sparse map odd", map(b"4", b"1,2,3", b"xy")),
        ("sparse map junk", map(b"4", b"1,,2", b"xy")),
        ("sparse map overflow", map(b"4", b"18446744073709551615,2", b"xy")),
        ("sparse without a size", pax("GNU.sparse.map", b"0,0")),
        (
            "sparse directory",
            vec![Raw::pax(&[("GNU.sparse.size", b"0"), ("GNU.sparse.map", b"")]), Raw::new(b"a", b'5', b"")],
        ),
        (
            "sparse unknown version",
            vec![
                Raw::pax(&[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.size", b"0")]),
                file("a"),
            ],
        ),
        ("sparse 1.0 without map", sparse_1(b"")),
        ("sparse 1.0 map junk", sparse_1(&[b'x'; 512])),
        ("sparse 1.0 map cut", sparse_1(&[&b"2\n0\n1\n"[..], &[b'1'; 506]].concat())),
        ("sparse 1.0 too many", sparse_1(&[&b"65537\n"[..], &[0; 506]].concat())),
        ("sparse 1.0 huge count", sparse_1(&[&b"18446744073709551615\n"[..], &[0; 491]].concat())),
    ]);
}

#[test]
fn nothing_but_two_zero_blocks_ends_an_archive() {
    let whole = archive(&[Raw::pax(&[("path", b"b")]), Raw::file("a", &[7; 700]), file("c")]);
    assert_eq!(read(&whole).unwrap().len(), 2);
    let without_end = whole.len() - 1024;
    // A single zero block at the very end is what some programs leave.
    for length in (0..whole.len()).filter(|&length| length != without_end + 512) {
        let cut = &whole[..length];
        assert!(read(cut).is_err(), "cut at {length}");
        let mut reader = TarReader::new(cut).end_optional();
        let outcome = loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        // After a complete entry: nothing at all, the second entry, or both.
        let complete = [0, without_end - 512, without_end].contains(&length);
        assert_eq!(outcome, complete, "cut at {length}");
    }
    let lone = [file("a").bytes(), vec![0; 512], file("b").bytes(), vec![0; 1024]].concat();
    assert!(matches!(read(&lone), Err(TarError::Malformed { .. })));
    let after = [whole.clone(), file("hidden").bytes()].concat();
    assert_eq!(read(&after).unwrap().len(), 2);
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let parts = [
        Raw::pax(&[("path", b"b"), ("size", b"3"), ("SCHILY.xattr.user.a", b"x")]),
        Raw::file("a", b"abc"),
        sparse(&[(1, 2)], false, 5, b"xy"),
        Raw::pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"4")]),
        Raw::file("x", &[&b"1\n2\n2\n"[..], &[0; 506], b"xy"].concat()),
        Raw::new(b"l", b'L', b"name\0").gnu(),
        Raw::link("l", b'1', "a"),
        Raw::new(b"d/", b'5', b""),
    ];
    let change = (any::<prop::sample::Index>(), 0_usize..512, any::<u8>());
    let order = proptest::collection::vec(0..parts.len(), 1..8);
    (order, proptest::collection::vec(change, 0..4)).prop_map(move |(order, changes)| {
        let mut entries: Vec<Raw> = order.iter().map(|&at| parts[at].clone()).collect();
        for (which, at, byte) in changes {
            let entry = which.get(&(0..entries.len()).collect::<Vec<_>>()).to_owned();
            let entry = &mut entries[entry];
            // In the block (its checksum is made right again), or in the content.
            match entry.content.get_mut(at) {
                Some(slot) if byte % 2 == 0 => *slot = byte,
                _ => entry.block[at] = byte,
            }
        }
        archive(&entries)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let _ = read(&bytes);
        let _ = kuz_image::scan::scan(bytes.as_slice());
    }

    #[test]
    fn changed_archives_are_read_or_refused(bytes in mutated()) {
        if let Ok(entries) = read(&bytes) {
            for (header, content) in entries {
                prop_assert!(!header.path.is_empty() && !header.path.contains(&0));
                prop_assert_eq!(content.len() as u64, header.size.min(1 << 20));
            }
        }
    }
}
