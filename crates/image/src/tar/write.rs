//! Writing: entries to the same bytes every time.
//!
//! Plain ustar where everything fits, a PAX header in front where it does not (long or non-ASCII names, large or
//! negative numbers, extended attributes). No names of owners, no times below a second, nothing of this machine.
//! Output leaves in chunks of [`BUFFER`] bytes, so that a hash or a file under it is called rarely; what is still in
//! the buffer when the writer is dropped without [`TarWriter::finish`] is lost.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use super::block::{self, Block, octal_max, split_name};
use super::{BLOCK, Header, Kind, TarError, padding, pax};

/// How much is collected before it is written.
const BUFFER: usize = 128 << 10;

/// Writes an archive entry by entry.
#[derive(Debug)]
pub struct TarWriter<W> {
    sink: W,
    buffer: Box<[u8]>,
    filled: usize,
}

impl<W: Write> TarWriter<W> {
    /// Writes to `sink`.
    pub fn new(sink: W) -> Self {
        Self { sink, buffer: vec![0; BUFFER].into_boxed_slice(), filled: 0 }
    }

    /// Writes an entry. `content` must have exactly `header.size` bytes for a file; for other kinds neither is looked
    /// at.
    ///
    /// After an error the archive is unusable.
    pub fn append(&mut self, header: &Header, content: &mut dyn Read) -> Result<(), TarError> {
        let size = if header.kind == Kind::File { header.size } else { 0 };
        let (block, records) = encode(header, size)?;
        if !records.is_empty() {
            let bytes = pax::encode(&records);
            self.put(&pax_block(&header.path, bytes.len() as u64).0).map_err(TarError::Write)?;
            self.put(&bytes).map_err(TarError::Write)?;
            self.fill(bytes.len() as u64).map_err(TarError::Write)?;
        }
        self.put(&block.0).map_err(TarError::Write)?;
        if header.kind == Kind::File {
            self.copy(header, content)?;
            self.fill(size).map_err(TarError::Write)?;
        }
        Ok(())
    }

    /// Writes the end of the archive and gives the sink back, flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(&[0; 2 * BLOCK])?;
        self.drain()?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    /// Reads straight into the buffer: one copy on the way from source to sink.
    fn copy(&mut self, header: &Header, content: &mut dyn Read) -> Result<(), TarError> {
        let changed = |longer| TarError::SizeChanged { path: header.path.clone(), expected: header.size, longer };
        let failed = |source| TarError::Content { path: header.path.clone(), source };
        let mut left = header.size;
        while left > 0 {
            if self.filled == self.buffer.len() {
                self.drain().map_err(TarError::Write)?;
            }
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(room.len());
            match content.read(room.get_mut(..wanted).unwrap_or_default()) {
                Ok(0) => return Err(changed(false)),
                Ok(read) => {
                    self.filled += read;
                    left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        loop {
            return match content.read(&mut [0]) {
                Ok(0) => Ok(()),
                Ok(_) => Err(changed(true)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(failed(error)),
            };
        }
    }

    fn fill(&mut self, size: u64) -> io::Result<()> {
        let zeros = [0; BLOCK];
        let length = usize::try_from(padding(size)).unwrap_or_default();
        self.put(zeros.get(..length).unwrap_or_default())
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.filled == self.buffer.len() {
                self.drain()?;
            }
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            let (now, later) = bytes.split_at(room.len().min(bytes.len()));
            if let Some(target) = room.get_mut(..now.len()) {
                target.copy_from_slice(now);
            }
            self.filled += now.len();
            bytes = later;
        }
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        self.sink.write_all(self.buffer.get(..self.filled).unwrap_or_default())?;
        self.filled = 0;
        Ok(())
    }
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// The entry's block, and the records for what does not fit in it.
fn encode(header: &Header, size: u64) -> Result<(Block, Records), TarError> {
    let path = &header.path;
    let mut records = Records::new();
    for (name, value) in &header.xattrs {
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
            return Err(TarError::refused(path, "an extended attribute's name cannot be written"));
        }
        records.insert([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone());
    }
    let (flag, device) = match header.kind {
        Kind::File => (b'0', None),
        Kind::Hardlink => (b'1', None),
        Kind::Symlink => (b'2', None),
        Kind::Char { major, minor } => (b'3', Some((major, minor))),
        Kind::Block { major, minor } => (b'4', Some((major, minor))),
        Kind::Dir => (b'5', None),
        Kind::Fifo => (b'6', None),
    };
    let mut block = Block::new(flag);
    put_name(&mut block, &mut records, header)?;
    put_link(&mut block, &mut records, header)?;
    block.put_number(block::MODE, u64::from(header.mode & 0o7777));
    for (field, key, number) in [
        (block::UID, "uid", u64::from(header.uid)),
        (block::GID, "gid", u64::from(header.gid)),
        (block::SIZE, "size", size),
    ] {
        let fits = number <= octal_max(field);
        block.put_number(field, if fits { number } else { 0 });
        if !fits {
            records.insert(key.into(), number.to_string().into_bytes());
        }
    }
    let fitting = u64::try_from(header.mtime).ok().filter(|&mtime| mtime <= octal_max(block::MTIME));
    block.put_number(block::MTIME, fitting.unwrap_or_default());
    if fitting.is_none() {
        records.insert(b"mtime".to_vec(), header.mtime.to_string().into_bytes());
    }
    if let Some((major, minor)) = device {
        for (field, number) in [(block::MAJOR, u64::from(major)), (block::MINOR, u64::from(minor))] {
            if number > octal_max(field) {
                return Err(TarError::refused(path, "a device number is too large to be written"));
            }
            block.put_number(field, number);
        }
    }
    block.seal();
    Ok((block, records))
}

fn put_name(block: &mut Block, records: &mut Records, header: &Header) -> Result<(), TarError> {
    let mut path = header.path.clone();
    if path.is_empty() && header.kind == Kind::Dir {
        path.push(b'.');
    }
    if path.is_empty() || path.contains(&0) {
        return Err(TarError::refused(&path, "its name is empty or holds a NUL"));
    }
    if header.kind == Kind::Dir && !path.ends_with(b"/") {
        path.push(b'/');
    }
    if let Some((prefix, name)) = split_name(&path).filter(|_| path.is_ascii()) {
        block.put((0, 100), name);
        block.put((345, 155), prefix);
    } else {
        block.put((0, 100), &ascii(&path));
        records.insert(b"path".to_vec(), path);
    }
    Ok(())
}

fn put_link(block: &mut Block, records: &mut Records, header: &Header) -> Result<(), TarError> {
    if !matches!(header.kind, Kind::Symlink | Kind::Hardlink) {
        return Ok(());
    }
    if header.link.is_empty() || header.link.contains(&0) {
        return Err(TarError::refused(&header.path, "its link target is empty or holds a NUL"));
    }
    if header.link.len() <= 100 && header.link.is_ascii() {
        block.put((157, 100), &header.link);
    } else {
        block.put((157, 100), &ascii(&header.link));
        records.insert(b"linkpath".to_vec(), header.link.clone());
    }
    Ok(())
}

/// What programs without PAX see: the name's first 100 bytes, those that are ASCII.
fn ascii(name: &[u8]) -> Vec<u8> {
    let mut name: Vec<u8> = name.iter().copied().filter(u8::is_ascii).take(100).collect();
    if name.is_empty() {
        name.push(b'_');
    }
    name
}

fn pax_block(path: &[u8], size: u64) -> Block {
    let mut block = Block::new(b'x');
    let last = path.rsplit(|&byte| byte == b'/').find(|name| !name.is_empty()).unwrap_or_default();
    let mut name = b"PaxHeaders.0/".to_vec();
    name.extend(ascii(last).into_iter().take(80));
    block.put((0, 100), &name);
    block.put_number(block::MODE, 0o644);
    for field in [block::UID, block::GID, block::MTIME] {
        block.put_number(field, 0);
    }
    block.put_number(block::SIZE, size);
    block.seal();
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(header: &Header, content: &[u8]) -> Result<Vec<u8>, TarError> {
        let mut writer = TarWriter::new(Vec::new());
        writer.append(header, &mut &*content)?;
        writer.finish().map_err(TarError::Write)
    }

    #[test]
    fn content_must_have_the_length_that_was_said() {
        let header = Header { path: b"a".to_vec(), size: 3, ..Header::default() };
        assert!(write(&header, b"abc").is_ok());
        for (content, longer) in [(&b"ab"[..], false), (b"abcd", true)] {
            let Err(TarError::SizeChanged { longer: got, .. }) = write(&header, content) else { panic!() };
            assert_eq!(got, longer);
        }
    }

    #[test]
    fn pax_stands_only_where_it_is_needed() {
        let plain = Header { path: b"a/b".to_vec(), mode: 0o644, mtime: 1, ..Header::default() };
        let with = |change: &dyn Fn(&mut Header)| {
            let mut header = plain.clone();
            change(&mut header);
            write(&header, b"").unwrap().len()
        };
        let bare = 3 * BLOCK;
        assert_eq!(with(&|_| ()), bare);
        assert_eq!(with(&|header| header.path = [vec![b'a'; 150], b"/".to_vec(), vec![b'b'; 100]].concat()), bare);
        assert_eq!(with(&|header| header.uid = 0o7_777_777), bare);
        let extended = bare + 2 * BLOCK;
        assert_eq!(with(&|header| header.path = vec![b'a'; 101]), extended);
        assert_eq!(with(&|header| header.path = "ä".into()), extended);
        assert_eq!(with(&|header| header.uid = 0o10_000_000), extended);
        assert_eq!(with(&|header| header.mtime = -1), extended);
        assert_eq!(with(&|header| drop(header.xattrs.insert(b"user.a".to_vec(), vec![]))), extended);
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let header = |path: &[u8], kind| Header { path: path.to_vec(), kind, ..Header::default() };
        let mut odd = header(b"a", Kind::File);
        odd.xattrs.insert(b"a=b".to_vec(), vec![]);
        for bad in [header(b"", Kind::File), header(b"a\0", Kind::File), header(b"a", Kind::Symlink), odd] {
            assert!(matches!(write(&bad, b""), Err(TarError::Refused { .. })), "{bad:?}");
        }
    }
}
