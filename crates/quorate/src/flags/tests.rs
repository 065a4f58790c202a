//! From command lines, variables and files to settings.

use std::{net::SocketAddr, time::Duration};

use quorate_etcd::serve::ListenAddress;
use quorate_server::AutoCompaction;

use super::{Asked, Settings, help, read, table, values, variable};
use crate::logging::{LogFormat, LogOutput};

fn asked(line: &str, variables: &[(&str, &str)]) -> Result<Asked, String> {
    let arguments = line.split_whitespace().map(Into::into).collect();
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    read("etcd", arguments, variables)
}

fn settings(line: &str) -> Settings {
    match asked(line, &[]) {
        Ok(Asked::Serve(settings)) => *settings,
        other => panic!("{line}: {other:?}"),
    }
}

fn problem(line: &str) -> String {
    asked(line, &[]).expect_err(line)
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn without_flags_everything_is_as_in_etcd() {
    let settings = settings("");
    assert_eq!(settings.server.name, "default");
    assert_eq!(settings.server.data_dir.to_str(), Some("default.etcd"));
    assert_eq!(settings.server.listen_client, [ListenAddress::Tcp(at(2379))]);
    assert_eq!(settings.server.listen_peer, [at(2380)]);
    assert_eq!(settings.server.initial_cluster["default"], ["http://localhost:2380"]);
    assert_eq!(settings.server.election_timeout, Duration::from_secs(1));
    assert_eq!(settings.server.auto_compaction, AutoCompaction::Off);
    assert_eq!(settings.warnings, [""; 0]);
}

#[test]
fn a_member_of_three_as_scripts_start_it() {
    let settings = settings(
        "--name b -data-dir=/d --listen-client-urls http://0.0.0.0:2479,http://[::1]:2479,unix:///run/b.sock \
         --advertise-client-urls=http://b.example:2479 --listen-peer-urls http://127.0.0.1:2480 \
         -initial-advertise-peer-urls http://b.example:2480 --initial-cluster-state=new \
         --initial-cluster a=http://a.example:2380,b=http://b.example:2480 --initial-cluster-token t \
         --heartbeat-interval=50 --election-timeout 500 --snapshot-count 100 --logger zap \
         --log-outputs stderr,/tmp/log --log-level debug --log-format console --enable-v2 \
         --quota-backend-bytes=-1 --auto-compaction-retention 1 --unsafe-no-fsync",
    );
    let server = &settings.server;
    let clients: Vec<String> = server.listen_client.iter().map(ToString::to_string).collect();
    assert_eq!(clients, ["http://0.0.0.0:2479", "http://[::1]:2479", "unix:///run/b.sock"]);
    assert_eq!(server.advertise_client_urls, ["http://b.example:2479"]);
    assert_eq!(server.initial_cluster["a"], ["http://a.example:2380"]);
    assert_eq!(server.heartbeat_interval, Duration::from_millis(50));
    assert_eq!(server.quota_backend_bytes, u64::MAX);
    assert_eq!(server.auto_compaction, AutoCompaction::Periodic(Duration::from_secs(3600)));
    assert!(server.unsafe_no_fsync);
    assert_eq!(settings.log.format, LogFormat::Console);
    assert_eq!(settings.log.outputs, [LogOutput::Stderr, LogOutput::File("/tmp/log".into())]);
    assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
}

#[test]
fn errors_name_the_flag_and_the_value() {
    for (line, named) in [
        ("--frobnicate", "unknown flag --frobnicate"),
        ("-frobnicate=3", "unknown flag --frobnicate"),
        ("server", "\"server\" is not a valid flag"),
        ("--name", "--name needs a value"),
        ("--heartbeat-interval ten", "invalid value \"ten\" for --heartbeat-interval"),
        ("--election-timeout 200", "--election-timeout[200ms]"),
        ("--election-timeout 50001", "--election-timeout[50001ms] is too long"),
        ("--listen-peer-urls localhost:1", "invalid value \"localhost:1\" for --listen-peer-urls"),
        ("--listen-peer-urls http://a.example:1", "expected IP in URL for binding"),
        ("--listen-peer-urls https://127.0.0.1:1", "TLS is not available"),
        ("--listen-peer-urls http://127.0.0.1", "does not have the form"),
        ("--listen-client-urls http://127.0.0.1:1", "--advertise-client-urls is required"),
        ("--listen-peer-urls http://127.0.0.1:1/", "must not contain a path"),
        ("--heartbeat-interval 99999999999999999999", "the number is too large"),
        ("--initial-cluster a=http://127.0.0.1:1", "couldn't find local name \"default\""),
        ("--initial-cluster default=http://127.0.0.1:1", "--initial-advertise-peer-urls"),
        ("--initial-cluster-state old", "invalid value \"old\" for --initial-cluster-state"),
        ("--initial-cluster-state existing --data-dir /nowhere/at/all", "/nowhere/at/all"),
        ("--auto-compaction-mode hourly", "invalid value \"hourly\" for --auto-compaction-mode"),
        ("--auto-compaction-retention 5x", "invalid value \"5x\" for --auto-compaction-retention"),
        (
            "--max-request-bytes 70000000",
            "--max-request-bytes[70000000] should be at most 67043328",
        ),
        ("--max-request-bytes 70000000", "no more than 67108864 bytes at a time"),
        ("--cert-file server.pem", "--cert-file=server.pem"),
        ("--client-cert-auth", "--client-cert-auth=true"),
        ("--log-level loud", "invalid value \"loud\" for --log-level"),
        ("--logger log4j", "invalid value \"log4j\" for --logger"),
        ("--reported-version new", "invalid value \"new\" for --reported-version"),
        ("--config-file /nowhere/at/all", "--config-file /nowhere/at/all"),
    ] {
        let problem = problem(line);
        assert!(problem.contains(named), "{line}: {problem}");
    }
}

#[test]
fn a_flag_beats_its_variable() {
    let variables = [("ETCD_NAME", "v"), ("ETCD_SNAPSHOT_COUNT", "7"), ("ETCD_NO_SUCH", "1")];
    let Ok(Asked::Serve(settings)) = asked("--name f", &variables) else { panic!("not taken") };
    assert_eq!(settings.server.name, "f");
    assert_eq!(settings.server.snapshot_count, 7);
    let lost = "ETCD_NAME=v: not used, --name=f is given too";
    assert_eq!(settings.warnings, [lost, "ETCD_NO_SUCH: no such setting"]);
    let Ok(Asked::Serve(settings)) = asked("--name f --name g", &[]) else { panic!("not taken") };
    assert_eq!(settings.server.name, "g");
    assert_eq!(settings.warnings, ["--name=f: not used, --name=g is given later"]);
    let problem = asked("", &[("ETCD_SNAPSHOT_COUNT", "many")]).expect_err("a bad variable");
    assert!(problem.contains("\"many\" for ETCD_SNAPSHOT_COUNT"), "{problem}");
}

#[test]
fn a_config_file_makes_flags_and_variables_ignored() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("etcd.yaml");
    std::fs::write(
        &path,
        "name: file\nsnapshot-count: 9\nlog-outputs: [stdout]\nunsafe-no-fsync: true\n\
         watch-progress-notify-interval: 2000000000\nlisten-peer-urls: http://127.0.0.1:7\n\
         client-transport-security:\n  cert-file:\n  client-cert-auth: false\nodd: 1\n",
    )
    .unwrap();
    let line = format!("--config-file {} --name flag", path.display());
    let Ok(Asked::Serve(settings)) = asked(&line, &[("ETCD_SNAPSHOT_COUNT", "8")]) else {
        panic!("not taken");
    };
    assert_eq!(settings.server.name, "file");
    assert_eq!(settings.server.snapshot_count, 9);
    let lost = |text: &str| settings.warnings.iter().any(|warning| warning.starts_with(text));
    assert!(lost("--name=flag: not used, only "), "{:?}", settings.warnings);
    assert!(lost("ETCD_SNAPSHOT_COUNT=8: not used, only "), "{:?}", settings.warnings);
    assert_eq!(settings.server.watch_progress_notify_interval, Duration::from_secs(2));
    assert_eq!(settings.log.outputs, [LogOutput::Stdout]);
    assert_eq!(settings.warnings.len(), 3, "{:?}", settings.warnings);
    for (text, named) in [
        ("\nsnapshot-count: many", "for ETCD.yaml:2: snapshot-count: not a whole number"),
        ("client-transport-security:\n  cert-file: a.pem", "cert-file=a.pem"),
        ("name: [", "ETCD.yaml:1: neither YAML nor JSON"),
    ] {
        std::fs::write(&path, text).unwrap();
        let problem = problem(&line).replace(&path.display().to_string(), "ETCD.yaml");
        assert!(problem.contains(named), "{text}: {problem}");
    }
    std::fs::write(&path, r#"{"name": "json", "heartbeat-interval": 10}"#).unwrap();
    let Ok(Asked::Serve(settings)) = asked(&line, &[]) else { panic!("not taken") };
    assert_eq!(settings.server.name, "json");
    assert_eq!(settings.server.heartbeat_interval, Duration::from_millis(10));
}

#[test]
fn blanks_and_slashes_in_urls_are_taken_as_etcd_takes_them() {
    let good = " http://127.0.0.1:1 ,HTTP://127.0.0.1:2\n";
    assert_eq!(values::urls(good).unwrap(), ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
    for bad in [
        "http://127.0.0.1:1/",
        "http://127.0.0.1 :1",
        "http:// 127.0.0.1:1",
        "http://127.0.0.1: 1",
        "http://127.0.0.1:1,",
    ] {
        assert!(values::urls(bad).is_err(), "{bad:?}");
    }
    let cluster = values::cluster("a= http://a:1, b=http://b:1,").unwrap();
    assert_eq!(cluster.keys().collect::<Vec<_>>(), [" b", "a"]);
}

#[test]
fn the_version_is_answered_before_anything_is_checked() {
    for line in ["--version", "-version", "--version --election-timeout 1"] {
        assert!(matches!(asked(line, &[]), Ok(Asked::Version(version)) if version == "3.7.1"));
    }
    let variables = [("ETCD_REPORTED_VERSION", "3.7.2")];
    let asked = asked("--version", &variables);
    assert!(matches!(asked, Ok(Asked::Version(version)) if version == "3.7.2"));
}

#[test]
fn every_flag_has_one_row_and_a_line_of_help() {
    let help = help("etcd");
    let mut names: Vec<&str> = table::flags().map(|flag| flag.name).collect();
    for name in &names {
        assert!(help.contains(&format!("  --{name} ")), "{name}");
        assert!(variable(name).starts_with("ETCD_"));
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn durations_are_read_as_go_writes_them() {
    for (text, expected) in [
        ("0", Duration::ZERO),
        ("300ms", Duration::from_millis(300)),
        ("1h2m3.5s", Duration::from_millis(3_723_500)),
        ("5000000000ns", Duration::from_secs(5)),
        (".5s", Duration::from_millis(500)),
    ] {
        assert_eq!(values::duration(text), Ok(expected), "{text}");
    }
    for text in ["", "1", "s", "1x", "-1s", "1s2", "1..5s", "99999999999999999999h"] {
        assert!(values::duration(text).is_err(), "{text}");
    }
}

/// The largest request that may be set travels from a follower to its leader, and from the leader to everybody.
#[test]
fn the_largest_request_fits_into_a_frame_between_members() {
    use quorate_node::{ENVELOPE_BYTES, Entry, PeerMessage};
    use quorate_raft::{EntryId, EntryKind, EntryMeta, GroupId, Index, Message, Term};

    let bytes = super::settings::request_bytes_max();
    settings(&format!("--max-request-bytes {bytes}"));
    let payload = bytes::Bytes::from(vec![7; bytes + ENVELOPE_BYTES]);
    let meta = EntryMeta {
        term: Term(1),
        kind: EntryKind::Normal,
        bytes: u32::try_from(payload.len()).unwrap(),
    };
    let forward = PeerMessage::Forward {
        group: GroupId(0),
        term: Term(1),
        incarnation: 1,
        number: 0,
        proposals: vec![payload.clone()],
    };
    let append = Message::AppendEntries {
        term: Term(1),
        prev: EntryId::default(),
        entries: vec![Entry { meta, payload }],
        commit: Index(0),
        round: 0,
    };
    for message in [forward, PeerMessage::Raft { group: GroupId(0), message: append }] {
        let size_bytes = quorate_net::wire::size_estimate(&message);
        assert!(size_bytes <= quorate_net::Limits::default().frame_bytes_max, "{size_bytes}");
    }
}
