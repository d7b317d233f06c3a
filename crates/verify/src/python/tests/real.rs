//! Real packages of a real CPython 3.10, as if they were an image: whatever can be imported there has no error.
//!
//! `KUZ_SITE_PACKAGES` names a directory that `pip install --target` filled, `PYTHON310_PREFIX` the Python that did it.

use super::*;

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
];

#[test]
fn real_packages_have_no_errors() {
    let (Ok(prefix), Ok(site)) = (std::env::var("PYTHON310_PREFIX"), std::env::var("KUZ_SITE_PACKAGES")) else {
        println!("skipped: PYTHON310_PREFIX and KUZ_SITE_PACKAGES are not set");
        return;
    };
    let python = format!("{prefix}/bin/python3.10");
    let mut build = Build::default();
    build.lines(PYTHON);
    for entry in std::fs::read_dir(format!("{prefix}/lib/python3.10/lib-dynload")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        build.put(&format!("usr/local/lib/python3.10/lib-dynload/{name}"), Node::File { size: 1 });
    }
    build.copy(Path::new(&site), "usr/local/lib/python3.10/site-packages");
    let mut bad = Vec::new();
    let mut app = String::new();
    for module in MODULES {
        let status = std::process::Command::new(&python)
            .args(["-I", "-c", &format!("import sys; sys.path.insert(0, {site:?}); import {module}")])
            .stderr(std::process::Stdio::null())
            .status();
        if status.is_ok_and(|status| status.success()) {
            app.push_str(&format!("import {module}\n"));
        } else {
            bad.push(*module);
        }
    }
    assert!(bad.len() * 2 < MODULES.len(), "most of them import: {bad:?}");
    build.file("app/main.py", format!("{app}app = 1\n").as_bytes());
    let config = config();
    let subject = subject(vec![build], &config);
    let fastest = (0..5).map(|_| {
        let began = std::time::Instant::now();
        judge(&subject, &argv("python main.py", "/app", &[]));
        began.elapsed()
    });
    println!("checked in {:?} at best", fastest.min().unwrap());
    let (findings, reached) = judge(&subject, &argv("python main.py", "/app", &[])).unwrap();
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
