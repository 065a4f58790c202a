//! What crosses the wire between nodes.

use bytes::Bytes;
use quorate_raft::{GroupId, Message, SnapshotMeta, Term};

use crate::Entry;

/// One message from a node to another.
///
/// The transport may lose, delay and repeat messages; everything here bears that. `SnapshotChunk`s and `Service*` are the
/// runtime's, the others are [`Node`](crate::Node)'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// The Raft protocol's own. Entries share their content with log and state machine.
    Raft {
        /// Whose.
        group: GroupId,
        /// What.
        message: Message<Vec<Entry>>,
    },
    /// Proposals for the leader, numbered without gaps from 0 in each (sender, incarnation, term), so that a resend is never
    /// appended twice.
    Forward {
        /// Whose.
        group: GroupId,
        /// The only term in which they may be appended.
        term: Term,
        /// Which run of the sender's process; unique to it.
        incarnation: u64,
        /// Number of the first proposal.
        number: u64,
        /// Sealed proposals, in order.
        proposals: Vec<Bytes>,
    },
    /// The answer to `Forward`: everything before `next` was taken in, or is appended already.
    ForwardAck {
        /// Whose.
        group: GroupId,
        /// The term of the `Forward`.
        term: Term,
        /// The incarnation of the `Forward`.
        incarnation: u64,
        /// The number expected next.
        next: u64,
        /// Whether the `Forward` began behind `next`: what lies between was lost and must be sent again.
        gap: bool,
    },
    /// The other answer to `Forward`: these are not appended in this term, since not every member could apply them.
    ForwardRefused {
        /// Whose.
        group: GroupId,
        /// The term of the `Forward`.
        term: Term,
        /// The incarnation of the `Forward`.
        incarnation: u64,
        /// Their numbers.
        numbers: Vec<u64>,
    },
    /// A call of something only the leader does, such as renewing a lease.
    ServiceRequest {
        /// The caller's number for it.
        id: u64,
        /// What is called.
        body: Bytes,
    },
    /// The answer to `ServiceRequest`.
    ServiceReply {
        /// The caller's number.
        id: u64,
        /// The result.
        body: Bytes,
    },
    /// A piece of a snapshot file. The sender sends the next one when the receiver acknowledged enough.
    SnapshotChunk {
        /// Whose.
        group: GroupId,
        /// The leader's term.
        term: Term,
        /// The leader's number for this transfer; a new one for each attempt.
        transfer: u64,
        /// What the whole is.
        snapshot: SnapshotMeta,
        /// Which piece, from 0.
        number: u64,
        /// Whether it is the last one.
        last: bool,
        /// The piece.
        data: Bytes,
    },
    /// The answer to `SnapshotChunk`.
    SnapshotAck {
        /// Whose.
        group: GroupId,
        /// The transfer's number.
        transfer: u64,
        /// How far the receiver is.
        progress: SnapshotProgress,
    },
}

/// How far a snapshot transfer is at its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotProgress {
    /// All pieces before this one are there; this one is expected next.
    Expect(u64),
    /// Everything is there, checked and durable.
    Done,
    /// The transfer is off: another one runs, a piece was bad, or the disk failed.
    Refused,
}

impl PeerMessage {
    /// Whether it must not queue behind bulk: elections, signs of life, reads, acknowledgements and leader-only calls.
    pub fn is_urgent(&self) -> bool {
        match self {
            Self::Raft { message, .. } => match message {
                Message::AppendEntries { .. } | Message::InstallSnapshot { .. } => false,
                Message::RequestVote { .. }
                | Message::Vote { .. }
                | Message::Appended { .. }
                | Message::Heartbeat { .. }
                | Message::HeartbeatReply { .. }
                | Message::ReadIndex { .. }
                | Message::ReadIndexReply { .. }
                | Message::TimeoutNow { .. } => true,
            },
            Self::Forward { .. } | Self::SnapshotChunk { .. } => false,
            Self::ForwardAck { .. }
            | Self::ForwardRefused { .. }
            | Self::ServiceRequest { .. }
            | Self::ServiceReply { .. }
            | Self::SnapshotAck { .. } => true,
        }
    }

    /// How much content it carries, in bytes: what is worth counting of its size.
    pub fn content_bytes(&self) -> u64 {
        let sum = |sizes: &mut dyn Iterator<Item = usize>| sizes.sum::<usize>() as u64;
        match self {
            Self::Raft { message: Message::AppendEntries { entries, .. }, .. } => {
                sum(&mut entries.iter().map(|entry| entry.payload.len()))
            }
            Self::Forward { proposals, .. } => sum(&mut proposals.iter().map(Bytes::len)),
            Self::SnapshotChunk { data, .. } => data.len() as u64,
            Self::ServiceRequest { body, .. } | Self::ServiceReply { body, .. } => {
                body.len() as u64
            }
            Self::Raft { .. }
            | Self::ForwardAck { .. }
            | Self::ForwardRefused { .. }
            | Self::SnapshotAck { .. } => 0,
        }
    }
}
