//! Everything that the loader will ask for: of the command, of the Python packages' libraries, and of what those load.
//!
//! In: the subject, the programs that its command starts, and which extension modules the application reaches, where
//! that is known. Out: findings. A library that only an extension module lacks which nobody is known to import is a
//! warning; what the command itself lacks is an error. Files that could not be read are claimed nothing about.

use std::collections::{BTreeMap, BTreeSet};

use kuz_image::index::{components, join};

use super::search::{Found, Libc, Object, Search, parent};
use super::{Elf, Kind, machine_name, machine_of, packages};
use crate::facts::Path;
use crate::finding::{Advice, Finding, Level};
use crate::subject::{Subject, show};

/// Objects in one process; the largest known have some hundreds.
const OBJECTS: usize = 4096;

/// What the engine brings along with a graphics card: names' beginnings.
const DRIVERS: [&[u8]; 4] = [b"libcuda.so", b"libnvidia-", b"libnvcuvid.so", b"libnvoptix.so"];

/// Judges the programs (real paths) and the libraries in the Python packages.
pub fn check(subject: &Subject<'_>, programs: &[Path], reached: Option<&BTreeSet<Path>>) -> Vec<Finding> {
    let mut check = Check { subject, reached, searches: Vec::new(), faults: BTreeMap::new() };
    for program in programs {
        check.program(program);
    }
    check.modules(programs);
    check.findings()
}

/// What is wrong, however many objects suffer from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The loader that a program names.
    Loader(Vec<u8>),
    /// Built for another C library.
    Libc(&'static str, &'static str),
    /// Built for another machine.
    Machine(String, String),
    /// A library is not there.
    Library(Vec<u8>),
    /// It is, but for another machine.
    Unfit(Vec<u8>, Path),
    /// It is, but the loader's cache does not know.
    NotCached(Vec<u8>, Path),
    /// A library is too old: the version, and the newest that it has.
    Version(Vec<u8>, Vec<u8>, Option<Vec<u8>>),
}

/// Who suffers.
#[derive(Debug)]
struct Suffering {
    level: Level,
    objects: BTreeSet<Path>,
}

struct Check<'s> {
    subject: &'s Subject<'s>,
    reached: Option<&'s BTreeSet<Path>>,
    searches: Vec<((Libc, u16, u8), Search<'s>)>,
    faults: BTreeMap<Fault, Suffering>,
}

/// One process on its way: what it has loaded, by name.
#[derive(Debug, Default)]
struct Process<'s> {
    objects: Vec<(Object<'s>, Option<usize>)>,
    names: BTreeMap<Vec<u8>, usize>,
}

impl<'s> Process<'s> {
    fn add(&mut self, object: Object<'s>, name: Option<&[u8]>, loader: Option<usize>) {
        let number = self.objects.len();
        let soname = object.elf.and_then(|elf| elf.soname.clone());
        for name in soname.into_iter().chain(name.map(<[u8]>::to_vec)) {
            self.names.entry(name).or_insert(number);
        }
        self.objects.push((object, loader));
    }

    /// An object, what loaded it, what loaded that …
    fn chain(&self, from: usize) -> Vec<Object<'s>> {
        let mut chain = Vec::new();
        let mut at = Some(from);
        while let Some((object, loader)) = at.and_then(|at| self.objects.get(at)) {
            chain.push(object.clone());
            at = loader.filter(|loader| at.is_some_and(|at| *loader < at));
        }
        chain
    }
}

impl<'s> Check<'s> {
    fn fault(&mut self, fault: Fault, level: Level, object: &[u8]) {
        let suffering = self.faults.entry(fault).or_insert_with(|| Suffering { level, objects: BTreeSet::new() });
        suffering.level = suffering.level.max(level);
        suffering.objects.insert(object.to_vec());
    }

    fn object(&self, found: &[u8]) -> Object<'s> {
        let real = self.subject.at(found).map_or_else(|| found.to_vec(), |(real, ..)| real);
        let elf = self.subject.fact(found, |facts| &facts.elf).filter(|elf| elf.kind != Kind::Unread);
        Object { found: found.to_vec(), real, elf }
    }

    /// The place of the rules for such objects.
    fn search(&mut self, libc: Libc, elf: &Elf) -> usize {
        let key = (libc, elf.machine, elf.bits);
        if let Some(at) = self.searches.iter().position(|(known, _)| *known == key) {
            return at;
        }
        self.searches.push((key, Search::new(self.subject, libc, elf.machine, elf.bits)));
        self.searches.len() - 1
    }

    /// A program that the kernel starts. Gives its process, if one comes about.
    fn program(&mut self, path: &[u8]) -> Option<(Process<'s>, usize)> {
        let object = self.object(path);
        let elf = object.elf?;
        self.machine(&object, elf, Level::Error);
        let interpreter = elf.interpreter.as_ref()?;
        let libc = Libc::of_loader(interpreter);
        if !self.subject.has_file(interpreter) {
            let fault = match (libc, self.image_libc()) {
                (Some(wanted), Some(there)) if wanted != there => Fault::Libc(wanted.name(), there.name()),
                _ => Fault::Loader(interpreter.clone()),
            };
            self.fault(fault, Level::Error, path);
            return None;
        }
        let search = self.search(libc?, elf);
        let mut process = Process::default();
        process.add(object, None, None);
        let name = components(interpreter).next_back();
        process.add(self.object(interpreter), name, Some(0));
        self.load(&mut process, 0, search, Level::Error, None);
        Some((process, search))
    }

    fn machine(&mut self, object: &Object<'s>, elf: &Elf, level: Level) {
        let architecture = &self.subject.config.architecture;
        let Some((machine, bits)) = machine_of(architecture) else { return };
        // Processors of 64 bits run the programs of their predecessors.
        let older = matches!((machine, elf.machine), (62, 3) | (183, 40));
        if (elf.machine, elf.bits) != (machine, bits) && !older {
            let fault = Fault::Machine(machine_name(elf.machine, elf.bits), architecture.clone());
            self.fault(fault, level, &object.real);
        }
    }

    /// The C library that the image has a loader of.
    fn image_libc(&self) -> Option<Libc> {
        let has = |directory: &[u8], wanted: Libc| {
            let directory = self.subject.stack.resolve(directory, true).ok()?.path;
            let loader = |path: &&Path| parent(path) == directory && Libc::of_loader(path) == Some(wanted);
            let layers = self.subject.facts.iter().flat_map(|facts| facts.elf.keys());
            layers.into_iter().find(loader).filter(|path| self.subject.has_file(path)).map(|_| wanted)
        };
        let found = |wanted| [&b"lib"[..], b"lib64"].iter().find_map(|directory| has(directory, wanted));
        let (glibc, musl) = (
            found(Libc::Glibc).or_else(|| self.subject.kept(b"etc/ld.so.cache").map(|_| Libc::Glibc)),
            found(Libc::Musl),
        );
        // An image with both loaders can run both.
        match (glibc, musl) {
            (Some(_), Some(_)) | (None, None) => None,
            (glibc, musl) => glibc.or(musl),
        }
    }

    /// Loads what the objects from `from` on need, breadth first, and compares versions.
    fn load(
        &mut self,
        process: &mut Process<'s>,
        from: usize,
        search: usize,
        level: Level,
        base: Option<&Process<'s>>,
    ) {
        let mut at = from;
        while at < process.objects.len() && process.objects.len() < OBJECTS {
            let chain = process.chain(at);
            let program = base.and_then(|base| base.objects.first()).map(|(program, _)| program.clone());
            let chain: Vec<Object<'s>> = chain.into_iter().chain(program).collect();
            let Some(elf) = chain.first().and_then(|object| object.elf) else {
                at += 1;
                continue;
            };
            let real = chain.first().map(|object| object.real.clone()).unwrap_or_default();
            for name in &elf.needed {
                if process.names.contains_key(name) || base.is_some_and(|base| base.names.contains_key(name)) {
                    continue;
                }
                let Some((_, rules)) = self.searches.get(search) else { continue };
                let found = rules.find(name, &chain);
                match found {
                    Found::File(path) => process.add(self.object(&path), Some(name), Some(at)),
                    Found::Builtin => {}
                    Found::NotCached(path) => {
                        self.fault(Fault::NotCached(name.clone(), path.clone()), level, &real);
                        process.add(self.object(&path), Some(name), Some(at));
                    }
                    Found::Nothing if DRIVERS.iter().any(|driver| name.starts_with(driver)) => {}
                    // Packages load libraries of their own by path before the modules that need them.
                    Found::Nothing | Found::Unfit(_) if base.is_some() && self.in_packages(name) => {}
                    Found::Unfit(path) => self.fault(Fault::Unfit(name.clone(), path), level, &real),
                    Found::Nothing => {
                        let fault = self.missing(name, search);
                        self.fault(fault, level, &real);
                    }
                }
            }
            at += 1;
        }
        for (object, _) in process.objects.iter().skip(from) {
            self.versions(object, process, base, search, level);
        }
    }

    fn missing(&self, name: &[u8], search: usize) -> Fault {
        let libc = self.searches.get(search).map(|(_, rules)| rules.libc());
        if libc == Some(Libc::Glibc) && name.starts_with(b"libc.musl-") {
            return Fault::Libc(Libc::Musl.name(), Libc::Glibc.name());
        }
        if libc == Some(Libc::Musl) && Libc::of_loader(name) == Some(Libc::Glibc) {
            return Fault::Libc(Libc::Glibc.name(), Libc::Musl.name());
        }
        Fault::Library(name.to_vec())
    }

    /// Whether some Python package brings a library of this name.
    fn in_packages(&self, name: &[u8]) -> bool {
        self.subject
            .in_packages(|facts| &facts.elf)
            .any(|(path, _, elf)| components(path).next_back() == Some(name) || elf.soname.as_deref() == Some(name))
    }

    /// Whether what was found for each name defines the versions that are used.
    fn versions(
        &mut self,
        object: &Object<'s>,
        process: &Process<'s>,
        base: Option<&Process<'s>>,
        search: usize,
        level: Level,
    ) {
        let Some(elf) = object.elf else { return };
        let musl = self.searches.get(search).is_some_and(|(_, rules)| rules.libc() == Libc::Musl);
        for needs in &elf.needs {
            if musl {
                // musl knows no versions; what was made against glibc lacks functions there.
                if needs.file.starts_with(b"libc.so")
                    && needs.versions.iter().any(|version| version.starts_with(b"GLIBC_"))
                {
                    self.fault(Fault::Libc(Libc::Glibc.name(), Libc::Musl.name()), level, &object.real);
                }
                continue;
            }
            let of = |process: &Process<'s>| {
                process
                    .names
                    .get(&needs.file)
                    .and_then(|at| process.objects.get(*at))
                    .and_then(|(object, _)| object.elf)
            };
            let Some(provider) = of(process).or_else(|| base.and_then(of)) else { continue };
            // Without any versions of its own the loader lets it pass.
            if provider.provides.is_empty() {
                continue;
            }
            let lacking: Vec<&Vec<u8>> =
                needs.versions.iter().filter(|version| !provider.provides.contains(version)).collect();
            if let Some(newest) = lacking.into_iter().max_by_key(|version| number(version)) {
                let has = provider.provides.iter().filter(|version| stem(version) == stem(newest));
                let has = has.max_by_key(|version| number(version)).cloned();
                self.fault(Fault::Version(needs.file.clone(), newest.clone(), has), level, &object.real);
            }
        }
    }

    /// The libraries in the Python packages, loaded by the interpreter.
    fn modules(&mut self, programs: &[Path]) {
        let mut modules: Vec<(&Path, &Elf)> = self
            .subject
            .in_packages(|facts| &facts.elf)
            .map(|(path, _, elf)| (path, elf))
            .filter(|(_, elf)| elf.kind == Kind::Shared && elf.interpreter.is_none())
            .collect();
        if modules.is_empty() {
            return;
        }
        // Modules first: what they load is then known with who loads it.
        modules.sort_by_key(|(path, elf)| (!elf.python, *path));
        let interpreter = self.interpreter(programs, &modules);
        let base = interpreter.and_then(|path| self.program(&path));
        let mut seen: BTreeSet<Path> = BTreeSet::new();
        for (path, elf) in modules {
            if seen.contains(path) {
                continue;
            }
            let reached = self.reached.is_some_and(|reached| reached.contains(path));
            let level = if reached { Level::Error } else { Level::Warning };
            let object = self.object(path);
            self.machine(&object, elf, level);
            let search = match &base {
                Some((_, search)) => *search,
                None => self.search(self.image_libc().unwrap_or(Libc::Glibc), elf),
            };
            let unfit =
                base.as_ref().and_then(|(base, _)| base.objects.first()?.0.elf).is_some_and(|main| !main.fits(elf));
            if unfit {
                continue;
            }
            let mut process = Process::default();
            process.add(object, None, None);
            self.load(&mut process, 0, search, level, base.as_ref().map(|(base, _)| base));
            seen.extend(process.objects.into_iter().map(|(object, _)| object.real));
        }
    }

    /// The interpreter that loads them: one that the command starts, or the one that the packages lie beside.
    fn interpreter(&self, programs: &[Path], modules: &[(&Path, &Elf)]) -> Option<Path> {
        let is_python = |path: &[u8]| components(path).next_back().is_some_and(|name| name.starts_with(b"python"));
        if let Some(program) = programs.iter().find(|program| is_python(program)) {
            return Some(program.clone());
        }
        let beside = modules.iter().find_map(|(path, _)| {
            let names: Vec<&[u8]> = components(path).collect();
            let at = names.iter().position(|name| crate::collect::is_packages(name))?;
            let version = names.get(at.checked_sub(1)?)?;
            let prefix = names.get(..at.checked_sub(2)?)?.join(&b'/');
            let beside = [join(&prefix, b"bin/"), join(&prefix, b"bin/python3")];
            let [directory, plain] = beside;
            [[directory, version.to_vec()].concat(), plain].into_iter().find(|path| self.subject.has_file(path))
        });
        let (real, ..) = self.subject.at(&beside?)?;
        Some(real)
    }

    fn findings(self) -> Vec<Finding> {
        let subject = self.subject;
        self.faults.iter().map(|(fault, suffering)| describe(subject, fault, suffering)).collect()
    }
}

/// The number at a version's end, for comparing: `GLIBC_2.34` to 2, 34.
fn number(version: &[u8]) -> Vec<u64> {
    let text = version.rsplit(|&byte| byte == b'_').next().unwrap_or_default();
    let parts = text.split(|&byte| byte == b'.');
    parts.map(|part| std::str::from_utf8(part).ok().and_then(|part| part.parse().ok()).unwrap_or_default()).collect()
}

/// What stands before the number: `GLIBC`.
fn stem(version: &[u8]) -> &[u8] {
    version.get(..version.iter().rposition(|&byte| byte == b'_').unwrap_or(0)).unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}

fn describe(subject: &Subject<'_>, fault: &Fault, suffering: &Suffering) -> Finding {
    let first = suffering.objects.first().cloned().unwrap_or_default();
    let more = match suffering.objects.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let who = format!("`{}`{more}", show(&first));
    let (rule, message, advice) = match fault {
        Fault::Loader(path) => (
            "LoaderNotFound",
            format!("{who} is started by the loader `{}`, which is not in the image", show(path)),
            Some(Advice::text("take a base image that has it, or link the program statically")),
        ),
        Fault::Libc(wanted, there) => (
            "WrongLibc",
            format!("{who} is built for {wanted}, but the image's C library is {there}"),
            Some(Advice::text(
                "build and run on the same family of images: Alpine is musl, Debian, Ubuntu and Fedora are glibc",
            )),
        ),
        Fault::Machine(is, wanted) => (
            "WrongMachine",
            format!("{who} is built for {is}, but the image is for {wanted}"),
            Some(Advice::text("build every stage for the same platform")),
        ),
        Fault::Library(name) => (
            "LibraryNotFound",
            format!("the library `{}` is not in the image; {who} needs it", text(name)),
            packages::advice(subject, name),
        ),
        Fault::Unfit(name, path) => (
            "LibraryNotFound",
            format!(
                "the library `{}` is in the image only for another machine (`{}`); {who} needs it",
                text(name),
                show(path)
            ),
            packages::advice(subject, name),
        ),
        Fault::NotCached(name, path) => (
            "LibraryNotCached",
            format!(
                "the library `{}` is at `{}`, but the loader's cache does not know it; {who} needs it",
                text(name),
                show(path)
            ),
            Some(Advice::line("renew the cache after the library was copied", "RUN ldconfig")),
        ),
        Fault::Version(file, version, has) => (
            "SymbolVersionNotFound",
            match has {
                Some(has) => {
                    format!("{who} needs {}, the image has {} (`{}`)", text(version), number_text(has), text(file))
                }
                None => format!("{who} needs {} of `{}`, which the image's does not have", text(version), text(file)),
            },
            Some(Advice::text(
                "build it on the release that the final stage is based on, or base the final stage on the newer one",
            )),
        ),
    };
    let layer = subject.stack.find(&first).map(|(layer, _)| layer);
    Finding::new(rule, suffering.level, message).at(&first, layer).advise(advice)
}

fn number_text(version: &[u8]) -> String {
    text(version.rsplit(|&byte| byte == b'_').next().unwrap_or_default())
}
