//! Where COPY and ADD get files from: flags of both, the web, repositories, named and remote contexts.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use kuz_image::tar::{Kind, TarReader};

use crate::kit::{Place, Ran, skip};
use crate::web::{Answer, Web};

/// A file of an image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct File {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) mtime: i64,
    pub(crate) content: String,
}

/// All files of an image's layers, later layers over earlier ones.
pub(crate) fn files(place: &Place, image: &str) -> BTreeMap<String, File> {
    let _ = std::fs::remove_dir_all(place.path("saved"));
    let saved = place.kuz(&["image", "save", "--format", "oci-dir", "-o", "saved", image]);
    assert_eq!(saved.code, 0, "{}", saved.stderr);
    let mut files = BTreeMap::new();
    for layer in place.inspect(image)["layers"].as_array().unwrap() {
        let digest = &layer["diffId"].as_str().unwrap()[7..];
        let tar = std::fs::read(place.path("saved/blobs/sha256").join(digest)).unwrap();
        let mut reader = TarReader::new(tar.as_slice());
        while let Some(mut entry) = reader.next().unwrap() {
            let header = entry.header().clone();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            let content = String::from_utf8_lossy(&content).into_owned();
            let file = File { kind: header.kind, mode: header.mode, mtime: header.mtime, content };
            files.insert(String::from_utf8(header.path).unwrap().trim_end_matches('/').to_owned(), file);
        }
    }
    files
}

/// The paths of files, without directories.
pub(crate) fn names(place: &Place, image: &str) -> Vec<String> {
    let all = files(place, image).into_iter();
    all.filter(|(_, file)| file.kind != Kind::Dir).map(|(path, _)| path).collect()
}

pub(crate) fn built(place: &Place, dockerfile: &str, arguments: &[&str]) -> Ran {
    place.dockerfile(dockerfile);
    let all = [&["-t", "app", "--progress=plain"], arguments].concat();
    let ran = place.build(&all);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran
}

/// Builds with something on standard input.
pub(crate) fn build_with_stdin(place: &Place, arguments: &[&str], input: &[u8]) -> Ran {
    let all = [&["build", "-t", "app"], arguments].concat();
    let mut command = place.command(&all);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input);
    Ran::of(&child.wait_with_output().unwrap())
}

/// Runs git for a test's own repository; `None` where there is no git.
pub(crate) fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]);
    command.args(arguments).current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_AUTHOR_DATE", "1700000000 +0000").env("GIT_COMMITTER_DATE", "1700000000 +0000");
    let output = command.output().ok()?;
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// A repository with a branch, an annotated tag and a link that leads out of it, served as files.
pub(crate) fn repository(place: &Place) -> Option<(Web, String)> {
    let Some(_) = git(place.dir.path(), &["--version"]) else {
        skip("no git");
        return None;
    };
    place.write("work/top.txt", "one");
    place.write("work/sub/inner.txt", "inner");
    place.write("work/sub/run.sh", "#!/bin/sh\n");
    place.write("work/Dockerfile", "FROM scratch\nCOPY sub /from-git/\n");
    place.write("work/.dockerignore", "sub\n");
    std::fs::set_permissions(place.path("work/sub/run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    std::os::unix::fs::symlink("/etc", place.path("work/out")).unwrap();
    let work = place.path("work");
    git(&work, &["init", "-q"])?;
    git(&work, &["add", "."])?;
    git(&work, &["commit", "-qm", "one"])?;
    git(&work, &["tag", "-a", "-m", "v1", "v1"])?;
    let first = git(&work, &["rev-parse", "HEAD"])?;
    place.write("work/top.txt", "two");
    git(&work, &["commit", "-qam", "two"])?;
    std::fs::create_dir(place.path("served")).unwrap();
    git(place.dir.path(), &["clone", "-q", "--bare", "work", "served/repo.git"])?;
    git(&place.path("served/repo.git"), &["update-server-info"])?;
    Some((Web::directory(&place.path("served")), first))
}

#[test]
fn exclude_and_parents_select_below_their_source() {
    let place = Place::new();
    for file in ["a.txt", "x/y/b.txt", "x/c.md", "x/z/d.md", "hom1.txt", "hom2.md"] {
        place.write(&format!("ctx/{file}"), file);
    }
    let stage = "FROM scratch AS base\nCOPY . /src/\nFROM scratch\n";
    for (step, want) in [
        ("COPY --parents x/y/b.txt ./x/./z /p/", vec!["p/x/y/b.txt", "p/z/d.md"]),
        ("COPY --parents **/*.md /p/", vec!["p/hom2.md", "p/x/c.md", "p/x/z/d.md"]),
        ("COPY --exclude=**/*.txt --exclude=z x /p/", vec!["p/c.md"]),
        ("COPY --exclude=y --exclude=!y/b.txt x /p/", vec!["p/c.md", "p/y/b.txt", "p/z/d.md"]),
        ("COPY --exclude=*.txt hom* /p/", vec!["p/hom2.md"]),
        ("COPY --from=base --parents /src/./x/**/b.txt /p/", vec!["p/x/y/b.txt"]),
        ("COPY --from=base --exclude=**/*.txt /src/x /p/", vec!["p/c.md", "p/z/d.md"]),
        ("COPY --from=base --exclude=**/*.md --exclude=*.txt /src/ /p/", vec!["p/Dockerfile", "p/x/y/b.txt"]),
        ("COPY --parents x/./no* /p/", vec![]),
    ] {
        built(&place, &format!("{stage}{step}\n"), &[]);
        assert_eq!(names(&place, "app"), want, "{step}");
    }
    for (step, code) in [("COPY --parents x/missing /p/", 3), ("COPY --exclude=[ x /p/", 3)] {
        place.dockerfile(&format!("FROM scratch\n{step}\n"));
        assert_eq!(place.build(&[]).code, code, "{step}");
    }
}

#[test]
fn a_linked_layer_does_not_look_at_what_is_below() {
    let place = Place::new();
    place.write("ctx/f", "f");
    std::fs::create_dir(place.path("ctx/links")).unwrap();
    std::os::unix::fs::symlink("usr/lib", place.path("ctx/links/lib")).unwrap();
    let on = |text: &str| {
        format!("FROM scratch\nCOPY links /\nCOPY <<E /below\n{text}\nE\nCOPY --link --chown=7 f /lib/x/\n")
    };
    built(&place, &on("one"), &[]);
    let all = files(&place, "app");
    assert_eq!(
        (all["lib"].kind, all["lib/x/f"].kind),
        (Kind::Dir, Kind::File),
        "no link of the destination is followed"
    );
    let again = built(&place, &on("two"), &[]);
    assert!(again.stderr.contains("COPY --link --chown=7 f /lib/x/ (cached)"), "{}", again.stderr);
    assert_eq!(files(&place, "app")["below"].content, "two\n");
    place.dockerfile("FROM scratch\nCOPY --link --chown=app f /\n");
    let named = place.build(&[]);
    assert!(named.code == 3 && named.stderr.contains("give numbers, or leave out --link"), "{}", named.stderr);
}

#[test]
fn files_of_the_web_are_asked_for_again_only_if_they_changed() {
    let place = Place::new();
    let web = Web::start(|asked| match asked.path.as_str() {
        _ if asked.headers.get("if-none-match").is_some_and(|tag| tag == "\"1\"") => Answer::status(304),
        "/dir/f.txt" => {
            Answer::of("content").header("etag", "\"1\"").header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")
        }
        "/plain" => Answer::of("plain"),
        _ => Answer::status(404),
    });
    let line = format!("ADD {} /d/\n", web.url("dir/f.txt"));
    built(&place, &format!("FROM scratch\n{line}"), &[]);
    let want = File { kind: Kind::File, mode: 0o600, mtime: 784_111_777, content: "content".into() };
    assert_eq!(files(&place, "app")["d/f.txt"], want);
    assert_eq!(web.asked().len(), 1);
    let again = built(&place, &format!("FROM scratch\n{line}"), &[]);
    assert!(again.stderr.contains("(cached)"), "{}", again.stderr);
    assert_eq!(web.asked()[0].headers.get("if-none-match").map(String::as_str), Some("\"1\""));

    let sum = kuz_image::Digest::of(b"content");
    built(&place, &format!("FROM scratch\nADD --checksum={sum} --chmod=644 {} /other\n", web.url("dir/f.txt")), &[]);
    assert_eq!((web.asked().len(), files(&place, "app")["other"].mode), (0, 0o644), "the checksum says enough");
    place.dockerfile(&format!("FROM scratch\nADD --checksum={sum} {} /other\n", web.url("plain")));
    let wrong = place.build(&[]);
    assert!(wrong.code == 7 && wrong.message().contains("digest mismatch"), "{} {}", wrong.code, wrong.stderr);
    place.dockerfile(&format!("FROM scratch\nADD {} /other\n", web.url("missing")));
    let missing = place.build(&[]);
    assert!(
        missing.code == 4 && missing.message().contains("Dockerfile:2: fetch"),
        "{} {}",
        missing.code,
        missing.stderr
    );

    // No later than SOURCE_DATE_EPOCH.
    built(
        &place,
        &format!("FROM scratch\nADD {} /d/\n", web.url("dir/f.txt")),
        &["--build-arg", "SOURCE_DATE_EPOCH=5"],
    );
    assert!(files(&place, "app").values().all(|file| file.mtime == 5));
}

#[test]
fn archives_of_the_web_are_unpacked_only_when_asked_for() {
    let place = Place::new();
    let mut tar = kuz_image::scan::LayerWriter::new(Vec::new());
    let header = kuz_image::tar::Header { path: b"in".to_vec(), mode: 0o640, size: 2, ..Default::default() };
    tar.append(&header, &mut b"hi".as_slice()).unwrap();
    let bytes = tar.finish().unwrap().0;
    let web = Web::start(move |_| Answer::of(bytes.clone()));
    built(&place, &format!("FROM scratch\nADD {} /d/\n", web.url("a.tar")), &[]);
    assert_eq!(names(&place, "app"), ["d/a.tar"]);
    built(&place, &format!("FROM scratch\nADD --unpack=true {} /d/\n", web.url("a.tar")), &[]);
    assert_eq!((names(&place, "app"), files(&place, "app")["d/in"].mode), (vec!["d/in".to_owned()], 0o640));
}

#[test]
fn credentials_of_an_address_stay_with_its_host_and_out_of_sight() {
    let place = Place::new();
    let other = Web::start(|_| Answer::of("elsewhere"));
    let there = other.url("x");
    let web = Web::start(move |asked| match asked.path.split('?').next().unwrap_or_default() {
        "/away" => Answer::status(302).header("location", there.clone()),
        "/file" => Answer::status(302).header("location", "file:///etc/passwd"),
        _ => Answer::of("here"),
    });
    let address = format!("http://me:canary@{}", web.address);
    let ran = built(&place, &format!("FROM scratch\nADD {address}/away?token=canary /a\n"), &[]);
    assert_eq!(web.asked()[0].headers.get("authorization").map(String::as_str), Some("Basic bWU6Y2FuYXJ5"));
    assert_eq!(other.asked()[0].headers.get("authorization"), None);
    assert_eq!(files(&place, "app")["a"].content, "elsewhere");
    place.dockerfile(&format!("FROM scratch\nADD {address}/file /a\n"));
    let refused = place.build(&[]);
    assert!(refused.code == 7 && refused.message().contains("refused: a redirect to"), "{}", refused.stderr);
    let history = place.inspect("app").to_string();
    for text in [&ran.stderr, &ran.stdout, &refused.stderr, &refused.stdout, &history] {
        assert!(!text.contains("canary"), "{text}");
    }
    assert!(history.contains("away?token=xxxxx"), "{history}");
    let found = Command::new("grep").args(["-rl", "canary", "store"]).current_dir(place.dir.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "no file of the store holds it");
}

#[test]
fn repositories_are_added_by_branch_tag_commit_and_directory() {
    let place = Place::new();
    let Some((web, first)) = repository(&place) else { return };
    let url = web.url("repo.git");
    let add = |rest: &str, flags: &str| format!("FROM scratch\nADD {flags} {url}{rest} /r/\n");
    built(&place, &add("", ""), &[]);
    let all = files(&place, "app");
    assert_eq!((all["r/top.txt"].content.as_str(), all["r/top.txt"].mtime), ("two", 1_700_000_000));
    assert_eq!((all["r/top.txt"].mode, all["r/sub/run.sh"].mode, all["r/out"].kind), (0o644, 0o755, Kind::Symlink));
    assert!(!all.contains_key("r/.git"));
    for (rest, want) in [("#v1", "one"), ("#main", "two"), ("?tag=v1", "one"), (&format!("#{first}"), "one")] {
        built(&place, &add(rest, ""), &[]);
        assert_eq!(files(&place, "app")["r/top.txt"].content, want, "{rest}");
    }
    let again = built(&place, &add("#v1", ""), &[]);
    assert!(again.stderr.contains("(cached)"), "{}", again.stderr);
    built(&place, &add("?ref=v1&subdir=sub", &format!("--checksum={}", &first[..10])), &[]);
    assert_eq!(names(&place, "app"), ["r/inner.txt", "r/run.sh"]);
    built(&place, &add("#main", "--keep-git-dir=true --exclude=sub"), &[]);
    let all = files(&place, "app");
    assert!(all.contains_key("r/.git/HEAD") && !all.contains_key("r/sub") && !all.contains_key("r/.git/hooks"));
    for (rest, flags, code, message) in [
        ("#v1", "--checksum=0000000", 7, "expected checksum to match 0000000"),
        ("#nothing", "", 4, "no such branch or tag"),
        ("#main:out", "", 7, "a symbolic link or `..` is on the way"),
        ("#main:missing", "", 7, "it is no directory there"),
    ] {
        place.dockerfile(&add(rest, flags));
        let ran = place.build(&[]);
        assert!(ran.code == code && ran.message().contains(message), "{rest}: {} {}", ran.code, ran.stderr);
    }
    let left = std::fs::read_dir(place.path("store/tmp")).unwrap().flatten().map(|entry| entry.file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with("scratch-")), "no checkout is left");
}

#[test]
fn git_that_is_not_there_is_named() {
    let mut place = Place::new();
    place.set("PATH", place.path("nothing"));
    place.dockerfile("FROM scratch\nADD https://127.0.0.1:9/repo.git /\n");
    let ran = place.build(&[]);
    assert!(ran.code == 5 && ran.message().contains("needs git"), "{} {}", ran.code, ran.stderr);
}

#[test]
fn a_context_may_be_a_repository_a_tar_or_nothing() {
    let place = Place::new();
    place.write("t/Dockerfile", "FROM scratch\nCOPY a /from-tar\n");
    place.write("t/a", "a");
    place.write("ctx/own", "own");
    let tar = Command::new("tar").args(["-czf", "-", "-C", "t", "."]).current_dir(place.dir.path()).output().unwrap();
    let ran = build_with_stdin(&place, &["-"], &tar.stdout);
    assert_eq!((ran.code, names(&place, "app")), (0, vec!["from-tar".to_owned()]), "{}", ran.stderr);
    let ran = build_with_stdin(&place, &["-"], b"FROM scratch\nCOPY <<E /text\nE\n");
    assert_eq!((ran.code, names(&place, "app")), (0, vec!["text".to_owned()]), "{}", ran.stderr);
    let ran = build_with_stdin(&place, &["-f", "-", "ctx"], b"FROM scratch\nCOPY own /\n");
    assert_eq!((ran.code, names(&place, "app")), (0, vec!["own".to_owned()]), "{}", ran.stderr);
    let ran = build_with_stdin(&place, &["-f", "-", "-"], b"FROM scratch\n");
    assert!(ran.code == 3 && ran.message().contains("both the context and the Dockerfile"), "{}", ran.stderr);
    let Some((web, _)) = repository(&place) else { return };
    let ran = place.kuz(&["build", "-t", "app", &web.url("repo.git")]);
    let want = ["from-git/inner.txt", "from-git/run.sh"];
    assert_eq!((ran.code, names(&place, "app")), (0, want.map(str::to_owned).to_vec()), "{}", ran.stderr);
    let ran = place.kuz(&["build", "-t", "app", "-f", "../../x", &web.url("repo.git")]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
}

#[test]
fn named_contexts_are_directories_images_layouts_and_repositories() {
    let place = Place::new();
    place.write("other/kept", "k");
    place.write("other/dropped", "d");
    place.write("other/.dockerignore", "dropped\n.dockerignore\n");
    built(&place, "FROM scratch\nCOPY --from=more . /m/\n", &["--build-context", "more=other"]);
    assert_eq!(names(&place, "app"), ["m/kept"]);
    built(&place, "FROM base\n", &["--build-context", "base=other", "--annotation", "a.b=c"]);
    assert_eq!(names(&place, "app"), ["kept"]);
    let tagged = place.kuz(&["tag", "app", "mine:1"]);
    assert_eq!(tagged.code, 0, "{}", tagged.stderr);
    built(&place, "FROM x AS s\nFROM s\n", &["--build-context", "x=docker-image://mine:1"]);
    assert_eq!(names(&place, "app"), ["kept"]);
    built(&place, "FROM base\nCOPY <<E /n\nE\n", &["--build-context", "base=docker-image://scratch"]);
    assert_eq!(names(&place, "app"), ["n"]);
    let saved = place.kuz(&["image", "save", "--format", "oci-dir", "-o", "layout", "mine:1"]);
    assert_eq!(saved.code, 0, "{}", saved.stderr);
    let mut fresh = Place::new();
    fresh.set("KUZ_STORE", fresh.path("another"));
    fresh.dockerfile("FROM base\nCOPY --from=base kept /again\n");
    let layout = format!("base=oci-layout://{}", place.path("layout").display());
    let ran = fresh.build(&["-t", "app", "--build-context", &layout]);
    assert_eq!((ran.code, names(&fresh, "app")), (0, vec!["again".to_owned(), "kept".to_owned()]), "{}", ran.stderr);
    let ran = fresh.build(&["--build-context", &format!("{layout}:none")]);
    assert!(ran.code == 7 && ran.message().contains("it has no image `none`"), "{} {}", ran.code, ran.stderr);
    let ran = place.build(&["--build-context", "x=file:///etc"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let Some((web, _)) = repository(&place) else { return };
    let context = format!("repo={}#v1", web.url("repo.git"));
    built(&place, "FROM scratch\nCOPY --from=repo top.txt /\n", &["--build-context", &context]);
    let all = files(&place, "app");
    assert_eq!((all["top.txt"].content.as_str(), all["top.txt"].mtime), ("one", 1_700_000_000));
}
