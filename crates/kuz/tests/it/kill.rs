//! `kill -9` at random moments: nothing recorded is lost, nothing is left over, and the next build gives the same image.
//!
//! `KUZ_KILLS=N` kills that often (15 by default), `KUZ_SEED=N` chooses the moments. The moment is a number of progress
//! lines, or a time up to what the command took unharmed. The victim is the program, the program with all that it
//! started, or its worker alone.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use kuz_image::tar::{Header, Kind, TarWriter};
use rustix::process::{Pid, Signal, kill_process};

use crate::kit::{Place, can_run};
use crate::traces;

const KILLS: u64 = 15;
/// The golden id is asked for after so many kills, and at the end.
const REBUILD_EVERY: u64 = 10;
/// A command that lost its worker must end within this time.
const HANGS: Duration = Duration::from_mins(1);
/// In the environment of every RUN.
const MARK: &str = "kuz-kill-mark";

const DOCKERFILE: &str = r"FROM big AS made
ENV MARK=kuz-kill-mark
RUN i=0; while [ $i -lt 60 ]; do mkdir -p /d/$i && echo $i > /d/$i/f && echo made $i; i=$((i+1)); done
RUN (setsid sleep 1000 &); for i in 1 2 3 4 5 6 7 8; do rm -r /d/$i; echo removed $i; done
FROM busybox
ENV MARK=kuz-kill-mark
WORKDIR /w
COPY . /context/
COPY --from=made /d /d
RUN cp -r /context /copied && echo copied
";

/// A generator of numbers that a seed fixes (`SplitMix64`).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }
}

#[derive(Debug, Clone, Copy)]
enum Moment {
    Lines(u64),
    After(Duration),
}

#[derive(Debug, Clone, Copy)]
enum Victim {
    Program,
    All,
    Worker,
}

/// What is started and killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// A build in a new store: pulls.
    Fresh,
    /// A build that runs every step again.
    NoCache,
    /// A build with one file of the context changed.
    Edited,
    /// The store's own cleaning.
    Prune,
}

struct Bench {
    place: Place,
    store: PathBuf,
    stores: u32,
    /// How long each task and how many lines it takes unharmed.
    normal: BTreeMap<&'static str, (Duration, u64)>,
    /// Kills that came too late.
    unharmed: u32,
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A layer with many files and one that does not compress.
fn layer() -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    let mut numbers = Numbers(7);
    let noise: Vec<u8> = (0..1 << 22).map(|_| u8::try_from(numbers.next(256)).unwrap()).collect();
    let mut put = |path: String, content: &[u8]| {
        let header = Header {
            path: path.into_bytes(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_700_000_000,
            size: content.len() as u64,
            link: Vec::new(),
            xattrs: BTreeMap::new(),
        };
        let mut content = content;
        tar.append(&header, &mut content).unwrap();
    };
    put("noise".into(), &noise);
    (0..500).for_each(|at| put(format!("many/{at}"), b"small"));
    tar.finish().unwrap()
}

impl Bench {
    fn new() -> Self {
        let mut place = Place::with_registry();
        let image = crate::base::busybox_with(vec![layer()]).unwrap();
        place.registry.as_ref().unwrap().put_image("library/big", "latest", &image).unwrap();
        place.dockerfile(DOCKERFILE);
        for at in 0..40 {
            place.write(&format!("ctx/files/{at}"), &format!("file {at}"));
        }
        place.set("SOURCE_DATE_EPOCH", "1700000000");
        let store = place.path("store");
        Self { place, store, stores: 0, normal: BTreeMap::new(), unharmed: 0 }
    }

    fn fresh_store(&mut self) {
        let removed = std::fs::remove_dir_all(&self.store);
        assert!(removed.is_ok() || !self.store.exists(), "{removed:?}");
        self.stores += 1;
        self.store = self.place.path(&format!("store{}", self.stores));
        self.place.set("KUZ_STORE", &self.store);
    }

    fn arguments(task: Task) -> &'static [&'static str] {
        match task {
            Task::Fresh | Task::Edited => &["build", "--progress=plain", "-t", "app", "ctx"],
            Task::NoCache => &["build", "--progress=plain", "--no-cache", "-t", "app", "ctx"],
            Task::Prune => &["store", "prune", "--all"],
        }
    }

    fn name(task: Task) -> &'static str {
        match task {
            Task::Fresh => "fresh",
            Task::NoCache => "no-cache",
            Task::Edited => "edited",
            Task::Prune => "prune",
        }
    }

    fn prepare(&mut self, task: Task, number: u64) {
        match task {
            Task::Fresh => self.fresh_store(),
            Task::NoCache => {}
            Task::Edited => self.place.write("ctx/files/0", &format!("edit {number}")),
            Task::Prune => drop(self.place.kuz(&["image", "rm", "app"])),
        }
    }

    /// Runs a task unharmed, to know how long it takes.
    fn measure(&mut self, task: Task) {
        self.prepare(task, 0);
        let began = Instant::now();
        let ran = self.place.kuz(Self::arguments(task));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let lines = ran.stderr.lines().count() as u64;
        self.normal.insert(Self::name(task), (began.elapsed(), lines));
    }

    /// The id of an unharmed build.
    fn id(&self) -> String {
        self.place.write("ctx/files/0", "file 0");
        self.place.build(&["-q", "-t", "app"]).id()
    }

    /// Starts a task and kills; what it wrote before.
    fn kill(&mut self, task: Task, moment: Moment, victim: Victim) -> Vec<String> {
        let mut command = self.place.command(Self::arguments(task));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(&mut child);
        let mut seen = Vec::new();
        wait_for(moment, &lines, &mut seen);
        self.unharmed += u32::from(child.try_wait().unwrap().is_some());
        let alone = strike(&mut child, victim);
        if !alone {
            // Without its worker the program must notice and end by itself.
            let end = Instant::now() + HANGS;
            let ended = loop {
                match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                    Ok(line) => seen.push(line),
                    Err(error) => break error == RecvTimeoutError::Disconnected,
                }
            };
            assert!(ended, "the program hangs without its worker: {seen:#?}");
        }
        child.wait().unwrap();
        seen
    }

    fn assert_clean(&self, what: &str) {
        let ran = self.place.kuz(&["store", "check"]);
        assert_eq!(ran.code, 0, "{what}: {}{}", ran.stdout, ran.stderr);
        let none: [String; 0] = [];
        assert_eq!(traces::unfinished(&self.place, &self.store), none, "{what}");
        assert_eq!(traces::mounts_of(self.place.dir.path()), none, "{what}");
        assert_eq!(traces::survivors(MARK, self.place.dir.path()), none, "{what}");
        let known = |name: &str| name.starts_with("store") || ["ctx", "home", "kuz.toml"].contains(&name);
        let entries = std::fs::read_dir(self.place.dir.path()).unwrap().flatten();
        let odd: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        assert!(odd.iter().all(|name| known(name)), "{what}: {odd:?}");
    }
}

fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    receiver
}

fn wait_for(moment: Moment, lines: &Receiver<String>, seen: &mut Vec<String>) {
    match moment {
        Moment::Lines(count) => seen.extend(lines.iter().take(usize::try_from(count).unwrap())),
        Moment::After(time) => {
            let end = Instant::now() + time;
            while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                seen.push(line);
            }
        }
    }
}

fn kill_pid(pid: u32) {
    // It may be gone already.
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL);
}

/// Kills; whether the program itself was hit.
fn strike(child: &mut Child, victim: Victim) -> bool {
    let below = traces::descendants(child.id());
    match victim {
        Victim::Program => {}
        Victim::All => {
            child.kill().unwrap();
            below.into_iter().for_each(kill_pid);
            return true;
        }
        Victim::Worker => {
            let worker = below.into_iter().find(|pid| traces::command_line(*pid).contains("kuz-sandbox-worker"));
            if let Some(worker) = worker {
                kill_pid(worker);
                return false;
            }
        }
    }
    child.kill().unwrap();
    true
}

/// What the program was doing, by the last line that it wrote.
fn phase(seen: &[String]) -> &'static str {
    let Some(last) = seen.last() else { return "start" };
    match last.as_str() {
        line if line.contains("base ") => "pull",
        line if line.contains("fetched") => "unpack",
        line if line.contains("  | ") => "RUN, running",
        line if line.contains("RUN") => "RUN, starting",
        line if line.contains("COPY") || line.contains("WORKDIR") => "COPY",
        line if line.contains("done in") => "between steps, pack, tag",
        _ => "look up, plan",
    }
}

#[test]
fn a_killed_build_loses_nothing_and_leaves_nothing() {
    if !can_run() {
        return;
    }
    let (kills, seed) = (number("KUZ_KILLS", KILLS), number("KUZ_SEED", 20_261_123));
    let mut numbers = Numbers(seed);
    let mut bench = Bench::new();
    for task in [Task::Fresh, Task::NoCache, Task::Edited, Task::Prune, Task::Fresh] {
        bench.measure(task);
    }
    let golden = bench.id();
    let mut phases: BTreeMap<String, u32> = BTreeMap::new();
    for round in 1..=kills {
        let task = match numbers.next(10) {
            0..4 => Task::Fresh,
            4..7 => Task::NoCache,
            7..9 => Task::Edited,
            _ => Task::Prune,
        };
        let (took, lines) = bench.normal[Bench::name(task)];
        let micros = u64::try_from(took.as_micros()).unwrap();
        let moment = match numbers.next(2) {
            0 => Moment::Lines(1 + numbers.next(lines)),
            _ => Moment::After(Duration::from_micros(numbers.next(micros))),
        };
        let victim = [Victim::Program, Victim::All, Victim::Worker][usize::try_from(numbers.next(3)).unwrap()];
        bench.prepare(task, round);
        let told = bench.kill(task, moment, victim);
        let what = format!("seed {seed}, kill {round}: {task:?} {moment:?} {victim:?} in {}", phase(&told));
        *phases.entry(format!("{}: {}", Bench::name(task), phase(&told))).or_default() += 1;
        bench.assert_clean(&what);
        if round % REBUILD_EVERY == 0 || round == kills {
            assert_eq!(bench.id(), golden, "{what}");
            bench.assert_clean(&format!("{what}, then a build"));
        }
    }
    eprintln!("{kills} kills (seed {seed}), {} after the end of the work: {phases:#?}", bench.unharmed);
}
