//! Projects and what is made of them, in tables; every recipe passes the checks without a warning.

use super::*;
use crate::Severity;

fn project(files: &[(&str, &str)]) -> Project {
    let text = |text: &str| Some(text.to_owned());
    Project { files: files.iter().map(|(path, content)| ((*path).to_owned(), text(content))).collect() }
}

/// The Dockerfile of a project, which must have no warning, and the notes.
fn made(files: &[(&str, &str)], wishes: &Wishes) -> (String, String) {
    let made = init(&project(files), wishes).unwrap();
    let text = made.files[0].1.clone();
    let parsed = kuz_dockerfile::parse(text.as_bytes());
    let mut findings = kuz_dockerfile::lint(&parsed.file);
    findings.extend(parsed.diagnostics);
    findings.retain(|finding| finding.severity >= Severity::Warning);
    assert!(findings.is_empty(), "{text}\n{findings:?}");
    (text, made.notes.join("\n"))
}

const FASTAPI: &str = "from fastapi import FastAPI\n\napp = FastAPI()\n";
const FLASK: &str = "from flask import Flask\napp = Flask(__name__)\n";

#[test]
fn applications_are_found_by_their_text() {
    for (files, want) in [
        (
            &[("main.py", FASTAPI)] as &[(&str, &str)],
            r#"CMD ["uvicorn", "main:app", "--host", "0.0.0.0", "--port", "8000"]"#,
        ),
        (&[("main.py", "import fastapi\napi: fastapi.FastAPI = fastapi.FastAPI(\n  title='x')\n")], "\"main:api\""),
        (&[("app/main.py", FASTAPI), ("app/__init__.py", "")], "\"app.main:app\""),
        (&[("src/shop/main.py", FASTAPI), ("src/shop/__init__.py", "")], "ENV PYTHONPATH=/app/src"),
        (&[("src/shop/main.py", FASTAPI), ("src/shop/__init__.py", "")], "\"shop.main:app\""),
        (&[("shop/__init__.py", FASTAPI)], "\"shop:app\""),
        (&[("back-end/main.py", FASTAPI)], "ENV PYTHONPATH=/app/back-end"),
        (
            &[
                ("service/main.py", "from models import x\nfrom fastapi import FastAPI\napp = FastAPI()\n"),
                ("service/models.py", ""),
            ],
            "ENV PYTHONPATH=/app/service",
        ),
        (
            &[("main.py", "from fastapi import FastAPI\ndef create_app():\n    app = FastAPI()\n    return app\n")],
            "\"main:create_app\", \"--host\", \"0.0.0.0\", \"--port\", \"8000\", \"--factory\"",
        ),
        (
            &[("main.py", "\"\"\"\napp = FastAPI()\n\"\"\"\nfrom fastapi import FastAPI\nreal = FastAPI()\n")],
            "\"main:real\"",
        ),
        (&[("tests/main.py", FASTAPI), ("web.py", "app = Starlette()\n")], "\"web:app\""),
        (
            &[("main.py", "app = FastAPI()\nif __name__ == '__main__':\n    uvicorn.run(app, port=9001)\n")],
            "EXPOSE 9001",
        ),
        (&[("main.py", "print('hello')\n")], "CMD [\"python\", \"main.py\"]"),
    ] {
        let files = [files, &[("libraries.list", "fastapi\nuvicorn\n")]].concat();
        let (text, _) = made(&files, &Wishes::default());
        assert!(text.contains(want), "{want} is not in\n{text}");
    }
}

#[test]
fn servers_are_those_that_are_installed() {
    for (list, source, want, note) in [
        ("flask\ngunicorn\n", FLASK, r#"CMD ["gunicorn", "--bind", "0.0.0.0:8000", "main:app"]"#, ""),
        ("flask\nwaitress\n", FLASK, "\"waitress-serve\", \"--host\"", ""),
        ("flask\n", FLASK, "RUN pip install --no-cache-dir gunicorn", "add it to the list"),
        ("fastapi[standard]\n", FASTAPI, "/usr/local/bin/uvicorn /usr/local/bin/uvicorn", ""),
        ("starlette\nhypercorn\n", FASTAPI, "\"hypercorn\", \"--bind\", \"0.0.0.0:8000\"", ""),
        ("fastapi\ngranian\n", FASTAPI, "\"--interface\", \"asgi\"", ""),
        ("fastapi\n", FASTAPI, "RUN pip install --no-cache-dir uvicorn", "installs uvicorn"),
    ] {
        let (text, notes) = made(&[("requirements.txt", list), ("main.py", source)], &Wishes::default());
        assert!(text.contains(want) && notes.contains(note), "{want} is not in\n{text}\n{notes}");
        assert!(!note.is_empty() || notes.is_empty(), "{notes}");
    }
    let django = [
        ("requirements.txt", "Django\ngunicorn\n"),
        ("manage.py", ""),
        ("shop/wsgi.py", "application = get_wsgi_application()\n"),
        ("shop/asgi.py", "application = get_asgi_application()\n"),
    ];
    let (text, notes) = made(&django, &Wishes::default());
    assert!(text.contains("\"shop.wsgi:application\"") && notes.contains("collectstatic"), "{text}{notes}");
    let (text, _) = made(&[&[("requirements.txt", "Django\nuvicorn\n")], &django[1..]].concat(), &Wishes::default());
    assert!(text.contains("\"shop.asgi:application\""), "{text}");
}

#[test]
fn lists_are_copied_before_the_source() {
    let app = ("main.py", FASTAPI);
    let lock = "[[package]]\nname = \"me\"\nsource = { virtual = \".\" }\ndependencies = [{ name = \"uvicorn\" }, { name = \"psycopg\", extra = [\"binary\"] }]\n[package.dev-dependencies]\ndev = [{ name = \"gunicorn\" }]\n[[package]]\nname = \"uvicorn\"\ndependencies = [{ name = \"gitpython\" }]\n[[package]]\nname = \"gitpython\"\n[[package]]\nname = \"psycopg\"\n[[package]]\nname = \"gunicorn\"\n";
    for (files, want, not) in [
        (
            &[("libraries.list", "uvicorn")] as &[(&str, &str)],
            "COPY libraries.list .\nRUN pip install --no-cache-dir -r libraries.list\n",
            "apt-get",
        ),
        (
            &[
                ("requirements.txt", "-r more/a.txt\n-c c.txt\nuvicorn"),
                ("more/a.txt", "psycopg2==2\n"),
                ("c.txt", "mysqlclient==2"),
            ],
            "COPY requirements.txt c.txt ./\nCOPY more/a.txt ./more/\n",
            "libmariadb3",
        ),
        (
            &[("requirements.txt", "-r more/a.txt\n-c c.txt\nuvicorn"), ("more/a.txt", "psycopg2==2\n"), ("c.txt", "")],
            "--no-install-recommends libpq5 ",
            "-dev",
        ),
        (&[("requirements/base.txt", "uvicorn\nxmlsec")], "libxmlsec1-dev", "wkhtml"),
        (
            &[(
                "pyproject.toml",
                "[project]\ndependencies = ['uvicorn', 'psycopg[binary]']\nrequires-python = '>=3.12'\n",
            )],
            "FROM python:3.12-slim",
            "apt-get",
        ),
        (&[("pyproject.toml", "[project]\n"), ("uv.lock", lock)], "uv export --frozen", "libpq5"),
        (&[("pyproject.toml", "[project]\n"), ("uv.lock", lock)], "--no-install-recommends git ", "gunicorn"),
    ] {
        let (text, _) = made(&[files, &[app]].concat(), &Wishes::default());
        assert!(text.contains(want) && !text.contains(not), "{want} is not in, or {not} is in\n{text}");
        let install = text.find("pip install").unwrap();
        assert!(text.find("COPY . .").unwrap() > install);
    }
}

#[test]
fn wishes_come_first() {
    let files = [("requirements.txt", "flask\ngunicorn\n"), ("main.py", FLASK), ("other.py", FLASK)];
    let wish = |app: &str| Wishes { app: Some(app.to_owned()), port: Some(81), python: Some("3.13".to_owned()) };
    let (text, notes) = made(&files, &wish("other:app"));
    assert!(
        text.contains("\"0.0.0.0:81\", \"other:app\"")
            && text.contains("FROM python:3.13 AS builder")
            && notes.is_empty(),
        "{text}{notes}"
    );
    let (text, notes) = made(&files, &wish("pkg.x:make()"));
    assert!(text.contains("\"pkg.x:make()\"") && notes.contains("was not found"), "{text}{notes}");
    let (text, _) = made(&files, &wish("jobs/run.py"));
    assert!(text.contains("CMD [\"python\", \"jobs/run.py\"]"), "{text}");
    let (_, notes) = made(&files, &Wishes::default());
    assert!(notes.contains("there is also other:app"), "{notes}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let app = ("main.py", FASTAPI);
    let none = Wishes::default();
    for (files, wishes, want) in [
        (&[app] as &[(&str, &str)], &none, "found no libraries.list"),
        (&[app, ("Pipfile", "")], &none, "pipenv requirements"),
        (&[app, ("pyproject.toml", "[tool.poetry.dependencies]\n")], &none, "poetry export"),
        (&[app, ("pyproject.toml", "[x")], &none, "cannot be read"),
        (&[app, ("requirements.txt", "-r gone.txt")], &none, "names `gone.txt`"),
        (&[("x.py", ""), ("requirements.txt", "a")], &none, "found no application"),
        (&[("requirements.txt", "a")], &Wishes { app: Some("x y:z".into()), ..none.clone() }, "is no application"),
        (&[("requirements.txt", "a")], &Wishes { python: Some("2.7".into()), ..none.clone() }, "is no version"),
    ] {
        let error = init(&project(files), wishes).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    assert_eq!(existing(&project(&[("a/Dockerfile", "")])), Ok(()));
    for file in ["Dockerfile", ".dockerignore"] {
        assert_eq!(existing(&project(&[(file, "")])), Err(InitError::Exists(file.to_owned())));
    }
}

#[test]
fn a_directory_is_listed_within_its_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("app/main.py", FASTAPI);
    write("app/logo.png", "x");
    write(".git/config", "x");
    write("python/pyvenv.cfg", "");
    write("python/lib/x.py", FLASK);
    write("node_modules/a/x.py", FLASK);
    write(".dockerignore", "");
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link.py")).unwrap();
    let project = read(dir.path()).unwrap();
    let files: Vec<(&str, bool)> = project.files.iter().map(|(path, text)| (path.as_str(), text.is_some())).collect();
    assert_eq!(files, [(".dockerignore", false), ("app/logo.png", false), ("app/main.py", true), ("link.py", false)]);
}
