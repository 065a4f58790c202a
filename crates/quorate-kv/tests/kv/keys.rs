//! Puts, deletes and revisions.

use quorate_engine::{Batch, Durability, Engine, MemoryEngine, Table};
use quorate_kv::{Command, Committed, Error, RequestError, Store};
use quorate_proto::{etcdserverpb as pb, mvccpb::event::EventType};

use crate::world::{World, bytes, op_delete, op_put, put, txn};

/// etcd point 1.
#[test]
fn an_empty_store_is_at_revision_1_and_the_first_write_gives_2() {
    let mut world = World::new();
    assert_eq!((world.revision(), world.reader().compact_revision()), (1, -1));
    assert_eq!(world.put("a", "1"), 2);
    assert_eq!(world.revision(), 2);
}

/// etcd point 2.
#[test]
fn a_txn_takes_one_revision_and_counts_its_changes() {
    let mut world = World::new();
    world.put("old", "x");
    world
        .txn(txn(vec![], vec![op_put("b", "1"), op_delete("old", ""), op_put("a", "2")], vec![]))
        .unwrap();
    assert_eq!(world.revision(), 3);
    let events = world.last_events();
    let kvs: Vec<_> = events.iter().map(|event| event.kv.clone().unwrap()).collect();
    assert_eq!(kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [&b"b"[..], b"old", b"a"]);
    assert!(kvs.iter().all(|kv| kv.mod_revision == 3));
    assert_eq!(world.reader().events(3, 9, 999).unwrap()[0].events, events);
}

/// etcd point 3.
#[test]
fn what_changes_nothing_does_not_move_the_revision() {
    let mut world = World::new();
    world.put("a", "1");
    assert_eq!(world.delete("x", "").header.unwrap().revision, 2);
    assert_eq!(world.delete("x", "z").deleted, 0);
    let reply = world.txn(txn(vec![], vec![op_delete("x", "")], vec![])).unwrap();
    assert_eq!(reply.header.unwrap().revision, 2);
    assert_eq!((world.revision(), world.revisions.len()), (2, 1));
}

/// etcd point 4.
#[test]
fn a_put_after_a_delete_starts_anew() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("a", "2");
    let kv = world.get("a").unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
    world.delete("a", "");
    assert_eq!(world.get("a"), None);
    world.put("a", "3");
    let kv = world.get("a").unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
}

/// etcd point 5.
#[test]
fn a_delete_event_has_only_key_and_mod_revision() {
    let mut world = World::new();
    world.put("a", "1");
    world.delete("a", "");
    for events in [world.last_events(), &world.reader().events(3, 1, 1).unwrap()[0].events] {
        assert_eq!(events[0].r#type, EventType::Delete as i32);
        let kv = events[0].kv.clone().unwrap();
        assert_eq!((&kv.key[..], kv.mod_revision), (&b"a"[..], 3));
        assert_eq!((kv.create_revision, kv.version, kv.lease, kv.value.len()), (0, 0, 0, 0));
    }
}

/// etcd point 9.
#[test]
fn put_and_delete_headers_hold_the_new_revision() {
    let mut world = World::new();
    assert_eq!(world.put("a", "1"), 2);
    assert_eq!(world.delete("a", "").header.unwrap().revision, 3);
    let header = world.try_put(put("a", "2")).unwrap().header.unwrap();
    assert_eq!(header, pb::ResponseHeader { revision: 4, ..Default::default() });
}

/// etcd point 17.
#[test]
fn ignore_flags_keep_the_old_half_and_need_the_key() {
    let mut world = World::new();
    world.grant(7, 10).unwrap();
    world.try_put(pb::PutRequest { lease: 7, ..put("a", "1") }).unwrap();
    let keep_value =
        |lease, value: &str| pb::PutRequest { ignore_value: true, lease, ..put("a", value) };
    let keep_lease = |lease| pb::PutRequest { ignore_lease: true, lease, ..put("a", "2") };
    assert_eq!(world.try_put(keep_value(0, "x")), Err(RequestError::ValueProvided));
    assert_eq!(world.try_put(keep_lease(7)), Err(RequestError::LeaseProvided));
    world.try_put(keep_lease(0)).unwrap();
    let kv = world.get("a").unwrap();
    assert_eq!((&kv.value[..], kv.lease), (&b"2"[..], 7));
    world.try_put(keep_value(0, "")).unwrap();
    let kv = world.get("a").unwrap();
    assert_eq!((&kv.value[..], kv.lease, kv.version), (&b"2"[..], 0, 3));
    world.delete("a", "");
    assert_eq!(world.try_put(keep_value(0, "")), Err(RequestError::KeyNotFound));
    assert_eq!(world.try_put(keep_lease(0)), Err(RequestError::KeyNotFound));
}

/// etcd point 19.
#[test]
fn a_range_delete_returns_the_old_pairs_in_key_order() {
    let mut world = World::new();
    for key in ["c", "a", "b", "d"] {
        world.put(key, key);
    }
    let reply = world.delete("a", "d");
    assert_eq!(reply.deleted, 3);
    let old: Vec<_> = reply.prev_kvs.iter().map(|kv| (kv.key.clone(), kv.value.clone())).collect();
    assert_eq!(old, ["a", "b", "c"].map(|key| (bytes(key), bytes(key))));
    assert_eq!(world.delete("\0", "\0").deleted, 1);
}

/// etcd point 37, the half of the store.
#[test]
fn previous_values_are_found_until_they_are_compacted() {
    let mut world = World::new();
    world.put("a", "1");
    world.put("a", "2");
    world.delete("a", "");
    world.put("a", "3");
    let value = |world: &World, revision| {
        world.reader().key_before(b"a", revision).unwrap().map(|kv| kv.value)
    };
    assert_eq!(value(&world, 2), None);
    assert_eq!(value(&world, 3), Some(bytes("1")));
    assert_eq!(value(&world, 4), Some(bytes("2")));
    assert_eq!(value(&world, 5), None);
    assert_eq!(value(&world, 6), Some(bytes("3")));
    world.compact(3).unwrap();
    assert_eq!(value(&world, 3), None);
    assert_eq!(value(&world, 4), Some(bytes("2")));
}

/// etcd point 51.
#[test]
fn a_request_is_measured_whole() {
    let small = Command::Put(put("a", ""));
    let large = Command::Put(put(&"k".repeat(1000), &"v".repeat(1000)));
    assert!(large.record_len() >= 2000 && small.record_len() < 10);
}

/// etcd point 52.
#[test]
fn an_empty_value_is_a_value() {
    let mut world = World::new();
    world.put("a", "");
    let kv = world.get("a").unwrap();
    assert_eq!((kv.version, kv.value.len()), (1, 0));
    assert_eq!(world.last_events()[0].r#type, EventType::Put as i32);
}

#[test]
fn empty_keys_are_refused_even_in_the_log() {
    let mut world = World::new();
    assert_eq!(world.try_put(put("", "1")), Err(RequestError::EmptyKey));
    assert_eq!(world.revision(), 1);
}

#[test]
fn prev_kv_is_returned_when_asked_for() {
    let mut world = World::new();
    let asking = || pb::PutRequest { prev_kv: true, ..put("a", "1") };
    assert_eq!(world.try_put(asking()).unwrap().prev_kv, None);
    assert_eq!(world.try_put(asking()).unwrap().prev_kv.unwrap().mod_revision, 2);
    assert_eq!(world.try_put(put("a", "2")).unwrap().prev_kv, None);
}

#[test]
fn later_commands_of_a_run_see_earlier_ones() {
    let mut world = World::new();
    world.put("a", "0");
    let commands = [
        Command::Put(put("b", "1")),
        Command::Put(put("b", "2")),
        Command::DeleteRange(pb::DeleteRangeRequest {
            key: bytes("a"),
            range_end: bytes("c"),
            prev_kv: true,
        }),
        Command::Put(put("b", "3")),
    ];
    let output = world.apply_run(&commands);
    assert_eq!(output.revisions.len(), 4);
    let Ok(quorate_kv::Reply::DeleteRange(reply)) = &output.replies[2] else { panic!() };
    assert_eq!((reply.deleted, reply.prev_kvs[1].version), (2, 2));
    assert_eq!(world.get("b").unwrap().version, 1);
}

#[test]
fn events_come_in_whole_revisions_within_bounds() {
    let mut world = World::new();
    world.txn(txn(vec![], vec![op_put("a", "1"), op_put("b", "1")], vec![])).unwrap();
    world.put("c", "1");
    world.put("d", "1");
    let revisions = |from, max, bytes| -> Vec<_> {
        let found = world.reader().events(from, max, bytes).unwrap();
        found.iter().map(|revision| (revision.revision, revision.events.len())).collect()
    };
    assert_eq!(revisions(0, 9, 999), [(2, 2), (3, 1), (4, 1)]);
    assert_eq!(revisions(2, 2, 999), [(2, 2), (3, 1)]);
    assert_eq!(revisions(2, 9, 1), [(2, 2)]);
    assert_eq!(revisions(3, 9, 999), [(3, 1), (4, 1)]);
    assert_eq!(revisions(5, 9, 999), []);
}

#[test]
fn entries_without_a_command_only_move_the_applied_index() {
    let mut world = World::new();
    let none = |index| Committed { index, term: 3, command: None };
    let output = world.store.apply(&[none(1), none(2)], Durability::Durable).unwrap();
    assert!(output.replies.is_empty());
    assert_eq!((world.store.applied().index, world.store.applied().term), (2, 3));
    let gap = world.store.apply(&[none(4)], Durability::Relaxed);
    assert!(matches!(gap, Err(Error::Gap { applied: 2, found: 4 })));
    let world = world.reopen();
    assert_eq!(world.store.applied().index, 2);
}

#[test]
fn an_unreadable_command_is_fatal() {
    let mut world = World::new();
    let entry = |command| Committed { index: 1, term: 1, command: Some(command) };
    let newer = world.store.apply(&[entry(&[9, 0])], Durability::Relaxed).unwrap_err();
    assert!(matches!(newer, Error::CommandVersion { found: 9, .. }) && newer.is_deterministic());
}

#[test]
fn data_of_a_later_schema_is_refused() {
    let mut engine = MemoryEngine::new();
    let mut batch = Batch::new();
    batch.put(Table("meta"), "schema", 9_u64.to_be_bytes().to_vec());
    engine.commit(batch, Durability::Durable).unwrap();
    let opened = Store::open(Box::new(engine));
    assert!(matches!(opened, Err(Error::SchemaVersion { found: 9, supported: 1 })));
}
