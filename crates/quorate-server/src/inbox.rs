//! The queue in front of a side: many put in, one takes everything at once.
//!
//! The thread that takes is woken only if it sleeps, so a busy thread costs its callers a lock and a push.
//!
//! What comes from outside is bounded by count and by bytes, and refused beyond. Clients may fill half of it, so that they leave
//! room for peers. What this process itself puts in is little, and is never refused.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// How many items a queue takes from outside.
pub(crate) const ITEMS_MAX: usize = 1 << 17;
/// How much content a queue takes from outside, in bytes.
pub(crate) const BYTES_MAX: u64 = 128 << 20;

/// A queue whose receiver takes all there is.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    limits: (usize, u64),
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    /// Content of what was offered.
    bytes: u64,
    asleep: bool,
}

/// Who offers something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A client, who is told when it is refused. One item is taken when there are no others, however large.
    Client,
    /// A peer, who sends again what matters.
    Peer,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self::with_limits(ITEMS_MAX, BYTES_MAX)
    }
}

impl<T> Inbox<T> {
    /// An empty one that takes no more than this from outside.
    pub(crate) fn with_limits(items_max: usize, bytes_max: u64) -> Self {
        Self {
            state: Mutex::new(State { items: Vec::new(), bytes: 0, asleep: false }),
            filled: Condvar::new(),
            limits: (items_max, bytes_max),
        }
    }

    /// Puts one in.
    pub(crate) fn put(&self, item: T) {
        self.put_all([item]);
    }

    /// Puts several in, with at most one wake-up.
    pub(crate) fn put_all(&self, items: impl IntoIterator<Item = T>) {
        let mut state = self.state.lock();
        state.items.extend(items);
        let wake = !state.items.is_empty() && std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    /// Puts one in that has `bytes` of content, if there is room for what comes from there.
    ///
    /// # Errors
    /// The item: there is no room.
    pub(crate) fn offer(&self, from: Source, item: T, bytes: u64) -> Result<(), T> {
        let (items_max, bytes_max) = match from {
            Source::Client => (self.limits.0 / 2, self.limits.1 / 2),
            Source::Peer => self.limits,
        };
        let mut state = self.state.lock();
        let fits = state.items.len() < items_max && state.bytes.saturating_add(bytes) <= bytes_max;
        if !fits && !state.items.is_empty() {
            return Err(item);
        }
        state.items.push(item);
        state.bytes += bytes;
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
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
        let mut state = self.state.lock();
        std::mem::swap(&mut state.items, into);
        state.bytes = 0;
    }

    /// Whether something is there of which this holds.
    pub(crate) fn any(&self, holds: impl Fn(&T) -> bool) -> bool {
        self.state.lock().items.iter().any(holds)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_fill_half_of_it_peers_all_and_the_process_itself_is_never_refused() {
        let inbox = Inbox::with_limits(4, 100);
        assert_eq!(inbox.offer(Source::Client, 1, 900), Ok(()), "one is always taken");
        assert_eq!(inbox.offer(Source::Peer, 2, 1), Err(2), "too many bytes");
        let mut taken = Vec::new();
        inbox.take(&mut taken);
        assert_eq!(inbox.offer(Source::Client, 3, 10), Ok(()));
        assert_eq!(inbox.offer(Source::Client, 4, 41), Err(4), "too many bytes of clients");
        assert_eq!(inbox.offer(Source::Client, 5, 40), Ok(()));
        assert_eq!(inbox.offer(Source::Client, 6, 0), Err(6), "too many of clients");
        assert_eq!(inbox.offer(Source::Peer, 7, 0), Ok(()));
        inbox.put(8);
        inbox.put(9);
        assert_eq!(inbox.offer(Source::Peer, 10, 0), Err(10), "too many");
        taken.clear();
        inbox.take(&mut taken);
        assert_eq!(taken, [3, 5, 7, 8, 9]);
    }
}
