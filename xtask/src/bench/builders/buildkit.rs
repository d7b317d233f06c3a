//! BuildKit by itself: buildkitd, started by the bench, and buildctl.
//!
//! An image is kept in its content store (`type=image`), with the new layers compressed, as it does by default.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::super::daemon::Daemon;
use super::{Builder, Job, Site, locate, quietly, require_root, version_of};
use crate::Outcome;
use crate::problem::Problem;

/// A daemon of the bench's own and its client.
#[derive(Debug)]
pub(super) struct Buildkit {
    client: PathBuf,
    /// The socket lies here: its path must be short.
    folder: TempDir,
    daemon: Daemon,
}

impl Buildkit {
    pub(super) fn start(site: &Site) -> Outcome<Self> {
        let server = locate("BUILDKITD", "buildkitd")?;
        let client = locate("BUILDCTL", "buildctl")?;
        require_root("buildkit")?;
        let folder = tempfile::Builder::new().prefix("kuz-bench-").tempdir();
        let folder = folder.map_err(Problem::file("make", env::temp_dir()))?;
        let storage = site.folder("buildkit")?;
        let config = storage.join("buildkitd.toml");
        let text = format!(
            "insecure-entitlements = [\"network.host\"]\n[registry.\"docker.io\"]\nmirrors = [\"{0}\"]\n\
             [registry.\"{0}\"]\nhttp = true\ninsecure = true\n",
            site.bases
        );
        fs::write(&config, text).map_err(Problem::file("write", &config))?;
        let mut command = Command::new(server);
        command.arg("--config").arg(&config).arg("--root").arg(storage.join("root"));
        command.arg("--addr").arg(address(&folder));
        let daemon = Daemon::start("buildkitd", &mut command, &site.room)?;
        let mut buildkit = Self { client, folder, daemon };
        let mut answers = buildkit.command();
        answers.args(["debug", "workers"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let answers = std::cell::RefCell::new(answers);
        buildkit.daemon.wait_until(|| answers.borrow_mut().status().is_ok_and(|status| status.success()))?;
        Ok(buildkit)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.client);
        command.arg("--addr").arg(address(&self.folder));
        command
    }

    fn build_to(&self, job: &Job, output: &str) -> Command {
        let mut command = self.command();
        command.args(["build", "--progress=plain", "--frontend=dockerfile.v0", "--allow=network.host"]);
        command.args(["--opt=force-network-mode=host", "--output", output]);
        let folder = job.dockerfile.parent().unwrap_or(&job.context);
        command.arg("--local").arg(format!("context={}", job.context.display()));
        command.arg("--local").arg(format!("dockerfile={}", folder.display()));
        let name = job.dockerfile.file_name().unwrap_or_default().to_string_lossy();
        command.arg("--opt").arg(format!("filename={name}"));
        if job.no_cache {
            command.arg("--no-cache");
        }
        command
    }
}

fn address(folder: &TempDir) -> String {
    format!("unix://{}", folder.path().join("sock").display())
}

impl Builder for Buildkit {
    fn name(&self) -> &'static str {
        "buildkit"
    }

    fn version(&self) -> String {
        version_of(&self.client, &["--version"])
    }

    fn programs(&self) -> &'static [&'static str] {
        &["buildctl", "buildkitd", "buildkit-runc", "runc"]
    }

    fn daemons(&self) -> Vec<u32> {
        vec![self.daemon.pid()]
    }

    fn reset(&mut self) -> Outcome {
        quietly(self.command().args(["prune", "--all"]))
    }

    fn build(&self, job: &Job) -> Command {
        self.build_to(job, &format!("type=image,name={}", job.tag))
    }

    fn push(&self, job: &Job, host: &str) -> Outcome<Option<Command>> {
        // It pushes as a build's output: the same build again, from its cache.
        let job = Job { no_cache: false, ..job.clone() };
        let output = format!("type=image,name={host}/app:latest,push=true,registry.insecure=true");
        Ok(Some(self.build_to(&job, &output)))
    }
}
