//! Small images out of pairs of path and content, and what is found in them.

mod images;
mod real;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kuz_image::{ImageConfig, IndexEntry, LayerIndex, Node, Stack};

use crate::facts::LayerFacts;
use crate::finding::{Finding, Level};
use crate::python::{Argv, judge, module};
use crate::subject::{OtherStage, Subject};

/// An image in the making.
#[derive(Clone, Default)]
struct Build {
    index: LayerIndex,
    facts: LayerFacts,
}

impl Build {
    fn put(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            let dir = IndexEntry { node: Node::Dir { opaque: false }, mode: 0o755, uid: 0, gid: 0, mtime: 0 };
            self.index.entries.entry(path.as_bytes()[..at].to_vec()).or_insert(dir);
        }
        self.index.entries.insert(path.into(), IndexEntry { node, mode: 0o755, uid: 0, gid: 0, mtime: 0 });
    }

    /// A file, with the facts that one pass over a layer keeps of it.
    fn file(&mut self, path: &str, content: &[u8]) {
        let path = path.trim_matches('/');
        self.put(path, Node::File { size: content.len() as u64 });
        let key = path.as_bytes().to_vec();
        if let Some(line) = content.strip_prefix(b"#!") {
            let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
            self.facts.shebangs.insert(key.clone(), line.to_vec());
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        let metadata = path.contains(".dist-info/") || path.contains(".egg-info");
        if metadata && !name.ends_with(".py") || name.ends_with(".pth") || name == "pyvenv.cfg" {
            self.facts.kept.insert(key.clone(), content.to_vec());
        }
        if !in_library(path)
            && let Some(module) = module(path.as_bytes(), content)
        {
            self.facts.modules.insert(key, module);
        }
    }

    /// Lines of `path: content`, `path -> target`; `\n` in a content is a line end.
    fn lines(&mut self, lines: &str) -> &mut Self {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some((path, target)) = line.split_once(" -> ") {
                self.put(path, Node::Symlink(target.into()));
            } else {
                let (path, content) = line.split_once(':').unwrap_or((line, ""));
                self.file(path, content.strip_prefix(' ').unwrap_or(content).replace("\\n", "\n").as_bytes());
            }
        }
        self
    }

    /// Files of a directory of this machine, below a path.
    fn copy(&mut self, from: &Path, to: &str) {
        let mut rest = vec![from.to_path_buf()];
        while let Some(dir) = rest.pop() {
            for entry in std::fs::read_dir(&dir).unwrap() {
                let entry = entry.unwrap();
                let path = entry.path();
                if entry.file_type().unwrap().is_dir() {
                    rest.push(path);
                    continue;
                }
                let inside = format!("{to}/{}", path.strip_prefix(from).unwrap().to_str().unwrap());
                let name = entry.file_name();
                let name = name.to_str().unwrap();
                let read = name.ends_with(".py") && !in_library(&inside)
                    || inside.contains("-info/")
                    || name.ends_with(".pth")
                    || !name.contains('.');
                if read {
                    self.file(&inside, &std::fs::read(&path).unwrap());
                } else {
                    self.put(&inside, Node::File { size: entry.metadata().unwrap().len() });
                }
            }
        }
    }
}

fn in_library(path: &str) -> bool {
    path.contains("/lib/python3") && !path.contains("-packages/")
}

/// Python 3.10 as the official images have it, on glibc.
const PYTHON: &str = "
    usr/local/bin/python3.10
    usr/local/bin/python3 -> python3.10
    usr/local/bin/python -> python3
    usr/local/lib/python3.10/os.py
    usr/local/lib/python3.10/lib-dynload/_json.cpython-310-x86_64-linux-gnu.so
    usr/local/lib/python3.10/site-packages/pip/__init__.py
    lib64/ld-linux-x86-64.so.2
";

/// A uvicorn that is small enough to read.
const UVICORN: &str = "
    usr/local/bin/uvicorn: #!/usr/local/bin/python3.10\\nimport sys
    usr/local/lib/python3.10/site-packages/uvicorn/__init__.py: from uvicorn.main import main
    usr/local/lib/python3.10/site-packages/uvicorn/__main__.py: import uvicorn
    usr/local/lib/python3.10/site-packages/uvicorn/main.py: import click\\nimport os, asyncio\\ndef main(): pass
    usr/local/lib/python3.10/site-packages/uvicorn/workers.py: class UvicornWorker: pass
    usr/local/lib/python3.10/site-packages/uvicorn-1.0.dist-info/METADATA: Name: uvicorn\\nVersion: 1.0\\nRequires-Dist: click>=7\\nRequires-Dist: uvloop>=0.14; extra == 'standard'
    usr/local/lib/python3.10/site-packages/uvicorn-1.0.dist-info/WHEEL: Tag: py3-none-any
    usr/local/lib/python3.10/site-packages/uvicorn-1.0.dist-info/entry_points.txt: [console_scripts]\\nuvicorn = uvicorn.main:main
    usr/local/lib/python3.10/site-packages/uvicorn-1.0.dist-info/RECORD: ../../../bin/uvicorn,,1\\nuvicorn/main.py,,\\nuvicorn/__pycache__/main.cpython-310.pyc,,
    usr/local/lib/python3.10/site-packages/click/__init__.py: x = 1
    usr/local/lib/python3.10/site-packages/click-8.1.dist-info/METADATA: Name: click\\nVersion: 8.1
";

/// Judges layers of lines: findings as `Level Rule message`, worst first.
fn found(layers: &[String], others: &[(&str, String)], command: &str, cwd: &str, env: &[(&str, &str)]) -> Vec<String> {
    let made: Vec<Build> = layers
        .iter()
        .map(|lines| {
            let mut layer = Build::default();
            layer.lines(lines);
            layer
        })
        .collect();
    let others = others.iter().map(|(name, lines)| {
        let mut build = Build::default();
        build.lines(lines);
        OtherStage::new(
            *name,
            crate::testing::Seen { stack: Stack::new(vec![Arc::new(build.index)]), facts: Vec::new() },
        )
    });
    let config = config();
    let mut subject = subject(made, &config);
    subject.others = others.collect();
    let findings = judge(&subject, &argv(command, cwd, env)).unwrap_or_default().findings;
    findings.iter().map(line).collect()
}

fn config() -> ImageConfig {
    ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() }
}

fn subject(layers: Vec<Build>, config: &ImageConfig) -> Subject<'_> {
    let (indexes, facts): (Vec<_>, Vec<_>) =
        layers.into_iter().map(|build| (Arc::new(build.index), Arc::new(build.facts))).unzip();
    Subject { config, stack: Stack::new(indexes), facts, others: Vec::new(), base_layers: 0 }
}

fn argv(command: &str, cwd: &str, env: &[(&str, &str)]) -> Argv {
    let mut all: BTreeMap<String, String> =
        env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    all.entry("PATH".into()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".into());
    Argv { argv: command.split(' ').map(str::to_owned).collect(), cwd: cwd.to_owned(), env: all }
}

fn line(finding: &Finding) -> String {
    let advice = finding.advice.as_ref().map(|advice| format!(" => {} {}", advice.text, advice.lines.join("; ")));
    format!("{:?} {} {}{}", finding.level, finding.rule, finding.message, advice.unwrap_or_default())
}

fn worst(level: Level, lines: &[String]) -> Vec<&String> {
    lines.iter().filter(|line| line.starts_with(&format!("{level:?}"))).collect()
}
