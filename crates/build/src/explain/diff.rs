//! Two preimages to what differs in them, the most telling first.
//!
//! Order: the instruction, its variables, the files that it reads, the request, and last what it stands on. Values that
//! were never kept cannot be compared: they are named only where nothing else explains a difference.

use std::collections::{BTreeMap, BTreeSet};

use kuz_plan::preimage::{Field, FieldKind};

use super::record::{FileNote, Preimage, SourceNote};
use super::{Reason, ReasonKind};

/// Paths of further files that a reason names.
const ALSO: usize = 20;

/// What differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The step's own, the most telling first. What it stands on is not among them.
    pub(crate) reasons: Vec<Reason>,
    /// All paths in the build context that differ.
    pub(crate) changed: Vec<String>,
    /// What the step stands on differs.
    pub(crate) parent: bool,
}

/// Compares what went into two keys that differ.
pub(crate) fn preimages(old: &Preimage, new: &Preimage) -> Difference {
    let mut found = Difference { parent: old.parent != new.parent, ..Difference::default() };
    for kind in [FieldKind::Command, FieldKind::Setting, FieldKind::Variable] {
        fields(kind, &old.fields, &new.fields, &mut found.reasons);
    }
    // Where variables came or went, their order says nothing more.
    if found.reasons.iter().any(|reason| reason.kind == ReasonKind::Variable) {
        found.reasons.retain(|reason| reason.what != "order of variables");
    }
    for at in 0..old.sources.len().max(new.sources.len()) {
        if let (Some(old), Some(new)) = (old.sources.get(at), new.sources.get(at)) {
            source(old, new, &mut found);
        }
    }
    if old.epoch != new.epoch {
        let text = |epoch: Option<i64>| epoch.map(|epoch| epoch.to_string());
        found.reasons.push(Reason::change(ReasonKind::Epoch, "", text(old.epoch), text(new.epoch)));
    }
    surroundings(old, new, &mut found.reasons);
    if found.reasons.is_empty() && !found.parent {
        let hidden: BTreeSet<&str> = old.hidden().into_iter().chain(new.hidden()).collect();
        found.reasons.push(if hidden.is_empty() {
            Reason::plain(ReasonKind::Unrecorded)
        } else {
            Reason::new(ReasonKind::Hidden, hidden.into_iter().collect::<Vec<_>>().join(" or "))
        });
    }
    found
}

fn fields(kind: FieldKind, old: &[Field], new: &[Field], reasons: &mut Vec<Reason>) {
    let of = |fields: &[Field]| -> BTreeMap<String, Option<String>> {
        let wanted = fields.iter().filter(|field| field.kind == kind);
        wanted.map(|field| (field.name.clone(), field.value.clone())).collect()
    };
    let (before, now) = (of(old), of(new));
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let reason = match kind {
        FieldKind::Command => ReasonKind::Command,
        FieldKind::Setting => ReasonKind::Setting,
        FieldKind::Variable => ReasonKind::Variable,
    };
    let mut found = Vec::new();
    for name in names {
        let (was, is) = (before.get(name), now.get(name));
        if was == is {
            continue;
        }
        let shown = |value: Option<&Option<String>>| {
            value.map(|value| value.clone().unwrap_or_else(|| kuz_plan::preimage::STARS.to_owned()))
        };
        found.push(Reason::change(reason, name.clone(), shown(was), shown(is)));
    }
    // What is asked for says more than how the files come there.
    found.sort_by_key(|reason| reason.what != "command");
    reasons.extend(found);
}

fn surroundings(old: &Preimage, new: &Preimage, reasons: &mut Vec<Reason>) {
    let text = |preimage: &Preimage, name: &str| {
        let values = preimage.surroundings.iter().filter(|(known, _)| known == name);
        let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(" "))
    };
    let names: BTreeSet<&String> = old.surroundings.iter().chain(&new.surroundings).map(|(name, _)| name).collect();
    for name in names {
        let (was, is) = (text(old, name), text(new, name));
        if was != is {
            reasons.push(Reason::change(ReasonKind::Setting, name.clone(), was, is));
        }
    }
}

fn source(old: &SourceNote, new: &SourceNote, found: &mut Difference) {
    if old.digest.is_some() && old.digest == new.digest {
        return;
    }
    let (Some(before), Some(now)) = (&old.files, &new.files) else {
        if old.digest.is_some() && new.digest.is_some() {
            found.reasons.push(Reason::new(ReasonKind::Source, new.label.clone()));
        }
        return;
    };
    let mut changes = files(before, now);
    if changes.is_empty() {
        if old.digest.is_some() && new.digest.is_some() {
            // Hard links among them, or the order of the words.
            found.reasons.push(Reason::new(ReasonKind::Source, new.label.clone()));
        }
        return;
    }
    let paths: Vec<String> = changes.iter().map(|reason| reason.what.clone()).collect();
    let mut first = changes.remove(0);
    first.also = paths.iter().skip(1).take(ALSO).cloned().collect();
    first.more = changes.len();
    found.reasons.push(first);
    if new.context {
        found.changed.extend(paths);
    }
}

/// What differs among files: those with content before directories and links.
fn files(old: &[FileNote], new: &[FileNote]) -> Vec<Reason> {
    let of = |files: &'_ [FileNote]| -> BTreeMap<Vec<u8>, FileNote> {
        files.iter().map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (before, now) = (of(old), of(new));
    let paths: BTreeSet<&Vec<u8>> = before.keys().chain(now.keys()).collect();
    let mut found: Vec<(u8, Reason)> = Vec::new();
    for path in paths {
        let name = shown(path);
        let (was, is) = (before.get(path), now.get(path));
        let reason = match (was, is) {
            (None, Some(_)) => Some(Reason::new(ReasonKind::FileAdded, name)),
            (Some(_), None) => Some(Reason::new(ReasonKind::FileRemoved, name)),
            (Some(was), Some(is)) => file(name, was, is),
            (None, None) => None,
        };
        let kind = is.or(was).map_or(b'-', |file| file.kind);
        found.extend(reason.map(|reason| (u8::from(kind != b'-'), reason)));
    }
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, reason)| reason).collect()
}

fn file(name: String, old: &FileNote, new: &FileNote) -> Option<Reason> {
    let change = |kind, name, was: String, is: String| Some(Reason::change(kind, name, Some(was), Some(is)));
    if old.kind != new.kind {
        return change(ReasonKind::FileKind, name, kind(old.kind).to_owned(), kind(new.kind).to_owned());
    }
    if old.link != new.link {
        return change(ReasonKind::FileLink, name, shown(&old.link), shown(&new.link));
    }
    if old.sum != new.sum || old.size != new.size {
        return change(ReasonKind::FileContent, name, bytes(old.size), bytes(new.size));
    }
    if old.mode != new.mode {
        return change(ReasonKind::FileMode, name, format!("{:04o}", old.mode), format!("{:04o}", new.mode));
    }
    if old.owner != new.owner {
        let text = |(user, group): (u32, u32)| format!("{user}:{group}");
        return change(ReasonKind::FileOwner, name, text(old.owner), text(new.owner));
    }
    None
}

fn kind(letter: u8) -> &'static str {
    match letter {
        b'-' => "file",
        b'd' => "directory",
        b'l' => "link",
        b'p' => "fifo",
        b's' => "socket",
        _ => "device",
    }
}

fn shown(path: &[u8]) -> String {
    if path.is_empty() { ".".to_owned() } else { String::from_utf8_lossy(path).escape_debug().to_string() }
}

fn bytes(size: u64) -> String {
    format!("{size} bytes")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn file(path: &str, sum: u8) -> FileNote {
        FileNote { path: path.into(), kind: b'-', mode: 0o644, owner: (0, 0), size: 3, link: vec![], sum: [sum; 16] }
    }

    pub(crate) fn field(kind: FieldKind, name: &str, value: &str) -> Field {
        Field { kind, name: name.into(), value: (value != "***").then(|| value.into()) }
    }

    pub(crate) fn run(command: &str, env: &[(&str, &str)]) -> Preimage {
        let mut fields = vec![field(FieldKind::Command, "command", command)];
        fields.extend(env.iter().map(|(name, value)| field(FieldKind::Variable, name, value)));
        Preimage { parent: Some("p".into()), fields, ..Preimage::default() }
    }

    pub(crate) fn copy(files: Vec<FileNote>) -> Preimage {
        let digest = Some(format!("{files:?}"));
        let source = SourceNote { label: "the context".into(), context: true, digest, files: Some(files) };
        let fields = vec![field(FieldKind::Command, "sources", "[\".\"]")];
        Preimage { parent: Some("p".into()), fields, sources: vec![source], ..Preimage::default() }
    }

    fn first(old: &Preimage, new: &Preimage) -> String {
        let found = preimages(old, new);
        found.reasons.first().map_or_else(|| format!("parent {}", found.parent), ToString::to_string)
    }

    #[test]
    fn the_first_difference_is_named() {
        let plain = || vec![file("a.py", 1), file("b.py", 2)];
        let with = |change: &dyn Fn(&mut Vec<FileNote>)| {
            let mut files = plain();
            change(&mut files);
            copy(files)
        };
        let moved = |preimage: Preimage| Preimage { parent: Some("q".into()), ..preimage };
        for (old, new, want) in [
            (run("make", &[]), run("make all", &[]), "command is `make all`, was `make`"),
            (run("x", &[("V", "1")]), run("x", &[("V", "2")]), "variable V is `2`, was `1`"),
            (run("x", &[]), run("x", &[("V", "2")]), "variable V is new: `2`"),
            (run("x", &[("T", "***")]), run("x", &[]), "variable T is gone, was `***`"),
            (run("x", &[("T", "***")]), run("x", &[("T", "***")]), "T: *** (values of this kind are not kept)"),
            (run("x", &[("T", "***")]), moved(run("x", &[("T", "***")])), "parent true"),
            (run("x", &[]), moved(run("y", &[])), "command is `y`, was `x`"),
            (run("x", &[]), run("x", &[]), "it differs, and what went into it before is not recorded"),
            (copy(plain()), with(&|files| files[1].sum = [9; 16]), "b.py has another content"),
            (copy(plain()), with(&|files| drop(files.remove(0))), "a.py is gone"),
            (copy(plain()), with(&|files| files.push(file("c", 1))), "c is new"),
            (copy(plain()), with(&|files| files[0].mode = 0o755), "a.py has mode 0755, had 0644"),
            (copy(plain()), with(&|files| files[0].owner = (5, 6)), "a.py belongs to 5:6, did to 0:0"),
            (copy(plain()), with(&|files| files[0].kind = b'd'), "a.py is a directory, was a file"),
            (
                copy(plain()),
                with(&|files| files.iter_mut().for_each(|file| file.size = 7)),
                "a.py has another content (7 bytes, was 3 bytes), and 1 more file differs",
            ),
        ] {
            assert_eq!(first(&old, &new), want);
        }
        let epoch = Preimage { epoch: Some(1), ..run("x", &[]) };
        assert_eq!(first(&run("x", &[]), &epoch), "SOURCE_DATE_EPOCH is 1, was not set");
        let hosts = Preimage { surroundings: vec![("--add-host".into(), "a:1".into())], ..run("x", &[]) };
        assert_eq!(first(&run("x", &[]), &hosts), "--add-host is new: `a:1`");
    }

    #[test]
    fn changed_files_of_the_context_are_all_told() {
        let new = copy(vec![file("b.py", 3), file("c.py", 1)]);
        let found = preimages(&copy(vec![file("a.py", 1), file("b.py", 2)]), &new);
        assert_eq!(found.changed, ["a.py", "b.py", "c.py"]);
        assert_eq!(found.reasons[0].also, ["b.py", "c.py"]);
    }
}
