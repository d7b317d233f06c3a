//! Why an action on the store failed. (Images, blobs and opening have errors of their own, beside their functions.)

use crate::disk::DiskError;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A lock was not to be had in time.
    #[error("gave up after {seconds} s of waiting for {what}")]
    Busy {
        /// Who held it.
        what: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The user wanted to stop while a lock was waited for.
    #[error("stopped while waiting for {what}")]
    Stopped {
        /// Who held it.
        what: &'static str,
    },
    /// A kind of record must be a short lower-case word, a key at most 4 KiB.
    #[error("`{}` is no kind or key of a record", name.escape_debug())]
    RecordName {
        /// What was given.
        name: String,
    },
    /// A record over the limit.
    #[error("record of {bytes} bytes is over the limit of {limit} bytes")]
    RecordSize {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A value that JSON cannot hold.
    #[error("write record of kind `{kind}`")]
    Encode {
        /// Its kind.
        kind: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}
