//! What the store promises, case by case.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something unexpected happens")]

mod scene;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kuz_image::{DiffId, Digest, Reference};
use kuz_store::{BlobError, ImageError, OpenError, Policy, Refs, Store, StoreError, StoreOptions, TreeRecord};
use scene::{BOOT, IDS, NOW, build, files, layer_tar, open, options, place, put_image, step};

/// Something done to a file.
type Harm = fn(&Path);
/// Something done to a file's content; `None` deletes it.
type Change = fn(&[u8]) -> Option<Vec<u8>>;

fn tag(text: &str) -> Reference {
    text.parse().unwrap()
}

fn blob_file(path: &Path, digest: &Digest) -> std::path::PathBuf {
    path.join("blobs").join(digest.algorithm().name()).join(digest.hex())
}

/// Changes a byte of a file, mode 0400 or not.
fn damage(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[bytes[bytes.len() / 2] ^ 1], bytes.len() as u64 / 2).unwrap();
}

#[test]
fn opening_makes_a_private_layout_and_refuses_what_is_none() {
    let place = place();
    let path = place.path().join("deep/store");
    drop(open(&path));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(fs::read_to_string(path.join("oci-layout")).unwrap(), r#"{"imageLayoutVersion":"1.0.0"}"#);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    drop(open(&path));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);

    for (content, newer) in [("kuznitsa store 2\n", true), ("kuznitsa store 0\n", false), ("", false), ("x\n", false)] {
        fs::write(path.join("version"), content).unwrap();
        let error = Store::open(&path, options()).unwrap_err();
        assert_eq!(matches!(error, OpenError::Newer { found: 2, .. }), newer, "{content}: {error}");
    }
    let home = place.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("letter"), "dear").unwrap();
    assert!(matches!(Store::open(&home, options()), Err(OpenError::NotAStore { .. })));
    assert_eq!(files(&home).len(), 1);
}

#[test]
fn owners_are_who_they_should_be() {
    use std::os::unix::fs::{MetadataExt, chown};
    let place = place();
    if fs::metadata(place.path()).unwrap().uid() != 0 {
        eprintln!("skipped: only root can give files away");
        return;
    }
    let path = place.path().join("store");
    let store = open(&path);
    store.trees(IDS, Some((100_000, 100_001))).unwrap();
    let ids = fs::read_dir(path.join("trees")).unwrap().next().unwrap().unwrap().metadata().unwrap();
    assert_eq!((ids.uid(), ids.gid(), ids.mode() & 0o7777), (100_000, 100_001, 0o700));
    chown(&path, Some(1000), None).unwrap();
    assert!(matches!(Store::open(&path, options()), Err(OpenError::NotOurs { owner: 1000, user: 0, .. })));
}

#[test]
fn what_others_put_into_tmp_is_left_alone() {
    let place = place();
    drop(open(place.path()));
    fs::write(place.path().join("tmp/note"), "").unwrap();
    fs::create_dir(place.path().join("tmp/dir")).unwrap();
    fs::write(place.path().join("tmp/0123456789abcdef.3.tmp"), "of a killed process").unwrap();
    fs::write(place.path().join("tmp/0123456789abcdef.alive"), "").unwrap();
    drop(open(place.path()).lease().unwrap());
    assert_eq!(files(&place.path().join("tmp")), [place.path().join("tmp/note")]);
}

#[test]
fn a_no_op_looks_at_a_handful_of_files() {
    let place = place();
    let store = open(place.path());
    build(&store, 1, "app").unwrap();
    drop(store);
    let store = open(place.path());
    assert!(store.step("copy-1").unwrap().is_some());
    assert!(store.disk_calls() <= 8, "{} calls", store.disk_calls());
    let before = store.disk_calls();
    let image = store.find("app").unwrap();
    assert!(!store.set_tag(&tag("app"), &image.manifest).unwrap());
    assert!(store.disk_calls() - before <= 15, "{} calls", store.disk_calls() - before);
    assert_eq!(files(&place.path().join("tmp")).len(), 0);
}

#[test]
fn blobs_are_what_their_digest_says() {
    let place = place();
    let store = open(place.path());
    let wanted = Digest::of(b"wanted");
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"something else").unwrap();
    assert!(matches!(writer.commit(Some(&wanted)), Err(BlobError::Digest { .. })));
    assert!(!store.has_blob(&wanted).unwrap());

    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"half").unwrap();
    writer.restart().unwrap();
    writer.write_all(b"wanted").unwrap();
    assert_eq!(writer.commit(Some(&wanted)).unwrap(), (wanted.clone(), 6));

    // Another process writes and hashes; this one only knows the size.
    let other = Digest::of(b"by another");
    let writer = store.blob_writer().unwrap();
    writer.file().write_all_at(b"by another", 0).unwrap();
    assert!(matches!(writer.commit_digest(&other, 3), Err(BlobError::Size { found: 10, .. })));
    let writer = store.blob_writer().unwrap();
    writer.file().write_all_at(b"by another", 0).unwrap();
    writer.commit_digest(&other, 10).unwrap();
    assert_eq!(store.read_blob(&other, 100).unwrap().unwrap(), b"by another");
    assert!(matches!(store.read_blob(&other, 9), Err(BlobError::TooLarge { .. })));

    let mut writer = store.blob_writer_for(kuz_image::digest::Algorithm::Sha512).unwrap();
    writer.write_all(b"long").unwrap();
    let (long, _) = writer.commit(None).unwrap();
    let mut text = String::new();
    store.blob_reader(&long).unwrap().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "long");
    assert_eq!(files(&place.path().join("tmp")).len(), 1, "only the session's own file");
}

#[test]
fn a_damaged_blob_is_put_aside_and_can_come_again() {
    let cases: [(&str, Harm); 5] = [
        ("a flipped bit", damage),
        ("cut", |path| fs::OpenOptions::new().append(true).open(path).unwrap().set_len(3).unwrap()),
        ("a link", |path| {
            fs::rename(path, path.with_extension("away")).unwrap();
            std::os::unix::fs::symlink(path.with_extension("away"), path).unwrap();
        }),
        ("a directory", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("another file", |path| {
            fs::remove_file(path).unwrap();
            fs::write(path, "contend").unwrap();
        }),
    ];
    for (name, harm) in cases {
        let place = place();
        let store = open(place.path());
        let digest = store.put_blob(b"content").unwrap();
        let file = blob_file(place.path(), &digest);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        harm(&file);
        assert!(!store.check(false).unwrap().is_clean(), "{name}");
        assert!(!store.has_blob(&digest).unwrap(), "{name}");
        assert!(store.open_blob(&digest).unwrap().is_none(), "{name}");
        assert_eq!(store.put_blob(b"content").unwrap(), digest, "{name}");
        assert_eq!(store.read_blob(&digest, 100).unwrap().unwrap(), b"content", "{name}");
        assert_eq!(fs::read_dir(place.path().join("quarantine")).unwrap().count(), 1, "{name}");

        // The same for somebody who does not look first.
        fs::remove_file(&file).unwrap();
        fs::write(&file, "content").unwrap();
        harm(&file);
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"content").unwrap();
        writer.commit(Some(&digest)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(store.read_blob(&digest, 100).unwrap().unwrap(), b"content", "{name}");
    }
}

#[test]
fn damage_that_no_stat_shows_is_seen_at_the_end() {
    let place = place();
    let store = open(place.path());
    let digest = store.put_blob(b"content").unwrap();
    let mut reader = store.blob_reader(&digest).unwrap().unwrap();
    damage(&blob_file(place.path(), &digest));
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(!store.has_blob(&digest).unwrap());
}

#[test]
fn records_last_through_kills_and_synced_ones_through_power_cuts() {
    let place = place();
    let at = |boot: &str| Store::open(place.path(), StoreOptions::new(boot, NOW)).unwrap();
    let record = step(None, None);
    let first = at(BOOT);
    first.record_step("one", &record).unwrap();
    assert_eq!(at(BOOT).step("one").unwrap(), Some(record.clone()), "the same boot");
    assert_eq!(at("boot-2").step("one").unwrap(), None, "not synced");
    first.sync().unwrap();
    first.record_step("two", &record).unwrap();
    let second = at("boot-2");
    assert_eq!(second.step("one").unwrap(), Some(record.clone()), "synced");
    assert_eq!(second.step("two").unwrap(), None, "written after the sync");
    second.record_step("three", &record).unwrap();
    second.sync().unwrap();
    let third = at("boot-3");
    for (key, there) in [("one", true), ("two", false), ("three", true)] {
        assert_eq!(third.step(key).unwrap().is_some(), there, "{key}");
    }
    // A counter that was lost must not vouch for what comes after.
    fs::write(place.path().join("lock/generation"), "").unwrap();
    second.record_step("four", &record).unwrap();
    assert_eq!(at("boot-4").step("four").unwrap(), None);
    assert!(third.check(false).unwrap().is_clean());
}

#[test]
fn a_blob_that_a_power_cut_emptied_is_noticed() {
    let place = place();
    let store = open(place.path());
    let digest = store.put_blob(b"content").unwrap();
    let file = blob_file(place.path(), &digest);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(0).unwrap();
    let later = Store::open(place.path(), StoreOptions::new("boot-2", NOW)).unwrap();
    assert!(!later.has_blob(&digest).unwrap());
}

#[test]
fn records_are_bytes_under_any_key() {
    let place = place();
    let store = open(place.path());
    for key in ["a", "../../etc", "ключ", "a b\n", &"k".repeat(4096)] {
        store.put("copies", key, key.as_bytes()).unwrap();
        assert_eq!(store.get("copies", key).unwrap().unwrap(), key.as_bytes());
        assert_eq!(store.get("bases", key).unwrap(), None);
    }
    for (kind, key) in [("", "k"), ("Up", "k"), ("../x", "k"), ("ok", ""), ("ok", &"k".repeat(4097))] {
        assert!(matches!(store.put(kind, key, b""), Err(StoreError::RecordName { .. })), "{kind} {key}");
    }
    assert!(store.forget("copies", "a").unwrap());
    assert!(!store.forget("copies", "a").unwrap());
    assert_eq!(store.get("copies", "a").unwrap(), None);
}

#[test]
fn images_are_found_by_tag_id_and_prefix() {
    let place = place();
    let store = open(place.path());
    let one = put_image(&store, 1).unwrap();
    let two = put_image(&store, 2).unwrap();
    assert!(store.set_tags(&[tag("app"), tag("localhost:5000/team/app:v1")], &one).unwrap());
    assert!(store.add_untagged(&two).unwrap());
    assert!(!store.add_untagged(&two).unwrap());

    let image = store.find("app").unwrap();
    assert_eq!(image.tags, ["app:latest", "localhost:5000/team/app:v1"]);
    let full = image.id.to_string();
    let by_digest = format!("app@{}", one.digest);
    let names = ["docker.io/library/app:latest", "localhost:5000/team/app:v1", &full, &full[7..], &full[7..19]];
    for name in names.into_iter().chain([by_digest.as_str(), one.digest.hex()]) {
        assert_eq!(store.find(name).unwrap().id, image.id, "{name}");
    }
    for name in ["app:v1", "nothing", "", "sha256:", "ZZ", "localhost:5000/team/app", &"0".repeat(64)] {
        assert!(matches!(store.find(name), Err(ImageError::NotFound { .. })), "{name}");
    }
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().any(|image| image.tags.is_empty() && image.manifest == two));

    // The tag moves; the first image keeps its other name.
    store.set_tag(&tag("app"), &two).unwrap();
    assert_eq!(store.find("app").unwrap().manifest, two);
    let removed = store.remove("localhost:5000/team/app:v1").unwrap();
    assert_eq!((removed.tags.len(), removed.image), (1, Some(one.digest.clone())));
    assert!(matches!(store.find(&full), Err(ImageError::NotFound { .. })));
    let removed = store.remove(store.find("app").unwrap().id.0.hex()).unwrap();
    assert_eq!(removed.tags, ["app:latest"]);
    assert!(store.list().unwrap().is_empty());
    assert!(matches!(store.remove("app"), Err(ImageError::NotFound { .. })));
}

#[test]
fn an_ambiguous_prefix_names_the_ids() {
    let place = place();
    let store = open(place.path());
    // Seventeen ids cannot all begin with different digits.
    for salt in 0..17 {
        store.add_untagged(&put_image(&store, salt).unwrap()).unwrap();
    }
    let first: Vec<char> =
        store.list().unwrap().iter().filter_map(|image| image.id.as_ref()?.0.hex().chars().next()).collect();
    let twice = first.iter().find(|digit| first.iter().filter(|other| other == digit).count() > 1).unwrap();
    match store.find(&twice.to_string()) {
        Err(ImageError::Ambiguous { ids, .. }) => assert!(ids.len() > 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn trees_count_only_when_recorded_and_only_for_their_ids() {
    let place = place();
    let store = open(place.path());
    build(&store, 1, "app").unwrap();
    let diff_id = DiffId(Digest::of(&layer_tar(1)));
    let trees = store.trees(IDS, None).unwrap();
    let name = trees.find(&diff_id).unwrap().unwrap();
    let directory = files(&place.path().join("trees"))[0].parent().unwrap().parent().unwrap().to_owned();
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o700);
    assert!(store.trees("1:1:1", None).unwrap().find(&diff_id).unwrap().is_none(), "other ids");

    // Given up: it is named as trash until the worker has deleted it.
    let new = trees.begin().unwrap();
    fs::create_dir(directory.join(new.name().as_str())).unwrap();
    assert!(trees.get(new.name()).unwrap().is_none());
    drop(new);
    assert!(trees.discard(&name).unwrap());
    assert!(trees.find(&diff_id).unwrap().is_none());
    let trash = trees.trash().unwrap();
    assert_eq!(trash.len(), 2);
    trees.removed(&trash).unwrap();
    assert_eq!(trees.trash().unwrap().len(), 2, "they are still there");
    assert!(store.lease().unwrap().trees_to_remove());
    scene::empty_trash(&store).unwrap();
    assert!(!store.lease().unwrap().trees_to_remove());
}

#[test]
fn the_second_to_publish_a_tree_takes_the_first() {
    let place = place();
    let store = open(place.path());
    let trees = store.trees(IDS, None).unwrap();
    let diff_id = DiffId(Digest::of(b"layer"));
    let (one, two) = (trees.begin().unwrap(), trees.begin().unwrap());
    scene::make_tree(&store, one.name().as_str()).unwrap();
    scene::make_tree(&store, two.name().as_str()).unwrap();
    let record = kuz_store::TreeRecord::default();
    let name = trees.publish(one, &diff_id, &record).unwrap();
    assert_eq!(trees.publish(two, &diff_id, &record).unwrap(), name);
    assert_eq!(trees.trash().unwrap().len(), 1);
    assert_eq!(trees.get(&name).unwrap().unwrap().diff_id, Some(diff_id));
}

#[test]
fn prune_keeps_what_is_named_and_what_was_used() {
    let place = place();
    let real = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs().cast_signed();
    let at = |time: i64| Store::open(place.path(), StoreOptions::new(BOOT, time)).unwrap();
    let store = at(real);
    for (salt, name) in [(1, "app"), (2, "old"), (3, "app")] {
        build(&store, salt, name).unwrap();
    }
    let base = store.put_blob(b"a base's configuration").unwrap();
    store.put_with("bases", "python:3.10", b"x", &Refs { blobs: vec![base.clone()], ..Refs::default() }).unwrap();
    // What is derived from a layer or an image goes with it, and keeps nothing alive.
    let image = store.find("old").unwrap().id;
    let nth = |salt| DiffId(Digest::of(&layer_tar(salt)));
    store.record_facts(&nth(2), b"facts").unwrap();
    store.record_facts(&nth(3), b"facts").unwrap();
    store.record_verdict(&image, b"sound").unwrap();
    let stray = store.put_blob(b"stray").unwrap();
    let dangling = Digest::of(&layer_tar(1));

    // By default: what nothing refers to. The cache refers to all layers, the dangling one's too.
    let pruned = store.prune(&Policy::default()).unwrap();
    assert_eq!((pruned.images, pruned.trees.count), (1, 0));
    assert!(!store.has_blob(&stray).unwrap());
    assert!(store.has_blob(&base).unwrap() && store.has_blob(&dangling).unwrap());
    assert!(store.step("run-1").unwrap().is_some());
    assert_eq!(store.verdict(&image).unwrap().as_deref(), Some(&b"sound"[..]));

    store.remove("old").unwrap();
    store.prune(&Policy::default()).unwrap();
    let old = Policy { older_than: Some(Duration::from_hours(1)), ..Policy::default() };
    assert_eq!(at(real).prune(&old).unwrap(), kuz_store::Pruned::default());
    let later = at(real + 7200);
    assert!(later.step("copy-1").unwrap().is_some());
    later.prune(&old).unwrap();
    assert!(later.step("copy-1").unwrap().is_some(), "used a moment ago");
    assert!(later.has_blob(&dangling).unwrap());
    assert!(later.step("copy-2").unwrap().is_none() && later.step("run-1").unwrap().is_none());
    assert!(!later.has_blob(&Digest::of(&layer_tar(2))).unwrap());
    assert_eq!((later.facts(&nth(2)).unwrap(), later.verdict(&image).unwrap()), (None, None));
    assert_eq!(later.facts(&nth(3)).unwrap().as_deref(), Some(&b"facts"[..]));

    store.prune(&Policy { all: true, ..Policy::default() }).unwrap();
    let usage = store.usage().unwrap();
    assert_eq!((usage.images, usage.blobs.count, usage.trees.count), (1, 3, 0), "{usage:?}");
    assert!(store.get("bases", "python:3.10").unwrap().is_none());
    store.documents(&store.find("app").unwrap().manifest.digest).unwrap();
    scene::empty_trash(&store).unwrap();
    assert!(store.check(false).unwrap().is_clean());
}

#[test]
fn prune_to_a_size_drops_what_was_used_longest_ago() {
    let place = place();
    let store = open(place.path());
    for salt in 1..=6 {
        build(&store, salt, "app").unwrap();
        let age = Duration::from_secs(100 - salt as u64);
        for file in files(&place.path().join("meta")) {
            let content = fs::read(&file).unwrap();
            let names = format!("-{salt}\"");
            if content.windows(names.len()).any(|window| window == names.as_bytes()) {
                let file = fs::File::options().write(true).open(&file).unwrap();
                file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(NOW.cast_unsigned()) - age).unwrap();
            }
        }
    }
    let limit = 9000;
    assert!(store.usage().unwrap().blobs.bytes > limit);
    store.prune(&Policy { keep_bytes: Some(limit), ..Policy::default() }).unwrap();
    let usage = store.usage().unwrap();
    assert!(usage.blobs.bytes + usage.trees.bytes <= limit, "{usage:?}");
    assert!(store.step("copy-1").unwrap().is_none());
    assert!(store.step("copy-6").unwrap().is_some());
    assert!(store.find("app").is_ok());
    // Less than the tagged image itself takes is not to be had, and no error.
    store.prune(&Policy { keep_bytes: Some(1), ..Policy::default() }).unwrap();
    assert!(store.documents(&store.find("app").unwrap().manifest.digest).is_ok());
}

#[test]
fn prune_and_builds_wait_for_each_other_with_an_end() {
    let place = place();
    let store = open(place.path());
    let lease = store.lease().unwrap();
    let mut hasty = options();
    hasty.wait = Duration::ZERO;
    let other = Store::open(place.path(), hasty).unwrap();
    let error = other.prune(&Policy::default()).unwrap_err().to_string();
    assert!(error.contains("running builds"), "{error}");
    drop(other.lease().unwrap());
    drop(lease);
    other.prune(&Policy::default()).unwrap();
}

#[test]
fn check_finds_damage_in_every_file_and_repair_mends_it() {
    let place = place();
    let path = place.path().join("store");
    let store = open(&path);
    build(&store, 1, "app").unwrap();
    assert!(store.check(false).unwrap().is_clean());
    // The version is looked at by every open; locks hold nothing that matters.
    let checked = |file: &std::path::PathBuf| {
        let inner = file.strip_prefix(&path).unwrap();
        inner != Path::new("version")
            && !inner.starts_with("lock")
            && !inner.starts_with("tmp")
            && !inner.starts_with("trees")
    };
    let all: Vec<_> = files(&path).into_iter().filter(checked).collect();
    assert!(all.len() >= 14, "{all:?}");
    let harms: [(&str, Change); 4] = [
        ("flipped", |bytes| {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 3;
            bytes[middle] ^= 0x10;
            Some(bytes)
        }),
        ("cut", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
        ("emptied", |_| Some(Vec::new())),
        ("deleted", |_| None),
    ];
    for file in &all {
        for (name, harm) in harms {
            let told = format!("{name} {}", file.display());
            let copy = place.path().join("copy");
            assert!(Command::new("cp").arg("-a").arg(&path).arg(&copy).status().unwrap().success());
            let victim = copy.join(file.strip_prefix(&path).unwrap());
            let bytes = fs::read(&victim).unwrap();
            fs::remove_file(&victim).unwrap();
            let is_record = victim.strip_prefix(&copy).unwrap().starts_with("meta");
            if let Some(harmed) = harm(&bytes) {
                fs::write(&victim, harmed).unwrap();
            } else if is_record {
                // A lost record is not damage: it is made again.
                fs::remove_dir_all(&copy).unwrap();
                continue;
            }
            let store = open(&copy);
            assert!(!store.check(false).unwrap().is_clean(), "{told}");
            store.check(true).unwrap();
            scene::empty_trash(&store).unwrap();
            build(&store, 1, "app").unwrap_or_else(|error| panic!("{told}: {error}"));
            let report = store.check(false).unwrap();
            assert!(report.is_clean(), "{told}: {:?}", report.problems);
            assert_eq!(store.find("app").unwrap().tags, ["app:latest"], "{told}");
            drop(store);
            fs::remove_dir_all(&copy).unwrap();
        }
    }
}

#[test]
fn a_lost_index_is_made_again_with_its_tags() {
    let place = place();
    let store = open(place.path());
    build(&store, 1, "app").unwrap();
    build(&store, 2, "gone").unwrap();
    let untagged = put_image(&store, 3).unwrap();
    store.remove("gone").unwrap();
    fs::write(place.path().join("index.json"), "{").unwrap();
    assert!(matches!(store.find("app"), Err(ImageError::Index(Some(_)))));
    assert!(matches!(store.prune(&Policy::default()), Err(ImageError::Index(_))), "prune must not take it for empty");
    assert!(!store.check(true).unwrap().is_clean());
    assert_eq!(store.find("app").unwrap().tags, ["app:latest"]);
    assert!(store.find("gone").is_err());
    assert!(store.list().unwrap().iter().any(|image| image.manifest.digest == untagged.digest));
    assert!(store.check(false).unwrap().is_clean());
}

#[test]
fn skopeo_reads_the_store() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        eprintln!("skipped: skopeo is not installed");
        return;
    }
    let place = place();
    let path = place.path().join("store");
    let store = open(&path);
    build(&store, 1, "app").unwrap();
    build(&store, 2, "localhost:5000/team/app:v1").unwrap();
    for name in ["app:latest", "localhost:5000/team/app:v1"] {
        let target = place.path().join("copy");
        let copied = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet"])
            .arg(format!("oci:{}:{name}", path.display()))
            .arg(format!("dir:{}", target.display()))
            .output()
            .unwrap();
        assert!(copied.status.success(), "{name}: {}", String::from_utf8_lossy(&copied.stderr));
        let id = store.find(name).unwrap().id;
        assert!(target.join(id.0.hex()).is_file(), "{name}");
        fs::remove_dir_all(&target).unwrap();
    }
}

#[test]
fn prune_leaves_the_trees_that_a_running_command_stands_on() {
    let place = place();
    let store = open(place.path());
    let trees = store.trees(IDS, None).unwrap();
    let make = |layer: usize| {
        let tree = trees.begin().unwrap();
        fs::create_dir(place.path().join("trees").join(ids_of(place.path())).join(tree.name().as_str())).unwrap();
        let diff_id = kuz_image::DiffId(kuz_image::Digest::of(&layer_tar(layer)));
        trees.publish(tree, &diff_id, &TreeRecord::default()).unwrap()
    };
    let (used, unused) = (make(1), make(2));
    let unfinished = trees.begin().unwrap();
    let pin = trees.pin(std::slice::from_ref(&used)).unwrap();
    // Another process, as it seems to the store: a handle of its own.
    let other = open(place.path());
    let all = Policy { all: true, ..Policy::default() };
    other.prune(&all).unwrap();
    assert!(trees.get(&used).unwrap().is_some(), "a pinned tree is gone");
    assert!(trees.get(&unused).unwrap().is_none(), "a tree without a pin stays");
    assert!(other.check(false).unwrap().is_clean());
    drop((pin, unfinished));
    other.prune(&all).unwrap();
    assert!(trees.get(&used).unwrap().is_none(), "a pin outlives its command");
}

/// The one directory of trees.
fn ids_of(place: &Path) -> String {
    let mut names = fs::read_dir(place.join("trees")).unwrap();
    names.next().unwrap().unwrap().file_name().into_string().unwrap()
}

#[test]
fn a_wait_for_the_store_is_announced_and_can_be_stopped() {
    let place = place();
    let store = open(place.path());
    let lease = store.lease().unwrap();
    let mut patient = options();
    patient.wait = Duration::from_hours(1);
    patient.stop = kuz_store::Stop::when(|| true);
    let other = Store::open(place.path(), patient).unwrap();
    assert_eq!((other.awaited(false).unwrap(), other.awaited(true).unwrap().is_some()), (None, true));
    assert!(matches!(
        other.prune(&Policy::default()),
        Err(ImageError::Store(kuz_store::StoreError::Stopped { what })) if what.contains("builds")
    ));
    drop(lease);
    assert_eq!(other.awaited(true).unwrap(), None);
}
