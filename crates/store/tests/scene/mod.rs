//! What the store's tests share: a small build against a store, and the look at what it left.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something unexpected happens")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kuz_image::{
    Descriptor, DiffId, Digest, History, ImageConfig, IndexEntry, LayerIndex, Manifest, Node, Reference, RootFs,
    media_type,
};
use kuz_store::{LayerBlob, LayerRecord, StepRecord, Store, StoreOptions, TreeRecord};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The boot that tests live in, unless they say otherwise.
pub const BOOT: &str = "boot-1";
/// The time that tests live in.
pub const NOW: i64 = 1_800_000_000;
/// The id map of the tests' trees.
pub const IDS: &str = "0:100000:65536";

/// A place for a store; in memory where possible, since every tag syncs the whole file system.
pub fn place() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

pub fn options() -> StoreOptions {
    StoreOptions::new(BOOT, NOW)
}

pub fn open(path: &Path) -> Store {
    Store::open(path, options()).unwrap()
}

/// A tar with nothing in it but `salt` bytes of padding: a layer as far as the store cares.
pub fn layer_tar(salt: usize) -> Vec<u8> {
    vec![0; 1024 + 512 * salt]
}

/// Writes an image's blobs; gives the pointer to its manifest.
pub fn put_image(store: &Store, salt: usize) -> Result<Descriptor> {
    let tar = layer_tar(salt);
    let mut writer = store.blob_writer()?;
    for chunk in tar.chunks(700) {
        std::io::Write::write_all(&mut writer, chunk)?;
    }
    let (layer, size) = writer.commit(None)?;
    let diff_id = DiffId(layer.clone());
    let blobs = vec![LayerBlob { digest: layer.clone(), size, media_type: media_type::LAYER.into() }];
    store.record_layer(&LayerRecord { diff_id: diff_id.clone(), bytes: size, blobs })?;
    let entry = IndexEntry { node: Node::Dir { opaque: false }, mode: 0o755, uid: 0, gid: 0, mtime: 0 };
    let entries = BTreeMap::from([(format!("dir-{salt}").into_bytes(), entry)]);
    store.record_index(&diff_id, LayerIndex { entries, accounts: BTreeMap::new() })?;
    let config = ImageConfig {
        created: Some("2026-01-01T00:00:00Z".into()),
        architecture: "amd64".into(),
        os: "linux".into(),
        rootfs: RootFs { diff_ids: vec![diff_id], ..RootFs::default() },
        history: vec![History { created_by: Some(format!("COPY {salt}")), ..History::default() }],
        ..ImageConfig::default()
    };
    let config = serde_json::to_vec(&config)?;
    let config_digest = store.put_blob(&config)?;
    let manifest = Manifest::new(
        Descriptor::new(media_type::CONFIG, config_digest, config.len() as u64),
        vec![Descriptor::new(media_type::LAYER, layer, size)],
    );
    let manifest = serde_json::to_vec(&manifest)?;
    let digest = store.put_blob(&manifest)?;
    Ok(Descriptor::new(media_type::MANIFEST, digest, manifest.len() as u64))
}

/// What the worker would do: a directory in the trees' directory.
pub fn make_tree(store: &Store, name: &str) -> Result<()> {
    for ids in fs::read_dir(store.path().join("trees"))? {
        let dir = ids?.path().join(name);
        fs::create_dir(&dir)?;
        fs::write(dir.join("file"), name)?;
    }
    Ok(())
}

/// A small build: blobs, a published tree, a RUN step's tree, steps, a tag.
pub fn build(store: &Store, salt: usize, tag: &str) -> Result<()> {
    let _lease = store.lease()?;
    let manifest = put_image(store, salt)?;
    let diff_id = DiffId(Digest::of(&layer_tar(salt)));
    let trees = store.trees(IDS, None)?;
    if trees.find(&diff_id)?.is_none() {
        let tree = trees.begin()?;
        make_tree(store, tree.name().as_str())?;
        trees.publish(tree, &diff_id, &TreeRecord { diff_id: None, files: 2, bytes: 24 })?;
    }
    let key = format!("run-{salt}");
    let known = store.step(&key)?.and_then(|step| step.tree);
    let usable = match known {
        Some(name) => trees.get(&name.parse()?)?.is_some(),
        None => false,
    };
    if !usable {
        let tree = trees.begin()?;
        make_tree(store, tree.name().as_str())?;
        let name = trees.record(tree, &TreeRecord { diff_id: None, files: 2, bytes: 24 })?;
        store.record_step(&key, &step(None, Some(name.to_string())))?;
    }
    store.record_step(&format!("copy-{salt}"), &step(Some(diff_id), None))?;
    store.set_tag(&tag.parse::<Reference>()?, &manifest)?;
    Ok(())
}

pub fn step(diff_id: Option<DiffId>, tree: Option<String>) -> StepRecord {
    StepRecord { created: "2026-01-01T00:00:00Z".into(), diff_id, tree, notes: BTreeMap::new() }
}

/// What the worker would do with the trash.
pub fn empty_trash(store: &Store) -> Result<()> {
    let trees = store.trees(IDS, None)?;
    let names = trees.trash()?;
    for ids in fs::read_dir(store.path().join("trees"))? {
        for name in &names {
            let _ = fs::remove_dir_all(ids.as_ref().unwrap().path().join(name));
        }
    }
    trees.removed(&names)?;
    Ok(())
}

/// Looks at a store after an accident: clean, nothing left over, and the build can be done.
pub fn inspect(path: &Path, salt: usize, tag: &str, told: &str) {
    let store = open(path);
    drop(store.lease().unwrap());
    empty_trash(&store).unwrap();
    let report = store.check(false).unwrap();
    assert!(report.is_clean(), "{told}: {:?}", report.problems);
    let left: Vec<PathBuf> = files(&path.join("tmp"));
    assert!(left.iter().all(|path| path.extension().is_some_and(|end| end == "alive")), "{told}: {left:?}");
    assert!(left.len() <= 1, "{told}: {left:?}");
    build(&store, salt, tag).unwrap_or_else(|error| panic!("{told}: {error}"));
    let image = store.find(tag).unwrap();
    assert_eq!(store.documents(&image.manifest.digest).unwrap().manifest.config.digest, image.id.0, "{told}");
    let report = store.check(false).unwrap();
    assert!(report.is_clean(), "{told}: {:?}", report.problems);
    // Each tree that counts is named by a step, a layer or both: nothing was made in vain.
    assert_eq!(store.usage().unwrap().waste, 0, "{told}");
}

/// All files below a directory.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
