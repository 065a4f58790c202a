//! A whole member on a disk in memory, whose sides and whose time move by hand. Only sockets and threads are missing.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use quorate_node::PeerMessage;
use quorate_raft::NodeId;
use quorate_server::{
    Clock, Handle, Identity, Job, Jobs, Outside, Peers, ServerConfig, Started, Unbroken,
    nanoseconds, start,
};
use quorate_storage::vfs::MemoryVfs;

/// Rounds of the Raft side until it has stopped: seconds, where it takes the time of an election.
const ROUNDS_TO_STOP_MAX: usize = 100;

/// A clock for all members of a world.
#[derive(Clone, Debug, Default)]
pub struct WorldClock(Arc<AtomicU64>);

impl WorldClock {
    /// Lets time pass.
    pub fn advance(&self, passed: Duration) {
        self.0.fetch_add(nanoseconds(passed), SeqCst);
    }
}

/// What a member sent, and what it wants done beside.
#[derive(Default)]
struct Ports {
    sent: Mutex<Vec<(NodeId, PeerMessage)>>,
    jobs: Mutex<VecDeque<Job>>,
}

impl Peers for Ports {
    fn send(&self, to: NodeId, message: PeerMessage) -> bool {
        self.sent.lock().expect("no panic before").push((to, message));
        true
    }
}

impl Jobs for Ports {
    fn run(&self, _: &'static str, job: Job) -> io::Result<()> {
        self.jobs.lock().expect("no panic before").push_back(job);
        Ok(())
    }
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// The member.
#[derive(Debug)]
pub struct Member {
    server: Started,
    ports: Arc<Ports>,
    clock: WorldClock,
    /// Its number.
    pub id: NodeId,
}

impl Member {
    /// A member on an empty disk. `random` tells what its process draws.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(config: ServerConfig, clock: &WorldClock, random: u64) -> Self {
        let ports = Arc::new(Ports::default());
        let outside = Outside {
            vfs: Arc::new(MemoryVfs::new()),
            clock: Clock::Simulated(Arc::clone(&clock.0)),
            peers: Arc::clone(&ports) as _,
            jobs: Arc::clone(&ports) as _,
            turns: Arc::new(Unbroken),
            random: Box::new(move || random),
            metrics: Arc::default(),
        };
        let config = ServerConfig { wal_segment_bytes: Some(256 * 1024), ..config };
        let identity = Identity::of(&config).expect("a cluster");
        let id = identity.me;
        let server = start(config, identity, outside).expect("an empty disk is a new member");
        Self { server, ports, clock: clock.clone(), id }
    }

    /// The way in.
    pub fn handle(&self) -> &Handle {
        &self.server.handle
    }

    /// Every side has a turn.
    ///
    /// # Errors
    /// One of them ended, which ends a member.
    pub fn work(&mut self) -> anyhow::Result<()> {
        for _ in 0..2 {
            anyhow::ensure!(!self.server.raft.round()?, "the Raft side was told to stop");
            self.server.log.round();
            anyhow::ensure!(!self.server.apply.round()?, "the apply side was told to stop");
            while let Some(job) = self.next_job() {
                job();
            }
        }
        self.server.keeper.tick();
        Ok(())
    }

    fn next_job(&self) -> Option<Job> {
        self.ports.jobs.lock().expect("no panic before").pop_front()
    }

    /// What it has sent since it was asked last.
    pub fn sent(&self) -> Vec<(NodeId, PeerMessage)> {
        std::mem::take(&mut self.ports.sent.lock().expect("no panic before"))
    }
}

/// It stops as a process does, so that nobody waits in it for somebody who keeps it alive.
impl Drop for Member {
    fn drop(&mut self) {
        self.server.handle.stop_raft();
        for _ in 0..ROUNDS_TO_STOP_MAX {
            self.clock.advance(Duration::from_millis(100));
            let ended = self.server.raft.round();
            self.server.log.round();
            if ended.unwrap_or(true) {
                break;
            }
        }
    }
}
