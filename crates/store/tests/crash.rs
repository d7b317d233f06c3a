//! Kills and errors at every single disk call, and several builds at once.
//!
//! The process that dies is this test program, started again with a task in its environment.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something unexpected happens")]

mod scene;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kuz_store::{FaultPlan, Policy, Store};
use scene::{Result, build, inspect, open, options, place};

/// Between fork and exec a child holds its parent's locks: tests that start processes must not run beside those that
/// expect locks of this process to be free.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const TASK: &str = "KUZ_STORE_TEST_TASK";
const PLACE: &str = "KUZ_STORE_TEST_PLACE";
const PLAN: &str = "KUZ_STORE_TEST_PLAN";

/// Something a process does to a store; what fails is the test's business.
fn perform(task: &str, path: &Path, plan: Option<FaultPlan>) -> Result<u64> {
    let mut options = options();
    options.fault = plan;
    options.wait = Duration::from_mins(1);
    let store = Store::open(path, options)?;
    let mut words = task.split(' ');
    match words.next() {
        Some("build") => {
            let salt = words.next().unwrap().parse()?;
            build(&store, salt, words.next().unwrap())?;
        }
        Some("prune") => {
            store.remove("old")?;
            store.prune(&Policy { all: true, ..Policy::default() })?;
        }
        Some("repair") => {
            store.check(true)?;
        }
        Some("loop") => {
            let salt: usize = words.next().unwrap().parse()?;
            for round in 0..6 {
                build(&store, 1 + (salt + round) % 3, &format!("app-{salt}"))?;
                if round == 3 && salt == 0 {
                    store.prune(&Policy::default())?;
                }
            }
        }
        _ => panic!("unknown task"),
    }
    Ok(store.disk_calls())
}

fn spawn(task: &str, path: &Path, plan: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_dies", "--nocapture"])
        .env(TASK, task)
        .env(PLACE, path)
        .env(PLAN, plan)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Does nothing unless it was started by one of the tests below.
#[test]
fn the_process_that_dies() {
    let Ok(task) = std::env::var(TASK) else { return };
    let place = std::env::var(PLACE).unwrap();
    let plan = std::env::var(PLAN).unwrap();
    let plan = (!plan.is_empty()).then(|| plan.parse().unwrap());
    perform(&task, Path::new(&place), plan).unwrap();
}

/// Calls that a task makes from the given start.
fn count(task: &str, prepare: fn(&Path)) -> u64 {
    let place = place();
    let path = place.path().join("store");
    prepare(&path);
    perform(task, &path, None).unwrap()
}

fn nothing(_: &Path) {}

/// Two images, of which the task removes one.
fn two_images(path: &Path) {
    let store = open(path);
    build(&store, 1, "app").unwrap();
    build(&store, 2, "old").unwrap();
}

/// A damaged blob, a foreign index and a tree without record.
fn damaged(path: &Path) {
    let store = open(path);
    build(&store, 1, "app").unwrap();
    build(&store, 2, "old").unwrap();
    let manifest = store.find("old").unwrap().manifest.digest;
    std::fs::remove_file(path.join("blobs/sha256").join(manifest.hex())).unwrap();
    std::fs::write(path.join("blobs/sha256").join(manifest.hex()), "damage").unwrap();
    std::fs::remove_file(path.join("index.json")).unwrap();
    std::fs::remove_file(path.join("oci-layout")).unwrap();
    scene::make_tree(&store, "0123456789abcdef01234567").unwrap();
}

fn kill_everywhere(task: &str, prepare: fn(&Path), inspect: fn(&Path, &str)) {
    let _alone = alone();
    let calls = count(task, prepare);
    assert!(calls > 20, "{task}: {calls}");
    let place = place();
    let mut kills = 0;
    for call in 1..=calls {
        let path = place.path().join(format!("store-{call}"));
        prepare(&path);
        let status = spawn(task, &path, &format!("{call}:kill")).wait().unwrap();
        kills += u64::from(status.signal() == Some(6));
        inspect(&path, &format!("{task}, killed at call {call}"));
        std::fs::remove_dir_all(&path).unwrap();
    }
    assert_eq!(kills, calls, "{task}");
}

fn after_build(path: &Path, told: &str) {
    inspect(path, 1, "app", told);
}

fn after_prune(path: &Path, told: &str) {
    // The image that was not touched is whole before anything is built again.
    let store = open(path);
    let image = store.find("app").unwrap_or_else(|error| panic!("{told}: {error}"));
    store.documents(&image.manifest.digest).unwrap_or_else(|error| panic!("{told}: {error}"));
    drop(store);
    inspect(path, 1, "app", told);
}

fn after_repair(path: &Path, told: &str) {
    let store = open(path);
    store.check(true).unwrap_or_else(|error| panic!("{told}: {error}"));
    scene::empty_trash(&store).unwrap();
    build(&store, 2, "old").unwrap();
    drop(store);
    inspect(path, 1, "app", told);
}

#[test]
fn a_build_killed_at_any_call_loses_nothing() {
    kill_everywhere("build 1 app", nothing, after_build);
}

#[test]
fn a_prune_killed_at_any_call_loses_nothing() {
    kill_everywhere("prune", two_images, after_prune);
}

#[test]
fn a_repair_killed_at_any_call_can_be_done_again() {
    kill_everywhere("repair", damaged, after_repair);
}

#[test]
fn an_error_at_any_call_fails_that_build_only() {
    let _alone = alone();
    let calls = count("build 1 app", nothing);
    let place = place();
    for error in ["enospc", "enospc:sticky", "eio", "eio:sticky", "emfile", "edquot:sticky"] {
        let mut failed = 0;
        for call in 1..=calls {
            let told = format!("{call}:{error}");
            let path = place.path().join(format!("store-{call}-{error}"));
            failed += u64::from(perform("build 1 app", &path, Some(told.parse().unwrap())).is_err());
            inspect(&path, 1, "app", &told);
            std::fs::remove_dir_all(&path).unwrap();
        }
        // A few calls are made in vain: touching, removing what is gone.
        assert!(failed * 2 > calls, "{error}: only {failed} of {calls} were noticed");
    }
}

#[test]
fn an_error_in_a_prune_deletes_nothing_that_is_named() {
    let _alone = alone();
    let calls = count("prune", two_images);
    let place = place();
    for error in ["enospc:sticky", "eio", "eio:sticky"] {
        for call in 1..=calls {
            let told = format!("prune {call}:{error}");
            let path = place.path().join(format!("store-{call}"));
            two_images(&path);
            let _ = perform("prune", &path, Some(format!("{call}:{error}").parse().unwrap()));
            after_prune(&path, &told);
            std::fs::remove_dir_all(&path).unwrap();
        }
    }
}

#[test]
fn processes_share_a_store() {
    let _alone = alone();
    let place = place();
    let path = place.path().join("store");
    let children: Vec<Child> = (0..4).map(|salt| spawn(&format!("loop {salt}"), &path, "")).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let store = open(&path);
    for salt in 0..4 {
        let image = store.find(&format!("app-{salt}")).unwrap();
        store.documents(&image.manifest.digest).unwrap();
    }
    drop(store);
    inspect(&path, 1, "app-0", "four processes");
}

#[test]
fn threads_share_a_store() {
    let _alone = alone();
    let place = place();
    let path = place.path().join("store");
    let shared = open(&path);
    std::thread::scope(|scope| {
        for salt in 0..8 {
            let (path, shared) = (path.clone(), shared.clone());
            scope.spawn(move || {
                let store = if salt % 2 == 0 { shared } else { open(&path) };
                for round in 0..4 {
                    build(&store, (salt + round) % 3, &format!("app-{salt}")).unwrap();
                }
            });
        }
    });
    assert_eq!(shared.list().unwrap().len(), 3);
    drop(shared);
    inspect(&path, 1, "app-1", "eight threads");
}
