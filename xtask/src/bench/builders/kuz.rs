//! Kuznitsa itself: the static release program with a store and a configuration in the room.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Builder, Job, Site, quietly, version_of};
use crate::Outcome;
use crate::problem::Problem;

/// The program and its directory.
#[derive(Debug)]
pub(crate) struct Kuz {
    program: PathBuf,
    folder: PathBuf,
}

impl Kuz {
    pub(crate) fn new(program: &Path, site: &Site, name: &str) -> Outcome<Self> {
        let folder = site.folder(name)?;
        let config = format!("[registry.\"docker.io\"]\nmirrors = [\"{}\"]\norigin = false\n", site.bases);
        let file = folder.join("kuz.toml");
        fs::write(&file, config).map_err(Problem::file("write", &file))?;
        Ok(Self { program: program.to_owned(), folder })
    }

    fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUZ_STORE", self.store()).env("KUZ_CONFIG", self.folder.join("kuz.toml"));
        command
    }
}

impl Builder for Kuz {
    fn name(&self) -> &'static str {
        "kuz"
    }

    fn version(&self) -> String {
        version_of(&self.program, &["--version"])
    }

    fn programs(&self) -> &'static [&'static str] {
        &["kuz"]
    }

    fn reset(&mut self) -> Outcome {
        let store = self.store();
        if !store.exists() {
            return Ok(());
        }
        // Trees belong to ids that only the program can act as: it empties its store first.
        quietly(self.command().args(["store", "prune", "--all"]))?;
        fs::remove_dir_all(&store).map_err(Problem::file("remove", store))
    }

    fn build(&self, job: &Job) -> Command {
        let mut command = self.command();
        command.args(["build", "-t", &job.tag, "-f"]).arg(&job.dockerfile);
        if job.no_cache {
            command.arg("--no-cache");
        }
        command.arg(&job.context);
        command
    }

    fn push(&self, job: &Job, host: &str) -> Outcome<Option<Command>> {
        let mut command = self.command();
        command.args(["push", &job.tag, &format!("{host}/app:latest")]);
        Ok(Some(command))
    }
}

impl Drop for Kuz {
    fn drop(&mut self) {
        // What stays is taken away with the room.
        drop(self.reset());
    }
}
