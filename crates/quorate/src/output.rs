//! Printing for people and programs. A reader that has gone away is no reason to panic.

use std::{
    fmt,
    io::{self, Write},
};

/// Writes one line to standard output.
///
/// # Errors
/// What the system says; when the reader is gone, [`io::ErrorKind::BrokenPipe`].
pub(crate) fn line(text: impl fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Writes one line to standard error, if anybody listens there.
pub(crate) fn complain(text: impl fmt::Display) {
    // There is nowhere left to say that nobody listens.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
