//! Long reads in slices: the same answers whatever a slice may spend, and no slice without an end.

use bytes::Bytes;
use quorate_kv::{Budget, StreamStep, looks_at_many};
use quorate_proto::etcdserverpb::{
    self as pb,
    compare::{CompareResult, TargetUnion},
};

use crate::world::{World, compare, list, op_delete, op_get, op_put, op_txn, txn};

/// Keys with old versions, keys that are gone, a compaction half purged, leases, an alarm.
fn world() -> World {
    let mut world = World::new();
    for id in 1..=20 {
        world.grant(id, 100).unwrap();
    }
    for round in 0..3 {
        for number in 0..60 {
            let lease = if number < 20 { number + 1 } else { 0 };
            let value = format!("{}", (number * 7 + round) % 10).repeat(600);
            let put = crate::world::put(&format!("k{number:02}"), &value);
            world.try_put(pb::PutRequest { lease, ..put }).unwrap();
        }
    }
    for _ in 0..30 {
        world.put("k05", "hot");
    }
    world.delete("k30", "k40");
    world.compact(90).unwrap();
    world.store.purge(25).unwrap();
    world.alarm(1, 1, 1);
    world
}

fn ranges() -> Vec<pb::RangeRequest> {
    let all = || list("k", "l");
    vec![
        all(),
        list("k05", ""),
        list("x", "z"),
        list("z", "a"),
        pb::RangeRequest { limit: 7, ..all() },
        pb::RangeRequest { limit: 50, ..all() },
        pb::RangeRequest { count_only: true, limit: 3, ..all() },
        pb::RangeRequest { keys_only: true, revision: 150, ..all() },
        pb::RangeRequest { sort_order: 2, limit: 5, ..all() },
        pb::RangeRequest { sort_target: 3, limit: 5, ..all() },
        pb::RangeRequest { sort_order: 2, sort_target: 4, limit: 9, ..all() },
        pb::RangeRequest { sort_order: 1, sort_target: 4, keys_only: true, ..all() },
        pb::RangeRequest { min_mod_revision: 140, max_mod_revision: 190, limit: 4, ..all() },
    ]
}

const BUDGETS: [usize; 4] = [1, 3, 40, 10_000];

#[test]
fn ranges_are_the_same_in_slices() {
    let world = world();
    for request in ranges() {
        let whole = world.reader().range(&request).unwrap();
        for budget in BUDGETS {
            let mut slices = world.reader().long_range(&request).unwrap();
            let mut kvs = Vec::new();
            let end = loop {
                let had = kvs.len();
                let end = slices.advance(&mut Budget::new(budget), &mut kvs).unwrap();
                assert!(end.is_some() || kvs.len() - had <= 1 + budget, "{request:?} {budget}");
                if let Some(end) = end {
                    break end;
                }
            };
            assert_eq!(pb::RangeResponse { kvs, ..end }, whole, "{request:?} {budget}");
        }
    }
}

#[test]
fn streams_are_the_same_in_slices() {
    let world = world();
    let streamed =
        ranges().into_iter().filter(|request| world.reader().range_stream(request, 1).is_ok());
    for request in streamed {
        for budget in BUDGETS {
            let mut whole = world.reader().range_stream(&request, 2_000).unwrap();
            let mut slices = world.reader().range_stream(&request, 2_000).unwrap();
            loop {
                match slices.advance(&mut Budget::new(budget)).unwrap() {
                    StreamStep::Working => {}
                    StreamStep::Chunk(chunk) => {
                        assert_eq!(Some(chunk), whole.next_chunk().unwrap(), "{request:?}");
                    }
                    StreamStep::Ended => break,
                }
            }
            assert_eq!(whole.next_chunk().unwrap(), None);
        }
    }
}

#[test]
fn transactions_are_the_same_in_slices() {
    let world = world();
    let over = |version| pb::Compare {
        range_end: Bytes::from("l"),
        ..compare("k", CompareResult::Greater, TargetUnion::Version(version))
    };
    let (holds, fails) = (over(0), over(5));
    let ops = || ranges().into_iter().map(op_get).collect::<Vec<_>>();
    for compares in [vec![], vec![holds.clone()], vec![holds, fails]] {
        let request = txn(compares, ops(), ops().split_off(3));
        let whole = world.reader().txn(&request).unwrap();
        for budget in BUDGETS {
            let mut slices = world.reader().long_txn(&request).unwrap();
            let answer = loop {
                if let Some(answer) = slices.advance(&mut Budget::new(budget)).unwrap() {
                    break answer;
                }
            };
            assert_eq!(answer, whole, "{budget}");
        }
    }
}

#[test]
fn hashes_are_the_same_in_slices() {
    let mut world = world();
    for gone in [false, true] {
        if gone {
            world.delete("k", "l");
        }
        let whole = (world.reader().hash_kv(0).unwrap(), world.reader().hash().unwrap());
        for budget in BUDGETS {
            let mut hashes =
                [world.reader().long_hash_kv(0).unwrap(), world.reader().long_hash().unwrap()].map(
                    |mut slices| {
                        let mut count = 1;
                        loop {
                            if let Some(hash) = slices.advance(&mut Budget::new(budget)).unwrap() {
                                break (hash, count);
                            }
                            count += 1;
                        }
                    },
                );
            let [(kv, slices), (all, more)] = &mut hashes;
            assert_eq!((*kv, all.hash), whole);
            assert!(*slices >= 200 / budget && more >= slices, "{slices} {more}");
        }
    }
}

/// A count that finds nothing alive is work too.
#[test]
fn what_is_gone_costs_as_well() {
    let mut world = world();
    world.delete("k", "l");
    let request = pb::RangeRequest { count_only: true, ..list("k", "l") };
    let mut slices = world.reader().long_range(&request).unwrap();
    let mut count = 0;
    while slices.advance(&mut Budget::new(10), &mut Vec::new()).unwrap().is_none() {
        count += 1;
    }
    assert!(count >= 6, "{count}");
}

#[test]
fn what_a_transaction_looks_at_is_counted_up_to_a_bound() {
    let world = world();
    let live = 50;
    let over = |key: &str| pb::Compare {
        range_end: Bytes::from("l"),
        ..compare(key, CompareResult::Greater, TargetUnion::Version(0))
    };
    let count = |limit| op_get(pb::RangeRequest { count_only: true, limit, ..list("k", "l") });
    let nested = op_txn(txn(vec![over("k")], vec![count(0)], vec![count(3)]));
    let cases = [
        (txn(vec![], vec![op_put("a", "1"), op_get(list("k05", ""))], vec![]), 0),
        (txn(vec![over("k")], vec![], vec![]), live),
        (txn(vec![over("k"), over("k50")], vec![], vec![count(0)]), 2 * live + 10),
        (txn(vec![], vec![op_get(list("k", "l")), op_delete("k", "l")], vec![]), 8 * live),
        (txn(vec![], vec![nested], vec![]), 3 * live),
    ];
    for (request, keys) in cases {
        assert_eq!(looks_at_many(&request), keys > 0);
        for budget in BUDGETS {
            let count = |keys_max| {
                let mut cost = world.reader().long_cost(&request, keys_max);
                loop {
                    if let Some(keys) = cost.advance(&mut Budget::new(budget)).unwrap() {
                        break keys;
                    }
                }
            };
            assert_eq!(count(u64::MAX), keys, "{request:?}");
            assert!(keys <= 20 || (21..50).contains(&count(20)), "{request:?}");
        }
    }
}
