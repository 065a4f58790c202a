//! The time of leases through changes of leadership.

use std::time::Duration;

use bytes::Bytes;
use quorate_etcd::backend::Backend;
use quorate_kv::Command;
use quorate_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest};

use crate::{ServerConfig, testing::Cluster};

const LEASE: i64 = 7;

fn cluster() -> Cluster {
    let lease_checkpoint_interval = Duration::from_secs(1);
    Cluster::new(3, &ServerConfig { lease_checkpoint_interval, ..ServerConfig::default() })
}

fn grant(cluster: &mut Cluster, member: usize, ttl: i64) {
    let command = Command::LeaseGrant(LeaseGrantRequest { id: LEASE, ttl });
    cluster.propose(member, &command).unwrap();
}

/// The seconds that a lease has left, by the leader; `None`: it is gone.
fn seconds_left(cluster: &mut Cluster, member: usize) -> Option<i64> {
    let handle = cluster.handle(member);
    let lease = cluster.wait(handle.lease_time_to_live(LEASE, false)).unwrap();
    lease.map(|lease| lease.remaining_ttl)
}

/// A renewal that takes a checkpoint back is acknowledged when the leader has applied it. Whoever leads next may have it in
/// its log without knowing that it is committed, and must not count by the checkpoint before it knows.
#[test]
fn an_acknowledged_renewal_survives_a_change_of_leader() {
    let mut cluster = cluster();
    let old = cluster.leader();
    let next = (old + 2) % 3;
    grant(&mut cluster, old, 100);
    cluster.pass_ms(30_000);
    assert_eq!(seconds_left(&mut cluster, old), Some(69));
    let last = |cluster: &Cluster| cluster.members[next].raft.view().unwrap().last.index;
    let before = last(&cluster);
    let handle = cluster.handle(old);
    let renewed = cluster.wait_while(handle.leases_renew(vec![LEASE]), |cluster| {
        if last(cluster) > before {
            cluster.cut.insert(next);
        }
    });
    assert_eq!(renewed.unwrap(), [Some(100)]);
    cluster.cut = [old].into();
    assert_eq!(cluster.leader(), next);
    let left = seconds_left(&mut cluster, next).unwrap();
    assert!(left >= 95, "{left} s are left of 100, a few seconds after the renewal");
}

/// A leader whose apply side stands still loses an election and wins another one. In between, others have acknowledged
/// renewals; the clock of the first leadership must not end the lease.
#[test]
fn a_leader_never_ends_a_lease_by_the_clock_of_an_earlier_leadership() {
    let mut cluster = cluster();
    let first = cluster.leader();
    grant(&mut cluster, first, 12);
    let over_at = cluster.now_ms() + 12_000;
    cluster.hung.insert(first);
    let mut renewed_at = 0;
    for _ in 0..20 {
        let leader = cluster.leader();
        if leader == first && renewed_at > 0 {
            break;
        }
        if leader != first {
            cluster.cut.clear();
            cluster.pass_ms(1_000);
            let handle = cluster.handle(leader);
            renewed_at = cluster.now_ms();
            assert_eq!(cluster.wait(handle.leases_renew(vec![LEASE])).unwrap(), [Some(12)]);
        }
        cluster.cut = [leader].into();
    }
    assert_eq!(cluster.leader(), first, "it never leads again");
    cluster.cut.clear();
    let wait_ms = (over_at + 1_000).saturating_sub(cluster.now_ms());
    cluster.pass_ms(wait_ms);
    assert!(cluster.now_ms() < renewed_at + 12_000, "its time is not over");
    for other in (0..3).filter(|other| *other != first) {
        let lease = cluster.handle(other).reader().lease(LEASE).unwrap();
        assert!(lease.is_some(), "the lease is gone at member {other}");
    }
    cluster.hung.clear();
    assert!(seconds_left(&mut cluster, first).is_some());
}

/// A leader that looked for the keys itself, which may be a million, sent no heartbeats meanwhile.
#[test]
fn the_keys_of_a_lease_are_read_by_who_is_asked_for_them() {
    let mut cluster = cluster();
    let leader = cluster.leader();
    grant(&mut cluster, leader, 100);
    let keys: Vec<Bytes> = (100..200).map(|number| format!("key{number}").into()).collect();
    for key in &keys {
        let put = PutRequest { key: key.clone(), lease: LEASE, ..PutRequest::default() };
        cluster.propose(leader, &Command::Put(put)).unwrap();
    }
    for member in [leader, (leader + 1) % 3] {
        let handle = cluster.handle(member);
        let lease = cluster.wait(handle.lease_time_to_live(LEASE, true)).unwrap().unwrap();
        assert_eq!((lease.granted_ttl, &lease.keys), (100, &keys));
    }
    assert!((1..50).contains(&cluster.leader_answer_bytes_max));
    cluster.propose(leader, &Command::LeaseRevoke(LeaseRevokeRequest { id: LEASE })).unwrap();
    let handle = cluster.handle((leader + 1) % 3);
    assert_eq!(cluster.wait(handle.lease_time_to_live(LEASE, true)).unwrap(), None);
}
