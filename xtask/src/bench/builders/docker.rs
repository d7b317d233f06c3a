//! Docker with the BuildKit that is in its daemon.
//!
//! The daemon is the bench's own, with its storage in the room and the bases' registry as its mirror: one that runs
//! already has neither. It makes no bridge and no firewall rules: steps use the machine's network.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::super::daemon::Daemon;
use super::{Builder, Job, Site, locate, missing, quietly, require_root, version_of};
use crate::Outcome;
use crate::problem::Problem;

/// From this version on the client leaves BuildKit's builds to its plugin buildx.
const NEEDS_PLUGIN: u32 = 23;

/// A daemon of the bench's own, and a client that can talk to its BuildKit.
#[derive(Debug)]
pub(super) struct Docker {
    client: PathBuf,
    server: PathBuf,
    /// Sockets lie here: their paths must be short.
    folder: TempDir,
    daemon: Daemon,
}

impl Docker {
    pub(super) fn start(site: &Site) -> Outcome<Self> {
        require_root("docker")?;
        let server = locate("DOCKERD", "dockerd")?;
        let client = client()?;
        let folder = tempfile::Builder::new().prefix("kuz-bench-").tempdir();
        let folder = folder.map_err(Problem::file("make", env::temp_dir()))?;
        let storage = site.folder("docker")?;
        let mut command = Command::new(&server);
        command.arg("--data-root").arg(storage.join("root")).arg("--exec-root").arg(folder.path().join("exec"));
        command.arg("--pidfile").arg(folder.path().join("pid")).arg("-H").arg(address(folder.path()));
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--log-level=error"]);
        command.arg(format!("--registry-mirror=http://{}", site.bases));
        let daemon = Daemon::start("dockerd", &mut command, &site.room)?;
        let mut docker = Self { client, server, folder, daemon };
        let mut answers = docker.command();
        answers.arg("version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let answers = std::cell::RefCell::new(answers);
        docker.daemon.wait_until(|| answers.borrow_mut().status().is_ok_and(|status| status.success()))?;
        Ok(docker)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.client);
        command.arg("-H").arg(address(self.folder.path()));
        // Nothing of the user's: no contexts, no credentials.
        command.env("DOCKER_CONFIG", self.folder.path().join("config")).env("DOCKER_BUILDKIT", "1");
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command
    }
}

fn address(folder: &Path) -> String {
    format!("unix://{}", folder.join("sock").display())
}

/// The first client on PATH that can build with BuildKit as it is installed.
fn client() -> Outcome<PathBuf> {
    let named = env::var_os("DOCKER").filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|folder| folder.join("docker")).filter(|file| file.is_file());
    let candidates: Vec<PathBuf> = named.map_or_else(|| on_path.collect(), |one| vec![one]);
    if candidates.is_empty() {
        return Err(missing("docker is not installed", "DOCKER"));
    }
    let works = |client: &PathBuf| {
        let version = version_of(client, &["--version"]);
        let major = version.split('.').next().and_then(|text| text.parse::<u32>().ok());
        let plugin = || quietly(Command::new(client).args(["buildx", "version"])).is_ok();
        major.is_some_and(|major| major < NEEDS_PLUGIN) || plugin()
    };
    candidates.into_iter().find(works).ok_or_else(|| missing("docker's client lacks its plugin buildx", "DOCKER"))
}

impl Builder for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn version(&self) -> String {
        version_of(&self.server, &["--version"])
    }

    fn programs(&self) -> &'static [&'static str] {
        &["docker", "docker-buildx", "dockerd", "containerd", "containerd-shim-runc-v2", "runc", "docker-init"]
    }

    fn daemons(&self) -> Vec<u32> {
        vec![self.daemon.pid()]
    }

    fn reset(&mut self) -> Outcome {
        let images = self.command().args(["images", "--all", "--quiet", "--no-trunc"]).stdin(Stdio::null()).output();
        let images = images.map_err(|source| Problem::Start { program: "docker".into(), source })?;
        let text = String::from_utf8_lossy(&images.stdout).into_owned();
        let mut ids: Vec<&str> = text.lines().collect();
        ids.sort_unstable();
        ids.dedup();
        if !ids.is_empty() {
            quietly(self.command().args(["rmi", "--force"]).args(ids))?;
        }
        quietly(self.command().args(["builder", "prune", "--all", "--force"]))?;
        quietly(self.command().args(["image", "prune", "--all", "--force"]))
    }

    fn build(&self, job: &Job) -> Command {
        let mut command = self.command();
        command.args(["build", "--quiet", "--network=host", "-t", &job.tag, "-f"]).arg(&job.dockerfile);
        if job.no_cache {
            command.arg("--no-cache");
        }
        command.arg(&job.context);
        command
    }

    fn push(&self, job: &Job, host: &str) -> Outcome<Option<Command>> {
        let name = format!("{host}/app:latest");
        quietly(self.command().args(["tag", &job.tag, &name]))?;
        let mut command = self.command();
        command.args(["push", "--quiet", &name]);
        Ok(Some(command))
    }
}
