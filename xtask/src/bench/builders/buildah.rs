//! buildah and podman, which builds with buildah's code; no daemon.
//!
//! With layers cached, as BuildKit does it always, and with runc: the other runtime refuses some machines' cgroups.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{Builder, Job, Site, locate, missing, quietly, require_root, version_of};
use crate::Outcome;
use crate::problem::Problem;
use crate::program;

/// One of the two.
#[derive(Debug)]
pub(super) struct Buildah {
    name: &'static str,
    program: PathBuf,
    folder: PathBuf,
}

impl Buildah {
    pub(super) fn find(name: &'static str, site: &Site) -> Outcome<Self> {
        let program = locate(&name.to_ascii_uppercase(), name)?;
        require_root(name)?;
        if program::find("runc").is_none() {
            return Err(missing(format!("{name}'s runtime runc is not installed"), "install runc"));
        }
        let folder = site.folder(name)?;
        let registries = format!(
            "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"permissive\"\n[[registry]]\n\
             location = \"docker.io\"\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
            site.bases
        );
        let policy = "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}\n";
        for (file, text) in [("registries.conf", registries.as_str()), ("policy.json", policy)] {
            let path = folder.join(file);
            fs::write(&path, text).map_err(Problem::file("write", path))?;
        }
        Ok(Self { name, program, folder })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.folder.join("root")).arg("--runroot").arg(self.folder.join("run"));
        if self.name == "podman" {
            command.args(["--runtime", "runc", "--cgroup-manager=cgroupfs", "--events-backend=none", "--tmpdir"]);
            command.arg(self.folder.join("tmp"));
        }
        command.env("CONTAINERS_REGISTRIES_CONF", self.folder.join("registries.conf"));
        command
    }
}

impl Builder for Buildah {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> String {
        version_of(&self.program, &["--version"])
    }

    fn programs(&self) -> &'static [&'static str] {
        &["buildah", "podman", "conmon", "runc"]
    }

    fn much_like(&self) -> Option<&'static str> {
        (self.name == "podman").then_some("builds with buildah's code; `--peers=…,podman` measures it here too")
    }

    fn reset(&mut self) -> Outcome {
        quietly(self.command().args(["rm", "--all"]))?;
        quietly(self.command().args(["rmi", "--all", "--force"]))
    }

    fn build(&self, job: &Job) -> Command {
        let mut command = self.command();
        command.args(["build", "--quiet", "--layers", "--network=host", "--signature-policy"]);
        command.arg(self.folder.join("policy.json"));
        if self.name == "buildah" {
            command.args(["--runtime", "runc"]);
        }
        if job.no_cache {
            command.arg("--no-cache");
        }
        command.args(["-t", &job.tag, "-f"]).arg(&job.dockerfile).arg(&job.context);
        command
    }

    fn push(&self, job: &Job, host: &str) -> Outcome<Option<Command>> {
        let mut command = self.command();
        command.args(["push", "--quiet", "--tls-verify=false", "--signature-policy"]);
        command.arg(self.folder.join("policy.json")).args([&job.tag, &format!("docker://{host}/app:latest")]);
        Ok(Some(command))
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // Its overlay mounts would hold the room; what is left of it goes with the room.
        drop(quietly(self.command().args(["rm", "--all"])));
    }
}
