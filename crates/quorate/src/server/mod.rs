//! One server process: its threads and what they share.
//!
//! | Thread | Owns | Waits for |
//! |---|---|---|
//! | `raft` | the node, the log | peers, clients, the disk, time |
//! | `apply` | the state machine | committed entries |
//! | `client-N` | connections of clients | requests, answers |
//! | `peer-*` | connections of members | messages |
//! | `keeper` | the clock's work of a leader | time |
//!
//! A write goes client → raft → (log and peers at once) → apply → client: three hand-overs, each of which takes along all
//! that gathered. A linearizable read goes client → raft → client. A serializable one stays where it is.

mod apply_loop;
mod backend;
mod clock;
mod config;
mod counts;
mod hashes;
mod identity;
mod inbox;
mod keeper;
mod peers;
mod pending;
mod raft_loop;
mod services;
mod shared;
mod slot;
mod snapshots;
mod start;
mod unsynced;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use anyhow::Context;
use quorate_etcd::{
    Settings,
    serve::{ListenAddress, Running, ServeConfig, serve},
};

pub(crate) use self::config::{AutoCompaction, QUOTA_BYTES_DEFAULT, ServerConfig};
use self::{
    apply_loop::ApplyLoop,
    backend::Handle,
    keeper::Keeper,
    pending::Waiter,
    raft_loop::RaftLoop,
    shared::{ApplyInput, Exit, RaftInput, Shared},
    start::Started,
};

/// Runs a server until it is told to stop by SIGTERM or SIGINT.
///
/// # Errors
/// What kept it from starting, or what stopped it: the message names file, offset or value.
pub(crate) fn run(config: ServerConfig) -> anyhow::Result<()> {
    let (sender, exits) = mpsc::channel();
    listen_for_signals(sender.clone())?;
    let started = start::start(config, sender)?;
    let server = Server::begin(started)?;
    match exits.recv().context("every thread has ended")? {
        Exit::Signal(signal) => {
            tracing::info!(signal, "stopping");
            server.stop();
            Ok(())
        }
        Exit::Failed(error) => Err(error),
    }
}

/// The running threads.
struct Server {
    shared: Arc<Shared>,
    front: Running,
    raft: JoinHandle<()>,
    apply: JoinHandle<()>,
    keeper: JoinHandle<()>,
    keeper_stops: Arc<AtomicBool>,
}

impl Server {
    fn begin(started: Started) -> anyhow::Result<Self> {
        let Started { shared, node, log, store } = started;
        let apply_loop = ApplyLoop::new(Arc::clone(&shared), store);
        let apply = spawn(&shared, "apply", move || apply_loop.run())?;
        let raft_loop = RaftLoop::new(Arc::clone(&shared), node, log);
        let raft = spawn(&shared, "raft", move || raft_loop.run())?;
        let keeper_stops = Arc::new(AtomicBool::new(false));
        let (keeper, stop) = (Keeper::new(Arc::clone(&shared)), Arc::clone(&keeper_stops));
        let keeper = spawn(&shared, "keeper", move || {
            keeper.run(&stop);
            Ok(())
        })?;
        let transport = peers::connect(&shared).context("listen for peers")?;
        // Set once: nobody else does.
        let _ = shared.transport.set(transport);
        peers::introduce_to_all(&shared);
        let front = open_front(&shared)?;
        announce_when_ready(&shared);
        Ok(Self { shared, front, raft, apply, keeper, keeper_stops })
    }

    /// Clients first, so that what they began can end; then leadership, then the disk.
    fn stop(self) {
        self.keeper_stops.store(true, Relaxed);
        self.front.stop();
        self.shared.raft.put(RaftInput::Stop);
        let mut clean = self.raft.join().is_ok();
        self.shared.apply.put(ApplyInput::Stop);
        clean &= self.apply.join().is_ok() && self.keeper.join().is_ok();
        self.shared.pending.stop();
        tracing::info!(clean, "stopped");
    }
}

fn open_front(shared: &Arc<Shared>) -> anyhow::Result<Running> {
    let config = &shared.config;
    let settings = Settings {
        version: config.reported_version.clone(),
        max_request_bytes: config.max_request_bytes as usize,
        max_txn_ops: config.max_txn_ops,
        quota_backend_bytes: shared.quota_bytes(),
        election_timeout: config.election_timeout,
        watch_progress_notify_interval: config.watch_progress_notify_interval,
    };
    let serve_config = ServeConfig {
        listen: config.listen_client.iter().copied().map(ListenAddress::Tcp).collect(),
        settings,
        metrics: Arc::clone(&shared.metrics),
        ..ServeConfig::default()
    };
    serve(Handle(Arc::clone(shared)), &serve_config).context("listen for clients")
}

/// Says so in the log once a linearizable read went through: from then on clients are served.
fn announce_when_ready(shared: &Arc<Shared>) {
    let server = Arc::clone(shared);
    let then = move |outcome: Result<(), _>| match outcome {
        Ok(()) => tracing::info!(
            member = format!("{:x}", server.identity.me.0),
            cluster = format!("{:x}", server.identity.cluster_id),
            "ready to serve client requests"
        ),
        Err(_) => announce_when_ready(&server),
    };
    shared.raft.put(RaftInput::Read(Waiter::Call(Box::new(then))));
}

/// Runs `work` on a thread of its own; its error or panic ends the server.
fn spawn(
    shared: &Arc<Shared>,
    name: &'static str,
    work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    let guarded = move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let outcome = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("thread {name} panicked")));
        if let Err(error) = outcome {
            shared.end(Exit::Failed(error));
        }
    };
    thread::Builder::new().name(name.into()).spawn(guarded).context("start a thread")
}

fn listen_for_signals(exit: mpsc::Sender<Exit>) -> anyhow::Result<()> {
    use signal_hook::{
        consts::{SIGINT, SIGTERM},
        iterator::Signals,
    };
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("listen for signals")?;
    let wait = move || {
        for signal in signals.forever() {
            if exit.send(Exit::Signal(signal)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait).context("start a thread")?;
    Ok(())
}
