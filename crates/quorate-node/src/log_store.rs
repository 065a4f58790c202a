//! The log port: what a node asks of the write-ahead log under all of its groups.
//!
//! The order of durability is the driver's and is written down in [`LogStore`]. This module does not know files,
//! segments or checksums; the log on disk is `quorate-storage`'s, the one in memory is
//! [`MemoryLogStore`](crate::MemoryLogStore).

use std::io;

use bytes::Bytes;
use quorate_raft::{EntryMeta, EntryRange, GroupId, HardState, Index, SnapshotMeta};

/// One log entry with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the Raft core knows of it.
    pub meta: EntryMeta,
    /// Its content, encoded once and shared by log, wire and state machine.
    pub payload: Bytes,
}

/// One record of one group. Records of a call are kept or lost in their order: after a crash, a prefix of them is there.
#[derive(Clone, Copy, Debug)]
pub enum LogRecord<'a> {
    /// Hard state and entries, together or not at all.
    Save {
        /// Whose.
        group: GroupId,
        /// The hard state, when it changed.
        hard_state: Option<HardState>,
        /// Position of the first of `entries`; they replace everything from here on. Names the position after the last
        /// entry when `entries` is empty: nothing is replaced then.
        first: Index,
        /// The entries.
        entries: &'a [Entry],
    },
    /// A snapshot is the state now: the log holds nothing and starts behind `snapshot.last`. The state machine's own copy
    /// of the snapshot is durable before this is appended.
    Install {
        /// Whose.
        group: GroupId,
        /// The hard state that goes with it.
        hard_state: HardState,
        /// Which snapshot.
        snapshot: &'a SnapshotMeta,
    },
    /// Entries up to `base.last` may be dropped: they are applied and durable in the state machine.
    Compacted {
        /// Whose.
        group: GroupId,
        /// The new start of the log, and the membership there.
        base: &'a SnapshotMeta,
    },
}

impl LogRecord<'_> {
    /// The group it belongs to.
    pub fn group(&self) -> GroupId {
        match self {
            Self::Save { group, .. }
            | Self::Install { group, .. }
            | Self::Compacted { group, .. } => *group,
        }
    }
}

/// What a log could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Stored bytes fail their check.
    #[error("{location}: corrupt at offset {offset}: {what}")]
    Corrupt {
        /// The file.
        location: String,
        /// Byte offset in it.
        offset: u64,
        /// Which check failed.
        what: String,
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
    /// No space is left for the log.
    #[error("{location}: no space left: {needed_bytes} bytes more were needed")]
    Full {
        /// The file or directory.
        location: String,
        /// How much was asked for.
        needed_bytes: u64,
    },
    /// Nobody waits here for a disk: what was asked for is being read, or will be once what is under way is done. Ask again then;
    /// a round follows.
    #[error("the log is busy")]
    Busy,
    /// The log holds no such entry: it was dropped or never appended.
    #[error("group {group}: entry {index} is not in the log")]
    Unavailable {
        /// Whose log.
        group: GroupId,
        /// Which position.
        index: Index,
    },
}

/// A durable log shared by all groups of a node.
///
/// The driver appends all records of a round in one call, syncs once, and only then reports them durable to the core and
/// sends the messages that wait for them.
pub trait LogStore: Send {
    /// Writes `records` in their order with one write. They are durable after the next good [`LogStore::sync`].
    ///
    /// # Errors
    /// Any error is final for the process: how much was written is not known.
    fn append(&mut self, records: &[LogRecord<'_>]) -> Result<(), LogError>;

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// Any error is final: what was appended since the last good sync may be lost.
    fn sync(&mut self) -> Result<(), LogError>;

    /// Entries of `range` from its first on, as many as fit into `bytes_max` bytes of content but at least one.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] when the first is not there; [`LogError::Corrupt`] rather than a wrong entry;
    /// [`LogError::Busy`] while it is not there yet.
    fn read(
        &mut self,
        group: GroupId,
        range: EntryRange,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, LogError>;
}
