//! Layers that meet others: the same one twice, over another base, made anew with another result, without its index.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kuz_image::Digest;
use kuz_image::tar::{Header, Kind, TarWriter};
use kuz_testkit::registry::{Action, Fault, Squeeze, TestImage};

use crate::kit::{Place, can_run};

fn tar(entries: &[(&str, Kind, u32, u32, &str)]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (path, kind, mode, uid, content) in entries {
        let header = Header {
            path: (*path).into(),
            kind: *kind,
            mode: *mode,
            uid: *uid,
            gid: *uid,
            mtime: 1,
            size: content.len() as u64,
            link: Vec::new(),
            xattrs: BTreeMap::new(),
        };
        tar.append(&header, &mut content.as_bytes()).unwrap();
    }
    tar.finish().unwrap()
}

#[test]
fn a_directory_that_a_layer_only_passes_through_looks_as_it_does_below() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    let registry = place.registry.as_ref().unwrap();
    let busybox = crate::base::busybox().unwrap().layers.remove(0);
    let upper = tar(&[("data/file", Kind::File, 0o644, 0, "x")]);
    for (name, mode, uid) in [("one", 0o700, 1000), ("two", 0o1777, 0)] {
        let below = tar(&[("data", Kind::Dir, mode, uid, "")]);
        let image = TestImage::new(vec![busybox.clone(), below, upper.clone()]);
        registry.put_image(&format!("library/{name}"), "latest", &image).unwrap();
    }
    for (name, want) in [("one", "700 1000\n"), ("two", "1777 0\n"), ("one", "700 1000\n")] {
        place.dockerfile(&format!("FROM {name}\nRUN stat -c '%a %u' /data > /seen\n"));
        assert_eq!(place.build(&["-t", "app", "--no-cache"]).code, 0);
        assert_eq!(place.kuz(&["run", "app", "cat", "/seen"]).stdout, want, "{name}");
    }
}

#[test]
fn the_same_layer_may_occur_twice() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.dockerfile("FROM busybox\nCOPY f /a\nRUN rm /a\nCOPY f /a\nRUN cat /a\n");
    place.write("ctx/f", "content");
    let ran = place.build(&["-t", "app", "--build-arg", "SOURCE_DATE_EPOCH=1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(place.kuz(&["run", "app", "cat", "/a"]).stdout, "content");
}

#[test]
fn a_stage_with_another_result_is_another_beginning() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.dockerfile(
        "FROM busybox AS forge\nRUN cat /proc/sys/kernel/random/uuid > /out\n\
         FROM forge AS on\nRUN cp /out /out2\nFROM busybox\nCOPY --from=on /out /out\nCOPY --from=on /out2 /out2\n",
    );
    let outputs = |flags: &[&str]| {
        let ran = place.build(&[&["-t", "app"], flags].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        place.kuz(&["run", "app", "cat", "/out", "/out2"]).stdout
    };
    let first = outputs(&[]);
    let (one, two) = first.trim_end().split_once('\n').unwrap();
    assert_eq!(one, two);
    let again = outputs(&["--no-cache-filter", "forge"]);
    let (three, four) = again.trim_end().split_once('\n').unwrap();
    assert_eq!(three, four);
    assert_ne!(one, three);
    assert_eq!(outputs(&[]), again, "the newest result counts");
}

#[test]
fn two_builds_of_one_step_do_not_mix_their_results() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.dockerfile("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /out\nRUN cp /out /out2\n");
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let place = &place;
            scope.spawn(move || assert_eq!(place.build(&["-t", name]).code, 0));
        }
    });
    for name in ["a", "b", "c"] {
        let seen = place.kuz(&["run", name, "cat", "/out", "/out2"]).stdout;
        let (one, two) = seen.trim_end().split_once('\n').unwrap();
        assert_eq!(one, two, "{name}");
    }
}

#[test]
fn hosts_and_shared_memory_are_in_the_key() {
    if !can_run() {
        return;
    }
    let place = Place::with_registry();
    place.dockerfile(
        "FROM busybox\nRUN grep bench /etc/hosts > /seen; df -k /dev/shm | tail -1 | awk '{print $2}' >> /seen\n",
    );
    for (flags, want) in [
        (["--add-host", "bench:10.0.0.1", "--shm-size", "1m"], "1024"),
        (["--add-host", "bench:10.0.0.2", "--shm-size", "2m"], "2048"),
    ] {
        let ran = place.build(&[&["-t", "app"], &flags[..]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let seen = place.kuz(&["run", "app", "cat", "/seen"]).stdout;
        let address = flags[1].split_once(':').unwrap().1;
        assert!(seen.contains(address) && seen.trim_end().ends_with(want), "{seen}");
    }
}

#[test]
fn devices_stay_devices_between_stages() {
    let place = Place::with_registry();
    let layer = tar(&[("d", Kind::Dir, 0o755, 0, ""), ("d/null", Kind::Char { major: 1, minor: 3 }, 0o666, 0, "")]);
    let image = TestImage::new(vec![layer]);
    place.registry.as_ref().unwrap().put_image("library/devices", "latest", &image).unwrap();
    place.dockerfile("FROM scratch\nCOPY --from=devices /d /d\n");
    assert_eq!(place.build(&["-t", "app"]).code, 0);
    assert_eq!(place.kuz(&["image", "save", "--format", "oci-dir", "-o", "out", "app"]).code, 0);
    let blob = place.inspect("app")["layers"][0]["diffId"].as_str().unwrap()[7..].to_owned();
    let bytes = std::fs::read(place.path("out/blobs/sha256").join(blob)).unwrap();
    let mut reader = kuz_image::tar::TarReader::new(bytes.as_slice());
    let mut kinds = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        kinds.push(entry.header().kind);
    }
    assert_eq!(kinds, [Kind::Dir, Kind::Char { major: 1, minor: 3 }]);
}

#[test]
fn a_lost_index_is_made_again() {
    let place = Place::new();
    place.dockerfile("FROM scratch\nCOPY a /\nCOPY b /\n");
    place.write("ctx/a", "a");
    place.write("ctx/b", "b");
    assert_eq!(place.build(&[]).code, 0);
    std::fs::remove_dir_all(place.path("store/meta/index")).unwrap();
    place.write("ctx/b", "other");
    let ran = place.build(&[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// Layers are unpacked while they come in: what was wrong on the way must not be in the tree.
#[test]
fn a_base_that_arrives_in_pieces_is_unpacked_whole() {
    if !can_run() {
        return;
    }
    let busybox = crate::base::busybox().unwrap().layers.remove(0);
    // Hardly compressible, and much longer than what a reader is told at a time.
    let mut text = String::new();
    for number in 0..120_000_u64 {
        writeln!(text, "{:x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap();
    }
    let large = tar(&[("first", Kind::File, 0o644, 0, "x"), ("large", Kind::File, 0o644, 0, &text)]);
    let small = tar(&[("small", Kind::File, 0o644, 0, "x")]);
    let check = format!("RUN test \"$(sha256sum < /large)\" = \"{}  -\"", Digest::of(text.as_bytes()).hex());
    // 1,024 bytes on, a plain layer has a whole entry and may end, as far as a reader of tars can tell.
    let cut = |at: usize| Action::CutAfter(at);
    for (what, squeeze, faults, code) in [
        ("as it is", Squeeze::Gzip, vec![], 0),
        ("plain", Squeeze::Plain, vec![], 0),
        ("broken off and resumed", Squeeze::Gzip, vec![cut(600_000)], 0),
        ("broken off twice", Squeeze::Gzip, vec![cut(600_000), cut(600_000)], 0),
        ("wrong after that, then from the beginning", Squeeze::Gzip, vec![cut(600_000), Action::Corrupt], 0),
        ("anew, when nothing was passed on", Squeeze::Plain, vec![cut(1024), Action::IgnoreRange], 0),
        ("anew, in a plain one", Squeeze::Plain, vec![cut(600_000), Action::Corrupt], 0),
        ("wrong", Squeeze::Gzip, vec![Action::Corrupt], 7),
    ] {
        let place = Place::with_registry();
        let registry = place.registry.as_ref().unwrap();
        let image = TestImage { squeeze, ..TestImage::new(vec![busybox.clone(), small.clone(), large.clone()]) };
        let put = registry.put_image("library/large", "latest", &image).unwrap();
        let each = || put.layers[1..].iter().flat_map(|layer| faults.iter().map(|action| (layer.digest.hex(), action)));
        // As another stage's base, and as the target's own.
        for rest in ["FROM scratch\nCOPY --from=0 /small /small\n", ""] {
            for (digest, action) in each() {
                registry.fault(Fault::on(digest, action.clone()).method("GET").times(1));
            }
            place.dockerfile(&format!("FROM large\nWORKDIR /w\n{check}\n{rest}"));
            let ran = place.build(&["-t", "app"]);
            assert_eq!(ran.code, code, "{what}: {}", ran.stderr);
            registry.clear_faults();
            assert_eq!(place.build(&["-t", "app"]).code, 0, "{what}: and again");
            assert_eq!(place.kuz(&["image", "rm", "app"]).code, 0);
            assert_eq!(place.kuz(&["store", "prune", "--all"]).code, 0);
        }
    }
}
