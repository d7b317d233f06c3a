//! Real packages of a real Python 3.10, as if they were an image: whatever can be imported there has no error.
//!
//! `KUZ_SITE_PACKAGES` names a directory that `pip install --target` filled, `PYTHON310_PREFIX` the Python that did it.

use super::*;
use crate::python::Judged;

/// One module of each distribution that servers of the usual kind are made of.
const MODULES: &[&str] = &[
    "fastapi",
    "uvicorn",
    "django",
    "gunicorn.app.wsgiapp",
    "flask",
    "numpy",
    "pandas",
    "cryptography.fernet",
    "uvloop",
    "orjson",
    "pydantic",
    "sqlalchemy",
    "sqlalchemy.orm",
    "psycopg",
    "grpc",
    "celery",
    "lxml.etree",
    "PIL.Image",
    "httpx",
    "requests",
    "aiohttp",
    "jinja2",
    "boto3",
    "starlette.applications",
    "django.core.wsgi",
    "django.db",
    "sqlalchemy.ext.asyncio",
    "celery.app",
    "kombu",
    "billiard",
    "anyio",
    "click",
    "h11",
    "yarl",
    "multidict",
    "botocore.session",
    "dateutil.parser",
    "typing_extensions",
    "pydantic_core",
    "greenlet",
    "cffi",
    "numpy.random",
    "pandas.io.formats.style_render",
    "sklearn.linear_model",
    "matplotlib.pyplot",
    "scipy.stats",
    "sentry_sdk",
    "alembic.config",
    "litestar",
    "sanic",
    "quart",
    "tornado.web",
    "hypercorn",
    "channels.routing",
    "redis",
    "rq",
    "dramatiq",
    "google.cloud.storage",
    "openai",
    "streamlit",
    "pytest",
    "networkx",
    "sympy",
    "polars",
    "pyarrow",
    "numba",
    "xarray",
    "gevent",
    "eventlet",
    "scrapy",
    "elasticsearch",
    "motor",
    "opentelemetry.sdk.trace",
    "six",
    "setuptools",
    "flask_sqlalchemy",
    "flask_login",
    "flask_wtf",
    "pika",
    "kafka",
    "confluent_kafka",
    "websockets",
    "watchfiles",
    "structlog",
    "loguru",
    "typer",
    "bs4",
    "asyncpg",
    "aiosqlite",
    "jose",
    "passlib.hash",
    "bcrypt",
    "marshmallow",
    "yaml",
    "daphne.server",
    "granian",
    "fastapi_cli.cli",
];

/// The image, its interpreter here, and where its packages are here; `None` where this machine has none.
fn real() -> Option<(Build, String, String)> {
    let (Ok(prefix), Ok(site)) = (std::env::var("PYTHON310_PREFIX"), std::env::var("KUZ_SITE_PACKAGES")) else {
        println!("skipped: PYTHON310_PREFIX and KUZ_SITE_PACKAGES are not set");
        return None;
    };
    let mut build = Build::default();
    build.lines(PYTHON);
    for entry in std::fs::read_dir(format!("{prefix}/lib/python3.10/lib-dynload")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        build.put(&format!("usr/local/lib/python3.10/lib-dynload/{name}"), Node::File { size: 1 });
    }
    build.copy(Path::new(&site), SITE);
    Some((build, format!("{prefix}/bin/python3.10"), site))
}

/// The sources below a directory.
fn sources(site: &Path) -> Vec<Vec<u8>> {
    let mut rest = vec![site.to_path_buf()];
    let mut sources = Vec::new();
    while let Some(dir) = rest.pop() {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                rest.push(path);
            } else if path.extension().is_some_and(|extension| extension == "py") {
                sources.push(std::fs::read(path).unwrap());
            }
        }
    }
    sources
}

const SITE: &str = "usr/local/lib/python3.10/site-packages";

/// Whether Python runs a program with these packages.
fn runs(python: &str, site: &str, program: &str) -> bool {
    std::process::Command::new(python)
        .args(["-I", "-c", &format!("import sys; sys.path.insert(0, {site:?})\n{program}")])
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
fn a_package_that_is_taken_away_is_missed_by_both() {
    let Some((whole, python, site)) = real() else { return };
    let program = "import fastapi, uvicorn\n";
    assert!(runs(&python, &site, program));
    for gone in
        ["click", "starlette", "anyio", "pydantic", "pydantic_core", "typing_extensions", "idna", "typing_inspection"]
    {
        let mut build = whole.clone();
        let (folder, file) = (format!("{SITE}/{gone}/"), format!("{SITE}/{gone}.py"));
        build.index.entries.retain(|path, _| {
            !path.starts_with(folder.as_bytes())
                && path != file.as_bytes()
                && path != folder.trim_end_matches('/').as_bytes()
        });
        build.file("app/main.py", program.as_bytes());
        let config = config();
        let subject = subject(vec![build], &config);
        let Judged { findings, .. } = judge(&subject, &argv("python main.py", "/app", &[])).unwrap();
        let lines: Vec<String> = findings.iter().map(line).collect();
        let errors = worst(Level::Error, &lines);
        let fails = !runs(&python, &site, &format!("sys.modules[{gone:?}] = None\n{program}"));
        let said = errors.iter().any(|line| line.contains(&format!("imports `{gone}")));
        assert_eq!(said, fails, "{gone}: {errors:#?}");
    }
}

#[test]
fn real_packages_have_no_errors() {
    let Some((mut build, python, site)) = real() else { return };
    let sources = sources(Path::new(&site));
    let began = std::time::Instant::now();
    for source in &sources {
        module(b"site-packages/x.py", source);
    }
    let bytes: usize = sources.iter().map(Vec::len).sum();
    println!("facts of {} sources, {bytes} bytes, in {:?}", sources.len(), began.elapsed());
    let mut bad = Vec::new();
    let mut app = String::new();
    for module in MODULES {
        if runs(&python, &site, &format!("import {module}")) {
            app.extend(["import ", *module, "\n"]);
        } else {
            bad.push(*module);
        }
    }
    assert!(bad.len() < MODULES.len(), "none can be imported");
    build.file("app/main.py", format!("{app}app = 1\n").as_bytes());
    let config = config();
    let subject = subject(vec![build], &config);
    let fastest = (0..5).map(|_| {
        let began = std::time::Instant::now();
        judge(&subject, &argv("python main.py", "/app", &[]));
        began.elapsed()
    });
    println!("checked in {:?} at best", fastest.min().unwrap());
    let Judged { findings, reached, .. } = judge(&subject, &argv("python main.py", "/app", &[])).unwrap();
    println!("{} files reached, not importable: {bad:?}", reached.len());
    let lines: Vec<String> = findings.iter().map(line).collect();
    println!("{}", lines.join("\n"));
    assert_eq!(worst(Level::Error, &lines), [] as [&String; 0]);
    // What Python itself has loaded is what the walk should have reached: how much of it is told, a little is required.
    let script = format!(
        "import sys; sys.path.insert(0, {site:?})\n{app}\nfor m in list(sys.modules.values()):\n f = getattr(m, '__file__', None)\n \
         if f and f.startswith({site:?}): print(f[len({site:?}):].lstrip('/'))"
    );
    let output = std::process::Command::new(&python).args(["-I", "-c", &script]).output().unwrap();
    let loaded: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    let hit = loaded
        .iter()
        .filter(|file| reached.contains(format!("usr/local/lib/python3.10/site-packages/{file}").as_bytes()))
        .count();
    let extra = reached
        .iter()
        .filter_map(|path| {
            String::from_utf8_lossy(path).strip_prefix("usr/local/lib/python3.10/site-packages/").map(str::to_owned)
        })
        .filter(|path| !loaded.contains(path))
        .collect::<Vec<_>>();
    println!(
        "Python loads {} files, {hit} of them are reached; {} more are: {:?}",
        loaded.len(),
        extra.len(),
        &extra[..extra.len().min(20)]
    );
    assert!(hit * 10 > loaded.len() * 6);
}
