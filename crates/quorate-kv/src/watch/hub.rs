//! The part of watching that all streams share: the ring, the index, and who has something to fetch.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    WatchLimits, WatchStream,
    range_index::{KeySet, RangeIndex},
    ring::Ring,
};
use crate::RevisionEvents;

/// One client stream, for as long as it is open. Never used twice by one hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

/// What a hub holds, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchStats {
    /// Open streams.
    pub streams: usize,
    /// Streams with something to fetch.
    pub pending_streams: usize,
    /// Watchers of all streams.
    pub watchers: usize,
    /// Revisions in the ring.
    pub ring_revisions: usize,
    /// Bytes in the ring, roughly.
    pub ring_bytes: usize,
}

/// What the ring had for a stream.
#[derive(Debug)]
pub(super) enum Taken {
    /// Nothing that concerns it.
    Nothing,
    /// These revisions; `next` is the first one not covered.
    Run {
        /// Consecutive revisions.
        revisions: Vec<Arc<RevisionEvents>>,
        /// First revision not covered.
        next: i64,
    },
    /// The ring has moved past it: everything from `from` on must be read from history.
    Missed {
        /// First revision the stream may have missed.
        from: i64,
    },
}

/// Fans published revisions out to streams; see the [module](super) for the contract.
///
/// Invariant: `pending` has an entry for each open stream; it is the first published revision that concerns the stream
/// and that it has not taken.
#[derive(Debug)]
pub struct WatchHub {
    limits: WatchLimits,
    revision: i64,
    ring: Ring,
    interest: RangeIndex<StreamId>,
    pending: BTreeMap<StreamId, Option<i64>>,
    watchers: usize,
    next_stream: u64,
}

impl WatchHub {
    /// A hub over a store that stands at `revision`.
    pub fn new(revision: i64, limits: WatchLimits) -> Self {
        Self {
            ring: Ring::new(limits.ring_revisions_max, limits.ring_bytes_max),
            limits,
            revision,
            interest: RangeIndex::default(),
            pending: BTreeMap::new(),
            watchers: 0,
            next_stream: 0,
        }
    }

    /// Newest published revision: the current one for everything about watches.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Registers a new client stream.
    pub fn open(&mut self) -> WatchStream {
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        self.pending.insert(id, None);
        WatchStream::new(id, self.limits, self.revision)
    }

    /// Forgets a stream and all its watchers.
    pub fn close(&mut self, mut stream: WatchStream) {
        stream.retire_all();
        stream.unregister(self);
        self.pending.remove(&stream.id());
    }

    /// Takes in newly applied revisions, in order, and names the streams to wake, each once.
    ///
    /// A stream that already had something to fetch is not named again. Revisions at or below the published one are
    /// ignored, so a run may be published again.
    pub fn publish(&mut self, revisions: &[Arc<RevisionEvents>]) -> Vec<StreamId> {
        let mut woken = Vec::new();
        for revision in revisions.iter().filter(|entry| entry.revision > self.revision) {
            self.ring.push(revision);
            let keys =
                revision.events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| &kv.key);
            for key in keys {
                self.interest.visit(key, |stream| {
                    if let Some(first @ None) = self.pending.get_mut(&stream) {
                        *first = Some(revision.revision);
                        woken.push(stream);
                    }
                });
            }
        }
        if let Some(last) = revisions.last() {
            self.revision = self.revision.max(last.revision);
        }
        woken.sort_unstable();
        woken
    }

    /// The store was replaced by a snapshot at `revision`: everything since the last publication is read from history.
    /// Names the streams to wake: all.
    pub fn restored(&mut self, revision: i64) -> Vec<StreamId> {
        let from = self.revision + 1;
        self.ring.clear();
        if revision >= from {
            self.revision = revision;
            self.pending.values_mut().for_each(|first| *first = Some(first.unwrap_or(from)));
        }
        self.pending.keys().copied().collect()
    }

    /// What this hub holds.
    pub fn stats(&self) -> WatchStats {
        WatchStats {
            streams: self.pending.len(),
            pending_streams: self.pending.values().filter(|first| first.is_some()).count(),
            watchers: self.watchers,
            ring_revisions: self.ring.len(),
            ring_bytes: self.ring.bytes(),
        }
    }

    /// From the next publication on, changes of `keys` concern `stream`.
    pub(super) fn register(&mut self, keys: &KeySet, stream: StreamId) {
        self.interest.insert(keys, stream);
        self.watchers += 1;
    }

    /// Takes back one [`register`](Self::register).
    pub(super) fn unregister(&mut self, keys: &KeySet, stream: StreamId) {
        self.interest.remove(keys, stream);
        self.watchers = self.watchers.saturating_sub(1);
    }

    /// Hands a stream what it has not seen, within the limits, and remembers how far that went.
    pub(super) fn take(&mut self, stream: StreamId) -> Taken {
        let Some(pending) = self.pending.get_mut(&stream) else { return Taken::Nothing };
        let Some(from) = pending.take() else { return Taken::Nothing };
        let Some(revisions) =
            self.ring.run(from, super::CATCH_UP_REVISIONS_MAX, self.limits.pull_bytes_max)
        else {
            return Taken::Missed { from };
        };
        let next = revisions.last().map_or(from, |last| last.revision + 1);
        *pending = (next <= self.revision).then_some(next);
        Taken::Run { revisions, next }
    }

    /// Revisions from `from` on out of the ring, within the limits, if it reaches back that far.
    pub(super) fn recent(&self, from: i64) -> Option<Vec<Arc<RevisionEvents>>> {
        self.ring.run(from, super::CATCH_UP_REVISIONS_MAX, self.limits.pull_bytes_max)
    }
}
