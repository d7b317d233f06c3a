//! Stand-ins for python:3.10 and python:3.10-slim, for machines where no registry answers.
//!
//! In: this machine's Debian sources, Python 3.10 and added certificate authorities. Out: an OCI layout for each image
//! under `target/standin`, built by `kuz` itself from `FROM scratch`, and a server that stands in for the registry. They
//! are not the official images; their labels say so. Made anew only when something they are made of changed.
//!
//!     target/standin/
//!       made.txt            what they were made of
//!       python-3.10/        OCI layout                context/    rootfs.tar, python.tar, machine/
//!       python-3.10-slim/   OCI layout                store/      kuz's store while they are made

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use kuz_testkit::layout_server::{LayoutServer, Served};

use crate::packages;
use crate::problem::Problem;
use crate::program::{self, Workspace, cargo, command, is_root};
use crate::python::Python;
use crate::{Outcome, say};

/// Tag, layout folder and Dockerfile.
const IMAGES: [(&str, &str, &str, &str); 2] = [
    ("3.10-slim", "python-3.10-slim", "slim.Dockerfile", include_str!("../standin/slim.Dockerfile")),
    ("3.10", "python-3.10", "full.Dockerfile", include_str!("../standin/full.Dockerfile")),
];
/// Where Debian and Ubuntu keep their own package sources.
const SOURCES: [&str; 3] =
    ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list.d/ubuntu.sources", "/etc/apt/sources.list"];
/// Where an administrator adds certificate authorities.
const AUTHORITIES: &str = "/usr/local/share/ca-certificates";
/// pip has a bundle of its own, which lacks what the administrator added.
const PIP_CONF: &str = "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n";

/// What `cargo xtask bases` is asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Options {
    serve: bool,
    force: bool,
}

impl Options {
    /// Names the first option that does not exist.
    pub(crate) fn parse(options: &[&str]) -> Result<Self, String> {
        let mut parsed = Self::default();
        for option in options {
            match *option {
                "--serve" => parsed.serve = true,
                "--force" => parsed.force = true,
                other => return Err(other.to_owned()),
            }
        }
        Ok(parsed)
    }
}

/// Builds kuz, then the images.
pub(crate) fn run(options: Options) -> Outcome {
    let workspace = Workspace::find()?;
    let kuz = build_kuz(&workspace, false)?;
    let folder = make(&workspace, &kuz, options.force)?;
    for (tag, layout, ..) in IMAGES {
        say(&format!("stand-in for python:{tag}: {}", folder.join(layout).display()));
    }
    if options.serve {
        let server = serve(&folder)?;
        say(&format!("serving on {} until standard input ends; put this into kuz.toml:", server.address()));
        println!("{}", server.config());
        let mut rest = Vec::new();
        std::io::stdin().read_to_end(&mut rest).map_err(Problem::file("read", "standard input"))?;
    }
    Ok(())
}

/// Builds the program and says where it is; `KUZ_PROGRAM` names one that is there already.
pub(crate) fn build_kuz(workspace: &Workspace, release: bool) -> Outcome<PathBuf> {
    if let Some(program) = std::env::var_os("KUZ_PROGRAM").filter(|value| !value.is_empty()) {
        return Ok(program.into());
    }
    if release {
        return build_static(workspace);
    }
    say("building kuz (debug)");
    program::run(cargo().args(["build", "--locked", "--package=kuz"]))?;
    Ok(workspace.target.join("debug/kuz"))
}

/// The program as it is given away: one static file, which needs no library of the machine that it runs on.
pub(crate) fn build_static(workspace: &Workspace) -> Outcome<PathBuf> {
    let about = program::read(&mut program::command("rustc", ["-vV"]))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| Problem::Answer("rustc -vV names no host".into()))?;
    say("building kuz (release, static)");
    // With a target named, the flags hold for the program and not for what runs during its build.
    let mut command = cargo();
    command.args(["build", "--locked", "--release", "--package=kuz", "--target", host]);
    program::run(command.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(workspace.target.join(host).join("release/kuz"))
}

/// A registry in which the stand-ins are Docker Hub's python images.
pub(crate) fn serve(folder: &Path) -> Outcome<LayoutServer> {
    let served = IMAGES.map(|(tag, layout, ..)| Served {
        repository: "library/python".into(),
        tag: tag.into(),
        layout: folder.join(layout),
    });
    LayoutServer::start(served.into())
        .map_err(|source| Problem::Net { action: "serve the stand-in images".into(), source })
}

/// Makes them if they are not there or made of something else; says where they are.
pub(crate) fn make(workspace: &Workspace, kuz: &Path, force: bool) -> Outcome<PathBuf> {
    let folder = workspace.target.join("standin");
    let python = Python::find()?;
    let machine = Machine::look()?;
    let made = describe(&python, &machine);
    let stamp = folder.join("made.txt");
    if !force && fs::read_to_string(&stamp).is_ok_and(|before| before == made) {
        return Ok(folder);
    }
    if !is_root() {
        return Err(Problem::Missing {
            what: "the stand-in images, which only root can make (Debian packages have files of several owners)".into(),
            mend: "run `cargo xtask bases` once as root".into(),
        });
    }
    packages::require(packages::BASES)?;
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Problem::file("remove", &folder))?;
    }
    let context = folder.join("context");
    fs::create_dir_all(&context).map_err(Problem::file("make", &context))?;
    say(&format!("making stand-ins of Debian {} and CPython {}", machine.codename, python.version));
    make_root(&machine, &folder, &context.join("rootfs.tar"))?;
    python.pack(&folder.join("python"), &context.join("python.tar"))?;
    machine.write(&context.join("machine"))?;
    let packages = python.runtime_packages()?.join(" ");
    for image in IMAGES {
        build(kuz, &folder, &python, &packages, image)?;
    }
    for leftover in ["python", "store", "context"] {
        let path = folder.join(leftover);
        if !path.exists() {
            continue;
        }
        fs::remove_dir_all(&path).map_err(Problem::file("remove", path))?;
    }
    fs::write(&stamp, made).map_err(Problem::file("write", &stamp))?;
    Ok(folder)
}

fn build(
    kuz: &Path,
    folder: &Path,
    python: &Python,
    packages: &str,
    (tag, layout, name, text): (&str, &str, &str, &str),
) -> Outcome {
    say(&format!("stand-in for python:{tag}: kuz build"));
    let dockerfile = folder.join("context").join(name);
    fs::write(&dockerfile, text).map_err(Problem::file("write", &dockerfile))?;
    let output = format!("type=oci,tar=false,dest={}", folder.join(layout).display());
    let mut build = command(kuz, ["build", "--progress=plain", "-t", &format!("python:{tag}")]);
    build.args(["--build-arg", &format!("RUNTIME_PACKAGES={packages}")]);
    build.args(["--build-arg", &format!("PYTHON_VERSION={}", python.version)]);
    build.args(["-o", &output, "-f"]).arg(&dockerfile).arg(folder.join("context"));
    program::read(build.env("KUZ_STORE", folder.join("store")))?;
    Ok(())
}

/// A minimal Debian as a tar, without device nodes and without this machine's name and resolver.
fn make_root(machine: &Machine, folder: &Path, tar: &Path) -> Outcome {
    let root = folder.join("root");
    let mut debian = command("mmdebstrap", ["--quiet", "--mode=root", "--variant=minbase", "--format=directory"]);
    for path in ["man", "doc", "locale", "info"] {
        debian.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
    }
    debian.arg("--dpkgopt=path-include=/usr/share/doc/*/copyright");
    program::run(debian.arg(&machine.codename).arg(&root).arg(&machine.sources))?;
    for (name, text) in [("resolv.conf", ""), ("hostname", "standin\n")] {
        let path = root.join("etc").join(name);
        fs::write(&path, text).map_err(Problem::file("write", path))?;
    }
    let options =
        ["--numeric-owner", "--sort=name", "--xattrs", "--exclude=./dev/*", "--exclude=./var/cache/apt/*.bin"];
    program::run(command("tar", options).arg("-C").arg(&root).arg("-cf").arg(tar).arg("."))?;
    fs::remove_dir_all(&root).map_err(Problem::file("remove", root))
}

/// What of this machine goes into the stand-ins.
#[derive(Debug)]
struct Machine {
    codename: String,
    sources: PathBuf,
    /// File name and content of added certificate authorities.
    authorities: Vec<(String, Vec<u8>)>,
}

impl Machine {
    fn look() -> Outcome<Self> {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
        let sources = SOURCES.iter().map(PathBuf::from).find(|path| path.is_file());
        let (Some(codename), Some(sources)) = (codename, sources) else {
            return Err(Problem::Missing {
                what: "apt's package sources of a Debian or Ubuntu, for the stand-in images".into(),
                mend: "use a machine where a registry answers, or Debian or Ubuntu".into(),
            });
        };
        let mut authorities = Vec::new();
        for entry in fs::read_dir(AUTHORITIES).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "crt") {
                let content = fs::read(&path).map_err(Problem::file("read", &path))?;
                authorities.push((entry.file_name().to_string_lossy().into_owned(), content));
            }
        }
        authorities.sort();
        Ok(Self { codename: codename.trim_matches('"').to_owned(), sources, authorities })
    }

    fn write(&self, folder: &Path) -> Outcome {
        let certificates = folder.join(AUTHORITIES.trim_start_matches('/'));
        fs::create_dir_all(&certificates).map_err(Problem::file("make", &certificates))?;
        for (name, content) in &self.authorities {
            let path = certificates.join(name);
            fs::write(&path, content).map_err(Problem::file("write", path))?;
        }
        let etc = folder.join("etc");
        fs::create_dir_all(&etc).map_err(Problem::file("make", &etc))?;
        fs::write(etc.join("pip.conf"), PIP_CONF).map_err(Problem::file("write", etc.join("pip.conf")))
    }
}

/// Everything that the images depend on, as text: when it is the same, they are.
fn describe(python: &Python, machine: &Machine) -> String {
    let mut text = format!(
        "python {} {}\ndebian {} {}\n",
        python.version,
        python.prefix.display(),
        machine.codename,
        machine.sources.display()
    );
    for (name, content) in &machine.authorities {
        for part in ["authority ", name, "\n", &String::from_utf8_lossy(content)] {
            text.push_str(part);
        }
    }
    for (.., dockerfile) in IMAGES {
        text.push_str(dockerfile);
    }
    text.push_str(include_str!("python.rs"));
    text.push_str(include_str!("bases.rs"));
    text
}
