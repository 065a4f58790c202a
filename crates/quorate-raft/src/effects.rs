//! What the core wants done.

use crate::{
    EntryRange, HardState, Index, IoToken, Message, NodeId, ReadContext, SnapshotMeta, Term,
};

/// Effects of one or more steps, in buffers that the caller owns and reuses.
///
/// The driver's duties, in order:
/// 1. append every [`Io`] in `io` to the log, in order, in one write; then sync once if there was any;
/// 2. meanwhile send every message in `send` whose `after` is `None` or already done, and hold back the others until
///    [`Event::IoDone`](crate::Event::IoDone) was given for their token;
/// 3. apply `commit` in order; it may be applied only as far as this node's own log is durable;
/// 4. answer `reads`: each may be served once the state machine has applied its index;
/// 5. report durable tokens by `Event::IoDone` and failures by `Event::Fault`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// What must become durable, in this order.
    pub io: Vec<Io>,
    /// What must be sent.
    pub send: Vec<Send>,
    /// Newly committed entries; follows the last such range without a gap.
    pub commit: Option<EntryRange>,
    /// Reads that may be served at an index.
    pub reads: Vec<ReadGrant>,
    /// Reads that will get no grant: there is no leader to ask, or the one that was asked is one no more. Ask again.
    pub reads_dropped: Vec<ReadContext>,
    /// Peers that need a snapshot: the log no longer holds what they lack. Named once until
    /// [`Event::SnapshotSent`](crate::Event::SnapshotSent) answers.
    pub snapshots: Vec<NodeId>,
    /// What happened, for logs and metrics.
    pub notices: Vec<Notice>,
}

impl Effects {
    /// Empties all buffers and keeps their memory.
    pub fn clear(&mut self) {
        self.io.clear();
        self.send.clear();
        self.commit = None;
        self.reads.clear();
        self.reads_dropped.clear();
        self.snapshots.clear();
        self.notices.clear();
    }
}

/// One thing to make durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Io {
    /// Term, vote and entries as ONE atomic record.
    Save {
        /// Reported by `Event::IoDone`.
        token: IoToken,
        /// The hard state, when it changed.
        hard_state: Option<HardState>,
        /// Entries that replace everything from `range.first` on.
        append: Option<Append>,
    },
    /// The snapshot that was received becomes the state: the log is empty behind it.
    Install {
        /// Reported by `Event::IoDone`.
        token: IoToken,
        /// The hard state to save with it.
        hard_state: HardState,
        /// Which snapshot.
        snapshot: SnapshotMeta,
    },
}

impl Io {
    /// The token that `Event::IoDone` reports.
    pub fn token(&self) -> IoToken {
        match self {
            Self::Save { token, .. } | Self::Install { token, .. } => *token,
        }
    }
}

/// Entries to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Append {
    /// Where they go. What the log held from `range.first` on is gone.
    pub range: EntryRange,
    /// Where their content comes from.
    pub origin: Origin,
}

/// Where the content of appended entries comes from. It is always the event of the same step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// One entry of kind `Noop` and this term, without content.
    Noop {
        /// The new leader's term.
        term: Term,
    },
    /// The first `range.len()` entries of the `Propose` event, all of this term.
    Proposed {
        /// The leader's term.
        term: Term,
    },
    /// The entries of the received `Append` message, from its position `skip` (0-based) on.
    Received {
        /// How many of the message's entries the log already holds.
        skip: usize,
    },
}

/// One message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// To whom.
    pub to: NodeId,
    /// The token that must be done before the message may leave.
    pub after: Option<IoToken>,
    /// What. An `Append` names a range; the driver puts the content on the wire.
    pub message: Message<EntryRange>,
}

/// A read may be served by a state machine that has applied `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadGrant {
    /// The driver's number of the read.
    pub context: ReadContext,
    /// The index to wait for.
    pub index: Index,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// This node is in a new term or plays a new role in it, or learnt who leads it.
    RoleChanged {
        /// The role now.
        role: Role,
        /// The term now.
        term: Term,
        /// The leader of the term, if known.
        leader: Option<NodeId>,
    },
    /// The log disagreed with the leader's from here on, and that tail is replaced.
    LogTruncated {
        /// First index that was replaced.
        first: Index,
    },
    /// A leader gave up: it heard from no quorum for an election timeout (thesis 6.2).
    QuorumLost {
        /// Its term.
        term: Term,
    },
    /// A leader gave up: its own disk has not answered for an election timeout.
    DiskStalled {
        /// Its term.
        term: Term,
    },
    /// A message was further ahead than one may be: the term rose by as much as it may
    /// ([`TERM_JUMP_MAX`](crate::TERM_JUMP_MAX)), and nothing else was taken in.
    TermJump {
        /// Who sent it.
        from: NodeId,
        /// The term that it says.
        claimed: Term,
        /// The term now.
        term: Term,
    },
    /// The node abstains from votes and leadership until it is repaired.
    Faulted,
}

/// The part a member plays in its term (Raft paper 5.1), with pre-vote (thesis 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether an election would be won, without a new term.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}
