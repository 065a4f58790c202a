//! One real server: its process, its directory, its addresses.

use std::{
    fs::File,
    net::SocketAddr,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// How often a process that should end is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A member.
#[derive(Debug)]
pub struct Member {
    /// Its name, as others know it.
    pub name: String,
    /// Where clients find it.
    pub client: SocketAddr,
    /// Where other members are told to find it: the proxy.
    pub advertised: SocketAddr,
    /// Where it really listens for them.
    pub peer: SocketAddr,
    /// Its data.
    pub dir: PathBuf,
    process: Option<Child>,
    starts: u32,
}

/// What a process holds of the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Open files and sockets.
    pub files: u64,
    /// Threads.
    pub threads: u64,
    /// Memory, in KiB.
    pub resident_kib: u64,
}

/// What all members are started with.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub binary: PathBuf,
    /// `--initial-cluster`.
    pub cluster: String,
    /// More arguments.
    pub arguments: Vec<String>,
    /// The library that makes clocks jump and disks stand still, where it was built.
    pub library: Option<PathBuf>,
}

impl Member {
    /// A member that has not been started; `ports` are three.
    pub fn new(name: String, home: &Path, ports: [u16; 3]) -> Self {
        let [client, advertised, peer] = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let dir = home.join(&name);
        Self { name, client, advertised, peer, dir, process: None, starts: 0 }
    }

    /// Starts its process, with these variables more; its output goes to a file beside its directory.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&mut self, launch: &Launch, variables: &[(&str, String)]) -> Result<()> {
        self.starts += 1;
        let output = File::create(self.log_path())?;
        let mut command = Command::new(&launch.binary);
        command.arg("server").args(["--name", &self.name, "--data-dir"]).arg(&self.dir);
        for (flag, address) in [("client", self.client), ("peer", self.peer)] {
            command.arg(format!("--listen-{flag}-urls")).arg(format!("http://{address}"));
        }
        command.arg("--advertise-client-urls").arg(format!("http://{}", self.client));
        command.arg("--initial-advertise-peer-urls").arg(format!("http://{}", self.advertised));
        command.args(["--initial-cluster", &launch.cluster, "--initial-cluster-token", "quake"]);
        command.args(&launch.arguments);
        if let Some(library) = &launch.library {
            command.env("LD_PRELOAD", library).env("QUAKE_FREEZE", self.freeze_path());
        }
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(std::process::Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // SAFETY: `prctl` may be called between fork and exec; the member ends with the thread that started it.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let started = command.spawn();
        let started = started.with_context(|| format!("start {}", launch.binary.display()))?;
        self.process = Some(started);
        Ok(())
    }

    /// As long as this file exists, its disk stands still.
    pub fn freeze_path(&self) -> PathBuf {
        self.dir.with_extension("frozen")
    }

    /// What its process holds of the system. `None` if it does not run.
    pub fn held(&self) -> Option<Held> {
        let process = PathBuf::from(format!("/proc/{}", self.process.as_ref()?.id()));
        let status = std::fs::read_to_string(process.join("status")).ok()?;
        let number = |name: &str| -> Option<u64> {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        let files = std::fs::read_dir(process.join("fd")).ok()?.count();
        Some(Held {
            files: u64::try_from(files).ok()?,
            threads: number("Threads:")?,
            resident_kib: number("VmRSS:")?,
        })
    }

    /// Where the output of its newest start is.
    pub fn log_path(&self) -> PathBuf {
        self.dir.with_extension(format!("{:03}.log", self.starts))
    }

    /// The output of its newest start.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// What it said last, or the error in that.
    pub fn why_ended(&self) -> String {
        let said = self.said();
        let line = said.lines().last().unwrap_or("nothing said");
        let cause = line.split_once("\"error\":\"").map_or(line, |(_, cause)| cause);
        cause.trim_end_matches(['}', '"']).chars().take(200).collect()
    }

    /// Whether its process runs.
    pub fn runs(&mut self) -> bool {
        self.ended().is_none() && self.process.is_some()
    }

    /// How its process ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(|process| process.try_wait().ok().flatten())
    }

    /// Sends a signal to its process.
    pub fn signal(&mut self, signal: libc::c_int) {
        if !self.runs() {
            return;
        }
        let pid =
            self.process.as_ref().and_then(|process| libc::pid_t::try_from(process.id()).ok());
        if let Some(pid) = pid {
            // SAFETY: `kill` only takes numbers; the child has not been waited for, so its id is not anybody else's.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Ends its process as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }

    /// Waits until its process ends by itself.
    pub async fn await_end(&mut self, at_most: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + at_most;
        while Instant::now() < until {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        None
    }
}

/// Whether a process ended of its own will, and not by a signal.
pub fn by_itself(status: ExitStatus) -> bool {
    status.signal().is_none()
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
