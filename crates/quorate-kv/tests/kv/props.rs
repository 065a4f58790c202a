//! Random histories, against the naive model.
//!
//! Whatever is done, in runs of any length, with the store closed and opened and purged at any moment: every reply, every
//! range at every revision, every event, every hash and every lease is the model's.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::select};
use quorate_kv::{Command, RequestError};
use quorate_proto::{
    etcdserverpb::{
        self as pb, Compare, RequestOp,
        compare::{CompareResult, TargetUnion},
        request_op::Request,
    },
    mvccpb::event::EventType,
};

use crate::{
    model::Model,
    world::{World, compare, refused},
};

#[derive(Clone, Debug)]
enum Step {
    Run(Vec<Command>),
    Purge(usize),
    Reopen,
}

fn key() -> impl Strategy<Value = Bytes> {
    select(vec!["\0", "a", "a\0", "a\0\0", "b", "b\u{1}", "c"]).prop_map(Bytes::from)
}

fn end() -> impl Strategy<Value = Bytes> {
    prop_oneof![3 => Just(Bytes::new()), 1 => Just(Bytes::from("\0")), 2 => key()]
}

fn value() -> impl Strategy<Value = Bytes> {
    select(vec!["", "x", "y", "z"]).prop_map(Bytes::from)
}

fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![2 => Just(0_i64), 3 => -2..30_i64]
}

fn lease() -> impl Strategy<Value = i64> {
    select(vec![0_i64, 0, 0, 1, 2, -1])
}

fn put() -> impl Strategy<Value = pb::PutRequest> {
    (key(), value(), lease(), any::<bool>(), 0..8).prop_map(
        |(key, value, lease, prev_kv, ignore)| {
            let (ignore_value, ignore_lease) = (ignore == 0, ignore == 1);
            let value = if ignore_value { Bytes::new() } else { value };
            let lease = if ignore_lease { 0 } else { lease };
            pb::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease }
        },
    )
}

fn delete() -> impl Strategy<Value = pb::DeleteRangeRequest> {
    (key(), end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| pb::DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn range() -> impl Strategy<Value = pb::RangeRequest> {
    let filters = prop_oneof![2 => Just([0_i64; 4]), 1 => proptest::array::uniform4(0..20_i64)];
    (key(), end(), -1..4_i64, revision(), (0..3, 0..5), any::<(bool, u8)>(), filters).prop_map(
        |(
            key,
            range_end,
            limit,
            revision,
            (sort_order, sort_target),
            (keys_only, count),
            filters,
        )| {
            pb::RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order,
                sort_target,
                serializable: false,
                keys_only,
                count_only: count < 40,
                min_mod_revision: filters[0],
                max_mod_revision: filters[1],
                min_create_revision: filters[2],
                max_create_revision: filters[3],
            }
        },
    )
}

fn comparison() -> impl Strategy<Value = Compare> {
    let union = prop_oneof![
        (0..3_i64).prop_map(TargetUnion::Version),
        (0..9_i64).prop_map(TargetUnion::CreateRevision),
        (0..9_i64).prop_map(TargetUnion::ModRevision),
        value().prop_map(TargetUnion::Value),
        lease().prop_map(TargetUnion::Lease),
    ];
    let results = [
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
    ];
    (key(), end(), select(results.to_vec()), union).prop_map(|(key, range_end, result, union)| {
        Compare { key, range_end, ..compare("", result, union) }
    })
}

fn op(depth: u32) -> BoxedStrategy<RequestOp> {
    let leaf = prop_oneof![
        put().prop_map(Request::RequestPut),
        delete().prop_map(Request::RequestDeleteRange),
        range().prop_map(Request::RequestRange),
    ];
    let request = if depth == 0 {
        leaf.boxed()
    } else {
        prop_oneof![4 => leaf, 1 => txn(depth - 1).prop_map(Request::RequestTxn)].boxed()
    };
    request.prop_map(|request| RequestOp { request: Some(request) }).boxed()
}

fn txn(depth: u32) -> BoxedStrategy<pb::TxnRequest> {
    (vec(comparison(), 0..2), vec(op(depth), 0..4), vec(op(depth), 0..3))
        .prop_map(|(compare, success, failure)| pb::TxnRequest { compare, success, failure })
        .boxed()
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => put().prop_map(Command::Put),
        3 => delete().prop_map(Command::DeleteRange),
        6 => txn(2).prop_map(Command::Txn),
        2 => (-2..25_i64).prop_map(|revision| {
            Command::Compaction(pb::CompactionRequest { revision, physical: false })
        }),
        2 => (lease(), 0..9_i64)
            .prop_map(|(id, ttl)| Command::LeaseGrant(pb::LeaseGrantRequest { ttl, id })),
        1 => lease().prop_map(|id| Command::LeaseRevoke(pb::LeaseRevokeRequest { id })),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => vec(command(), 1..5).prop_map(Step::Run),
        2 => (1..5_usize).prop_map(Step::Purge),
        1 => Just(Step::Reopen),
    ]
}

fn take(world: World, model: &mut Model, step: Step) -> World {
    match step {
        Step::Run(commands) => {
            let mut world = world;
            let output = world.apply_run(&commands);
            for (command, reply) in commands.iter().zip(output.replies) {
                assert_eq!(reply, model.apply(command), "{command:?}");
            }
            world
        }
        Step::Purge(keys_max) => {
            let mut world = world;
            world.store.purge(keys_max).unwrap();
            world
        }
        Step::Reopen => world.reopen(),
    }
}

fn check(world: &World, model: &Model, ranges: &[pb::RangeRequest]) {
    let reader = world.reader();
    assert_eq!((reader.revision(), reader.compact_revision()), (model.revision, model.compacted));
    for range in ranges {
        assert_eq!(world.range(range), model.range(range), "{range:?}");
    }
    check_history(world, model);
    let leases: Vec<_> =
        reader.leases().unwrap().into_iter().map(|(id, record)| (id, record.ttl)).collect();
    assert_eq!(leases, model.leases());
    for (id, _) in leases {
        assert_eq!(reader.lease_keys(id).unwrap(), model.lease_keys(id), "lease {id}");
    }
}

fn check_history(world: &World, model: &Model) {
    let reader = world.reader();
    for revision in model.compacted.max(1)..=model.revision {
        assert_eq!(reader.hash_kv(revision).unwrap().hash, model.hash(revision), "{revision}");
    }
    let below = refused(reader.events(model.compacted - 1, 1, 1));
    assert_eq!(below.unwrap_err(), RequestError::Compacted);
    let found = reader.events(model.compacted, usize::MAX, usize::MAX).unwrap();
    let found: Vec<_> = found
        .iter()
        .flat_map(|revision| revision.events.iter().map(|event| (revision.revision, event)))
        .map(|(main, event)| {
            let kv = event.kv.clone().unwrap();
            (main, kv.key.clone(), (event.r#type == EventType::Put as i32).then_some(kv))
        })
        .collect();
    assert_eq!(found, model.events(model.compacted));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_the_models(
        steps in vec((step(), vec(range(), 3)), 1..25),
    ) {
        let (mut world, mut model) = (World::new(), Model::new());
        for (step, ranges) in steps {
            world = take(world, &mut model, step);
            check(&world, &model, &ranges);
        }
    }

    /// However a log is cut into runs, the state, the replies and the events are the same.
    #[test]
    fn runs_do_not_matter(commands in vec(command(), 1..30), cuts in vec(1..6_usize, 30)) {
        let (mut one_by_one, mut in_runs) = (World::new(), World::new());
        let mut expected = Vec::new();
        for command in &commands {
            expected.push(one_by_one.apply(command));
        }
        let (mut rest, mut replies) = (&commands[..], Vec::new());
        for cut in cuts.into_iter().chain([commands.len()]) {
            let (run, left) = rest.split_at(cut.min(rest.len()));
            replies.extend(in_runs.apply_run(run).replies);
            rest = left;
        }
        prop_assert_eq!(replies, expected);
        prop_assert_eq!(&in_runs.revisions, &one_by_one.revisions);
        prop_assert_eq!(in_runs.reader().hash().unwrap(), one_by_one.reader().hash().unwrap());
    }

    #[test]
    fn every_command_survives_its_encoding(command in command()) {
        prop_assert_eq!(Command::decode(&command.encode()).unwrap(), command);
    }

    #[test]
    fn decoding_never_panics(bytes in vec(any::<u8>(), 0..60)) {
        let _ = Command::decode(&bytes);
        let mut versioned = vec![1];
        versioned.extend(bytes);
        let _ = Command::decode(&versioned);
    }

    /// Whatever decodes, however it came to be, is applied or refused, and leaves a store that can be read in full.
    #[test]
    fn damaged_commands_never_break_the_store(
        commands in vec((command(), vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)), 1..20),
    ) {
        let mut world = World::new();
        for (command, damage) in commands {
            let mut bytes = command.encode().to_vec();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(command) = Command::decode(&bytes) {
                let _ = world.apply(&command);
            }
        }
        world.purge_all();
        let reader = world.reader();
        let everything = pb::RangeRequest {
            key: Bytes::from("\0"),
            range_end: Bytes::from("\0"),
            ..Default::default()
        };
        let found = reader.range(&everything).unwrap();
        prop_assert_eq!(found.kvs.len(), usize::try_from(found.count).unwrap());
        prop_assert!(reader.hash().is_ok());
        prop_assert!(reader.events(reader.compact_revision(), usize::MAX, usize::MAX).is_ok());
    }
}
