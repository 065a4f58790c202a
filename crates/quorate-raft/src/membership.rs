//! Who is a member.
//!
//! Membership is fixed when a group is made, in this version; the types are those of joint consensus (Raft paper 6), so that
//! changing it needs no rewrite.

use std::collections::BTreeSet;

use crate::{EntryId, NodeId};

/// The members of a group: voters, while a change is under way the voters of before as well, and learners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    /// Those whose majority decides.
    pub voters: BTreeSet<NodeId>,
    /// Joint consensus (6): the voters of before, whose majority is needed too. Empty outside a change.
    pub voters_outgoing: BTreeSet<NodeId>,
    /// Those that receive the log and decide nothing.
    pub learners: BTreeSet<NodeId>,
}

impl Membership {
    /// A membership of voters only.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self { voters: voters.into_iter().collect(), ..Self::default() }
    }

    /// Every member once, in order.
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.voters.iter().chain(&self.voters_outgoing).chain(&self.learners).copied().collect()
    }

    /// Whether `node` has a vote.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.voters_outgoing.contains(&node)
    }

    /// Whether `node` is a member in any part.
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }
}

/// What a snapshot stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry it contains.
    pub last: EntryId,
    /// The membership at that entry.
    pub membership: Membership,
}
