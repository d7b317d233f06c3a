//! Blobs: content under its digest, in `blobs/<algorithm>/<hex>` as the OCI image layout has it.
//!
//! Bytes are hashed while they are written to a temporary file, which is then renamed without replacing. On publication
//! a record keeps the file's fingerprint (size, times, inode); later a stat that agrees with it is proof enough, and
//! one that does not makes the blob be hashed again. A blob whose bytes do not match its name goes to `quarantine/`
//! and counts as absent: it is fetched or made anew, the build does not fail.

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use kuz_image::digest::Algorithm;
use kuz_image::{Digest, Hasher};

use crate::Store;
use crate::disk::{DiskError, Stat};
use crate::error::StoreError;
use crate::lock::{self, Mode};
use crate::records::Refs;
use crate::session::{Temp, random_hex};

/// The kind of fingerprint records.
pub(crate) const BLOB: &str = "blob";
/// How much is hashed at a time.
const CHUNK: usize = 256 << 10;

/// Why a blob was not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The content is not what was announced.
    #[error("content has digest {found}, not {expected} as announced")]
    Digest {
        /// What was announced.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The content is longer or shorter than announced.
    #[error("blob {digest} has {found} bytes, not {expected} as announced")]
    Size {
        /// Which.
        digest: Digest,
        /// What was announced.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The blob was damaged on disk; it has been put aside.
    #[error("blob {digest} in the store is damaged and was put aside")]
    Damaged {
        /// Which.
        digest: Digest,
    },
    /// A document over the limit of its kind.
    #[error("blob {digest} has {bytes} bytes, over the limit of {limit}")]
    TooLarge {
        /// Which.
        digest: Digest,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}

impl From<DiskError> for BlobError {
    fn from(error: DiskError) -> Self {
        Self::Store(error.into())
    }
}

/// What a stat said when the content was known to be good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    ino: u64,
}

impl From<&Stat> for Fingerprint {
    fn from(stat: &Stat) -> Self {
        Self { size: stat.size, mtime_ns: stat.mtime_ns, ctime_ns: stat.ctime_ns, ino: stat.ino }
    }
}

/// Where a blob lies.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// A blob that is being written, each write a call to the disk: give it large pieces. Dropped without a commit, it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    temp: Temp,
    algorithm: Algorithm,
    hasher: Hasher,
}

impl BlobWriter {
    /// The file itself, for another process to write into; then finish with [`Self::commit_digest`].
    pub fn file(&self) -> &File {
        &self.temp.file
    }

    /// Publishes what was written through [`Write`], if it has the `expected` digest. Gives digest and size.
    pub fn commit(self, expected: Option<&Digest>) -> Result<(Digest, u64), BlobError> {
        let size = self.hasher.bytes();
        let found = self.hasher.finish();
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(BlobError::Digest { expected: expected.clone(), found });
        }
        publish(self.temp, &found, size)?;
        Ok((found, size))
    }

    /// Publishes what somebody trusted wrote into [`Self::file`] and hashed on the way.
    pub fn commit_digest(self, digest: &Digest, size: u64) -> Result<(), BlobError> {
        publish(self.temp, digest, size)
    }

    /// Starts anew: for a download that begins again.
    pub fn restart(&mut self) -> io::Result<()> {
        use std::io::Seek as _;
        self.temp.file.set_len(0)?;
        self.temp.file.rewind()?;
        self.hasher = Hasher::new(self.algorithm);
        Ok(())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temp.write(bytes).map_err(io::Error::other)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn publish(mut temp: Temp, digest: &Digest, size: u64) -> Result<(), BlobError> {
    let store = temp.store.clone();
    let found = store.disk.stat_file(&temp.file, &temp.path)?.size;
    if found != size {
        return Err(BlobError::Size { digest: digest.clone(), expected: size, found });
    }
    let path = blob_path(digest);
    if digest.algorithm() == Algorithm::Sha512 {
        store.disk.mkdir("blobs/sha512")?;
    }
    if !temp.publish(&path)? {
        // Somebody was faster, or an old one is there. It stays if its fingerprint is right; else ours, which has
        // just been hashed, takes its place.
        let _lock = lock::acquire(&store.disk, lock::BLOBS, Mode::Alone, &store.options)?;
        if let Some(stat) = store.disk.stat(&path)? {
            if store.fingerprint_agrees(digest, &stat)? {
                return Ok(());
            }
            // A file is replaced in one step, so that nobody finds nothing; it may be a good one whose fingerprint is
            // just being written.
            if stat.kind == FileType::Directory {
                store.set_aside(digest)?;
            }
        }
        temp.replace(&path)?;
    }
    // Only now: renaming changes the inode's time.
    let stat = store.disk.stat_file(&temp.file, &path)?;
    store.record_fingerprint(digest, &stat)?;
    Ok(())
}

/// A blob that is checked while it is read: the end of the file is an error if the bytes were not the right ones.
#[derive(Debug)]
pub struct BlobReader {
    store: Store,
    file: File,
    ino: u64,
    size: u64,
    digest: Digest,
    hasher: Option<Hasher>,
}

impl BlobReader {
    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(buffer.get(..count).unwrap_or_default());
            }
        } else if !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
            && hasher.finish() != self.digest
        {
            self.store.quarantine(&self.digest, self.ino).map_err(io::Error::other)?;
            let damaged = BlobError::Damaged { digest: self.digest.clone() };
            return Err(io::Error::new(io::ErrorKind::InvalidData, damaged));
        }
        Ok(count)
    }
}

impl Store {
    /// Begins a blob (SHA-256).
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        self.blob_writer_for(Algorithm::Sha256)
    }

    /// Begins a blob whose digest will be of this algorithm.
    pub fn blob_writer_for(&self, algorithm: Algorithm) -> Result<BlobWriter, StoreError> {
        Ok(BlobWriter { temp: self.temp(0o400)?, algorithm, hasher: Hasher::new(algorithm) })
    }

    /// Stores these bytes.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let digest = Digest::of(bytes);
        if self.has_blob(&digest)? {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer.temp.write(bytes)?;
        writer.hasher.update(bytes);
        writer.commit(Some(&digest)).map(|(digest, _)| digest)
    }

    /// Whether the store has this blob undamaged, by its fingerprint; hashes it if that disagrees.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        let Some(stat) = self.disk.stat(&blob_path(digest))? else { return Ok(false) };
        if self.fingerprint_agrees(digest, &stat)? {
            return Ok(true);
        }
        Ok(self.open_blob(digest)?.is_some())
    }

    /// A blob's size, if it is there; says nothing about its content.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.disk.stat(&blob_path(digest))?.map(|stat| stat.size))
    }

    pub(crate) fn blob_exists(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.blob_size(digest)?.is_some())
    }

    /// Opens a blob whose fingerprint agrees, or that was hashed just now. `None` if it is absent or damaged.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        let Some((file, stat)) = self.open_entry(digest)? else { return Ok(None) };
        if self.fingerprint_agrees(digest, &stat)? {
            return Ok(Some(file));
        }
        let good = self.hash_file(&file, digest)?;
        if !good {
            self.quarantine(digest, stat.ino)?;
            return Ok(None);
        }
        self.record_fingerprint(digest, &stat)?;
        Ok(Some(file))
    }

    /// Opens a blob to be read once from start to end; damage that its fingerprint did not show is an error at the end.
    pub fn blob_reader(&self, digest: &Digest) -> Result<Option<BlobReader>, StoreError> {
        let Some(file) = self.open_blob(digest)? else { return Ok(None) };
        let stat = self.disk.stat_file(&file, &blob_path(digest))?;
        let hasher = Some(Hasher::new(digest.algorithm()));
        let (store, digest) = (self.clone(), digest.clone());
        Ok(Some(BlobReader { store, file, ino: stat.ino, size: stat.size, digest, hasher }))
    }

    /// A small blob's bytes, hashed each time. `None` if it is absent or damaged.
    pub fn read_blob(&self, digest: &Digest, limit: usize) -> Result<Option<Vec<u8>>, BlobError> {
        let Some((file, stat)) = self.open_entry(digest)? else { return Ok(None) };
        let limit = limit as u64;
        if stat.size > limit {
            return Err(BlobError::TooLarge { digest: digest.clone(), bytes: stat.size, limit });
        }
        let bytes = self.disk.read_file(&file, &blob_path(digest), stat.size, limit)?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        if hasher.finish() == *digest {
            return Ok(Some(bytes));
        }
        self.quarantine(digest, stat.ino)?;
        Ok(None)
    }

    /// Opens what lies under a digest's name. Something else than a file there is no blob and is put aside.
    fn open_entry(&self, digest: &Digest) -> Result<Option<(File, Stat)>, StoreError> {
        let path = blob_path(digest);
        match self.disk.open_read(&path) {
            Ok(entry) => Ok(entry),
            Err(error) => match self.disk.stat(&path)? {
                Some(stat) if stat.kind != FileType::RegularFile => {
                    self.quarantine(digest, stat.ino)?;
                    Ok(None)
                }
                _ => Err(error.into()),
            },
        }
    }

    fn fingerprint_agrees(&self, digest: &Digest, stat: &Stat) -> Result<bool, StoreError> {
        let known: Option<Fingerprint> = self.get_json(BLOB, &digest.to_string())?;
        Ok(known == Some(Fingerprint::from(stat)))
    }

    pub(crate) fn record_fingerprint(&self, digest: &Digest, stat: &Stat) -> Result<(), StoreError> {
        let refs = Refs { blobs: vec![digest.clone()], ..Refs::default() };
        self.put_json(BLOB, &digest.to_string(), &Fingerprint::from(stat), &refs)
    }

    /// Hashes a whole file and leaves it at its start.
    pub(crate) fn hash_file(&self, mut file: &File, digest: &Digest) -> Result<bool, DiskError> {
        use std::io::Seek as _;
        let path = blob_path(digest);
        let fail = |error| DiskError::new("read", &path, error);
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; CHUNK];
        loop {
            match self.disk.read_some(file, &path, &mut buffer)? {
                0 => break,
                count => hasher.update(buffer.get(..count).unwrap_or_default()),
            }
        }
        file.rewind().map_err(fail)?;
        Ok(hasher.finish() == *digest)
    }

    /// Puts a damaged blob aside, unless it has been replaced in the meantime.
    pub(crate) fn quarantine(&self, digest: &Digest, ino: u64) -> Result<(), StoreError> {
        let path = blob_path(digest);
        let _lock = lock::acquire(&self.disk, lock::BLOBS, Mode::Alone, &self.options)?;
        if self.disk.stat(&path)?.is_some_and(|stat| stat.ino == ino) {
            self.set_aside(digest)?;
        }
        Ok(())
    }

    /// Moves what lies under a digest's name to the quarantine; the caller holds the blobs' lock.
    fn set_aside(&self, digest: &Digest) -> Result<(), StoreError> {
        self.forget(BLOB, &digest.to_string())?;
        let name = format!("quarantine/{}-{}", digest.hex(), random_hex::<4>()?);
        Ok(self.disk.rename_over(&blob_path(digest), &name)?)
    }
}
