//! `--jobs`: stages side by side, what they share, and how one's failure ends the others.

use crate::base;
use crate::kit::{Place, can_run};

/// Two stages that meet at a pipe in a shared cache: neither ends without the other.
const MEETING: &str = "FROM busybox AS one
RUN --mount=type=cache,id=meet,target=/c (mkfifo /c/pipe || true) 2>/dev/null; timeout 60 sh -c 'echo met > /c/pipe' && touch /one
FROM busybox AS two
RUN --mount=type=cache,id=meet,target=/c (mkfifo /c/pipe || true) 2>/dev/null; timeout 60 sh -c 'cat /c/pipe > /two'
FROM scratch
COPY --from=one /one /
COPY --from=two /two /
";

#[test]
fn independent_stages_run_side_by_side_when_asked() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.dockerfile(MEETING);
    let ran = place.build(&["--jobs", "2", "--progress=plain", "-o", "type=oci,tar=false,dest=out"]);
    let id = ran.id();
    // What was built side by side is found again by a build that does one thing after the other.
    let again = place.build(&["--progress=plain"]);
    assert_eq!(again.id(), id);
    assert!(!again.stderr.contains("done in"), "{}", again.stderr);
}

#[test]
fn jobs_change_no_image() {
    if !can_run() {
        return;
    }
    let mut place = Place::with_registry();
    place.set("SOURCE_DATE_EPOCH", "1700000000");
    let stages = [0, 1, 2, 3, 4, 5].map(|n| format!("FROM busybox AS s{n}\nRUN echo {n} > /f{n}\n"));
    let copies = [0, 1, 2, 3, 4, 5].map(|n| format!("COPY --from=s{n} /f{n} /\n"));
    place.dockerfile(&format!("{}FROM s0\n{}RUN cat /f*\n", stages.concat(), copies.concat()));
    let golden = place.build(&["-q"]).id();
    for jobs in ["0", "1", "3"] {
        assert_eq!(place.build(&["-q", "--no-cache", "--jobs", jobs]).id(), golden, "--jobs {jobs}");
    }
}

#[test]
fn a_failed_stage_ends_the_others_and_is_the_one_that_is_told() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    // The second stage fails only once the first is at work, and that one would go on for long.
    place.dockerfile(
        "FROM busybox AS slow
RUN --mount=type=cache,id=meet,target=/c (mkfifo /c/pipe || true) 2>/dev/null; echo at work > /c/pipe; sleep 1000
FROM busybox AS wrong
RUN --mount=type=cache,id=meet,target=/c (mkfifo /c/pipe || true) 2>/dev/null; cat /c/pipe; exit 7
FROM scratch
COPY --from=slow / /
COPY --from=wrong / /
",
    );
    let ran = place.build(&["--jobs", "2"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.message().contains("exit code 7") || ran.message().contains("exit status 7"), "{}", ran.message());
    assert!(ran.stderr.contains("wrong"), "{}", ran.stderr);
    let none: [String; 0] = [];
    assert_eq!(crate::traces::unfinished(&place, &place.path("store")), none);
}

#[test]
fn a_mount_from_an_image_reads_that_image() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    let registry = place.registry.as_ref().unwrap();
    let other = base::busybox_with(vec![base::tar(&[base::file("only-here", b"yes\n")])]).unwrap();
    registry.put_image("library/other", "latest", &other).unwrap();
    place.dockerfile("FROM busybox\nRUN --mount=from=other,target=/o cat /o/only-here > /seen\n");
    place.build(&["-q", "-t", "app"]).id();
    let seen = place.kuz(&["run", "app", "cat", "/seen"]);
    assert_eq!((seen.code, seen.stdout.as_str()), (0, "yes\n"), "{seen:?}");
}

#[test]
fn a_push_alone_downloads_no_layer_that_the_registry_can_mount() {
    if base::busybox().is_none() {
        return crate::kit::skip("no static busybox (Debian: busybox-static)");
    }
    let place = Place::with_registry();
    let registry = place.registry.as_ref().unwrap();
    let host = registry.host();
    registry.put_image("base/busybox", "1", &base::busybox().unwrap()).unwrap();
    let base = format!("{host}/base/busybox:1");
    let name = format!("{host}/team/app:1");
    // A copy into a directory that is not in the base asks nothing of the base's files... but a destination's parents do.
    place.dockerfile(&format!("FROM {base}\nENV A=1\nCOPY --link a /a\n"));
    place.write("ctx/a", "a");
    let layer = place_layer(&place, "base/busybox");
    let ran = place.build(&["-t", &name, "--push"]);
    let id = ran.id();
    assert!(ran.json()["size"].is_null(), "{ran:?}");
    assert!(ran.message().contains("registry only"), "{ran:?}");
    assert_eq!(registry.count("GET", &layer), 0, "the base's layer was downloaded");
    // It is a whole image nevertheless: another store gets it with the same id.
    let mut other = Place::new();
    other.set("KUZ_STORE", other.path("elsewhere"));
    let pulled = other.kuz(&["pull", &name]);
    assert_eq!((pulled.code, pulled.stdout.trim()), (0, id.as_str()), "{pulled:?}");
    // Where the registry cannot mount it, it is fetched, and the image is complete here too.
    let elsewhere = kuz_testkit::registry::TestRegistry::start().unwrap();
    let far = format!("{}/team/app:1", elsewhere.host());
    let ran = place.build(&["-t", &far, "--push"]);
    assert_eq!(ran.id(), id);
    assert!(ran.json()["size"].as_u64().is_some(), "{ran:?}");
    assert_eq!(registry.count("GET", &layer), 2, "once for the other store, once for the far registry");
    assert_eq!(place.kuz(&["store", "check"]).code, 0);
}

/// The digest of a repository's only layer, as it stands in addresses.
fn place_layer(place: &Place, repository: &str) -> String {
    let (_, manifest) = place.registry.as_ref().unwrap().manifest(repository, "1").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"][0]["digest"].as_str().unwrap().to_owned()
}
