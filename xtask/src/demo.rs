//! The demo: builds the example with the program, starts it, asks it over HTTP, and says what was seen.
//!
//! In: where the base images come from. Out: a report on standard output; a problem if anything is not as it should be.
//! Docker Hub is used where it answers, else the stand-ins, and the report says which. Everything it makes lies under
//! `target/demo`; the program's release build is what is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kuz_testkit::layout_server::LayoutServer;
use rustix::process::{Pid, Signal, kill_process};

use crate::problem::Problem;
use crate::program::{self, Workspace, command, is_root};
use crate::{Outcome, bases, http, packages, say};

/// The port of the recipe's CMD.
const PORT: u16 = 8000;
/// How long the service may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);
/// `kuz` says with this code that no registry answered.
const NO_REGISTRY: i32 = 4;
/// The recipe in one stage, to compare sizes with.
const SINGLE: &str = "\
FROM python:3.10
WORKDIR /app
COPY libraries.list .
RUN pip install --no-cache-dir -r libraries.list
COPY . .
CMD uvicorn main:app --host 0.0.0.0 --port 8000
";

/// Where the base images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Auto,
    Hub,
    StandIn,
}

impl Source {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "hub" => Some(Self::Hub),
            "stand-in" => Some(Self::StandIn),
            _ => None,
        }
    }
}

/// A build's answer and how long it took.
#[derive(Debug)]
struct Built {
    json: String,
    image_id: String,
    bytes: u64,
    took: Duration,
}

/// The program with its store and configuration, all of the demo's own.
#[derive(Debug)]
struct Forge {
    kuz: PathBuf,
    folder: PathBuf,
    store: PathBuf,
    /// Set where the stand-ins are used.
    config: Option<PathBuf>,
    /// Serves the stand-ins while the demo runs.
    server: Option<LayoutServer>,
}

/// The task.
pub(crate) fn run(source: Source) -> Outcome {
    let workspace = Workspace::find()?;
    if !is_root() {
        packages::require(packages::RUN)?;
    }
    let kuz = bases::build_kuz(&workspace, true)?;
    let mut forge = Forge::new(&workspace, kuz)?;
    let bases = forge.choose_bases(source, &workspace)?;
    let example = forge.copy_example(&workspace)?;

    say("kuz build, nothing in the store");
    let first = forge.build("demo", &example, None)?;
    let answers = forge.ask("demo")?;
    say("kuz build, nothing changed");
    let again = forge.build("demo", &example, None)?;
    expect(again.image_id == first.image_id, "a build of the same files gave another image")?;
    let main = example.join("main.py");
    let text = fs::read_to_string(&main).map_err(Problem::file("read", &main))?;
    fs::write(&main, text + "\n# edited by the demo\n").map_err(Problem::file("write", &main))?;
    say("kuz build, main.py edited");
    let edited = forge.build("demo", &example, None)?;
    expect(edited.image_id != first.image_id, "an edited main.py gave the same image")?;
    say("kuz build, the same in one stage");
    let single = forge.folder.join("Dockerfile.single");
    fs::write(&single, SINGLE).map_err(Problem::file("write", &single))?;
    let single = forge.build("demo-single", &example, Some(&single))?;

    println!("\nbase images:        {bases}");
    println!("kuz build printed:  {}", first.json);
    for (path, answer) in answers {
        println!("{:<20}{answer}", format!("GET {path}"));
    }
    println!("image size:         {:.1} MB in two stages, {:.1} MB in one", megabytes(&first), megabytes(&single));
    println!("first build:        {:.1} s (bases, pip install and all)", first.took.as_secs_f64());
    println!("nothing changed:    {:.3} s", again.took.as_secs_f64());
    println!("main.py edited:     {:.3} s", edited.took.as_secs_f64());
    if forge.server.is_some() {
        println!("\nThe base images were local stand-ins, not the official ones: sizes and times differ from theirs.");
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure with one decimal")]
fn megabytes(built: &Built) -> f64 {
    built.bytes as f64 / 1e6
}

fn expect(holds: bool, otherwise: &str) -> Outcome {
    if holds { Ok(()) } else { Err(Problem::Answer(otherwise.to_owned())) }
}

impl Forge {
    /// A fresh store, so that the first build is a first build.
    fn new(workspace: &Workspace, kuz: PathBuf) -> Outcome<Self> {
        let folder = workspace.target.join("demo");
        let store = folder.join("store");
        if store.exists() {
            // Trees belong to ids that only the program can act as: it empties its store first.
            let prune = command(&kuz, ["store", "prune", "--all"]).env("KUZ_STORE", &store).output();
            prune.map_err(|source| Problem::Start { program: kuz.display().to_string(), source })?;
            fs::remove_dir_all(&store).map_err(Problem::file("remove", &store))?;
        }
        fs::create_dir_all(&folder).map_err(Problem::file("make", &folder))?;
        Ok(Self { kuz, folder, store, config: None, server: None })
    }

    /// Docker Hub where it answers, else the stand-ins; says which.
    fn choose_bases(&mut self, source: Source, workspace: &Workspace) -> Outcome<&'static str> {
        const HUB: &str = "python:3.10 and python:3.10-slim of Docker Hub";
        if source != Source::StandIn {
            say("asking Docker Hub for python:3.10-slim");
            match program::run(&mut self.command(["pull", "python:3.10-slim"])) {
                Ok(()) => return Ok(HUB),
                Err(Problem::Ended { code: Some(NO_REGISTRY), .. }) if source == Source::Auto => {
                    say("Docker Hub does not answer here: using local stand-ins for the base images");
                }
                Err(problem) => return Err(problem),
            }
        }
        let made = bases::make(workspace, &self.kuz, false)?;
        let server = bases::serve(&made)?;
        let config = self.folder.join("kuz.toml");
        fs::write(&config, server.config()).map_err(Problem::file("write", &config))?;
        self.config = Some(config);
        self.server = Some(server);
        Ok("local STAND-INS for python:3.10 and python:3.10-slim (not the official images)")
    }

    /// A copy, since the demo edits it.
    fn copy_example(&self, workspace: &Workspace) -> Outcome<PathBuf> {
        let copy = self.folder.join("fastapi");
        if copy.exists() {
            fs::remove_dir_all(&copy).map_err(Problem::file("remove", &copy))?;
        }
        let example = workspace.root.join("examples/fastapi");
        program::run(command("cp", ["-r", "--preserve=timestamps"]).arg(example).arg(&copy))?;
        Ok(copy)
    }

    fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = command(&self.kuz, arguments);
        command.env("KUZ_STORE", &self.store);
        if let Some(config) = &self.config {
            command.env("KUZ_CONFIG", config);
        }
        command
    }

    fn build(&self, tag: &str, context: &Path, dockerfile: Option<&Path>) -> Outcome<Built> {
        let mut build = self.command(["build", "-t", tag]);
        if let Some(dockerfile) = dockerfile {
            build.arg("-f").arg(dockerfile);
        }
        let started = Instant::now();
        let json = program::read(build.arg(context))?.trim().to_owned();
        let took = started.elapsed();
        let value: serde_json::Value = serde_json::from_str(&json)
            .map_err(|error| Problem::Answer(format!("kuz build printed no JSON ({error}): {json}")))?;
        let image_id = value["imageId"].as_str().unwrap_or_default().to_owned();
        let bytes = value["size"].as_u64().unwrap_or_default();
        expect(value["success"] == true && !image_id.is_empty() && bytes > 0, &format!("no image: {json}"))?;
        Ok(Built { json, image_id, bytes, took })
    }

    /// Starts the image as its CMD says, asks for two pages, ends it.
    fn ask(&self, image: &str) -> Outcome<Vec<(&'static str, String)>> {
        let mut run = self.command(["run", image]);
        let mut port = PORT;
        if !http::is_free(PORT) {
            port = http::free_port().map_err(|source| Problem::Net { action: "find a free port".into(), source })?;
            say(&format!("port {PORT} is taken on this machine: the service is started on {port}"));
            run.args(["uvicorn", "main:app", "--host", "127.0.0.1", "--port", &port.to_string()]);
        }
        say(&format!("kuz run {image}"));
        let child = run.stdin(Stdio::null()).spawn();
        let mut service = Service(child.map_err(|source| Problem::Start { program: "kuz run".into(), source })?);
        service.wait_until_well(port)?;
        let mut answers = Vec::new();
        for path in ["/", "/healthz"] {
            let answer = http::get(port, path);
            let (status, body) = answer.map_err(|source| Problem::Net { action: format!("GET {path}"), source })?;
            expect(status == 200, &format!("GET {path} answered {status}: {body}"))?;
            answers.push((path, format!("{status} {body}")));
        }
        service.end()?;
        Ok(answers)
    }
}

/// A started image; ended also when something goes wrong.
struct Service(Child);

impl Service {
    fn wait_until_well(&mut self, port: u16) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match http::get(port, "/healthz") {
                Ok((200, _)) => return Ok(()),
                answer if Instant::now() > deadline => {
                    return Err(Problem::Answer(format!("the service is not well after {PATIENCE:?}: {answer:?}")));
                }
                _ => thread::sleep(Duration::from_millis(100)),
            }
            if let Ok(Some(status)) = self.0.try_wait() {
                return Err(Problem::Answer(format!("the service ended by itself with {status}")));
            }
        }
    }

    /// Asks it to end, as `docker stop` does, and sees that it does.
    fn end(mut self) -> Outcome {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.0.try_wait() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(Problem::Answer(format!("the service did not end within {PATIENCE:?} of SIGTERM")))
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
