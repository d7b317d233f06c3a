//! The 512-byte header block: fields in and out, numbers, checksums.
//!
//! Bytes in, fields out (and back); knows where things stand in a block, not what they mean together.
//!
//! ```text
//!   0 name 100 | 100 mode 8 | 108 uid 8 | 116 gid 8 | 124 size 12 | 136 mtime 12 | 148 checksum 8 | 156 type 1
//! 157 link 100 | 257 magic+version 8 | 265 uname 32 | 297 gname 32 | 329 major 8 | 337 minor 8 | 345 prefix 155
//! old GNU instead of the prefix: 386 four sparse regions of 24 | 482 more follow 1 | 483 real size 12
//! ```

use super::BLOCK;

/// A header block as it stands in the archive.
pub(super) struct Block(pub(super) [u8; BLOCK]);

pub(super) const MODE: (usize, usize) = (100, 8);
pub(super) const UID: (usize, usize) = (108, 8);
pub(super) const GID: (usize, usize) = (116, 8);
pub(super) const SIZE: (usize, usize) = (124, 12);
pub(super) const MTIME: (usize, usize) = (136, 12);
pub(super) const MAJOR: (usize, usize) = (329, 8);
pub(super) const MINOR: (usize, usize) = (337, 8);
pub(super) const GNU_REAL_SIZE: (usize, usize) = (483, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const TYPE: usize = 156;
const MAGIC: (usize, usize) = (257, 8);

/// Which dialect a block is in; decides what its last bytes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// No magic: no prefix, no devices.
    V7,
    /// POSIX, with a prefix.
    Ustar,
    /// GNU, with sparse regions and times where POSIX has the prefix.
    Gnu,
}

impl Block {
    pub(super) fn field(&self, (at, length): (usize, usize)) -> &[u8] {
        self.0.get(at..at + length).unwrap_or_default()
    }

    /// A field up to its first NUL.
    fn text(&self, field: (usize, usize)) -> &[u8] {
        until_nul(self.field(field))
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0 == [0; BLOCK]
    }

    pub(super) fn flag(&self) -> u8 {
        self.0[TYPE]
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self.field(MAGIC) {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar\0") => Dialect::Ustar,
            _ => Dialect::V7,
        }
    }

    /// Prefix and name joined.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text((0, 100));
        let prefix = if self.dialect() == Dialect::Ustar { self.text((345, 155)) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.text((157, 100)).to_vec()
    }

    pub(super) fn number(&self, field: (usize, usize)) -> Option<i64> {
        parse_number(self.field(field))
    }

    /// Old programs summed signed bytes, so both sums are right.
    pub(super) fn checksum_matches(&self) -> bool {
        let Some(said) = parse_number(self.field(CHECKSUM)) else { return false };
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, &byte) in self.0.iter().enumerate() {
            let byte = if (CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1).contains(&at) { b' ' } else { byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        said == unsigned || said == signed
    }

    /// An empty ustar block of this type.
    pub(super) fn new(flag: u8) -> Self {
        let mut block = Self([0; BLOCK]);
        block.put((TYPE, 1), &[flag]);
        block.put(MAGIC, b"ustar\x0000");
        block
    }

    pub(super) fn put(&mut self, (at, length): (usize, usize), bytes: &[u8]) {
        for (slot, &byte) in self.0.iter_mut().skip(at).take(length).zip(bytes) {
            *slot = byte;
        }
    }

    /// Octal digits with leading zeros and a NUL. The caller has checked that it fits.
    pub(super) fn put_number(&mut self, field: (usize, usize), number: u64) {
        self.put(field, format!("{number:0width$o}", width = field.1 - 1).as_bytes());
    }

    pub(super) fn seal(&mut self) {
        self.put(CHECKSUM, &[b' '; 8]);
        let sum: u64 = self.0.iter().map(|&byte| u64::from(byte)).sum();
        self.put(CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
    }
}

/// The largest number that a field's octal digits hold.
pub(super) fn octal_max(field: (usize, usize)) -> u64 {
    (1 << (3 * (field.1 - 1))) - 1
}

/// A name that a ustar block holds as prefix and name, or nothing.
pub(super) fn split_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    // The trailing slash of a directory belongs to the name.
    let end = path.len() - usize::from(path.ends_with(b"/"));
    let earliest = path.len().checked_sub(101)?;
    let at = (earliest.max(1)..end.min(156)).find(|&at| path.get(at) == Some(&b'/'))?;
    Some((path.get(..at)?, path.get(at + 1..)?))
}

pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Octal digits (spaces before, space or NUL after), or GNU's base 256 where the first bit is set. Empty is 0.
pub(super) fn parse_number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(&first) if first & 0x80 != 0 => parse_base_256(field, first),
        _ => parse_octal(field),
    }
}

fn parse_base_256(field: &[u8], first: u8) -> Option<i64> {
    // 0x80 starts a positive number, 0xff a negative one (two's complement); nothing else is in use.
    let start: i64 = match first {
        0x80 => 0,
        0xff => -1,
        _ => return None,
    };
    field.iter().skip(1).try_fold(start, |number, &byte| number.checked_mul(256)?.checked_add(i64::from(byte)))
}

fn parse_octal(field: &[u8]) -> Option<i64> {
    let digits = field.trim_ascii_start();
    let length = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
    let (digits, after) = digits.split_at(length);
    // Something after the end is junk that other programs may read as digits.
    if after.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0_i64, |number, &byte| match byte {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, want) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644\0\0\0\0\0", Some(0o644)),
            (b"00000000644", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\xc0\0\0\0\0\0\0\x01", None),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"644\x00777", None),
            (b"6 4     ", None),
        ] {
            assert_eq!(parse_number(field), want, "{field:?}");
        }
    }

    #[test]
    fn names_are_split_where_both_parts_fit() {
        let fits = [vec![b'a'; 155], b"/".to_vec(), vec![b'b'; 100]].concat();
        assert_eq!(split_name(&fits).map(|(prefix, name)| (prefix.len(), name.len())), Some((155, 100)));
        let dir = [vec![b'a'; 80], b"/".to_vec(), vec![b'b'; 99], b"/".to_vec()].concat();
        assert_eq!(split_name(&dir).map(|(prefix, name)| (prefix.len(), name.len())), Some((80, 100)));
        assert_eq!(split_name(&[b'a'; 101]), None);
        assert_eq!(split_name(&[vec![b'a'; 100], b"/".to_vec()].concat()), None);
        assert_eq!(split_name(&[b"/".to_vec(), vec![b'a'; 100]].concat()), None);
        assert_eq!(split_name(&[vec![b'a'; 156], b"/b".to_vec()].concat()), None);
    }
}
