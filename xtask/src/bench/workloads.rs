//! What is built: contexts and Dockerfiles, and in which phases they are measured.
//!
//! In: a directory and how large things are to be. Out: workloads whose contexts lie there. Contents are made by a
//! generator with a fixed beginning, so that every run builds the same; random bytes do not compress.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::builders::Job;
use crate::Outcome;
use crate::problem::Problem;
use crate::program::{self, Workspace, command};

/// Names that `--only=` takes, beside `growth`.
pub(super) const NAMES: [&str; 4] = ["recipe", "run", "files", "blob"];
const FILES: usize = 20_000;
const FILE_BYTES: usize = 1024;
/// Files in a directory of the context.
const IN_DIRECTORY: usize = 200;
const BLOB_BYTES: u64 = 1 << 30;
const RUNS: usize = 20;
/// With `--quick`, contexts are smaller by this.
const QUICKER: usize = 10;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is known: no image, no cache, no base.
    Cold,
    /// Every step anew, with the base at hand.
    NoCache,
    /// To an empty registry, after a build.
    Push,
    /// To the same registry.
    PushAgain,
    /// Nothing changed.
    Noop,
    /// One small file changed.
    Edit,
}

impl Phase {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::NoCache => "every step anew",
            Self::Push => "push, empty registry",
            Self::PushAgain => "push again",
            Self::Noop => "no-op",
            Self::Edit => "after an edit",
        }
    }
}

/// A build and how it is measured.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) title: String,
    pub(super) job: Job,
    /// Each with how often it is repeated in a round.
    pub(super) phases: Vec<(Phase, usize)>,
    /// The file that an edit changes.
    edited: PathBuf,
}

impl Workload {
    /// Whether it tells apart builders that share most of their code: their clients and how they run steps.
    pub(super) fn tells_likes_apart(&self) -> bool {
        matches!(self.name, "recipe" | "run")
    }

    /// Changes the file that [`Phase::Edit`] is about.
    pub(super) fn edit(&self, count: usize) -> Outcome {
        let mut text = fs::read_to_string(&self.edited).map_err(Problem::file("read", &self.edited))?;
        let kept = text.find("# edit ").unwrap_or(text.len());
        text.truncate(kept);
        text += &["# edit ", &count.to_string(), "\n"].concat();
        fs::write(&self.edited, text).map_err(Problem::file("write", &self.edited))
    }
}

/// Makes one of [`NAMES`].
pub(super) fn make(name: &str, folder: &Path, workspace: &Workspace, quick: bool) -> Outcome<Option<Workload>> {
    let size = |full: usize| if quick { full / QUICKER } else { full };
    let context = folder.join(name);
    fs::create_dir_all(&context).map_err(Problem::file("make", &context))?;
    let write = |file: &str, text: &str| {
        let path = context.join(file);
        fs::write(&path, text).map_err(Problem::file("write", path))
    };
    let few = if quick { 2 } else { 5 };
    let (name, title, phases, edited) = match name {
        "recipe" => {
            let example = workspace.root.join("examples/fastapi");
            program::run(command("cp", ["-r", "--preserve=timestamps"]).arg(example.join(".")).arg(&context))?;
            let phases = vec![
                (Phase::Cold, 1),
                (Phase::Push, 1),
                (Phase::PushAgain, 2),
                (Phase::Noop, few),
                (Phase::Edit, few.min(3)),
            ];
            ("recipe", "two-stage Python recipe".to_owned(), phases, "main.py")
        }
        "run" => {
            let text = format!("FROM python:3.10-slim\n{}", "RUN true\n".repeat(RUNS));
            write("Dockerfile", &text)?;
            ("run", format!("{RUNS} × `RUN true`"), vec![(Phase::NoCache, 1)], "Dockerfile")
        }
        "files" => {
            write("Dockerfile", "FROM scratch\nCOPY tree /tree\n")?;
            write("tree.txt", "")?;
            small_files(&context.join("tree"), size(FILES))?;
            let title = format!("COPY of {} files of 1 KB", grouped(size(FILES)));
            ("files", title, vec![(Phase::Cold, 1), (Phase::Noop, 2)], "tree.txt")
        }
        "blob" => {
            write("Dockerfile", "FROM scratch\nCOPY blob /blob\n")?;
            let bytes = BLOB_BYTES / if quick { QUICKER as u64 } else { 1 };
            random_file(&context.join("blob"), bytes, 1)?;
            let title = format!("COPY of one file of {} MB", grouped(usize::try_from(bytes >> 20).unwrap_or_default()));
            ("blob", title, vec![(Phase::Cold, 1), (Phase::Noop, 2)], "Dockerfile")
        }
        _ => return Ok(None),
    };
    let dockerfile = context.join("Dockerfile");
    let job = Job { dockerfile, tag: format!("bench-{name}"), no_cache: false, context: context.clone() };
    Ok(Some(Workload { name, title, job, phases, edited: context.join(edited) }))
}

/// That many files of 1 KB below a directory, no two alike.
pub(super) fn small_files(folder: &Path, count: usize) -> Outcome {
    let mut noise = Noise::new(7);
    let mut bytes = [0; FILE_BYTES];
    for number in 0..count {
        let directory = folder.join(format!("d{:04}", number / IN_DIRECTORY));
        if number % IN_DIRECTORY == 0 {
            fs::create_dir_all(&directory).map_err(Problem::file("make", &directory))?;
        }
        noise.fill(&mut bytes);
        let path = directory.join(format!("f{number:06}"));
        fs::write(&path, bytes).map_err(Problem::file("write", path))?;
    }
    Ok(())
}

/// A file of random bytes.
pub(super) fn random_file(path: &Path, bytes: u64, seed: u64) -> Outcome {
    let file = File::create(path).map_err(Problem::file("write", path))?;
    let mut writer = BufWriter::new(file);
    let mut noise = Noise::new(seed);
    let mut buffer = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
        noise.fill(&mut buffer[..part]);
        writer.write_all(&buffer[..part]).map_err(Problem::file("write", path))?;
        left -= part as u64;
    }
    writer.flush().map_err(Problem::file("write", path))
}

/// A number with a comma after each three digits.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes that look random and are the same each time (splitmix64).
#[derive(Debug)]
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_the_same_each_time_and_does_not_repeat() {
        let (mut first, mut again) = ([0; 4096], [0; 4096]);
        Noise::new(7).fill(&mut first);
        Noise::new(7).fill(&mut again);
        assert_eq!(first, again);
        let mut words: Vec<&[u8]> = first.chunks(8).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 512);
    }

    #[test]
    fn an_edit_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let edited = folder.path().join("main.py");
        fs::write(&edited, "x = 1\n").unwrap();
        let job =
            Job { context: folder.path().into(), dockerfile: edited.clone(), tag: String::new(), no_cache: false };
        let workload = Workload { name: "x", title: String::new(), job, phases: Vec::new(), edited: edited.clone() };
        for count in [1, 2] {
            workload.edit(count).unwrap();
            assert_eq!(fs::read_to_string(&edited).unwrap(), format!("x = 1\n# edit {count}\n"));
        }
    }

    #[test]
    fn contexts_have_as_many_files_and_bytes_as_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        small_files(folder.path(), 401).unwrap();
        let directories = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(directories, 3);
        let last = folder.path().join("d0002/f000400");
        assert_eq!(fs::metadata(last).unwrap().len(), 1024);
        let blob = folder.path().join("blob");
        random_file(&blob, (1 << 20) + 5, 1).unwrap();
        assert_eq!(fs::metadata(blob).unwrap().len(), (1 << 20) + 5);
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (20_000, "20,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
