//! The words of the feature files, as actions on a copy of the example and assertions on what the program said.
#![expect(clippy::needless_pass_by_value, reason = "cucumber's expressions give text that the step owns")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cucumber::{World, given, then, when};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::bench::Bench;
use crate::inspect::{self, Saved};
use crate::podman::Podman;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/fastapi");
/// The port of the recipe's CMD.
const PORT: u16 = 8000;
/// How long a service may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(90);
/// The specification's fields, and no others.
const FIELDS: [&str; 5] = ["imageId", "tag", "size", "success", "message"];
/// Fails when a compiled file does not match its source, or when there is none to look at.
const STALE_PYC: &str = r"
import importlib.util, pathlib, sys
seen = 0
stale = []
for path in pathlib.Path('/usr/local/lib/python3.10/site-packages').rglob('*.pyc'):
    source = pathlib.Path(importlib.util.source_from_cache(str(path)))
    if not source.exists():
        continue
    seen += 1
    head = path.read_bytes()[:16]
    if int.from_bytes(head[4:8], 'little') & 1:
        fresh = importlib.util.source_hash(source.read_bytes()) == head[8:16]
    else:
        fresh = int.from_bytes(head[8:12], 'little') == int(source.stat().st_mtime) & 0xFFFFFFFF
    if not fresh:
        stale.append(str(path))
print(seen, 'compiled files,', len(stale), 'stale', stale[:3])
sys.exit(1 if stale or not seen else 0)
";

/// Scenarios whose last step could not be done here.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// How many there were.
pub(crate) fn skipped() -> usize {
    SKIPPED.load(Ordering::Relaxed)
}

/// What a `kuz build` said.
#[derive(Debug, Clone)]
struct Answer {
    code: Option<i32>,
    result: Value,
    stderr: String,
}

/// A scenario's state.
#[derive(Debug, World)]
#[world(init = Self::new)]
pub(crate) struct Repository {
    folder: TempDir,
    dockerfile: String,
    tag: String,
    epoch: Option<String>,
    answers: Vec<Answer>,
    saved: Vec<Saved>,
}

impl Repository {
    fn new() -> Self {
        let folder = bench().scratch();
        Self { folder, dockerfile: String::new(), tag: String::new(), epoch: None, answers: vec![], saved: vec![] }
    }

    fn context(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    fn build(&mut self) {
        let context = self.context();
        let mut command = bench().kuz();
        command.args(["build", "-t", &self.tag, "-f"]).arg(context.join(&self.dockerfile)).arg(&context);
        if let Some(epoch) = &self.epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        let output = command.stdin(Stdio::null()).output().expect("the program starts");
        let stdout = String::from_utf8(output.stdout).expect("the result is text");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let result: Value = serde_json::from_str(&stdout)
            .unwrap_or_else(|error| panic!("one JSON object on standard output ({error}): {stdout}\n{stderr}"));
        let fields: BTreeSet<&str> = result.as_object().expect("an object").keys().map(String::as_str).collect();
        assert!(fields.iter().all(|field| FIELDS.contains(field)), "no fields of our own: {stdout}");
        assert!(fields.contains("imageId") && fields.contains("success"), "{stdout}");
        assert_eq!(result["success"] == true, output.status.success(), "{stdout} and {}", output.status);
        self.answers.push(Answer { code: output.status.code(), result, stderr });
    }

    fn last(&self) -> &Answer {
        self.answers.last().expect("something was built")
    }

    fn image_id(&self) -> String {
        self.last().result["imageId"].as_str().expect("imageId is text").to_owned()
    }

    fn save(&mut self) -> Saved {
        let number = self.saved.len();
        let archive = self.folder.path().join(format!("image-{number}.tar"));
        let unpacked = self.folder.path().join(format!("image-{number}"));
        fs::create_dir(&unpacked).expect("the scenario's folder can be written");
        let mut command = bench().kuz();
        command.args(["image", "save", "--format", "docker-archive", "-o"]).arg(&archive).arg(&self.tag);
        assert!(command.status().expect("the program starts").success(), "the image can be saved by its tag");
        let saved = inspect::docker_archive(&archive, &unpacked);
        assert_eq!(saved.diff_ids, saved.layer_digests, "the configuration's diff ids are the layers' digests");
        self.saved.push(saved.clone());
        saved
    }

    /// Runs a command in the image; its exit code, and all it said.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = bench().kuz();
        let output = command.arg("run").arg(&self.tag).args(arguments).stdin(Stdio::null()).output();
        let output = output.expect("the program starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }
}

fn bench() -> &'static Bench {
    Bench::shared().expect("main looked first")
}

#[given("a repository with a valid libraries.list and working code")]
fn example(repository: &mut Repository) {
    let copied = Command::new("cp").args(["-r", EXAMPLE]).arg(repository.context()).status().expect("cp runs");
    assert!(copied.success());
}

#[given(expr = "the file {string} is missing")]
fn file_is_missing(repository: &mut Repository, name: String) {
    fs::remove_file(repository.context().join(name)).expect("it was there");
}

#[given(expr = "the file {string} says {string}")]
fn file_says(repository: &mut Repository, name: String, text: String) {
    fs::write(repository.context().join(name), text + "\n").expect("the repository can be written");
}

#[given(expr = "SOURCE_DATE_EPOCH is {word}")]
fn epoch(repository: &mut Repository, seconds: String) {
    repository.epoch = Some(seconds);
}

#[when(expr = "the image is built from {string} with the tag {string}")]
fn build(repository: &mut Repository, dockerfile: String, tag: String) {
    repository.dockerfile = dockerfile;
    repository.tag = tag;
    repository.build();
    if repository.last().code == Some(0) {
        repository.save();
    }
}

#[when("the same is built again")]
fn build_again(repository: &mut Repository) {
    repository.build();
}

#[when(expr = "the file {string} is edited and the same is built again")]
fn edit_and_build(repository: &mut Repository, name: String) {
    let path = repository.context().join(name);
    let text = fs::read_to_string(&path).expect("it is there");
    fs::write(&path, text + "\n# edited\n").expect("the repository can be written");
    repository.build();
}

#[then("the build succeeds")]
fn succeeds(repository: &mut Repository) {
    let answer = repository.last();
    assert_eq!(answer.code, Some(0), "{}\n{}", answer.result, answer.stderr);
    assert_eq!(answer.result["success"], true);
}

#[then(expr = "the build fails with exit code {int}")]
fn fails(repository: &mut Repository, code: i32) {
    let answer = repository.last();
    assert_eq!(answer.code, Some(code), "{}\n{}", answer.result, answer.stderr);
    assert_eq!(answer.result["success"], false);
    assert_eq!(answer.result["imageId"], "");
}

#[then(expr = "the result has the tag {string}")]
fn has_tag(repository: &mut Repository, tag: String) {
    assert_eq!(repository.last().result["tag"], tag);
}

#[then("the image is in the store under that tag, with that id and that size")]
fn is_stored(repository: &mut Repository) {
    let saved = repository.save();
    assert_eq!(saved.config_digest, repository.image_id());
    assert_eq!(Some(saved.bytes), repository.last().result["size"].as_u64());
}

#[then(expr = "no image {string} is in the store")]
fn is_not_stored(_: &mut Repository, tag: String) {
    let output = bench().kuz().args(["image", "inspect", &tag]).output().expect("the program starts");
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[then(expr = "the result's message names {string}")]
fn message_names(repository: &mut Repository, text: String) {
    let message = repository.last().result["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains(&text) && !message.contains('\n'), "{message:?}");
}

#[then(expr = "standard error shows the line {string}")]
#[then(expr = "standard error shows the text {string}")]
fn stderr_shows(repository: &mut Repository, text: String) {
    let stderr = &repository.last().stderr;
    assert!(stderr.contains(&text), "{stderr}");
}

#[then("the image id is the same")]
fn same_id(repository: &mut Repository) {
    let ids: BTreeSet<String> = repository.answers.iter().map(|answer| answer.result["imageId"].to_string()).collect();
    assert_eq!((ids.len(), repository.last().code), (1, Some(0)), "{ids:?}");
}

#[then("the image id is another")]
fn another_id(repository: &mut Repository) {
    let before = &repository.answers[repository.answers.len() - 2];
    assert_eq!(repository.last().code, Some(0));
    assert_ne!(before.result["imageId"], repository.last().result["imageId"]);
}

#[then("all layers but the last are the same")]
fn same_layers(repository: &mut Repository) {
    let before = repository.saved.last().expect("the first build was saved").diff_ids.clone();
    let after = repository.save().diff_ids;
    assert_eq!(before.len(), after.len());
    let (last_before, rest_before) = before.split_last().expect("it has layers");
    let (last_after, rest_after) = after.split_last().expect("it has layers");
    assert_eq!(rest_before, rest_after);
    assert_ne!(last_before, last_after);
}

#[then(expr = "starting the image ends with exit code {int} and says {string}")]
fn start_fails(repository: &mut Repository, code: i32, text: String) {
    let (ended, said) = repository.run(&[]);
    assert_eq!(ended, Some(code), "{said}");
    assert!(said.contains(&text), "{said}");
}

#[then("no compiled Python file in the image is stale")]
fn no_stale_pyc(repository: &mut Repository) {
    let (code, said) = repository.run(&["python3", "-c", STALE_PYC]);
    assert_eq!(code, Some(0), "{said}");
}

#[then("the final image has no compiler, and is smaller than one that is built in one stage")]
fn is_small(repository: &mut Repository) {
    let (code, said) = repository.run(&["sh", "-c", "command -v gcc"]);
    assert_ne!(code, Some(0), "{said}");
    let size = repository.last().result["size"].as_u64().expect("a size");
    let recipe = fs::read_to_string(repository.context().join("Dockerfile")).expect("it is there");
    let single: Vec<&str> =
        recipe.lines().filter(|line| !line.starts_with("FROM python:3.10-slim") && !line.contains("--from=")).collect();
    fs::write(repository.context().join("Dockerfile.single"), single.join("\n")).expect("it can be written");
    repository.dockerfile = "Dockerfile.single".into();
    repository.tag = "app:single".into();
    repository.build();
    succeeds(repository);
    let single = repository.last().result["size"].as_u64().expect("a size");
    assert!(size < single, "{size} bytes in two stages, {single} in one");
}

#[then("the service, started as the image says, answers over HTTP")]
fn answers(repository: &mut Repository) {
    let mut command = bench().kuz();
    command.arg("run").arg(&repository.tag).stdin(Stdio::null());
    let mut port = PORT;
    if TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).is_err() {
        // Somebody else's service: the same command, another port.
        port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("a port").port();
        command.args(["uvicorn", "main:app", "--host", "127.0.0.1", "--port", &port.to_string()]);
    }
    let mut service = Service(command.stderr(Stdio::null()).spawn().expect("the program starts"));
    let deadline = Instant::now() + PATIENCE;
    let well = loop {
        if let Some(answer) = get(port, "/healthz") {
            break answer;
        }
        assert!(Instant::now() < deadline, "no answer within {PATIENCE:?}");
        assert!(service.0.try_wait().expect("it is our child").is_none(), "the service ended by itself");
        thread::sleep(Duration::from_millis(50));
    };
    assert!(well.starts_with("HTTP/1.1 200 ") && well.ends_with(r#"{"status":"ok"}"#), "{well}");
    let greeting = get(port, "/").expect("it answered before");
    assert!(greeting.contains(r#""python":"3.10."#), "{greeting}");
    service.end();
}

#[then("podman loads the saved image under the same id, and runs it")]
fn runs_in_podman(repository: &mut Repository) {
    let podman = match Podman::new(repository.folder.path()) {
        Ok(podman) => podman,
        Err(reason) => {
            println!("skipped: {reason}");
            SKIPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    podman.load(&repository.folder.path().join("image-0.tar"));
    assert_eq!(podman.image_id(&repository.tag), repository.image_id());
    let said = podman.run(&repository.tag, &["python3", "-c", "import main; print(main.app.title)"]);
    assert_eq!(said.trim(), "Throne room");
}

/// A whole answer, or nothing where nobody answers yet.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A running image; ended also when an assertion fails.
struct Service(Child);

impl Service {
    /// As `docker stop` does, and it has to end.
    fn end(&mut self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while self.0.try_wait().expect("it is our child").is_none() {
            assert!(Instant::now() < deadline, "still there {PATIENCE:?} after SIGTERM");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // It may have ended meanwhile, which is what is wanted.
            let _gone = kill_process(pid, signal);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.signal(Signal::KILL);
            let _ended = self.0.wait();
        }
    }
}
