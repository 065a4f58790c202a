//! `quorate server`: one member by itself.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Stdio,
};

use rustix::process::Signal;

use crate::process::{PATIENCE, Program, ctl, free_ports, lines_until, quorate, text};

/// A member that says it is ready.
fn start(home: &Path, port: u16) -> Program {
    start_with(home, port, &[]).0
}

/// The same, with more flags; and what it has logged until it was ready.
fn start_with(home: &Path, port: u16, more: &[&str]) -> (Program, Vec<String>) {
    let url = |more| format!("http://127.0.0.1:{}", port + more);
    let arguments = [
        ("data-dir", text(home).to_owned()),
        ("listen-client-urls", url(0)),
        ("advertise-client-urls", url(0)),
        ("listen-peer-urls", url(1)),
        ("initial-advertise-peer-urls", url(1)),
        ("initial-cluster", format!("default={}", url(1))),
    ]
    .map(|(flag, value)| format!("--{flag}={value}"));
    let arguments: Vec<&str> =
        std::iter::once("server").chain(arguments.iter().map(String::as_str)).collect();
    let mut program = Program::start(&[&arguments, more].concat());
    let lines = lines_until(&mut program.stderr, "ready to serve client requests");
    (program, lines)
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let port = free_ports();
    let endpoint = format!("127.0.0.1:{port}");
    for round in 0..3 {
        let server = start(home.path(), port);
        for earlier in 0..round {
            let key = format!("key{earlier}");
            let expected = format!("{key}\nvalue{earlier}\n");
            assert_eq!(ctl(&endpoint, &["get", &key]), Ok(expected));
        }
        let (key, value) = (format!("key{round}"), format!("value{round}"));
        assert_eq!(ctl(&endpoint, &["put", &key, &value]).as_deref(), Ok("OK\n"));
        assert!(!server.end(Signal::KILL).success());
    }
}

#[test]
fn a_signal_keeps_a_flight_recording_that_can_be_played_again() {
    let home = tempfile::tempdir().unwrap();
    let port = free_ports();
    let mut server = start(home.path(), port);
    let endpoint = format!("127.0.0.1:{port}");
    for key in ["a", "b", "c"] {
        assert_eq!(ctl(&endpoint, &["put", key, "secret-value"]).as_deref(), Ok("OK\n"));
    }
    for count in 1..=2 {
        server.signal(Signal::USR1);
        lines_until(&mut server.stderr, "flight recording kept");
        let file = home.path().join(format!("flight/{count:08}-asked.flight"));
        let bytes = std::fs::read(file).unwrap();
        let recording = quorate_flight::Recording::read(&bytes).unwrap();
        assert_eq!(recording.damage, None);
        let outcome = quorate_flight::replay(&recording, |_| {});
        assert_eq!((outcome.images, outcome.violations.len()), (1, 0));
        assert!(outcome.steps > 6, "an election, and a proposal and a write for each key");
        assert!(!bytes.windows(6).any(|part| part == b"secret"), "no content is in it");
    }
    assert_eq!(ctl(&endpoint, &["get", "c"]).as_deref(), Ok("c\nsecret-value\n"));
}

/// What `/metrics` answers.
fn metrics(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn a_build_that_can_break_its_promises_says_so_and_no_other() {
    let breakable = cfg!(feature = "breakable");
    let version = quorate().arg("version").output().unwrap().stdout;
    assert_eq!(String::from_utf8_lossy(&version).contains("breakable"), breakable);
    let home = tempfile::tempdir().unwrap();
    let port = free_ports();
    let (_server, lines) = start_with(home.path(), port, &[]);
    let warned = lines.iter().any(|line| line.contains("which can break its promises"));
    assert_eq!(warned, breakable, "{lines:#?}");
    let gauge = format!("\nquorate_breakable {}\n", u8::from(breakable));
    assert!(metrics(port).contains(&gauge));
}

#[test]
fn log_lines_are_json_with_the_keys_of_etcd() {
    let home = tempfile::tempdir().unwrap();
    let mut server = start(home.path(), free_ports());
    server.tell_to_stop();
    let mut rest = String::new();
    server.stderr.read_to_string(&mut rest).unwrap();
    assert!(!rest.is_empty(), "stopping is logged");
    for line in rest.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["level", "ts", "caller", "msg"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
        assert_ne!(line["level"], "error", "{line}");
    }
}

#[test]
fn garbage_on_either_port_harms_nobody() {
    let home = tempfile::tempdir().unwrap();
    let port = free_ports();
    let _server = start(home.path(), port);
    for target in [port, port + 1] {
        for garbage in [&[0_u8; 100][..], &[0xff; 4096], b"\x16\x03\x01 hello", b"\r\n\r\n"] {
            let mut stream = TcpStream::connect(("127.0.0.1", target)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // The other side may have closed before everything is written.
            let _ = stream.write_all(garbage);
        }
    }
    let endpoint = format!("127.0.0.1:{port}");
    assert_eq!(ctl(&endpoint, &["put", "a", "b"]).as_deref(), Ok("OK\n"));
}

#[test]
fn a_reader_that_goes_away_is_no_reason_to_panic() {
    let home = tempfile::tempdir().unwrap();
    let port = free_ports();
    let _server = start(home.path(), port);
    let endpoint = format!("127.0.0.1:{port}");
    ctl(&endpoint, &["put", "a", "b"]).unwrap();
    let mut child = quorate()
        .args(["ctl", "--endpoints", &endpoint, "get", "", "--prefix"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn the_logs_of_two_clusters_are_not_merged() {
    let homes = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for home in &homes {
        let port = free_ports();
        let server = start(home.path(), port);
        ctl(&format!("127.0.0.1:{port}"), &["put", "key", "value"]).unwrap();
        assert!(server.end(Signal::TERM).success());
    }
    let [one, other] = homes.each_ref().map(|home| text(home.path()));
    let requests = |directories: &[&str]| {
        let output =
            quorate().args(["log", "requests", "--json"]).args(directories).output().unwrap();
        let texts = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), texts)
    };
    let (code, [printed, complaint]) = requests(&[one]);
    assert_eq!((code, &*complaint), (Some(0), ""));
    assert!(printed.contains("\"put\""), "{printed}");
    for (directories, why) in [([one, other], "of cluster"), ([one, one], "both of member")] {
        let (code, [printed, complaint]) = requests(&directories);
        assert_eq!((code, &*printed), (Some(1), ""), "{complaint}");
        assert!(complaint.contains(why) && complaint.contains(directories[1]), "{complaint}");
    }
}

#[test]
fn a_second_process_on_a_data_directory_says_that_it_is_in_use() {
    let home = tempfile::tempdir().unwrap();
    let (port, other) = (free_ports(), free_ports());
    let _server = start(home.path(), port);
    let peer = format!("http://127.0.0.1:{}", port + 1);
    let client = format!("http://127.0.0.1:{other}");
    let (status, log) = Program::start(&[
        "server",
        "--data-dir",
        text(home.path()),
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
        "--initial-cluster",
        &format!("default={peer}"),
    ])
    .ended();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("is in use by another process"), "{log}");
}
