//! The hub of all watches, shared by the thread that applies and the threads that serve clients.
//!
//! `quorate-kv` knows what each watch is to get; it knows no threads. Here a lock goes around its [`WatchHub`], and each
//! open stream gets a slot in which one wake-up can wait, so that none is lost while the stream is busy.
//!
//! The applying thread makes the new reader visible first, then calls [`Watches::publish`], then answers the writes of
//! that state. Nothing here waits for a client.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    task::{Context, Waker},
};

use parking_lot::Mutex;
use quorate_kv::{
    Reader, RevisionEvents,
    watch::{StreamId, WatchHub, WatchLimits, WatchStats, WatchStream},
};

use crate::{
    watch_history::{CachedHistory, HistoryCache},
    watch_shares::Shares,
};

/// The watch hub of one server, with a wake-up for each stream.
pub struct Watches {
    hub: Mutex<WatchHub>,
    slots: Mutex<BTreeMap<StreamId, Arc<WakeSlot>>>,
    history: HistoryCache,
    shares: Shares,
}

/// How much of storage is kept for watches that read the same: the value before an event, a stretch of history.
const HISTORY_BYTES_MAX: usize = 8 << 20;

/// What all streams may have taken and not yet sent before those that hold most take no more than one revision at a time.
const HELD_BYTES_MAX: u64 = 64 << 20;

impl Watches {
    /// A hub over a store that stands at `revision`.
    pub fn new(revision: i64, limits: WatchLimits) -> Self {
        Self {
            shares: Shares::new(HELD_BYTES_MAX, limits.pull_bytes_max as u64),
            hub: Mutex::new(WatchHub::new(revision, limits)),
            slots: Mutex::default(),
            history: HistoryCache::new(HISTORY_BYTES_MAX),
        }
    }

    /// The same, with other bounds on what is kept of history and on what all streams hold, in bytes.
    #[must_use]
    pub fn holding(self, history_bytes_max: usize, held_bytes_max: u64) -> Self {
        let history = HistoryCache::new(history_bytes_max);
        Self { history, shares: self.shares.bounded(held_bytes_max), ..self }
    }

    /// What all streams have taken and not yet sent, in bytes, roughly.
    pub fn held_bytes(&self) -> u64 {
        self.shares.held_bytes()
    }

    /// What clients hold.
    pub(crate) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// History as `reader` shows it, through what is kept for all.
    pub(crate) fn history<'a>(&'a self, reader: &'a Reader) -> CachedHistory<'a> {
        CachedHistory { reader, cache: &self.history }
    }

    /// Takes in newly applied revisions, in order, and wakes the streams they concern.
    ///
    /// The reader of the new state must be visible already, and the replies of that state not yet released.
    pub fn publish(&self, revisions: &[Arc<RevisionEvents>]) {
        if !revisions.is_empty() {
            let woken = self.hub.lock().publish(revisions);
            self.wake(&woken);
        }
    }

    /// Tells every stream that the store was replaced by a snapshot at `revision`. Its reader must be visible already.
    pub fn restored(&self, revision: i64) {
        self.history.clear();
        let woken = self.hub.lock().restored(revision);
        self.wake(&woken);
    }

    /// What the hub holds.
    pub fn stats(&self) -> WatchStats {
        self.hub.lock().stats()
    }

    /// Opens a stream.
    pub(crate) fn open(&self) -> (WatchStream, Arc<WakeSlot>) {
        let stream = self.hub.lock().open();
        let slot = Arc::new(WakeSlot::default());
        self.slots.lock().insert(stream.id(), Arc::clone(&slot));
        (stream, slot)
    }

    /// Forgets a stream and its watchers.
    pub(crate) fn close(&self, stream: WatchStream) {
        self.slots.lock().remove(&stream.id());
        self.hub.lock().close(stream);
    }

    /// Does something short with the hub.
    pub(crate) fn with_hub<T>(&self, act: impl FnOnce(&mut WatchHub) -> T) -> T {
        act(&mut self.hub.lock())
    }

    fn wake(&self, streams: &[StreamId]) {
        if streams.is_empty() {
            return;
        }
        let slots = self.slots.lock();
        streams.iter().filter_map(|stream| slots.get(stream)).for_each(|slot| slot.wake());
    }
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// A wake-up that waits for its stream, as a semaphore of one does.
#[derive(Debug, Default)]
pub(crate) struct WakeSlot(Mutex<WakeState>);

#[derive(Debug, Default)]
struct WakeState {
    pending: bool,
    waker: Option<Waker>,
}

impl WakeSlot {
    /// Leaves a wake-up.
    fn wake(&self) {
        let mut state = self.0.lock();
        state.pending = true;
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }

    /// Takes the waiting wake-up, or asks to be woken by the next.
    pub(crate) fn take(&self, cx: &Context<'_>) -> bool {
        let mut state = self.0.lock();
        if std::mem::take(&mut state.pending) {
            return true;
        }
        let known = state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !known {
            state.waker = Some(cx.waker().clone());
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_waits_for_its_stream_and_is_taken_once() {
        let slot = WakeSlot::default();
        let cx = Context::from_waker(Waker::noop());
        assert!(!slot.take(&cx));
        slot.wake();
        slot.wake();
        assert!(slot.take(&cx));
        assert!(!slot.take(&cx));
    }
}
