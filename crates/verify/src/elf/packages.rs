//! Where a missing library can come from: another stage, the Debian or Alpine package that owns it there, or one that is
//! known to have it.
//!
//! Gives advice only; installs and looks up nothing.

use kuz_image::index::components;
use kuz_image::{Node, Stack};

use super::search::parent;
use crate::facts::Path;
use crate::finding::Advice;
use crate::subject::{OtherStage, Subject, show};

/// What stands around packages in a line for Debian.
pub const APT: (&str, &str) =
    ("RUN apt-get update && apt-get install -y --no-install-recommends ", " && rm -rf /var/lib/apt/lists/*");
/// What stands before packages in a line for Alpine.
pub const APK: &str = "RUN apk add --no-cache ";

/// Directories in which a library is looked for first.
const USUAL: [&str; 6] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "usr/local/lib",
    "usr/lib",
    "lib",
];

/// Debian's packages of libraries that Python packages often need and slim images lack: the name's beginning, the
/// package. Only where no other stage has the library.
const KNOWN: [(&str, &str); 24] = [
    ("libpq.so.5", "libpq5"),
    ("libmariadb.so.3", "libmariadb3"),
    ("libxml2.so.2", "libxml2"),
    ("libxslt.so.1", "libxslt1.1"),
    ("libexslt.so.0", "libxslt1.1"),
    ("libGL.so.1", "libgl1"),
    ("libEGL.so.1", "libegl1"),
    ("libglib-2.0.so.0", "libglib2.0-0"),
    ("libgthread-2.0.so.0", "libglib2.0-0"),
    ("libgobject-2.0.so.0", "libglib2.0-0"),
    ("libgomp.so.1", "libgomp1"),
    ("libSM.so.6", "libsm6"),
    ("libXext.so.6", "libxext6"),
    ("libXrender.so.1", "libxrender1"),
    ("libX11.so.6", "libx11-6"),
    ("libodbc.so.2", "libodbc2"),
    ("libmagic.so.1", "libmagic1"),
    ("libsndfile.so.1", "libsndfile1"),
    ("libcairo.so.2", "libcairo2"),
    ("libpango-1.0.so.0", "libpango-1.0-0"),
    ("libgfortran.so.5", "libgfortran5"),
    ("libyaml-0.so.2", "libyaml-0-2"),
    ("libzmq.so.5", "libzmq5"),
    ("librdkafka.so.1", "librdkafka1"),
];

/// The package managers that an image can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packages {
    /// apt-get
    Debian,
    /// apk
    Alpine,
}

impl Packages {
    /// The one that an image has.
    pub fn of(stack: &Stack) -> Option<Self> {
        let has = |path: &[u8]| stack.resolve(path, true).is_ok_and(|found| found.entry.is_some());
        if has(b"usr/bin/apt-get") {
            return Some(Self::Debian);
        }
        has(b"sbin/apk").then_some(Self::Alpine)
    }

    /// The line that installs a package.
    pub fn install(self, package: &str) -> String {
        match self {
            Self::Debian => format!("{}{package}{}", APT.0, APT.1),
            Self::Alpine => format!("{APK}{package}"),
        }
    }
}

/// How the final stage gets a library.
pub(crate) fn advice(subject: &Subject<'_>, name: &[u8]) -> Option<Advice> {
    let library = String::from_utf8_lossy(name).escape_debug().to_string();
    let here = Packages::of(&subject.stack);
    for other in &subject.others {
        let Some(path) = find(other.stack(), name) else { continue };
        let from = &other.name;
        let owner = owner(other, &path);
        if let Some(package) = owner {
            let place = format!("stage {from} has it at `{}`, from the package `{package}`", show(&path));
            return Some(match here.filter(|here| Packages::of(other.stack()) == Some(*here)) {
                Some(packages) => {
                    Advice::line(format!("{place}: install that in the final stage"), packages.install(&package))
                }
                None => Advice::text(format!("{place}: install what corresponds to it in the final stage")),
            });
        }
        let place = show(&path);
        let mut advice = Advice::line(
            format!("stage {from} has it at `{place}`, from no package: copy it"),
            format!("COPY --from={from} {place} {place}"),
        );
        if here == Some(Packages::Debian) {
            advice.lines.push("RUN ldconfig".to_owned());
        }
        return Some(advice);
    }
    let (_, package) = KNOWN.iter().find(|(known, _)| *known == library)?;
    let packages = here.filter(|here| *here == Packages::Debian)?;
    Some(Advice::line(format!("Debian's package `{package}` has it"), packages.install(package)))
}

/// A library in a stage: in the usual directories, else anywhere.
fn find(stack: &Stack, name: &[u8]) -> Option<Path> {
    let is_file = |path: &[u8]| {
        let entry = stack.resolve(path, true).ok().and_then(|found| found.entry);
        entry.is_some_and(|entry| matches!(entry.node, Node::File { .. } | Node::Hardlink(_)))
    };
    let usual = USUAL.iter().map(|directory| [directory.as_bytes(), b"/", name].concat()).find(|path| is_file(path));
    usual.or_else(|| {
        let all = stack.below(b"");
        all.into_iter().find(|path| components(path).next_back() == Some(name) && is_file(path))
    })
}

/// The package that owns a library of a stage: by the name that was looked for, or by the file that it leads to.
fn owner(other: &OtherStage<'_>, path: &[u8]) -> Option<String> {
    let real = other.stack().resolve(path, true).ok()?.path;
    let directory = other.stack().resolve(parent(path), true).ok()?.path;
    let plain = kuz_image::index::join(&directory, components(path).next_back()?);
    [&real, &plain, &path.to_vec()].iter().find_map(|path| other.owner(path)).map(str::to_owned)
}
