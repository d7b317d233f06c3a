//! A layer's tar to its facts: one pass, each file's content read once and shown to whoever asks for it.
//!
//! ```text
//! entry ─► path: which areas want the whole file? ─┐
//!          first bytes: `#!`, ELF                  ├─► chunks ─► whole file, if somebody wants it ─► facts
//! ```
//! [`Collector::file`] is the one place where areas plug in. The scan for secrets sees every byte; what is over a limit of
//! another area is passed over: a missing fact is no claim. Python sources are read in batches on all cores: they are most
//! of the work in an image of Python's.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use kuz_image::index::components;
use kuz_image::scan::{self, Scanned};
use kuz_image::tar::{Header, TarError};
use rayon::prelude::*;

use crate::dpkg;
use crate::elf::{self, parse::MAGIC};
use crate::facts::{LayerFacts, Path};
use crate::python;
use crate::secrets::{self, Scanner};

/// An ELF file is read whole up to here; the largest libraries of numeric packages go beyond it, and nothing is claimed
/// about those.
const ELF_BYTES: u64 = 256 << 20;
/// A package's list of files; the longest known is of some 3 MB.
const LIST_BYTES: u64 = 16 << 20;
/// A Python source; those that are generated are the longest.
const PYTHON_BYTES: u64 = 4 << 20;
/// Python sources that wait to be read together, by their number and bytes.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 4 << 20;
/// Batches that are read at a time.
const BATCHES: usize = 3;
/// What a header says of a file's size is believed so far before its content is there.
const FIRST_ROOM: usize = 1 << 20;
/// A small file that is kept: metadata of distributions with their descriptions are the longest.
const KEPT_BYTES: u64 = 1 << 20;
/// All kept files of a layer: some 5,000 distributions.
const KEPT_TOTAL: usize = 64 << 20;
/// A `#!` line: the kernel reads 256 bytes, so that longer ones can be told.
const SHEBANG_BYTES: usize = 512;
/// How much of a file is looked at a time.
const CHUNK: usize = 64 << 10;

/// Files that are kept, by their path.
const KEPT_PATHS: [&[u8]; 6] = [
    b"etc/ld.so.conf",
    b"etc/ld.so.cache",
    b"etc/os-release",
    b"usr/lib/os-release",
    b"etc/debian_version",
    b"etc/alpine-release",
];
/// Files that are kept, by the directory that they lie in and how their names end.
const KEPT_IN: [(&[u8], &[u8]); 3] = [(b"etc/ld.so.conf.d", b".conf"), (b"etc", b".path"), (b"", b"pyvenv.cfg")];
/// What is kept of an installed distribution.
const DISTRIBUTION: [&[u8]; 8] = [
    b"METADATA",
    b"PKG-INFO",
    b"RECORD",
    b"WHEEL",
    b"INSTALLER",
    b"entry_points.txt",
    b"top_level.txt",
    b"direct_url.json",
];

/// Reads an uncompressed layer and collects its facts.
pub fn collect(tar: impl Read) -> Result<LayerFacts, TarError> {
    let mut collector = Collector::default();
    scan::read_files(tar, &mut |path, header, content| collector.file(path, header, content))?;
    Ok(collector.finish())
}

/// As [`scan::scan`], with the layer's facts out of the same pass.
pub fn scan_and_collect(tar: impl Read) -> Result<(Scanned, LayerFacts), TarError> {
    let mut collector = Collector::default();
    let scanned = scan::scan_with(tar, &mut |path, header, content| collector.file(path, header, content))?;
    Ok((scanned, collector.finish()))
}

/// Facts on their way.
#[derive(Debug, Default)]
struct Collector {
    facts: LayerFacts,
    kept: usize,
    chunk: Vec<u8>,
    scanner: Scanner,
    /// Python sources that are not read yet.
    sources: Vec<(Path, Vec<u8>)>,
    sources_bytes: usize,
    /// The paths of these, and of those that are being read in some batch.
    pending: BTreeSet<Path>,
    batches: VecDeque<mpsc::Receiver<Modules>>,
}

/// Sources that were read.
type Modules = Vec<(Path, python::Module)>;

/// Who wants a file whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// To be kept as it is.
    Kept,
    /// A list of a package's files.
    List,
    /// A program or library.
    Elf,
    /// A Python source.
    Python,
}

impl Collector {
    /// A regular file: its path in the layer, its header, its content.
    fn file(&mut self, path: &[u8], header: &Header, content: &mut dyn Read) -> io::Result<()> {
        if self.pending.contains(path) {
            // Written again: what is still said of the first file must not come after what the second says.
            self.read_sources();
            self.await_batches(0);
        }
        self.facts.forget(path);
        if python::is_pip(path) {
            self.facts.modules.insert(path.to_vec(), python::Module::unread());
        }
        let mut wanted = by_path(path, header.size);
        self.chunk.resize(CHUNK, 0);
        let mut filled = read_some(content, &mut self.chunk)?;
        let mut head = self.chunk.get(..filled).unwrap_or_default();
        if let Some(line) = head.strip_prefix(b"#!") {
            self.facts.shebangs.insert(path.to_vec(), first_line(line).to_vec());
        }
        if wanted.is_none() && head.starts_with(MAGIC) {
            if header.size <= ELF_BYTES {
                wanted = Some(Whole::Elf);
            } else {
                self.facts.elf.insert(path.to_vec(), elf::Elf::default());
            }
        }
        let known = usize::try_from(header.size).unwrap_or(usize::MAX).min(FIRST_ROOM);
        let mut whole = Vec::with_capacity(if wanted.is_some() { known } else { 0 });
        self.scanner.begin(path, header.size);
        while !head.is_empty() {
            self.scanner.bytes(head);
            if wanted.is_some() {
                whole.extend_from_slice(head);
            }
            filled = read_some(content, &mut self.chunk)?;
            head = self.chunk.get(..filled).unwrap_or_default();
        }
        self.facts.secrets.extend(self.scanner.end());
        if let Some(wanted) = wanted {
            self.whole(wanted, path, whole);
        }
        Ok(())
    }

    fn whole(&mut self, wanted: Whole, path: &[u8], content: Vec<u8>) {
        match wanted {
            Whole::Kept => {
                self.kept = self.kept.saturating_add(content.len());
                if self.kept <= KEPT_TOTAL {
                    self.facts.kept.insert(path.to_vec(), content);
                }
            }
            Whole::List => self.facts.owners.extend(dpkg::owners(path, &content)),
            Whole::Elf => drop(self.facts.elf.insert(path.to_vec(), elf::parse(&content))),
            Whole::Python => {
                self.sources_bytes += content.len();
                self.pending.insert(path.to_vec());
                self.sources.push((path.to_vec(), content));
                if self.sources.len() >= BATCH || self.sources_bytes >= BATCH_BYTES {
                    self.read_sources();
                }
            }
        }
    }

    /// Has the sources read that have come together, while the next ones come in.
    fn read_sources(&mut self) {
        let sources = std::mem::take(&mut self.sources);
        self.sources_bytes = 0;
        // Nothing is known about a source on which the parser, which is not ours, or its lexer fails.
        let read = |(path, content): (Path, Vec<u8>)| {
            let module = catch_unwind(AssertUnwindSafe(|| python::module(&path, &content)));
            module.unwrap_or_else(|_| Some(python::Module::unread())).map(|module| (path, module))
        };
        // A few are read before threads have started.
        if sources.len() < BATCH / 8 {
            self.facts.modules.extend(sources.into_iter().filter_map(read));
            return;
        }
        self.await_batches(BATCHES - 1);
        let (done, modules) = mpsc::channel();
        self.batches.push_back(modules);
        rayon::spawn(move || {
            // Nobody waits for it any more where the layer could not be read to its end.
            let _ = done.send(sources.into_par_iter().filter_map(read).collect());
        });
    }

    /// Waits until so few batches are being read.
    fn await_batches(&mut self, left: usize) {
        while self.batches.len() > left
            && let Some(batch) = self.batches.pop_front()
        {
            // A pool that ends before its work has shown nothing.
            self.facts.modules.extend(batch.recv().unwrap_or_default());
        }
        if left == 0 {
            self.pending.clear();
        }
    }

    fn finish(mut self) -> LayerFacts {
        self.read_sources();
        self.await_batches(0);
        secrets::trim(&mut self.facts);
        self.facts
    }
}

fn by_path(path: &[u8], size: u64) -> Option<Whole> {
    if dpkg::is_list(path) {
        return (size <= LIST_BYTES).then_some(Whole::List);
    }
    if path.ends_with(b".py") {
        return (size <= PYTHON_BYTES && !python::is_pip(path)).then_some(Whole::Python);
    }
    let kept = is_kept(path) || secrets::wanted(path);
    (size <= KEPT_BYTES && kept).then_some(Whole::Kept)
}

fn is_kept(path: &[u8]) -> bool {
    let at = path.iter().rposition(|&byte| byte == b'/');
    let directory = at.and_then(|at| path.get(..at)).unwrap_or_default();
    let name = at.map_or(path, |at| path.get(at + 1..).unwrap_or_default());
    if KEPT_PATHS.contains(&path) {
        return true;
    }
    if KEPT_IN.iter().any(|(wanted, end)| (wanted.is_empty() || *wanted == directory) && name.ends_with(end)) {
        return true;
    }
    if name.ends_with(b".pth") || name.ends_with(b".egg-info") {
        return is_packages(components(directory).next_back().unwrap_or_default());
    }
    let parent = components(directory).next_back().unwrap_or_default();
    (parent.ends_with(b".dist-info") || parent.ends_with(b".egg-info")) && DISTRIBUTION.contains(&name)
}

/// Whether a directory of this name holds Python packages that were installed.
pub(crate) fn is_packages(name: &[u8]) -> bool {
    name == b"site-packages" || name == b"dist-packages"
}

/// Whether a file lies in such a directory, however deep.
pub fn in_packages(path: &[u8]) -> bool {
    components(path).any(is_packages)
}

fn first_line(text: &[u8]) -> &[u8] {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.get(..SHEBANG_BYTES).unwrap_or(line)
}

/// Fills the buffer as far as there is content.
fn read_some(content: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match content.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Made, dir, file, link, program, tar};

    #[test]
    fn each_area_gets_its_files() {
        let long = format!("#!/bin/{}\nrest", "x".repeat(2000));
        let elf = Made { needed: &["libc.so.6"], ..Made::default() }.bytes();
        let large = [elf.clone(), vec![0; 3 * CHUNK]].concat();
        let layer = tar(&[
            dir("usr"),
            link("lib", "usr/lib"),
            program("run.sh", "#!/bin/sh -e\r\necho"),
            program("long.sh", &long),
            program("empty", ""),
            program("lib/a.so", &elf),
            program("large.so", &large),
            file("etc/ld.so.conf", "include x\n"),
            file("etc/ld.so.conf.d/a.conf", "/a\n"),
            file("etc/ld-musl-x86_64.path", "/lib\n"),
            file("x/etc/ld.so.conf", "no"),
            file("usr/lib/python3/site-packages/a-1.dist-info/METADATA", "Name: a"),
            file("usr/lib/python3/site-packages/a-1.dist-info/LICENSE", "no"),
            file("usr/lib/python3/site-packages/x.pth", "import x"),
            file("other/x.pth", "no"),
            file("opt/venv/pyvenv.cfg", "home = /usr/bin"),
            file("var/lib/dpkg/info/libz1:amd64.list", "/usr/lib/libz.so.1\n"),
            program("changed", "#!/bin/a"),
            program("changed", "plain"),
            file("usr/lib/python3/site-packages/pip/a.py", "import x"),
            file("app/pip/a.py", "import x"),
        ]);
        let facts = collect(layer.as_slice()).unwrap();
        let keys =
            |keys: Vec<&Vec<u8>>| keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect::<Vec<_>>();
        assert_eq!(facts.shebangs.get(&b"run.sh"[..]).map(Vec::as_slice), Some(&b"/bin/sh -e\r"[..]));
        assert_eq!(facts.shebangs.get(&b"long.sh"[..]).map(Vec::len), Some(SHEBANG_BYTES));
        assert_eq!(keys(facts.shebangs.keys().collect()), ["long.sh", "run.sh"]);
        assert_eq!(keys(facts.elf.keys().collect()), ["large.so", "usr/lib/a.so"]);
        assert_eq!(facts.elf.get(&b"large.so"[..]), facts.elf.get(&b"usr/lib/a.so"[..]));
        assert_eq!(
            keys(facts.kept.keys().collect()),
            [
                "etc/ld-musl-x86_64.path",
                "etc/ld.so.conf",
                "etc/ld.so.conf.d/a.conf",
                "opt/venv/pyvenv.cfg",
                "usr/lib/python3/site-packages/a-1.dist-info/METADATA",
                "usr/lib/python3/site-packages/x.pth",
            ]
        );
        let read = facts.modules.iter().map(|(path, module)| (path.as_slice(), module.unread)).collect::<Vec<_>>();
        assert_eq!(read, [(&b"app/pip/a.py"[..], false), (b"usr/lib/python3/site-packages/pip/a.py", true)]);
        assert_eq!(keys(facts.owners.keys().collect()), ["usr/lib/libz.so.1"]);
        let (scanned, same) = scan_and_collect(layer.as_slice()).unwrap();
        assert_eq!(same, facts);
        assert_eq!(scanned, kuz_image::scan::scan(layer.as_slice()).unwrap());
        assert_eq!(LayerFacts::from_bytes(&facts.to_bytes()), Some(facts));
    }

    #[test]
    fn sources_in_batches_give_what_each_alone_gives_and_the_last_of_a_name_counts() {
        let text = |number: usize| format!("import m{number}\ndef f{number}(): pass\n");
        let mut entries: Vec<_> =
            (0..2 * BATCH + 50).map(|number| file(&format!("p/{number}.py"), text(number))).collect();
        // Written again: as another source, and as one that is too large to be read.
        entries.push(file("p/0.py", "x = 1\n"));
        entries.push(file(&format!("p/{}.py", 2 * BATCH + 49), vec![b'#'; usize::try_from(PYTHON_BYTES).unwrap() + 1]));
        let facts = collect(tar(&entries).as_slice()).unwrap();
        assert_eq!(facts.modules.len(), 2 * BATCH + 49);
        for number in 1..2 * BATCH + 49 {
            let path = format!("p/{number}.py").into_bytes();
            assert_eq!(facts.modules.get(&path), python::module(&path, text(number).as_bytes()).as_ref(), "{number}");
        }
        assert_eq!(facts.modules.get(&b"p/0.py"[..]).unwrap().line_of("x"), Some(1));
    }

    #[test]
    fn what_is_over_a_limit_is_passed_over() {
        let large = vec![b'x'; usize::try_from(KEPT_BYTES).unwrap() + 1];
        let facts = collect(tar(&[file("etc/ld.so.conf", &large)]).as_slice()).unwrap();
        assert_eq!(facts, LayerFacts::default());
        assert!(collect(&b"not a tar"[..]).is_err());
    }
}
