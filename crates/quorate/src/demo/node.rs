//! One node of a demo: a child process, its directory and its log file.

use std::{
    fmt,
    fs::OpenOptions,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::{LISTENING, LOOK_INTERVAL, TIED};

/// A node that has not stopped after this long is killed.
const STOP_WAIT_MAX: Duration = Duration::from_secs(10);

/// What a node is to be.
#[derive(Debug)]
pub(super) struct Plan {
    name: String,
    data_dir: PathBuf,
    log: PathBuf,
    client_port: u16,
    peer_port: u16,
}

impl Plan {
    /// Nodes with these ports for clients and peers, all under `home`.
    pub(super) fn all(home: &Path, ports: &[(u16, u16)]) -> Vec<Self> {
        let plan = |(number, (client_port, peer_port)): (usize, &(u16, u16))| {
            let name = format!("node{number}");
            let data_dir = home.join(&name);
            let log = home.join(format!("{name}.log"));
            Self { name, data_dir, log, client_port: *client_port, peer_port: *peer_port }
        };
        (1..).zip(ports).map(plan).collect()
    }

    /// Its ports, each with its name.
    pub(super) fn ports(&self) -> [(u16, &str); 2] {
        [(self.client_port, &self.name), (self.peer_port, &self.name)]
    }

    /// Where it serves clients.
    pub(super) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// The flags of its server.
    fn arguments(&self, all: &[Self]) -> Vec<String> {
        let members: Vec<_> =
            all.iter().map(|plan| format!("{}={}", plan.name, plan.peer_url())).collect();
        [
            ("name", self.name.clone()),
            ("data-dir", self.data_dir.display().to_string()),
            ("listen-client-urls", self.client_url()),
            ("advertise-client-urls", self.client_url()),
            ("listen-peer-urls", self.peer_url()),
            ("initial-advertise-peer-urls", self.peer_url()),
            ("initial-cluster", members.join(",")),
            ("initial-cluster-token", "quorate-demo".to_owned()),
        ]
        .map(|(flag, value)| format!("--{flag}={value}"))
        .into()
    }
}

/// A running one.
#[derive(Debug)]
pub(super) struct Node {
    name: String,
    endpoint: String,
    log: PathBuf,
    child: Child,
    /// Its process has told that its ports are its own.
    listens: Arc<AtomicBool>,
}

impl Node {
    /// Starts the server of `plan` in a cluster of `all`.
    ///
    /// # Errors
    /// When the log can't be opened, or the process or the thread that listens to it not be made.
    pub(super) fn start(plan: &Plan, all: &[Plan]) -> anyhow::Result<Self> {
        let place = || format!("open the log {}", plan.log.display());
        let log =
            OpenOptions::new().create(true).append(true).open(&plan.log).with_context(place)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("server").args(plan.arguments(all));
        for (name, _) in std::env::vars_os() {
            // What the user set for a server of his own is not meant for these.
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        command.env(TIED, "1").stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = own_group(&mut command).spawn().context("start a node")?;
        let listens = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&listens);
        if let Some(stdout) = child.stdout.take() {
            thread::Builder::new()
                .name("node-output".to_owned())
                .spawn(move || hear(stdout, &told))
                .context("start a thread")?;
        }
        let (name, endpoint, log) = (plan.name.clone(), plan.endpoint(), plan.log.clone());
        Ok(Self { name, endpoint, log, child, listens })
    }

    /// Where it serves clients.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether whoever answers at its ports is this node.
    pub(super) fn listens(&self) -> bool {
        self.listens.load(SeqCst)
    }

    /// What to say when it has ended.
    pub(super) fn ended(&mut self) -> Option<String> {
        let how = match self.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let (name, process, log) = (&self.name, self.child.id(), self.log.display());
        let last = self.last_line();
        Some(format!("{name} (process {process}) ended: {how}; its log is {log} and ends: {last}"))
    }

    /// The end of its log: the log itself may be gone when somebody looks for it.
    fn last_line(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log).lines().last().unwrap_or_default().to_owned()
    }

    /// Sends it a signal.
    pub(super) fn signal(&mut self, signal: Signal) {
        let process = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(process) = process.filter(|_| matches!(self.child.try_wait(), Ok(None))) {
            // One that has just ended needs no signal.
            let _ = kill_process(process, signal);
        }
    }

    /// Waits until it has stopped, and kills it when that takes too long.
    pub(super) fn wait_stopped(&mut self) {
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if began.elapsed() > STOP_WAIT_MAX {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, process, log) = (&self.name, self.child.id(), self.log.display());
        write!(f, "{name} process={process} log={log}")
    }
}

/// Reads what a node's process says, until it ends.
fn hear(stdout: ChildStdout, listens: &AtomicBool) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if line == LISTENING {
            listens.store(true, SeqCst);
        }
    }
}

/// Ctrl-C at a terminal goes to a whole process group; the nodes are stopped by the demo and not by the terminal.
fn own_group(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    command.process_group(0)
}
