//! The recent entries of one group's log, in memory.
//!
//! Invariants
//! - the entries are consecutive and end where the log ends.
//! - everything that is not in the log store yet is here: the caller evicts only what is durable.

use std::collections::VecDeque;

use quorate_raft::{EntryRange, Index};

use crate::Entry;

/// What an entry costs beside its content, in bytes.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// The tail of a log.
#[derive(Clone, Debug)]
pub(crate) struct EntryCache {
    first: Index,
    entries: VecDeque<Entry>,
    bytes: u64,
}

impl EntryCache {
    /// Nothing; the log goes on at `next`.
    pub(crate) fn new(next: Index) -> Self {
        Self { first: next, entries: VecDeque::new(), bytes: 0 }
    }

    /// Position of the first entry here, or of the next one.
    pub(crate) fn first(&self) -> Index {
        self.first
    }

    /// Replaces everything from `first` on. Where that would leave a hole, only the new entries stay.
    pub(crate) fn replace_from(&mut self, first: Index, entries: &[Entry]) {
        if first < self.first || first > self.next() {
            *self = Self::new(first);
        }
        while self.next() > first {
            self.bytes -= self.entries.pop_back().as_ref().map_or(0, cost);
        }
        self.bytes += entries.iter().map(cost).sum::<u64>();
        self.entries.extend(entries.iter().cloned());
    }

    /// The entries of `range` from its first on, as many as have `bytes_max` bytes of content but at least one. `None` if the
    /// first is not here.
    pub(crate) fn get(&self, range: EntryRange, bytes_max: u64) -> Option<Vec<Entry>> {
        let skip = usize::try_from(range.first.0.checked_sub(self.first.0)?).ok()?;
        if range.first >= self.next() || range.is_empty() {
            return None;
        }
        let count = usize::try_from(range.len()).unwrap_or(usize::MAX);
        let end = skip.saturating_add(count).min(self.entries.len());
        let mut bytes = 0;
        let fitting = self.entries.range(skip..end).enumerate().take_while(|(nth, entry)| {
            bytes += entry.payload.len() as u64;
            *nth == 0 || bytes <= bytes_max
        });
        Some(fitting.map(|(_, entry)| entry.clone()).collect())
    }

    /// Drops the oldest entries while there are more than `bytes_max` bytes, but none behind `upto`.
    pub(crate) fn evict(&mut self, upto: Index, bytes_max: u64) {
        while self.bytes > bytes_max && self.first <= upto {
            let Some(entry) = self.entries.pop_front() else { return };
            self.bytes -= cost(&entry);
            self.first = self.first.next();
        }
    }

    fn next(&self) -> Index {
        Index(self.first.0 + self.entries.len() as u64)
    }
}

fn cost(entry: &Entry) -> u64 {
    entry.payload.len() as u64 + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_raft::{EntryKind, EntryMeta, Term};

    use super::*;

    fn entries(term: u64, count: usize) -> Vec<Entry> {
        let meta = EntryMeta { term: Term(term), kind: EntryKind::Normal, bytes: 10 };
        vec![Entry { meta, payload: Bytes::from_static(b"0123456789") }; count]
    }

    fn range(first: u64, last: u64) -> EntryRange {
        EntryRange { first: Index(first), last: Index(last) }
    }

    fn terms(cache: &EntryCache, first: u64, last: u64) -> Option<Vec<u64>> {
        let found = cache.get(range(first, last), u64::MAX)?;
        Some(found.iter().map(|entry| entry.meta.term.0).collect())
    }

    #[test]
    fn gives_what_it_has() {
        let mut cache = EntryCache::new(Index(5));
        cache.replace_from(Index(5), &entries(1, 3));
        assert_eq!(terms(&cache, 5, 7), Some(vec![1, 1, 1]));
        assert_eq!(terms(&cache, 6, 9), Some(vec![1, 1]));
        assert_eq!(terms(&cache, 4, 5), None);
        assert_eq!(terms(&cache, 8, 9), None);
        assert_eq!(cache.get(range(5, 7), 25).map(|found| found.len()), Some(2));
        assert_eq!(cache.get(range(5, 7), 1).map(|found| found.len()), Some(1));
    }

    #[test]
    fn replaces_a_tail_and_starts_anew_behind_a_hole() {
        let mut cache = EntryCache::new(Index(1));
        cache.replace_from(Index(1), &entries(1, 3));
        cache.replace_from(Index(2), &entries(2, 1));
        assert_eq!(terms(&cache, 1, 9), Some(vec![1, 2]));
        cache.replace_from(Index(9), &entries(3, 1));
        assert_eq!(terms(&cache, 9, 9), Some(vec![3]));
        assert_eq!(terms(&cache, 2, 2), None);
        assert_eq!(cache.bytes, 10 + ENTRY_OVERHEAD_BYTES);
    }

    #[test]
    fn evicts_only_what_it_may() {
        let two = 2 * (10 + ENTRY_OVERHEAD_BYTES);
        let mut cache = EntryCache::new(Index(1));
        cache.replace_from(Index(1), &entries(1, 5));
        cache.evict(Index(1), two);
        assert_eq!(terms(&cache, 2, 9).map(|found| found.len()), Some(4));
        cache.evict(Index(5), two);
        assert_eq!(terms(&cache, 4, 9).map(|found| found.len()), Some(2));
        assert_eq!(terms(&cache, 3, 9), None);
    }
}
