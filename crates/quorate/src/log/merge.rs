//! One log out of those of several members.
//!
//! Up to the greatest commit index that any member noted, or to where any log begins, the entry of the highest term at a position is
//! the committed one: every leader of a later term had it (leader completeness). Behind that, an entry counts as committed when a
//! majority of the given logs hold it.

use anyhow::bail;
use quorate_node::{Entry, GroupLog};
use quorate_raft::Index;

/// The committed entries that are still there, in order.
///
/// # Errors
/// A position between two entries is in none of the logs.
pub(super) fn committed(logs: &[GroupLog]) -> anyhow::Result<Vec<(Index, &Entry)>> {
    let known = logs.iter().map(known_commit).max().unwrap_or_default();
    let first = logs.iter().map(|log| base(log).next()).min().unwrap_or(Index(1));
    let mut merged: Vec<(Index, &Entry)> = Vec::new();
    for index in (first.0..).map(Index) {
        let held: Vec<&Entry> = logs.iter().filter_map(|log| entry_at(log, index)).collect();
        let entry = if index <= known {
            held.iter().max_by_key(|entry| entry.meta.term).copied()
        } else {
            held_by_majority(&held, logs.len())
        };
        match entry {
            Some(entry) => merged.push((index, entry)),
            None if index <= known && merged.is_empty() => {}
            None if index <= known => bail!("entry {index} is in none of the logs"),
            None => break,
        }
    }
    Ok(merged)
}

/// The position before the first entry held.
fn base(log: &GroupLog) -> Index {
    log.base.as_ref().map_or(Index(0), |base| base.last.index)
}

fn known_commit(log: &GroupLog) -> Index {
    base(log).max(log.hard_state.commit)
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

    fn merged(logs: &[GroupLog]) -> Vec<(u64, u64)> {
        let entries = committed(logs).unwrap();
        entries.into_iter().map(|(index, entry)| (index.0, entry.meta.term.0)).collect()
    }

    #[test]
    fn a_majority_decides_behind_the_known_commit() {
        let logs = [log(0, &[1, 1, 2], 0), log(0, &[1, 1, 1], 0), log(0, &[1, 1], 0)];
        assert_eq!(merged(&logs), [(1, 1), (2, 1)]);
    }

    #[test]
    fn below_the_known_commit_the_highest_term_is_right() {
        let logs = [log(0, &[1, 1, 1], 0), log(0, &[1, 3], 2), log(0, &[1, 3], 0)];
        assert_eq!(merged(&logs), [(1, 1), (2, 3)]);
    }

    #[test]
    fn logs_that_begin_at_different_places_fit_together() {
        let logs = [log(2, &[1], 0), log(1, &[1, 1], 0), log(2, &[1], 0)];
        assert_eq!(merged(&logs), [(2, 1), (3, 1)]);
    }

    #[test]
    fn a_hole_is_an_error() {
        let logs = [log(0, &[1], 0), log(3, &[1], 0), log(3, &[1], 0)];
        assert!(committed(&logs).is_err());
    }
}
