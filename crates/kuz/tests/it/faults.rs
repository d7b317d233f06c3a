//! Faults at single disk calls of the store, through the whole program: death, a full disk, a broken one.
//!
//! `KUZ_STORE_FAULT=N:kill|enospc|eio[:sticky]`. A sample of all N by default, every N with `KUZ_FAULTS=all`. After each:
//! one JSON object with the store's exit code (unless killed), a sound store, and the same image from the next build.

use crate::kit::{Place, Ran, can_run};
use crate::traces;

/// Calls of a build that are tried for each fault unless all are.
const SAMPLE: u64 = 8;
/// No small build makes more calls.
const MOST_CALLS: u64 = 1 << 14;

fn fault(place: &Place, text: &str) -> Ran {
    let mut command = place.command(&["build", "-q", "-t", "app", "ctx"]);
    Ran::of(&command.env("KUZ_STORE_FAULT", text).output().unwrap())
}

fn forget_store(place: &Place) {
    std::fs::remove_dir_all(place.path("store")).unwrap();
}

/// How many disk calls a build in a new store makes: the first that no fault can hit.
fn calls(place: &Place) -> u64 {
    let (mut low, mut high) = (0, 1);
    let reaches = |call: u64| {
        forget_store(place);
        fault(place, &format!("{call}:kill")).code != 0
    };
    while reaches(high) {
        low = high;
        high *= 2;
        assert!(high <= MOST_CALLS);
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        if reaches(middle) { low = middle } else { high = middle }
    }
    low
}

fn every_fault(place: &Place) {
    let golden = place.build(&["-q", "-t", "app"]).id();
    let calls = calls(place);
    let all = std::env::var("KUZ_FAULTS").is_ok_and(|text| text == "all");
    let step = if all { 1 } else { calls.div_ceil(SAMPLE) };
    let mut tried = 0;
    for (offset, action) in ["kill", "enospc:sticky", "eio"].iter().enumerate() {
        // Each fault begins elsewhere, so that together they see more calls.
        let first = 1 + offset as u64 * step / 3;
        for call in (first..=calls).step_by(usize::try_from(step).unwrap()) {
            let text = format!("{call}:{action}");
            forget_store(place);
            let ran = fault(place, &text);
            if *action == "kill" {
                assert_eq!(ran.code, 128 + 6, "{text}: {ran:?}");
            } else if ran.code != 0 {
                assert_eq!(ran.code, 6, "{text}: {ran:?}");
                assert!(!ran.message().is_empty(), "{text}");
            }
            let check = place.kuz(&["store", "check"]);
            assert_eq!(check.code, 0, "{text}: {}{}", check.stdout, check.stderr);
            let none: [String; 0] = [];
            assert_eq!(traces::unfinished(place, &place.path("store")), none, "{text}");
            assert_eq!(place.build(&["-q", "-t", "app"]).id(), golden, "{text}");
            tried += 1;
        }
    }
    eprintln!("{tried} faults at {calls} disk calls");
}

#[test]
fn a_build_of_copies_survives_a_fault_at_any_disk_call() {
    let mut place = Place::new();
    place.set("SOURCE_DATE_EPOCH", "1700000000");
    place.dockerfile("FROM scratch\nCOPY a /\nWORKDIR /w\nCOPY b /\n");
    place.write("ctx/a", "a");
    place.write("ctx/b", "b");
    every_fault(&place);
}

#[test]
fn a_build_with_a_run_survives_a_fault_at_any_disk_call() {
    if !can_run() {
        return;
    }
    let mut place = Place::with_registry();
    place.set("SOURCE_DATE_EPOCH", "1700000000");
    place.dockerfile("FROM busybox\nCOPY a /\nRUN echo b > /b\n");
    place.write("ctx/a", "a");
    every_fault(&place);
}
