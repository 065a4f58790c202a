//! The queue in front of a server thread: many put in, one takes everything at once.
//!
//! The thread is woken only if it sleeps, so a busy thread costs its callers a lock and a push.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// A queue whose receiver takes all there is.
#[derive(Debug)]
pub(super) struct Inbox<T> {
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
    pub(super) fn put(&self, item: T) {
        self.put_all([item]);
    }

    /// Puts several in, with at most one wake-up.
    pub(super) fn put_all(&self, items: impl IntoIterator<Item = T>) {
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

    /// Takes everything into `into`, which is empty; waits until there is something, but not beyond `until` (`None`: as long
    /// as it takes).
    pub(super) fn take(&self, into: &mut Vec<T>, until: Option<Instant>) {
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
        std::mem::swap(&mut state.items, into);
    }

    /// Takes what is there now.
    pub(super) fn take_now(&self, into: &mut Vec<T>) {
        std::mem::swap(&mut self.state.lock().items, into);
    }
}
