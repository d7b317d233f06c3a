//! Printed plans of small Dockerfiles. Each snapshot holds the file it was made from.

mod support;

use kuz_dockerfile::Severity;
use kuz_image::Platform;
use kuz_plan::plan::{Base, KnownImages, Network, Source};
use kuz_plan::{Planned, Request};
use proptest::prelude::*;
use support::{plan, plan_asking, request, with_args};

/// Compares the printed plan with the snapshot of this name.
macro_rules! planned {
    ($($name:ident: $text:expr $(, $request:expr)?;)+) => {$(
        #[test]
        fn $name() {
            #[allow(unused_mut, unused_assignments, reason = "not every case has its own request")]
            let mut request = request();
            $(request = $request;)?
            let text = $text;
            let printed = plan(text, &request).to_string();
            insta::with_settings!({ description => text, omit_expression => true, prepend_module_to_snapshot => false }, {
                insta::assert_snapshot!(stringify!($name), printed);
            });
        }
    )+};
}

fn for_platform(platform: &str) -> Request {
    Request { platform: platform.parse().expect("a platform"), ..request() }
}

planned! {
    recipe: "FROM python:3.10 AS builder\nWORKDIR /app\nCOPY libraries.list .\n\
        RUN pip install --no-cache-dir -r libraries.list\nFROM python:3.10\nWORKDIR /app\n\
        COPY --from=builder /usr/local/lib /usr/local/lib\nCOPY . .\n\
        CMD uvicorn main:app --host 0.0.0.0 --port 8000\n";
    scratch: "FROM scratch\nCOPY a /\n";
    empty_stage: "FROM scratch\n";
    unreachable_stages_are_left_out: "FROM busybox AS a\nRUN a\nFROM nosuch AS b\nRUN b\nFROM a\nRUN c\n";
    target_in_the_middle: "FROM busybox AS one\nRUN 1\nFROM one AS two\nRUN 2\nFROM two\nRUN 3\n",
        Request { target: Some("TWO".to_owned()), ..request() };
    target_by_number: "FROM busybox\nRUN 1\nFROM scratch\n", Request { target: Some("0".to_owned()), ..request() };
    last_of_duplicate_names: "FROM busybox AS a\nRUN 1\nFROM busybox AS a\nRUN 2\nFROM a\nCOPY --from=A x y\n";
    stage_shadows_image: "FROM scratch AS python\nCOPY a b\nFROM python\n";
    own_name_is_an_image: "FROM busybox AS busybox\nRUN x\n";
    copy_from_number_and_image: "FROM busybox\nRUN x\nFROM scratch\nCOPY --from=0 a b\nCOPY --from=python:3.10 /c /d/\n";
    args_and_env: "FROM busybox\nARG A=1\nENV B=$A C=\"x y\"\nARG D\nARG E=${B:-no}\nRUN echo $A $B\n",
        with_args(&[("D", "given")]);
    args_leave_no_trace_after_from: "ARG V=3.10\nFROM python:$V\nRUN echo $V\nARG V\nRUN echo $V\n";
    arg_of_a_parent_stage: "FROM busybox AS a\nARG X=1\nFROM a\nRUN echo $X\n";
    env_wins_again_in_a_child_stage: "FROM busybox AS a\nENV X=env\nARG X=arg\nRUN 1\nFROM a\nRUN 2\n";
    automatic_platform_args: "FROM --platform=$BUILDPLATFORM busybox\nARG TARGETARCH TARGETVARIANT TARGETSTAGE\nRUN make\n",
        Request { platform: Platform::new("linux", "arm", Some("v7")), ..request() };
    platform_of_a_stage: "FROM --platform=linux/arm64 busybox AS a\nFROM a\nFROM scratch\nCOPY --from=1 / /\n";
    scratch_for_another_platform: "FROM scratch\nCOPY a b\n", for_platform("linux/arm64/v8");
    proxies: "FROM busybox\nARG https_proxy\nRUN 1\n",
        with_args(&[("http_proxy", "http://user:secret@p"), ("HTTPS_PROXY", "q"), ("https_proxy", "r")]);
    shell_form_and_shell: "FROM busybox\nRUN a  'b' \\\n  c\nSHELL [\"/bin/bash\", \"-ec\"]\nRUN a\nRUN [\"x\", \"$y\"]\nCMD a\n\
        ENTRYPOINT b\nHEALTHCHECK CMD c\n";
    entrypoint_resets_an_inherited_cmd: "FROM full\nENTRYPOINT [\"x\"]\n";
    entrypoint_keeps_a_cmd_of_its_stage: "FROM full\nCMD [\"a\"]\nENTRYPOINT [\"x\"]\n";
    empty_entrypoint_and_cmd: "FROM full\nENTRYPOINT []\nCMD []\n";
    inherited_configuration: "FROM full\nLABEL b=3 c=\"4 5\"\nSTOPSIGNAL 9\n";
    command_line_labels_win: "FROM full AS a\nLABEL b=3\nFROM a\nLABEL b=4\n",
        Request { labels: [("b".to_owned(), "5".to_owned())].into(), ..request() };
    workdirs: "FROM busybox\nWORKDIR a\nUSER u\nWORKDIR b/../c/\nWORKDIR /\nARG D=/x/y\nWORKDIR $D\nRUN pwd\n";
    copy_destinations: "FROM busybox\nWORKDIR /w\nCOPY a .\nCOPY a b/\nCOPY a b\nCOPY a ./b/.\nCOPY a /\nCOPY a ..\n\
        COPY [\"a b\", \"c d/\"]\n";
    copy_options: "FROM busybox\nARG U=me\nCOPY --chown=$U:1 --chmod=0${U:+6}44 --link --parents --exclude=*.o \
        --exclude=$U a/*/b /c/\n";
    add_options: "FROM busybox\nADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 \
        https://host/a.tgz /a/\nADD --unpack=false x.tar /\nADD --keep-git-dir=true https://host/r.git#v1 /r\n";
    expose: "FROM busybox\nARG P=90\nEXPOSE 80 $P/UDP 7000-7002\nEXPOSE 80/tcp\n";
    volumes: "FROM busybox\nENV V=/data\nVOLUME [\"$V\", \"/b c\"]\nVOLUME /x /y\n";
    users: "FROM busybox\nARG U=app\nUSER $U:grp\nRUN id\nUSER 0\nRUN id\n";
    healthchecks: "FROM busybox AS a\nHEALTHCHECK --interval=90s --timeout=1500ms --retries=3 CMD [\"c\", \"d\"]\nFROM a\n\
        HEALTHCHECK NONE\n";
    maintainer: "FROM busybox\nMAINTAINER me <me@example.org>\n";
    onbuild_is_kept_for_children: "FROM busybox\nONBUILD RUN a \\\n  b\nONBUILD ENV X=1\n";
    onbuild_of_a_stage: "FROM busybox AS tools\nFROM scratch AS p\nONBUILD COPY --from=tools /t /t\nONBUILD ENV X=1\nFROM p\nRUN $X\n";
    onbuild_of_an_image: "FROM busybox AS tools\nRUN make /t\nFROM triggers\nRUN own\n", with_args(&[("WHO", "me")]);
    heredoc_script: "FROM busybox\nRUN <<EOF\nset -e\necho $HOME\nEOF\n";
    heredoc_with_an_interpreter: "FROM python:3.10\nRUN <<-'X'\n\t#!/usr/bin/env python3\n\tprint(1)\nX\n";
    heredocs_of_a_command: "FROM busybox\nRUN cat <<A - <<-\"B\" > /x\na\nA\n\tb\n\tB\n";
    copy_heredocs: "FROM busybox\nENV N=world\nCOPY --chmod=755 <<A <<\"B\" c /d/\nhello \"$N\"\nA\nhello $N\nB\n";
    mounts: "FROM busybox AS a\nFROM busybox\nARG C=/c\nWORKDIR /w\n\
        RUN --mount=target=src --mount=type=bind,from=a,source=x/../y,target=/y,rw \
        --mount=type=cache,target=$C/pip --mount=type=cache,id=k,dst=/k,sharing=locked,from=python:3.10,src=/s,mode=0700,uid=1,gid=2,ro \
        --mount=type=tmpfs,target=/t,size=1m --mount=type=secret,id=s --mount=type=secret,target=/z/t,required,mode=0440 \
        --mount=type=secret,id=e,env=E --mount=type=ssh --mount=required=true,type=ssh,id=x,target=/a make\n";
    mounts_from_nothing: "FROM busybox\nRUN --mount=type=cache,target=/c,from=scratch --mount=from=scratch,target=/b x\n";
    cache_namespace: "FROM busybox\nRUN --mount=type=cache,target=/c x\n", with_args(&[("BUILDKIT_CACHE_MOUNT_NS", "ns")]);
    networks: "FROM busybox\nRUN 1\nRUN --network=default 2\nRUN --network=host --security=insecure 3\nRUN --network=none 4\n",
        Request { network: Network::None, ..request() };
    named_contexts: "FROM busybox AS base\nRUN never\nFROM base\nCOPY --from=extra a b\nRUN --mount=from=base,target=/m x\n",
        Request {
            named_contexts: ["extra".to_owned()].into(),
            named_images: [("base".to_owned(), "python:3.10".to_owned())].into(),
            ..request()
        };
    named_context_for_an_image: "FROM docker.io/library/alpine:latest\nFROM alpine\n",
        Request { named_images: [("alpine".to_owned(), "scratch".to_owned())].into(), ..request() };
    from_a_directory: "FROM rootdir\nCMD [\"a\"]\n",
        Request { named_contexts: ["rootdir".to_owned()].into(), ..request() };
    source_date_epoch: "ARG SOURCE_DATE_EPOCH=5\nFROM busybox\nRUN a\nARG SOURCE_DATE_EPOCH\nRUN b\n";
    escape_directive: "# escape=`\nFROM busybox\nENV A=`$B\nRUN a `\n  b\n";
}

#[test]
fn only_images_of_reachable_stages_are_asked_for() {
    let text = "FROM a AS one\nCOPY --from=never x y\nFROM b AS two\nFROM c\nCOPY --from=two x y\nCOPY --from=d x y\n\
        RUN --mount=type=cache,from=e,target=/e 1\nFROM f\nONBUILD COPY --from=never2 x y\n";
    let asked = |target: &str| plan_asking(text, &Request { target: Some(target.to_owned()), ..request() }).1;
    let image = |name: &str| format!("docker.io/library/{name}:latest linux/amd64");
    assert_eq!(asked("two"), [image("b")]);
    assert_eq!(asked("2"), [image("b"), image("c"), image("d"), image("e")]);
    assert_eq!(asked("3"), [image("f")]);
}

#[test]
fn images_that_triggers_name_are_asked_for_next() {
    let (plan, asked) = plan_asking("FROM triggers\n", &request());
    assert_eq!(asked, ["docker.io/library/triggers:latest linux/amd64", "docker.io/library/tools:latest linux/amd64"]);
    assert!(plan.is_ok());
}

#[test]
fn a_base_for_two_platforms_is_asked_for_twice() {
    let text = "FROM --platform=linux/arm64 busybox AS a\nFROM busybox\nCOPY --from=a x y\n";
    let mut asked = plan_asking(text, &request()).1;
    asked.sort();
    assert_eq!(asked, ["docker.io/library/busybox:latest linux/amd64", "docker.io/library/busybox:latest linux/arm64"]);
}

#[test]
fn a_need_names_the_stage_that_was_meant_perhaps() {
    let near = |text: &str| match kuz_plan::plan(&support::parse(text), &request(), &KnownImages::new()) {
        Ok(Planned::Needs(needs)) => needs.into_iter().map(|need| need.near_stage).collect::<Vec<_>>(),
        other => unreachable!("{other:?}"),
    };
    assert_eq!(near("FROM scratch AS builder\nFROM scratch\nCOPY --from=biulder a b\n"), [Some("builder".to_owned())]);
    assert_eq!(near("FROM scratch AS builder\nFROM Bulder\n".to_lowercase().as_str()), [Some("builder".to_owned())]);
    assert_eq!(near("FROM scratch AS builder\nFROM python\n"), [None]);
}

#[test]
fn planning_is_pure() {
    let text = "FROM triggers AS a\nARG X=1\nFROM a\nRUN --mount=type=cache,target=/c $X\n";
    assert_eq!(plan(text, &request()), plan(text, &request()));
}

#[test]
fn the_json_form_holds_no_proxy_and_no_span() {
    let plan = plan("FROM busybox\nRUN a\n", &with_args(&[("http_proxy", "http://user:secret@p")]));
    let json = kuz_plan::print::json(&plan).expect("serialises").to_string();
    assert!(json.contains(r#""argv":["/bin/sh","-c","a"]"#), "{json}");
    assert!(!json.contains("secret") && !json.contains("span"), "{json}");
    assert!(!plan.to_string().contains("secret"));
}

#[test]
fn nothing_of_the_text_can_disturb_a_terminal() {
    let plan = plan("FROM busybox\nENV A=\"\u{1b}[31m\"\nRUN a\u{7}b\nCOPY \u{1b}x /\u{1b}\n", &request());
    assert!(!plan.to_string().chars().any(|c| c.is_control() && c != '\n'));
}

/// Lines that refer to each other in every way, most of them sound.
fn line() -> impl Strategy<Value = String> {
    let name =
        prop::sample::select(vec!["a", "a", "b", "b", "0", "0", "1", "$A", "scratch", "busybox", "triggers", "9", ""]);
    let instruction = prop::sample::select(vec![
        "FROM {}",
        "FROM {}",
        "FROM b AS a",
        "FROM {} AS a",
        "FROM {} AS b",
        "FROM --platform={} {}",
        "COPY --from={} {} {}",
        "COPY --chmod=0{} {} /{}",
        "ADD {} {}",
        "ARG A={}",
        "ARG A",
        "ENV A={} B=${A:-{}}",
        "RUN --mount=from={},target={} {}",
        "RUN --mount=type=cache,target=/{},id={} {}",
        "RUN {} <<EOF\n{}\nEOF",
        "WORKDIR {}",
        "USER {}",
        "EXPOSE 8{}",
        "ONBUILD COPY --from={} {} {}",
        "ONBUILD ARG A={}",
        "ENTRYPOINT {}",
        "CMD [\"{}\"]",
    ]);
    (instruction, prop::collection::vec(name, 3)).prop_map(|(instruction, names)| {
        names.iter().fold(instruction.to_owned(), |line, name| line.replacen("{}", name, 1)).replace("{}", "z")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stands in a file, planning ends with a plan or with errors; the stages of a plan use earlier ones only,
    /// and nothing in it is left to be expanded.
    #[test]
    fn planning_always_ends(lines in prop::collection::vec(line(), 1..12), target in prop::option::weighted(0.3, "[ab0]")) {
        let text = format!("ARG A=a\nFROM busybox AS b\n{}\n", lines.join("\n"));
        if kuz_dockerfile::parse(text.as_bytes()).has_errors() {
            return Ok(());
        }
        let request = Request { target, ..request() };
        match plan_asking(&text, &request).0 {
            Err(found) => prop_assert!(found.iter().any(|found| found.severity == Severity::Error)),
            Ok(plan) => {
                for (place, stage) in plan.stages.iter().enumerate() {
                    if let Base::Stage(below) = &stage.base {
                        prop_assert!(below.0 < place);
                    }
                    for step in &stage.steps {
                        prop_assert!(!step.created_by.starts_with("ONBUILD"));
                        for source in kuz_plan::key::reads(&step.op) {
                            prop_assert!(!matches!(source, Source::Stage(id) if id.0 >= place));
                        }
                    }
                }
            }
        }
    }
}
