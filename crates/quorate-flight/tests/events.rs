//! Every event comes back from its words.

use proptest::prelude::*;
use quorate_raft::{
    AppendOutcome, EntryId, EntryKind, EntryMeta, EntryRange, Fault, Index, IoToken, Membership,
    Message, NodeId, ReadContext, RecordError, RecordedEvent, SnapshotMeta, Term,
};

fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..64).prop_map(|(word, shift)| word >> shift)
}

fn id() -> impl Strategy<Value = EntryId> {
    (number(), number()).prop_map(|(term, index)| EntryId { term: Term(term), index: Index(index) })
}

fn snapshot() -> impl Strategy<Value = SnapshotMeta> {
    let members = || {
        prop::collection::btree_set(number(), 0..4)
            .prop_map(|ids| ids.into_iter().map(NodeId).collect())
    };
    (id(), members(), members(), members()).prop_map(|(last, voters, voters_outgoing, learners)| {
        SnapshotMeta { last, membership: Membership { voters, voters_outgoing, learners } }
    })
}

fn entries() -> impl Strategy<Value = Vec<EntryMeta>> {
    let kind =
        prop_oneof![Just(EntryKind::Normal), Just(EntryKind::Noop), Just(EntryKind::Membership)];
    let entry = (0_u64..4, kind, 0_u32..3, 1_usize..4);
    prop::collection::vec(entry, 0..8).prop_map(|runs| {
        let meta = |(term, kind, bytes, count)| {
            std::iter::repeat_n(EntryMeta { term: Term(term), kind, bytes }, count)
        };
        runs.into_iter().flat_map(meta).collect()
    })
}

fn message() -> impl Strategy<Value = Message<()>> {
    let flags = (any::<bool>(), any::<bool>());
    (0..11, (number(), number(), number()), id(), flags, snapshot()).prop_map(
        |(kind, (term, one, other), last, (flag, another), snapshot)| {
            let (term, index, context) = (Term(term), Index(one), ReadContext(other));
            match kind {
                0 => Message::RequestVote { term, pre_vote: flag, last, transfer: another },
                1 => Message::Vote { term, pre_vote: flag, granted: another },
                2 => Message::AppendEntries {
                    term,
                    prev: last,
                    entries: (),
                    commit: index,
                    round: other,
                },
                3 => {
                    let outcome = AppendOutcome::Matched(index);
                    Message::Appended { term, round: other, outcome }
                }
                4 => {
                    let outcome = AppendOutcome::Rejected { prev: index, hint: last };
                    Message::Appended { term, round: other, outcome }
                }
                5 => Message::Heartbeat { term, commit: index, round: other },
                6 => Message::HeartbeatReply { term, round: other },
                7 => Message::InstallSnapshot { term, snapshot },
                8 => Message::ReadIndex { term, context },
                9 => Message::ReadIndexReply { term, context, index: flag.then_some(index) },
                _ => Message::TimeoutNow { term },
            }
        },
    )
}

fn fault() -> impl Strategy<Value = Fault> {
    (0..4, number(), number()).prop_map(|(kind, first, last)| match kind {
        0 => Fault::SyncFailed,
        1 => Fault::Corrupt(EntryRange { first: Index(first), last: Index(last) }),
        2 => Fault::DiskFull,
        _ => Fault::SlowDisk { stalled_for_ns: first },
    })
}

fn event() -> impl Strategy<Value = RecordedEvent> {
    let node = || number().prop_map(NodeId);
    prop_oneof![
        Just(RecordedEvent::Wake),
        Just(RecordedEvent::Repaired),
        (node(), message(), entries()).prop_map(|(from, message, entries)| {
            let carries = matches!(message, Message::AppendEntries { .. });
            let entries = if carries { entries } else { Vec::new() };
            RecordedEvent::Message { from, message, entries }
        }),
        prop::collection::vec(0_u32..3, 0..20).prop_map(|sizes| RecordedEvent::Propose { sizes }),
        number().prop_map(|context| RecordedEvent::Read { context: ReadContext(context) }),
        number().prop_map(|token| RecordedEvent::IoDone { token: IoToken(token) }),
        fault().prop_map(RecordedEvent::Fault),
        node().prop_map(|node| RecordedEvent::Unreachable { node }),
        (node(), prop::option::of(snapshot()))
            .prop_map(|(to, snapshot)| RecordedEvent::SnapshotSent { to, snapshot }),
        (node(), number(), snapshot()).prop_map(|(from, term, snapshot)| {
            RecordedEvent::SnapshotReceived { from, term: Term(term), snapshot }
        }),
        number().prop_map(|upto| RecordedEvent::Compacted { upto: Index(upto) }),
        node().prop_map(|to| RecordedEvent::TransferLeader { to }),
    ]
}

proptest! {
    #[test]
    fn every_event_comes_back(event in event()) {
        let mut words = Vec::new();
        prop_assert!(event.with(|event| event.record(&mut words)));
        let mut words = words.into_iter();
        prop_assert_eq!(RecordedEvent::read(&mut words).unwrap(), event);
        prop_assert_eq!(words.next(), None);
    }

    #[test]
    fn a_part_of_an_event_is_refused(event in event(), cut in any::<prop::sample::Index>()) {
        let mut words = Vec::new();
        event.with(|event| event.record(&mut words));
        words.truncate(cut.index(words.len()));
        prop_assert_eq!(RecordedEvent::read(&mut words.into_iter()), Err(RecordError::Ended));
    }
}
