//! Hints about how the image will behave once it runs: notes, never errors.
//!
//! From the configuration and the command's words; nothing is claimed about what a program reads from its own files.

use crate::access::{self, Place, Who, Wish};
use crate::command::shell::{self, Simple};
use crate::command::{self, Line};
use crate::finding::{Advice, Finding, Level};
use crate::subject::{Subject, show};

/// Hosts that are reached from inside the container only.
const LOOPBACK: [&str; 4] = ["127.0.0.1", "localhost", "::1", "[::1]"];
/// Flags that say where a server listens.
const LISTENING: [&str; 8] = ["--host", "--bind", "-b", "-h", "--listen", "--address", "--http", "--http-socket"];
/// Servers that listen on loopback unless told otherwise: their name, what tells them, and the variables that do.
const SERVERS: [(&str, &[&str], &[&str]); 3] = [
    ("uvicorn", &["--host", "--uds", "--fd"], &["UVICORN_HOST"]),
    ("gunicorn", &["--bind", "-b", "-c", "--config"], &["GUNICORN_CMD_ARGS", "PORT"]),
    ("hypercorn", &["--bind", "-b", "-c", "--config"], &[]),
];

/// All hints.
pub fn check(subject: &Subject<'_>) -> Vec<Finding> {
    let argv = command::argv(subject);
    let mut findings = Vec::new();
    findings.extend(user(subject));
    findings.extend(workdir(subject));
    findings.extend(signals(subject, &argv));
    for words in commands(&argv) {
        findings.extend(development(&words));
        findings.extend(loopback(subject, &words));
    }
    findings.extend(command::healthcheck(subject).into_iter().map(|found| Finding {
        rule: "HealthcheckFails",
        level: Level::Note,
        message: format!("HEALTHCHECK will always fail: {}", found.message),
        ..found
    }));
    findings
}

fn note(rule: &'static str, message: impl Into<String>, advice: &str) -> Finding {
    Finding::new(rule, Level::Note, message).advise(Some(Advice::text(advice)))
}

/// The commands that are started, each as its words; a word that a shell expands is empty.
fn commands(argv: &[String]) -> Vec<Vec<String>> {
    match command::split(argv) {
        Line::Programs(programs) => programs.last().map(|words| words.to_vec()).into_iter().collect(),
        Line::Shell { line, .. } => shell::parse(line).unwrap_or_default().iter().map(words).collect(),
    }
}

fn words(simple: &Simple) -> Vec<String> {
    let all = simple.words.iter().map(|word| if word.literal { word.text.clone() } else { String::new() });
    let all: Vec<String> = all.skip_while(|word| word == "exec").collect();
    match command::split(&all) {
        Line::Programs(programs) => programs.last().map(|words| words.to_vec()).unwrap_or_default(),
        Line::Shell { .. } => all,
    }
}

fn user(subject: &Subject<'_>) -> Option<Finding> {
    let who = Who::of(subject).ok()?;
    (who.uid == 0).then(|| {
        note("RunsAsRoot", "the image runs as root", "make a user (`RUN useradd app`) and end with `USER app`")
    })
}

fn workdir(subject: &Subject<'_>) -> Option<Finding> {
    let who = Who::of(subject).ok().filter(|who| who.uid != 0)?;
    let workdir = subject.config.config.working_dir.as_deref().filter(|path| path.len() > 1)?;
    let (Place::Dir(path) | Place::Closed(path)) = access::look(subject, &who, workdir.as_bytes()) else { return None };
    let writable = subject.stack.get(&path).is_some_and(|entry| who.may(entry, Wish::Write));
    let user = subject.config.config.user.as_deref().unwrap_or_default().escape_debug().to_string();
    (!writable).then(|| {
        let place = show(&path);
        let message = format!("{user} may not write to the working directory `{place}`");
        note(
            "WorkdirNotWritable",
            message,
            "if the application writes there, give it the directory with `COPY --chown` or `RUN chown`",
        )
        .at(&path, subject.stack.find(&path).map(|(layer, _)| layer))
    })
}

/// A shell that stays in front of the command may keep signals from it.
fn signals(subject: &Subject<'_>, argv: &[String]) -> Option<Finding> {
    let Line::Shell { line, .. } = command::split(argv) else { return None };
    // A shell is then what is to be run.
    if subject.config.config.stop_signal.as_deref().is_some_and(|signal| signal.contains("KILL")) {
        return None;
    }
    let last = shell::parse(line)?.pop()?;
    let executes = last.words.first().is_some_and(|word| word.literal && word.text == "exec");
    (!executes && !last.words.is_empty()).then(|| {
        note(
            "SignalsMayBeSwallowed",
            "the command is started by a shell, which may keep signals from it when the container stops",
            "write the command in JSON form, or with `exec` before it",
        )
    })
}

fn development(words: &[String]) -> Option<Finding> {
    let flag = words.iter().any(|word| word == "--reload");
    let command =
        words.first().is_some_and(|word| word.ends_with("fastapi")) && words.get(1).is_some_and(|word| word == "dev");
    (flag || command).then(|| {
        note(
            "DevelopmentServer",
            "the server watches its files and restarts (`--reload`)",
            "leave that out of an image",
        )
    })
}

fn loopback(subject: &Subject<'_>, words: &[String]) -> Option<Finding> {
    let host = |word: &str| {
        let word = word.strip_prefix("http://").unwrap_or(word);
        LOOPBACK.iter().any(|host| word.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))
    };
    let mut before = "";
    let mut told = None;
    for word in words.iter().skip(1) {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) if flag.starts_with('-') => (flag, value),
            _ => (before, word.as_str()),
        };
        if (LISTENING.contains(&flag) || before == "runserver") && host(value) {
            told = Some(value.to_owned());
        }
        before = word;
    }
    let message = if let Some(value) = told {
        format!("the server listens on `{}`: nothing outside the container reaches it", value.escape_debug())
    } else {
        let server = server(words)?;
        let (_, flags, variables) = SERVERS.iter().find(|(name, ..)| *name == server)?;
        let is_flag = |word: &String| {
            flags.iter().any(|flag| word.split('=').next() == Some(flag) || (flag.len() == 2 && word.starts_with(flag)))
        };
        let unknown = words.iter().any(|word| word.is_empty() || is_flag(word));
        if unknown
            || variables.iter().any(|name| subject.variable(name).is_some())
            || has_configuration(subject, &server)
        {
            return None;
        }
        format!("{server} listens on 127.0.0.1 unless told otherwise: nothing outside the container reaches it")
    };
    Some(note("BoundToLoopback", message, "let it listen on 0.0.0.0"))
}

/// The server that words start: by its name, or as a module of Python.
fn server(words: &[String]) -> Option<String> {
    let (first, rest) = words.split_first()?;
    let name = first.rsplit('/').next().unwrap_or(first);
    if !name.starts_with("python") {
        return Some(name.to_owned());
    }
    let at = rest.iter().position(|word| word == "-m")?;
    rest.get(at + 1).cloned()
}

/// gunicorn reads a file of its own from the working directory.
fn has_configuration(subject: &Subject<'_>, server: &str) -> bool {
    server == "gunicorn" && subject.has_file(format!("{}/gunicorn.conf.py", subject.workdir()).as_bytes())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Made, config, dir, file, program, subject};

    #[test]
    fn hints() {
        let cases = [
            (r#"{"Cmd":["uvicorn","a:b","--host","0.0.0.0"]}"#, "RunsAsRoot"),
            (r#"{"Cmd":["uvicorn","a:b"],"User":"app"}"#, "BoundToLoopback"),
            (
                r#"{"Cmd":["python","-m","uvicorn","a:b","--host=localhost","--reload"],"User":"5"}"#,
                "DevelopmentServer BoundToLoopback",
            ),
            (r#"{"Cmd":["/bin/sh","-c","uvicorn a:b --host $H"],"User":"5"}"#, "SignalsMayBeSwallowed"),
            (r#"{"Cmd":["/bin/sh","-c","x && exec uvicorn a:b --host ::1"],"User":"5"}"#, "BoundToLoopback"),
            (r#"{"Cmd":["uvicorn","a:b"],"User":"5","Env":["UVICORN_HOST=0.0.0.0"]}"#, ""),
            (r#"{"Cmd":["gunicorn","-b0.0.0.0:80","a:b"],"User":"5"}"#, ""),
            (r#"{"Cmd":["gunicorn","-b","127.0.0.1:80","a:b"],"User":"5"}"#, "BoundToLoopback"),
            (r#"{"Cmd":["gunicorn","a:b"],"User":"5","WorkingDir":"/conf"}"#, "WorkdirNotWritable"),
            (
                r#"{"Cmd":["python","manage.py","runserver","127.0.0.1:80"],"User":"5","WorkingDir":"/own"}"#,
                "BoundToLoopback",
            ),
            (r#"{"Cmd":["x"],"User":"app","WorkingDir":"/conf"}"#, "WorkdirNotWritable"),
            (r#"{"Cmd":["x"],"User":"5","Healthcheck":{"Test":["CMD","curl","-f","x"]}}"#, "HealthcheckFails"),
            (r#"{"Cmd":["x"],"User":"5","Healthcheck":{"Test":["CMD-SHELL","wget x || exit 1"]}}"#, "HealthcheckFails"),
            (r#"{"Cmd":["x"],"User":"5","Healthcheck":{"Test":["CMD-SHELL","wget x || curl x"]}}"#, ""),
            (r#"{"Cmd":["x"],"User":"5","Healthcheck":{"Test":["NONE"]}}"#, ""),
        ];
        for (json, want) in cases {
            let config = config(json);
            let layer = vec![
                dir("bin"),
                program("bin/sh", Made::default().bytes()),
                dir("conf"),
                file("conf/gunicorn.conf.py", ""),
                dir("own").owner(5, 0),
                file("etc/passwd", "app:x:1000:1000::/:\n"),
            ];
            let rules: Vec<&str> =
                super::check(&subject(&config, &[layer], &[])).iter().map(|found| found.rule).collect();
            assert_eq!(rules.join(" "), want, "{json}");
        }
    }
}
