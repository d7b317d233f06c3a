//! Tables of images: what is wrong in each, and that nothing is wrong in the sound ones.

use super::*;

/// Images of one app layer on [`PYTHON`] and [`UVICORN`], and for each the errors: a part of the line, none for sound.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("sound", "uvicorn main:app", "app/main.py: import click, json\\napp = 1", ""),
    ("sound package", "uvicorn pkg.main:app", "app/pkg/main.py: from .x import app\napp/pkg/x.py: app: int = 1", ""),
    (
        "no module",
        "uvicorn main:app",
        "app/other.py: app = 1",
        "PythonTargetNotFound `main:app` imports `main`, and there is no module `main` in /app",
    ),
    (
        "wrong directory",
        "uvicorn main:app",
        "app/src/main.py: app = 1",
        "it lies at /app/src/main.py: the command must start in /app/src, or have it in PYTHONPATH WORKDIR /app/src",
    ),
    ("app-dir", "uvicorn --app-dir src main:app", "app/src/main.py: app = 1", ""),
    (
        "no attribute",
        "uvicorn main:app",
        "app/main.py: application = FastAPI()",
        "PythonAttributeNotFound `main:app` takes `app` from /app/main.py, which binds no such name at module level (`application` is bound to `FastAPI()`) => name it in the command: `main:application`",
    ),
    ("attribute in a function", "uvicorn main:app", "app/main.py: def f():\\n    app = 1", "binds no such name"),
    ("global in a function", "uvicorn main:app", "app/main.py: def f():\\n    global app\\n    app = 1", ""),
    ("attribute in an if", "uvicorn main:app", "app/main.py: if 1 > 0:\\n    app = 1\\nelse:\\n    app = 2", ""),
    ("attribute by walrus", "uvicorn main:app", "app/main.py: print(app := 1)", ""),
    ("attribute by tuple", "uvicorn main:app", "app/main.py: (a, [app, *b]) = f()", ""),
    ("attribute by for", "uvicorn main:app", "app/main.py: for app in x:\\n    pass", ""),
    ("attribute by with", "uvicorn main:app", "app/main.py: with x as app:\\n    pass", ""),
    ("attribute by globals", "uvicorn main:app", "app/main.py: globals()['app'] = 1", ""),
    ("attribute by getattr", "uvicorn main:app", "app/main.py: def __getattr__(name): return 1", ""),
    (
        "attribute for types only",
        "uvicorn main:app",
        "app/main.py: from typing import TYPE_CHECKING\\nif TYPE_CHECKING:\\n    from x import app",
        "binds no such name",
    ),
    ("attribute annotated only", "uvicorn main:app", "app/main.py: app: int", "binds no such name"),
    ("attribute of a class body", "uvicorn main:app", "app/main.py: class A:\\n    app = 1", "binds no such name"),
    ("factory", "uvicorn --factory main:create", "app/main.py: async def create(): pass", ""),
    ("star", "uvicorn main:app", "app/main.py: from x import *\napp/x.py: from y import *\napp/y.py: app = 1", ""),
    (
        "star of __all__",
        "uvicorn main:app",
        "app/main.py: from x import *\napp/x.py: app = 1\\n__all__ = ['other']",
        "binds no such name",
    ),
    ("star of compiled code", "uvicorn main:app", "app/main.py: from x import *\napp/x.so:", ""),
    (
        "re-export of nothing",
        "uvicorn main:app",
        "app/main.py: from x import app\napp/x.py: other = 1",
        "PythonNameNotFound /app/main.py, line 1, imports `app` from `x`, and /app/x.py binds no such name",
    ),
    (
        "submodule as a name",
        "uvicorn main:app",
        "app/main.py: from pkg import sub\\napp = 1\napp/pkg/__init__.py:\napp/pkg/sub.py:",
        "",
    ),
    (
        "missing dependency",
        "uvicorn main:app",
        "app/main.py: import os\\nimport yaml\\napp = 1",
        "PythonModuleNotFound /app/main.py, line 2, imports `yaml`, which is not in the image => add `PyYAML` to libraries.list",
    ),
    (
        "missing two levels down",
        "uvicorn main:app",
        "app/main.py: from a.b import app\napp/a/__init__.py:\napp/a/b.py: import cv2.x\\napp = 1",
        "/app/a/b.py, line 1, imports `cv2.x`, and `cv2` is not in the image => add `opencv-python-headless`",
    ),
    (
        "optional",
        "uvicorn main:app",
        "app/main.py: try:\\n    import yaml\\nexcept ImportError:\\n    yaml = None\\napp = 1",
        "",
    ),
    (
        "optional by tuple",
        "uvicorn main:app",
        "app/main.py: try:\\n    import yaml\\nexcept (ValueError, ModuleNotFoundError):\\n    yaml = None\\napp = 1",
        "",
    ),
    (
        "not optional",
        "uvicorn main:app",
        "app/main.py: try:\\n    import yaml\\nexcept ValueError:\\n    yaml = None\\napp = 1",
        "imports `yaml`",
    ),
    (
        "raised again",
        "uvicorn main:app",
        "app/main.py: try:\\n    import yaml\\nexcept ImportError as e:\\n    raise RuntimeError('no yaml') from e\\napp = 1",
        "imports `yaml`",
    ),
    (
        "neither of two",
        "uvicorn main:app",
        "app/main.py: try:\\n    import ujson\\nexcept ImportError:\\n    import rapidjson\\napp = 1",
        "imports `rapidjson`",
    ),
    (
        "one of two",
        "uvicorn main:app",
        "app/main.py: try:\\n    import json\\nexcept ImportError:\\n    import rapidjson\\napp = 1",
        "",
    ),
    (
        "suppressed",
        "uvicorn main:app",
        "app/main.py: from contextlib import suppress\\nwith suppress(ImportError):\\n    import yaml\\napp = 1",
        "",
    ),
    (
        "for types only",
        "uvicorn main:app",
        "app/main.py: import typing\\nif typing.TYPE_CHECKING:\\n    import yaml\\napp = 1",
        "",
    ),
    (
        "for another version",
        "uvicorn main:app",
        "app/main.py: import sys\\nif sys.version_info >= (3, 11):\\n    import tomllib\\nelse:\\n    import json\\napp = 1",
        "",
    ),
    ("only as main", "uvicorn main:app", "app/main.py: app = 1\\nif __name__ == '__main__':\\n    import yaml", ""),
    (
        "as main",
        "python main.py",
        "app/main.py: app = 1\\nif __name__ == '__main__':\\n    import yaml",
        "imports `yaml`",
    ),
    ("after the end", "uvicorn main:app", "app/main.py: app = 1\\nraise SystemExit\\nimport yaml", ""),
    (
        "newer library",
        "uvicorn main:app",
        "app/main.py: import tomllib\\napp = 1",
        "imports `tomllib`, which Python has from 3.11 on; the image has 3.10 => Python's own library has it from 3.11 on: add `tomli`",
    ),
    (
        "relative without a package",
        "uvicorn main:app",
        "app/main.py: from .x import app\napp/x.py: app = 1",
        "PythonRelativeImport /app/main.py, line 1, imports `.x`",
    ),
    (
        "relative above the top",
        "uvicorn pkg.main:app",
        "app/pkg/main.py: from ..x import app\napp/x.py: app = 1",
        "PythonRelativeImport",
    ),
    (
        "no package",
        "uvicorn main:app",
        "app/main.py: import x.y\\napp = 1\napp/x.py:",
        "`x` is a module, not a package",
    ),
    ("no submodule", "uvicorn main:app", "app/main.py: import click.nothing\\napp = 1", "`click.nothing`"),
    (
        "submodule by __path__",
        "uvicorn main:app",
        "app/main.py: import pkg.nothing\\napp = 1\napp/pkg/__init__.py: __path__ = []",
        "",
    ),
    (
        "namespace package",
        "uvicorn main:app",
        "app/main.py: import ns.a, ns.b\\napp = 1\napp/ns/a.py:\nusr/local/lib/python3.10/site-packages/ns/b.py:",
        "",
    ),
    (
        "path changed",
        "uvicorn main:app",
        "app/main.py: import sys\\nsys.path.insert(0, 'lib')\\nimport hidden\\napp = 1\napp/lib/hidden.py:",
        "",
    ),
    (
        "path changed, and nothing there",
        "uvicorn main:app",
        "app/main.py: import sys\\nsys.path.insert(0, 'lib')\\nimport hidden\\napp = 1",
        "imports `hidden`",
    ),
    ("in a function", "uvicorn main:app", "app/main.py: def f():\\n    import yaml\\napp = 1", ""),
    (
        "syntax error",
        "uvicorn main:app",
        "app/main.py: app = 1\\ndef f(:\\n  pass",
        "PythonSyntaxError /app/main.py is no Python, line 2: ",
    ),
    ("syntax error elsewhere", "uvicorn main:app", "app/main.py: app = 1\napp/template.py: {{ x }} y", ""),
    (
        "newer syntax",
        "uvicorn main:app",
        "app/main.py: type X = int\\napp = 1",
        "PythonSyntaxTooNew /app/main.py, line 1, has a type statement: Python 3.12 and newer read it, the image has 3.10",
    ),
    ("match is fine", "uvicorn main:app", "app/main.py: match 1:\\n    case 1:\\n        app = 1\\napp = 2", ""),
    (
        "cycle",
        "uvicorn main:app",
        "app/main.py: from b import b\\napp = 1\napp/b.py: from main import app\\nb = 1",
        "PythonImportCycle /app/b.py, line 1, imports `app` from `main` while that runs its line 1: `app` is bound only on line 2",
    ),
    (
        "cycle after the name",
        "uvicorn main:app",
        "app/main.py: app = 1\\nfrom b import b\napp/b.py: from main import app\\nb = 1",
        "",
    ),
    ("cycle by module", "uvicorn main:app", "app/main.py: import b\\napp = 1\napp/b.py: import main\\nb = 1", ""),
    (
        "main is not its module",
        "python main.py",
        "app/main.py: from b import b\\napp = 1\napp/b.py: from main import app\\nb = 1",
        "PythonImportCycle /app/main.py, line 1, imports `b` from `b`",
    ),
    ("python -m", "python -m uvicorn main:app", "app/main.py: app = 1", ""),
    (
        "python -m missing",
        "python -m hypercorn main:app",
        "app/main.py: app = 1",
        "`python -m hypercorn` imports `hypercorn`, and there is no module `hypercorn`",
    ),
    ("python -m package", "python -m pkg", "app/pkg/__init__.py:", "needs pkg/__main__.py"),
    (
        "python -m package, sound",
        "python -m pkg",
        "app/pkg/__init__.py:\napp/pkg/__main__.py: from . import x\napp/pkg/x.py:",
        "",
    ),
    (
        "no script",
        "python run.py",
        "app/main.py:",
        "the command runs `python run.py`, and /app/run.py is not in the image",
    ),
    ("own script", "/app/run.py", "app/run.py: #!/usr/bin/env python3\\nimport yaml", "imports `yaml`"),
    (
        "gunicorn's worker",
        "gunicorn -k uvicorn.workers.Worker main:app",
        "app/main.py: app = 1\nusr/local/bin/gunicorn: #!/usr/local/bin/python",
        "`-k uvicorn.workers.Worker` takes `Worker` from",
    ),
    (
        "gunicorn's default",
        "gunicorn -b :80 proj.wsgi",
        "app/proj/wsgi.py: application = 1\nusr/local/bin/gunicorn: #!/usr/local/bin/python",
        "",
    ),
    (
        "gunicorn's file",
        "gunicorn -c conf.py main:app",
        "app/main.py: app = 1\nusr/local/bin/gunicorn: #!/usr/local/bin/python",
        "/app/conf.py is not in the image",
    ),
    ("uvloop asked", "uvicorn --loop uvloop main:app", "app/main.py: app = 1", "`--loop uvloop` imports `uvloop`"),
    (
        "django",
        "uvicorn p.asgi:application",
        "app/p/__init__.py:\napp/p/asgi.py: import os\\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'p.setings')\\napplication = get_asgi_application()\napp/p/settings.py:",
        "names the settings `p.setings`",
    ),
    (
        "django's apps",
        "uvicorn p.asgi:application",
        "app/p/__init__.py:\napp/p/asgi.py: import os\\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'p.settings')\\napplication = get_asgi_application()\napp/p/settings.py: INSTALLED_APPS = ['p', 'p.apps.Config', 'corsheaders']\napp/p/apps.py:",
        "has `corsheaders`, and there is no module `corsheaders` => add `django-cors-headers`",
    ),
    (
        "another ABI",
        "uvicorn main:app",
        "app/main.py: import fast\\napp = 1\nusr/local/lib/python3.10/site-packages/fast.cpython-311-x86_64-linux-gnu.so:",
        "PythonExtensionMismatch /app/main.py, line 1, imports `fast`, but /usr/local/lib/python3.10/site-packages/fast.cpython-311-x86_64-linux-gnu.so is for `cpython-311-x86_64-linux-gnu`",
    ),
    ("latin source", "uvicorn main:app", "app/main.py: # -*- coding: utf-8 -*-\\nimport x\\napp = 1\napp/x.py:", ""),
    (
        "fastapi run in a package",
        "fastapi run pkg/main.py",
        "app/pkg/__init__.py:
app/pkg/main.py: from .x import app
app/pkg/x.py: app = 1
usr/local/bin/fastapi: #!/usr/local/bin/python
usr/local/lib/python3.10/site-packages/fastapi_cli/__init__.py:",
        "",
    ),
    (
        "fastapi run of nothing",
        "fastapi run main.py",
        "usr/local/bin/fastapi: #!/usr/local/bin/python
usr/local/lib/python3.10/site-packages/fastapi_cli/__init__.py:",
        "/app/main.py is not in the image",
    ),
    (
        "gunicorn's file moves",
        "gunicorn -c conf.py main:app",
        "app/conf.py: chdir = 'src'
app/src/main.py: app = 1
usr/local/bin/gunicorn: #!/usr/local/bin/python",
        "",
    ),
    (
        "an environment of its own",
        "poetry run uvicorn main:app",
        "usr/local/bin/poetry: #!/usr/local/bin/python
app/main.py: import yaml\\napp = 1",
        "",
    ),
    (
        "a site that changes",
        "uvicorn main:app",
        "usr/local/lib/python3.10/site-packages/sitecustomize.py: import sys
app/main.py: import yaml\\napp = 1",
        "",
    ),
    (
        "a package's own vendor directory",
        "uvicorn main:app",
        "app/main.py: import st\\napp = 1\nusr/local/lib/python3.10/site-packages/st/__init__.py: import sys\\nsys.path.extend([v])\\nimport vendored\nusr/local/lib/python3.10/site-packages/st/_vendor/vendored/__init__.py:",
        "",
    ),
    (
        "a package imports its submodule",
        "uvicorn pkg:app",
        "app/pkg/__init__.py: from pkg import sub\\nfrom pkg.b import app\napp/pkg/sub.py: from pkg.b import c\napp/pkg/b.py: c = 1\\nimport pkg.sub\\napp = 1",
        "",
    ),
    (
        "two distributions that do not go together",
        "uvicorn main:app",
        "app/main.py: import one\\napp = 1
         usr/local/lib/python3.10/site-packages/one.py: from two import gone
         usr/local/lib/python3.10/site-packages/two.py: here = 1",
        "PythonNameNotFound /usr/local/lib/python3.10/site-packages/one.py, line 1, imports `gone` from `two`",
    ),
    ("deep source", "uvicorn main:app", "app/main.py: app = ((((((((((1))))))))))", ""),
    ("code", "python -c import\tclick;print(click.x)", "", ""),
    (
        "code that imports what is missing",
        "python -c import\tos,requests",
        "",
        "PythonModuleNotFound the code of `python -c`, line 1, imports `requests`, which is not in the image",
    ),
    ("code in the working directory", "python -c import\tmain", "app/main.py: x = 1", ""),
    ("isolated code", "python -Ic import\tmain", "app/main.py: x = 1", "imports `main`, which is not in the image"),
    (
        "a newer library's name",
        "python main.py",
        "app/main.py: from enum import StrEnum, Enum",
        "PythonNameNotFound /app/main.py, line 1, imports `StrEnum` from `enum`, which Python has from 3.11 on; the image has 3.10",
    ),
    (
        "an older library's name",
        "python main.py",
        "app/main.py: from collections import Mapping",
        "which Python has only up to 3.9; the image has 3.10 => import `Mapping` from `collections.abc`",
    ),
    (
        "a newer library's name, caught",
        "python main.py",
        "app/main.py: try:\\n    from typing import Self\\nexcept ImportError:\\n    from click import x as Self",
        "",
    ),
    (
        "a newer library's name, and what replaces it missing",
        "python main.py",
        "app/main.py: try:\\n    from typing import Self\\nexcept ImportError:\\n    from typing_extensions import Self",
        "imports `typing_extensions`",
    ),
    (
        "an extension for another Python beside its stubs",
        "python main.py",
        "app/main.py: from fast._fast import f\nusr/local/lib/python3.10/site-packages/fast/__init__.py:\nusr/local/lib/python3.10/site-packages/fast/_fast.cpython-311-x86_64-linux-gnu.so\nusr/local/lib/python3.10/site-packages/fast/_fast/__init__.pyi:",
        "PythonExtensionMismatch /app/main.py, line 1, imports `fast._fast`, but",
    ),
    (
        "a file that is not there",
        "python main.py",
        "app/other.py: x = 1",
        "PythonFileNotFound the command runs `python main.py`, and /app/main.py is not in the image => copy it (`COPY main.py /app/main.py`)",
    ),
    (
        "a module that its package lacks",
        "uvicorn pkg.main:app",
        "app/pkg/__init__.py:\napp/pkg/web.py: app = 1",
        "=> the package `pkg` has `web`: name one of those",
    ),
    (
        "a package that cannot be run",
        "python -m pkg",
        "app/pkg/__init__.py:\napp/pkg/cli.py:",
        "=> give `pkg` a `__main__.py`, or start a module of it: it has `cli`",
    ),
    (
        "a name nearby",
        "python main.py",
        "app/main.py: from prices import totals\napp/prices.py: def total(): pass",
        "=> /app/prices.py binds `total`: import that, or bind `totals` there",
    ),
    (
        "a part of a package as a script",
        "python pkg/main.py",
        "app/pkg/__init__.py:\napp/pkg/main.py: from .prices import x\napp/pkg/prices.py: x = 1",
        "=> start it in /app as a part of its package (`python -m pkg.main`), or import without the dot",
    ),
    (
        "a module of one's own",
        "python main.py",
        "app/main.py: import settings",
        "=> copy `settings` to /app if it is your own; if it is a package, add `settings` to libraries.list",
    ),
    (
        "a package, and pip",
        "python main.py",
        "usr/local/bin/pip: x\napp/main.py: import yaml",
        "=> install `PyYAML` RUN pip install --no-cache-dir PyYAML",
    ),
    (
        "a package, and a list of them",
        "python main.py",
        "usr/local/bin/pip: x\napp/requirements.txt: flask\napp/main.py: import yaml",
        "=> add `PyYAML` to libraries.list (or requirements.txt) ",
    ),
    (
        "a package that nobody is known to have made",
        "python main.py",
        "usr/local/bin/pip: x\napp/main.py: import some_thing",
        "if it is a package, add `some-thing` to libraries.list (or requirements.txt) ",
    ),
    (
        "what gunicorn's own worker imports",
        "gunicorn -k gevent main:app",
        "app/main.py: app = 1\nusr/local/lib/python3.10/site-packages/gevent/__init__.py:\nusr/local/lib/python3.10/site-packages/gunicorn/__init__.py:\nusr/local/lib/python3.10/site-packages/gunicorn/workers/__init__.py:\nusr/local/lib/python3.10/site-packages/gunicorn/workers/ggevent.py: try:\\n    import gevent\\nexcept ImportError:\\n    raise RuntimeError('no')\\nelse:\\n    from packaging.version import parse\nusr/local/bin/gunicorn: #!/usr/local/bin/python3.10",
        "ggevent.py, line 6, imports `packaging.version`, and `packaging` is not in the image",
    ),
    (
        "gunicorn's worker without its package is said once",
        "gunicorn -k gevent main:app",
        "app/main.py: app = 1\nusr/local/lib/python3.10/site-packages/gunicorn/__init__.py:\nusr/local/lib/python3.10/site-packages/gunicorn/workers/__init__.py:\nusr/local/lib/python3.10/site-packages/gunicorn/workers/ggevent.py: import gevent\nusr/local/bin/gunicorn: #!/usr/local/bin/python3.10",
        "PythonTargetNotFound `-k gevent` imports `gevent`",
    ),
    (
        "an environment whose interpreter is missing",
        "/venv/bin/gunicorn main:app",
        "app/main.py: import flask\\napp = 1\nvenv/bin/gunicorn: #!/venv/bin/python3\nvenv/bin/python3 -> /usr/bin/python3\nvenv/pyvenv.cfg: version = 3.11.2",
        "",
    ),
    (
        "names that __all__ lists and somebody else binds",
        "python main.py",
        "app/main.py: from lazy import Celery, subtask\nusr/local/lib/python3.10/site-packages/lazy/__init__.py: from . import local\\n__all__ = ('Celery',)\\nlocal.recreate_module(__name__)\nusr/local/lib/python3.10/site-packages/lazy/local.py: ",
        "",
    ),
    (
        "names that nobody lists",
        "python main.py",
        "app/main.py: from shop import total\napp/shop/__init__.py: __all__ = ('x', 'prices')\\nx = 1\napp/shop/prices.py: y = 1",
        "imports `total` from `shop`",
    ),
    (
        "files that were removed",
        "python main.py",
        "app/main.py: import click.core\nusr/local/lib/python3.10/site-packages/click-8.1.dist-info/RECORD: click/core.py,,1\\nclick/__init__.py,,",
        "=> files of `click` were removed after it was installed",
    ),
    (
        "an editable install that stayed behind",
        "python -m shop",
        "usr/local/lib/python3.10/site-packages/__editable__.shop-1.pth: /build/src",
        "/build/src, which is not in the image: install the project itself (`pip install .`, without -e)",
    ),
];

#[test]
fn errors_are_what_is_wrong_and_nothing_else() {
    for (name, command, lines, expected) in CASES {
        let lines = found(&[PYTHON.to_owned(), UVICORN.to_owned(), (*lines).to_owned()], &[], command, "/app", &[]);
        let errors = worst(Level::Error, &lines);
        if expected.is_empty() {
            assert_eq!(errors, [] as [&String; 0], "{name}");
        } else {
            assert!(errors.len() == 1 && errors[0].contains(expected), "{name}: {lines:#?}");
        }
    }
}

/// What loose imprints leave out, the names that the user's modules bind, changes no verdict but where an answer changes.
#[test]
fn names_that_nobody_asks_for_change_no_verdict() {
    let config = config();
    let (mut alike, mut other) = (0, 0);
    for (name, command, lines, _) in CASES {
        let layers = [PYTHON, UVICORN, lines].map(|lines| {
            let mut layer = Build::default();
            layer.lines(lines);
            layer
        });
        let verdict = |own: &LayerFacts| {
            let mut layers = layers.to_vec();
            layers[2].facts = own.clone();
            let judged = judge(&subject(layers, &config), &argv(command, "/app", &[])).unwrap_or_default();
            let findings: Vec<_> = judged.findings.iter().map(|finding| (finding.level, finding.rule)).collect();
            (findings, judged.asked)
        };
        let own = &layers[2].facts;
        let (before, asked) = verdict(own);
        for (path, module) in own.modules.iter().filter(|(path, _)| !crate::collect::in_packages(path)) {
            for at in 0..module.bound.len() {
                let mut edited = own.clone();
                let gone = edited.modules.get_mut(path).unwrap().bound.remove(at);
                if crate::imprint::answers(&edited, &asked) == crate::imprint::answers(own, &asked) {
                    assert_eq!(verdict(&edited).0, before, "{name}: without {} of {}", gone.0, path.escape_ascii());
                    alike += 1;
                } else {
                    other += usize::from(verdict(&edited).0 != before);
                }
            }
        }
    }
    assert!(alike > 50 && other > 20, "{alike} {other}");
}

/// Warnings and notes about what is installed, by whole image.
#[test]
fn what_is_installed_is_judged() {
    let site = "usr/local/lib/python3.10/site-packages";
    let dist = |name: &str, version: &str, more: &str| {
        format!("{site}/{name}-{version}.dist-info/METADATA: Name: {name}\\nVersion: {version}\\n{more}\n")
    };
    let app = "app/main.py: app = 1\n".to_owned();
    let cases: Vec<(&str, String, Vec<&str>)> = vec![
        ("sound", String::new(), vec![]),
        (
            "missing requirement",
            dist("Foo", "1", "Requires-Dist: bar-baz>=2"),
            vec!["Warning PythonRequirementMissing `Foo 1` requires `bar-baz>=2`, which is not installed"],
        ),
        (
            "requirement of another name",
            dist("Foo", "1", "Requires-Dist: Bar_Baz>=2") + &dist("bar.baz", "2.1", ""),
            vec![],
        ),
        (
            "requirement too old",
            dist("Foo", "1", "Requires-Dist: click>=9,<10"),
            vec!["Warning PythonRequirementVersion `Foo 1` requires `click>=9,<10`, and 8.1 is installed"],
        ),
        (
            "markers",
            dist(
                "Foo",
                "1",
                "Requires-Dist: a; python_version < '3.9'\\nRequires-Dist: b; sys_platform == 'win32'\\nRequires-Dist: c; extra == 'x'",
            ),
            vec![],
        ),
        (
            "an extra that another asks",
            dist("Foo", "1", "Requires-Dist: uvicorn[standard]"),
            vec!["Warning PythonRequirementMissing `uvicorn 1.0` requires `uvloop>=0.14`"],
        ),
        (
            "another Python",
            dist("Foo", "1", "Requires-Python: >=3.11"),
            vec!["Warning PythonVersionMismatch `Foo 1` wants Python >=3.11, the image has 3.10"],
        ),
        (
            "wheel",
            dist("Foo", "1", "") + &format!("{site}/Foo-1.dist-info/WHEEL: Tag: cp311-cp311-manylinux_2_17_x86_64"),
            vec!["Warning PythonWheelMismatch `Foo 1` is for another Python"],
        ),
        (
            "musl wheel",
            dist("Foo", "1", "") + &format!("{site}/Foo-1.dist-info/WHEEL: Tag: cp310-cp310-musllinux_1_1_x86_64"),
            vec!["Warning PythonWheelMismatch `Foo 1` is for musl"],
        ),
        (
            "record",
            dist("Foo", "1", "")
                + &format!(
                    "{site}/Foo-1.dist-info/RECORD: foo/a.py,,0\\nfoo/b.py,,5\\nfoo/tests/c.py,,1\\nfoo/x.txt,,3\\nfoo/__pycache__/a.pyc,,\\nfoo/d.py,,9\n{site}/foo/a.py:\n{site}/foo/d.py: x"
                ),
            vec![
                "Warning PythonRecordIncomplete `Foo 1` lacks 1 of its 6 files: foo/b.py",
                "Note PythonRecordChanged `Foo 1`: foo/d.py",
            ],
        ),
        (
            "scripts",
            dist("Foo", "1", "") + &format!("{site}/Foo-1.dist-info/RECORD: ../../../bin/foo,,0"),
            vec!["Note PythonScriptsMissing commands of installed packages are not in the image: foo"],
        ),
        ("editable", format!("{site}/__editable__.foo.pth: /src/foo"), vec!["Warning PythonPathLost"]),
        (
            "other version",
            "usr/local/lib/python3.11/site-packages/foo-1.dist-info/METADATA: Name: foo".into(),
            vec![
                "Warning PythonOtherVersion /usr/local/lib/python3.11/site-packages holds packages, and /usr/local/bin/python3.10 is Python 3.10",
            ],
        ),
        (
            "pip of another version",
            "usr/local/lib/python3.11/site-packages/pip-1.dist-info/METADATA: Name: pip".into(),
            vec![],
        ),
    ];
    for (name, lines, expected) in cases {
        let lines = found(&[PYTHON.into(), UVICORN.into(), app.clone() + &lines], &[], "uvicorn main:app", "/app", &[]);
        assert_eq!(lines.len(), expected.len(), "{name}: {lines:#?}");
        for expected in expected {
            assert!(lines.iter().any(|line| line.starts_with(expected)), "{name}: {lines:#?}");
        }
    }
}

#[test]
fn stages_are_compared() {
    let app = "app/main.py: import yaml\\napp = 1".to_owned();
    let without_script = UVICORN.replace("usr/local/bin/uvicorn:", "nowhere:");
    let builder = "usr/local/bin/uvicorn: x\nusr/local/lib/python3.10/site-packages/yaml/__init__.py:".to_owned();
    let lines = found(
        &[PYTHON.into(), without_script.clone(), app.clone()],
        &[("builder", builder)],
        "uvicorn main:app",
        "/app",
        &[],
    );
    let errors = worst(Level::Error, &lines);
    assert_eq!(errors.len(), 2, "{lines:#?}");
    assert!(
        errors.iter().any(|line| {
            line.ends_with(
        "=> stage `builder` has it in /usr/local/lib/python3.10/site-packages: copy that directory COPY --from=builder \
         /usr/local/lib/python3.10/site-packages /usr/local/lib/python3.10/site-packages"
    )
        }),
        "{errors:#?}"
    );
    assert!(
        errors.iter().any(|line| line.contains("PythonConsoleScriptMissing")
            && line.ends_with(
                "start it with `python -m uvicorn` COPY --from=builder /usr/local/bin/uvicorn /usr/local/bin/uvicorn"
            )),
        "{errors:#?}"
    );
    // The packages of another version of Python: one root cause, named at both ends.
    let other = "usr/local/lib/python3.11/site-packages/yaml/__init__.py:\nusr/local/lib/python3.11/site-packages/PyYAML-6.dist-info/METADATA: Name: PyYAML".to_owned();
    let lines = found(&[PYTHON.into(), UVICORN.into(), other, app], &[], "uvicorn main:app", "/app", &[]);
    let errors = worst(Level::Error, &lines);
    assert!(
        errors.len() == 2 && errors.iter().any(|line| line.contains("which Python 3.10 does not search")),
        "{lines:#?}"
    );
}

#[test]
fn interpreters_are_told_apart() {
    let app = "app/main.py: import dep\\napp = 1\n";
    let venv = "app/.venv/bin/python -> /usr/local/bin/python3.10\napp/.venv/pyvenv.cfg: home = /usr/local/bin\\nversion = 3.10.2\n\
        app/.venv/bin/uvicorn: #!/app/.venv/bin/python\napp/.venv/lib/python3.10/site-packages/dep.py:\n";
    let debian = "usr/bin/python3.11\nusr/bin/python3 -> python3.11\nusr/lib/python3.11/os.py\nusr/lib/python3/dist-packages/dep.py\n\
        usr/bin/uvicorn: #!/usr/bin/python3\nlib64/ld-linux-x86-64.so.2\n";
    let alpine = "usr/bin/python3.12\nusr/bin/python3 -> python3.12\nusr/lib/python3.12/os.py\n\
        usr/lib/python3.12/lib-dynload/_json.cpython-312-x86_64-linux-musl.so\n\
        usr/lib/python3.12/site-packages/dep.cpython-312-x86_64-linux-musl.so\nusr/bin/uvicorn: #!/usr/bin/python3\nlib/ld-musl-x86_64.so.1\n";
    let user = format!(
        "{PYTHON}root/.local/bin/uvicorn: #!/usr/local/bin/python\nroot/.local/lib/python3.10/site-packages/dep.py:\n"
    );
    let path = [("PATH", "/root/.local/bin:/app/.venv/bin:/usr/local/bin:/usr/bin")];
    for (name, lines, env, errors) in [
        ("virtual environment", format!("{PYTHON}{venv}{app}"), &path[..], 0),
        (
            "virtual environment does not see the system's",
            format!("{PYTHON}{}{app}", venv.replace("/site-packages/dep.py", "/other.py"))
                + "\nusr/local/lib/python3.10/site-packages/dep.py:",
            &path,
            1,
        ),
        ("Debian", format!("{debian}{app}"), &path, 0),
        (
            "Debian's own does not look in site-packages",
            format!("{}{app}usr/local/lib/python3.11/site-packages/dep.py:", debian.replace("/dep.py", "/x.py")),
            &path,
            1,
        ),
        ("Alpine", format!("{alpine}{app}"), &path, 0),
        (
            "glibc's extension on musl",
            format!("{}{app}", alpine.replace("dep.cpython-312-x86_64-linux-musl", "dep.cpython-312-x86_64-linux-gnu")),
            &path,
            1,
        ),
        ("user's packages", format!("{user}{app}"), &path, 0),
        ("PYTHONPATH", format!("{PYTHON}{UVICORN}{app}opt/lib/dep.py:"), &[("PYTHONPATH", "/opt/lib")], 0),
        (
            ".pth",
            format!(
                "{PYTHON}{UVICORN}{app}usr/local/lib/python3.10/site-packages/x.pth: # c\\n/opt/lib\nopt/lib/dep.py:"
            ),
            &[],
            0,
        ),
        (
            ".pth with a finder",
            format!(
                "{PYTHON}{UVICORN}{app}usr/local/lib/python3.10/site-packages/x.pth: import __editable___x_finder; __editable___x_finder.install()"
            ),
            &[],
            0,
        ),
        ("no Python", app.to_owned(), &[], 0),
        (
            "PyPy",
            format!(
                "usr/local/bin/pypy3.10\nusr/local/bin/python3 -> pypy3.10\n{app}usr/local/bin/uvicorn: #!/usr/local/bin/python3"
            ),
            &[],
            0,
        ),
    ] {
        let lines = found(&[lines], &[], "uvicorn main:app", "/app", env);
        assert_eq!(worst(Level::Error, &lines).len(), errors, "{name}: {lines:#?}");
    }
}

#[test]
fn hostile_sources_end_in_no_claim() {
    let many = 200_000;
    for open in [
        "(",
        "[",
        "{",
        "-",
        "not ",
        "lambda:",
        "a.",
        "x if y else ",
        "f(",
        "a[",
        "f'{",
        "**",
        "if x:\n ",
        "async ",
        "@",
    ] {
        for path in [&b"app/x.py"[..], b"site-packages/x.py"] {
            let source = open.repeat(many);
            let facts = module(path, source.as_bytes()).unwrap();
            assert!(facts.unread || facts.broken.is_some(), "{open}");
        }
    }
    let nested: String = (0..2000).flat_map(|depth| [" ".repeat(depth), "if x:\n".to_owned()]).collect();
    assert!(module(b"app/x.py", nested.as_bytes()).unwrap().imports.is_empty());
    let balanced = format!("x = {}{}\n", "(".repeat(900), ")".repeat(900));
    assert!(module(b"app/x.py", balanced.as_bytes()).unwrap().line_of("x").is_some());
    for source in [
        &b"\xff\xfe"[..],
        b"\0\0\0",
        b"import a\0b",
        b"\xef\xbb\xbfimport a",
        b"\r\r\r",
        b"'''",
        b"\\",
        b"# coding: latin-1\nx = '\xe4'",
    ] {
        let facts = module(b"app/x.py", source);
        assert!(facts.is_some(), "{source:?}");
    }
    assert!(module(b"app/x.py", b"# coding: latin-1\nx = '\xe4'").unwrap().line_of("x") == Some(2));
    assert_eq!(module(b"app/x.txt", b""), None);
    // Imports that go round, and a chain longer than any stack.
    let mut lines = format!("{PYTHON}{UVICORN}app/main.py: import m0\\napp = 1\n");
    for at in 0..5_000 {
        use std::fmt::Write as _;
        let _ = writeln!(lines, "app/m{at}.py: import m{}\\nimport main", at + 1);
    }
    lines.push_str("app/m5000.py: import m0");
    assert_eq!(worst(Level::Error, &found(&[lines], &[], "uvicorn main:app", "/app", &[])).len(), 0);
}
