//! What a node is told.

use bytes::Bytes;
use quorate_raft::{Fault, GroupId, Index, IoToken, NodeId, SnapshotMeta, Term};

use crate::PeerMessage;

/// One thing that happened to a node.
#[derive(Clone, Debug)]
pub enum NodeEvent {
    /// Time has passed; given no later than [`Node::next_deadline`](crate::Node::next_deadline).
    Wake,
    /// A peer's message.
    Peer {
        /// Who sent it.
        from: NodeId,
        /// What it says. `Service*` and `Snapshot*` messages are the runtime's and have no effect here.
        message: PeerMessage,
    },
    /// A peer can be reached again: what may have been lost is sent again.
    PeerUp {
        /// Which one.
        node: NodeId,
    },
    /// Messages to this peer are being lost.
    PeerDown {
        /// Which one.
        node: NodeId,
    },
    /// The newest version of commands that every member can apply, as far as this one knows: 0 until it is told. A leader
    /// appends nothing newer.
    CommandVersion {
        /// The version.
        version: u8,
    },
    /// A client's command. Answered by the state machine once it is applied, or by an [`Answer`](crate::Answer).
    Propose {
        /// Whose.
        group: GroupId,
        /// What.
        proposal: Proposal,
    },
    /// A linearizable read. Always answered by a [`ReadAnswer`](crate::ReadAnswer).
    Read {
        /// Whose.
        group: GroupId,
        /// The runtime's number for it.
        id: u64,
    },
    /// The state machine has applied everything up to here.
    Applied {
        /// Whose.
        group: GroupId,
        /// The last index applied.
        index: Index,
    },
    /// The state machine is durable up to here: the log may be cut behind it.
    Checkpointed {
        /// Whose.
        group: GroupId,
        /// The last index that is durable in it.
        index: Index,
    },
    /// What [`NodeEffects::io`](crate::NodeEffects) held for this group up to `token` is durable.
    IoDone {
        /// Whose.
        group: GroupId,
        /// The newest durable token.
        token: IoToken,
    },
    /// The disk failed.
    Fault {
        /// Whose log.
        group: GroupId,
        /// How.
        fault: Fault,
    },
    /// The disk that failed works again, and lost nothing.
    Repaired {
        /// Whose log.
        group: GroupId,
    },
    /// A snapshot that was ordered has been sent whole, or has not.
    SnapshotSent {
        /// Whose.
        group: GroupId,
        /// To whom.
        to: NodeId,
        /// What was sent; `None` when it failed.
        snapshot: Option<SnapshotMeta>,
    },
    /// A leader's snapshot is here, checked and durable, but not installed.
    SnapshotReceived {
        /// Whose.
        group: GroupId,
        /// Who sent it.
        from: NodeId,
        /// The sender's term.
        term: Term,
        /// What it holds.
        snapshot: SnapshotMeta,
    },
    /// Hand leadership over.
    TransferLeader {
        /// Whose.
        group: GroupId,
        /// To whom.
        to: NodeId,
    },
}

/// A command that waits to be ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// This node's number for it, the one in its envelope; unique among all runs of this node.
    pub sequence: u64,
    /// The sealed command; see [`Envelope`](crate::Envelope).
    pub payload: Bytes,
    /// Where it may be proposed.
    pub scope: Scope,
}

/// Where a proposal may be proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// By whoever leads, now or later: it is forwarded, and proposed again when it is provably lost.
    Anywhere,
    /// Only here and only in this term; never forwarded, never proposed again. Such as the end of a lease that this leader saw.
    LeaderOf(Term),
}
