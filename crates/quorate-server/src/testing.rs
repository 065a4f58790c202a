//! A server for tests: one member alone, on a disk in memory, driven by hand.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use quorate_node::PeerMessage;
use quorate_raft::NodeId;
use quorate_storage::vfs::{MemoryVfs, Vfs};

use crate::{Clock, Identity, Job, Jobs, Outside, Peers, ServerConfig, Started, start};

/// No peers, and jobs that are done at once.
#[derive(Debug)]
struct Alone;

impl Peers for Alone {
    fn send(&self, _: NodeId, _: PeerMessage) -> bool {
        false
    }
}

impl Jobs for Alone {
    fn run(&self, _: &'static str, job: Job) -> io::Result<()> {
        job();
        Ok(())
    }
}

/// Starts it with these settings, but for small segments of the log.
pub(crate) fn started(vfs: &Arc<MemoryVfs>, now: &Arc<AtomicU64>, config: ServerConfig) -> Started {
    let config = ServerConfig { wal_segment_bytes: Some(1 << 20), ..config };
    try_start(Arc::clone(vfs) as _, now, config).unwrap()
}

/// Starts it with these settings, if its disk lets it.
pub(crate) fn try_start(
    vfs: Arc<dyn Vfs>,
    now: &Arc<AtomicU64>,
    config: ServerConfig,
) -> anyhow::Result<Started> {
    let outside = Outside {
        vfs,
        clock: Clock::Simulated(Arc::clone(now)),
        peers: Arc::new(Alone),
        jobs: Arc::new(Alone),
        random: Box::new(|| 7),
        metrics: Arc::default(),
    };
    let identity = Identity::of(&config)?;
    start(config, identity, outside)
}

/// Drives both sides, a millisecond after the other, until it is so.
///
/// # Panics
/// It is not so after ten seconds.
pub(crate) fn run_until(
    server: &mut Started,
    now: &Arc<AtomicU64>,
    is_so: impl Fn(&Started) -> bool,
) {
    for _ in 0..10_000 {
        if is_so(server) {
            return;
        }
        now.fetch_add(1_000_000, SeqCst);
        server.raft.round().unwrap();
        server.apply.round().unwrap();
    }
    panic!("not so after ten seconds");
}
