//! What went wrong below redb, kept so that it can be told.
//!
//! redb passes on the error of the call that failed and answers every later one with "previous I/O error". The first
//! fault is therefore remembered here, and every error the engine reports afterwards names its file and offset.

use std::{
    fmt, io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use quorate_engine::Error;

/// One fault of a block file.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Bytes that do not match their sum or shape.
    Corrupt {
        /// The file.
        location: String,
        /// Physical byte offset.
        offset: u64,
        /// Which check failed.
        what: String,
    },
    /// The system refused.
    Io {
        /// The file.
        location: String,
        /// What was being done.
        what: String,
        /// The system's kind of error.
        kind: io::ErrorKind,
        /// The system's words.
        text: String,
    },
}

impl Fault {
    /// The fault as the engine port reports it.
    pub(crate) fn to_error(&self) -> Error {
        match self.clone() {
            Self::Corrupt { location, offset, what } => Error::Corrupt { location, offset, what },
            Self::Io { location, what, kind, text } => {
                Error::Io { location, what, source: io::Error::new(kind, text) }
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { location, offset, what } => {
                write!(f, "{location}: corrupt at offset {offset}: {what}")
            }
            Self::Io { location, what, text, .. } => write!(f, "{location}: {what}: {text}"),
        }
    }
}

impl std::error::Error for Fault {}

/// What a block file tells its owner past redb: its first fault and its size.
#[derive(Debug)]
pub(crate) struct Report {
    location: String,
    first: Mutex<Option<Fault>>,
    file_bytes: AtomicU64,
}

impl Report {
    /// Nothing to tell of `location` yet.
    pub(crate) fn new(location: String) -> Self {
        Self { location, first: Mutex::new(None), file_bytes: AtomicU64::new(0) }
    }

    /// The size of the file in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }

    /// Notes a change of the file's size.
    pub(crate) fn set_file_bytes(&self, bytes: u64) {
        self.file_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The file.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// The first fault, if there was one.
    pub(crate) fn first(&self) -> Option<Fault> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers a bad block at `offset` and makes the error for redb.
    pub(crate) fn corrupt(&self, offset: u64, what: impl Into<String>) -> io::Error {
        let (location, what) = (self.location.clone(), what.into());
        self.remember(Fault::Corrupt { location, offset, what }, io::ErrorKind::InvalidData)
    }

    /// Remembers a refusal of the system and makes the error for redb.
    pub(crate) fn io(&self, what: String, source: &io::Error) -> io::Error {
        let (location, kind) = (self.location.clone(), source.kind());
        self.remember(Fault::Io { location, what, kind, text: source.to_string() }, kind)
    }

    fn remember(&self, fault: Fault, kind: io::ErrorKind) -> io::Error {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| fault.clone());
        io::Error::new(kind, fault)
    }
}
