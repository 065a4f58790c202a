//! One member's disk: writes wait in a queue until they are synced, in order; a crash loses what was not.

use std::collections::VecDeque;

use quorate_raft::{
    EntryId, EntryKind, EntryMeta, HardState, Index, IoToken, Mono, SnapshotMeta, Term,
};

/// An entry with its content, which is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) meta: EntryMeta,
    pub(crate) payload: u64,
}

impl Entry {
    /// The entry that forged logs hold at `index` in `term`: the same in all of them.
    pub(crate) fn forged(term: u64, index: u64) -> Self {
        let meta = EntryMeta { term: Term(term), kind: EntryKind::Normal, bytes: 1 };
        Self { meta, payload: term * 1_000_000 + index }
    }
}

/// Entries behind a base.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) base: EntryId,
    entries: Vec<Entry>,
}

impl Shelf {
    pub(crate) fn new(base: EntryId) -> Self {
        Self { base, entries: Vec::new() }
    }

    pub(crate) fn last_index(&self) -> Index {
        Index(self.base.index.0 + self.entries.len() as u64)
    }

    pub(crate) fn get(&self, index: Index) -> Option<Entry> {
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(usize::try_from(offset).unwrap()).copied()
    }

    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            Some(self.base.term)
        } else {
            self.get(index).map(|entry| entry.meta.term)
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether the entry is here, or was and is in the state machine now.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        id.index < self.base.index || self.term_at(id.index) == Some(id.term)
    }

    pub(crate) fn slice(&self, first: Index, last: Index) -> Vec<Entry> {
        (first.0..=last.0)
            .map(|index| self.get(Index(index)).expect("the core names entries that the log holds"))
            .collect()
    }

    /// Replaces everything from `first` on.
    pub(crate) fn put(&mut self, first: Index, entries: &[Entry]) {
        assert!(
            first > self.base.index && first <= self.last_index().next(),
            "a gap in the log at {first}"
        );
        self.entries.truncate(usize::try_from(first.0 - self.base.index.0 - 1).unwrap());
        self.entries.extend_from_slice(entries);
    }

    pub(crate) fn compact(&mut self, upto: Index) {
        let term = self.term_at(upto).unwrap();
        self.entries.drain(..usize::try_from(upto.0 - self.base.index.0).unwrap());
        self.base = EntryId { term, index: upto };
    }
}

/// A state machine's content: every applied entry, from the first on.
pub(crate) type State = Vec<Entry>;

/// What one write holds.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) token: IoToken,
    pub(crate) due: Mono,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) append: Option<(Index, Vec<Entry>)>,
    pub(crate) install: Option<(SnapshotMeta, State)>,
}

/// What survives a crash, and what may not.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) base: SnapshotMeta,
    pub(crate) log: Shelf,
    pub(crate) checkpoint: State,
    pub(crate) queue: VecDeque<Write>,
    pub(crate) done: IoToken,
}

impl Disk {
    /// The last entry in the durable state.
    pub(crate) fn applied(&self) -> EntryId {
        let term = self.checkpoint.last().map_or(Term(0), |entry| entry.meta.term);
        EntryId { term, index: Index(self.checkpoint.len() as u64) }
    }

    pub(crate) fn new(base: SnapshotMeta) -> Self {
        let log = Shelf::new(base.last);
        let hard_state = HardState::default();
        Self {
            hard_state,
            base,
            log,
            checkpoint: State::new(),
            queue: VecDeque::new(),
            done: IoToken(0),
        }
    }

    /// Makes the oldest write durable and says its token.
    pub(crate) fn sync_one(&mut self) -> Option<IoToken> {
        let write = self.queue.pop_front()?;
        self.keep(&write);
        self.done = write.token;
        Some(write.token)
    }

    fn keep(&mut self, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some((first, entries)) = &write.append {
            self.log.put(*first, entries);
        }
        if let Some((meta, state)) = &write.install {
            self.log = Shelf::new(meta.last);
            self.base = meta.clone();
            self.checkpoint.clone_from(state);
        }
    }

    /// Power is lost. The oldest `kept` writes under way made it, the others did not.
    pub(crate) fn crash(&mut self, kept: usize) {
        for write in self.queue.drain(..).take(kept).collect::<Vec<_>>() {
            self.keep(&write);
        }
        self.done = IoToken(0);
    }

    /// The state machine is saved up to `upto`, and then the log before it dropped.
    pub(crate) fn compact(&mut self, upto: Index, state: &[Entry]) {
        self.checkpoint = state.to_vec();
        self.log.compact(upto);
        self.base.last = self.log.base;
    }
}
