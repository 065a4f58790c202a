//! What members say to each other. Names are the Raft paper's.

use crate::{EntryId, Index, NodeId, ReadContext, SnapshotMeta, Term};

/// A message, generic over how it names its entries: a range on the way out, metadata on the way in, content on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<E> {
    /// `RequestVote` (5.2), or its rehearsal (thesis 9.6).
    RequestVote {
        /// The candidate's term; in a rehearsal, the term it would have.
        term: Term,
        /// A rehearsal: changes no state at the receiver.
        pre_vote: bool,
        /// The end of the candidate's log.
        last: EntryId,
        /// Leadership is being handed over: a live leader does not stand in the way (thesis 4.2.3).
        transfer: bool,
    },
    /// The reply to `RequestVote`.
    Vote {
        /// The voter's term, or, for a granted rehearsal, the term asked about.
        term: Term,
        /// Reply to a rehearsal.
        pre_vote: bool,
        /// Whether it is granted.
        granted: bool,
    },
    /// `AppendEntries` (5.3).
    AppendEntries {
        /// The leader's term.
        term: Term,
        /// The entry just before the new ones.
        prev: EntryId,
        /// The new entries, from `prev.index + 1` on.
        entries: E,
        /// The leader's commit index.
        commit: Index,
        /// The read round this counts for.
        round: u64,
    },
    /// The reply to `AppendEntries` or to an installed snapshot.
    Appended {
        /// The follower's term.
        term: Term,
        /// The read round of the request.
        round: u64,
        /// How it went.
        outcome: AppendOutcome,
    },
    /// A sign of life, apart from entries, so that it never queues behind them.
    Heartbeat {
        /// The leader's term.
        term: Term,
        /// The leader's commit index, no further than the follower is known to match.
        commit: Index,
        /// The read round.
        round: u64,
    },
    /// The reply to `Heartbeat`.
    HeartbeatReply {
        /// The follower's term.
        term: Term,
        /// The read round of the request.
        round: u64,
    },
    /// `InstallSnapshot` (7) is announced; the driver streams the content beside it.
    InstallSnapshot {
        /// The leader's term.
        term: Term,
        /// What will come.
        snapshot: SnapshotMeta,
    },
    /// A follower asks its leader for a read index (thesis 6.4).
    ReadIndex {
        /// The follower's term.
        term: Term,
        /// The follower's number for the read.
        context: ReadContext,
    },
    /// The reply to `ReadIndex`.
    ReadIndexReply {
        /// The leader's term.
        term: Term,
        /// The follower's number for the read.
        context: ReadContext,
        /// The index; `None`: it can't be granted, ask again.
        index: Option<Index>,
    },
    /// Start an election at once (thesis 3.10).
    TimeoutNow {
        /// The old leader's term.
        term: Term,
    },
}

impl<E> Message<E> {
    /// The term it was sent in.
    pub fn term(&self) -> Term {
        match self {
            Self::RequestVote { term, .. }
            | Self::Vote { term, .. }
            | Self::AppendEntries { term, .. }
            | Self::Appended { term, .. }
            | Self::Heartbeat { term, .. }
            | Self::HeartbeatReply { term, .. }
            | Self::InstallSnapshot { term, .. }
            | Self::ReadIndex { term, .. }
            | Self::ReadIndexReply { term, .. }
            | Self::TimeoutNow { term } => *term,
        }
    }

    /// The same message with its entries named in another way.
    pub fn map_entries<F>(self, map: impl FnOnce(E) -> F) -> Message<F> {
        match self {
            Self::AppendEntries { term, prev, entries, commit, round } => {
                Message::AppendEntries { term, prev, entries: map(entries), commit, round }
            }
            Self::RequestVote { term, pre_vote, last, transfer } => {
                Message::RequestVote { term, pre_vote, last, transfer }
            }
            Self::Vote { term, pre_vote, granted } => Message::Vote { term, pre_vote, granted },
            Self::Appended { term, round, outcome } => Message::Appended { term, round, outcome },
            Self::Heartbeat { term, commit, round } => Message::Heartbeat { term, commit, round },
            Self::HeartbeatReply { term, round } => Message::HeartbeatReply { term, round },
            Self::InstallSnapshot { term, snapshot } => Message::InstallSnapshot { term, snapshot },
            Self::ReadIndex { term, context } => Message::ReadIndex { term, context },
            Self::ReadIndexReply { term, context, index } => {
                Message::ReadIndexReply { term, context, index }
            }
            Self::TimeoutNow { term } => Message::TimeoutNow { term },
        }
    }
}

/// How an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The logs agree up to here, and the follower's is durable up to here.
    Matched(Index),
    /// They do not agree at `prev` (5.3, with the conflict hint).
    Rejected {
        /// The `prev.index` that was refused.
        prev: Index,
        /// The greatest id in the follower's log, at or before `prev`, whose term is not greater than `prev`'s.
        hint: EntryId,
    },
}

/// What must be durable before a member speaks in a term (Raft paper figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term this member has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// A commit index that was true once: a hint for a quick start, never required.
    pub commit: Index,
}
