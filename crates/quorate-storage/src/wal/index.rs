//! What the log knows of its groups without looking at the disk: hard state, start, and where the entries stand.
//!
//! Invariants, which recovery checks before it hands a log out:
//! - the spans of a group do not overlap, and cover `first..next` without a gap once the whole log is replayed;
//! - `usage` counts exactly the spans that there are.
//!
//! The same functions serve the running log and its replay, so that both end in the same state.

use std::collections::BTreeMap;

use quorate_raft::{GroupId, HardState, Index, SnapshotMeta};

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: u64,
    pub offset: u64,
    pub bytes: u32,
    /// The chain before it.
    pub seed: u32,
}

impl Place {
    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.bytes)
    }
}

/// Entries of one record that are still part of the log. The first of them is the key it is kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub last: u64,
    /// The first entry of the record, which may be dead.
    pub record_first: u64,
    pub place: Place,
}

/// What one group is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupState {
    pub hard_state: HardState,
    pub base: Option<SnapshotMeta>,
    /// The position behind the last entry.
    pub next: u64,
    pub spans: BTreeMap<u64, Span>,
}

impl GroupState {
    fn empty() -> Self {
        Self { hard_state: HardState::default(), base: None, next: 1, spans: BTreeMap::new() }
    }

    /// The first position that the log may hold.
    pub(super) fn first(&self) -> u64 {
        self.base.as_ref().map_or(1, |base| base.last.index.next().0)
    }

    /// The span that holds `index`, under its key.
    pub(super) fn span_at(&self, index: u64) -> Option<(u64, Span)> {
        let (key, span) = self.spans.range(..=index).next_back()?;
        (span.last >= index).then_some((*key, *span))
    }

    /// The first position that no span covers.
    fn gap(&self) -> Option<u64> {
        let mut expected = self.first();
        for (key, span) in &self.spans {
            if *key != expected {
                return Some(expected);
            }
            expected = span.last + 1;
        }
        (expected != self.next).then_some(expected)
    }

    fn same_as_checkpoint(&self, other: &Self) -> bool {
        self.hard_state == other.hard_state && self.base == other.base && self.next == other.next
    }
}

/// How much of a segment is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub spans: u64,
    /// Bytes of the records that hold them.
    pub bytes: u64,
}

/// How much of each segment is alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    segments: BTreeMap<u64, Live>,
    total: Live,
}

impl Usage {
    fn hold(&mut self, place: &Place) {
        for live in [self.segments.entry(place.segment).or_default(), &mut self.total] {
            live.spans += 1;
            live.bytes += u64::from(place.bytes);
        }
    }

    fn release(&mut self, place: &Place) {
        let live = self.segments.entry(place.segment).or_default();
        for live in [live, &mut self.total] {
            live.spans = live.spans.saturating_sub(1);
            live.bytes = live.bytes.saturating_sub(u64::from(place.bytes));
        }
        if self.of(place.segment).spans == 0 {
            self.segments.remove(&place.segment);
        }
    }

    pub(super) fn of(&self, segment: u64) -> Live {
        self.segments.get(&segment).copied().unwrap_or_default()
    }

    pub(super) fn total(&self) -> Live {
        self.total
    }
}

/// What a record does to its group.
#[derive(Clone, Debug)]
pub(super) enum Change<'a> {
    Save { hard_state: Option<HardState>, first: Index, count: u32 },
    Install { hard_state: HardState, base: &'a SnapshotMeta },
    Compacted { base: &'a SnapshotMeta },
    State { hard_state: HardState, base: Option<&'a SnapshotMeta>, next: Index },
    Rewritten { first: Index, count: u32 },
}

/// Why a record does not fit what came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    pub index: Index,
    pub what: &'static str,
}

/// All groups of the log.
#[derive(Clone, Debug, Default)]
pub(super) struct LogIndex {
    groups: BTreeMap<GroupId, GroupState>,
    usage: Usage,
}

impl LogIndex {
    pub(super) fn groups(&self) -> impl ExactSizeIterator<Item = (GroupId, &GroupState)> {
        self.groups.iter().map(|(group, state)| (*group, state))
    }

    pub(super) fn group(&self, group: GroupId) -> Option<&GroupState> {
        self.groups.get(&group)
    }

    pub(super) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// The first group that misses an entry, and the entry.
    pub(super) fn gap(&self) -> Option<(GroupId, Index)> {
        self.groups.iter().find_map(|(group, state)| Some((*group, Index(state.gap()?))))
    }

    /// The spans that stand in `segment`, by group and key.
    pub(super) fn spans_in(&self, segment: u64) -> Vec<(GroupId, u64)> {
        let mut found = Vec::new();
        for (group, state) in &self.groups {
            let here = state.spans.iter().filter(|(_, span)| span.place.segment == segment);
            found.extend(here.map(|(key, _)| (*group, *key)));
        }
        found
    }

    /// Does what a record at `place` says.
    pub(super) fn apply(
        &mut self,
        group: GroupId,
        change: &Change<'_>,
        place: Place,
    ) -> Result<(), Misfit> {
        let known = self.groups.contains_key(&group);
        let state = self.groups.entry(group).or_insert_with(GroupState::empty);
        if let Change::Install { base, .. } | Change::Compacted { base } = change
            && base.last.index.0 == u64::MAX
        {
            let what = "the log would start behind the last index";
            return Err(Misfit { index: base.last.index, what });
        }
        let mut edit = Edit { state, usage: &mut self.usage, place };
        match change {
            Change::Save { hard_state, first, count } => {
                edit.save(first.0, *count)?;
                edit.state.hard_state = hard_state.unwrap_or(edit.state.hard_state);
            }
            Change::Install { hard_state, base } => edit.install(*hard_state, base),
            Change::Compacted { base } => edit.compact(base),
            Change::State { hard_state, base, next } => {
                let (base, spans) = (base.cloned(), BTreeMap::new());
                let told = GroupState { hard_state: *hard_state, base, next: next.0, spans };
                if !known {
                    *edit.state = told;
                } else if !edit.state.same_as_checkpoint(&told) {
                    let what = "a segment's account of a group differs from what came before";
                    return Err(Misfit { index: *next, what });
                }
            }
            Change::Rewritten { first, count } => edit.rewrite(first.0, *count)?,
        }
        Ok(())
    }
}

/// A change of one group on its way.
struct Edit<'a> {
    state: &'a mut GroupState,
    usage: &'a mut Usage,
    place: Place,
}

impl Edit<'_> {
    fn save(&mut self, first: u64, count: u32) -> Result<(), Misfit> {
        if count == 0 {
            return Ok(());
        }
        let next = first.checked_add(u64::from(count)).unwrap_or_default();
        if first < self.state.first() || first > self.state.next || next == 0 {
            let what = "saved entries do not follow the ones before";
            return Err(Misfit { index: Index(first), what });
        }
        self.carve(first, u64::MAX);
        self.add(first, count);
        self.state.next = next;
        Ok(())
    }

    fn install(&mut self, hard_state: HardState, base: &SnapshotMeta) {
        self.carve(0, u64::MAX);
        self.state.hard_state = hard_state;
        self.state.base = Some(base.clone());
        self.state.next = self.state.first();
    }

    fn compact(&mut self, base: &SnapshotMeta) {
        if base.last.index.next().0 <= self.state.first() {
            return;
        }
        self.carve(0, base.last.index.0);
        self.state.base = Some(base.clone());
        self.state.next = self.state.next.max(self.state.first());
    }

    fn rewrite(&mut self, first: u64, count: u32) -> Result<(), Misfit> {
        let last = first.saturating_add(u64::from(count)).saturating_sub(1);
        if count == 0 || first < self.state.first() || last >= self.state.next {
            let what = "entries that were copied forward are not in the log";
            return Err(Misfit { index: Index(first), what });
        }
        self.carve(first, last);
        self.add(first, count);
        Ok(())
    }

    fn add(&mut self, first: u64, count: u32) {
        let last = first + u64::from(count) - 1;
        self.put(first, Span { last, record_first: first, place: self.place });
    }

    fn put(&mut self, key: u64, span: Span) {
        self.usage.hold(&span.place);
        self.state.spans.insert(key, span);
    }

    /// Takes the entries `first..=last` out of all spans.
    fn carve(&mut self, first: u64, last: u64) {
        let start = self.state.span_at(first).map_or(first, |(key, _)| key);
        while let Some((key, span)) = self.state.spans.range(start..=last).next_back() {
            let (key, span) = (*key, *span);
            if span.last < first {
                return;
            }
            self.state.spans.remove(&key);
            self.usage.release(&span.place);
            if span.last > last {
                self.put(last + 1, span);
            }
            if key < first {
                self.put(key, Span { last: first - 1, ..span });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::{EntryId, Membership, Term};

    use super::*;

    const GROUP: GroupId = GroupId(3);

    fn place(segment: u64) -> Place {
        Place { segment, offset: 4096, bytes: 100, seed: 0 }
    }

    fn save(index: &mut LogIndex, first: u64, count: u32, segment: u64) -> Result<(), Misfit> {
        let change = Change::Save { hard_state: None, first: Index(first), count };
        index.apply(GROUP, &change, place(segment))
    }

    fn spans(index: &LogIndex) -> Vec<(u64, u64, u64)> {
        let state = index.group(GROUP).unwrap();
        state.spans.iter().map(|(key, span)| (*key, span.last, span.place.segment)).collect()
    }

    fn base(index: u64) -> SnapshotMeta {
        let last = EntryId { term: Term(1), index: Index(index) };
        SnapshotMeta { last, membership: Membership::default() }
    }

    #[test]
    fn saves_replace_the_tail_and_count_what_is_alive() {
        let mut index = LogIndex::default();
        save(&mut index, 1, 5, 1).unwrap();
        save(&mut index, 6, 5, 1).unwrap();
        save(&mut index, 3, 2, 2).unwrap();
        assert_eq!(spans(&index), [(1, 2, 1), (3, 4, 2)]);
        assert_eq!((index.usage().of(1).spans, index.usage().of(2).spans), (1, 1));
        assert_eq!(save(&mut index, 6, 1, 2).unwrap_err().index, Index(6));
        assert_eq!(save(&mut index, 0, 1, 2).unwrap_err().index, Index(0));
        save(&mut index, 1, 1, 3).unwrap();
        assert_eq!(spans(&index), [(1, 1, 3)]);
        assert_eq!(index.usage().total(), Live { spans: 1, bytes: 100 });
    }

    #[test]
    fn entries_copied_forward_replace_only_themselves() {
        let mut index = LogIndex::default();
        save(&mut index, 1, 9, 1).unwrap();
        let change = Change::Rewritten { first: Index(4), count: 2 };
        index.apply(GROUP, &change, place(2)).unwrap();
        assert_eq!(spans(&index), [(1, 3, 1), (4, 5, 2), (6, 9, 1)]);
        assert_eq!(index.gap(), None);
        let outside = Change::Rewritten { first: Index(9), count: 2 };
        assert!(index.apply(GROUP, &outside, place(2)).is_err());
    }

    #[test]
    fn compaction_drops_the_front_and_install_everything() {
        let mut index = LogIndex::default();
        save(&mut index, 1, 9, 1).unwrap();
        index.apply(GROUP, &Change::Compacted { base: &base(4) }, place(2)).unwrap();
        assert_eq!(spans(&index), [(5, 9, 1)]);
        index.apply(GROUP, &Change::Compacted { base: &base(2) }, place(2)).unwrap();
        assert_eq!(index.group(GROUP).unwrap().first(), 5, "never backwards");
        let install = Change::Install { hard_state: HardState::default(), base: &base(20) };
        index.apply(GROUP, &install, place(2)).unwrap();
        assert_eq!(index.usage().total(), Live::default());
        save(&mut index, 21, 1, 3).unwrap();
        assert_eq!(index.gap(), None);
    }

    #[test]
    fn a_group_known_from_its_state_alone_misses_its_entries() {
        let mut index = LogIndex::default();
        let hard_state = HardState::default();
        let state = Change::State { hard_state, base: Some(&base(4)), next: Index(8) };
        index.apply(GROUP, &state, place(2)).unwrap();
        assert_eq!(index.gap(), Some((GROUP, Index(5))));
        let change = Change::Rewritten { first: Index(5), count: 3 };
        index.apply(GROUP, &change, place(2)).unwrap();
        assert_eq!(index.gap(), None);
        let other = Change::State { hard_state, base: Some(&base(4)), next: Index(9) };
        assert!(index.apply(GROUP, &other, place(3)).is_err());
    }
}
