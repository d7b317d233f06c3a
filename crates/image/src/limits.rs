//! Every size, count and depth that somebody else controls, each with its reason.
//!
//! Constants only; the code that reads outside data takes them from here.

/// Manifests and indexes: what registries and other clients accept.
pub const MANIFEST_BYTES: usize = 4 << 20;
/// Image configurations: the same bound as manifests.
pub const CONFIG_BYTES: usize = 4 << 20;
/// Layers in an image: overlayfs takes 500 lower directories; engines stop at 128, some registries at more.
pub const LAYERS: usize = 500;
/// Manifests in an index.
pub const INDEX_ENTRIES: usize = 4096;
/// A path inside an image: Linux's `PATH_MAX`.
pub const PATH_BYTES: usize = 4096;
/// One name in a path: Linux's `NAME_MAX`.
pub const NAME_BYTES: usize = 255;
/// Extended headers (PAX, GNU long names) of one tar entry.
pub const TAR_EXTENSION_BYTES: usize = 1 << 20;
/// Regions in a sparse file's map.
pub const SPARSE_REGIONS: usize = 65_536;
/// One extended attribute's value: Linux's `XATTR_SIZE_MAX`.
pub const XATTR_BYTES: usize = 65_536;
/// Extended attributes of one entry.
pub const XATTRS: usize = 1024;
/// Directories in a path.
pub const PATH_DEPTH: usize = 1024;
/// `/etc/passwd` and `/etc/group` as read from an image.
pub const ACCOUNT_FILE_BYTES: usize = 8 << 20;
/// Symbolic links that one lookup follows: the kernel's own limit.
pub const SYMLINKS: usize = 40;
/// One extended attribute's name: Linux's `XATTR_NAME_MAX`.
pub const XATTR_NAME_BYTES: usize = 255;
/// Holes of one sparse file: they are written out as zeros, so this bounds the time that a small archive can take.
pub const SPARSE_HOLE_BYTES: u64 = 64 << 30;
/// Entries of one layer: bounds the index's memory; the largest images known have about a million.
pub const LAYER_ENTRIES: usize = 4 << 20;
/// Memory for one xz decoder: enough for `xz -9` (65 MiB) and dictionaries up to four times as large.
pub const XZ_MEMORY_BYTES: u64 = 288 << 20;
/// The window of one zstd decoder, as a power of two: what `zstd` takes without `--long`.
pub const ZSTD_WINDOW_LOG: u32 = 27;
