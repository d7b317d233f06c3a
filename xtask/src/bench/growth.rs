//! How the cost of a build grows with what is built: kuz alone, size after size.
//!
//! In: a clock, a room, the program. Out: curves of the seconds of a cold build and of one with nothing changed. All start
//! from `scratch`, so that neither a network nor a command is measured. The largest sizes take minutes and only come with
//! `--full`.

use std::fs;
use std::path::{Path, PathBuf};

use super::builders::{Builder as _, Job, Kuz, Site};
use super::clock::{Clock, Watched};
use super::floors;
use super::results::{Curve, Line};
use super::room::Room;
use super::statistics::Spread;
use super::workloads;
use crate::Outcome;
use crate::problem::Problem;
use crate::say;

/// Repetitions of a build with nothing changed.
const NOOPS: usize = 5;
/// Cold builds that take less are repeated.
const SHORT: f64 = 1.0;
const COLDS: usize = 3;

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Files,
    Layers,
    Steps,
    Stages,
    Bytes,
    Store,
}

/// How far a curve goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) quick: bool,
    pub(super) full: bool,
}

impl What {
    const ALL: [Self; 6] = [Self::Files, Self::Layers, Self::Steps, Self::Stages, Self::Bytes, Self::Store];

    /// Name, axis, and what is built.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Files => ("files", "files of 1 KB in the context", "`COPY tree /tree`"),
            Self::Layers => ("layers", "layers", "as many `COPY` of a file of a few bytes"),
            Self::Steps => ("steps", "steps", "as many `ENV`, which make no layer"),
            Self::Stages => ("stages", "stages", "a chain, each copies a small file from the one before"),
            Self::Bytes => ("bytes", "MB of one file", "`COPY blob /blob`, random bytes"),
            Self::Store => ("store", "images in the store", "one more small image beside them; cold: it is a new one"),
        }
    }

    fn sizes(self, extent: Extent) -> Vec<usize> {
        let (mut sizes, beyond) = match self {
            Self::Files => (vec![100, 1_000, 10_000, 100_000], Some(1_000_000)),
            Self::Layers => (vec![1, 4, 12, 40, 120], None),
            Self::Steps => (vec![1, 10, 100, 300, 1_000], None),
            Self::Stages => (vec![1, 7, 20, 70, 200], None),
            Self::Bytes | Self::Store => (vec![1, 10, 100, 1_000], Some(10_000)),
        };
        if extent.quick {
            sizes.truncate(3);
        } else if extent.full {
            sizes.extend(beyond);
        }
        sizes
    }

    /// A context of this size.
    fn make(self, folder: &Path, size: usize) -> Outcome {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(Problem::file("write", path))
        };
        let mut dockerfile = String::from("FROM scratch\n");
        match self {
            Self::Files => {
                workloads::small_files(&folder.join("tree"), size)?;
                dockerfile += "COPY tree /tree\n";
            }
            Self::Bytes => {
                workloads::random_file(&folder.join("blob"), (size as u64) * 1_000_000, size as u64)?;
                dockerfile += "COPY blob /blob\n";
            }
            Self::Layers => {
                for number in 0..size {
                    write(&format!("f{number}"), &format!("file {number}\n"))?;
                    line(&mut dockerfile, &format!("COPY f{number} /f{number}"));
                }
            }
            Self::Steps => {
                write("file", "a file\n")?;
                dockerfile += "COPY file /file\n";
                for number in 0..size {
                    line(&mut dockerfile, &format!("ENV NAME{number}=value{number}"));
                }
            }
            Self::Stages => {
                write("file", "a file\n")?;
                dockerfile = String::from("FROM scratch AS s0\nCOPY file /f0\n");
                for number in 1..size {
                    let before = number - 1;
                    line(&mut dockerfile, &format!("FROM scratch AS s{number}"));
                    line(&mut dockerfile, &format!("COPY --from=s{before} /f{before} /f{number}"));
                }
            }
            Self::Store => {
                write("file", &format!("image {size}\n"))?;
                dockerfile += "COPY file /file\n";
            }
        }
        write("Dockerfile", &dockerfile)
    }
}

fn line(text: &mut String, words: &str) {
    text.push_str(words);
    text.push('\n');
}

/// All curves.
pub(super) fn curves(clock: &Clock, room: &Room, program: &Path, site: &Site, extent: Extent) -> Outcome<Vec<Curve>> {
    let mut kuz = Kuz::new(program, site, "growth")?;
    let mut curves = Vec::new();
    for what in What::ALL {
        let (name, axis, about) = what.words();
        let mut cold = Line { name: "cold".into(), ..Line::default() };
        let mut noop = Line { name: "no-op".into(), ..Line::default() };
        kuz.reset()?;
        let mut images = 0;
        for size in what.sizes(extent) {
            say(&format!("growth: {} {axis}", workloads::grouped(size)));
            let folder = room.path.join("growth-context");
            let context = Context::make(folder, what, size)?;
            if what == What::Store {
                // The image that is measured is one of them.
                while images + 1 < size {
                    images += 1;
                    fill(clock, &kuz, &context.folder, images)?;
                }
            }
            match point(clock, room, &mut kuz, &context.job(), what)? {
                Ok((first, again)) => {
                    #[expect(clippy::cast_precision_loss, reason = "at most a million")]
                    let across = size as f64;
                    cold.points.push((across, first));
                    noop.points.push((across, again));
                }
                Err(reason) => {
                    let reason = format!("at {}: {reason}", workloads::grouped(size));
                    say(&reason);
                    cold.failed = Some(reason);
                    break;
                }
            }
        }
        curves.push(Curve {
            name: name.into(),
            axis: axis.into(),
            about: about.into(),
            day: String::new(),
            lines: vec![cold, noop],
        });
    }
    Ok(curves)
}

/// A context that goes away again.
#[derive(Debug)]
struct Context {
    folder: PathBuf,
}

impl Context {
    fn make(folder: PathBuf, what: What, size: usize) -> Outcome<Self> {
        fs::create_dir_all(&folder).map_err(Problem::file("make", &folder))?;
        let context = Self { folder };
        what.make(&context.folder, size)?;
        Ok(context)
    }

    fn job(&self) -> Job {
        Job {
            context: self.folder.clone(),
            dockerfile: self.folder.join("Dockerfile"),
            tag: "growth".into(),
            no_cache: false,
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // The room goes away as a whole in the end.
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// One more image in the store, unlike all others.
fn fill(clock: &Clock, kuz: &Kuz, context: &Path, number: usize) -> Outcome {
    let dockerfile = context.join("Dockerfile.other");
    let text = format!("FROM scratch\nLABEL number={number}\nCOPY file /other{number}\n");
    fs::write(&dockerfile, text).map_err(Problem::file("write", &dockerfile))?;
    let job = Job { context: context.into(), dockerfile, tag: format!("other:{number}"), no_cache: false };
    floors::run_once(clock, &kuz.build(&job)).map(drop)
}

/// Medians of a cold build and of one with nothing changed.
fn point(clock: &Clock, room: &Room, kuz: &mut Kuz, job: &Job, what: What) -> Outcome<Result<(f64, f64), String>> {
    let watched = Watched::default();
    let mut colds = Vec::new();
    while colds.len() < COLDS && colds.iter().all(|seconds| *seconds < SHORT) {
        if what == What::Store {
            // The store is what is measured: the image must be new, and the others stay.
            let text = format!("FROM scratch\nCOPY file /new-{}\n", unlike(colds.len(), job)?);
            fs::write(&job.dockerfile, text).map_err(Problem::file("write", &job.dockerfile))?;
        } else {
            kuz.reset()?;
        }
        room.settle();
        match clock.time(&kuz.build(job), &watched)? {
            Ok(reading) => colds.push(reading.wall),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    let mut noops = Vec::new();
    for _ in 0..NOOPS {
        match clock.time(&kuz.build(job), &watched)? {
            Ok(reading) => noops.push(reading.wall),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    let median = |values: &[f64]| Spread::of(values).map_or(0.0, |spread| spread.median);
    Ok(Ok((median(&colds), median(&noops))))
}

/// A word that differs for each cold build of a curve.
fn unlike(number: usize, job: &Job) -> Outcome<String> {
    let file = job.context.join("file");
    let text = fs::read_to_string(&file).map_err(Problem::file("read", &file))?;
    Ok(format!("{}-{number}", text.trim().replace(' ', "-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_has_as_many_of_what_grows_as_asked_for() {
        for (what, word, size, expected) in [
            (What::Layers, "COPY ", 12, 12),
            (What::Steps, "ENV ", 30, 30),
            (What::Stages, "FROM ", 7, 7),
            (What::Stages, "COPY ", 1, 1),
            (What::Bytes, "COPY ", 1, 1),
        ] {
            let folder = tempfile::tempdir().unwrap();
            what.make(folder.path(), size).unwrap();
            let text = fs::read_to_string(folder.path().join("Dockerfile")).unwrap();
            assert_eq!(text.lines().filter(|line| line.starts_with(word)).count(), expected, "{what:?}: {text}");
        }
    }

    #[test]
    fn the_largest_sizes_are_for_full_runs() {
        let sizes = |quick, full| What::Files.sizes(Extent { quick, full });
        assert_eq!(sizes(false, false).last(), Some(&100_000));
        assert_eq!(sizes(false, true).last(), Some(&1_000_000));
        assert_eq!(sizes(true, false).last(), Some(&10_000));
    }
}
