//! `quorate ctl endpoint invariants` before three real members.

use rustix::process::Signal;

use crate::process::{Program, ctl, ctl_at_last, free_ports, lines_until, quorate, text};

/// Three members on loopback.
struct Members {
    home: tempfile::TempDir,
    port: u16,
}

impl Members {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), port: free_ports() }
    }

    fn endpoint(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.port + 100 * node)
    }

    /// All endpoints, separated by commas.
    fn endpoints(&self) -> String {
        [0, 1, 2].map(|node| self.endpoint(node)).join(",")
    }

    /// Starts a member; it serves once a quorum runs.
    fn start(&self, node: u16) -> Program {
        self.start_with(&format!("node{node}"), node, self.port)
    }

    /// Starts a member with this directory, and with its peer port counted from `peer_port`.
    fn start_with(&self, directory: &str, node: u16, peer_port: u16) -> Program {
        let client = format!("http://{}", self.endpoint(node));
        let peer = |node| format!("http://127.0.0.1:{}", self.port + 100 * node + 1);
        let all = [0, 1, 2].map(|node| format!("node{node}={}", peer(node))).join(",");
        let home = self.home.path().join(directory);
        let listen_peers = format!("http://127.0.0.1:{}", peer_port + 100 * node + 1);
        let arguments = [
            ("name", format!("node{node}")),
            ("data-dir", text(&home).to_owned()),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client),
            ("listen-peer-urls", listen_peers),
            ("initial-advertise-peer-urls", peer(node)),
            ("initial-cluster", all),
        ]
        .map(|(flag, value)| format!("--{flag}={value}"));
        let arguments: Vec<&str> =
            std::iter::once("server").chain(arguments.iter().map(String::as_str)).collect();
        Program::start(&arguments)
    }

    fn start_all(&self) -> Vec<Program> {
        let mut programs: Vec<Program> = (0..3).map(|node| self.start(node)).collect();
        programs.iter_mut().for_each(wait_ready);
        programs
    }
}

fn wait_ready(program: &mut Program) {
    lines_until(&mut program.stderr, "ready to serve client requests");
}

const INVARIANTS: [&str; 2] = ["endpoint", "invariants"];

/// Asserts that every line but the last says so, and what the last one says.
fn assert_judged(printed: &str, verdict: &str, last: &str) {
    let lines: Vec<&str> = printed.lines().collect();
    let (end, lines) = lines.split_last().unwrap();
    assert_eq!(*end, last, "{printed}");
    assert_eq!(lines.len(), 12, "{printed}");
    for line in lines {
        let (_, said) = line.split_once(": ").unwrap();
        assert!(said.starts_with(verdict), "{printed}");
    }
}

/// Exit code, standard output and standard error of a call.
fn partly_judged(endpoints: &str) -> (Option<i32>, String, String) {
    let output =
        quorate().args(["ctl", "--endpoints", endpoints]).args(INVARIANTS).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn all_hold_through_a_kill_and_a_restart() {
    let all_ok = "invariants=12 ok=12 broken=0 unknown=0 members=3 silent=0";
    let members = Members::new();
    let mut programs = members.start_all();
    let put = |endpoint: &str, key: &str| ctl_at_last(endpoint, &["put", key, "value"]);
    for key in ["a", "b", "c"] {
        put(&members.endpoint(0), key);
    }
    assert_judged(&ctl(&members.endpoints(), &INVARIANTS).unwrap(), "ok", all_ok);

    programs.remove(2).end(Signal::KILL);
    put(&members.endpoint(0), "while it was away");
    // A follower or the leader: what it was, the others go on.
    let (code, away, complaint) = partly_judged(&members.endpoints());
    assert_eq!(code, Some(7), "{away}");
    let expected = format!(": unknown: 2 of 3 members answered: {}: ", members.endpoint(2));
    assert_eq!(away.matches(&expected).count(), 6, "{away}");
    assert!(away.ends_with("ok=6 broken=0 unknown=6 members=2 silent=1\n"), "{away}");
    assert!(complaint.starts_with(&format!("no answer: {}: ", members.endpoint(2))), "{complaint}");

    programs.push(members.start(2));
    wait_ready(&mut programs[2]);
    put(&members.endpoint(2), "when it was back");
    ctl(&members.endpoint(1), &["compaction", "4"]).unwrap();
    assert_judged(&ctl(&members.endpoints(), &INVARIANTS).unwrap(), "ok", all_ok);
    let whole = ctl(&members.endpoint(0), &["endpoint", "invariants", "--cluster"]).unwrap();
    assert_judged(&whole, "ok", all_ok);
    let json = ctl(&members.endpoints(), &["endpoint", "invariants", "-w", "json"]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["ok"].as_u64(), json["members"].as_u64()), (Some(12), Some(3)), "{json}");
    assert_eq!(json["invariants"][0]["name"], "election safety");
}

#[test]
fn members_without_a_leader_are_judged() {
    let members = Members::new();
    let mut programs = members.start_all();
    ctl_at_last(&members.endpoint(0), &["put", "a", "b"]);
    programs.remove(2).end(Signal::KILL);
    programs.remove(1).end(Signal::KILL);
    let (code, one, _) = partly_judged(&members.endpoint(0));
    assert_eq!(code, Some(7), "{one}");
    let (ok, unknown): (Vec<&str>, Vec<&str>) =
        one.lines().filter(|line| line.contains(": ")).partition(|line| line.ends_with(": ok"));
    assert_eq!((ok.len(), unknown.len()), (6, 6), "{one}");
    assert!(unknown.iter().all(|line| line.contains(": unknown: not asked: ")), "{one}");
    let output = quorate()
        .args(["ctl", "--endpoints", &members.endpoint(1), "endpoint", "invariants"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7), "nobody answered");
    assert_eq!(output.stdout, b"");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(&members.endpoint(1)), "{stderr}");
}

/// Two halves of a cluster that never met, since one member lost its directory between: what each committed is another history.
#[test]
fn members_with_different_histories_are_convicted() {
    let members = Members::new();
    for (directory, ends, value) in [("before", [0, 1], "one"), ("after", [2, 1], "other")] {
        let start =
            |node: u16| members.start_with(&format!("{directory}{node}"), node, members.port);
        let mut programs = ends.map(start);
        programs.iter_mut().for_each(wait_ready);
        ctl_at_last(&members.endpoint(ends[0]), &["put", "key", value]);
        for program in programs {
            assert!(program.end(Signal::TERM).success());
        }
    }
    // Where nobody finds them, they can't find out.
    let elsewhere = free_ports();
    let _apart =
        [("before0", 0), ("after2", 2)].map(|(dir, node)| members.start_with(dir, node, elsewhere));
    for node in [0, 2] {
        ctl_at_last(&members.endpoint(node), &["get", "key", "--consistency", "s"]);
    }
    let both = format!("{},{}", members.endpoint(0), members.endpoint(2));
    let output = quorate().args(["ctl", "--endpoints", &both]).args(INVARIANTS).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let convicted = "equal applied, equal state: broken: at revision 2 the state of";
    assert!(printed.contains(convicted), "{printed}");
    assert!(printed.contains(&members.endpoint(2)), "{printed}");
}

#[test]
fn a_member_without_a_quorum_says_whom_it_does_not_reach() {
    let members = Members::new();
    let mut lonely = members.start(0);
    let lines = lines_until(&mut lonely.stderr, "no leader: ");
    let line: serde_json::Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    let url = |node: u16| format!("http://127.0.0.1:{}", members.port + 100 * node + 1);
    let others = format!("node1 ({}), node2 ({})", url(1), url(2));
    let mut said: Vec<&str> = line["unreachable"].as_str().unwrap().split(", ").collect();
    said.sort_unstable();
    assert_eq!(said.join(", "), others, "{line}");
    assert_eq!(line["connected"], "", "{line}");
    assert!(line["seconds"].as_u64().is_some(), "{line}");
}

#[test]
fn leadership_is_moved_to_the_member_that_is_named() {
    let members = Members::new();
    let _programs = members.start_all();
    let status = |node: u16| {
        let text = ctl(&members.endpoint(node), &["endpoint", "status", "-w", "json"]).unwrap();
        let status: serde_json::Value = serde_json::from_str(&text).unwrap();
        let status = &status[0]["Status"];
        let id = |value: &serde_json::Value| value.as_u64().unwrap();
        (id(&status["header"]["member_id"]), id(&status["leader"]))
    };
    let (follower, leader) =
        [0, 1].map(status).into_iter().find(|(member, leader)| member != leader).unwrap();
    let to = format!("{follower:x}");
    let said = ctl(&members.endpoints(), &["move-leader", &to]).unwrap();
    assert_eq!(said, format!("Leadership transferred from {leader:x} to {to}\n"));
    let asked = (0..3).find(|node| status(*node).0 == follower).unwrap();
    assert_eq!(status(asked), (follower, follower));
    let refusal = ctl(&members.endpoints(), &["move-leader", "99"]).unwrap_err();
    assert!(refusal.contains("etcdserver: bad leader transferee"), "{refusal}");
    let other = (0..3).find(|node| *node != asked).unwrap();
    let refusal = ctl(&members.endpoint(other), &["move-leader", &to]).unwrap_err();
    assert!(refusal.contains("no leader endpoint given at"), "{refusal}");
}
