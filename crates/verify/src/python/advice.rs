//! Where a missing module can come from: another stage, a distribution, a newer name for what Python's library lost.

use std::rc::Rc;

use super::runtime::{Image, Python};
use super::stdlib::Library;
use super::tree::{Dir, Tree};
use crate::finding::Advice;

/// Distributions whose name is not their module's.
const NAMES: [(&str, &str); 62] = [
    ("Crypto", "pycryptodome"),
    ("Cryptodome", "pycryptodomex"),
    ("MySQLdb", "mysqlclient"),
    ("OpenSSL", "pyOpenSSL"),
    ("PIL", "Pillow"),
    ("alembic", "alembic"),
    ("apscheduler", "APScheduler"),
    ("attr", "attrs"),
    ("bs4", "beautifulsoup4"),
    ("corsheaders", "django-cors-headers"),
    ("cv2", "opencv-python-headless"),
    ("dateutil", "python-dateutil"),
    ("debug_toolbar", "django-debug-toolbar"),
    ("decouple", "python-decouple"),
    ("django", "Django"),
    ("django_filters", "django-filter"),
    ("dns", "dnspython"),
    ("docx", "python-docx"),
    ("dotenv", "python-dotenv"),
    ("email_validator", "email-validator"),
    ("environ", "django-environ"),
    ("faiss", "faiss-cpu"),
    ("fastapi_cli", "fastapi[standard]"),
    ("fitz", "PyMuPDF"),
    ("flask", "Flask"),
    ("flask_cors", "Flask-Cors"),
    ("flask_sqlalchemy", "Flask-SQLAlchemy"),
    ("git", "GitPython"),
    ("google.protobuf", "protobuf"),
    ("grpc", "grpcio"),
    ("gunicorn", "gunicorn"),
    ("jinja2", "Jinja2"),
    ("jose", "python-jose"),
    ("jwt", "PyJWT"),
    ("kafka", "kafka-python"),
    ("ldap", "python-ldap"),
    ("magic", "python-magic"),
    ("markdown", "Markdown"),
    ("multipart", "python-multipart"),
    ("mysql", "mysql-connector-python"),
    ("nacl", "PyNaCl"),
    ("pkg_resources", "setuptools"),
    ("pptx", "python-pptx"),
    ("psycopg2", "psycopg2-binary"),
    ("psycopg", "psycopg[binary]"),
    ("pymysql", "PyMySQL"),
    ("rest_framework", "djangorestframework"),
    ("ruamel", "ruamel.yaml"),
    ("sentry_sdk", "sentry-sdk"),
    ("serial", "pyserial"),
    ("skimage", "scikit-image"),
    ("sklearn", "scikit-learn"),
    ("slugify", "python-slugify"),
    ("socks", "PySocks"),
    ("sqlalchemy", "SQLAlchemy"),
    ("telegram", "python-telegram-bot"),
    ("usb", "pyusb"),
    ("werkzeug", "Werkzeug"),
    ("whitenoise", "whitenoise"),
    ("yaml", "PyYAML"),
    ("zmq", "pyzmq"),
    ("zoneinfo", "backports.zoneinfo"),
];

/// Distributions that everybody has, under their modules' name: what they are called is no guess.
const SAME: [&str; 52] = [
    "aiohttp",
    "anyio",
    "asyncpg",
    "bcrypt",
    "boto3",
    "botocore",
    "celery",
    "certifi",
    "cffi",
    "click",
    "cryptography",
    "daphne",
    "fastapi",
    "gevent",
    "greenlet",
    "httptools",
    "httpx",
    "hypercorn",
    "idna",
    "itsdangerous",
    "jsonschema",
    "kombu",
    "litestar",
    "lxml",
    "mako",
    "markupsafe",
    "matplotlib",
    "msgpack",
    "numpy",
    "orjson",
    "packaging",
    "pandas",
    "paramiko",
    "passlib",
    "psutil",
    "pyarrow",
    "pydantic",
    "pydantic_settings",
    "pymongo",
    "pytest",
    "pytz",
    "redis",
    "requests",
    "rich",
    "scipy",
    "sqlmodel",
    "starlette",
    "tornado",
    "typer",
    "typing_extensions",
    "uvicorn",
    "uvloop",
];

/// What brings back a module that Python's library had, or has only later.
const BACKPORTS: [(&str, &str); 12] = [
    ("distutils", "setuptools"),
    ("cgi", "legacy-cgi"),
    ("cgitb", "legacy-cgi"),
    ("audioop", "audioop-lts"),
    ("asyncore", "pyasyncore"),
    ("asynchat", "pyasynchat"),
    ("imp", "zombie-imp"),
    ("tomllib", "tomli"),
    ("zoneinfo", "backports.zoneinfo"),
    ("graphlib", "graphlib-backport"),
    ("crypt", "standard-crypt"),
    ("telnetlib", "standard-telnetlib"),
];

/// The distribution that has a module, as far as is known: its name, and whether that is more than a guess.
pub(super) fn distribution_of(module: &str) -> String {
    let top = module.split('.').next().unwrap_or(module);
    let two = module.match_indices('.').nth(1).map_or(module, |(at, _)| module.get(..at).unwrap_or(module));
    NAMES
        .iter()
        .find(|(name, _)| *name == two)
        .or_else(|| NAMES.iter().find(|(name, _)| *name == top))
        .map_or_else(|| top.replace('_', "-"), |(_, distribution)| (*distribution).to_owned())
}

/// Whether a module is known to be a package's.
pub(super) fn is_known(module: &str) -> bool {
    let top = module.split('.').next().unwrap_or(module);
    SAME.contains(&top) || NAMES.iter().any(|(name, _)| name.split('.').next() == Some(top))
}

/// Who wants a module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wants {
    /// A source of the user's.
    pub(super) own: bool,
    /// An installed distribution requires it.
    pub(super) required: bool,
}

/// What to do about a module that is nowhere on `sys.path`. Only a name that is known is advised to be installed: of any other
/// somebody else may have made a package.
pub(super) fn supply(
    image: &Image<'_>,
    python: &Python<'_>,
    module: &str,
    library: Library,
    wants: Wants,
    home: &str,
) -> Advice {
    let top = module.split('.').next().unwrap_or(module);
    if let Library::Until(_) | Library::From(_) = library {
        let version = match library {
            Library::Until(last) => format!("Python's own library had it up to 3.{last}"),
            Library::From(first) => format!("Python's own library has it from 3.{first} on"),
            _ => String::new(),
        };
        let backport = BACKPORTS.iter().find(|(name, _)| *name == top).map(|(_, distribution)| *distribution);
        let text = match backport {
            // These bring the module under another name.
            Some(distribution @ ("tomli" | "backports.zoneinfo")) => {
                format!("{version}: add `{distribution}` to libraries.list and import that, or change the base image")
            }
            Some(distribution) => {
                format!("{version}: add `{distribution}` to libraries.list, or change the base image")
            }
            None => format!("{version}: use a newer release of what imports it, or change the base image"),
        };
        return Advice { text, lines: Vec::new() };
    }
    for other in &image.subject.others {
        let tree = Tree::new(other.stack().layers());
        for site in &python.site_paths {
            if has_module(&tree, site, top) {
                return Advice {
                    text: format!("stage `{}` has it in {site}: copy that directory", other.name),
                    lines: vec![format!("COPY --from={} {site} {site}", other.name)],
                };
            }
        }
    }
    let name = distribution_of(module);
    let add = format!("add `{name}` to libraries.list (or requirements.txt)");
    if !wants.required && !is_known(module) {
        let text = format!("copy `{top}` to {home} if it is your own; if it is a package, {add}");
        return Advice::text(if wants.own { text } else { add });
    }
    let listed = || LISTS.iter().any(|list| is_somewhere(image, list));
    if image.which("pip").is_some() && !listed() {
        return Advice::line(format!("install `{name}`"), format!("RUN pip install --no-cache-dir {}", quoted(&name)));
    }
    Advice::text(add)
}

/// Files that say what is installed.
const LISTS: [&str; 2] = ["libraries.list", "requirements.txt"];

/// Whether the image or another stage has a file of this name.
fn is_somewhere(image: &Image<'_>, name: &str) -> bool {
    let own = |path: &Vec<u8>| !super::read::is_installed(path);
    image.tree.named(&[name.as_bytes()], 20).iter().any(own)
        || image.subject.others.iter().any(|other| {
            let tree = Tree::new(other.stack().layers());
            tree.named(&[name.as_bytes()], 20).iter().any(own)
        })
}

/// A shell reads brackets as a pattern.
fn quoted(name: &str) -> String {
    if name.contains('[') { format!("'{name}'") } else { name.to_owned() }
}

pub(super) fn has_module(tree: &Tree<'_>, site: &str, name: &str) -> bool {
    tree.dir(site.as_bytes()).is_some_and(|dir| has_name(&dir, name))
}

/// Whether a directory has something that a module of this name could be.
pub(super) fn has_name(dir: &Rc<Dir<'_>>, name: &str) -> bool {
    dir.get(name.as_bytes()).is_some() || dir.get(format!("{name}.py").as_bytes()).is_some()
}

/// Where a command's program lies in another stage.
pub(super) fn program_elsewhere(image: &Image<'_>, name: &str, shown: &str) -> Option<Advice> {
    for other in &image.subject.others {
        let tree = Tree::new(other.stack().layers());
        for folder in ["/usr/local/bin", "/usr/bin", "/opt/venv/bin", "/root/.local/bin", "/venv/bin", "/app/.venv/bin"]
        {
            let path = format!("{folder}/{name}");
            if tree.at(path.as_bytes()).is_some() {
                return Some(Advice {
                    text: format!("stage `{}` has {path}: copy it, or start it with `{shown}`", other.name),
                    lines: vec![format!("COPY --from={} {path} {path}", other.name)],
                });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_distributions() {
        for (module, distribution) in [
            ("yaml", "PyYAML"),
            ("cv2", "opencv-python-headless"),
            ("google.protobuf.message", "protobuf"),
            ("some_thing.x", "some-thing"),
            ("PIL.Image", "Pillow"),
        ] {
            assert_eq!(distribution_of(module), distribution);
        }
    }
}
