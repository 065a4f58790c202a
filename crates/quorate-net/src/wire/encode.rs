//! Writing bodies. The numbers of kinds are here, each with its writer.

use bytes::Bytes;
use quorate_node::{Entry, PeerMessage, SnapshotProgress};
use quorate_raft::{AppendOutcome, EntryId, EntryKind, Membership, Message, SnapshotMeta};

use super::Body;
use crate::outgoing::Outgoing;

pub(super) const PING: u8 = 1;
pub(super) const PONG: u8 = 2;
pub(super) const RAFT: u8 = 3;
pub(super) const FORWARD: u8 = 4;
pub(super) const FORWARD_ACK: u8 = 5;
pub(super) const SERVICE_REQUEST: u8 = 6;
pub(super) const SERVICE_REPLY: u8 = 7;
pub(super) const SNAPSHOT_CHUNK: u8 = 8;
pub(super) const SNAPSHOT_ACK: u8 = 9;
pub(super) const FORWARD_REFUSED: u8 = 10;

pub(super) const REQUEST_VOTE: u8 = 1;
pub(super) const VOTE: u8 = 2;
pub(super) const APPEND_ENTRIES: u8 = 3;
pub(super) const APPENDED: u8 = 4;
pub(super) const HEARTBEAT: u8 = 5;
pub(super) const HEARTBEAT_REPLY: u8 = 6;
pub(super) const INSTALL_SNAPSHOT: u8 = 7;
pub(super) const READ_INDEX: u8 = 8;
pub(super) const READ_INDEX_REPLY: u8 = 9;
pub(super) const TIMEOUT_NOW: u8 = 10;

pub(super) const MATCHED: u8 = 1;
pub(super) const REJECTED: u8 = 2;

pub(super) const NORMAL: u8 = 1;
pub(super) const NOOP: u8 = 2;
pub(super) const MEMBERSHIP: u8 = 3;

pub(super) const EXPECT: u8 = 1;
pub(super) const DONE: u8 = 2;
pub(super) const REFUSED: u8 = 3;

/// About what a message without its payloads takes.
const MESSAGE_BYTES: usize = 128;

/// Size of an entry's fields in front of its payload: term, kind, length.
pub(super) const ENTRY_BYTES: usize = 8 + 1 + 4;

/// About how many bytes a message will take, in memory and on the wire.
pub fn size_estimate(message: &PeerMessage) -> usize {
    let payloads = match message {
        PeerMessage::Raft { message: Message::AppendEntries { entries, .. }, .. } => {
            entries.iter().map(|entry| ENTRY_BYTES + entry.payload.len()).sum()
        }
        PeerMessage::Forward { proposals, .. } => {
            proposals.iter().map(|proposal| 4 + proposal.len()).sum()
        }
        PeerMessage::ServiceRequest { body, .. } | PeerMessage::ServiceReply { body, .. } => {
            body.len()
        }
        PeerMessage::SnapshotChunk { data, .. } => data.len(),
        PeerMessage::ForwardRefused { numbers, .. } => 8 * numbers.len(),
        PeerMessage::Raft { .. }
        | PeerMessage::ForwardAck { .. }
        | PeerMessage::SnapshotAck { .. } => 0,
    };
    MESSAGE_BYTES + payloads
}

/// Adds `body` to `out` as one frame.
///
/// # Errors
/// The size of the frame when it is over the limit of `out`, which is left without it.
pub fn encode(body: &Body, out: &mut Outgoing) -> Result<(), usize> {
    out.begin();
    match body {
        Body::Ping(number) => {
            out.put_u8(PING);
            out.put_u64(*number);
        }
        Body::Pong(number) => {
            out.put_u8(PONG);
            out.put_u64(*number);
        }
        Body::Message(message) => peer_message(message, out),
    }
    out.finish()
}

fn peer_message(message: &PeerMessage, out: &mut Outgoing) {
    match message {
        PeerMessage::Raft { group, message } => {
            out.put_u8(RAFT);
            out.put_u64(group.0);
            raft(message, out);
        }
        PeerMessage::Forward { group, term, incarnation, number, proposals } => {
            out.put_u8(FORWARD);
            numbers(&[group.0, term.0, *incarnation, *number], out);
            count(proposals.len(), out);
            for proposal in proposals {
                bytes(proposal, out);
            }
        }
        PeerMessage::ForwardAck { group, term, incarnation, next, gap } => {
            out.put_u8(FORWARD_ACK);
            numbers(&[group.0, term.0, *incarnation, *next], out);
            out.put_u8(u8::from(*gap));
        }
        PeerMessage::ForwardRefused { group, term, incarnation, numbers: refused } => {
            out.put_u8(FORWARD_REFUSED);
            numbers(&[group.0, term.0, *incarnation], out);
            count(refused.len(), out);
            numbers(refused, out);
        }
        PeerMessage::ServiceRequest { id, body } => {
            out.put_u8(SERVICE_REQUEST);
            out.put_u64(*id);
            bytes(body, out);
        }
        PeerMessage::ServiceReply { id, body } => {
            out.put_u8(SERVICE_REPLY);
            out.put_u64(*id);
            bytes(body, out);
        }
        PeerMessage::SnapshotChunk { group, term, transfer, snapshot, number, last, data } => {
            out.put_u8(SNAPSHOT_CHUNK);
            numbers(&[group.0, term.0, *transfer], out);
            snapshot_meta(snapshot, out);
            out.put_u64(*number);
            out.put_u8(u8::from(*last));
            bytes(data, out);
        }
        PeerMessage::SnapshotAck { group, transfer, progress } => {
            out.put_u8(SNAPSHOT_ACK);
            numbers(&[group.0, *transfer], out);
            snapshot_progress(*progress, out);
        }
    }
}

fn raft(message: &Message<Vec<Entry>>, out: &mut Outgoing) {
    match message {
        Message::RequestVote { term, pre_vote, last, transfer } => {
            opening(REQUEST_VOTE, term.0, out);
            out.put_u8(u8::from(*pre_vote));
            entry_id(*last, out);
            out.put_u8(u8::from(*transfer));
        }
        Message::Vote { term, pre_vote, granted } => {
            opening(VOTE, term.0, out);
            out.put_u8(u8::from(*pre_vote));
            out.put_u8(u8::from(*granted));
        }
        Message::AppendEntries { term, prev, entries, commit, round } => {
            opening(APPEND_ENTRIES, term.0, out);
            entry_id(*prev, out);
            numbers(&[commit.0, *round], out);
            count(entries.len(), out);
            for one in entries {
                entry(one, out);
            }
        }
        Message::Appended { term, round, outcome } => {
            opening(APPENDED, term.0, out);
            out.put_u64(*round);
            append_outcome(*outcome, out);
        }
        Message::Heartbeat { term, commit, round } => {
            opening(HEARTBEAT, term.0, out);
            numbers(&[commit.0, *round], out);
        }
        Message::HeartbeatReply { term, round } => {
            opening(HEARTBEAT_REPLY, term.0, out);
            out.put_u64(*round);
        }
        Message::InstallSnapshot { term, snapshot } => {
            opening(INSTALL_SNAPSHOT, term.0, out);
            snapshot_meta(snapshot, out);
        }
        Message::ReadIndex { term, context } => {
            opening(READ_INDEX, term.0, out);
            out.put_u64(context.0);
        }
        Message::ReadIndexReply { term, context, index } => {
            opening(READ_INDEX_REPLY, term.0, out);
            out.put_u64(context.0);
            out.put_u8(u8::from(index.is_some()));
            out.put_u64(index.map_or(0, |index| index.0));
        }
        Message::TimeoutNow { term } => opening(TIMEOUT_NOW, term.0, out),
    }
}

fn opening(kind: u8, term: u64, out: &mut Outgoing) {
    out.put_u8(kind);
    out.put_u64(term);
}

fn append_outcome(outcome: AppendOutcome, out: &mut Outgoing) {
    match outcome {
        AppendOutcome::Matched(index) => {
            out.put_u8(MATCHED);
            out.put_u64(index.0);
        }
        AppendOutcome::Rejected { prev, hint } => {
            out.put_u8(REJECTED);
            out.put_u64(prev.0);
            entry_id(hint, out);
        }
    }
}

fn snapshot_progress(progress: SnapshotProgress, out: &mut Outgoing) {
    match progress {
        SnapshotProgress::Expect(number) => {
            out.put_u8(EXPECT);
            out.put_u64(number);
        }
        SnapshotProgress::Done => out.put_u8(DONE),
        SnapshotProgress::Refused => out.put_u8(REFUSED),
    }
}

fn entry(entry: &Entry, out: &mut Outgoing) {
    out.put_u64(entry.meta.term.0);
    out.put_u8(match entry.meta.kind {
        EntryKind::Normal => NORMAL,
        EntryKind::Noop => NOOP,
        EntryKind::Membership => MEMBERSHIP,
    });
    bytes(&entry.payload, out);
}

fn snapshot_meta(snapshot: &SnapshotMeta, out: &mut Outgoing) {
    entry_id(snapshot.last, out);
    let Membership { voters, voters_outgoing, learners } = &snapshot.membership;
    for members in [voters, voters_outgoing, learners] {
        count(members.len(), out);
        for member in members {
            out.put_u64(member.0);
        }
    }
}

fn entry_id(id: EntryId, out: &mut Outgoing) {
    numbers(&[id.term.0, id.index.0], out);
}

fn numbers(numbers: &[u64], out: &mut Outgoing) {
    for number in numbers {
        out.put_u64(*number);
    }
}

fn bytes(bytes: &Bytes, out: &mut Outgoing) {
    count(bytes.len(), out);
    out.put_bytes(bytes);
}

/// A count beyond four bytes makes a frame that is over every limit, so what stands there then is never sent.
fn count(count: usize, out: &mut Outgoing) {
    out.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
}
