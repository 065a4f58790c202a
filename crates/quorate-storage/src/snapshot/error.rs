//! What can go wrong with a snapshot.

use std::{io, path::Path};

/// What a snapshot could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// A chunk is damaged or not the one expected. Nothing changed: ask for chunk `expected` again.
    #[error("snapshot chunk refused, {expected} is expected: {what}")]
    Refused {
        /// The sequence number that is wanted.
        expected: u64,
        /// What is wrong with the chunk.
        what: String,
    },
    /// Whole chunks do not make a snapshot. It has to be sent from the start.
    #[error("{location}: corrupt at offset {offset}: {what}")]
    Corrupt {
        /// The file, or `stream`.
        location: String,
        /// Byte offset inside it.
        offset: u64,
        /// Which check failed.
        what: String,
    },
    /// The snapshot is not all there.
    #[error("the snapshot is not complete: chunk {expected} is missing")]
    Incomplete {
        /// The first missing chunk.
        expected: u64,
    },
    /// The environment failed.
    #[error("{location}: {what}")]
    Io {
        /// The file.
        location: String,
        /// What was being done.
        what: String,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// The engine that is read or built failed.
    #[error(transparent)]
    Engine(#[from] quorate_engine::Error),
}

impl SnapshotError {
    /// For `map_err`: doing `what` with `path` failed.
    pub(crate) fn io<'a>(path: &'a Path, what: &'a str) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            location: path.display().to_string(),
            what: what.to_owned(),
            source,
        }
    }
}
