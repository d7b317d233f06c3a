//! Where the tests run: a directory of trees, a worker in it, and layers made of busybox; and the test users.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "only tests use it")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kuz_image::compress::Compression;
use kuz_image::tar::{Header, Kind, TarReader, TarWriter};
use kuz_rootfs::read::TreeFile;
use kuz_sandbox::{Cancel, Exit, Ids, Options, RunStep, SandboxError, Stream, Watched, Worker};

/// Set for a test that runs as an ordinary user: the program to start again.
const EXE: &str = "KUZ_SANDBOX_TEST_EXE";
const BUSYBOX: &str = "/bin/busybox";
/// Name, and whether it has subordinate ids.
const USERS: [(&str, bool); 2] = [("kuztestsub", true), ("kuztestone", false)];

/// A step that runs a shell script.
pub(crate) fn sh(script: &str) -> RunStep {
    RunStep {
        lowers: vec!["base".into()],
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".into(), "/bin:/usr/bin".into())],
        hostname: "box".into(),
        ..RunStep::default()
    }
}

/// The program that is worker and init.
pub(crate) fn probe() -> PathBuf {
    std::env::var_os(EXE).map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_kuz-sandbox-probe")), PathBuf::from)
}

/// Runs a test as whoever runs the tests, and, when that is root, as each test user in a process of its own.
pub(crate) fn everybody(name: &str, test: impl Fn(&Place)) {
    let Some(place) = Place::new() else { return };
    test(&place);
    drop(place);
    if !rustix::process::getuid().is_root() {
        return;
    }
    let programs = match programs() {
        Ok(programs) => programs,
        Err(reason) => {
            eprintln!("skipped: {name} as an ordinary user: {reason}");
            return;
        }
    };
    for (user, _) in USERS {
        let output = Command::new("setpriv")
            .args(["--reuid", user, "--regid", user, "--init-groups", "--"])
            .arg(programs.join("test"))
            .args(["--exact", name, "--nocapture"])
            .current_dir("/")
            .env(EXE, programs.join("probe"))
            .env("TMPDIR", "/tmp")
            .output()
            .unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "as {user}:\n{said}");
        assert!(said.contains("1 passed"), "as {user}, nothing ran:\n{said}");
        for line in said.lines().filter(|line| line.contains("skipped: ")) {
            eprintln!("{line} (as {user})");
        }
    }
}

/// Copies of the programs that every user may execute, and the users.
fn programs() -> Result<&'static Path, String> {
    static PROGRAMS: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = PROGRAMS.get_or_init(|| {
        if Command::new("setpriv").arg("--version").output().is_err() {
            return Err("setpriv is not installed".into());
        }
        for (user, subordinate) in USERS {
            make_user(user, subordinate)?;
        }
        // Left behind at the end: other tests of this process may still use them. One per process, in a fixed place.
        let directory = std::env::temp_dir().join("kuz-sandbox-tests");
        std::fs::create_dir_all(&directory).unwrap();
        let owner = rustix::fs::lstat(&directory).unwrap();
        if owner.st_uid != 0 || rustix::fs::FileType::from_raw_mode(owner.st_mode) != rustix::fs::FileType::Directory {
            return Err(format!("{} is somebody else's", directory.display()));
        }
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
        for (from, to) in [(std::env::current_exe().unwrap(), "test"), (probe(), "probe")] {
            let fresh = directory.join(format!("{to}.{}", std::process::id()));
            std::fs::copy(from, &fresh).unwrap();
            std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::rename(fresh, directory.join(to)).unwrap();
        }
        Ok(directory)
    });
    made.as_deref().map_err(Clone::clone)
}

fn make_user(user: &str, subordinate: bool) -> Result<(), String> {
    let exists = |file: &str| {
        std::fs::read_to_string(file).unwrap_or_default().lines().any(|line| line.starts_with(&format!("{user}:")))
    };
    let run = |program: &str, args: &[&str]| {
        let done = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    };
    if !exists("/etc/passwd") {
        run("useradd", &["--system", "--user-group", "--no-create-home", "--shell", "/bin/sh", user])?;
    }
    if subordinate && !exists("/etc/subuid") {
        run("usermod", &["--add-subuids", "300000000-300065535", "--add-subgids", "300000000-300065535", user])?;
    }
    Ok(())
}

/// How many processes have this text among their arguments.
pub(crate) fn processes_with(argument: &str) -> usize {
    let with = |entry: &std::fs::DirEntry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.split(|&b| b == 0).any(|word| word == argument.as_bytes())
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(with).count()
}

/// Waits, with a deadline, for something that happens by itself.
pub(crate) fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::yield_now();
    }
}

/// An entry of a layer.
pub(crate) enum Make<'a> {
    Dir(u32),
    File(&'a [u8]),
    Program(&'a [u8]),
    Link(&'a str),
}

/// A directory of trees and a worker in it.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) worker: Worker,
    pub(crate) ids: Ids,
    lowers: Vec<String>,
    number: AtomicUsize,
}

impl Place {
    /// `None`, and the reason on standard error, where this machine cannot run the tests.
    pub(crate) fn new() -> Option<Self> {
        Self::with(&Options { exe: Some(probe()), force_copy: false, ..Default::default() })
    }

    /// Another one of the same user.
    pub(crate) fn again() -> Self {
        Self::new().unwrap()
    }

    /// Another one that never overlays.
    pub(crate) fn copying() -> Self {
        Self::with(&Options { exe: Some(probe()), force_copy: true, ..Default::default() }).unwrap()
    }

    /// With other options.
    pub(crate) fn with(options: &Options) -> Option<Self> {
        let Ok(busybox) = std::fs::read(BUSYBOX) else {
            eprintln!("skipped: {BUSYBOX} is not there (apt-get install busybox-static)");
            return None;
        };
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let ids = kuz_sandbox::ids::detect(uid, gid, &user_name(uid), None).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let trees = directory.path().join("trees");
        std::fs::create_dir(&trees).unwrap();
        let worker = match Worker::start(&ids, File::open(&trees).unwrap().into(), options) {
            Ok(worker) => worker,
            Err(SandboxError::NoNamespaces { source }) => {
                eprintln!("skipped: no user namespaces here: {source}");
                return None;
            }
            Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)),
        };
        let place = Self { directory, worker, ids, lowers: vec!["base".into()], number: AtomicUsize::new(0) };
        place.make_base(&busybox);
        Some(place)
    }

    fn make_base(&self, busybox: &[u8]) {
        let probe = std::fs::read(probe()).unwrap();
        let libraries = libraries();
        let mut base = vec![
            ("bin", Make::Dir(0o755)),
            ("bin/busybox", Make::Program(busybox)),
            ("etc", Make::Dir(0o755)),
            ("etc/passwd", Make::File(b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")),
            ("etc/group", Make::File(b"root:x:0:\nstaff:x:50:app\napp:x:1001:\n")),
            ("etc/motd", Make::File(b"hello\n")),
            ("tmp", Make::Dir(0o1777)),
            ("bad-interpreter", Make::Program(b"#!/nowhere\n")),
            ("out", Make::Link("../../../../kuz-canary")),
            ("probe", Make::Program(&probe)),
        ];
        let applets = "sh cat env id ls tr readlink head cut grep stat find mknod touch setsid sleep kill true echo rm \
                       ping df tail wc tty mkdir hostname test pwd ln";
        let links: Vec<String> = applets.split_whitespace().map(|name| format!("bin/{name}")).collect();
        base.extend(links.iter().map(|path| (path.as_str(), Make::Link("busybox"))));
        base.extend(libraries.iter().map(|(path, content)| (path.as_str(), Make::Program(content))));
        self.make_layer("base", &base);
        self.make_layer("bare", &[("busybox", Make::Program(busybox))]);
        self.make_layer(
            "links",
            &[
                ("run", Make::Dir(0o755)),
                ("etc", Make::Dir(0o755)),
                ("etc/resolv.conf", Make::Link("../run/resolve/stub.conf")),
                ("etc/hosts", Make::Link("/../../../../run/hosts")),
            ],
        );
        self.make_layer("proc-link", &[("proc", Make::Link("/tmp"))]);
        self.make_layer("dev-file", &[("dev", Make::File(b""))]);
    }

    /// Unpacks a layer of these entries into a new tree.
    pub(crate) fn make_layer(&self, name: &str, entries: &[(&str, Make<'_>)]) {
        let mut writer = TarWriter::new(tempfile::tempfile().unwrap());
        for (path, make) in entries {
            let (kind, mode, content, link): (_, _, &[u8], &str) = match make {
                Make::Dir(mode) => (Kind::Dir, *mode, &[], ""),
                Make::File(content) => (Kind::File, 0o644, content, ""),
                Make::Program(content) => (Kind::File, 0o755, content, ""),
                Make::Link(target) => (Kind::Symlink, 0o777, &[], target),
            };
            let header = Header {
                path: path.as_bytes().to_vec(),
                kind,
                mode,
                uid: 0,
                gid: 0,
                mtime: 1_000_000_000,
                size: content.len() as u64,
                link: link.as_bytes().to_vec(),
                xattrs: BTreeMap::new(),
            };
            writer.append(&header, &mut &*content).unwrap();
        }
        let mut blob = writer.finish().unwrap();
        blob.rewind().unwrap();
        let applied = self.worker.apply(&blob, Compression::None, name).unwrap();
        assert!(applied.scanned.index.entries.len() >= entries.len());
    }

    /// The directory of this place.
    pub(crate) fn path(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    /// Another process of this user that runs a script on these trees, and dies when it likes.
    pub(crate) fn caller(&self, stdio: &str, script: &str) -> Command {
        let mut command = Command::new(probe());
        let trees = self.directory.path().join("trees");
        command.arg("run").arg(trees).args([&self.new_name(), stdio, script]);
        command.env("KUZ_TEST_USER", user_name(rustix::process::getuid().as_raw()));
        command
    }

    fn new_name(&self) -> String {
        format!("run-{}", self.number.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs a step and throws its changes away.
    pub(crate) fn run_with(
        &self,
        mut step: RunStep,
        output: &mut dyn FnMut(Stream, &[u8]),
        cancel: &Cancel,
    ) -> Result<Exit, SandboxError> {
        step.upper = self.new_name();
        if step.lowers.is_empty() {
            step.lowers.clone_from(&self.lowers);
        }
        let exit = self.worker.run(&step, output, cancel)?;
        self.worker.remove(&[step.upper])?;
        Ok(exit)
    }

    /// Runs a step that is asked into meanwhile.
    pub(crate) fn watch(&self, mut step: RunStep, cancel: &Cancel, watched: Watched) -> Result<Exit, SandboxError> {
        step.upper = self.new_name();
        let exit = self.worker.run_watched(&step, &mut |_, _| {}, cancel, watched)?;
        self.worker.remove(&[step.upper])?;
        Ok(exit)
    }

    pub(crate) fn try_run(&self, step: RunStep) -> Result<(Exit, String, String), SandboxError> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = |stream, bytes: &[u8]| match stream {
            Stream::Stdout => out.extend_from_slice(bytes),
            Stream::Stderr => err.extend_from_slice(bytes),
        };
        let exit = self.run_with(step, &mut output, &Cancel::new())?;
        Ok((exit, String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned()))
    }

    pub(crate) fn run(&self, step: RunStep) -> (Exit, String, String) {
        self.try_run(step).unwrap_or_else(|error| {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            panic!("{text}")
        })
    }

    /// Runs a step that must succeed and keeps its changes: the tree's name.
    pub(crate) fn run_keeping(&self, lowers: &[&str], step: RunStep) -> String {
        let upper = self.new_name();
        let lowers = lowers.iter().map(|&name| name.to_owned()).collect();
        let step = RunStep { lowers, upper: upper.clone(), ..step };
        let mut text = Vec::new();
        let exit = self.worker.run(&step, &mut |_, bytes| text.extend_from_slice(bytes), &Cancel::new());
        let exit = exit.unwrap_or_else(|error| {
            panic!("{error}: {:?}", std::error::Error::source(&error).map(|e| format!("{e}: {:?}", e.source())))
        });
        assert_eq!(exit, Exit::Code(0), "{:?}: {}", step.argv, String::from_utf8_lossy(&text));
        upper
    }

    /// A file's content, through the worker.
    pub(crate) fn read(&self, tree: &str, path: &str) -> Vec<u8> {
        let out = tempfile::tempfile().unwrap();
        let file = TreeFile { tree: tree.to_owned(), path: path.as_bytes().to_vec() };
        self.worker.export(&[file], &out.try_clone().unwrap().into()).unwrap();
        let mut out = out;
        out.rewind().unwrap();
        let mut reader = TarReader::new(out);
        let mut content = Vec::new();
        reader.next().unwrap().unwrap().read_to_end(&mut content).unwrap();
        content
    }

    /// Names in the trees directory that a run left behind (only root and a single user can look).
    pub(crate) fn left_over(&self) -> Vec<String> {
        let trees = self.directory.path().join("trees");
        let names = |path: std::path::PathBuf| -> Vec<String> {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let (own, mut left): (Vec<String>, Vec<String>) =
            names(trees.clone()).into_iter().partition(|name| name.starts_with("work-"));
        left.extend(own.into_iter().flat_map(|own| names(trees.join(own))));
        left.retain(|name| name.starts_with("run-"));
        left
    }
}

impl Drop for Place {
    /// The trees' files may belong to ids that only the worker may remove.
    fn drop(&mut self) {
        let names = std::fs::read_dir(self.directory.path().join("trees")).into_iter().flatten().flatten();
        let names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        if self.worker.remove(&names).is_err() {
            // It was killed; whoever comes next cleans up.
            let trees = File::open(self.directory.path().join("trees")).unwrap();
            let options = Options { exe: Some(probe()), force_copy: false, ..Default::default() };
            let _ = Worker::start(&self.ids, trees.into(), &options).and_then(|worker| worker.remove(&names));
        }
    }
}

pub(crate) fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let own = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&own));
    line.and_then(|line| line.split(':').next()).unwrap_or_default().to_owned()
}

/// The shared libraries of the probe, at the paths where it looks for them.
fn libraries() -> Vec<(String, Vec<u8>)> {
    let listed = Command::new("ldd").arg(probe()).output().unwrap();
    String::from_utf8_lossy(&listed.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(|path| (path.trim_start_matches('/').to_owned(), std::fs::read(path).unwrap()))
        .collect()
}
