//! What the core is told.

use crate::{
    EntryMeta, EntryRange, Index, IoToken, Message, NodeId, ReadContext, SnapshotMeta, Term,
};

/// One thing that happened to a member of a group.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Time has passed; given no later than [`Core::next_deadline`](crate::Core::next_deadline).
    Wake,
    /// A peer's message. An `Append` carries what the core must know of its entries; the driver keeps their content.
    Message {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        message: &'a Message<&'a [EntryMeta]>,
    },
    /// Entries to append, in this order. A leader takes as many as its window allows (all or none) and answers
    /// [`Verdict::Proposed`]; the content is the driver's.
    Propose {
        /// Size of each entry's content.
        sizes: &'a [u32],
    },
    /// A linearizable read. Answered by a grant, or dropped, in the effects of this or a later step.
    Read {
        /// The driver's number of the read; unique among those under way.
        context: ReadContext,
    },
    /// Everything up to this token is durable.
    IoDone {
        /// The newest durable token.
        token: IoToken,
    },
    /// The disk failed.
    Fault(Fault),
    /// The disk was repaired: the node takes part again.
    Repaired,
    /// Messages to this peer are being lost.
    Unreachable {
        /// Which peer.
        node: NodeId,
    },
    /// A snapshot that [`Effects::snapshots`](crate::Effects::snapshots) asked for was sent whole, or was not.
    SnapshotSent {
        /// To whom.
        to: NodeId,
        /// The snapshot that was sent; `None` if it failed.
        snapshot: Option<&'a SnapshotMeta>,
    },
    /// A leader's snapshot has arrived whole and is checked and durable beside the state, but not yet installed.
    SnapshotReceived {
        /// Who sent it.
        from: NodeId,
        /// The sender's term.
        term: Term,
        /// What it holds.
        snapshot: &'a SnapshotMeta,
    },
    /// The driver dropped the log up to this index, which is applied and durable in the state machine.
    Compacted {
        /// The last index dropped.
        upto: Index,
    },
    /// Hand leadership to this voter (thesis 3.10).
    TransferLeader {
        /// To whom.
        to: NodeId,
    },
}

/// A disk fault. A faulted member abstains from votes and leadership until [`Event::Repaired`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A sync failed: what was written since the last good one may be lost. Final for the process.
    SyncFailed,
    /// Stored entries fail their checksum.
    Corrupt(EntryRange),
    /// No space is left.
    DiskFull,
    /// The disk has not answered for this long, in nanoseconds.
    SlowDisk {
        /// How long.
        stalled_for_ns: u64,
    },
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Taken in.
    Ok,
    /// Out of date, and without effect.
    Stale,
    /// Proposed entries got these positions, in this term.
    Proposed {
        /// Their positions.
        range: EntryRange,
        /// Their term.
        term: Term,
    },
    /// Refused; nothing changed.
    Rejected(Reject),
}

/// Why an event was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// Only the leader can do this.
    #[error("not the leader; {}", match leader {
        Some(leader) => format!("node {leader} is"),
        None => "no leader is known".to_owned(),
    })]
    NotLeader {
        /// Who is, if known.
        leader: Option<NodeId>,
    },
    /// Too many entries or bytes are appended and not committed.
    #[error("too many uncommitted entries")]
    WindowFull,
    /// Leadership is being handed over.
    #[error("leadership is being transferred")]
    Transferring,
    /// The sender or the target is in no configuration this node knows, or can't play this part.
    #[error("node {0} is not a member that can do this")]
    UnknownPeer(NodeId),
    /// The message contradicts the protocol or itself.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// The sender's log has another entry than this member knows to be committed: one of the two has lost what it had
    /// promised (Raft paper 5.4.3), or they are not of one group.
    #[error(
        "entry {index} is committed here with term {committed}, and the leader has one of term {offered} there"
    )]
    Conflict {
        /// The first position at which they differ.
        index: Index,
        /// The term of the entry here.
        committed: Term,
        /// That of the sender's.
        offered: Term,
    },
    /// The member is faulted.
    #[error("the disk of this member is faulted")]
    Faulted,
}
