//! Whose files are: Python distributions by their RECORD, Debian packages by dpkg's lists.
//!
//! The final file system and the lists that its layers' passes kept in; for each owner its files out. A file belongs to
//! the first that claims it: distributions before packages, in the order of their paths. Lists are outside data: what
//! they name and is not there counts nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use kuz_image::index::{components, join};
use kuz_image::{Node, Stack};

use super::{Layer, Share};

/// A distribution or package with what it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) version: Option<String>,
    /// The path of a distribution's metadata.
    pub(super) info: Vec<u8>,
    /// Paths of files with bytes.
    pub(super) files: Vec<Vec<u8>>,
    pub(super) bytes: u64,
    /// The system itself needs it.
    pub(super) required: bool,
}

impl Owner {
    /// For the report.
    pub(super) fn share(&self) -> Share {
        Share {
            name: self.name.clone(),
            version: self.version.clone(),
            bytes: self.bytes,
            files: self.files.len() as u64,
        }
    }
}

/// The final file system.
pub(super) struct View<'a> {
    pub(super) layers: &'a [Layer],
    pub(super) stack: &'a Stack,
    /// Files that are seen, with their bytes.
    pub(super) files: &'a HashMap<&'a [u8], u64>,
}

impl<'a> View<'a> {
    /// Lists of the final file system that are named so.
    fn lists(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<(&'a [u8], &'a [u8])> {
        let mut found = BTreeMap::new();
        for (number, layer) in self.layers.iter().enumerate() {
            for (path, bytes) in layer.contents.kept.iter().filter(|(path, _)| wanted(path)) {
                let seen = self.stack.find(path).is_some_and(|(at, entry)| {
                    at == number && matches!(entry.node, Node::File { .. } | Node::Hardlink(_))
                });
                if seen {
                    found.insert(path.as_slice(), bytes.as_slice());
                }
            }
        }
        found.into_iter().collect()
    }

    fn claim(&self, owner: &mut Owner, path: Vec<u8>, taken: &mut HashSet<Vec<u8>>) {
        if let Some(bytes) = self.files.get(path.as_slice())
            && taken.insert(path.clone())
        {
            owner.bytes = owner.bytes.saturating_add(*bytes);
            owner.files.push(path);
        }
    }
}

/// Python distributions, largest first.
pub(super) fn distributions(view: &View<'_>, taken: &mut HashSet<Vec<u8>>) -> Vec<Owner> {
    const RECORD: &[u8] = b".dist-info/RECORD";
    let mut owners = Vec::new();
    for (path, record) in view.lists(|path| path.ends_with(RECORD)) {
        let info = path.strip_suffix(RECORD).unwrap_or(path);
        let directory = path.strip_suffix(b"/RECORD").unwrap_or(path);
        let (site, folder) = match info.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (info.get(..at).unwrap_or_default(), info.get(at + 1..).unwrap_or_default()),
            None => (&b""[..], info),
        };
        let folder = String::from_utf8_lossy(folder);
        let (name, version) = folder.split_once('-').unwrap_or((&folder, ""));
        let mut owner = Owner {
            name: name.escape_debug().to_string(),
            version: Some(version.escape_debug().to_string()).filter(|version| !version.is_empty()),
            info: directory.to_vec(),
            ..Owner::default()
        };
        for line in record.split(|&byte| byte == b'\n') {
            if let Some(file) = field(line).and_then(|file| beneath(site, &file)) {
                view.claim(&mut owner, file, taken);
            }
        }
        owners.push(owner);
    }
    sorted(owners)
}

/// The first field of a line of CSV.
fn field(line: &[u8]) -> Option<Vec<u8>> {
    let field = match line.strip_prefix(b"\"") {
        None => line.split(|&byte| byte == b',').next()?.to_vec(),
        Some(quoted) => {
            let mut field = Vec::new();
            let mut rest = quoted.iter().peekable();
            while let Some(&byte) = rest.next() {
                if byte == b'"' && rest.next_if(|&&next| next == b'"').is_none() {
                    break;
                }
                field.push(byte);
            }
            field
        }
    };
    let field = field.strip_suffix(b"\r").unwrap_or(&field).to_vec();
    (!field.is_empty()).then_some(field)
}

/// A path as seen from a directory, `..` taken out; nothing that leads above the root.
fn beneath(directory: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let mut names: Vec<&[u8]> = if path.starts_with(b"/") { Vec::new() } else { components(directory).collect() };
    for name in components(path) {
        if name == b".." {
            names.pop()?;
        } else {
            names.push(name);
        }
    }
    Some(names.join(&b'/'))
}

/// Debian packages, largest first.
pub(super) fn packages(view: &View<'_>, taken: &mut HashSet<Vec<u8>>) -> Vec<Owner> {
    let known = known(view);
    let mut parents: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    // Directories may be links: `/bin` is `/usr/bin`.
    let mut real = |path: &[u8]| -> Vec<u8> {
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
            None => (&b""[..], path),
        };
        if let Some(known) = parents.get(parent) {
            return join(known, name);
        }
        let found = view.stack.resolve(parent, true).map_or_else(|_| parent.to_vec(), |found| found.path);
        let joined = join(&found, name);
        parents.insert(parent.to_vec(), found);
        joined
    };
    let mut owners = Vec::new();
    for (path, list) in view.lists(|path| path.ends_with(b".list") || path.ends_with(b".md5sums")) {
        let file = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let (name, sums) = match file.strip_suffix(b".md5sums") {
            Some(name) => (name, true),
            None => (file.strip_suffix(b".list").unwrap_or(file), false),
        };
        let name = String::from_utf8_lossy(name);
        let plain = name.split(':').next().unwrap_or(&name);
        let known = known.get(plain).cloned().unwrap_or_default();
        let mut owner = Owner { name: plain.escape_debug().to_string(), ..known };
        for line in list.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            // A line of md5sums is a digest, two blanks and a path.
            let line = if sums { line.get(34..).unwrap_or_default() } else { line };
            let cleaned = components(line).collect::<Vec<_>>().join(&b'/');
            if !cleaned.is_empty() {
                let at = real(&cleaned);
                view.claim(&mut owner, at, taken);
            }
        }
        owners.push(owner);
    }
    sorted(owners)
}

/// What dpkg's status says of packages, without their files.
fn known(view: &View<'_>) -> HashMap<String, Owner> {
    let mut found: HashMap<String, Owner> = HashMap::new();
    for (_, status) in view.lists(|path| path.starts_with(b"var/lib/dpkg/status") && !path.ends_with(b".md5sums")) {
        let mut name = String::new();
        for line in String::from_utf8_lossy(status).lines() {
            if let Some(value) = line.strip_prefix("Package: ") {
                value.trim().clone_into(&mut name);
            }
            let Some((field, value)) = line.split_once(": ") else { continue };
            let owner = found.entry(name.clone()).or_default();
            match (field, value.trim()) {
                ("Version", value) => owner.version = Some(value.escape_debug().to_string()),
                ("Essential", "yes") | ("Priority", "required") => owner.required = true,
                _ => {}
            }
        }
    }
    found
}

fn sorted(mut owners: Vec<Owner>) -> Vec<Owner> {
    owners.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.name.cmp(&other.name)));
    owners
}

#[cfg(test)]
mod tests {
    use super::super::Contents;
    use super::super::layers::tests::{file, layer};
    use super::*;

    #[test]
    fn files_belong_to_distributions_and_packages() {
        let site = "usr/lib/python3/site-packages";
        let record = "x/__init__.py,sha256=abc,3\n\"x/a,b.py\",,\n../../../bin/x,,\n../../../../../../etc/out,,\n\
                      x-1.0.dist-info/RECORD,,\nnot/there,,\n";
        let kept = |path: &str, text: &str| (path.as_bytes().to_vec(), text.as_bytes().to_vec());
        let contents = Contents {
            kept: [
                kept(&format!("{site}/x-1.0.dist-info/RECORD"), record),
                kept(
                    "var/lib/dpkg/status",
                    "Package: tool\nStatus: install ok installed\nVersion: 2-1\n\nPackage: b\n",
                ),
                kept("var/lib/dpkg/info/tool.list", "/.\n/bin\n/bin/tool\n/usr/bin/x\n"),
                kept("var/lib/dpkg/info/b:amd64.list", "/usr/lib/b.so\n"),
            ]
            .into(),
            ..Contents::default()
        };
        let init = format!("{site}/x/__init__.py");
        let comma = format!("{site}/x/a,b.py");
        let list = format!("{site}/x-1.0.dist-info/RECORD");
        let paths: [(&str, u64); 9] = [
            (&init, 3),
            (&comma, 4),
            (&list, 5),
            ("usr/bin/x", 6),
            ("usr/bin/tool", 7),
            ("usr/lib/b.so", 8),
            ("var/lib/dpkg/status", 9),
            ("var/lib/dpkg/info/tool.list", 1),
            ("var/lib/dpkg/info/b:amd64.list", 1),
        ];
        let mut entries: Vec<(&str, Node)> = paths.iter().map(|(path, size)| (*path, file(*size))).collect();
        entries.push(("bin", Node::Symlink(b"usr/bin".to_vec())));
        let layers = [layer(entries, contents)];
        let stack = Stack::new(layers.iter().map(|layer| layer.index.clone()).collect());
        let files: HashMap<&[u8], u64> = paths.iter().map(|(path, size)| (path.as_bytes(), *size)).collect();
        let view = View { layers: &layers, stack: &stack, files: &files };
        let mut taken = HashSet::new();
        let share = |owner: &Owner| (owner.name.clone(), owner.version.clone(), owner.bytes, owner.files.len());
        let found: Vec<_> = distributions(&view, &mut taken).iter().map(share).collect();
        assert_eq!(found, [("x".to_owned(), Some("1.0".to_owned()), 18, 4)]);
        let found: Vec<_> = packages(&view, &mut taken).iter().map(share).collect();
        assert_eq!(found, [("b".into(), None, 8, 1), ("tool".to_owned(), Some("2-1".to_owned()), 7, 1)]);
    }
}
