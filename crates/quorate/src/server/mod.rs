//! One server process: the threads that drive a `quorate-server`, and its sockets.
//!
//! | Thread | Owns | Waits for |
//! |---|---|---|
//! | `raft` | the node, the log | peers, clients, the disk, time |
//! | `raft-standby` | the node, while the disk takes long | the same |
//! | `apply` | the state machine | committed entries |
//! | `client-N` | connections of clients | requests, answers |
//! | `peer-*` | connections of members | messages |
//! | `keeper` | the clock's work of a leader | time |
//! | `hash`, `snapshot`, `chunks`, `discard`, `beside` | one job beside | the disk, locks |

mod descriptors;
mod notify;
mod peer_counts;
#[cfg(any(feature = "breakable", test))]
mod power_cut;
mod raft_threads;
mod sockets;
mod unsynced;

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, ensure};
use quorate_etcd::{
    Settings,
    metrics::Metrics,
    serve::{Running, ServeConfig, serve},
};
use quorate_server::{
    ApplyLoop, Clock, Handle, Identity, Job, Jobs, Keeper, Outside, ServerConfig, Started, TICK,
    Unbroken, start,
};
use quorate_storage::vfs::{RealVfs, Vfs};
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    iterator::Signals,
};

use self::{
    peer_counts::PeerCounts, raft_threads::RaftThreads, sockets::PeerSockets, unsynced::UnsyncedVfs,
};
use crate::demo;

/// What the process hears of.
#[derive(Debug)]
enum News {
    /// SIGUSR1 keeps a flight recording, the others end the server.
    Signal(i32),
    /// It can't go on.
    Failed(anyhow::Error),
}

/// Runs a server until it is told to stop by SIGTERM or SIGINT. SIGUSR1 keeps a flight recording.
///
/// # Errors
/// What kept it from starting, or what stopped it: the message names file, offset or value.
pub(crate) fn run(config: &ServerConfig) -> anyhow::Result<()> {
    let data_dir = &config.data_dir;
    ensure!(
        data_dir.is_dir() || !data_dir.exists(),
        "--data-dir {} is not a directory",
        data_dir.display()
    );
    let (sender, news) = mpsc::channel();
    listen_for_signals(sender.clone())?;
    let server = Server::begin(config, &sender).map_err(|error| explained(error, data_dir))?;
    loop {
        match news.recv().context("every thread has ended")? {
            News::Signal(SIGUSR1) => server.handle.keep_recording(),
            News::Signal(signal) => {
                tracing::info!(signal, "stopping");
                server.stop();
                return Ok(());
            }
            News::Failed(error) => return Err(error),
        }
    }
}

/// What a lock that somebody else holds means to an operator.
fn explained(error: anyhow::Error, data_dir: &Path) -> anyhow::Error {
    let is_held = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::WouldBlock)
    };
    if error.chain().any(is_held) {
        let text = format!("--data-dir {} is in use by another process", data_dir.display());
        return error.context(text);
    }
    error
}

/// The running threads.
struct Server {
    handle: Handle,
    front: Running,
    raft: [JoinHandle<()>; 2],
    apply: JoinHandle<()>,
    keeper: JoinHandle<()>,
    keeper_stops: Arc<AtomicBool>,
}

impl Server {
    fn begin(config: &ServerConfig, exit: &mpsc::Sender<News>) -> anyhow::Result<Self> {
        let identity = Identity::of(config)?;
        warn_if_open_to_others(&config.data_dir);
        let (metrics, peers) = (Arc::new(Metrics::default()), Arc::new(PeerSockets::default()));
        tell_breakable(config, &metrics);
        let outside = Outside {
            vfs: disk(config),
            clock: Clock::start(),
            peers: Arc::clone(&peers) as _,
            jobs: Arc::new(JobThreads),
            turns: Arc::new(Unbroken),
            random: Box::new(random),
            metrics: Arc::clone(&metrics),
        };
        let Started { handle, raft, log, apply, keeper } =
            start(config.clone(), identity, outside)?;
        let apply = spawn(exit, "apply", move || drive_apply(apply))?;
        let threads = Arc::new(RaftThreads::new(raft, log, config.heartbeat_interval));
        let second = Arc::clone(&threads);
        let raft = [
            spawn(exit, "raft", move || threads.drive())?,
            spawn(exit, "raft-standby", move || second.stand_by())?,
        ];
        let keeper_stops = Arc::new(AtomicBool::new(false));
        let (stop, counted) =
            (Arc::clone(&keeper_stops), (Arc::clone(&peers), Arc::clone(&metrics)));
        let keeper = spawn(exit, "keeper", move || {
            drive_keeper(keeper, &stop, &counted);
            Ok(())
        })?;
        peers.open(config, &handle).context("listen for peers")?;
        let front = open_front(config, &handle, metrics)?;
        handle.announce_when_ready(notify::ready);
        Ok(Self { handle, front, raft, apply, keeper, keeper_stops })
    }

    /// Clients first, so that what they began can end; then leadership, then the disk.
    fn stop(self) {
        self.keeper_stops.store(true, Relaxed);
        self.front.stop();
        self.handle.stop_raft();
        let mut clean = self.raft.into_iter().all(|thread| thread.join().is_ok());
        self.handle.stop_apply();
        clean &= self.apply.join().is_ok() && self.keeper.join().is_ok();
        self.handle.answer_all();
        tracing::info!(clean, "stopped");
    }
}

/// Nobody may take this build for one that keeps its promises.
#[cfg(feature = "breakable")]
fn tell_breakable(config: &ServerConfig, metrics: &Metrics) {
    metrics.breakable.set(1);
    let breaks = format!("{:?}", config.breaks);
    tracing::warn!(
        breaks,
        "a build for tests, which can break its promises: never for data that anybody needs"
    );
}

/// This build keeps its promises.
#[cfg(not(feature = "breakable"))]
fn tell_breakable(_: &ServerConfig, _: &Metrics) {}

/// What the server makes is for its own user alone; a directory that was there before may not be.
fn warn_if_open_to_others(dir: &Path) {
    let mode = std::fs::metadata(dir).map_or(0, |found| found.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        let (dir, mode) = (dir.display(), format!("{mode:03o}"));
        tracing::warn!(%dir, mode, "others on this machine can look into the data directory; 0700 is right");
    }
}

fn disk(config: &ServerConfig) -> Arc<dyn Vfs> {
    #[cfg(feature = "breakable")]
    if config.breaks.power_cut || config.breaks.no_fsync {
        return Arc::new(power_cut::PowerCutVfs::new(!config.breaks.no_fsync));
    }
    if config.unsafe_no_fsync { Arc::new(UnsyncedVfs) } else { Arc::new(RealVfs) }
}

fn drive_apply(mut apply: ApplyLoop) -> anyhow::Result<()> {
    loop {
        apply.wait();
        if apply.round()? {
            return Ok(());
        }
    }
}

fn drive_keeper(mut keeper: Keeper, stop: &AtomicBool, counted: &(Arc<PeerSockets>, Arc<Metrics>)) {
    let mut counts = PeerCounts::default();
    while !stop.load(Relaxed) {
        thread::park_timeout(TICK);
        counted.0.count(&mut counts, &counted.1);
        keeper.tick();
    }
}

/// Each job on a thread of its own.
#[derive(Debug)]
struct JobThreads;

impl Jobs for JobThreads {
    fn run(&self, name: &'static str, job: Job) -> io::Result<()> {
        thread::Builder::new().name(name.into()).spawn(job).map(drop)
    }
}

fn open_front(
    config: &ServerConfig,
    handle: &Handle,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Running> {
    let serve_config = ServeConfig {
        listen: config.listen_client.clone(),
        threads: config.client_threads,
        settings: settings(config),
        metrics,
        connections_max: descriptors::connections_max(ServeConfig::default().connections_max),
        ..ServeConfig::default()
    };
    let running = serve(handle.clone(), &serve_config).context("listen for clients")?;
    demo::tell_parent();
    Ok(running)
}

/// What the front door is told.
fn settings(config: &ServerConfig) -> Settings {
    Settings {
        version: config.reported_version.clone(),
        max_request_bytes: config.max_request_bytes as usize,
        max_txn_ops: config.max_txn_ops,
        quota_backend_bytes: config.quota_bytes(),
        election_timeout: config.election_timeout,
        watch_progress_notify_interval: config.watch_progress_notify_interval,
        limits: config.limits.clone(),
    }
}

/// Runs `work` on a thread of its own; its error or panic ends the server.
fn spawn(
    exit: &mpsc::Sender<News>,
    name: &'static str,
    work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let exit = exit.clone();
    let guarded = move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let outcome = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("thread {name} panicked")));
        if let Err(error) = outcome {
            // Nobody listens any more: it ends already.
            let _ = exit.send(News::Failed(error));
        }
    };
    thread::Builder::new().name(name.into()).spawn(guarded).context("start a thread")
}

fn listen_for_signals(exit: mpsc::Sender<News>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1]).context("listen for signals")?;
    let wait = move || {
        for signal in signals.forever() {
            if exit.send(News::Signal(signal)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait).context("start a thread")?;
    Ok(())
}

/// A number that nobody can guess, from the system's source.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
