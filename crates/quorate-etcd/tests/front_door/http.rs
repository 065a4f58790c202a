//! HTTP endpoints, over HTTP/1.1 as curl and kubelets speak it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use quorate_etcd::Settings;
use quorate_kv::watch::WatchLimits;
use quorate_proto::{
    etcdserverpb::{AlarmRequest, AlarmType, PutRequest, alarm_request::AlarmAction},
    grpc::{kv_client::KvClient, maintenance_client::MaintenanceClient},
};

use crate::server::Home;

/// Sends a request and gives the status and the body.
fn ask(address: SocketAddr, method: &str, target: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[test]
fn a_healthy_member_says_so_everywhere() {
    let home = Home::open();
    let get = |target| ask(home.address, "GET", target);
    assert_eq!(get("/health"), (200, r#"{"health":"true","reason":""}"#.into()));
    assert_eq!(get("/livez"), (200, "ok\n".into()));
    assert_eq!(get("/livez?verbose"), (200, "[+]serializable_read ok\nok\n".into()));
    assert_eq!(get("/readyz/linearizable_read"), (200, "ok\n".into()));
    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n\
        [+]non_learner ok\nok\n";
    assert_eq!(get("/readyz?verbose"), (200, all.into()));
    let version = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    assert_eq!(get("/version"), (200, version.into()));
}

#[test]
fn without_a_leader_clients_are_sent_away_but_nobody_restarts_the_member() {
    let home = Home::open();
    home.server.set_leader(false);
    let get = |target| ask(home.address, "GET", target);
    let reason = "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n";
    assert_eq!(get("/health"), (503, reason.into()));
    assert_eq!(get("/health?serializable=true").0, 200);
    assert_eq!(get("/livez").0, 200);
    let report = "[+]data_corruption ok\n[+]serializable_read ok\n\
        [-]linearizable_read failed: etcdserver: no leader\n[+]non_learner ok\n\n";
    assert_eq!(get("/readyz"), (503, report.into()));
    assert_eq!(get("/readyz?exclude=linearizable_read"), (200, "ok\n".into()));
}

#[tokio::test]
async fn an_alarm_shows_unless_it_is_excluded() {
    let home = Home::open();
    let raise = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: 1,
        alarm: AlarmType::Nospace.into(),
    };
    MaintenanceClient::new(home.channel().await).alarm(raise).await.unwrap();
    let reason = "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n";
    assert_eq!(ask(home.address, "GET", "/health"), (503, reason.into()));
    assert_eq!(ask(home.address, "GET", "/health?exclude=NOSPACE").0, 200);
}

#[test]
fn other_paths_and_methods_are_refused() {
    let home = Home::open();
    let code = |method, target| ask(home.address, method, target).0;
    assert_eq!(code("GET", "/nothing"), 404);
    assert_eq!(code("POST", "/health"), 405);
    assert_eq!(code("POST", "/v3/kv/range"), 501);
    assert_eq!(code("GET", "*"), 400);
}

/// Sends a request and gives its answer as it came.
fn answer(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What probes, scrapers and browsers send besides a plain GET.
#[test]
fn odd_requests_are_answered_as_etcd_answers_them() {
    let home = Home::open();
    let ask = |head: &str| answer(home.address, head);
    let options = ask("OPTIONS /v3/kv/range HTTP/1.1");
    assert!(options.starts_with("HTTP/1.1 200 OK") && options.ends_with("\r\n\r\n"), "{options}");
    assert!(options.contains("access-control-allow-origin: *"), "{options}");
    let head = ask("HEAD /metrics HTTP/1.1");
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(ask("HEAD /health HTTP/1.1").starts_with("HTTP/1.1 405"));
    assert!(ask("POST /metrics HTTP/1.1").starts_with("HTTP/1.1 200"));
    let moved = ask("GET //health?serializable=true HTTP/1.1");
    assert!(moved.starts_with("HTTP/1.1 307"), "{moved}");
    assert!(moved.contains("location: /health?serializable=true\r\n"), "{moved}");
    let health = ask("GET /health HTTP/1.1");
    assert!(health.contains("content-type: text/plain; charset=utf-8\r\n"), "{health}");
    let header = format!("\r\nx: {}", "a".repeat(300));
    let many = header.repeat(300);
    assert!(ask(&format!("GET /version HTTP/1.1{many}")).starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn metrics_have_etcds_names_and_true_values() {
    let settings = Settings { quota_backend_bytes: 12_345, ..Settings::default() };
    let home = Home::with(settings, WatchLimits::default());
    let put = PutRequest { key: "a".into(), ..PutRequest::default() };
    let mut client = KvClient::new(home.channel().await);
    client.put(put.clone()).await.unwrap();
    client.put(PutRequest { lease: 9, ..put }).await.unwrap_err();
    let (status, page) = ask(home.address, "GET", "/metrics");
    assert_eq!(status, 200);
    let labels = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
    let expected = [
        "# TYPE etcd_server_has_leader gauge".to_owned(),
        "etcd_server_has_leader 1".to_owned(),
        "etcd_server_is_leader 1".to_owned(),
        "etcd_server_quota_backend_bytes 12345".to_owned(),
        "etcd_server_proposals_applied_total 2".to_owned(),
        "etcd_debugging_mvcc_current_revision 2".to_owned(),
        "# TYPE etcd_disk_wal_fsync_duration_seconds histogram".to_owned(),
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0".to_owned(),
        "etcd_server_version{server_version=\"3.7.1\"} 1".to_owned(),
        format!("grpc_server_started_total{{{labels}}} 2"),
        format!("grpc_server_msg_sent_total{{{labels}}} 1"),
        format!("grpc_server_handled_total{{grpc_code=\"OK\",{labels}}} 1"),
        format!("grpc_server_handled_total{{grpc_code=\"NotFound\",{labels}}} 1"),
    ];
    for line in expected {
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
    let resident =
        page.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    assert!(resident.unwrap().parse::<u64>().unwrap() > 1 << 20);
    let received = "etcd_network_client_grpc_received_bytes_total ";
    let received = page.lines().find_map(|line| line.strip_prefix(received)).unwrap();
    assert!(received.parse::<u64>().unwrap() > 100);
}
