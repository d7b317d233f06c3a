//! Wrong inputs: each ends with its exit code, one JSON object with `success: false`, and a message that says what to
//! do. A table of files and arguments, and single tests for what a table cannot set up.

use kuz_testkit::registry::{Access, Action, Fault};

use crate::kit::{Place, can_run, skip};

/// One wrong input: files of the context, arguments, and what must come of it.
struct Case {
    name: &'static str,
    dockerfile: Option<&'static str>,
    arguments: &'static [&'static str],
    code: i32,
    /// In the message.
    message: &'static str,
    /// On standard error.
    shown: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "no Dockerfile",
        dockerfile: None,
        arguments: &["ctx"],
        code: 3,
        message: "no Dockerfile in `ctx`",
        shown: "-f FILE",
    },
    Case {
        name: "named Dockerfile is missing",
        dockerfile: None,
        arguments: &["-f", "no/such", "ctx"],
        code: 3,
        message: "`no/such`",
        shown: "relative to the working directory",
    },
    Case {
        name: "no context",
        dockerfile: None,
        arguments: &["nowhere"],
        code: 3,
        message: "build context `nowhere`",
        shown: "caused by",
    },
    Case {
        name: "unknown instruction",
        dockerfile: Some("FROM scratch\nCOYP a b\n"),
        arguments: &["ctx"],
        code: 3,
        message: "Dockerfile:2: ",
        shown: "COYP a b",
    },
    Case {
        name: "unknown flag of an instruction",
        dockerfile: Some("FROM scratch\nCOPY --chwon=1 a b\n"),
        arguments: &["ctx"],
        code: 3,
        message: "Dockerfile:2: ",
        shown: "did you mean chown?",
    },
    Case {
        name: "empty Dockerfile",
        dockerfile: Some("# nothing\n"),
        arguments: &["ctx"],
        code: 3,
        message: "Dockerfile",
        shown: "",
    },
    Case {
        name: "instruction before FROM",
        dockerfile: Some("ENV A=b\nFROM scratch\n"),
        arguments: &["ctx"],
        code: 3,
        message: "Dockerfile:1: ",
        shown: "ENV A=b",
    },
    Case {
        name: "missing source",
        dockerfile: Some("FROM scratch\nCOPY libraries.list .\n"),
        arguments: &["ctx"],
        code: 3,
        message: "libraries.list",
        shown: "COPY libraries.list .",
    },
    Case {
        name: "unknown target",
        dockerfile: Some("FROM scratch AS one\nCOPY Dockerfile /\n"),
        arguments: &["--target", "two", "ctx"],
        code: 3,
        message: "two",
        shown: "one",
    },
    Case {
        name: "copy from an unknown stage and image",
        dockerfile: Some("FROM scratch\nCOPY --from=builder /a /b\n"),
        arguments: &["ctx"],
        code: 4,
        message: "builder",
        shown: "COPY --from=builder",
    },
    Case {
        name: "unterminated quote",
        dockerfile: Some("FROM scratch\nENV A=\"b\n"),
        arguments: &["ctx"],
        code: 3,
        message: "Dockerfile:2: ",
        shown: "",
    },
    Case {
        name: "bad --chmod",
        dockerfile: Some("FROM scratch\nCOPY --chmod=99999 Dockerfile /\n"),
        arguments: &["ctx"],
        code: 3,
        message: "99999",
        shown: "COPY --chmod=99999",
    },
    Case {
        name: "bad address of a repository",
        dockerfile: Some("FROM scratch\nADD https://h/a.git#--upload-pack=x /\n"),
        arguments: &["ctx"],
        code: 3,
        message: "its branch, tag or commit `--upload-pack=x` is none",
        shown: "ADD https",
    },
    Case {
        name: "absent base image",
        dockerfile: Some("FROM no-such-image:1\n"),
        arguments: &["ctx"],
        code: 4,
        message: "no-such-image:1",
        shown: "FROM no-such-image:1",
    },
    Case {
        name: "wrong flag",
        dockerfile: None,
        arguments: &["--no-such-flag", "ctx"],
        code: 2,
        message: "--no-such-flag",
        shown: "--no-such-flag",
    },
    Case {
        name: "wrong tag",
        dockerfile: None,
        arguments: &["-t", "Not A Tag", "ctx"],
        code: 2,
        message: "-t Not A Tag",
        shown: "",
    },
    Case {
        name: "wrong platform",
        dockerfile: None,
        arguments: &["--platform", "a/b/c/d", "ctx"],
        code: 2,
        message: "--platform",
        shown: "linux/amd64",
    },
    Case {
        name: "wrong output",
        dockerfile: None,
        arguments: &["-o", "type=oci,dest=a,compression=zstd", "ctx"],
        code: 2,
        message: "compression",
        shown: "",
    },
    Case {
        name: "push without a name",
        dockerfile: None,
        arguments: &["--push", "ctx"],
        code: 2,
        message: "-t",
        shown: "",
    },
    Case {
        name: "wrong epoch",
        dockerfile: Some("FROM scratch\n"),
        arguments: &["--build-arg", "SOURCE_DATE_EPOCH=soon", "ctx"],
        code: 3,
        message: "SOURCE_DATE_EPOCH",
        shown: "",
    },
];

#[test]
fn each_wrong_input_says_what_is_wrong() {
    for case in CASES {
        let place = Place::with_registry();
        if let Some(text) = case.dockerfile {
            place.dockerfile(text);
        }
        let mut arguments = vec!["build"];
        arguments.extend(case.arguments);
        let ran = place.kuz(&arguments);
        assert_eq!(ran.code, case.code, "{}: {}{}", case.name, ran.stdout, ran.stderr);
        let json = ran.json();
        assert_eq!(json["imageId"], "", "{}", case.name);
        assert!(ran.message().contains(case.message), "{}: `{}` in {}", case.name, case.message, ran.message());
        assert!(ran.stderr.contains(case.shown), "{}: `{}` in\n{}", case.name, case.shown, ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{}: {}", case.name, ran.stderr);
    }
}

#[test]
fn an_ignored_source_names_the_ignore_file() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY secret.txt /\n");
    place.write("ctx/secret.txt", "x");
    place.write("ctx/.dockerignore", "*.txt\n");
    let ran = place.build(&[]);
    assert_eq!(ran.code, 3);
    assert!(ran.message().contains("secret.txt") && ran.message().contains(".dockerignore"), "{}", ran.message());
}

#[test]
fn an_unreachable_registry_is_named() {
    let place = Place::new();
    // A port that was free a moment ago: nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    place.dockerfile(&format!("FROM 127.0.0.1:{port}/app\n"));
    let ran = place.build(&[]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.message().contains(&format!("127.0.0.1:{port}")), "{}", ran.message());
}

#[test]
fn wrong_credentials_are_an_error_that_keeps_the_secret() {
    let place = Place::with_registry();
    let registry = place.registry.as_ref().unwrap();
    registry.set_access(Access::Basic { user: "user".into(), password: "right".into() });
    let host = registry.host();
    place.dockerfile(&format!("FROM {host}/library/busybox\n"));
    place.write(
        "home/.docker/config.json",
        &format!(r#"{{"auths":{{"{host}":{{"auth":"dXNlcjp3cm9uZ3NlY3JldA=="}}}}}}"#),
    );
    let ran = place.build(&[]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    assert!(ran.message().contains(&host), "{}", ran.message());
    for secret in ["wrongsecret", "dXNlcjp3cm9uZ3NlY3JldA=="] {
        assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret));
    }
}

#[test]
fn a_layer_with_the_wrong_content_is_refused() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.registry.as_ref().unwrap().fault(Fault::on("/blobs/", Action::Corrupt).times(1000));
    place.dockerfile("FROM busybox\nCOPY Dockerfile /\n");
    let ran = place.build(&["-t", "app"]);
    assert!([4, 7].contains(&ran.code), "{}: {}", ran.code, ran.stderr);
    assert!(ran.message().contains("digest"), "{}", ran.message());
    assert_eq!(place.kuz(&["store", "check"]).code, 0);
    assert_eq!(place.kuz(&["image", "inspect", "app"]).code, 3);
}

#[test]
fn a_failing_step_shows_its_line_and_its_last_words() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.dockerfile("FROM busybox AS forge\n\nRUN echo about to fail; echo why >&2; exit 7\n");
    let ran = place.build(&["-t", "app"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.message().starts_with("Dockerfile:3: ") && ran.message().ends_with("exit status 7"),
        "{}",
        ran.message()
    );
    for part in ["Dockerfile:3", "stage `forge`", "about to fail", "why", "exit status 7"] {
        assert!(ran.stderr.contains(part), "`{part}` in\n{}", ran.stderr);
    }
}

#[test]
fn a_full_disk_is_said_and_the_store_stays_sound() {
    if !rustix::process::geteuid().is_root() {
        return skip("mounting a small tmpfs needs root");
    }
    let mut place = Place::new();
    let small = place.path("small");
    std::fs::create_dir(&small).unwrap();
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&small).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return skip("a tmpfs cannot be mounted here");
    }
    place.set("KUZ_STORE", small.join("store"));
    place.dockerfile("FROM scratch\nCOPY big /\n");
    std::fs::write(place.path("ctx/big"), vec![7; 8 << 20]).unwrap();
    let ran = place.build(&["-t", "app"]);
    let full = (ran.code, ran.message());
    std::fs::write(place.path("ctx/big"), b"small").unwrap();
    let again = place.build(&["-t", "app"]);
    let check = place.kuz(&["store", "check"]);
    let _ = std::process::Command::new("umount").arg(&small).status();
    assert_eq!(full.0, 6, "{}", full.1);
    assert!(full.1.contains("No space left"), "{}", full.1);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(check.code, 0, "{}", check.stdout);
}

#[test]
fn special_files_do_not_hang_a_build() {
    let place = Place::new();
    let fifo = place.path("ctx/Dockerfile");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let ran = place.build(&[]);
    assert_eq!(ran.code, 3);
    assert!(ran.message().contains("fifo"), "{}", ran.message());
}
