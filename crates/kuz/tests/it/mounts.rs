//! `RUN --mount`: what a step sees of each type, what stays of it, and what makes a step run again.

use std::path::Path;

use crate::kit::{Place, Ran, can_run};

/// Never in a Dockerfile, so that wherever it is found it leaked.
const CANARY: &str = "canary-5b0c1f-value";
/// The same in base64, without the last group.
const CANARY_BASE64: &str = "Y2FuYXJ5LTViMGMxZi12YWx1";

/// A place with this Dockerfile, if steps can be run.
fn place(dockerfile: &str) -> Option<Place> {
    can_run().then(|| {
        let place = Place::with_registry();
        place.dockerfile(dockerfile);
        place
    })
}

/// A build that must go well.
fn built(place: &Place, arguments: &[&str]) -> Ran {
    let ran = place.build(&[&["-t", "app"], arguments].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran
}

fn in_image(place: &Place, command: &str) -> String {
    let ran = place.kuz(&["run", "app", "/bin/sh", "-c", command]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout
}

/// Steps that were not cached.
fn steps_done(ran: &Ran) -> usize {
    ran.stderr.lines().filter(|line| line.contains("] done")).count()
}

/// All paths below that have these bytes in their name or content.
fn found(directory: &Path, needle: &str, at: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        let content = if kind.is_file() { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let inside = content.windows(needle.len()).any(|bytes| bytes == needle.as_bytes());
        if inside || path.to_string_lossy().contains(needle) {
            at.push(path.display().to_string());
        }
        if kind.is_dir() {
            found(&path, needle, at);
        }
    }
}

#[test]
fn a_bind_shows_the_context_as_the_ignore_file_leaves_it() {
    let Some(place) = place(
        "FROM busybox\nWORKDIR /w\n\
         RUN --mount=target=/ctx cat /ctx/dir/a /ctx/l > /seen; ls -A /ctx /ctx/dir >> /seen; echo x > /ctx/dir/a || echo ro >> /seen\n\
         RUN --mount=source=dir/a,target=one,rw cat one >> /seen; echo changed > one; cat one >> /seen\n\
         RUN --mount=source=dir,target=/d,rw rm /d/a && touch /d/new\nRUN ls -A /w / >> /seen\n",
    ) else {
        return;
    };
    place.write("ctx/dir/a", "content\n");
    place.write("ctx/dir/hidden", "no\n");
    place.write("ctx/.dockerignore", "dir/hidden\nDockerfile\n.dockerignore\n");
    std::os::unix::fs::symlink("dir/a", place.path("ctx/l")).unwrap();
    let first = built(&place, &[]);
    let seen = in_image(&place, "cat /seen");
    let want = "content\ncontent\n/ctx:\ndir\nl\n\n/ctx/dir:\na\nro\ncontent\nchanged\n/:\n";
    assert!(seen.starts_with(want), "{seen}");
    assert!(!seen.contains("\nctx\n") && !seen.contains("\nd\n") && seen.ends_with("/w:\n"), "no mount point: {seen}");
    assert_eq!(std::fs::read_to_string(place.path("ctx/dir/a")).unwrap(), "content\n");
    assert!(!place.path("ctx/dir/new").exists());

    let again = built(&place, &[]);
    assert_eq!((again.id(), steps_done(&again)), (first.id(), 0));
    place.write("ctx/dir/hidden", "changed\n");
    assert_eq!(steps_done(&built(&place, &[])), 0, "what is not seen changes nothing");
    place.write("ctx/dir/a", "other\n");
    assert_eq!(steps_done(&built(&place, &[])), 4);
    assert!(in_image(&place, "cat /seen").starts_with("other\n"));
    assert_eq!(place.kuz(&["store", "check"]).code, 0);
}

#[test]
fn a_bind_from_a_stage_sees_that_stage_only() {
    let Some(place) = place(
        "FROM busybox AS base\nRUN mkdir /d && echo a > /d/a && echo b > /d/b\n\
         FROM base AS tool\nARG WORD=one\nRUN echo $WORD > /word && rm /d/b && ln -s /d /link && ln -s /etc/shadow /bad && echo here > /d/c\n\
         FROM busybox\n\
         RUN --mount=from=tool,source=/link,target=/in ls /in > /seen && cat /in/a >> /seen\n\
         RUN --mount=from=tool,source=d,target=/in,rw echo new > /in/a && [ ! -e /in/b ] && cat /in/a /in/c >> /seen\n\
         RUN --mount=from=tool,source=/d,target=/in cat /in/a >> /seen\n\
         RUN --mount=from=docker.io/library/busybox,target=/img /img/bin/busybox echo image >> /seen && [ ! -e /img/d ]\n",
    ) else {
        return;
    };
    built(&place, &[]);
    assert_eq!(in_image(&place, "cat /seen; ls -d /in /img 2>/dev/null || true"), "a\nc\na\nnew\nhere\na\nimage\n");
    let again = built(&place, &["--build-arg", "WORD=two"]);
    assert_eq!(steps_done(&again), 1, "a rebuilt stage with the same files makes nobody run again: {}", again.stderr);

    place.dockerfile(
        "FROM busybox AS tool\nRUN ln -s /etc/shadow /bad\nFROM busybox\nRUN --mount=from=tool,source=/bad,target=/x cat /x\n",
    );
    let failed = place.build(&[]);
    assert_ne!(failed.code, 0);
    assert!(failed.message().contains("Dockerfile:4"), "{}", failed.message());
}

#[test]
fn memory_is_writable_limited_and_gone() {
    let Some(place) = place(
        "FROM busybox\nRUN mkdir /t && touch /t/below\n\
         RUN --mount=type=tmpfs,target=/t,size=1m [ ! -e /t/below ] && cp /bin/busybox /t/x && chmod +x /t/x; /t/x true; \
         mount | grep ' /t ' | grep -o 'size=[0-9]*k' > /size; true\n\
         RUN --mount=type=tmpfs,target=/none touch /none/x\n",
    ) else {
        return;
    };
    built(&place, &[]);
    assert_eq!(in_image(&place, "cat /size; ls /t; ls -d /none 2>/dev/null || true"), "size=1024k\nbelow\n");
}

#[test]
fn a_secret_is_seen_by_its_step_and_nowhere_else() {
    let Some(mut place) = place(
        "FROM busybox\nENV TOKEN=public\n\
         RUN --mount=type=secret,id=one --mount=type=secret,id=two,env=TOKEN --mount=type=secret,id=gone \
         stat -c '%a %u %g' /run/secrets/one > /seen && wc -c < /run/secrets/one >> /seen && echo ${#TOKEN} >> /seen \
         && ls /run/secrets >> /seen && cat /run/secrets/one && echo \"$TOKEN\" >&2 && base64 /run/secrets/one\n\
         RUN --mount=type=secret,id=one,target=/deep/er/file,mode=0440,uid=1000,gid=2000 stat -c '%a %u %g' /deep/er/file >> /seen\n\
         RUN echo $TOKEN >> /seen; ls -d /run/secrets /deep >> /seen; true\n",
    ) else {
        return;
    };
    place.write("one.txt", CANARY);
    place.set("SECRET_TWO", format!("{CANARY}-two"));
    let passed = ["--progress=plain", "--secret", "id=one,src=one.txt", "--secret", "id=two,env=SECRET_TWO"];
    let first = built(&place, &passed);
    let length = CANARY.len();
    let seen = in_image(&place, "cat /seen");
    assert_eq!(seen, format!("400 0 0\n{length}\n{}\none\n440 1000 2000\npublic\n", length + 4));
    assert!(first.stderr.contains("***"), "the output is shown without the values: {}", first.stderr);
    let saved = place.kuz(&["image", "save", "-o", "app.tar", "app"]);
    assert_eq!(saved.code, 0);
    for needle in [CANARY, CANARY_BASE64] {
        let mut at = Vec::new();
        found(&place.path("store"), needle, &mut at);
        assert_eq!(at, Vec::<String>::new());
        let tar = std::fs::read(place.path("app.tar")).unwrap();
        assert!(!tar.windows(needle.len()).any(|bytes| bytes == needle.as_bytes()), "in the saved image");
        let said = format!("{}{}{}", first.stdout, first.stderr, place.inspect("app"));
        assert!(!said.contains(needle), "{said}");
    }
    // Another value is no reason to run again, as documented; another place is.
    place.write("one.txt", "another value");
    assert_eq!(steps_done(&built(&place, &passed)), 0);
}

#[test]
fn a_failing_step_does_not_tell_its_secret() {
    let Some(place) = place("FROM busybox\nRUN --mount=type=secret,id=s cat /run/secrets/s; exit 3\n") else { return };
    place.write("s", CANARY);
    let ran = place.build(&["--progress=plain", "--secret", "id=s"]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("***") && !format!("{ran:?}").contains(CANARY), "{ran:?}");
}

#[test]
fn what_is_required_and_missing_is_named() {
    let Some(place) = place("FROM busybox\nRUN --mount=type=secret,id=key,required cat /run/secrets/key\n") else {
        return;
    };
    let ran = place.build(&[]);
    assert!(ran.message().contains("Dockerfile:2: secret key: not found"), "{}", ran.message());
    assert!(ran.stderr.contains("--secret id=key,src=FILE"), "{}", ran.stderr);
    place.dockerfile("FROM busybox\nRUN --mount=type=ssh,required true\n");
    assert!(place.build(&[]).message().contains("ssh agent default: not found"));
    place.dockerfile("FROM busybox\nRUN --mount=type=ssh [ ! -e \"$SSH_AUTH_SOCK\" ]\n");
    assert_eq!(place.build(&[]).code, 0);
    place.dockerfile("FROM busybox\nRUN --mount=type=bind,source=nothing,target=/x true\n");
    assert!(place.build(&[]).message().contains("`nothing` is not in the build context"));
    place.dockerfile("FROM busybox\nRUN --security=insecure true\n");
    assert!(place.build(&[]).message().contains("user namespace"));
    assert!(place.build(&["--allow", "security.insecure"]).message().contains("user namespace"));
    place.dockerfile("FROM busybox\nRUN --network=host true\n");
    assert_eq!(place.build(&["--allow", "network.host"]).code, 0);
}

/// What passes through it is the sandbox's tests' matter.
#[test]
fn an_agent_is_reached_through_a_socket_of_the_step() {
    let Some(place) = place(
        "FROM busybox\nRUN --network=none --mount=type=ssh,mode=0666 --mount=type=ssh,id=other,target=/o,uid=1000 \
         echo $SSH_AUTH_SOCK > /seen && stat -c '%F %a %u' $SSH_AUTH_SOCK /o >> /seen\n\
         RUN ls -d /run/buildkit /o >> /seen; [ -z \"$SSH_AUTH_SOCK\" ]\n",
    ) else {
        return;
    };
    let _listener = std::os::unix::net::UnixListener::bind(place.path("agent")).unwrap();
    built(&place, &["--ssh", "default=agent", "--ssh", "other=agent"]);
    assert_eq!(in_image(&place, "cat /seen"), "/run/buildkit/ssh_agent.0\nsocket 666 0\nsocket 600 1000\n");
}

#[test]
fn a_cache_stays_between_builds_and_out_of_the_image() {
    let Some(place) = place(
        "FROM busybox\nARG N\nRUN --mount=type=cache,target=/c echo $N >> /c/log && cat /c/log > /seen && stat -c %a /c >> /seen\n\
         RUN --mount=type=cache,id=../../../c,target=/other ls /other | wc -l >> /seen\n\
         RUN --mount=type=cache,target=/c,uid=1000,mode=0700 ls /c | wc -l >> /seen; stat -c '%a %u' /c >> /seen\n\
         RUN --mount=type=cache,id=/c,target=/ro,ro touch /ro/x || wc -l < /ro/log >> /seen\n",
    ) else {
        return;
    };
    built(&place, &["--build-arg", "N=1"]);
    assert_eq!(in_image(&place, "cat /seen; ls -A /c 2>/dev/null || true"), "1\n755\n0\n0\n700 1000\n1\n");
    let second = built(&place, &["--build-arg", "N=2"]);
    assert_eq!(in_image(&place, "cat /seen"), "1\n2\n755\n0\n0\n700 1000\n2\n");
    let again = built(&place, &["--build-arg", "N=2"]);
    assert_eq!((again.id(), steps_done(&again)), (second.id(), 0), "what is in a cache is not in a key");

    let usage = |place: &Place| {
        let ran = place.kuz(&["store", "du", "--format", "json"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let kinds: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let caches = kinds.as_array().unwrap().iter().find(|kind| kind["kind"] == "cache mounts").cloned().unwrap();
        (caches["count"].as_u64().unwrap(), caches["bytes"].as_u64().unwrap())
    };
    let (count, bytes) = usage(&place);
    assert!(count == 3 && bytes > 0, "{count} {bytes}");
    assert_eq!(place.kuz(&["store", "check"]).code, 0);
    assert_eq!(place.kuz(&["store", "prune"]).code, 0);
    assert_eq!(usage(&place).0, 3, "what is not asked for stays");
    assert_eq!(place.kuz(&["store", "prune", "--all"]).code, 0);
    assert_eq!(usage(&place), (0, 0));
    assert_eq!(place.kuz(&["store", "check"]).code, 0);
    built(&place, &["--build-arg", "N=3"]);
    assert_eq!(in_image(&place, "head -1 /seen"), "3\n");
}

#[test]
fn a_cache_begins_with_what_it_is_given() {
    let Some(place) = place(
        "FROM busybox AS seed\nRUN mkdir /s && echo seeded > /s/file\n\
         FROM busybox\nARG N\n\
         RUN --mount=type=cache,from=seed,source=/s,target=/c cat /c/file > /seen && echo $N >> /c/file\n",
    ) else {
        return;
    };
    built(&place, &["--build-arg", "N=1"]);
    assert_eq!(in_image(&place, "cat /seen"), "seeded\n");
    built(&place, &["--build-arg", "N=2"]);
    assert_eq!(in_image(&place, "cat /seen"), "seeded\n1\n");
}

/// Runs this many builds of the Dockerfile at once, each with its own `N`.
fn at_once(place: &Place, builds: usize) {
    std::thread::scope(|scope| {
        for number in 0..builds {
            scope.spawn(move || {
                let argument = format!("N={number}");
                let ran = place.build(&["--build-arg", &argument]);
                assert_eq!(ran.code, 0, "{}", ran.stderr);
            });
        }
    });
}

/// A while in a shell that sleeps no wall-clock time away.
const A_WHILE: &str = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done";

#[test]
fn a_locked_cache_has_one_user_at_a_time_and_a_private_one_is_not_shared() {
    let Some(place) = place("FROM busybox\n") else { return };
    let alone = format!("mkdir /c/taken && {A_WHILE}; rmdir /c/taken");
    place.dockerfile(&format!(
        "FROM busybox\nARG N\nRUN --mount=type=cache,target=/c,sharing=locked {alone} && echo $N >> /c/all\n"
    ));
    at_once(&place, 4);
    place.dockerfile("FROM busybox\nRUN --mount=type=cache,target=/c sort /c/all > /seen\n");
    built(&place, &[]);
    assert_eq!(in_image(&place, "cat /seen"), "0\n1\n2\n3\n");
    place.dockerfile(&format!("FROM busybox\nARG N\nRUN --mount=type=cache,id=p,target=/c,sharing=private {alone}\n"));
    at_once(&place, 3);
    // Shared means at the same time: each waits, for a while, for the other to come.
    place.dockerfile(
        "FROM busybox\nARG N\nRUN --mount=type=cache,id=s,target=/c touch /c/$N; \
         i=0; while [ $i -lt 3000000 ]; do [ -e /c/0 ] && [ -e /c/1 ] && exit 0; i=$((i+1)); done; exit 1\n",
    );
    at_once(&place, 2);
}

#[test]
fn the_same_cache_twice_in_a_step_does_not_wait_for_itself() {
    let Some(place) = place(
        "FROM busybox\nRUN --mount=type=cache,id=x,target=/a,sharing=locked --mount=type=cache,id=x,target=/b \
         --mount=type=cache,id=y,target=/a/deep --mount=type=cache,id=y,target=/z,sharing=private touch /a/1 && ls /b\n",
    ) else {
        return;
    };
    built(&place, &[]);
}

/// CVE-2024-23651, CVE-2024-9675, CVE-2024-11218: a link in a cache leads nowhere but into the cache, also while another
/// step swaps it with a directory.
#[test]
fn links_in_a_cache_stay_inside() {
    let Some(place) =
        place("FROM busybox\nRUN --mount=type=cache,id=c,target=/c mkdir /c/sel && echo benign > /c/sel/f\n")
    else {
        return;
    };
    built(&place, &[]);
    place.write("outside/f", CANARY);
    let outside = place.path("outside").display().to_string();
    place.dockerfile(&format!(
        "FROM busybox\nRUN --mount=type=cache,id=c,target=/c ln -s {outside} /c/abs && ln -s ../../../../../../../../../../etc /c/up \
         && ln -s /proc/self/root /c/magic\n"
    ));
    built(&place, &[]);
    for source in ["abs", "up", "magic", "../../../../etc", "sel/../../../etc"] {
        place.dockerfile(&format!(
            "FROM busybox\nRUN --mount=type=cache,id=c,source={source},target=/v ls -la /v; cat /v/f /v/passwd /v/hostname 2>/dev/null; true\n"
        ));
        let ran = place.build(&["--progress=plain"]);
        assert_ne!(ran.code, 0, "{source}: {}", ran.stderr);
        assert!(!ran.stderr.contains(CANARY), "{}", ran.stderr);
    }
    // One build swaps for as long as the others look.
    let swap =
        "touch /c/on; while [ -e /c/on ]; do mv /c/sel /c/dir; ln -s /etc /c/sel; rm /c/sel; mv /c/dir /c/sel; done";
    place.write("swap/Dockerfile", &format!("FROM busybox\nRUN --mount=type=cache,id=c,target=/c {swap}\n"));
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| place.kuz(&["build", "--no-cache", "swap"]));
        for number in 0..30 {
            place.dockerfile(&format!(
                "FROM busybox\nRUN --mount=type=cache,id=c,source=sel,target=/v echo {number} && [ ! -e /v/passwd ] && [ ! -e /v/hostname ]\n"
            ));
            let ran = place.build(&["--progress=plain"]);
            let refused = ran.message().contains("does not exist in what is to be mounted");
            assert!(ran.code == 0 || refused, "{}", ran.stderr);
        }
        place.dockerfile("FROM busybox\nRUN --mount=type=cache,id=c,target=/c rm /c/on\n");
        built(&place, &[]);
        let swapped = swapping.join().unwrap();
        assert_eq!(swapped.code, 0, "{}", swapped.stderr);
    });
}

#[test]
fn limits_and_memory_are_as_asked_for() {
    let Some(place) = place("FROM busybox\nRUN ulimit -n > /seen; ulimit -Hn >> /seen\n") else { return };
    built(&place, &["--ulimit", "nofile=77:88"]);
    assert_eq!(in_image(&place, "cat /seen"), "77\n88\n");
    assert_eq!(place.build(&["--ulimit", "files=1"]).code, 2);
    assert_eq!(place.build(&["--secret", "id=x,src=/no/such/file"]).code, 2);
}
