//! Requests and bytes that are too large, too odd or too few.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use bytes::Bytes;
use quorate_etcd::{
    Settings,
    serve::{ListenAddress, ServeConfig, ServeError, serve},
};
use quorate_kv::watch::WatchLimits;
use quorate_proto::{
    etcdserverpb::{PutRequest, RangeRequest},
    grpc::kv_client::KvClient,
};
use tonic::{Code, codegen::http::uri::PathAndQuery, transport::Channel};

use crate::server::{Home, assert_refused};

fn put(bytes: usize) -> PutRequest {
    PutRequest { key: "a".into(), value: Bytes::from(vec![1; bytes]), ..PutRequest::default() }
}

#[tokio::test]
async fn the_whole_request_counts_against_its_limit() {
    let settings = Settings { max_request_bytes: 10_000, ..Settings::default() };
    let home = Home::with(settings, WatchLimits::default());
    let mut client = KvClient::new(home.channel().await);
    client.put(put(9_900)).await.unwrap();
    let large = "etcdserver: request is too large";
    assert_refused(client.put(put(9_999)).await, Code::InvalidArgument, large);
    // Room for the message around it, as in etcd: 512 KiB.
    assert_refused(client.put(put(500_000)).await, Code::InvalidArgument, large);
    let refused = client.put(put(534_500)).await;
    let text = "grpc: received message larger than max (534507 vs. 534288)";
    assert_refused(refused, Code::ResourceExhausted, text);
    client.put(put(1)).await.unwrap();
}

#[tokio::test]
async fn paths_that_name_nothing_are_answered_as_go_does() {
    let home = Home::open();
    let call = |path: &'static str| unary(home.address, path);
    let text = "unknown method Get for service etcdserverpb.KV";
    assert_refused(call("/etcdserverpb.KV/Get").await, Code::Unimplemented, text);
    let text = "unknown service v3lockpb.Lock";
    assert_refused(call("/v3lockpb.Lock/Lock").await, Code::Unimplemented, text);
}

/// Calls `path` with a range request.
async fn unary(address: std::net::SocketAddr, path: &'static str) -> Result<(), tonic::Status> {
    let channel =
        Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<RangeRequest, RangeRequest>::default();
    let request = tonic::Request::new(RangeRequest::default());
    grpc.unary(request, PathAndQuery::from_static(path), codec).await.map(|_| ())
}

#[tokio::test]
async fn garbage_closes_its_connection_and_no_other() {
    let home = Home::open();
    let mut client = KvClient::new(home.channel().await);
    let tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    let frames = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), vec![0xff; 400]].concat();
    for garbage in [tls_hello, vec![0; 100], frames, b"hello there\r\n\r\n".to_vec()] {
        let mut stream = TcpStream::connect(home.address).unwrap();
        stream.write_all(&garbage).unwrap();
        let mut answer = Vec::new();
        // The server may close with a reset, since it leaves bytes unread.
        let _ = stream.read_to_end(&mut answer);
        client.put(put(1)).await.unwrap();
    }
}

#[tokio::test]
async fn half_open_connections_do_not_keep_others_waiting() {
    let home = Home::open();
    let silent: Vec<TcpStream> =
        (0..50).map(|_| TcpStream::connect(home.address).unwrap()).collect();
    for mut stream in &silent {
        stream.write_all(b"PRI * HTTP/2.0").unwrap();
    }
    KvClient::new(home.channel().await).put(put(1)).await.unwrap();
}

#[tokio::test]
async fn many_calls_on_one_connection_are_all_answered() {
    let home = Home::open();
    let client = KvClient::new(home.channel().await);
    let calls: Vec<_> = (0..2000)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.put(put(10)).await })
        })
        .collect();
    let mut revisions = Vec::new();
    for call in calls {
        let answer = call.await.unwrap().unwrap().into_inner();
        revisions.push(answer.header.unwrap().revision);
    }
    revisions.sort_unstable();
    assert!(revisions.into_iter().eq(2..2002));
}

#[tokio::test]
async fn stopping_closes_the_port_and_an_address_in_use_is_named() {
    let home = Home::open();
    let taken = ListenAddress::Tcp(home.address);
    let config = ServeConfig { listen: vec![taken], ..ServeConfig::default() };
    let error = serve(home.server.clone(), &config).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on http://{}", home.address));
    assert!(matches!(error, ServeError::Listen { .. }));
    let Home { server, address, running } = home;
    drop(server);
    tokio::task::spawn_blocking(|| running.stop()).await.unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn a_unix_socket_serves_too_and_is_replaced_when_left_behind() {
    let home = Home::open();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("etcd.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let config = ServeConfig {
        listen: vec![format!("unix://{}", path.display()).parse().unwrap()],
        ..ServeConfig::default()
    };
    let running = serve(home.server.clone(), &config).unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok\n"), "{answer}");
    tokio::task::spawn_blocking(|| running.stop()).await.unwrap();
    assert!(!path.exists());
}
