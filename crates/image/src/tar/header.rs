//! One entry's meaning: a header block and its extensions to a [`Header`] and how the content is stored.
//!
//! PAX records override the block as in GNU tar (the size too). Where programs disagree about an archive it is
//! refused, so that no entry can hide from one of them: a size on something that has no content, two names for one
//! entry, two extended headers. Reads no content.

use std::collections::BTreeMap;

use super::block::{self, Block, Dialect};
use super::sparse::{self, Region};
use super::{Header, Kind, TarError, pax};
use crate::limits;

/// The extensions before a header, raw.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) pax: Option<Vec<u8>>,
    pub(super) long_name: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
    /// All of them together, for the limit.
    pub(super) bytes: u64,
}

impl Extensions {
    pub(super) fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

/// How the content stands in the archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Plain,
    /// Old GNU: the map starts in the block.
    OldGnu,
    /// PAX 0.x: the map stood in the records.
    Regions(Vec<Region>),
    /// PAX 1.0: the map stands before the content.
    InContent,
}

/// A header with the length of what is stored for it.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) header: Header,
    pub(super) stored: u64,
    pub(super) form: Form,
}

/// What PAX records say.
#[derive(Debug, Default)]
struct Overrides {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<i64>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    sparse: SparseRecords,
}

#[derive(Debug, Default)]
struct SparseRecords {
    present: bool,
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    blocks: Option<u64>,
    map: Option<Vec<Region>>,
    /// PAX 0.0: offsets and lengths in turn.
    numbers: Vec<u64>,
}

/// Refuses a global header that would change what other programs see as entries; the rest of it is ignored.
pub(super) fn check_global(bytes: &[u8], offset: u64) -> Result<(), TarError> {
    let malformed = |what| TarError::Malformed { offset, what };
    for (key, _) in pax::parse(bytes).map_err(malformed)? {
        if matches!(key, b"path" | b"linkpath" | b"size" | b"SCHILY.realsize") || key.starts_with(b"GNU.sparse.") {
            return Err(malformed("global PAX header sets a name or a size"));
        }
    }
    Ok(())
}

/// Puts block and extensions together. `offset` is for messages.
pub(super) fn resolve(block: &Block, extensions: Extensions, offset: u64) -> Result<Resolved, TarError> {
    let malformed = |what| TarError::Malformed { offset, what };
    let over = match &extensions.pax {
        Some(bytes) => overrides(bytes, offset)?,
        None => Overrides::default(),
    };
    let mut path = one_of(extensions.long_name, over.path).map_err(malformed)?.unwrap_or_else(|| block.path());
    let mut link = one_of(extensions.long_link, over.link).map_err(malformed)?.unwrap_or_else(|| block.link());
    if let Some(name) = over.sparse.name.clone() {
        path = name;
    }
    if path.is_empty() {
        // As GNU tar and the others read it.
        path = b".".to_vec();
    }
    let slash = path.ends_with(b"/");
    while path.len() > 1 && path.ends_with(b"/") {
        path.pop();
    }
    let in_block = number(block, block::SIZE);
    let stored = match over.size {
        Some(size) => size,
        // A hard link's size is that of the file it names: nothing is stored. All programs agree.
        None if block.flag() == b'1' => 0,
        None => in_block.ok_or(malformed("size is no number"))?,
    };
    let kind = kind(block, &path, slash, stored, offset)?;
    if !matches!(kind, Kind::Symlink | Kind::Hardlink) {
        link.clear();
    } else if link.is_empty() {
        return Err(TarError::Refused { path, what: "a link without a target" });
    }
    if kind != Kind::File && stored != 0 {
        return Err(TarError::Refused { path, what: "it has content, but is no file" });
    }
    let (form, size) = form(block, over.sparse, kind, stored).map_err(malformed)?;
    let id = |said: Option<u32>, field, what| match said {
        Some(id) => Ok(id),
        None => number(block, field).and_then(|id| u32::try_from(id).ok()).ok_or(malformed(what)),
    };
    let mode = number(block, block::MODE).ok_or(malformed("mode is no number"))? & 0o7777;
    let header = Header {
        uid: id(over.uid, block::UID, "owner is no number from 0 to 4294967295")?,
        gid: id(over.gid, block::GID, "group is no number from 0 to 4294967295")?,
        mtime: over.mtime.or_else(|| block.number(block::MTIME)).ok_or(malformed("time is no number"))?,
        mode: u32::try_from(mode).unwrap_or_default(),
        path,
        kind,
        size,
        link,
        xattrs: over.xattrs,
    };
    Ok(Resolved { header, stored, form })
}

/// GNU's and PAX's way to say the same: both is fine only where they agree.
fn one_of(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, &'static str> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => Err("GNU and PAX headers name it differently"),
        (gnu, pax) => Ok(pax.or(gnu)),
    }
}

fn number(block: &Block, field: (usize, usize)) -> Option<u64> {
    block.number(field).and_then(|number| u64::try_from(number).ok())
}

fn kind(block: &Block, path: &[u8], slash: bool, stored: u64, offset: u64) -> Result<Kind, TarError> {
    let device = |field| {
        if block.dialect() == Dialect::V7 {
            return Ok(0);
        }
        let number = number(block, field).and_then(|number| u32::try_from(number).ok());
        number.ok_or(TarError::Malformed { offset, what: "device number is no number" })
    };
    // Some programs look at the block's name, others at the one that overrides it.
    if block.flag() == 0 && block.path().ends_with(b"/") != slash {
        return Err(TarError::refused(path, "a directory by one of its names, a file by the other"));
    }
    Ok(match block.flag() {
        // Before directories had a type of their own, a slash at the end made one.
        b'0' | 0 | b'7' if slash && stored == 0 => Kind::Dir,
        b'0' | 0 | b'7' | b'S' if slash => return Err(TarError::refused(path, "it has content, but is no file")),
        b'0' | 0 | b'7' => Kind::File,
        b'S' if block.dialect() == Dialect::Gnu => Kind::File,
        b'1' => Kind::Hardlink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Char { major: device(block::MAJOR)?, minor: device(block::MINOR)? },
        b'4' => Kind::Block { major: device(block::MAJOR)?, minor: device(block::MINOR)? },
        b'5' => Kind::Dir,
        b'6' => Kind::Fifo,
        flag => return Err(TarError::Unsupported { path: path.to_vec(), flag }),
    })
}

fn form(block: &Block, sparse: SparseRecords, kind: Kind, stored: u64) -> Result<(Form, u64), &'static str> {
    if block.flag() == b'S' {
        let real = number(block, block::GNU_REAL_SIZE).ok_or("size of a sparse file is no number")?;
        return if sparse.present { Err("sparse in two ways") } else { Ok((Form::OldGnu, real)) };
    }
    if !sparse.present {
        return Ok((Form::Plain, stored));
    }
    if kind != Kind::File {
        return Err("sparse, but no file");
    }
    let real = sparse.size.ok_or("sparse file without a size")?;
    match (sparse.major, sparse.minor) {
        (Some(1), Some(0)) if sparse.map.is_none() && sparse.numbers.is_empty() => Ok((Form::InContent, real)),
        (None, None) | (Some(0), Some(0 | 1)) => {
            let regions = match sparse.map {
                Some(map) if sparse.numbers.is_empty() => map,
                Some(_) => return Err("sparse in two ways"),
                None => sparse::pairs(&sparse.numbers).ok_or("sparse map is incomplete")?,
            };
            if sparse.blocks.is_some_and(|blocks| blocks != regions.len() as u64) {
                return Err("sparse map and its count disagree");
            }
            Ok((Form::Regions(regions), real))
        }
        _ => Err("sparse file of an unknown version"),
    }
}

fn overrides(bytes: &[u8], offset: u64) -> Result<Overrides, TarError> {
    let malformed = |what| TarError::Malformed { offset, what };
    let mut over = Overrides::default();
    for (key, value) in pax::parse(bytes).map_err(malformed)? {
        let whole = || pax::number(value).filter(|&number| i64::try_from(number).is_ok());
        let id = || whole().and_then(|id| u32::try_from(id).ok());
        match key {
            b"path" => once(&mut over.path, text(value)).map_err(malformed)?,
            b"linkpath" => once(&mut over.link, text(value)).map_err(malformed)?,
            b"size" => once(&mut over.size, whole()).map_err(malformed)?,
            // An empty value takes an override back.
            b"uid" | b"gid" | b"mtime" if value.is_empty() => {}
            b"uid" => over.uid = Some(id().ok_or(malformed("PAX owner"))?),
            b"gid" => over.gid = Some(id().ok_or(malformed("PAX group"))?),
            b"mtime" => over.mtime = Some(pax::seconds(value).ok_or(malformed("PAX time"))?),
            b"SCHILY.realsize" => return Err(malformed("sparse file in star's form")),
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    over.sparse.take(key, value).map_err(malformed)?;
                } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    check_xattr(name, value, over.xattrs.len(), offset)?;
                    over.xattrs.insert(name.to_vec(), value.to_vec());
                }
            }
        }
    }
    Ok(over)
}

/// Twice the same is fine, twice different is not.
fn once<T: PartialEq>(slot: &mut Option<T>, value: Option<T>) -> Result<(), &'static str> {
    let value = value.ok_or("a name, size or sparse map in a PAX header is not valid")?;
    if slot.as_ref().is_some_and(|old| *old != value) {
        return Err("PAX header sets a name or a size twice");
    }
    *slot = Some(value);
    Ok(())
}

fn text(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty() && !value.contains(&0)).then(|| value.to_vec())
}

fn check_xattr(name: &[u8], value: &[u8], count: usize, offset: u64) -> Result<(), TarError> {
    if name.is_empty() {
        return Err(TarError::Malformed { offset, what: "extended attribute without a name" });
    }
    for (what, found, limit) in [
        ("bytes of an extended attribute's name", name.len(), limits::XATTR_NAME_BYTES),
        ("bytes of an extended attribute", value.len(), limits::XATTR_BYTES),
        ("extended attributes", count + 1, limits::XATTRS),
    ] {
        if found > limit {
            return Err(TarError::Limit { offset, what, limit: limit as u64 });
        }
    }
    Ok(())
}

impl SparseRecords {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        const BAD: &str = "PAX sparse record";
        self.present = true;
        let number = pax::number(value).filter(|&number| i64::try_from(number).is_ok());
        match key {
            b"major" => once(&mut self.major, number),
            b"minor" => once(&mut self.minor, number),
            b"name" => once(&mut self.name, text(value)),
            b"size" | b"realsize" => once(&mut self.size, number),
            b"numblocks" => once(&mut self.blocks, number),
            b"map" => once(&mut self.map, sparse::comma_list(value)),
            b"offset" if self.numbers.len().is_multiple_of(2) => {
                number.map(|number| self.numbers.push(number)).ok_or(BAD)
            }
            b"numbytes" if self.numbers.len() % 2 == 1 => number.map(|number| self.numbers.push(number)).ok_or(BAD),
            _ => Err(BAD),
        }
    }
}
