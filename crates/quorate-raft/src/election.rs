//! Elections.
use crate::progress::Progress;
use crate::transfer::Transfer;
use crate::{Index, Mono, NodeId, Role};

/// The part a member plays, with what only that part knows.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Follower,
    PreCandidate(Ballot),
    Candidate(Ballot),
    Leader(Leadership),
}

impl State {
    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Follower => Role::Follower,
            Self::PreCandidate(_) => Role::PreCandidate,
            Self::Candidate(_) => Role::Candidate,
            Self::Leader(_) => Role::Leader,
        }
    }
}

/// The answers to a campaign so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ballot {
    pub(crate) votes: Vec<(NodeId, bool)>,
}

/// What only a leader knows.
#[derive(Clone, Debug)]
pub(crate) struct Leadership {
    /// In order of ids.
    pub(crate) peers: Vec<Progress>,
    /// Position of the first entry of its term.
    pub(crate) term_start: Index,
    pub(crate) uncommitted_bytes: u64,
    pub(crate) heartbeat_due: Mono,
    pub(crate) quorum_due: Mono,
    pub(crate) transfer: Option<Transfer>,
}
