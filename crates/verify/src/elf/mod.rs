//! What the loader reads of a program or shared object, and whether all that it will ask for is in the image.
//!
//! ```text
//! a file's bytes ─► parse ─► Elf (a fact, kept) ─┐
//! indexes, configuration ────────────────────────┴─► closure (search rules of glibc or musl) ─► findings
//! ```
//! [`parse`] never fails on odd bytes: what cannot be understood is [`Kind::Unread`], about which nothing is claimed.

use serde::{Deserialize, Serialize};

pub mod cache;
pub mod closure;
pub mod packages;
pub(crate) mod parse;
pub mod search;
#[cfg(test)]
mod tests;

pub use parse::parse;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Kind {
    /// Too large, damaged, or not for a loader: nothing is known.
    #[default]
    Unread,
    /// A program at a fixed place.
    Program,
    /// A shared object, or a program that may be placed anywhere.
    Shared,
}

/// Versions of a library's symbols that an object uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// The library, as NEEDED has it.
    pub file: Vec<u8>,
    /// Such as `GLIBC_2.34`; those that may be missing (weak) are left out.
    pub versions: Vec<Vec<u8>>,
}

/// What the loader reads of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Elf {
    /// What it is for.
    pub kind: Kind,
    /// 32 or 64.
    pub bits: u8,
    /// The processor: `e_machine`.
    pub machine: u16,
    /// The loader's path.
    pub interpreter: Option<Vec<u8>>,
    /// Libraries by name, in order.
    pub needed: Vec<Vec<u8>>,
    /// Its own name as a library.
    pub soname: Option<Vec<u8>>,
    /// Directories, separated by colons; what it loads inherits them.
    pub rpath: Option<Vec<u8>>,
    /// Directories for its own libraries only; with them the other ones do not count.
    pub runpath: Option<Vec<u8>>,
    /// The default places are not to be searched.
    pub no_default: bool,
    /// Versions that it uses.
    pub needs: Vec<Needs>,
    /// Versions that it defines.
    pub provides: Vec<Vec<u8>>,
    /// It holds a Python module's entry (`PyInit_…`).
    pub python: bool,
}

impl Elf {
    /// Whether both are for the same kind of processor.
    pub fn fits(&self, other: &Self) -> bool {
        let unread = self.kind == Kind::Unread || other.kind == Kind::Unread;
        unread || (self.bits, self.machine) == (other.bits, other.machine)
    }
}

/// The processor's name as image configurations have it, with its number and width in ELF files.
const MACHINES: [(&str, u16, u8); 10] = [
    ("amd64", 62, 64),
    ("arm64", 183, 64),
    ("386", 3, 32),
    ("arm", 40, 32),
    ("riscv64", 243, 64),
    ("ppc64le", 21, 64),
    ("s390x", 22, 64),
    ("loong64", 258, 64),
    ("mips64le", 8, 64),
    ("mipsle", 8, 32),
];

/// The machine number and width that an image's architecture means.
pub fn machine_of(architecture: &str) -> Option<(u16, u8)> {
    MACHINES.iter().find(|(name, ..)| *name == architecture).map(|(_, machine, bits)| (*machine, *bits))
}

/// A machine for people.
pub fn machine_name(machine: u16, bits: u8) -> String {
    let known = MACHINES.iter().find(|(_, number, width)| (*number, *width) == (machine, bits));
    known.map_or_else(|| format!("machine {machine} ({bits} bits)"), |(name, ..)| (*name).to_owned())
}
