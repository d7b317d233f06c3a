//! The same build by different users: root, an ordinary user with a subordinate id range, and one without.
//!
//! Makes accounts with `useradd` and removes them; needs root for that. Images must not tell who built them.

use std::process::Command;

use crate::kit::{Place, Ran, can_run, skip};
use crate::traces;

const WITHOUT_RUN: &str = "FROM busybox\nENV A=1\nWORKDIR /srv/app\nCOPY --chown=app:extra --chmod=640 a.txt /a.txt\n\
                           COPY --chown=1234:5678 tree /tree\nCOPY tree tree\nUSER app\nWORKDIR /home/app\nCMD [\"/bin/sh\"]\n";
const RUN_AS_ROOT: &str = "FROM busybox\nCOPY tree /tree\nRUN mkdir -p /made/sub && cat /tree/* > /made/all && ln -s all /made/link && \
                           rm /tree/one && chmod 4750 /made/sub && id -u > /made/id\n";
const RUN_AS_OTHERS: &str = "FROM busybox\nCOPY --chown=app tree /home/app\nRUN chown -R 1000:2000 /var && chgrp 5 /tmp\n\
                             USER 1000\nRUN id -u > /home/app/id && id -G >> /home/app/id && rm /home/app/one\n\
                             USER app:extra\nRUN touch /var/mine\n";

/// An account that is gone when this is.
struct Account {
    name: String,
    uid: u32,
}

impl Account {
    fn make(word: &str, subordinate: Option<u32>) -> Option<Self> {
        let name = format!("kuz{word}{}", std::process::id());
        let none = ["SUB_UID_COUNT=0", "SUB_GID_COUNT=0"];
        let mut command = Command::new("useradd");
        command.args(none.iter().flat_map(|none| ["-K", none])).args(["-M", "-s", "/bin/sh", &name]);
        if !command.status().is_ok_and(|status| status.success()) {
            return None;
        }
        let account = Self { uid: id(&name)?, name };
        if let Some(first) = subordinate {
            let range = format!("{first}-{}", first + 65_535);
            let added = Command::new("usermod")
                .args(["--add-subuids", &range, "--add-subgids", &range, &account.name])
                .status();
            assert!(added.unwrap().success());
        }
        Some(account)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.name).status();
    }
}

fn id(name: &str) -> Option<u32> {
    let output = Command::new("id").args(["-u", name]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// A place for a user; root's own without one.
fn place(account: Option<&Account>) -> Place {
    let mut place = Place::with_registry();
    place.set("SOURCE_DATE_EPOCH", "1700000000");
    place.write("ctx/a.txt", "a");
    place.write("ctx/tree/one", "1\n");
    place.write("ctx/tree/two", "2\n");
    if let Some(account) = account {
        place.set("USER", &account.name);
        place.give_to(account.uid, account.uid);
    }
    place
}

fn build(place: &Place, dockerfile: &str) -> Ran {
    place.dockerfile(dockerfile);
    place.build(&["-t", "app"])
}

fn assert_sound(place: &Place, who: &str) {
    let check = place.kuz(&["store", "check"]);
    assert_eq!(check.code, 0, "{who}: {}{}", check.stdout, check.stderr);
    let none: [String; 0] = [];
    assert_eq!(traces::unfinished(place, &place.path("store")), none, "{who}");
}

#[test]
fn everybody_builds_the_same_images() {
    if !can_run() {
        return;
    }
    if !rustix::process::getuid().is_root() {
        return skip("accounts for the test are made by root only");
    }
    let Some(ranged) = Account::make("ranged", Some(1_300_000_000)) else {
        return skip("useradd does not make an account here");
    };
    let Some(single) = Account::make("single", None) else { return skip("useradd does not make an account here") };
    let root = place(None);
    let (with_range, alone) = (place(Some(&ranged)), place(Some(&single)));

    let plain = build(&root, WITHOUT_RUN).id();
    for (who, place) in [("with a range", &with_range), ("with a single id", &alone)] {
        let ran = build(place, WITHOUT_RUN);
        assert_eq!(ran.id(), plain, "{who}");
        assert!(!ran.stderr.contains("note:"), "nothing to be said where nothing runs: {}", ran.stderr);
    }

    let probe = build(&with_range, "FROM busybox\nRUN true\n");
    if probe.code == 5 {
        return skip(&format!("steps cannot run as an ordinary user here: {}", probe.message()));
    }
    let made = build(&root, RUN_AS_ROOT).id();
    let ran = build(&with_range, RUN_AS_ROOT);
    assert_eq!(ran.id(), made, "with a range");
    assert!(!ran.stderr.contains("single id"), "{}", ran.stderr);
    let ran = build(&alone, RUN_AS_ROOT);
    assert_eq!(ran.id(), made, "with a single id: {}", ran.stderr);
    assert!(ran.stderr.contains("note:") && ran.stderr.contains("/etc/subuid"), "its limits are said: {}", ran.stderr);

    let others = build(&root, RUN_AS_OTHERS).id();
    assert_eq!(build(&with_range, RUN_AS_OTHERS).id(), others);
    let refused = build(&alone, RUN_AS_OTHERS);
    assert!([1, 5].contains(&refused.code), "one id cannot be two: {refused:?}");
    let refused = build(&alone, "FROM busybox\nUSER 1000\nRUN true\n");
    assert_ne!(refused.code, 0);
    assert!(refused.message().contains("1000"), "{refused:?}");

    let ran = with_range.kuz(&["run", "--entrypoint", "/bin/stat", "app", "-c", "%u %g", "/var/mine"]);
    assert_eq!(ran.stdout, "1000 2000\n", "{}", ran.stderr);
    for (who, place) in [("root", &root), ("with a range", &with_range), ("with a single id", &alone)] {
        assert_sound(place, who);
    }
}

#[test]
fn a_store_of_another_user_is_not_touched() {
    if !rustix::process::getuid().is_root() {
        return skip("needs root to be two users");
    }
    let mut place = Place::new();
    place.dockerfile("FROM scratch\nCOPY . /\n");
    assert_eq!(place.build(&["-t", "app"]).code, 0);
    place.give_to(54_321, 54_321);
    let owned = Command::new("chown").args(["-R", "0:0"]).arg(place.path("store")).status();
    assert!(owned.unwrap().success());
    let ran = place.build(&["-t", "app"]);
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.message().contains("store"), "{}", ran.message());
}
