//! The sandbox from outside: commands in a tree made of busybox, as root and as ordinary users with and without
//! subordinate ids. Each test runs itself again as those users.

mod place;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kuz_sandbox::preflight::Asker;
use kuz_sandbox::{
    Access, Cancel, Exit, Hidden, Ids, InsideError, Mount, Mounted, Network, RunStep, SandboxError, Script, StartError,
    Stdio, Ulimit, preflight,
};
use place::{Place, everybody, sh};

#[test]
fn commands_run_and_their_exits_are_told() {
    everybody("commands_run_and_their_exits_are_told", |place| {
        for (script, expected) in [
            ("true", Exit::Code(0)),
            ("exit 7", Exit::Code(7)),
            ("kill -KILL $$", Exit::Signal(9)),
            ("kill -SEGV $$", Exit::Signal(11)),
        ] {
            assert_eq!(place.run(sh(script)).0, expected, "{script}");
        }
        let (exit, out, err) = place.run(sh("echo out; echo err >&2; cat; pwd; umask; echo $HOME; id -u; id -g"));
        assert_eq!((exit, err.as_str()), (Exit::Code(0), "err\n"));
        assert_eq!(out, "out\n/\n0022\n/root\n0\n0\n");
        let step = RunStep { argv: vec!["env".into()], env: vec![("A".into(), "1".into())], ..sh("") };
        assert_eq!(place.run(step).1, "A=1\nHOME=/root\n");
        // /dev/stdout can be opened, large output arrives whole.
        let (_, out, err) = place.run(sh("echo x > /dev/stdout; echo y > /dev/stderr; head -c 3000000 /dev/zero"));
        assert_eq!((out.len(), err.as_str()), (3_000_002, "y\n"));
    });
}

#[test]
fn what_cannot_start_is_explained() {
    everybody("what_cannot_start_is_explained", |place| {
        let with = |change: &dyn Fn(&mut RunStep)| {
            let mut step = sh("true");
            change(&mut step);
            match place.try_run(step) {
                Err(SandboxError::NotStarted(error)) => error,
                other => panic!("{other:?}"),
            }
        };
        let not_found = with(&|step| step.argv = vec!["nonesuch".into()]);
        assert!(matches!(&not_found, StartError::NotFound { program } if program == "nonesuch"), "{not_found}");
        assert_eq!(not_found.shell_code(), 127);
        let denied = with(&|step| step.argv = vec!["/etc/passwd".into()]);
        assert_eq!(denied.shell_code(), 126, "{denied}");
        let interpreter = with(&|step| step.argv = vec!["/bad-interpreter".into()]);
        assert!(matches!(interpreter, StartError::Execute { .. }), "{interpreter}");
        assert!(matches!(with(&|step| step.argv = Vec::new()), StartError::Malformed { .. }));
        assert!(matches!(with(&|step| step.cwd = "/nowhere".into()), StartError::NoCwd { .. }));
        assert!(matches!(with(&|step| step.cwd = "/etc/passwd".into()), StartError::Cwd { .. }));
        for number in [0, 3, 5, 9, 12] {
            let error = with(&|step| step.cwd = format!("/proc/self/fd/{number}"));
            assert!(
                matches!(error, StartError::CwdOutside { .. } | StartError::NoCwd { .. } | StartError::Cwd { .. }),
                "{error}"
            );
        }
        assert!(matches!(
            with(&|step| step.cwd = "/proc/1/root".into()),
            StartError::CwdOutside { .. } | StartError::Cwd { .. }
        ));
        for user in ["nobodyhere", "4294967295", "-1", "0x0", "+1", "2147483648", "99999999999999999999", "٣"] {
            let error = with(&|step| step.user = user.into());
            assert!(matches!(error, StartError::User { .. } | StartError::UnmappedUser { .. }), "{user}: {error}");
        }
        assert!(matches!(
            with(&|step| step.ulimits = vec![Ulimit { name: "x".into(), soft: None, hard: None }]),
            StartError::UnknownLimit { .. }
        ));
        assert!(place.left_over().is_empty(), "{:?}", place.left_over());
    });
}

#[test]
fn a_user_is_who_the_image_says() {
    everybody("a_user_is_who_the_image_says", |place| {
        let status = "id -u; id -g; sed -n 's/^Groups:.//p' /proc/self/status; echo $HOME; grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status | cut -f2";
        let run = |user: &str| place.try_run(RunStep { user: user.into(), ..sh(status) });
        if place.ids.is_single() {
            assert!(matches!(
                run("app"),
                Err(SandboxError::NotStarted(StartError::UnmappedUser { id: 1000, count: 1, .. }))
            ));
            return;
        }
        let zero = "0000000000000000\n".repeat(4);
        for (user, expected) in [
            ("app", format!("1000\n1001\n50 1001 \n/home/app\n{zero}")),
            ("app:staff", format!("1000\n50\n50 \n/home/app\n{zero}")),
            ("1234", format!("1234\n0\n0 \n/\n{zero}")),
            ("1234:77", format!("1234\n77\n77 \n/\n{zero}")),
        ] {
            assert_eq!(run(user).unwrap().1, expected, "{user}");
        }
        // Their own output streams can be opened, and files of theirs are theirs in the layer.
        let step = RunStep { user: "app".into(), ..sh("echo x > /dev/stdout; cd /tmp; : > mine; stat -c %u:%g mine") };
        assert_eq!(place.run(step).1, "x\n1000:1001\n");
    });
}

#[test]
fn no_right_of_the_machine_is_left() {
    everybody("no_right_of_the_machine_is_left", |place| {
        let read = |script: &str| place.run(sh(script)).1;
        for map in ["uid_map", "gid_map"] {
            let text = read(&format!("cat /proc/self/{map}"));
            for line in text.lines() {
                let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
                assert!(numbers[1] > 0, "host id 0 in {map}: {text}");
            }
            assert!(!text.is_empty());
        }
        let step = RunStep { argv: vec!["cat".into(), "/proc/self/status".into()], ..sh("") };
        let status = place.run(step).1;
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap_or("").trim().to_owned()
        };
        for (name, expected) in [
            ("CapInh", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("CapBnd", "00000000a80425fb"),
            ("CapPrm", "00000000a80425fb"),
            ("CapEff", "00000000a80425fb"),
            ("NoNewPrivs", "0"),
            ("Seccomp", "2"),
            ("SigBlk", "0000000000000000"),
            ("SigIgn", "0000000000000000"),
        ] {
            assert_eq!(field(name), expected, "{name}");
        }
        let step = RunStep { no_new_privileges: true, ..sh("grep NoNewPrivs /proc/self/status") };
        assert_eq!(place.run(step).1, "NoNewPrivs:\t1\n");
        // Exactly 0, 1, 2 (and the descriptor that lists them).
        assert_eq!(read("ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/0"), "0 1 2 3 /dev/null\n");
        let limits = read("ulimit -c; ulimit -n; ulimit -Hn");
        let mut limits = limits.lines();
        assert_eq!((limits.next(), limits.next()), (Some("0"), Some("1024")));
        assert!(limits.next().unwrap().parse::<u64>().unwrap() <= 1_048_576);
        // Process 1 shows nothing.
        let first =
            read("cat /proc/1/environ 2>&1 | head -c 300; ls /proc/1/fd /proc/1/root 2>&1 | head -c 300; echo $$");
        assert!(first.contains("Permission denied") && !first.contains("kuz"), "{first}");
        assert_eq!(read("tr '\\0' ' ' < /proc/1/cmdline"), "kuz kuz-sandbox-init ");
        assert!(read("cat /proc/self/oom_score_adj").trim().parse::<i32>().unwrap() >= 100);
        // init, the shell, ls and grep: ls may have ended, or grep not begun, when the other looks.
        let own: u32 = read("ls /proc | grep -c '^[0-9]'").trim().parse().unwrap();
        assert!((2..=4).contains(&own), "only processes of its own: {own}");
    });
}

#[test]
fn calls_are_filtered() {
    everybody("calls_are_filtered", |place| {
        let step = RunStep { argv: vec!["/probe".into(), "calls".into()], ..sh("") };
        let (exit, out, err) = place.run(step);
        assert_eq!(exit, Exit::Code(0), "{err}");
        for line in out.lines() {
            let (name, errno) = line.split_once(' ').unwrap();
            let expected = match name {
                "clone3" => libc::ENOSYS,
                "socket-unix" | "personality-query" | "memfd_create" => 0,
                "chroot" => libc::EFAULT,
                _ => libc::EPERM,
            };
            assert_eq!(errno.parse::<i32>().unwrap(), expected, "{name}");
        }
        assert!(out.lines().count() > 20, "{out}");
    });
}

#[test]
fn the_file_system_is_private_and_masked() {
    everybody("the_file_system_is_private_and_masked", |place| {
        let (_, mounts, _) = place.run(sh("cat /proc/self/mountinfo"));
        for line in mounts.lines() {
            assert!(!line.contains("shared:") && !line.contains("master:"), "not private: {line}");
            assert!(!line.contains(place.path()), "a path of the machine: {line}");
        }
        let script = "for f in kcore keys timer_list interrupts; do
                [ -e /proc/$f ] && [ \"$(stat -L -c %t:%T /proc/$f)\" != 1:3 ] && echo \"$f open\"; done
            for d in acpi scsi asound; do [ -d /proc/$d ] && [ -n \"$(ls /proc/$d)\" ] && echo \"$d open\"; done
            [ -n \"$(ls /sys/firmware)\" ] && echo firmware open
            for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/x /proc/bus/x /proc/fs/x /sys/x \
                /sys/fs/cgroup/x /sys/kernel/mm/x; do ( : > $f ) 2>/dev/null && echo \"$f written\"; done
            find /sys -maxdepth 6 -type f -perm -200 2>/dev/null | head -300 | while read f; do
                ( : >> $f ) 2>/dev/null && echo \"$f written\"; done
            ls /dev | tr '\\n' ' '; stat -c '%a %t:%T' /dev/null /dev/tty; ls /dev/shm /dev/mqueue
            stat -f -c %T /dev /dev/shm; readlink /dev/ptmx
            mknod /tmp/disk b 8 0 2>/dev/null && echo device made; true";
        let (_, out, err) = place.run(sh(script));
        let expected = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ";
        assert!(out.starts_with(expected), "{out}{err}");
        assert!(out.contains("666 1:3\n666 5:0\n/dev/mqueue:\n\n/dev/shm:\ntmpfs\ntmpfs\npts/ptmx\n"), "{out}{err}");
        assert!(!out.contains("device made"));
        let shown = place.run(sh("hostname; cat /etc/hostname /etc/hosts")).1;
        assert!(shown.starts_with("box\nbox\n127.0.0.1\tlocalhost box\n"), "{shown}");
        let step = RunStep { hosts: vec![("10.0.0.7".into(), "db".into())], ..sh("grep db /etc/hosts") };
        assert_eq!(place.run(step).1, "10.0.0.7\tdb\n");
        assert_ne!(place.run(sh("echo x > /etc/hosts")).0, Exit::Code(0));
    });
}

#[test]
fn nothing_of_ours_gets_into_the_layer() {
    everybody("nothing_of_ours_gets_into_the_layer", |place| {
        let changed = |lowers: &[&str], step: RunStep| {
            let upper = place.run_keeping(lowers, step);
            let index = place.worker.index(&upper).unwrap();
            place.worker.remove(&[upper]).unwrap();
            index.entries.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(changed(&["base"], sh("true")), none);
        assert_eq!(changed(&["base"], sh("echo x > /tmp/new; rm /etc/motd")), ["etc", "etc/motd", "tmp", "tmp/new"]);
        // An image without the directories, one with links, one whose resolv.conf leads nowhere.
        let busybox =
            |script: &str| RunStep { argv: ["/busybox", "sh", "-c", script].map(str::to_owned).to_vec(), ..sh("") };
        assert_eq!(changed(&["bare"], busybox("/busybox cat /etc/hostname")), none);
        assert_eq!(changed(&["bare", "links"], busybox("test -s /etc/hosts && test -s /etc/hostname")), none);
        // What the command itself puts beside our mount points stays.
        assert_eq!(changed(&["bare", "links"], busybox("/busybox touch /run/mine")), ["run", "run/mine"]);
        let bind = |target: &str| RunStep {
            mounts: vec![Mount { target: target.into(), what: Mounted::Tmpfs { size: None } }],
            ..sh("df")
        };
        assert_eq!(changed(&["base"], bind("/a/b/c")), none);
        assert_eq!(changed(&["base"], bind("/out/x")), none);
        assert!(!std::path::Path::new("/kuz-canary").exists());
        for (layer, path) in [("proc-link", "/proc"), ("dev-file", "/dev")] {
            let step = RunStep { lowers: vec!["bare".into(), layer.into()], ..busybox("true") };
            match place.try_run(step) {
                Err(SandboxError::NotStarted(StartError::InTheWay { path: found })) => assert_eq!(found, path),
                other => panic!("{layer}: {other:?}"),
            }
        }
        assert!(place.left_over().is_empty(), "{:?}", place.left_over());
    });
}

#[test]
fn nobody_survives_a_command() {
    everybody("nobody_survives_a_command", |place| {
        let marker = format!("{}{}", 86_000 + std::process::id() % 1000, "77");
        let script = format!(
            "setsid sleep {marker} & (setsid sh -c 'trap \"\" TERM INT; sleep {marker}' &) ; sleep {marker} & kill -STOP $!; \
             sleep 0.1; echo done"
        );
        let before = Instant::now();
        let (exit, out, _) = place.run(sh(&script));
        assert_eq!((exit, out.as_str()), (Exit::Code(0), "done\n"));
        assert!(before.elapsed() < Duration::from_secs(20));
        assert_eq!(place::processes_with(&marker), 0);
    });
}

#[test]
fn commands_are_cancelled_and_hear_signals() {
    everybody("commands_are_cancelled_and_hear_signals", |place| {
        // A step that listens, one that doesn't; what to do with it, and how it ends.
        type Act<'a> = &'a dyn Fn(&Cancel);
        let table: [(&str, Act<'_>, Exit); 5] = [
            ("trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done", &Cancel::cancel, Exit::Code(3)),
            ("echo ready; exec sleep 600", &Cancel::cancel, Exit::Signal(15)),
            ("trap '' TERM; echo ready; while :; do sleep 0.05; done", &Cancel::cancel, Exit::Signal(9)),
            (
                "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done",
                &|c| c.signal(libc::SIGUSR1),
                Exit::Code(5),
            ),
            (
                "trap '' INT; echo ready; while :; do sleep 0.05; done",
                &|c| {
                    c.signal(libc::SIGINT);
                    c.signal(libc::SIGTERM);
                    c.signal(libc::SIGINT);
                },
                Exit::Signal(9),
            ),
        ];
        for (script, act, expected) in table {
            let cancel = Cancel::new();
            let mut acted = false;
            let step = RunStep { grace: Duration::from_millis(300), ..sh(script) };
            let before = Instant::now();
            let mut output = |_, bytes: &[u8]| {
                if !acted && bytes.starts_with(b"ready") {
                    acted = true;
                    act(&cancel);
                }
            };
            let exit = place.run_with(step, &mut output, &cancel).unwrap();
            assert_eq!(exit, expected, "{script}");
            assert!(before.elapsed() < Duration::from_secs(10), "{script}");
        }
        let cancel = Cancel::new();
        cancel.cancel();
        assert!(matches!(place.run_with(sh("true"), &mut |_, _| {}, &cancel), Err(SandboxError::Cancelled)));
    });
}

#[test]
fn a_watched_command_is_asked_into() {
    everybody("a_watched_command_is_asked_into", |place| {
        let script = "trap 'exit 7' QUIT; hostname >/tmp/mark; while :; do sleep 0.05; done";
        let step = RunStep { network: Network::None, env: vec![("A".into(), "b".into())], ..sh(script) };
        let (inside, watched) = kuz_sandbox::watched();
        let words = |line: &str| ["sh", "-c", line].map(str::to_owned).to_vec();
        let ask = move || {
            inside.started().unwrap();
            let long = Duration::from_mins(1);
            // The same root, network, environment; its own output and exit.
            let line = "until grep box /tmp/mark 2>/dev/null; do :; done; echo $A; grep -c : /proc/net/dev; echo err >&2; exit 3";
            let first = inside.execute(&words(line), long).unwrap();
            let output = String::from_utf8(first.output).unwrap();
            assert_eq!((first.exit, output.as_str()), (Some(Exit::Code(3)), "box\nb\n1\nerr\n"));
            // The last of a long output, and nobody waits for what is left behind.
            let line = "sleep 600 & i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done";
            let second = inside.execute(&words(line), long).unwrap();
            assert_eq!((second.exit, second.output.len()), (Some(Exit::Code(0)), 4096));
            assert!(second.output.ends_with(b"2998\n2999\n"));
            let third = inside.execute(&words("echo begun; sleep 600; echo never"), Duration::from_secs(1)).unwrap();
            assert_eq!((third.exit, third.output.as_slice()), (None, b"begun\n".as_slice()));
            let missing = inside.execute(&["nosuch".to_owned()], long);
            assert!(matches!(missing, Err(InsideError::NotStarted(StartError::NotFound { .. }))), "{missing:?}");
            // Its sockets belong to the command's network: what listens there is reached from here.
            let listening = inside.execute(
                &words("busybox nc -lp 4711 >/tmp/heard & until busybox netstat -lnt | grep -q 4711; do :; done"),
                long,
            );
            assert_eq!(listening.unwrap().exit, Some(Exit::Code(0)));
            assert!(std::net::TcpStream::connect("127.0.0.1:4711").is_err(), "not on this machine");
            let socket = inside.socket(false).unwrap();
            let target = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 4711);
            socket.set_nonblocking(false).unwrap();
            rustix::net::connect(&socket, &target).unwrap();
            std::io::Write::write_all(&mut &socket, b"hello").unwrap();
            drop(socket);
            let heard = inside.execute(&words("until grep hello /tmp/heard; do :; done"), long).unwrap();
            assert_eq!(heard.output, b"hello\n");
            assert!(!inside.ended(Duration::ZERO));
            let handled = inside.stop(libc::SIGQUIT).unwrap();
            assert!(handled.is_none_or(|handled| handled), "it has a trap");
            assert!(inside.ended(long));
            assert_eq!(inside.stop(libc::SIGQUIT), Err(InsideError::Ended));
        };
        let exit = std::thread::scope(|scope| {
            let asking = scope.spawn(ask);
            let exit = place.watch(step, &Cancel::new(), watched);
            asking.join().unwrap();
            exit
        });
        assert_eq!(exit.unwrap(), Exit::Code(7));
    });
}

#[test]
fn a_watched_command_that_does_not_listen_is_killed() {
    everybody("a_watched_command_that_does_not_listen_is_killed", |place| {
        // Its signal ignored, not handled at all, and a command that is not there.
        for (script, handled) in
            [("trap '' TERM; echo; while :; do sleep 0.05; done", false), ("while :; do :; done", false)]
        {
            let (inside, watched) = kuz_sandbox::watched();
            let ask = move || {
                inside.started().unwrap();
                let said = inside.stop(libc::SIGWINCH).unwrap();
                assert!(said.is_none_or(|said| said == handled), "{said:?}");
                inside.kill();
                assert!(inside.ended(Duration::from_mins(1)));
            };
            let exit = std::thread::scope(|scope| {
                let asking = scope.spawn(ask);
                let exit = place.watch(sh(script), &Cancel::new(), watched);
                asking.join().unwrap();
                exit
            });
            assert_eq!(exit.unwrap(), Exit::Signal(9), "{script}");
        }
        // Left alone, it does not go on.
        let (inside, watched) = kuz_sandbox::watched();
        let leave = std::thread::spawn(move || inside.started());
        assert_eq!(place.watch(sh("sleep 600"), &Cancel::new(), watched).unwrap(), Exit::Signal(9));
        assert_eq!(leave.join().unwrap(), Ok(()));
        let (inside, watched) = kuz_sandbox::watched();
        let step = RunStep { argv: vec!["nosuch".into()], ..sh("") };
        assert!(matches!(place.watch(step, &Cancel::new(), watched), Err(SandboxError::NotStarted(_))));
        assert_eq!(inside.started(), Err(InsideError::Ended));
    });
}

#[test]
fn the_network_can_be_taken_away() {
    everybody("the_network_can_be_taken_away", |place| {
        let script =
            "grep -c : /proc/net/dev; cat /etc/resolv.conf; ping -c 1 -W 1 127.0.0.1 >/dev/null 2>&1 && echo loop";
        let (_, out, err) = place.run(RunStep { network: Network::None, ..sh(script) });
        assert_eq!(out, "1\nloop\n", "{err}");
        let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        assert_eq!(place.run(sh("cat /etc/resolv.conf")).1, host);
    });
}

#[test]
fn scripts_binds_and_memory_are_there_for_the_step_only() {
    everybody("scripts_binds_and_memory_are_there_for_the_step_only", |place| {
        let script = Script { name: "EOF".into(), content: b"#!/bin/sh\necho from $0\n".to_vec() };
        let step = RunStep { argv: vec!["/dev/pipes/EOF".into()], scripts: vec![script], ..sh("") };
        assert_eq!(place.run(step).1, "from /dev/pipes/EOF\n");
        let directory = std::path::Path::new(place.path()).join("context");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("file"), "content").unwrap();
        let bind = |readonly| {
            let source = std::fs::File::open(&directory).unwrap().into();
            kuz_sandbox::Bind { source, target: "/ctx/deep".into(), readonly }
        };
        let step = RunStep { binds: vec![bind(true)], ..sh("cat /ctx/deep/file; echo x > /ctx/deep/file") };
        let (exit, out, _) = place.run(step);
        assert_eq!((exit, out.as_str()), (Exit::Code(1), "content"));
        let mounts = vec![Mount { target: "/cache".into(), what: Mounted::Tmpfs { size: Some(1 << 20) } }];
        let step = RunStep {
            mounts,
            shm_size: 1 << 20,
            ..sh("head -c 900000 /dev/zero > /cache/a && df -k /dev/shm | tail -1")
        };
        let (exit, out, err) = place.run(step);
        assert_eq!(exit, Exit::Code(0), "{err}");
        assert!(out.contains(" 1024 "), "{out}");
        let limit = Ulimit { name: "nofile".into(), soft: Some(77), hard: Some(88) };
        assert_eq!(place.run(RunStep { ulimits: vec![limit], ..sh("ulimit -n; ulimit -Hn") }).1, "77\n88\n");
    });
}

#[test]
fn trees_are_mounted_and_nothing_leads_out_of_them() {
    everybody("trees_are_mounted_and_nothing_leads_out_of_them", |place| {
        trees_are_mounted(place);
        trees_are_mounted(&Place::copying());
    });
}

#[expect(clippy::unwrap_used, clippy::panic, reason = "the body of a test, for two kinds of places")]
fn trees_are_mounted(place: &Place) {
    use place::Make;
    place.make_layer("one", &[("d/a", Make::File(b"lower")), ("d/b", Make::File(b"b")), ("out", Make::Link("/etc"))]);
    place.make_layer("two", &[("d/a", Make::File(b"upper")), ("d/.wh.b", Make::File(b""))]);
    let trees =
        |path: &str, writable| Mounted::Trees { lowers: vec!["one".into(), "two".into()], path: path.into(), writable };
    let with = |what: Mounted, script: &str| {
        let mounts = vec![Mount { target: "/in/deep".into(), what }];
        place.run(RunStep { mounts, ..sh(script) })
    };
    let (exit, out, err) = with(trees("/d", false), "cat /in/deep/a; ls /in/deep; echo x > /in/deep/a");
    assert_eq!((exit, out.as_str()), (Exit::Code(1), "uppera\n"), "{err}");
    let (exit, out, err) = with(trees("d", true), "echo x > /in/deep/a && rm -r /in/deep/a && ls /in/deep");
    assert_eq!((exit, out.as_str()), (Exit::Code(0), ""), "{err}");
    assert_eq!(with(trees("/d/a", false), "cat /in/deep").1, "upper");
    assert_eq!(place.read("two", "d/a"), b"upper");
    // The link leads to /etc of the trees, and there is none.
    let mounts = vec![Mount { target: "/in".into(), what: trees("/out", false) }];
    let error = place.try_run(RunStep { mounts, ..sh("true") }).unwrap_err();
    let SandboxError::NotStarted(StartError::NoSource { path, target }) = error else { panic!("{error:?}") };
    assert_eq!((path.as_str(), target.as_str()), ("/out", "/in"));
    let nothing = Mounted::Trees { lowers: vec![], path: "/".into(), writable: true };
    assert_eq!(with(nothing, "touch /in/deep/x && ls /in/deep").1, "x\n");
    // A tree itself keeps what is written; mounts below it are made in it, and none of it is in the layer.
    place.worker.make_cache("cache", Access { mode: 0o1777, uid: 0, gid: 0 }, &["one".into()]).unwrap();
    let tree = |path: &str| Mounted::Tree { tree: "cache".into(), path: path.into(), readonly: false };
    let mounts = vec![
        Mount { target: "/c/sub".into(), what: Mounted::Tmpfs { size: None } },
        Mount { target: "/c".into(), what: tree("/") },
    ];
    let script = "stat -c %a /c; cat /c/d/a; echo new > /c/d/a; touch /c/sub/x; ln -s /etc /c/link";
    let upper = place.run_keeping(&["base"], RunStep { mounts, ..sh(script) });
    assert_eq!(place.worker.index(&upper).unwrap().entries.len(), 0, "nothing is in the layer");
    assert_eq!(place.read("cache", "d/a"), b"new\n");
    assert_eq!(with(tree("/d"), "cat /in/deep/a").1, "new\n");
    let mounts = vec![Mount { target: "/in".into(), what: tree("/link") }];
    let error = place.try_run(RunStep { mounts, ..sh("true") }).unwrap_err();
    assert!(matches!(error, SandboxError::NotStarted(StartError::NoSource { .. })), "{error:?}");
}

#[test]
fn secrets_are_in_memory_and_belong_to_whom_they_should() {
    everybody("secrets_are_in_memory_and_belong_to_whom_they_should", |place| {
        let file = |uid| {
            let access = Access { mode: 0o741, uid, gid: 0 };
            Mount {
                target: "/run/secrets/s".into(),
                what: Mounted::File { content: Hidden(b"canary".to_vec()), access },
            }
        };
        let script = "stat -c '%a %u' /run/secrets/s; cat /run/secrets/s; grep -c 'secrets/s tmpfs ro' /proc/mounts; \
                      echo \" $T$ORDINARY\"; echo x > /run/secrets/s";
        let step = || RunStep {
            env: vec![("PATH".into(), "/bin".into()), ("T".into(), "shown".into())],
            secret_env: vec![("T".into(), Hidden(b"hidden".to_vec()))],
            ..sh(script)
        };
        let (exit, out, _) = place.run(RunStep { mounts: vec![file(0)], ..step() });
        assert_eq!((exit, out.as_str()), (Exit::Code(1), "741 0\ncanary1\n hidden\n"));
        let upper = place.run_keeping(&["base"], RunStep { mounts: vec![file(0)], ..sh("true") });
        assert_eq!(place.worker.index(&upper).unwrap().entries.len(), 0, "nothing is in the layer");
        assert!(!format!("{:?}", RunStep { mounts: vec![file(0)], ..step() }).contains("canary"));
        let error = place.try_run(RunStep { mounts: vec![file(u32::MAX - 1)], ..sh("true") }).unwrap_err();
        assert!(matches!(error, SandboxError::NotStarted(StartError::UnmappedOwner { .. })), "{error:?}");
    });
}

#[test]
fn an_agent_answers_the_step_that_it_is_passed_to() {
    everybody("an_agent_answers_the_step_that_it_is_passed_to", |place| {
        use std::io::{Read as _, Write as _};
        let socket = std::path::Path::new(place.path()).join("agent");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let agent = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut questions = Vec::new();
            let mut question = [0; 5];
            while stream.read_exact(&mut question).is_ok() {
                questions.push(question);
                stream.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 0]).unwrap();
            }
            questions
        });
        let access = Access { mode: 0o600, uid: 0, gid: 0 };
        let mounts = vec![Mount { target: "/run/agent.0".into(), what: Mounted::Agent { socket, access } }];
        // Remove all keys, list the keys, list them again.
        let script = "stat -c '%F %a' /run/agent.0; /probe ask /run/agent.0 0 0 0 1 19 0 0 0 1 11 0 0 0 1 11";
        let step = RunStep { mounts, network: Network::None, ..sh(script) };
        let (exit, out, err) = place.run(step);
        assert_eq!(exit, Exit::Code(0), "{err}");
        let answer = "0 0 0 5 12 0 0 0 0";
        assert_eq!(out, format!("socket 600\n0 0 0 1 5 {answer} {answer}\n"));
        assert_eq!(agent.join().unwrap(), [[0, 0, 0, 1, 11]; 2], "the wish to remove all keys does not arrive");
    });
}

#[test]
fn a_terminal_is_a_terminal() {
    everybody("a_terminal_is_a_terminal", |place| {
        let script = "test -t 0 && test -t 1 && test -t 2 && tty && ls /dev/console && echo x > /dev/tty";
        let (exit, out, _) = place.run(RunStep { stdio: Stdio::Terminal, ..sh(script) });
        assert_eq!((exit, out.as_str()), (Exit::Code(0), "/dev/pts/0\r\n/dev/console\r\nx\r\n"));
    });
}

#[test]
fn many_layers_and_many_commands_at_once() {
    everybody("many_layers_and_many_commands_at_once", |place| {
        let names: Vec<String> = (0..128).map(|n| format!("layer-{n:0>57}")).collect();
        for name in &names {
            place.make_layer(name, &[(&format!("l/{name}"), place::Make::File(name.as_bytes()))]);
        }
        let lowers: Vec<&str> = ["base"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let upper = place.run_keeping(&lowers, sh("ls /l | wc -l > /count"));
        assert_eq!(place.read(&upper, "count"), b"128\n");
        // The lower occurrence of a layer that is there twice changes nothing.
        place.make_layer("first", &[("l/x", place::Make::File(b"first")), ("l/.wh.y", place::Make::File(b""))]);
        place.make_layer("second", &[("l/.wh.x", place::Make::File(b"")), ("l/y", place::Make::File(b"second"))]);
        let mounts = |lowers: [&str; 3]| {
            let lowers = lowers.map(str::to_owned).to_vec();
            vec![Mount { target: "/in".into(), what: Mounted::Trees { lowers, path: "/l".into(), writable: false } }]
        };
        for (stack, want) in [(["first", "second", "first"], "x\n"), (["second", "first", "second"], "y\n")] {
            let lowers = ["base"].into_iter().chain(stack).map(str::to_owned).collect();
            let (_, out, err) = place.run(RunStep { lowers, mounts: mounts(stack), ..sh("ls /l; ls /in") });
            assert_eq!(out, format!("{want}{want}"), "{err}");
        }
        std::thread::scope(|scope| {
            for n in 0..8 {
                let place = &place;
                scope.spawn(move || assert_eq!(place.run(sh(&format!("sleep 0.1; echo {n}"))).1, format!("{n}\n")));
            }
        });
    });
}

#[test]
fn copies_do_where_overlays_are_refused() {
    everybody("copies_do_where_overlays_are_refused", |_| {
        let place = Place::copying();
        let (_, out, err) = place.run(sh("echo hello; cat /etc/hostname"));
        assert_eq!(out, "hello\nbox\n", "{err}");
        let upper = place.run_keeping(&["base"], sh("echo x > /tmp/new; rm /etc/motd; mkdir /d; echo y >> /etc/group"));
        let index = place.worker.index(&upper).unwrap();
        let paths: Vec<_> = index.entries.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        assert_eq!(paths, ["d", "etc", "etc/group", "etc/motd", "tmp", "tmp/new"]);
        // Its changes can lie over the base again.
        let upper = place.run_keeping(&["base", &upper], sh("test ! -e /etc/motd && cat /tmp/new > /d/z"));
        assert_eq!(place.read(&upper, "d/z"), b"x\n");
    });
}

#[test]
fn a_dying_caller_takes_everything_along() {
    everybody("a_dying_caller_takes_everything_along", |_| {
        let place = Arc::new(Place::again());
        let marker = format!("{}{}", 87_000 + std::process::id() % 1000, "78");
        let (ready, started) = std::sync::mpsc::channel();
        let pid = place.worker.process_id();
        let script = format!("setsid sleep {marker} & echo ready; wait");
        let runner = {
            let place = Arc::clone(&place);
            std::thread::spawn(move || {
                let mut output = |_, _: &[u8]| ready.send(()).unwrap();
                place.run_with(sh(&script), &mut output, &Cancel::new())
            })
        };
        started.recv().unwrap();
        place::wait_until("the process has started", || place::processes_with(&marker) > 0);
        // The worker is killed outright, as when memory runs out.
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        assert!(matches!(runner.join().unwrap(), Err(SandboxError::Gone)));
        place::wait_until("nothing is left", || place::processes_with(&marker) == 0);
    });
}

#[test]
fn a_killed_caller_leaves_nothing_running() {
    everybody("a_killed_caller_leaves_nothing_running", |place| {
        let marker = format!("{}{}", 88_000 + std::process::id() % 1000, "79");
        let mut caller = place.caller("inherit", &format!("setsid sleep {marker} & sleep {marker}")).spawn().unwrap();
        place::wait_until("both have started", || place::processes_with(&marker) == 2);
        caller.kill().unwrap();
        caller.wait().unwrap();
        place::wait_until("nothing is left", || place::processes_with(&marker) == 0);
    });
}

#[test]
fn streams_of_the_caller_can_be_passed() {
    everybody("streams_of_the_caller_can_be_passed", |place| {
        for stdio in ["inherit", "relayed"] {
            let mut command = place.caller(stdio, "cat; echo end; ls /proc/self/fd | tr '\\n' ' '; exit 9");
            let pipe = std::process::Stdio::piped;
            let mut caller = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
            std::io::Write::write_all(&mut caller.stdin.take().unwrap(), b"input\n").unwrap();
            let done = caller.wait_with_output().unwrap();
            assert_eq!(String::from_utf8_lossy(&done.stdout), "input\nend\n0 1 2 3 ", "{stdio}");
            assert_eq!(done.status.code(), Some(9), "{stdio}");
        }
    });
}

#[test]
fn the_machine_is_looked_at_before() {
    everybody("the_machine_is_looked_at_before", |place| {
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let asker = Asker { uid, gid, user: place::user_name(uid), ..Asker::default() };
        let directory = tempfile::tempdir().unwrap();
        let trees = std::fs::File::open(directory.path()).unwrap().into();
        let options = kuz_sandbox::Options { exe: Some(place::probe()), force_copy: false, ..Default::default() };
        let found = preflight(&asker, Some(trees), &options);
        assert_eq!((found.ids, found.isolation), (Some(place.ids), place.worker.isolation()));
        assert_eq!(found.overlay, found.isolation.overlay());
        assert_eq!(found.mend.is_some(), matches!(place.ids, Ids::Single { .. }), "{found:?}");
        assert_eq!(std::fs::read_dir(directory.path()).map_or(0, Iterator::count), 0, "something was left behind");
        // A sandbox is itself a place where none can be made: as root in a container whose filter refuses it.
        let step = RunStep { argv: vec!["/probe".into(), "preflight".into()], ..sh("") };
        let (_, out, err) = place.run(step);
        let lines: Vec<&str> = out.lines().collect();
        let [isolation, note, mend] = lines.as_slice() else { panic!("{out}{err}") };
        assert_eq!(*isolation, "None");
        assert!(!note.is_empty() && !mend.is_empty(), "{out}");
    });
}

/// In a container, parts of `/proc` are hidden; the kernel then allows no new one.
#[test]
fn a_masked_proc_outside_is_noticed() {
    let Some(place) = Place::new() else { return };
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: only root can hide a part of /proc");
        return;
    }
    let masked = |script: &str| {
        let caller = place.caller("inherit", script);
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "sh", "-c", "mount -t tmpfs none /proc/sys/fs && exec \"$@\"", "sh"]);
        command.arg(caller.get_program()).args(caller.get_args()).output().unwrap()
    };
    let isolation = masked("");
    let text = String::from_utf8_lossy(&isolation.stdout).into_owned();
    assert!(text.starts_with("NoProc") || !isolation.status.success(), "{text}");
    if isolation.status.success() {
        let done = masked("cat /proc/self/comm; ls /proc/keys; (: > /proc/sys/kernel/hostname) 2>&1");
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(text.starts_with("cat\n/proc/keys\n") && text.contains("Read-only"), "{text}");
    }
}

#[test]
fn the_program_of_the_sandbox_cannot_be_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    everybody("the_program_of_the_sandbox_cannot_be_overwritten", |place| {
        // Once as it is installed, once as a program that root of the sandbox owns and may write to.
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("probe");
        std::fs::copy(place::probe(), &own).unwrap();
        let mode = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), mode.clone()).unwrap();
        std::fs::set_permissions(&own, mode).unwrap();
        if let Ids::Range { first, .. } = place.ids {
            std::os::unix::fs::chown(&own, Some(first), Some(first)).unwrap();
        }
        // And once as one that only its owner may read.
        let private = folder.path().join("private");
        std::fs::copy(place::probe(), &private).unwrap();
        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).unwrap();
        let with = |exe: &std::path::Path| {
            let options = kuz_sandbox::Options { exe: Some(exe.to_owned()), ..Default::default() };
            Place::with(&options).unwrap()
        };
        let (owned, hidden) = (with(&own), with(&private));
        for (place, program) in [(place, place::probe()), (&owned, own), (&hidden, private)] {
            let before = std::fs::read(&program).unwrap();
            let (_, out, _) = place.run(sh(
                "(echo x > /proc/1/exe) 2>&1; (echo x > /proc/self/exe) 2>&1; cat /proc/1/exe 2>&1 | head -c 60",
            ));
            assert!(out.contains("Permission denied") || out.contains("nonexistent"), "{out}");
            let step = RunStep { argv: vec!["/proc/self/exe".into(), "overwrite".into()], ..sh("") };
            // At best it runs this program with its own rights; never is the file changed.
            let _ = place.try_run(step);
            assert!(before == std::fs::read(&program).unwrap(), "{} was changed", program.display());
        }
    });
}

#[test]
fn ids_match_who_runs_this() {
    everybody("ids_match_who_runs_this", |place| {
        let uid = rustix::process::getuid().as_raw();
        match place.ids {
            Ids::Range { first, .. } => assert!(uid == 0 && first > 0),
            Ids::Subordinate { uid: own, .. } | Ids::Single { uid: own, .. } => assert_eq!(own, uid),
        }
    });
}

#[test]
fn the_price_of_a_command() {
    let Some(place) = Place::new() else { return };
    place.run(sh("true"));
    let mut times: Vec<Duration> = (0..40)
        .map(|_| {
            let before = Instant::now();
            place.run(RunStep { argv: vec!["/bin/true".into()], ..sh("") });
            before.elapsed()
        })
        .collect();
    times.sort_unstable();
    eprintln!("one RUN of /bin/true: median {:?}, fastest {:?}, slowest {:?}", times[20], times[0], times[39]);
    assert!(times[20] < Duration::from_secs(1));
}
