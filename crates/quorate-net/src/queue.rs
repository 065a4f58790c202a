//! What waits for one connection's writer: bounded by count and by bytes, and never a wait for whoever puts it there.
//!
//! A queue is open while its connection stands. Nothing is kept for later: what is queued for a peer that is away would be
//! stale when it returns, and the Raft core sends again what matters.

use std::{collections::VecDeque, time::Duration};

use parking_lot::{Condvar, Mutex};

/// Why a message was not taken; it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No such peer is configured.
    #[error("not a peer")]
    UnknownPeer,
    /// There is no connection now.
    #[error("not connected")]
    Disconnected,
    /// The peer takes messages more slowly than they are made.
    #[error("the queue to the peer is full")]
    Full,
    /// It could not be sent as one frame.
    #[error("a message of {0} bytes is over the frame limit")]
    TooLarge(usize),
}

/// A bounded queue between whoever sends and one writer thread.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    count_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    /// Sum of the sizes given for what waits.
    bytes: usize,
    /// A connection stands.
    open: bool,
    /// Set by [`Queue::kick`], cleared by [`Queue::pause`].
    kicked: bool,
}

/// What a writer finds when it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// What waited; nothing, perhaps.
    Open,
    /// The connection is to be given up.
    Closed,
}

impl<T> Queue<T> {
    /// A closed queue with these limits.
    pub(crate) fn new(count_max: usize, bytes_max: usize) -> Self {
        let state = State { waiting: VecDeque::new(), bytes: 0, open: false, kicked: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), count_max, bytes_max }
    }

    /// Adds `item`, which counts as `bytes`. One item is always taken when nothing else waits.
    pub(crate) fn put(&self, item: T, bytes: usize) -> Result<(), SendError> {
        let mut state = self.state.lock();
        if !state.open {
            return Err(SendError::Disconnected);
        }
        let sum = state.bytes.saturating_add(bytes);
        if !state.waiting.is_empty()
            && (state.waiting.len() >= self.count_max || sum > self.bytes_max)
        {
            return Err(SendError::Full);
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.push_back(item);
        state.bytes = sum;
        drop(state);
        if was_empty {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Puts what must go before everything else, whatever the limits say. Lost without a connection.
    pub(crate) fn put_first(&self, item: T) {
        let mut state = self.state.lock();
        if state.open {
            state.waiting.push_front(item);
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Whether a connection stands and nothing waits for it.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.open && state.waiting.is_empty()
    }

    /// Waits up to `patience` for something to take.
    pub(crate) fn wait(&self, patience: Duration) {
        let mut state = self.state.lock();
        self.changed.wait_while_for(
            &mut state,
            |state| state.open && state.waiting.is_empty(),
            patience,
        );
    }

    /// Moves everything that waits into `batch`, which must be empty.
    pub(crate) fn take(&self, batch: &mut VecDeque<T>) -> Taken {
        let mut state = self.state.lock();
        if !state.open {
            return Taken::Closed;
        }
        std::mem::swap(&mut state.waiting, batch);
        state.bytes = 0;
        Taken::Open
    }

    /// A connection stands: messages are taken from now on.
    pub(crate) fn open(&self) {
        self.state.lock().open = true;
    }

    /// The connection is gone: what waits is dropped, the writer wakes. Gives the number of messages lost.
    pub(crate) fn close(&self) -> usize {
        let mut state = self.state.lock();
        state.open = false;
        state.bytes = 0;
        let lost = state.waiting.len();
        state.waiting.clear();
        drop(state);
        self.changed.notify_all();
        lost
    }

    /// Ends a pause, or the next one.
    pub(crate) fn kick(&self) {
        self.state.lock().kicked = true;
        self.changed.notify_all();
    }

    /// Waits for `patience`, or until kicked.
    pub(crate) fn pause(&self, patience: Duration) {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.kicked, patience);
        state.kicked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(queue: &Queue<u8>) -> Vec<u8> {
        let mut batch = VecDeque::new();
        assert_eq!(queue.take(&mut batch), Taken::Open);
        batch.into()
    }

    #[test]
    fn both_limits_hold_and_everything_comes_out_at_once() {
        let queue = Queue::new(2, 100);
        assert_eq!(queue.put(1, 1), Err(SendError::Disconnected));
        queue.open();
        assert_eq!(queue.put(1, 1), Ok(()));
        assert_eq!(queue.put(2, 99), Ok(()));
        assert_eq!(queue.put(3, 0), Err(SendError::Full));
        assert_eq!(taken(&queue), [1, 2]);
        assert_eq!(queue.put(4, 60), Ok(()));
        assert_eq!(queue.put(5, 60), Err(SendError::Full));
        assert_eq!(taken(&queue), [4]);
    }

    #[test]
    fn one_item_larger_than_the_limit_passes_alone() {
        let queue = Queue::new(9, 100);
        queue.open();
        assert_eq!(queue.put(1, 1000), Ok(()));
        assert_eq!(queue.put(2, 1), Err(SendError::Full));
    }

    #[test]
    fn what_goes_first_needs_a_connection_but_no_room() {
        let queue = Queue::new(1, 1);
        queue.put_first(9);
        queue.open();
        assert!(queue.is_idle());
        queue.put(1, 1).unwrap();
        queue.put_first(0);
        assert!(!queue.is_idle());
        assert_eq!(taken(&queue), [0, 1]);
    }

    #[test]
    fn closing_drops_what_waits_and_says_how_much() {
        let queue = Queue::new(9, 100);
        queue.open();
        queue.put(1, 1).unwrap();
        queue.put(2, 1).unwrap();
        assert_eq!(queue.close(), 2);
        queue.wait(Duration::MAX);
        assert_eq!(queue.take(&mut VecDeque::new()), Taken::Closed);
        queue.open();
        assert_eq!(taken(&queue), []);
    }

    #[test]
    fn a_kick_ends_the_next_pause() {
        let queue: Queue<u8> = Queue::new(1, 1);
        queue.kick();
        queue.pause(Duration::MAX);
    }
}
