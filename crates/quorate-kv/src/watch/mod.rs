//! Watches: every change of the keys somebody asked for, once, in order, whole revisions at a time.
//!
//! ## How it flows
//! Two objects share the work, so that a slow client holds up nobody:
//! - [`WatchHub`], one per server, behind the caller's lock. After each applied run the writer calls
//!   [`WatchHub::publish`]: the revisions go into one bounded ring, an index says which streams have a matching
//!   watcher, and the answer names the streams to wake. Nothing is copied per watcher.
//! - [`WatchStream`], one per client stream, owned by the task that serves it. [`WatchStream::pull`], under the lock and
//!   short, takes what the ring has for it; [`WatchStream::poll`], without the lock, turns that into responses and reads
//!   storage where needed. A stream that is not pulled costs a few bytes in the hub: the first revision it has not seen.
//!
//! ## In step and behind
//! A watcher is *in step* if its stream has been handed everything it asked for up to the stream's cursor; all watchers
//! in step share that cursor. One that starts in the past is *behind*, with a cursor of its own, and reads history in
//! batches of at most [`CATCH_UP_REVISIONS_MAX`] revisions until it meets the stream. A stream so slow that the ring has
//! moved past its cursor puts all its watchers behind. While behind, a watcher whose cursor falls below the compacted
//! revision is canceled with that revision.
//!
//! ## What a client may rely on
//! `created` comes before events. Events of one watcher are ordered by revision, none is missing, none comes twice, and
//! all events of a revision come in one response (or in marked fragments if it asked for them). `header.revision` is at
//! least the last event's. A progress answer with revision R comes only after every event up to R that the watcher, or
//! for id -1 every watcher of the stream, is to get.
//!
//! ## What the caller must do
//! 1. Make the reader of the new state visible, then publish, then release the replies of that state. So a watch created
//!    after an acknowledged write never sees that write again, and a woken stream finds a reader new enough.
//! 2. Keep one wake-up per stream pending, as a semaphore does, so that a wake-up during a poll is not lost.
//! 3. After [`WatchStream::pull`] and [`WatchStream::poll`], send, and repeat while [`WatchStream::has_more`].
//! 4. Stop reading requests while [`WatchStream::is_congested`].
//! 5. Give the stream back with [`WatchHub::close`].
//!
//! A poll reads history at most once, whatever it finds there, so it is short; [`WatchStream::reads_history`] says
//! beforehand whether it does. A server with too many slow streams lets them [`shed`](WatchStream::shed) what they took.
//!
//! Responses carry only `revision` in the header, and 0 where etcd sends 0.
//!
//! Left out: permission checks (the front door refuses with [`WatchStream::refuse`]), the interval between periodic
//! progress reports (a timer's business; see [`WatchStream::interval_elapsed`]), cluster and member ids.
//!
//! Sources: etcd `server/storage/mvcc/{watchable_store,watcher,watcher_group}.go`,
//! `server/etcdserver/api/v3rpc/watch.go`; its issues 15220, 17529, 18089, 20221.

mod batch;
mod delivery;
mod hub;
mod interval_tree;
mod range_index;
mod ring;
mod stream;
#[cfg(test)]
mod tests;
mod watcher;

use std::sync::Arc;

use quorate_proto::mvccpb::KeyValue;

pub use self::{
    hub::{StreamId, WatchHub, WatchStats},
    stream::WatchStream,
};
use crate::{ReadError, Reader, RevisionEvents};

/// Most revisions read from history in one step, and most put into one response.
pub const CATCH_UP_REVISIONS_MAX: usize = 1000;

/// Id in answers that concern no watcher or all of them.
pub const NO_WATCH_ID: i64 = -1;

/// etcd's default request limit of 1.5 MiB and its allowance of 512 KiB for overhead.
const FRAGMENT_BYTES: usize = 2 << 20;

/// Bounds of one hub and its streams.
#[derive(Clone, Copy, Debug)]
pub struct WatchLimits {
    /// Most revisions kept in the ring.
    pub ring_revisions_max: usize,
    /// Most bytes of events kept in the ring, roughly.
    pub ring_bytes_max: usize,
    /// Most bytes a stream takes from the ring or from history at once; a single larger revision is taken whole.
    pub pull_bytes_max: usize,
    /// Size at which a response of several revisions is closed. A single revision is never divided by this limit.
    pub response_bytes_max: usize,
    /// Size from which a response is divided for watchers that accept fragments.
    pub fragment_bytes: usize,
    /// Most watchers of one stream.
    pub stream_watchers_max: usize,
    /// Most unsent answers to requests, before the caller must stop reading requests.
    pub stream_answers_max: usize,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self {
            ring_revisions_max: 8 * 1024,
            ring_bytes_max: 4 << 20,
            pull_bytes_max: 1 << 20,
            response_bytes_max: 1 << 20,
            fragment_bytes: FRAGMENT_BYTES,
            stream_watchers_max: 1 << 20,
            stream_answers_max: 1024,
        }
    }
}

/// The past as a stream needs it; [`Reader`] is the real one.
pub trait History {
    /// Newest revision this view holds.
    fn revision(&self) -> i64;

    /// Revision below which history is gone; negative if it is whole.
    fn compact_revision(&self) -> i64;

    /// Consecutive revisions that changed something, from the first at or above `from_revision`, within the limits but
    /// at least one if there is one.
    ///
    /// # Errors
    /// The engine's, or that `from_revision` is compacted.
    fn events(
        &self,
        from_revision: i64,
        revisions_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, ReadError>;

    /// The key as it stood just before `revision`; `None` if it was absent or that state is compacted.
    ///
    /// # Errors
    /// The engine's.
    fn key_before(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, ReadError>;
}

impl History for Reader {
    fn revision(&self) -> i64 {
        self.revision()
    }

    fn compact_revision(&self) -> i64 {
        self.compact_revision()
    }

    fn events(
        &self,
        from_revision: i64,
        revisions_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<RevisionEvents>>, ReadError> {
        self.events(from_revision, revisions_max, bytes_max)
    }

    fn key_before(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, ReadError> {
        self.key_before(key, revision)
    }
}
