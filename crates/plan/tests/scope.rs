//! Tables of which value of a variable wins where, and of what is warned of.

mod support;

use kuz_plan::plan::{Op, Run};
use support::{findings, plan, request, with_args};

/// What the last RUN of the last stage sees as `X`.
fn seen(text: &str, args: &[(&str, &str)]) -> Option<String> {
    let plan = plan(text, &with_args(args));
    let runs: Vec<&Run> = plan
        .stages
        .last()
        .expect("a stage")
        .steps
        .iter()
        .filter_map(|step| match &step.op {
            Op::Run(run) => Some(&**run),
            _ => None,
        })
        .collect();
    let run = runs.last().expect("a RUN");
    run.env.iter().find(|(name, _)| *name == "X").map(|(_, value)| value.to_owned())
}

#[test]
fn the_value_that_wins() {
    let given: &[(&str, &str)] = &[("X", "given")];
    for (text, args, want) in [
        ("FROM busybox\nRUN r", given, None),
        ("FROM busybox\nARG X\nRUN r", given, Some("given")),
        ("FROM busybox\nARG X\nRUN r", &[], None),
        ("FROM busybox\nARG X=default\nRUN r", given, Some("given")),
        ("FROM busybox\nARG X=default\nRUN r", &[], Some("default")),
        ("FROM busybox\nARG X=\nRUN r", &[], Some("")),
        ("FROM busybox\nARG X=default\nRUN r", &[("X", "")], Some("")),
        ("FROM busybox\nRUN r\nARG X=late\n", &[], None),
        // Global arguments need a redeclaration, and a default there wins over the global one.
        ("ARG X=global\nFROM busybox\nRUN r", given, None),
        ("ARG X=global\nFROM busybox\nARG X\nRUN r", &[], Some("global")),
        ("ARG X=global\nFROM busybox\nARG X\nRUN r", given, Some("given")),
        ("ARG X=global\nFROM busybox\nARG X=stage\nRUN r", &[], Some("stage")),
        ("ARG A=1\nARG X=$A-2\nFROM busybox\nARG X\nRUN r", &[("A", "0")], Some("0-2")),
        // Of ARG and ENV the later one wins.
        ("FROM busybox\nARG X=arg\nENV X=env\nRUN r", given, Some("env")),
        ("FROM busybox\nENV X=env\nARG X=arg\nRUN r", &[], Some("arg")),
        ("FROM busybox\nENV X=env\nARG X=arg\nRUN r", given, Some("given")),
        ("FROM busybox\nENV X=env\nARG X\nRUN r", &[], Some("env")),
        ("FROM busybox\nARG X=arg\nENV X=${X}+\nRUN r", &[], Some("arg+")),
        ("FROM busybox\nENV X=1\nENV X=2 Y=$X\nENV X=$Y\nRUN r", &[], Some("1")),
        ("FROM busybox\nARG A=1 X=$A\nRUN r", &[], Some("1")),
        // Stages see what they stand on, and no other stage.
        ("FROM busybox AS a\nARG X=a\nFROM a\nRUN r", &[], Some("a")),
        ("FROM busybox AS a\nARG X=a\nFROM busybox\nRUN r", &[], None),
        ("FROM busybox AS a\nENV X=a\nFROM a\nARG X=b\nRUN r", &[], Some("b")),
        // Automatic ones must be declared, too.
        ("FROM busybox\nARG TARGETARCH\nENV X=$TARGETARCH\nRUN r", &[], Some("amd64")),
        ("FROM busybox\nARG TARGETARCH\nENV X=$TARGETARCH\nRUN r", &[("TARGETARCH", "own")], Some("own")),
        ("FROM busybox\nENV X=$TARGETARCH\nRUN r", &[], Some("")),
        ("FROM busybox AS Last\nARG TARGETSTAGE\nENV X=$TARGETSTAGE\nRUN r", &[], Some("last")),
        ("FROM busybox\nARG TARGETSTAGE\nENV X=$TARGETSTAGE\nRUN r", &[], Some("default")),
        ("FROM busybox\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nENV X=$BUILDKIT_SBOM_SCAN_STAGE\nRUN r", &[], Some("")),
        // Quotes and escapes.
        ("FROM busybox\nENV X='$PATH' Y=\\$PATH\nRUN r", &[], Some("$PATH")),
        ("FROM busybox\nENV X=\"a ${Y:-b} c\"\nRUN r", &[], Some("a b c")),
        ("FROM busybox\nARG X=\"q q\"\nRUN r", &[], Some("q q")),
    ] {
        assert_eq!(seen(text, args).as_deref(), want, "{text} {args:?}");
    }
}

#[test]
fn what_is_found_wanting() {
    for (text, args, want) in [
        ("FROM busybox\nRUN $X", &[][..], &[][..]),
        ("FROM busybox\nARG X\nCOPY a$X /", &[], &[]),
        (
            "FROM busybox\nCOPY $foo /\nENV A=$foo$foo",
            &[],
            &["UndefinedVar: usage of undefined variable `$foo`", "UndefinedVar: usage of undefined variable `$foo`"],
        ),
        (
            "FROM busybox\nENV PATH=$PAHT:/x",
            &[],
            &["UndefinedVar: usage of undefined variable `$PAHT` [did you mean $PATH?]"],
        ),
        (
            "ARG V=1\nFROM busybox\nENV A=$V",
            &[],
            &["UndefinedVar: usage of undefined variable `$V` [declare it in this stage: ARG V]"],
        ),
        ("FROM busybox AS a\nCOPY $x /\nFROM scratch", &[], &[]),
        // A default is no declaration: every form asks for the variable, and so do words that aren't taken in the end.
        ("FROM busybox\nENV A=${U:-x}", &[], &["UndefinedVar: usage of undefined variable `$U`"]),
        ("FROM busybox\nENV A=${U-x} B=${U:+x}", &[], &["UndefinedVar: usage of undefined variable `$U`"]),
        ("FROM busybox\nENV A=${U%x} B=${U/x/y}", &[], &["UndefinedVar: usage of undefined variable `$U`"]),
        ("FROM busybox\nENV A=${PATH:-$U}", &[], &["UndefinedVar: usage of undefined variable `$U`"]),
        ("FROM busybox\nARG U\nENV A=${U:-x}", &[], &[]),
        ("FROM busybox\nENV A=$BUILDKIT_SBOM_SCAN_STAGE", &[], &[]),
        (
            "FROM busybox\nCOPY $foo /\nARG foo=bar",
            &[],
            &[
                "UndefinedVar: usage of undefined variable `$foo` [it is set below: move that instruction above this one]",
            ],
        ),
        ("FROM busybox\nENV L=a:$L\nENV L=b:$L", &[], &["UndefinedVar: usage of undefined variable `$L`"]),
        // EXPOSE is no place of that rule, but it must not expose nothing without a word.
        ("FROM busybox\nEXPOSE ${U:-80}", &[], &[]),
        (
            "FROM busybox\nEXPOSE 80 $U",
            &[],
            &["NothingExposed: `$U` names no port: it is empty [set U: ARG U=PORT above this line]"],
        ),
        (
            "FROM --platform=$BULIDPLATFORM${TARGETOS:-x} scratch",
            &[],
            &["UndefinedArgInFrom: FROM argument `BULIDPLATFORM` is not declared [did you mean BUILDPLATFORM?]"],
        ),
        (
            "ARG V\nFROM busybox:$V",
            &[("V", "1")],
            &["InvalidDefaultArgInFrom: default value for ARG busybox:$V results in empty or invalid base image name \
               [give the ARG a default that makes a whole image name: ARG NAME=value]"],
        ),
        ("ARG V=1\nFROM busybox:$V", &[("V", "2")], &[]),
        (
            "FROM busybox\nARG FOO",
            &[("FO0", "1"), ("http_proxy", "x"), ("BUILDKIT_SYNTAX", "x"), ("TARGETOS", "x")],
            &["UnusedBuildArg: build argument `FO0` is not used: no ARG declares it [did you mean FOO?]"],
        ),
        ("FROM triggers AS x\nFROM x", &[("WHO", "1")], &[]),
        (
            "FROM busybox",
            &[("BUILDKIT_INLINE_CACHE", "1"), ("BUILDKIT_MULTI_PLATFORM", "0"), ("BUILDKIT_SYNTAKS", "x")],
            &[
                "UnsupportedBuildArg: the build argument BUILDKIT_INLINE_CACHE=1 cannot be honoured [images hold no cache \
                 of how they were built; leave the argument out, or set it to 0]",
                "UnusedBuildArg: build argument `BUILDKIT_SYNTAKS` is not used: no ARG declares it [did you mean \
                 BUILDKIT_SYNTAX?]",
            ],
        ),
        (
            "ARG SOURCE_DATE_EPOCH=tols\nFROM scratch AS tools\nADD https://h/x /\nFROM busybox",
            &[],
            &["InvalidSourceDateEpoch: invalid SOURCE_DATE_EPOCH: tols [did you mean tools?]"],
        ),
        ("ARG SOURCE_DATE_EPOCH=TOOLS\nFROM scratch AS tools\nADD https://h/x /\nFROM busybox", &[], &[]),
        (
            "FROM busybox AS tools\nADD https://h/x /\nFROM busybox",
            &[("SOURCE_DATE_EPOCH", "tools")],
            &["InvalidSourceDateEpoch: SOURCE_DATE_EPOCH stage must use FROM scratch [its time is that of what it \
               fetches: FROM scratch, then one ADD of a URL or repository]"],
        ),
    ] {
        assert_eq!(findings(text, &with_args(args)), want, "{text}");
    }
}

#[test]
fn errors_name_what_is_wrong() {
    for (text, want) in [
        ("FROM ${X}", "BlankBaseName: base name (${X}) should not be blank"),
        ("FROM \"\"", "should not be blank"),
        ("FROM Bad:Tag:x", "InvalidImageReference: "),
        ("FROM busybox AS build\nFROM Biuld!", "InvalidImageReference: "),
        ("FROM --platform=a/b/c/d busybox", "InvalidPlatform: "),
        ("FROM --platform=$X busybox", "empty platform value from expression $X"),
        ("FROM busybox AS stage0\nCOPY --from=stage0 a b", "circular dependency detected on stage: stage0"),
        ("FROM busybox\nCOPY --from=0 a b", "circular dependency detected on stage: stage-0"),
        ("FROM busybox AS a\nCOPY --from=b x y\nFROM a AS b\nFROM a", "circular dependency detected on stage: a"),
        (
            "FROM busybox AS target\nCOPY --from=build a b\nFROM busybox AS build\nFROM target",
            "cannot copy from stage \"build\", it needs to be defined before current stage \"target\"",
        ),
        (
            "FROM busybox\nRUN --mount=from=later,target=/x y\nFROM busybox AS later\nFROM scratch\nCOPY --from=0 a b",
            "it needs to be defined before current stage \"stage-0\"",
        ),
        ("FROM busybox\nCOPY --from=7 a b", "InvalidStageIndex: invalid stage index 7"),
        ("ARG X=a\nFROM busybox\nCOPY --from=$X a b", "variable expansion is not supported for --from"),
        (
            "FROM busybox\nRUN --mount=from=$X,target=/x y",
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        ("FROM busybox\nRUN --mount=typ=cache,target=/x y", "unexpected key 'typ' in 'typ=cache' [did you mean type?]"),
        ("FROM busybox\nRUN --mount=type=cahce,target=/x y", "unsupported mount type \"cahce\" [did you mean cache?]"),
        (
            "FROM busybox\nRUN --mount=type=cache,target=/x,sharing=lock y",
            "unsupported sharing value \"lock\" [did you mean locked?]",
        ),
        ("FROM busybox\nRUN --mount=target=/x,uid=1 y", "uid not allowed for \"bind\" type mounts"),
        ("FROM busybox\nRUN --mount=target=/x,size=1 y", "unexpected key 'size' for mount type 'bind'"),
        ("FROM busybox\nRUN --mount=target=/x,required y", "unexpected key 'required' for mount type 'bind'"),
        ("FROM busybox\nRUN --mount=type=tmpfs,target=/x,size=1q y", "invalid value for size: 1q"),
        ("FROM busybox\nRUN --mount=type=cache,target=/x,mode=9 y", "invalid value 9 for mode"),
        ("FROM busybox\nRUN --mount=target y", "invalid field 'target' must be a key=value pair"),
        ("FROM busybox\nRUN --mount=target=/ y", "invalid mount target \"/\""),
        ("FROM busybox\nRUN --mount=type=cache,target=.. y", "invalid mount target \"/\""),
        ("FROM busybox\nRUN --mount=type=secret y", "invalid secret mount. one of source, target required"),
        ("FROM busybox\nRUN --mount=type=secret,from=a,id=x y", "secret mount should not have a from"),
        ("FROM busybox\nRUN --mount=type=ssh,source=x y", "ssh does not support source"),
        ("FROM busybox\nRUN --mount=target=/x,sharing=locked y", "invalid cache sharing set for bind mount"),
        ("FROM busybox\nRUN --mount=target=/x,ro=maybe y", "invalid value for ro: maybe"),
        ("FROM busybox\nRUN --network=fast y", "network mode \"fast\""),
        ("FROM busybox\nRUN --security=none y", "none"),
        ("FROM busybox\nCOPY https://h/x /", "source can't be a URL for COPY"),
        ("FROM busybox\nCOPY https://h/x.git /", "source can't be a git ref for COPY"),
        ("FROM busybox\nADD --checksum=sha256:00 x /", "checksum requires HTTP(S) or Git sources"),
        (
            "FROM busybox\nCOPY --chmod=64a x /",
            "invalid chmod parameter: '64a'. it should be octal string and between 0 and 07777",
        ),
        ("FROM busybox\nARG M=10000\nADD --chmod=$M x /", "invalid chmod parameter: '10000'."),
        ("FROM busybox\nEXPOSE x", "invalid containerPort: x"),
        ("FROM busybox\nSTOPSIGNAL SIGNO", "invalid signal: SIGNO"),
        ("FROM busybox\nVOLUME $NO", "VOLUME specified can not be an empty string"),
        ("FROM busybox\nENV A=${X:?missing}", "X: missing"),
        ("ARG X=${Y:?unset}\nFROM busybox", "Y: unset"),
        ("ARG SOURCE_DATE_EPOCH=yesterday\nFROM busybox", "invalid SOURCE_DATE_EPOCH: yesterday"),
        ("ARG X", "dockerfile contains no stages to build"),
    ] {
        let got = findings(text, &request());
        assert!(got.iter().any(|found| found.contains(want)), "{text}\n{got:?}");
    }
}

#[test]
fn all_errors_are_told_at_once() {
    let got = findings("FROM busybox\nEXPOSE x\nRUN a\nSTOPSIGNAL y\nCOPY --chmod=9 a b\n", &request());
    assert_eq!(got.len(), 3, "{got:?}");
}

#[test]
fn a_mistyped_target_is_answered_with_the_stages() {
    let text = "FROM busybox AS build\nFROM busybox AS test\n";
    let ask = |target: &str| {
        let request = kuz_plan::Request { target: Some(target.to_owned()), ..request() };
        findings(text, &request).join("\n")
    };
    assert_eq!(
        ask("bulid"),
        "TargetNotFound: target stage \"bulid\" could not be found (did you mean build?) [the stages of the file: build, test]"
    );
    assert!(ask("2").contains("target stage \"2\" could not be found"));
}

#[test]
fn triggers_report_at_the_from_line() {
    let text = "FROM triggers\nRUN a\n";
    let errors = support::plan_asking(&format!("{text}FROM scratch AS tools\nFROM triggers\n"), &request()).0;
    assert!(errors.is_ok(), "{errors:?}");
    let plan = plan(text, &request());
    let stage = &plan.stages[0];
    assert!(stage.steps[..3].iter().all(|step| step.span == kuz_dockerfile::Span::new(5, 13)), "{:?}", stage.steps);
    assert_eq!(stage.steps[1].text, "RUN echo hello $WHO");
}

#[test]
fn variables_cannot_grow_without_bound() {
    let mut text = String::from("FROM busybox\nENV A=aaaaaaaaaaaaaaaa\n");
    for _ in 0..18 {
        text.push_str("ENV A=$A$A\n");
    }
    assert!(findings(&text, &request()).iter().any(|found| found.contains("longer than")));
}
