//! A second opinion on images: what GNU tar and coreutils say of a saved image.
//!
//! In: a docker-archive. Out: the digest of its configuration and the digests and lengths of its uncompressed layers.
//! Deliberately uses none of the program's own code.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a saved image holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Saved {
    /// `sha256:…` of the configuration's bytes.
    pub(crate) config_digest: String,
    /// What the configuration says of the layers.
    pub(crate) diff_ids: Vec<String>,
    /// What the layers' bytes are.
    pub(crate) layer_digests: Vec<String>,
    /// Sum of the uncompressed layers' lengths.
    pub(crate) bytes: u64,
}

/// Unpacks the archive in `folder` and looks.
pub(crate) fn docker_archive(archive: &Path, folder: &Path) -> Saved {
    let unpacked = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(folder).status().expect("tar runs");
    assert!(unpacked.success(), "GNU tar reads the archive");
    let manifest = read_json(&folder.join("manifest.json"));
    let config = manifest[0]["Config"].as_str().expect("manifest.json names the configuration");
    let layers = manifest[0]["Layers"].as_array().expect("manifest.json lists the layers");
    let described = read_json(&folder.join(config));
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let paths = layers.iter().map(|layer| folder.join(layer.as_str().expect("a layer is a path")));
    let (layer_digests, sizes): (Vec<String>, Vec<u64>) = paths.map(|path| uncompressed(&path)).unzip();
    Saved {
        config_digest: sha256(&folder.join(config)),
        diff_ids: texts(&described["rootfs"]["diff_ids"]),
        layer_digests,
        bytes: sizes.iter().sum(),
    }
}

fn read_json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).expect("it is JSON")
}

/// Digest and length of a layer, uncompressed.
fn uncompressed(path: &Path) -> (String, u64) {
    let bytes = std::fs::read(path).expect("the layer is in the archive");
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return (sha256(path), bytes.len() as u64);
    }
    let plain = path.with_extension("plain");
    let file = std::fs::File::create(&plain).expect("the folder can be written");
    let packed = std::fs::File::open(path).expect("it was read");
    let gunzip = Command::new("gzip").arg("-dc").stdin(packed).stdout(file).status().expect("gzip runs");
    assert!(gunzip.success(), "GNU gzip reads the layer");
    (sha256(&plain), std::fs::metadata(&plain).expect("it was written").len())
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).stderr(Stdio::inherit()).output().expect("sha256sum runs");
    let line = String::from_utf8(output.stdout).expect("sha256sum prints text");
    format!("sha256:{}", line.trim_start_matches('\\').split(' ').next().unwrap_or_default())
}
