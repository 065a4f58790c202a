//! `quorate demo`, as the README's first command runs it.

use std::{io::Read, net::TcpListener, path::PathBuf};

use rustix::process::Signal;

use crate::process::{
    Program, ctl, ctl_at_last, free_ports, kill, lines_until, text, wait_closed, wait_logged,
};

/// A demo that says it is ready.
struct Demo {
    program: Program,
    port: u16,
    /// Each node's process and log file.
    nodes: Vec<(u32, PathBuf)>,
}

impl Demo {
    fn start(port: u16, more: &[&str]) -> Self {
        let text = port.to_string();
        let arguments = [&["demo", "--port", &text], more].concat();
        let mut program = Program::start(&arguments);
        let mut lines = lines_until(&mut program.stdout, "ready endpoints=");
        let ready = lines.pop().unwrap();
        let endpoints = [0, 100, 200].map(|more| format!("127.0.0.1:{}", port + more));
        assert_eq!(ready, format!("ready endpoints={}", endpoints.join(",")));
        Self { program, port, nodes: lines.iter().map(|line| node(line)).collect() }
    }

    fn endpoint(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.port + 100 * node)
    }

    /// Nothing listens any more.
    fn assert_ports_free(port: u16) {
        for port in [0, 1, 100, 101, 200, 201].map(|more| port + more) {
            TcpListener::bind(("127.0.0.1", port)).unwrap();
        }
    }
}

/// Reads `node1 process=123 log=/tmp/node1.log`.
fn node(line: &str) -> (u32, PathBuf) {
    let value = |name: &str| {
        let (_, behind) = line.split_once(name).unwrap();
        behind.split(' ').next().unwrap().to_owned()
    };
    (value("process=").parse().unwrap(), value("log=").into())
}

#[test]
fn a_given_directory_is_kept_and_used_again() {
    let home = tempfile::tempdir().unwrap();
    let port = free_ports();
    let demo = Demo::start(port, &["--data-dir", text(home.path())]);
    assert_eq!(demo.nodes.len(), 3);
    assert!(demo.nodes.iter().all(|(_, log)| log.starts_with(home.path()) && log.exists()));
    assert_eq!(ctl(&demo.endpoint(0), &["put", "kept", "value"]).as_deref(), Ok("OK\n"));
    assert_eq!(ctl(&demo.endpoint(2), &["get", "kept"]).as_deref(), Ok("kept\nvalue\n"));
    assert!(demo.program.end(Signal::TERM).success());
    Demo::assert_ports_free(port);

    let demo = Demo::start(port, &["--data-dir", text(home.path())]);
    assert_eq!(ctl_at_last(&demo.endpoint(1), &["get", "kept"]), "kept\nvalue\n");
    assert!(demo.program.end(Signal::INT).success());
}

#[test]
fn a_temporary_directory_goes_with_the_demo() {
    let demo = Demo::start(free_ports(), &[]);
    let log = demo.nodes[0].1.clone();
    assert!(log.exists());
    assert!(demo.program.end(Signal::INT).success());
    assert!(!log.parent().unwrap().exists());
}

#[test]
fn a_node_that_dies_is_reported_and_the_others_serve() {
    let mut demo = Demo::start(free_ports(), &["--nodes", "3"]);
    kill(demo.nodes[1].0, Signal::KILL);
    let lines = lines_until(&mut demo.program.stdout, "ended");
    let expected = format!("node2 (process {}) ended: signal: 9", demo.nodes[1].0);
    assert!(lines[0].starts_with(&expected), "{lines:?}");
    assert_eq!(ctl_at_last(&demo.endpoint(0), &["put", "still", "here"]), "OK\n");
    assert_eq!(ctl_at_last(&demo.endpoint(2), &["get", "still"]), "still\nhere\n");
    assert!(demo.program.end(Signal::TERM).success());
}

#[test]
fn nodes_do_not_outlive_a_demo_that_is_killed() {
    let demo = Demo::start(free_ports(), &[]);
    let home = demo.nodes[0].1.parent().unwrap().to_owned();
    let port = demo.port;
    demo.program.end(Signal::KILL);
    for more in [0, 1, 100, 101, 200, 201] {
        wait_closed(port + more);
    }
    // Nobody was left to remove it.
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn a_port_in_use_is_an_error_with_the_reason() {
    let port = free_ports();
    let _taken = TcpListener::bind(("127.0.0.1", port + 100)).unwrap();
    let (status, stderr) = Program::start(&["demo", "--port", &port.to_string()]).ended();
    assert_eq!(status.code(), Some(1), "{stderr}");
    let expected = format!("port {}, which node2 is to have, is in use", port + 100);
    assert!(stderr.contains(&expected), "{stderr}");
}

#[test]
fn the_cluster_of_another_demo_is_not_taken_for_its_own() {
    let first = Demo::start(free_ports(), &["--nodes", "3"]);
    let mut second = Program::start(&["demo", "--port", &first.port.to_string()]);
    let mut printed = String::new();
    second.stdout.read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "", "nothing is ready");
    let (status, stderr) = second.ended();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("is in use"), "{stderr}");
    assert_eq!(ctl_at_last(&first.endpoint(0), &["put", "still", "here"]), "OK\n");
}

#[test]
fn what_a_demo_that_failed_has_logged_is_kept() {
    let mut demo = Demo::start(free_ports(), &["--nodes", "3"]);
    for (process, _) in &demo.nodes {
        kill(*process, Signal::KILL);
    }
    lines_until(&mut demo.program.stdout, "node3");
    let (status, stderr) = demo.program.ended();
    assert_eq!(status.code(), Some(1), "{stderr}");
    let home = demo.nodes[0].1.parent().unwrap();
    assert!(stderr.contains(&format!("kept in {}", text(home))), "{stderr}");
    assert!(demo.nodes.iter().all(|(_, log)| log.exists()));
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn a_signal_for_the_recorders_goes_on_to_all_nodes_and_ends_none() {
    let home = tempfile::tempdir().unwrap();
    let demo = Demo::start(free_ports(), &["--data-dir", text(home.path())]);
    demo.program.signal(Signal::USR1);
    for (_, log) in &demo.nodes {
        wait_logged(log, "flight recording kept");
    }
    assert_eq!(ctl_at_last(&demo.endpoint(1), &["put", "still", "here"]), "OK\n");
    assert!(demo.program.end(Signal::TERM).success());
}

#[test]
fn a_terminal_that_goes_away_ends_a_demo_as_ctrl_c_does() {
    let demo = Demo::start(free_ports(), &[]);
    let log = demo.nodes[0].1.clone();
    assert!(demo.program.end(Signal::HUP).success());
    assert!(!log.parent().unwrap().exists());
}
