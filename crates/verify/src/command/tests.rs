//! Commands over synthetic images, as a table: the configuration, the layers, another stage; the findings.

use crate::finding::Finding;
use crate::testing::{Entry, Made, config, dir, file, hard, link, program, seen, subject};

/// A static program.
fn static_program(path: &str) -> Entry {
    program(path, Made::default().bytes())
}

fn base() -> Vec<Entry> {
    vec![
        dir("usr"),
        dir("usr/bin"),
        link("bin", "usr/bin"),
        static_program("usr/bin/dash"),
        link("usr/bin/sh", "dash"),
        static_program("usr/bin/env"),
        static_program("usr/local/bin/python3.10"),
        link("usr/local/bin/python3", "python3.10"),
        link("usr/local/bin/python", "python3"),
        file("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"),
        file("etc/group", "root:x:0:\napp:x:1000:\nextra:x:7:app\n"),
    ]
}

fn shown(finding: &Finding) -> String {
    let lines =
        finding.advice.iter().flat_map(|advice| &advice.lines).fold(String::new(), |all, line| all + " + " + line);
    format!("{}: {}{lines}", finding.rule, finding.message)
}

fn judged(json: &str, layer: Vec<Entry>, other: Vec<Entry>) -> Vec<String> {
    let config = config(json);
    let other = seen(&[other]);
    let subject = subject(&config, &[base(), layer], &[("builder", &other)]);
    super::check(&subject).findings.iter().map(shown).collect()
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn commands_resolve_or_not() {
    let script = |line: &str| program("app/run", format!("{line}\n"));
    let nothing: Vec<&str> = vec![];
    let cases: Vec<(&str, Vec<Entry>, Vec<&str>)> = vec![
        (r#"{"Cmd":["python3"]}"#, vec![], nothing.clone()),
        (r#"{"Cmd":["/usr/local/bin/python","x.py"]}"#, vec![], nothing.clone()),
        (r#"{"Cmd":["/bin/sh","-c","exec python -m app && echo"]}"#, vec![], nothing.clone()),
        (r#"{"Cmd":["/bin/sh","-c","if x; then y; fi"]}"#, vec![], nothing.clone()),
        (r#"{"Cmd":["/bin/sh","-c","$APP; nope || true; A=b $X; /run/x"]}"#, vec![], nothing.clone()),
        (r#"{"Cmd":["/bin/sh","-c",". ./env && nope"]}"#, vec![], nothing.clone()),
        (r#"{"Cmd":["/bin/sh","-c","PATH=/x nope; PATH=/y; nope2"]}"#, vec![], nothing.clone()),
        (r#"{"Cmd":["sh","-lc","nope"]}"#, vec![], nothing.clone()),
        (r#"{"Cmd":["run"],"Env":["PATH=/app"]}"#, vec![script("#!/bin/sh -e")], nothing.clone()),
        (r#"{"Cmd":["./run"],"WorkingDir":"/app"}"#, vec![script("#! /usr/bin/env python3")], nothing.clone()),
        (r#"{"Cmd":["/app/run"]}"#, vec![script("#!/usr/bin/env -S python3 -u")], nothing.clone()),
        (
            r#"{"Cmd":["sh","-c","cd /app && ./run"]}"#,
            vec![script("echo no interpreter, but a shell")],
            nothing.clone(),
        ),
        (r#"{"Cmd":["/again"]}"#, vec![script("#!/bin/sh"), hard("again", "app/run")], nothing.clone()),
        (r#"{"Entrypoint":["env","A=b"],"Cmd":["python"]}"#, vec![], nothing.clone()),
        (r#"{"Cmd":["python"],"User":"app"}"#, vec![], nothing.clone()),
        (
            r#"{"Cmd":["/d/x"],"User":"app"}"#,
            vec![dir("d").mode(0o710).owner(0, 7), static_program("d/x").mode(0o001)],
            nothing.clone(),
        ),
        (
            "{}",
            vec![],
            vec!["NoCommand: the image has neither ENTRYPOINT nor CMD: it starts only with a command given to it"],
        ),
        (
            r#"{"Cmd":["sh","-c","cd /app && ./nope"]}"#,
            vec![],
            vec!["CommandNotFound: the command `./nope` (`/app/nope`) is not in the image"],
        ),
        (
            r#"{"Cmd":["sh","-c","python x; exec nope --a"]}"#,
            vec![],
            vec!["CommandNotFound: the command `nope` is not in the image"],
        ),
        (
            r#"{"Entrypoint":["tini","--"],"Cmd":["nope"]}"#,
            vec![],
            vec![
                "CommandNotFound: the command `tini` is not in the image",
                "CommandNotFound: the command `nope` is not in the image",
            ],
        ),
        (
            r#"{"Cmd":["/app/run"]}"#,
            vec![script("#!/bin/sh").mode(0o644)],
            vec![
                "CommandNotExecutable: the command `/app/run` (`/app/run`) may not be executed by root + RUN chmod a+rx /app/run",
            ],
        ),
        (
            r#"{"Cmd":["/app/run"],"User":"app"}"#,
            vec![script("#!/bin/sh").mode(0o744)],
            vec![
                "CommandNotExecutable: the command `/app/run` (`/app/run`) may not be executed by app + RUN chmod a+rx /app/run",
            ],
        ),
        (
            r#"{"Cmd":["/root/x"],"User":"1000:1000"}"#,
            vec![dir("root").mode(0o700), static_program("root/x")],
            vec![
                "CommandNotReachable: the command `/root/x` lies below `/root`, which 1000:1000 may not enter + RUN chmod a+rx /root",
            ],
        ),
        (
            r#"{"Cmd":["/app"]}"#,
            vec![dir("app")],
            vec!["CommandNotExecutable: the command `/app` is a directory (`/app`)"],
        ),
        (
            r#"{"Cmd":["go"]}"#,
            vec![link("usr/bin/go", "../lib/go/go")],
            vec!["CommandNotFound: the command `go` is a link to `../lib/go/go`, which is not in the image"],
        ),
        (
            r#"{"Cmd":["x"],"User":"nobody"}"#,
            vec![],
            vec!["UnknownUser: the image's user cannot be looked up: no user `nobody` in the image's `/etc/passwd`"],
        ),
        (
            r#"{"Cmd":["/app/run"]}"#,
            vec![script("#!/bin/sh\r")],
            vec![
                "BadShebang: `/app/run` has Windows line ends: its first line asks for an interpreter whose name ends in a carriage return + RUN sed -i 's/\\r$//' /app/run",
            ],
        ),
        (
            r#"{"Cmd":["/app/run"]}"#,
            vec![script("#!")],
            vec!["BadShebang: the first line of `/app/run` names no interpreter"],
        ),
        (
            r#"{"Cmd":["/app/run"]}"#,
            vec![script("#!/app/run")],
            vec!["BadShebang: `/app/run` is a script for a script: the kernel follows no more than 4"],
        ),
        (
            r#"{"Cmd":["/app/run"]}"#,
            vec![script("#!/usr/bin/env python3 -u")],
            vec!["BadShebang: the first line of `/app/run` gives env the one word `python3 -u`"],
        ),
        (
            r#"{"Cmd":["/app/run"]}"#,
            vec![script("#!/opt/venv/bin/python3")],
            vec!["InterpreterNotFound: `/app/run` is run by `/opt/venv/bin/python3`, which is not in the image"],
        ),
        (
            r#"{"Cmd":["/app/run"]}"#,
            vec![script("#!/usr/bin/env ruby")],
            vec!["InterpreterNotFound: `/app/run` is run by `ruby`, which is not in the image"],
        ),
        (
            r#"{"Cmd":["/app/run"]}"#,
            vec![script("echo")],
            vec!["NoInterpreter: `/app/run` is neither a program nor begins with `#!`: the kernel cannot start it"],
        ),
        (
            r#"{"Cmd":["uvicorn"]}"#,
            vec![static_program("opt/venv/bin/uvicorn")],
            vec!["CommandNotFound: the command `uvicorn` is not in the image + ENV PATH=\"/opt/venv/bin:$PATH\""],
        ),
    ];
    for (json, layer, want) in cases {
        let found = judged(json, layer, vec![]);
        assert_eq!(found, want, "{json}");
    }
}

#[test]
fn the_line_that_brings_a_command_over() {
    let uvicorn = || vec![program("usr/local/bin/uvicorn", "#!/usr/local/bin/python3.10\n")];
    let shell = r#"{"Cmd":["/bin/sh","-c","uvicorn main:app --host 0.0.0.0 --port 8000"]}"#;
    let cases = [
        (
            shell,
            uvicorn(),
            "COPY --from=builder /usr/local/bin/uvicorn /usr/local/bin/uvicorn",
            "it exists at `/usr/local/bin/uvicorn` in stage builder",
        ),
        (
            r#"{"Cmd":["/opt/venv/bin/app"]}"#,
            vec![program("opt/venv/bin/app", "#!/x\n"), file("opt/venv/pyvenv.cfg", "")],
            "COPY --from=builder /opt/venv /opt/venv",
            "it exists at `/opt/venv/bin/app` in stage builder, in a virtual environment: copy all of that",
        ),
        (
            r#"{"Cmd":["app"]}"#,
            vec![program("srv/tools/bin/app", "#!/x\n")],
            "COPY --from=builder /srv/tools/bin/app /srv/tools/bin/app + ENV PATH=\"/srv/tools/bin:$PATH\"",
            "it exists at `/srv/tools/bin/app` in stage builder: copy it, and put its directory on PATH",
        ),
        (
            r#"{"Cmd":["curl"]}"#,
            vec![
                static_program("usr/bin/curl"),
                static_program("usr/bin/apt-get"),
                file("var/lib/dpkg/info/curl.list", "/usr/bin/curl\n"),
            ],
            "RUN apt-get update && apt-get install -y --no-install-recommends curl && rm -rf /var/lib/apt/lists/*",
            "it exists at `/usr/bin/curl` in stage builder, from the package `curl`: install that in the final stage",
        ),
    ];
    let nowhere = vec![
        (
            r#"{"Cmd":["node"]}"#,
            vec![],
            "RUN apt-get update && apt-get install -y --no-install-recommends nodejs && rm -rf /var/lib/apt/lists/*",
            "the package `nodejs` has it: install that",
        ),
        (r#"{"Cmd":["frob"]}"#, vec![], "", "install the package that has it, or copy it into a directory on PATH"),
        (
            r#"{"Cmd":["/start.sh"]}"#,
            vec![],
            "",
            "nothing puts it there: copy it (`COPY start.sh /start.sh`), or name the path where it is",
        ),
        (
            r#"{"Cmd":["python main.py"]}"#,
            vec![],
            "",
            r#"in the exec form each word stands by itself: `["python", "main.py"]`"#,
        ),
        (
            r#"{"Cmd":["echo $HOME && ls"]}"#,
            vec![],
            "",
            r#"the exec form runs no shell: write the line without brackets and quotes, or start a shell: `["/bin/sh", "-c", "…"]`"#,
        ),
        (
            r#"{"Cmd":["python"],"User":"web"}"#,
            vec![],
            "",
            "add the user in the final stage before USER (`RUN useradd --create-home web`), or give numbers",
        ),
        // Debian's links: the package of the first that has one, and not the one without Python's library.
        (
            r#"{"Cmd":["/venv/bin/python"]}"#,
            vec![
                link("venv/bin/python", "/usr/bin/python3"),
                link("usr/bin/python3", "python3.11"),
                static_program("usr/bin/python3.11"),
                static_program("usr/bin/apt-get"),
                file("var/lib/dpkg/info/python3-minimal.list", "/usr/bin/python3\n"),
                file("var/lib/dpkg/info/python3.11-minimal.list", "/usr/bin/python3.11\n"),
            ],
            "RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*",
            "it exists at `/venv/bin/python` in stage builder, from the package `python3`: install that in the final stage",
        ),
    ];
    for (json, other, lines, text) in cases.into_iter().chain(nowhere) {
        let config = config(json);
        let other = seen(&[other]);
        let subject = subject(&config, &[base(), vec![static_program("usr/bin/apt-get")]], &[("builder", &other)]);
        let findings = super::check(&subject).findings;
        assert_eq!(findings.len(), 1, "{json}: {findings:?}");
        let advice = findings[0].advice.clone().unwrap();
        assert_eq!((advice.lines.join(" + ").as_str(), advice.text.as_str()), (lines, text));
    }
    // Without a shell there is no RUN.
    let config = config(r#"{"Cmd":["/x"]}"#);
    let bare = subject(&config, &[vec![static_program("x").mode(0o644)]], &[]);
    assert_eq!(super::check(&bare).findings[0].advice.as_ref().map(|advice| advice.lines.len()), Some(0));
    let config = self::config(r#"{"Cmd":["/bin/sh","-c","exec /x --flag"]}"#);
    let scratch = subject(&config, &[vec![static_program("x")]], &[]);
    let finding = super::check(&scratch).findings[0].clone();
    assert_eq!(
        (finding.message.as_str(), finding.advice.unwrap().text.as_str()),
        (
            "the command's shell `/bin/sh` is not in the image",
            r#"the shell form needs a shell: write the exec form: `["/x", "--flag"]`"#
        )
    );
    // A command that is missing everywhere has no line.
    assert_eq!(judged(shell, vec![], vec![]), ["CommandNotFound: the command `uvicorn` is not in the image"]);
}
