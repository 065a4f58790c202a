//! How the log's failures are worded: what, where, which value.

use std::{io, path::Path};

use quorate_node::LogError;

/// `what` failed on the file or directory at `path`.
pub(super) fn io(path: &Path, what: &str, source: io::Error) -> LogError {
    LogError::Io { location: path.display().to_string(), what: what.to_owned(), source }
}

/// The bytes at `offset` of the file at `path` fail a check.
pub(super) fn corrupt(path: &Path, offset: u64, what: impl Into<String>) -> LogError {
    LogError::Corrupt { location: path.display().to_string(), offset, what: what.into() }
}

/// There is no room for `needed_bytes` at `path`; other errors keep their name.
pub(super) fn no_room(path: &Path, needed_bytes: u64, source: io::Error) -> LogError {
    if source.kind() == io::ErrorKind::StorageFull {
        LogError::Full { location: path.display().to_string(), needed_bytes }
    } else {
        io(path, "reserve room", source)
    }
}
