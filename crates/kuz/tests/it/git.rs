//! Repositories as sources, with a server on loopback: who is shown which credentials, submodules, ssh, hostile names;
//! and whose time `SOURCE_DATE_EPOCH` names.

use crate::kit::Place;
use crate::sources::{build_with_stdin, built, files, git, names, repository};
use crate::web::{Answer, Web};

/// `x-access-token:canary`, encoded.
const TOKEN: &str = "basic eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5";
/// When the commits of tests are made.
const COMMITTED: &str = "2023-11-14T22:13:20Z";

/// A place with a repository that is served to who shows this, or to all.
fn served(authorization: Option<&str>) -> Option<(Place, Web)> {
    let mut place = Place::new();
    repository(&place)?;
    place.set("TOKEN", "canary");
    place.set("HEADER", "Custom canary");
    place.set("OTHER", "other");
    let web = Web::git(&place.path("served"), authorization);
    Some((place, web))
}

#[test]
fn tokens_are_shown_to_their_host_only() {
    let Some((place, web)) = served(Some(TOKEN)) else { return };
    let host = web.address.clone();
    place.dockerfile(&format!("FROM scratch\nADD {} /r/\n", web.url("repo.git#main")));
    let named = |id: &str| format!("id={id},env=TOKEN");
    for (secrets, code) in [
        (vec![], 4),
        (vec!["id=GIT_AUTH_TOKEN,env=OTHER".to_owned()], 4),
        (vec![named("GIT_AUTH_TOKEN.elsewhere")], 4),
        (vec![named("GIT_AUTH_TOKEN")], 0),
        (vec![named(&format!("GIT_AUTH_TOKEN.{host}")), "id=GIT_AUTH_TOKEN,env=OTHER".to_owned()], 0),
    ] {
        let mut arguments = vec!["-t", "app", "--no-cache", "--progress=plain"];
        arguments.extend(secrets.iter().flat_map(|secret| ["--secret", secret]));
        let ran = place.build(&arguments);
        assert_eq!(ran.code, code, "{secrets:?} {}", ran.stderr);
        for text in [&ran.stdout, &ran.stderr] {
            assert!(!text.contains("canary") && !text.contains("eC1hY2Nlc3M"), "{text}");
        }
    }
    assert_eq!(files(&place, "app")["r/top.txt"].content, "two");
    let mut grep = std::process::Command::new("grep");
    grep.args(["-rlE", "canary|eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5", "store"]).current_dir(place.dir.path());
    let found = grep.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "no file of the store holds it");
}

#[test]
fn a_header_is_sent_as_it_is_and_contexts_are_asked_with_it() {
    let Some((place, web)) = served(Some("Custom canary")) else { return };
    let header = ["-t", "app", "--secret", "id=GIT_AUTH_HEADER,env=HEADER"];
    let url = web.url("repo.git#main");
    let ran = place.kuz(&[&["build"], &header[..], &[&url]].concat());
    let want = ["from-git/inner.txt", "from-git/run.sh"];
    assert_eq!((ran.code, names(&place, "app")), (0, want.map(str::to_owned).to_vec()), "{}", ran.stderr);
    place.dockerfile("FROM scratch\nCOPY --from=repo top.txt /\n");
    let named = format!("repo={url}");
    let ran = place.build(&[&header[..], &["--build-context", &named]].concat());
    assert_eq!((ran.code, names(&place, "app")), (0, vec!["top.txt".to_owned()]), "{}", ran.stderr);
    let wrong = place.kuz(&["build", "--secret", "id=GIT_AUTH_HEADER,env=TOKEN", &url]);
    assert!(wrong.code == 4 && !wrong.stderr.contains("canary"), "{} {}", wrong.code, wrong.stderr);
}

#[test]
fn credentials_do_not_follow_a_redirect() {
    let Some((place, web)) = served(Some(TOKEN)) else { return };
    let there = web.url("");
    let away = Web::start(move |asked| Answer::status(302).header("location", format!("{there}{}", &asked.path[1..])));
    place.dockerfile(&format!("FROM scratch\nADD {} /r/\n", away.url("repo.git#main")));
    let ran = place.build(&["--secret", "id=GIT_AUTH_TOKEN,env=TOKEN"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(web.asked().iter().all(|asked| asked.header("authorization").is_none()), "the other server is not asked");
}

#[test]
fn files_of_the_web_are_asked_for_with_the_hosts_secret() {
    let mut place = Place::new();
    place.set("TOKEN", "canary");
    let other = Web::start(|_| Answer::of("elsewhere"));
    let there = other.url("x").replace("127.0.0.1", "localhost");
    let web = Web::start(move |asked| match asked.header("authorization") {
        None => Answer::status(401),
        Some(_) if asked.path == "/away" => Answer::status(302).header("location", there.clone()),
        Some(shown) => Answer::of(shown.replace("canary", "it")),
    });
    place.dockerfile(&format!("FROM scratch\nADD {} /a\n", web.url("file")));
    assert_eq!(place.build(&[]).code, 4, "nothing is shown that was not passed on");
    for (id, want) in [("HTTP_AUTH_TOKEN_127.0.0.1", "Bearer it"), ("HTTP_AUTH_HEADER_127.0.0.1", "it")] {
        let secret = format!("id={id},env=TOKEN");
        let ran = place.build(&["-t", "app", "--no-cache", "--secret", &secret]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(files(&place, "app")["a"].content, want);
    }
    built(
        &place,
        &format!("FROM scratch\nADD {} /b\n", web.url("away")),
        &["--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,env=TOKEN"],
    );
    assert!(other.asked().iter().all(|asked| asked.header("authorization").is_none()), "it stays with its host");
}

#[test]
fn submodules_are_fetched_when_asked_for() {
    let Some((place, web)) = served(None) else { return };
    place.write("outer/own.txt", "own");
    let outer = place.path("outer");
    let url = web.url("repo.git");
    git(&outer, &["init", "-q"]);
    git(&outer, &["-c", "protocol.http.allow=always", "submodule", "--quiet", "add", &url, "inner"]);
    git(&outer, &["add", "."]);
    git(&outer, &["commit", "-qm", "outer"]);
    git(place.dir.path(), &["clone", "-q", "--bare", "outer", "served/outer.git"]);
    let address = web.url("outer.git");
    let add = |query: &str| format!("FROM scratch\nADD {address}{query} /r/\n");
    for (query, there) in
        [("", false), ("?submodules=false", false), ("?submodules", true), ("?submodules=1&ref=main", true)]
    {
        built(&place, &add(query), &[]);
        let all = files(&place, "app");
        assert_eq!((all["r/own.txt"].content.as_str(), all.contains_key("r/inner/top.txt")), ("own", there), "{query}");
    }
    // A submodule may not lead to files of this machine, or make git run something.
    for bad in ["file:///etc", "ext::sh -c touch% /tmp/x"] {
        git(&outer, &["config", "-f", ".gitmodules", "submodule.inner.url", bad]);
        git(&outer, &["commit", "-qam", "bad"]);
        git(&outer, &["push", "-q", "../served/outer.git", "main"]);
        place.dockerfile(&add("?submodules=1"));
        let ran = place.build(&[]);
        assert!(ran.code == 4 && ran.message().contains("not allowed"), "{bad}: {} {}", ran.code, ran.stderr);
    }
}

#[test]
fn ssh_is_spoken_with_the_agent_that_is_passed_on() {
    let Some((mut place, _)) = served(None) else { return };
    // What stands in for ssh notes its words and agent, and runs the other side here.
    place.write(
        "bin/ssh",
        &format!(
            "#!/bin/sh\necho \"$SSH_AUTH_SOCK $*\" >>{0}/asked\nfor last; do :; done\n\
             cd {0}/served && eval \"$(echo \"$last\" | sed \"s:'/:':\")\"\n",
            place.dir.path().display()
        ),
    );
    std::fs::set_permissions(place.path("bin/ssh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    place.set("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", place.path("bin").display()));
    place.set("SSH_AUTH_SOCK", "/the/users/own");
    let socket = place.path("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    place.dockerfile("FROM scratch\nADD ssh://git@host.example:2222/repo.git#v1 /r/\n");
    let ran = place.build(&["-t", "app"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(files(&place, "app")["r/top.txt"].content, "one");
    let asked = std::fs::read_to_string(place.path("asked")).unwrap();
    assert!(
        asked.starts_with("/the/users/own -oBatchMode=yes") && asked.contains("-p 2222 git@host.example"),
        "{asked}"
    );
    place.dockerfile("FROM scratch\nADD git@host.example:repo.git#v1 /r/\n");
    let agent = format!("default={}", socket.display());
    let ran = place.build(&["-t", "app", "--no-cache", "--ssh", &agent]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let asked = std::fs::read_to_string(place.path("asked")).unwrap();
    let last = asked.lines().last().unwrap();
    assert!(last.starts_with(&format!("{} -oBatchMode=yes", socket.display())), "{asked}");
}

#[test]
fn names_that_git_could_take_for_something_else_never_reach_it() {
    let Some((mut place, web)) = served(None) else { return };
    place.write("bin/git", &format!("#!/bin/sh\n: >{}/reached\nexit 1\n", place.dir.path().display()));
    std::fs::set_permissions(place.path("bin/git"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    place.set("PATH", place.path("bin"));
    let url = web.url("repo.git");
    for word in [
        format!("{url}#--upload-pack=touch"),
        format!("{url}#-x"),
        format!("{url}?ref=--exec"),
        format!("{url}#v1:../../etc"),
        format!("{url}?ref=a%0ab"),
        format!("{url}?checksum=--x"),
        "ssh://-oProxyCommand=touch/repo.git".to_owned(),
        "git@-oProxyCommand=touch:repo.git".to_owned(),
        "git@host:--upload-pack=touch".to_owned(),
    ] {
        place.dockerfile(&format!("FROM scratch\nADD {word} /r/\n"));
        let ran = place.build(&[]);
        assert_eq!(ran.code, 3, "{word}: {}", ran.stderr);
        assert!(ran.message().contains("address of the git repository"), "{word}: {}", ran.message());
    }
    assert!(!place.path("reached").exists());
}

#[test]
fn a_context_keeps_its_git_directory_when_asked() {
    let Some((place, web)) = served(None) else { return };
    let url = web.url("repo.git#main");
    place.write("Dockerfile.git", "FROM scratch\nCOPY .git/HEAD /\n");
    for (value, code) in [("0", 3), ("1", 0), ("maybe", 3)] {
        let argument = format!("BUILDKIT_CONTEXT_KEEP_GIT_DIR={value}");
        let file = std::fs::read(place.path("Dockerfile.git")).unwrap();
        let ran = build_with_stdin(&place, &["-f", "-", "--build-arg", &argument, &url], &file);
        assert_eq!(ran.code, code, "{value}: {}", ran.stderr);
    }
}

#[test]
fn the_epoch_is_a_contexts_or_a_stages_own_time() {
    let place = Place::new();
    let mut tar = kuz_image::scan::LayerWriter::new(Vec::new());
    for (name, mtime) in [("old", 5), ("new", 77)] {
        let header = kuz_image::tar::Header { path: name.into(), mode: 0o644, mtime, ..Default::default() };
        tar.append(&header, &mut b"".as_slice()).unwrap();
    }
    let archive = tar.finish().unwrap().0;
    let web = Web::start(move |asked| match asked.path.as_str() {
        "/dated" => Answer::of("x").header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        "/a.tar" => Answer::of(archive.clone()),
        _ => Answer::of("x"),
    });
    let time = |dockerfile: &str, arguments: &[&str]| {
        place.dockerfile(dockerfile);
        let ran = place.build(&[&["-t", "app"], arguments].concat());
        assert_eq!(ran.code, 0, "{dockerfile} {}", ran.stderr);
        let created = place.inspect("app")["created"].as_str().unwrap_or_default().to_owned();
        (created, ran.stderr)
    };
    let stage = |add: &str| {
        format!(
            "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD {add} /\nFROM scratch\nARG SOURCE_DATE_EPOCH\nCOPY <<E /f\n$SOURCE_DATE_EPOCH\nE\n"
        )
    };
    assert_eq!(time(&stage(&web.url("dated")), &[]).0, "1994-11-06T08:49:37Z");
    assert_eq!(files(&place, "app")["f"].content, "784111777\n", "steps see the number");
    assert_eq!(time(&stage(&web.url("a.tar")), &[]).0, "1970-01-01T00:01:17Z", "the newest file of an archive");
    let (_, note) = time(&stage(&web.url("undated")), &[]);
    assert!(note.contains("which has no time of its own"), "{note}");
    let local = "FROM scratch\nCOPY <<E /f\nE\n";
    let (_, note) = time(local, &["--build-arg", "SOURCE_DATE_EPOCH=context"]);
    assert!(note.contains("SOURCE_DATE_EPOCH names the build context `ctx`"), "{note}");
    for (file, message) in [
        ("FROM scratch AS src\nRUN x\nFROM scratch\n", "unsupported RUN instruction"),
        ("FROM scratch AS src\nADD file /\nFROM scratch\n", "single HTTP(S) or Git ADD"),
        ("FROM scratch AS scr\nFROM scratch\n", "did you mean scr?"),
    ] {
        place.dockerfile(file);
        let ran = place.build(&["--build-arg", "SOURCE_DATE_EPOCH=src"]);
        assert!(ran.code == 3 && ran.stderr.contains(message), "{file}: {} {}", ran.code, ran.stderr);
    }
    let Some((web, _)) = repository(&place) else { return };
    let url = web.url("repo.git#main");
    assert_eq!(time(&stage(&url), &[]).0, COMMITTED);
    let named = format!("repo={url}");
    let arguments = ["--build-context", &named, "--build-arg", "SOURCE_DATE_EPOCH=repo"];
    assert_eq!(time(local, &arguments).0, COMMITTED);
    let ran = place.kuz(&["build", "-t", "app", "--build-arg", "SOURCE_DATE_EPOCH=context", &url]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(place.inspect("app")["created"], COMMITTED);
}

#[test]
fn a_dockerfile_may_be_on_the_web() {
    let place = Place::new();
    place.write("ctx/own", "own");
    let web = Web::start(|_| Answer::of("FROM scratch\nCOPY own /\n"));
    let ran = place.build(&["-t", "app", "-f", &web.url("Dockerfile?token=canary")]);
    assert_eq!((ran.code, names(&place, "app")), (0, vec!["own".to_owned()]), "{}", ran.stderr);
    assert!(!ran.stderr.contains("canary"), "{}", ran.stderr);
    let checked = place.build(&["--check", "-f", &web.url("Dockerfile")]);
    assert!(checked.code == 3 && checked.stderr.contains("a check needs the Dockerfile here"), "{}", checked.stderr);
}
