//! This machine's Python 3.10 as a tar for a stand-in image's /usr/local.
//!
//! In: a Python prefix. Out: `python.tar` with the interpreter, its libraries and headers, pip and setuptools; stripped,
//! without tests, .pyc files, static libraries and Tk, and with the old prefix replaced by /usr/local. Also the Debian
//! packages that own the libraries it loads. The prefix itself is only read.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::problem::Problem;
use crate::program::{command, read, run};

/// Where the stand-in has it.
const NEW_PREFIX: &str = "/usr/local";
/// One time for every file, so that the same prefix gives the same tar.
const MTIME: &str = "--mtime=@1700000000";
/// What an image of the official ones does not have either, or what they do not need.
const LEFT_OUT: &[&str] = &[
    "--exclude=__pycache__",
    "--exclude=*.a",
    "--exclude=test",
    "--exclude=tests",
    "--exclude=idlelib",
    "--exclude=tkinter",
    "--exclude=turtledemo",
    "--exclude=_tkinter.*",
    "--exclude=_test*.so",
    "--exclude=*/site-packages/*",
    "--exclude=bin/2to3*",
    "--exclude=bin/idle*",
    "--exclude=bin/pip*",
    "--exclude=bin/pydoc*",
    "--exclude=bin/*gdb*",
];
/// What stays of site-packages, as the official images have it.
const PACKAGES: &[&str] =
    &["pip", "pip-", "setuptools", "setuptools-", "pkg_resources", "_distutils_hack", "distutils-precedence.pth"];
/// Names beside `python3.10` and `pip3.10`.
const LINKS: &[(&str, &str)] = &[
    ("python3", "python3.10"),
    ("python", "python3"),
    ("python3-config", "python3.10-config"),
    ("python-config", "python3-config"),
    ("pip3", "pip3.10"),
    ("pip", "pip3"),
];
const PIP: &str =
    "#!/usr/local/bin/python3.10\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n";

/// A Python 3.10 that can be copied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Python {
    pub(crate) prefix: PathBuf,
    pub(crate) version: String,
}

impl Python {
    /// `PYTHON310_PREFIX`, else pyenv's newest.
    pub(crate) fn find() -> Outcome<Self> {
        let candidates = match std::env::var_os("PYTHON310_PREFIX").filter(|value| !value.is_empty()) {
            Some(prefix) => vec![PathBuf::from(prefix)],
            None => pyenv_prefixes(),
        };
        let usable = candidates.into_iter().find(|prefix| {
            prefix.join("bin/python3.10").is_file() && prefix.join("lib/python3.10/site-packages/pip").is_dir()
        });
        let prefix = usable.ok_or_else(|| Problem::Missing {
            what: "a CPython 3.10 with pip under a prefix of its own, for the stand-in images".into(),
            mend: "`pyenv install 3.10`, or PYTHON310_PREFIX=<where bin/python3.10 and lib/python3.10 are>".into(),
        })?;
        let script = "import platform; print(platform.python_version())";
        let version = read(&mut command(prefix.join("bin/python3.10"), ["-c", script]))?.trim().to_owned();
        Ok(Self { prefix, version })
    }

    /// Debian's names for the packages whose libraries this Python loads.
    pub(crate) fn runtime_packages(&self) -> Outcome<Vec<String>> {
        let mut files = vec![self.prefix.join("bin/python3.10")];
        let modules = self.prefix.join("lib/python3.10/lib-dynload");
        for entry in fs::read_dir(&modules).map_err(Problem::file("list", &modules))? {
            let path = entry.map_err(Problem::file("list", &modules))?.path();
            if !path.to_string_lossy().contains("_tkinter") {
                files.push(path);
            }
        }
        let libraries = linked_libraries(&read(&mut command("ldd", &files))?);
        let own = self.prefix.to_string_lossy().into_owned();
        let mut packages = BTreeSet::new();
        for library in libraries.iter().filter(|library| !library.starts_with(&own)) {
            packages.insert(owner(library)?);
        }
        Ok(packages.into_iter().collect())
    }

    /// Writes the tar; `stage` is a directory for its files that may be made anew.
    pub(crate) fn pack(&self, stage: &Path, tar: &Path) -> Outcome {
        if stage.exists() {
            fs::remove_dir_all(stage).map_err(Problem::file("remove", stage))?;
        }
        let library = stage.join("lib/python3.10/site-packages");
        fs::create_dir_all(&library).map_err(Problem::file("make", &library))?;
        self.copy_into(stage)?;
        let old = self.prefix.to_string_lossy().into_owned();
        rewrite(stage, &old)?;
        let binaries: Vec<PathBuf> = files_under(stage)?.into_iter().filter(|file| is_elf(file)).collect();
        run(command("strip", ["--strip-unneeded"]).args(&binaries))?;
        let bin = stage.join("bin");
        for (name, target) in LINKS {
            let link = bin.join(name);
            if fs::symlink_metadata(&link).is_ok() {
                fs::remove_file(&link).map_err(Problem::file("remove", &link))?;
            }
            symlink(target, &link).map_err(Problem::file("link", &link))?;
        }
        let pip = bin.join("pip3.10");
        fs::write(&pip, PIP).map_err(Problem::file("write", &pip))?;
        run(&mut command("chmod", [OsStr::new("755"), pip.as_os_str()]))?;
        let owner = ["--owner=0", "--group=0", "--numeric-owner", "--mode=u+rw,go+rX,go-w", "--sort=name", MTIME];
        run(command("tar", owner).arg("-C").arg(stage).arg("-cf").arg(tar).args(["bin", "include", "lib"]))
    }

    /// Copies what is wanted, through tar, whose exclusions say what is not.
    fn copy_into(&self, stage: &Path) -> Outcome {
        let part = stage.with_extension("part.tar");
        let pack = |from: &Path, what: &[String]| {
            run(command("tar", LEFT_OUT).arg("-C").arg(from).arg("-cf").arg(&part).args(what))
        };
        let unpack = |into: &Path| run(command("tar", ["-xf"]).arg(&part).arg("-C").arg(into));
        pack(&self.prefix, &["bin".into(), "include".into(), "lib".into()])?;
        unpack(stage)?;
        let packages = self.prefix.join("lib/python3.10/site-packages");
        pack(&packages, &kept_packages(&packages)?)?;
        unpack(&stage.join("lib/python3.10/site-packages"))?;
        fs::remove_file(&part).map_err(Problem::file("remove", &part))
    }
}

fn pyenv_prefixes() -> Vec<PathBuf> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv"));
    let Some(versions) = root.or(home).map(|root| root.join("versions")) else { return Vec::new() };
    let patch = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("3.10.")?.parse::<u32>().ok();
    let entries = fs::read_dir(versions).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| patch(path).is_some()).collect();
    found.sort_by_key(patch);
    found.reverse();
    found
}

fn kept_packages(folder: &Path) -> Outcome<Vec<String>> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder).map_err(Problem::file("list", folder))? {
        let name = entry.map_err(Problem::file("list", folder))?.file_name().to_string_lossy().into_owned();
        let wanted =
            |package: &&str| if package.ends_with('-') { name.starts_with(*package) } else { name == **package };
        if PACKAGES.iter().any(wanted) {
            kept.push(name);
        }
    }
    kept.sort();
    Ok(kept)
}

/// The files named in what `ldd` prints.
fn linked_libraries(ldd: &str) -> BTreeSet<String> {
    let named = ldd.lines().filter_map(|line| line.split_once("=> ")?.1.split(' ').next());
    named.filter(|path| path.starts_with('/')).map(str::to_owned).collect()
}

/// The package that owns a library; the linker may know it by its name from before /lib and /usr/lib were one.
fn owner(library: &str) -> Outcome<String> {
    let other = library.strip_prefix("/usr").map_or_else(|| format!("/usr{library}"), str::to_owned);
    for path in [library, &other] {
        let output = command("dpkg-query", ["--search", path]).output();
        let answer = output.map_err(|source| Problem::Start { program: "dpkg-query".into(), source })?;
        let line = String::from_utf8_lossy(&answer.stdout).into_owned();
        if let Some((package, _)) = line.split_once(':') {
            return Ok(package.to_owned());
        }
    }
    Err(Problem::Missing {
        what: format!("a Debian package that owns {library}, which this Python loads"),
        mend: "use a CPython 3.10 linked with the distribution's libraries (PYTHON310_PREFIX)".into(),
    })
}

/// Replaces the old prefix in text. Programs keep theirs: Python finds its prefix by where it lies, and `ldconfig` finds
/// its library; strings in programs may be other strings' tails, so that changing one can change another.
fn rewrite(stage: &Path, old: &str) -> Outcome {
    for file in files_under(stage)? {
        let bytes = fs::read(&file).map_err(Problem::file("read", &file))?;
        if let Some(changed) = rewrite_text(&bytes, old).filter(|_| !is_elf(&file)) {
            fs::write(&file, changed).map_err(Problem::file("write", &file))?;
        }
    }
    Ok(())
}

fn rewrite_text(bytes: &[u8], old: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.contains(old).then(|| text.replace(old, NEW_PREFIX).into_bytes())
}

fn is_elf(file: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    fs::File::open(file).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// Regular files, no links followed, in a fixed order.
fn files_under(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(Problem::file("list", &folder))? {
            let entry = entry.map_err(Problem::file("list", &folder))?;
            let kind = entry.file_type().map_err(Problem::file("look at", entry.path()))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let text = "a.so:\n\tlinux-vdso.so.1 (0x1)\n\tlibz.so.1 => /lib/libz.so.1 (0x2)\n\tlibgone.so => not found\n";
        assert_eq!(linked_libraries(text).into_iter().collect::<Vec<_>>(), ["/lib/libz.so.1"]);
    }

    #[test]
    fn only_text_that_names_the_prefix_is_rewritten() {
        let cases: [(&[u8], Option<&[u8]>); 3] = [
            (b"#!/opt/python310/bin/python3.10\n", Some(b"#!/usr/local/bin/python3.10\n")),
            (b"nothing", None),
            (b"\xff/opt/python310", None),
        ];
        for (before, after) in cases {
            assert_eq!(rewrite_text(before, "/opt/python310").as_deref(), after, "{before:?}");
        }
    }
}
