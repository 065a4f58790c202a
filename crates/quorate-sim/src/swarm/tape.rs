//! What happened in a run, as the calls that were made to its world: enough to play it again, or only a part of it.

use quorate_raft::{EntryId, Message, Mono};

use super::network::kind_of;
use crate::dice::mix;
use crate::world::{Body, Part};

/// One call. Seats are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Start {
        random: u64,
    },
    Crash {
        kept: usize,
    },
    Doom {
        units: u32,
    },
    Wake,
    Sync {
        count: usize,
    },
    Deliver {
        from: usize,
        mark: Mark,
    },
    Propose {
        count: u64,
    },
    Read {
        context: u64,
    },
    Compact {
        kept: u64,
    },
    SyncFailed,
    DiskFault {
        which: u64,
    },
    Repaired,
    Unreachable {
        peer: usize,
    },
    SnapshotSent {
        to: usize,
        last: Option<EntryId>,
    },
    Transfer {
        to: usize,
    },
    /// The process dies; the system lives on.
    Kill,
    /// The drive begins to lie about syncs.
    Lie,
    /// The drive writes down what it lied about.
    OwnUp,
    Damage {
        part: Part,
    },
    Wipe,
    /// No write is taken any more.
    Full,
    /// There is room again.
    Room,
}

impl Act {
    /// Whether it can happen to a member that does not run.
    pub(crate) fn is_of_disk(&self) -> bool {
        matches!(self, Self::OwnUp | Self::Damage { .. } | Self::Wipe | Self::Full | Self::Room)
    }
}

/// Which of the messages of a link it is: their kind and term, and a hash of their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) kind: usize,
    pub(crate) term: u64,
    pub(crate) digest: u64,
}

/// A call, to whom, and when on its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taped {
    pub(crate) seat: usize,
    pub(crate) now: Mono,
    pub(crate) act: Act,
}

fn fold(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |hash, part| mix(hash ^ part))
}

fn id(entry: EntryId) -> u64 {
    mix(entry.term.0) ^ entry.index.0
}

fn digest(body: &Body) -> u64 {
    match body {
        Body::Snapshot { snapshot, .. } => fold(&[id(snapshot.last), snapshot.state]),
        Body::Message(message) => match message {
            Message::RequestVote { pre_vote, last, transfer, .. } => {
                fold(&[u64::from(*pre_vote), id(*last), u64::from(*transfer)])
            }
            Message::Vote { pre_vote, granted, .. } => {
                fold(&[u64::from(*pre_vote), u64::from(*granted)])
            }
            Message::AppendEntries { prev, entries, commit, round, .. } => {
                let content = entries.iter().fold(0, |hash, entry| mix(hash ^ entry.payload));
                fold(&[id(*prev), entries.len() as u64, content, commit.0, *round])
            }
            Message::Appended { round, outcome, .. } => match outcome {
                quorate_raft::AppendOutcome::Matched(index) => fold(&[1, *round, index.0]),
                quorate_raft::AppendOutcome::Rejected { prev, hint } => {
                    fold(&[2, *round, prev.0, id(*hint)])
                }
            },
            Message::Heartbeat { commit, round, .. } => fold(&[commit.0, *round]),
            Message::HeartbeatReply { round, .. } => *round,
            Message::InstallSnapshot { snapshot, .. } => id(snapshot.last),
            Message::ReadIndex { context, .. } => context.0,
            Message::ReadIndexReply { context, index, .. } => {
                fold(&[context.0, index.map_or(u64::MAX, |index| index.0)])
            }
            Message::TimeoutNow { .. } => 0,
        },
    }
}

impl Mark {
    pub(crate) fn of(body: &Body) -> Self {
        let term = match body {
            Body::Message(message) => message.term(),
            Body::Snapshot { term, .. } => *term,
        };
        Self { kind: kind_of(body), term: term.0, digest: digest(body) }
    }
}
