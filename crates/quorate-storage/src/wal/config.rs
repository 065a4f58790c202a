//! How a log is kept, its limits, and what an operator can see of it.

use std::{fmt, sync::Arc, time::Duration};

use super::format::DATA_START;

/// The smallest segment: its header's page and one of batches.
pub const SEGMENT_BYTES_MIN: u64 = 2 * DATA_START;
/// The largest segment that is preallocated.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// The largest batch, that is, the largest call of [`LogStore::append`](quorate_node::LogStore::append), encoded.
pub const BATCH_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// How a log is kept. The default suits a server.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// Length of a segment's file, in bytes; brought between [`SEGMENT_BYTES_MIN`] and [`SEGMENT_BYTES_MAX`].
    /// A batch that is larger gets a larger one.
    pub segment_bytes: u64,
    /// How many files of dead segments are kept for use again.
    pub spare_segments_max: usize,
    /// Is told how long each sync took.
    pub on_sync: Option<SyncObserver>,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024 * 1024, spare_segments_max: 2, on_sync: None }
    }
}

/// Is told how long each sync took; called on the thread that syncs.
#[derive(Clone)]
pub struct SyncObserver(Arc<dyn Fn(Duration) + Send + Sync>);

impl SyncObserver {
    /// One that calls `observe`, which must not block.
    pub fn new(observe: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    pub(super) fn observe(&self, took: Duration) {
        (self.0)(took);
    }
}

impl fmt::Debug for SyncObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SyncObserver")
    }
}

/// What an operator may want to know of the log. Counters start at 0 when it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalStats {
    /// Files that are part of the log.
    pub segments: u64,
    /// Files kept for use again.
    pub spare_segments: u64,
    /// Length of all of them.
    pub total_bytes: u64,
    /// Length of the records that hold entries still part of the log.
    pub live_bytes: u64,
    /// Batches written.
    pub batches: u64,
    /// Bytes written in them.
    pub written_bytes: u64,
    /// Bytes of those that were copied forward.
    pub rewritten_bytes: u64,
    /// Syncs of batches.
    pub syncs: u64,
}
