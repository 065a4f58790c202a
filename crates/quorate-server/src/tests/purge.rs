//! What compaction left goes, also where the apply side is never idle.

use quorate_etcd::backend::Backend;
use quorate_kv::{Command, RequestError};
use quorate_proto::etcdserverpb::{CompactionRequest, PutRequest};

use crate::{ServerConfig, testing::Cluster};

fn put(cluster: &mut Cluster, round: u64) {
    let request = PutRequest {
        key: (round % 8).to_be_bytes().to_vec().into(),
        value: round.to_be_bytes().to_vec().into(),
        ..PutRequest::default()
    };
    cluster.propose(0, &Command::Put(request)).unwrap();
}

/// An apply side that finds something new in each round never has an idle one.
#[test]
fn a_busy_apply_side_purges_too() {
    let mut cluster = Cluster::new(1, &ServerConfig::default());
    cluster.leader();
    (0..1_500).for_each(|round| put(&mut cluster, round));
    let full = cluster.members[0].handle.status().db_size_bytes;
    cluster.busy = true;
    let request = CompactionRequest { revision: 1_501, physical: false };
    cluster.propose(0, &Command::Compaction(request)).unwrap();
    (0..1_500).for_each(|round| put(&mut cluster, round));
    let left = cluster.members[0].handle.status().db_size_bytes;
    assert!(left < full + full / 4, "{left} bytes after as many puts again, {full} before");
    let refused = cluster.handle(0).reader().hash_kv(100).unwrap_err();
    assert!(matches!(refused, quorate_kv::ReadError::Request(RequestError::Compacted)));
}
