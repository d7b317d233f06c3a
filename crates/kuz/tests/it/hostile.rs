//! Base images made by somebody who means harm: each is built from safely, or refused with a message that names the entry.
//!
//! In: layers through a registry; every image is unpacked for a RUN, scanned below a COPY and copied out of. A canary sits
//! beside the store, and nothing may appear next to it.

use std::collections::BTreeMap;

use kuz_image::tar::{Header, Kind};
use kuz_testkit::registry::{Action, Fault, TestImage};
use serde_json::{Value, json};

use crate::base::{self, Entries, dir, entry, file, hardlink, symlink};
use crate::kit::{Place, Ran, can_run};
use crate::traces::Canary;

/// What must come of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Refused for safety; the message has this word.
    Refused(&'static str),
    /// As refused, once it's unpacked; a COPY on it passes it through as it is.
    NotUnpacked(&'static str),
    /// Built; a step in it sees this with `SHOW`.
    Built(&'static str),
}

/// What a step in the image shows: the files below `/x`, with links and contents.
const SHOW: &str = "mkdir -p /x && cd /x && for f in $(find . | sort); do \
                    if [ -L $f ]; then echo \"$f>$(readlink $f)\"; elif [ -f $f ]; then echo \"$f=$(cat $f)\"; else echo $f; fi; done | tr '\\n' ' '";

struct Case {
    name: &'static str,
    layers: Vec<Entries>,
    end: End,
}

fn case(name: &'static str, end: End, layer: Entries) -> Case {
    Case { name, layers: vec![layer], end }
}

fn attributes(names: &[&str]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    names.iter().map(|name| (name.as_bytes().to_vec(), b"y".to_vec())).collect()
}

fn escapes() -> Vec<Case> {
    use End::{Built, NotUnpacked, Refused};
    vec![
        case("parent", Refused("x/../../canary"), vec![file("x/../../canary/file", b"evil")]),
        case("parents first", Refused("../canary/file"), vec![file("../canary/file", b"evil")]),
        case("absolute", Built(". ./a=in "), vec![file("/x/a", b"in")]),
        case(
            "link then through",
            Built(". ./out>/"),
            vec![dir("x"), symlink("x/out", "{canary}"), file("x/out/file", b"evil")],
        ),
        case(
            "link up then through",
            Built(". ./out>../"),
            vec![dir("x"), symlink("x/out", "../../../../../../{canary}"), file("x/out/file", b"evil")],
        ),
        case(
            "link replaced by a file",
            Built(". ./link=in "),
            vec![dir("x"), symlink("x/link", "{canary}/file"), file("x/link", b"in")],
        ),
        case(
            "link replaced by a directory",
            Built(". ./link ./link/a=in "),
            vec![dir("x"), symlink("x/link", "{canary}"), dir("x/link"), file("x/link/a", b"in")],
        ),
        case("hard link outside", NotUnpacked("x/hard"), vec![dir("x"), hardlink("x/hard", "{canary}/file")]),
        case("hard link up", Refused("x/hard"), vec![dir("x"), hardlink("x/hard", "../../../../../../{canary}/file")]),
        case(
            "hard link through a link",
            NotUnpacked("x/hard"),
            vec![dir("x"), symlink("x/out", "{canary}"), hardlink("x/hard", "x/out/file")],
        ),
        case("hard link to a directory", Refused("x/hard"), vec![dir("x"), dir("x/sub"), hardlink("x/hard", "x/sub")]),
        case("below a file", Refused("x/a/b"), vec![dir("x"), file("x/a", b"in"), file("x/a/b", b"in")]),
        case("root is a link", Refused("root"), vec![symlink(".", "{canary}")]),
        case("root is a file", Refused("root"), vec![file(".", b"x")]),
        case("loop", Refused("x/loop/file"), vec![dir("x"), symlink("x/loop", "loop"), file("x/loop/file", b"evil")]),
        Case {
            name: "link in a lower layer",
            layers: vec![vec![dir("x"), symlink("x/out", "{canary}")], vec![file("x/out/file", b"in")]],
            end: NotUnpacked("x/out"),
        },
    ]
}

fn oddities() -> Vec<Case> {
    use End::{Built, NotUnpacked, Refused};
    let device = |path: &str, kind: Kind| (entry(path, kind), Vec::new());
    let null = Kind::Char { major: 1, minor: 3 };
    let forged = Header {
        xattrs: attributes(&["user.overlay.opaque", "user.overlay.redirect", "user.kept"]),
        ..entry("etc", Kind::Dir)
    };
    let trusted = Header {
        xattrs: attributes(&["trusted.overlay.opaque", "trusted.overlay.metacopy"]),
        ..entry("etc", Kind::Dir)
    };
    vec![
        case(
            "devices",
            Built(". ./a=in "),
            vec![
                dir("x"),
                device("x/null", null),
                device("x/disk", Kind::Block { major: 8, minor: 0 }),
                file("x/a", b"in"),
            ],
        ),
        case(
            "device that looks like a whiteout",
            Built(". ./a=in "),
            vec![dir("x"), device("etc/passwd", Kind::Char { major: 0, minor: 0 }), file("x/a", b"in")],
        ),
        case("attributes of overlays", Built(". ./a=in "), vec![dir("x"), (forged, Vec::new()), file("x/a", b"in")]),
        case("trusted attributes", Built(". ./a=in "), vec![dir("x"), (trusted, Vec::new()), file("x/a", b"in")]),
        case("whiteout of the parent", Refused(".wh..."), vec![dir("x"), file("x/.wh...", b"")]),
        case("whiteout of itself", Refused(".wh.."), vec![dir("x"), file("x/.wh..", b"")]),
        case("whiteout without a name", Refused(".wh."), vec![dir("x"), file("x/.wh.", b"")]),
        case(
            "whiteout through a link",
            Built(". ./out>/"),
            vec![dir("x"), symlink("x/out", "{canary}"), file("x/out/.wh.file", b"")],
        ),
        case(
            "opaque through a link",
            Built(". ./out>/"),
            vec![dir("x"), symlink("x/out", "{canary}"), file("x/out/.wh..wh..opq", b"")],
        ),
        case("whiteout of nothing", Built(". ./a=in "), vec![dir("x"), file("x/.wh.nothing", b""), file("x/a", b"in")]),
        case(
            "opaque, and its own file",
            Built(". ./a=in "),
            vec![dir("x"), file("x/a", b"in"), file("x/.wh..wh..opq", b"")],
        ),
        case("name of 255 bytes", Built(""), vec![file(vec![b'n'; 255], b"in")]),
        case("name of 256 bytes", Refused("nnn"), vec![file(vec![b'n'; 256], b"in")]),
        case("path of 5000 bytes", Refused("d/d/d"), vec![file("d/".repeat(2500) + "f", b"in")]),
        case("name with control characters", Built(""), vec![file("new\nline\x1b[2J", b"in")]),
        case("socket-like pipe", Built(". ./pipe "), vec![dir("x"), device("x/pipe", Kind::Fifo)]),
        case(
            "setuid root",
            Built(". ./a=in "),
            vec![dir("x"), (Header { mode: 0o4755, ..file("x/a", b"in").0 }, b"in".to_vec())],
        ),
        case(
            "owner beyond all maps",
            NotUnpacked("x/a"),
            vec![dir("x"), (Header { uid: 4_000_000_000, ..file("x/a", b"in").0 }, b"in".to_vec())],
        ),
    ]
}

/// Puts the place of the canary into links.
fn aimed(layer: &[(Header, Vec<u8>)], canary: &str) -> Entries {
    let aim = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => text.replace("{canary}", canary).into_bytes(),
        Err(_) => bytes.to_vec(),
    };
    layer
        .iter()
        .map(|(header, content)| (Header { link: aim(&header.link), ..header.clone() }, content.clone()))
        .collect()
}

fn assert_end(case: &Case, ran: &Ran, how: &str) {
    let name = case.name;
    match case.end {
        End::NotUnpacked(_) if how == "COPY on it" => {}
        End::Refused(word) | End::NotUnpacked(word) => {
            assert_eq!(ran.code, 7, "{name}, {how}: {ran:?}");
            assert!(ran.message().contains(word), "{name}, {how}: {}", ran.message());
            assert!(!ran.stderr.contains('\u{1b}'), "{name}, {how}: {}", ran.stderr);
        }
        End::Built(shown) => {
            assert_eq!(ran.code, 0, "{name}, {how}: {}", ran.stderr);
            if how == "RUN" {
                assert!(ran.stderr.contains(&format!("  | {}", shown.trim_end())), "{name}: {}", ran.stderr);
            }
        }
    }
}

fn try_all(cases: &[Case]) {
    let place = Place::with_registry();
    let canary = place.path("canary");
    let before = Canary::sit(&canary);
    let beside = || {
        let entries = std::fs::read_dir(place.dir.path()).unwrap().flatten();
        entries.map(|entry| entry.file_name()).filter(|name| name != "store" && name != "ctx").collect::<Vec<_>>()
    };
    let neighbours = beside();
    place.write("ctx/plain", "plain");
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let layers = case.layers.iter().map(|layer| base::tar(&aimed(layer, canary.to_str().unwrap()))).collect();
        let image = base::busybox_with(layers).unwrap();
        place.registry.as_ref().unwrap().put_image(&format!("library/evil{number}"), "latest", &image).unwrap();
        for (how, dockerfile) in [
            ("RUN", format!("FROM evil{number}\nRUN {SHOW}\n")),
            ("COPY on it", format!("FROM evil{number}\nCOPY plain /x/new/plain\n")),
            ("COPY out of it", format!("FROM scratch\nCOPY --from=evil{number} / /all/\n")),
        ] {
            place.dockerfile(&dockerfile);
            let ran = place.build(&["--progress=plain"]);
            eprintln!("{}, {how}: {} {}", case.name, ran.code, ran.stdout.trim());
            if std::panic::catch_unwind(|| assert_end(case, &ran, how)).is_err() {
                wrong.push(format!("{}, {how}", case.name));
            }
            assert_eq!(Canary::look(&canary), before, "{}, {how}", case.name);
            assert_eq!(beside(), neighbours, "{}, {how}", case.name);
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    let check = place.kuz(&["store", "check"]);
    assert_eq!(check.code, 0, "{}{}", check.stdout, check.stderr);
}

#[test]
fn no_entry_of_a_layer_leaves_the_image() {
    if can_run() {
        try_all(&escapes());
    }
}

#[test]
fn strange_entries_of_a_layer_do_what_they_say_or_are_refused() {
    if can_run() {
        try_all(&oddities());
    }
}

/// Edits the manifest of an image in the registry; the configuration too if asked for.
fn edited(place: &Place, name: &str, content: &[u8], edit: &dyn Fn(&mut Value, &mut Value)) {
    let registry = place.registry.as_ref().unwrap();
    let repository = format!("library/{name}");
    let image = TestImage::new(vec![base::tar(&[file("a", b"a")]), base::tar(&[file("b", content)])]);
    registry.put_image(&repository, "latest", &image).unwrap();
    let (kind, bytes) = registry.manifest(&repository, "latest").unwrap();
    let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let config = manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
    let mut config: Value = serde_json::from_slice(&registry.blob(&repository, &config).unwrap()).unwrap();
    edit(&mut manifest, &mut config);
    let bytes = serde_json::to_vec(&config).unwrap();
    if manifest["config"]["size"] != json!(1) {
        manifest["config"]["size"] = json!(bytes.len());
    }
    manifest["config"]["digest"] = json!(registry.put_blob(&repository, &bytes).to_string());
    registry.put_manifest(&repository, "latest", &kind, &serde_json::to_vec(&manifest).unwrap());
}

#[test]
fn documents_that_lie_are_refused() {
    type Edit = &'static dyn Fn(&mut Value, &mut Value);
    let zeros = "0000000000000000000000000000000000000000000000000000000000000000";
    assert_eq!(zeros.len(), 64);
    let edits: [(&str, &str, Edit); 14] = [
        ("diff-id", "diff id", &|_, config| {
            config["rootfs"]["diff_ids"][1] = json!(format!("sha256:{}", "0".repeat(64)));
        }),
        ("diff-ids-swapped", "diff id", &|_, config| config["rootfs"]["diff_ids"].as_array_mut().unwrap().reverse()),
        ("diff-id-missing", "layer", &|_, config| drop(config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop())),
        ("diff-id-path", "", &|_, config| config["rootfs"]["diff_ids"][1] = json!("sha256:../../../canary")),
        ("size-less", "", &|manifest, _| {
            manifest["layers"][1]["size"] = json!(manifest["layers"][1]["size"].as_u64().unwrap() - 1);
        }),
        ("size-more", "", &|manifest, _| {
            manifest["layers"][1]["size"] = json!(manifest["layers"][1]["size"].as_u64().unwrap() + 1);
        }),
        ("size-negative", "", &|manifest, _| manifest["layers"][1]["size"] = json!(-1)),
        ("size-huge", "", &|manifest, _| manifest["layers"][1]["size"] = json!(u64::MAX)),
        ("size-float", "", &|manifest, _| manifest["layers"][1]["size"] = json!(1.5)),
        ("config-size", "", &|manifest, _| manifest["config"]["size"] = json!(1)),
        ("layer-digest-path", "", &|manifest, _| manifest["layers"][1]["digest"] = json!("sha256:../../../canary")),
        ("both-kinds", "", &|manifest, _| manifest["manifests"] = json!([])),
        ("layer-type", "", &|manifest, _| manifest["layers"][1]["mediaType"] = json!("application/x-nonsense")),
        ("zstd-lie", "", &|manifest, _| {
            manifest["layers"][1]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+zstd");
        }),
    ];
    let place = Place::with_registry();
    place.write("ctx/plain", "plain");
    // Each with a layer that the store has, and with one that it hasn't.
    edited(&place, "honest", b"known", &|_, _| ());
    place.dockerfile("FROM honest\nCOPY plain /\n");
    assert_eq!(place.build(&["-q"]).code, 0);
    for ((name, word, edit), content) in edits.iter().flat_map(|edit| [(edit, "known"), (edit, edit.0)]) {
        if (*name, content) == ("zstd-lie", "known") {
            // Nobody reads what is known: the lie stays the manifest's.
            continue;
        }
        edited(&place, name, content.as_bytes(), edit);
        place.dockerfile(&format!("FROM {name}\nCOPY plain /\n"));
        let ran = place.build(&["-q", "-t", "app"]);
        eprintln!("{name}: {} {}", ran.code, ran.stdout.trim());
        assert!([4, 7].contains(&ran.code), "{name}: {ran:?}");
        assert!(ran.message().contains(word), "{name}: {}", ran.message());
        assert_ne!(place.kuz(&["image", "inspect", "app"]).code, 0, "{name}: nothing was tagged");
    }
    let registry = place.registry.as_ref().unwrap();
    for (name, action) in [("corrupt", Action::Corrupt), ("longer", Action::Longer(7)), ("shorter", Action::Shorter(7))]
    {
        edited(&place, name, name.as_bytes(), &|_, _| ());
        registry.fault(Fault::on(&format!("library/{name}/blobs/"), action));
        place.dockerfile(&format!("FROM {name}\nCOPY plain /\n"));
        let ran = place.build(&["-q", "-t", "app"]);
        eprintln!("{name}: {} {}", ran.code, ran.stdout.trim());
        assert!([4, 7].contains(&ran.code), "{name}: {ran:?}");
        registry.clear_faults();
    }
    let check = place.kuz(&["store", "check"]);
    assert_eq!(check.code, 0, "{}{}", check.stdout, check.stderr);
}
