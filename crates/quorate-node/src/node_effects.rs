//! What a node wants done.

use quorate_raft::{
    Broken, EntryRange, GroupId, HardState, Index, IoToken, NodeId, Notice, Reject, Role,
    SnapshotMeta, Term,
};

use crate::{Entry, LogError, LogRecord, PeerMessage};

/// Effects of one or more steps, in buffers that the caller owns and reuses.
///
/// The runtime's duties, in this order:
/// 1. send everything in `send`; nothing in it waits for the disk (the node holds back what does);
/// 2. hand `apply` to the state machine, in order; it is all durable in this node's log;
/// 3. append all of `io` to the log in one call, sync once, and give [`NodeEvent::IoDone`](crate::NodeEvent::IoDone) for
///    [`NodeEffects::tokens`]. It may be gathered over several rounds, if its order is kept. Before an [`NodeIo::Install`] is
///    appended, the state machine is the snapshot, durably;
/// 4. give the answers;
/// 5. if `fault` is set, stop: the log is not readable.
///
/// But if `broken` is set, none of this: keep what [`Node::recording`](crate::Node::recording) gives, and stop.
#[derive(Debug, Default)]
pub struct NodeEffects {
    /// What must become durable, in this order.
    pub io: Vec<NodeIo>,
    /// What must be sent, in this order for each receiver.
    pub send: Vec<(NodeId, PeerMessage)>,
    /// Committed entries for the state machines; without gaps for each group.
    pub apply: Vec<Apply>,
    /// Proposals that get no answer from the state machine.
    pub answers: Vec<Answer>,
    /// Reads that are over.
    pub reads: Vec<ReadAnswer>,
    /// Peers that an append did not leave for, since the log could not be read while it is written: they are owed a
    /// [`NodeEvent::PeerDown`](crate::NodeEvent::PeerDown), as for any message that is lost.
    pub unsent: Vec<NodeId>,
    /// Peers that need a snapshot.
    pub snapshots: Vec<SnapshotOrder>,
    /// Changes of role, in order.
    pub roles: Vec<RoleChange>,
    /// Everything else worth a line in the log.
    pub notices: Vec<(GroupId, Notice)>,
    /// Raft messages that were not taken in, at most one of each sender: a correct peer sends none.
    pub refused: Vec<Refused>,
    /// Members that sent what can't be applied here, and how many entries or proposals of it: nothing of that was taken in.
    pub unreadable: Vec<(NodeId, Unreadable)>,
    /// The log could not give back what it took.
    pub fault: Option<LogError>,
    /// The core of a group is broken. It may have been for some steps: nothing of this round may be carried out.
    pub broken: Option<(GroupId, Broken)>,
}

impl NodeEffects {
    /// Empties all buffers and keeps their memory.
    pub fn clear(&mut self) {
        self.io.clear();
        self.send.clear();
        self.apply.clear();
        self.answers.clear();
        self.reads.clear();
        self.unsent.clear();
        self.snapshots.clear();
        self.roles.clear();
        self.notices.clear();
        self.refused.clear();
        self.unreadable.clear();
        self.fault = None;
        self.broken = None;
    }

    /// The newest token of each group in `io`.
    pub fn tokens(&self) -> Vec<(GroupId, IoToken)> {
        NodeIo::newest_tokens(&self.io)
    }
}

/// A peer's message that was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whose it was to be.
    pub group: GroupId,
    /// Who sent it.
    pub from: NodeId,
    /// Why not.
    pub why: Reject,
}

/// One thing to make durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeIo {
    /// Hard state and entries, as one record.
    Save {
        /// Whose.
        group: GroupId,
        /// Reported by `IoDone`.
        token: IoToken,
        /// The hard state, when it changed.
        hard_state: Option<HardState>,
        /// Position of the first entry, or the one after the last when there are none.
        first: Index,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// The received snapshot becomes the state.
    Install {
        /// Whose.
        group: GroupId,
        /// Reported by `IoDone`.
        token: IoToken,
        /// The hard state that goes with it.
        hard_state: HardState,
        /// Which snapshot.
        snapshot: SnapshotMeta,
    },
    /// The log starts behind `base` now. Nobody waits for it.
    Compacted {
        /// Whose.
        group: GroupId,
        /// The new start.
        base: SnapshotMeta,
    },
}

impl NodeIo {
    /// The newest token of each group in `io`.
    pub fn newest_tokens(io: &[Self]) -> Vec<(GroupId, IoToken)> {
        let mut tokens: Vec<(GroupId, IoToken)> = Vec::new();
        for (group, token) in io.iter().filter_map(Self::token) {
            match tokens.iter_mut().find(|(known, _)| *known == group) {
                Some((_, newest)) => *newest = token,
                None => tokens.push((group, token)),
            }
        }
        tokens
    }

    /// The record that the log takes.
    pub fn record(&self) -> LogRecord<'_> {
        match self {
            Self::Save { group, hard_state, first, entries, .. } => {
                LogRecord::Save { group: *group, hard_state: *hard_state, first: *first, entries }
            }
            Self::Install { group, hard_state, snapshot, .. } => {
                LogRecord::Install { group: *group, hard_state: *hard_state, snapshot }
            }
            Self::Compacted { group, base } => LogRecord::Compacted { group: *group, base },
        }
    }

    /// The group and token that `IoDone` reports, if somebody waits.
    pub fn token(&self) -> Option<(GroupId, IoToken)> {
        match self {
            Self::Save { group, token, .. } | Self::Install { group, token, .. } => {
                Some((*group, *token))
            }
            Self::Compacted { .. } => None,
        }
    }
}

/// Committed entries to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apply {
    /// Whose.
    pub group: GroupId,
    /// Position of the first.
    pub first: Index,
    /// The entries; never empty.
    pub entries: Vec<Entry>,
}

impl Apply {
    /// Which positions it covers.
    pub fn range(&self) -> EntryRange {
        let last = Index(self.first.0 + (self.entries.len() as u64).saturating_sub(1));
        EntryRange { first: self.first, last }
    }
}

/// A proposal that gets no answer from the state machine of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whose.
    pub group: GroupId,
    /// The proposal's number.
    pub sequence: u64,
    /// Why.
    pub error: ProposeError,
}

/// Why a proposal or a read failed. `is_certain` tells whether a proposal surely has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The queues are full, or the state machine is too far behind.
    #[error("too many requests")]
    Overloaded,
    /// Its time is up, and there is no leader; it was never proposed.
    #[error("no leader")]
    NoLeader,
    /// Its time is up. It went to a leader that is gone, and there is no other.
    #[error("the leader was lost with the proposal")]
    LeaderLost,
    /// It was bound to a leadership that is over, and has no effect.
    #[error("not the leader")]
    NotLeader,
    /// Its time is up.
    #[error("timed out")]
    Timeout,
    /// A snapshot took the place of the entries that may hold it.
    #[error("outcome unknown: a snapshot was installed")]
    Superseded,
    /// Not every member could apply it: it can't be read, or a member is of a version that does not know it.
    #[error("the command can't be read by all members: their versions differ")]
    Refused,
    /// The member's disk is faulted.
    #[error("the disk of this member is faulted")]
    Faulted,
}

impl ProposeError {
    /// Whether the proposal surely has no effect, now or later.
    pub fn is_certain(self) -> bool {
        match self {
            Self::Overloaded | Self::NoLeader | Self::NotLeader | Self::Refused | Self::Faulted => {
                true
            }
            Self::LeaderLost | Self::Timeout | Self::Superseded => false,
        }
    }
}

/// What was refused of a member's message, since it can't be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// How many entries or proposals.
    pub count: u64,
    /// The newest version among those that could be read: above what this member, or another, can apply. `None`: they are no
    /// commands.
    pub version: Option<u8>,
}

/// A read that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAnswer {
    /// Whose.
    pub group: GroupId,
    /// The read's number.
    pub id: u64,
    /// `Ok`: the state machine, as it is now, is fresh enough.
    pub result: Result<(), ProposeError>,
}

/// A peer needs a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOrder {
    /// Whose.
    pub group: GroupId,
    /// Who.
    pub to: NodeId,
    /// The leader's term; goes with every chunk.
    pub term: Term,
}

/// This node plays another part now, or knows of another leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// Whose.
    pub group: GroupId,
    /// The role now.
    pub role: Role,
    /// The term now.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<NodeId>,
}
