//! The queue in front of a side: many put in, one takes everything at once.
//!
//! The thread that takes is woken only if it sleeps, so a busy thread costs its callers a lock and a push.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// A queue whose receiver takes all there is.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    asleep: bool,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State { items: Vec::new(), asleep: false }),
            filled: Condvar::new(),
        }
    }
}

impl<T> Inbox<T> {
    /// Puts one in.
    pub(crate) fn put(&self, item: T) {
        self.put_all([item]);
    }

    /// Puts several in, with at most one wake-up.
    pub(crate) fn put_all(&self, items: impl IntoIterator<Item = T>) {
        let mut state = self.state.lock();
        state.items.extend(items);
        let wake = state.asleep && !state.items.is_empty();
        if wake {
            state.asleep = false;
        }
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    /// Waits until there is something, but not beyond `until` (`None`: as long as it takes).
    pub(crate) fn wait(&self, until: Option<Instant>) {
        let mut state = self.state.lock();
        while state.items.is_empty() {
            state.asleep = true;
            match until {
                None => self.filled.wait(&mut state),
                Some(until) => {
                    if self.filled.wait_until(&mut state, until).timed_out() {
                        break;
                    }
                }
            }
        }
        state.asleep = false;
    }

    /// Takes everything that is there into `into`, which is empty.
    pub(crate) fn take(&self, into: &mut Vec<T>) {
        std::mem::swap(&mut self.state.lock().items, into);
    }

    /// How much there is to take.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    /// Whether there is nothing to take.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().items.is_empty()
    }
}
