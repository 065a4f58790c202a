//! `quorate ctl` before servers that go away, and before servers that are there and do nothing.

use std::net::TcpListener;

use quorate_proto::{
    etcdserverpb::{
        LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesResponse,
        MemberListResponse, PutResponse, RangeResponse, ResponseHeader, WatchRequest,
        WatchResponse, watch_request::RequestUnion,
    },
    mvccpb::{Event, KeyValue},
};

use crate::{
    fake_etcd::{FakeEtcd, Script},
    process::{Program, ctl, lines_until},
};

/// The answer to a creation at this revision.
fn created(revision: i64) -> WatchResponse {
    let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
    WatchResponse { header, created: true, ..WatchResponse::default() }
}

/// Puts of `key` at these revisions, from a store that is at revision `store`.
fn changes(store: i64, revisions: &[i64]) -> WatchResponse {
    let event = |&mod_revision: &i64| {
        let kv = KeyValue {
            key: "key".into(),
            value: format!("value {mod_revision}").into(),
            mod_revision,
            ..KeyValue::default()
        };
        Event { kv: Some(kv), ..Event::default() }
    };
    let events = revisions.iter().map(event).collect();
    WatchResponse { created: false, events, ..created(store) }
}

/// From which revision the next watch was asked for.
fn start_revision(server: &FakeEtcd) -> i64 {
    match server.called::<WatchRequest>() {
        (_, WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }) => {
            create.start_revision
        }
        other => panic!("{other:?}"),
    }
}

fn watch(server: &FakeEtcd, arguments: &[&str]) -> Program {
    let line = [&["ctl", "--endpoints", &server.endpoint, "watch", "key"], arguments].concat();
    Program::start(&line)
}

#[test]
fn a_watch_that_is_taken_up_again_misses_nothing_since_it_was_created() {
    let server = FakeEtcd::start([
        Script::broken(&[created(7)]),
        Script::broken(&[created(9), changes(9, &[8, 9])]),
        Script::broken(&[created(9), changes(20, &[])]),
        Script::hanging(&[created(30), changes(30, &[25])]),
    ]);
    let mut program = watch(&server, &[]);
    assert_eq!(start_revision(&server), 0);
    assert_eq!(start_revision(&server), 8, "nothing was shown yet");
    let lines = lines_until(&mut program.stdout, "value 9");
    assert_eq!(lines, ["PUT", "key", "value 8", "PUT", "key", "value 9"]);
    assert_eq!(start_revision(&server), 10);
    assert_eq!(start_revision(&server), 21, "progress says that there is nothing before");
    lines_until(&mut program.stdout, "value 25");
}

/// etcd's header has the store's revision, while a watch that catches up gets a thousand revisions at a time.
#[test]
fn a_watch_that_breaks_while_it_catches_up_goes_on_where_it_was() {
    let server = FakeEtcd::start([
        Script::broken(&[created(9000), changes(9000, &[3, 5])]),
        Script::hanging(&[created(9000), changes(9000, &[6])]),
    ]);
    let mut program = watch(&server, &["--rev", "3"]);
    assert_eq!(start_revision(&server), 3);
    lines_until(&mut program.stdout, "value 5");
    assert_eq!(start_revision(&server), 6);
    lines_until(&mut program.stdout, "value 6");
}

fn keep_alive(server: &FakeEtcd) -> Program {
    Program::start(&["ctl", "--endpoints", &server.endpoint, "lease", "keep-alive", "2a"])
}

fn renewed(ttl: i64) -> LeaseKeepAliveResponse {
    LeaseKeepAliveResponse { id: 42, ttl, ..LeaseKeepAliveResponse::default() }
}

#[test]
fn a_lease_is_kept_alive_beyond_the_server_that_renewed_it() {
    let server = FakeEtcd::start([
        Script::broken(&[renewed(6)]),
        Script::hanging(&[renewed(6), renewed(0)]),
    ]);
    let mut program = keep_alive(&server);
    let renewed = "lease 000000000000002a keepalived with TTL(6)";
    let lines = lines_until(&mut program.stdout, "expired or revoked");
    assert_eq!(lines, [renewed, renewed, "lease 000000000000002a expired or revoked."]);
    for _ in 0..2 {
        let (method, request) = server.called::<LeaseKeepAliveRequest>();
        assert_eq!((&*method, request.id), ("/etcdserverpb.Lease/LeaseKeepAlive", 42));
    }
    assert!(program.ended().0.success());
}

#[test]
fn a_lease_that_nobody_renews_any_more_is_an_error() {
    let server = FakeEtcd::start([Script::broken(&[renewed(1)])]);
    let (status, stderr) = keep_alive(&server).ended();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("lease 000000000000002a was not renewed for its 1 s"), "{stderr}");
}

#[test]
fn every_command_goes_on_behind_an_endpoint_that_takes_connections_and_is_silent() {
    // The system takes connections for it, as for a process that is stopped.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    let range = RangeResponse {
        kvs: vec![KeyValue { key: "k".into(), value: "v".into(), ..KeyValue::default() }],
        ..RangeResponse::default()
    };
    for (command, script, printed) in [
        ("get k", Script::done(&[range]), "k\nv\n"),
        ("put k v", Script::done(&[PutResponse::default()]), "OK\n"),
        ("lease list", Script::done(&[LeaseLeasesResponse::default()]), "found 0 leases\n"),
        (
            "lease grant 60",
            Script::done(&[LeaseGrantResponse {
                id: 42,
                ttl: 60,
                ..LeaseGrantResponse::default()
            }]),
            "lease 000000000000002a granted with TTL(60s)\n",
        ),
        (
            "lease keep-alive --once 2a",
            Script::hanging(&[renewed(60)]),
            "lease 000000000000002a keepalived with TTL(60)\n",
        ),
        ("member list", Script::done(&[MemberListResponse::default()]), ""),
    ] {
        let server = FakeEtcd::start([script]);
        let endpoints = format!("{silent},{}", server.endpoint);
        let arguments: Vec<&str> =
            ["--dial-timeout", "100ms"].into_iter().chain(command.split(' ')).collect();
        assert_eq!(ctl(&endpoints, &arguments).as_deref(), Ok(printed), "{command}");
    }
    let problem = ctl(&silent, &["--dial-timeout", "100ms", "get", "k"]).unwrap_err();
    assert!(problem.contains(&silent), "{problem}");
    assert!(problem.contains("no server has spoken within 100ms"), "{problem}");
}

#[test]
fn a_watch_leaves_a_server_that_does_not_take_it() {
    let deaf = FakeEtcd::start([Script::hanging(&[(); 0])]);
    let server = FakeEtcd::start([Script::hanging(&[created(7), changes(8, &[8])])]);
    let endpoints = format!("{},{}", deaf.endpoint, server.endpoint);
    let mut program = Program::start(&[
        "ctl",
        "--endpoints",
        &endpoints,
        "--command-timeout",
        "100ms",
        "watch",
        "key",
    ]);
    lines_until(&mut program.stdout, "value 8");
    assert_eq!((start_revision(&deaf), start_revision(&server)), (0, 0));
}
