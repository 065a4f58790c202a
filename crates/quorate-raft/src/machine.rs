//! The core: its fields and its one function.
use crate::durability::Durability;
use crate::election::State;
use crate::log::Log;
use crate::quorum::Quorum;
use crate::random::Random;
use crate::read::Reads;
use crate::{
    Append, Config, Effects, Event, Fault, Index, Membership, Mono, NodeId, SnapshotMeta, Term,
    Verdict,
};

/// One member of one group.
#[derive(Clone, Debug)]
pub struct Core {
    pub(crate) config: Config,
    pub(crate) membership: Membership,
    pub(crate) quorum: Quorum,
    pub(crate) term: Term,
    pub(crate) vote: Option<NodeId>,
    pub(crate) log: Log,
    pub(crate) durability: Durability,
    pub(crate) commit: Index,
    pub(crate) released: Index,
    pub(crate) state: State,
    pub(crate) leader: Option<NodeId>,
    pub(crate) leader_seen: Mono,
    pub(crate) armed: Mono,
    pub(crate) wait_ns: u64,
    pub(crate) fault: Option<Fault>,
    pub(crate) reads: Reads,
    pub(crate) random: Random,
    pub(crate) staged: Staged,
}

/// What the step under way will make durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Staged {
    pub(crate) hard_state: bool,
    pub(crate) append: Option<Append>,
    pub(crate) install: Option<SnapshotMeta>,
}

impl Core {
    /// Takes in one event and adds what follows from it to `out`.
    pub fn step(&mut self, _now: Mono, _event: Event<'_>, _out: &mut Effects) -> Verdict {
        Verdict::Stale
    }

    /// When [`Event::Wake`] is due; `None` while only other events can change anything.
    pub fn next_deadline(&self) -> Option<Mono> {
        Some(self.armed.after(self.wait_ns))
    }
}
