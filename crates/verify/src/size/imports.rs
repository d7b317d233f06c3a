//! Python distributions that nothing needs which the command starts, for the groups of what is not reached.
//!
//! What a container sees and whose it is goes to [`crate::python::unneeded`], which has the rules; without facts about the
//! layers' sources there is no answer.

use std::collections::HashSet;

use super::layers::File;
use super::owners::Owner;
use crate::Subject;
use crate::python::{Files, Installed, unneeded};

/// Those that nothing reaches; none where that cannot be told.
pub(super) fn unreached<'o>(
    subject: Option<&Subject<'_>>,
    files: &[File<'_>],
    distributions: &'o [Owner],
    packages: &[Owner],
) -> Vec<&'o Owner> {
    let Some(subject) = subject.filter(|_| !distributions.is_empty()) else { return Vec::new() };
    let seen: Vec<(usize, &[u8])> =
        files.iter().filter(|file| file.hidden.is_none()).map(|file| (file.layer, file.path)).collect();
    let installed: Vec<Installed<'_>> =
        distributions.iter().map(|it| Installed { info: &it.info, files: &it.files }).collect();
    let system: HashSet<&[u8]> = packages.iter().flat_map(|it| &it.files).map(Vec::as_slice).collect();
    let files = Files { seen: &seen, distributions: &installed, system };
    let unneeded = unneeded(subject, &files).unwrap_or_default();
    distributions.iter().zip(unneeded).filter(|(_, unneeded)| *unneeded).map(|(it, _)| it).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::size::{self, Layer, account, pass};
    use crate::testing::{Entry, Made, config, file, link, program, subject, tar};

    const SITE: &str = "usr/local/lib/python3.10/site-packages";

    fn layers() -> Vec<Entry> {
        let at = |path: &str, text: &str| file(&format!("{SITE}/{path}"), text);
        vec![
            program("usr/local/bin/python3.10", Made::default().bytes()),
            link("usr/local/bin/python", "python3.10"),
            at("pip/__init__.py", "import os\n"),
            at("pip-23.0.1.dist-info/METADATA", "Name: pip\nVersion: 23.0.1\n"),
            at("pip-23.0.1.dist-info/RECORD", "pip/__init__.py,,\npip-23.0.1.dist-info/METADATA,,\n"),
            at("six.py", "x = 1\n"),
            at("six-1.16.0.dist-info/METADATA", "Name: six\nVersion: 1.16.0\n"),
            at("six-1.16.0.dist-info/RECORD", "six.py,,\n"),
            file("app/main.py", "def f():\n    import six\n"),
        ]
    }

    #[test]
    fn unreached_distributions_are_groups_with_their_bytes() {
        for (entry, facts, groups) in
            [("x = 1\n", true, "pip 23.0.1 36 2"), ("__import__(x)\n", true, ""), ("x = 1\n", false, "")]
        {
            let config = config(r#"{"Cmd":["python","main.py"],"WorkingDir":"/app"}"#);
            let mut entries = layers();
            entries.push(file("app/other.py", entry));
            let subject = subject(&config, &[entries.clone()], &[]);
            let layer = Layer {
                diff_id: "sha256:1".into(),
                tar: 0,
                blob: 0,
                created_by: None,
                origin: None,
                index: Arc::clone(&subject.stack.layers()[0]),
                contents: Arc::new(pass::pass(tar(&entries).as_slice()).unwrap()),
            };
            let report = account(&size::Subject {
                name: "app".into(),
                id: "sha256:id".into(),
                config: &config.config,
                layers: vec![layer],
                facts: facts.then_some(&subject),
            });
            let unreached = report.unreached.unwrap();
            let shown = |share: &size::Share| {
                format!(
                    "{} {} {} {}",
                    share.name,
                    share.version.as_deref().unwrap_or_default(),
                    share.bytes,
                    share.files
                )
            };
            let found: Vec<String> = unreached.groups.iter().map(shown).collect();
            assert_eq!(found.join(", "), groups, "{entry} {facts}");
            assert_eq!(unreached.bytes, if groups.is_empty() { 0 } else { 36 });
            let total = report.distributions.iter().find(|share| share.name == "pip").map(|share| share.bytes);
            assert_eq!(total, Some(36), "as among all distributions");
        }
    }
}
