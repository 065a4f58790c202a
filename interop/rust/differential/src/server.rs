//! Starts servers, and stops them when dropped.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use quorate_proto::{etcdserverpb as pb, grpc::kv_client::KvClient};
use tonic::transport::{Channel, Endpoint};

/// How long a cluster may take to answer its first linearizable read.
const READY: Duration = Duration::from_secs(30);

/// How long a member may take to stop when asked to.
const STOP: Duration = Duration::from_secs(10);

/// One running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// What it is called in reports.
    pub name: &'static str,
    /// One connection for each member.
    pub channels: Vec<Channel>,
    members: Vec<Child>,
    logs: Vec<PathBuf>,
}

/// One member's addresses.
struct Member {
    name: String,
    client: String,
    peer: String,
}

impl Cluster {
    /// Starts `nodes` members under `home` and waits until each answers.
    pub async fn start(
        name: &'static str,
        binary: &Path,
        nodes: usize,
        home: &Path,
    ) -> Result<Self> {
        let ports = free_ports(2 * nodes)?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let members: Vec<Member> = ports
            .chunks(2)
            .enumerate()
            .map(|(at, pair)| Member {
                name: format!("n{at}"),
                client: url(pair[0]),
                peer: url(pair[1]),
            })
            .collect();
        let initial: Vec<String> =
            members.iter().map(|member| format!("{}={}", member.name, member.peer)).collect();
        let mut cluster =
            Self { name, channels: Vec::new(), members: Vec::new(), logs: Vec::new() };
        for member in &members {
            let log = home.join(format!("{name}-{}.log", member.name));
            let output = File::create(&log)?;
            let mut command = command(binary, member, &initial.join(","), home, name);
            command.stdout(output.try_clone()?).stderr(output);
            cluster
                .members
                .push(command.spawn().with_context(|| format!("starting {}", binary.display()))?);
            cluster.logs.push(log);
        }
        for member in &members {
            cluster.channels.push(Endpoint::from_shared(member.client.clone())?.connect_lazy());
        }
        cluster.await_ready().await?;
        Ok(cluster)
    }

    async fn await_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY;
        for channel in self.channels.clone() {
            let mut kv = KvClient::new(channel);
            let request = pb::RangeRequest { key: "ready".into(), ..pb::RangeRequest::default() };
            while let Err(status) = kv.range(request.clone()).await {
                if Instant::now() > deadline {
                    bail!("{} did not get ready: {status}\n{}", self.name, self.last_words());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// The end of each member's log.
    pub fn last_words(&self) -> String {
        let tail = |path: &PathBuf| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(8).collect();
            format!(
                "{}:\n{}",
                path.display(),
                lines.into_iter().rev().collect::<Vec<_>>().join("\n")
            )
        };
        self.logs.iter().map(tail).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &self.members {
            signal(member, libc::SIGTERM);
        }
        let deadline = Instant::now() + STOP;
        for member in &mut self.members {
            while matches!(member.try_wait(), Ok(None)) {
                if Instant::now() > deadline {
                    signal(member, libc::SIGKILL);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn signal(member: &Child, signal: libc::c_int) {
    let Ok(pid) = libc::pid_t::try_from(member.id()) else { return };
    // SAFETY: `kill` only takes numbers; the child has not been waited for, so its id is not anybody else's.
    unsafe { libc::kill(pid, signal) };
}

/// The command line, the same for both but for Quorate's subcommand.
fn command(binary: &Path, member: &Member, initial: &str, home: &Path, name: &str) -> Command {
    let mut command = Command::new(binary);
    let is_etcd = binary.file_name().is_some_and(|file| file == "etcd");
    if !is_etcd {
        command.arg("server");
    }
    let data = home.join(format!("{name}-{}", member.name));
    command.args(["--name", &member.name, "--data-dir"]).arg(data);
    command.args([
        "--listen-client-urls",
        &member.client,
        "--advertise-client-urls",
        &member.client,
    ]);
    command.args([
        "--listen-peer-urls",
        &member.peer,
        "--initial-advertise-peer-urls",
        &member.peer,
    ]);
    command.args(["--initial-cluster", initial, "--initial-cluster-token", "differential"]);
    command.args(["--log-level", "warn"]);
    command
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    Ok(held
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()?)
}
