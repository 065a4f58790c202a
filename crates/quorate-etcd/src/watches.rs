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
    RevisionEvents,
    watch::{StreamId, WatchHub, WatchLimits, WatchStats, WatchStream},
};

/// The watch hub of one server, with a wake-up for each stream.
pub struct Watches {
    hub: Mutex<WatchHub>,
    slots: Mutex<BTreeMap<StreamId, Arc<WakeSlot>>>,
}

impl Watches {
    /// A hub over a store that stands at `revision`.
    pub fn new(revision: i64, limits: WatchLimits) -> Self {
        Self { hub: Mutex::new(WatchHub::new(revision, limits)), slots: Mutex::default() }
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
