//! The distributions installed in a directory, by their metadata: names, versions, requirements, files, scripts.
//!
//! Reads what was kept of `*.dist-info` and `*.egg-info`. What was not kept is not known, and nothing is claimed about it.

use std::rc::Rc;

use super::requirement::normalize;
use super::runtime::Image;
use super::tree::Dir;

/// An installed distribution.
#[derive(Debug)]
pub(super) struct Distribution<'a> {
    /// As it calls itself.
    pub(super) name: String,
    /// The form in which names are compared.
    pub(super) key: String,
    /// As it calls itself.
    pub(super) version: String,
    /// The directory that it is installed in.
    pub(super) site: Rc<Dir<'a>>,
    /// The path of its metadata.
    pub(super) info: Vec<u8>,
    /// `Requires-Dist`, as written.
    pub(super) requires: Vec<&'a str>,
    /// `Requires-Python`, as written.
    pub(super) requires_python: Option<&'a str>,
}

/// A line of RECORD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Relative to the directory that the distribution is installed in.
    pub(super) path: String,
    /// Bytes, where it says.
    pub(super) size: Option<u64>,
}

/// A console script: `uvicorn = uvicorn.main:main`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Script<'t> {
    /// The command.
    pub(super) name: &'t str,
    /// The module that it imports.
    pub(super) module: &'t str,
    /// What it calls there.
    pub(super) attribute: &'t str,
}

/// The distributions in a directory, by path of their metadata.
pub(super) fn in_site<'a>(image: &Image<'a>, site: &Rc<Dir<'a>>) -> Vec<Distribution<'a>> {
    let mut names: Vec<&[u8]> = site
        .names()
        .map(|(name, _)| name)
        .filter(|name| name.ends_with(b".dist-info") || name.ends_with(b".egg-info"))
        .collect();
    names.sort_unstable();
    names.into_iter().map(|name| read(image, site, name)).collect()
}

fn read<'a>(image: &Image<'a>, site: &Rc<Dir<'a>>, folder: &[u8]) -> Distribution<'a> {
    let info = site.join(folder);
    let kept = |name: &str| {
        let mut path = info.clone();
        path.extend_from_slice(name.as_bytes());
        image.kept(&path)
    };
    let metadata = kept("/METADATA").or_else(|| kept("/PKG-INFO")).or_else(|| kept(""));
    let text = metadata.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    // The header ends at the first empty line.
    let headers = || text.lines().take_while(|line| !line.trim().is_empty());
    let header = |key: &str| headers().find_map(|line| line.strip_prefix(key).map(str::trim));
    let folder = String::from_utf8_lossy(folder);
    let stem = folder.rsplit_once('.').map_or(&*folder, |(stem, _)| stem);
    let (from_name, from_version) = stem.split_once('-').unwrap_or((stem, ""));
    let name = header("Name:").unwrap_or(from_name).to_owned();
    Distribution {
        key: normalize(&name),
        name,
        version: header("Version:").unwrap_or(from_version).to_owned(),
        site: Rc::clone(site),
        info: info.clone(),
        requires: headers().filter_map(|line| line.strip_prefix("Requires-Dist:").map(str::trim)).collect(),
        requires_python: header("Requires-Python:"),
    }
}

impl<'a> Distribution<'a> {
    fn kept(&self, image: &Image<'a>, name: &str) -> Option<&'a str> {
        let mut path = self.info.clone();
        path.extend_from_slice(name.as_bytes());
        std::str::from_utf8(image.kept(&path)?).ok()
    }

    /// The wheel's tags.
    pub(super) fn tags(&self, image: &Image<'a>) -> Vec<&'a str> {
        let text = self.kept(image, "/WHEEL").unwrap_or_default();
        text.lines().filter_map(|line| line.strip_prefix("Tag:").map(str::trim)).collect()
    }

    /// Its files.
    pub(super) fn record(&self, image: &Image<'a>) -> Vec<Recorded> {
        self.kept(image, "/RECORD").unwrap_or_default().lines().filter_map(record_line).collect()
    }

    /// Its commands.
    pub(super) fn scripts(&self, image: &Image<'a>) -> Vec<Script<'a>> {
        self.kept(image, "/entry_points.txt").map(console_scripts).unwrap_or_default()
    }
}

/// A line of RECORD: a path, which may be quoted, a digest and a size.
fn record_line(line: &str) -> Option<Recorded> {
    let line = line.trim_end();
    let (path, rest) = if let Some(quoted) = line.strip_prefix('"') {
        let mut end = 0;
        // A quote in a quoted field is doubled.
        loop {
            end += quoted.get(end..)?.find('"')?;
            if quoted.get(end + 1..)?.starts_with('"') {
                end += 2;
            } else {
                break;
            }
        }
        (quoted.get(..end)?.replace("\"\"", "\""), quoted.get(end + 1..)?.strip_prefix(',')?)
    } else {
        let (path, rest) = line.split_once(',')?;
        (path.to_owned(), rest)
    };
    let size = rest.rsplit_once(',').and_then(|(_, size)| size.parse().ok());
    (!path.is_empty()).then_some(Recorded { path, size })
}

/// The section `console_scripts` of `entry_points.txt`, and `gui_scripts`.
fn console_scripts(text: &str) -> Vec<Script<'_>> {
    let mut inside = false;
    let mut scripts = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            inside = matches!(section.trim_end_matches(']').trim(), "console_scripts" | "gui_scripts");
        } else if inside && let Some((name, target)) = line.split_once('=') {
            let target = target.split('[').next().unwrap_or_default();
            if let Some((module, attribute)) = target.split_once(':') {
                scripts.push(Script { name: name.trim(), module: module.trim(), attribute: attribute.trim() });
            }
        }
    }
    scripts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        for (line, expected) in [
            ("a/b.py,sha256=xyz,12", Some(("a/b.py", Some(12)))),
            ("a-1.dist-info/RECORD,,", Some(("a-1.dist-info/RECORD", None))),
            ("\"a,\"\"b\"\".py\",sha256=x,3\r", Some(("a,\"b\".py", Some(3)))),
            ("../../../bin/uvicorn,sha256=x,217", Some(("../../../bin/uvicorn", Some(217)))),
            ("", None),
            ("\"open", None),
            (",x,1", None),
        ] {
            let read = record_line(line);
            assert_eq!(read.as_ref().map(|read| (read.path.as_str(), read.size)), expected, "{line}");
        }
    }

    #[test]
    fn scripts_are_read() {
        let text = "[console_scripts]\nuvicorn = uvicorn.main:main\nx=a.b:c.d [extra]\n\n[other]\ny = z:w\n[gui_scripts]\ng=h:i\n";
        let read: Vec<_> =
            console_scripts(text).iter().map(|s| format!("{} {} {}", s.name, s.module, s.attribute)).collect();
        assert_eq!(read, ["uvicorn uvicorn.main main", "x a.b c.d", "g h i"]);
    }
}
