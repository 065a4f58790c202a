//! The hash over history, against the numbers of a real etcd.

use quorate_kv::{HashKv, RequestError};
use quorate_proto::etcdserverpb as pb;

use crate::world::{World, op_delete, op_put, put, refused, txn};

/// (hash, compact revision, hash revision) of the newest revision.
fn newest(world: &World) -> (u32, i64, i64) {
    let HashKv { hash, compact_revision, hash_revision } = world.reader().hash_kv(0).unwrap();
    (hash, compact_revision, hash_revision)
}

fn at(world: &World, revision: i64) -> u32 {
    world.reader().hash_kv(revision).unwrap().hash
}

/// etcd point 47. The same requests were sent to etcd 3.7.2, with `physical` compactions; these are its hashes. They are
/// the same before and after purging here.
#[test]
fn hashes_are_those_of_etcd() {
    let mut world = World::new();
    assert_eq!(newest(&world), (1_084_519_789, -1, 1));
    world.grant(77, 1000).unwrap();
    world.put("a", "1");
    world.put("b", "2");
    world.try_put(pb::PutRequest { lease: 77, ..put("c", "3") }).unwrap();
    world.delete("b", "");
    world.put("a", "4");
    let ops = vec![op_put("d", "5"), op_delete("c", ""), op_put("e", "")];
    world.txn(txn(vec![], ops, vec![])).unwrap();
    world.delete("a", "c");
    world.put("f", "6");
    world.put("b", "7");
    assert_eq!(newest(&world), (2_920_906_307, -1, 10));
    assert_eq!((at(&world, 5), at(&world, 8)), (2_352_458_062, 531_256_007));

    let compacted = |world: &mut World, revision, expected| {
        world.compact(revision).unwrap();
        assert_eq!(newest(world), expected, "before the purge");
        world.purge_all();
        assert_eq!(newest(world), expected, "after the purge");
    };
    compacted(&mut world, 5, (3_000_445_403, 5, 10));
    assert_eq!(at(&world, 6), 3_215_653_540);
    assert_eq!(refused(world.reader().hash_kv(4)), Err(RequestError::Compacted));
    assert_eq!(at(&world, -2), 1_084_519_789, "a negative revision is before everything");
    assert_eq!(refused(world.reader().hash_kv(11)), Err(RequestError::FutureRevision));
    world.put("f", "8");
    world.delete("f", "");
    compacted(&mut world, 12, (2_780_292_994, 12, 12));
    world.delete("a", "{");
    assert_eq!(newest(&world), (2_737_101_515, 12, 13));
    compacted(&mut world, 13, (1_084_519_789, 13, 13));
    world.put("g", "1");
    assert_eq!(newest(&world), (84_763_735, 13, 14));
}

#[test]
fn the_whole_hash_sees_leases_and_alarms_but_no_purge() {
    let mut world = World::new();
    let mut seen = Vec::new();
    let mut note = |world: &World| seen.push(world.reader().hash().unwrap());
    note(&world);
    world.grant(7, 10).unwrap();
    note(&world);
    world.alarm(1, 1, 1);
    note(&world);
    world.alarm(2, 1, 1);
    world.put("a", "1");
    world.put("a", "1");
    note(&world);
    world.compact(3).unwrap();
    note(&world);
    let before = world.reader().hash().unwrap();
    world.purge_all();
    assert_eq!(world.reader().hash().unwrap(), before);
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}
