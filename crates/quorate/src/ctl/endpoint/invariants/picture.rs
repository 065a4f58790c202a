//! What one member told of its Raft side, as plain values, and what two logs say of each other.
//!
//! A log is known by the terms of its entries: Raft's own argument is that entries with the same position and term are the same
//! entry. Content is compared by the hashes of the states.

use std::collections::BTreeSet;

use quorate_proto::inspect::{EntryId, RaftResponse, Role};

/// An entry's place in the log, and its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) index: u64,
    pub(super) term: u64,
}

impl From<Option<EntryId>> for Entry {
    fn from(id: Option<EntryId>) -> Self {
        id.map_or_else(Self::default, |EntryId { index, term }| Self { index, term })
    }
}

/// The terms of a log's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// The entry just before the log.
    pub(super) base: Entry,
    /// The first entry of each term; of a long history only the newest.
    pub(super) runs: Vec<Entry>,
    pub(super) last: Entry,
}

impl Log {
    /// The term at `index`, as far as it is known.
    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last.index {
            return None;
        }
        let after = self.runs.partition_point(|run| run.index <= index);
        self.runs.get(after.checked_sub(1)?).map(|run| run.term)
    }

    /// Whether terms and positions rise from run to run, as they must in every log.
    pub(super) fn rises(&self) -> bool {
        let starts_above = |run: &Entry| run.index > self.base.index && run.term >= self.base.term;
        self.runs.first().is_none_or(starts_above)
            && self.runs.is_sorted_by(|run, next| run.index < next.index && run.term < next.term)
            && self.last.index >= self.base.index
    }

    /// Where this log and `other` have different terms, in order: where each such stretch begins.
    fn compared<'a>(&'a self, other: &'a Self) -> Vec<(u64, bool)> {
        let places = [&self.base, &other.base].into_iter().chain(&self.runs).chain(&other.runs);
        let indexes: BTreeSet<u64> = places.map(|entry| entry.index).collect();
        let both = |index| Some((index, self.term_at(index)? == other.term_at(index)?));
        indexes.into_iter().filter_map(both).collect()
    }

    /// The first entry up to `upto` that both logs have, with different terms.
    pub(super) fn difference(&self, other: &Self, upto: u64) -> Option<u64> {
        let compared = self.compared(other);
        compared.into_iter().find(|&(index, same)| !same && index <= upto).map(|(index, _)| index)
    }

    /// Two entries, the first different in both logs and the second, behind it, the same.
    pub(super) fn meets_again(&self, other: &Self) -> Option<(u64, u64)> {
        let compared = self.compared(other);
        let (different, _) = *compared.iter().find(|(_, same)| !same)?;
        let (again, _) = *compared.iter().find(|&&(index, same)| same && index > different)?;
        Some((different, again))
    }
}

/// What one member told at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    /// Another number in each run of its process.
    pub(super) incarnation: u64,
    pub(super) leads: bool,
    pub(super) term: u64,
    pub(super) vote: Option<u64>,
    pub(super) leader: Option<u64>,
    pub(super) commit: u64,
    pub(super) durable: u64,
    pub(super) applied: u64,
    pub(super) log: Log,
    pub(super) voters: BTreeSet<u64>,
    /// The invariant that its core found broken.
    pub(super) broken: Option<String>,
}

impl Picture {
    /// Whether the member can't lose this entry. `term`: the entry's, when that is known.
    pub(super) fn holds(&self, index: u64, term: Option<u64>) -> bool {
        let is_durable = self.durable.min(self.log.last.index).max(self.log.base.index) >= index;
        let differs = match (self.log.term_at(index), term) {
            (Some(here), Some(there)) => here != there,
            (None, _) | (_, None) => false,
        };
        is_durable && !differs
    }
}

impl From<&RaftResponse> for Picture {
    fn from(answer: &RaftResponse) -> Self {
        let member = |id: u64| Some(id).filter(|id| *id != 0);
        let runs = answer.runs.iter().map(|run| Entry::from(Some(*run))).collect();
        Self {
            incarnation: answer.incarnation,
            leads: answer.role() == Role::Leader,
            term: answer.term,
            vote: member(answer.vote),
            leader: member(answer.leader),
            commit: answer.commit,
            durable: answer.durable,
            applied: answer.applied,
            log: Log { base: answer.base.into(), runs, last: answer.last.into() },
            voters: answer.voters.iter().copied().collect(),
            broken: Some(answer.broken.clone()).filter(|broken| !broken.is_empty()),
        }
    }
}
