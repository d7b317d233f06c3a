//! Tar archives made byte by byte, also such as no program writes.

#![allow(dead_code, reason = "each test file uses its own part")]

/// A header block in the making, with its content.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) block: [u8; 512],
    pub(crate) content: Vec<u8>,
    sealed: bool,
}

impl Raw {
    pub(crate) fn new(name: &[u8], flag: u8, content: &[u8]) -> Self {
        let mut raw = Self { block: [0; 512], content: content.to_vec(), sealed: true };
        raw = raw.put(0, name).put(100, b"0000644\0").put(108, b"0000000\0").put(116, b"0000000\0");
        raw = raw.put(136, b"00000000001\0").put(156, &[flag]).put(257, b"ustar\x0000");
        raw.size(content.len() as u64)
    }

    pub(crate) fn file(name: &str, content: &[u8]) -> Self {
        Self::new(name.as_bytes(), b'0', content)
    }

    pub(crate) fn link(name: &str, flag: u8, target: &str) -> Self {
        Self::new(name.as_bytes(), flag, b"").put(157, target.as_bytes())
    }

    pub(crate) fn pax(records: &[(&str, &[u8])]) -> Self {
        Self::new(b"pax", b'x', &pax_records(records))
    }

    pub(crate) fn global(records: &[(&str, &[u8])]) -> Self {
        Self::new(b"pax", b'g', &pax_records(records))
    }

    pub(crate) fn gnu(mut self) -> Self {
        self.block[257..265].copy_from_slice(b"ustar  \0");
        self
    }

    pub(crate) fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn size(self, size: u64) -> Self {
        self.put(124, format!("{size:011o}\0").as_bytes())
    }

    /// Keeps the checksum as it stands in the block.
    pub(crate) fn unsealed(mut self) -> Self {
        self.sealed = false;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut block = self.block;
        if self.sealed {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let mut bytes = block.to_vec();
        bytes.extend_from_slice(&self.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

pub(crate) fn pax_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let body = key.len() + value.len() + 3;
        // The length counts its own digits; one more digit may be needed for them.
        let length = body + (body + body.to_string().len()).to_string().len();
        out.extend_from_slice(format!("{length} {key}=").as_bytes());
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

pub(crate) fn archive(entries: &[Raw]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(Raw::bytes).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}
