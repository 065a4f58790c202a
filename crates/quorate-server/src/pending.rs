//! The proposals of this process that wait for their answer, by sequence.
//!
//! The node answers what it could not bring into the log in time. What is committed is the state machine's to answer; where that
//! stands still, the Raft side ends the wait here.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use quorate_etcd::backend::{Admitted, ServerError};
use quorate_kv::{Command, Reply};
use quorate_node::{ENVELOPE_BYTES, Envelope, Proposal, Scope};
use quorate_raft::{Mono, NodeId};

use crate::slot::{Slot, WakeBatch};

/// What a client gets for a proposal.
pub(crate) type Outcome = Result<Reply, ServerError>;

/// What is done with an answer on the thread that has it. Short: that thread serves everybody.
type Act<T> = Box<dyn FnOnce(Result<T, ServerError>) + Send>;

/// Who waits for an answer.
pub(crate) enum Waiter<T> {
    /// A client's task.
    Task(Arc<Slot<Result<T, ServerError>>>),
    /// Something short to do.
    Call(Act<T>),
}

impl<T> Waiter<T> {
    /// Gives the answer.
    pub(crate) fn give(self, outcome: Result<T, ServerError>, batch: &mut WakeBatch) {
        match self {
            Self::Task(slot) => slot.fill(outcome, batch),
            Self::Call(call) => call(outcome),
        }
    }
}

impl<T> fmt::Debug for Waiter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Task(_) => "Task",
            Self::Call(_) => "Call",
        })
    }
}

/// Who waits for a proposal, and the room that it takes up until it is answered, if it is a client's.
pub(crate) type Open = (Waiter<Reply>, Option<Admitted>);

/// The waiting proposals of this process.
#[derive(Debug)]
pub(crate) struct Pending {
    me: NodeId,
    next: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    waiters: HashMap<u64, Open>,
    /// When each began to wait, oldest first; the first one still waits.
    since: VecDeque<(u64, Mono)>,
}

impl Waiting {
    fn insert(&mut self, sequence: u64, waiter: Open, now: Mono) {
        self.waiters.insert(sequence, waiter);
        self.since.push_back((sequence, now));
    }

    fn remove(&mut self, sequence: u64) -> Option<Open> {
        let waiter = self.waiters.remove(&sequence);
        while self.since.front().is_some_and(|(first, _)| !self.waiters.contains_key(first)) {
            self.since.pop_front();
        }
        waiter
    }
}

impl Pending {
    /// `first` is drawn at random, so that sequences of an earlier run mean nothing here.
    pub(crate) fn new(me: NodeId, first: u64) -> Self {
        Self { me, next: AtomicU64::new(first), waiting: Mutex::default() }
    }

    /// Seals a command under a new sequence, and remembers who waits for it, and the room that it takes until then.
    pub(crate) fn open(
        &self,
        now: Mono,
        command: &Command,
        scope: Scope,
        waiter: Option<Open>,
    ) -> Proposal {
        let sequence = self.next.fetch_add(1, Relaxed);
        if let Some(waiter) = waiter {
            self.waiting.lock().insert(sequence, waiter, now);
        }
        Proposal { sequence, payload: self.seal(sequence, command), scope }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().waiters.len()
    }

    /// Gives one outcome.
    pub(crate) fn close(&self, sequence: u64, outcome: Outcome, batch: &mut WakeBatch) {
        let waiter = self.waiting.lock().remove(sequence);
        if let Some((waiter, _room)) = waiter {
            waiter.give(outcome, batch);
        }
    }

    /// How many of clients wait.
    pub(crate) fn of_clients(&self) -> usize {
        let waiting = self.waiting.lock();
        waiting.waiters.values().filter(|(waiter, _)| matches!(waiter, Waiter::Task(_))).count()
    }

    /// Gives many outcomes with one lock.
    pub(crate) fn close_all(&self, outcomes: Vec<(u64, Outcome)>, batch: &mut WakeBatch) {
        let mut waiting = self.waiting.lock();
        let found: Vec<_> = outcomes
            .into_iter()
            .filter_map(|(sequence, outcome)| Some((waiting.remove(sequence)?, outcome)))
            .collect();
        drop(waiting);
        for ((waiter, _room), outcome) in found {
            waiter.give(outcome, batch);
        }
    }

    /// When the oldest began to wait.
    pub(crate) fn oldest(&self) -> Option<Mono> {
        self.waiting.lock().since.front().map(|(_, since)| *since)
    }

    /// Ends the wait of those who began it at or before `limit`. What becomes of their proposals is not known.
    pub(crate) fn expire(&self, limit: Mono, batch: &mut WakeBatch) {
        let mut late = Vec::new();
        let mut waiting = self.waiting.lock();
        while let Some((sequence, _)) = waiting.since.front().filter(|(_, at)| *at <= limit) {
            let sequence = *sequence;
            late.extend(waiting.remove(sequence));
        }
        drop(waiting);
        for (waiter, _room) in late {
            waiter.give(Err(ServerError::Timeout), batch);
        }
    }

    /// The server ends: everybody hears it.
    pub(crate) fn stop(&self) {
        let Waiting { waiters, .. } = std::mem::take(&mut *self.waiting.lock());
        let mut batch = WakeBatch::default();
        let all: Vec<_> = waiters.into_values().collect();
        for (waiter, _room) in all {
            waiter.give(Err(ServerError::Stopped), &mut batch);
        }
    }

    fn seal(&self, sequence: u64, command: &Command) -> Bytes {
        let command = command.encode();
        let mut sealed = BytesMut::with_capacity(ENVELOPE_BYTES + command.len());
        Envelope::begin(self.me, sequence, &mut sealed);
        sealed.put_slice(&command);
        sealed.freeze()
    }
}
