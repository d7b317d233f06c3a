//! What a step finds when it looks around: a script in RUN that tries what it must not be able to do.
//!
//! Complements the sandbox's own probes (single system calls) with what the whole program makes of Dockerfiles and base
//! images: directories, users, links in the places where we mount.

use std::os::unix::fs::FileTypeExt as _;

use kuz_image::tar::Kind;

use crate::base::{self, Entries, dir, entry, file, symlink};
use crate::kit::{Place, Ran, can_run};
use crate::traces::{self, Canary};

/// In the environment of the caller, never in that of a step.
const MARKER: &str = "kuz-marker-of-the-caller";

const SCRIPT: &str = r#"
say() { echo "$1=$2"; }
try() { name=$1; shift; if "$@" > /dev/null 2>&1; then say "try $name" allowed; else say "try $name" refused; fi; }
fds=; for f in /proc/$$/fd/*; do [ -L $f ] && fds="$fds ${f##*/}"; done; say fds "$fds"
say stdin "$(readlink /proc/self/fd/0) $(cat | wc -c)"
say environ "$(tr '\0' ' ' < /proc/$$/environ)"
for f in uid_map gid_map; do while read inside outside count; do say $f "$inside $outside $count"; done < /proc/self/$f; done
grep -E '^(Cap...|Seccomp|NoNewPrivs):' /proc/self/status | while read name value; do say "${name%:}" "$value"; done
while read line; do say mount "$line"; done < /proc/self/mountinfo
for f in acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats; do
    if [ -d /proc/$f ]; then say masked "$f $(ls -A /proc/$f | wc -l)"; elif [ -e /proc/$f ]; then say masked "$f $(head -c 1 /proc/$f 2> /dev/null | wc -c)"; fi
done
say dev "$(ls /dev | sort | tr '\n' ' ')"
say hostname "$(hostname)"
say hosts "$(grep -c localhost /etc/hosts)"
[ -e /etc/resolv.conf ] && say resolv there
say cwd "$(pwd)"
say umask "$(umask)"
say core "$(ulimit -c)"
say leaks "$(cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2> /dev/null | grep -c "[k]uz-marker-of-the-caller")"
pids=; for p in /proc/[0-9]*; do pids="$pids ${p##*/}"; done; say pids "$(echo $pids | wc -w)"
say init "$(tr '\0' ' ' < /proc/1/cmdline)"
say groups "$(id -G)"
kill -9 1 2> /dev/null; say after-kill alive
mkdir -p /tmp/mnt
try unshare-user unshare -U true
try unshare-mount unshare -m true
try unshare-pid unshare -p true
try mount mount -t tmpfs none /tmp/mnt
try bind mount -o bind /proc /tmp/mnt
try remount mount -o remount,rw /sys
try umount umount /proc/sys
try char-device mknod /tmp/null c 1 3
try block-device mknod /tmp/disk b 8 0
try hostname hostname other
try sysctl sh -c 'echo 1 > /proc/sys/kernel/panic'
try sysrq sh -c 'echo h > /proc/sysrq-trigger'
try helper sh -c 'echo x > /sys/kernel/uevent_helper'
try cgroup mkdir /sys/fs/cgroup/kuz
try sys-file touch /sys/kuz
try resolv sh -c 'echo x >> /etc/resolv.conf'
try hosts sh -c 'echo x >> /etc/hosts'
try dmesg dmesg
try init-root ls /proc/1/root/.
try init-fds readlink /proc/1/fd/0
try init-memory head -c 1 /proc/1/mem
try fifo mkfifo /tmp/fifo-$(id -u)
try chroot chroot / true
"#;

/// What the script said, in order.
struct Report(Vec<(String, String)>);

impl Report {
    fn of(ran: &Ran) -> Self {
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let lines = ran.stderr.lines().filter_map(|line| line.strip_prefix("  | ")?.split_once('='));
        Self(lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    fn one(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "`{name}`: {all:?}");
        all[0]
    }
}

fn exec_form(script: &str) -> String {
    format!("RUN {}\n", serde_json::to_string(&["/bin/sh", "-c", script]).unwrap())
}

fn assert_common(report: &Report) {
    for (name, value) in [
        ("fds", "0 1 2"),
        ("stdin", "/dev/null 0"),
        ("Seccomp", "2"),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("CapBnd", "00000000a80425fb"),
        ("dev", "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"),
        ("hostname", "buildkitsandbox"),
        ("resolv", "there"),
        ("cwd", "/"),
        ("umask", "0022"),
        ("core", "0"),
        ("leaks", "0"),
        ("after-kill", "alive"),
        ("try fifo", "allowed"),
    ] {
        assert_eq!(report.one(name), value, "{name}");
    }
    assert!(report.one("init").contains("kuz-sandbox-init") || report.one("init").is_empty());
    assert_ne!(report.one("hosts"), "0");
    assert!(report.one("pids").parse::<u32>().unwrap() <= 6, "only its own processes: {}", report.one("pids"));
    for name in report.0.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("try ")) {
        if !["try fifo", "try chroot"].contains(&name) {
            assert_eq!(report.one(name), "refused", "{name}");
        }
    }
    for masked in report.all("masked") {
        assert!(masked.ends_with(" 0"), "{masked}");
    }
}

fn assert_maps(report: &Report) {
    for map in ["uid_map", "gid_map"] {
        for line in report.all(map) {
            let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
            assert!(numbers[1] > 0, "{map} holds the machine's root: {line}");
        }
        assert!(!report.all(map).is_empty());
    }
}

fn assert_mounts(report: &Report, place: &Place) {
    let directory = place.dir.path().to_str().unwrap();
    for line in report.all("mount") {
        let fields: Vec<&str> = line.split(' ').collect();
        assert_eq!(fields[6], "-", "neither shared nor a slave: {line}");
        for ours in [directory, "/store", "/trees"] {
            assert!(!line.contains(ours), "a path of the machine: {line}");
        }
        let (target, options) = (fields[4], fields[5]);
        let read_only = ["/sys", "/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger"];
        if target == "/sys" || target.starts_with("/sys/") || read_only.contains(&target) {
            assert!(options.split(',').any(|option| option == "ro"), "{line}");
        }
        // A single device of the machine, or the step's own terminals.
        let names = ["/null", "/zero", "/full", "/random", "/urandom", "/tty"];
        let device = target == "/dev/pts" || names.contains(&fields[3]);
        if target != "/" && target != "/dev" && !device {
            assert!(options.contains("nodev") && options.contains("nosuid"), "{line}");
        }
    }
}

#[test]
fn a_step_is_alone_and_can_do_no_harm() {
    if !can_run() {
        return;
    }
    let mut place = Place::with_registry();
    place.set("KUZ_MARKER", MARKER);
    place.dockerfile(&format!("FROM busybox\n{0}USER app\n{0}", exec_form(&format!("echo user=root\n{SCRIPT}"))));
    let ran = place.build(&["--progress=plain", "--no-cache", "-t", "app"]);
    let report = Report::of(&ran);
    let second = report.0.iter().rposition(|(name, _)| name == "user").unwrap();
    let (root, app) = report.0.split_at(second);
    let (root, app) = (Report(root.to_vec()), Report(app.to_vec()));
    for report in [&root, &app] {
        assert_common(report);
        assert_maps(report);
        assert_mounts(report, &place);
    }
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(root.one("environ"), format!("{path} HOME=/root"));
    assert_eq!(app.one("environ"), format!("{path} HOME=/home/app"));
    assert_eq!((root.one("CapEff"), root.one("CapPrm")), ("00000000a80425fb", "00000000a80425fb"));
    assert_eq!((app.one("CapEff"), app.one("CapPrm")), ("0000000000000000", "0000000000000000"));
    assert_eq!((root.one("try chroot"), app.one("try chroot")), ("allowed", "refused"));
    assert_eq!((root.one("groups"), app.one("groups")), ("0", "1000 2000"));
    // What was mounted for the step is not in its layer.
    let names: Vec<Vec<u8>> = traces::layer_entries(&place, "app", 1).into_iter().map(|header| header.path).collect();
    let shown: Vec<String> = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    assert_eq!(shown, ["tmp", "tmp/fifo-0", "tmp/mnt"]);
}

#[test]
fn leftovers_of_a_step_are_dead_before_its_layer_is_taken() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    // It holds the streams, ignores signals, belongs to nobody and keeps writing.
    let late = "trap '' TERM HUP INT PIPE; while :; do echo late >> /late; done; : kuz-probe-leftover";
    place.dockerfile(&format!(
        "FROM busybox\nRUN ((setsid sh -c \"{late}\" &) &) && while [ ! -s /late ]; do :; done\n\
         RUN size=$(wc -c < /late) && for i in 1 2 3 4 5 6 7 8 9; do cat /bin/busybox > /dev/null; done && \
         [ $size = $(wc -c < /late) ]\n"
    ));
    let ran = place.build(&["--no-cache", "-t", "app"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let none: [String; 0] = [];
    assert_eq!(traces::survivors("kuz-probe-leftover", place.dir.path()), none);
}

/// Base images with something else where we mount. `{canary}` is a directory of this machine.
fn furnished() -> Vec<(&'static str, Entries)> {
    let fifo = |path: &str| (entry(path, Kind::Fifo), Vec::new());
    vec![
        ("dev is a link outside", vec![symlink("dev", "{canary}")]),
        ("proc is a link outside", vec![symlink("proc", "{canary}")]),
        ("sys is a link outside", vec![symlink("sys", "../../../../..{canary}")]),
        ("etc is a link outside", vec![symlink("etc", "{canary}")]),
        ("tmp is a link outside", vec![symlink("tmp", "{canary}")]),
        ("dev and proc are links to each other", vec![symlink("dev", "proc"), symlink("proc", "dev")]),
        ("dev is a link to itself", vec![symlink("dev", "/dev")]),
        ("etc is a link into proc", vec![symlink("etc", "/proc/1/root/etc")]),
        ("tmp is a link into proc", vec![symlink("tmp", "/proc/self/cwd")]),
        ("resolv.conf is a link outside", vec![symlink("etc/resolv.conf", "{canary}/resolv.conf")]),
        ("resolv.conf is a relative link outside", vec![symlink("etc/resolv.conf", "../../../..{canary}/resolv.conf")]),
        ("resolv.conf is a link into proc", vec![symlink("etc/resolv.conf", "/proc/1/root{canary}/file")]),
        ("resolv.conf is a dead link", vec![symlink("etc/resolv.conf", "/run/nowhere/stub.conf")]),
        ("resolv.conf is a loop", vec![symlink("etc/resolv.conf", "resolv.conf")]),
        ("resolv.conf is a directory", vec![dir("etc/resolv.conf")]),
        ("resolv.conf is a pipe", vec![fifo("etc/resolv.conf")]),
        ("hosts is a link into dev", vec![symlink("etc/hosts", "/dev/null")]),
        ("passwd is a link outside", vec![symlink("etc/passwd", "{canary}/passwd")]),
        ("passwd is a pipe", vec![fifo("etc/passwd")]),
        ("proc is a file", vec![file("proc", b"a file")]),
        ("dev is missing", vec![file(".wh.dev", b"")]),
        ("dev/null is a file", vec![file("dev/null", b"a file")]),
        ("dev/shm is a link outside", vec![symlink("dev/shm", "{canary}")]),
        ("sys/firmware is a link", vec![symlink("sys/firmware", "{canary}")]),
        ("everything of etc is gone", vec![file("etc/.wh..wh..opq", b"")]),
    ]
}

#[test]
fn links_in_the_places_of_mounts_lead_nowhere() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    let canary = place.path("canary");
    let before = Canary::sit(&canary);
    let at = canary.to_str().unwrap();
    let step = "echo x > /tmp/written; echo y > /dev/null; echo a=1 >> /etc/added; cat /etc/resolv.conf /etc/hosts > /dev/null; \
                [ ! -e /dev/sub ] && [ ! -e /proc/sub ] && [ ! -e /sys/sub ] && echo fine";
    for (number, (name, mut entries)) in furnished().into_iter().enumerate() {
        for (header, _) in &mut entries {
            header.link = String::from_utf8_lossy(&header.link).replace("{canary}", at).into_bytes();
        }
        let image = base::busybox_with(vec![base::tar(&entries)]).unwrap();
        let repository = format!("furnished{number}");
        place.registry.as_ref().unwrap().put_image(&format!("library/{repository}"), "latest", &image).unwrap();
        place.dockerfile(&format!("FROM {repository}\nRUN {step}\n"));
        let ran = place.build(&["--progress=plain"]);
        eprintln!("{name}: {} {}", ran.code, ran.stdout.trim());
        match ran.code {
            0 => assert!(ran.stderr.contains("| fine"), "{name}: {}", ran.stderr),
            code => assert!([1, 3, 5, 7].contains(&code) && ran.message().contains('/'), "{name}: {ran:?}"),
        }
        assert_eq!(Canary::look(&canary), before, "{name}");
    }
    // Neither did a device of the machine become something else.
    assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert_eq!(place.kuz(&["store", "check"]).code, 0);
}

#[test]
fn a_working_directory_is_inside_or_refused() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    let image = base::busybox_with(vec![base::tar(&[
        symlink("self", "/proc/self/fd/3"),
        symlink("one", "/proc/1/cwd"),
        symlink("loop", "loop"),
        symlink("up", "../../../.."),
        file("plain", b"a file"),
    ])]);
    place.registry.as_ref().unwrap().put_image("library/links", "latest", &image.unwrap()).unwrap();
    for directory in [
        "/proc/self/fd/3",
        "/proc/self/fd/0",
        "/proc/self/cwd",
        "/proc/1/root",
        "/self",
        "/one",
        "/loop",
        "/up",
        "/plain",
        "../../..",
    ] {
        place.dockerfile(&format!(
            "FROM links\nWORKDIR {directory}\nRUN echo \"at=$(pwd -P)\" && [ -x /bin/busybox ] && ls -d ./\n"
        ));
        let ran = place.build(&["--progress=plain"]);
        let at = ran.stderr.lines().find_map(|line| line.strip_prefix("  | at="));
        eprintln!("{directory}: {} {at:?} {}", ran.code, ran.stdout.trim());
        match ran.code {
            0 => assert!(at.is_some_and(|at| at.starts_with('/')), "{directory}: {}", ran.stderr),
            _ => assert!(ran.message().contains(directory.trim_start_matches("../")), "{directory}: {ran:?}"),
        }
    }
}

#[test]
fn no_number_of_a_user_becomes_another() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    for (user, expected) in [
        ("0", Some("0 0")),
        ("1000", Some("1000 1000")),
        ("01", Some("1 0")),
        ("1000:0", Some("1000 0")),
        ("app:extra", Some("1000 2000")),
        ("-1", None),
        ("+1", None),
        ("0x0", None),
        ("4294967295", None),
        ("4294967296", None),
        ("2147483648", None),
        ("18446744073709551616", None),
        ("99999999999999999999999999", None),
        ("1000:4294967296", None),
        ("1000:-1", None),
        ("\u{0660}", None),
        ("1000:", None),
        (":0", None),
        ("nobody-here", None),
    ] {
        place.dockerfile(&format!("FROM busybox\nUSER {user}\nRUN echo \"user=$(id -u) $(id -g)\"\n"));
        let ran = place.build(&["--progress=plain"]);
        let found = ran.stderr.lines().find_map(|line| line.strip_prefix("  | user="));
        eprintln!("{user}: {} {found:?} {}", ran.code, ran.stdout.trim());
        assert_eq!(found, expected, "{user}: {ran:?}");
        if expected.is_none() {
            assert!([1, 3, 5].contains(&ran.code) && ran.message().contains(user), "{user}: {ran:?}");
        }
    }
}
