//! Key-value calls.

use quorate_proto::{
    etcdserverpb::{
        AuthenticateRequest, CompactionRequest, Compare, DeleteRangeRequest, PutRequest,
        RangeRequest, RequestOp, ResponseHeader, TxnRequest, compare, request_op::Request,
    },
    grpc::{auth_client::AuthClient, kv_client::KvClient},
};
use tonic::{Code, Status, transport::Channel};

use crate::server::{Home, IDENTITY, TERM, assert_refused};

type Client = KvClient<Channel>;

async fn open() -> (Home, Client) {
    let home = Home::open();
    let client = KvClient::new(home.channel().await).max_decoding_message_size(usize::MAX);
    (home, client)
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() }
}

fn everything() -> RangeRequest {
    RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn header(revision: i64) -> ResponseHeader {
    let (cluster_id, member_id) = (IDENTITY.cluster_id, IDENTITY.member_id);
    ResponseHeader { cluster_id, member_id, revision, raft_term: TERM }
}

/// Puts `k0000`, `k0001` and so on, `count` of them.
async fn fill(client: &mut Client, count: usize, value: &str) {
    for number in 0..count {
        client.put(put(&format!("k{number:04}"), value)).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_put_is_read_with_complete_headers_until_it_is_deleted() {
    let (_home, mut client) = open().await;
    let answer = client.put(put("a", "1")).await.unwrap().into_inner();
    assert_eq!(answer.header, Some(header(2)));
    let answer =
        client.put(PutRequest { prev_kv: true, ..put("a", "2") }).await.unwrap().into_inner();
    assert_eq!(answer.prev_kv.unwrap().value, "1");
    let answer = client.range(get("a")).await.unwrap().into_inner();
    assert_eq!((answer.header, answer.count), (Some(header(3)), 1));
    assert_eq!((&answer.kvs[0].value[..], answer.kvs[0].version), (&b"2"[..], 2));
    let delete = DeleteRangeRequest { key: "a".into(), ..DeleteRangeRequest::default() };
    let answer = client.delete_range(delete).await.unwrap().into_inner();
    assert_eq!((answer.header, answer.deleted), (Some(header(4)), 1));
    assert_eq!(client.range(get("a")).await.unwrap().into_inner().count, 0);
}

#[tokio::test]
async fn a_transaction_of_ranges_does_not_go_through_the_log() {
    let (home, mut client) = open().await;
    client.put(put("a", "1")).await.unwrap();
    let applied = || quorate_etcd::backend::Backend::reader(&home.server).applied().index;
    let before = applied();
    let absent = Compare {
        target: compare::CompareTarget::Mod.into(),
        key: "a".into(),
        ..Compare::default()
    };
    let read = TxnRequest {
        compare: vec![absent],
        failure: vec![op(Request::RequestRange(get("a")))],
        ..TxnRequest::default()
    };
    let answer = client.txn(read.clone()).await.unwrap().into_inner();
    assert_eq!(
        (answer.header, answer.succeeded, answer.responses.len()),
        (Some(header(2)), false, 1)
    );
    assert_eq!(applied(), before);
    let write = TxnRequest { success: vec![op(Request::RequestPut(put("b", "1")))], ..read };
    client.txn(write).await.unwrap();
    assert_eq!(applied(), before + 1);
}

#[tokio::test]
async fn without_a_leader_only_serializable_reads_are_served() {
    let (home, mut client) = open().await;
    client.put(put("a", "1")).await.unwrap();
    home.server.set_leader(false);
    let no_leader = "etcdserver: no leader";
    assert_refused(client.range(get("a")).await, Code::Unavailable, no_leader);
    assert_refused(client.put(put("a", "2")).await, Code::Unavailable, no_leader);
    // A transaction of comparisons alone counts as linearizable here; in etcd it may be stale.
    assert_refused(client.txn(TxnRequest::default()).await, Code::Unavailable, no_leader);
    let stale = RangeRequest { serializable: true, ..get("a") };
    assert_eq!(client.range(stale).await.unwrap().into_inner().kvs[0].value, "1");
}

#[tokio::test]
async fn a_range_of_any_size_is_the_same_whole_in_pieces_and_streamed() {
    let (_home, mut client) = open().await;
    let value = "v".repeat(700);
    fill(&mut client, 1500, &value).await;
    let whole = client.range(everything()).await.unwrap().into_inner();
    assert_eq!((whole.kvs.len(), whole.count, whole.more), (1500, 1500, false));
    assert!(whole.kvs.is_sorted_by(|a, b| a.key < b.key));
    assert_eq!(whole.header, Some(header(1501)));
    let limited = RangeRequest { limit: 1200, ..everything() };
    let limited = client.range(limited).await.unwrap().into_inner();
    assert_eq!((limited.kvs.len(), limited.count, limited.more), (1200, 1500, true));
    assert_eq!(limited.kvs[..], whole.kvs[..1200]);

    let mut stream = client.range_stream(everything()).await.unwrap().into_inner();
    let mut pieces = Vec::new();
    while let Some(piece) = stream.message().await.unwrap() {
        pieces.push(piece.range_response.unwrap());
    }
    assert!(pieces.len() > 2);
    let last = pieces.pop().unwrap();
    assert_eq!((last.header, last.count, last.more), (Some(header(1501)), 1500, false));
    assert!(pieces.iter().all(|piece| piece.header.is_none() && piece.count == 0));
    let streamed: Vec<_> = pieces.into_iter().chain([last]).flat_map(|piece| piece.kvs).collect();
    assert_eq!(streamed, whole.kvs);
}

#[tokio::test]
async fn a_physical_compaction_ends_history() {
    let (_home, mut client) = open().await;
    fill(&mut client, 5, "1").await;
    let compact = CompactionRequest { revision: 4, physical: true };
    assert_eq!(client.compact(compact).await.unwrap().into_inner().header, Some(header(6)));
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let at = |revision| RangeRequest { revision, ..everything() };
    assert_refused(client.range(at(3)).await, Code::OutOfRange, compacted);
    assert_refused(client.compact(compact).await, Code::OutOfRange, compacted);
    assert_eq!(client.range(at(4)).await.unwrap().into_inner().count, 3);
    let future = "etcdserver: mvcc: required revision is a future revision";
    assert_refused(client.range(at(7)).await, Code::OutOfRange, future);
    assert_refused(client.range_stream(at(7)).await, Code::OutOfRange, future);
}

#[tokio::test]
async fn bad_requests_are_refused_with_etcds_words() {
    let (_home, mut client) = open().await;
    let invalid = |text: &str| (Code::InvalidArgument, format!("etcdserver: {text}"));
    let put_a = || put("a", "1");
    let too_many = TxnRequest {
        success: (0..129).map(|n| op(Request::RequestPut(put(&n.to_string(), "")))).collect(),
        ..TxnRequest::default()
    };
    let twice = TxnRequest {
        success: vec![op(Request::RequestPut(put_a())), op(Request::RequestPut(put_a()))],
        ..TxnRequest::default()
    };
    let nothing = TxnRequest { success: vec![RequestOp::default()], ..TxnRequest::default() };
    let delete = DeleteRangeRequest::default();
    let unsorted = RangeRequest { sort_order: 9, ..get("a") };
    let told: Vec<(Status, (Code, String))> = vec![
        (client.range(get("")).await.unwrap_err(), invalid("key is not provided")),
        (client.put(put("", "1")).await.unwrap_err(), invalid("key is not provided")),
        (client.delete_range(delete).await.unwrap_err(), invalid("key is not provided")),
        (client.range(unsorted).await.unwrap_err(), invalid("invalid sort option")),
        (client.txn(too_many).await.unwrap_err(), invalid("too many operations in txn request")),
        (client.txn(twice).await.unwrap_err(), invalid("duplicate key given in txn request")),
        (client.txn(nothing).await.unwrap_err(), invalid("key not found")),
        (
            client.put(PutRequest { ignore_value: true, ..put_a() }).await.unwrap_err(),
            invalid("value is provided"),
        ),
        (
            client.put(PutRequest { ignore_lease: true, lease: 1, ..put_a() }).await.unwrap_err(),
            invalid("lease is provided"),
        ),
        (
            client.put(PutRequest { ignore_value: true, ..put("a", "") }).await.unwrap_err(),
            invalid("key not found"),
        ),
        (
            client.put(PutRequest { lease: 9, ..put_a() }).await.unwrap_err(),
            (Code::NotFound, "etcdserver: requested lease not found".into()),
        ),
    ];
    for (status, expected) in told {
        assert_eq!((status.code(), status.message().to_owned()), expected);
    }
}

#[tokio::test]
async fn a_streamed_range_neither_sorts_nor_filters() {
    let (_home, mut client) = open().await;
    let sorted = RangeRequest { sort_order: 2, ..everything() };
    let text = "RangeStream does not support custom sort orders";
    assert_refused(client.range_stream(sorted).await, Code::Unimplemented, text);
    let filtered = RangeRequest { min_mod_revision: 2, ..everything() };
    let text = "RangeStream does not support revision filters";
    assert_refused(client.range_stream(filtered).await, Code::Unimplemented, text);
}

/// Clients with a password ask for a token first, and go on without one when they are told this.
#[tokio::test]
async fn a_password_is_no_use_and_no_hindrance() {
    let home = Home::open();
    let mut client = AuthClient::new(home.channel().await);
    let ask = AuthenticateRequest { name: "someone".into(), password: "secret".into() };
    let off = "etcdserver: authentication is not enabled";
    assert_refused(client.authenticate(ask).await, Code::FailedPrecondition, off);
}
