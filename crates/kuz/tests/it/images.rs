//! Images after the build: named, listed, saved, loaded, pushed, pulled, read by other programs.

use std::process::Command;

use crate::kit::{Place, can_run, skip};

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn small() -> (Place, String) {
    let place = Place::with_registry();
    place.dockerfile("FROM scratch\nCOPY . /app/\nLABEL a=b\nCMD [\"/app/x\"]\n");
    place.write("ctx/x", "x");
    let id = place.build(&["-t", "app"]).id();
    (place, id)
}

#[test]
fn names_are_given_listed_and_removed() {
    let (place, id) = small();
    assert_eq!(place.kuz(&["tag", "app", "other:2"]).code, 0);
    let listed: serde_json::Value =
        serde_json::from_str(&place.kuz(&["image", "ls", "--format", "json"]).stdout).unwrap();
    let mut names: Vec<&str> = listed.as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["app:latest", "other:2"]);
    let removed = place.kuz(&["image", "rm", "app"]);
    assert_eq!(removed.stdout, "untagged app:latest\n", "{}", removed.stderr);
    let removed = place.kuz(&["image", "rm", "other:2"]);
    assert_eq!(removed.stdout, format!("untagged other:2\ndeleted {id}\n"));
    assert_eq!(place.kuz(&["image", "rm", "app"]).code, 3);
}

#[test]
fn what_is_saved_can_be_loaded() {
    let (place, id) = small();
    for (format, name) in [("oci-archive", "a.tar"), ("docker-archive", "b.tar"), ("oci-dir", "c")] {
        let saved = place.kuz(&["image", "save", "--format", format, "-o", name, "app"]);
        assert_eq!(saved.code, 0, "{}", saved.stderr);
        let mut other = Place::new();
        other.set("KUZ_STORE", other.path("store"));
        let input = place.path(name);
        let loaded = other.kuz(&["image", "load", "-i", input.to_str().unwrap()]);
        assert_eq!(loaded.code, 0, "{}", loaded.stderr);
        assert_eq!(other.inspect("app")["id"], id.as_str(), "{format}");
        assert_eq!(other.inspect("app")["size"], place.inspect("app")["size"]);
        assert_eq!(other.kuz(&["store", "check"]).code, 0);
    }
}

#[test]
fn outputs_of_a_build_can_be_loaded() {
    let (place, id) = small();
    for (spec, input) in
        [("type=oci,dest=o.tar", "o.tar"), ("type=docker,dest=d.tar", "d.tar"), ("type=docker,tar=false,dest=d", "d")]
    {
        let built = place.build(&["-t", "app", "-o", spec]);
        assert_eq!(built.id(), id, "{}", built.stderr);
        let other = Place::new();
        let loaded = other.kuz(&["image", "load", "-i", place.path(input).to_str().unwrap()]);
        assert_eq!(loaded.code, 0, "{spec}: {}", loaded.stderr);
        assert_eq!(other.inspect("app")["id"], id.as_str(), "{spec}");
    }
}

#[test]
fn the_store_is_an_image_layout_that_skopeo_reads_with_the_registry_gone() {
    if !can_run() {
        return;
    }
    if !has("skopeo") {
        return skip("skopeo is not installed");
    }
    let mut place = Place::with_registry();
    place.dockerfile("FROM busybox\nRUN touch /made\nCOPY Dockerfile /\n");
    let id = place.build(&["-t", "app"]).id();
    place.registry = None;
    let store = place.path("store");
    let copied = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "-q", &format!("oci:{}:app:latest", store.display())])
        .arg(format!("oci:{}:copy", place.path("copied").display()))
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let seen = Command::new("skopeo")
        .args(["inspect", "--raw", &format!("oci:{}:app:latest", store.display())])
        .output()
        .unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!(manifest["config"]["digest"], id.as_str());
    assert_eq!(place.kuz(&["run", "app", "ls", "/made"]).stdout, "/made\n");
    assert_eq!(place.kuz(&["image", "save", "-o", "x.tar", "app"]).code, 0);
}

#[test]
fn podman_loads_what_is_saved_with_the_same_id() {
    if !has("podman") {
        return skip("podman is not installed");
    }
    let (place, id) = small();
    assert_eq!(place.kuz(&["image", "save", "--format", "docker-archive", "-o", "app.tar", "app"]).code, 0);
    let root = place.path("podman");
    let podman = |arguments: &[&str]| {
        Command::new("podman")
            .args([
                "--root",
                root.to_str().unwrap(),
                "--runroot",
                place.path("run").to_str().unwrap(),
                "--storage-driver",
                "vfs",
            ])
            .args(arguments)
            .output()
            .unwrap()
    };
    let loaded = podman(&["load", "-q", "-i", place.path("app.tar").to_str().unwrap()]);
    if !loaded.status.success() {
        return skip(&format!("podman does not work here: {}", String::from_utf8_lossy(&loaded.stderr).trim()));
    }
    let seen = podman(&["image", "inspect", "--format", "{{.Id}}", "localhost/app", "docker.io/library/app"]);
    let ids = String::from_utf8_lossy(&seen.stdout);
    assert!(
        ids.lines().any(|line| format!("sha256:{line}") == id),
        "{id} in {ids}{}",
        String::from_utf8_lossy(&seen.stderr)
    );
}

#[test]
fn push_and_pull_keep_the_id_and_send_nothing_twice() {
    let (place, id) = small();
    let registry = place.registry.as_ref().unwrap();
    let name = format!("{}/team/app:1", registry.host());
    let pushed = place.kuz(&["push", "app", &name]);
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    let uploads = registry.count("PUT", "/blobs/uploads");
    let again = place.kuz(&["push", "app", &name]);
    assert_eq!((again.code, again.stdout), (0, pushed.stdout));
    assert_eq!(registry.count("PUT", "/blobs/uploads"), uploads, "nothing is sent twice");
    let other = Place::new();
    let pulled = other.kuz(&["pull", "-q", &name]);
    assert_eq!(pulled.code, 0, "{}", pulled.stderr);
    assert_eq!(other.inspect(&name)["id"], id.as_str());
}

#[test]
fn a_build_pushes_to_its_tags() {
    let place = Place::with_registry();
    let registry = place.registry.as_ref().unwrap();
    place.dockerfile("FROM scratch\nCOPY . /\n");
    let name = format!("{}/team/app:2", registry.host());
    let ran = place.build(&["-t", &name, "--push"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(registry.manifest("team/app", "2").is_some());
}

#[test]
fn a_base_through_a_mirror_is_the_base_itself() {
    if !can_run() {
        return;
    }
    let mirrored = Place::with_registry();
    let host = mirrored.registry.as_ref().unwrap().host();
    mirrored.dockerfile("FROM busybox\nCOPY Dockerfile /\n");
    let id = mirrored.build(&["--build-arg", "SOURCE_DATE_EPOCH=1"]).id();
    let direct = Place::new();
    direct.dockerfile("FROM busybox\nCOPY Dockerfile /\n");
    direct.write("kuz.toml", &format!("[registry.\"docker.io\"]\nmirrors = [\"{host}\"]\norigin = false\n"));
    assert_eq!(direct.build(&["--build-arg", "SOURCE_DATE_EPOCH=1"]).id(), id);
}

#[test]
fn loading_without_a_daemon_says_so() {
    let (mut place, _) = small();
    place.set("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let ran = place.build(&["-t", "app", "--load"]);
    assert_ne!(ran.code, 0);
    assert!(ran.message().contains("/nonexistent/docker.sock"), "{}", ran.message());
}

/// A Docker daemon of a test's own, without bridge and firewall, in the test's directory. Ends with it.
struct Daemon(std::process::Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // A daemon that is killed leaves its mounts behind: it is asked to end.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

#[test]
fn docker_itself_loads_and_keeps_the_id() {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !root || !has("dockerd") || !has("docker") {
        return skip("needs root, dockerd and docker (Debian: docker.io)");
    }
    let (mut place, id) = small();
    let at = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let host = format!("unix://{}", at("docker.sock"));
    let log = std::fs::File::create(place.path("docker.log")).unwrap();
    let mut command = Command::new("dockerd");
    command.args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("docker.pid"), "-H", &host]);
    command.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]);
    let mut daemon = Daemon(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    let docker = |arguments: &[&str]| {
        Command::new("docker").args(["-H", &host]).args(arguments).env_remove("DOCKER_HOST").output().unwrap()
    };
    // It answers or it ends: each question waits for an answer, so that this is no wait by the clock.
    while !docker(&["version"]).status.success() {
        if daemon.0.try_wait().unwrap().is_some() {
            return skip("dockerd does not start on this machine");
        }
        std::thread::yield_now();
    }
    let identity = |name: &str| {
        let output = docker(&["image", "inspect", "--format", "{{.Id}}", name]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let archive = at("saved.tar");
    place.set("DOCKER_HOST", &host);
    assert_eq!(place.build(&["-t", "streamed:1", "--load"]).id(), id);
    assert_eq!(identity("streamed:1"), id);
    assert_eq!(place.kuz(&["image", "save", "--format", "docker-archive", "-o", &archive, "app"]).code, 0);
    assert!(docker(&["load", "-i", &archive]).status.success());
    assert_eq!(identity("app:latest"), id);
}
