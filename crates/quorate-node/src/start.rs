//! What a group starts from: its log, its state machine, and how they are made to agree again.
//!
//! A snapshot becomes the state first, and the log hears of it afterwards ([`NodeEffects`](crate::NodeEffects) says why). A crash
//! between the two leaves the new state beside the old log, which may hold anything: less than the snapshot, or a tail that was never
//! committed and goes on far beyond it. Indexes can't tell these cases apart; terms can (Raft paper 5.3, log matching).

use quorate_raft::{EntryId, EntryMeta, GroupId, HardState, Index, Membership, SnapshotMeta, Term};

use crate::GroupLog;

/// What a group starts from.
#[derive(Clone, Debug)]
pub struct GroupStart {
    /// Which group.
    pub group: GroupId,
    /// What the log holds of it, without content, which is read when it is needed; the default for a fresh one.
    pub log: GroupLog<EntryMeta>,
    /// The last entry that its state machine has applied, durably.
    pub applied: EntryId,
    /// The end of the snapshot that its state machine began with, if it began with one.
    pub installed: Option<EntryId>,
    /// The members of a fresh group.
    pub first_membership: Membership,
}

/// The state machine holds what the log does not, and no snapshot explains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the state machine has applied {applied}, but the log ends at {last}, is committed up to {commit}, and {}",
    found.map_or_else(
        || "holds no such entry".to_owned(),
        |term| format!("its entry there has term {term}")
    )
)]
pub struct StateApart {
    /// The last entry applied.
    pub applied: EntryId,
    /// The end of the log.
    pub last: Index,
    /// The saved commit index.
    pub commit: Index,
    /// The term of the log's entry at the applied index, if it has one there.
    pub found: Option<Term>,
}

impl GroupStart {
    /// Makes up for a crash between the state machine's taking a snapshot and the log's hearing of it. Where the log does not
    /// hold the snapshot's last entry, with its term, nothing of the log stays (figure 13, rule 7): it becomes empty behind the
    /// snapshot. What is returned must be durable in the log, as [`LogRecord::Install`](crate::LogRecord), before the node starts.
    ///
    /// # Errors
    /// [`StateApart`] when state and log differ and this is not that crash: one of them was lost, or is another member's.
    pub fn catch_up(&mut self) -> Result<Option<(HardState, SnapshotMeta)>, StateApart> {
        let found = self.log.term_at(self.applied.index);
        // A state behind the log's start is refused when the core recovers.
        if found == Some(self.applied.term) || self.applied.index < self.log.base().index {
            return Ok(None);
        }
        let saved = self.log.hard_state;
        if self.installed != Some(self.applied) || saved.commit >= self.applied.index {
            let (applied, last, commit) = (self.applied, self.log.last_index(), saved.commit);
            return Err(StateApart { applied, last, commit, found });
        }
        let base = self.log.base.as_ref();
        let membership = base.map_or(&self.first_membership, |base| &base.membership).clone();
        let snapshot = SnapshotMeta { last: self.applied, membership };
        let hard_state = HardState {
            term: saved.term.max(self.applied.term),
            vote: saved.vote.filter(|_| saved.term >= self.applied.term),
            commit: self.applied.index,
        };
        self.log = GroupLog { hard_state, base: Some(snapshot.clone()), entries: Vec::new() };
        Ok(Some((hard_state, snapshot)))
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::{EntryKind, NodeId};

    use super::*;

    fn id(term: u64, index: u64) -> EntryId {
        EntryId { term: Term(term), index: Index(index) }
    }

    /// A log of these terms, from the first entry on, and a state machine that has applied `applied`.
    fn start(
        terms: &[u64],
        commit: u64,
        applied: EntryId,
        installed: Option<EntryId>,
    ) -> GroupStart {
        let entry = |term: &u64| EntryMeta { term: Term(*term), kind: EntryKind::Normal, bytes: 0 };
        let term = terms.last().copied().unwrap_or_default();
        let hard_state =
            HardState { term: Term(term), vote: Some(NodeId(2)), commit: Index(commit) };
        let entries = terms.iter().map(entry).collect();
        GroupStart {
            group: GroupId(1),
            log: GroupLog { hard_state, base: None, entries },
            applied,
            installed,
            first_membership: Membership::of_voters([NodeId(1), NodeId(2)]),
        }
    }

    #[test]
    fn a_state_that_the_log_led_to_changes_nothing() {
        for applied in [EntryId::default(), id(1, 2), id(2, 3)] {
            let mut start = start(&[1, 1, 2], 3, applied, None);
            assert_eq!(start.catch_up(), Ok(None));
            assert_eq!(start.log.entries.len(), 3);
        }
    }

    #[test]
    fn a_snapshot_with_the_same_last_entry_keeps_what_follows_it() {
        let mut start = start(&[1, 1, 2], 1, id(1, 2), Some(id(1, 2)));
        assert_eq!(start.catch_up(), Ok(None));
        assert_eq!(start.log.entries.len(), 3);
    }

    #[test]
    fn a_log_that_ends_before_the_snapshot_goes_on_behind_it() {
        let mut start = start(&[1, 1], 2, id(3, 9), Some(id(3, 9)));
        let (hard_state, snapshot) = start.catch_up().unwrap().unwrap();
        assert_eq!(hard_state, HardState { term: Term(3), vote: None, commit: Index(9) });
        assert_eq!((snapshot.last, snapshot.membership.voters.len()), (id(3, 9), 2));
        assert_eq!((start.log.base(), start.log.entries.len()), (id(3, 9), 0));
    }

    /// The tail of a former leader goes on beyond the snapshot; by its index alone it looks like what follows.
    #[test]
    fn a_tail_of_an_older_term_beyond_the_snapshot_is_dropped() {
        let mut start = start(&[1, 1, 1, 1, 1], 1, id(2, 3), Some(id(2, 3)));
        let (hard_state, _) = start.catch_up().unwrap().unwrap();
        assert_eq!(hard_state, HardState { term: Term(2), vote: None, commit: Index(3) });
        assert_eq!((start.log.base(), start.log.entries.len()), (id(2, 3), 0));
    }

    #[test]
    fn a_vote_of_the_same_or_a_later_term_is_kept() {
        let mut start = start(&[1, 1, 4], 1, id(2, 3), Some(id(2, 3)));
        let (hard_state, _) = start.catch_up().unwrap().unwrap();
        assert_eq!((hard_state.term, hard_state.vote), (Term(4), Some(NodeId(2))));
    }

    #[test]
    fn a_state_that_nothing_explains_is_refused() {
        for (applied, installed, commit) in [
            (id(1, 9), None, 3),
            (id(2, 2), None, 1),
            (id(2, 9), Some(id(2, 7)), 1),
            (id(2, 2), Some(id(2, 2)), 2),
        ] {
            let mut start = start(&[1, 1, 1], commit, applied, installed);
            let refused = start.catch_up().unwrap_err();
            assert_eq!((refused.applied, refused.commit), (applied, Index(commit)));
            assert_eq!(start.log.entries.len(), 3);
        }
    }
}
