//! Where glibc's loader looks besides the places that a file names: `/etc/ld.so.conf` and `/etc/ld.so.cache`.
//!
//! Bytes in, lists of directories and of files out. What is damaged gives nothing.

use std::collections::BTreeMap;

/// What the present form of the cache begins with; an older one may stand before it.
const CACHE_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// Bytes before the first entry.
const CACHE_HEADER: usize = 48;
/// Bytes of an entry: flags, name, file, version, hardware.
const CACHE_ENTRY: usize = 24;
/// Files that include files.
const DEPTH: usize = 8;
/// Directories that configuration may name.
const DIRECTORIES: usize = 1024;

/// The cache: names to files (with their leading slash), in the order of preference. `None` if it is none.
pub fn read_cache(bytes: &[u8]) -> Option<BTreeMap<Vec<u8>, Vec<Vec<u8>>>> {
    let start = bytes.windows(CACHE_MAGIC.len()).position(|window| window == CACHE_MAGIC)?;
    let bytes = bytes.get(start..)?;
    let number = |at: usize| -> Option<usize> {
        let field: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        // In the order of the machine; of one with the other order nothing sensible comes, and nothing is claimed.
        usize::try_from(u32::from_le_bytes(field)).ok()
    };
    let text = |at: usize| -> Option<Vec<u8>> {
        let text = bytes.get(at..)?;
        Some(text.get(..text.iter().position(|&byte| byte == 0)?)?.to_vec())
    };
    let count = number(CACHE_MAGIC.len())?;
    if count > bytes.len() / CACHE_ENTRY {
        return None;
    }
    let mut files: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for entry in 0..count {
        let at = CACHE_HEADER + entry * CACHE_ENTRY;
        files.entry(text(number(at + 4)?)?).or_default().push(text(number(at + 8)?)?);
    }
    Some(files)
}

/// The directories of a configuration file and of those that it includes. `read` gives the files that a pattern names,
/// in order.
pub fn read_configuration(content: &[u8], read: &dyn Fn(&[u8]) -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut directories = Vec::new();
    add_configuration(content, read, DEPTH, &mut directories);
    directories
}

fn add_configuration(
    content: &[u8],
    read: &dyn Fn(&[u8]) -> Vec<Vec<u8>>,
    depth: usize,
    directories: &mut Vec<Vec<u8>>,
) {
    for line in content.split(|&byte| byte == b'\n') {
        let line = line.split(|&byte| byte == b'#').next().unwrap_or_default().trim_ascii();
        if let Some(patterns) =
            line.strip_prefix(b"include").filter(|rest| rest.first().is_some_and(u8::is_ascii_whitespace))
        {
            let patterns = patterns.split(u8::is_ascii_whitespace).filter(|pattern| !pattern.is_empty());
            for content in patterns.filter(|_| depth > 0).flat_map(read) {
                add_configuration(&content, read, depth - 1, directories);
            }
        } else if !line.starts_with(b"hwcap") {
            let words = line.split(|&byte| byte.is_ascii_whitespace() || matches!(byte, b':' | b','));
            directories.extend(words.filter(|word| word.starts_with(b"/")).map(<[u8]>::to_vec));
        }
        if directories.len() > DIRECTORIES {
            return directories.truncate(DIRECTORIES);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A cache with these files.
    pub(crate) fn cache(files: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = CACHE_MAGIC.to_vec();
        bytes.extend(u32::try_from(files.len()).unwrap().to_le_bytes());
        bytes.resize(CACHE_HEADER, 0);
        let mut at = CACHE_HEADER + files.len() * CACHE_ENTRY;
        let mut strings = Vec::new();
        for (name, file) in files {
            let (name_at, file_at) = (at, at + name.len() + 1);
            at = file_at + file.len() + 1;
            for number in [0x303, name_at, file_at, 0, 0, 0] {
                bytes.extend(u32::try_from(number).unwrap().to_le_bytes());
            }
            strings.extend(format!("{name}\0{file}\0").into_bytes());
        }
        [bytes, strings].concat()
    }

    #[test]
    fn caches_are_read_or_passed_over() {
        let files = [("libz.so.1", "/lib/x/libz.so.1"), ("libz.so.1", "/old/libz.so.1"), ("liba.so", "/a/liba.so")];
        for before in [&b""[..], b"ld.so-1.7.0\0\0\0\0\0"] {
            let bytes = [before, &cache(&files)].concat();
            let read = read_cache(&bytes).unwrap();
            assert_eq!(
                read.get(&b"libz.so.1"[..]).unwrap(),
                &[b"/lib/x/libz.so.1".to_vec(), b"/old/libz.so.1".to_vec()]
            );
            assert_eq!(read.len(), 2);
            for length in 0..bytes.len() {
                let _ = read_cache(&bytes[..length]);
            }
        }
        assert_eq!(read_cache(b""), None);
        let mut bad = cache(&files);
        bad[20..24].fill(0xff);
        assert_eq!(read_cache(&bad), None);
    }

    #[test]
    fn configuration_includes_others() {
        let read = |pattern: &[u8]| match pattern {
            b"/etc/ld.so.conf.d/*.conf" => {
                vec![b"# libc\n/usr/local/lib\n".to_vec(), b"/opt/a:/opt/b, /opt/c\n".to_vec()]
            }
            b"loop" => vec![b"include loop\n/l\n".to_vec()],
            _ => vec![],
        };
        let shown = |content: &[u8]| -> Vec<String> {
            read_configuration(content, &read).into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
        };
        assert_eq!(
            shown(b"include /etc/ld.so.conf.d/*.conf\n/last # x\nhwcap 0 nosegneg\n"),
            ["/usr/local/lib", "/opt/a", "/opt/b", "/opt/c", "/last"]
        );
        assert_eq!(shown(b"include loop\n").len(), DEPTH);
        assert_eq!(shown(b"includes /x\n"), ["/x"]);
    }
}
