//! Alarms.

use quorate_kv::{Command, RequestError};
use quorate_proto::etcdserverpb as pb;

use crate::world::{World, delete_request, get, op_delete, op_get, op_put, op_txn, put, txn};

const GET: i32 = 0;
const ACTIVATE: i32 = 1;
const DEACTIVATE: i32 = 2;
const NONE: i32 = 0;
const NOSPACE: i32 = 1;
const CORRUPT: i32 = 2;

/// etcd point 43. A put inside a nested transaction is refused, too.
#[test]
fn without_space_everything_that_takes_some_is_refused() {
    let mut world = World::new();
    world.grant(7, 10).unwrap();
    world.put("a", "1");
    world.alarm(ACTIVATE, 1, NOSPACE);
    assert!(world.reader().is_out_of_space());
    assert_eq!(world.try_put(put("b", "")), Err(RequestError::NoSpace));
    assert_eq!(world.grant(8, 10), Err(RequestError::NoSpace));
    let puts = || txn(vec![], vec![], vec![op_put("b", "")]);
    assert_eq!(world.txn(puts()), Err(RequestError::NoSpace));
    assert_eq!(world.txn(txn(vec![], vec![op_txn(puts())], vec![])), Err(RequestError::NoSpace));
    assert!(world.txn(txn(vec![], vec![op_get(get("a")), op_delete("a", "")], vec![])).is_ok());
    assert_eq!(world.delete("a", "").deleted, 0);
    assert!(world.compact(2).is_ok() && world.revoke(7).is_ok());
    let mut world = world.reopen();
    assert_eq!(world.try_put(put("b", "")), Err(RequestError::NoSpace));
    world.alarm(DEACTIVATE, 1, NOSPACE);
    assert!(world.try_put(put("b", "")).is_ok());
}

/// etcd point 44. Reads are answered, as by etcd 3.7.2.
#[test]
fn when_corrupt_no_change_is_accepted() {
    let mut world = World::new();
    world.grant(7, 10).unwrap();
    world.put("a", "1");
    world.alarm(ACTIVATE, 1, CORRUPT);
    assert!(world.reader().is_corrupt());
    let refused = [
        Command::Put(put("a", "")),
        Command::DeleteRange(delete_request("a", "")),
        Command::Txn(txn(vec![], vec![op_get(get("a"))], vec![])),
        Command::Compaction(pb::CompactionRequest { revision: 2, physical: false }),
        Command::LeaseGrant(pb::LeaseGrantRequest { ttl: 9, id: 9 }),
        Command::LeaseRevoke(pb::LeaseRevokeRequest { id: 7 }),
    ];
    for command in refused {
        assert_eq!(world.apply(&command), Err(RequestError::Corrupt), "{command:?}");
    }
    assert!(world.get("a").is_some());
}

#[test]
fn alarms_are_kept_by_kind_and_member() {
    let mut world = World::new();
    let member = |member_id, alarm| pb::AlarmMember { member_id, alarm };
    assert_eq!(world.alarm(ACTIVATE, 2, NOSPACE), [member(2, NOSPACE)]);
    assert_eq!(world.alarm(ACTIVATE, 2, NOSPACE), [member(2, NOSPACE)]);
    assert_eq!(world.alarm(ACTIVATE, 1, CORRUPT), [member(1, CORRUPT)]);
    assert_eq!(world.alarm(ACTIVATE, 1, NONE), []);
    assert_eq!(world.alarm(ACTIVATE, 1, 9), []);
    assert_eq!(world.alarm(GET, 0, NONE), [member(2, NOSPACE), member(1, CORRUPT)]);
    assert_eq!(world.alarm(GET, 0, CORRUPT), [member(1, CORRUPT)]);
    assert_eq!(world.alarm(DEACTIVATE, 1, NOSPACE), []);
    assert_eq!(world.alarm(DEACTIVATE, 2, NOSPACE), [member(2, NOSPACE)]);
    assert_eq!(world.reader().alarms().unwrap(), [member(1, CORRUPT)]);
    assert_eq!(world.revision(), 1);
}

#[test]
fn one_member_in_need_is_enough() {
    let mut world = World::new();
    world.alarm(ACTIVATE, 1, NOSPACE);
    world.alarm(ACTIVATE, 2, NOSPACE);
    world.alarm(DEACTIVATE, 1, NOSPACE);
    assert_eq!(world.try_put(put("a", "")), Err(RequestError::NoSpace));
}
