//! redb's errors, told as the engine port's.

use quorate_engine::Error;

use crate::blocks::Report;

/// What happened, from redb's error and from what the blocks beneath it reported. The blocks know file and offset; redb
/// tells only its first caller and answers the others "previous I/O error".
pub(super) fn translate(error: impl Into<redb::Error>, report: &Report) -> Error {
    let location = report.location().to_owned();
    if let Some(fault) = report.first() {
        return fault.to_error();
    }
    let error = error.into();
    let text = error.to_string();
    if let redb::Error::Corrupted(what) = error {
        return Error::Corrupt { location, offset: 0, what };
    }
    if let redb::Error::Io(source) = error {
        return Error::Io { location, what: "redb".into(), source };
    }
    Error::Backend { location, what: text }
}
