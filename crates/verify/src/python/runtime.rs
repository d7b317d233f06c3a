//! The Python that a command runs, and where it looks for modules.
//!
//! From paths, links, `pyvenv.cfg` and `.pth` files: prefix, version, `sys.path` in order. Nothing is claimed about an interpreter
//! other than `CPython`, nor where `PYTHONHOME` moves its library.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use kuz_image::{IndexEntry, Node};

use super::tags::Abi;
use super::tree::{Dir, Tree, split};
use crate::facts::{LayerFacts, Path};
use crate::subject::Subject;

/// An image with its directories, and what a command is given.
pub(super) struct Image<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) tree: Tree<'a>,
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) cwd: &'a str,
}

impl<'a> Image<'a> {
    /// A fact about the file at a path, links followed.
    pub(super) fn fact<T>(&self, path: &[u8], pick: impl Fn(&'a LayerFacts) -> &'a BTreeMap<Path, T>) -> Option<&'a T> {
        let (real, seen) = self.tree.at(path)?;
        self.subject.fact_in(seen.layer, &real, pick)
    }

    /// The contents of a small file.
    pub(super) fn kept(&self, path: &[u8]) -> Option<&'a [u8]> {
        self.fact(path, |facts| &facts.kept).map(Vec::as_slice)
    }

    /// A path as the command sees it.
    pub(super) fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.cwd.trim_end_matches('/')) }
    }

    /// The program that a name starts: its path.
    pub(super) fn which(&self, name: &str) -> Option<String> {
        let is_program =
            |path: &str| matches!(self.tree.at(path.as_bytes()), Some((_, seen)) if is_regular(seen.entry));
        if name.contains('/') {
            return Some(self.absolute(name)).filter(|path| is_program(path));
        }
        let path = self.env.get("PATH").map_or(PATH, String::as_str);
        path.split(':')
            .map(|dir| {
                format!("{}/{name}", self.absolute(if dir.is_empty() { "." } else { dir }).trim_end_matches('/'))
            })
            .find(|path| is_program(path))
    }
}

/// What runtimes use where an image sets no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn is_regular(entry: &IndexEntry) -> bool {
    matches!(entry.node, Node::File { .. } | Node::Hardlink(_))
}

/// Whose code a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The user's.
    App,
    /// Installed packages.
    Installed,
}

/// One place where modules are looked for.
#[derive(Debug, Clone)]
pub(super) enum Place<'a> {
    /// A directory.
    Dir(Rc<Dir<'a>>, Origin),
    /// Python's own library.
    Library,
}

/// An interpreter.
pub(super) struct Python<'a> {
    /// The path that starts it.
    pub(super) program: String,
    pub(super) abi: Abi,
    /// Where its own library is, if the image has it as files.
    pub(super) library: Option<Rc<Dir<'a>>>,
    /// Where packages are installed for it, in order, those that exist.
    pub(super) sites: Vec<Rc<Dir<'a>>>,
    /// The paths of those directories by rule, also if they do not exist.
    pub(super) site_paths: Vec<String>,
    /// Directories that `.pth` files add.
    pub(super) added: Vec<Rc<Dir<'a>>>,
    /// Lines of `.pth` files that name no directory of the image: the file and the line.
    pub(super) lost: Vec<(String, String)>,
    /// Something changes at its start how modules are found.
    pub(super) changed: Cell<bool>,
}

impl<'a> Python<'a> {
    /// The interpreter that a path starts, if it is a `CPython` 3.
    pub(super) fn at(image: &Image<'a>, program: &str) -> Option<Self> {
        let (real, _) = image.tree.at(program.as_bytes())?;
        let real = String::from_utf8(real).ok()?;
        let venv = venv_of(image, program);
        let (minor, free_threaded) = version_of_name(&real)
            .or_else(|| venv.as_ref().and_then(|venv| Some((venv.minor?, false))))
            .or_else(|| sole_library(image, prefix_of(&real)))?;
        let prefix = prefix_of(&real);
        let name = format!("python3.{minor}{}", if free_threaded { "t" } else { "" });
        let library = [format!("{prefix}/lib/{name}"), format!("{prefix}/lib64/{name}")]
            .iter()
            .filter_map(|path| image.tree.dir(path.as_bytes()))
            .find(|dir| dir.get(b"os.py").is_some() || dir.get(b"os.pyc").is_some());
        let abi = abi(image, minor, free_threaded, library.as_ref());
        let site_paths = site_paths(image, prefix, &name, venv.as_ref());
        let mut python = Self {
            program: program.to_owned(),
            abi,
            library,
            sites: Vec::new(),
            site_paths,
            added: Vec::new(),
            lost: Vec::new(),
            changed: Cell::new(image.env.contains_key("PYTHONHOME")),
        };
        for path in python.site_paths.clone() {
            if let Some(dir) = image.tree.dir(path.as_bytes())
                && !python.sites.iter().any(|known| known.path == dir.path)
            {
                python.read_pth(image, &dir);
                if dir.get(b"sitecustomize.py").is_some() || dir.get(b"usercustomize.py").is_some() {
                    python.changed.set(true);
                }
                python.sites.push(dir);
            }
        }
        Some(python)
    }

    /// `sys.path`: what the command puts first, `PYTHONPATH`, the library, installed packages.
    pub(super) fn search_path(&self, image: &Image<'a>, first: &[String]) -> Vec<Place<'a>> {
        let from_env = image.env.get("PYTHONPATH").map(String::as_str).unwrap_or_default();
        let before = first
            .iter()
            .map(|path| image.absolute(path))
            .chain(from_env.split(':').filter(|path| !path.is_empty()).map(|path| image.absolute(path)));
        let mut places: Vec<Place<'a>> = Vec::new();
        let add = |places: &mut Vec<Place<'a>>, dir: Rc<Dir<'a>>, origin| {
            if !places.iter().any(|place| matches!(place, Place::Dir(known, _) if known.path == dir.path)) {
                places.push(Place::Dir(dir, origin));
            }
        };
        for path in before {
            if let Some(dir) = image.tree.dir(path.as_bytes()) {
                let installed = super::read::is_installed(&dir.path);
                add(&mut places, dir, if installed { Origin::Installed } else { Origin::App });
            }
        }
        places.push(Place::Library);
        for dir in &self.sites {
            add(&mut places, Rc::clone(dir), Origin::Installed);
        }
        for dir in &self.added {
            let installed = super::read::is_installed(&dir.path);
            add(&mut places, Rc::clone(dir), if installed { Origin::Installed } else { Origin::App });
        }
        places
    }

    /// What a directory's `.pth` files add.
    fn read_pth(&mut self, image: &Image<'a>, site: &Rc<Dir<'a>>) {
        let mut names: Vec<&[u8]> = site.names().map(|(name, _)| name).filter(|name| name.ends_with(b".pth")).collect();
        names.sort_unstable();
        for name in names.into_iter().filter(|name| !name.starts_with(b".")) {
            let file = site.join(name);
            let Some(text) = image.kept(&file).and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
                self.changed.set(true);
                continue;
            };
            for line in text.lines().map(str::trim_end) {
                if line.trim().is_empty() || line.starts_with('#') {
                    continue;
                }
                if line.starts_with("import ") || line.starts_with("import\t") {
                    // Namespace packages and patches add no place; finders of editable installs do.
                    if ["finder", "meta_path", "sys.path", "addsitedir"].iter().any(|word| line.contains(word)) {
                        self.changed.set(true);
                    }
                    continue;
                }
                let base = String::from_utf8_lossy(&site.path);
                let path = if line.starts_with('/') { line.to_owned() } else { format!("/{base}/{line}") };
                match image.tree.dir(path.as_bytes()) {
                    Some(dir) => self.added.push(dir),
                    // A zip file or an egg: what is in it is not known.
                    None if image.tree.at(path.as_bytes()).is_some() => self.changed.set(true),
                    None => self.lost.push((format!("/{}", String::from_utf8_lossy(&file)), line.to_owned())),
                }
            }
        }
    }
}

/// `python3.10` gives 10, `python3.13t` 13 without the lock.
fn version_of_name(path: &str) -> Option<(u8, bool)> {
    let name = path.rsplit('/').next()?.strip_prefix("python3.")?;
    let (number, free) = name.strip_suffix('t').map_or((name, false), |number| (number, true));
    Some((number.parse().ok()?, free))
}

/// `usr/local` of `usr/local/bin/python3.10`.
fn prefix_of(program: &str) -> &str {
    let (bin, _) = program.rsplit_once('/').unwrap_or(("", program));
    bin.rsplit_once('/').map_or("", |(prefix, _)| prefix)
}

/// The version of the only library below a prefix.
fn sole_library(image: &Image<'_>, prefix: &str) -> Option<(u8, bool)> {
    let lib = image.tree.dir(format!("{prefix}/lib").as_bytes())?;
    let mut found = lib.names().filter_map(|(name, _)| {
        let version = version_of_name(std::str::from_utf8(name).ok()?)?;
        image.tree.child(&lib, name)?.get(b"os.py").map(|_| version)
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// A virtual environment.
struct Venv {
    path: String,
    minor: Option<u8>,
    system: bool,
}

/// The virtual environment that a program belongs to: its last link is not followed.
fn venv_of(image: &Image<'_>, program: &str) -> Option<Venv> {
    let (bin, _) = program.rsplit_once('/')?;
    let bin = image.tree.dir(bin.as_bytes())?;
    let (parent, _) = split(&bin.path);
    let candidates = [bin.path.as_slice(), parent];
    let (path, text) = candidates.into_iter().find_map(|dir| {
        let file = kuz_image::index::join(dir, b"pyvenv.cfg");
        image.tree.at(&file)?;
        Some((dir, image.kept(&file).unwrap_or_default()))
    })?;
    let text = String::from_utf8_lossy(text);
    let value = |wanted: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim().eq_ignore_ascii_case(wanted)).then(|| value.trim().to_owned())
        })
    };
    let version = value("version").or_else(|| value("version_info"));
    Some(Venv {
        path: String::from_utf8_lossy(path).into_owned(),
        minor: version.and_then(|version| version.split('.').nth(1)?.parse().ok()),
        system: value("include-system-site-packages").is_some_and(|value| value.eq_ignore_ascii_case("true")),
    })
}

/// Where packages are installed for an interpreter, in order.
fn site_paths(image: &Image<'_>, prefix: &str, name: &str, venv: Option<&Venv>) -> Vec<String> {
    let mut paths = Vec::new();
    if let Some(venv) = venv {
        paths.push(format!("/{}/lib/{name}/site-packages", venv.path));
        paths.push(format!("/{}/lib64/{name}/site-packages", venv.path));
        if !venv.system {
            return paths;
        }
    }
    if !image.env.contains_key("PYTHONNOUSERSITE") {
        let base = image.env.get("PYTHONUSERBASE").cloned().unwrap_or_else(|| format!("{}/.local", home(image)));
        paths.push(format!("{base}/lib/{name}/site-packages"));
    }
    let root = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
    // Debian's own Python has directories of its own, which it shares with no other.
    if prefix == "usr" && image.tree.dir(b"usr/lib/python3/dist-packages").is_some() {
        paths.push(format!("/usr/local/lib/{name}/dist-packages"));
        paths.push("/usr/lib/python3/dist-packages".into());
        paths.push(format!("/usr/lib/{name}/dist-packages"));
        return paths;
    }
    if prefix == "usr" {
        // Fedora's and its relatives' install below /usr/local.
        paths.push(format!("/usr/local/lib64/{name}/site-packages"));
        paths.push(format!("/usr/local/lib/{name}/site-packages"));
    }
    paths.push(format!("{root}/lib/{name}/site-packages"));
    paths.push(format!("{root}/lib64/{name}/site-packages"));
    paths
}

/// The home of the user that the command runs as.
fn home(image: &Image<'_>) -> String {
    if let Some(home) = image.env.get("HOME") {
        return home.clone();
    }
    let user = image.subject.config.config.user.as_deref().unwrap_or_default();
    let user = user.split(':').next().unwrap_or_default();
    if matches!(user, "" | "0" | "root") {
        return "/root".into();
    }
    let accounts = image.subject.stack.account_file(b"etc/passwd").unwrap_or_default();
    String::from_utf8_lossy(accounts)
        .lines()
        .find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let known = fields.first() == Some(&user) || fields.get(2) == Some(&user);
            fields.get(5).filter(|_| known).map(|home| (*home).to_owned())
        })
        .unwrap_or_else(|| "/".into())
}

/// What an interpreter takes, read off its own library where that has extension modules.
fn abi<'a>(image: &Image<'a>, minor: u8, free_threaded: bool, library: Option<&Rc<Dir<'a>>>) -> Abi {
    let tag = library.and_then(|library| image.tree.child(library, b"lib-dynload")).and_then(|dynload| {
        let marker = format!("cpython-3{minor}");
        dynload.names().find_map(|(name, _)| {
            let name = std::str::from_utf8(name).ok()?.strip_suffix(".so")?;
            name.split_once('.').map(|(_, tag)| tag.to_owned()).filter(|tag| tag.starts_with(&marker))
        })
    });
    let machine = match image.subject.config.architecture.as_str() {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "i686",
        // Its wheels are named by what the processor is called, which a platform does not say.
        "arm" => "",
        other => other,
    };
    let has = |folders: [&str; 4], start: &str| {
        folders
            .iter()
            .filter_map(|folder| image.tree.dir(folder.as_bytes()))
            .any(|dir| dir.names().any(|(name, _)| name.starts_with(start.as_bytes())))
    };
    let musl = has(["lib", "usr/lib", "lib64", "usr/lib64"], "ld-musl-");
    let glibc = has(["lib64", "lib", "usr/lib64", "usr/lib"], "ld-linux");
    let musl = match (musl, glibc) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    };
    Abi { minor, machine: machine.to_owned(), musl, extension: tag, free_threaded }
}
