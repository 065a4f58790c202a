//! What a server needs of the world around it: the ports that a binary and a simulator fill differently.

use std::{fmt, io, sync::Arc};

use quorate_etcd::metrics::Metrics;
use quorate_node::PeerMessage;
use quorate_raft::NodeId;
use quorate_storage::vfs::Vfs;

use crate::clock::Clock;

/// The way to the other members.
pub trait Peers: fmt::Debug + Send + Sync {
    /// Sends, without waiting. A message that can't be sent is lost; says whether it was taken.
    fn send(&self, to: NodeId, message: PeerMessage) -> bool;
}

/// Work beside the sides of a server: short, or on a thread of its own.
pub type Job = Box<dyn FnOnce() + Send>;

/// Where such work is done.
pub trait Jobs: fmt::Debug + Send + Sync {
    /// Does it, soon; never before this returns on the caller's thread.
    ///
    /// # Errors
    /// There is nowhere to do it.
    fn run(&self, name: &'static str, job: Job) -> io::Result<()>;
}

/// When a side gives others a turn in the middle of its work.
pub trait Turns: fmt::Debug + Send + Sync {
    /// Whether the apply side's round ends here, between two things that a run makes visible. The next round goes on
    /// there, before anything else.
    fn ends_round(&self) -> bool;
}

/// Nobody needs a turn: other threads look whenever they like.
#[derive(Clone, Copy, Debug)]
pub struct Unbroken;

impl Turns for Unbroken {
    fn ends_round(&self) -> bool {
        false
    }
}

/// The world around one server.
pub struct Outside {
    /// Its disk.
    pub vfs: Arc<dyn Vfs>,
    /// Its clock.
    pub clock: Clock,
    /// The other members.
    pub peers: Arc<dyn Peers>,
    /// Where to work beside.
    pub jobs: Arc<dyn Jobs>,
    /// Where others get a turn.
    pub turns: Arc<dyn Turns>,
    /// Numbers that nobody can guess, or those of a seed.
    pub random: Box<dyn FnMut() -> u64>,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside").field("clock", &self.clock).finish_non_exhaustive()
    }
}
