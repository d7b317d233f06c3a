//! Sparse files: where the stored bytes of an entry belong, and zeros between them.
//!
//! Maps in any of the four forms (old GNU, PAX 0.0, 0.1, 1.0) go in, a checked [`Map`] comes out. A map that overlaps,
//! leaves the file or does not cover exactly the stored bytes is refused.

use super::BLOCK;
use super::block::{Block, parse_number};
use super::pax;
use crate::limits;

/// Stored bytes and where they belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The regions of a file and its real length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    regions: Vec<Region>,
    size: u64,
    /// The region that the position is in or before.
    at: usize,
    position: u64,
}

/// What comes next in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// Zeros.
    Hole(u64),
    /// Stored bytes.
    Stored(u64),
    /// Nothing.
    End,
}

/// More regions than [`limits::SPARSE_REGIONS`], or another fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    TooMany,
    Holes,
    Bad(&'static str),
}

impl Map {
    /// Checks the regions against the real length and the count of stored bytes.
    pub(super) fn new(regions: Vec<Region>, size: u64, stored: u64) -> Result<Self, Fault> {
        if regions.len() > limits::SPARSE_REGIONS {
            return Err(Fault::TooMany);
        }
        let mut end = 0_u64;
        let mut sum = 0_u64;
        for region in &regions {
            if region.offset < end {
                return Err(Fault::Bad("sparse regions overlap"));
            }
            end = region.offset.checked_add(region.length).ok_or(Fault::Bad("sparse region is too large"))?;
            sum += region.length;
        }
        if end > size {
            return Err(Fault::Bad("sparse region lies outside the file"));
        }
        if sum != stored {
            return Err(Fault::Bad("sparse map and stored size disagree"));
        }
        if size - sum > limits::SPARSE_HOLE_BYTES {
            return Err(Fault::Holes);
        }
        Ok(Self { regions, size, at: 0, position: 0 })
    }

    pub(super) fn span(&mut self) -> Span {
        while self.regions.get(self.at).is_some_and(|region| region.offset + region.length <= self.position) {
            self.at += 1;
        }
        match self.regions.get(self.at) {
            Some(region) if region.offset <= self.position => {
                Span::Stored(region.offset + region.length - self.position)
            }
            Some(region) => Span::Hole(region.offset - self.position),
            None if self.position < self.size => Span::Hole(self.size - self.position),
            None => Span::End,
        }
    }

    pub(super) fn advance(&mut self, bytes: u64) {
        self.position += bytes;
    }
}

/// The four regions of an old GNU header, or the 21 of a block that continues it. `true`: the map goes on.
pub(super) fn old_gnu(block: &Block, first: bool, regions: &mut Vec<Region>) -> Result<bool, &'static str> {
    let (start, count, more) = if first { (386, 4, 482) } else { (0, 21, 504) };
    let more = block.field((more, 1)).iter().any(|&byte| byte != 0);
    for index in 0..count {
        let field = block.field((start + index * 24, 24));
        let (offset, length) = field.split_at(field.len() / 2);
        if length.first() == Some(&0) {
            // Programs disagree on whether an unfinished map goes on.
            return if more { Err("sparse map has a gap") } else { Ok(false) };
        }
        let parse = |bytes| parse_number(bytes).and_then(|number| u64::try_from(number).ok()).ok_or("sparse map");
        regions.push(Region { offset: parse(offset)?, length: parse(length)? });
    }
    Ok(more)
}

/// PAX 0.1: `offset,length,…`.
pub(super) fn comma_list(value: &[u8]) -> Option<Vec<Region>> {
    if value.is_empty() {
        return Some(Vec::new());
    }
    let numbers: Vec<u64> = value.split(|&byte| byte == b',').map(pax::number).collect::<Option<_>>()?;
    pairs(&numbers)
}

pub(super) fn pairs(numbers: &[u64]) -> Option<Vec<Region>> {
    numbers
        .chunks(2)
        .map(|pair| match pair {
            &[offset, length] => Some(Region { offset, length }),
            _ => None,
        })
        .collect()
}

/// PAX 1.0: decimal lines at the start of the content, `count`, then offset and length of each; padded to a block.
#[derive(Debug, Default)]
pub(super) struct Lines {
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl Lines {
    /// Takes one block of content in; the regions, once all are there.
    pub(super) fn feed(&mut self, block: &[u8; BLOCK]) -> Result<Option<Vec<Region>>, Fault> {
        const BAD: Fault = Fault::Bad("sparse map in the content");
        for &byte in block {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() > 20 {
                    return Err(BAD);
                }
                continue;
            }
            self.numbers.push(pax::number(&self.line).ok_or(BAD)?);
            self.line.clear();
            if self.complete()? {
                return pairs(self.numbers.get(1..).unwrap_or_default()).map(Some).ok_or(BAD);
            }
        }
        Ok(None)
    }

    fn complete(&self) -> Result<bool, Fault> {
        let Some(&count) = self.numbers.first() else { return Ok(false) };
        let count = usize::try_from(count).ok().filter(|&count| count <= limits::SPARSE_REGIONS);
        Ok(self.numbers.len() == count.ok_or(Fault::TooMany)? * 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(offset: u64, length: u64) -> Region {
        Region { offset, length }
    }

    #[test]
    fn maps_must_fit_the_file_and_the_stored_bytes() {
        for (regions, size, stored, ok) in [
            (vec![], 0, 0, true),
            (vec![], 10, 0, true),
            (vec![region(2, 3), region(5, 0), region(8, 2)], 10, 5, true),
            (vec![region(2, 3)], 10, 4, false),
            (vec![region(2, 3), region(4, 1)], 10, 4, false),
            (vec![region(8, 3)], 10, 3, false),
            (vec![region(u64::MAX, 2)], 10, 2, false),
            (vec![], limits::SPARSE_HOLE_BYTES + 1, 0, false),
        ] {
            assert_eq!(Map::new(regions.clone(), size, stored).is_ok(), ok, "{regions:?}");
        }
        let many = vec![region(0, 0); limits::SPARSE_REGIONS + 1];
        assert_eq!(Map::new(many, 0, 0), Err(Fault::TooMany));
    }

    #[test]
    fn spans_alternate() {
        let mut map = Map::new(vec![region(2, 3), region(5, 0), region(8, 1)], 10, 4).unwrap();
        let mut spans = Vec::new();
        loop {
            let span = map.span();
            spans.push(span);
            match span {
                Span::Hole(bytes) | Span::Stored(bytes) => map.advance(bytes),
                Span::End => break,
            }
        }
        let want = [Span::Hole(2), Span::Stored(3), Span::Hole(3), Span::Stored(1), Span::Hole(1), Span::End];
        assert_eq!(spans, want);
    }
}
