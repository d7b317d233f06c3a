//! What the end-to-end tests share: the program in a directory of its own, a base image with a shell, results.
//!
//! Every test has its own store and configuration; nothing of the caller's environment reaches the program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kuz_testkit::registry::TestRegistry;
use serde_json::Value;
use tempfile::TempDir;

/// A directory for one test, and a registry if it wants one.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) registry: Option<TestRegistry>,
    env: BTreeMap<String, String>,
    user: Option<(u32, u32)>,
}

/// What the program did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        Self {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The one JSON object of `kuz build`.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "one line on standard output:\n{self:?}");
        let value: Value = serde_json::from_str(&self.stdout).unwrap();
        for key in value.as_object().unwrap().keys() {
            let known = ["imageId", "tag", "size", "success", "message"].contains(&key.as_str());
            assert!(known, "`{key}` is no field of the result");
        }
        assert_eq!(value["success"].as_bool(), Some(self.code == 0), "{self:?}");
        value
    }

    /// The id of a build that must have gone well.
    pub(crate) fn id(&self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self.json()["imageId"].as_str().unwrap().to_owned()
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("ctx")).unwrap();
        let mut place = Self { dir, registry: None, env: BTreeMap::new(), user: None };
        place.write("kuz.toml", "");
        place.set("KUZ_STORE", place.path("store"));
        place.set("KUZ_CONFIG", place.path("kuz.toml"));
        place.set("HOME", place.path("home"));
        place.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        place
    }

    /// With a registry that answers for docker.io; `busybox` is in it if this machine has a static one.
    pub(crate) fn with_registry() -> Self {
        let mut place = Self::new();
        let registry = TestRegistry::start().unwrap();
        place.write(
            "kuz.toml",
            &format!("[registry.\"docker.io\"]\nmirrors = [\"{}\"]\norigin = false\n", registry.host()),
        );
        if let Some(image) = crate::base::busybox() {
            registry.put_image("library/busybox", "latest", &image).unwrap();
        }
        place.registry = Some(registry);
        place
    }

    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) {
        self.env.insert(name.to_owned(), value.as_ref().to_string_lossy().into_owned());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// From now on the program is this user's: a copy of it in this directory, which becomes the user's with all that's in
    /// it. Only root can do that.
    pub(crate) fn give_to(&mut self, uid: u32, gid: u32) {
        std::fs::copy(program(), self.path("kuz")).unwrap();
        let chowned =
            Command::new("chown").args(["-R", &format!("{uid}:{gid}")]).arg(self.dir.path()).status().unwrap();
        assert!(chowned.success());
        self.user = Some((uid, gid));
    }

    /// Writes a file; `ctx/…` is the build context.
    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn dockerfile(&self, content: &str) {
        self.write("ctx/Dockerfile", content);
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.user {
            None => Command::new(program()),
            Some((uid, gid)) => {
                let mut command = Command::new(self.path("kuz"));
                std::os::unix::process::CommandExt::uid(&mut command, uid);
                std::os::unix::process::CommandExt::gid(&mut command, gid);
                command
            }
        };
        command.args(arguments).current_dir(self.dir.path()).env_clear().envs(&self.env).stdin(Stdio::null());
        command
    }

    /// The program with the usual signals, also where these tests were started with some ignored (as in a shell's
    /// background): it would rightly stay deaf to those.
    pub(crate) fn listening(&self, arguments: &[&str]) -> Command {
        let plain = self.command(arguments);
        let mut command = Command::new("env");
        command.arg("--default-signal=INT,TERM,HUP").arg(plain.get_program()).args(plain.get_args());
        command.current_dir(self.dir.path()).env_clear().envs(&self.env).stdin(Stdio::null());
        command
    }

    pub(crate) fn kuz(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command(arguments).output().unwrap())
    }

    /// `kuz build … ctx`
    pub(crate) fn build(&self, arguments: &[&str]) -> Ran {
        let mut all = vec!["build"];
        all.extend(arguments);
        all.push("ctx");
        self.kuz(&all)
    }

    /// `kuz image inspect`
    pub(crate) fn inspect(&self, image: &str) -> Value {
        let ran = self.kuz(&["image", "inspect", image]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }
}

/// The program under test.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_kuz"))
}

/// Says that a test did not run, and why. (The summary counts these lines.)
pub(crate) fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// Whether steps can run on this machine with the base that tests use; says why not.
pub(crate) fn can_run() -> bool {
    if crate::base::busybox().is_none() {
        skip("no static busybox (Debian: busybox-static)");
        return false;
    }
    true
}
