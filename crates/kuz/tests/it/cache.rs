//! What is done again and what is not: a rebuild runs nothing, an edit re-runs what depends on it, damage is noticed.

use crate::kit::{Place, can_run};

const RECIPE: &str = "\
FROM busybox AS forge
WORKDIR /work
COPY libraries.list .
RUN mkdir -p /out && cat libraries.list > /out/made && date +%N >> /out/made
FROM busybox
WORKDIR /app
COPY --from=forge /out /out
COPY . .
";

fn recipe() -> Place {
    let place = Place::with_registry();
    place.dockerfile(RECIPE);
    place.write("ctx/libraries.list", "one\n");
    place.write("ctx/main.py", "print(1)\n");
    place.write("ctx/.dockerignore", "Dockerfile\n");
    place
}

/// The steps that were not cached, as `stage/number`.
fn done(stderr: &str) -> Vec<String> {
    stderr
        .lines()
        .filter_map(|line| line.strip_prefix('[')?.split_once("] done").map(|(name, _)| name.to_owned()))
        .collect()
}

#[test]
fn a_rebuild_does_nothing_and_an_edit_little() {
    if !can_run() {
        return;
    }
    let place = recipe();
    let first = place.build(&["-t", "app"]);
    let id = first.id();
    assert_eq!(done(&first.stderr).len(), 6, "{}", first.stderr);

    let requests = place.registry.as_ref().unwrap().log().len();
    let second = place.build(&["-t", "app"]);
    assert_eq!(second.id(), id);
    assert_eq!(done(&second.stderr), Vec::<String>::new());
    assert_eq!(place.registry.as_ref().unwrap().log().len(), requests, "a no-op asks no registry");

    place.write("ctx/main.py", "print(2)\n");
    let edited = place.build(&["-t", "app"]);
    assert_ne!(edited.id(), id);
    assert_eq!(done(&edited.stderr), ["stage-1 3/3"]);

    place.write("ctx/libraries.list", "two\n");
    let listed = place.build(&["-t", "app"]);
    assert_eq!(done(&listed.stderr), ["forge 2/3", "forge 3/3", "stage-1 2/3", "stage-1 3/3"]);

    // Back to what was built first: every record is still there.
    place.write("ctx/main.py", "print(1)\n");
    place.write("ctx/libraries.list", "one\n");
    let back = place.build(&["-t", "app"]);
    assert_eq!((back.id(), done(&back.stderr)), (id, vec![]));
}

#[test]
fn no_cache_does_everything_again() {
    if !can_run() {
        return;
    }
    let place = recipe();
    let id = place.build(&[]).id();
    let again = place.build(&["--no-cache"]);
    assert_ne!(again.id(), id, "the step writes the time");
    assert_eq!(done(&again.stderr).len(), 6);
}

#[test]
fn other_arguments_and_targets_are_other_builds() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.dockerfile("FROM busybox AS one\nARG V=1\nRUN echo $V > /v\nFROM one AS two\nRUN echo two > /two\n");
    let id = place.build(&["-t", "app"]).id();
    let argument = place.build(&["-t", "app", "--build-arg", "V=2"]);
    assert_ne!(argument.id(), id);
    assert_eq!(done(&argument.stderr), ["one 2/2", "two 1/1"]);
    let target = place.build(&["-t", "app", "--target", "one"]);
    assert_ne!(target.id(), id);
    assert_eq!(place.inspect("app")["id"], target.id().as_str(), "the tag has moved");
    assert_eq!(place.build(&["-t", "app"]).id(), id);
    assert_eq!(place.inspect("app")["id"], id.as_str(), "and back");
}

#[test]
fn a_removed_image_is_built_again_to_the_same_id() {
    if !can_run() {
        return;
    }
    let place = recipe();
    let id = place.build(&["-t", "app"]).id();
    assert_eq!(place.kuz(&["image", "rm", "app"]).code, 0);
    assert_eq!(place.kuz(&["image", "inspect", "app"]).code, 3);
    assert_eq!(place.build(&["-t", "app"]).id(), id);
    assert_eq!(place.inspect("app")["id"], id.as_str());
}

#[test]
fn a_damaged_blob_is_made_or_fetched_again() {
    if !can_run() {
        return;
    }
    let mut place = recipe();
    // A directory that is made again in another second would be another layer, with another blob.
    place.set("SOURCE_DATE_EPOCH", "1700000000");
    let id = place.build(&["-t", "app"]).id();
    let blobs: Vec<_> =
        std::fs::read_dir(place.path("store/blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(blobs.len() > 5);
    for blob in blobs {
        let before = std::fs::read(&blob).unwrap();
        let mut bytes = before.clone();
        bytes[before.len() / 2] ^= 1;
        let mut permissions = std::fs::metadata(&blob).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        std::fs::set_permissions(&blob, permissions).unwrap();
        std::fs::write(&blob, &bytes).unwrap();
        let ran = place.build(&["-t", "app"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        // An image that lost its name to a new one may have lost a layer that cannot be made again.
        assert_eq!(place.kuz(&["store", "check", "--repair"]).code, 0);
        let check = place.kuz(&["store", "check"]);
        assert_eq!(check.code, 0, "{} {}", blob.display(), check.stdout);
        if ran.id() == id {
            assert_eq!(std::fs::read(&blob).ok().as_ref(), Some(&before), "{}", blob.display());
        }
    }
}

#[test]
fn only_stages_that_the_target_needs_are_looked_at() {
    let place = Place::with_registry();
    place.dockerfile("FROM no-such-image AS unused\nRUN false\nFROM scratch\nCOPY Dockerfile /\n");
    assert_eq!(place.build(&[]).code, 0);
}

#[test]
fn the_same_context_elsewhere_and_later_gives_the_same_image() {
    let ids: Vec<String> = (0..2)
        .map(|_| {
            let place = Place::new();
            place.dockerfile("FROM scratch\nWORKDIR /app\nCOPY . .\nENV A=b\n");
            place.write("ctx/a/b", "c");
            place.build(&["--build-arg", "SOURCE_DATE_EPOCH=1700000000"]).id()
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn several_builds_share_a_store() {
    if !can_run() {
        return;
    }
    let place = recipe();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4)
            .map(|number| {
                let place = &place;
                scope.spawn(move || {
                    place.build(&["-t", &format!("app{number}"), "--build-arg", "SOURCE_DATE_EPOCH=1"]).id()
                })
            })
            .collect();
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 4);
    assert_eq!(place.kuz(&["store", "check"]).code, 0);
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(place.inspect(&format!("app{number}"))["id"], id.as_str());
    }
}
