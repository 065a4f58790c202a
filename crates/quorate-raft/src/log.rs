//! What the core knows of the log: where it starts, which term each position has, and how large each entry is.
//!
//! It holds no content. Terms are kept as runs, since a term rarely changes; a log of a million entries of one term costs one
//! run and four bytes an entry.
//!
//! Invariants
//! - `sizes` has exactly one element for each position in `(base.index, last.index]`.
//! - `runs` is empty exactly when the log is; its first run starts at `base.index + 1`; starts and terms both rise strictly;
//!   no run's term is below the base's.
//! - `last` is the base when the log is empty, else the position and term of its end.

use std::collections::VecDeque;

use crate::{EntryId, EntryRange, Index, Term};

/// Consecutive entries of one term, up to the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TermRun {
    first: Index,
    term: Term,
}

/// Positions, terms and sizes; no content.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    base: EntryId,
    last: EntryId,
    runs: VecDeque<TermRun>,
    sizes: VecDeque<u32>,
}

impl Log {
    /// The empty log behind `base`.
    pub(crate) fn new(base: EntryId) -> Self {
        Self { base, last: base, runs: VecDeque::new(), sizes: VecDeque::new() }
    }

    /// The entry just before the first one held.
    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry, or the base.
    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    /// The term at `index`; known from the base to the end.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last.index {
            return None;
        }
        let newest = self.runs.back()?;
        if newest.first <= index {
            return Some(newest.term);
        }
        let after = self.runs.partition_point(|run| run.first <= index);
        self.runs.get(after.checked_sub(1)?).map(|run| run.term)
    }

    /// The id at `index`; known from the base to the end.
    pub(crate) fn id_at(&self, index: Index) -> Option<EntryId> {
        self.term_at(index).map(|term| EntryId { term, index })
    }

    /// The first entry of each term, in order.
    pub(crate) fn terms(&self) -> impl DoubleEndedIterator<Item = EntryId> + ExactSizeIterator {
        self.runs.iter().map(|run| EntryId { term: run.term, index: run.first })
    }

    /// Adds entries of one term, no lower than the last one's, and says where they are.
    pub(crate) fn append(
        &mut self,
        term: Term,
        sizes: impl IntoIterator<Item = u32>,
    ) -> EntryRange {
        debug_assert!(term >= self.last.term, "terms in a log never fall");
        let first = self.last.index.next();
        let before = self.sizes.len();
        self.sizes.extend(sizes);
        let count = (self.sizes.len() - before) as u64;
        if count == 0 {
            return EntryRange::empty_at(first);
        }
        if self.runs.back().is_none_or(|run| run.term != term) {
            self.runs.push_back(TermRun { first, term });
        }
        self.last = EntryId { term, index: Index(self.last.index.0 + count) };
        EntryRange { first, last: self.last.index }
    }

    /// Drops the tail from `first` on; nothing at or below the base is ever dropped.
    pub(crate) fn truncate_from(&mut self, first: Index) {
        let end = first.previous().max(self.base.index);
        if end >= self.last.index {
            return;
        }
        let term = self.term_at(end).unwrap_or(self.base.term);
        self.sizes.truncate(self.offset(end.next()));
        while self.runs.back().is_some_and(|run| run.first > end) {
            self.runs.pop_back();
        }
        self.last = EntryId { term, index: end };
    }

    /// Drops the head up to `upto`, which becomes the base. Says whether it could.
    pub(crate) fn compact(&mut self, upto: Index) -> bool {
        if upto <= self.base.index {
            return false;
        }
        let Some(base) = self.id_at(upto) else { return false };
        self.sizes.drain(..self.offset(upto.next()).min(self.sizes.len()));
        while self.runs.get(1).is_some_and(|run| run.first <= upto.next()) {
            self.runs.pop_front();
        }
        if upto == self.last.index {
            self.runs.clear();
        } else if let Some(run) = self.runs.front_mut() {
            run.first = upto.next();
        }
        self.base = base;
        true
    }

    /// Drops everything; the log is empty behind `base`.
    pub(crate) fn restore(&mut self, base: EntryId) {
        self.runs.clear();
        self.sizes.clear();
        self.base = base;
        self.last = base;
    }

    /// The longest range from `first` on within both bounds, but at least one entry if there is any; and its size in bytes.
    pub(crate) fn cut(&self, first: Index, entries_max: u64, bytes_max: u64) -> (EntryRange, u64) {
        let mut range = EntryRange::empty_at(first);
        let mut bytes = 0_u64;
        if first <= self.base.index || first > self.last.index {
            return (range, bytes);
        }
        for size in self.sizes.range(self.offset(first)..) {
            let grown = bytes + u64::from(*size);
            if !range.is_empty() && (grown > bytes_max || range.len() >= entries_max) {
                break;
            }
            bytes = grown;
            range.last = range.last.next();
        }
        (range, bytes)
    }

    /// Size of what lies in `(after, upto]`, in bytes.
    pub(crate) fn bytes_between(&self, after: Index, upto: Index) -> u64 {
        let after = after.max(self.base.index);
        let upto = upto.min(self.last.index);
        if upto <= after {
            return 0;
        }
        let span = self.offset(after.next())..self.offset(upto.next());
        self.sizes.range(span).map(|size| u64::from(*size)).sum()
    }

    /// The greatest id held that is no later than `limit` in position and in term; `None` if even the base is later.
    ///
    /// Both sides of log repair use it: the follower to answer with a hint, the leader to find where to go on from one. Each
    /// exchange skips all of a term that the other does not have (Raft paper 5.3, end).
    pub(crate) fn floor(&self, limit: EntryId) -> Option<EntryId> {
        let end = limit.index.min(self.last.index);
        let mut index = end;
        for run in self.runs.iter().rev().skip_while(|run| run.first > end) {
            if run.term <= limit.term {
                return Some(EntryId { term: run.term, index });
            }
            index = run.first.previous();
        }
        (self.base.index <= index && self.base.term <= limit.term).then_some(self.base)
    }

    /// Whether the fields agree with each other; the head of the module says how.
    pub(crate) fn is_consistent(&self) -> bool {
        let count = self.last.index.0.checked_sub(self.base.index.0);
        let starts = self
            .runs
            .front()
            .is_none_or(|run| run.first == self.base.index.next() && run.term >= self.base.term);
        let rises = self
            .runs
            .iter()
            .zip(self.runs.iter().skip(1))
            .all(|(run, next)| run.first < next.first && run.term < next.term);
        let ends = match self.runs.back() {
            None => self.last == self.base,
            Some(run) => run.first <= self.last.index && run.term == self.last.term,
        };
        count == Some(self.sizes.len() as u64) && starts && rises && ends
    }

    /// Writes out the whole log.
    #[cfg(feature = "explore")]
    pub(crate) fn words(&self, out: &mut Vec<u64>) {
        out.extend([self.base.term.0, self.base.index.0, self.last.index.0]);
        out.push(self.runs.len() as u64);
        out.extend(self.runs.iter().flat_map(|run| [run.first.0, run.term.0]));
        out.extend(self.sizes.iter().map(|size| u64::from(*size)));
    }

    /// Writes out the whole log; the sizes that are the same and follow each other, as one.
    #[cfg(feature = "record")]
    pub(crate) fn image(&self, out: &mut impl crate::record::Sink) {
        crate::record::put_id(self.base, out);
        out.put_all([self.last.index.0 - self.base.index.0, self.runs.len() as u64]);
        for run in &self.runs {
            out.put_all([run.first.0, run.term.0]);
        }
        crate::record::put_runs(self.sizes.iter(), out, |size, out| out.put(u64::from(**size)));
    }

    /// The log that was written out.
    #[cfg(feature = "record")]
    pub(crate) fn from_image(
        reader: &mut crate::record::Reader<'_>,
    ) -> Result<Self, crate::record::RecordError> {
        let base = reader.id()?;
        let count = reader.up_to("number of entries", crate::record::IMAGE_ENTRIES_MAX)?;
        let terms = reader.up_to("number of terms", count)?;
        let runs: VecDeque<TermRun> = reader
            .list(terms, |reader| Ok(TermRun { first: reader.index()?, term: reader.term()? }))?;
        let mut sizes = VecDeque::new();
        reader.runs(count, |reader, same| {
            let size = reader.bytes()?;
            sizes.extend((0..same).map(|_| size));
            Ok(())
        })?;
        let term = runs.back().map_or(base.term, |run| run.term);
        let last = EntryId { term, index: Index(base.index.0.saturating_add(count)) };
        Ok(Self { base, last, runs, sizes })
    }

    /// Where the size of `index` is. Positions are within memory, so the conversion can't lose.
    fn offset(&self, index: Index) -> usize {
        usize::try_from(index.0.saturating_sub(self.base.index.0 + 1)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same log, every entry written out.
    #[derive(Clone, Debug, Default)]
    struct Naive {
        base: EntryId,
        entries: Vec<(EntryId, u32)>,
    }

    impl Naive {
        fn last(&self) -> EntryId {
            self.entries.last().map_or(self.base, |(id, _)| *id)
        }

        fn ids(&self) -> impl DoubleEndedIterator<Item = EntryId> + '_ {
            std::iter::once(self.base).chain(self.entries.iter().map(|(id, _)| *id))
        }

        fn append(&mut self, term: Term, sizes: &[u32]) {
            for size in sizes {
                let id = EntryId { term, index: self.last().index.next() };
                self.entries.push((id, *size));
            }
        }

        fn truncate_from(&mut self, first: Index) {
            self.entries.retain(|(id, _)| id.index < first);
        }

        fn compact(&mut self, upto: Index) {
            let Some(base) = self.ids().find(|id| id.index == upto) else { return };
            self.base = base;
            self.entries.retain(|(id, _)| id.index > upto);
        }

        fn cut(&self, first: Index, entries_max: u64, bytes_max: u64) -> (u64, u64) {
            let (mut count, mut bytes) = (0, 0);
            if first <= self.base.index {
                return (0, 0);
            }
            for (_, size) in self.entries.iter().filter(|(id, _)| id.index >= first) {
                if count > 0 && (count >= entries_max || bytes + u64::from(*size) > bytes_max) {
                    break;
                }
                count += 1;
                bytes += u64::from(*size);
            }
            (count, bytes)
        }
    }

    #[derive(Clone, Debug)]
    enum Change {
        Append { term_rise: u64, sizes: Vec<u32> },
        Truncate { back: u64 },
        Compact { ahead: u64 },
        Restore { ahead: u64 },
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            5 => (0_u64..3, prop::collection::vec(0_u32..50, 0..5))
                .prop_map(|(term_rise, sizes)| Change::Append { term_rise, sizes }),
            2 => (0_u64..8).prop_map(|back| Change::Truncate { back }),
            2 => (0_u64..8).prop_map(|ahead| Change::Compact { ahead }),
            1 => (0_u64..8).prop_map(|ahead| Change::Restore { ahead }),
        ]
    }

    fn play(log: &mut Log, naive: &mut Naive, change: Change) {
        match change {
            Change::Append { term_rise, sizes } => {
                let term = Term(naive.last().term.0.max(1) + term_rise);
                log.append(term, sizes.iter().copied());
                naive.append(term, &sizes);
            }
            Change::Truncate { back } => {
                let first = Index(naive.last().index.0.saturating_sub(back));
                log.truncate_from(first);
                naive.truncate_from(first);
            }
            Change::Compact { ahead } => {
                let upto = Index(naive.base.index.0 + ahead);
                log.compact(upto);
                naive.compact(upto);
            }
            Change::Restore { ahead } => {
                let last = naive.last();
                let base = EntryId {
                    term: Term(last.term.0.max(1)),
                    index: Index(last.index.0 + ahead + 1),
                };
                log.restore(base);
                *naive = Naive { base, entries: Vec::new() };
            }
        }
    }

    fn compare(log: &Log, naive: &Naive) {
        assert!(log.is_consistent(), "{log:?}");
        assert_eq!((log.base(), log.last()), (naive.base, naive.last()));
        let end = naive.last().index.0 + 2;
        let total_term = naive.last().term.0 + 1;
        for index in (naive.base.index.0.saturating_sub(2)..=end).map(Index) {
            assert_eq!(log.id_at(index), naive.ids().find(|id| id.index == index));
            if index > Index(0) {
                let (range, bytes) = log.cut(index, 3, 60);
                assert_eq!((range.len(), bytes), naive.cut(index, 3, 60));
            }
            for term in (0..=total_term).map(Term) {
                let limit = EntryId { term, index };
                let expected = naive.ids().rfind(|id| id.index <= index && id.term <= term);
                assert_eq!(log.floor(limit), expected, "floor of {limit}");
            }
            let bytes: u64 = naive
                .entries
                .iter()
                .filter(|(id, _)| id.index > index)
                .map(|(_, size)| u64::from(*size))
                .sum();
            assert_eq!(log.bytes_between(index, Index(end)), bytes);
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_list_of_entries(changes in prop::collection::vec(change(), 0..30)) {
            let mut log = Log::new(EntryId::default());
            let mut naive = Naive::default();
            for change in changes {
                play(&mut log, &mut naive, change);
                compare(&log, &naive);
            }
        }
    }
}
