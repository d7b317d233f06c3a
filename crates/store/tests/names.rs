//! Names of images: the records beside `index.json` always answer as it does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something unexpected happens")]

mod scene;

use std::fs;
use std::path::Path;

use kuz_image::{Descriptor, Reference};
use kuz_store::{Policy, Store, StoreOptions};
use scene::{BOOT, NOW, place, put_image};

const NAMES: [&str; 4] = ["app", "app:2", "other", "registry.example/team/app:1"];

fn reference(name: &str) -> Reference {
    name.parse().unwrap()
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// What another program may do to `index.json`: an entry goes, or gets another's name.
fn edit(path: &Path, numbers: &mut Numbers) {
    let file = path.join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let entries = index["manifests"].as_array_mut().unwrap();
    if entries.is_empty() {
        return;
    }
    let at = numbers.below(entries.len());
    let name = "org.opencontainers.image.ref.name";
    match numbers.below(6) {
        0 => drop(entries.remove(at)),
        1 => entries[at]["annotations"] = serde_json::json!({name: ""}),
        2 => entries[at]["annotations"] = serde_json::json!({name: "@app:latest", "digest": "sha256:0"}),
        // What this program does not know, and what looks like entries in it.
        3 => entries[at]["subject"] = serde_json::json!({"mediaType": "x", "annotations": {name: "app:latest"}}),
        4 => entries[at]["platform"] = serde_json::json!({"architecture": "arm64", "os": "linux"}),
        _ => entries[at]["annotations"] = serde_json::json!({name: "app:latest"}),
    }
    fs::write(&file, serde_json::to_vec(&index).unwrap()).unwrap();
}

#[test]
fn the_records_of_names_answer_as_the_index_does() {
    for seed in 1..=40 {
        let place = place();
        let mut numbers = Numbers(seed);
        let mut boot = 1;
        let mut store = Store::open(place.path(), StoreOptions::new(BOOT, NOW)).unwrap();
        let images: Vec<Descriptor> = (1..=4).map(|salt| put_image(&store, salt).unwrap()).collect();
        let mut done = Vec::new();
        for _ in 0..25 {
            let name = reference(NAMES[numbers.below(NAMES.len())]);
            let image = &images[numbers.below(images.len())];
            done.push(match numbers.below(11) {
                0..4 => format!("tag {name} {}: {}", image.digest, store.set_tag(&name, image).unwrap()),
                4 => format!("add {}: {}", image.digest, store.add_untagged(image).unwrap()),
                5 => format!("remove {name}: {}", store.remove(&name.to_string()).is_ok()),
                6 => {
                    edit(place.path(), &mut numbers);
                    "edit".to_owned()
                }
                7 => {
                    store.prune(&Policy::default()).unwrap();
                    // What it took is brought back, so that tags can lead there again.
                    (1..=4).for_each(|salt| drop(put_image(&store, salt).unwrap()));
                    "prune".to_owned()
                }
                // A record of a name rots.
                8 => {
                    let folder = place.path().join("meta/tag");
                    let records = if folder.is_dir() { scene::files(&folder) } else { Vec::new() };
                    if let Some(first) = records.first() {
                        fs::write(first, "rot").unwrap();
                    }
                    "rot".to_owned()
                }
                9 => {
                    store.check(true).unwrap();
                    "repair".to_owned()
                }
                // What was not synced in the last boot is not believed any more.
                _ => {
                    boot += 1;
                    store = Store::open(place.path(), StoreOptions::new(&format!("boot-{boot}"), NOW)).unwrap();
                    "reboot".to_owned()
                }
            });
            for name in NAMES.map(reference) {
                let by_record = store.tagged(&name).unwrap().map(|manifest| manifest.digest);
                let by_index = store.find(&name.to_string());
                let by_index = match by_index {
                    Err(kuz_store::ImageError::NotFound { .. }) => None,
                    other => Some(other.unwrap_or_else(|error| panic!("{name}: {error}: {done:#?}")).manifest.digest),
                };
                assert_eq!(by_record, by_index, "seed {seed}, {name}: {done:#?}");
            }
        }
    }
}

#[test]
fn a_name_that_is_there_is_not_given_again() {
    let place = place();
    let store = Store::open(place.path(), StoreOptions::new(BOOT, NOW)).unwrap();
    let (one, two) = (put_image(&store, 1).unwrap(), put_image(&store, 2).unwrap());
    let app = reference("app");
    assert!(store.set_tag(&app, &one).unwrap());
    assert!(!store.set_tag(&app, &one).unwrap());
    assert!(!store.add_untagged(&one).unwrap(), "it has a name");
    assert!(store.set_tag(&app, &two).unwrap());
    assert!(!store.add_untagged(&one).unwrap(), "it stayed without a name");
    store.remove("app").unwrap();
    assert!(store.set_tag(&app, &two).unwrap(), "its name was removed");
    store.prune(&Policy::default()).unwrap();
    let one = put_image(&store, 1).unwrap();
    assert!(store.add_untagged(&one).unwrap(), "it was pruned");
    let listed: Vec<_> = store.list().unwrap().into_iter().map(|image| image.tags).collect();
    assert_eq!(listed, [vec!["app:latest".to_owned()], vec![]]);
}
