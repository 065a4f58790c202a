//! What clients see of a member that has just started.

use quorate_etcd::backend::Backend;
use quorate_kv::Command;
use quorate_proto::etcdserverpb::PutRequest;

use crate::{ServerConfig, testing::Cluster};

/// After a crash of all, a member's state is that of its last checkpoint until there is a leader and the log is applied.
#[test]
fn a_member_that_starts_shows_nothing_older_than_it_told_before() {
    let mut cluster = Cluster::new(3, &ServerConfig::default());
    let leader = cluster.leader();
    for key in 0..20_u8 {
        let request = PutRequest { key: vec![key].into(), ..PutRequest::default() };
        cluster.propose(leader, &Command::Put(request)).unwrap();
    }
    cluster.pass_ms(300);
    let told: Vec<i64> = (0..3).map(|number| cluster.handle(number).reader().revision()).collect();
    assert_eq!(told, [21; 3]);
    cluster.crash_all();
    for number in 0..3 {
        let handle = cluster.handle(number);
        assert!(handle.reader().revision() < 21, "the log is replayed already");
        assert!(!handle.serves());
        cluster.wait(handle.ready()).unwrap();
        assert_eq!(handle.reader().revision(), 21);
        cluster.crash_all();
    }
}

#[test]
fn a_member_without_a_quorum_serves_after_a_while() {
    let mut cluster = Cluster::new(3, &ServerConfig::default());
    cluster.cut.extend(0..3);
    let handle = cluster.handle(0);
    cluster.wait(handle.ready()).unwrap();
    let waited_ms = cluster.now_ms();
    assert!((5_000..5_500).contains(&waited_ms), "{waited_ms} ms");
}
