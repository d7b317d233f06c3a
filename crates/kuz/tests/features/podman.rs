//! Another program's opinion on a saved image: podman loads it, names its id and runs it.
//!
//! Has storage of its own inside the scenario's folder, and gives it back when dropped. Needs root and podman; a machine
//! without them is a reason to skip, a podman that is there but fails is not.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// podman with its own storage.
pub(crate) struct Podman {
    folder: PathBuf,
    /// podman takes no path of over 50 characters here.
    run: tempfile::TempDir,
}

impl Podman {
    /// The reason where it cannot be used.
    pub(crate) fn new(folder: &Path) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("podman is tried as root only".to_owned());
        }
        let version = Command::new("podman").arg("--version").stdin(Stdio::null()).output();
        version.map_err(|error| format!("podman cannot be started: {error}"))?;
        let run = tempfile::tempdir().map_err(|error| error.to_string())?;
        Ok(Self { folder: folder.join("podman"), run })
    }

    pub(crate) fn load(&self, archive: &Path) {
        let output = self.command(&[]).args(["load", "--quiet", "--input"]).arg(archive).output().expect("it starts");
        said(&output);
    }

    /// `sha256:…`
    pub(crate) fn image_id(&self, tag: &str) -> String {
        let arguments = ["image", "inspect", "--format", "{{.Id}}", tag];
        let output = self.command(&[]).args(arguments).output().expect("it starts");
        format!("sha256:{}", said(&output).trim())
    }

    /// What a command in the image prints.
    pub(crate) fn run(&self, tag: &str, arguments: &[&str]) -> String {
        // Limits as they are for us: where they may not be raised, podman's own defaults fail.
        let options = ["run", "--rm", "--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", tag];
        let try_with = |runtime: &[&str]| self.command(runtime).args(options).args(arguments).output();
        let output = try_with(&[]).expect("it starts");
        if output.status.success() {
            return said(&output);
        }
        // crun refuses machines with both kinds of cgroups mounted; runc does not.
        said(&try_with(&["--runtime", "runc"]).expect("it starts"))
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.folder.join("storage")).arg("--runroot").arg(self.run.path());
        command.args(options).stdin(Stdio::null());
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Its overlays may still be mounted; what it cannot give back shows when the scenario's folder is removed.
        drop(self.command(&[]).args(["system", "reset", "--force"]).output());
    }
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "podman: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
