//! Compressed streams: which kind, readers for all, writers for gzip and zstd.
//!
//! Readers decompress with bounded memory and take a stream to its end: several members or frames in a row are one
//! content, anything after them is an error. How much comes out is for the caller to bound. Writers give the same bytes
//! for any number of threads.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use libdeflater::{CompressionLvl, Compressor};
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::manifest::media_type;

/// What [`gzip`] compresses at a time, each piece a member of its own: 0.2 % larger, but done on all processors.
const MEMBER: usize = 1 << 20;
/// Buffer before a decoder.
const BUFFER: usize = 64 << 10;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// For `ADD` only.
    Bzip2,
    /// For `ADD` only.
    Xz,
}

impl Compression {
    /// The OCI media type of a layer that is compressed so; `None` where there is none.
    pub fn layer_media_type(self) -> Option<&'static str> {
        match self {
            Self::None => Some(media_type::LAYER),
            Self::Gzip => Some(media_type::LAYER_GZIP),
            Self::Zstd => Some(media_type::LAYER_ZSTD),
            Self::Bzip2 | Self::Xz => None,
        }
    }
}

/// The kind by a stream's first bytes; ten are enough.
pub fn detect(first_bytes: &[u8]) -> Compression {
    match first_bytes {
        [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
        // A frame, or one to be skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        // The magic alone could start a file name in a tar, so the first block's or the end's is looked at too.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Compression::Bzip2,
        _ => Compression::None,
    }
}

/// The kind that a layer's media type says; `None` for types that are no layer.
pub fn of_media_type(kind: &str) -> Option<Compression> {
    match kind {
        media_type::LAYER | media_type::DOCKER_LAYER | media_type::FOREIGN_LAYER => Some(Compression::None),
        media_type::LAYER_GZIP
        | media_type::DOCKER_LAYER_GZIP
        | media_type::FOREIGN_LAYER_GZIP
        | media_type::DOCKER_FOREIGN_LAYER_GZIP => Some(Compression::Gzip),
        media_type::LAYER_ZSTD | media_type::DOCKER_LAYER_ZSTD | media_type::FOREIGN_LAYER_ZSTD => {
            Some(Compression::Zstd)
        }
        _ => None,
    }
}

/// A reader of the uncompressed bytes. A truncated stream and bytes after it are errors.
pub fn reader<'a>(compression: Compression, source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER, source))),
        Compression::Zstd => {
            let mut decoder = ::zstd::Decoder::with_buffer(BufReader::with_capacity(BUFFER, source))?;
            decoder.window_log_max(limits::ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(BufReader::with_capacity(BUFFER, source))),
        Compression::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(limits::XZ_MEMORY_BYTES, flags)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(BufReader::with_capacity(BUFFER, source), stream))
        }
    })
}

/// Compresses to gzip members of 1 MiB each, on `threads` threads; the bytes depend on content and level alone.
/// Memory: about 4 MiB a thread. `level` is libdeflate's, 0 to 12.
pub fn gzip(input: &mut dyn Read, out: &mut dyn Write, level: i32, threads: usize) -> io::Result<()> {
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("gzip level {level} is not 0 to 12"));
    let level = CompressionLvl::new(level).map_err(invalid)?;
    if threads <= 1 { gzip_here(input, out, level) } else { gzip_parallel(input, out, level, threads) }
}

fn gzip_here(input: &mut dyn Read, out: &mut dyn Write, level: CompressionLvl) -> io::Result<()> {
    let mut compressor = Compressor::new(level);
    let mut piece = Vec::new();
    let mut first = true;
    loop {
        fill(input, &mut piece)?;
        // Empty content is one empty member; otherwise nothing follows a full last piece.
        if piece.is_empty() && !first {
            return out.flush();
        }
        out.write_all(&member(&mut compressor, &piece)?)?;
        if piece.len() < MEMBER {
            return out.flush();
        }
        first = false;
    }
}

type Reply = io::Result<Vec<u8>>;
type Job = (Vec<u8>, SyncSender<Reply>);

/// This thread reads and writes, in order; the others compress.
fn gzip_parallel(input: &mut dyn Read, out: &mut dyn Write, level: CompressionLvl, threads: usize) -> io::Result<()> {
    let (jobs, waiting) = sync_channel::<Job>(threads);
    let waiting = Mutex::new(waiting);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&waiting, level));
        }
        let result = feed(input, out, &jobs, threads);
        // The workers end when nobody can send any more.
        drop(jobs);
        result
    })
}

fn work(waiting: &Mutex<Receiver<Job>>, level: CompressionLvl) {
    let mut compressor = Compressor::new(level);
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((piece, reply)) = job else { return };
        // Nobody waits any more after an error elsewhere: not of interest here.
        let _ = reply.send(member(&mut compressor, &piece));
    }
}

fn feed(input: &mut dyn Read, out: &mut dyn Write, jobs: &SyncSender<Job>, threads: usize) -> io::Result<()> {
    let gone = || io::Error::other("a compression thread ended early");
    let mut pending: VecDeque<Receiver<Reply>> = VecDeque::new();
    let mut first = true;
    let mut more = true;
    while more || !pending.is_empty() {
        if more {
            let mut piece = Vec::new();
            fill(input, &mut piece)?;
            more = piece.len() == MEMBER;
            if first || !piece.is_empty() {
                let (reply, answer) = sync_channel(1);
                jobs.send((piece, reply)).map_err(|_| gone())?;
                pending.push_back(answer);
            }
            first = false;
        }
        if (pending.len() >= 2 * threads || !more)
            && let Some(answer) = pending.pop_front()
        {
            out.write_all(&answer.recv().map_err(|_| gone())??)?;
        }
    }
    out.flush()
}

/// Replaces `piece` by the next [`MEMBER`] bytes, fewer only at the end: members must not depend on how the source
/// hands its bytes out.
fn fill(input: &mut dyn Read, piece: &mut Vec<u8>) -> io::Result<()> {
    piece.clear();
    piece.reserve_exact(MEMBER);
    input.take(MEMBER as u64).read_to_end(piece)?;
    Ok(())
}

fn member(compressor: &mut Compressor, piece: &[u8]) -> Reply {
    let mut member = vec![0; compressor.gzip_compress_bound(piece.len())];
    let failed = |error| io::Error::other(format!("compress a gzip member: {error}"));
    let length = compressor.gzip_compress(piece, &mut member).map_err(failed)?;
    member.truncate(length);
    Ok(member)
}

/// Compresses to one zstd frame on `threads` threads; the bytes depend on content and level alone.
pub fn zstd(input: &mut dyn Read, out: &mut dyn Write, level: i32, threads: usize) -> io::Result<()> {
    let mut encoder = ::zstd::Encoder::new(out, level)?;
    // Without a worker, zstd cuts its blocks differently: at least one keeps the bytes the same for everybody.
    let workers = u32::try_from(threads.max(1)).unwrap_or(u32::MAX).min(64);
    encoder.multithread(workers)?;
    encoder.include_checksum(true)?;
    let mut piece = Vec::new();
    loop {
        fill(input, &mut piece)?;
        encoder.write_all(&piece)?;
        if piece.len() < MEMBER {
            return encoder.finish()?.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out its bytes in odd pieces.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 * 7 % 9973 + 1;
            let wanted = self.1.min(buffer.len());
            self.0.read(&mut buffer[..wanted])
        }
    }

    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let next = std::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if state >> 30 == 0 { (state >> 16).to_le_bytes()[0] } else { b'a' }
        });
        next.take(length).collect()
    }

    fn unpack(compression: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        reader(compression, bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    type Writer = fn(&mut dyn Read, &mut dyn Write, i32, usize) -> io::Result<()>;

    fn pack(writer: Writer, content: &[u8], threads: usize) -> Vec<u8> {
        let mut out = Vec::new();
        writer(&mut Drip(content, threads), &mut out, 3, threads).unwrap();
        out
    }

    #[test]
    fn writers_give_the_same_bytes_for_any_number_of_threads() {
        for length in [0, 1, MEMBER - 1, MEMBER, MEMBER + 1, 3 * MEMBER, 9 * MEMBER + 17] {
            let content = sample(length);
            for (writer, compression) in [(gzip as Writer, Compression::Gzip), (zstd, Compression::Zstd)] {
                let one = pack(writer, &content, 1);
                assert_eq!(detect(&one), compression);
                assert_eq!(unpack(compression, &one).unwrap(), content);
                for threads in [0, 2, 5] {
                    assert!(pack(writer, &content, threads) == one, "{compression:?} {length} {threads}");
                }
            }
        }
    }

    #[test]
    fn gzip_headers_hold_nothing_of_this_machine() {
        assert_eq!(pack(gzip, b"abc", 1)[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    }

    #[test]
    fn a_failing_source_or_sink_is_an_error() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let content = sample(5 * MEMBER);
        let mut full = [0; 10];
        for writer in [gzip as Writer, zstd] {
            assert!(writer(&mut Broken, &mut Vec::new(), 1, 3).is_err());
            assert!(writer(&mut content.as_slice(), &mut full.as_mut_slice(), 1, 3).is_err());
        }
        assert!(gzip(&mut io::empty(), &mut Vec::new(), 13, 1).is_err());
    }

    /// `abc` in each kind.
    fn packed() -> Vec<(Compression, Vec<u8>)> {
        let mut bzip = bzip2::read::BzEncoder::new(&b"abc"[..], bzip2::Compression::best());
        let mut xz = liblzma::read::XzEncoder::new(&b"abc"[..], 6);
        let (mut bzip_bytes, mut xz_bytes) = (Vec::new(), Vec::new());
        bzip.read_to_end(&mut bzip_bytes).unwrap();
        xz.read_to_end(&mut xz_bytes).unwrap();
        vec![
            (Compression::Gzip, pack(gzip, b"abc", 1)),
            (Compression::Zstd, pack(zstd, b"abc", 1)),
            (Compression::Bzip2, bzip_bytes),
            (Compression::Xz, xz_bytes),
        ]
    }

    #[test]
    fn streams_are_read_to_their_end_or_refused() {
        for (compression, bytes) in packed() {
            assert_eq!(detect(&bytes), compression);
            assert_eq!(unpack(compression, &bytes).unwrap(), b"abc");
            let twice = [bytes.clone(), bytes.clone()].concat();
            assert_eq!(unpack(compression, &twice).unwrap(), b"abcabc", "{compression:?}");
            for length in 1..bytes.len() {
                assert!(unpack(compression, &bytes[..length]).is_err(), "{compression:?} cut at {length}");
            }
            let garbage = [bytes.as_slice(), b"garbage that follows"].concat();
            assert!(unpack(compression, &garbage).is_err(), "{compression:?}");
        }
        assert_eq!(unpack(Compression::None, b"abc").unwrap(), b"abc");
    }

    #[test]
    fn zstd_frames_to_be_skipped_are() {
        let frame = pack(zstd, b"abc", 1);
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let bytes = [&skipped[..], &frame, &skipped].concat();
        assert_eq!(detect(&bytes), Compression::Zstd);
        assert_eq!(unpack(Compression::Zstd, &bytes).unwrap(), b"abc");
    }

    #[test]
    fn what_is_not_compressed_is_not_taken_for_it() {
        for plain in [&b""[..], b"\x1f\x8b", b"BZh9file-name", b"hello", b"\xfd7zXY"] {
            assert_eq!(detect(plain), Compression::None);
        }
    }
}
