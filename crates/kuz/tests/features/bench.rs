//! What all scenarios share: the program, one store, and the registry of stand-in base images.
//!
//! One store, so that pip runs once for scenarios that install the same. Each scenario has a repository of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use kuz_testkit::layout_server::{LayoutServer, Served};
use tempfile::TempDir;

/// The program, its store and its configuration.
#[derive(Debug)]
pub(crate) struct Bench {
    folder: PathBuf,
    /// Stops with the process.
    _server: LayoutServer,
}

static BENCH: OnceLock<Result<Bench, String>> = OnceLock::new();
/// Names under which the layouts of `cargo xtask bases` are served.
const BASES: [(&str, &str); 2] = [("3.10", "python-3.10"), ("3.10-slim", "python-3.10-slim")];

impl Bench {
    /// Set up on first use; the reason where the scenarios cannot be run.
    pub(crate) fn shared() -> Result<&'static Self, &'static str> {
        BENCH.get_or_init(Self::set_up).as_ref().map_err(String::as_str)
    }

    fn set_up() -> Result<Self, String> {
        let standin = std::env::var_os("KUZ_STANDIN").map_or_else(beside_the_program, PathBuf::from);
        let bases = BASES.map(|(tag, layout)| Served {
            repository: "library/python".into(),
            tag: tag.into(),
            layout: standin.join(layout),
        });
        let server = LayoutServer::start(bases.into()).map_err(|error| {
            format!("no stand-in base images in {} ({error}); make them with `cargo xtask bases`", standin.display())
        })?;
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
        std::fs::write(folder.path().join("kuz.toml"), server.config()).map_err(|error| error.to_string())?;
        // Removed by `clear`: statics are never dropped.
        Ok(Self { folder: folder.keep(), _server: server })
    }

    /// Empties the store, whose trees may belong to other ids, and removes what is left.
    pub(crate) fn clear() {
        if let Ok(bench) = Self::shared() {
            let pruned = bench.kuz().args(["store", "prune", "--all"]).output();
            let removed = std::fs::remove_dir_all(&bench.folder);
            if let Err(error) = pruned.map(drop).and(removed) {
                println!("note: {} is left behind: {error}", bench.folder.display());
            }
        }
    }

    /// The program, with the shared store.
    pub(crate) fn kuz(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kuz"));
        command.env("KUZ_STORE", self.folder.join("store")).env("KUZ_CONFIG", self.folder.join("kuz.toml"));
        command.env_remove("SOURCE_DATE_EPOCH");
        command
    }

    /// A directory of a scenario's own.
    pub(crate) fn scratch(&self) -> TempDir {
        tempfile::tempdir_in(&self.folder).expect("the bench's folder can be written")
    }
}

/// `target/standin`, beside `target/<profile>/kuz`.
fn beside_the_program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_kuz"));
    program.ancestors().nth(2).unwrap_or(Path::new("target")).join("standin")
}
