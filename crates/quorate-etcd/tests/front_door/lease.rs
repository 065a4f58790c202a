//! Leases.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quorate_etcd::{Front, Settings, handle::lease::KeepAlives};
use quorate_kv::Command;
use quorate_proto::{
    etcdserverpb::{
        LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
        LeaseTimeToLiveRequest, PutRequest, RangeRequest,
    },
    grpc::{kv_client::KvClient, lease_client::LeaseClient},
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Status, transport::Channel};

use crate::server::{Home, IDENTITY, assert_refused};

async fn open() -> (Home, LeaseClient<Channel>) {
    let home = Home::open();
    let client = LeaseClient::new(home.channel().await);
    (home, client)
}

#[tokio::test]
async fn a_grant_picks_an_id_and_bounds_the_time() {
    let (_home, mut client) = open().await;
    let first = client.lease_grant(LeaseGrantRequest { ttl: 0, id: 0 }).await.unwrap().into_inner();
    assert!(first.id > 0);
    assert_eq!((first.ttl, first.header.unwrap().revision), (2, 1));
    let second =
        client.lease_grant(LeaseGrantRequest { ttl: 60, id: 0 }).await.unwrap().into_inner();
    assert_ne!(first.id, second.id);
    assert_eq!(second.ttl, 60);
    let again = LeaseGrantRequest { ttl: 60, id: second.id };
    let exists = "etcdserver: lease already exists";
    assert_refused(client.lease_grant(again).await, Code::FailedPrecondition, exists);
    let long = LeaseGrantRequest { ttl: 9_000_000_001, id: 0 };
    let large = "etcdserver: too large lease TTL";
    assert_refused(client.lease_grant(long).await, Code::OutOfRange, large);
    let listed = client.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner();
    let mut ids: Vec<i64> = listed.leases.iter().map(|lease| lease.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, { [first.id.min(second.id), first.id.max(second.id)] });
}

#[tokio::test]
async fn a_lease_tells_its_time_and_its_keys_and_takes_them_along() {
    let (home, mut client) = open().await;
    let mut kv = KvClient::new(home.channel().await);
    client.lease_grant(LeaseGrantRequest { ttl: 100, id: 5 }).await.unwrap();
    for key in ["b", "a"] {
        let put = PutRequest { key: key.into(), lease: 5, ..PutRequest::default() };
        kv.put(put).await.unwrap();
    }
    let ask = LeaseTimeToLiveRequest { id: 5, keys: true };
    let told = client.lease_time_to_live(ask).await.unwrap().into_inner();
    assert_eq!(
        (told.id, told.granted_ttl, &told.keys[..]),
        (5, 100, &["a".into(), "b".into()][..])
    );
    assert!((98..=100).contains(&told.ttl), "{}", told.ttl);
    client.lease_revoke(LeaseRevokeRequest { id: 5 }).await.unwrap();
    let all = RangeRequest { key: "a".into(), range_end: "z".into(), ..RangeRequest::default() };
    assert_eq!(kv.range(all).await.unwrap().into_inner().count, 0);
    let told = client.lease_time_to_live(ask).await.unwrap().into_inner();
    assert_eq!((told.ttl, told.granted_ttl, told.keys.len()), (-1, 0, 0));
    let gone = "etcdserver: requested lease not found";
    let revoke = LeaseRevokeRequest { id: 5 };
    assert_refused(client.lease_revoke(revoke).await, Code::NotFound, gone);
}

#[tokio::test]
async fn keep_alives_are_answered_in_order_and_a_lost_lease_does_not_end_them() {
    let (_home, mut client) = open().await;
    client.lease_grant(LeaseGrantRequest { ttl: 30, id: 5 }).await.unwrap();
    let (sender, requests) = tokio::sync::mpsc::channel(8);
    for id in [5, 6, 5] {
        sender.send(LeaseKeepAliveRequest { id }).await.unwrap();
    }
    let stream = client.lease_keep_alive(ReceiverStream::new(requests)).await.unwrap();
    let mut answers = stream.into_inner();
    for (id, ttl) in [(5, 30), (6, 0), (5, 30)] {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.id, answer.ttl), (id, ttl));
        assert_eq!(answer.header.unwrap().member_id, IDENTITY.member_id);
    }
    drop(sender);
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn without_a_leader_a_renewal_ends_the_stream() {
    let (home, mut client) = open().await;
    let (sender, requests) = tokio::sync::mpsc::channel(8);
    let stream = client.lease_keep_alive(ReceiverStream::new(requests)).await.unwrap();
    let mut answers = stream.into_inner();
    home.server.set_leader(false);
    sender.send(LeaseKeepAliveRequest { id: 5 }).await.unwrap();
    let ended = answers.message().await;
    assert_refused(ended, Code::Unavailable, "etcdserver: no leader");
}

/// A stream whose items have all come.
struct AllThere<I>(I);

impl<I: Iterator + Unpin> Stream for AllThere<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

/// A client with many leases asks for all of them at once: what waits is one question to the leader.
#[tokio::test]
async fn renewals_that_wait_are_made_together() {
    let home = Home::open();
    let grant = Command::LeaseGrant(LeaseGrantRequest { ttl: 30, id: 5 });
    home.server.apply(&grant).unwrap();
    let front = Arc::new(Front::new(home.server.clone(), Settings::default(), Arc::default()));
    let requests = (0..3000).map(|n| Ok::<_, Status>(LeaseKeepAliveRequest { id: 5 + n % 2 }));
    let mut answers = KeepAlives::new(&front, AllThere(requests));
    for n in 0..3000 {
        let answer = answers.next().await.unwrap().unwrap();
        assert_eq!((answer.id, answer.ttl), if n % 2 == 0 { (5, 30) } else { (6, 0) });
    }
    assert!(answers.next().await.is_none());
    assert_eq!(home.server.renewals(), 1);
}

#[tokio::test]
async fn renewals_before_a_broken_request_are_answered() {
    let home = Home::open();
    let front = Arc::new(Front::new(home.server.clone(), Settings::default(), Arc::default()));
    let requests = [Ok(LeaseKeepAliveRequest { id: 6 }), Err(Status::internal("broken"))];
    let mut answers = KeepAlives::new(&front, tokio_stream::iter(requests));
    assert_eq!(answers.next().await.unwrap().unwrap().id, 6);
    assert_refused(answers.next().await.unwrap(), Code::Internal, "broken");
    assert!(answers.next().await.is_none());
}
