//! Entries with content, and the part of a log that is still there.

use std::collections::VecDeque;

use quorate_raft::{EntryId, EntryMeta, EntryRange, Index, Term};

/// An entry with its content, which is a number: the proposal's own, or 0 for a leader's first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the core knows of it.
    pub meta: EntryMeta,
    /// Its content.
    pub payload: u64,
}

/// Size of an entry's content, as the core counts it.
pub fn size_of(payload: u64) -> u32 {
    u32::try_from(payload % 97).unwrap_or(0) + 1
}

/// Entries behind a base.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    base: EntryId,
    entries: VecDeque<Entry>,
}

impl Shelf {
    /// Nothing behind `base`.
    pub fn new(base: EntryId) -> Self {
        Self { base, entries: VecDeque::new() }
    }

    /// The entry just before the first one held.
    pub fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry, or the base.
    pub fn last(&self) -> EntryId {
        let index = Index(self.base.index.0 + self.entries.len() as u64);
        self.entries.back().map_or(self.base, |entry| EntryId { term: entry.meta.term, index })
    }

    /// The entry at `index`, if it is held.
    pub fn get(&self, index: Index) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// The term at `index`; known from the base to the end.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|entry| entry.meta.term)
    }

    /// Everything that is held.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Whether the entry is here, or was and is in the state machine now.
    pub fn holds(&self, id: EntryId) -> bool {
        id.index < self.base.index || self.term_at(id.index) == Some(id.term)
    }

    /// The entries of a range; `None` if one of them is not held.
    pub fn slice(&self, range: EntryRange) -> Option<Vec<Entry>> {
        if range.is_empty() {
            return Some(Vec::new());
        }
        (range.first.0..=range.last.0).map(|index| self.get(Index(index)).copied()).collect()
    }

    /// Replaces everything from `first` on. Says whether that leaves no gap.
    pub fn put(&mut self, first: Index, entries: &[Entry]) -> bool {
        let fits = first > self.base.index && first <= self.last().index.next();
        if fits {
            let kept = first.0 - self.base.index.0 - 1;
            self.entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
            self.entries.extend(entries.iter().copied());
        }
        fits
    }

    /// Loses the last entry, if there is one.
    pub(crate) fn drop_last(&mut self) {
        self.entries.pop_back();
    }

    /// Drops the head up to `upto`, which becomes the base; nothing if it is not held.
    pub fn compact(&mut self, upto: Index) {
        let Some(term) = self.term_at(upto) else { return };
        let dropped = usize::try_from(upto.0 - self.base.index.0).unwrap_or(usize::MAX);
        self.entries.drain(..dropped.min(self.entries.len()));
        self.base = EntryId { term, index: upto };
    }
}
