//! The two stages and the ignore file, as text.
//!
//! What was found in, files out. The first stage installs in the full image, the second takes what is finished into the
//! slim one. The lines are those of `examples/fastapi`, with what the project needs more or other.

use std::fmt::Write as _;

use super::Project;
use super::app::{App, Kind};
use super::dependencies::{Dependencies, List};
use super::native::Native;
use super::server::Server;

/// What is written, in this order.
pub(super) const FILES: &[&str] = &[DOCKERFILE, IGNORE];
const DOCKERFILE: &str = "Dockerfile";
const IGNORE: &str = ".dockerignore";
/// What never belongs into an image of a Python project.
const IGNORED: &str = "\
# Nothing of the build, of a developer's machine or secret goes into the image.
Dockerfile*
.dockerignore
.git
.github
.env*
*.key
*.pem
**/.env*
**/*.key
**/id_rsa*
**/id_ed25519*
.netrc
.npmrc
.pypirc
.aws
.kube
**/__pycache__
**/*.pyc
.venv
venv
.pytest_cache
.mypy_cache
.ruff_cache
.tox
.coverage
*.sqlite3
node_modules
";

/// Everything that the text depends on.
pub(super) struct Recipe<'r> {
    pub(super) python: (u32, u32),
    pub(super) dependencies: &'r Dependencies,
    pub(super) app: &'r App,
    pub(super) server: &'r Server,
    pub(super) native: &'r Native,
    pub(super) port: u16,
}

impl Recipe<'_> {
    /// The files.
    pub(super) fn files(&self, project: &Project) -> Vec<(&'static str, String)> {
        let mut ignored = IGNORED.to_owned();
        for folder in ["tests", "docs"] {
            let used = self.lists().iter().any(|list| list.starts_with(&format!("{folder}/")));
            let there = project.files.keys().any(|path| path.starts_with(&format!("{folder}/")));
            if there && !used && self.app.root.as_deref() != Some(folder) {
                let _ = writeln!(ignored, "{folder}");
            }
        }
        vec![(DOCKERFILE, self.dockerfile()), (IGNORE, ignored)]
    }

    fn lists(&self) -> Vec<&str> {
        match &self.dependencies.list {
            List::Requirements(first, more) => {
                std::iter::once(first.as_str()).chain(more.iter().map(String::as_str)).collect()
            }
            List::Lock => vec!["pyproject.toml", "uv.lock"],
            List::Project => vec!["pyproject.toml"],
        }
    }

    fn dockerfile(&self) -> String {
        let (major, minor) = self.python;
        let mut text = format!(
            "\
# Heavy packages are installed in the full image, finished ones move to the slim one.

# Stage 1, the forge.
FROM python:{major}.{minor} AS builder
# With SOURCE_DATE_EPOCH set, Python writes .pyc files that are checked by hash, not by time; they don't go stale when
# the builder clamps times. Without it nothing changes.
ARG SOURCE_DATE_EPOCH
"
        );
        text.push_str(&apt("What some packages are built with.", &self.native.build));
        text.push_str("WORKDIR /app\n");
        self.install(&mut text);
        let site = format!("/usr/local/lib/python{major}.{minor}/site-packages");
        let _ = write!(text, "\n# Stage 2, the throne room.\nFROM python:{major}.{minor}-slim\n");
        text.push_str(&apt("Libraries and programs that packages need when they run.", &self.native.run));
        let _ = write!(text, "WORKDIR /app\nCOPY --from=builder {site} {site}\n");
        if let Some(script) = self.server.script {
            let _ = write!(
                text,
                "# pip puts commands beside the interpreter, not into site-packages: without this line CMD would not be found.\nCOPY --from=builder /usr/local/bin/{script} /usr/local/bin/{script}\n"
            );
        }
        text.push_str("COPY . .\n");
        if let Some(root) = &self.app.root {
            let _ = write!(text, "# Modules are found there.\nENV PYTHONPATH={}\n", word(&format!("/app/{root}")));
        }
        if self.app.kind != Kind::Script || self.app.port.is_some() {
            let _ = writeln!(text, "EXPOSE {}", self.port);
        }
        let words: Vec<String> =
            self.server.command.iter().map(|word| serde_json::Value::from(word.as_str()).to_string()).collect();
        let _ = writeln!(text, "CMD [{}]", words.join(", "));
        text
    }

    /// The lists are copied and installed before the source: an edit of the source installs nothing anew.
    fn install(&self, text: &mut String) {
        let lists = self.lists();
        let mut by_folder: Vec<(&str, Vec<&str>)> = Vec::new();
        for list in &lists {
            let folder = list.rsplit_once('/').map_or("", |(folder, _)| folder);
            match by_folder.iter_mut().find(|(other, _)| *other == folder) {
                Some((_, files)) => files.push(list),
                None => by_folder.push((folder, vec![list])),
            }
        }
        for (folder, files) in by_folder {
            let words: Vec<String> = files.iter().map(|file| word(file)).collect();
            let place = match folder {
                "" if files.len() == 1 => ".".to_owned(),
                folder => word(&format!("./{folder}{}", if folder.is_empty() { "" } else { "/" })),
            };
            let _ = writeln!(text, "COPY {} {place}", words.join(" "));
        }
        let pip = "pip install --no-cache-dir";
        // uv lies in a directory of its own, so that it stays behind in this stage.
        let uv = |export: &str| {
            format!("{pip} --prefix /opt/uv uv \\\n && /opt/uv/bin/uv {export} \\\n && {pip} -r /tmp/requirements.txt")
        };
        let command = match &self.dependencies.list {
            List::Requirements(first, _) => format!("{pip} -r {}", word(first)),
            List::Lock => uv("export --frozen --no-dev --no-emit-project -o /tmp/requirements.txt"),
            List::Project => {
                uv("pip compile pyproject.toml --system-certs --python /usr/local/bin/python -o /tmp/requirements.txt")
            }
        };
        let _ = writeln!(text, "RUN {command}");
        if let Some(package) = self.server.missing {
            let _ = write!(text, "# The server is in no list of the project.\nRUN {pip} {package}\n");
        }
    }
}

/// Debian packages, without a trace of the lists.
fn apt(why: &str, packages: &[&str]) -> String {
    if packages.is_empty() {
        return String::new();
    }
    format!(
        "# {why}\nRUN apt-get update \\\n && apt-get install -y --no-install-recommends {} \\\n && rm -rf /var/lib/apt/lists/*\n",
        packages.join(" ")
    )
}

/// A word as the Dockerfile and the shell take it literally.
fn word(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./+@:,=".contains(character);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
