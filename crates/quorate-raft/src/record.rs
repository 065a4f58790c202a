//! What a flight recorder needs of a member, and nobody else: built only with the feature `record`.
//!
//! A core is a function of its state and its events, so a state and the events behind it tell all that happened. Both are
//! written here as plain words (`u64`), to which a recorder gives bytes:
//! - [`image`] is a core between two steps, whole: all that decides its behaviour, its random stream too;
//! - [`event`] is one [`Event`](crate::Event);
//! - [`digest`] is what a step gave out, one way: for telling whether a later run does the same.
//!
//! The content of entries never crosses a core, so no record of one holds any of it.
//!
//! Reading is for recordings from anywhere: whatever the words are, they make a core whose invariants hold, or a
//! [`RecordError`]. Left out: bytes, checksums, files, and the switch of a historical bug, so that a recording of a core that has
//! one is played by a core that has none.

pub(crate) mod digest;
pub(crate) mod event;
pub(crate) mod image;

use crate::{
    Broken, EntryId, Fault, HardState, Index, IoToken, Membership, Mono, NodeId, SnapshotMeta, Term,
};

/// The most entries of a log whose image is taken: more would take too long, and too much memory to read.
pub const IMAGE_ENTRIES_MAX: u64 = 1 << 22;
/// The most entries, or sizes, of an event that is recorded.
pub const EVENT_ENTRIES_MAX: usize = 1 << 18;
/// The most members, pending writes, reads and the like that a record may list.
pub(crate) const LIST_MAX: u64 = 1 << 20;

/// Takes words, one after the other.
pub trait Sink {
    /// Takes the next one.
    fn put(&mut self, word: u64);

    /// Takes several.
    fn put_all<const COUNT: usize>(&mut self, words: [u64; COUNT]) {
        for word in words {
            self.put(word);
        }
    }

    /// Takes a word that may be missing.
    fn put_option(&mut self, word: Option<u64>) {
        match word {
            None => self.put(0),
            Some(word) => self.put_all([1, word]),
        }
    }
}

impl Sink for Vec<u64> {
    fn put(&mut self, word: u64) {
        self.push(word);
    }
}

/// Words that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// There are too few.
    #[error("the record ends in the middle")]
    Ended,
    /// One of them means nothing where it stands.
    #[error("{value} is no {what}")]
    Value {
        /// What should be there.
        what: &'static str,
        /// What is.
        value: u64,
    },
    /// The core's settings contradict themselves.
    #[error("bad configuration: {0}")]
    Config(&'static str),
    /// No group can have these members.
    #[error("bad membership: {0}")]
    Membership(&'static str),
    /// The core that it was taken of was broken, or is no core at all.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// Puts the same items that follow each other as one: how many, and what `put` makes of one.
pub(crate) fn put_runs<S: Sink, T: PartialEq>(
    items: impl Iterator<Item = T>,
    out: &mut S,
    put: impl Fn(&T, &mut S),
) {
    let mut items = items.peekable();
    while let Some(item) = items.next() {
        let mut count = 1;
        while items.next_if_eq(&item).is_some() {
            count += 1;
        }
        out.put(count);
        put(&item, out);
    }
}

pub(crate) fn put_id(id: EntryId, out: &mut impl Sink) {
    out.put_all([id.term.0, id.index.0]);
}

pub(crate) fn put_membership(membership: &Membership, out: &mut impl Sink) {
    let Membership { voters, voters_outgoing, learners } = membership;
    for part in [voters, voters_outgoing, learners] {
        out.put(part.len() as u64);
        for node in part {
            out.put(node.0);
        }
    }
}

pub(crate) fn put_snapshot(snapshot: &SnapshotMeta, out: &mut impl Sink) {
    put_id(snapshot.last, out);
    put_membership(&snapshot.membership, out);
}

pub(crate) fn put_hard_state(state: HardState, out: &mut impl Sink) {
    out.put_all([state.term.0, state.commit.0]);
    out.put_option(state.vote.map(|node| node.0));
}

pub(crate) fn put_fault(fault: Fault, out: &mut impl Sink) {
    match fault {
        Fault::SyncFailed => out.put(0),
        Fault::Corrupt(range) => out.put_all([1, range.first.0, range.last.0]),
        Fault::DiskFull => out.put(2),
        Fault::SlowDisk { stalled_for_ns } => out.put_all([3, stalled_for_ns]),
    }
}

/// Words being read.
pub(crate) struct Reader<'a>(pub(crate) &'a mut dyn Iterator<Item = u64>);

impl Reader<'_> {
    pub(crate) fn word(&mut self) -> Result<u64, RecordError> {
        self.0.next().ok_or(RecordError::Ended)
    }

    /// A word that is at most `max`.
    pub(crate) fn up_to(&mut self, what: &'static str, max: u64) -> Result<u64, RecordError> {
        let value = self.word()?;
        if value <= max { Ok(value) } else { Err(RecordError::Value { what, value }) }
    }

    /// The length of a list.
    pub(crate) fn count(&mut self, what: &'static str) -> Result<u64, RecordError> {
        self.up_to(what, LIST_MAX)
    }

    pub(crate) fn size(&mut self, what: &'static str) -> Result<usize, RecordError> {
        let value = self.word()?;
        usize::try_from(value).map_err(|_| RecordError::Value { what, value })
    }

    pub(crate) fn bytes(&mut self) -> Result<u32, RecordError> {
        let value = self.word()?;
        u32::try_from(value).map_err(|_| RecordError::Value { what: "size of an entry", value })
    }

    pub(crate) fn flag(&mut self) -> Result<bool, RecordError> {
        Ok(self.up_to("flag", 1)? == 1)
    }

    pub(crate) fn option(&mut self) -> Result<Option<u64>, RecordError> {
        if self.flag()? { self.word().map(Some) } else { Ok(None) }
    }

    pub(crate) fn term(&mut self) -> Result<Term, RecordError> {
        self.word().map(Term)
    }

    pub(crate) fn index(&mut self) -> Result<Index, RecordError> {
        self.word().map(Index)
    }

    pub(crate) fn node(&mut self) -> Result<NodeId, RecordError> {
        self.word().map(NodeId)
    }

    pub(crate) fn some_node(&mut self) -> Result<Option<NodeId>, RecordError> {
        Ok(self.option()?.map(NodeId))
    }

    pub(crate) fn token(&mut self) -> Result<IoToken, RecordError> {
        self.word().map(IoToken)
    }

    pub(crate) fn moment(&mut self) -> Result<Mono, RecordError> {
        self.word().map(Mono)
    }

    pub(crate) fn id(&mut self) -> Result<EntryId, RecordError> {
        Ok(EntryId { term: self.term()?, index: self.index()? })
    }

    /// A list of so many items.
    pub(crate) fn list<T, L: FromIterator<T>>(
        &mut self,
        count: u64,
        mut item: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<L, RecordError> {
        (0..count).map(|_| item(self)).collect()
    }

    /// What [`put_runs`] put: `total` items in all, each run given to `take`.
    pub(crate) fn runs(
        &mut self,
        total: u64,
        mut take: impl FnMut(&mut Self, u64) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        let mut rest = total;
        while rest > 0 {
            let count = self.up_to("length of a run", rest)?;
            if count == 0 {
                return Err(RecordError::Value { what: "length of a run", value: 0 });
            }
            take(self, count)?;
            rest -= count;
        }
        Ok(())
    }

    pub(crate) fn membership(&mut self) -> Result<Membership, RecordError> {
        let mut part = || {
            let count = self.count("number of members")?;
            self.list(count, Self::node)
        };
        Ok(Membership { voters: part()?, voters_outgoing: part()?, learners: part()? })
    }

    pub(crate) fn snapshot(&mut self) -> Result<SnapshotMeta, RecordError> {
        Ok(SnapshotMeta { last: self.id()?, membership: self.membership()? })
    }

    pub(crate) fn fault(&mut self) -> Result<Fault, RecordError> {
        Ok(match self.up_to("kind of fault", 3)? {
            0 => Fault::SyncFailed,
            1 => {
                let (first, last) = (self.index()?, self.index()?);
                Fault::Corrupt(crate::EntryRange { first, last })
            }
            2 => Fault::DiskFull,
            _ => Fault::SlowDisk { stalled_for_ns: self.word()? },
        })
    }
}
