//! What clients see of a follower that installs a snapshot.

use quorate_etcd::backend::Backend;
use quorate_kv::{Command, Reader};
use quorate_proto::etcdserverpb::{PutRequest, RangeRequest};

use crate::{ServerConfig, testing::Cluster};

/// Two members that know of 40 keys, of as many bytes each, and one that was cut off since the fifth: leader and follower. The
/// log has been cut, and nobody is cut off any more.
fn one_behind(value_bytes: usize) -> (Cluster, usize, usize) {
    let config =
        ServerConfig { snapshot_count: 10, snapshot_catchup_entries: 1, ..ServerConfig::default() };
    let mut cluster = Cluster::new(3, &config);
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    for key in 1..=40_u8 {
        if key == 6 {
            cluster.pass_ms(200);
            cluster.cut.insert(follower);
        }
        let value = vec![key; value_bytes].into();
        let request = PutRequest { key: vec![key].into(), value, ..PutRequest::default() };
        cluster.propose(leader, &Command::Put(request)).unwrap();
    }
    // The log is cut behind the next checkpoint of the state.
    cluster.pass_ms(6_000);
    cluster.cut.clear();
    (cluster, leader, follower)
}

fn count(reader: &Reader) -> i64 {
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
    reader.range(&all).unwrap().count
}

/// Whoever reads the old state goes on with it, for as long as it takes.
#[test]
fn a_reader_outlives_the_state_that_a_snapshot_replaces() {
    let (mut cluster, leader, follower) = one_behind(0);
    let before = cluster.handle(follower).reader();
    let cut_at = cluster.members[leader].raft.view().unwrap().base.index;
    cluster.pass_ms(5_000);
    let installed = cluster.members[follower].raft.view().unwrap().base.index;
    assert!(installed >= cut_at && cut_at.0 > 20, "no snapshot was needed");
    assert_eq!(count(&cluster.handle(follower).reader()), 40);
    assert_eq!(count(&before), 5);
}

/// Its sender once sent the rest of it, which was of no use, until it gave up after 40 s.
#[test]
fn a_receiver_that_starts_again_gets_another_snapshot_at_once() {
    let (mut cluster, leader, follower) = one_behind(200_000);
    let receives = |cluster: &Cluster| cluster.handle(follower).0.snapshots.is_receiving();
    while !receives(&cluster) {
        cluster.step();
    }
    // The sender hears that the first chunk is there.
    cluster.pass_ms(2);
    assert!(receives(&cluster), "all of it came at once");
    // It hears of its leader again before chunks come again.
    cluster.cut.insert(follower);
    cluster.crash(follower);
    cluster.pass_ms(500);
    cluster.cut.clear();
    cluster.pass_ms(5_000);
    assert_eq!(count(&cluster.handle(follower).reader()), 40);
    assert_eq!(cluster.handle(leader).held().iter().map(|(_, held)| held).sum::<usize>(), 0);
}
