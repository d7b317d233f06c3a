//! What a command's words ask of Python: which program runs, what it puts on `sys.path`, which modules it imports.
//!
//! Knows the interpreters' own options and the command lines of the usual servers. A word that it does not know is never guessed to be a
//! module, except where it has the form `module:attribute`.

use std::collections::BTreeMap;

/// What runs, after shells and wrappers: the words, where, and with which variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Argv {
    /// The words; the first is the program.
    pub argv: Vec<String>,
    /// The working directory.
    pub cwd: String,
    /// The environment.
    pub env: BTreeMap<String, String>,
}

/// A module that a command imports by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// A dotted name.
    pub(super) module: String,
    /// What is taken from it.
    pub(super) attribute: Option<String>,
    /// The words that say so.
    pub(super) words: String,
}

/// A file that a command runs or reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    /// As written.
    pub(super) path: String,
    /// Whether it is the program itself, `__main__`.
    pub(super) main: bool,
}

/// What a command asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Launch {
    /// The first word after wrappers, if it is no interpreter: `uvicorn`.
    pub(super) program: Option<String>,
    /// The interpreter's word, if the command names it: `python3`.
    pub(super) interpreter: Option<String>,
    /// `python -m` this.
    pub(super) run_module: Option<String>,
    /// Directories that go first on `sys.path`.
    pub(super) first: Vec<String>,
    pub(super) wanted: Vec<Wanted>,
    pub(super) scripts: Vec<Script>,
    /// Gunicorn's own module of the workers that are asked for.
    pub(super) worker: Option<&'static str>,
    /// What `python -c` is given.
    pub(super) code: Option<String>,
    /// Gunicorn's own configuration, which may change where modules are looked for.
    pub(super) settings: Option<String>,
    /// Files that must exist: the words that name them, the path.
    pub(super) files: Vec<(String, String)>,
}

/// Words before a program that only start it: the word, and how many words of its own follow it.
const WRAPPERS: [(&str, usize); 15] = [
    ("exec", 0),
    ("tini", 0),
    ("dumb-init", 0),
    ("catatonit", 0),
    ("nice", 0),
    ("nohup", 0),
    ("setpriv", 0),
    ("stdbuf", 0),
    ("ddtrace-run", 0),
    ("opentelemetry-instrument", 0),
    ("newrelic-admin", 1),
    ("gosu", 1),
    ("su-exec", 1),
    ("setuidgid", 1),
    ("env", 0),
];

impl Launch {
    /// Reads a command.
    pub(super) fn read(command: &Argv) -> Self {
        let words = unwrap(&command.argv);
        let mut launch = Self::default();
        let Some((first, rest)) = words.split_first() else { return launch };
        if is_python(base_name(first)) {
            launch.interpreter = Some(first.clone());
            launch.python(rest, command);
        } else {
            launch.program = Some(first.clone());
            launch.server(base_name(first), rest, command, false);
        }
        launch
    }

    /// `python …`
    fn python(&mut self, words: &[String], command: &Argv) {
        let mut at = 0;
        let mut safe = command.env.get("PYTHONSAFEPATH").is_some_and(|value| !value.is_empty());
        while let Some(word) = words.get(at) {
            at += 1;
            if word == "-m" || word.starts_with("-m") && !word.starts_with("--") {
                let (module, next) = match word.get(2..).filter(|rest| !rest.is_empty()) {
                    Some(module) => (Some(module.to_owned()), at),
                    None => (words.get(at).cloned(), at + 1),
                };
                if !safe {
                    self.first.push(command.cwd.clone());
                }
                let Some(module) = module else { return };
                self.server(&module.replace('_', "-"), words.get(next..).unwrap_or_default(), command, true);
                self.run_module = Some(module);
                return;
            }
            if word == "-" {
                return;
            }
            if let Some(options) = word.strip_prefix('-') {
                // `-c` ends the options: what stands behind it is the program.
                let short = if options.starts_with('-') { "" } else { options };
                let (short, code) = match short.find('c').filter(|_| !short.starts_with(['W', 'X', 'm'])) {
                    Some(c) => (short.get(..c).unwrap_or_default(), short.get(c + 1..)),
                    None => (short, None),
                };
                safe |= short.contains(['I', 'P']);
                if let Some(code) = code {
                    if !safe {
                        self.first.push(command.cwd.clone());
                    }
                    self.code =
                        Some(code.to_owned()).filter(|code| !code.is_empty()).or_else(|| words.get(at).cloned());
                    return;
                }
                // These take a word of their own, if they end the word they are in.
                if matches!(word.as_str(), "-W" | "-X" | "--check-hash-based-pycs") {
                    at += 1;
                }
                continue;
            }
            if !safe {
                self.first.push(directory_of(word));
            }
            self.scripts.push(Script { path: word.clone(), main: true });
            return;
        }
    }

    /// The command lines of servers, by the program's name. `as_module`: started by `python -m`.
    fn server(&mut self, name: &str, words: &[String], command: &Argv, as_module: bool) {
        let cwd = || command.cwd.clone();
        let env = |name: &str| command.env.get(name).filter(|value| !value.is_empty()).cloned();
        match name {
            "uvicorn" => {
                self.first
                    .insert(0, option(words, &["--app-dir"]).or_else(|| env("UVICORN_APP_DIR")).unwrap_or_else(cwd));
                self.target(positional(words, &UVICORN_FLAGS).or_else(|| env("UVICORN_APP")), None);
                for (flag, value, module) in [
                    ("--loop", "uvloop", "uvloop"),
                    ("--http", "httptools", "httptools"),
                    ("--ws", "wsproto", "wsproto"),
                ] {
                    if option(words, &[flag]).as_deref() == Some(value) {
                        self.want(module, None, &format!("{flag} {value}"));
                    }
                }
                if let Some(file) = option(words, &["--env-file"]) {
                    self.want("dotenv", None, &format!("--env-file {file}"));
                }
                self.file(words, &["--log-config"]);
            }
            "gunicorn" => self.gunicorn(words, command),
            "hypercorn" | "daphne" | "granian" | "waitress-serve" => {
                self.first.insert(0, cwd());
                let target = words.iter().find(|word| is_target(word) || is_target(strip_kind(word))).cloned();
                self.target(target.map(|target| strip_kind(&target).to_owned()), None);
            }
            "fastapi" => {
                for module in ["fastapi_cli", "uvicorn"] {
                    self.want(module, None, "fastapi run");
                }
                let path = words.iter().skip(1).find(|word| word.ends_with(".py"));
                if let Some(path) = path {
                    self.scripts.push(Script { path: path.clone(), main: false });
                }
            }
            "flask" => {
                self.first.insert(0, cwd());
                let app = option(words, &["--app", "-A"]).or_else(|| env("FLASK_APP"));
                if let Some(app) = app {
                    let (module, attribute) = app.split_once(':').map_or((app.as_str(), None), |(m, a)| (m, Some(a)));
                    if module.ends_with(".py") {
                        self.scripts.push(Script { path: module.to_owned(), main: false });
                    } else {
                        self.want(module, attribute, &format!("flask --app {app}"));
                    }
                }
            }
            "celery" => {
                self.first.insert(0, option(words, &["--workdir"]).unwrap_or_else(cwd));
                if let Some(app) = option(words, &["-A", "--app"]) {
                    let (module, attribute) = app.split_once(':').map_or((app.as_str(), None), |(m, a)| (m, Some(a)));
                    // A dotted name may also end in the attribute.
                    if attribute.is_some() || !module.contains('.') {
                        self.want(module, attribute, &format!("celery -A {app}"));
                    }
                }
            }
            _ if as_module => {}
            _ => {}
        }
    }

    fn gunicorn(&mut self, words: &[String], command: &Argv) {
        let mut all: Vec<String> = Vec::new();
        if let Some(more) = command.env.get("GUNICORN_CMD_ARGS") {
            all.extend(more.split_whitespace().map(str::to_owned));
        }
        all.extend_from_slice(words);
        let dir = option(&all, &["--chdir"]).unwrap_or_else(|| command.cwd.clone());
        self.first.insert(0, dir);
        for path in option(&all, &["--pythonpath"]).iter().flat_map(|paths| paths.split(',')) {
            self.first.insert(0, path.to_owned());
        }
        self.target(positional(words, &GUNICORN_FLAGS), Some("application"));
        if let Some(worker) = option(&all, &["-k", "--worker-class"]) {
            let words = format!("-k {worker}");
            self.worker = WORKERS.iter().find(|(name, _)| *name == worker).map(|(_, module)| *module);
            match worker.as_str() {
                "gevent" | "eventlet" | "tornado" => self.want(&worker, None, &words),
                "sync" | "gthread" => {}
                _ => {
                    if let Some((module, class)) = worker.rsplit_once('.').filter(|_| is_dotted(&worker)) {
                        self.want(module, Some(class), &words);
                    }
                }
            }
        }
        let config = option(&all, &["-c", "--config"]);
        self.settings = Some(config.clone().unwrap_or_else(|| "gunicorn.conf.py".into()));
        if let Some(file) = config.filter(|file| !file.starts_with("python:")) {
            let path = file.strip_prefix("file:").unwrap_or(&file).to_owned();
            self.settings = Some(path.clone());
            self.files.push((format!("-c {file}"), path));
        }
    }

    fn file(&mut self, words: &[String], names: &[&str]) {
        if let Some(path) = option(words, names) {
            self.files.push((format!("{} {path}", names.last().unwrap_or(&"")), path));
        }
    }

    /// `module:attribute`, `module:factory()`
    fn target(&mut self, word: Option<String>, default: Option<&str>) {
        let Some(word) = word else { return };
        let (module, attribute) = match word.split_once(':') {
            Some((module, attribute)) => (module, Some(attribute).filter(|attribute| !attribute.is_empty())),
            None => (word.as_str(), None),
        };
        if is_dotted(module) && (attribute.is_some() || default.is_some()) {
            self.want(module, attribute.or(default), &word);
        }
    }

    fn want(&mut self, module: &str, attribute: Option<&str>, words: &str) {
        if !is_dotted(module) {
            return;
        }
        // `factory()` and `app.wsgi` start with a name of the module.
        let attribute =
            attribute.map(|attribute| attribute.split(['.', '(', '[']).next().unwrap_or(attribute).trim().to_owned());
        self.wanted.push(Wanted {
            module: module.to_owned(),
            attribute: attribute.filter(|attribute| is_identifier(attribute)),
            words: words.to_owned(),
        });
    }
}

/// Options of uvicorn that take no value.
const UVICORN_FLAGS: [&str; 14] = [
    "--reload",
    "--access-log",
    "--no-access-log",
    "--use-colors",
    "--no-use-colors",
    "--proxy-headers",
    "--no-proxy-headers",
    "--server-header",
    "--no-server-header",
    "--date-header",
    "--no-date-header",
    "--version",
    "--help",
    "--factory",
];
/// Options of gunicorn that take no value.
const GUNICORN_FLAGS: [&str; 25] = [
    "--reload",
    "--preload",
    "--check-config",
    "--print-config",
    "-R",
    "--enable-stdio-inheritance",
    "--capture-output",
    "--log-syslog",
    "-D",
    "--daemon",
    "--spew",
    "--no-sendfile",
    "--proxy-protocol",
    "--reuse-port",
    "--initgroups",
    "--strip-header-spaces",
    "--do-handshake-on-connect",
    "--suppress-ragged-eofs",
    "--disable-redirect-access-to-syslog",
    "--permit-obsolete-folding",
    "--permit-unconventional-http-method",
    "--permit-unconventional-http-version",
    "--casefold-http-method",
    "-v",
    "--version",
];

/// Gunicorn's kinds of workers, by the modules that they are in; these import more than the package they are called by.
const WORKERS: [(&str, &str); 7] = [
    ("asgi", "gunicorn.workers.gasgi"),
    ("eventlet", "gunicorn.workers.geventlet"),
    ("gevent", "gunicorn.workers.ggevent"),
    ("gevent_pywsgi", "gunicorn.workers.ggevent"),
    ("gevent_wsgi", "gunicorn.workers.ggevent"),
    ("gthread", "gunicorn.workers.gthread"),
    ("tornado", "gunicorn.workers.gtornado"),
];

/// The first word that is neither an option nor an option's value.
fn positional(words: &[String], flags: &[&str]) -> Option<String> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        if word == "--" {
            return words.get(at).cloned();
        }
        if !word.starts_with('-') {
            return Some(word.clone());
        }
        let is_flag = flags.contains(&word.as_str());
        let holds_value = word.contains('=') || !word.starts_with("--") && word.len() > 2;
        if !is_flag && !holds_value {
            at += 1;
        }
    }
    None
}

/// An option's value: `--name value`, `--name=value`, `-nvalue`. The last one holds.
fn option(words: &[String], names: &[&str]) -> Option<String> {
    let mut found = None;
    for (at, word) in words.iter().enumerate() {
        for name in names {
            if word == name {
                found = words.get(at + 1).cloned();
            } else if let Some(rest) = word.strip_prefix(name) {
                if let Some(value) = rest.strip_prefix('=') {
                    found = Some(value.to_owned());
                } else if !name.starts_with("--") {
                    found = Some(rest.to_owned());
                }
            }
        }
    }
    found
}

/// The words without those that only start the program. Those that choose an environment of their own (`poetry run`, `uv run`)
/// stay: which Python that is cannot be told.
fn unwrap(words: &[String]) -> &[String] {
    let mut words = words;
    // A chain of a few at most.
    for _ in 0..8 {
        let Some((first, rest)) = words.split_first() else { return words };
        let name = base_name(first);
        let own = match WRAPPERS.iter().find(|(wrapper, _)| *wrapper == name) {
            Some((_, own)) => *own,
            None => return words,
        };
        let mut rest = rest.get(own..).unwrap_or_default();
        // Options without values, `--`, and env's assignments.
        while rest.first().is_some_and(|word| word.starts_with('-') || name == "env" && word.contains('=')) {
            rest = rest.get(1..).unwrap_or_default();
        }
        words = rest;
    }
    words
}

/// `asgi:module:app` of hypercorn.
fn strip_kind(word: &str) -> &str {
    ["asgi:", "wsgi:", "--call="].iter().find_map(|kind| word.strip_prefix(kind)).unwrap_or(word)
}

fn is_target(word: &str) -> bool {
    word.split_once(':').is_some_and(|(module, attribute)| {
        is_dotted(module) && is_dotted(attribute.split('(').next().unwrap_or_default())
    })
}

fn is_dotted(name: &str) -> bool {
    !name.is_empty() && name.split('.').all(is_identifier)
}

fn is_identifier(name: &str) -> bool {
    name.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Whether a program's name is an interpreter's.
pub(super) fn is_python(name: &str) -> bool {
    name.strip_prefix("python").is_some_and(|rest| {
        rest.is_empty()
            || rest == "3"
            || rest.strip_prefix("3.").is_some_and(|n| n.trim_end_matches('t').parse::<u8>().is_ok())
    })
}

/// The last part of a path.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The directory of a path, `.` where it has none.
fn directory_of(path: &str) -> String {
    match path.rsplit_once('/') {
        Some(("", _)) => "/".into(),
        Some((directory, _)) => directory.to_owned(),
        None => ".".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, env: &[(&str, &str)]) -> Launch {
        Launch::read(&Argv {
            argv: line.split(' ').map(str::to_owned).collect(),
            cwd: "/app".into(),
            env: env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        })
    }

    #[test]
    fn targets_of_servers() {
        for (line, first, wanted) in [
            ("uvicorn main:app", "/app", "main:app"),
            ("uvicorn --host 0.0.0.0 --port 8000 --reload src.main:app --workers 2", "/app", "src.main:app"),
            ("/venv/bin/uvicorn --factory --app-dir src main:create --loop uvloop", "src", "main:create uvloop"),
            ("uvicorn main", "/app", ""),
            ("python -m uvicorn main:app", "/app,/app", "main:app"),
            ("python3 -u -W ignore -m uvicorn main:app", "/app,/app", "main:app"),
            ("tini -- gunicorn -w 4 -b :8000 project.wsgi", "/app", "project.wsgi:application"),
            (
                "gunicorn --chdir src -k uvicorn.workers.UvicornWorker main:app.x",
                "src",
                "main:app uvicorn.workers:UvicornWorker",
            ),
            ("gunicorn -kgevent --preload app:create_app('prod')", "/app", "app:create_app gevent"),
            ("gunicorn --worker-class=egg:x#y app:app", "/app", "app:app"),
            ("hypercorn --bind 0.0.0.0:80 asgi:main:app", "/app", "main:app"),
            ("daphne -b 0.0.0.0 -p 80 project.asgi:application", "/app", "project.asgi:application"),
            ("granian --interface asgi --host 0.0.0.0 main:app", "/app", "main:app"),
            ("flask --app hello:create run", "/app", "hello:create"),
            ("flask --app src/hello.py run", "/app", ""),
            ("celery -A proj worker -l info", "/app", "proj"),
            ("celery --app=proj.app:celery beat", "/app", "proj.app:celery"),
            ("env A=b -S gosu app nice uvicorn main:app", "/app", "main:app"),
            ("newrelic-admin run-program uvicorn main:app", "/app", "main:app"),
            ("sh -c x:y", "", ""),
        ] {
            let launch = read(line, &[]);
            let names: Vec<String> = launch
                .wanted
                .iter()
                .map(|want| match &want.attribute {
                    Some(attribute) => format!("{}:{attribute}", want.module),
                    None => want.module.clone(),
                })
                .collect();
            assert_eq!((launch.first.join(",").as_str(), names.join(" ").as_str()), (first, wanted), "{line}");
        }
        let launch = read("flask run", &[("FLASK_APP", "web:app")]);
        assert_eq!(launch.wanted.first().map(|want| want.module.as_str()), Some("web"));
        let launch = read("gunicorn -c conf.py", &[("GUNICORN_CMD_ARGS", "--chdir /srv")]);
        assert_eq!((launch.first.join(","), launch.files.len()), ("/srv".to_owned(), 1));
    }

    #[test]
    fn what_the_interpreter_runs() {
        for (line, script, module, first) in [
            ("python manage.py runserver", "manage.py", "", "."),
            ("python3.10 -O /srv/app/main.py", "/srv/app/main.py", "", "/srv/app"),
            ("python -m pkg.cli -m x", "", "pkg.cli", "/app"),
            ("python -mpkg", "", "pkg", "/app"),
            ("python -I -m pkg", "", "pkg", ""),
            ("python -c 1", "", "", "/app"),
            ("python -Ic 1", "", "", ""),
            ("python -Wc main.py", "main.py", "", "."),
            ("python", "", "", ""),
            ("python /main.py", "/main.py", "", "/"),
        ] {
            let code = read(line, &[]).code;
            assert_eq!(code.as_deref(), line.contains("c 1").then_some("1"), "{line}");
            let launch = read(line, &[]);
            assert!(launch.interpreter.is_some());
            let found = launch.scripts.first().map_or("", |script| &script.path);
            assert_eq!((found, launch.run_module.as_deref().unwrap_or("")), (script, module), "{line}");
            assert_eq!(launch.first.join(","), first, "{line}");
        }
    }
}
