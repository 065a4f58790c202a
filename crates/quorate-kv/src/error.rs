//! What can go wrong: in a request, in a read, in the store.

use quorate_engine as engine;

/// Why a request is refused. One variant for each error of etcd's API that the key space can give.
///
/// Every variant is a plain answer: the store's data is as if the request had never come. The texts are etcd's, without
/// its `etcdserver: ` prefix; codes and exact client texts are the front door's table.
///
/// Source: etcd `api/v3rpc/rpctypes/error.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The revision asked for lies below the compacted one.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// The revision asked for does not exist yet.
    #[error("mvcc: required revision is a future revision")]
    FutureRevision,
    /// `ignore_value` or `ignore_lease` on a key that does not exist; also an operation that says nothing.
    #[error("key not found")]
    KeyNotFound,
    /// No lease has this id.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// A lease has this id already.
    #[error("lease already exists")]
    LeaseExists,
    /// The time to live is above [`LEASE_TTL_MAX_SECONDS`](crate::LEASE_TTL_MAX_SECONDS).
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    /// The key is empty.
    #[error("key is not provided")]
    EmptyKey,
    /// `ignore_value` together with a value.
    #[error("value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("lease is provided")]
    LeaseProvided,
    /// A list of a transaction is longer than the limit, counting nested ones.
    #[error("too many operations in txn request")]
    TooManyOps,
    /// Two operations of one transaction write the same key.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or target that does not exist.
    #[error("invalid sort option")]
    InvalidSortOption,
    /// The space alarm is raised: nothing that takes space is accepted.
    #[error("mvcc: database space exceeded")]
    NoSpace,
    /// The corruption alarm is raised: no change is accepted.
    #[error("corrupt cluster")]
    Corrupt,
    /// A streamed range with a sort order or revision filters.
    #[error("range stream does not support sorting or revision filters")]
    StreamUnsupported,
    /// A transaction that writes was given to a reader.
    #[error("transaction is not read-only")]
    NotReadOnly,
}

impl RequestError {
    /// Whether every replica gives this answer to the same command at the same place of the log: always.
    pub fn is_deterministic(self) -> bool {
        true
    }
}

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The request is refused.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] Error),
}

impl From<engine::Error> for ReadError {
    fn from(error: engine::Error) -> Self {
        Self::Store(Error::Engine(error))
    }
}

/// Why the store can't go on. Fatal: the node that meets one stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine failed. Local to this node.
    #[error("engine failed")]
    Engine(#[from] engine::Error),
    /// A stored pair does not have the shape its table demands. Local to this node.
    #[error("table {table}: malformed {what} at key {key}")]
    Malformed {
        /// Which table.
        table: &'static str,
        /// Which part.
        what: &'static str,
        /// The key, in hexadecimal, cut after 64 bytes.
        key: String,
    },
    /// The data was written by a version that this one does not know.
    #[error("schema version {found} is not supported, the newest known is {supported}")]
    SchemaVersion {
        /// What the data says.
        found: u64,
        /// The newest that this code reads.
        supported: u64,
    },
    /// A command of a version that this one does not know.
    #[error("command version {found} is not supported, the newest known is {supported}")]
    CommandVersion {
        /// What the command says; 0 for an empty command.
        found: u8,
        /// The newest that this code reads.
        supported: u8,
    },
    /// A command that does not decode.
    #[error("command does not decode: {what}")]
    CommandMalformed {
        /// The decoder's word.
        what: String,
    },
    /// The entry does not follow the last applied one.
    #[error("entry {found} does not follow the applied entry {applied}")]
    Gap {
        /// The last applied index.
        applied: u64,
        /// The index that came.
        found: u64,
    },
}

impl Error {
    /// Whether every replica that applies the same log meets this error at the same entry.
    pub fn is_deterministic(&self) -> bool {
        match self {
            Self::CommandVersion { .. } | Self::CommandMalformed { .. } => true,
            Self::Engine(_)
            | Self::Malformed { .. }
            | Self::SchemaVersion { .. }
            | Self::Gap { .. } => false,
        }
    }
}
