//! The ordered key-value port under every replicated state machine.
//!
//! A state machine writes through [`Engine::commit`]: one atomic [`Batch`] over a few [`Table`]s, in which its own
//! applied index travels with the data. It reads through a [`View`]: an immutable picture of the last commit that
//! any thread may hold while later commits go on.
//!
//! What this crate does not know: disks, caches, revisions, Raft. The engine on disk is `quorate-storage`'s; the one in
//! memory, for tests and simulation, is [`MemoryEngine`].
//!
//! Invariants every engine keeps, and the tests of every engine check:
//! - a batch is seen whole or not at all, by views and after a crash;
//! - a view never changes;
//! - keys of one table are ordered as byte strings.

mod batch;
mod memory;

use std::{fmt, ops::Bound, ops::ControlFlow, sync::Arc};

pub use batch::{Batch, Write};
use bytes::Bytes;
pub use memory::MemoryEngine;

/// A named ordered map inside an engine. The names are part of the on-disk format: never renamed, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub &'static str);

/// How far a commit must have got when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Seen by later views; lost by a crash, together with every later commit that was not durable.
    Relaxed,
    /// On disk, with everything committed before it, when the call returns.
    Durable,
}

/// A range of keys as two bounds on byte strings.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Called for each pair in a scan; [`ControlFlow::Break`] ends it.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// The order in which a scan visits keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Reverse,
}

/// What an engine could not do. Never retried: a node that meets one stops, loudly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Stored bytes do not match their checksum or shape.
    #[error("{location}: corrupt at offset {offset}: {what}")]
    Corrupt {
        /// The file or table.
        location: String,
        /// Byte offset inside `location`.
        offset: u64,
        /// Which check failed.
        what: String,
    },
    /// The environment failed: a write, a sync, a full disk.
    #[error("{location}: {what}")]
    Io {
        /// The file.
        location: String,
        /// What was being done.
        what: String,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// The storage library refused in a way that is neither of the above.
    #[error("{location}: {what}")]
    Backend {
        /// The file.
        location: String,
        /// The library's own text.
        what: String,
    },
}

/// An immutable picture of one commit. Cheap to share; holding one pins the space of what was deleted since.
pub trait View: Send + Sync + fmt::Debug {
    /// The value at `key`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the stored bytes fail their check; never a wrong value.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Visits the pairs in `range` in `direction` order until the visitor breaks.
    ///
    /// # Errors
    /// As [`View::get`].
    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        direction: Direction,
        visit: &mut Visitor<'_>,
    ) -> Result<(), Error>;
}

/// A single-writer ordered store.
pub trait Engine: Send + fmt::Debug {
    /// Applies all of `batch`, in its order, or nothing.
    ///
    /// # Errors
    /// Any [`Error`] is final: the engine refuses all later commits.
    fn commit(&mut self, batch: Batch, durability: Durability) -> Result<(), Error>;

    /// A view of everything committed so far.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Backend`] when the store can't be read.
    fn view(&self) -> Result<Arc<dyn View>, Error>;

    /// How many of its views are held. An engine that is dropped while some are may leave them with errors.
    fn views_held(&self) -> usize;

    /// Bytes that the store takes on disk and, of those, the bytes that hold live data.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Backend`] when the store can't be asked.
    fn size_bytes(&self) -> Result<SizeBytes, Error>;
}

/// How large a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeBytes {
    /// Space taken on disk (in memory for [`MemoryEngine`]).
    pub total: u64,
    /// Space in use by live data.
    pub in_use: u64,
}
