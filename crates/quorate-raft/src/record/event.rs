//! One event as words, and words as one event.

use super::{
    EVENT_ENTRIES_MAX, Reader, RecordError, Sink, put_fault, put_id, put_runs, put_snapshot,
};
use crate::{
    AppendOutcome, EntryKind, EntryMeta, Event, Fault, Index, IoToken, Message, NodeId,
    ReadContext, SnapshotMeta, Term,
};

/// An [`Event`] that owns what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedEvent {
    /// [`Event::Wake`].
    Wake,
    /// [`Event::Message`].
    Message {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        message: Message<()>,
        /// The entries of an `AppendEntries`.
        entries: Vec<EntryMeta>,
    },
    /// [`Event::Propose`].
    Propose {
        /// Size of each entry's content.
        sizes: Vec<u32>,
    },
    /// [`Event::Read`].
    Read {
        /// The driver's number of the read.
        context: ReadContext,
    },
    /// [`Event::IoDone`].
    IoDone {
        /// The newest durable token.
        token: IoToken,
    },
    /// [`Event::Fault`].
    Fault(Fault),
    /// [`Event::Repaired`].
    Repaired,
    /// [`Event::Unreachable`].
    Unreachable {
        /// Which peer.
        node: NodeId,
    },
    /// [`Event::SnapshotSent`].
    SnapshotSent {
        /// To whom.
        to: NodeId,
        /// What; `None` if it failed.
        snapshot: Option<SnapshotMeta>,
    },
    /// [`Event::SnapshotReceived`].
    SnapshotReceived {
        /// Who sent it.
        from: NodeId,
        /// The sender's term.
        term: Term,
        /// What it holds.
        snapshot: SnapshotMeta,
    },
    /// [`Event::Compacted`].
    Compacted {
        /// The last index dropped.
        upto: Index,
    },
    /// [`Event::TransferLeader`].
    TransferLeader {
        /// To whom.
        to: NodeId,
    },
}

impl RecordedEvent {
    /// Does something with the event itself.
    pub fn with<R>(&self, act: impl FnOnce(Event<'_>) -> R) -> R {
        let borrowing;
        act(match self {
            Self::Wake => Event::Wake,
            Self::Message { from, message, entries } => {
                borrowing = message.clone().map_entries(|()| entries.as_slice());
                Event::Message { from: *from, message: &borrowing }
            }
            Self::Propose { sizes } => Event::Propose { sizes },
            Self::Read { context } => Event::Read { context: *context },
            Self::IoDone { token } => Event::IoDone { token: *token },
            Self::Fault(fault) => Event::Fault(*fault),
            Self::Repaired => Event::Repaired,
            Self::Unreachable { node } => Event::Unreachable { node: *node },
            Self::SnapshotSent { to, snapshot } => {
                Event::SnapshotSent { to: *to, snapshot: snapshot.as_ref() }
            }
            Self::SnapshotReceived { from, term, snapshot } => {
                Event::SnapshotReceived { from: *from, term: *term, snapshot }
            }
            Self::Compacted { upto } => Event::Compacted { upto: *upto },
            Self::TransferLeader { to } => Event::TransferLeader { to: *to },
        })
    }

    /// The event that [`Event::record`] wrote out.
    ///
    /// # Errors
    /// [`RecordError`] if the words are no event.
    pub fn read(words: &mut dyn Iterator<Item = u64>) -> Result<Self, RecordError> {
        let mut reader = Reader(words);
        let reader = &mut reader;
        Ok(match reader.up_to("kind of event", 11)? {
            0 => Self::Wake,
            1 => {
                let from = reader.node()?;
                let (message, entries) = read_message(reader)?;
                Self::Message { from, message, entries }
            }
            2 => Self::Propose { sizes: read_sizes(reader)? },
            3 => Self::Read { context: ReadContext(reader.word()?) },
            4 => Self::IoDone { token: reader.token()? },
            5 => Self::Fault(reader.fault()?),
            6 => Self::Repaired,
            7 => Self::Unreachable { node: reader.node()? },
            8 => {
                let to = reader.node()?;
                let sent = reader.flag()?;
                Self::SnapshotSent { to, snapshot: sent.then(|| reader.snapshot()).transpose()? }
            }
            9 => Self::SnapshotReceived {
                from: reader.node()?,
                term: reader.term()?,
                snapshot: reader.snapshot()?,
            },
            10 => Self::Compacted { upto: reader.index()? },
            _ => Self::TransferLeader { to: reader.node()? },
        })
    }
}

impl Event<'_> {
    /// Writes the event out. Says `false`, and writes something useless, if it has more than [`EVENT_ENTRIES_MAX`] entries.
    pub fn record(&self, out: &mut impl Sink) -> bool {
        match *self {
            Self::Wake => out.put(0),
            Self::Message { from, message } => {
                out.put_all([1, from.0]);
                return put_message(message, out);
            }
            Self::Propose { sizes } => {
                out.put_all([2, sizes.len() as u64]);
                put_runs(sizes.iter(), out, |size, out| out.put(u64::from(**size)));
                return sizes.len() <= EVENT_ENTRIES_MAX;
            }
            Self::Read { context } => out.put_all([3, context.0]),
            Self::IoDone { token } => out.put_all([4, token.0]),
            Self::Fault(fault) => {
                out.put(5);
                put_fault(fault, out);
            }
            Self::Repaired => out.put(6),
            Self::Unreachable { node } => out.put_all([7, node.0]),
            Self::SnapshotSent { to, snapshot } => {
                out.put_all([8, to.0, u64::from(snapshot.is_some())]);
                if let Some(snapshot) = snapshot {
                    put_snapshot(snapshot, out);
                }
            }
            Self::SnapshotReceived { from, term, snapshot } => {
                out.put_all([9, from.0, term.0]);
                put_snapshot(snapshot, out);
            }
            Self::Compacted { upto } => out.put_all([10, upto.0]),
            Self::TransferLeader { to } => out.put_all([11, to.0]),
        }
        true
    }
}

fn put_message(message: &Message<&[EntryMeta]>, out: &mut impl Sink) -> bool {
    put_words(message, out);
    let Message::AppendEntries { entries, .. } = message else { return true };
    out.put(entries.len() as u64);
    let mut rest = *entries;
    while let Some(EntryMeta { term, kind, .. }) = rest.first().copied() {
        let same = |meta: &&EntryMeta| meta.term == term && meta.kind == kind;
        let count = rest.iter().take_while(same).count();
        let (run, behind) = rest.split_at(count);
        out.put_all([count as u64, term.0, kind_word(kind)]);
        put_runs(run.iter().map(|meta| meta.bytes), out, |size, out| out.put(u64::from(*size)));
        rest = behind;
    }
    entries.len() <= EVENT_ENTRIES_MAX
}

fn kind_word(kind: EntryKind) -> u64 {
    match kind {
        EntryKind::Normal => 0,
        EntryKind::Noop => 1,
        EntryKind::Membership => 2,
    }
}

/// All of a message but its entries.
pub(super) fn put_words<E>(message: &Message<E>, out: &mut impl Sink) {
    match message {
        Message::RequestVote { term, pre_vote, last, transfer } => {
            out.put_all([0, term.0, u64::from(*pre_vote) * 2 + u64::from(*transfer)]);
            put_id(*last, out);
        }
        Message::Vote { term, pre_vote, granted } => {
            out.put_all([1, term.0, u64::from(*pre_vote) * 2 + u64::from(*granted)]);
        }
        Message::AppendEntries { term, prev, commit, round, .. } => {
            out.put_all([2, term.0, commit.0, *round]);
            put_id(*prev, out);
        }
        Message::Appended { term, round, outcome: AppendOutcome::Matched(index) } => {
            out.put_all([3, term.0, *round, index.0]);
        }
        Message::Appended { term, round, outcome: AppendOutcome::Rejected { prev, hint } } => {
            out.put_all([4, term.0, *round, prev.0]);
            put_id(*hint, out);
        }
        Message::Heartbeat { term, commit, round } => out.put_all([5, term.0, commit.0, *round]),
        Message::HeartbeatReply { term, round } => out.put_all([6, term.0, *round]),
        Message::InstallSnapshot { term, snapshot } => {
            out.put_all([7, term.0]);
            put_snapshot(snapshot, out);
        }
        Message::ReadIndex { term, context } => out.put_all([8, term.0, context.0]),
        Message::ReadIndexReply { term, context, index } => {
            out.put_all([9, term.0, context.0]);
            out.put_option(index.map(|index| index.0));
        }
        Message::TimeoutNow { term } => out.put_all([10, term.0]),
    }
}

fn read_message(reader: &mut Reader<'_>) -> Result<(Message<()>, Vec<EntryMeta>), RecordError> {
    let kind = reader.up_to("kind of message", 10)?;
    let term = reader.term()?;
    let message = match kind {
        0 => {
            let flags = reader.up_to("set of flags", 3)?;
            let (pre_vote, transfer) = (flags & 2 != 0, flags & 1 != 0);
            Message::RequestVote { term, pre_vote, last: reader.id()?, transfer }
        }
        1 => {
            let flags = reader.up_to("set of flags", 3)?;
            Message::Vote { term, pre_vote: flags & 2 != 0, granted: flags & 1 != 0 }
        }
        2 => {
            let (commit, round) = (reader.index()?, reader.word()?);
            let prev = reader.id()?;
            let message = Message::AppendEntries { term, prev, entries: (), commit, round };
            return Ok((message, read_entries(reader)?));
        }
        3 => {
            let round = reader.word()?;
            let outcome = AppendOutcome::Matched(reader.index()?);
            Message::Appended { term, round, outcome }
        }
        4 => {
            let round = reader.word()?;
            let outcome = AppendOutcome::Rejected { prev: reader.index()?, hint: reader.id()? };
            Message::Appended { term, round, outcome }
        }
        5 => Message::Heartbeat { term, commit: reader.index()?, round: reader.word()? },
        6 => Message::HeartbeatReply { term, round: reader.word()? },
        7 => Message::InstallSnapshot { term, snapshot: reader.snapshot()? },
        8 => Message::ReadIndex { term, context: ReadContext(reader.word()?) },
        9 => {
            let context = ReadContext(reader.word()?);
            Message::ReadIndexReply { term, context, index: reader.option()?.map(Index) }
        }
        _ => Message::TimeoutNow { term },
    };
    Ok((message, Vec::new()))
}

fn read_entries(reader: &mut Reader<'_>) -> Result<Vec<EntryMeta>, RecordError> {
    let total = reader.up_to("number of entries", EVENT_ENTRIES_MAX as u64)?;
    let mut entries = Vec::new();
    reader.runs(total, |reader, count| {
        let term = reader.term()?;
        let kind = match reader.up_to("kind of entry", 2)? {
            0 => EntryKind::Normal,
            1 => EntryKind::Noop,
            _ => EntryKind::Membership,
        };
        reader.runs(count, |reader, same| {
            let bytes = reader.bytes()?;
            entries.extend((0..same).map(|_| EntryMeta { term, kind, bytes }));
            Ok(())
        })
    })?;
    Ok(entries)
}

fn read_sizes(reader: &mut Reader<'_>) -> Result<Vec<u32>, RecordError> {
    let total = reader.up_to("number of entries", EVENT_ENTRIES_MAX as u64)?;
    let mut sizes = Vec::new();
    reader.runs(total, |reader, same| {
        let bytes = reader.bytes()?;
        sizes.extend((0..same).map(|_| bytes));
        Ok(())
    })?;
    Ok(sizes)
}
