//! What the Raft side tells of itself, for `quorate ctl endpoint invariants`.
//!
//! Looked at between two rounds, and told when everything that was decided by then is durable, so that a term, a vote or a
//! committed entry that was told of once is there for good. The core's own invariants are checked on the way.
//!
//! Left out: the content of entries. Members compare it by the hashes of their states.

use std::{collections::VecDeque, time::Duration};

use quorate_etcd::backend::ServerError;
use quorate_node::Node;
use quorate_proto::inspect::{self, RaftResponse};
use quorate_raft::{Broken, EntryId, Mono, NodeId, Role};

use crate::{clock::nanoseconds, pending::Waiter, shared::GROUP, slot::WakeBatch};

/// How many terms of the log are told, the newest ones: some 20 KiB.
const RUNS_MAX: usize = 1_000;

/// Those who asked.
#[derive(Debug, Default)]
pub(crate) struct Inspectors {
    new: Vec<(Mono, Waiter<RaftResponse>)>,
    looked: VecDeque<Looked>,
}

/// What somebody is told once as many records are durable.
#[derive(Debug)]
struct Looked {
    asked_at: Mono,
    staged: u64,
    waiter: Waiter<RaftResponse>,
    answer: Option<RaftResponse>,
}

impl Inspectors {
    /// Somebody asks.
    pub(crate) fn push(&mut self, now: Mono, waiter: Waiter<RaftResponse>) {
        self.new.push((now, waiter));
    }

    /// Looks for those who asked since; `staged` records stand for all that was decided. With it the invariant that does not hold;
    /// the node must stop then.
    pub(crate) fn look(&mut self, node: &mut Node, applied: u64, staged: u64) -> Option<Broken> {
        if self.new.is_empty() {
            return None;
        }
        let (answer, broken) = picture(node, applied);
        let looked = self.new.drain(..).map(|(asked_at, waiter)| {
            let answer = answer.clone();
            Looked { asked_at, staged, waiter, answer }
        });
        self.looked.extend(looked);
        broken
    }

    /// Tells what is durable, now that `written` records are, and ends what took longer than `timeout`.
    pub(crate) fn tell(&mut self, written: u64, now: Mono, timeout: Duration) {
        let mut batch = WakeBatch::default();
        let late = |looked: &Looked| now.since(looked.asked_at) >= nanoseconds(timeout);
        let is_due = |looked: &Looked| looked.staged <= written || late(looked);
        while self.looked.front().is_some_and(is_due) {
            let Some(looked) = self.looked.pop_front() else { return };
            let answer = if looked.staged <= written {
                looked
                    .answer
                    .ok_or_else(|| ServerError::Internal("there is no Raft group".to_owned()))
            } else {
                Err(ServerError::Timeout)
            };
            looked.waiter.give(answer, &mut batch);
        }
    }

    /// When the oldest has waited for `timeout`.
    pub(crate) fn next_deadline(&self, timeout: Duration) -> Option<Mono> {
        self.looked.front().map(|looked| looked.asked_at.after(nanoseconds(timeout)))
    }
}

/// The group as the node sees it now; `None` if it has none. `applied` is how far the state has come.
///
/// With it the invariant that does not hold; the node must stop then.
fn picture(node: &mut Node, applied: u64) -> (Option<RaftResponse>, Option<Broken>) {
    let broken = node.check(GROUP).err();
    let Some(view) = node.view(GROUP) else { return (None, broken) };
    let mut runs: Vec<_> = node.log_terms(GROUP).rev().take(RUNS_MAX).map(entry_id).collect();
    runs.reverse();
    let picture = RaftResponse {
        header: None,
        incarnation: node.incarnation(),
        role: role(view.role).into(),
        term: view.term.0,
        vote: number(view.vote),
        leader: number(view.leader),
        commit: view.commit.0,
        durable: view.durable.0,
        applied,
        base: Some(entry_id(view.base)),
        last: Some(entry_id(view.last)),
        runs,
        voters: view.membership.voters.iter().map(|voter| voter.0).collect(),
        broken: broken.map(|broken| broken.0.to_owned()).unwrap_or_default(),
    };
    (Some(picture), broken)
}

fn entry_id(id: EntryId) -> inspect::EntryId {
    inspect::EntryId { index: id.index.0, term: id.term.0 }
}

fn number(node: Option<NodeId>) -> u64 {
    node.map_or(0, |node| node.0)
}

fn role(role: Role) -> inspect::Role {
    match role {
        Role::Follower => inspect::Role::Follower,
        Role::PreCandidate => inspect::Role::PreCandidate,
        Role::Candidate => inspect::Role::Candidate,
        Role::Leader => inspect::Role::Leader,
    }
}
