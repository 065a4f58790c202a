//! A member alone, on a disk in memory, whose sides and whose time move by hand.

use std::{
    io,
    sync::{
        Arc,
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

/// How far a turn moves time.
const TURN: Duration = Duration::from_millis(1);
/// How far turns move it until the member leads itself.
const ELECTION_TURN: Duration = Duration::from_millis(200);
/// How often tasks are polled in a turn.
const POLLS: usize = 4;

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

/// The member and its time.
pub(crate) struct World {
    server: Started,
    now: Arc<AtomicU64>,
}

impl World {
    /// A member that leads.
    pub(crate) fn start() -> Self {
        let now = Arc::new(AtomicU64::new(0));
        let outside = Outside {
            vfs: Arc::new(MemoryVfs::new()),
            clock: Clock::Simulated(Arc::clone(&now)),
            peers: Arc::new(Alone),
            jobs: Arc::new(Alone),
            turns: Arc::new(Unbroken),
            random: Box::new(|| 7),
            metrics: Arc::default(),
        };
        let config =
            ServerConfig { wal_segment_bytes: Some(256 * 1024), ..ServerConfig::default() };
        let identity = Identity::of(&config).expect("the default is a cluster");
        let server = start(config, identity, outside).expect("an empty disk is a new member");
        let mut world = Self { server, now };
        for _ in 0..30 {
            world.work(ELECTION_TURN);
        }
        world
    }

    pub(crate) fn handle(&self) -> Handle {
        self.server.handle.clone()
    }

    /// Every side has a turn. An error of one ends a server, so there must be none.
    fn work(&mut self, passed: Duration) {
        self.now.fetch_add(nanoseconds(passed), SeqCst);
        let ended = self.server.raft.round().expect("the Raft side goes on");
        assert!(!ended, "the Raft side has ended");
        let ended = self.server.apply.round().expect("the apply side goes on");
        assert!(!ended, "the apply side has ended");
        self.server.keeper.tick();
    }

    /// Some turns, in which the tasks are polled, too.
    pub(crate) async fn run(&mut self, turns: usize) {
        self.run_until(turns, || false).await;
    }

    /// The same, until something has happened.
    pub(crate) async fn run_until(&mut self, turns_max: usize, happened: impl Fn() -> bool) {
        for _ in 0..turns_max {
            if happened() {
                return;
            }
            self.work(TURN);
            tokio::time::advance(TURN).await;
            for _ in 0..POLLS {
                tokio::task::yield_now().await;
            }
        }
    }
}
