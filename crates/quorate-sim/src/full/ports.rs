//! The ports of a simulated server: what it sends and what it wants done beside lies here until the world takes it.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use quorate_node::PeerMessage;
use quorate_raft::NodeId;
use quorate_server::{Job, Jobs, Peers, Turns};

use crate::dice::Dice;

/// What was sent and not yet carried away.
#[derive(Debug, Default)]
pub(super) struct Outbox(Mutex<Vec<(NodeId, PeerMessage)>>);

impl Outbox {
    /// Takes all of it.
    pub(super) fn take(&self) -> Vec<(NodeId, PeerMessage)> {
        std::mem::take(&mut *lock(&self.0))
    }
}

impl Peers for Outbox {
    fn send(&self, to: NodeId, message: PeerMessage) -> bool {
        lock(&self.0).push((to, message));
        true
    }
}

/// Work beside: what is short, and what may take long. Each oldest first.
#[derive(Default)]
pub(super) struct Backlog(Mutex<[VecDeque<Job>; 2]>);

/// The jobs that may take long.
const LONG: [&str; 2] = ["hash", "snapshot"];

impl Backlog {
    /// Takes the oldest short job; if there is none, the oldest long one.
    pub(super) fn take(&self) -> Option<Job> {
        lock(&self.0).iter_mut().find_map(VecDeque::pop_front)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        lock(&self.0).iter().map(VecDeque::len).sum()
    }

    /// Whether the next one is short.
    pub(super) fn is_short(&self) -> bool {
        let [short, _] = &*lock(&self.0);
        !short.is_empty()
    }
}

impl std::fmt::Debug for Backlog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backlog").finish_non_exhaustive()
    }
}

impl Jobs for Backlog {
    fn run(&self, name: &'static str, job: Job) -> io::Result<()> {
        let [short, long] = &mut *lock(&self.0);
        if LONG.contains(&name) { long } else { short }.push_back(job);
        Ok(())
    }
}

/// Where a round gives others a turn: by chance.
#[derive(Debug)]
pub(super) struct Chances {
    dice: Mutex<Dice>,
    /// How many of a million places are such.
    ppm: u32,
}

impl Chances {
    pub(super) fn new(dice: Dice, ppm: u32) -> Self {
        Self { dice: Mutex::new(dice), ppm }
    }
}

impl Turns for Chances {
    fn ends_round(&self) -> bool {
        self.ppm > 0 && lock(&self.dice).chance(self.ppm)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
