//! A file's bytes to an [`Elf`]: header and program headers by `goblin`, the dynamic section and versions by hand.
//!
//! Only what the loader itself uses is read: no sections, which a stripped file may lack. Nothing here can panic:
//! every offset is checked, and counts are bounded.

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, ET_DYN, ET_EXEC};
use goblin::elf::program_header::{PT_DYNAMIC, PT_INTERP, PT_LOAD, ProgramHeader};

use super::{Elf, Kind, Needs};

/// What every ELF file begins with.
pub(crate) const MAGIC: &[u8] = b"\x7fELF";
/// Program headers; linkers write about ten.
const SEGMENTS: usize = 256;
/// Entries of the dynamic section; the largest known have some hundred.
const ENTRIES: usize = 4096;
/// Libraries, and versions of one library: the C library defines about fifty.
const NAMES: usize = 1024;
/// A name or a list of directories: Linux's `PATH_MAX`.
const NAME_BYTES: usize = 4096;

const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DT_VERDEF: u64 = 0x6fff_fffc;
const DT_VERDEFNUM: u64 = 0x6fff_fffd;
const DT_VERNEED: u64 = 0x6fff_fffe;
const DT_VERNEEDNUM: u64 = 0x6fff_ffff;
/// `DF_1_NODEFLIB`
const NO_DEFAULT: u64 = 0x800;
/// `VER_FLG_BASE`: the entry is the file's own name.
const FLAG_BASE: u64 = 1;
/// `VER_FLG_WEAK`: the loader only warns.
const FLAG_WEAK: u64 = 2;

/// Reads a file that begins with [`MAGIC`]. What cannot be understood is [`Kind::Unread`].
pub fn parse(bytes: &[u8]) -> Elf {
    File::open(bytes).and_then(|file| file.read()).unwrap_or_default()
}

struct File<'b> {
    bytes: &'b [u8],
    kind: Kind,
    machine: u16,
    wide: bool,
    little: bool,
    segments: Vec<ProgramHeader>,
}

impl<'b> File<'b> {
    fn open(bytes: &'b [u8]) -> Option<Self> {
        let header = goblin::elf::Elf::parse_header(bytes).ok()?;
        let kind = match header.e_type {
            ET_EXEC => Kind::Program,
            ET_DYN => Kind::Shared,
            _ => return None,
        };
        let wide = header.e_ident.get(EI_CLASS) == Some(&ELFCLASS64);
        let little = header.e_ident.get(EI_DATA) == Some(&ELFDATA2LSB);
        let container = if wide { Container::Big } else { Container::Little };
        let context = Ctx::new(container, if little { Endian::Little } else { Endian::Big });
        let count = usize::from(header.e_phnum);
        if count > SEGMENTS {
            return None;
        }
        let segments = ProgramHeader::parse(bytes, usize::try_from(header.e_phoff).ok()?, count, context).ok()?;
        Some(Self { bytes, kind, machine: header.e_machine, wide, little, segments })
    }

    /// A number at a place in the file.
    fn number(&self, at: u64, width: usize) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let field = self.bytes.get(at..at.checked_add(width)?)?;
        let fold = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
        Some(if self.little { field.iter().rev().fold(0, fold) } else { field.iter().fold(0, fold) })
    }

    /// Where in the file an address of memory comes from.
    fn offset(&self, address: u64) -> Option<u64> {
        let of = |segment: &&ProgramHeader| {
            let from = address.checked_sub(segment.p_vaddr);
            segment.p_type == PT_LOAD && from.is_some_and(|from| from < segment.p_filesz)
        };
        let segment = self.segments.iter().find(of)?;
        address.checked_sub(segment.p_vaddr)?.checked_add(segment.p_offset)
    }

    fn segment(&self, kind: u32) -> Option<&ProgramHeader> {
        self.segments.iter().find(|segment| segment.p_type == kind)
    }

    fn interpreter(&self) -> Option<Vec<u8>> {
        let segment = self.segment(PT_INTERP)?;
        let at = usize::try_from(segment.p_offset).ok()?;
        let end = at.checked_add(usize::try_from(segment.p_filesz).ok()?)?;
        let path = self.bytes.get(at..end)?.split(|&byte| byte == 0).next()?;
        (!path.is_empty() && path.len() <= NAME_BYTES).then(|| path.to_vec())
    }

    /// The dynamic section: tags and values.
    fn entries(&self) -> Option<Vec<(u64, u64)>> {
        let segment = self.segment(PT_DYNAMIC)?;
        let width = if self.wide { 8 } else { 4 };
        let count = (segment.p_filesz / (2 * width)).min(ENTRIES as u64);
        let mut entries = Vec::new();
        for index in 0..count {
            let at = segment.p_offset.checked_add(index * 2 * width)?;
            let width = if self.wide { 8 } else { 4 };
            let (tag, value) = (self.number(at, width)?, self.number(at.checked_add(width as u64)?, width)?);
            if tag == DT_NULL {
                break;
            }
            entries.push((tag, value));
        }
        Some(entries)
    }

    fn read(&self) -> Option<Elf> {
        let mut elf = Elf {
            kind: self.kind,
            bits: if self.wide { 64 } else { 32 },
            machine: self.machine,
            interpreter: self.interpreter(),
            ..Elf::default()
        };
        // A static program has no dynamic section.
        let Some(entries) = self.entries() else { return Some(elf) };
        let value = |wanted: u64| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let Some(strings) = value(DT_STRTAB).and_then(|address| self.strings(address, value(DT_STRSZ)?)) else {
            return Some(elf);
        };
        for (tag, at) in &entries {
            match *tag {
                DT_NEEDED if elf.needed.len() < NAMES => elf.needed.push(strings.get(*at)?),
                DT_SONAME => elf.soname = strings.get(*at),
                DT_RPATH => elf.rpath = strings.get(*at),
                DT_RUNPATH => elf.runpath = strings.get(*at),
                DT_FLAGS_1 => elf.no_default = at & NO_DEFAULT != 0,
                _ => {}
            }
        }
        if let (Some(address), Some(count)) = (value(DT_VERNEED), value(DT_VERNEEDNUM)) {
            elf.needs = self.needs(address, count, &strings).unwrap_or_default();
        }
        if let (Some(address), Some(count)) = (value(DT_VERDEF), value(DT_VERDEFNUM)) {
            elf.provides = self.provides(address, count, &strings).unwrap_or_default();
        }
        elf.python = strings.has_module_entry();
        Some(elf)
    }

    fn strings(&self, address: u64, bytes: u64) -> Option<Strings<'b>> {
        let at = usize::try_from(self.offset(address)?).ok()?;
        let end = at.checked_add(usize::try_from(bytes).ok()?)?;
        self.bytes.get(at..end.min(self.bytes.len())).map(Strings)
    }

    /// `Elf_Verneed`: version 2, count 2, file 4, aux 4, next 4; `Elf_Vernaux`: hash 4, flags 2, other 2, name 4, next 4.
    fn needs(&self, address: u64, count: u64, strings: &Strings<'_>) -> Option<Vec<Needs>> {
        let mut all = Vec::new();
        let mut at = self.offset(address)?;
        for _ in 0..count.min(NAMES as u64) {
            let file = strings.get(self.number(at.checked_add(4)?, 4)?)?;
            let (names, next) = (self.number(at.checked_add(2)?, 2)?, self.number(at.checked_add(12)?, 4)?);
            let mut one = at.checked_add(self.number(at.checked_add(8)?, 4)?)?;
            let mut versions = Vec::new();
            for _ in 0..names.min(NAMES as u64) {
                let flags = self.number(one.checked_add(4)?, 2)?;
                let name = strings.get(self.number(one.checked_add(8)?, 4)?)?;
                if flags & FLAG_WEAK == 0 {
                    versions.push(name);
                }
                one = one.checked_add(self.number(one.checked_add(12)?, 4)?)?;
            }
            all.push(Needs { file, versions });
            if next == 0 {
                break;
            }
            at = at.checked_add(next)?;
        }
        Some(all)
    }

    /// `Elf_Verdef`: version 2, flags 2, index 2, count 2, hash 4, aux 4, next 4; `Elf_Verdaux`: name 4, next 4.
    fn provides(&self, address: u64, count: u64, strings: &Strings<'_>) -> Option<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        let mut at = self.offset(address)?;
        for _ in 0..count.min(NAMES as u64) {
            let (flags, next) = (self.number(at.checked_add(2)?, 2)?, self.number(at.checked_add(16)?, 4)?);
            let name = at.checked_add(self.number(at.checked_add(12)?, 4)?)?;
            if flags & FLAG_BASE == 0 {
                all.push(strings.get(self.number(name, 4)?)?);
            }
            if next == 0 {
                break;
            }
            at = at.checked_add(next)?;
        }
        Some(all)
    }
}

/// The names that the dynamic section refers to.
struct Strings<'b>(&'b [u8]);

impl Strings<'_> {
    fn get(&self, at: u64) -> Option<Vec<u8>> {
        let text = self.0.get(usize::try_from(at).ok()?..)?;
        let text = text.get(..NAME_BYTES).unwrap_or(text);
        Some(text.get(..text.iter().position(|&byte| byte == 0)?)?.to_vec())
    }

    /// A Python module exports a function with its name.
    fn has_module_entry(&self) -> bool {
        const ENTRY: &[u8] = b"\0PyInit_";
        let mut rest = self.0;
        while let Some(at) = rest.iter().position(|&byte| byte == b'P') {
            let before = at.checked_sub(1).and_then(|from| rest.get(from..)).unwrap_or_default();
            if before.starts_with(ENTRY) {
                return true;
            }
            rest = rest.get(at + 1..).unwrap_or_default();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Made, needs};

    const MADE: Made<'static> = Made {
        interpreter: "/lib64/ld-linux-x86-64.so.2",
        needed: &["libc.so.6", "libz.so.1"],
        soname: "libx.so.2",
        rpath: "$ORIGIN/../lib",
        runpath: "/opt/lib",
        needs: &[("libc.so.6", &["GLIBC_2.2.5", "GLIBC_2.34"]), ("libz.so.1", &["ZLIB_1"])],
        provides: &["X_1", "X_2"],
        exports: "PyInit_x",
        machine: 0,
    };

    #[test]
    fn all_that_a_loader_reads_is_read() {
        let names = |list: &[&str]| list.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        let want = Elf {
            kind: Kind::Shared,
            bits: 64,
            machine: 62,
            interpreter: Some(MADE.interpreter.into()),
            needed: names(MADE.needed),
            soname: Some(b"libx.so.2".to_vec()),
            rpath: Some(b"$ORIGIN/../lib".to_vec()),
            runpath: Some(b"/opt/lib".to_vec()),
            no_default: false,
            needs: needs(MADE.needs),
            provides: names(MADE.provides),
            python: true,
        };
        assert_eq!(parse(&MADE.bytes()), want);
        assert!(!parse(&Made { exports: "XPyInit_x", ..MADE }.bytes()).python);
    }

    /// This test's own program is a real one.
    #[test]
    fn a_real_program_is_read() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let elf = parse(&bytes);
        assert_ne!(elf.kind, Kind::Unread);
        if elf.interpreter.is_some() {
            assert!(elf.needed.iter().any(|name| name.starts_with(b"libc.")), "{:?}", elf.needed);
        }
    }

    #[test]
    fn cut_files_are_unread_or_less() {
        let bytes = MADE.bytes();
        for length in 0..bytes.len() {
            let _ = parse(&bytes[..length]);
        }
        assert_eq!(parse(b"\x7fELF"), Elf::default());
        assert_eq!(parse(b""), Elf::default());
    }

    proptest::proptest! {
        #[test]
        fn damaged_files_never_panic(changes in proptest::collection::vec((0_usize..900, 0_u8..), 1..12)) {
            let mut bytes = MADE.bytes();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _ = parse(&bytes);
        }
    }
}
