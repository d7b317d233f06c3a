//! Reading: a stream of bytes to entries and their contents.
//!
//! Content goes from the source to the caller's buffer without a copy kept; only one entry's extensions are ever held
//! (bounded by [`limits::TAR_EXTENSION_BYTES`]). What the caller leaves unread is skipped. An archive that stops
//! early, and anything that two tar programs would read differently, is an error. Nothing touches a file system.

use std::io::{self, BufRead, BufReader, Read};

use super::block::{Block, Dialect, until_nul};
use super::header::{self, Extensions, Form};
use super::sparse::{self, Fault, Map, Span};
use super::{BLOCK, Header, TarError, padding};
use crate::limits;

/// Larger reads than this pass the buffer by.
const BUFFER: usize = 64 << 10;

/// Reads an archive entry by entry.
#[derive(Debug)]
pub struct TarReader<R> {
    source: BufReader<R>,
    /// Bytes taken from the source.
    offset: u64,
    /// Stored bytes of the present entry not yet read.
    stored: u64,
    /// Filler after them.
    padding: u64,
    sparse: Option<Map>,
    end_optional: bool,
    ended: bool,
}

/// An entry; reading it gives its content.
#[derive(Debug)]
pub struct Entry<'a, R> {
    reader: &'a mut TarReader<R>,
    header: Header,
}

impl<R: Read> TarReader<R> {
    /// Reads an uncompressed archive.
    pub fn new(source: R) -> Self {
        let source = BufReader::with_capacity(BUFFER, source);
        Self { source, offset: 0, stored: 0, padding: 0, sparse: None, end_optional: false, ended: false }
    }

    /// Takes the end of the source after a complete entry for the archive's end, as GNU tar does. Only for sources
    /// whose completeness is proven in another way, for example by their digest.
    #[must_use]
    pub fn end_optional(mut self) -> Self {
        self.end_optional = true;
        self
    }

    /// The next entry, or `None` at the archive's end. What is left of the entry before is skipped.
    #[expect(clippy::should_implement_trait, reason = "an entry borrows the reader, which Iterator cannot say")]
    pub fn next(&mut self) -> Result<Option<Entry<'_, R>>, TarError> {
        self.skip_content()?;
        if self.ended {
            return Ok(None);
        }
        let Some(header) = self.read_header()? else {
            self.ended = true;
            return Ok(None);
        };
        Ok(Some(Entry { reader: self, header }))
    }

    /// Reads the source to its very end, so that a hash around it has seen every byte, and gives it back.
    pub fn finish(mut self) -> Result<R, TarError> {
        while self.consume(u64::MAX)? > 0 {}
        Ok(self.source.into_inner())
    }

    fn read_header(&mut self) -> Result<Option<Header>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            let offset = self.offset;
            let Some(block) = self.read_block()? else {
                let complete = self.end_optional && extensions.is_empty();
                return if complete { Ok(None) } else { Err(TarError::Truncated { offset }) };
            };
            if block.is_zero() {
                return self.end(&extensions, offset);
            }
            if !block.checksum_matches() {
                return Err(TarError::Checksum { offset });
            }
            if !self.read_extension(&block, &mut extensions, offset)? {
                return self.start(&block, extensions, offset).map(Some);
            }
        }
    }

    /// One zero block was read: the second must follow, or nothing at all.
    fn end(&mut self, extensions: &Extensions, offset: u64) -> Result<Option<Header>, TarError> {
        if !extensions.is_empty() {
            return Err(TarError::Malformed { offset, what: "extension without an entry" });
        }
        match self.read_block()? {
            Some(block) if !block.is_zero() => {
                Err(TarError::Malformed { offset, what: "a single zero block between entries" })
            }
            _ => Ok(None),
        }
    }

    /// Takes an extension in. `false`: the block is an entry's own.
    fn read_extension(&mut self, block: &Block, all: &mut Extensions, offset: u64) -> Result<bool, TarError> {
        let malformed = |what| TarError::Malformed { offset, what };
        let flag = block.flag();
        let gnu_name = matches!(flag, b'L' | b'K');
        if !gnu_name && !matches!(flag, b'x' | b'X' | b'g') {
            return Ok(false);
        }
        let size = block.number(super::block::SIZE).and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or(malformed("size of an extension is no number"))?;
        let limit = limits::TAR_EXTENSION_BYTES as u64;
        if size > limit || all.bytes + size > limit {
            return Err(TarError::Limit { offset, what: "bytes of extended headers", limit });
        }
        all.bytes += size;
        let bytes = self.read_vec(size)?;
        match flag {
            b'g' => header::check_global(&bytes, offset)?,
            b'L' => all.long_name = Some(gnu_text(&bytes).map_err(malformed)?),
            b'K' => all.long_link = Some(gnu_text(&bytes).map_err(malformed)?),
            _ if all.pax.is_some() => return Err(malformed("two PAX headers for one entry")),
            _ => all.pax = Some(bytes),
        }
        Ok(true)
    }

    fn start(&mut self, block: &Block, extensions: Extensions, offset: u64) -> Result<Header, TarError> {
        let resolved = header::resolve(block, extensions, offset)?;
        let (mut stored, mut map) = (resolved.stored, None);
        let fault = |fault| match fault {
            Fault::TooMany => {
                TarError::Limit { offset, what: "regions of a sparse file", limit: limits::SPARSE_REGIONS as u64 }
            }
            Fault::Holes => {
                TarError::Limit { offset, what: "holes of a sparse file", limit: limits::SPARSE_HOLE_BYTES }
            }
            Fault::Bad(what) => TarError::Malformed { offset, what },
        };
        self.padding = padding(stored);
        match resolved.form {
            Form::Plain => {}
            Form::OldGnu => {
                let regions = self.read_old_map(block, offset)?;
                map = Some(Map::new(regions, resolved.header.size, stored).map_err(fault)?);
            }
            Form::Regions(regions) => map = Some(Map::new(regions, resolved.header.size, stored).map_err(fault)?),
            Form::InContent => {
                let mut lines = sparse::Lines::default();
                let regions = loop {
                    stored = stored
                        .checked_sub(BLOCK as u64)
                        .ok_or(TarError::Malformed { offset, what: "sparse map is longer than the content" })?;
                    let block = self.read_block()?.ok_or(TarError::Truncated { offset: self.offset })?;
                    if let Some(regions) = lines.feed(&block.0).map_err(fault)? {
                        break regions;
                    }
                };
                map = Some(Map::new(regions, resolved.header.size, stored).map_err(fault)?);
            }
        }
        self.stored = stored;
        self.sparse = map;
        Ok(resolved.header)
    }

    fn read_old_map(&mut self, block: &Block, offset: u64) -> Result<Vec<sparse::Region>, TarError> {
        let malformed = |what| TarError::Malformed { offset, what };
        if block.dialect() != Dialect::Gnu {
            return Err(malformed("sparse file outside a GNU archive"));
        }
        let mut regions = Vec::new();
        let mut more = sparse::old_gnu(block, true, &mut regions).map_err(malformed)?;
        while more {
            if regions.len() > limits::SPARSE_REGIONS {
                let limit = limits::SPARSE_REGIONS as u64;
                return Err(TarError::Limit { offset, what: "regions of a sparse file", limit });
            }
            let block = self.read_block()?.ok_or(TarError::Truncated { offset: self.offset })?;
            more = sparse::old_gnu(&block, false, &mut regions).map_err(malformed)?;
        }
        Ok(regions)
    }

    /// A block, or `None` at the very end of the source.
    fn read_block(&mut self) -> Result<Option<Block>, TarError> {
        let mut block = Block([0; BLOCK]);
        let mut filled = 0;
        while let Some(rest) = block.0.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Truncated { offset: self.offset }),
                Ok(read) => {
                    filled += read;
                    self.offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        Ok(Some(block))
    }

    /// An extension's content and its filler. `size` has been checked against its limit.
    fn read_vec(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut bytes = Vec::new();
        // `take` grows the vector by what is really there, not by what the header says.
        let read = (&mut self.source).take(size).read_to_end(&mut bytes).map_err(TarError::Read)?;
        self.offset += read as u64;
        if (read as u64) < size {
            return Err(TarError::Truncated { offset: self.offset });
        }
        self.skip(padding(size))?;
        Ok(bytes)
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        self.sparse = None;
        let rest = std::mem::take(&mut self.stored);
        let padding = std::mem::take(&mut self.padding);
        self.skip(rest)?;
        self.skip(padding)
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), TarError> {
        while bytes > 0 {
            let taken = self.consume(bytes)?;
            if taken == 0 {
                return Err(TarError::Truncated { offset: self.offset });
            }
            bytes -= taken;
        }
        Ok(())
    }

    /// Drops up to `bytes` of what the buffer holds; 0 at the end of the source.
    fn consume(&mut self, bytes: u64) -> Result<u64, TarError> {
        let available = loop {
            match self.source.fill_buf() {
                Ok(buffer) => break buffer.len(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        };
        let taken = usize::try_from(bytes).unwrap_or(usize::MAX).min(available);
        self.source.consume(taken);
        self.offset += taken as u64;
        Ok(taken as u64)
    }

    fn read_stored(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.stored).unwrap_or(usize::MAX).min(buffer.len());
        let Some(target) = buffer.get_mut(..wanted).filter(|target| !target.is_empty()) else { return Ok(0) };
        let read = self.source.read(target)?;
        if read == 0 {
            let what = format!("tar archive ends early, at byte {}", self.offset);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        self.offset += read as u64;
        self.stored -= read as u64;
        Ok(read)
    }
}

impl<R> Entry<'_, R> {
    /// What the entry is.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

impl<R: Read> Read for Entry<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(map) = self.reader.sparse.as_mut() else { return self.reader.read_stored(buffer) };
        let span = map.span();
        let (Span::Hole(bytes) | Span::Stored(bytes)) = span else { return Ok(0) };
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
        let target = buffer.get_mut(..wanted).unwrap_or_default();
        let read = if let Span::Hole(_) = span {
            target.fill(0);
            wanted
        } else {
            self.reader.read_stored(target)?
        };
        if let Some(map) = self.reader.sparse.as_mut() {
            map.advance(read as u64);
        }
        Ok(read)
    }
}

/// A GNU long name: text with a NUL at its end and nothing after.
fn gnu_text(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let text = until_nul(bytes);
    let after = bytes.get(text.len()..).unwrap_or_default();
    if text.is_empty() || after.iter().any(|&byte| byte != 0) {
        return Err("GNU long name");
    }
    Ok(text.to_vec())
}
