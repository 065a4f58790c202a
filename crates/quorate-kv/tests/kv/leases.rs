//! Leases as replicated data.

use quorate_kv::{Command, LEASE_TTL_MAX_SECONDS, LeaseChange, LeaseRecord, RequestError, check};
use quorate_proto::etcdserverpb as pb;

use crate::world::{World, bytes, put};

fn attached(world: &World, id: i64) -> Vec<bytes::Bytes> {
    world.reader().lease_keys(id).unwrap()
}

/// etcd point 6.
#[test]
fn a_revoke_deletes_its_keys_sorted_in_one_revision() {
    let mut world = World::new();
    world.grant(7, 10).unwrap();
    for key in ["c", "a", "b"] {
        world.try_put(pb::PutRequest { lease: 7, ..put(key, "") }).unwrap();
    }
    world.put("free", "");
    assert_eq!(world.revoke(7), Ok(6));
    let deleted: Vec<_> =
        world.last_events().iter().map(|event| event.kv.clone().unwrap()).collect();
    assert_eq!(deleted.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    assert!(deleted.iter().all(|kv| kv.mod_revision == 6));
    assert_eq!(world.leases.last(), Some(&LeaseChange::Revoked { id: 7 }));
    assert_eq!((world.reader().lease(7).unwrap(), attached(&world, 7).len()), (None, 0));
    assert!(world.get("free").is_some());
    assert_eq!(world.revoke(7), Err(RequestError::LeaseNotFound));
}

#[test]
fn revoking_an_empty_lease_does_not_move_the_revision() {
    let mut world = World::new();
    world.grant(7, 10).unwrap();
    assert_eq!(world.revoke(7), Ok(1));
}

/// etcd point 18.
#[test]
fn a_put_moves_its_key_between_leases() {
    let mut world = World::new();
    let with = |lease| pb::PutRequest { lease, ..put("a", "") };
    assert_eq!(world.try_put(with(7)), Err(RequestError::LeaseNotFound));
    world.grant(7, 10).unwrap();
    world.grant(8, 10).unwrap();
    world.try_put(with(7)).unwrap();
    assert_eq!(attached(&world, 7), ["a"]);
    world.try_put(with(8)).unwrap();
    assert_eq!((attached(&world, 7).len(), attached(&world, 8)), (0, vec![bytes("a")]));
    world.put("a", "");
    assert_eq!(attached(&world, 8).len(), 0);
    world.try_put(with(8)).unwrap();
    world.delete("a", "");
    assert_eq!(attached(&world, 8).len(), 0);
}

/// etcd point 40, with the answers of etcd 3.7.2.
#[test]
fn a_grant_raises_short_times_and_refuses_long_ones_and_taken_ids() {
    let mut world = World::new();
    for (id, ttl) in [(1, 0), (2, -1), (3, 2)] {
        assert_eq!(world.grant(id, ttl), Ok(2));
    }
    assert_eq!(world.grant(-80, LEASE_TTL_MAX_SECONDS), Ok(LEASE_TTL_MAX_SECONDS));
    assert_eq!(world.grant(-80, 5), Err(RequestError::LeaseExists));
    let too_large = pb::LeaseGrantRequest { id: 9, ttl: LEASE_TTL_MAX_SECONDS + 1 };
    assert_eq!(check::lease_grant(&too_large), Err(RequestError::LeaseTtlTooLarge));
    assert_eq!(world.grant(9, too_large.ttl), Err(RequestError::LeaseTtlTooLarge));
    assert_eq!(world.grant(0, 5), Err(RequestError::LeaseNotFound));
    let ids: Vec<_> = world.reader().leases().unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!((ids, world.revision()), (vec![-80, 1, 2, 3], 1));
}

/// etcd point 41, the half of the store.
#[test]
fn a_checkpoint_keeps_the_remaining_time_and_passes_over_ended_leases() {
    let mut world = World::new();
    world.grant(7, 10).unwrap();
    let checkpoints =
        [(6, 3), (7, 4)].map(|(id, remaining_ttl)| pb::LeaseCheckpoint { id, remaining_ttl });
    let request = pb::LeaseCheckpointRequest { checkpoints: checkpoints.to_vec() };
    world.apply(&Command::LeaseCheckpoint(request)).unwrap();
    let changes = [
        LeaseChange::Granted { id: 7, ttl: 10 },
        LeaseChange::Checkpointed { id: 7, remaining_ttl: 4 },
    ];
    assert_eq!(world.leases, changes);
    let world = world.reopen();
    let record = LeaseRecord { ttl: 10, remaining_ttl: 4 };
    assert_eq!(world.reader().lease(7).unwrap(), Some(record));
}

#[test]
fn leases_of_neighbouring_ids_do_not_share_keys() {
    let mut world = World::new();
    for id in [-1, 1, 2, i64::MAX] {
        world.grant(id, 10).unwrap();
        world.try_put(pb::PutRequest { lease: id, ..put(&format!("k{id}"), "") }).unwrap();
    }
    for id in [-1, 1, 2, i64::MAX] {
        assert_eq!(attached(&world, id), [format!("k{id}")]);
    }
}
