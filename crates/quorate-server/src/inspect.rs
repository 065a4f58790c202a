//! What the Raft side tells of itself, for `quorate ctl endpoint invariants`.
//!
//! Asked between two rounds: what was decided is durable then, so that a term, a vote or a committed entry that was told of once
//! is there for good. The core's own invariants are checked on the way.
//!
//! Left out: the content of entries. Members compare it by the hashes of their states.

use quorate_node::Node;
use quorate_proto::inspect::{self, RaftResponse};
use quorate_raft::{Broken, EntryId, NodeId, Role};

use crate::shared::GROUP;

/// How many terms of the log are told, the newest ones: some 20 KiB.
const RUNS_MAX: usize = 1_000;

/// The group as the node sees it now; `None` if it has none. `applied` is how far the state has come.
///
/// With it the invariant that does not hold; the node must stop then.
pub(crate) fn picture(node: &mut Node, applied: u64) -> (Option<RaftResponse>, Option<Broken>) {
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
