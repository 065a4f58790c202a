//! Every message there is, at random.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use quorate_node::{Entry, PeerMessage, SnapshotProgress};
use quorate_raft::{
    AppendOutcome, EntryId, EntryKind, EntryMeta, GroupId, Index, Membership, Message, NodeId,
    ReadContext, SnapshotMeta, Term,
};

/// Any message.
pub(crate) fn any_message() -> impl Strategy<Value = PeerMessage> {
    let group = any::<u64>().prop_map(GroupId);
    prop_oneof![
        8 => (group.clone(), raft())
            .prop_map(|(group, message)| PeerMessage::Raft { group, message }),
        1 => (group.clone(), term(), any::<(u64, u64)>(), vec(payload(), 0..5)).prop_map(
            |(group, term, (incarnation, number), proposals)| PeerMessage::Forward {
                group, term, incarnation, number, proposals
            }
        ),
        1 => (group.clone(), term(), any::<(u64, u64, bool)>()).prop_map(
            |(group, term, (incarnation, next, gap))| PeerMessage::ForwardAck {
                group, term, incarnation, next, gap
            }
        ),
        1 => (group.clone(), term(), any::<u64>(), vec(any::<u64>(), 0..5)).prop_map(
            |(group, term, incarnation, numbers)| PeerMessage::ForwardRefused {
                group, term, incarnation, numbers
            }
        ),
        1 => (any::<u64>(), payload())
            .prop_map(|(id, body)| PeerMessage::ServiceRequest { id, body }),
        1 => (any::<u64>(), payload())
            .prop_map(|(id, body)| PeerMessage::ServiceReply { id, body }),
        1 => (group.clone(), term(), snapshot(), any::<(u64, u64, bool)>(), payload()).prop_map(
            |(group, term, snapshot, (transfer, number, last), data)| {
                PeerMessage::SnapshotChunk { group, term, transfer, snapshot, number, last, data }
            }
        ),
        1 => (group, any::<u64>(), progress()).prop_map(|(group, transfer, progress)| {
            PeerMessage::SnapshotAck { group, transfer, progress }
        }),
    ]
}

fn raft() -> impl Strategy<Value = Message<Vec<Entry>>> {
    prop_oneof![
        (term(), any::<(bool, bool)>(), entry_id()).prop_map(
            |(term, (pre_vote, transfer), last)| {
                Message::RequestVote { term, pre_vote, last, transfer }
            }
        ),
        (term(), any::<(bool, bool)>()).prop_map(|(term, (pre_vote, granted))| Message::Vote {
            term,
            pre_vote,
            granted
        }),
        (term(), entry_id(), vec(entry(), 0..6), index(), any::<u64>()).prop_map(
            |(term, prev, entries, commit, round)| Message::AppendEntries {
                term,
                prev,
                entries,
                commit,
                round
            }
        ),
        (term(), any::<u64>(), outcome()).prop_map(|(term, round, outcome)| Message::Appended {
            term,
            round,
            outcome
        }),
        (term(), index(), any::<u64>()).prop_map(|(term, commit, round)| Message::Heartbeat {
            term,
            commit,
            round
        }),
        (term(), any::<u64>()).prop_map(|(term, round)| Message::HeartbeatReply { term, round }),
        (term(), snapshot())
            .prop_map(|(term, snapshot)| Message::InstallSnapshot { term, snapshot }),
        (term(), context()).prop_map(|(term, context)| Message::ReadIndex { term, context }),
        (term(), context(), proptest::option::of(index())).prop_map(|(term, context, index)| {
            Message::ReadIndexReply { term, context, index }
        }),
        term().prop_map(|term| Message::TimeoutNow { term }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind =
        prop_oneof![Just(EntryKind::Normal), Just(EntryKind::Noop), Just(EntryKind::Membership)];
    (term(), kind, payload()).prop_map(|(term, kind, payload)| {
        let bytes = u32::try_from(payload.len()).unwrap();
        Entry { meta: EntryMeta { term, kind, bytes }, payload }
    })
}

/// Nothing, a little, and enough to be shared rather than copied.
fn payload() -> impl Strategy<Value = Bytes> {
    let size = prop_oneof![4 => 0..64_usize, 1 => 1000..3000_usize];
    (any::<u8>(), size).prop_map(|(byte, size)| Bytes::from(vec![byte; size]))
}

fn outcome() -> impl Strategy<Value = AppendOutcome> {
    prop_oneof![
        index().prop_map(AppendOutcome::Matched),
        (index(), entry_id()).prop_map(|(prev, hint)| AppendOutcome::Rejected { prev, hint }),
    ]
}

fn progress() -> impl Strategy<Value = SnapshotProgress> {
    prop_oneof![
        any::<u64>().prop_map(SnapshotProgress::Expect),
        Just(SnapshotProgress::Done),
        Just(SnapshotProgress::Refused),
    ]
}

fn snapshot() -> impl Strategy<Value = SnapshotMeta> {
    let nodes = || proptest::collection::btree_set(any::<u64>().prop_map(NodeId), 0..4);
    let membership = (nodes(), nodes(), nodes()).prop_map(|(voters, voters_outgoing, learners)| {
        Membership { voters, voters_outgoing, learners }
    });
    (entry_id(), membership).prop_map(|(last, membership)| SnapshotMeta { last, membership })
}

fn entry_id() -> impl Strategy<Value = EntryId> {
    (term(), index()).prop_map(|(term, index)| EntryId { term, index })
}

fn term() -> impl Strategy<Value = Term> {
    any::<u64>().prop_map(Term)
}

fn index() -> impl Strategy<Value = Index> {
    any::<u64>().prop_map(Index)
}

fn context() -> impl Strategy<Value = ReadContext> {
    any::<u64>().prop_map(ReadContext)
}
