//! What a run of the program may leave on the machine, looked for from outside: mounts, processes, unfinished files.
//!
//! In: a place and its store. Out: lists, empty where all is well, and a canary that must not change. Reads `/proc`.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kit::Place;

/// How long a killed process may take to be gone.
const DYING: Duration = Duration::from_secs(10);

/// Process ids of this machine.
pub(crate) fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A process's children, and theirs.
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = processes().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![of];
    let mut at = 0;
    while let Some(&one) = found.get(at) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == one).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The arguments of a process, spaces between them.
pub(crate) fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Processes that have a word in their arguments or environment, or a file below a directory open.
pub(crate) fn processes_with(word: &str, directory: &Path) -> Vec<String> {
    let has_word = |pid: &u32| {
        ["cmdline", "environ"].iter().any(|file| {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            bytes.windows(word.len()).any(|window| window == word.as_bytes())
        })
    };
    let has_file = |pid: &u32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().map(|fd| fd.path());
        let all = open.chain(["cwd", "root", "exe"].map(|name| PathBuf::from(format!("/proc/{pid}/{name}"))));
        all.filter_map(|link| std::fs::read_link(link).ok()).any(|target| target.starts_with(directory))
    };
    let own = std::process::id();
    let found = processes().into_iter().filter(|pid| *pid != own).filter(|pid| has_word(pid) || has_file(pid));
    found.map(|pid| format!("{pid} {}", command_line(pid))).collect()
}

/// Waits for such processes to be gone; those that stay.
pub(crate) fn survivors(word: &str, directory: &Path) -> Vec<String> {
    let end = Instant::now() + DYING;
    loop {
        let found = processes_with(word, directory);
        if found.is_empty() || Instant::now() > end {
            return found;
        }
        std::thread::yield_now();
    }
}

/// Mounts of this machine that have to do with a directory.
pub(crate) fn mounts_of(directory: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let name = directory.to_str().unwrap();
    table.lines().filter(|line| line.contains(name)).map(str::to_owned).collect()
}

/// Unfinished work and unknown trees in the store that `KUZ_STORE` names.
pub(crate) fn unfinished(place: &Place, store: &Path) -> Vec<String> {
    let names = |directory: PathBuf| -> Vec<String> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let mut left: Vec<String> = names(store.join("tmp")).iter().map(|name| format!("tmp/{name}")).collect();
    for ids in names(store.join("trees")) {
        let trees = names(store.join("trees").join(&ids));
        // Whether a tree has a record is the store's knowledge: see its `waste` below.
        let odd = trees.iter().filter(|name| name.len() != 24 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()));
        left.extend(odd.map(|name| format!("trees/{ids}/{name}")));
    }
    let ran = place.kuz(&["store", "du", "--format", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let usage: Value = serde_json::from_str(&ran.stdout).unwrap();
    let waste = usage.as_array().unwrap().iter().find(|kind| kind["kind"] == "waste").unwrap()["count"].as_u64();
    if waste != Some(0) {
        left.push(format!("{waste:?} trees without a record"));
    }
    left
}

/// The entries of a layer of an image in the store, read out of a saved copy.
pub(crate) fn layer_entries(place: &Place, image: &str, number: usize) -> Vec<kuz_image::tar::Header> {
    let directory = place.path("saved");
    let saved = place.kuz(&["image", "save", "--format", "oci-dir", "-o", directory.to_str().unwrap(), image]);
    assert_eq!(saved.code, 0, "{}", saved.stderr);
    let digest = place.inspect(image)["layers"][number]["diffId"].as_str().unwrap()[7..].to_owned();
    let tar = std::fs::read(directory.join("blobs/sha256").join(digest)).unwrap();
    std::fs::remove_dir_all(directory).unwrap();
    let mut reader = kuz_image::tar::TarReader::new(tar.as_slice());
    let mut headers = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        headers.push(entry.header().clone());
    }
    headers
}

/// Everything about the files of a directory that somebody else could change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Canary(BTreeMap<PathBuf, Seen>);

/// Inode, mode, owner, group, time and content.
type Seen = (u64, u32, u32, u32, i64, Vec<u8>);

impl Canary {
    /// Makes one: a directory with files and links.
    pub(crate) fn sit(directory: &Path) -> Self {
        std::fs::create_dir_all(directory.join("sub")).unwrap();
        for name in ["file", "passwd", "sub/file", "resolv.conf"] {
            std::fs::write(directory.join(name), format!("canary {name}\n")).unwrap();
        }
        std::os::unix::fs::symlink("file", directory.join("link")).unwrap();
        Self::look(directory)
    }

    /// How it looks now.
    pub(crate) fn look(directory: &Path) -> Self {
        let mut seen = BTreeMap::new();
        let mut open = vec![directory.to_owned()];
        while let Some(path) = open.pop() {
            let stat = std::fs::symlink_metadata(&path).unwrap();
            let content = if stat.is_dir() {
                open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                Vec::new()
            } else if stat.is_symlink() {
                std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                std::fs::read(&path).unwrap()
            };
            seen.insert(path, (stat.ino(), stat.mode(), stat.uid(), stat.gid(), stat.mtime(), content));
        }
        Self(seen)
    }
}
