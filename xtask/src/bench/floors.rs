//! What the machine itself needs for the heart of each workload: no builder can be faster by much.
//!
//! In: the room, the contexts, the bases' layouts. Out: floors, each with a sentence on how it is measured. They use the
//! machine's own programs; where one of several does, the fastest that is installed is taken and named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Instant;

use super::clock::{Clock, Reading, Watched};
use super::measure;
use super::room::Room;
use super::workloads::{Phase, Workload};
use crate::Outcome;
use crate::problem::Problem;
use crate::program::{self, command, is_root};

/// Programs that unpack gzip, fastest first.
const GUNZIP: [(&str, &str); 3] = [("igzip", "igzip -dc"), ("pigz", "pigz -dc"), ("gzip", "gzip -dc")];
/// Unpacks LAYER… into a directory, in order.
const UNPACK: &str = "set -e; into=$1; shift; for layer; do GUNZIP \"$layer\" | tar -x -C \"$into\"; done";
/// Namespaces are made already. Mounts an overlay over the root, makes it the root and runs one program there.
const ENTER: &str = "mount -t overlay -o lowerdir=$1/root,upperdir=$1/upper,workdir=$1/work overlay $1/merged && \
    cd $1/merged && pivot_root . mnt && exec /bin/true";
/// The recipe's pip, in the full base with an overlay over it.
const PIP: &str = "\
set -e
mount -t overlay -o lowerdir=$1/root,upperdir=$1/upper,workdir=$1/work overlay $1/merged
mount --rbind /dev $1/merged/dev
mount --bind /etc/resolv.conf $1/merged/etc/resolv.conf
cp \"$2\" $1/merged/tmp/libraries.list
# Settings of this machine's pip reach no builder's steps either.
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PATH=$path exec chroot $1/merged env -i PATH=$path HOME=/root pip install --no-cache-dir -r /tmp/libraries.list
";

/// How a floor is measured.
#[derive(Debug)]
enum Kind {
    Program(Vec<String>),
    /// The same, with fresh directories of these names beforehand.
    Fresh(Vec<&'static str>, Vec<String>),
    /// Looks at every file below, on all processors.
    Walk(PathBuf),
}

/// One floor.
#[derive(Debug)]
pub(super) struct Floor {
    pub(super) name: String,
    /// The phases it is a floor of.
    pub(super) of: Vec<Phase>,
    /// So many of them are in the workload.
    pub(super) times: f64,
    /// Measurements in a round.
    pub(super) repeats: usize,
    kind: Kind,
}

/// What the floors of a workload are, and why one is not measured here.
pub(super) fn of(workload: &Workload, room: &Room, bases: &Path) -> Outcome<Vec<Floor>> {
    let folder = room.path.join("floor");
    let inside = folder.to_string_lossy().into_owned();
    let one = |name: &str, of: &[Phase], repeats, kind| Floor {
        name: name.into(),
        of: of.to_vec(),
        times: 1.0,
        repeats,
        kind,
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let overlay = vec!["upper", "work", "merged"];
    let context = &workload.job.context;
    match workload.name {
        "recipe" => {
            let layers = layers(&bases.join("python-3.10"))?;
            let mut floors = vec![one("fork + exec of `/bin/true`", &[Phase::Noop, Phase::Edit], 10, {
                Kind::Program(words(&["/bin/true"]))
            })];
            if let Some((name, gunzip)) = GUNZIP.iter().find(|(name, _)| program::find(name).is_some()) {
                let mut unpack = words(&["sh", "-c", &UNPACK.replace("GUNZIP", gunzip), "sh"]);
                unpack.push(folder.join("unpacked").to_string_lossy().into_owned());
                unpack.extend(layers.iter().map(|layer| layer.to_string_lossy().into_owned()));
                let name = format!("full base's layers: `{name} \\| tar -x`, one after another");
                floors.push(one(&name, &[Phase::Cold], 1, Kind::Fresh(vec!["unpacked"], unpack)));
            }
            if is_root() {
                make_root(&folder, &layers)?;
                let list = context.join("libraries.list");
                let pip = words(&["unshare", "--mount", "sh", "-c", PIP, "sh", &inside, &list.to_string_lossy()]);
                floors.push(one("pip alone, in a ready root", &[Phase::Cold], 1, Kind::Fresh(overlay, pip)));
            }
            Ok(floors)
        }
        "run" if is_root() => {
            let namespaces = ["unshare", "--mount", "--pid", "--fork"];
            make_root(&folder, &layers(&bases.join("python-3.10-slim"))?)?;
            let ready = folder.join("root").to_string_lossy().into_owned();
            let enter: Vec<&str> = namespaces.iter().copied().chain(["sh", "-c", ENTER, "sh", &inside]).collect();
            let plain: Vec<&str> = namespaces.iter().copied().chain(["chroot", &ready, "/bin/true"]).collect();
            let mut floors = vec![
                one("`unshare … chroot ROOT /bin/true`", &[Phase::NoCache], 10, Kind::Program(words(&plain))),
                one(
                    "the same with overlay and pivot_root, by `sh`, `mount`, `pivot_root`",
                    &[Phase::NoCache],
                    10,
                    Kind::Fresh(overlay, words(&enter)),
                ),
            ];
            for floor in &mut floors {
                floor.times = 20.0;
            }
            Ok(floors)
        }
        "files" => {
            let tree = context.join("tree");
            let copy = folder.join("copy.tar").to_string_lossy().into_owned();
            let tar = words(&["tar", "-cf", &copy, "-C", &tree.to_string_lossy(), "."]);
            fs::create_dir_all(&folder).map_err(Problem::file("make", &folder))?;
            Ok(vec![
                one("`tar -c` into a file", &[Phase::Cold], 2, Kind::Program(tar)),
                one("walk + lstat, all processors", &[Phase::Noop], 5, Kind::Walk(tree)),
            ])
        }
        "blob" => {
            fs::create_dir_all(&folder).map_err(Problem::file("make", &folder))?;
            let (blob, copy) = (context.join("blob"), folder.join("copy"));
            let (blob, copy) = (blob.to_string_lossy().into_owned(), copy.to_string_lossy().into_owned());
            let hashes = [("sha256sum", "sha256sum"), ("openssl", "openssl dgst -sha256")];
            let hashes = hashes.into_iter().filter(|(name, _)| program::find(name).is_some());
            // A builder that promises its image after a power cut waits for the disk as well.
            let mut floors: Vec<Floor> = hashes
                .map(|(_, hash)| {
                    let copying = format!("cat \"$1\" | tee \"$2\" | {hash} > \"$2.sum\"");
                    let script = format!("rm -f \"$2\"; {copying}; sync \"$2\"");
                    let name = format!("`cat \\| tee FILE \\| {hash}; sync FILE`");
                    one(&name, &[Phase::Cold], 1, Kind::Program(words(&["sh", "-c", &script, "sh", &blob, &copy])))
                })
                .collect();
            floors.push(one("fork + exec of `/bin/true`", &[Phase::Noop], 10, Kind::Program(words(&["/bin/true"]))));
            Ok(floors)
        }
        _ => Ok(Vec::new()),
    }
}

impl Floor {
    /// Fresh directories, where it needs them, and nothing left to be written.
    pub(super) fn prepare(&self, room: &Room) -> Outcome {
        if let Kind::Fresh(names, _) = &self.kind {
            for name in names {
                let path = room.path.join("floor").join(name);
                if path.exists() {
                    fs::remove_dir_all(&path).map_err(Problem::file("remove", &path))?;
                }
                fs::create_dir_all(&path).map_err(Problem::file("make", path))?;
            }
        }
        if self.repeats < 3 {
            room.settle();
        }
        Ok(())
    }

    pub(super) fn time(&self, clock: &Clock) -> Outcome<Result<Reading, String>> {
        match &self.kind {
            Kind::Program(words) | Kind::Fresh(_, words) => {
                let (program, arguments) = words.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
                let mut one = Command::new(program);
                clock.time(one.args(arguments), &Watched::default())
            }
            Kind::Walk(folder) => {
                let started = Instant::now();
                walk(folder).map_err(Problem::file("walk", folder))?;
                let wall = started.elapsed().as_secs_f64();
                Ok(Ok(Reading { wall, cpu: 0.0, client: 0, daemon: 0, others: 0.0 }))
            }
        }
    }
}

/// Lists every directory and looks at every entry, with a thread for each processor; how many there are.
fn walk(folder: &Path) -> std::io::Result<usize> {
    let open = Mutex::new(vec![folder.to_owned()]);
    let next = || open.lock().unwrap_or_else(PoisonError::into_inner).pop();
    // The first directory alone, so that there is something to share.
    let mut count = 0;
    if let Some(first) = next() {
        count += look(&first, &open)?;
    }
    thread::scope(|scope| {
        let count_of = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads: Vec<_> = (0..count_of)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while let Some(one) = next() {
                        count += look(&one, &open)?;
                    }
                    Ok::<usize, std::io::Error>(count)
                })
            })
            .collect();
        for one in threads {
            count += one.join().unwrap_or(Ok(0))?;
        }
        Ok(count)
    })
}

fn look(folder: &Path, open: &Mutex<Vec<PathBuf>>) -> std::io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        count += 1;
        // `DirEntry::metadata` is an fstatat that follows no link.
        if entry.metadata()?.is_dir() {
            open.lock().unwrap_or_else(PoisonError::into_inner).push(entry.path());
        }
    }
    Ok(count)
}

/// The layers of a layout's only image, lowest first.
fn layers(layout: &Path) -> Outcome<Vec<PathBuf>> {
    let document = |path: PathBuf| -> Outcome<serde_json::Value> {
        let bytes = fs::read(&path).map_err(Problem::file("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| Problem::Answer(format!("{}: {error}", path.display())))
    };
    let blob = |value: &serde_json::Value| {
        let digest = value["digest"].as_str().unwrap_or_default();
        layout.join("blobs").join(digest.replace(':', "/"))
    };
    let index = document(layout.join("index.json"))?;
    let manifest = document(blob(&index["manifests"][0]))?;
    let layers: Vec<PathBuf> = manifest["layers"].as_array().into_iter().flatten().map(blob).collect();
    if layers.is_empty() { Err(Problem::Answer(format!("{}: no layers", layout.display()))) } else { Ok(layers) }
}

/// The layers unpacked over each other, as `root`.
fn make_root(folder: &Path, layers: &[PathBuf]) -> Outcome {
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).map_err(Problem::file("remove", &root))?;
    }
    fs::create_dir_all(&root).map_err(Problem::file("make", &root))?;
    let mut unpack = command("sh", ["-c", &UNPACK.replace("GUNZIP", "gzip -dc"), "sh"]);
    program::run(unpack.arg(&root).args(layers))
}

/// The fastest of the floors of a phase, for a ratio.
pub(super) fn least(floors: &[(f64, &Floor)], phase: Phase) -> Option<f64> {
    floors
        .iter()
        .filter(|(_, floor)| floor.of.contains(&phase))
        .map(|(median, floor)| median * floor.times)
        .reduce(f64::min)
}

/// A command that prepares, timed or not, has to go well.
pub(super) fn run_once(clock: &Clock, command: &Command) -> Outcome<Reading> {
    measure::must(clock.time(command, &Watched::default())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_sees_every_entry() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a/b/c", "a/d", "e"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("file"), "").unwrap();
        }
        // a, a/b, a/b/c, a/d, e and three files
        assert_eq!(walk(folder.path()).unwrap(), 8);
        assert!(walk(&folder.path().join("none")).is_err());
    }

    #[test]
    fn layers_are_read_from_a_layout_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(folder.path().join("index.json"), r#"{"manifests":[{"digest":"sha256:m"}]}"#).unwrap();
        fs::write(blobs.join("m"), r#"{"layers":[{"digest":"sha256:b"},{"digest":"sha256:a"}]}"#).unwrap();
        assert_eq!(layers(folder.path()).unwrap(), [blobs.join("b"), blobs.join("a")]);
        fs::write(blobs.join("m"), "{}").unwrap();
        assert!(layers(folder.path()).is_err());
    }
}
