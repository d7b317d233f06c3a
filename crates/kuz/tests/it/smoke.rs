//! Smoke runs: images that come up and images that do not, by `kuz run --smoke` and before a build's outputs.
//!
//! Services are busybox' own. Nothing waits by the clock but what waits in vain: a service that is never ready.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::kit::{Place, Ran, can_run};
use crate::traces;

/// In the environment of every command here.
const MARK: &str = "kuz-smoke-mark";
/// A server with a page, a directory (which it redirects to) and nothing else.
const SERVER: &str = "EXPOSE 8080\nRUN mkdir -p /www/dir && echo fine >/www/healthz\n\
                      CMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n";

/// Builds an image of these lines on busybox.
fn image(place: &Place, name: &str, lines: &str) {
    place.dockerfile(&format!("FROM busybox\nENV MARK={MARK}\n{lines}"));
    let ran = place.build(&["-q", "--verify=off", "-t", name]);
    assert_eq!(ran.code, 0, "{lines}{}", ran.stderr);
}

fn assert_says(ran: &Ran, code: i32, parts: &[&str], what: &str) {
    assert_eq!(ran.code, code, "{what}\n{}", ran.stderr);
    assert_eq!(ran.stdout, "", "{what}: standard output is not ours to write to");
    for part in parts {
        assert!(ran.stderr.contains(part), "{what}: {part} is not in\n{}", ran.stderr);
    }
}

#[test]
fn an_image_comes_up_or_the_reason_is_told() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    for (lines, flags, code, parts) in [
        // A URL: found, a redirect, missing, refused.
        (SERVER, "--smoke --health /healthz", 0, &["ready after", "http://localhost:8080/healthz answered 200 OK"][..]),
        (SERVER, "--smoke --health http://127.0.0.1:8080/dir", 0, &["127.0.0.1:8080/dir answered 302"]),
        (SERVER, "--smoke=3 --health /nope", 1, &["was not ready after 3 s", "answered 404 Not Found"]),
        (SERVER, "--smoke=1 --health http://localhost:81/", 1, &["nothing listens on port 81", "--network=host"]),
        // Without a URL: the port.
        (SERVER, "--smoke", 0, &["port 8080 accepts connections", "stopped by SIGTERM in"]),
        (
            "EXPOSE 70 80\nCMD [\"sleep\", \"600\"]\n",
            "--smoke=1",
            1,
            &["`sleep 600`: it was not ready after 1 s: none of the ports 70, 80 takes a connection"],
        ),
        // Only from inside.
        (
            "EXPOSE 8080\nCMD [\"httpd\", \"-f\", \"-p\", \"127.0.0.1:8080\"]\n",
            "--smoke",
            0,
            &["port 8080 accepts", "warning: smoke run: port 8080 is open on 127.0.0.1 only", "listen on 0.0.0.0"],
        ),
        // A port below 1024 is anybody's, as in Docker.
        ("EXPOSE 80\nUSER app\nCMD [\"httpd\", \"-f\", \"-p\", \"80\"]\n", "--smoke", 0, &["port 80 accepts"]),
        // It ends before.
        (
            "EXPOSE 80\nCMD echo first; echo reason >&2; exit 3\n",
            "--smoke",
            1,
            &["ended with exit code 3 after", "before it was ready", "> first", "> reason"],
        ),
        ("EXPOSE 80\nCMD kill -SEGV $$\n", "--smoke", 1, &["was ended by SIGSEGV after", "it wrote nothing"]),
        ("EXPOSE 80\nCMD nosuch --port 80\n", "--smoke", 1, &["exit code 127", "> /bin/sh: nosuch: not found"]),
        ("CMD [\"/nosuch\"]\n", "--smoke", 1, &["could not be started: `/nosuch` was not found in the image"]),
        // Nothing exposed: alive, or done.
        ("CMD [\"sleep\", \"600\"]\n", "--smoke=1", 0, &["still running after 1", "does not handle SIGTERM"]),
        ("RUN echo quiet >/word\nCMD [\"cat\", \"/word\"]\n", "--smoke", 0, &["ended with exit code 0 after"]),
        ("CMD [\"false\"]\n", "--smoke", 1, &["`false` ended with exit code 1 after"]),
        // What kuz run replaces is replaced.
        (SERVER, "--smoke IMAGE echo other", 1, &["`echo other` ended with exit code 0 after", "before it was ready"]),
    ] {
        image(&place, "app", lines);
        let flags = if flags.contains("IMAGE") { flags.replace("IMAGE", "app") } else { format!("{flags} app") };
        let words: Vec<&str> = std::iter::once("run").chain(flags.split(' ')).collect();
        let ran = place.kuz(&words);
        assert_says(&ran, code, parts, &format!("{lines}{flags}"));
        // Quiet where all is well.
        assert!(code == 1 || !ran.stderr.contains("quiet"), "{}", ran.stderr);
    }
    let none: [String; 0] = [];
    assert_eq!(traces::survivors(MARK, place.dir.path()), none);
    assert_eq!(traces::unfinished(&place, &place.path("store")), none);
}

#[test]
fn a_healthcheck_runs_beside_the_command_as_it_does() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    for (lines, code, parts) in [
        // The same user, directory, environment and files.
        (
            "RUN mkdir /srv && chown app /srv\nUSER app\nWORKDIR /srv\nENV A=b\nEXPOSE 80\n\
             HEALTHCHECK CMD test \"$(id -un) $(pwd) $A $(cat up)\" = \"app /srv b yes\"\n\
             CMD echo yes >up; exec sleep 600\n",
            0,
            &["ready after", "HEALTHCHECK `test", "succeeded"][..],
        ),
        (
            "HEALTHCHECK CMD [\"wget\", \"-qO-\", \"http://127.0.0.1:81/x\"]\n\
             CMD [\"httpd\", \"-f\", \"-p\", \"81\", \"-h\", \"/www\"]\nRUN mkdir /www && touch /www/x\n",
            0,
            &["HEALTHCHECK `wget -qO- http://127.0.0.1:81/x` succeeded"],
        ),
        // Its failures count as an engine counts them; what it wrote is told.
        (
            "HEALTHCHECK --interval=100ms --retries=2 CMD echo no database; exit 1\nCMD [\"sleep\", \"600\"]\n",
            1,
            &["unhealthy: HEALTHCHECK failed 2 times in a row", "exit code 1, no database"],
        ),
        (
            "HEALTHCHECK --interval=100ms --timeout=1s --retries=1 CMD echo begun; sleep 600\nCMD [\"sleep\", \"600\"]\n",
            1,
            &["failed once in a row", "took longer than 1 s, begun"],
        ),
        (
            "HEALTHCHECK --interval=100ms --retries=1 CMD [\"curl\", \"x\"]\nCMD [\"sleep\", \"600\"]\n",
            1,
            &["HEALTHCHECK `curl x`: start the command: `curl` was not found in the image"],
        ),
        // In its start period a failure is none: the service is ready when the file is there.
        (
            "HEALTHCHECK --interval=100ms --start-period=600s --start-interval=100ms --retries=1 CMD test -e /tmp/2 || \
             { touch /tmp/$(ls /tmp | wc -l); exit 1; }\nCMD [\"sleep\", \"600\"]\n",
            0,
            &["ready after", "succeeded"],
        ),
        // It is asked for, and off.
        ("HEALTHCHECK NONE\nCMD [\"true\"]\n", 0, &["ended with exit code 0"]),
        // The command ends while it is asked.
        (
            "HEALTHCHECK CMD sleep 600\nCMD echo gone; exit 5\n",
            1,
            &["ended with exit code 5", "before it was ready", "> gone"],
        ),
    ] {
        image(&place, "app", lines);
        assert_says(&place.kuz(&["run", "--smoke", "app"]), code, parts, lines);
    }
}

#[test]
fn it_is_stopped_as_the_image_says() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    let script = |signal: &str, act: &str| {
        format!(
            "HEALTHCHECK CMD test -e /tmp/up\nCMD trap '{act}' {signal}; echo hello; touch /tmp/up; while :; do sleep 0.05; done\n"
        )
    };
    for (stop, script, parts) in [
        ("SIGQUIT", script("QUIT", "echo bye; exit 4"), &["stopped by SIGQUIT in", "exit code 4", "| bye"][..]),
        ("12", script("USR2", "exit 0"), &["stopped by SIGUSR2 in", "exit code 0"]),
        ("SIGRTMIN+3", script("37", "exit 6"), &["stopped by signal 37 in", "exit code 6"]),
        ("KILL", script("TERM", ""), &["stopped by SIGKILL in", "ended by SIGKILL"]),
        // It does not listen: what an engine does after its grace, told as a warning.
        ("TERM", script("TERM", ""), &["killed 10 s after SIGTERM", "warning: smoke run: it did not end within 10 s"]),
    ] {
        image(&place, "app", &format!("STOPSIGNAL {stop}\n{script}"));
        let ran = place.kuz(&["run", "--smoke", "--progress=plain", "app"]);
        assert_says(&ran, 0, parts, stop);
        assert!(ran.stderr.contains("  | hello\n"), "all that it writes is shown: {}", ran.stderr);
    }
}

#[test]
fn two_at_once_have_the_same_port() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    // Neither is healthy before both listen.
    image(
        &place,
        "app",
        "HEALTHCHECK CMD wget -qO- http://127.0.0.1:8080/healthz && touch /shared/$WHO && test -e /shared/a -a -e /shared/b\n\
         RUN mkdir /www && echo fine >/www/healthz\nCMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n",
    );
    std::fs::create_dir(place.path("shared")).unwrap();
    std::fs::set_permissions(place.path("shared"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let volume = format!("{}:/shared", place.path("shared").display());
    let start = |who: &str| {
        let variable = format!("WHO={who}");
        let mut command = place.command(&["run", "--smoke=300", "-e", &variable, "-v", &volume, "app"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children = [start("a"), start("b")];
    for child in children {
        let ran = Ran::of(&child.wait_with_output().unwrap());
        assert_says(&ran, 0, &["HEALTHCHECK `wget", "succeeded"], "both");
    }
}

#[test]
fn the_machines_network_is_had_by_name() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    image(&place, "app", &format!("EXPOSE {port}\nCMD [\"httpd\", \"-f\", \"-p\", \"{port}\"]\n"));
    let ran = place.kuz(&["run", "--smoke", "--network=host", "app"]);
    assert_says(
        &ran,
        125,
        &[&format!("port {port} of this machine is taken already"), "without --network=host"],
        "taken",
    );
    // In its own network it is not.
    assert_says(&place.kuz(&["run", "--smoke", "app"]), 0, &["accepts connections"], "own");
    drop(taken);
    assert_says(&place.kuz(&["run", "--smoke", "--network=host", "app"]), 0, &["accepts connections"], "host");
}

#[test]
fn a_build_lets_nothing_out_that_does_not_come_up() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    let host = place.registry.as_ref().unwrap().host();
    let name = format!("{host}/team/app:1");
    let archive = place.path("app.tar");
    let output = format!("type=oci,dest={}", archive.display());
    place.dockerfile(&format!("FROM busybox\n{SERVER}"));
    let good = place.build(&["-t", &name, "--smoke", "--health", "/healthz", "--push"]);
    let id = good.id();
    let message = good.message();
    assert!(message.contains("smoke run: ready after ") && message.contains("/healthz answered 200 OK"), "{message}");
    assert!(good.stderr.contains("smoke run: stopped by SIGTERM in"), "{}", good.stderr);
    assert_eq!(place.inspect(&name)["id"].as_str(), Some(id.as_str()));
    let other = Place::new();
    assert_eq!(other.kuz(&["pull", "-q", &name]).code, 0, "it was pushed");

    // The same with the page missing: the tag stays where it was, here and there, and nothing is written.
    place.dockerfile(&format!("FROM busybox\n{SERVER}RUN rm /www/healthz\n"));
    let bad = place.build(&["-t", &name, "--smoke=3", "--health", "/healthz", "--push", "-o", &output]);
    assert_eq!(bad.code, 3, "{}", bad.stderr);
    assert!(bad.stderr.contains("error: smoke run failed: `httpd -f -p 8080 -h /www`"), "{}", bad.stderr);
    let message = bad.message();
    assert!(message.starts_with("smoke run failed: ") && message.contains("answered 404 Not Found"), "{message}");
    assert_eq!(place.inspect(&name)["id"].as_str(), Some(id.as_str()), "the tag was not moved");
    assert!(!archive.exists(), "nothing was written");
    assert_eq!(other.kuz(&["pull", "-q", &name]).code, 0);
    assert_eq!(other.inspect(&name)["id"].as_str(), Some(id.as_str()), "nothing was pushed");

    // Without the smoke run all of it is there, and from the cache.
    let calm = place.build(&["-t", &name, "-o", &output]);
    assert_eq!((calm.code, calm.json().get("message")), (0, None), "{}", calm.stderr);
    assert!(archive.exists() && calm.stderr.contains("RUN rm /www/healthz (cached)"), "{}", calm.stderr);
    let none: [String; 0] = [];
    assert_eq!(traces::unfinished(&place, &place.path("store")), none);
}

#[test]
fn wrong_words_are_told_before_anything_is_done() {
    let place = Place::with_registry();
    place.dockerfile("FROM busybox\nRUN echo never\nCMD [\"true\"]\n");
    for (flags, code, part) in [
        (&["--smoke=0"][..], 2, "whole seconds, from 1 to 3600"),
        (&["--smoke=soon"], 2, "whole seconds, from 1 to 3600"),
        (&["--health", "/healthz"], 2, "--smoke"),
        (&["--smoke", "--health", "https://localhost/"], 2, "plain HTTP"),
        (&["--smoke", "--health", "http://example.com/"], 2, "is not the container itself"),
        (&["--smoke", "--health", "healthz"], 2, "want a path such as /healthz"),
    ] {
        let ran = place.build(flags);
        assert_eq!(ran.code, code, "{flags:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{flags:?}: {}", ran.stderr);
        assert!(ran.message().contains(part), "{flags:?}: {}", ran.stdout);
        assert!(!ran.stderr.contains("never"), "nothing is done: {}", ran.stderr);
        let mut run = vec!["run"];
        run.extend(flags);
        run.push("app");
        assert_eq!(place.kuz(&run).code, code, "{flags:?}");
    }
    assert_eq!(place.kuz(&["run", "-t", "--smoke", "app"]).code, 2);
    assert_eq!(place.kuz(&["run", "--smoke", "nosuch"]).code, 125);
    if !can_run() {
        return;
    }
    // The image decides: it is known before its first step is done.
    let ran = place.build(&["--smoke", "--health", "/healthz"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("the image exposes none") && !ran.stderr.contains("never"), "{}", ran.stderr);
}

#[test]
fn an_interrupt_leaves_nothing_running() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    for lines in [
        // While a port is tried, while HEALTHCHECK hangs, while it does not stop.
        "EXPOSE 80\nCMD echo up; exec sleep 600\n",
        "HEALTHCHECK CMD touch /tmp/asked; sleep 600\nCMD until test -e /tmp/asked; do :; done; echo up; exec sleep 600\n",
        "HEALTHCHECK CMD true\nCMD trap 'echo up; trap \"exit 0\" TERM' QUIT; while :; do sleep 0.05; done\nSTOPSIGNAL QUIT\n",
    ] {
        image(&place, "app", lines);
        let mut command = place.listening(&["run", "--smoke=600", "--progress=plain", "app"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        while !seen.contains("| up\n") {
            assert_ne!(stderr.read_line(&mut seen).unwrap(), 0, "{lines}{seen}");
        }
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        stderr.read_to_string(&mut seen).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{lines}{seen}");
        assert!(seen.contains("error: interrupted"), "{seen}");
        let none: [String; 0] = [];
        assert_eq!(traces::survivors(MARK, place.dir.path()), none, "{lines}");
        assert_eq!(traces::unfinished(&place, &place.path("store")), none, "{lines}");
        assert_eq!(traces::mounts_of(place.dir.path()), none, "{lines}");
        assert_eq!(place.kuz(&["store", "check"]).code, 0);
    }
}
