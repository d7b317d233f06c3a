//! Our tar against the programs that everybody has: GNU tar and Python's tarfile. Skipped where they are absent.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "the functions beside the tests are tests too")]

mod raw;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use kuz_image::Digest;
use kuz_image::tar::{Header, Kind, TarReader, TarWriter};
use raw::{Raw, archive};

/// Runs a program; `None` (and a line that says so) where it is absent.
fn run(program: &str, arguments: &[&OsStr]) -> Option<Output> {
    match Command::new(program).args(arguments).env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: cannot start {program}: {error}");
            None
        }
    }
}

fn gnu_tar() -> bool {
    let version = run("tar", &["--version".as_ref()]);
    let found = version.is_some_and(|output| String::from_utf8_lossy(&output.stdout).contains("GNU tar"));
    if !found {
        eprintln!("skipped: no GNU tar on this machine");
    }
    found
}

fn read(bytes: &[u8]) -> Result<BTreeMap<String, (Header, Digest)>, kuz_image::tar::TarError> {
    let mut reader = TarReader::new(bytes);
    let mut entries = BTreeMap::new();
    while let Some(mut entry) = reader.next()? {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(kuz_image::tar::TarError::Read)?;
        let header = entry.header().clone();
        entries.insert(String::from_utf8_lossy(&header.path).into_owned(), (header, Digest::of(&content)));
    }
    reader.finish()?;
    Ok(entries)
}

/// A tree with what formats differ in; returns the names.
fn make_tree(root: &Path) {
    let long = "long-directory-name-".repeat(6);
    std::fs::create_dir_all(root.join(&long)).unwrap();
    std::fs::write(root.join("plain"), b"content").unwrap();
    std::fs::write(root.join(&long).join("f".repeat(120)), vec![7; 1000]).unwrap();
    std::fs::write(root.join("жук"), b"").unwrap();
    std::fs::hard_link(root.join("plain"), root.join("second")).unwrap();
    std::os::unix::fs::symlink("t".repeat(150), root.join("link")).unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    for number in 0..40_u64 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", number * 1_000_003).unwrap();
    }
    sparse.set_len(45_000_000).unwrap();
}

#[test]
fn we_read_what_gnu_tar_writes() {
    if !gnu_tar() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    std::fs::create_dir(&root).unwrap();
    make_tree(&root);
    let sparse = |version: &'static str| vec!["--format=posix", "-S", version];
    for options in [
        vec!["--format=gnu"],
        vec!["--format=posix"],
        vec!["--format=oldgnu"],
        vec!["--format=gnu", "-S"],
        sparse("--sparse-version=0.0"),
        sparse("--sparse-version=0.1"),
        sparse("--sparse-version=1.0"),
    ] {
        let file = folder.path().join("out.tar");
        let mut arguments: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        arguments.extend(["-C".as_ref(), root.as_os_str(), "-cf".as_ref(), file.as_os_str(), ".".as_ref()]);
        assert!(run("tar", &arguments).unwrap().status.success(), "{options:?}");
        let entries = read(&std::fs::read(&file).unwrap()).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        assert_eq!(entries.len(), 8, "{options:?}");
        for (path, (header, digest)) in entries {
            let at = root.join(&path);
            let found = std::fs::symlink_metadata(&at).unwrap();
            assert_eq!(header.mode, found.mode() & 0o7777, "{options:?} {path}");
            assert_eq!(header.mtime, found.mtime(), "{options:?} {path}");
            assert_eq!((header.uid, header.gid), (found.uid(), found.gid()), "{options:?} {path}");
            match header.kind {
                Kind::File => assert_eq!(digest, Digest::of(&std::fs::read(&at).unwrap()), "{options:?} {path}"),
                Kind::Dir => assert!(found.is_dir(), "{options:?} {path}"),
                Kind::Symlink => assert_eq!(header.link, "t".repeat(150).into_bytes(), "{options:?}"),
                Kind::Hardlink => {
                    let target = root.join(OsStr::from_bytes(&header.link));
                    assert_eq!(std::fs::metadata(target).unwrap().ino(), found.ino(), "{options:?} {path}");
                }
                other => panic!("{options:?} {path}: {other:?}"),
            }
        }
    }
}

/// Headers with everything that needs PAX, and their contents.
fn samples() -> Vec<(Header, Vec<u8>)> {
    let header = |path: &[u8], kind| Header { path: path.to_vec(), kind, mode: 0o644, ..Header::default() };
    let file = |path: &[u8], content: &[u8]| {
        (Header { size: content.len() as u64, ..header(path, Kind::File) }, content.to_vec())
    };
    let mut all = vec![
        file(b"plain", b"content"),
        file(&[b'x'; 100], b""),
        file(&[vec![b'd'; 150], b"/".to_vec(), vec![b'f'; 100]].concat(), &[1; 513]),
        file(&[b'y'; 230], &[2; 512]),
        file("dir/жук".as_bytes(), b"1"),
        (Header { mode: 0o1777, ..header(b"dir", Kind::Dir) }, vec![]),
        (Header { link: b"plain".to_vec(), ..header(b"hard", Kind::Hardlink) }, vec![]),
        (Header { link: vec![b't'; 200], ..header(b"soft", Kind::Symlink) }, vec![]),
        (Header { link: "цель".into(), ..header(b"soft2", Kind::Symlink) }, vec![]),
        (header(b"null", Kind::Char { major: 1, minor: 3 }), vec![]),
        (header(b"loop", Kind::Block { major: 7, minor: 1_048_575 }), vec![]),
        (header(b"pipe", Kind::Fifo), vec![]),
    ];
    let (mut odd, content) = file(b"odd", b"x");
    odd = Header { uid: u32::MAX - 1, gid: 3_000_000, mtime: -5, mode: 0o6755, ..odd };
    odd.xattrs.insert(b"security.capability".to_vec(), b"\x01\0\n=12 a\xff".to_vec());
    odd.xattrs.insert(b"user.empty".to_vec(), vec![]);
    all.push((odd, content));
    all.push((Header { mtime: 1 << 40, ..header(b"late", Kind::File) }, vec![]));
    all
}

fn write(samples: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (header, content) in samples {
        writer.append(header, &mut content.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn we_read_what_we_write() {
    let samples = samples();
    let bytes = write(&samples);
    assert_eq!(bytes, write(&samples));
    let mut reader = TarReader::new(bytes.as_slice());
    for (header, content) in &samples {
        let mut entry = reader.next().unwrap().unwrap();
        assert_eq!(entry.header(), header);
        let mut found = Vec::new();
        entry.read_to_end(&mut found).unwrap();
        assert_eq!(&found, content);
    }
    assert!(reader.next().unwrap().is_none());
}

/// One line an entry, and a line `error` where the archive is refused.
const PYTHON: &str = r#"
import hashlib, os, sys, tarfile
for path in sys.argv[1:]:
    print("archive", os.path.basename(path))
    try:
        with tarfile.open(path, "r:", errors="surrogateescape", encoding="utf-8") as archive:
            for m in archive:
                content = archive.extractfile(m).read() if m.isreg() else b""
                xattrs = ",".join(k + "=" + v.encode("utf-8", "surrogateescape").hex()
                    for k, v in sorted(m.pax_headers.items()) if k.startswith("SCHILY.xattr."))
                dev = (m.devmajor, m.devminor) if m.isdev() and not m.isfifo() else (0, 0)
                kind = {tarfile.AREGTYPE: "0", tarfile.CONTTYPE: "0", tarfile.GNUTYPE_SPARSE: "0"}.get(m.type, m.type.decode("latin-1"))
                link = m.linkname if m.issym() or m.islnk() else ""
                out = "|".join(str(x) for x in (m.name, kind, m.mode & 0o7777, m.uid, m.gid, int(m.mtime // 1),
                    len(content), link, dev, xattrs, hashlib.sha256(content).hexdigest()))
                sys.stdout.buffer.write(out.encode("utf-8", "surrogateescape") + b"\n")
                sys.stdout.flush()
    except Exception as e:
        print("error", type(e).__name__)
"#;

fn line(header: &Header, content: &Digest) -> String {
    let (flag, device) = match header.kind {
        Kind::File => ("0", (0, 0)),
        Kind::Hardlink => ("1", (0, 0)),
        Kind::Symlink => ("2", (0, 0)),
        Kind::Char { major, minor } => ("3", (major, minor)),
        Kind::Block { major, minor } => ("4", (major, minor)),
        Kind::Dir => ("5", (0, 0)),
        Kind::Fifo => ("6", (0, 0)),
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let xattrs = header
        .xattrs
        .iter()
        .map(|(name, value)| format!("SCHILY.xattr.{}={}", String::from_utf8_lossy(name), hex(value)));
    format!(
        "{}|{flag}|{}|{}|{}|{}|{}|{}|{device:?}|{}|{}",
        String::from_utf8_lossy(&header.path),
        header.mode,
        header.uid,
        header.gid,
        header.mtime,
        header.size,
        String::from_utf8_lossy(&header.link),
        xattrs.collect::<Vec<_>>().join(","),
        content.hex()
    )
}

/// What Python says of these archives, by file name.
fn python(files: &[std::path::PathBuf]) -> Option<BTreeMap<String, Vec<String>>> {
    let mut arguments: Vec<&OsStr> = vec!["-c".as_ref(), PYTHON.as_ref()];
    arguments.extend(files.iter().map(|file| file.as_os_str()));
    let output = run("python3", &arguments)?;
    if !output.status.success() {
        eprintln!("skipped: python3 fails: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut at = String::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.strip_prefix("archive ") {
            Some(name) => name.clone_into(&mut at),
            None => all.entry(at.clone()).or_default().push(line.to_owned()),
        }
    }
    Some(all)
}

#[test]
fn python_and_gnu_tar_read_what_we_write() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.tar");
    let samples = samples();
    std::fs::write(&file, write(&samples)).unwrap();
    if let Some(found) = python(std::slice::from_ref(&file)) {
        let want: Vec<String> = samples.iter().map(|(header, content)| line(header, &Digest::of(content))).collect();
        assert_eq!(found["a.tar"], want);
    }
    if gnu_tar() {
        let out = run("tar", &["--quoting-style=literal".as_ref(), "-tf".as_ref(), file.as_os_str()]).unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let listed: Vec<String> =
            String::from_utf8_lossy(&out.stdout).lines().map(|line| line.trim_end_matches('/').to_owned()).collect();
        let want: Vec<String> =
            samples.iter().map(|(header, _)| String::from_utf8_lossy(&header.path).into_owned()).collect();
        assert_eq!(listed, want);
    }
}

/// Archives in which extensions and headers are put together at random, from pieces that fit and pieces that do not.
fn generated(count: usize) -> Vec<Vec<u8>> {
    let inner = archive(&[Raw::file("hidden", b"x")]);
    let pieces = [
        Raw::pax(&[("path", b"pax-name")]),
        Raw::pax(&[("size", b"3")]),
        Raw::pax(&[("size", b"0")]),
        Raw::pax(&[("size", b"1024"), ("path", b"sized")]),
        Raw::pax(&[("linkpath", b"elsewhere"), ("mtime", b"12.75")]),
        Raw::pax(&[("path", b"a"), ("path", b"b")]),
        Raw::global(&[("comment", b"nothing")]),
        Raw::global(&[("path", b"global-name")]),
        Raw::new(b"././@LongLink", b'L', b"gnu-name\0").gnu(),
        Raw::new(b"././@LongLink", b'K', b"gnu-link\0").gnu(),
        Raw::file("plain", b"abc"),
        Raw::file("gnu", b"abc").gnu(),
        Raw::file("empty", b""),
        Raw::file("container", &inner),
        Raw::file("zero-sized", &inner).size(0),
        // With type `0` Python and GNU tar disagree (we follow GNU); with the old type nobody does.
        Raw::new(b"dir/", 0, b""),
        Raw::new(b"dir", b'5', b""),
        Raw::new(b"sized-dir", b'5', b"").size(512),
        Raw::link("soft", b'2', "plain"),
        Raw::link("hard", b'1', "plain"),
        Raw::link("sized-hard", b'1', "plain").size(3),
        Raw::link("sized-soft", b'2', "plain").size(3),
        Raw::new(b"fifo", b'6', b""),
    ];
    let mut state = 7_u64;
    let mut next = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % limit
    };
    let make = |_| {
        let length = 1 + next(6);
        archive(&(0..length).map(|_| pieces[next(pieces.len())].clone()).collect::<Vec<_>>())
    };
    (0..count).map(make).collect()
}

/// What we read, Python and GNU tar read the same. What we refuse is ours to refuse.
#[test]
fn nothing_that_we_read_is_read_differently() {
    let folder = tempfile::tempdir().unwrap();
    let archives = generated(1500);
    let mut ours = BTreeMap::new();
    let mut files = Vec::new();
    for (number, bytes) in archives.iter().enumerate() {
        let mut reader = TarReader::new(bytes.as_slice());
        let mut lines = Vec::new();
        let complete = loop {
            match reader.next() {
                Ok(Some(mut entry)) => {
                    let header = entry.header().clone();
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content).unwrap();
                    lines.push(line(&header, &Digest::of(&content)));
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if complete {
            let name = format!("{number}.tar");
            let file = folder.path().join(&name);
            std::fs::write(&file, bytes).unwrap();
            ours.insert(name, lines);
            files.push(file);
        }
    }
    assert!(ours.len() > 100, "only {} archives are clear enough to compare", ours.len());
    if let Some(theirs) = python(&files) {
        for (name, lines) in &ours {
            // Python wants an entry after a global header: that it then complains at the end is no other reading.
            let read: Vec<String> = theirs.get(name).into_iter().flatten().cloned().collect();
            let read = read.strip_suffix(&["error ReadError".to_owned()][..]).unwrap_or(&read);
            assert_eq!(read, lines, "{name}");
        }
    }
    if gnu_tar() {
        for file in files.iter().take(200) {
            let name = file.file_name().unwrap().to_str().unwrap();
            let out = run("tar", &["-tf".as_ref(), file.as_os_str()]).unwrap();
            let listed = String::from_utf8_lossy(&out.stdout).replace("/\n", "\n");
            let want: Vec<&str> = ours[name].iter().filter_map(|line| line.split('|').next()).collect();
            assert_eq!(listed.lines().collect::<Vec<_>>(), want, "{name}");
        }
    }
}
