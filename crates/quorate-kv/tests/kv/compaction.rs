//! Compaction: logical at once, physical in steps that nobody notices.

use quorate_engine::Direction;
use quorate_kv::{RequestError, TABLES};
use quorate_proto::etcdserverpb as pb;

use crate::world::{World, get, list, put, refused};

/// Changes that are still stored.
fn stored(world: &World) -> usize {
    let mut count = 0;
    let everything = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    for table in TABLES.into_iter().filter(|table| ["rev", "idx"].contains(&table.0)) {
        let reader = world.reader();
        let mut visit = |_: &[u8], _: &[u8]| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        };
        reader.view().scan(table, everything, Direction::Forward, &mut visit).unwrap();
    }
    count / 2
}

/// etcd point 1.
#[test]
fn compacting_to_0_works_once() {
    let mut world = World::new();
    assert_eq!(world.compact(0), Ok(1));
    assert_eq!(world.compact(0), Err(RequestError::Compacted));
    assert_eq!(world.compact(-5), Err(RequestError::Compacted));
}

/// etcd point 8.
#[test]
fn compaction_moves_forward_only_and_not_into_the_future() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("a", "2");
    assert_eq!(world.compact(4), Err(RequestError::FutureRevision));
    assert_eq!(world.compact(3), Ok(3));
    assert_eq!(world.compact(3), Err(RequestError::Compacted));
    assert_eq!(world.compact(2), Err(RequestError::Compacted));
    assert_eq!(world.reader().compact_revision(), 3);
    let below = pb::RangeRequest { revision: 2, ..get("a") };
    assert_eq!(world.range(&below), Err(RequestError::Compacted));
    assert_eq!(refused(world.reader().events(2, 9, 9)), Err(RequestError::Compacted));
    assert!(world.reader().events(3, 9, 9).is_ok());
}

/// etcd point 39: a deletion at exactly the compacted revision survives until the next compaction.
#[test]
fn a_deletion_at_the_compacted_revision_is_spared_once() {
    let mut world = World::new();
    world.put("a", "1");
    world.delete("a", "");
    world.put("b", "1");
    world.compact(3).unwrap();
    world.purge_all();
    assert_eq!(stored(&world), 2);
    let events = world.reader().events(3, 9, 99).unwrap();
    assert_eq!(events.iter().map(|revision| revision.revision).collect::<Vec<_>>(), [3, 4]);
    world.compact(4).unwrap();
    world.purge_all();
    assert_eq!(stored(&world), 1);
}

#[test]
fn purging_spares_what_is_visible_at_the_compacted_revision() {
    let mut world = World::new();
    for value in ["1", "2", "3"] {
        world.put("a", value);
        world.put("b", value);
    }
    world.compact(5).unwrap();
    let before = world.range(&pb::RangeRequest { revision: 5, ..list("a", "z") }).unwrap();
    let mut steps = 0;
    while world.store.purge(1).unwrap() {
        steps += 1;
    }
    assert_eq!((steps, stored(&world)), (3, 4));
    assert_eq!(world.range(&pb::RangeRequest { revision: 5, ..list("a", "z") }).unwrap(), before);
    assert_eq!(world.get("a").unwrap().version, 3);
    assert!(!world.store.purge(1).unwrap());
}

#[test]
fn a_purge_goes_on_after_reopening_and_under_a_newer_compaction() {
    let mut world = World::new();
    for round in 0..10 {
        world.put("a", &round.to_string());
        world.delete("a", "");
    }
    world.put("b", "");
    world.compact(9).unwrap();
    assert!(world.store.purge(2).unwrap());
    let mut world = world.reopen();
    assert!(world.store.purge(2).unwrap());
    world.compact(21).unwrap();
    world.purge_all();
    assert_eq!(stored(&world), 2);
    world.compact(22).unwrap();
    world.purge_all();
    assert_eq!(stored(&world), 1);
}

#[test]
fn a_key_written_after_its_deletion_was_purged_starts_anew() {
    let mut world = World::new();
    world.put("a", "1");
    world.delete("a", "");
    world.put("b", "");
    world.compact(4).unwrap();
    world.purge_all();
    world.try_put(put("a", "2")).unwrap();
    let kv = world.get("a").unwrap();
    assert_eq!((kv.create_revision, kv.version), (5, 1));
    world.compact(5).unwrap();
    world.purge_all();
    assert_eq!(stored(&world), 2);
}

#[test]
fn readers_keep_their_state_through_compaction_and_purge() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("a", "2");
    let old = world.reader();
    world.compact(3).unwrap();
    world.purge_all();
    let read = old.range(&pb::RangeRequest { revision: 2, ..get("a") }).unwrap();
    assert_eq!(&read.kvs[0].value[..], b"1");
}
