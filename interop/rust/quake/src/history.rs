//! What the clients saw, in the form that the judges take; one for each client while it runs, and one for all in the end.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use quorate_check::{Outcome, cycles, lease, lock, register, revision, watch};

/// The clock that all clients share.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// It shows 0 now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since its start.
    pub fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A request that was made, and what came of it.
#[derive(Clone, Debug)]
pub struct Timed<R> {
    /// When it was sent.
    pub invoke: u64,
    /// When the client stopped waiting.
    pub returned: u64,
    /// How it ended.
    pub outcome: Outcome<R>,
}

impl<R> Timed<R> {
    /// The same request in the eyes of another judge.
    pub fn seen_as<S>(&self, reply: impl FnOnce(&R) -> S) -> Timed<S> {
        let outcome = match &self.outcome {
            Outcome::Ok(told) => Outcome::Ok(reply(told)),
            Outcome::Failed => Outcome::Failed,
            Outcome::Unknown => Outcome::Unknown,
        };
        Timed { invoke: self.invoke, returned: self.returned, outcome }
    }

    /// The operation of a history.
    pub fn operation<Q>(self, client: u64, request: Q) -> quorate_check::Operation<Q, R> {
        let Self { invoke, returned, outcome } = self;
        quorate_check::Operation { client, invoke, returned: Some(returned), request, outcome }
    }
}

/// Everything that was seen, each promise in the words of its judge.
#[derive(Debug, Default)]
pub struct History {
    /// Every request for keys, whatever it was for.
    pub keys: Vec<revision::Operation>,
    /// Those for registers.
    pub registers: Vec<register::Operation>,
    /// Transactions over lists.
    pub lists: Vec<cycles::Operation>,
    /// What became of leases.
    pub leases: Vec<lease::Operation>,
    /// Who held a lock.
    pub locks: Vec<lock::Operation>,
    /// What watches were told.
    pub watches: Vec<watch::Watch>,
    /// Elements that were added to a set of unique elements: key and outcome.
    pub added: Vec<(String, Outcome<()>)>,
    /// Breaches that a client notices by itself, in words.
    pub complaints: Vec<String>,
}

impl History {
    /// Takes over what another client saw.
    pub fn absorb(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.registers.extend(other.registers);
        self.lists.extend(other.lists);
        self.leases.extend(other.leases);
        self.locks.extend(other.locks);
        self.watches.extend(other.watches);
        self.added.extend(other.added);
        self.complaints.extend(other.complaints);
    }
}

/// Running totals.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that were sent.
    pub sent: AtomicU64,
    /// Those that were answered with a reply.
    pub answered: AtomicU64,
    /// Those of which nobody knows whether they took effect; reads are not among them.
    pub unknown: AtomicU64,
    /// Events that watches were told.
    pub events: AtomicU64,
}

impl Counts {
    /// Counts a request by its end.
    pub fn count<R>(&self, outcome: &Outcome<R>) {
        self.sent.fetch_add(1, Relaxed);
        match outcome {
            Outcome::Ok(_) => self.answered.fetch_add(1, Relaxed),
            Outcome::Unknown => self.unknown.fetch_add(1, Relaxed),
            Outcome::Failed => 0,
        };
    }
}
