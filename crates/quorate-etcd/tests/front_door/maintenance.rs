//! Maintenance, cluster and health calls.

use quorate_proto::{
    etcdserverpb::{
        AlarmMember, AlarmRequest, AlarmType, AuthStatusRequest, DefragmentRequest, HashKvRequest,
        HashRequest, MemberListRequest, MoveLeaderRequest, PutRequest, SnapshotRequest,
        StatusRequest, alarm_request::AlarmAction,
    },
    grpc::{
        auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient,
        maintenance_client::MaintenanceClient,
    },
    grpc_health::health_client::HealthClient,
    grpc_inspect::inspect_client::InspectClient,
    health::{HealthCheckRequest, health_check_response::ServingStatus},
    inspect::RaftRequest,
};
use sha2::{Digest, Sha256};
use tonic::{Code, transport::Channel};

use crate::server::{Home, IDENTITY, SNAPSHOT_BYTES, TERM, assert_refused};

async fn open() -> (Home, MaintenanceClient<Channel>) {
    let home = Home::open();
    let client = MaintenanceClient::new(home.channel().await);
    (home, client)
}

fn alarm(action: AlarmAction) -> AlarmRequest {
    AlarmRequest {
        action: action.into(),
        member_id: IDENTITY.member_id,
        alarm: AlarmType::Nospace.into(),
    }
}

#[tokio::test]
async fn status_tells_what_clients_and_operators_look_at() {
    let (home, mut client) = open().await;
    KvClient::new(home.channel().await)
        .put(PutRequest { key: "a".into(), ..PutRequest::default() })
        .await
        .unwrap();
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.version.as_str(), status.storage_version.as_str()), ("3.7.1", "3.7.0"));
    assert_eq!((status.leader, status.raft_term), (IDENTITY.member_id, TERM));
    assert_eq!((status.raft_index, status.raft_applied_index), (1, 1));
    assert_eq!((status.db_size_quota, status.errors.len()), (2 << 30, 0));
    assert!(status.db_size == status.db_size_in_use && status.db_size_in_use > 0);
    assert_eq!(status.header.unwrap().revision, 2);

    client.alarm(alarm(AlarmAction::Activate)).await.unwrap();
    home.server.set_leader(false);
    let status = client.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.leader, 0);
    let alarm_text = format!("memberID:{} alarm:NOSPACE ", IDENTITY.member_id);
    assert_eq!(status.errors, ["etcdserver: no leader".to_owned(), alarm_text]);
}

#[tokio::test]
async fn the_raft_side_is_told_without_a_leader_under_a_header() {
    let home = Home::open();
    home.server.set_leader(false);
    let mut client = InspectClient::new(home.channel().await);
    let picture = client.raft(RaftRequest {}).await.unwrap().into_inner();
    assert_eq!((picture.term, picture.voters), (TERM, vec![IDENTITY.member_id]));
    let header = picture.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id), (IDENTITY.cluster_id, IDENTITY.member_id));
    assert_eq!((header.revision, header.raft_term), (1, TERM));
}

#[tokio::test]
async fn an_alarm_refuses_writes_until_it_is_cleared() {
    let (home, mut client) = open().await;
    let mut kv = KvClient::new(home.channel().await);
    client.alarm(alarm(AlarmAction::Activate)).await.unwrap();
    let put = || PutRequest { key: "a".into(), ..PutRequest::default() };
    let full = "etcdserver: mvcc: database space exceeded";
    assert_refused(kv.put(put()).await, Code::ResourceExhausted, full);
    let raised = client.alarm(alarm(AlarmAction::Get)).await.unwrap().into_inner().alarms;
    let nospace = AlarmType::Nospace.into();
    assert_eq!(raised, [AlarmMember { member_id: IDENTITY.member_id, alarm: nospace }]);
    client.alarm(alarm(AlarmAction::Deactivate)).await.unwrap();
    kv.put(put()).await.unwrap();
}

#[tokio::test]
async fn hashes_follow_the_history() {
    let (home, mut client) = open().await;
    let mut kv = KvClient::new(home.channel().await);
    let put = || PutRequest { key: "a".into(), ..PutRequest::default() };
    kv.put(put()).await.unwrap();
    let first = client.hash_kv(HashKvRequest { revision: 0 }).await.unwrap().into_inner();
    assert_eq!((first.hash_revision, first.header.unwrap().revision), (2, 2));
    let whole = client.hash(HashRequest {}).await.unwrap().into_inner();
    kv.put(put()).await.unwrap();
    let later = client.hash_kv(HashKvRequest { revision: 2 }).await.unwrap().into_inner();
    assert_eq!((later.hash, later.hash_revision), (first.hash, 2));
    let newest = client.hash_kv(HashKvRequest { revision: 0 }).await.unwrap().into_inner();
    assert_ne!(newest.hash, first.hash);
    assert_ne!(client.hash(HashRequest {}).await.unwrap().into_inner().hash, whole.hash);
    let future = "etcdserver: mvcc: required revision is a future revision";
    let ask = HashKvRequest { revision: 9 };
    assert_refused(client.hash_kv(ask).await, Code::OutOfRange, future);
}

#[tokio::test]
async fn a_snapshot_comes_in_pieces_and_ends_with_its_hash() {
    let (_home, mut client) = open().await;
    let mut stream = client.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    let mut pieces = Vec::new();
    while let Some(piece) = stream.message().await.unwrap() {
        pieces.push(piece);
    }
    let seal = pieces.pop().unwrap();
    let lengths: Vec<usize> = pieces.iter().map(|piece| piece.blob.len()).collect();
    let total = SNAPSHOT_BYTES.next_multiple_of(512);
    assert_eq!(lengths, [32768, 32768, 32768, total - 3 * 32768]);
    let remaining: Vec<u64> = pieces.iter().map(|piece| piece.remaining_bytes).collect();
    assert_eq!(remaining, [67584, 34816, 2048, 0]);
    let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.blob.to_vec()).collect();
    assert_eq!(bytes[..SNAPSHOT_BYTES], vec![7; SNAPSHOT_BYTES]);
    assert_eq!(bytes[SNAPSHOT_BYTES..], vec![0; total - SNAPSHOT_BYTES]);
    assert_eq!(seal.blob[..], Sha256::digest(&bytes)[..]);
    assert_eq!(seal.version, "3.7.0");
}

#[tokio::test]
async fn what_needs_no_work_or_is_not_built_says_so() {
    let (home, mut client) = open().await;
    let answer = client.defragment(DefragmentRequest {}).await.unwrap().into_inner();
    assert!(answer.header.is_none());
    let mut auth = AuthClient::new(home.channel().await);
    let refused = auth.auth_status(AuthStatusRequest {});
    let text = "Quorate does not implement etcdserverpb.Auth/AuthStatus yet";
    assert_refused(refused.await, Code::Unimplemented, text);
}

#[tokio::test]
async fn members_are_listed_with_a_header_without_revision() {
    let home = Home::open();
    let mut client = ClusterClient::new(home.channel().await);
    let list = client.member_list(MemberListRequest { linearizable: true }).await.unwrap();
    let list = list.into_inner();
    let header = list.header.unwrap();
    assert_eq!((header.revision, header.cluster_id), (0, IDENTITY.cluster_id));
    assert_eq!((list.members[0].id, list.members[0].name.as_str()), (IDENTITY.member_id, "a"));
    home.server.set_leader(false);
    let refused = client.member_list(MemberListRequest { linearizable: true }).await;
    assert_refused(refused, Code::Unavailable, "etcdserver: no leader");
    client.member_list(MemberListRequest { linearizable: false }).await.unwrap();
}

#[tokio::test]
async fn the_health_service_knows_the_whole_server_only() {
    let home = Home::open();
    let mut client = HealthClient::new(home.channel().await);
    let ask = |service: &str| HealthCheckRequest { service: service.into() };
    let told = client.check(ask("")).await.unwrap().into_inner();
    assert_eq!(told.status(), ServingStatus::Serving);
    assert_refused(client.check(ask("x")).await, Code::NotFound, "unknown service");
    let mut stream = client.watch(ask("x")).await.unwrap().into_inner();
    let told = stream.message().await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::ServiceUnknown);
}

#[tokio::test]
async fn leadership_is_handed_over_by_the_leader_and_to_a_member() {
    let (home, mut client) = open().await;
    let to = |target_id| MoveLeaderRequest { target_id };
    let answer = client.move_leader(to(IDENTITY.member_id)).await.unwrap().into_inner();
    assert_eq!(answer.header, None, "as in etcd");
    let refusal = client.move_leader(to(9)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert_eq!(refusal.message(), "etcdserver: bad leader transferee");
    home.server.set_leader(false);
    let refusal = client.move_leader(to(9)).await.unwrap_err();
    assert_eq!(refusal.message(), "etcdserver: not leader");
}
