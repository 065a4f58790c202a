//! What clients see of a follower that installs a snapshot.

use quorate_etcd::backend::Backend;
use quorate_kv::{Command, Reader};
use quorate_proto::etcdserverpb::{PutRequest, RangeRequest};

use crate::{ServerConfig, testing::Cluster};

fn count(reader: &Reader) -> i64 {
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
    reader.range(&all).unwrap().count
}

/// Whoever reads the old state goes on with it, for as long as it takes.
#[test]
fn a_reader_outlives_the_state_that_a_snapshot_replaces() {
    let config =
        ServerConfig { snapshot_count: 10, snapshot_catchup_entries: 1, ..ServerConfig::default() };
    let mut cluster = Cluster::new(3, &config);
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let put = |cluster: &mut Cluster, key: u8| {
        let request = PutRequest { key: vec![key].into(), ..PutRequest::default() };
        cluster.propose(leader, &Command::Put(request)).unwrap();
    };
    (1..=5).for_each(|key| put(&mut cluster, key));
    cluster.pass_ms(200);
    let before = cluster.handle(follower).reader();
    cluster.cut.insert(follower);
    (6..=40).for_each(|key| put(&mut cluster, key));
    // The log is cut behind the next checkpoint of the state.
    cluster.pass_ms(6_000);
    cluster.cut.clear();
    let cut_at = cluster.members[leader].raft.view().unwrap().base.index;
    cluster.pass_ms(5_000);
    let installed = cluster.members[follower].raft.view().unwrap().base.index;
    assert!(installed >= cut_at && cut_at.0 > 20, "no snapshot was needed");
    assert_eq!(count(&cluster.handle(follower).reader()), 40);
    assert_eq!(count(&before), 5);
}
