//! One log out of those of several members.
//!
//! Up to the greatest commit index that any member noted, or to where any log begins, the entry of the highest term at a position is
//! the committed one: every leader of a later term had it (leader completeness). Behind that, an entry counts as committed when a
//! majority of the given logs hold it.
//!
//! That is true of logs of one group only. So logs that can't be are refused: two entries of one position and term are the same
//! entry (log matching), and what two members know to be committed is the same (state machine safety).

use anyhow::{bail, ensure};
use quorate_node::{Entry, GroupLog};
use quorate_raft::Index;

/// One member's log, and where it was read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) place: String,
    pub(super) log: GroupLog,
}

/// What the logs say together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Merged<'a> {
    /// The committed entries that are still there, in order.
    pub(super) entries: Vec<(Index, &'a Entry)>,
    /// Positions behind them that some logs hold and no majority holds alike: the first and the last.
    pub(super) undecided: Option<(Index, Index)>,
}

/// Merges.
///
/// # Errors
/// The logs are not those of one group; or a position between two entries is in none of the logs.
pub(super) fn committed(sources: &[Source]) -> anyhow::Result<Merged<'_>> {
    let logs = || sources.iter().map(|source| &source.log);
    let known = logs().map(known_commit).max().unwrap_or_default();
    let first = logs().map(|log| base(log).next()).min().unwrap_or(Index(1));
    let last = logs().map(last).max().unwrap_or_default();
    let mut merged: Vec<(Index, &Entry)> = Vec::new();
    for index in (first.0..=last.0).map(Index) {
        check_alike(index, sources)?;
        let held: Vec<&Entry> = logs().filter_map(|log| entry_at(log, index)).collect();
        let entry = if index <= known {
            held.iter().max_by_key(|entry| entry.meta.term).copied()
        } else {
            held_by_majority(&held, sources.len())
        };
        match entry {
            Some(entry) => merged.push((index, entry)),
            None if index <= known && merged.is_empty() => {}
            None if index <= known => bail!("entry {index} is in none of the logs"),
            None => return Ok(Merged { entries: merged, undecided: Some((index, last)) }),
        }
    }
    Ok(Merged { entries: merged, undecided: None })
}

/// Whether what the logs hold at a position can stand there in logs of one group.
fn check_alike(index: Index, sources: &[Source]) -> anyhow::Result<()> {
    let here = |source: &'_ Source| entry_at(&source.log, index).map(|entry| entry.meta.term);
    for (nth, one) in sources.iter().enumerate() {
        for other in sources.iter().skip(nth + 1) {
            let (Some(term), Some(other_term)) = (here(one), here(other)) else { continue };
            let places = format!("{} and {}", one.place, other.place);
            let both_know = index <= known_commit(&one.log) && index <= known_commit(&other.log);
            ensure!(
                !both_know || term == other_term,
                "{places} are not of one cluster, or one of them is damaged: entry {index} is committed in both, but is of term {term} in one and of term {other_term} in the other"
            );
            ensure!(
                term != other_term || entry_at(&one.log, index) == entry_at(&other.log, index),
                "{places} are not of one cluster, or one of them is damaged: each has an entry {index} of term {term}, and they are not the same"
            );
        }
    }
    Ok(())
}

/// The position before the first entry held.
fn base(log: &GroupLog) -> Index {
    log.base.as_ref().map_or(Index(0), |base| base.last.index)
}

fn known_commit(log: &GroupLog) -> Index {
    base(log).max(log.hard_state.commit)
}

fn last(log: &GroupLog) -> Index {
    Index(base(log).0 + log.entries.len() as u64)
}

fn entry_at(log: &GroupLog, index: Index) -> Option<&Entry> {
    let offset = index.0.checked_sub(base(log).0 + 1)?;
    log.entries.get(usize::try_from(offset).ok()?)
}

fn held_by_majority<'a>(held: &[&'a Entry], members: usize) -> Option<&'a Entry> {
    let copies =
        |entry: &Entry| held.iter().filter(|other| other.meta.term == entry.meta.term).count();
    held.iter().find(|entry| 2 * copies(entry) > members).copied()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_raft::{EntryId, EntryKind, EntryMeta, HardState, Membership, SnapshotMeta, Term};

    use super::*;

    fn log(base: u64, terms: &[u64], commit: u64) -> GroupLog {
        let last = EntryId { term: Term(1), index: Index(base) };
        let entry = |term: &u64| Entry {
            meta: EntryMeta { term: Term(*term), kind: EntryKind::Noop, bytes: 0 },
            payload: Bytes::new(),
        };
        GroupLog {
            hard_state: HardState { commit: Index(commit), ..HardState::default() },
            base: (base > 0).then(|| SnapshotMeta { last, membership: Membership::default() }),
            entries: terms.iter().map(entry).collect(),
        }
    }

    fn sources(logs: impl IntoIterator<Item = GroupLog>) -> Vec<Source> {
        let named = |(number, log)| Source { place: format!("member {number}"), log };
        (1..).zip(logs).map(named).collect()
    }

    type Pair = (u64, u64);

    /// Position and term of each entry, and what is undecided.
    fn merged(logs: impl IntoIterator<Item = GroupLog>) -> (Vec<Pair>, Option<Pair>) {
        let sources = sources(logs);
        let Merged { entries, undecided } = committed(&sources).unwrap();
        let entries = entries.into_iter().map(|(index, entry)| (index.0, entry.meta.term.0));
        (entries.collect(), undecided.map(|(first, last)| (first.0, last.0)))
    }

    fn problem(logs: impl IntoIterator<Item = GroupLog>) -> String {
        committed(&sources(logs)).unwrap_err().to_string()
    }

    #[test]
    fn a_majority_decides_behind_the_known_commit() {
        let logs = [log(0, &[1, 1, 2], 0), log(0, &[1, 1, 1], 0), log(0, &[1, 1], 0)];
        assert_eq!(merged(logs), (vec![(1, 1), (2, 1)], Some((3, 3))));
    }

    #[test]
    fn below_the_known_commit_the_highest_term_is_right() {
        let logs = [log(0, &[1, 1, 1], 0), log(0, &[1, 3], 2), log(0, &[1, 3], 0)];
        assert_eq!(merged(logs), (vec![(1, 1), (2, 3)], Some((3, 3))));
    }

    #[test]
    fn logs_that_begin_at_different_places_fit_together() {
        let logs = [log(2, &[1], 0), log(1, &[1, 1], 0), log(2, &[1], 0)];
        assert_eq!(merged(logs), (vec![(2, 1), (3, 1)], None));
    }

    #[test]
    fn a_hole_is_an_error() {
        let logs = [log(0, &[1], 0), log(3, &[1], 0), log(3, &[1], 0)];
        assert_eq!(problem(logs), "entry 2 is in none of the logs");
    }

    #[test]
    fn logs_of_two_groups_are_refused() {
        let other = |mut log: GroupLog| {
            log.entries[1].payload = Bytes::from_static(b"other");
            log
        };
        let same_terms = [log(0, &[1, 1], 0), other(log(0, &[1, 1], 0))];
        let text = problem(same_terms);
        assert!(text.contains("member 1 and member 2 are not of one cluster"), "{text}");
        assert!(text.contains("each has an entry 2 of term 1"), "{text}");
        let text = problem([log(0, &[1, 2], 2), log(0, &[1, 3], 2)]);
        assert!(text.contains("of term 2 in one and of term 3 in the other"), "{text}");
    }
}
