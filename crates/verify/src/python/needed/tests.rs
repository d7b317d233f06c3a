//! Small images as tables: the command, what is in the image beside the usual, and what is left over.

use std::collections::HashSet;

use kuz_image::Node;

use super::{Files, Installed, unneeded};
use crate::facts::Path;
use crate::testing::{Entry, Made, config, dir, file, link, program, subject};

const SITE: &str = "usr/local/lib/python3.10/site-packages";

/// A distribution: its files below `site-packages`, with their text, and lines of its metadata.
fn distribution(name: &str, files: &[(&str, &str)], metadata: &str, entry_points: &str) -> Vec<Entry> {
    let info = format!("{name}-1.0.dist-info");
    let mut all: Vec<Entry> = files.iter().map(|(path, text)| file(&format!("{SITE}/{path}"), text)).collect();
    let mut paths: Vec<String> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
    all.push(file(
        &format!("{SITE}/{info}/METADATA"),
        format!("Name: {name}\nVersion: 1.0\n{metadata}\n\nRequires-Dist: text\n"),
    ));
    paths.push(format!("{info}/METADATA"));
    if !entry_points.is_empty() {
        all.push(file(&format!("{SITE}/{info}/entry_points.txt"), entry_points));
        for line in entry_points.lines().skip_while(|line| *line != "[console_scripts]").skip(1) {
            let (name, module) = line.split_once('=').unwrap();
            let module = module.split(':').next().unwrap();
            all.push(program(
                &format!("usr/local/bin/{name}"),
                format!("#!/usr/local/bin/python3.10\nimport {module}\n"),
            ));
            paths.push(format!("../../../bin/{name}"));
        }
    }
    all.push(file(&format!("{SITE}/{info}/RECORD"), paths.join(",,\n") + ",,\n"));
    all
}

fn simple(name: &str, files: &[(&str, &str)]) -> Vec<Entry> {
    distribution(name, files, "", "")
}

/// The two-stage recipe: `FastAPI` under uvicorn, with what the base image has.
fn recipe() -> Vec<Entry> {
    let mut all = vec![
        program("usr/local/bin/python3.10", Made::default().bytes()),
        link("usr/local/bin/python3", "python3.10"),
        link("usr/local/bin/python", "python3"),
        program("bin/sh", Made::default().bytes()),
        file("usr/local/lib/python3.10/os.py", "import anything\n"),
        file("usr/local/lib/python3.10/runpy.py", "importlib.import_module(name)\n"),
        file(&format!("{SITE}/README.txt"), "text"),
        file(&format!("{SITE}/distutils-precedence.pth"), "import os; __import__('_distutils_hack').add_shim()\n"),
        dir("app"),
    ];
    for (name, files, metadata, entry_points) in [
        (
            "pip",
            vec![("pip/__init__.py", ""), ("pip/_internal/x.py", "import setuptools")],
            "",
            "[console_scripts]\npip=pip:main",
        ),
        (
            "setuptools",
            vec![
                ("setuptools/__init__.py", "import _distutils_hack"),
                ("_distutils_hack/__init__.py", ""),
                ("pkg_resources/__init__.py", ""),
            ],
            "Requires-Dist: pytest ; extra == 'testing'",
            "[distutils.commands]\nbuild=setuptools:build",
        ),
        (
            "fastapi",
            vec![("fastapi/__init__.py", "from starlette import x")],
            "Requires-Dist: pydantic (>=1)\nRequires-Dist: pytest ; extra == 'test'",
            "",
        ),
        ("starlette", vec![("starlette/__init__.py", "try:\n  import anyio\nexcept ImportError:\n  pass")], "", ""),
        (
            "pydantic",
            vec![("pydantic/main.py", "import typing_extensions"), ("pydantic/mypy.py", "import mypy")],
            "",
            "",
        ),
        ("typing_extensions", vec![("typing_extensions.py", "")], "", ""),
        (
            "anyio",
            vec![
                ("anyio/__init__.py", ""),
                ("anyio/pytest_plugin.py", "import pytest"),
                ("anyio/tests/test_x.py", "import black"),
            ],
            "Requires-Dist: idna>=2.8",
            "[pytest11]\nanyio = anyio.pytest_plugin",
        ),
        ("idna", vec![("idna/core.py", "")], "", ""),
        (
            "uvicorn",
            vec![("uvicorn/main.py", "import click")],
            "Requires-Dist: h11>=0.8\nRequires-Dist: asgiref ; python_version < '3.7'\nRequires-Dist: websockets ; extra == 'standard'",
            "[console_scripts]\nuvicorn=uvicorn.main:main",
        ),
        ("click", vec![("click/core.py", "")], "", ""),
        ("h11", vec![("h11/_util.py", "")], "", ""),
        ("asgiref", vec![("asgiref/sync.py", "")], "", ""),
    ] {
        all.extend(distribution(name, &files, metadata, entry_points));
    }
    all
}

const APP: &str = "from fastapi import FastAPI\napp = FastAPI()\n";
const UVICORN: &str = r#""Cmd":["uvicorn","main:app"]"#;

/// Names of what nothing needs; `None` where that is not said.
fn left(json: &str, layers: &[Vec<Entry>], system: &[&str]) -> Option<String> {
    let config = config(&format!(r#"{{"WorkingDir":"/app",{json}}}"#));
    let subject = subject(&config, layers, &[]);
    let mut seen: Vec<(usize, &[u8])> = Vec::new();
    for (number, layer) in subject.stack.layers().iter().enumerate() {
        let files = layer.entries.iter().filter(|(_, entry)| matches!(entry.node, Node::File { .. }));
        let shown = files.filter(|(path, _)| subject.stack.find(path).is_some_and(|(found, _)| found == number));
        seen.extend(shown.map(|(path, _)| (number, path.as_slice())));
    }
    let lists: Vec<(Vec<u8>, Vec<Path>)> = seen
        .iter()
        .filter(|(_, path)| path.ends_with(b"/RECORD"))
        .map(|(_, path)| {
            let text = String::from_utf8(subject.kept(path).unwrap().to_vec()).unwrap();
            let files = text.lines().map(|line| line.split(',').next().unwrap());
            let files = files.map(|file| match file.strip_prefix("../../../") {
                Some(file) => format!("usr/local/{file}").into_bytes(),
                None => format!("{SITE}/{file}").into_bytes(),
            });
            (path[..path.len() - "/RECORD".len()].to_vec(), files.collect())
        })
        .collect();
    let distributions: Vec<Installed<'_>> = lists.iter().map(|(info, files)| Installed { info, files }).collect();
    let system: HashSet<&[u8]> = system.iter().map(|path| path.as_bytes()).collect();
    let found = unneeded(&subject, &Files { seen: &seen, distributions: &distributions, system })?;
    let name = |info: &[u8]| String::from_utf8_lossy(&info[SITE.len() + 1..]).split('-').next().unwrap().to_owned();
    let mut names: Vec<String> =
        distributions.iter().zip(found).filter(|(_, unneeded)| *unneeded).map(|(it, _)| name(it.info)).collect();
    names.sort();
    Some(names.join(" "))
}

/// What is left of the recipe whatever else is in it.
const USUAL: [&str; 3] = ["asgiref", "pip", "setuptools"];

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn what_nothing_needs_is_left_over() {
    let none = || Vec::new();
    let one = |name: &str| simple(name, &[(&format!("{name}/__init__.py"), "")]);
    let all = |parts: Vec<Vec<Entry>>| parts.concat();
    for (name, app, more, rest) in [
        ("the recipe", APP, none(), "asgiref pip setuptools"),
        (
            "tools of requirements",
            APP,
            all(vec![one("pytest"), one("black"), one("mypy")]),
            "asgiref black mypy pip pytest setuptools",
        ),
        (
            "in a function",
            "def f():\n  import black.x\n",
            one("black"),
            "anyio asgiref fastapi idna pip pydantic setuptools starlette typing_extensions",
        ),
        (
            "in a handler",
            &format!("{APP}try:\n  import a\nexcept ImportError:\n  from black import b\n"),
            one("black"),
            "asgiref pip setuptools",
        ),
        (
            "in a string",
            &format!("{APP}INSTALLED_APPS = ['x'] + ['black.apps.Config']\n"),
            one("black"),
            "asgiref pip setuptools",
        ),
        (
            "a part of a name in a string",
            &format!("{APP}CACHES = 'starlette.backends.black.Cache'\n"),
            one("black"),
            "asgiref pip setuptools",
        ),
        (
            "a part of what is imported",
            &format!("{APP}from starlette.backends import black\n"),
            one("black"),
            "asgiref pip setuptools",
        ),
        (
            "a program in a string",
            &format!("{APP}def f():\n  run(['black-cli', '-q'])\n"),
            distribution("black", &[("black/a.py", "")], "", "[console_scripts]\nblack-cli=black:main"),
            "asgiref pip setuptools",
        ),
        ("a literal import", &format!("{APP}import_module('black')\n"), one("black"), "asgiref pip setuptools"),
        ("distutils", &format!("{APP}import distutils.version\n"), none(), "asgiref pip"),
        ("an extra", APP, one("websockets"), "asgiref pip setuptools"),
        (
            "an extra that is asked for",
            &format!("{APP}import wants\n"),
            all(vec![
                distribution("wants", &[("wants.py", "")], "Requires-Dist: setuptools[testing]", ""),
                one("pytest"),
            ]),
            "asgiref pip",
        ),
        (
            "a requirement of another Python",
            APP,
            distribution("click", &[("click/core.py", "")], "Requires-Dist: asgiref; python_version < '3.8'", ""),
            "asgiref pip setuptools",
        ),
        (
            "a marker that cannot be told",
            APP,
            distribution("click", &[("click/core.py", "")], "Requires-Dist: asgiref; platform_release > '5'", ""),
            "pip setuptools",
        ),
        (
            "a plugin",
            APP,
            distribution("extra", &[("extra/x.py", "import black")], "", "[starlette.things]\na = extra.x:f"),
            "asgiref pip setuptools",
        ),
        (
            "a plugin of the application",
            APP,
            distribution("extra", &[("extra/x.py", "")], "", "[main.things]\na = extra.x:f"),
            "asgiref pip setuptools",
        ),
        (
            "a plugin of a group that is named",
            &format!("{APP}entry_points(group='their-things')\n"),
            distribution("extra", &[("extra/x.py", "")], "", "[their-things]\na = extra.x:f"),
            "asgiref pip setuptools",
        ),
        (
            "a plugin of nobody",
            APP,
            distribution("extra", &[("extra/x.py", "")], "", "[others.things]\na = extra.x:f"),
            "asgiref extra pip setuptools",
        ),
        (
            "a tool that is needed, with its plugins",
            &format!("{APP}import pytest\n"),
            all(vec![one("pytest"), distribution("cov", &[("cov.py", "")], "", "[pytest11]\nc = cov")]),
            "asgiref pip setuptools",
        ),
        (
            "a line that site runs",
            APP,
            simple("hook", &[("hook.pth", "import hook\n"), ("hook.py", "import black")]),
            "asgiref pip setuptools",
        ),
        (
            "a namespace's line",
            APP,
            simple("spaced", &[("spaced-nspkg.pth", "import sys, spaced\n"), ("spaced/x.py", "")]),
            "asgiref pip setuptools spaced",
        ),
        (
            "what coverage waits for",
            APP,
            simple("coverage", &[("a1_coverage.pth", "import coverage\n"), ("coverage/x.py", "")]),
            "asgiref coverage pip setuptools",
        ),
        ("time zones", &format!("{APP}from zoneinfo import ZoneInfo\n"), one("tzdata"), "asgiref pip setuptools"),
        (
            "a namespace",
            &format!("{APP}import google.a\n"),
            all(vec![simple("google_a", &[("google/a/x.py", "")]), simple("google_b", &[("google/c/x.py", "")])]),
            "asgiref pip setuptools",
        ),
        (
            "a broken source of a package",
            APP,
            simple("click", &[("click/core.py", "def (:\n")]),
            "asgiref pip setuptools",
        ),
        (
            "a function of a package",
            APP,
            all(vec![simple("click", &[("click/core.py", "def f():\n  import black\n")]), one("black")]),
            "asgiref black pip setuptools",
        ),
        (
            "what loads by made names in a package",
            APP,
            simple("click", &[("click/core.py", "import_module(x)\n")]),
            "asgiref pip setuptools",
        ),
    ] {
        let layers = [recipe(), more, vec![file("app/main.py", app)]];
        assert_eq!(left(UVICORN, &layers, &[]).as_deref(), Some(rest), "{name}");
    }
}

#[test]
fn libraries_that_others_load_are_needed() {
    let library = |path: &str, made: Made<'_>| file(&format!("{SITE}/{path}"), made.bytes());
    let needs = Made { needed: &["libx-1.so.0"], ..Made::default() };
    let mut layer = recipe();
    for (name, path, made) in [("ext", "ext/_c.so", needs), ("libs", "libs.libs/libx-1.so.0", Made::default())] {
        layer.extend(simple(name, &[(path, "")]));
        layer.push(library(path, made));
    }
    layer.extend(simple("other", &[("other.libs/liby.so", "")]));
    layer.push(library("other.libs/liby.so", Made::default()));
    layer.push(file("app/main.py", format!("{APP}import ext\n")));
    assert_eq!(left(UVICORN, &[layer], &[]).as_deref(), Some("asgiref other pip setuptools"));
}

#[test]
fn the_command_names_what_it_needs() {
    let gunicorn = distribution(
        "gunicorn",
        &[("gunicorn/app.py", "")],
        "Requires-Dist: setuptools",
        "[console_scripts]\ngunicorn=gunicorn.app:run",
    );
    let whole = "anyio asgiref fastapi idna pip pydantic setuptools starlette typing_extensions";
    let server = format!("click gunicorn h11 uvicorn {whole}");
    let alone = format!("gunicorn {whole}");
    let gunicorn_alone = "anyio asgiref click fastapi h11 idna pip pydantic starlette typing_extensions uvicorn";
    let worker = "anyio asgiref fastapi idna pip pydantic starlette typing_extensions";
    let sorted = |names: &str| {
        let mut names: Vec<&str> = names.split(' ').collect();
        names.sort_unstable();
        names.join(" ")
    };
    for (json, rest) in [
        (r#""Cmd":["uvicorn","main:app"]"#, Some(alone.as_str())),
        (r#""Cmd":["python","-m","uvicorn","main:app"]"#, Some(&alone)),
        (r#""Cmd":["/usr/local/bin/python3","main.py"]"#, Some(&server)),
        (r#""Cmd":["python","-m","http.server"]"#, Some(&server)),
        (r#""Cmd":["python","-c","import uvicorn; uvicorn.run('main:app')"]"#, Some(&alone)),
        (r#""Cmd":["gunicorn","main:app"]"#, Some(gunicorn_alone)),
        (r#""Cmd":["gunicorn","-k","uvicorn.workers.UvicornWorker","main:app"]"#, Some(worker)),
        (r#""Cmd":["gunicorn","main:app"],"Env":["GUNICORN_CMD_ARGS=-k uvicorn.workers.UvicornWorker"]"#, Some(worker)),
        (
            r#""Cmd":["uvicorn","main:app"],"Env":["PYTHON_GET_PIP_URL=https://host/get-pip.py","PYTHON_PIP_VERSION=23.0.1"]"#,
            Some(&alone),
        ),
        (r#""Cmd":["/bin/sh","-c","mkdir -p /x && exec uvicorn main:app --port ${PORT:-80}"]"#, Some(&alone)),
        (
            r#""Cmd":["uvicorn","main:app"],"Healthcheck":{"Test":["CMD-SHELL","python -c 'import fastapi' || exit 1"]}"#,
            Some("asgiref gunicorn pip setuptools"),
        ),
        (r#""Cmd":["uvicorn","main:app"],"Healthcheck":{"Test":["CMD","/run.sh"]}"#, None),
        (r#""Cmd":["python"]"#, None),
        (r#""Cmd":["python","-"]"#, None),
        (r#""Cmd":["python","-c","__import__(input())"]"#, None),
        (r#""Cmd":["/run.sh"]"#, None),
        (r#""Entrypoint":["/run.sh"],"Cmd":["uvicorn","main:app"]"#, None),
        (r#""Cmd":["/own"]"#, None),
        (r#""Cmd":["sh","-c","/run.sh; uvicorn main:app"]"#, None),
        (r#""Cmd":["sh","-c","uvicorn $APP"]"#, None),
        (r#""Cmd":["sh","-c",". ./env; uvicorn main:app"]"#, None),
        (r#""Cmd":["sh","-c","if true; then uvicorn main:app; fi"]"#, None),
        (r#""Cmd":["uvicorn","main:app","--log-config","log.yaml"]"#, None),
        (r#""Cmd":["sleep","9"]"#, None),
        (r#""Cmd":["missing"]"#, None),
        ("\"Cmd\":[]", None),
    ] {
        let more = vec![
            program("run.sh", "#!/bin/sh\nexec \"$@\"\n"),
            program("own", "#!/usr/bin/env python3\nimport x\n"),
            program("bin/sleep", Made::default().bytes()),
            program("bin/mkdir", Made::default().bytes()),
            file("app/main.py", "x = 1\n"),
        ];
        let layers = [recipe(), gunicorn.clone(), more];
        assert_eq!(left(json, &layers, &[]), rest.map(sorted), "{json}");
    }
}

#[test]
fn nothing_is_said_where_anything_may_be_loaded() {
    let at_site = |path: &str, text: &str| file(&format!("{SITE}/{path}"), text);
    let extension = Made { exports: "PyInit_core", ..Made::default() }.bytes();
    let usual = USUAL.join(" ");
    let said = Some(usual.as_str());
    for (name, entry, system, expected) in [
        ("nothing more", file("app/text", ""), "", said),
        ("a made name", file("app/load.py", "importlib.import_module(name)\n"), "", None),
        (
            "the same of a package of the system",
            file("usr/share/x/load.py", "importlib.import_module(name)\n"),
            "usr/share/x/load.py",
            said,
        ),
        ("a broken source", file("app/x.py", "def (:\n"), "", None),
        ("another encoding", file("app/x.py", b"x = '\xff'\n"), "", None),
        ("a source of nobody among the packages", at_site("mine/x.py", "x = 1\n"), "", None),
        ("a shim of environments", at_site("_virtualenv.py", "x = 1\n"), "", said),
        ("what site loads", at_site("sitecustomize.py", "import pip\n"), "", Some("asgiref setuptools")),
        ("a compiled module", file("app/core.so", &extension), "", None),
        ("the interpreter's library", file("usr/local/lib/libpython3.10.so.1.0", &extension), "", said),
        ("bytecode alone", file("app/x.pyc", ""), "", None),
        ("bytecode beside its source", file("app/__pycache__/main.cpython-310.pyc", ""), "", said),
        ("an archive", file("app/x.pyz", ""), "", None),
    ] {
        let layers = [recipe(), vec![file("app/main.py", APP), entry]];
        assert_eq!(left(UVICORN, &layers, &[system]).as_deref(), expected, "{name}");
    }
    let unread = [recipe(), vec![file("app/main.py", APP), file(&format!("{SITE}/click/core.py"), b"x = '\xff'\n")]];
    assert_eq!(left(UVICORN, &unread, &[]), None, "an unread source of what is reached");
    let idle = [recipe(), vec![file("app/main.py", APP), file(&format!("{SITE}/asgiref/sync.py"), b"x = '\xff'\n")]];
    assert_eq!(left(UVICORN, &idle, &[]).as_deref(), said, "an unread source of what is not");
}

#[test]
fn metadata_without_a_list_of_files_leads_on() {
    let old = |requires: &str| {
        vec![
            file(&format!("{SITE}/old.py"), "x = 1\n"),
            file(&format!("{SITE}/old-1.egg-info/PKG-INFO"), format!("Name: old\n{requires}")),
            file(&format!("{SITE}/old-1.egg-info/top_level.txt"), "old\n"),
            file("app/main.py", format!("{APP}import old\n")),
        ]
    };
    let mut apart = old("");
    apart.push(file(&format!("{SITE}/old-1.egg-info/requires.txt"), "asgiref\n"));
    for (name, layer, rest) in [
        ("it requires nothing", old(""), Some("asgiref pip setuptools")),
        ("it requires something", old("Requires-Dist: asgiref\n"), Some("pip setuptools")),
        ("it says so elsewhere", apart, None),
    ] {
        assert_eq!(left(UVICORN, &[recipe(), layer], &[]).as_deref(), rest, "{name}");
    }
}
