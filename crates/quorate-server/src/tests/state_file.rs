//! What clients keep of old states is bounded by what the file of the state may take.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use quorate_etcd::{
    Front, Settings,
    backend::{Backend, ServerError},
    handle::{range_stream::range_stream, snapshot::snapshot},
};
use quorate_kv::Command;
use quorate_proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest, SnapshotRequest};
use tokio_stream::Stream;

use crate::{ServerConfig, testing::Cluster};

const QUOTA_BYTES: u64 = 1 << 20;
const VALUE_BYTES: usize = 20_000;

/// Writes ten keys anew so many times, and forgets what they were.
fn overwrite(cluster: &mut Cluster, rounds: u64) {
    for round in 0..rounds * 10 {
        let request = PutRequest {
            key: vec![u8::try_from(round % 10).unwrap()].into(),
            value: vec![7; VALUE_BYTES].into(),
            ..PutRequest::default()
        };
        cluster.propose(0, &Command::Put(request)).unwrap();
        let revision = cluster.handle(0).reader().revision();
        if round % 10 == 9 {
            let request = CompactionRequest { revision, physical: false };
            cluster.propose(0, &Command::Compaction(request)).unwrap();
        }
    }
    // A checkpoint frees what nobody reads any more.
    cluster.pass_ms(6_000);
}

fn file_bytes(cluster: &Cluster) -> u64 {
    cluster.members[0].handle.status().file_bytes
}

fn next<S: Stream>(stream: S) -> Poll<Option<S::Item>> {
    pin!(stream).poll_next(&mut Context::from_waker(Waker::noop()))
}

/// One that stood still for 100 s once kept its state while the file grew from 71 to 286 MB, past a quota of 40.
#[test]
fn a_client_that_stands_still_does_not_make_the_file_grow_for_ever() {
    let config = ServerConfig { quota_backend_bytes: QUOTA_BYTES, ..ServerConfig::default() };
    let mut cluster = Cluster::new(1, &config);
    cluster.leader();
    overwrite(&mut cluster, 10);
    let front = Arc::new(Front::new(cluster.handle(0), Settings::default(), Arc::default()));
    let all = RangeRequest {
        key: vec![0].into(),
        range_end: vec![255].into(),
        ..RangeRequest::default()
    };
    let mut dripping = cluster.wait(range_stream(&front, all.clone())).unwrap();
    let mut stalled = cluster.wait(snapshot(&front, SnapshotRequest {})).unwrap();
    assert!(matches!(next(&mut stalled), Poll::Ready(Some(Ok(_)))));
    assert_eq!(cluster.handle(0).views().len(), 2);
    let mut most_bytes = 0;
    for _ in 0..12 {
        overwrite(&mut cluster, 10);
        most_bytes = most_bytes.max(file_bytes(&cluster));
    }
    assert!(most_bytes > 2 * QUOTA_BYTES, "{most_bytes}: too little was written");
    assert!(most_bytes <= 4 * QUOTA_BYTES, "{most_bytes}: a file grows to twice its size");
    assert!(matches!(next(&mut stalled), Poll::Ready(Some(Err(ServerError::ViewTakenBack)))));
    assert!(matches!(next(&mut dripping), Poll::Ready(Some(Err(ServerError::ViewTakenBack)))));
}
