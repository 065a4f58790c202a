//! What clients see of a member that has just started.

use quorate_etcd::backend::Backend;
use quorate_kv::Command;
use quorate_node::Admission;
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

/// A directory that lacks some of its parts is refused, or has forgotten its number as well: then nobody takes it for the one
/// that gave promises.
#[test]
fn no_part_of_a_directory_speaks_for_the_whole() {
    let config = ServerConfig { wal_segment_bytes: Some(1 << 20), ..ServerConfig::default() };
    let mut cluster = Cluster::new(3, &config);
    let (one, two) = (cluster.handle(0), cluster.handle(1));
    assert_eq!(one.admits(two.membership().me, two.card()), Admission::Admitted);
    // The log is empty, then it holds entries, then the state does as well.
    for waits_ms in [300, 6_000, 0] {
        for bits in 1..16_u8 {
            let parts = ["identity", "members", "wal", "state"].into_iter().enumerate();
            let gone: Vec<_> =
                parts.filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, part)| part).collect();
            match cluster.start_without(0, &gone) {
                Ok(_) => assert!(gone.contains(&"members"), "{gone:?}: under its old number"),
                Err(error) => {
                    let error = format!("{error:#}");
                    assert!(error.contains("default.etcd"), "{gone:?}: {error}");
                }
            }
        }
        let error = cluster.start_without(0, &["identity", "wal", "state"]).unwrap_err();
        assert!(error.to_string().contains("default.etcd/identity is missing"), "{error:#}");
        let leader = cluster.leader();
        let request = PutRequest { key: "k".into(), ..PutRequest::default() };
        cluster.propose(leader, &Command::Put(request)).unwrap();
        cluster.pass_ms(waits_ms);
    }
}
