//! Majorities, alone and joint (Raft paper 6). Arithmetic only: it knows no log, no role and no message.
//!
//! In a joint configuration every decision needs a majority of each half, never of their union. An empty half decides nothing
//! and stands in no way.

use crate::config::VOTERS_MAX;
use crate::{Index, Membership, NodeId};

/// What the votes so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    /// A quorum is for it.
    Won,
    /// No quorum can be for it any more.
    Lost,
    /// Not decided.
    Pending,
}

/// The voters of a configuration, as sorted lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quorum {
    incoming: Vec<NodeId>,
    outgoing: Vec<NodeId>,
}

impl Quorum {
    /// The voters of `membership`.
    pub(crate) fn of(membership: &Membership) -> Self {
        Self {
            incoming: membership.voters.iter().copied().collect(),
            outgoing: membership.voters_outgoing.iter().copied().collect(),
        }
    }

    /// Whether `node` has a vote in either half.
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.incoming.contains(&node) || self.outgoing.contains(&node)
    }

    /// Whether `node` alone is a quorum.
    pub(crate) fn is_lone(&self, node: NodeId) -> bool {
        self.is_met(|voter| voter == node)
    }

    /// Whether those for whom `holds` is true are a quorum.
    pub(crate) fn is_met(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        self.tally(|voter| Some(holds(voter))) == Tally::Won
    }

    /// Counts votes; `None` is a vote not heard yet.
    pub(crate) fn tally(&self, vote: impl Fn(NodeId) -> Option<bool>) -> Tally {
        match (tally_half(&self.incoming, &vote), tally_half(&self.outgoing, &vote)) {
            (Tally::Won, Tally::Won) => Tally::Won,
            (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
            _ => Tally::Pending,
        }
    }

    /// The greatest position that a quorum holds, given what each voter holds.
    pub(crate) fn reached(&self, held: impl Fn(NodeId) -> Index) -> Index {
        let incoming = reached_half(&self.incoming, &held);
        let outgoing = reached_half(&self.outgoing, &held);
        match (incoming, outgoing) {
            (Some(one), Some(other)) => one.min(other),
            (one, other) => one.or(other).unwrap_or_default(),
        }
    }
}

/// How many of `count` are a majority.
pub(crate) fn majority(count: usize) -> usize {
    count / 2 + 1
}

fn tally_half(voters: &[NodeId], vote: &impl Fn(NodeId) -> Option<bool>) -> Tally {
    if voters.is_empty() {
        return Tally::Won;
    }
    let (mut granted, mut missing) = (0, 0);
    for voter in voters {
        match vote(*voter) {
            Some(true) => granted += 1,
            Some(false) => {}
            None => missing += 1,
        }
    }
    let needed = majority(voters.len());
    if granted >= needed {
        Tally::Won
    } else if granted + missing < needed {
        Tally::Lost
    } else {
        Tally::Pending
    }
}

/// Sorts on the stack; recovery and snapshot install admit no more than `VOTERS_MAX` voters.
fn reached_half(voters: &[NodeId], held: &impl Fn(NodeId) -> Index) -> Option<Index> {
    if voters.is_empty() {
        return None;
    }
    let mut buffer = [Index(0); VOTERS_MAX];
    for (slot, voter) in buffer.iter_mut().zip(voters) {
        *slot = held(*voter);
    }
    let positions = buffer.get_mut(..voters.len())?;
    positions.sort_unstable();
    positions.get(voters.len() - majority(voters.len())).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn quorum(incoming: &BTreeSet<u64>, outgoing: &BTreeSet<u64>) -> Quorum {
        let ids = |set: &BTreeSet<u64>| set.iter().copied().map(NodeId).collect();
        Quorum::of(&Membership {
            voters: ids(incoming),
            voters_outgoing: ids(outgoing),
            learners: BTreeSet::new(),
        })
    }

    /// By definition: more than half of each half that has anybody.
    fn is_quorum(half: &BTreeSet<u64>, set: &BTreeSet<u64>) -> bool {
        half.is_empty() || 2 * half.intersection(set).count() > half.len()
    }

    fn voters(least: usize) -> impl Strategy<Value = BTreeSet<u64>> {
        prop::collection::btree_set(1_u64..9, least..7)
    }

    proptest! {
        #[test]
        fn reached_is_the_greatest_position_a_quorum_holds(
            incoming in voters(1), outgoing in voters(0), held in prop::collection::btree_map(1_u64..9, 0_u64..12, 0..9)
        ) {
            let at = |node: u64| held.get(&node).copied().unwrap_or(0);
            let naive = (0..12).rev().find(|position| {
                let set: BTreeSet<u64> = (1..9).filter(|node| at(*node) >= *position).collect();
                is_quorum(&incoming, &set) && is_quorum(&outgoing, &set)
            });
            let reached = quorum(&incoming, &outgoing).reached(|node| Index(at(node.0)));
            prop_assert_eq!(Some(reached.0), naive);
        }

        #[test]
        fn tally_says_what_the_missing_votes_can_still_change(
            incoming in voters(1), outgoing in voters(0), votes in prop::collection::btree_map(1_u64..9, any::<bool>(), 0..9)
        ) {
            let with = |missing: bool| -> BTreeSet<u64> {
                (1..9).filter(|node| votes.get(node).copied().unwrap_or(missing)).collect()
            };
            let wins = |set: &BTreeSet<u64>| is_quorum(&incoming, set) && is_quorum(&outgoing, set);
            let naive = match (wins(&with(false)), wins(&with(true))) {
                (true, _) => Tally::Won,
                (false, true) => Tally::Pending,
                (false, false) => Tally::Lost,
            };
            let tally = quorum(&incoming, &outgoing).tally(|node| votes.get(&node.0).copied());
            prop_assert_eq!(tally, naive);
        }

        #[test]
        fn two_quorums_always_share_a_voter(
            incoming in voters(1), outgoing in voters(0), one in voters(0), other in voters(0)
        ) {
            let quorum = quorum(&incoming, &outgoing);
            let met = |set: &BTreeSet<u64>| quorum.is_met(|node| set.contains(&node.0));
            if met(&one) && met(&other) {
                prop_assert!(one.intersection(&other).any(|node| quorum.contains(NodeId(*node))));
            }
        }
    }

    /// CCF 6.0.17: the union of both halves has a majority, but the outgoing half alone has not.
    #[test]
    fn a_majority_of_the_union_is_not_a_joint_quorum() {
        let quorum = quorum(&BTreeSet::from([1, 2, 3]), &BTreeSet::from([4, 5, 6]));
        let acks: BTreeMap<u64, bool> = (1..=4).map(|node| (node, true)).collect();
        assert!(!quorum.is_met(|node| acks.contains_key(&node.0)));
    }
}
