//! What is known of Python's packages that neither metadata nor imports say.

use super::super::requirement::normalize;

/// Extras that nobody installs to run a program: by a part of their name.
const DEVELOPMENT: [&str; 34] = [
    "test",
    "tests",
    "testing",
    "tester",
    "dev",
    "devel",
    "develop",
    "development",
    "doc",
    "docs",
    "documentation",
    "lint",
    "linting",
    "linters",
    "type",
    "types",
    "typing",
    "mypy",
    "cover",
    "cov",
    "coverage",
    "check",
    "checkers",
    "enabler",
    "pytest",
    "qa",
    "style",
    "format",
    "formatting",
    "precommit",
    "ci",
    "release",
    "nox",
    "tox",
];
/// Tools whose plugins lie in packages that do not need them: the tool's module, and what the names of such files have in them.
const TOOLS: [(&str, &str); 8] = [
    ("pytest", "pytest"),
    ("pytest", "conftest"),
    ("mypy", "mypy"),
    ("hypothesis", "hypothesis"),
    ("sphinx", "sphinx"),
    ("ipython", "ipython"),
    ("setuptools", "setuptools"),
    ("flake8", "flake8"),
];
/// Distributions that extras for working on a package ask for, whatever those are called.
const DEVELOPMENT_TOOLS: [&str; 24] = [
    "black",
    "build",
    "coverage",
    "flake8",
    "hypothesis",
    "ipython",
    "isort",
    "mypy",
    "nox",
    "pip",
    "pre-commit",
    "pylint",
    "pyright",
    "pytest",
    "ruff",
    "setuptools",
    "sphinx",
    "tox",
    "twine",
    "ty",
    "virtualenv",
    "wheel",
    "mkdocs",
    "bandit",
];
/// Files that only another program loads: how their paths end, that program's module.
const LOADED_BY: [(&str, &str); 1] = [("uvicorn/workers.py", "gunicorn")];
/// Directories with the tests of a package.
const TESTS: [&str; 4] = ["tests", "test", "_tests", "testsuite"];
/// Programs that start others by what is in files which nothing here reads.
const LAUNCHERS: [&str; 26] = [
    "supervisord",
    "circusd",
    "honcho",
    "pipenv",
    "poetry",
    "pdm",
    "hatch",
    "uv",
    "rye",
    "tox",
    "nox",
    "invoke",
    "inv",
    "fab",
    "doit",
    "ansible",
    "ansible-playbook",
    "airflow",
    "dagster",
    "prefect",
    "jupyter",
    "jupyter-lab",
    "jupyter-notebook",
    "jupyterhub",
    "ipython",
    "pytest",
];
/// Programs that start nothing.
const HARMLESS: [&str; 18] = [
    "mkdir", "sleep", "chown", "chmod", "cp", "ln", "mv", "rm", "touch", "cat", "date", "ls", "id", "env", "whoami",
    "hostname", "install", "sync",
];
/// Modules of Python's own library that work better with a distribution: the module, the distribution.
const COMPLETED: [(&str, &str); 3] = [("zoneinfo", "tzdata"), ("distutils", "setuptools"), ("ensurepip", "pip")];
/// What distributions load in functions without a word of it in their metadata.
const OPTIONAL: [(&str, &[&str]); 1] = [(
    "pandas",
    &[
        "beautifulsoup4",
        "bottleneck",
        "fastparquet",
        "fsspec",
        "gcsfs",
        "html5lib",
        "jinja2",
        "lxml",
        "matplotlib",
        "numexpr",
        "odfpy",
        "openpyxl",
        "psycopg2",
        "psycopg2-binary",
        "pyarrow",
        "pymysql",
        "pyxlsb",
        "s3fs",
        "scipy",
        "sqlalchemy",
        "tables",
        "tabulate",
        "xarray",
        "xlrd",
        "xlsxwriter",
        "zstandard",
    ],
)];
/// `.pth` files by how their names end that only prepare something for whoever imports what they belong to: setuptools' own
/// `distutils`, and namespaces. And coverage's, which does something only if a variable says so.
const QUIET_PTH: [&[u8]; 3] = [b"distutils-precedence.pth", b"-nspkg.pth", b"a1_coverage.pth"];
/// How that variable's name begins, and what it loads.
pub(super) const COVERAGE: (&str, &str) = ("COVERAGE_PROCESS", "coverage");

/// Whether an extra is there for working on a distribution, not with it.
pub(super) fn is_development(extra: &str) -> bool {
    normalize(extra).split('-').any(|part| DEVELOPMENT.contains(&part))
}

/// The tool that alone loads a file of a package, by its path; `None` for tests, which nothing loads; else nothing special.
pub(super) fn tool_of_file(path: &str) -> Loaded {
    if let Some((_, tool)) = LOADED_BY.iter().find(|(end, _)| path.ends_with(end)) {
        return Loaded::By(tool);
    }
    let mut parts = path.split('/').map(str::to_ascii_lowercase).peekable();
    while let Some(part) = parts.next() {
        let is_file = parts.peek().is_none();
        if !is_file && TESTS.contains(&part.as_str()) {
            return Loaded::Never;
        }
        // The tool's own package is not a plugin of it.
        let own = |tool: &str| part.trim_start_matches('_') == tool;
        if let Some((tool, _)) = TOOLS.iter().find(|(tool, word)| part.contains(word) && (is_file || !own(tool))) {
            return Loaded::By(tool);
        }
    }
    Loaded::Always
}

/// When a file of a package may be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loaded {
    Always,
    /// When this tool runs.
    By(&'static str),
    Never,
}

/// Whether one of these modules or distributions, in the form of [`plain`], may load a group of entry points, by its name:
/// `pytest11` is pytest's, `oslo.config.opts` that of `oslo_config`.
pub(super) fn loads(group: &str, is_there: impl Fn(&str) -> bool) -> bool {
    let group = plain(group);
    let ends = group.match_indices('_').map(|(at, _)| at).chain([group.len()]);
    let names = ends.filter_map(|end| group.get(..end)).map(|name| name.trim_end_matches(|c: char| c.is_ascii_digit()));
    names.filter(|name| !name.is_empty()).any(|name| {
        is_there(match name {
            "distutils" | "egg_info" => "setuptools",
            name => name,
        })
    })
}

/// A name in lower case, its parts joined by `_`.
pub(super) fn plain(name: &str) -> String {
    let name = name.trim_start_matches('_');
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// The tool that a group's modules are plugins of.
pub(super) fn tool_of_group(group: &str) -> Option<&'static str> {
    TOOLS.iter().map(|(tool, _)| *tool).find(|tool| loads(group, |name| name == *tool))
}

/// Whether a distribution is for working on programs: that an extra asks for it says nothing.
pub(super) fn is_development_tool(key: &str) -> bool {
    DEVELOPMENT_TOOLS.contains(&key)
        || ["pytest-", "flake8-", "sphinx-", "types-"].iter().any(|start| key.starts_with(start))
}

pub(super) fn is_launcher(program: &str) -> bool {
    LAUNCHERS.contains(&program)
}

pub(super) fn is_harmless(program: &str) -> bool {
    HARMLESS.contains(&program)
}

/// Distributions that a module of Python's own library works with.
pub(super) fn completed(module: &str) -> impl Iterator<Item = &'static str> + '_ {
    COMPLETED.iter().filter(move |(name, _)| *name == module).map(|(_, distribution)| *distribution)
}

/// Distributions that one loads without saying so.
pub(super) fn optional(key: &str) -> impl Iterator<Item = &'static str> + '_ {
    OPTIONAL.iter().filter(move |(name, _)| *name == key).flat_map(|(_, all)| all.iter().copied())
}

pub(super) fn is_quiet_pth(path: &[u8]) -> bool {
    QUIET_PTH.iter().any(|end| path.ends_with(end))
}
