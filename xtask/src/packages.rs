//! Debian packages that a task needs: installed when root, named exactly when not.

use crate::Outcome;
use crate::problem::Problem;
use crate::program;

/// A package, by a program of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    /// A program that is there when the package is.
    pub(crate) program: &'static str,
    pub(crate) reason: &'static str,
}

const fn package(name: &'static str, program: &'static str, reason: &'static str) -> Package {
    Package { name, program, reason }
}

/// What the stand-in images need.
pub(crate) const BASES: &[Package] = &[
    package("mmdebstrap", "mmdebstrap", "makes the stand-ins' Debian root"),
    package("binutils", "strip", "strips the stand-ins' Python"),
];

/// What RUN needs for an ordinary user.
pub(crate) const RUN: &[Package] = &[package("uidmap", "newuidmap", "maps subordinate ids for RUN without root")];

/// What tests compare with or look into images with.
pub(crate) const TEST: &[Package] = &[
    package("uidmap", "newuidmap", "RUN as an ordinary user"),
    package("busybox-static", "busybox", "a root file system for sandbox tests"),
    package("skopeo", "skopeo", "a second opinion on images and layouts"),
    package("podman", "podman", "loads and runs saved images"),
    package("runc", "runc", "runs them where podman's other runtime refuses the machine's cgroups"),
];

/// Sees to it that the packages are there, or says what to install.
pub(crate) fn require(packages: &[Package]) -> Outcome {
    let missing: Vec<Package> =
        packages.iter().copied().filter(|package| program::find(package.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let mend = format!("apt-get install --no-install-recommends {}", names.join(" "));
    let reasons: Vec<String> = missing.iter().map(|package| format!("{} ({})", package.name, package.reason)).collect();
    let problem = Problem::Missing { what: reasons.join(", "), mend: format!("as root: {mend}") };
    if !program::is_root() || program::find("apt-get").is_none() {
        return Err(problem);
    }
    crate::say(&format!("installing {}", names.join(" ")));
    install(&names).map_err(|error| {
        error.print();
        problem
    })
}

/// Installs; refreshes the lists only if the first try finds something missing.
fn install(names: &[&str]) -> Outcome {
    let apt = |arguments: &[&str]| {
        program::run(
            program::command("apt-get", ["-qq", "-y"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    let mut arguments = vec!["install", "--no-install-recommends"];
    arguments.extend(names);
    apt(&arguments).or_else(|_| apt(&["update"]).and_then(|()| apt(&arguments)))
}
